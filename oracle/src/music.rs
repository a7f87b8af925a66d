//! What `pipelines/music.sql` means.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};

use crate::{Cells, Expected, Members, Record, time};

/// The fields that the views use.
#[derive(Clone, Debug)]
pub struct Event {
    artist: Option<String>,
    auth: Option<String>,
    first_name: Option<String>,
    gender: Option<String>,
    last_name: Option<String>,
    length: Option<f64>,
    level: Option<String>,
    location: Option<String>,
    page: String,
    session: Option<i64>,
    song: Option<String>,
    micros: i64,
    user_agent: Option<String>,
    user: Option<String>,
}

impl Event {
    fn seconds(&self) -> i64 {
        self.micros.div_euclid(1_000_000)
    }
}

/// The most values that `count(DISTINCT …)` holds.
const DISTINCT_LIMIT: usize = 1_000;

/// Decodes an object; the error is the reason of the rejection.
pub(crate) fn decode(object: &serde_json::Map<String, Json>) -> Result<Event, String> {
    let members = Members(object);
    // The columns are looked at in the order of the definition: the first that is wrong is the reason.
    let artist = members.text("artist", "artist")?;
    let auth = members.text("auth", "auth")?;
    let first_name = members.text("firstName", "first_name")?;
    let gender = members.text("gender", "gender")?;
    members.bigint("itemInSession", "item_in_session")?;
    let last_name = members.text("lastName", "last_name")?;
    let length = members.double("length", "length")?;
    let level = members.text("level", "level")?;
    let location = members.text("location", "location")?;
    members.text("method", "method")?;
    let page = members.text("page", "page")?.ok_or("missing: page")?;
    members.epoch_ms("registration", "registration")?;
    let session = members.bigint("sessionId", "session_id")?;
    let song = members.text("song", "song")?;
    members.bigint("status", "status")?;
    let micros = members.epoch_ms("ts", "ts")?.ok_or("missing: ts")?;
    let user_agent = members.text("userAgent", "user_agent")?;
    let user = members.text("userId", "user_id")?;
    Ok(Event { artist, auth, first_name, gender, last_name, length, level, location, page, session, song, micros, user_agent, user })
}

/// A song of the catalogue.
#[derive(Clone, Debug)]
struct Song {
    artist_id: String,
    artist_name: String,
    latitude: Option<f64>,
    longitude: Option<f64>,
    location: Option<String>,
    song_id: String,
    title: String,
    duration: f64,
    year: Option<i64>,
}

/// The catalogue that ships with the pipeline.
fn catalogue() -> Vec<Song> {
    let text = |song: &Json, name: &str| song[name].as_str().map(str::to_owned);
    let lines = include_str!("../../pipelines/music/songs.json").lines().filter_map(|line| serde_json::from_str::<Json>(line).ok());
    lines
        .map(|song| Song {
            artist_id: text(&song, "artist_id").unwrap_or_default(),
            artist_name: text(&song, "artist_name").unwrap_or_default(),
            latitude: song["artist_latitude"].as_f64(),
            longitude: song["artist_longitude"].as_f64(),
            location: text(&song, "artist_location"),
            song_id: text(&song, "song_id").unwrap_or_default(),
            title: text(&song, "title").unwrap_or_default(),
            duration: song["duration"].as_f64().unwrap_or_default(),
            year: song["year"].as_i64(),
        })
        .collect()
}

const VIEWS: [(&str, &[&str], &[&str]); 9] = [
    (
        "songplays",
        &["start_time", "kafka_partition", "kafka_offset", "user_id", "level", "song_id", "artist_id", "session_id", "location", "user_agent"],
        &["count"],
    ),
    ("users", &["user_id"], &["first_name", "last_name", "gender", "level", "first_seen", "last_seen", "users"]),
    ("songs", &["song_id", "title", "artist_id", "year", "duration"], &["count"]),
    ("artists", &["artist_id"], &["name", "location", "latitude", "longitude", "songs", "artists"]),
    ("time", &["start_time", "hour", "day", "week", "month", "year", "weekday"], &["songplays", "hours"]),
    ("plays_by_song", &["hour", "song", "artist", "year"], &["plays", "sessions", "seconds"]),
    ("active_users", &["day", "level"], &["users", "sessions", "events"]),
    ("paid_share", &["day"], &["plays", "paid_plays", "paid_share", "seconds_per_session"]),
    ("music_events_rejected", &["hour", "reason"], &["records"]),
];

/// The queries that ask for every cell of every view, by name.
#[must_use]
pub fn queries() -> Vec<(&'static str, Json)> {
    let members = |view: &str, names: &[&str]| names.iter().map(|name| format!("{view}.{name}")).collect::<Vec<_>>();
    let query = |(view, keys, measures): (&'static str, &[&str], &[&str])| {
        let mut query = json!({"dimensions": members(view, keys), "measures": members(view, measures), "limit": 50_000});
        if view == "songplays" {
            query["ungrouped"] = json!(true);
        }
        (view, query)
    };
    VIEWS.into_iter().map(query).collect()
}

/// The groups of a view with their cells, and the names of its keys; nothing for a view of another pipeline.
pub(crate) fn recount(view: &str, records: &[&Record]) -> Option<(&'static [&'static str], BTreeMap<String, Cells>)> {
    let (_, keys, _) = VIEWS.into_iter().find(|(name, _, _)| *name == view)?;
    let events: Vec<(&Record, &Event)> =
        records.iter().filter_map(|record| if let Ok(super::Event::Music(event)) = &record.event { Some((*record, event)) } else { None }).collect();
    let plays: Vec<(&Record, &Event)> = events.iter().copied().filter(|(_, event)| event.page == "NextSong").collect();
    let groups = match view {
        "songplays" => songplays(&plays),
        "users" => users(&events),
        "songs" => songs(),
        "artists" => artists(),
        "time" => hours(&plays),
        "plays_by_song" => plays_by_song(&plays),
        "active_users" => active_users(&events),
        _ => paid_share(&plays),
    };
    Some((keys, groups))
}

fn exactly(value: impl Into<Json>) -> Expected {
    Expected::Exactly(value.into())
}

fn shown(micros: i64) -> Json {
    chrono::DateTime::from_timestamp_micros(micros).map_or(Json::Null, |time| time.format("%Y-%m-%dT%H:%M:%S%.3f").to_string().into())
}

/// The song of the catalogue that was played.
fn song_of<'a>(event: &Event, catalogue: &'a [Song]) -> Option<&'a Song> {
    catalogue.iter().find(|song| {
        event.song.as_deref() == Some(song.title.as_str()) && event.artist.as_deref() == Some(song.artist_name.as_str()) && event.length == Some(song.duration)
    })
}

/// A lookup of songs by title: the catalogue is walked once for each title.
struct Catalogue(BTreeMap<String, Vec<Song>>);

impl Catalogue {
    fn new() -> Self {
        let mut by_title: BTreeMap<String, Vec<Song>> = BTreeMap::new();
        for song in catalogue() {
            by_title.entry(song.title.clone()).or_default().push(song);
        }
        Self(by_title)
    }

    fn find(&self, event: &Event) -> Option<&Song> {
        song_of(event, self.0.get(event.song.as_deref()?)?)
    }
}

fn songplays(plays: &[(&Record, &Event)]) -> BTreeMap<String, Cells> {
    let catalogue = Catalogue::new();
    let row = |(record, event): &(&Record, &Event)| {
        let song = catalogue.find(event);
        let key = json!([
            shown(event.micros),
            record.partition,
            record.offset,
            event.user,
            event.level,
            song.map(|song| &song.song_id),
            song.map(|song| &song.artist_id),
            event.session,
            event.location,
            event.user_agent,
        ]);
        (key.to_string(), vec![("count", exactly(1))])
    };
    plays.iter().map(row).collect()
}

/// Of the values that are not NULL the one whose record is first or last by time, partition and offset.
fn placed<'a, T>(events: &'a [(&Record, &Event)], first: bool, value: impl Fn(&'a Event) -> Option<T>) -> Option<T> {
    let mut found: Option<((i64, i32, i64), T)> = None;
    for (record, event) in events {
        let Some(value) = value(event) else { continue };
        let position = (event.micros, record.partition, record.offset);
        if found.as_ref().is_none_or(|(known, _)| if first { position < *known } else { position > *known }) {
            found = Some((position, value));
        }
    }
    found.map(|(_, value)| value)
}

fn users(events: &[(&Record, &Event)]) -> BTreeMap<String, Cells> {
    let mut groups: BTreeMap<&str, Vec<(&Record, &Event)>> = BTreeMap::new();
    for (record, event) in events {
        if let Some(user) = event.user.as_deref().filter(|user| !user.is_empty()) {
            groups.entry(user).or_default().push((record, event));
        }
    }
    let cells = |(user, events): (&str, Vec<(&Record, &Event)>)| {
        let text = |value: fn(&Event) -> Option<String>| exactly(placed(&events, false, value).map_or(Json::Null, Json::from));
        let cells = vec![
            ("first_name", text(|event| event.first_name.clone())),
            ("last_name", text(|event| event.last_name.clone())),
            ("gender", text(|event| event.gender.clone())),
            ("level", text(|event| event.level.clone())),
            ("first_seen", exactly(placed(&events, true, |event| Some(event.micros)).map_or(Json::Null, shown))),
            ("last_seen", exactly(placed(&events, false, |event| Some(event.micros)).map_or(Json::Null, shown))),
            ("users", exactly(1)),
        ];
        (json!([user]).to_string(), cells)
    };
    groups.into_iter().map(cells).collect()
}

fn songs() -> BTreeMap<String, Cells> {
    let row = |song: Song| (json!([song.song_id, song.title, song.artist_id, song.year, song.duration]).to_string(), vec![("count", exactly(1))]);
    catalogue().into_iter().map(row).collect()
}

fn artists() -> BTreeMap<String, Cells> {
    let mut groups: BTreeMap<String, Vec<Song>> = BTreeMap::new();
    for song in catalogue() {
        groups.entry(song.artist_id.clone()).or_default().push(song);
    }
    let cells = |(artist, songs): (String, Vec<Song>)| {
        let texts = |value: fn(&Song) -> Option<String>| exactly(songs.iter().filter_map(value).max().map_or(Json::Null, Json::from));
        let numbers = |value: fn(&Song) -> Option<f64>| exactly(songs.iter().filter_map(value).max_by(f64::total_cmp).map_or(Json::Null, Json::from));
        let cells = vec![
            ("name", texts(|song| Some(song.artist_name.clone()))),
            ("location", texts(|song| song.location.clone())),
            ("latitude", numbers(|song| song.latitude)),
            ("longitude", numbers(|song| song.longitude)),
            ("songs", exactly(songs.len())),
            ("artists", exactly(1)),
        ];
        (json!([artist]).to_string(), cells)
    };
    groups.into_iter().map(cells).collect()
}

fn hours(plays: &[(&Record, &Event)]) -> BTreeMap<String, Cells> {
    use chrono::{Datelike, Timelike};
    let mut groups: BTreeMap<String, i64> = BTreeMap::new();
    for (_, event) in plays {
        let Some(at) = chrono::DateTime::from_timestamp_micros(event.micros) else { continue };
        let key = json!([time(event.seconds(), 3600), at.hour(), at.day(), at.iso_week().week(), at.month(), at.year(), at.weekday().number_from_monday(),]);
        *groups.entry(key.to_string()).or_default() += 1;
    }
    groups.into_iter().map(|(key, count)| (key, vec![("songplays", exactly(count)), ("hours", exactly(1))])).collect()
}

/// `count(DISTINCT session_id)`: a cell without a value past the limit.
fn sessions(events: &[&Event]) -> Option<usize> {
    let sessions: BTreeSet<i64> = events.iter().filter_map(|event| event.session).collect();
    Some(sessions.len()).filter(|count| *count <= DISTINCT_LIMIT)
}

/// A sum of DOUBLE, whatever the order of adding.
fn seconds(events: &[&Event]) -> Option<f64> {
    let lengths: Vec<f64> = events.iter().filter_map(|event| event.length).collect();
    (!lengths.is_empty()).then(|| lengths.iter().sum())
}

fn near(value: Option<f64>) -> Expected {
    value.map_or(Expected::Exactly(Json::Null), |value| Expected::Near { value, relative: 1e-9, absolute: 0.0 })
}

fn plays_by_song(plays: &[(&Record, &Event)]) -> BTreeMap<String, Cells> {
    let catalogue = Catalogue::new();
    let mut groups: BTreeMap<String, Vec<&Event>> = BTreeMap::new();
    for (_, event) in plays {
        let year = catalogue.find(event).and_then(|song| song.year);
        groups.entry(json!([time(event.seconds(), 3600), event.song, event.artist, year]).to_string()).or_default().push(event);
    }
    let cells = |(key, events): (String, Vec<&Event>)| {
        let cells = vec![("plays", exactly(events.len())), ("sessions", exactly(sessions(&events))), ("seconds", near(seconds(&events)))];
        (key, cells)
    };
    groups.into_iter().map(cells).collect()
}

const DAY: i64 = 86_400;

fn active_users(events: &[(&Record, &Event)]) -> BTreeMap<String, Cells> {
    let mut groups: BTreeMap<String, Vec<&Event>> = BTreeMap::new();
    for (_, event) in events.iter().filter(|(_, event)| event.auth.as_deref() == Some("Logged In")) {
        groups.entry(json!([time(event.seconds(), DAY), event.level]).to_string()).or_default().push(event);
    }
    let cells = |(key, events): (String, Vec<&Event>)| {
        let users: BTreeSet<&str> = events.iter().filter_map(|event| event.user.as_deref()).collect();
        let cells = vec![
            // Five standard errors of 1.6 %, and one for rounding.
            ("users", Expected::Near { value: users.len() as f64, relative: 0.0813, absolute: 1.0 }),
            ("sessions", exactly(sessions(&events))),
            ("events", exactly(events.len())),
        ];
        (key, cells)
    };
    groups.into_iter().map(cells).collect()
}

fn paid_share(plays: &[(&Record, &Event)]) -> BTreeMap<String, Cells> {
    let mut groups: BTreeMap<String, Vec<&Event>> = BTreeMap::new();
    for (_, event) in plays {
        groups.entry(json!([time(event.seconds(), DAY)]).to_string()).or_default().push(event);
    }
    let cells = |(key, events): (String, Vec<&Event>)| {
        let paid = events.iter().filter(|event| event.level.as_deref() == Some("paid")).count();
        let per_session = seconds(&events).zip(sessions(&events).filter(|count| *count > 0)).map(|(seconds, count)| seconds / count as f64);
        let cells = vec![
            ("plays", exactly(events.len())),
            ("paid_plays", exactly(paid)),
            ("paid_share", exactly(paid as f64 / events.len() as f64)),
            ("seconds_per_session", near(per_session)),
        ];
        (key, cells)
    };
    groups.into_iter().map(cells).collect()
}
