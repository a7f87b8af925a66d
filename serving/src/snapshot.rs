//! What PostgreSQL says, in one REPEATABLE READ snapshot.

use std::{collections::BTreeMap, pin::pin, sync::Arc};

use anabranch_core::{
    OffsetRange, Partition,
    definition::{Fingerprint, View},
    format,
    protocol::{
        Epoch, EpochId,
        reach::{self, Follow},
    },
};
use anabranch_process::catalog::{
    definitions::{self, SourceDefinitions},
    live,
    rows::{self, PartitionState, VersionRow},
};
use anabranch_views::{Row, table};
use anyhow::{Context, Result, bail};
use arrow::ipc::reader::StreamReader;
use futures::{TryStreamExt, stream::TryChunksError};
use tokio_postgres::{Client, GenericClient, IsolationLevel, Transaction};
use uuid::Uuid;

use crate::live::Live;

/// Live rows that are held as rows while they are read.
const READ_ROWS: usize = 65_536;

/// The database that was read: another one, or an older copy of it, must not continue a mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    incarnation: Uuid,
    system: i64,
    timeline: i32,
}

/// One source in one snapshot.
#[derive(Debug)]
pub(crate) struct SourceSnapshot {
    pub(crate) definitions: SourceDefinitions,
    pub(crate) partitions: Vec<PartitionState>,
    pub(crate) epochs: Vec<Epoch>,
    pub(crate) pruned: BTreeMap<Fingerprint, anabranch_core::Coverage>,
    pub(crate) versions: BTreeMap<Fingerprint, VersionRow>,
    pub(crate) changes: BTreeMap<EpochId, Changes>,
    /// Ranges that nobody has any more.
    pub(crate) lost: Vec<(Partition, OffsetRange)>,
}

/// How an epoch's live rows changed since the mirror looked last.
#[derive(Debug)]
pub(crate) enum Changes {
    /// These groups have these absolute states now.
    Some(Vec<(Fingerprint, Vec<Row>)>),
    /// These are all its groups.
    All(Vec<(Fingerprint, Live)>),
}

#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) identity: Identity,
    pub(crate) sources: BTreeMap<String, SourceSnapshot>,
}

/// What the mirror holds already.
pub(crate) trait Seen {
    /// The flush up to which it holds an epoch.
    fn flush(&self, epoch: EpochId) -> Option<i64>;
    /// A source's definitions, if it compiled them at this number.
    fn definitions(&self, source: &str, number: i64) -> Option<SourceDefinitions>;
}

/// Reads everything that is new to `seen`.
pub(crate) async fn read(client: &mut Client, seen: &(impl Seen + Sync)) -> Result<Snapshot> {
    let transaction = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await?;
    let sql =
        "SELECT (SELECT incarnation FROM identity), (SELECT system_identifier FROM pg_control_system()), (SELECT timeline_id FROM pg_control_checkpoint())";
    let row = transaction.query_one(sql, &[]).await.context("read the identity of the database")?;
    let Some(incarnation) = row.get::<_, Option<Uuid>>(0) else { bail!("the database has no identity yet; run `anabranch apply` or `anabranch run` first") };
    let identity = Identity { incarnation, system: row.get(1), timeline: row.get(2) };
    let mut sources = BTreeMap::new();
    for source in definitions::sources(&transaction).await? {
        let snapshot = read_source(&transaction, &source, seen).await?;
        sources.insert(source, snapshot);
    }
    transaction.commit().await?;
    Ok(Snapshot { identity, sources })
}

async fn read_source(transaction: &Transaction<'_>, source: &str, seen: &(impl Seen + Sync)) -> Result<SourceSnapshot> {
    let number = definitions::number(transaction, source).await?;
    let definitions = match seen.definitions(source, number) {
        Some(known) => known,
        None => definitions::load(transaction, source).await?,
    };
    let partitions = rows::partitions(transaction, source).await?;
    let epochs = rows::epochs(transaction, source).await?;
    let pruned = rows::pruned(transaction, source).await?;
    let versions = current_versions(transaction, source).await?;
    let mut changes = BTreeMap::new();
    for epoch in &epochs {
        let views: Vec<Arc<View>> =
            definitions.definitions.iter().filter(|(fingerprint, _)| epoch.definitions.contains(*fingerprint)).map(|(_, view)| Arc::clone(view)).collect();
        if let Some(change) = changes_of(transaction, epoch, &views, seen.flush(epoch.id)).await? {
            changes.insert(epoch.id, change);
        }
    }
    let lost = rows::lost(transaction, source).await?;
    Ok(SourceSnapshot { definitions, partitions, epochs, pruned, versions, changes, lost })
}

async fn current_versions(client: &impl GenericClient, source: &str) -> Result<BTreeMap<Fingerprint, VersionRow>> {
    let versions = rows::versions(client, source).await?;
    Ok(versions.into_iter().filter_map(|(fingerprint, versions)| versions.into_iter().next().map(|version| (fingerprint, version))).collect())
}

async fn changes_of(transaction: &Transaction<'_>, epoch: &Epoch, views: &[Arc<View>], seen: Option<i64>) -> Result<Option<Changes>> {
    if seen == Some(epoch.flush) {
        return Ok(None);
    }
    let logged = match seen {
        Some(seen) => {
            transaction.query("SELECT flush FROM flush WHERE epoch = $1 AND flush > $2 AND fingerprint = '' ORDER BY flush", &[&epoch.id.0, &seen]).await?
        }
        None => Vec::new(),
    };
    let logged: Vec<i64> = logged.iter().map(|row| row.get(0)).collect();
    match reach::follow(seen, epoch.flush, &logged) {
        Follow::UpToDate => Ok(None),
        Follow::Apply => {
            let sql = "SELECT fingerprint, changes FROM flush WHERE epoch = $1 AND flush > $2 AND fingerprint <> '' ORDER BY flush";
            let mut changed = Vec::new();
            for row in transaction.query(sql, &[&epoch.id.0, &seen.unwrap_or(0)]).await? {
                let fingerprint = Fingerprint(row.get(0));
                if let Some(view) = views.iter().find(|view| view.fingerprint == fingerprint) {
                    changed.push((fingerprint, decode(view, row.get(1))?));
                }
            }
            Ok(Some(Changes::Some(changed)))
        }
        Follow::Reread => {
            let mut all = Vec::new();
            for view in views {
                all.push((view.fingerprint.clone(), read_live(transaction, view, epoch.id).await?));
            }
            Ok(Some(Changes::All(all)))
        }
    }
}

/// All live rows of an epoch; never all at once as rows, which take a hundred times the memory.
async fn read_live(transaction: &Transaction<'_>, view: &View, epoch: EpochId) -> Result<Live> {
    let mut live = Live::default();
    let mut chunks = pin!(live::stream(transaction, view, epoch).await?.try_chunks(READ_ROWS));
    while let Some(rows) = chunks.try_next().await.map_err(|TryChunksError(_, error)| error)? {
        live.append(view, rows)?;
    }
    Ok(live)
}

fn decode(view: &View, message: &[u8]) -> Result<Vec<Row>> {
    let (version, stream) = message.split_first_chunk::<4>().context("a flush message is too short")?;
    format::check("a flush message", u32::from_le_bytes(*version), format::FLUSH)?;
    let mut rows = Vec::new();
    for batch in StreamReader::try_new(stream, None)? {
        rows.extend(table::from_batch(view, &batch?)?);
    }
    Ok(rows)
}
