//! `/v1/rejected`: records that could not be decoded, as samples for people.

use std::sync::Arc;

use anabranch_process::{
    Warehouse,
    archive::rejected::{Rejected, Search, rejected, unarchived},
    catalog::{definitions, rows},
};
use axum::{
    Json,
    extract::{RawQuery, State},
    http::StatusCode,
};
use serde::Serialize;
use tracing::error;
use utoipa::ToSchema;

use super::{
    App,
    request::{number, parameter},
};
use crate::problem::Problem;

const DEFAULT_LIMIT: usize = 20;
const LARGEST_LIMIT: usize = 100;
/// The newest files are looked at, not all of years; `anabranch rejected` looks at all.
const FILES_LOOKED_AT: usize = 64;
/// A longer value is cut; `anabranch rejected --json` has all of it.
const VALUE_BYTES: usize = 2048;

/// Rejected records, the newest file first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RejectedRecords {
    records: Vec<RejectedRecord>,
    /// Whether no file was left out: the newest 64 are looked at.
    complete: bool,
    /// Offsets that speed has read and the archive has not, whose records are not among these.
    unarchived: i64,
}

/// A record that could not be decoded.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RejectedRecord {
    partition: i32,
    offset: i64,
    /// Its Kafka timestamp, milliseconds since 1970.
    timestamp_ms: Option<i64>,
    reason: String,
    /// What it says, at most 2 kB of it; nothing for a tombstone.
    value: Option<String>,
}

impl From<Rejected> for RejectedRecord {
    fn from(record: Rejected) -> Self {
        let text = |value: Vec<u8>| String::from_utf8_lossy(value.get(..VALUE_BYTES).unwrap_or(&value)).into_owned();
        Self {
            partition: record.partition.0,
            offset: record.offset.0,
            timestamp_ms: record.timestamp_micros.map(|micros| micros.div_euclid(1000)),
            reason: record.reason,
            value: record.value.map(text),
        }
    }
}

pub(super) async fn read(State(app): State<App>, RawQuery(parameters): RawQuery) -> Result<Json<RejectedRecords>, Problem> {
    let parameters = parameters.unwrap_or_default();
    let source = parameter(&parameters, "source").ok_or_else(|| Problem::bad_query("parameter", "the parameter source is missing: ?source=NAME"))?;
    let views = app.mirror.views();
    if !views.values().any(|state| state.view().source.name == source) {
        return Err(Problem { status: StatusCode::NOT_FOUND, ..Problem::bad_query("unknown_source", format!("no view reads a source \"{source}\"")) });
    }
    let reason = parameter(&parameters, "reason");
    let limit = number(&parameters, "limit")?.unwrap_or(DEFAULT_LIMIT);
    if limit > LARGEST_LIMIT {
        return Err(Problem::bad_query("parameter", format!("limit is at most {LARGEST_LIMIT}")));
    }
    let search = Search { reason: reason.as_deref(), partition: number(&parameters, "partition")?, limit, files: FILES_LOOKED_AT };
    // One of the few that compute: it decodes row groups.
    let _turn = Arc::clone(&app.turns).acquire_owned().await.map_err(|_| Problem::unavailable("busy", "the server stops"))?;
    let found = async {
        let client = app.mirror.catalog().connect().await?;
        let definitions = definitions::load(&client, &source).await?;
        let unarchived = unarchived(&rows::partitions(&client, &source).await?);
        let warehouse = Warehouse::at(&app.settings.warehouse.url)?;
        let (records, complete) = rejected(&warehouse, &definitions.source, search).await?;
        anyhow::Ok(RejectedRecords { records: records.into_iter().map(RejectedRecord::from).collect(), complete, unarchived })
    };
    found.await.map(Json).map_err(|cause| {
        error!(source, error = format!("{cause:#}"), "could not read the rejected records");
        Problem::unavailable("no_archive", "the archive, or the catalog, does not answer")
    })
}
