//! Filters: trees of `and` and `or` over conditions on members, with the meaning of Cube's REST API.
//!
//! Conditions on dimensions hold before grouping, those on measures after it; one group of a tree cannot mix them.

use std::borrow::Cow;

use anabranch_views::Value;

mod read;

pub(super) use read::conditions;

/// A tree of conditions.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// All must hold.
    All(Vec<Self>),
    /// One must hold.
    Any(Vec<Self>),
    /// On one member.
    One {
        /// Whose value.
        subject: Subject,
        /// What must hold of it.
        test: Test,
    },
}

/// What a condition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The key at this index of a row.
    Key(usize),
    /// The measure at this index of the view.
    Measure(usize),
}

/// What a condition asks.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// One of these; None is NULL.
    OneOf(Vec<Option<Operand>>),
    /// None of these; NULL passes unless it is named.
    NoneOf(Vec<Option<Operand>>),
    /// A text that has one of these, without regard to case.
    Like(Place, Vec<String>),
    /// A text that has none of these; NULL passes where the flag says so.
    Unlike(Place, Vec<String>, bool),
    /// A number or a time beside another one.
    Beside(Comparison, Operand),
    /// Between two moments, both included, in microseconds.
    Within(i64, i64),
    /// Outside; NULL passes.
    Without(i64, i64),
    /// Not NULL.
    Set,
    /// NULL.
    NotSet,
    /// Always.
    True,
}

/// Where in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Anywhere.
    Inside,
    /// At its start.
    Start,
    /// At its end.
    End,
}

/// How a value lies beside another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Greater.
    Greater,
    /// Greater or equal.
    GreaterOrEqual,
    /// Less.
    Less,
    /// Less or equal.
    LessOrEqual,
}

/// A value that a query spells, in the type of its member.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// A text.
    Text(String),
    /// TRUE or FALSE.
    Boolean(bool),
    /// A whole number, or microseconds.
    Integer(i128),
    /// Any other number.
    Number(f64),
}

/// The conditions of a query: those before grouping, and those after it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conditions {
    /// On dimensions.
    pub rows: Vec<Condition>,
    /// On measures.
    pub groups: Vec<Condition>,
}

impl Condition {
    /// What it is about.
    pub fn subjects(&self, found: &mut impl FnMut(Subject)) {
        match self {
            Self::All(list) | Self::Any(list) => list.iter().for_each(|condition| condition.subjects(found)),
            Self::One { subject, .. } => found(*subject),
        }
    }

    /// Whether it holds of a row; `value` gives the value of a subject.
    #[must_use]
    pub fn holds<'a>(&self, value: &dyn Fn(Subject) -> Cow<'a, Value>) -> bool {
        match self {
            Self::All(list) => list.iter().all(|condition| condition.holds(value)),
            Self::Any(list) => list.iter().any(|condition| condition.holds(value)),
            Self::One { subject, test } => test.holds(&value(*subject)),
        }
    }
}

impl Test {
    fn holds(&self, value: &Value) -> bool {
        let named = |operands: &[Option<Operand>]| {
            operands.iter().any(|operand| match operand {
                None => value.is_null(),
                Some(operand) => compare(value, operand) == Some(std::cmp::Ordering::Equal),
            })
        };
        match self {
            Self::OneOf(operands) => named(operands),
            Self::NoneOf(operands) => !named(operands),
            Self::Like(place, texts) => has(value, *place, texts),
            Self::Unlike(place, texts, null_passes) => {
                if value.is_null() {
                    *null_passes
                } else {
                    !has(value, *place, texts)
                }
            }
            Self::Beside(comparison, operand) => compare(value, operand).is_some_and(|ordering| match comparison {
                Comparison::Greater => ordering.is_gt(),
                Comparison::GreaterOrEqual => ordering.is_ge(),
                Comparison::Less => ordering.is_lt(),
                Comparison::LessOrEqual => ordering.is_le(),
            }),
            Self::Within(start, end) => micros(value).is_some_and(|at| (*start..=*end).contains(&at)),
            Self::Without(start, end) => micros(value).is_none_or(|at| !(*start..=*end).contains(&at)),
            Self::Set => !value.is_null(),
            Self::NotSet => value.is_null(),
            Self::True => true,
        }
    }
}

fn has(value: &Value, place: Place, texts: &[String]) -> bool {
    let Some(value) = anabranch_views::scalar::text(value).map(|text| text.to_lowercase()) else { return false };
    texts.iter().any(|text| match place {
        Place::Inside => value.contains(text.as_str()),
        Place::Start => value.starts_with(text.as_str()),
        Place::End => value.ends_with(text.as_str()),
    })
}

fn micros(value: &Value) -> Option<i64> {
    const DAY: i64 = 86_400_000_000;
    match value {
        Value::Date(days) => i64::from(*days).checked_mul(DAY),
        Value::Timestamp(micros) => Some(*micros),
        _ => None,
    }
}

/// How a value lies beside an operand; nothing for NULL and for what cannot be compared.
#[expect(clippy::cast_precision_loss, reason = "where one side is a DOUBLE, both are")]
fn compare(value: &Value, operand: &Operand) -> Option<std::cmp::Ordering> {
    match (value, operand) {
        (Value::Text(text), Operand::Text(other)) => Some(text.as_bytes().cmp(other.as_bytes())),
        (Value::Boolean(value), Operand::Boolean(other)) => Some(value.cmp(other)),
        (Value::BigInt(value), Operand::Integer(other)) => Some(i128::from(*value).cmp(other)),
        (Value::Decimal(value, 0), Operand::Integer(other)) => Some(value.cmp(other)),
        (Value::Date(_) | Value::Timestamp(_), Operand::Integer(other)) => Some(i128::from(micros(value)?).cmp(other)),
        (Value::BigInt(value), Operand::Number(other)) => (*value as f64).partial_cmp(other),
        (Value::Double(value), Operand::Integer(other)) => value.partial_cmp(&(*other as f64)),
        (Value::Double(value), Operand::Number(other)) => value.partial_cmp(other),
        (Value::Decimal(value, scale), Operand::Integer(other)) => Some(value.cmp(&other.checked_mul(10i128.checked_pow(u32::from(*scale))?)?)),
        (Value::Decimal(value, scale), Operand::Number(other)) => {
            // As the digits that the number is written with.
            match anabranch_views::scalar::parse_decimal(&other.to_string(), 38, 18) {
                Some(other) => Some(Value::Decimal(*value, *scale).compare(&other)),
                None => (*value as f64 / 10f64.powi(i32::from(*scale))).partial_cmp(other),
            }
        }
        _ => None,
    }
}
