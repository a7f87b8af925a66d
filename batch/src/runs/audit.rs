//! The audit: a recompute from raw records must equal the kept version, cell by cell.

use std::{collections::BTreeMap, fmt};

use anabranch_core::{definition::View, protocol::RunId};
use anabranch_process::crash;
use anabranch_views::{DoubleSum, GroupHash, Groups, Row, State, Value, scalar::decimal_text, table};
use anyhow::Result;
use chrono::DateTime;
use tokio_postgres::Client;
use tracing::error;

/// Cells that are stored and printed; the count goes on.
const STORED_CELLS: usize = 1_000;

/// One cell that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// The view.
    pub view: String,
    /// The group and the column, as `minute=…, city=…: _s0_count`.
    pub cell: String,
    /// What the version has.
    pub kept: String,
    /// What the raw records give.
    pub recomputed: String,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "view {}, {}: kept {}, recomputed {}", self.view, self.cell, self.kept, self.recomputed)
    }
}

/// Compares the rows of a kept part with recomputed groups; adds what differs to `drift`, in order of the cells.
pub(super) fn compare(view: &View, kept: Vec<Row>, recomputed: &Groups, drift: &mut Vec<Drift>) {
    let mut kept: BTreeMap<GroupHash, Row> = kept.into_iter().map(|row| (GroupHash::of(&row.key), row)).collect();
    let mut found = Vec::new();
    for (hash, row) in &recomputed.0 {
        compare_row(view, kept.remove(hash).as_ref(), Some(row), &mut found);
    }
    for row in kept.values() {
        compare_row(view, Some(row), None, &mut found);
    }
    found.sort_by(|a, b| a.cell.cmp(&b.cell));
    drift.append(&mut found);
}

fn compare_row(view: &View, kept: Option<&Row>, recomputed: Option<&Row>, drift: &mut Vec<Drift>) {
    let Some(row) = recomputed.or(kept) else { return };
    // Nearly always; only what differs is looked at cell by cell.
    if kept == recomputed {
        return;
    }
    let columns = table::columns(view);
    let group: Vec<String> = columns.iter().zip(&row.key).map(|(column, value)| format!("{}={}", column.name, shown(value))).collect();
    let cells = |row: Option<&Row>| row.map(table::cells);
    let (kept, recomputed) = (cells(kept), cells(recomputed));
    for (index, column) in columns.iter().enumerate().skip(row.key.len()) {
        let cell = |cells: &Option<Vec<Value>>| cells.as_ref().and_then(|cells| cells.get(index).cloned());
        let (before, after) = (cell(&kept), cell(&recomputed));
        let tolerance = sum_at(view, index, row).map_or(0.0, tolerance);
        if !equal(before.as_ref(), after.as_ref(), tolerance) {
            let show = |value: Option<Value>| value.map_or_else(|| "no group".to_owned(), |value| shown(&value));
            drift.push(Drift { view: view.name.clone(), cell: format!("{}: {}", group.join(", "), column.name), kept: show(before), recomputed: show(after) });
        }
    }
}

/// All must be bit-equal, but for sums of DOUBLE: they depend on the order of addition.
fn equal(kept: Option<&Value>, recomputed: Option<&Value>, tolerance: f64) -> bool {
    match (kept, recomputed) {
        (Some(Value::Double(a)), Some(Value::Double(b))) => a.total_cmp(b).is_eq() || (a - b).abs() <= tolerance,
        (a, b) => a == b,
    }
}

/// 2·n·ε·Σ|x|.
#[expect(clippy::cast_precision_loss, reason = "a bound")]
fn tolerance(sum: DoubleSum) -> f64 {
    2.0 * sum.terms as f64 * f64::EPSILON * sum.magnitude
}

/// The sum of DOUBLE whose cell this is.
fn sum_at(view: &View, index: usize, row: &Row) -> Option<DoubleSum> {
    let mut column = row.key.len();
    for (accumulator, state) in view.accumulators.iter().zip(&row.states) {
        let width = table::width(accumulator);
        if (column..column + width).contains(&index) {
            return if let State::SumDouble(sum) = state { *sum } else { None };
        }
        column += width;
    }
    None
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Boolean(value) => value.to_string(),
        Value::BigInt(value) => value.to_string(),
        Value::Double(value) => value.to_string(),
        Value::Decimal(value, scale) => decimal_text(*value, *scale),
        Value::Error(error) => error.to_string(),
        Value::Text(value) => value.clone(),
        Value::Date(days) => DateTime::from_timestamp(i64::from(*days) * 86_400, 0).map_or_else(|| days.to_string(), |time| time.date_naive().to_string()),
        Value::Timestamp(micros) => DateTime::from_timestamp_micros(*micros).map_or_else(|| micros.to_string(), |time| time.naive_utc().to_string()),
        Value::Bytes(bytes) => format!("{} bytes {}", bytes.len(), bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>()),
    }
}

/// Stores and logs what differs.
pub(super) async fn store(client: &Client, run: RunId, drift: &[Drift]) -> Result<()> {
    for cell in drift.iter().take(STORED_CELLS) {
        error!(run = run.0, view = cell.view, cell = cell.cell, kept = cell.kept, recomputed = cell.recomputed, "found drift; the recomputed part wins");
        let sql = "INSERT INTO drift (run, view, cell, kept, recomputed) VALUES ($1, $2, $3, $4, $5)";
        crash::step("batch.drift", client.execute(sql, &[&run.0, &cell.view, &cell.cell, &cell.kept, &cell.recomputed])).await?;
    }
    Ok(())
}
