//! Sources and references: tables with typed columns.

use serde::{Deserialize, Serialize};

use super::{DataType, Expr, Fingerprint};

/// A Kafka topic with its columns; or a reference: a table of files, with theirs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// The name in SQL, in the warehouse and in the catalog.
    pub name: String,
    /// COMMENT ON TABLE.
    pub comment: Option<String>,
    /// The Kafka topic; empty for a reference.
    pub topic: String,
    /// Where the rows of a reference are; nothing for a topic.
    pub files: Option<Files>,
    /// The columns: first those of the JSON members, then the generated ones, each in the order of the definition.
    pub columns: Vec<Column>,
    /// The column that says when an event happened; `last` orders by it.
    pub event_time: Option<String>,
    /// How TIMESTAMP members are written, where their column does not say: strftime, `epoch_s`, `epoch_ms` or `epoch_us`,
    /// tried one after the other; RFC 3339 without any.
    pub timestamp_formats: Vec<String>,
    /// Whether strings that are numbers (or true, false) pass where a number (or BOOLEAN) is declared.
    pub lenient: bool,
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
        let mut columns = self.columns.clone();
        columns.iter_mut().for_each(|column| column.comment = None);
        Fingerprint::of(&(columns, &self.timestamp_formats, self.lenient, self.max_record_bytes))
    }

    /// How the TIMESTAMP members of a column are written.
    #[must_use]
    pub fn formats_of<'a>(&'a self, column: &'a Column) -> &'a [String] {
        if column.timestamp_formats.is_empty() { &self.timestamp_formats } else { &column.timestamp_formats }
    }

    /// The name of the built-in view that counts rejected records.
    #[must_use]
    pub fn rejected_view(&self) -> String {
        format!("{}_rejected", self.name)
    }
}

/// The files of a reference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// How they are written.
    pub format: FileFormat,
    /// A file, a folder or a pattern with `*`, on this machine or `hdfs://…`.
    pub path: String,
    /// Whether of several rows with one join key the first counts; they are refused without.
    pub unique_first: bool,
    /// The hash of what is in them, by which the warehouse keeps its copy; nothing before they were read.
    pub content: Option<String>,
}

/// How the files of a reference are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileFormat {
    /// One JSON object a line.
    Json,
    /// Comma-separated, with a line of names.
    Csv,
    /// Parquet.
    Parquet,
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
    /// Its name, and that of its JSON member where it has no path.
    pub name: String,
    /// COMMENT ON COLUMN.
    pub comment: Option<String>,
    /// The members on the way to its value, the outermost first; empty: the member of its name.
    pub path: Vec<String>,
    /// How its times are written; empty: as the source says.
    pub timestamp_formats: Vec<String>,
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
