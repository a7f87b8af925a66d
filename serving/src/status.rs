//! Where everything stands: offsets, lag, epochs, cuts, versions, runs, audits, rejected records.

use std::collections::BTreeMap;

use anabranch_core::{Coverage, OffsetRange, Partition};
use anabranch_process::{
    Catalog,
    catalog::{definitions, rows},
    clock,
};
use anabranch_views::{State, Value};
use anyhow::Result;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    answerable::{Unreadable, ViewState},
    mirror::Mirror,
};

/// All sources.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Status {
    /// By name.
    pub sources: Vec<SourceStatus>,
}

/// One source.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct SourceStatus {
    /// Its name.
    pub source: String,
    /// Its topic.
    pub topic: String,
    /// The newest cut that was asked for.
    pub cut_wanted: i64,
    /// The newest one that a run was done with.
    pub cut_finished: i64,
    /// The number of epochs that are kept.
    pub epochs: usize,
    /// Its partitions.
    pub partitions: Vec<PartitionStatus>,
    /// Its views.
    pub views: Vec<ViewStatus>,
    /// The newest runs, the last one first.
    pub runs: Vec<RunStatus>,
    /// Rejected records by reason.
    pub rejected: BTreeMap<String, i64>,
    /// Why speed reads nothing, where it does not.
    pub speed_trouble: Option<String>,
    /// For how long speed has written nothing of some partition, milliseconds.
    pub speed_silent_ms: Option<i64>,
    /// How long ago the batch that leads was heard, milliseconds.
    pub batch_silent_ms: Option<i64>,
    /// Offsets that nobody has any more, below the coverage of versions.
    pub lost: Vec<LostStatus>,
}

/// Offsets that were accepted as lost.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct LostStatus {
    /// Of this partition.
    pub partition: i32,
    /// The first one.
    pub start: i64,
    /// The first one behind.
    pub end: i64,
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct PartitionStatus {
    /// Its number.
    pub partition: i32,
    /// Where it began.
    pub origin: i64,
    /// Where speed reads on.
    pub next_offset: i64,
    /// Its end when speed looked last.
    pub high_watermark: i64,
    /// Offsets between.
    pub lag: i64,
    /// Below this everything is archived.
    pub archived_to: i64,
    /// The epoch that owns it.
    pub epoch: Option<i64>,
    /// Why speed cannot go on with it.
    pub speed_trouble: Option<String>,
    /// Why the archive cannot go on with it.
    pub archive_trouble: Option<String>,
}

/// One view.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ViewStatus {
    /// Its name.
    pub view: String,
    /// `ready`, or `being built`.
    pub state: &'static str,
    /// The run of its version.
    pub run: Option<i64>,
    /// What the version includes.
    #[schema(value_type = BTreeMap<String, i64>)]
    pub coverage: Coverage,
    /// What an answer includes.
    #[schema(value_type = BTreeMap<String, i64>)]
    pub offsets: Coverage,
    /// Groups in the version.
    pub version_groups: usize,
    /// Live groups above it.
    pub live_groups: usize,
    /// Live groups whose buckets began longer ago than an hour, a day, a week: records that came late, since the version.
    pub late_groups: BTreeMap<&'static str, usize>,
    /// How old the version is, milliseconds.
    pub version_age_ms: Option<i64>,
    /// Why the newest run could not build it.
    pub failure: Option<String>,
    /// Whether speed leaves it out because of that; its answers stand.
    pub left_out: bool,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct RunStatus {
    /// Its number.
    pub run: i64,
    /// `incremental`, `full` or `audit`.
    pub kind: String,
    /// When it started.
    pub started_at: String,
    /// How long it took, while it is going on: so far.
    pub seconds: f64,
    /// `done`, `drift`, `failed`, or `skipped` where nothing of the topic was read yet; nothing while it is going on.
    pub outcome: Option<String>,
    /// Records read.
    pub records: i64,
    /// Cells that differed.
    pub drift: i64,
    /// What went wrong.
    pub error: Option<String>,
}

const RUNS: i64 = 5;

/// Reads the status; `mirror` must have looked already.
///
/// # Errors
/// When PostgreSQL does not answer.
pub async fn read(catalog: &Catalog, mirror: &Mirror) -> Result<Status> {
    let client = catalog.connect().await?;
    let states = mirror.views();
    let mut sources = Vec::new();
    for name in definitions::sources(&client).await? {
        let definitions = definitions::load(&client, &name).await?;
        let sql = "SELECT cut_wanted, cut_finished, (SELECT count(*) FROM epoch WHERE source = $1), speed_trouble, \
                   (SELECT (extract(epoch FROM now() - heartbeat_at) * 1000)::bigint FROM lease WHERE name = 'batch') FROM source WHERE name = $1";
        let row = client.query_one(sql, &[&name]).await?;
        let partitions = rows::partitions(&client, &name).await?;
        let sql = "SELECT view, failure, left_out FROM definition JOIN view ON (view.source, view.name, view.wanted) = (definition.source, definition.view, definition.fingerprint) \
                   WHERE definition.source = $1";
        let failures: BTreeMap<String, (Option<String>, bool)> =
            client.query(sql, &[&name]).await?.iter().map(|row| (row.get("view"), (row.get("failure"), row.get("left_out")))).collect();
        let partition = |state: &rows::PartitionState| PartitionStatus {
            partition: state.row.partition.0,
            origin: state.row.origin.0,
            next_offset: state.row.next_offset.0,
            high_watermark: state.high_watermark.0,
            lag: (state.high_watermark.0 - state.row.next_offset.0).max(0),
            archived_to: state.archived_to.0,
            epoch: state.row.epoch.map(|epoch| epoch.0),
            speed_trouble: state.speed_trouble.clone(),
            archive_trouble: state.archive_trouble.clone(),
        };
        let sql = "SELECT id, kind, to_char(started_at, 'YYYY-MM-DD HH24:MI:SS'), extract(epoch FROM coalesce(ended_at, now()) - started_at)::float8, outcome, records, \
                   (SELECT count(*) FROM drift WHERE drift.run = run.id), error FROM run WHERE source = $1 ORDER BY id DESC LIMIT $2";
        let runs = client.query(sql, &[&name, &RUNS]).await?;
        let run = |row: &tokio_postgres::Row| RunStatus {
            run: row.get(0),
            kind: row.get(1),
            started_at: row.get(2),
            seconds: row.get(3),
            outcome: row.get(4),
            records: row.get(5),
            drift: row.get(6),
            error: row.get(7),
        };
        sources.push(SourceStatus {
            topic: definitions.source.topic.clone(),
            cut_wanted: row.get(0),
            cut_finished: row.get(1),
            epochs: usize::try_from(row.get::<_, i64>(2))?,
            partitions: partitions.iter().map(partition).collect(),
            views: definitions.views.iter().map(|entry| view(&entry.name, states.get(&entry.name), failures.get(&entry.name))).collect(),
            runs: runs.iter().map(run).collect(),
            speed_trouble: row.get(3),
            speed_silent_ms: rows::speed_silent_ms(&partitions),
            batch_silent_ms: row.get(4),
            lost: rows::lost(&client, &name).await?.into_iter().map(lost).collect(),
            rejected: rejected(states.get(&definitions.source.rejected_view()))?,
            source: name,
        });
    }
    Ok(Status { sources })
}

fn lost((partition, range): (Partition, OffsetRange)) -> LostStatus {
    LostStatus { partition: partition.0, start: range.start.0, end: range.end.0 }
}

fn view(name: &str, state: Option<&ViewState>, failure: Option<&(Option<String>, bool)>) -> ViewStatus {
    let (failure, left_out) = failure.cloned().unwrap_or_default();
    let empty = ViewStatus {
        view: name.to_owned(),
        state: "being built",
        run: None,
        coverage: Coverage::default(),
        offsets: Coverage::default(),
        version_groups: 0,
        live_groups: 0,
        late_groups: BTreeMap::new(),
        version_age_ms: None,
        failure,
        left_out,
    };
    let Some(ViewState::Ready(answerable)) = state else { return empty };
    let (version_groups, live_groups) = answerable.group_counts();
    ViewStatus {
        state: "ready",
        run: answerable.run.map(|run| run.0),
        coverage: answerable.coverage.clone(),
        offsets: answerable.offsets.clone(),
        version_groups,
        live_groups,
        late_groups: answerable.late_groups(clock::now_ms()),
        version_age_ms: answerable.version_age_ms,
        ..empty
    }
}

pub(crate) fn rejected(state: Option<&ViewState>) -> Result<BTreeMap<String, i64>, Unreadable> {
    let mut counts = BTreeMap::new();
    let Some(ViewState::Ready(answerable)) = state else { return Ok(counts) };
    for row in answerable.rows()? {
        if let (Some(Value::Text(reason)), Some(State::Count(count))) = (row.key.get(1), row.states.first()) {
            *counts.entry(reason.clone()).or_default() += count;
        }
    }
    Ok(counts)
}
