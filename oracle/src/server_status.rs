//! What `pipelines/server_status.sql` means.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use crate::{Cells, Expected, Members, Record, time};

/// The fields that the views use.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Event {
    id: String,
    seconds: i64,
    color: String,
    severity: String,
    server_type: Option<String>,
    country_code: Option<String>,
    country: Option<String>,
    city: Option<String>,
    minutes: Option<i64>,
}

const TEXTS: [&str; 14] = [
    "event_server_type",
    "event_country_code",
    "event_country_name",
    "event_city_name",
    "event_server_status_other_param_1",
    "event_server_status_other_param_2",
    "event_server_status_other_param_3",
    "event_server_status_other_param_4",
    "event_server_status_other_param_5",
    "event_server_config_other_param_1",
    "event_server_config_other_param_2",
    "event_server_config_other_param_3",
    "event_server_config_other_param_4",
    "event_server_config_other_param_5",
];

/// Decodes an object; the error is the reason of the rejection.
pub(crate) fn decode(object: &serde_json::Map<String, Json>) -> Result<Event, String> {
    // The columns are looked at in the order of the definition: the first that is wrong is the reason.
    let members = Members(object);
    let text_of = |name: &str| members.text(name, name);
    let required = |name: &str| text_of(name)?.ok_or_else(|| format!("missing: {name}"));
    let id = required("event_id")?;
    let status = required("event_server_status_color_name_severity_level")?;
    let time = required("event_datetime")?;
    let time = chrono::NaiveDateTime::parse_from_str(&time, "%Y-%m-%d %H:%M:%S").map_err(|_| "not a time: event_datetime")?;
    let mut texts = BTreeMap::new();
    for name in TEXTS.iter().take(4) {
        texts.insert(*name, text_of(name)?);
    }
    let name = "event_estimated_issue_resolution_time";
    let minutes = members.bigint(name, name)?;
    for name in TEXTS.iter().skip(4) {
        text_of(name)?;
    }
    let mut halves = status.split('|');
    let mut take = |name: &str| texts.remove(name).flatten();
    Ok(Event {
        id,
        seconds: time.and_utc().timestamp(),
        color: halves.next().unwrap_or("").to_owned(),
        severity: halves.next().unwrap_or("").to_owned(),
        server_type: take("event_server_type"),
        country_code: take("event_country_code"),
        country: take("event_country_name"),
        city: take("event_city_name"),
        minutes,
    })
}

/// The queries that ask for every cell of the three views, by name.
#[must_use]
pub fn queries() -> Vec<(&'static str, Json)> {
    let member = |view: &str, names: &[&str]| names.iter().map(|name| format!("{view}.{name}")).collect::<Vec<_>>();
    vec![
        (
            "status_by_city",
            serde_json::json!({
                "dimensions": member("status_by_city", &["minute", "country_code", "country", "city", "status_color", "severity"]),
                "measures": member("status_by_city", &["messages", "resolution_time", "min_resolution_time", "max_resolution_time", "avg_resolution_time"]),
                "limit": 50_000,
            }),
        ),
        (
            "status_by_server_type",
            serde_json::json!({
                "dimensions": member("status_by_server_type", &["hour", "server_type"]),
                "measures": member("status_by_server_type", &["messages", "distinct_events", "p95_resolution_time", "latest_status"]),
                "limit": 50_000,
            }),
        ),
        (
            "server_status_rejected",
            serde_json::json!({
                "dimensions": member("server_status_rejected", &["hour", "reason"]),
                "measures": member("server_status_rejected", &["records"]),
                "limit": 50_000,
            }),
        ),
    ]
}

/// The same queries for long histories: an answer has at most 50,000 rows, so the largest view is asked for by colour.
#[must_use]
pub fn queries_by_color() -> Vec<(&'static str, Json)> {
    let mut queries = queries();
    let (view, by_city) = queries.remove(0);
    for color in ["Red", "Orange", "Green"] {
        let mut query = by_city.clone();
        query["filters"] = serde_json::json!([{"member": "status_by_city.status_color", "operator": "equals", "values": [color]}]);
        queries.push((view, query));
    }
    queries
}

/// The status colour that the query asks for, if it asks for one.
fn wanted_color(answer: &Json) -> Option<String> {
    let filter = answer["query"]["filters"].as_array()?.first()?;
    (filter["member"] == "status_by_city.status_color").then(|| filter["values"][0].as_str().map(str::to_owned))?
}

/// The records that a query for one colour speaks of.
pub(crate) fn of_wanted_color<'a>(answer: &Json, records: Vec<&'a Record>) -> Vec<&'a Record> {
    match wanted_color(answer) {
        Some(color) => records.into_iter().filter(|record| of(record).is_some_and(|event| event.color == color)).collect(),
        None => records,
    }
}

fn of(record: &Record) -> Option<&Event> {
    if let Ok(super::Event::ServerStatus(event)) = &record.event { Some(event) } else { None }
}

/// The groups of a view with their cells, and the names of its keys; nothing for a view of another pipeline.
pub(crate) fn recount(view: &str, records: &[&Record]) -> Option<(&'static [&'static str], BTreeMap<String, Cells>)> {
    match view {
        "status_by_city" => Some((&["minute", "country_code", "country", "city", "status_color", "severity"], by_city(records))),
        "status_by_server_type" => Some((&["hour", "server_type"], by_server_type(records))),
        _ => None,
    }
}

fn by_city(records: &[&Record]) -> BTreeMap<String, Cells> {
    let mut groups: BTreeMap<String, (i64, Vec<i64>)> = BTreeMap::new();
    for event in records.iter().filter_map(|record| of(record)) {
        let key = serde_json::json!([time(event.seconds, 60), event.country_code, event.country, event.city, event.color, event.severity]);
        let group = groups.entry(key.to_string()).or_default();
        group.0 += 1;
        group.1.extend(event.minutes);
    }
    let cells = |(count, minutes): (i64, Vec<i64>)| {
        let total: i64 = minutes.iter().sum();
        let or_null = |value: Option<Json>| Expected::Exactly(value.unwrap_or(Json::Null));
        vec![
            ("messages", Expected::Exactly(count.into())),
            ("resolution_time", or_null((!minutes.is_empty()).then(|| total.into()))),
            ("min_resolution_time", or_null(minutes.iter().min().map(|value| (*value).into()))),
            ("max_resolution_time", or_null(minutes.iter().max().map(|value| (*value).into()))),
            ("avg_resolution_time", or_null((!minutes.is_empty()).then(|| (total as f64 / minutes.len() as f64).into()))),
        ]
    };
    groups.into_iter().map(|(key, group)| (key, cells(group))).collect()
}

#[derive(Default)]
struct ByType<'a> {
    count: i64,
    ids: BTreeSet<&'a str>,
    minutes: Vec<i64>,
    last: Option<((i64, i32, i64), &'a str)>,
}

fn by_server_type(records: &[&Record]) -> BTreeMap<String, Cells> {
    let mut groups: BTreeMap<String, ByType<'_>> = BTreeMap::new();
    for record in records {
        let Some(event) = of(record) else { continue };
        let group = groups.entry(serde_json::json!([time(event.seconds, 3600), event.server_type]).to_string()).or_default();
        group.count += 1;
        group.ids.insert(&event.id);
        group.minutes.extend(event.minutes);
        let position = (event.seconds, record.partition, record.offset);
        if group.last.as_ref().is_none_or(|(last, _)| position > *last) {
            group.last = Some((position, &event.color));
        }
    }
    let cells = |mut group: ByType<'_>| {
        group.minutes.sort_unstable();
        let rank = (0.95 * group.minutes.len().saturating_sub(1) as f64).round() as usize;
        let p95 = match group.minutes.get(rank) {
            // The documented bound: 1 %.
            Some(value) => Expected::Near { value: *value as f64, relative: 0.0101, absolute: 0.0 },
            None => Expected::Exactly(Json::Null),
        };
        vec![
            ("messages", Expected::Exactly(group.count.into())),
            // Five standard errors of 1.6 %, and one for rounding.
            ("distinct_events", Expected::Near { value: group.ids.len() as f64, relative: 0.0813, absolute: 1.0 }),
            ("p95_resolution_time", p95),
            ("latest_status", Expected::Exactly(group.last.map_or(Json::Null, |(_, color)| color.into()))),
        ]
    };
    groups.into_iter().map(|(key, group)| (key, cells(group))).collect()
}
