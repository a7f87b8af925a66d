//! Raw records → typed columns. Strict, and the same in both arms.
//!
//! ```text
//!  Kafka value ──► UTF-8 ──► JSON object ──► declared columns ──► generated columns ──► one row
//!                    │           │                 │                    │
//!                    └───────────┴──────── decode_error ────────────────┘   the row stays, all its columns NULL
//! ```
//!
//! Every declared column and the whole JSON grammar are checked, whatever is wanted; only what is wanted is built.

use std::{borrow::Cow, collections::BTreeSet, sync::Arc};

use anabranch_core::definition::{
    Column, DECODE_ERROR, DataType, KAFKA_HEADERS, KAFKA_KEY, KAFKA_OFFSET, KAFKA_PARTITION, KAFKA_TIMESTAMP, KAFKA_VALUE, Source,
};
use arrow::{
    array::{
        Array, ArrayBuilder, ArrayRef, BinaryBuilder, Int64Array, Int64Builder, ListBuilder, RecordBatch, StringBuilder, StringViewArray, StringViewBuilder,
        StructBuilder, TimestampMicrosecondBuilder,
    },
    compute,
    datatypes::{DataType as Arrow, Field, Fields, Schema},
};

use self::{
    builder::Builder,
    members::Members,
    slot::{RecordSeed, Slot, Spec},
};
use crate::{
    evaluate::{self, EvaluateError},
    value::arrow_type,
};

mod builder;
mod members;
mod slot;
mod time;

pub use time::TimeFormat;

/// A record as Kafka has it.
#[derive(Clone, Copy, Debug)]
pub struct RawRecord<'a> {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its Kafka timestamp in microseconds.
    pub timestamp_micros: Option<i64>,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value; nothing for a tombstone.
    pub value: Option<&'a [u8]>,
}

/// What is built beside the source's columns.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// These columns: what views need.
    Columns(BTreeSet<String>),
    /// Everything, the raw record too: what the archive holds.
    Archive,
}

/// Collects records into one batch.
#[derive(Debug)]
pub struct Decoder {
    source: Source,
    wanted: Wanted,
    /// The columns that come from JSON members.
    members: Members,
    /// What they must be, in the same order, whether NULL is refused, and their names.
    specs: Vec<Spec>,
    not_null: Vec<bool>,
    names: Vec<String>,
    /// The values of one record; kept for their memory alone.
    slots: Vec<Slot<'static>>,
    columns: Vec<Option<Builder>>,
    partitions: Int64Builder,
    offsets: Int64Builder,
    timestamps: TimestampMicrosecondBuilder,
    errors: StringViewBuilder,
    raw: Option<RawBuilders>,
}

#[derive(Debug)]
struct RawBuilders {
    keys: BinaryBuilder,
    values: BinaryBuilder,
    headers: ListBuilder<StructBuilder>,
}

impl Decoder {
    /// A decoder for the records of `source`.
    #[must_use]
    pub fn new(source: &Source, wanted: Wanted) -> Self {
        let declared: Vec<_> = source.columns.iter().filter(|column| column.generated.is_none()).collect();
        let inputs = match &wanted {
            Wanted::Archive => None,
            Wanted::Columns(names) => Some(evaluate::inputs(source, names)),
        };
        let is_wanted = |name: &String| inputs.as_ref().is_none_or(|inputs| inputs.contains(name));
        let paths = declared.iter().map(|column| if column.path.is_empty() { std::slice::from_ref(&column.name) } else { column.path.as_slice() });
        let spec = |column: &&Column| Spec { data_type: column.data_type, formats: TimeFormat::all(source.formats_of(column)), lenient: source.lenient };
        Self {
            members: Members::new(paths),
            not_null: declared.iter().map(|column| column.not_null).collect(),
            names: declared.iter().map(|column| column.name.clone()).collect(),
            slots: Vec::with_capacity(declared.len()),
            specs: declared.iter().map(spec).collect(),
            columns: declared.iter().map(|column| is_wanted(&column.name).then(|| Builder::new(column.data_type))).collect(),
            partitions: Int64Builder::new(),
            offsets: Int64Builder::new(),
            timestamps: TimestampMicrosecondBuilder::new().with_timezone("UTC"),
            errors: StringViewBuilder::new(),
            raw: matches!(wanted, Wanted::Archive).then(|| RawBuilders {
                keys: BinaryBuilder::new(),
                values: BinaryBuilder::new(),
                headers: ListBuilder::new(StructBuilder::from_fields(header_fields(), 0)),
            }),
            source: source.clone(),
            wanted,
        }
    }

    /// The number of records since the last [`Self::finish`].
    #[must_use]
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes room for the values of so many records that hold so many bytes: growing step by step would copy them again and again.
    pub fn reserve(&mut self, records: usize, bytes: usize) {
        if let Some(raw) = self.raw.as_mut().filter(|raw| raw.values.is_empty()) {
            raw.values = BinaryBuilder::with_capacity(records, bytes);
        }
    }

    /// Adds a record.
    pub fn push<'a>(&mut self, record: &RawRecord<'_>, headers: impl IntoIterator<Item = (&'a str, Option<&'a [u8]>)>) {
        self.partitions.append_value(i64::from(record.partition));
        self.offsets.append_value(record.offset);
        self.timestamps.append_option(record.timestamp_micros);
        if let Some(raw) = &mut self.raw {
            raw.keys.append_option(record.key);
            raw.values.append_option(record.value);
            append_headers(&mut raw.headers, headers);
        }
        let mut slots = recycled(std::mem::take(&mut self.slots));
        match self.read(record.value, &mut slots) {
            Ok(()) => {
                for (builder, slot) in self.columns.iter_mut().zip(&slots) {
                    builder.iter_mut().for_each(|builder| builder.append(slot));
                }
                self.errors.append_null();
            }
            Err(reason) => {
                self.columns.iter_mut().flatten().for_each(Builder::append_null);
                self.errors.append_value(reason);
            }
        }
        self.slots = recycled(slots);
    }

    /// Fills `slots` with the typed members of a record, or says why it is rejected.
    fn read<'v>(&mut self, value: Option<&'v [u8]>, slots: &mut Vec<Slot<'v>>) -> Result<(), Cow<'static, str>> {
        let value = value.ok_or("tombstone")?;
        if value.len() > self.source.max_record_bytes {
            return Err("oversized".into());
        }
        let text = std::str::from_utf8(value).map_err(|_| "not UTF-8")?;
        slots.resize_with(self.specs.len(), || Slot::Null);
        RecordSeed { specs: &self.specs, members: &mut self.members }.read(text, slots)?;
        for (index, (slot, not_null)) in slots.iter().zip(&self.not_null).enumerate() {
            let reason = match slot {
                Slot::Wrong(reason) => reason,
                Slot::Null if *not_null => "missing",
                _ => continue,
            };
            return Err(format!("{reason}: {}", self.names.get(index).map_or("", String::as_str)).into());
        }
        Ok(())
    }

    /// The batch of all records pushed since the last call, in their order, generated columns included.
    ///
    /// Columns: the wanted ones of the source (in the archive: all), then `kafka_partition`, `kafka_offset`,
    /// `kafka_timestamp`, (in the archive: `kafka_key`, `kafka_headers`, `kafka_value`,) `decode_error`.
    ///
    /// # Errors
    /// [`EvaluateError`] only when the program itself is wrong: a generated column that cannot be computed for a record
    /// rejects that record.
    pub fn finish(&mut self) -> Result<RecordBatch, EvaluateError> {
        let mut fields = Vec::new();
        let mut arrays: Vec<ArrayRef> = Vec::new();
        let declared = self.source.columns.iter().filter(|column| column.generated.is_none());
        for (column, builder) in declared.zip(&mut self.columns) {
            if let Some(builder) = builder {
                fields.push(Field::new(&column.name, arrow_type(column.data_type), true));
                arrays.push(builder.finish());
            }
        }
        let mut add = |name: &str, arrow: Arrow, nullable: bool, array: ArrayRef| {
            fields.push(Field::new(name, arrow, nullable));
            arrays.push(array);
        };
        add(KAFKA_PARTITION, Arrow::Int64, false, Arc::new(self.partitions.finish()));
        add(KAFKA_OFFSET, Arrow::Int64, false, Arc::new(self.offsets.finish()));
        add(KAFKA_TIMESTAMP, arrow_type(DataType::Timestamp), true, Arc::new(self.timestamps.finish()));
        if let Some(raw) = &mut self.raw {
            let headers = raw.headers.finish();
            add(KAFKA_KEY, Arrow::Binary, true, Arc::new(raw.keys.finish()));
            let header_type = arrow::array::Array::data_type(&headers).clone();
            add(KAFKA_HEADERS, header_type, true, Arc::new(headers));
            add(KAFKA_VALUE, Arrow::Binary, true, Arc::new(raw.values.finish()));
        }
        add(DECODE_ERROR, Arrow::Utf8View, true, Arc::new(self.errors.finish()));
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?;
        let wanted = match &self.wanted {
            Wanted::Archive => None,
            Wanted::Columns(names) => Some(names),
        };
        evaluate::generate(&self.source, wanted, batch)
    }
}

/// The rows of a reference whose columns were read as such, typed, with the columns that every batch has.
///
/// # Errors
/// [`EvaluateError`] when a column has another type, or the program itself is wrong.
pub fn from_columns(source: &Source, columns: &[ArrayRef], rows: usize) -> Result<RecordBatch, EvaluateError> {
    let declared: Vec<&Column> = source.columns.iter().filter(|column| column.generated.is_none()).collect();
    let mut fields = Vec::new();
    let mut arrays: Vec<ArrayRef> = Vec::new();
    let mut errors: Vec<Option<String>> = vec![None; rows];
    for (column, array) in declared.iter().zip(columns) {
        for (row, error) in errors.iter_mut().enumerate().filter(|_| column.not_null) {
            if array.is_null(row) && error.is_none() {
                *error = Some(format!("missing: {}", column.name));
            }
        }
        fields.push(Field::new(&column.name, arrow_type(column.data_type), true));
        arrays.push(compute::cast(array, &arrow_type(column.data_type))?);
    }
    let count = i64::try_from(rows).unwrap_or(i64::MAX);
    let fixed: [(&str, bool, ArrayRef); 4] = [
        (KAFKA_PARTITION, false, Arc::new(Int64Array::from(vec![0; rows]))),
        (KAFKA_OFFSET, false, Arc::new(Int64Array::from_iter_values(0..count))),
        (KAFKA_TIMESTAMP, true, arrow::array::new_null_array(&arrow_type(DataType::Timestamp), rows)),
        (DECODE_ERROR, true, Arc::new(StringViewArray::from_iter(errors))),
    ];
    for (name, nullable, array) in fixed {
        fields.push(Field::new(name, array.data_type().clone(), nullable));
        arrays.push(array);
    }
    evaluate::generate(source, None, RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}

/// The same memory for the values of another record.
fn recycled<'v>(mut slots: Vec<Slot<'_>>) -> Vec<Slot<'v>> {
    slots.clear();
    slots.into_iter().map(|_| Slot::Null).collect()
}

fn header_fields() -> Fields {
    Fields::from(vec![Field::new("key", Arrow::Utf8, false), Field::new("value", Arrow::Binary, true)])
}

fn append_headers<'a>(builder: &mut ListBuilder<StructBuilder>, headers: impl IntoIterator<Item = (&'a str, Option<&'a [u8]>)>) {
    let mut any = false;
    for (key, value) in headers {
        any = true;
        let entry = builder.values();
        if let Some(keys) = entry.field_builder::<StringBuilder>(0) {
            keys.append_value(key);
        }
        if let Some(values) = entry.field_builder::<BinaryBuilder>(1) {
            values.append_option(value);
        }
        entry.append(true);
    }
    builder.append(any);
}

/// The columns of an archive file of `source`, in their order.
#[must_use]
pub fn archive_schema(source: &Source) -> Arc<Schema> {
    let columns = source.columns.iter().filter(|column| column.generated.is_none());
    let mut fields: Vec<Field> = columns.map(|column| Field::new(&column.name, arrow_type(column.data_type), true)).collect();
    fields.push(Field::new(KAFKA_PARTITION, Arrow::Int64, false));
    fields.push(Field::new(KAFKA_OFFSET, Arrow::Int64, false));
    fields.push(Field::new(KAFKA_TIMESTAMP, arrow_type(DataType::Timestamp), true));
    fields.push(Field::new(KAFKA_KEY, Arrow::Binary, true));
    let entry = Field::new_list_field(Arrow::Struct(header_fields()), true);
    fields.push(Field::new(KAFKA_HEADERS, Arrow::List(Arc::new(entry)), true));
    fields.push(Field::new(KAFKA_VALUE, Arrow::Binary, true));
    fields.push(Field::new(DECODE_ERROR, Arrow::Utf8View, true));
    let generated = source.columns.iter().filter(|column| column.generated.is_some());
    fields.extend(generated.map(|column| Field::new(&column.name, arrow_type(column.data_type), true)));
    Arc::new(Schema::new(fields))
}

#[cfg(test)]
mod tests;
