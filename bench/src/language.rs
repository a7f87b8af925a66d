//! What the language costs: decoding, joins, distinct counts. Prints one JSON object; `make bench` takes it into its results.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_precision_loss, clippy::cast_possible_wrap, clippy::print_stdout, reason = "a benchmark")]

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    hint::black_box,
    time::Instant,
};

use anabranch_core::definition::{File, Pipeline, Source, View, parse};
use anabranch_views::{
    Lookups,
    decode::{Decoder, RawRecord, Wanted},
    partial::partial,
    table,
};
use arrow::array::{Float64Builder, Int64Builder, RecordBatch, StringViewBuilder};
use serde::Deserialize;
use serde_json::json;

const RECORDS: usize = 200_000;
const BATCH: usize = 16_384;
const ROUNDS: usize = 5;
const REFERENCE_ROWS: usize = 1_000_000;

/// The fields of an event as strictly typed, for the peer: serde's derived parser, which checks all and keeps five.
#[derive(Deserialize)]
#[expect(dead_code, reason = "they are checked, not kept")]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    #[serde(borrow)]
    artist: Option<Cow<'a, str>>,
    #[serde(borrow)]
    auth: Option<Cow<'a, str>>,
    #[serde(borrow)]
    first_name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    gender: Option<Cow<'a, str>>,
    item_in_session: Option<i64>,
    #[serde(borrow)]
    last_name: Option<Cow<'a, str>>,
    length: Option<f64>,
    #[serde(borrow)]
    level: Option<Cow<'a, str>>,
    #[serde(borrow)]
    location: Option<Cow<'a, str>>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    page: Cow<'a, str>,
    registration: Option<f64>,
    session_id: Option<i64>,
    #[serde(borrow)]
    song: Option<Cow<'a, str>>,
    status: Option<i64>,
    ts: i64,
    #[serde(borrow)]
    user_agent: Option<Cow<'a, str>>,
    #[serde(borrow)]
    user_id: Option<Cow<'a, str>>,
}

fn events() -> Vec<String> {
    (0..RECORDS)
        .map(|number| {
            json!({
                "artist": format!("The Amber Foxes {}", number % 500), "auth": "Logged In", "firstName": "Walter", "gender": "M", "itemInSession": number % 50,
                "lastName": "Frye", "length": 200.125 + (number % 300) as f64, "level": if number % 4 == 0 { "paid" } else { "free" },
                "location": "San Francisco-Oakland-Hayward, CA", "method": "PUT", "page": "NextSong", "registration": 1_540_919_166_796.0, "sessionId": number / 20,
                "song": format!("Song {}", number % REFERENCE_ROWS), "status": 200, "ts": 1_541_105_830_796_i64 + number as i64,
                "userAgent": "\"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_9_4)\"", "userId": (number % 1000).to_string(),
            })
            .to_string()
        })
        .collect()
}

fn music() -> Pipeline {
    let text = include_str!("../../pipelines/music.sql").to_owned();
    parse(&[File { path: "music.sql".into(), text }]).unwrap()
}

/// The least time of some rounds, in seconds: what else the machine does only adds.
fn least(mut work: impl FnMut()) -> f64 {
    let round = |work: &mut dyn FnMut()| {
        let began = Instant::now();
        work();
        began.elapsed().as_secs_f64()
    };
    (0..ROUNDS).map(|_| round(&mut work)).fold(f64::INFINITY, f64::min)
}

fn decoded(source: &Source, wanted: &BTreeSet<String>, events: &[String]) -> Vec<RecordBatch> {
    let mut decoder = Decoder::new(source, Wanted::Columns(wanted.clone()));
    let mut batches = Vec::new();
    for (offset, event) in (0..).zip(events) {
        decoder.push(&RawRecord { partition: 0, offset, timestamp_micros: Some(0), key: None, value: Some(event.as_bytes()) }, []);
        if decoder.len() == BATCH {
            batches.push(decoder.finish().unwrap());
        }
    }
    batches.push(decoder.finish().unwrap());
    batches
}

/// The same five columns by serde's derived parser.
fn by_serde(events: &[String]) {
    let (mut level, mut song, mut page) = (StringViewBuilder::new(), StringViewBuilder::new(), StringViewBuilder::new());
    let (mut length, mut ts) = (Float64Builder::new(), Int64Builder::new());
    for (index, event) in events.iter().enumerate() {
        let event: Event<'_> = serde_json::from_str(event).unwrap();
        level.append_option(event.level);
        song.append_option(event.song);
        page.append_value(event.page);
        length.append_option(event.length);
        ts.append_value(event.ts * 1000);
        if index % BATCH == BATCH - 1 {
            black_box((level.finish(), song.finish(), page.finish(), length.finish(), ts.finish()));
        }
    }
    black_box((level.finish(), song.finish(), page.finish(), length.finish(), ts.finish()));
}

fn resident_mib() -> f64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap().split_whitespace().nth(1).unwrap().parse::<f64>().unwrap();
    pages * 4096.0 / 1024.0 / 1024.0
}

fn view(select: &str) -> View {
    let text = format!(
        "CREATE TABLE t (song TEXT, user_id TEXT OPTIONS (path = '$.userId'), session BIGINT OPTIONS (path = '$.sessionId')) WITH (connector = 'kafka', topic = 't', format = 'json');
         CREATE TABLE r (title TEXT, artist TEXT, length DOUBLE) WITH (connector = 'filesystem', path = 'r.json', format = 'json');
         CREATE MATERIALIZED VIEW v AS {select};"
    );
    let pipeline = parse(&[File { path: "bench.sql".into(), text }]).unwrap_or_else(|error| panic!("{error}"));
    let pipeline = pipeline.with_contents(&BTreeMap::from([("r".to_owned(), "bench".to_owned())]));
    pipeline.views.into_iter().find(|view| view.name == "v").unwrap()
}

fn folded(view: &View, batches: &[RecordBatch], lookups: &Lookups) -> f64 {
    least(|| batches.iter().for_each(|batch| drop(black_box(partial(view, batch, lookups).unwrap()))))
}

fn main() {
    let events = events();
    let source = &music().sources[0];
    let five: BTreeSet<String> = ["level", "song", "page", "length", "ts"].map(str::to_owned).into();
    let ours = least(|| drop(black_box(decoded(source, &five, &events))));
    let peer = least(|| by_serde(&events));

    let plain = view("SELECT user_id, count(*) AS n FROM t GROUP BY 1");
    let joined = view("SELECT user_id, count(r.artist) AS n FROM t LEFT JOIN r ON t.song = r.title GROUP BY 1");
    let reference = &joined.joins[0].reference;
    let lines: Vec<String> = (0..REFERENCE_ROWS)
        .map(|number| json!({"title": format!("Song {number}"), "artist": format!("Artist {}", number % 5000), "length": 200.5}).to_string())
        .collect();
    let names: BTreeSet<String> = reference.columns.iter().map(|column| column.name.clone()).collect();
    let before = resident_mib();
    let mut decoder = Decoder::new(reference, Wanted::Columns(names));
    for (offset, line) in (0..).zip(&lines) {
        decoder.push(&RawRecord { partition: 0, offset, timestamp_micros: None, key: None, value: Some(line.as_bytes()) }, []);
    }
    let mut lookups = Lookups::default();
    lookups.insert("r", "bench", decoder.finish().unwrap());
    drop(decoder);
    let batches = decoded(&joined.source, &joined.needed_columns(), &events);
    // The first join builds the index.
    drop(partial(&joined, &batches[0], &lookups).unwrap());
    let memory = resident_mib() - before;
    let (with, without) = (folded(&joined, &batches, &lookups), folded(&plain, &batches, &lookups));

    let base = folded(&plain, &batches, &lookups);
    let exact = view("SELECT user_id, count(*) AS n, count(DISTINCT session) AS d FROM t GROUP BY 1");
    let sketch = view("SELECT user_id, count(*) AS n, approx_count_distinct(session) AS d FROM t GROUP BY 1");
    let batches = decoded(&exact.source, &exact.needed_columns(), &events);
    let per_record = |seconds: f64| (seconds - base).max(0.0) / RECORDS as f64 * 1e9;
    let (exact_ns, sketch_ns) = (per_record(folded(&exact, &batches, &lookups)), per_record(folded(&sketch, &batches, &lookups)));
    let full = {
        let one = view("SELECT 1 AS one, count(DISTINCT session) AS d FROM t WHERE session < 1000 GROUP BY 1");
        let groups = partial(&one, &batches[0], &lookups).unwrap();
        let row = groups.0.values().next().unwrap().clone();
        let mut row_of_all = row;
        for batch in &batches[1..] {
            for other in partial(&one, batch, &lookups).unwrap().0.values() {
                row_of_all.merge(other);
            }
        }
        table::cells(&row_of_all).into_iter().find_map(|cell| if let anabranch_views::Value::Bytes(bytes) = cell { Some(bytes.len()) } else { None }).unwrap()
    };
    println!(
        "{}",
        json!({
            "decode": {"events": RECORDS, "fields": 18, "wanted": 5, "ns_per_event": ours / RECORDS as f64 * 1e9, "serde_ns_per_event": peer / RECORDS as f64 * 1e9, "ratio": ours / peer},
            "join": {"reference_rows": REFERENCE_ROWS, "events_per_second": RECORDS as f64 / with, "join_alone_events_per_second": RECORDS as f64 / (with - without).max(1e-9), "memory_mib": memory},
            "distinct": {"exact_ns_per_record": exact_ns, "sketch_ns_per_record": sketch_ns, "bytes_at_limit_1000": full},
        })
    );
}
