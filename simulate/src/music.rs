//! A music-streaming app, as events of the topic `music-events` in the manner of eventsim.
//!
//! ```text
//!             ┌──────────────► NextSong ◄─► Thumbs Up, Add to Playlist, Roll Advert, …
//!  Home ──────┤                    │
//!  (a session)└► Upgrade ─► Submit Upgrade ─► paid    Downgrade ─► Submit Downgrade ─► free
//!                                  └──► Logout, or silence ─► days later the next session; or Cancellation Confirmation
//! ```
//!
//! Users come back after log-normal gaps, by day more than by night, at weekends more than on working days; some come new
//! each day, some leave for good. Songs are played by rank, as Zipf has it.
#![expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "members of JSON objects made here, indexes drawn within their bounds, times far from the limits"
)]

use std::{cmp::Reverse, collections::BinaryHeap};

use chrono::{DateTime, Datelike, Timelike, Utc};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value as Json, json};

use self::{
    catalogue::Song,
    words::{AGENTS, CITIES, FIRST_NAMES, LAST_NAMES},
};
use crate::Event;

pub mod catalogue;
mod words;

/// The topic, by default.
pub const TOPIC: &str = "music-events";
/// The seed of the songs that ship with the pipeline.
pub const SEED: u64 = 7;
/// Songs of the catalogue, by default.
pub const SONGS: usize = 500;

const SECOND: i64 = 1_000;
const MINUTE: f64 = 60_000.0;
const DAY: f64 = 86_400_000.0;
const MEAN_DELAY: f64 = 10.0 * MINUTE;
/// A user is back after this long, in the median.
const BETWEEN_SESSIONS: f64 = 1.2 * DAY;
/// New users a day, as a share of those there are.
const GROWTH: f64 = 0.01;

/// What is generated.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The seed, also of the songs.
    pub seed: u64,
    /// The time at which the app opens.
    pub start: DateTime<Utc>,
    /// Users at the start.
    pub users: usize,
    /// How many events; none = until stopped.
    pub count: Option<u64>,
    /// Songs of the catalogue.
    pub songs: usize,
    /// The share of plays whose song the catalogue has.
    pub known: f64,
    /// The share of events that say an earlier time, by an exponential delay of ten minutes in the mean.
    pub late: f64,
    /// The share of values that cannot be decoded.
    pub malformed: f64,
}

/// What a page leads to, with weights; the last entry ends the session.
const AFTER_SONG: [(&str, u32); 12] = [
    ("NextSong", 780),
    ("Thumbs Up", 50),
    ("Thumbs Down", 10),
    ("Add to Playlist", 30),
    ("Add Friend", 18),
    ("Roll Advert", 22),
    ("Home", 35),
    ("Settings", 8),
    ("Help", 6),
    ("Error", 2),
    ("Logout", 15),
    ("", 24),
];
const ELSEWHERE: [(&str, u32); 7] = [("NextSong", 800), ("Home", 30), ("Upgrade", 40), ("Downgrade", 20), ("About", 5), ("Logout", 30), ("", 75)];

#[derive(Clone, Debug)]
struct User {
    id: u64,
    first_name: &'static str,
    gender: &'static str,
    last_name: &'static str,
    city: &'static str,
    agent: &'static str,
    registration: i64,
    paid: bool,
    session: i64,
    item: i64,
    /// The page of the next event; empty between sessions.
    page: &'static str,
    logged_in: bool,
    /// How active, against the median.
    zeal: f64,
}

/// The events one after the other, in the order of their times.
#[derive(Debug)]
pub struct Events {
    options: Options,
    random: ChaCha8Rng,
    known: Vec<Song>,
    unknown: Vec<Song>,
    users: Vec<User>,
    /// What happens next: time, user.
    due: BinaryHeap<Reverse<(i64, usize)>>,
    next_arrival: i64,
    next_session: i64,
    produced: u64,
}

impl Events {
    /// From the first one.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let start = options.start.timestamp_millis();
        let mut events = Self {
            random: ChaCha8Rng::seed_from_u64(options.seed),
            known: catalogue::songs(options.seed, options.songs.max(1)),
            unknown: catalogue::songs(options.seed.wrapping_add(1), options.songs.max(1)),
            users: Vec::new(),
            due: BinaryHeap::new(),
            next_arrival: start,
            next_session: 1,
            produced: 0,
            options,
        };
        for _ in 0..events.options.users.max(1) {
            let age = events.random.random_range(0.0..200.0 * DAY) as i64;
            let paid = events.random.random_bool(0.25);
            events.arrive(start, start - age, paid);
        }
        events.schedule_arrival();
        events
    }

    fn arrive(&mut self, now: i64, registration: i64, paid: bool) {
        let (first_name, gender) = FIRST_NAMES[self.random.random_range(0..FIRST_NAMES.len())];
        let user = User {
            id: self.users.len() as u64 + 1,
            first_name,
            gender,
            last_name: LAST_NAMES[self.random.random_range(0..LAST_NAMES.len())],
            city: CITIES[self.random.random_range(0..CITIES.len())].0,
            agent: AGENTS[self.random.random_range(0..AGENTS.len())],
            registration,
            paid,
            session: 0,
            item: 0,
            page: "",
            logged_in: true,
            zeal: self.log_normal(1.0, 0.6),
        };
        self.users.push(user);
        let gap = if registration == now { 0 } else { self.random.random_range(0.0..BETWEEN_SESSIONS) as i64 };
        self.due.push(Reverse((now + gap, self.users.len() - 1)));
    }

    fn schedule_arrival(&mut self) {
        let mean = DAY / (GROWTH * self.users.len() as f64).max(0.1);
        let draw: f64 = self.random.random();
        self.next_arrival += (-mean * (1.0 - draw).ln()) as i64 + 1;
    }

    /// A log-normal number with that median; Box–Muller.
    fn log_normal(&mut self, median: f64, sigma: f64) -> f64 {
        let (a, b): (f64, f64) = (self.random.random(), self.random.random());
        let normal = (-2.0 * (1.0 - a).ln()).sqrt() * (std::f64::consts::TAU * b).cos();
        median * (sigma * normal).exp()
    }

    fn choose(&mut self, weights: &[(&'static str, u32)]) -> &'static str {
        let total: u32 = weights.iter().map(|(_, weight)| weight).sum();
        let mut draw = self.random.random_range(0..total);
        for (page, weight) in weights {
            if draw < *weight {
                return page;
            }
            draw -= weight;
        }
        ""
    }

    /// When a user whose session ended is back: of several draws the first at an hour when people listen.
    fn back(&mut self, now: i64, zeal: f64) -> i64 {
        let mut at = now;
        for _ in 0..20 {
            at += self.log_normal(BETWEEN_SESSIONS / zeal / 3.0, 0.8) as i64 + SECOND;
            if self.random.random_bool(rhythm(at)) {
                break;
            }
        }
        at
    }

    /// One song, the frequent ones first.
    fn song(&mut self) -> Song {
        let known = self.random.random_bool(self.options.known.clamp(0.0, 1.0));
        let songs = if known { &self.known } else { &self.unknown };
        // Zipf by inversion: rank r is drawn with a weight of about 1 / r.
        let draw: f64 = self.random.random();
        let rank = ((songs.len() as f64 + 1.0).powf(draw) as usize).clamp(1, songs.len());
        songs[rank - 1].clone()
    }

    /// The event of a user at a time, and what comes after it.
    fn step(&mut self, now: i64, index: usize) -> Json {
        let mut user = self.users[index].clone();
        if user.page.is_empty() {
            (user.session, user.item, user.logged_in) = (self.next_session, 0, true);
            self.next_session += 1;
            user.page = if user.registration == now { "Submit Registration" } else { "Home" };
        }
        let page = user.page;
        let song = (page == "NextSong").then(|| self.song());
        let event = event(&user, page, song.as_ref(), now);
        user.item += 1;
        let gap = match &song {
            Some(song) => (song.duration * 1000.0) as i64,
            None => self.log_normal(0.4 * MINUTE, 0.9) as i64 + SECOND,
        };
        user.page = match page {
            "NextSong" | "Thumbs Up" | "Thumbs Down" | "Add to Playlist" | "Roll Advert" => self.choose(&AFTER_SONG),
            "Upgrade" if !user.paid => "Submit Upgrade",
            "Downgrade" if user.paid => "Submit Downgrade",
            "Submit Registration" => "Home",
            "Logout" => "Login",
            "Login" => "Home",
            "Settings" if self.random.random_bool(0.1) => "Cancel",
            "Cancel" => "Cancellation Confirmation",
            _ => self.choose(&ELSEWHERE),
        };
        match page {
            "Submit Upgrade" => user.paid = true,
            "Submit Downgrade" => user.paid = false,
            _ => {}
        }
        user.logged_in = user.page != "Login";
        // Whoever logged out mostly stays away.
        if user.page == "Login" && self.random.random_bool(0.8) {
            user.page = "";
        }
        if page != "Cancellation Confirmation" {
            let next = if user.page.is_empty() { self.back(now + gap, user.zeal) } else { now + gap };
            self.due.push(Reverse((next, index)));
        }
        self.users[index] = user;
        event
    }
}

/// How likely it is that somebody listens at this time, 0 to 1.
fn rhythm(at: i64) -> f64 {
    let Some(time) = DateTime::from_timestamp_millis(at) else { return 1.0 };
    let hour = f64::from(time.hour()) + f64::from(time.minute()) / 60.0;
    let day = 0.55 - 0.4 * ((hour - 4.0) / 24.0 * std::f64::consts::TAU).cos();
    let week = if time.weekday().number_from_monday() > 5 { 1.0 } else { 0.8 };
    (day * week).clamp(0.05, 1.0)
}

fn event(user: &User, page: &str, song: Option<&Song>, now: i64) -> Json {
    let put = ["NextSong", "Thumbs Up", "Thumbs Down", "Add to Playlist", "Add Friend", "Logout", "Login"];
    let submits = ["Submit Registration", "Submit Upgrade", "Submit Downgrade", "Cancellation Confirmation"];
    let method = if put.contains(&page) || submits.contains(&page) { "PUT" } else { "GET" };
    let status = match page {
        "Error" => 404,
        _ if submits.contains(&page) || ["Logout", "Login", "Add to Playlist", "Thumbs Up", "Thumbs Down"].contains(&page) => 307,
        _ => 200,
    };
    let of_user = |value: Json| if user.logged_in { value } else { Json::Null };
    json!({
        "artist": song.map(|song| &song.artist_name), "auth": if user.logged_in { "Logged In" } else { "Logged Out" },
        "firstName": of_user(json!(user.first_name)), "gender": of_user(json!(user.gender)), "itemInSession": user.item,
        "lastName": of_user(json!(user.last_name)), "length": song.map(|song| song.duration), "level": if user.paid { "paid" } else { "free" },
        "location": of_user(json!(user.city)), "method": method, "page": page, "registration": of_user(json!(user.registration as f64)),
        "sessionId": user.session, "song": song.map(|song| &song.title), "status": status, "ts": now, "userAgent": of_user(json!(user.agent)),
        "userId": if user.logged_in { user.id.to_string() } else { String::new() },
    })
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        if self.options.count.is_some_and(|count| self.produced >= count) {
            return None;
        }
        let (malformed, late, delay): (f64, f64, f64) = (self.random.random(), self.random.random(), self.random.random());
        while self.due.peek().is_none_or(|Reverse((at, _))| *at >= self.next_arrival) {
            let now = self.next_arrival;
            self.arrive(now, now, false);
            self.schedule_arrival();
        }
        let Reverse((now, index)) = self.due.pop()?;
        let mut event = self.step(now, index);
        if late < self.options.late {
            event["ts"] = json!(now + (MEAN_DELAY * (1.0 - delay).ln()) as i64);
        }
        let number = self.produced;
        self.produced += 1;
        let key = event["userId"].as_str().filter(|id| !id.is_empty()).map(str::to_owned);
        let value = if malformed < self.options.malformed { break_event(event, number) } else { event.to_string().into_bytes() };
        Some(Event { key, value })
    }
}

/// The ways in which producers go wrong, in turn.
fn break_event(mut event: Json, number: u64) -> Vec<u8> {
    match number % 6 {
        0 => return event.to_string().into_bytes().into_iter().take(100).collect(),
        1 => event["ts"] = json!("yesterday"),
        2 => event["page"] = Json::Null,
        3 => event["sessionId"] = json!("38"),
        4 => event["length"] = json!(true),
        _ => return b"\"NextSong\"".to_vec(),
    }
    event.to_string().into_bytes()
}

#[cfg(test)]
mod tests;
