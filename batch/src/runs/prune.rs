//! Pruning: live rows that every reader has in a version, some time after a publication.

use std::collections::BTreeSet;

use anabranch_core::{
    Coverage,
    definition::Fingerprint,
    protocol::{EpochId, prune},
};
use anabranch_process::{
    catalog::{definitions, live, rows},
    crash,
};
use anyhow::Result;
use tokio_postgres::{Client, GenericClient, Transaction};
use tracing::debug;

/// Prunes every definition of a source, then removes the epochs that nobody needs any more.
pub(super) async fn prune(client: &mut Client, source: &str, after_seconds: u64) -> Result<()> {
    let definitions = definitions::load(client, source).await?;
    for fingerprint in definitions.definitions.keys() {
        let transaction = client.transaction().await?;
        prune_definition(&transaction, source, fingerprint, after_seconds).await?;
        crash::step("batch.prune", transaction.commit()).await?;
    }
    forget_left(client, source).await?;
    let transaction = client.transaction().await?;
    remove_epochs(&transaction, source).await?;
    crash::step("batch.remove_epochs", transaction.commit()).await?;
    Ok(())
}

/// Definitions that left: their live rows go, and, a run later, their tables.
async fn forget_left(client: &mut Client, source: &str) -> Result<()> {
    let transaction = client.transaction().await?;
    // Nobody applies, publishes or opens an epoch meanwhile.
    transaction.execute("SELECT 1 FROM source WHERE name = $1 FOR UPDATE", &[&source]).await?;
    live::lock_folding(&transaction, source).await?;
    let kept = definitions::load(&transaction, source).await?.kept();
    let epochs = rows::epochs(&transaction, source).await?;
    let mut pruned = rows::pruned(&transaction, source).await?;
    // A view in SQL that could not be replaced yet still names its table.
    let sql = "SELECT fingerprint FROM definition d WHERE source = $1 AND to_regclass('live_' || fingerprint) IS NOT NULL \
               AND NOT EXISTS (SELECT 1 FROM sql_view WHERE sql_view.fingerprint = d.fingerprint)";
    for row in transaction.query(sql, &[&source]).await? {
        let fingerprint = Fingerprint(row.get(0));
        let Some(coverage) = prune::left(&fingerprint, &kept, &epochs) else { continue };
        let table = definitions::live_table(&fingerprint);
        let before = pruned.remove(&fingerprint);
        if before.as_ref().is_some_and(|before| before.reaches(&coverage)) {
            // The rows went in an earlier transaction; no reader's snapshot is that old.
            transaction.batch_execute(&format!("DROP TABLE {table}")).await?;
            debug!(source, %fingerprint, "dropped the live table of a definition that left");
            continue;
        }
        store_pruned(&transaction, source, &fingerprint, &before.unwrap_or_default().max(&coverage)).await?;
        transaction.execute(&format!("DELETE FROM {table}"), &[]).await?;
    }
    crash::step("batch.forget_left", transaction.commit()).await?;
    Ok(())
}

/// Both versions are read in the deleting transaction: the one before the current one is what a slow reader may hold.
/// By DELETE, never TRUNCATE, which an older snapshot would see as an empty table.
async fn prune_definition(transaction: &Transaction<'_>, source: &str, fingerprint: &Fingerprint, after_seconds: u64) -> Result<()> {
    transaction.execute("SELECT 1 FROM source WHERE name = $1 FOR SHARE", &[&source]).await?;
    live::lock_folding(transaction, source).await?;
    let sql = "SELECT coverage, extract(epoch FROM now() - published_at)::bigint FROM version WHERE source = $1 AND fingerprint = $2 ORDER BY run DESC LIMIT 2";
    let versions = transaction.query(sql, &[&source, &fingerprint.0]).await?;
    let [current, previous] = versions.as_slice() else { return Ok(()) };
    if current.get::<_, i64>(1).unsigned_abs() < after_seconds {
        return Ok(());
    }
    let (current, previous) = (rows::coverage(current.get(0))?, rows::coverage(previous.get(0))?);
    let versions = prune::Versions { current: &current, previous: Some(&previous), of_source: None };
    let Some(pruned_to) = prune::pruned_to(versions) else { return Ok(()) };
    let epochs: Vec<i64> = prune::prunable(fingerprint, pruned_to, &rows::epochs(transaction, source).await?).into_iter().map(|epoch| epoch.0).collect();
    let before = rows::pruned(transaction, source).await?.remove(fingerprint).unwrap_or_default();
    store_pruned(transaction, source, fingerprint, &before.max(pruned_to)).await?;
    let table = definitions::live_table(fingerprint);
    let deleted = transaction.execute(&format!("DELETE FROM {table} WHERE _epoch = ANY($1)"), &[&epochs]).await?;
    debug!(source, %fingerprint, rows = deleted, "pruned live rows");
    Ok(())
}

async fn store_pruned(client: &impl GenericClient, source: &str, fingerprint: &Fingerprint, coverage: &Coverage) -> Result<()> {
    let sql = "INSERT INTO pruned (source, fingerprint, coverage) VALUES ($1, $2, $3) ON CONFLICT (source, fingerprint) DO UPDATE SET coverage = $3";
    client.execute(sql, &[&source, &fingerprint.0, &rows::coverage_json(coverage)]).await?;
    Ok(())
}

/// An epoch goes when it is pruned for every definition that it holds.
async fn remove_epochs(transaction: &Transaction<'_>, source: &str) -> Result<()> {
    live::lock_folding(transaction, source).await?;
    let pruned = rows::pruned(transaction, source).await?;
    let owners: BTreeSet<EpochId> = rows::partitions(transaction, source).await?.into_iter().filter_map(|state| state.row.epoch).collect();
    let epochs = rows::epochs(transaction, source).await?;
    let gone: Vec<i64> = epochs
        .iter()
        .filter(|epoch| !epoch.is_open() && !owners.contains(&epoch.id))
        .filter(|epoch| epoch.definitions.iter().all(|fingerprint| pruned.get(fingerprint).is_some_and(|coverage| epoch.lies_below(coverage))))
        .map(|epoch| epoch.id.0)
        .collect();
    transaction.execute("DELETE FROM flush WHERE epoch = ANY($1)", &[&gone]).await?;
    transaction.execute("DELETE FROM epoch WHERE id = ANY($1)", &[&gone]).await?;
    Ok(())
}
