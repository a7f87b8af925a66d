//! The live status of data-centre servers, as events of the topic `server-live-status`.
//!
//! Event k happens at start + k / rate; a late one says an earlier time, by an exponential delay of ten minutes in the
//! mean and a day at most.
#![expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "members of JSON objects made here, indexes drawn within their bounds, times far from the limits"
)]

use chrono::{DateTime, Utc};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::{Event, places::PLACES};

/// The topic, by default.
pub const TOPIC: &str = "server-live-status";
const MEAN_DELAY_SECONDS: f64 = 600.0;
const LONGEST_DELAY_SECONDS: f64 = 86_400.0;
/// Event time advances at this rate when events are produced as fast as possible.
const NOMINAL_RATE: f64 = 1_000.0;
const SERVER_TYPES: [&str; 13] = [
    "Application",
    "Client",
    "Collaboration",
    "FTP",
    "List",
    "Mail",
    "Open Source",
    "Proxy",
    "Real-Time Communication Servers",
    "Server Platforms",
    "Telnet",
    "Virtual",
    "Web Servers",
];
const STATUSES: [&str; 3] = ["Red|Severity 1", "Orange|Severity 2", "Green|Severity 3"];

/// What is generated.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Events a second; 0 = as fast as possible.
    pub rate: f64,
    /// The seed.
    pub seed: u64,
    /// The time of the first event.
    pub start: DateTime<Utc>,
    /// How many; none = until stopped.
    pub count: Option<u64>,
    /// The share of late events.
    pub late: f64,
    /// The share of values that cannot be decoded.
    pub malformed: f64,
}

/// The events one after the other.
#[derive(Debug)]
pub struct Events {
    options: Options,
    random: ChaCha8Rng,
    next: u64,
}

impl Events {
    /// From the first one.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { random: ChaCha8Rng::seed_from_u64(options.seed), options, next: 0 }
    }

    fn rate(&self) -> f64 {
        if self.options.rate > 0.0 { self.options.rate } else { NOMINAL_RATE }
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        if self.options.count.is_some_and(|count| self.next >= count) {
            return None;
        }
        let number = self.next;
        self.next += 1;
        let micros = (number as f64 / self.rate() * 1e6) as i64;
        // Every event draws the same numbers, so that shares change nothing but what they name.
        let (late, malformed, delay): (f64, f64, f64) = (self.random.random(), self.random.random(), self.random.random());
        let place = PLACES[self.random.random_range(0..PLACES.len())];
        let status = STATUSES[self.random.random_range(0..STATUSES.len())];
        let server_type = SERVER_TYPES[self.random.random_range(0..SERVER_TYPES.len())];
        let minutes: i64 = self.random.random_range(2..=10);
        let identifier: u128 = self.random.random();
        let mut time = self.options.start + chrono::Duration::microseconds(micros);
        if late < self.options.late {
            let seconds = (-MEAN_DELAY_SECONDS * (1.0 - delay).ln()).min(LONGEST_DELAY_SECONDS);
            time -= chrono::Duration::seconds(seconds as i64);
        }
        let event = json!({
            "event_id": uuid_text(identifier),
            "event_server_status_color_name_severity_level": status,
            "event_datetime": time.format("%Y-%m-%d %H:%M:%S").to_string(),
            "event_server_type": server_type,
            "event_country_code": place.0,
            "event_country_name": place.1,
            "event_city_name": place.2,
            "event_estimated_issue_resolution_time": minutes,
            "event_server_status_other_param_1": "", "event_server_status_other_param_2": "", "event_server_status_other_param_3": "",
            "event_server_status_other_param_4": "", "event_server_status_other_param_5": "",
            "event_server_config_other_param_1": "", "event_server_config_other_param_2": "", "event_server_config_other_param_3": "",
            "event_server_config_other_param_4": "", "event_server_config_other_param_5": "",
        });
        let value = if malformed < self.options.malformed { break_event(&event, number) } else { event.to_string().into_bytes() };
        Some(Event { key: None, value })
    }
}

fn uuid_text(bits: u128) -> String {
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[0..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32])
}

/// The ways in which producers go wrong, in turn.
fn break_event(event: &serde_json::Value, number: u64) -> Vec<u8> {
    let mut event = event.clone();
    match number % 5 {
        0 => return event.to_string().into_bytes().into_iter().take(100).collect(),
        1 => event["event_estimated_issue_resolution_time"] = json!("5"),
        2 => event["event_datetime"] = json!("yesterday"),
        3 => event["event_id"] = json!(null),
        _ => return b"[1, 2, 3]".to_vec(),
    }
    event.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options { rate: 100.0, seed: 7, start: DateTime::from_timestamp(1_700_000_000, 0).unwrap(), count: Some(2_000), late: 0.1, malformed: 0.01 }
    }

    #[test]
    fn the_same_seed_and_start_give_the_same_bytes() {
        let first: Vec<Event> = Events::new(options()).collect();
        assert_eq!(first, Events::new(options()).collect::<Vec<_>>());
        assert_ne!(first, Events::new(Options { seed: 8, ..options() }).collect::<Vec<_>>());
        assert_eq!(first.len(), 2_000);
    }

    #[test]
    fn an_event_has_the_eighteen_fields() {
        let event = Events::new(Options { malformed: 0.0, ..options() }).next().unwrap();
        let event: serde_json::Value = serde_json::from_slice(&event.value).unwrap();
        assert_eq!(event.as_object().unwrap().len(), 18);
    }

    #[test]
    fn the_shares_are_what_was_asked_for() {
        let mut late = 0;
        let mut malformed = 0;
        let start = options().start;
        for (number, event) in (0i64..).zip(Events::new(options())) {
            match serde_json::from_slice::<serde_json::Value>(&event.value).ok().and_then(|event| Some(event["event_datetime"].as_str()?.to_owned())) {
                Some(time) => match chrono::NaiveDateTime::parse_from_str(&time, "%Y-%m-%d %H:%M:%S") {
                    Ok(time) => late += i64::from(time.and_utc() < start + chrono::Duration::seconds(number / 100 - 1)),
                    Err(_) => malformed += 1,
                },
                None => malformed += 1,
            }
        }
        assert!((150..250).contains(&late), "{late}");
        assert!((5..40).contains(&malformed), "{malformed}");
    }
}
