//! One run of a source after the other, and the row of a run in the catalog.

use std::time::{Duration, Instant};

use anabranch_core::protocol::RunId;
use anabranch_process::{Catalog, catalog::definitions, crash, lease::Lease, metrics};
use anyhow::Result;
use tokio::time::sleep;
use tokio_postgres::Client;
use uuid::Uuid;

use super::{Kind, Report};

/// Runs of one source wait for each other this long; then the later one takes over, for the earlier one may hang.
const TURN_LIMIT: Duration = Duration::from_secs(600);
const TURN_LOOK: Duration = Duration::from_millis(500);

/// Waits until no other run of the source is going on.
pub(super) async fn take_turn(catalog: &Catalog, source: &str) -> Result<Option<Lease>> {
    let deadline = Instant::now() + TURN_LIMIT;
    loop {
        let lease = Lease::try_take(catalog, &format!("run of {source}")).await?;
        if lease.is_some() || Instant::now() >= deadline {
            return Ok(lease);
        }
        sleep(TURN_LOOK).await;
    }
}

/// Registers a run; from here on no earlier one can publish.
pub(super) async fn begin(client: &mut Client, source: &str, kind: Kind, uuid: Uuid) -> Result<RunId> {
    // Says so when the source is not known.
    definitions::load(client, source).await?;
    let transaction = client.transaction().await?;
    transaction.execute("SELECT 1 FROM source WHERE name = $1 FOR UPDATE", &[&source]).await?;
    let run: i64 = transaction.query_one("SELECT nextval('run_id')", &[]).await?.get(0);
    let abandoned = "UPDATE run SET ended_at = now(), outcome = 'failed', error = 'another run took over' WHERE source = $1 AND ended_at IS NULL";
    transaction.execute(abandoned, &[&source]).await?;
    transaction.execute("INSERT INTO run (id, source, uuid, kind) VALUES ($1, $2, $3, $4)", &[&run, &source, &uuid, &kind.name()]).await?;
    transaction.execute("UPDATE source SET running = $2 WHERE name = $1", &[&source, &run]).await?;
    crash::step("batch.begin", transaction.commit()).await?;
    Ok(RunId(run))
}

/// Counts a run.
#[expect(clippy::cast_precision_loss, reason = "figures of Prometheus are floating-point numbers")]
pub(super) fn note(source: &str, kind: Kind, outcome: &str, took: Duration, report: Option<&Report>) {
    let labels = [source, kind.name(), outcome];
    metrics::observe(&metrics::RUN_SECONDS.with_label_values(&labels), took);
    metrics::now(&metrics::LAST_RUN.with_label_values(&labels));
    let Some(report) = report else { return };
    metrics::RUN_RECORDS.with_label_values(&[source]).inc_by(report.records);
    if kind != Kind::Incremental {
        metrics::DRIFT_CELLS.with_label_values(&[source]).set(report.drift.len() as f64);
    }
}
