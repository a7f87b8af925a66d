//! Records from the raw values of an archive file, where its columns are those of another definition.

use std::sync::Arc;

use anabranch_core::definition::{KAFKA_HEADERS, KAFKA_KEY, KAFKA_OFFSET, KAFKA_PARTITION, KAFKA_TIMESTAMP, KAFKA_VALUE, Source};
use anabranch_views::decode::{Decoder, RawRecord};
use anyhow::{Context, Result};
use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{Field, Int64Type, Schema, TimestampMicrosecondType},
};

use crate::archive::file;

/// Only the columns of the record itself, which every archive file has.
pub(super) fn schema(source: &Source) -> Arc<Schema> {
    let schema = file::schema(source);
    let raw = [KAFKA_PARTITION, KAFKA_OFFSET, KAFKA_TIMESTAMP, KAFKA_KEY, KAFKA_HEADERS, KAFKA_VALUE];
    Arc::new(Schema::new(
        schema.fields().iter().filter(|field| raw.contains(&field.name().as_str())).map(|field| field.as_ref().clone()).collect::<Vec<Field>>(),
    ))
}

pub(super) fn decode(batch: &RecordBatch, decoder: &mut Decoder) -> Result<()> {
    let column = |name: &str| batch.column_by_name(name).with_context(|| format!("the column {name} is missing"));
    let partitions = column(KAFKA_PARTITION)?.as_primitive::<Int64Type>();
    let offsets = column(KAFKA_OFFSET)?.as_primitive::<Int64Type>();
    let timestamps = column(KAFKA_TIMESTAMP)?.as_primitive::<TimestampMicrosecondType>();
    let values = column(KAFKA_VALUE)?.as_binary::<i32>();
    for row in 0..batch.num_rows() {
        let record = RawRecord {
            partition: i32::try_from(partitions.value(row))?,
            offset: offsets.value(row),
            timestamp_micros: timestamps.is_valid(row).then(|| timestamps.value(row)),
            key: None,
            value: values.is_valid(row).then(|| values.value(row)),
        };
        decoder.push(&record, []);
    }
    Ok(())
}
