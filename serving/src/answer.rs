//! A resolved query → rows: filter, group, merge, finalize, order, limit.
#![expect(clippy::indexing_slicing, reason = "members of JSON objects made here, or a missing one is NULL")]

use std::{borrow::Cow, cmp::Ordering, collections::BTreeMap};

use anabranch_core::definition::{Exactness, View};
use anabranch_views::{Row, Value, finalize::finalize, scalar::decimal_text};
use serde_json::{Map, Value as Json, json};
use tokio_util::sync::CancellationToken;

use crate::{
    answerable::Answerable,
    problem::Problem,
    query::{Column, Resolved, Subject, shown},
    scan,
};

/// The code of an answer that was given up because nobody waits.
pub(crate) const ABANDONED: &str = "abandoned";

/// The largest integer that every JSON reader keeps.
const SAFE_INTEGER: i128 = 9_007_199_254_740_992;

/// The rows of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    /// Each cell in the order of the query's columns.
    pub cells: Vec<Vec<Value>>,
    /// How many there are without limit and offset.
    pub total: usize,
}

/// What an answer may use.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Groups that it may hold.
    pub groups: usize,
    /// Nobody waits for it any more.
    pub left: CancellationToken,
}

/// Filters, groups, merges, finalizes, orders and limits.
///
/// # Errors
/// When there are too many groups, or nobody waits.
pub fn rows(answerable: &Answerable, query: &Resolved, limits: &Limits) -> Result<Rows, Problem> {
    let view = &answerable.view;
    let mut groups = scan::groups(answerable, query, limits)?;
    let held = |row: &Row| {
        let measured = |subject: Subject| match subject {
            Subject::Measure(index) => Cow::Owned(view.measures.get(index).map_or(Value::Null, |measure| finalize(measure, &row.states))),
            Subject::Key(_) => Cow::Owned(Value::Null),
        };
        query.conditions.groups.iter().all(|condition| condition.holds(&measured))
    };
    let only_measures = query.columns.iter().all(|column| matches!(column, Column::Measure { .. }));
    if groups.is_empty() && only_measures {
        // As in SQL: an aggregate over nothing is one row.
        groups.push(Row::empty(view, Vec::new()));
    }
    let mut cells: Vec<Vec<Value>> = groups.into_iter().filter(held).map(|row| finalized(view, row, query)).collect();
    cells.sort_by(|a, b| compare(a, b, &query.order));
    let total = cells.len();
    cells.drain(..query.offset.min(total));
    cells.truncate(query.limit);
    Ok(Rows { cells, total })
}

fn finalized(view: &View, row: Row, query: &Resolved) -> Vec<Value> {
    let mut key = row.key.into_iter();
    let cell = |column: &Column| match column {
        Column::Measure { index, .. } => view.measures.get(*index).map_or(Value::Null, |measure| finalize(measure, &row.states)),
        _ => key.next().unwrap_or(Value::Null),
    };
    query.columns.iter().map(cell).collect()
}

/// By the order asked for, then by all columns, so that an answer is the same each time. NULL comes last, as in SQL.
fn compare(a: &[Value], b: &[Value], order: &[(usize, bool)]) -> Ordering {
    let cells = |index: usize| (a.get(index).unwrap_or(&Value::Null), b.get(index).unwrap_or(&Value::Null));
    for (index, descends) in order {
        let (a, b) = cells(*index);
        let ordering = match (a.is_null(), b.is_null()) {
            (false, false) if *descends => b.compare(a),
            (false, false) => a.compare(b),
            // PostgreSQL: NULL is larger than every value.
            (a, b) if *descends => b.cmp(&a),
            (a, b) => a.cmp(&b),
        };
        if ordering.is_ne() {
            return ordering;
        }
    }
    (0..a.len()).map(cells).map(|(a, b)| a.compare(b)).find(|ordering| ordering.is_ne()).unwrap_or(Ordering::Equal)
}

/// A cell as JSON: integers beyond 2⁵³ and times are strings.
#[must_use]
pub fn json_of(value: &Value) -> Json {
    let integer = |value: i128| match i64::try_from(value) {
        Ok(small) if value.abs() <= SAFE_INTEGER => json!(small),
        _ => json!(value.to_string()),
    };
    match value {
        Value::Null | Value::Bytes(_) | Value::Error(_) => Json::Null,
        Value::Boolean(value) => json!(value),
        Value::BigInt(value) => integer(i128::from(*value)),
        Value::Decimal(value, 0) => integer(*value),
        // A string: a reader that took it for a DOUBLE would change it.
        Value::Decimal(value, scale) => json!(decimal_text(*value, *scale)),
        Value::Double(value) => json!(value),
        Value::Text(text) => json!(text),
        Value::Date(days) => json!(shown(i64::from(*days) * 86_400_000_000)),
        Value::Timestamp(micros) => json!(shown(*micros)),
    }
}

/// The whole answer: `query`, `data`, `annotation`, `lambda`.
#[must_use]
pub fn answer(answerable: &Answerable, query: &Resolved, rows: &Rows, now_ms: i64) -> Json {
    let names: Vec<String> = query.columns.iter().map(Column::name).collect();
    let errors = errors(&names, &rows.cells);
    let data: Vec<Json> = rows
        .cells
        .iter()
        .map(|row| {
            let mut object = Map::new();
            for ((column, name), cell) in query.columns.iter().zip(&names).zip(row) {
                if let Column::Time { member, .. } = column {
                    // Cube's clients know a time dimension by both names.
                    object.insert(member.clone(), json_of(cell));
                }
                object.insert(name.clone(), json_of(cell));
            }
            Json::Object(object)
        })
        .collect();
    let mut answer = json!({
        "query": query.echo,
        "data": data,
        "annotation": annotation(&answerable.view, query),
        "lambda": lambda(answerable, now_ms),
    });
    if query.total {
        answer["total"] = json!(rows.total);
    }
    if !errors.is_empty() {
        answer["errors"] = json!(errors);
    }
    answer
}

/// The cells that have no value although their group has: null in `data`, with their reason here.
fn errors(names: &[String], rows: &[Vec<Value>]) -> Vec<Json> {
    let mut errors = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        for (name, cell) in names.iter().zip(row) {
            if let Value::Error(error) = cell {
                errors.push(json!({"row": index, "member": name, "error": error.to_string()}));
            }
        }
    }
    errors
}

/// A name of the answer: the same for the same query over the same version and offsets.
#[must_use]
pub fn tag(answerable: &Answerable, query: &Resolved, media_type: &str) -> String {
    let stands_on = json!([
        query.echo,
        query.range_micros,
        // Relative times of filters are another condition tomorrow, under the same words.
        format!("{:?}", query.conditions),
        answerable.view.fingerprint,
        answerable.run,
        answerable.offsets.iter().map(|(partition, offset)| (partition.0, offset.0)).collect::<Vec<_>>(),
        media_type,
    ]);
    let hash = blake3::hash(stands_on.to_string().as_bytes()).to_hex();
    format!("\"{}\"", hash.chars().take(32).collect::<String>())
}

/// Which offsets an answer covers, and on which version it stands.
#[must_use]
pub fn lambda(answerable: &Answerable, now_ms: i64) -> Json {
    let topic = &answerable.view.source.topic;
    let offsets = |coverage: &anabranch_core::Coverage| {
        let map: Map<String, Json> = coverage.iter().map(|(partition, offset)| (partition.to_string(), json!(offset.0))).collect();
        json!({ topic.clone(): map })
    };
    let mut lost: BTreeMap<String, Vec<[i64; 2]>> = BTreeMap::new();
    for (partition, range) in &answerable.lost {
        lost.entry(partition.to_string()).or_default().push([range.start.0, range.end.0]);
    }
    let (version, live) = answerable.group_counts();
    let since = (now_ms - answerable.refreshed_ms).max(0);
    json!({
        "run": answerable.run,
        "coverage": offsets(&answerable.coverage),
        "offsets": offsets(&answerable.offsets),
        "lag_records": answerable.lag_records,
        "refreshed_ms_ago": since,
        "speed_silent_ms": answerable.speed_silent_ms.map(|silent| silent + since),
        "version_age_ms": answerable.version_age_ms.map(|age| age + since),
        "version_groups": version,
        "live_groups": live,
        "lost": { topic.clone(): lost },
    })
}

fn annotation(view: &View, query: &Resolved) -> Json {
    let (mut measures, mut dimensions, mut times) = (Map::new(), Map::new(), Map::new());
    for column in &query.columns {
        match column {
            Column::Measure { member, index } => {
                if let Some(measure) = view.measures.get(*index) {
                    let entry = member_json(member, cube_type(measure.data_type), Some(view.exactness(measure)));
                    measures.insert(member.clone(), entry);
                }
            }
            Column::Dimension { member, data_type, .. } => {
                dimensions.insert(member.clone(), member_json(member, cube_type(*data_type), None));
            }
            Column::Time { member, granularity } => {
                let name = granularity.name();
                let mut entry = member_json(member, "time", None);
                times.insert(member.clone(), entry.clone());
                entry["granularity"] = json!({"name": name, "title": name, "interval": format!("1 {name}")});
                times.insert(column.name(), entry);
            }
        }
    }
    json!({"measures": measures, "dimensions": dimensions, "segments": {}, "timeDimensions": times})
}

/// The type by which Cube's clients know a column.
#[must_use]
pub fn cube_type(data_type: anabranch_core::definition::DataType) -> &'static str {
    use anabranch_core::definition::DataType;
    match data_type {
        DataType::BigInt | DataType::Double | DataType::Decimal { .. } => "number",
        DataType::Boolean => "boolean",
        DataType::Text => "string",
        DataType::Date | DataType::Timestamp => "time",
    }
}

/// A member of an annotation or of `/v1/meta`.
#[must_use]
pub fn member_json(member: &str, member_type: &str, exactness: Option<Exactness>) -> Json {
    let short = member.rsplit('.').next().unwrap_or(member).replace('_', " ");
    let mut entry = json!({"name": member, "title": member.replace(['.', '_'], " "), "shortTitle": short, "type": member_type});
    if let Some(exactness) = exactness {
        entry["drillMembers"] = json!([]);
        entry["meta"] = json!({ "exactness": exactness });
    }
    entry
}
