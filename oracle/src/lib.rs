//! The independent recount of the shipped views.
//!
//! It shares nothing with the program: it reads the topic with a consumer of its own, decodes with `serde_json`'s tree,
//! folds record by record into maps, and compares an answer cell by cell at the answer's own offsets. What the SQL of
//! `pipelines/` means is written down here a second time, by hand: [`server_status`], [`music`].
#![expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "JSON members, and a recount that is meant to be naive"
)]

use std::collections::BTreeMap;

use serde_json::Value as Json;

pub mod music;
pub mod server_status;
pub mod topic;

pub use server_status::{queries, queries_by_color};

/// Whose events a topic holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// `pipelines/server_status.sql`.
    ServerStatus,
    /// `pipelines/music.sql`.
    Music,
}

impl Domain {
    /// The topic of the pipeline.
    #[must_use]
    pub fn topic(self) -> &'static str {
        match self {
            Self::ServerStatus => "server-live-status",
            Self::Music => "music-events",
        }
    }

    /// The queries that ask for every cell of its views, by name.
    #[must_use]
    pub fn queries(self) -> Vec<(&'static str, Json)> {
        match self {
            Self::ServerStatus => server_status::queries(),
            Self::Music => music::queries(),
        }
    }

    /// Decodes a value by the rules of its definition.
    ///
    /// # Errors
    /// The reason of the rejection.
    pub fn decode(self, value: Option<&[u8]>) -> Result<Event, String> {
        let value = value.ok_or("tombstone")?;
        let text = std::str::from_utf8(value).map_err(|_| "not UTF-8")?;
        let json: Json = serde_json::from_str(text).map_err(|_| "not JSON")?;
        let object = json.as_object().ok_or("not an object")?;
        match self {
            Self::ServerStatus => server_status::decode(object).map(Event::ServerStatus),
            Self::Music => music::decode(object).map(Event::Music),
        }
    }
}

/// What a record says.
#[derive(Clone, Debug)]
pub enum Event {
    /// Of a server.
    ServerStatus(server_status::Event),
    /// Of a listener.
    Music(music::Event),
}

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

/// The offsets that an answer states.
#[must_use]
pub fn offsets(answer: &Json) -> BTreeMap<i32, i64> {
    let topics = answer["lambda"]["offsets"].as_object().into_iter().flatten();
    topics
        .flat_map(|(_, partitions)| partitions.as_object().into_iter().flatten())
        .filter_map(|(partition, offset)| Some((partition.parse().ok()?, offset.as_i64()?)))
        .collect()
}

/// The members of a JSON object as columns, by the rules of the definitions.
pub(crate) struct Members<'a>(pub(crate) &'a serde_json::Map<String, Json>);

impl Members<'_> {
    pub(crate) fn text(&self, name: &str, column: &str) -> Result<Option<String>, String> {
        match self.0.get(name) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::String(text)) if text.contains('\0') => Err(format!("U+0000: {column}")),
            Some(Json::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(format!("wrong type: {column}")),
        }
    }

    pub(crate) fn bigint(&self, name: &str, column: &str) -> Result<Option<i64>, String> {
        match self.0.get(name) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::Number(number)) => match (number.as_i64(), number.as_f64()) {
                (Some(integer), _) => Ok(Some(integer)),
                (None, Some(float)) if float.fract() != 0.0 => Err(format!("wrong type: {column}")),
                (None, Some(float)) if float.abs() <= 9_007_199_254_740_992.0 => Ok(Some(float as i64)),
                _ => Err(format!("out of range: {column}")),
            },
            Some(_) => Err(format!("wrong type: {column}")),
        }
    }

    pub(crate) fn double(&self, name: &str, column: &str) -> Result<Option<f64>, String> {
        match self.0.get(name) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::Number(number)) => Ok(number.as_f64()),
            Some(_) => Err(format!("wrong type: {column}")),
        }
    }

    /// Milliseconds since 1970, as a number; in microseconds.
    pub(crate) fn epoch_ms(&self, name: &str, column: &str) -> Result<Option<i64>, String> {
        match self.0.get(name) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::Number(number)) => match (number.as_i64(), number.as_f64()) {
                (Some(integer), _) => Ok(Some(integer * 1000)),
                (None, Some(float)) => Ok(Some((float * 1000.0).round_ties_even() as i64)),
                _ => Err(format!("not a time: {column}")),
            },
            Some(_) => Err(format!("not a time: {column}")),
        }
    }
}

/// Recounts all records below the answer's offsets and compares every cell of the answer.
#[must_use]
pub fn compare(view: &str, answer: &Json, records: &[Record]) -> Verdict {
    let offsets = offsets(answer);
    let below: Vec<&Record> = records.iter().filter(|record| offsets.get(&record.partition).is_some_and(|end| record.offset < *end)).collect();
    let below = server_status::of_wanted_color(answer, below);
    let (keys, expected): (&[&str], _) = match view {
        _ if view.ends_with("_rejected") => (&["hour", "reason"], rejected(&below)),
        _ => server_status::recount(view, &below).or_else(|| music::recount(view, &below)).unwrap_or_default(),
    };
    let mut verdict = Verdict { records: below.len(), ..Verdict::default() };
    let mut rest = expected;
    for row in answer["data"].as_array().into_iter().flatten() {
        let cell = |name: &str| row[format!("{view}.{name}")].clone();
        let key = Json::Array(keys.iter().map(|name| cell(name)).collect()).to_string();
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

/// What a cell may be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expected {
    Exactly(Json),
    Near { value: f64, relative: f64, absolute: f64 },
}

impl Expected {
    pub(crate) fn allows(&self, found: &Json) -> bool {
        match self {
            Self::Exactly(value) => value == found || value.as_f64().is_some_and(|value| found.as_f64() == Some(value)),
            Self::Near { value, relative, absolute } => found.as_f64().is_some_and(|found| (found - value).abs() <= relative * value.abs() + absolute),
        }
    }
}

/// The cells of a group, by column.
pub(crate) type Cells = Vec<(&'static str, Expected)>;

pub(crate) fn time(seconds: i64, unit: i64) -> Json {
    let start = seconds - seconds.rem_euclid(unit);
    chrono::DateTime::from_timestamp(start, 0).map_or(Json::Null, |time| time.format("%Y-%m-%dT%H:%M:%S.000").to_string().into())
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
