//! `anabranch infer`: looks at messages and proposes a `CREATE TABLE` and a first view.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::ExitCode,
    time::{Duration, Instant},
};

use anabranch_core::definition::{File, parse};
use anabranch_process::{Settings, failure::Refused};
use anyhow::Result;
use rdkafka::Message as _;
use serde_json::Value as Json;

use crate::topic::{From, TopicReader, reaches_end};

/// Messages looked at.
const SAMPLE: u64 = 1_000;
/// A topic that gives fewer within this time is looked at as it is.
const LIMIT: Duration = Duration::from_secs(10);
/// A text with at most so many different values is something to group by.
const FEW_VALUES: usize = 50;
/// Names that say when an event happened, the likeliest first.
const TIME_NAMES: [&str; 10] = ["event_time", "event_datetime", "timestamp", "ts", "time", "datetime", "created_at", "occurred_at", "at", "date"];
const STRFTIME: [&str; 3] = ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S%.f", "%Y/%m/%d %H:%M:%S"];

pub(crate) fn run(settings: &Settings, topic: &str) -> Result<ExitCode> {
    let reader = TopicReader::open(&settings.kafka, topic, From::Last(SAMPLE))?;
    let mut sample = Sample::default();
    let mut unfinished: BTreeSet<i32> = reader.ranges.iter().filter(|(_, range)| !range.is_empty()).map(|(partition, _)| partition.0).collect();
    let began = Instant::now();
    while !unfinished.is_empty() && began.elapsed() < LIMIT {
        let Some(message) = reader.next()? else { continue };
        sample.add(message.payload());
        if reaches_end(&reader.ranges, &message) {
            unfinished.remove(&message.partition());
        }
    }
    if sample.objects == 0 {
        let message = format!("topic \"{topic}\": of {} messages none is a JSON object; there is nothing to infer from", sample.messages);
        return Err(Refused(message).into());
    }
    print!("{}", sample.proposal(topic));
    Ok(ExitCode::SUCCESS)
}

/// What was seen of one member.
#[derive(Debug, Default)]
struct Member {
    present: u64,
    nulls: u64,
    booleans: u64,
    integers: u64,
    doubles: u64,
    texts: u64,
    others: u64,
    /// The smallest and the largest number.
    range: Option<(f64, f64)>,
    values: BTreeSet<String>,
    /// The time formats that every text so far has; nothing before the first.
    formats: Option<Vec<&'static str>>,
    numbers_in_texts: u64,
    all_dates: bool,
}

#[derive(Debug, Default)]
struct Sample {
    messages: u64,
    objects: u64,
    /// By path.
    members: BTreeMap<Vec<String>, Member>,
    /// The paths in the order of their appearance.
    order: Vec<Vec<String>>,
}

impl Sample {
    fn add(&mut self, value: Option<&[u8]>) {
        self.messages += 1;
        let Some(Json::Object(object)) = value.and_then(|value| serde_json::from_slice(value).ok()) else { return };
        self.objects += 1;
        self.walk(&[], &object);
    }

    fn walk(&mut self, path: &[String], object: &serde_json::Map<String, Json>) {
        for (name, value) in object {
            let path: Vec<String> = path.iter().cloned().chain([name.clone()]).collect();
            // A name that a path cannot spell is left to the person.
            if let Json::Object(inner) = value
                && !name.contains(['.', '[', ']', '*', '\''])
            {
                self.walk(&path, inner);
                continue;
            }
            if !self.members.contains_key(&path) {
                self.order.push(path.clone());
            }
            self.members.entry(path).or_default().add(value);
        }
    }

    fn proposal(&self, topic: &str) -> String {
        let quoted = self.text(topic, true);
        let plain = self.text(topic, false);
        let passes = |text: &str| parse(&[File { path: "infer.sql".to_owned(), text: text.to_owned() }]).is_ok();
        // Names that are words of SQL need quotes.
        if passes(&plain) { plain } else { quoted }
    }

    fn text(&self, topic: &str, quotes: bool) -> String {
        let name = |name: &str| if quotes { format!("\"{name}\"") } else { name.to_owned() };
        let table = identifier(topic, &BTreeSet::new());
        let mut taken = BTreeSet::new();
        let mut columns = Vec::new();
        let (mut times, mut keys, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
        for path in &self.order {
            let Some(member) = self.members.get(path) else { continue };
            if member.is_mixed() {
                left_out.push(format!("  -- {} is left out: {}", path.join("."), member.seen(self.objects)));
                continue;
            }
            let column = identifier(&path.join("_"), &taken);
            taken.insert(column.clone());
            let (data_type, format) = member.data_type(path);
            let mut options = Vec::new();
            if path.len() > 1 || path.first() != Some(&column) {
                options.push(format!("path = '$.{}'", path.join(".")));
            }
            options.extend(format.as_ref().map(|format| format!("timestamp_format = '{format}'")));
            let options = if options.is_empty() { String::new() } else { format!(" OPTIONS ({})", options.join(", ")) };
            let is_time = data_type == "TIMESTAMP";
            if is_time && member.nulls == 0 && member.present == self.objects {
                let rank = TIME_NAMES.iter().position(|known| column.ends_with(known)).unwrap_or(TIME_NAMES.len());
                times.push((rank, column.clone()));
            }
            if data_type == "TEXT" && (2..=FEW_VALUES).contains(&member.values.len()) && member.texts > 2 * member.values.len() as u64 {
                keys.push((member.values.len(), column.clone()));
            }
            columns.push((format!("  {} {data_type}{options}", name(&column)), member.seen(self.objects)));
        }
        times.sort();
        keys.sort();
        let event_time = times.first().map(|(_, column)| column.as_str());
        let mut lines = vec![format!(
            "-- Proposed from {} messages of topic {topic}, {} of them JSON objects. Look it over: what NULL may be, which columns you need.",
            self.messages, self.objects
        )];
        lines.push(format!("CREATE TABLE {} (", name(&table)));
        let last = columns.len().saturating_sub(1);
        lines.extend(columns.iter().enumerate().map(|(index, (column, seen))| format!("{column}{} -- {seen}", if index == last { "" } else { "," })));
        let event_time_option = event_time.map(|column| format!(", event_time = '{column}'")).unwrap_or_default();
        lines.extend(left_out);
        lines.push(format!(") WITH (connector = 'kafka', topic = '{topic}', format = 'json'{event_time_option});\n"));
        if event_time.is_none() {
            lines.push("-- No column says in every message when it happened: kafka_timestamp stands in.".to_owned());
        }
        let time = event_time.map_or_else(|| "kafka_timestamp".to_owned(), name);
        let group: Vec<String> = keys.iter().take(2).map(|(_, column)| name(column)).collect();
        let keys = group.iter().map(|column| format!("       {column},\n")).collect::<String>();
        let hour = identifier("hour", &taken);
        let positions: Vec<String> = (1..=group.len() + 1).map(|position| position.to_string()).collect();
        lines.push(format!(
            "CREATE MATERIALIZED VIEW {} AS\nSELECT date_trunc('hour', {time}) AS {hour},\n{keys}       count(*) AS events\nFROM {}\nGROUP BY {};\n",
            name(&identifier(&format!("{topic}_by_hour"), &BTreeSet::from([table.clone()]))),
            name(&table),
            positions.join(", ")
        ));
        lines.join("\n")
    }
}

impl Member {
    fn add(&mut self, value: &Json) {
        self.present += 1;
        match value {
            Json::Null => self.nulls += 1,
            Json::Bool(_) => self.booleans += 1,
            Json::Number(number) => {
                let value = number.as_f64().unwrap_or_default();
                if number.is_i64() || (value.fract() == 0.0 && value.abs() < 9e15) {
                    self.integers += 1
                } else {
                    self.doubles += 1
                }
                let (low, high) = self.range.unwrap_or((value, value));
                self.range = Some((low.min(value), high.max(value)));
            }
            Json::String(text) => self.add_text(text),
            Json::Array(_) | Json::Object(_) => self.others += 1,
        }
    }

    fn add_text(&mut self, text: &str) {
        self.texts += 1;
        if self.values.len() <= FEW_VALUES {
            self.values.insert(text.to_owned());
        }
        self.numbers_in_texts += u64::from(text.parse::<f64>().is_ok());
        let fits = |format: &&str| match *format {
            "rfc3339" => chrono::DateTime::parse_from_rfc3339(text).is_ok(),
            format => chrono::NaiveDateTime::parse_from_str(text, format).is_ok(),
        };
        let is_date = chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok();
        self.all_dates = is_date && (self.all_dates || self.formats.is_none());
        let formats = self.formats.take().unwrap_or_else(|| ["rfc3339"].into_iter().chain(STRFTIME).collect());
        self.formats = Some(formats.into_iter().filter(fits).collect());
    }

    /// Whether no type takes all its values.
    fn is_mixed(&self) -> bool {
        let kinds = [self.booleans, self.integers + self.doubles, self.texts].iter().filter(|count| **count > 0).count();
        kinds > 1 || self.others > 0
    }

    /// The narrowest type that all values have, and how its times are written.
    fn data_type(&self, path: &[String]) -> (&'static str, Option<String>) {
        if self.booleans > 0 {
            return ("BOOLEAN", None);
        }
        if self.texts > 0 {
            let format = self.formats.as_ref().and_then(|formats| formats.first());
            return match format {
                Some(format) => ("TIMESTAMP", (*format != "rfc3339").then(|| (*format).to_owned())),
                None if self.all_dates => ("DATE", None),
                None => ("TEXT", None),
            };
        }
        // Numbers that are times: by their size, and by a name that says so.
        let says_time = path.last().is_some_and(|name| {
            let name = name.to_lowercase();
            TIME_NAMES.iter().any(|known| name == *known || name.ends_with(&format!("_{known}"))) || ["registration", "epoch"].contains(&name.as_str())
        });
        let within = |low: f64, high: f64| self.range.is_some_and(|(least, most)| low <= least && most <= high);
        for (unit, format) in [(1e0, "epoch_s"), (1e3, "epoch_ms"), (1e6, "epoch_us")] {
            // 2001 to 2100.
            if says_time && within(1e9 * unit, 4.1e9 * unit) {
                return ("TIMESTAMP", Some(format.to_owned()));
            }
        }
        (if self.doubles > 0 { "DOUBLE" } else { "BIGINT" }, None)
    }

    /// What a person wants to know of it.
    fn seen(&self, objects: u64) -> String {
        let mut notes = Vec::new();
        let missing = objects - self.present;
        if missing > 0 {
            notes.push(format!("missing in {missing}"));
        }
        if self.nulls > 0 {
            notes.push(format!("null in {}", self.nulls));
        }
        if missing == 0 && self.nulls == 0 && !self.is_mixed() {
            notes.push("always there".to_owned());
        }
        let kinds = [
            (self.booleans, "booleans"),
            (self.integers, "integers"),
            (self.doubles, "fractions"),
            (self.texts, "strings"),
            (self.others, "arrays or objects"),
        ];
        let kinds: Vec<String> = kinds.iter().filter(|(count, _)| *count > 0).map(|(count, kind)| format!("{count} {kind}")).collect();
        if self.is_mixed() {
            notes.push(format!("{}, which no type takes", kinds.join(", ")));
        } else if self.texts > 0 && self.numbers_in_texts == self.texts {
            notes.push("strings that are numbers: lenient = 'true' reads them as such".to_owned());
        } else if self.texts > 0 && self.values.len() <= FEW_VALUES {
            notes.push(format!("{} different values", self.values.len()));
        }
        notes.join("; ")
    }
}

/// A name in SQL: small letters, digits and _, none that is taken.
fn identifier(text: &str, taken: &BTreeSet<String>) -> String {
    let mut name = String::new();
    for c in text.chars() {
        if c.is_ascii_uppercase() && name.chars().last().is_some_and(|last| last.is_ascii_lowercase() || last.is_ascii_digit()) {
            name.push('_');
        }
        name.push(if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' });
    }
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        name.insert_str(0, "c_");
    }
    name.truncate(60);
    let reserved = |name: &str| anabranch_core::definition::RESERVED_COLUMNS.contains(&name);
    let free = |name: &String| !taken.contains(name) && !reserved(name);
    if free(&name) {
        return name;
    }
    (2..).map(|number| format!("{name}_{number}")).find(free).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposal(messages: &[&str]) -> String {
        let mut sample = Sample::default();
        messages.iter().for_each(|message| sample.add(Some(message.as_bytes())));
        sample.proposal("shop-orders")
    }

    #[test]
    fn a_proposal_has_types_formats_paths_and_an_event_time_and_passes_check() {
        let text = proposal(&[
            r#"{"orderId": "1", "user": {"id": 5, "name": "a"}, "ts": 1541105830796, "paid": true, "price": 1.5, "day": "2026-01-31", "group": "x"}"#,
            r#"{"orderId": "2", "user": {"id": 6, "name": null}, "ts": 1541105830800, "paid": false, "price": 2, "day": "2026-02-01", "group": "x", "tags": [1]}"#,
            "not JSON",
        ]);
        insta::assert_snapshot!(text);
        parse(&[File { path: "infer.sql".into(), text }]).unwrap_or_else(|error| panic!("{error}"));
    }

    #[test]
    fn what_is_mixed_is_left_out_and_said_to_be() {
        let text = proposal(&[r#"{"a": 1, "1st": "2026-01-31 10:00:00"}"#, r#"{"a": "x", "1st": "2026-01-31 10:00:01"}"#]);
        assert!(text.contains("-- a is left out: 1 integers, 1 strings, which no type takes"), "{text}");
        assert!(text.contains("c_1st TIMESTAMP OPTIONS (path = '$.1st', timestamp_format = '%Y-%m-%d %H:%M:%S')"), "{text}");
        assert!(text.contains("event_time = 'c_1st'"), "{text}");
    }
}
