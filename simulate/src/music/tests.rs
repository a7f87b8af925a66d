use std::collections::{BTreeMap, BTreeSet};

use super::*;

fn options() -> Options {
    let start = DateTime::from_timestamp(1_750_000_000, 0).unwrap();
    Options { seed: SEED, start, users: 200, count: Some(20_000), songs: SONGS, known: 0.7, late: 0.0, malformed: 0.0 }
}

fn events(options: Options) -> Vec<Json> {
    Events::new(options).map(|event| serde_json::from_slice(&event.value).unwrap()).collect()
}

#[test]
fn the_same_seed_and_start_give_the_same_bytes() {
    let all = |options: Options| Events::new(options).collect::<Vec<Event>>();
    assert_eq!(all(options()), all(options()));
    assert_ne!(all(options()), all(Options { seed: 8, ..options() }));
}

#[test]
fn the_songs_that_ship_are_those_of_the_default_seed() {
    let lines: String = catalogue::songs(SEED, SONGS).iter().map(|song| format!("{}\n", song.line())).collect();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../pipelines/music/songs.json");
    assert_eq!(std::fs::read_to_string(path).unwrap(), lines, "anabranch simulate music --catalogue pipelines/music/songs.json --count 0");
    let keys: BTreeSet<(String, String)> = catalogue::songs(SEED, SONGS).into_iter().map(|song| (song.title, song.artist_name)).collect();
    assert_eq!(keys.len(), SONGS);
}

#[test]
fn events_are_those_of_an_app_that_people_use() {
    let events = events(options());
    let mut pages: BTreeMap<String, usize> = BTreeMap::new();
    let (mut before, mut known) = (0, 0);
    let titles: BTreeSet<String> = catalogue::songs(SEED, SONGS).into_iter().map(|song| song.title + &song.artist_name).collect();
    for event in &events {
        assert_eq!(event.as_object().unwrap().len(), 18);
        let at = event["ts"].as_i64().unwrap();
        assert!(at >= before, "times ascend");
        before = at;
        let page = event["page"].as_str().unwrap();
        *pages.entry(page.to_owned()).or_default() += 1;
        assert_eq!(page == "NextSong", event["song"].is_string());
        assert_eq!(event["userId"] == "", event["auth"] == "Logged Out");
        if let (Some(song), Some(artist)) = (event["song"].as_str(), event["artist"].as_str()) {
            known += usize::from(titles.contains(&(song.to_owned() + artist)));
        }
    }
    let plays = pages["NextSong"];
    assert!(plays > events.len() / 2, "{pages:?}");
    for page in
        ["Home", "Thumbs Up", "Add to Playlist", "Logout", "Submit Upgrade", "Submit Downgrade", "Error", "Cancellation Confirmation", "Submit Registration"]
    {
        assert!(pages.contains_key(page), "{page} is missing: {pages:?}");
    }
    let share = known as f64 / plays as f64;
    assert!((0.65..0.75).contains(&share), "{share}");
    let paid = events.iter().filter(|event| event["level"] == "paid").count();
    assert!((events.len() / 10..events.len() * 9 / 10).contains(&paid), "{paid}");
}

#[test]
fn the_share_of_broken_values_is_what_was_asked_for() {
    let broken = Events::new(Options { malformed: 0.05, ..options() }).filter(|event| {
        let Ok(json) = serde_json::from_slice::<Json>(&event.value) else { return true };
        !json["ts"].is_i64() || !json["page"].is_string() || !json["sessionId"].is_i64() || json["length"].is_boolean()
    });
    let count = broken.count();
    assert!((800..1_200).contains(&count), "{count}");
}
