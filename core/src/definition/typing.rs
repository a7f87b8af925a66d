//! Which types a function takes, and what it gives.

use chrono::{NaiveDate, NaiveDateTime};
use sqlparser::tokenizer::Span;

use super::{
    DataType, Expr, Granularity, Literal, Node,
    error::Mistake,
    expression::MAX_PRECISION,
    function::{Function, Kind, Signature},
};

const MICROS_OF_DAY: i64 = 86_400_000_000;
/// The digits that a BIGINT may have.
const BIGINT_DIGITS: u8 = 19;

/// The fields that `extract` knows.
pub(super) const FIELDS: [&str; 17] = [
    "century",
    "decade",
    "year",
    "isoyear",
    "quarter",
    "month",
    "week",
    "day",
    "doy",
    "dow",
    "isodow",
    "hour",
    "minute",
    "second",
    "millisecond",
    "microsecond",
    "epoch",
];

pub(super) fn constant(literal: Literal, data_type: DataType) -> Expr {
    Expr { node: Node::Literal(literal), data_type }
}

pub(super) fn text(text: &str) -> Expr {
    constant(Literal::Text(text.to_owned()), DataType::Text)
}

pub(super) fn integer(value: i64) -> Expr {
    constant(Literal::BigInt(value), DataType::BigInt)
}

/// A time as `2026-01-31 12:00:00.5` or with a T, or a day; microseconds since 1970.
pub(super) fn timestamp_micros(text: &str) -> Option<i64> {
    let text = text.trim().trim_end_matches('Z').replace('T', " ");
    let time = NaiveDateTime::parse_from_str(&text, "%Y-%m-%d %H:%M:%S%.f").ok();
    let day = || NaiveDate::parse_from_str(&text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
    Some(time.or_else(day)?.and_utc().timestamp_micros())
}

/// The digits before and behind the point of a literal DOUBLE as it is written shortest; nothing where it needs an exponent.
fn digits(value: f64) -> Option<(u8, u8)> {
    let text = format!("{}", value.abs());
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let (whole, fraction) = (u8::try_from(whole.len()).ok()?, u8::try_from(fraction.len()).ok()?);
    (whole + fraction <= MAX_PRECISION).then_some((whole, fraction))
}

fn decimal(whole: u8, scale: u8) -> DataType {
    DataType::Decimal { precision: whole.saturating_add(scale).min(MAX_PRECISION), scale }
}

/// The digits before and behind the point that an exact number may have.
fn room(expression: &Expr) -> Option<(u8, u8)> {
    match (&expression.node, expression.data_type) {
        (Node::Literal(Literal::Double(value)), _) => digits(*value),
        (Node::Literal(Literal::BigInt(value)), _) => digits(f64::from(i32::try_from(*value).ok()?)).or(Some((BIGINT_DIGITS, 0))),
        (_, DataType::BigInt) => Some((BIGINT_DIGITS, 0)),
        (_, DataType::Decimal { precision, scale }) => Some((precision - scale, scale)),
        _ => None,
    }
}

fn is_null(expression: &Expr) -> bool {
    matches!(expression.node, Node::Literal(Literal::Null))
}

/// The type that all arguments can have.
pub(super) fn common_type(arguments: &[&Expr]) -> DataType {
    let typed: Vec<&Expr> = arguments.iter().copied().filter(|argument| !is_null(argument)).collect();
    let is_text = |argument: &&Expr| matches!(argument.node, Node::Literal(Literal::Text(_)));
    let Some(strong) = typed.iter().copied().find(|argument| !is_text(argument)).or(typed.first().copied()) else { return DataType::Text };
    let has = |wanted: fn(&Expr) -> bool| typed.iter().copied().any(wanted);
    if !strong.data_type.is_number() {
        return if has(|argument| argument.data_type == DataType::Timestamp) { DataType::Timestamp } else { strong.data_type };
    }
    let exact = has(|argument| matches!(argument.data_type, DataType::Decimal { .. }));
    let double = has(|argument| argument.data_type == DataType::Double);
    let rooms: Option<Vec<(u8, u8)>> = typed.iter().copied().filter(|argument| !is_text(argument)).map(room).collect();
    match rooms {
        Some(rooms) if exact => decimal(rooms.iter().map(|room| room.0).max().unwrap_or(1), rooms.iter().map(|room| room.1).max().unwrap_or(0)),
        _ if double || exact => DataType::Double,
        _ => DataType::BigInt,
    }
}

/// An expression in the type of what it meets: 'text' as a time or a day, NULL as anything, numbers as wider ones.
pub(super) fn adapt(expression: Expr, target: DataType, span: Span) -> Result<Expr, Mistake> {
    use DataType::{BigInt, Date, Decimal, Double, Timestamp};
    let bad = |text: &str| Mistake::new("bad_literal", span, format!("'{text}' is not a {target}")).help("as '2026-01-31' or '2026-01-31 12:00:00'");
    Ok(match (&expression.node, target) {
        (Node::Literal(Literal::Null), _) => constant(Literal::Null, target),
        _ if expression.data_type == target => expression,
        (Node::Literal(Literal::Text(text)), Timestamp) => constant(Literal::Timestamp(timestamp_micros(text).ok_or_else(|| bad(text))?), target),
        (Node::Literal(Literal::Text(text)), Date) => {
            let micros = timestamp_micros(text).ok_or_else(|| bad(text))?;
            constant(Literal::Date(i32::try_from(micros.div_euclid(MICROS_OF_DAY)).map_err(|_| bad(text))?), target)
        }
        (Node::Literal(Literal::Double(value)), Decimal { .. }) if digits(*value).is_some() => widened(expression, target),
        _ if matches!((expression.data_type, target), (BigInt | Decimal { .. }, Double) | (BigInt | Decimal { .. }, Decimal { .. }) | (Date, Timestamp)) => {
            widened(expression, target)
        }
        _ => expression,
    })
}

fn widened(expression: Expr, target: DataType) -> Expr {
    Expr { node: Node::Cast(Box::new(expression)), data_type: target }
}

fn wrong_types(name: &str, arguments: &[Expr], span: Span, help: &str) -> Mistake {
    let types: Vec<String> = arguments.iter().map(|argument| argument.data_type.to_string()).collect();
    Mistake::new("wrong_types", span, format!("{name} does not take ({})", types.join(", "))).help(help)
}

/// A function with its arguments, typed.
pub(super) fn call(function: Function, arguments: Vec<Expr>, span: Span) -> Result<Expr, Mistake> {
    match function {
        Function::Add | Function::Subtract | Function::Multiply | Function::Divide | Function::Modulo => return arithmetic(function, arguments, span),
        Function::SplitPart if arguments.get(2).is_some_and(|field| field.node == Node::Literal(Literal::BigInt(0))) => {
            return Err(Mistake::new("split_part_zero", span, "the field of split_part is not 0").help("1 is the first, -1 the last"));
        }
        Function::DateTrunc => one_of(&arguments, "granularity", &Granularity::ALL.map(Granularity::name), span)?,
        Function::Extract => one_of(&arguments, "field", &FIELDS, span)?,
        Function::DateBin if !arguments.first().is_some_and(|every| matches!(every.node, Node::Literal(Literal::BigInt(1..)))) => {
            return Err(Mistake::new("bad_interval", span, "date_bin needs an interval of days or less")
                .help("date_bin(INTERVAL '15 minutes', time, TIMESTAMP '2026-01-01 00:00:00')"));
        }
        Function::RegexpLike | Function::RegexpReplace | Function::RegexpSubstr => match arguments.get(1).map(|pattern| &pattern.node) {
            Some(Node::Literal(Literal::Text(pattern))) => {
                if let Err(error) = regex::Regex::new(pattern) {
                    let reason = error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                    return Err(Mistake::new("bad_pattern", span, format!("'{pattern}' is not a regular expression: {reason}"))
                        .help("the syntax of Rust's regex library"));
                }
            }
            _ => return Err(Mistake::new("bad_arguments", span, format!("{} needs its pattern as a constant", function.name())).help("'[0-9]+'")),
        },
        _ => {}
    }
    let signatures = function.entry().signatures;
    for signature in signatures {
        if let Some(result) = fits(function, signature, &arguments, span) {
            return result;
        }
    }
    let forms: Vec<String> = signatures.iter().map(|signature| super::function::form(function.name(), signature)).collect();
    Err(wrong_types(function.name(), &arguments, span, &forms.join(" or ")))
}

/// The first argument is one of these words.
fn one_of(arguments: &[Expr], what: &str, words: &[&str], span: Span) -> Result<(), Mistake> {
    match arguments.first().map(|word| &word.node) {
        Some(Node::Literal(Literal::Text(word))) if words.contains(&word.as_str()) => Ok(()),
        Some(Node::Literal(Literal::Text(word))) => {
            let message = format!("unknown {what} '{word}'");
            let mistake = if what == "field" { Mistake::new("unknown_field", span, message) } else { Mistake::new("unknown_granularity", span, message) };
            Err(mistake.nearest(word, words.iter().copied()))
        }
        _ => Err(Mistake::new("bad_arguments", span, format!("the {what} is a word in quotes")).help(format!("one of {}", words.join(", ")))),
    }
}

/// The call in this form; nothing when the arguments are not those.
fn fits(function: Function, signature: &Signature, arguments: &[Expr], span: Span) -> Option<Result<Expr, Mistake>> {
    let fixed = signature.takes.len();
    let right_number = if signature.variadic { arguments.len() >= fixed } else { arguments.len() == fixed };
    if !right_number {
        return None;
    }
    let kind = |index: usize| signature.takes.get(index).or(signature.takes.last()).copied().unwrap_or(Kind::Any);
    let free: Vec<&Expr> =
        arguments.iter().enumerate().filter(|(index, _)| matches!(kind(*index), Kind::Any | Kind::Number)).map(|(_, argument)| argument).collect();
    let common = common_type(&free);
    let type_of = |kind: Kind| match kind {
        Kind::Boolean => DataType::Boolean,
        Kind::BigInt => DataType::BigInt,
        Kind::Double => DataType::Double,
        Kind::Text => DataType::Text,
        Kind::Date => DataType::Date,
        Kind::Timestamp => DataType::Timestamp,
        Kind::Number | Kind::Any => common,
    };
    if signature.takes.contains(&Kind::Number) && !common.is_number() {
        return None;
    }
    let mut adapted = Vec::with_capacity(arguments.len());
    for (index, argument) in arguments.iter().enumerate() {
        let target = type_of(kind(index));
        match adapt(argument.clone(), target, span) {
            Ok(argument) if argument.data_type == target => adapted.push(argument),
            Ok(_) => return None,
            Err(mistake) => return Some(Err(mistake)),
        }
    }
    Some(Ok(Expr { node: Node::Call(function, adapted), data_type: type_of(signature.gives) }))
}

fn arithmetic(function: Function, arguments: Vec<Expr>, span: Span) -> Result<Expr, Mistake> {
    use DataType::{BigInt, Date, Decimal, Double};
    let refuse = |arguments: &[Expr], help: &str| Err(wrong_types(function.name(), arguments, span, help));
    let Ok([left, right]) = <[Expr; 2]>::try_from(arguments) else { return refuse(&[], "two numbers") };
    let call = |left: Expr, right: Expr, data_type: DataType| Ok(Expr { node: Node::Call(function, vec![left, right]), data_type });
    match (function, left.data_type, right.data_type) {
        (Function::Add | Function::Subtract, Date, BigInt) => return call(left, right, Date),
        (Function::Subtract, Date, Date) => return call(left, right, BigInt),
        (Function::Add, BigInt, Date) => return call(right, left, Date),
        (Function::Subtract, DataType::Timestamp, DataType::Timestamp) => {
            return refuse(&[left, right], "extract(epoch FROM a) - extract(epoch FROM b) gives the seconds between them");
        }
        _ => {}
    }
    let common = common_type(&[&left, &right]);
    if !common.is_number() || (!is_null(&left) && !left.data_type.is_number()) || (!is_null(&right) && !right.data_type.is_number()) {
        return refuse(&[left, right], "two numbers");
    }
    let (left_room, right_room) = (room(&left), room(&right));
    let target = match (function, common, left_room, right_room) {
        (_, Decimal { .. }, _, _) if function == Function::Divide => Double,
        (Function::Multiply, Decimal { .. }, Some((whole, scale)), Some((other_whole, other_scale))) => {
            let scale = scale + other_scale;
            if whole + other_whole + scale > MAX_PRECISION {
                return refuse(&[left, right], "the product has more than 38 digits: CAST one of them to a DECIMAL with fewer, or to DOUBLE");
            }
            // Each keeps its own scale: that of the product is their sum.
            let exact = |value: Expr, room: (u8, u8)| adapt(value, decimal(room.0, room.1), span);
            let (left, right) = (exact(left, (whole, scale - other_scale))?, exact(right, (other_whole, other_scale))?);
            return call(left, right, decimal(whole + other_whole, scale));
        }
        (_, Decimal { precision, scale }, _, _) => {
            let result = decimal(precision - scale + 1, scale);
            let (left, right) = (adapt(left, common, span)?, adapt(right, common, span)?);
            return call(left, right, result);
        }
        (_, other, _, _) => other,
    };
    let (left, right) = (adapt(left, target, span)?, adapt(right, target, span)?);
    call(left, right, target)
}

pub(super) fn negate(expression: Expr, span: Span) -> Result<Expr, Mistake> {
    match expression.node {
        Node::Literal(Literal::BigInt(value)) => Ok(integer(value.wrapping_neg())),
        Node::Literal(Literal::Double(value)) => Ok(constant(Literal::Double(-value), DataType::Double)),
        _ => call(Function::Subtract, vec![integer(0), expression], span),
    }
}

pub(super) fn case(branches: Vec<(Expr, Expr)>, otherwise: Option<Expr>, span: Span) -> Result<Expr, Mistake> {
    let values: Vec<&Expr> = branches.iter().map(|(_, value)| value).chain(&otherwise).collect();
    let target = common_type(&values);
    let typed = |value: Expr| -> Result<Expr, Mistake> {
        let value = adapt(value, target, span)?;
        if value.data_type == target { Ok(value) } else { Err(wrong_types("CASE", &[value], span, "values of one type")) }
    };
    let branches = branches
        .into_iter()
        .map(|(condition, value)| match condition.data_type {
            DataType::Boolean => Ok((condition, typed(value)?)),
            other => Err(Mistake::new("wrong_types", span, format!("WHEN needs a condition, not {other}"))),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let otherwise = otherwise.map(typed).transpose()?.map(Box::new);
    Ok(Expr { node: Node::Case { branches, otherwise }, data_type: target })
}

pub(super) fn cast(expression: Expr, target: DataType, span: Span) -> Result<Expr, Mistake> {
    use DataType::{BigInt, Boolean, Date, Decimal, Double, Text, Timestamp};
    if is_null(&expression) || (matches!(expression.node, Node::Literal(Literal::Text(_))) && matches!(target, Date | Timestamp)) {
        return adapt(expression, target, span);
    }
    let allowed = matches!(
        (expression.data_type, target),
        (BigInt | Double | Decimal { .. }, BigInt | Double | Decimal { .. } | Text)
            | (Text, BigInt | Double | Decimal { .. } | Boolean | Text | Date | Timestamp)
            | (Boolean, BigInt | Text | Boolean)
            | (Timestamp, Date | Timestamp | Text)
            | (Date, Timestamp | Date | Text)
    );
    if allowed {
        return Ok(widened(expression, target));
    }
    Err(Mistake::new("cast", span, format!("{} cannot be cast to {target}", expression.data_type)))
}

/// `15 minutes`, `1 month 3 days`: months and microseconds.
pub(super) fn interval(text: &str) -> Option<(i64, i64)> {
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.is_empty() || !words.len().is_multiple_of(2) {
        return None;
    }
    let mut total = (0i64, 0i64);
    for pair in words.chunks_exact(2) {
        let [number, unit] = pair else { return None };
        let number: i64 = number.parse().ok()?;
        let unit = unit.to_lowercase();
        let (months, micros) = match unit.strip_suffix('s').unwrap_or(&unit) {
            "microsecond" => (0, 1),
            "millisecond" => (0, 1_000),
            "second" | "sec" => (0, 1_000_000),
            "minute" | "min" => (0, 60_000_000),
            "hour" => (0, 3_600_000_000),
            "day" => (0, MICROS_OF_DAY),
            "week" => (0, 7 * MICROS_OF_DAY),
            "month" => (1, 0),
            "year" => (12, 0),
            _ => return None,
        };
        total = (total.0.checked_add(number.checked_mul(months)?)?, total.1.checked_add(number.checked_mul(micros)?)?);
    }
    Some(total)
}
