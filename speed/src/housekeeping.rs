//! Beside a worker: old messages are forgotten, closed epochs folded, live rows kept below their limit.
//!
//! Nothing here is needed for a right answer; it bounds what PostgreSQL and the readers hold while batch is away.

use std::time::Duration;

use anabranch_core::{
    definition::Fingerprint,
    protocol::{Epoch, EpochId, fold},
};
use anabranch_process::{
    Catalog,
    catalog::{
        definitions,
        live::{self, LiveRows},
        rows,
    },
    crash,
};
use anabranch_views::{GroupHash, Groups};
use anyhow::{Context, Result};
use tokio::{sync::watch, time::sleep};
use tokio_postgres::{Client, Transaction};
use tracing::{debug, error, info, warn};

const INTERVAL: Duration = Duration::from_secs(2);
/// Readers follow the log or read live rows; nobody needs older messages.
const MESSAGE_AGE: &str = "2 minutes";
/// Epochs with more rows than this, together, stay apart: both are read into memory, and openings of the source's epochs
/// do not wait for it.
const FOLD_ROWS: i64 = 200_000;

/// Keeps house for one source until it is dropped; the reason why nothing may be read goes to `limit`.
pub(crate) async fn keep(catalog: Catalog, source: String, limit_rows: u64, limit: watch::Sender<Option<String>>) {
    let mut said = false;
    loop {
        if let Err(error) = look(&catalog, &source, limit_rows, &limit, &mut said).await {
            // The worker meets the same failure and says it.
            debug!(source, error = format!("{error:#}"), "could not keep house; trying on");
        }
        sleep(INTERVAL).await;
    }
}

async fn look(catalog: &Catalog, source: &str, limit_rows: u64, limit: &watch::Sender<Option<String>>, said: &mut bool) -> Result<()> {
    let mut client = catalog.connect().await?;
    loop {
        let forget = format!("DELETE FROM flush WHERE flushed_at < now() - interval '{MESSAGE_AGE}'");
        crash::step("speed.forget", client.execute(&forget, &[])).await?;
        while fold_epochs(&mut client, source).await? {}
        let at_limit = look_at_limit(&mut client, source, i64::try_from(limit_rows)?, said).await?;
        if *limit.borrow() != at_limit {
            match &at_limit {
                Some(reason) => error!(source, "{reason}; speed reads nothing until batch has published, Kafka keeps the events"),
                None => info!(source, "live rows are below their limit again; speed reads on"),
            }
            limit.send_replace(at_limit.clone());
        }
        // Also when nothing changed: an earlier worker may have left its own.
        let sql = "UPDATE source SET speed_trouble = $2 WHERE name = $1 AND speed_trouble IS DISTINCT FROM $2";
        crash::step("speed.limit", client.execute(sql, &[&source, &at_limit])).await?;
        sleep(INTERVAL).await;
    }
}

/// Why nothing may be read, if a view has too many live rows. One whose last run failed is left out instead: the others
/// need not wait for its repair.
async fn look_at_limit(client: &mut Client, source: &str, limit_rows: i64, said: &mut bool) -> Result<Option<String>> {
    let definitions = definitions::load(client, source).await?;
    let mut reason = None;
    let mut is_near = false;
    for (fingerprint, view) in definitions.definitions.iter().filter(|(fingerprint, _)| !definitions.left_out.contains(fingerprint)) {
        let count = rows_above(client, source, fingerprint, limit_rows).await?;
        is_near |= count >= limit_rows / 4 * 3;
        if count >= limit_rows && !leave_out(client, source, fingerprint).await? {
            reason = Some(format!("view {} has {limit_rows} live rows above its version, which is the limit (speed.live_rows)", view.name));
        }
    }
    if is_near && !*said {
        warn!(source, limit_rows, "live rows come near their limit; does batch publish?");
    }
    *said = is_near;
    Ok(reason)
}

/// The live rows of a definition that no version of it holds.
async fn rows_above(client: &Client, source: &str, fingerprint: &Fingerprint, limit: i64) -> Result<i64> {
    let versions = rows::versions(client, source).await?;
    let coverage = versions.get(fingerprint).and_then(|versions| versions.first()).map(|version| version.coverage.clone()).unwrap_or_default();
    let above: Vec<EpochId> = rows::epochs(client, source).await?.iter().filter(|epoch| !epoch.lies_below(&coverage)).map(|epoch| epoch.id).collect();
    Ok(live::count(client, fingerprint, &above, limit).await?.unwrap_or(0))
}

/// Leaves a definition out of the next epochs if its last run failed.
async fn leave_out(client: &mut Client, source: &str, fingerprint: &Fingerprint) -> Result<bool> {
    let transaction = client.transaction().await?;
    transaction.execute("SELECT 1 FROM source WHERE name = $1 FOR UPDATE", &[&source]).await?;
    let sql = "UPDATE definition SET left_out = true WHERE source = $1 AND fingerprint = $2 AND failure IS NOT NULL RETURNING view, failure";
    let Some(row) = transaction.query_opt(sql, &[&source, &fingerprint.0]).await? else { return Ok(false) };
    transaction.execute("UPDATE source SET definitions = definitions + 1 WHERE name = $1", &[&source]).await?;
    crash::step("speed.leave_out", transaction.commit()).await?;
    let (view, failure): (String, String) = (row.get(0), row.get(1));
    error!(source, view, failure, "a view has too many live rows and its runs fail; it is left out until one publishes it");
    Ok(true)
}

/// Makes one epoch of two closed ones; false when no two can be.
async fn fold_epochs(client: &mut Client, source: &str) -> Result<bool> {
    let transaction = client.transaction().await?;
    // The new epoch's row needs this lock; taken after the next one it would be the other way round than batch takes them.
    transaction.execute("SELECT 1 FROM source WHERE name = $1 FOR KEY SHARE", &[&source]).await?;
    live::lock_folding(&transaction, source).await?;
    let pruned = rows::pruned(&transaction, source).await?;
    let epochs = rows::epochs(&transaction, source).await?;
    let pairs = epochs.iter().flat_map(|earlier| epochs.iter().map(move |later| (earlier, later))).filter(|(earlier, later)| earlier.id != later.id);
    let candidates: Vec<(&Epoch, &Epoch)> = pairs.filter(|(earlier, later)| fold::folded(EpochId(0), earlier, later, &pruned).is_some()).collect();
    for (earlier, later) in candidates {
        let both = [earlier.id, later.id];
        let mut is_small = true;
        for fingerprint in &earlier.definitions {
            is_small &= live::count(&transaction, fingerprint, &both, FOLD_ROWS).await?.unwrap_or(0) < FOLD_ROWS;
        }
        if !is_small {
            continue;
        }
        // Both must still be there: whoever removes an epoch holds the same lock, another folder, too.
        let ids: Vec<i64> = both.iter().map(|epoch| epoch.0).collect();
        let locked = transaction.query("SELECT id FROM epoch WHERE id = ANY($1) ORDER BY id FOR UPDATE", &[&ids]).await?;
        let id = EpochId(transaction.query_one("SELECT nextval('epoch_id')", &[]).await?.get(0));
        let Some(folded) = fold::folded(id, earlier, later, &pruned).filter(|_| locked.len() == both.len()) else { continue };
        let rows = write_folded(&transaction, source, both, &folded).await?;
        crash::step("speed.fold", transaction.commit()).await.context("commit a folding")?;
        debug!(source, earlier = earlier.id.0, later = later.id.0, epoch = id.0, rows, "folded two closed epochs into one");
        return Ok(true);
    }
    Ok(false)
}

async fn write_folded(transaction: &Transaction<'_>, source: &str, both: [EpochId; 2], folded: &Epoch) -> Result<usize> {
    let ids: Vec<i64> = both.iter().map(|epoch| epoch.0).collect();
    let fingerprints: Vec<String> = folded.definitions.iter().map(|fingerprint| fingerprint.0.clone()).collect();
    let sql = "INSERT INTO epoch (id, source, cut, definitions, flush) VALUES ($1, $2, $3, $4, $5)";
    transaction.execute(sql, &[&folded.id.0, &source, &folded.cut.0, &fingerprints, &folded.flush]).await?;
    for (partition, range) in &folded.ranges {
        let sql = "INSERT INTO epoch_range (epoch, source, partition, start, \"end\") VALUES ($1, $2, $3, $4, $5)";
        transaction.execute(sql, &[&folded.id.0, &source, &partition.0, &range.start.0, &range.end.map(|end| end.0)]).await?;
    }
    let mut count = 0;
    // Also definitions that left: one that comes back counts its rows again.
    for (fingerprint, view) in definitions::compiled(transaction, source, &fingerprints).await? {
        if live::count(transaction, &fingerprint, &both, 1).await?.unwrap_or(0) == 0 {
            continue;
        }
        let mut groups = Groups::default();
        for epoch in both {
            for row in live::read(transaction, &view, epoch).await? {
                groups.merge_row(GroupHash::of(&row.key), row);
            }
        }
        let rows = LiveRows::of(&view, groups.0.iter().map(|(hash, row)| (*hash, row)))?;
        count += rows.len();
        live::upsert(transaction, &view, folded.id, &rows).await?;
        transaction.execute(&format!("DELETE FROM {} WHERE _epoch = ANY($1)", definitions::live_table(&fingerprint)), &[&ids]).await?;
    }
    transaction.execute("DELETE FROM flush WHERE epoch = ANY($1)", &[&ids]).await?;
    transaction.execute("DELETE FROM epoch WHERE id = ANY($1)", &[&ids]).await?;
    transaction.execute("SELECT pg_notify('anabranch', '')", &[]).await?;
    Ok(count)
}
