//! Typed scalar expressions.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

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
    /// Sums of integers: DECIMAL(38,0).
    Decimal,
    /// UTF-8 without U+0000.
    Text,
    /// A day.
    Date,
    /// Microseconds, UTC.
    Timestamp,
}

impl DataType {
    /// Whether arithmetic takes it.
    #[must_use]
    pub fn is_number(self) -> bool {
        matches!(self, Self::BigInt | Self::Double | Self::Decimal)
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boolean => "BOOLEAN",
            Self::BigInt => "BIGINT",
            Self::Double => "DOUBLE",
            Self::Decimal => "DECIMAL(38,0)",
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

macro_rules! functions {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Functions and operators; their meaning is PostgreSQL's.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Function {
            $($(#[$doc])* $variant,)*
        }

        impl Function {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name in SQL, or its sign.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

functions! {
    /// The sum of two numbers.
    Add = "+",
    /// Their difference.
    Subtract = "-",
    /// Their product.
    Multiply = "*",
    /// Their quotient; of integers truncated towards zero; by zero it cannot be computed.
    Divide = "/",
    /// The remainder, with the sign of the dividend.
    Modulo = "%",
    /// Equal.
    Equal = "=",
    /// Not equal.
    NotEqual = "<>",
    /// Less than.
    Less = "<",
    /// Less than or equal.
    LessOrEqual = "<=",
    /// Greater than.
    Greater = ">",
    /// Greater than or equal.
    GreaterOrEqual = ">=",
    /// Three-valued AND.
    And = "and",
    /// Three-valued OR.
    Or = "or",
    /// Three-valued NOT.
    Not = "not",
    /// IS NULL.
    IsNull = "is null",
    /// Strings one after the other; NULL if one is.
    Concat = "||",
    /// `split_part(string, delimiter, n)`: the n-th piece from 1, from the end when negative, '' beyond.
    SplitPart = "split_part",
    /// In lower case.
    Lower = "lower",
    /// In upper case.
    Upper = "upper",
    /// Without spaces at both ends.
    Trim = "trim",
    /// The number of characters.
    Length = "length",
    /// The absolute value.
    Abs = "abs",
    /// The first argument that is not NULL.
    Coalesce = "coalesce",
    /// NULL if both are equal, else the first.
    NullIf = "nullif",
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
