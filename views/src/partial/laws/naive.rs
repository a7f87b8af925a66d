//! What a person would compute, record by record.

use anabranch_core::definition::{Accumulator, DataType, Expr, Function, Granularity, Literal, Node, View, Width};
use chrono::{DateTime, Datelike, NaiveDate};
use serde_json::Value as Json;

use crate::{GroupHash, Groups, Row, Value};

/// The rows of the reference: key, label, weight.
pub(super) const REFERENCE: [(i64, Option<&str>, f64); 5] =
    [(-3, Some("minus"), 0.5), (0, Some("zero"), 1.5), (1, None, 2.5), (7, Some("seven"), -0.25), (19, Some("zero"), 4.0)];

/// The value of an expression for one record; NULL also where it cannot be computed.
struct Naive<'a> {
    record: &'a Json,
    offset: i64,
    /// The row of the reference.
    joined: Option<&'a (i64, Option<&'static str>, f64)>,
}

impl Naive<'_> {
    fn column(&self, name: &str) -> Value {
        match (name, &self.record[name]) {
            ("r.label", _) => self.joined.and_then(|row| row.1).map_or(Value::Null, |label| Value::Text(label.to_owned())),
            ("r.weight", _) => self.joined.map_or(Value::Null, |row| Value::Double(row.2)),
            ("kafka_offset", _) => Value::BigInt(self.offset),
            ("kafka_partition", _) => Value::BigInt(0),
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
        (Function::IsDistinctFrom, [a, b]) => Boolean(if a.is_null() || b.is_null() { a.is_null() != b.is_null() } else { a.compare(b).is_ne() }),
        (Function::Greatest, arguments) => arguments.iter().filter(|argument| !argument.is_null()).max_by(|a, b| a.compare(b)).cloned().unwrap_or(Null),
        (Function::Least, arguments) => arguments.iter().filter(|argument| !argument.is_null()).min_by(|a, b| a.compare(b)).cloned().unwrap_or(Null),
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
        (Function::StartsWith, [Text(a), Text(b)]) => Boolean(a.starts_with(b.as_str())),
        (Function::Left, [Text(a), BigInt(count)]) => Text(a.chars().take(*count as usize).collect()),
        (Function::Replace, [Text(a), Text(b), Text(c)]) => Text(if b.is_empty() { a.clone() } else { a.replace(b.as_str(), c) }),
        (Function::Like, [Text(a), Text(pattern)]) => Boolean(a.contains(pattern.trim_matches('%'))),
        (Function::Extract, [Text(_), Value::Timestamp(micros)]) => BigInt(micros.div_euclid(3_600_000_000).rem_euclid(24)),
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

fn start(micros: i64, width: Width) -> i64 {
    match width {
        Width::Calendar(granularity) => truncated(micros, granularity),
        Width::Every { micros: every, origin } => micros - (micros - origin).rem_euclid(every),
        Width::Exact => micros,
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
pub(super) fn naive(view: &View, records: &[Json]) -> Groups {
    let mut groups = Groups::default();
    for (offset, record) in (0i64..).zip(records) {
        let joined = match view.joins.first() {
            None => None,
            Some(join) => {
                let found = record["n"].as_i64().and_then(|key| REFERENCE.iter().find(|(known, _, _)| *known == key));
                if join.inner && found.is_none() {
                    continue;
                }
                found
            }
        };
        let naive = Naive { record, offset, joined };
        if view.filter.as_ref().is_some_and(|filter| naive.value(filter) != Value::Boolean(true)) {
            continue;
        }
        let bucket = view.bucket.iter().map(|bucket| match naive.value(&bucket.time) {
            Value::Timestamp(micros) => Value::Timestamp(start(micros, bucket.width)),
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
