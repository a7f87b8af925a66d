//! Laws over generated definitions and records: what Polars computes by columns is what a person would compute row by
//! row, and a split anywhere merges to the whole.
#![expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "small numbers of a test")]

use anabranch_core::definition::{Accumulator, Expr, File, Function, Granularity, Literal, Node, parse};
use chrono::{DateTime, Datelike, NaiveDate};
use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;
use crate::decode::{Decoder, RawRecord, Wanted};

const SOURCE: &str = "CREATE TABLE t (n BIGINT, m BIGINT, d DOUBLE, s TEXT, b BOOLEAN, at TIMESTAMP)
    WITH (connector = 'kafka', topic = 't', format = 'json', event_time = 'at');\n";

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
        1 => (bigint(depth - 1), bigint(depth - 1)).prop_map(|(a, b)| format!("({a} IN ({b}, 3))")),
    ]
    .boxed()
}

/// A view with a bucket or without, one or two dimensions, a condition or none, and every aggregate.
fn view() -> impl Strategy<Value = String> {
    let bucket = prop::option::of(prop::sample::select(&Granularity::ALL[..]));
    let dimension = prop_oneof![bigint(2), text(2), boolean(2)];
    let aggregates = (bigint(2), double(2), text(2), boolean(1));
    (bucket, prop::collection::vec(dimension, 1..3), aggregates, prop::option::of(boolean(2))).prop_map(|(bucket, dimensions, aggregates, condition)| {
        let (n, d, s, b) = aggregates;
        let mut columns: Vec<String> = bucket.iter().map(|bucket| format!("date_trunc('{}', at) AS bucket", bucket.name())).collect();
        columns.extend(dimensions.iter().enumerate().map(|(index, dimension)| format!("{dimension} AS k{index}")));
        let keys: Vec<String> = (1..=columns.len()).map(|position| position.to_string()).collect();
        let aggregates = [
            "count(*) AS a0".to_owned(),
            format!("count({s}) AS a1, count({b}) AS a2"),
            format!("sum({n}) AS a3, min({n}) AS a4, max({n}) AS a5, avg({n}) AS a6"),
            format!("min({s}) AS a7, max({d}) AS a8, last({s}) AS a9, last({n}) AS a10"),
            format!("approx_count_distinct({s}) AS a11, approx_percentile_cont({d}, 0.5) AS a12"),
        ];
        let condition = condition.map(|condition| format!(" WHERE {condition}")).unwrap_or_default();
        format!("CREATE MATERIALIZED VIEW v AS SELECT {}, {} FROM t{condition} GROUP BY {}", columns.join(", "), aggregates.join(", "), keys.join(", "))
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

/// The value of an expression for one record; NULL also where it cannot be computed.
struct Naive<'a> {
    record: &'a Json,
    offset: i64,
}

impl Naive<'_> {
    fn column(&self, name: &str) -> Value {
        match (name, &self.record[name]) {
            ("kafka_offset", _) => Value::BigInt(self.offset),
            ("d", json) => json.as_f64().map_or(Value::Null, Value::Double),
            ("n" | "m", json) => json.as_i64().map_or(Value::Null, Value::BigInt),
            ("b", json) => json.as_bool().map_or(Value::Null, Value::Boolean),
            ("at", json) => {
                json.as_str().and_then(|text| text.parse::<DateTime<chrono::Utc>>().ok()).map_or(Value::Null, |time| Value::Timestamp(time.timestamp_micros()))
            }
            (_, json) => json.as_str().map_or(Value::Null, |text| Value::Text(text.to_owned())),
        }
    }

    fn value(&self, expression: &Expr) -> Value {
        match &expression.node {
            Node::Column(name) => self.column(name),
            Node::Literal(Literal::BigInt(value)) => Value::BigInt(*value),
            Node::Literal(Literal::Double(value)) => Value::Double(*value),
            Node::Literal(Literal::Text(value)) => Value::Text(value.clone()),
            Node::Literal(Literal::Boolean(value)) => Value::Boolean(*value),
            Node::Literal(_) => Value::Null,
            Node::Cast(inner) => cast(self.value(inner), expression.data_type),
            Node::Case { branches, otherwise } => {
                let taken = branches.iter().find(|(condition, _)| self.value(condition) == Value::Boolean(true)).map(|(_, value)| value);
                taken.or(otherwise.as_deref()).map_or(Value::Null, |value| self.value(value))
            }
            Node::Call(function, arguments) => call(*function, &arguments.iter().map(|argument| self.value(argument)).collect::<Vec<_>>()),
        }
    }
}

fn cast(value: Value, target: DataType) -> Value {
    match (value, target) {
        (Value::BigInt(value), DataType::Double) => Value::Double(value as f64),
        (Value::BigInt(value), DataType::Text) => Value::Text(value.to_string()),
        (Value::Boolean(value), DataType::Text) => Value::Text(value.to_string()),
        (Value::Double(value), DataType::BigInt) => {
            let rounded = value.round_ties_even();
            let limit = -(i64::MIN as f64);
            if (-limit..limit).contains(&rounded) { Value::BigInt(rounded as i64) } else { Value::Null }
        }
        (Value::Text(text), DataType::BigInt) => text.trim().parse().map_or(Value::Null, Value::BigInt),
        (value, _) => value,
    }
}

fn call(function: Function, arguments: &[Value]) -> Value {
    use Value::{BigInt, Boolean, Double, Null, Text};
    let integer = |value: Option<i128>| value.and_then(|value| i64::try_from(value).ok()).map_or(Null, BigInt);
    let ordering = || match arguments {
        [a, b] if !a.is_null() && !b.is_null() => Some(a.compare(b)),
        _ => None,
    };
    let test = |test: fn(std::cmp::Ordering) -> bool| ordering().map_or(Null, |ordering| Boolean(test(ordering)));
    match (function, arguments) {
        (Function::IsNull, [a]) => Boolean(a.is_null()),
        (Function::Coalesce, arguments) => arguments.iter().find(|argument| !argument.is_null()).cloned().unwrap_or(Null),
        (Function::NullIf, [a, _]) => {
            if ordering().is_some_and(std::cmp::Ordering::is_eq) {
                Null
            } else {
                a.clone()
            }
        }
        (Function::And, arguments) if arguments.contains(&Boolean(false)) => Boolean(false),
        (Function::Or, arguments) if arguments.contains(&Boolean(true)) => Boolean(true),
        (_, arguments) if arguments.contains(&Null) => Null,
        (Function::And, _) => Boolean(true),
        (Function::Or, _) => Boolean(false),
        (Function::Not, [Boolean(a)]) => Boolean(!a),
        (Function::Equal, _) => test(std::cmp::Ordering::is_eq),
        (Function::NotEqual, _) => test(std::cmp::Ordering::is_ne),
        (Function::Less, _) => test(std::cmp::Ordering::is_lt),
        (Function::LessOrEqual, _) => test(std::cmp::Ordering::is_le),
        (Function::Greater, _) => test(std::cmp::Ordering::is_gt),
        (Function::GreaterOrEqual, _) => test(std::cmp::Ordering::is_ge),
        (Function::Abs, [BigInt(a)]) => integer(Some(i128::from(*a).abs())),
        (Function::Abs, [Double(a)]) => Double(a.abs()),
        (_, [BigInt(a), BigInt(b)]) => {
            let (a, b) = (i128::from(*a), i128::from(*b));
            integer(match function {
                Function::Add => Some(a + b),
                Function::Subtract => Some(a - b),
                Function::Multiply => Some(a * b),
                Function::Divide => a.checked_div(b),
                _ => a.checked_rem(b),
            })
        }
        (_, [Double(a), Double(b)]) => match function {
            Function::Add => Double(a + b),
            Function::Subtract => Double(a - b),
            Function::Multiply => Double(a * b),
            _ if *b == 0.0 => Null,
            _ => Double(a / b),
        },
        (Function::Concat, [Text(a), Text(b)]) => Text(format!("{a}{b}")),
        (Function::Upper, [Text(a)]) => Text(a.to_uppercase()),
        (Function::Lower, [Text(a)]) => Text(a.to_lowercase()),
        (Function::Trim, [Text(a)]) => Text(a.trim_matches(' ').to_owned()),
        (Function::Length, [Text(a)]) => BigInt(a.chars().count() as i64),
        (Function::SplitPart, [Text(text), Text(delimiter), BigInt(field)]) => {
            let mut pieces: Vec<&str> = text.split(delimiter.as_str()).collect();
            if *field < 0 {
                pieces.reverse();
            }
            Text(pieces.get(field.unsigned_abs() as usize - 1).copied().unwrap_or("").to_owned())
        }
        (function, arguments) => panic!("{function:?} of {arguments:?}"),
    }
}

fn truncated(micros: i64, granularity: Granularity) -> i64 {
    let time = DateTime::from_timestamp_micros(micros).unwrap();
    let date = time.date_naive();
    let day = match granularity {
        Granularity::Second => return micros.div_euclid(1_000_000) * 1_000_000,
        Granularity::Minute => return micros.div_euclid(60_000_000) * 60_000_000,
        Granularity::Hour => return micros.div_euclid(3_600_000_000) * 3_600_000_000,
        Granularity::Day => Some(date),
        Granularity::Week => date.checked_sub_days(chrono::Days::new(u64::from(date.weekday().num_days_from_monday()))),
        Granularity::Month => date.with_day(1),
        Granularity::Quarter => NaiveDate::from_ymd_opt(date.year(), date.month0() / 3 * 3 + 1, 1),
        Granularity::Year => NaiveDate::from_ymd_opt(date.year(), 1, 1),
    };
    day.unwrap().and_hms_opt(0, 0, 0).unwrap().and_utc().timestamp_micros()
}

/// The groups of a view, folded record by record.
fn naive(view: &View, records: &[Json]) -> Groups {
    let mut groups = Groups::default();
    for (offset, record) in (0i64..).zip(records) {
        let naive = Naive { record, offset };
        if view.filter.as_ref().is_some_and(|filter| naive.value(filter) != Value::Boolean(true)) {
            continue;
        }
        let bucket = view.bucket.iter().map(|bucket| match naive.value(&bucket.time) {
            Value::Timestamp(micros) => Value::Timestamp(truncated(micros, bucket.granularity)),
            _ => Value::Null,
        });
        let key: Vec<Value> = bucket.chain(view.dimensions.iter().map(|dimension| naive.value(&dimension.expression))).collect();
        let mut row = Row::empty(view, key.clone());
        for (state, Accumulator { argument, .. }) in row.states.iter_mut().zip(&view.accumulators) {
            let position = naive.column("at").as_i64().map(|time| (time, 0, offset));
            match argument.as_ref().map(|argument| naive.value(argument)) {
                None => state.add(Value::BigInt(1), position),
                Some(Value::Null) => {}
                Some(Value::Double(value)) => state.add(Value::Double(crate::value::canonical(value)), position),
                Some(value) => state.add(value, position),
            }
        }
        groups.merge_row(GroupHash::of(&key), row);
    }
    groups
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
    pipeline.views.into_iter().find(|view| view.name == "v").unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, failure_persistence: None, ..ProptestConfig::default() })]
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
        // The identity, and the round trip through the columns of a table.
        one.merge(Groups::default());
        for row in one.0.values() {
            prop_assert_eq!(&crate::table::row(&view, crate::table::cells(row)).unwrap(), row);
        }
        let table = crate::table::to_batch(&view, one.0.values()).unwrap();
        prop_assert_eq!(crate::table::from_batch(&view, &table).unwrap(), one.0.values().cloned().collect::<Vec<_>>());
    }
}
