//! Typed scalar expressions.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use super::function::Function;

/// The type of a column, an expression or a measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataType {
    /// true, false.
    Boolean,
    /// 64-bit integers.
    BigInt,
    /// 64-bit floating point.
    Double,
    /// Exact numbers with a fixed number of digits behind the point. Declared ones have at most 18 digits; sums have 38.
    Decimal {
        /// All digits, 1 to 38.
        precision: u8,
        /// Those behind the point.
        scale: u8,
    },
    /// UTF-8 without U+0000.
    Text,
    /// A day.
    Date,
    /// Microseconds, UTC.
    Timestamp,
}

/// The most digits of a DECIMAL.
pub const MAX_PRECISION: u8 = 38;
/// The most digits of a declared or summed DECIMAL: as in BIGINT, the sum of 2⁶³ of them fits 128 bits, so that no order of
/// adding overflows.
pub const MAX_SUMMED_PRECISION: u8 = 18;

impl DataType {
    /// Sums of BIGINT.
    pub const SUM: Self = Self::Decimal { precision: MAX_PRECISION, scale: 0 };

    /// Whether arithmetic takes it.
    #[must_use]
    pub fn is_number(self) -> bool {
        matches!(self, Self::BigInt | Self::Double | Self::Decimal { .. })
    }

    /// The digits behind the point of an exact number; 0 for every other type.
    #[must_use]
    pub fn scale(self) -> u8 {
        if let Self::Decimal { scale, .. } = self { scale } else { 0 }
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Decimal { precision, scale } => return write!(f, "DECIMAL({precision},{scale})"),
            Self::Boolean => "BOOLEAN",
            Self::BigInt => "BIGINT",
            Self::Double => "DOUBLE",
            Self::Text => "TEXT",
            Self::Date => "DATE",
            Self::Timestamp => "TIMESTAMP",
        })
    }
}

/// To what a time is truncated; weeks begin on Monday.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Granularity {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// Seven days from Monday.
    Week,
    /// A month.
    Month,
    /// A quarter of a year.
    Quarter,
    /// A year.
    Year,
}

impl Granularity {
    /// All of them, the finest first.
    pub const ALL: [Self; 8] = [Self::Second, Self::Minute, Self::Hour, Self::Day, Self::Week, Self::Month, Self::Quarter, Self::Year];

    /// The granularity of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|granularity| granularity.name() == name)
    }

    /// Its name in SQL and in queries.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Quarter => "quarter",
            Self::Year => "year",
        }
    }

    /// Whether buckets of `finer` fall into whole buckets of this one.
    #[must_use]
    pub fn is_made_of(self, finer: Self) -> bool {
        finer <= self && !(finer == Self::Week && self > Self::Week)
    }
}

/// A constant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Literal {
    /// NULL.
    Null,
    /// TRUE, FALSE.
    Boolean(bool),
    /// An integer.
    BigInt(i64),
    /// A number with a fraction or an exponent.
    Double(f64),
    /// A string.
    Text(String),
    /// DATE '…': days since 1970.
    Date(i32),
    /// TIMESTAMP '…': microseconds since 1970, UTC.
    Timestamp(i64),
}

/// An expression with its type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expr {
    /// What it is made of.
    pub node: Node,
    /// The type of its value.
    pub data_type: DataType,
}

/// The parts of an expression.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Node {
    /// A column of the source.
    Column(String),
    /// A constant.
    Literal(Literal),
    /// A function or operator with its arguments.
    Call(Function, Vec<Expr>),
    /// CASE WHEN … THEN … ELSE … END.
    Case {
        /// Condition and value, in order.
        branches: Vec<(Expr, Expr)>,
        /// ELSE.
        otherwise: Option<Box<Expr>>,
    },
    /// CAST(… AS the expression's type).
    Cast(Box<Expr>),
}

impl Expr {
    /// A column.
    #[must_use]
    pub fn column(name: &str, data_type: DataType) -> Self {
        Self { node: Node::Column(name.to_owned()), data_type }
    }

    /// Adds the names of the columns in this expression.
    pub fn collect_columns(&self, names: &mut BTreeSet<String>) {
        match &self.node {
            Node::Column(name) => {
                names.insert(name.clone());
            }
            Node::Literal(_) => {}
            Node::Call(_, arguments) => arguments.iter().for_each(|argument| argument.collect_columns(names)),
            Node::Case { branches, otherwise } => {
                for (condition, value) in branches {
                    condition.collect_columns(names);
                    value.collect_columns(names);
                }
                otherwise.iter().for_each(|value| value.collect_columns(names));
            }
            Node::Cast(inner) => inner.collect_columns(names),
        }
    }
}
