//! Definitions: what a pipeline's SQL means, resolved and typed, before anything runs it.
//!
//! | file | what |
//! |---|---|
//! | [`parse`] | SQL files → [`Pipeline`], or the first mistake with its place |
//! | `source` | `CREATE TABLE` → [`Source`] |
//! | `view` | `CREATE MATERIALIZED VIEW` → [`View`] |
//! | `scalar` | SQL expressions → typed [`Expr`] |
//! | [`expression`] | the typed expressions themselves |
//! | [`error`] | a mistake with file, line, column and caret |

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

pub mod error;
pub mod expression;
mod parse;
mod scalar;
mod source;
mod view;

pub use error::{DefinitionError, File};
pub use expression::{DataType, Expr, Function, Granularity, Literal, Node};
pub use parse::parse;

/// Hash of a view's resolved definition, of its source's columns and of the program's semantics; 32 hexadecimal digits.
///
/// Views with the same fingerprint compute the same thing; a changed one gets live rows, parts and versions of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(pub String);

impl Fingerprint {
    /// The fingerprint of anything that serializes, under the current semantics.
    pub(crate) fn of(resolved: &impl Serialize) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&crate::format::SEMANTICS.to_le_bytes());
        hasher.update(&serde_json::to_vec(resolved).unwrap_or_default());
        Self(hasher.finalize().to_hex().chars().take(32).collect())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Everything that the SQL files of a folder define.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pipeline {
    /// The sources, by name.
    pub sources: Vec<Source>,
    /// The views, the built-in ones included, by name.
    pub views: Vec<View>,
}

impl Pipeline {
    /// The source of that name.
    #[must_use]
    pub fn source(&self, name: &str) -> Option<&Source> {
        self.sources.iter().find(|source| source.name == name)
    }

    /// The views over a source.
    pub fn views_of<'a>(&'a self, source: &'a str) -> impl Iterator<Item = &'a View> {
        self.views.iter().filter(move |view| view.source.name == source)
    }
}

/// A Kafka topic with its columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// The name in SQL, in the warehouse and in the catalog.
    pub name: String,
    /// The Kafka topic.
    pub topic: String,
    /// The columns: first those of the JSON members, then the generated ones, each in the order of the definition.
    pub columns: Vec<Column>,
    /// The column that says when an event happened; `last` orders by it.
    pub event_time: Option<String>,
    /// How TIMESTAMP members are written (strftime); RFC 3339 without it.
    pub timestamp_format: Option<String>,
    /// Where a partition begins that was never read.
    pub start: Start,
    /// Records with a longer value are rejected.
    pub max_record_bytes: usize,
}

impl Source {
    /// The column of that name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Hash of what decoding depends on: files with another one are decoded anew from their raw values.
    #[must_use]
    pub fn columns_fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&(&self.columns, &self.timestamp_format, self.max_record_bytes))
    }

    /// The name of the built-in view that counts rejected records.
    #[must_use]
    pub fn rejected_view(&self) -> String {
        format!("{}_rejected", self.name)
    }
}

/// Where a partition begins that was never read; decided once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// The earliest offset that Kafka has.
    Earliest,
    /// The end of the partition.
    Latest,
    /// The first record at or after this time, milliseconds since 1970.
    Timestamp(i64),
}

/// A column of a source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// Its name, and that of its JSON member.
    pub name: String,
    /// Its type.
    pub data_type: DataType,
    /// Whether a record without it is rejected.
    pub not_null: bool,
    /// The expression that it is computed from, instead of a JSON member.
    pub generated: Option<Expr>,
}

/// The column of every record's partition.
pub const KAFKA_PARTITION: &str = "kafka_partition";
/// The column of every record's offset.
pub const KAFKA_OFFSET: &str = "kafka_offset";
/// The column of every record's Kafka timestamp.
pub const KAFKA_TIMESTAMP: &str = "kafka_timestamp";
/// The column of the record's key as Kafka holds it; in the archive only.
pub const KAFKA_KEY: &str = "kafka_key";
/// The column of the record's headers; in the archive only.
pub const KAFKA_HEADERS: &str = "kafka_headers";
/// The column of the record's value as Kafka holds it; in the archive only.
pub const KAFKA_VALUE: &str = "kafka_value";
/// The column that says why a record was rejected; NULL for all others.
pub const DECODE_ERROR: &str = "decode_error";

/// Names that no declared column may have.
pub const RESERVED_COLUMNS: [&str; 7] = [KAFKA_PARTITION, KAFKA_OFFSET, KAFKA_TIMESTAMP, KAFKA_KEY, KAFKA_HEADERS, KAFKA_VALUE, DECODE_ERROR];

/// An aggregate view.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// Its name in SQL and in the API.
    pub name: String,
    /// The hash of all below.
    pub fingerprint: Fingerprint,
    /// The source, as it was when the view was defined.
    pub source: Source,
    /// Its own text.
    pub sql: String,
    /// Whether it folds the rejected records instead of the good ones.
    pub over_rejected: bool,
    /// WHERE.
    pub filter: Option<Expr>,
    /// The time bucket.
    pub bucket: Option<Bucket>,
    /// GROUP BY, without the bucket.
    pub dimensions: Vec<Dimension>,
    /// The mergeable states that each group has.
    pub accumulators: Vec<Accumulator>,
    /// What a user sees of them.
    pub measures: Vec<Measure>,
}

impl View {
    /// The columns of the source that the view needs, the record's position included.
    #[must_use]
    pub fn needed_columns(&self) -> BTreeSet<String> {
        let mut needed: BTreeSet<String> = BTreeSet::from([DECODE_ERROR.to_owned()]);
        let bucket = self.bucket.iter().map(|bucket| &bucket.time);
        let arguments = self.accumulators.iter().filter_map(|accumulator| accumulator.argument.as_ref());
        for expression in bucket.chain(self.dimensions.iter().map(|dimension| &dimension.expression)).chain(arguments).chain(&self.filter) {
            expression.collect_columns(&mut needed);
        }
        if self.accumulators.iter().any(|accumulator| accumulator.kind == AccumulatorKind::Last) {
            needed.extend([KAFKA_PARTITION.to_owned(), KAFKA_OFFSET.to_owned()]);
            needed.extend(self.source.event_time.clone());
        }
        needed
    }
}

/// `date_trunc(granularity, time) AS name`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// The name of the column.
    pub name: String,
    /// The time that is truncated.
    pub time: Expr,
    /// To what.
    pub granularity: Granularity,
}

/// An expression of GROUP BY.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dimension {
    /// The name of the column.
    pub name: String,
    /// What it is.
    pub expression: Expr,
}

/// A mergeable state over the values of one expression.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accumulator {
    /// What it keeps.
    pub kind: AccumulatorKind,
    /// Over what; nothing for `count(*)`.
    pub argument: Option<Expr>,
}

impl Accumulator {
    /// The type of the values it takes.
    #[must_use]
    pub fn argument_type(&self) -> Option<DataType> {
        self.argument.as_ref().map(|argument| argument.data_type)
    }
}

/// What an accumulator keeps. NULL arguments take no part, but for `count(*)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccumulatorKind {
    /// The number of records, or of values.
    Count,
    /// A 128-bit sum of BIGINT, or a DOUBLE.
    Sum,
    /// The smallest value.
    Min,
    /// The largest value.
    Max,
    /// The value of the record that is last by (event time, partition, offset).
    Last,
    /// `HyperLogLog` registers.
    Distinct,
    /// A log-bucket histogram.
    Histogram,
}

/// A column that is computed from states when an answer is given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// The name of the column.
    pub name: String,
    /// The type of its values.
    pub data_type: DataType,
    /// From which states and how.
    pub formula: Formula,
}

/// How a measure comes from the states of its group; the numbers are indexes of accumulators.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Formula {
    /// The state's own value.
    Value(usize),
    /// A sum divided by a count; NULL over nothing.
    Mean {
        /// The sum.
        sum: usize,
        /// The count.
        count: usize,
    },
    /// The value at this rank, 0 to 1, of a histogram.
    Percentile {
        /// The histogram.
        histogram: usize,
        /// The rank.
        rank: f64,
    },
}

/// How far a measure's value may be from the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Exactness {
    /// Not at all.
    Exact,
    /// By the rounding of floating-point addition in some order.
    Rounded,
    /// By the error bound of a sketch.
    Approximate,
}

impl View {
    /// How exact a measure of this view is.
    #[must_use]
    pub fn exactness(&self, measure: &Measure) -> Exactness {
        let kind = |index: usize| self.accumulators.get(index);
        match measure.formula {
            Formula::Percentile { .. } => Exactness::Approximate,
            Formula::Value(index) | Formula::Mean { sum: index, .. } => match kind(index) {
                Some(Accumulator { kind: AccumulatorKind::Distinct | AccumulatorKind::Histogram, .. }) => Exactness::Approximate,
                Some(accumulator) if accumulator.kind == AccumulatorKind::Sum && accumulator.argument_type() == Some(DataType::Double) => Exactness::Rounded,
                _ => Exactness::Exact,
            },
        }
    }
}

#[cfg(test)]
mod tests;
