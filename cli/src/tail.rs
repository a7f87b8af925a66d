//! `anabranch tail`: decoded events as they arrive, one JSON object a line.

use std::{io::Write as _, process::ExitCode};

use anabranch_core::definition::{DECODE_ERROR, KAFKA_OFFSET, KAFKA_PARTITION, KAFKA_TIMESTAMP, Source};
use anabranch_process::{Catalog, Settings, catalog::definitions};
use anabranch_views::{
    Value,
    decode::{Decoder, RawRecord, Wanted},
    scalar,
    table::{self, ColumnType},
};
use anyhow::Result;
use arrow::array::{AsArray, RecordBatch};
use rdkafka::{Message as _, message::OwnedMessage};
use serde_json::{Map, Value as Json, json};

use crate::{
    arguments::TailArguments,
    commands::stop_on_signal,
    topic::{From, TopicReader},
};

pub(crate) async fn run(settings: &Settings, arguments: &TailArguments) -> Result<ExitCode> {
    let client = Catalog::at(&settings.postgres.url)?.connect().await?;
    let source = definitions::load(&client, &arguments.source).await?.source;
    let from = if arguments.from_beginning { From::Beginning } else { From::Last(arguments.last) };
    let reader = TopicReader::open(&settings.kafka, &source.topic, from)?;
    let stop = stop_on_signal()?;
    let mut decoder = Decoder::new(&source, Wanted::Columns(source.columns.iter().map(|column| column.name.clone()).collect()));
    let mut out = std::io::stdout().lock();
    let mut shown = 0;
    while !stop.is_cancelled() && arguments.count.is_none_or(|count| shown < count) {
        let Some(message) = reader.next()? else { continue };
        let event = decoded(&source, &mut decoder, &message)?;
        // Whoever reads may have seen enough: `anabranch tail … | head`.
        if writeln!(out, "{event}").is_err() {
            break;
        }
        shown += 1;
    }
    Ok(ExitCode::SUCCESS)
}

/// The columns of a record; of a rejected one its reason and its text.
fn decoded(source: &Source, decoder: &mut Decoder, message: &OwnedMessage) -> Result<Json> {
    let timestamp_micros = message.timestamp().to_millis().map(|millis| millis * 1000);
    let record = RawRecord { partition: message.partition(), offset: message.offset(), timestamp_micros, key: message.key(), value: message.payload() };
    decoder.push(&record, []);
    let batch = decoder.finish()?;
    let mut event = Map::new();
    event.insert(KAFKA_PARTITION.to_owned(), json!(message.partition()));
    event.insert(KAFKA_OFFSET.to_owned(), json!(message.offset()));
    event.insert(KAFKA_TIMESTAMP.to_owned(), timestamp_micros.map_or(Json::Null, |micros| json_of(&Value::Timestamp(micros))));
    if let Some(reason) = reason(&batch) {
        event.insert(DECODE_ERROR.to_owned(), json!(reason));
        event.insert("value".to_owned(), json!(message.payload().map(String::from_utf8_lossy)));
        return Ok(Json::Object(event));
    }
    for column in &source.columns {
        let value = batch.column_by_name(&column.name).and_then(|array| table::cell(ColumnType::Sql(column.data_type), array, 0));
        event.insert(column.name.clone(), value.map_or(Json::Null, |value| json_of(&value)));
    }
    Ok(Json::Object(event))
}

/// Why the first record of a batch was rejected.
pub(crate) fn reason(batch: &RecordBatch) -> Option<String> {
    let errors = batch.column_by_name(DECODE_ERROR)?.as_string_view();
    errors.iter().next().flatten().map(str::to_owned)
}

fn json_of(value: &Value) -> Json {
    match value {
        Value::Boolean(value) => json!(value),
        Value::BigInt(value) => json!(value),
        Value::Double(value) => json!(value),
        other => scalar::text(other).map_or(Json::Null, Json::String),
    }
}
