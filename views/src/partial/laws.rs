//! Laws over generated definitions and records: what Polars computes by columns is what a person would compute row by
//! row, and a split anywhere merges to the whole.
#![expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss, reason = "small numbers of a test")]

use std::{collections::BTreeMap, sync::LazyLock};

use anabranch_core::definition::{File, Granularity, parse};
use chrono::DateTime;
use proptest::prelude::*;
use serde_json::Value as Json;

use self::naive::{REFERENCE, naive};
use super::{partial as partial_with, *};
use crate::{
    columns::Columns,
    decode::{Decoder, RawRecord, Wanted},
    finalize::finalize,
};

mod naive;

const SOURCE: &str = "CREATE TABLE t (n BIGINT, m BIGINT, d DOUBLE, s TEXT, b BOOLEAN, at TIMESTAMP)
    WITH (connector = 'kafka', topic = 't', format = 'json', event_time = 'at');
    CREATE TABLE r (k BIGINT, label TEXT, weight DOUBLE) WITH (connector = 'filesystem', path = 'r.json', format = 'json');\n";
/// The content of the reference, as its views name it.
const CONTENT: &str = "law";

static LOOKUPS: LazyLock<Lookups> = LazyLock::new(|| {
    let pipeline = parse(&[File { path: "law.sql".into(), text: SOURCE.into() }]).unwrap();
    let names = pipeline.references[0].columns.iter().map(|column| column.name.clone()).collect();
    let mut decoder = Decoder::new(&pipeline.references[0], Wanted::Columns(names));
    for (offset, (k, label, weight)) in (0..).zip(REFERENCE) {
        let value = serde_json::json!({"k": k, "label": label, "weight": weight}).to_string();
        decoder.push(&RawRecord { partition: 0, offset, timestamp_micros: None, key: None, value: Some(value.as_bytes()) }, []);
    }
    let mut lookups = Lookups::default();
    lookups.insert("r", CONTENT, decoder.finish().unwrap());
    lookups
});

fn partial(view: &View, batch: &RecordBatch) -> Result<Groups, EvaluateError> {
    partial_with(view, batch, &LOOKUPS)
}

fn bigint(depth: u32) -> BoxedStrategy<String> {
    let leaf = prop_oneof![Just("n".to_owned()), Just("m".to_owned()), (-9..100i64).prop_map(|value| value.to_string()), Just("kafka_offset".to_owned())];
    if depth == 0 {
        return leaf.boxed();
    }
    let sign = prop::sample::select(&["+", "-", "*", "/", "%"][..]);
    prop_oneof![
        2 => leaf,
        3 => (bigint(depth - 1), sign, bigint(depth - 1)).prop_map(|(a, sign, b)| format!("({a} {sign} {b})")),
        1 => bigint(depth - 1).prop_map(|a| format!("abs({a})")),
        1 => text(depth - 1).prop_map(|a| format!("length({a})")),
        1 => double(depth - 1).prop_map(|a| format!("CAST({a} AS BIGINT)")),
        1 => text(depth - 1).prop_map(|a| format!("CAST({a} AS BIGINT)")),
        1 => (bigint(depth - 1), bigint(depth - 1)).prop_map(|(a, b)| format!("coalesce({a}, {b})")),
        1 => (bigint(depth - 1), bigint(depth - 1)).prop_map(|(a, b)| format!("nullif({a}, {b})")),
        1 => (bigint(depth - 1), bigint(depth - 1)).prop_map(|(a, b)| format!("greatest({a}, {b}, 3)")),
        1 => Just("extract(hour FROM at)".to_owned()),
        1 => (boolean(depth - 1), bigint(depth - 1), bigint(depth - 1)).prop_map(|(c, a, b)| format!("CASE WHEN {c} THEN {a} ELSE {b} END")),
    ]
    .boxed()
}

fn double(depth: u32) -> BoxedStrategy<String> {
    let leaf = prop_oneof![Just("d".to_owned()), (-50..50i32).prop_map(|value| format!("({}.25)", value))];
    if depth == 0 {
        return leaf.boxed();
    }
    let sign = prop::sample::select(&["+", "-", "*", "/"][..]);
    prop_oneof![
        2 => leaf,
        2 => (double(depth - 1), sign, double(depth - 1)).prop_map(|(a, sign, b)| format!("({a} {sign} {b})")),
        1 => bigint(depth - 1).prop_map(|a| format!("CAST({a} AS DOUBLE)")),
        1 => double(depth - 1).prop_map(|a| format!("abs({a})")),
    ]
    .boxed()
}

fn text(depth: u32) -> BoxedStrategy<String> {
    let leaf = prop_oneof![2 => Just("s".to_owned()), 1 => Just("'a|ß|'".to_owned()), 1 => Just("'12'".to_owned())];
    if depth == 0 {
        return leaf.boxed();
    }
    prop_oneof![
        2 => leaf,
        1 => (text(depth - 1), text(depth - 1)).prop_map(|(a, b)| format!("({a} || {b})")),
        1 => text(depth - 1).prop_map(|a| format!("upper({a})")),
        1 => text(depth - 1).prop_map(|a| format!("lower({a})")),
        1 => text(depth - 1).prop_map(|a| format!("trim({a})")),
        1 => (text(depth - 1), 0..4i64).prop_map(|(a, count)| format!("left({a}, {count})")),
        1 => (text(depth - 1), text(depth - 1)).prop_map(|(a, b)| format!("replace({a}, '|', {b})")),
        2 => (text(depth - 1), prop::sample::select(&[-2i64, -1, 1, 2, 3][..])).prop_map(|(a, n)| format!("split_part({a}, '|', {n})")),
        1 => bigint(depth - 1).prop_map(|a| format!("CAST({a} AS TEXT)")),
        1 => boolean(depth - 1).prop_map(|a| format!("CAST({a} AS TEXT)")),
    ]
    .boxed()
}

fn boolean(depth: u32) -> BoxedStrategy<String> {
    let leaf = prop_oneof![3 => Just("b".to_owned()), 1 => Just("TRUE".to_owned())];
    if depth == 0 {
        return leaf.boxed();
    }
    let sign = prop::sample::select(&["=", "<>", "<", "<=", ">", ">="][..]);
    prop_oneof![
        1 => leaf,
        2 => (bigint(depth - 1), sign.clone(), bigint(depth - 1)).prop_map(|(a, sign, b)| format!("({a} {sign} {b})")),
        1 => (text(depth - 1), sign, text(depth - 1)).prop_map(|(a, sign, b)| format!("({a} {sign} {b})")),
        1 => (boolean(depth - 1), prop::sample::select(&["AND", "OR"][..]), boolean(depth - 1)).prop_map(|(a, sign, b)| format!("({a} {sign} {b})")),
        1 => boolean(depth - 1).prop_map(|a| format!("(NOT {a})")),
        1 => text(depth - 1).prop_map(|a| format!("({a} IS NULL)")),
        1 => text(depth - 1).prop_map(|a| format!("({a} LIKE '%a%')")),
        1 => (text(depth - 1), text(depth - 1)).prop_map(|(a, b)| format!("starts_with({a}, {b})")),
        1 => (bigint(depth - 1), bigint(depth - 1)).prop_map(|(a, b)| format!("({a} IS DISTINCT FROM {b})")),
        1 => (bigint(depth - 1), bigint(depth - 1)).prop_map(|(a, b)| format!("({a} IN ({b}, 3))")),
    ]
    .boxed()
}

/// A view with a bucket or without, one or two dimensions, a join or none, a condition or none, and every aggregate, with
/// filters; or one of rows.
fn view() -> impl Strategy<Value = String> {
    let calendar = prop::sample::select(&Granularity::ALL[..]).prop_map(|granularity| format!("date_trunc('{}', at)", granularity.name()));
    let bins = (1..100_000i64).prop_map(|seconds| format!("date_bin(INTERVAL '{seconds} seconds', at, TIMESTAMP '2001-01-01 00:00:07')"));
    let bucket = prop::option::of(prop_oneof![2 => calendar, 1 => bins]);
    let dimension = prop_oneof![3 => bigint(2), 3 => text(2), 3 => boolean(2), 1 => Just("at".to_owned())];
    let aggregates = (bigint(2), double(2), text(2), boolean(1), boolean(2));
    let join = prop::option::of(prop::sample::select(&["JOIN", "LEFT JOIN"][..]));
    let shape = (bucket, prop::collection::vec(dimension, 1..3), join, prop::option::of(boolean(2)), prop::bool::weighted(0.2));
    (shape, aggregates).prop_map(|((bucket, dimensions, join, condition, is_rows), (n, d, s, b, filter))| {
        let mut columns: Vec<String> = bucket.iter().filter(|_| !is_rows).map(|bucket| format!("{bucket} AS bucket")).collect();
        columns.extend(dimensions.iter().enumerate().map(|(index, dimension)| format!("{dimension} AS k{index}")));
        if join.is_some() {
            columns.push("r.label AS label, weight * 2 AS weight".to_owned());
        }
        let keys: Vec<String> = (1..=columns.len() + usize::from(join.is_some())).map(|position| position.to_string()).collect();
        let aggregates = [
            "count(*) AS a0".to_owned(),
            format!("count({s}) AS a1, count({b}) AS a2"),
            format!("sum({n}) AS a3, min({n}) AS a4, max({n}) AS a5, avg({n}) AS a6"),
            format!("min({s}) AS a7, max({d}) AS a8, last({s}) AS a9, last({n}) AS a10"),
            format!("approx_count_distinct({s}) AS a11, approx_percentile_cont({d}, 0.5) AS a12"),
            format!("count(*) FILTER (WHERE {filter}) AS a13, sum({n}) FILTER (WHERE {filter}) AS a14"),
            format!("first({s}) AS a15, bool_and({b}) AS a16, bool_or({b}) AS a17, count(DISTINCT {n}) AS a18"),
            format!("count(*) FILTER (WHERE {filter}) / count(*) AS ratio, max({n}) - min({n}) AS spread"),
        ];
        let from = join.map_or_else(|| "FROM t".to_owned(), |join| format!("FROM t {join} r ON n = r.k"));
        let condition = condition.map(|condition| format!(" WHERE {condition}")).unwrap_or_default();
        if is_rows {
            return format!("CREATE MATERIALIZED VIEW v AS SELECT {} {from}{condition}", columns.join(", "));
        }
        // A small limit, so that some cells meet it.
        format!(
            "CREATE MATERIALIZED VIEW v WITH (\"distinct_limit.a18\" = '4') AS SELECT {}, {} {from}{condition} GROUP BY {}",
            columns.join(", "),
            aggregates.join(", "),
            keys.join(", ")
        )
    })
}

/// A record: every member may be missing, NULL, or at the edge of its type.
fn record() -> impl Strategy<Value = Json> {
    let number = prop_oneof![6 => -20..20i64, 1 => Just(i64::MAX), 1 => Just(i64::MIN)];
    let string = prop_oneof![Just(" a|b "), Just(""), Just("ÄÖ|x"), Just("7"), Just("-3"), Just("straße")];
    let second = prop_oneof![4 => 0..7_200i64, 1 => -3_000_000_000..4_000_000_000i64];
    (
        prop::option::of(number.clone()),
        prop::option::of(number),
        prop::option::of((-400..400i32).prop_map(|quarters| f64::from(quarters) / 4.0)),
        prop::option::of(string),
        prop::option::of(any::<bool>()),
        prop::option::of(second),
    )
        .prop_map(|(n, m, d, s, b, second)| {
            let at = second.and_then(|second| DateTime::from_timestamp(second, 0)).map(|time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string());
            serde_json::json!({"n": n, "m": m, "d": d, "s": s, "b": b, "at": at})
        })
}

fn batch(view: &View, first: i64, records: &[Json]) -> RecordBatch {
    let mut decoder = Decoder::new(&view.source, Wanted::Columns(view.needed_columns()));
    for (offset, record) in (first..).zip(records) {
        let value = record.to_string();
        decoder.push(&RawRecord { partition: 0, offset, timestamp_micros: Some(0), key: None, value: Some(value.as_bytes()) }, []);
    }
    decoder.finish().unwrap()
}

fn compiled(sql: &str) -> View {
    let pipeline = parse(&[File { path: "law.sql".into(), text: format!("{SOURCE}{sql};") }]).unwrap_or_else(|error| panic!("{error}"));
    let pipeline = pipeline.with_contents(&BTreeMap::from([("r".to_owned(), CONTENT.to_owned())]));
    pipeline.views.into_iter().find(|view| view.name == "v").unwrap()
}

/// The value of a measure in a group.
fn measured(view: &View, row: &Row, name: &str) -> Option<Value> {
    view.measures.iter().find(|measure| measure.name == name).map(|measure| finalize(measure, &row.states))
}

/// Cases of each law: many times more where the environment asks for them, as `make test-all` does.
#[expect(clippy::disallowed_methods, reason = "how long a test may take is in the environment")]
fn cases() -> u32 {
    const USUAL: u32 = 1_000;
    std::env::var("ANABRANCH_LAW_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(USUAL)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn columns_are_what_a_person_computes_row_by_row(sql in view(), records in prop::collection::vec(record(), 0..24)) {
        let view = compiled(&sql);
        prop_assert_eq!(partial(&view, &batch(&view, 0, &records)).unwrap(), naive(&view, &records));
    }

    #[test]
    fn any_split_of_any_view_merges_to_the_whole(sql in view(), records in prop::collection::vec(record(), 0..24), at in 0..24usize, middle in 0..24usize) {
        let view = compiled(&sql);
        let (first, second) = records.split_at(at.min(records.len()));
        let whole = partial(&view, &batch(&view, 0, &records)).unwrap();
        let left = partial(&view, &batch(&view, 0, first)).unwrap();
        let right = partial(&view, &batch(&view, first.len() as i64, second)).unwrap();
        let merged = |mut one: Groups, other: &Groups| {
            one.merge(other.clone());
            one
        };
        let mut one = merged(left.clone(), &right);
        prop_assert_eq!(&one, &whole);
        prop_assert_eq!(&merged(right.clone(), &left), &whole);
        // (left ⊕ inner) ⊕ outer = left ⊕ (inner ⊕ outer)
        let (inner, outer) = second.split_at(middle.min(second.len()));
        let rest = first.len() as i64;
        let (inner, outer) = (batch(&view, rest, inner), batch(&view, rest + inner.len() as i64, outer));
        let (inner, outer) = (partial(&view, &inner).unwrap(), partial(&view, &outer).unwrap());
        prop_assert_eq!(&merged(merged(left.clone(), &inner), &outer), &merged(left, &merged(inner, &outer)));
        // Derived measures are computed from the merged states, never merged.
        for row in one.0.values() {
            if let Some(ratio) = measured(&view, row, "ratio") {
                let number = |name: &str| measured(&view, row, name).and_then(|value| value.as_i64());
                prop_assert_eq!(ratio, Value::Double(number("a13").unwrap() as f64 / number("a0").unwrap() as f64));
                let spread = number("a5").zip(number("a4")).and_then(|(most, least)| most.checked_sub(least));
                prop_assert_eq!(measured(&view, row, "spread").unwrap(), spread.map_or(Value::Null, Value::BigInt));
            }
        }
        // The identity, and the round trip through the columns of a table.
        one.merge(Groups::default());
        for row in one.0.values() {
            prop_assert_eq!(&crate::table::row(&view, crate::table::cells(row)).unwrap(), row);
        }
        let table = crate::table::to_batch(&view, one.0.values()).unwrap();
        prop_assert_eq!(crate::table::from_batch(&view, &table).unwrap(), one.0.values().cloned().collect::<Vec<_>>());
        packed_columns(&view, one.0.into_values().collect(), &table)?;
    }
}

/// As serving holds them: in order of their buckets; and what is merged by columns is what is merged by rows.
fn packed_columns(view: &View, mut rows: Vec<Row>, table: &RecordBatch) -> Result<(), TestCaseError> {
    let columns = Columns::of(view, rows.clone()).unwrap();
    prop_assert_eq!(&Columns::of_batches(view, std::slice::from_ref(table), None).unwrap(), &columns);
    rows.sort_by_key(|row| row.bucket(view));
    prop_assert_eq!(columns.len(), rows.len());
    for (index, row) in rows.iter().enumerate() {
        prop_assert_eq!(&columns.row(view, index).unwrap(), row);
    }
    // The rows of two, as one.
    let parts: Vec<Columns> = [0, 1].map(|odd| Columns::of(view, rows.iter().skip(odd).step_by(2).cloned().collect()).unwrap()).into();
    let from: Vec<(&Columns, Vec<usize>)> = parts.iter().map(|part| (part, (0..part.len()).rev().collect())).collect();
    let (gathered, places) = Columns::gathered(view, &from);
    prop_assert_eq!((gathered.len(), places.len()), (rows.len(), rows.len()));
    for (index, (part, row)) in places.iter().enumerate() {
        prop_assert_eq!(gathered.row(view, index).unwrap(), parts[*part].row(view, *row).unwrap());
    }
    prop_assert!((0..gathered.len()).is_sorted_by_key(|index| gathered.row(view, index).unwrap().bucket(view)));
    let mut by_rows = [Row::empty(view, Vec::new()), Row::empty(view, Vec::new())];
    rows.iter().enumerate().for_each(|(index, row)| by_rows[index % 2].merge(row));
    let mut by_columns = [Row::empty(view, Vec::new()), Row::empty(view, Vec::new())];
    let (indexes, slots): (Vec<u32>, Vec<u32>) = (0..rows.len() as u32).map(|row| (row, row % 2)).unzip();
    let sorted = crate::table::to_batch(view, &rows).unwrap();
    for accumulator in 0..view.accumulators.len() {
        // Of all columns, or of those alone that it needs.
        let alone = Columns::of_batches(view, std::slice::from_ref(&sorted), Some(&[accumulator].into())).unwrap();
        prop_assert!((0..view.accumulators.len()).all(|other| alone.merge(view, other).is_some() == (other == accumulator)));
        let mut merge = if accumulator % 2 == 0 { &columns } else { &alone }.merge(view, accumulator).unwrap();
        // In two steps, as a scan does.
        let (first, second) = (indexes.split_at(rows.len() / 2), slots.split_at(rows.len() / 2));
        merge.add(first.0, second.0, &[0, 1], &mut by_columns).unwrap();
        merge.add(first.1, second.1, &[0, 1], &mut by_columns).unwrap();
        merge.finish(&[0, 1], &mut by_columns);
    }
    prop_assert_eq!(by_columns, by_rows);
    for (start, end) in view.bucket.iter().flat_map(|_| rows.iter().zip(rows.iter().rev())).filter_map(|(a, b)| a.bucket(view).zip(b.bucket(view))) {
        let within = |row: &usize| rows[*row].bucket(view).is_some_and(|bucket| start <= bucket && bucket <= end);
        prop_assert_eq!(columns.between((start, end)).collect::<Vec<_>>(), (0..rows.len()).filter(within).collect::<Vec<_>>());
    }
    Ok(())
}
