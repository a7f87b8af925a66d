//! A query in the vocabulary of Cube's REST API, resolved against one view.

use anabranch_core::definition::{DataType, Granularity, View, error::nearest};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

pub use self::range::shown;
pub use crate::problem::Problem;

mod range;

/// Rows of an answer without a limit.
pub const DEFAULT_LIMIT: usize = 10_000;
/// The largest limit.
pub const MAXIMUM_LIMIT: usize = 50_000;

/// A query as it is sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Query {
    /// Members to compute.
    pub measures: Vec<String>,
    /// Members to group by.
    pub dimensions: Vec<String>,
    /// At most one: the view's time bucket.
    pub time_dimensions: Vec<TimeDimension>,
    /// All must hold.
    pub filters: Vec<Filter>,
    /// `{"member": "asc"}` or `[["member", "desc"]]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<Json>,
    /// At most [`MAXIMUM_LIMIT`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Only UTC yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// Of a row view: one row of the answer for each record, also where the columns asked for are equal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ungrouped: Option<bool>,
}

/// A time dimension of a query.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TimeDimension {
    /// The member.
    pub dimension: String,
    /// To group by it; without one it only filters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granularity: Option<String>,
    /// A day, or first and last moment, both included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date_range: Option<DateRange>,
}

/// A range of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum DateRange {
    /// One day.
    Day(String),
    /// Both ends included.
    Pair(Vec<String>),
}

/// A condition on a dimension.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// The dimension.
    pub member: String,
    /// `equals`, `notEquals` or `set`.
    pub operator: String,
    /// What it is compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<Json>>,
}

/// A column of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Column {
    /// The key at this index of a row.
    Dimension {
        /// The full member name.
        member: String,
        /// The index in the row's key.
        key: usize,
        /// The type.
        data_type: DataType,
    },
    /// The bucket, truncated.
    Time {
        /// The full member name, without granularity.
        member: String,
        /// To what.
        granularity: Granularity,
    },
    /// A measure of the view.
    Measure {
        /// The full member name.
        member: String,
        /// The index in the view's measures.
        index: usize,
    },
}

impl Column {
    /// The name in the rows of the answer.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Dimension { member, .. } | Self::Measure { member, .. } => member.clone(),
            Self::Time { member, granularity } => format!("{member}.{}", granularity.name()),
        }
    }
}

/// A condition on the key at an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The index in the row's key.
    pub key: usize,
    /// What must hold.
    pub test: Test,
}

/// What a condition asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// One of these; None is NULL.
    OneOf(Vec<Option<String>>),
    /// None of these; NULL passes unless it is named.
    NoneOf(Vec<Option<String>>),
    /// Not NULL.
    Set,
}

/// A query against one view.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The columns: dimensions, time, measures.
    pub columns: Vec<Column>,
    /// All must hold.
    pub conditions: Vec<Condition>,
    /// First and last microsecond of the buckets' starts, both included.
    pub range_micros: Option<(i64, i64)>,
    /// Index of a column, and whether it descends.
    pub order: Vec<(usize, bool)>,
    /// Rows at most.
    pub limit: usize,
    /// Whether each record is a row of its own.
    pub ungrouped: bool,
    /// The query as the answer echoes it: with defaults and resolved times.
    pub echo: Query,
}

/// The name of the one view that a query speaks of.
///
/// # Errors
/// A [`Problem`] when there is none or more than one.
pub fn view_name(query: &Query) -> Result<String, Problem> {
    let times = query.time_dimensions.iter().map(|time| &time.dimension);
    let members = query.measures.iter().chain(&query.dimensions).chain(times).chain(query.filters.iter().map(|filter| &filter.member));
    let mut names: Vec<&str> = members.filter_map(|member| member.split_once('.').map(|(view, _)| view)).collect();
    names.dedup();
    match names.as_slice() {
        [] => Err(Problem::bad_query(
            "empty_query",
            "the query names no member; at least one measure, dimension, or time dimension with granularity, as view.column",
        )),
        [name] => Ok((*name).to_owned()),
        [first, second, ..] if names.iter().all(|name| name == first) => Ok((*second).to_owned()),
        names => Err(Problem::bad_query("several_views", format!("one query names one view, this one names {}", names.join(", ")))),
    }
}

/// Checks a query against its view.
///
/// # Errors
/// A [`Problem`] that names the member, operator or value and what is allowed.
pub fn resolve(view: &View, query: &Query) -> Result<Resolved, Problem> {
    if let Some(zone) = query.timezone.as_deref().filter(|zone| *zone != "UTC") {
        return Err(Problem::bad_query("unknown_timezone", format!("timezone \"{zone}\" is not known yet; UTC is")));
    }
    let ungrouped = query.ungrouped.unwrap_or(false);
    if ungrouped && !view.is_rows {
        let message = format!("the view \"{}\" keeps groups, not rows: ungrouped is for views without GROUP BY", view.name);
        return Err(Problem::bad_query("ungrouped", message));
    }
    let mut columns = Vec::new();
    for member in &query.dimensions {
        let (key, data_type) = dimension(view, member)?;
        columns.push(Column::Dimension { member: member.clone(), key, data_type });
    }
    let (time, range_micros, echo_times) = time_dimension(view, query)?;
    columns.extend(time);
    for member in &query.measures {
        let index = view.measures.iter().position(|measure| format!("{}.{}", view.name, measure.name) == *member);
        let names: Vec<String> = view.measures.iter().map(|measure| format!("{}.{}", view.name, measure.name)).collect();
        let index = index.ok_or_else(|| unknown("measure", member, &names))?;
        columns.push(Column::Measure { member: member.clone(), index });
    }
    if columns.is_empty() {
        return Err(Problem::bad_query("empty_query", "the query asks for nothing; at least one measure, dimension, or time dimension with granularity"));
    }
    let conditions = query.filters.iter().map(|filter| condition(view, filter)).collect::<Result<Vec<_>, _>>()?;
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if limit > MAXIMUM_LIMIT {
        return Err(Problem::bad_query("limit", format!("limit {limit} is above the maximum of {MAXIMUM_LIMIT}")));
    }
    let order = order(query.order.as_ref(), &columns)?;
    let named: Vec<Json> =
        order.iter().filter_map(|(index, descends)| Some(serde_json::json!([columns.get(*index)?.name(), if *descends { "desc" } else { "asc" }]))).collect();
    let echo = Query { order: Some(Json::Array(named)), limit: Some(limit), timezone: Some("UTC".to_owned()), time_dimensions: echo_times, ..query.clone() };
    Ok(Resolved { columns, conditions, range_micros, order, limit, ungrouped, echo })
}

fn unknown(kind: &str, member: &str, names: &[String]) -> Problem {
    let help = nearest(member, names.iter().map(String::as_str));
    Problem::bad_query("unknown_member", format!("unknown {kind} \"{member}\"; {help}").trim_end_matches("; ").to_owned())
}

fn dimension(view: &View, member: &str) -> Result<(usize, DataType), Problem> {
    let buckets = view.bucket.iter().map(|bucket| (&bucket.name, DataType::Timestamp));
    let keys: Vec<(String, DataType)> = buckets
        .chain(view.dimensions.iter().map(|dimension| (&dimension.name, dimension.expression.data_type)))
        .map(|(name, data_type)| (format!("{}.{name}", view.name), data_type))
        .collect();
    let names: Vec<String> = keys.iter().map(|(name, _)| name.clone()).collect();
    keys.iter().position(|(name, _)| name == member).and_then(|key| Some((key, keys.get(key)?.1))).ok_or_else(|| unknown("dimension", member, &names))
}

type ResolvedTime = (Option<Column>, Option<(i64, i64)>, Vec<TimeDimension>);

fn time_dimension(view: &View, query: &Query) -> Result<ResolvedTime, Problem> {
    let [time] = query.time_dimensions.as_slice() else {
        if query.time_dimensions.is_empty() {
            return Ok((None, None, Vec::new()));
        }
        return Err(Problem::bad_query("several_time_dimensions", "a view has one time bucket, so a query has at most one time dimension"));
    };
    let Some(bucket) = &view.bucket else {
        return Err(Problem::bad_query("no_time_bucket", format!("the view \"{}\" has no time bucket", view.name)));
    };
    let name = format!("{}.{}", view.name, bucket.name);
    if time.dimension != name {
        return Err(unknown("time dimension", &time.dimension, std::slice::from_ref(&name)));
    }
    let column = match &time.granularity {
        None => None,
        Some(text) => {
            let granularity = Granularity::named(text).ok_or_else(|| {
                Problem::bad_query(
                    "unknown_granularity",
                    format!("unknown granularity \"{text}\"; one of {}", Granularity::ALL.map(Granularity::name).join(", ")),
                )
            })?;
            if !bucket.width.makes(granularity) {
                let message = format!("granularity \"{text}\" is not made of whole buckets of the view, which are {}", bucket.width);
                return Err(Problem::bad_query("granularity", message));
            }
            Some(Column::Time { member: name, granularity })
        }
    };
    let range = time.date_range.as_ref().map(range::range).transpose()?;
    let echo = TimeDimension { date_range: range.map(|(start, end)| DateRange::Pair(vec![shown(start), shown(end)])), ..time.clone() };
    Ok((column, range, vec![echo]))
}

fn condition(view: &View, filter: &Filter) -> Result<Condition, Problem> {
    let is_measure = view.measures.iter().any(|measure| format!("{}.{}", view.name, measure.name) == filter.member);
    if is_measure {
        return Err(Problem::bad_query("measure_filter", format!("\"{}\" is a measure; filters act on dimensions", filter.member)));
    }
    let (key, _) = dimension(view, &filter.member)?;
    let text = |value: &Json| match value {
        Json::Null => None,
        Json::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    let values = || match filter.values.as_deref() {
        Some(values) if !values.is_empty() => Ok(values.iter().map(text).collect()),
        _ => Err(Problem::bad_query("filter_values", format!("the filter \"{}\" on \"{}\" needs values", filter.operator, filter.member))),
    };
    let test = match filter.operator.as_str() {
        "equals" => Test::OneOf(values()?),
        "notEquals" => Test::NoneOf(values()?),
        "set" => Test::Set,
        other => {
            return Err(Problem::bad_query(
                "unknown_operator",
                format!("unknown operator \"{other}\" on \"{}\"; one of equals, notEquals, set", filter.member),
            ));
        }
    };
    Ok(Condition { key, test })
}

/// Default: time ascending, else the first measure descending, else the first dimension ascending.
fn order(order: Option<&Json>, columns: &[Column]) -> Result<Vec<(usize, bool)>, Problem> {
    let bad = || Problem::bad_query("order", "order is {\"member\": \"asc\"} or [[\"member\", \"desc\"]]");
    let pairs: Vec<(String, String)> = match order {
        None => {
            let time = columns.iter().position(|column| matches!(column, Column::Time { .. }));
            let measure = columns.iter().position(|column| matches!(column, Column::Measure { .. }));
            return Ok(vec![time.map(|index| (index, false)).or(measure.map(|index| (index, true))).unwrap_or((0, false))]);
        }
        Some(Json::Object(members)) => {
            members.iter().map(|(member, direction)| Some((member.clone(), direction.as_str()?.to_owned()))).collect::<Option<_>>().ok_or_else(bad)?
        }
        Some(Json::Array(pairs)) => pairs
            .iter()
            .map(|pair| match pair.as_array()?.as_slice() {
                [member, direction] => Some((member.as_str()?.to_owned(), direction.as_str()?.to_owned())),
                _ => None,
            })
            .collect::<Option<_>>()
            .ok_or_else(bad)?,
        Some(_) => return Err(bad()),
    };
    let mut resolved = Vec::new();
    for (member, direction) in pairs {
        let plain = |column: &Column| matches!(column, Column::Time { member: name, .. } if *name == member);
        let index = columns.iter().position(|column| column.name() == member || plain(column));
        let names: Vec<String> = columns.iter().map(Column::name).collect();
        let index = index.ok_or_else(|| unknown("order member", &member, &names))?;
        match direction.as_str() {
            "asc" => resolved.push((index, false)),
            "desc" => resolved.push((index, true)),
            other => return Err(Problem::bad_query("order", format!("unknown direction \"{other}\" of \"{member}\"; asc or desc"))),
        }
    }
    Ok(resolved)
}

#[cfg(test)]
mod tests;
