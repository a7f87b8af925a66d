//! Definitions: what a pipeline's SQL means, resolved and typed, before anything runs it.
//!
//! | file | what |
//! |---|---|
//! | [`parse`] | SQL files → [`Pipeline`], or the first mistake with its place |
//! | `table` | sources, references and their columns |
//! | `source` | `CREATE TABLE` → [`Source`] |
//! | `options` | what stands in WITH and OPTIONS |
//! | `view` | `CREATE MATERIALIZED VIEW` → [`View`] |
//! | `tables` | FROM and JOIN: the columns that a view may name |
//! | `aggregate` | aggregates and expressions over them → [`Measure`] |
//! | `comments` | `COMMENT ON` |
//! | `scalar` | SQL expressions → typed [`Expr`] |
//! | `typing` | which types a function takes |
//! | [`function`] | the table of functions, and their documents |
//! | [`expression`] | the typed expressions themselves |
//! | [`error`] | a mistake with file, line, column and caret |

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

mod aggregate;
mod comments;
pub mod error;
pub mod expression;
pub mod function;
mod gauges;
mod options;
mod parse;
mod scalar;
mod source;
mod table;
mod tables;
mod typing;
mod view;

pub use error::{DefinitionError, File};
pub use expression::{DataType, Expr, Granularity, Literal, MAX_PRECISION, MAX_SUMMED_PRECISION, Node};
pub use function::Function;
pub use gauges::Gauges;
pub use parse::parse;
pub use table::{
    Column, DECODE_ERROR, FileFormat, Files, KAFKA_HEADERS, KAFKA_KEY, KAFKA_OFFSET, KAFKA_PARTITION, KAFKA_TIMESTAMP, KAFKA_VALUE, RESERVED_COLUMNS, Source,
    Start,
};

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
    /// The references, by name.
    pub references: Vec<Source>,
    /// The views, the built-in ones included, by name.
    pub views: Vec<View>,
}

impl Pipeline {
    /// The source of that name.
    #[must_use]
    pub fn source(&self, name: &str) -> Option<&Source> {
        self.sources.iter().find(|source| source.name == name)
    }

    /// The reference of that name.
    #[must_use]
    pub fn reference(&self, name: &str) -> Option<&Source> {
        self.references.iter().find(|reference| reference.name == name)
    }

    /// The same with the references' contents, by name: what their views compute depends on it.
    #[must_use]
    pub fn with_contents(mut self, contents: &BTreeMap<String, String>) -> Self {
        let fill = |table: &mut Source| {
            if let (Some(files), Some(content)) = (&mut table.files, contents.get(&table.name)) {
                files.content = Some(content.clone());
            }
        };
        self.references.iter_mut().for_each(fill);
        for view in &mut self.views {
            fill(&mut view.source);
            view.joins.iter_mut().for_each(|join| fill(&mut join.reference));
            view.fingerprint = view::fingerprint(view);
        }
        self
    }

    /// The views over a source.
    pub fn views_of<'a>(&'a self, source: &'a str) -> impl Iterator<Item = &'a View> {
        self.views.iter().filter(move |view| view.source.name == source)
    }
}

/// A view: groups of records with their measures, or single records.
///
/// A row view is the special case whose groups are single records: it groups by partition, offset and all its columns, and
/// its one measure counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// Its name in SQL and in the API.
    pub name: String,
    /// COMMENT ON MATERIALIZED VIEW.
    pub comment: Option<String>,
    /// COMMENT ON COLUMN, by column.
    pub column_comments: BTreeMap<String, String>,
    /// Conditions over the view's own columns that queries name, `WITH ("segment.red" = '…')`.
    pub segments: BTreeMap<String, Segment>,
    /// Measures that Prometheus is shown, `WITH (metrics = '…')`.
    pub gauges: Option<Gauges>,
    /// Whether SQL reads it in PostgreSQL, `WITH (publish = 'postgres')`.
    #[serde(default)]
    pub is_published: bool,
    /// The hash of all below.
    pub fingerprint: Fingerprint,
    /// The source, as it was when the view was defined; a reference for a view over that alone.
    pub source: Source,
    /// The references that its records are joined to, in order.
    pub joins: Vec<Join>,
    /// Whether it is a row view.
    pub is_rows: bool,
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
        let keys = self.joins.iter().flat_map(|join| join.on.iter().map(|(key, _)| key));
        for expression in bucket.chain(self.dimensions.iter().map(|dimension| &dimension.expression)).chain(arguments).chain(&self.filter).chain(keys) {
            expression.collect_columns(&mut needed);
        }
        // Columns of references come from the join.
        needed.retain(|name| !name.contains('.'));
        if self.needs_position() {
            needed.extend([KAFKA_PARTITION.to_owned(), KAFKA_OFFSET.to_owned()]);
            needed.extend(self.source.event_time.clone());
        }
        needed
    }

    /// The names of its key columns: bucket, dimensions.
    pub fn key_names(&self) -> impl Iterator<Item = &str> {
        let bucket = self.bucket.iter().map(|bucket| bucket.name.as_str());
        bucket.chain(self.dimensions.iter().map(|dimension| dimension.name.as_str()))
    }

    /// The names of its columns: bucket, dimensions, measures.
    pub fn column_names(&self) -> impl Iterator<Item = &str> {
        self.key_names().chain(self.measures.iter().map(|measure| measure.name.as_str()))
    }

    /// Whether an accumulator asks which record came first or last.
    #[must_use]
    pub fn needs_position(&self) -> bool {
        self.accumulators.iter().any(|accumulator| matches!(accumulator.kind, AccumulatorKind::First | AccumulatorKind::Last))
    }
}

/// A condition over the columns of a view that queries call by its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// Its text.
    pub sql: String,
    /// The condition; its columns are those of the view.
    pub condition: Expr,
}

/// A reference that the records of a view are joined to, on equal keys. NULL equals nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Join {
    /// What its columns are called by: `alias.column`.
    pub alias: String,
    /// The reference.
    pub reference: Source,
    /// INNER: a record without a match is left out. LEFT: its columns of the reference are NULL.
    pub inner: bool,
    /// Pairs of a key of the record and a column of the reference.
    pub on: Vec<(Expr, String)>,
}

impl Join {
    /// The name that a column of the reference has in expressions.
    #[must_use]
    pub fn column(&self, name: &str) -> String {
        format!("{}.{name}", self.alias)
    }
}

/// `date_trunc(granularity, time) AS name`, `date_bin(interval, time, origin) AS name`, or the time of a row view.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// The name of the column.
    pub name: String,
    /// The time that is truncated.
    pub time: Expr,
    /// To what.
    pub width: Width,
}

/// How wide the buckets of a view are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Width {
    /// A unit of the calendar.
    Calendar(Granularity),
    /// A fixed length, counted from an origin; both in microseconds.
    Every {
        /// The length.
        micros: i64,
        /// A time at which a bucket begins.
        origin: i64,
    },
    /// Every time is its own.
    Exact,
}

impl fmt::Display for Width {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Calendar(granularity) => f.write_str(granularity.name()),
            Self::Every { micros, .. } if micros % 60_000_000 == 0 => write!(f, "{} minutes", micros / 60_000_000),
            Self::Every { micros, .. } => write!(f, "{} microseconds", micros),
            Self::Exact => f.write_str("exact"),
        }
    }
}

impl Width {
    /// Whether each of these buckets lies in one bucket of `granularity`.
    #[must_use]
    pub fn makes(self, granularity: Granularity) -> bool {
        const DAY: i64 = 86_400_000_000;
        // 1970-01-05 was a Monday.
        const MONDAY: i64 = 4 * DAY;
        let falls = |micros: i64, origin: i64, unit: i64, start: i64| unit % micros == 0 && (start - origin).rem_euclid(micros) == 0;
        match self {
            Self::Exact => true,
            Self::Calendar(finer) => granularity.is_made_of(finer),
            Self::Every { micros, origin } => match granularity {
                Granularity::Second => falls(micros, origin, 1_000_000, 0),
                Granularity::Minute => falls(micros, origin, 60_000_000, 0),
                Granularity::Hour => falls(micros, origin, 3_600_000_000, 0),
                Granularity::Week => falls(micros, origin, 7 * DAY, MONDAY),
                Granularity::Day | Granularity::Month | Granularity::Quarter | Granularity::Year => falls(micros, origin, DAY, 0),
            },
        }
    }
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
    /// The value of the record that is first by (event time, partition, offset).
    First,
    /// The value of the record that is last by (event time, partition, offset).
    Last,
    /// The distinct values themselves, up to a limit; past that the cell is an error.
    Values {
        /// The most values of a group.
        limit: usize,
    },
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// An expression over aggregates, computed anew after every merge.
    Derived {
        /// The aggregates, without derived ones.
        inputs: Vec<Self>,
        /// The expression; its columns are called by their place in `inputs`.
        expression: Expr,
    },
}

impl Formula {
    /// The accumulators that it needs.
    #[must_use]
    pub fn accumulators(&self) -> Vec<usize> {
        match self {
            Self::Value(index) => vec![*index],
            Self::Mean { sum, count } => vec![*sum, *count],
            Self::Percentile { histogram, .. } => vec![*histogram],
            Self::Derived { inputs, .. } => inputs.iter().flat_map(Self::accumulators).collect(),
        }
    }
}

/// How far a measure's value may be from the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
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
        self.exactness_of(&measure.formula)
    }

    fn exactness_of(&self, formula: &Formula) -> Exactness {
        match formula {
            Formula::Percentile { .. } => Exactness::Approximate,
            Formula::Derived { inputs, .. } => inputs.iter().map(|input| self.exactness_of(input)).max().unwrap_or(Exactness::Exact),
            Formula::Value(index) | Formula::Mean { sum: index, .. } => match self.accumulators.get(*index) {
                Some(Accumulator { kind: AccumulatorKind::Distinct | AccumulatorKind::Histogram, .. }) => Exactness::Approximate,
                Some(accumulator) if accumulator.kind == AccumulatorKind::Sum && accumulator.argument_type() == Some(DataType::Double) => Exactness::Rounded,
                _ => Exactness::Exact,
            },
        }
    }
}

#[cfg(test)]
mod tests;
