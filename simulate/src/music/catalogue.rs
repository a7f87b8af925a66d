//! The songs that the app knows: the reference that plays are joined to.
#![expect(clippy::indexing_slicing, reason = "indexes drawn within their bounds")]

use std::collections::BTreeSet;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value as Json, json};

use super::words::{ADJECTIVES, BANDS, CITIES, NOUNS};

/// One song.
#[derive(Clone, Debug, PartialEq)]
pub struct Song {
    /// Its id.
    pub song_id: String,
    /// Its title.
    pub title: String,
    /// Its artist's id.
    pub artist_id: String,
    /// Its artist's name.
    pub artist_name: String,
    /// Where the artist is from, with latitude and longitude, where that is known.
    pub location: Option<(&'static str, f64, f64)>,
    /// Its length in seconds.
    pub duration: f64,
    /// When it came out; 0 where nobody knows.
    pub year: i64,
}

impl Song {
    /// As a line of the reference.
    #[must_use]
    pub fn line(&self) -> Json {
        json!({
            "num_songs": 1, "artist_id": self.artist_id, "artist_latitude": self.location.map(|place| place.1),
            "artist_longitude": self.location.map(|place| place.2), "artist_location": self.location.map_or("", |place| place.0),
            "artist_name": self.artist_name, "song_id": self.song_id, "title": self.title, "duration": self.duration, "year": self.year,
        })
    }
}

/// That many songs, each with another title and artist; two seeds share none but by chance.
#[must_use]
pub fn songs(seed: u64, count: usize) -> Vec<Song> {
    const SONGS_PER_ARTIST: usize = 5;
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ 0x5045);
    let mut songs: Vec<Song> = Vec::with_capacity(count);
    let mut known = BTreeSet::new();
    while songs.len() < count {
        let artist_id = identifier(&mut random, "AR");
        let artist_name = format!("The {} {}", ADJECTIVES[random.random_range(0..ADJECTIVES.len())], BANDS[random.random_range(0..BANDS.len())]);
        let location = random.random_bool(0.7).then(|| CITIES[random.random_range(0..CITIES.len())]);
        for _ in 0..random.random_range(1..=2 * SONGS_PER_ARTIST - 1) {
            let title = title(&mut random);
            // Three letters behind the point, as the data set writes them; a duration of some minutes.
            let duration = f64::from(random.random_range(120_000..420_000)) / 1000.0;
            let year = if random.random_bool(0.2) { 0 } else { random.random_range(1960..2026) };
            let song_id = identifier(&mut random, "SO");
            if songs.len() < count && known.insert((title.clone(), artist_name.clone())) {
                songs.push(Song { song_id, title, artist_id: artist_id.clone(), artist_name: artist_name.clone(), location, duration, year });
            }
        }
    }
    songs
}

fn title(random: &mut ChaCha8Rng) -> String {
    let (adjective, noun) = (ADJECTIVES[random.random_range(0..ADJECTIVES.len())], NOUNS[random.random_range(0..NOUNS.len())]);
    match random.random_range(0..5) {
        0 => format!("{adjective} {noun}"),
        1 => format!("{noun} in the {}", NOUNS[random.random_range(0..NOUNS.len())]),
        2 => format!("My {adjective} {noun}"),
        3 => format!("{noun} (Album Version)"),
        _ => format!("{adjective} {} {noun}", ADJECTIVES[random.random_range(0..ADJECTIVES.len())]),
    }
}

fn identifier(random: &mut ChaCha8Rng, prefix: &str) -> String {
    let letters: String = (0..7).map(|_| char::from(b'A' + random.random_range(0..26u8))).collect();
    format!("{prefix}{letters}{:09X}", random.random_range(0..1u64 << 36))
}
