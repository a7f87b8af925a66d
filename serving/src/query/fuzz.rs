//! Wrong queries of every kind, made from right ones: answered or refused, never a panic.
//!
//! Five seconds of it are part of the tests; `ANABRANCH_FUZZ_SECONDS=600` goes on.

use std::time::{Duration, Instant};

use anabranch_views::Value;
use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

use super::{
    tests::{NOW_MS, view},
    *,
};

const SEEDS: [&str; 8] = [
    r#"{"measures":["v.n","v.total"],"dimensions":["v.name"],"timeDimensions":[{"dimension":"v.hour","granularity":"day","dateRange":"last 7 days"}],"limit":10}"#,
    r#"{"measures":["v.n"],"filters":[{"or":[{"member":"v.name","operator":"contains","values":["x",null]},{"and":[{"member":"v.amount","operator":"gt","values":["12"]}]}]}]}"#,
    r#"{"measures":["v.n"],"timeDimensions":[{"dimension":"v.hour","compareDateRange":[["2026-01-01","2026-01-02"],"yesterday"]}],"timezone":"Europe/Berlin"}"#,
    r#"{"dimensions":["v.day","v.good","v.price"],"order":{"v.day":"asc","v.price":"desc"},"offset":3,"total":true,"segments":["v.large"]}"#,
    r#"{"measures":["v.total"],"filters":[{"member":"v.total","operator":"lte","values":[1e308]},{"member":"v.hour","operator":"inDateRange","values":["from 2 days ago to now"]}]}"#,
    r#"{"measures":["v.n"],"filters":[{"member":"v.hour","operator":"beforeDate","values":["2026-01-01T00:00:00.000"]}],"order":[["v.n","desc"]],"ungrouped":false}"#,
    r#"{"measures":["v.n"],"timeDimensions":[{"dimension":"v.hour","granularity":"week","dateRange":["9999-12-31","0000-01-01"]}],"timezone":"Asia/Kolkata"}"#,
    r#"[{"measures":["v.n"]},{"measures":["v.total"]}]"#,
];

const PIECES: [&str; 24] = [
    "null",
    "-1",
    "1e999",
    "99999999999999999999999999",
    "\"\"",
    "\"\\u0000\"",
    "[]",
    "{}",
    "[[[[[[[[[[",
    "\"v.hour\"",
    "\"notInDateRange\"",
    "\"last 99999999999 years\"",
    "\"from now to 1 day ago\"",
    "\"2026-02-30\"",
    "true",
    "\"Pacific/Apia\"",
    "\"v.name.hour\"",
    "\"'; DROP TABLE x; --\"",
    "0.1",
    "\"next 0 hours\"",
    "\"-0001-01-01\"",
    "\"granularity\"",
    "\u{fffd}",
    "\"292277026596-12-04\"",
];

/// A right query with some bytes cut, doubled, or replaced by something unlikely.
fn mutated(random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = SEEDS.choose(random).unwrap().as_bytes().to_vec();
    for _ in 0..random.random_range(0..5) {
        let at = random.random_range(0..=bytes.len());
        let end = (at + random.random_range(0..12)).min(bytes.len());
        match random.random_range(0..5) {
            0 => drop(bytes.drain(at..end)),
            1 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            2 => bytes.splice(at..end, PIECES.choose(random).unwrap().bytes()).for_each(drop),
            // A whole value: from one colon or comma to the next.
            3 => {
                let from = bytes[..at].iter().rposition(|byte| b":,[".contains(byte)).map_or(0, |place| place + 1);
                let to = bytes[at..].iter().position(|byte| b",]}".contains(byte)).map_or(bytes.len(), |place| at + place);
                bytes.splice(from..to.max(from), PIECES.choose(random).unwrap().bytes()).for_each(drop);
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = random.random();
                }
            }
        }
    }
    bytes
}

#[test]
#[expect(clippy::disallowed_methods, reason = "how long a test may take is in the environment, and each time it tries others")]
fn no_query_makes_the_reader_panic() {
    let seconds = std::env::var("ANABRANCH_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let seed = u64::from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos());
    eprintln!("seed {seed}");
    let (view, mut random) = (view(), ChaCha8Rng::seed_from_u64(seed));
    let keys: Vec<Value> = vec![
        Value::Timestamp(1_768_402_800_000_000),
        Value::Null,
        Value::BigInt(i64::MIN),
        Value::Double(f64::NAN),
        Value::Decimal(1250, 2),
        Value::Boolean(true),
        Value::Date(20_467),
    ];
    let (mut tried, mut read, mut answered) = (0_u64, 0_u64, 0_u64);
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        let bytes = mutated(&mut random);
        tried += 1;
        let queries: Vec<Query> = match (serde_json::from_slice::<Query>(&bytes), serde_json::from_slice::<Vec<Query>>(&bytes)) {
            (Ok(query), _) => vec![query],
            (_, Ok(list)) => list,
            _ => continue,
        };
        for query in queries {
            read += 1;
            let Ok(compared) = compared(&query) else { continue };
            for query in compared.unwrap_or_else(|| vec![query]) {
                let Ok(resolved) = view_name(&query).and_then(|_| resolve(&view, &query, NOW_MS)) else { continue };
                let value = |subject: Subject| std::borrow::Cow::Owned(if let Subject::Key(index) = subject { keys[index].clone() } else { Value::BigInt(7) });
                let conditions = resolved.conditions.rows.iter().chain(&resolved.conditions.groups);
                answered += u64::from(conditions.map(|condition| condition.holds(&value)).fold(true, |all, held| all & held));
                serde_json::to_string(&resolved.echo).unwrap();
            }
        }
    }
    eprintln!("{tried} tried, {read} read, {answered} let the row pass");
    // Most must get past the JSON, or the rest is not looked at.
    assert!(read > tried / 20 && answered > 100, "{tried} tried, {read} read, {answered} let the row pass, seed {seed}");
}
