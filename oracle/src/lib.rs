//! The independent recount of the server-status views.
//!
//! It shares nothing with the program: it reads the topic with a consumer of its own, decodes with `serde_json`'s tree,
//! folds record by record into maps, and compares an answer cell by cell at the answer's own offsets. What the SQL of
//! `pipelines/server_status.sql` means is written down here a second time, by hand.
#![expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "JSON members, and a recount that is meant to be naive"
)]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

pub mod topic;

/// A record of the topic.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Kafka's timestamp in milliseconds.
    pub timestamp_ms: i64,
    /// What it says, or why it says nothing.
    pub event: Result<Event, String>,
}

/// The fields that the views use.
#[derive(Clone, Debug)]
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

/// Decodes a value by the rules of the definition; the error is the reason of the rejection.
///
/// # Errors
/// The reason.
pub fn decode(value: Option<&[u8]>) -> Result<Event, String> {
    let value = value.ok_or("tombstone")?;
    let text = std::str::from_utf8(value).map_err(|_| "not UTF-8")?;
    let json: Json = serde_json::from_str(text).map_err(|_| "not JSON")?;
    let object = json.as_object().ok_or("not an object")?;
    // The columns are looked at in the order of the definition: the first that is wrong is the reason.
    let text_of = |name: &str| match object.get(name) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::String(text)) if text.contains('\0') => Err(format!("U+0000: {name}")),
        Some(Json::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(format!("wrong type: {name}")),
    };
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
    let minutes = match object.get(name) {
        None | Some(Json::Null) => None,
        Some(Json::Number(number)) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => Some(integer),
            (None, Some(float)) if float.fract() != 0.0 => return Err(format!("wrong type: {name}")),
            (None, Some(float)) if float.abs() <= 9_007_199_254_740_992.0 => Some(float as i64),
            _ => return Err(format!("out of range: {name}")),
        },
        Some(_) => return Err(format!("wrong type: {name}")),
    };
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

/// What was compared, and the first cell that is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Records below the answers' offsets.
    pub records: usize,
    /// Cells compared.
    pub cells: usize,
    /// The first wrong cell: where, what the answer says, what the recount says.
    pub wrong: Option<String>,
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

/// The offsets that an answer states.
#[must_use]
pub fn offsets(answer: &Json) -> BTreeMap<i32, i64> {
    let topics = answer["lambda"]["offsets"].as_object().into_iter().flatten();
    topics
        .flat_map(|(_, partitions)| partitions.as_object().into_iter().flatten())
        .filter_map(|(partition, offset)| Some((partition.parse().ok()?, offset.as_i64()?)))
        .collect()
}

/// Recounts all records below the answer's offsets and compares every cell of the answer.
#[must_use]
pub fn compare(view: &str, answer: &Json, records: &[Record]) -> Verdict {
    let offsets = offsets(answer);
    let below: Vec<&Record> = records.iter().filter(|record| offsets.get(&record.partition).is_some_and(|end| record.offset < *end)).collect();
    let color = wanted_color(answer);
    let below: Vec<&Record> = match &color {
        Some(color) => below.into_iter().filter(|record| record.event.as_ref().is_ok_and(|event| event.color == *color)).collect(),
        None => below,
    };
    let expected = match view {
        "status_by_city" => by_city(&below),
        "status_by_server_type" => by_server_type(&below),
        _ => rejected(&below),
    };
    let mut verdict = Verdict { records: below.len(), ..Verdict::default() };
    let mut rest = expected;
    for row in answer["data"].as_array().into_iter().flatten() {
        let cell = |name: &str| row[format!("{view}.{name}")].clone();
        let key = Json::Array(key_names(view).iter().map(|name| cell(name)).collect()).to_string();
        let Some(expected) = rest.remove(&key) else {
            verdict.wrong.get_or_insert(format!("{view} {key}: a group that the recount does not have, or twice"));
            continue;
        };
        for (name, expected) in expected {
            verdict.cells += 1;
            let found = cell(name);
            if !expected.allows(&found) {
                verdict.wrong.get_or_insert(format!("{view} {key}: {name} is {found}, recounted {expected:?}"));
            }
        }
    }
    if let Some(key) = rest.keys().next() {
        verdict.wrong.get_or_insert(format!("{view} {key}: the answer lacks this group"));
    }
    verdict
}

/// The status colour that the query asks for, if it asks for one.
fn wanted_color(answer: &Json) -> Option<String> {
    let filter = answer["query"]["filters"].as_array()?.first()?;
    (filter["member"] == "status_by_city.status_color").then(|| filter["values"][0].as_str().map(str::to_owned))?
}

fn key_names(view: &str) -> &'static [&'static str] {
    match view {
        "status_by_city" => &["minute", "country_code", "country", "city", "status_color", "severity"],
        "status_by_server_type" => &["hour", "server_type"],
        _ => &["hour", "reason"],
    }
}

/// What a cell may be.
#[derive(Clone, Debug, PartialEq)]
enum Expected {
    Exactly(Json),
    Near { value: f64, relative: f64, absolute: f64 },
}

impl Expected {
    fn allows(&self, found: &Json) -> bool {
        match self {
            Self::Exactly(value) => value == found || value.as_f64().is_some_and(|value| found.as_f64() == Some(value)),
            Self::Near { value, relative, absolute } => found.as_f64().is_some_and(|found| (found - value).abs() <= relative * value.abs() + absolute),
        }
    }
}

type Cells = Vec<(&'static str, Expected)>;

fn time(seconds: i64, unit: i64) -> Json {
    let start = seconds - seconds.rem_euclid(unit);
    chrono::DateTime::from_timestamp(start, 0).map_or(Json::Null, |time| time.format("%Y-%m-%dT%H:%M:%S.000").to_string().into())
}

fn by_city(records: &[&Record]) -> BTreeMap<String, Cells> {
    let mut groups: BTreeMap<String, (i64, Vec<i64>)> = BTreeMap::new();
    for event in records.iter().filter_map(|record| record.event.as_ref().ok()) {
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
        let Ok(event) = &record.event else { continue };
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

fn rejected(records: &[&Record]) -> BTreeMap<String, Cells> {
    let mut groups: BTreeMap<String, i64> = BTreeMap::new();
    for record in records {
        if let Err(reason) = &record.event {
            *groups.entry(serde_json::json!([time(record.timestamp_ms.div_euclid(1000), 3600), reason]).to_string()).or_default() += 1;
        }
    }
    groups.into_iter().map(|(key, count)| (key, vec![("records", Expected::Exactly(count.into()))])).collect()
}
