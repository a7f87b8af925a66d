//! A query in the vocabulary of Cube's REST API, resolved against one view.

use anabranch_core::definition::{DataType, Expr, Granularity, View, error::nearest};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use utoipa::ToSchema;

pub use self::{
    filter::{Condition, Conditions, Subject},
    order::Order,
    range::{Clock, shown},
};
pub use crate::problem::Problem;

mod filter;
mod order;
mod range;

/// Rows of an answer without a limit.
pub const DEFAULT_LIMIT: usize = 10_000;
/// Ranges of one comparison.
const MOST_COMPARED: usize = 16;
/// The largest limit.
pub const MAXIMUM_LIMIT: usize = 50_000;

/// A query as it is sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Query {
    /// Members to compute.
    pub measures: Vec<String>,
    /// Members to group by.
    pub dimensions: Vec<String>,
    /// At most one: the view's time bucket.
    pub time_dimensions: Vec<TimeDimension>,
    /// Conditions that the view's definition names.
    pub segments: Vec<String>,
    /// All must hold: `{"member", "operator", "values"}`, or `{"or": […]}`, `{"and": […]}`.
    #[schema(value_type = Vec<Object>)]
    pub filters: Vec<Json>,
    /// `{"member": "asc"}` or `[["member", "desc"]]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<(String, String)>>)]
    pub order: Option<Order>,
    /// At most [`MAXIMUM_LIMIT`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Rows that are left out at the beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<usize>,
    /// Whether the answer says how many rows there are without limit and offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<bool>,
    /// An IANA zone; UTC without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// Of a row view: one row of the answer for each record, also where the columns asked for are equal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ungrouped: Option<bool>,
}

/// A time dimension of a query.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TimeDimension {
    /// The member.
    pub dimension: String,
    /// To group by it; without one it only filters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granularity: Option<String>,
    /// A day, first and last moment, both included, or words: "last 7 days".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date_range: Option<DateRange>,
    /// Several ranges, each with an answer of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compare_date_range: Option<Vec<DateRange>>,
}

/// A range of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum DateRange {
    /// One day, or words.
    Day(String),
    /// Both ends included.
    Pair(Vec<String>),
}

impl DateRange {
    fn texts(&self) -> Vec<&str> {
        match self {
            Self::Day(text) => vec![text],
            Self::Pair(texts) => texts.iter().map(String::as_str).collect(),
        }
    }
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

/// A query that was checked against its view.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The columns: dimensions, time, measures.
    pub columns: Vec<Column>,
    /// What must hold of rows, and of groups.
    pub conditions: Conditions,
    /// Conditions of the definition over the columns of a row.
    pub segments: Vec<Expr>,
    /// First and last microsecond of the buckets' starts, both included.
    pub range_micros: Option<(i64, i64)>,
    /// Index of a column, and whether it descends.
    pub order: Vec<(usize, bool)>,
    /// Rows at most.
    pub limit: usize,
    /// Rows left out at the beginning.
    pub offset: usize,
    /// Whether all rows are counted.
    pub total: bool,
    /// The zone in which times are truncated and shown.
    pub zone: Tz,
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
    let members = query.measures.iter().chain(&query.dimensions).chain(times).chain(&query.segments);
    let mut filtered = Vec::new();
    query.filters.iter().for_each(|filter| members_of(filter, &mut filtered));
    let members = members.map(String::as_str).chain(filtered);
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

/// The members that a filter names; how it is built is checked later.
fn members_of<'a>(filter: &'a Json, members: &mut Vec<&'a str>) {
    for key in ["member", "dimension"] {
        members.extend(filter.get(key).and_then(Json::as_str));
    }
    for key in ["and", "or"] {
        filter.get(key).and_then(Json::as_array).into_iter().flatten().for_each(|filter| members_of(filter, members));
    }
}

/// The queries of `compareDateRange`, one for each range; nothing for a query without it.
///
/// # Errors
/// A [`Problem`] when it stands beside a `dateRange`, or for more than one time dimension.
pub fn compared(query: &Query) -> Result<Option<Vec<Query>>, Problem> {
    let Some(ranges) = query.time_dimensions.iter().find_map(|time| time.compare_date_range.clone()) else { return Ok(None) };
    let [time] = query.time_dimensions.as_slice() else {
        return Err(Problem::bad_query("compare_date_range", "compareDateRange goes with one time dimension"));
    };
    if time.date_range.is_some() || ranges.is_empty() || ranges.len() > MOST_COMPARED {
        return Err(Problem::bad_query("compare_date_range", format!("compareDateRange has 1 to {MOST_COMPARED} ranges, and no dateRange beside it")));
    }
    let one = |range: DateRange| {
        let time = TimeDimension { date_range: Some(range), compare_date_range: None, ..time.clone() };
        Query { time_dimensions: vec![time], ..query.clone() }
    };
    Ok(Some(ranges.into_iter().map(one).collect()))
}

/// Checks a query against its view; relative times count from `now_ms`.
///
/// # Errors
/// A [`Problem`] that names the member, operator or value and what is allowed.
pub fn resolve(view: &View, query: &Query, now_ms: i64) -> Result<Resolved, Problem> {
    let zone = match &query.timezone {
        None => Tz::UTC,
        Some(name) => name.parse().map_err(|_| {
            let names = chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
            Problem::bad_query("unknown_timezone", format!("unknown timezone \"{name}\"; {}", nearest(name, names)).trim_end_matches("; "))
        })?,
    };
    let clock = Clock { now_ms, zone };
    range::zone_fits(view, &clock)?;
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
    let (time, range_micros, echo_times) = time_dimension(view, query, &clock)?;
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
    let conditions = filter::conditions(view, &query.filters, &clock)?;
    if ungrouped && !conditions.groups.is_empty() {
        return Err(Problem::bad_query("ungrouped", "rows that are not grouped have no measures to filter by"));
    }
    let segments = query.segments.iter().map(|segment| named_segment(view, segment)).collect::<Result<Vec<_>, _>>()?;
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if limit > MAXIMUM_LIMIT {
        return Err(Problem::bad_query("limit", format!("limit {limit} is above the maximum of {MAXIMUM_LIMIT}")));
    }
    let order = order::resolve(query.order.as_ref(), &columns)?;
    let named = |(index, descends): &(usize, bool)| Some((columns.get(*index)?.name(), if *descends { "desc" } else { "asc" }.to_owned()));
    let named = order.iter().filter_map(named).collect();
    let echo = Query { order: Some(Order(named)), limit: Some(limit), timezone: Some(zone.name().to_owned()), time_dimensions: echo_times, ..query.clone() };
    let (offset, total) = (query.offset.unwrap_or(0), query.total.unwrap_or(false));
    Ok(Resolved { columns, conditions, segments, range_micros, order, limit, offset, total, zone, ungrouped, echo })
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

fn time_dimension(view: &View, query: &Query, clock: &Clock) -> Result<ResolvedTime, Problem> {
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
    let range = time.date_range.as_ref().map(|range| range::resolve(&range.texts(), clock)).transpose()?;
    let echo = TimeDimension { date_range: range.map(|(start, end)| DateRange::Pair(vec![clock.shown(start), clock.shown(end)])), ..time.clone() };
    Ok((column, range, vec![echo]))
}

/// A segment of the view, by its name.
fn named_segment(view: &View, name: &str) -> Result<Expr, Problem> {
    let names: Vec<String> = view.segments.keys().map(|segment| format!("{}.{segment}", view.name)).collect();
    let segment = name.strip_prefix(&view.name).and_then(|rest| rest.strip_prefix('.')).and_then(|rest| view.segments.get(rest));
    segment.map(|segment| segment.condition.clone()).ok_or_else(|| unknown("segment", name, &names))
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
