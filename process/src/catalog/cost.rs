//! What it costs to build a view anew: its history is read from the archive.

use std::{collections::BTreeMap, time::Duration};

use anabranch_core::definition::Pipeline;
use anyhow::Result;
use tokio_postgres::GenericClient;

/// What applying a pipeline makes the next runs read, of one source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// The views that are new or changed.
    pub views: Vec<String>,
    /// Offsets in the archive.
    pub records: u64,
    /// How long that takes, by the source's runs so far; nothing before the first.
    pub takes: Option<Duration>,
}

/// The costs by source; none for views whose definition the catalog has already.
///
/// # Errors
/// When PostgreSQL does not answer.
pub async fn costs(client: &impl GenericClient, pipeline: &Pipeline) -> Result<BTreeMap<String, Cost>> {
    let known = client.query("SELECT name, wanted FROM view", &[]).await?;
    let known: BTreeMap<String, String> = known.iter().map(|row| (row.get(0), row.get(1))).collect();
    let mut costs: BTreeMap<String, Cost> = BTreeMap::new();
    for view in &pipeline.views {
        if known.get(&view.name) != Some(&view.fingerprint.0) && view.source.files.is_none() {
            costs.entry(view.source.name.clone()).or_default().views.push(view.name.clone());
        }
    }
    for (source, cost) in &mut costs {
        let sql = "SELECT coalesce(sum(greatest(archived_to - origin, 0)), 0)::bigint FROM partition WHERE source = $1";
        cost.records = client.query_one(sql, &[source]).await?.get::<_, i64>(0).unsigned_abs();
        let sql = "SELECT sum(extract(epoch FROM ended_at - started_at))::double precision / nullif(sum(records), 0)::double precision FROM run WHERE source = $1 AND records > 0";
        let seconds: Option<f64> = client.query_one(sql, &[source]).await?.get(0);
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let takes = seconds.map(|seconds| seconds * cost.records as f64);
        cost.takes = takes.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    }
    costs.retain(|_, cost| cost.records > 0);
    Ok(costs)
}
