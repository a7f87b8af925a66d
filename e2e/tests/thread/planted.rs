//! Negative runs: what is changed by hand is found, and named by its cell or range.

use std::{sync::Arc, time::Duration};

use anabranch_e2e::{Process, Stage, eventually};
use anabranch_oracle::{offsets, queries, topic::Topic};
use anyhow::{Context, Result};
use arrow::{
    array::{ArrayRef, AsArray, Int64Array, RecordBatch},
    datatypes::Int64Type,
};
use bytes::Bytes;
use parquet::{
    arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder, arrow_writer::ArrowWriterOptions},
    file::properties::WriterProperties,
};

pub(super) async fn faults_are_found(stage: &mut Stage, topic: &mut Topic) -> Result<()> {
    // Without batch, so that live rows stay what they are.
    let (speed, archive) = (stage.start(&["speed"])?, stage.start(&["archive"])?);
    let simulator = stage.start(&["simulate", "server-status", "--count", "2000", "--rate", "0", "--seed", "11"])?;
    assert!(simulator.ended().await?.success());
    let serving = stage.start(&["serve"])?;
    super::exact_at_the_ends(&serving, topic).await?;
    let (code, text) = stage.oracle(&serving)?;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("recount agrees"), "{text}");
    a_live_cell(stage, topic).await?;
    let (code, text) = stage.run(&["recompute"])?;
    assert_eq!(code, Some(0), "{text}");
    a_part(stage).await?;
    an_archive_row(stage).await?;
    an_archive_file(stage).await?;
    for process in [speed, archive, serving] {
        assert_eq!(process.complaints(&[])?, Vec::<String>::new());
        assert!(process.stop().await?.success());
    }
    Ok(())
}

/// The oracle names a live cell that was changed by SQL.
async fn a_live_cell(stage: &mut Stage, topic: &mut Topic) -> Result<()> {
    let database = stage.database().await?;
    let fingerprint: String = database.query_one("SELECT serving FROM view WHERE name = 'status_by_city'", &[]).await?.get(0);
    let table = format!("live_{fingerprint}");
    let row = format!("SELECT ctid FROM {table} WHERE _epoch = (SELECT max(_epoch) FROM {table}) ORDER BY _group_hash LIMIT 1");
    let add = |number: i64| format!("UPDATE {table} SET _s0_count = _s0_count + {number} WHERE ctid = ({row})");
    assert_eq!(database.execute(&add(1), &[]).await?, 1);
    // A reader that starts now reads the rows, not the log of their changes.
    let serving = stage.start(&["serve"])?;
    at_the_ends(&serving, topic).await?;
    let (code, text) = stage.oracle(&serving)?;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("wrong: status_by_city [") && text.contains("messages is "), "the cell is named: {text}");
    assert_eq!(database.execute(&add(-1), &[]).await?, 1);
    let serving = stage.start(&["serve"])?;
    super::exact_at_the_ends(&serving, topic).await
}

async fn at_the_ends(process: &Process, topic: &Topic) -> Result<()> {
    let ends = topic.ends()?;
    for (_, query) in queries() {
        eventually("an answer at the topic's ends", Duration::from_secs(30), || async {
            Ok(process.load(&query).await?.filter(|answer| offsets(answer) == ends))
        })
        .await?;
    }
    Ok(())
}

/// The audit names a cell of a part that was changed, and repairs it.
async fn a_part(stage: &Stage) -> Result<()> {
    let warehouse = stage.warehouse()?;
    let parts = stage.parts("status_by_city").await?;
    let part = parts.values().next_back().context("no part")?;
    let original = warehouse.read(part).await?;
    stage.replace(part, changed(&original, "_s0_count", 1)?).await?;
    let (code, text) = stage.run(&["recompute", "--full"])?;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("drift in view status_by_city, minute=") && text.contains(": _s0_count: kept "), "the cell is named: {text}");
    let (_, status) = stage.run(&["status", "--json"])?;
    assert!(status.contains("\"outcome\": \"drift\""), "{status}");
    let (code, text) = stage.run(&["recompute", "--full"])?;
    assert_eq!(code, Some(0), "the recomputed part has won: {text}");
    Ok(())
}

/// The audit names the cell that a changed archive row makes wrong.
async fn an_archive_row(stage: &Stage) -> Result<()> {
    let warehouse = stage.warehouse()?;
    let files = warehouse.list("server_status/archive").await?;
    let path = format!("server_status/archive/{}", files.last().context("no archive file")?.name);
    let original = warehouse.read(&path).await?;
    stage.replace(&path, changed(&original, "event_estimated_issue_resolution_time", 1_000)?).await?;
    let (code, text) = stage.run(&["recompute", "--full"])?;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("drift in view status_by_city, minute=") && text.contains("_sum: kept "), "the cell is named: {text}");
    stage.replace(&path, original).await?;
    let (code, text) = stage.run(&["recompute", "--full"])?;
    assert_eq!(code, Some(1), "the version of the changed row differs from the right one: {text}");
    let (code, text) = stage.run(&["recompute", "--full"])?;
    assert_eq!(code, Some(0), "{text}");
    Ok(())
}

/// `verify` names the range of a file that was removed.
async fn an_archive_file(stage: &Stage) -> Result<()> {
    let warehouse = stage.warehouse()?;
    let files = warehouse.list("server_status/archive").await?;
    let file = files.first().context("no archive file")?;
    let (from, to) = (format!("server_status/archive/{}", file.name), "server_status/taken".to_owned());
    warehouse.rename_new(&from, &to).await?;
    let (code, text) = stage.run(&["verify"])?;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("server_status partition 0: gap [0, "), "{text}");
    // A run that needs the file fails and says which offsets it lacks; nothing smaller is published.
    let (code, text) = stage.run(&["recompute", "--full"])?;
    assert_eq!(code, Some(4), "{text}");
    assert!(text.contains("partition 0: gap [0, "), "{text}");
    warehouse.rename_new(&to, &from).await?;
    let (code, text) = stage.run(&["verify"])?;
    assert_eq!(code, Some(0), "{text}");
    Ok(())
}

/// The same Parquet file with `number` added to the first value of a column.
fn changed(content: &Bytes, column: &str, number: i64) -> Result<Bytes> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(content.clone())?;
    let footer = builder.metadata().file_metadata().key_value_metadata().cloned();
    let schema = Arc::clone(builder.schema());
    let properties = WriterProperties::builder().set_key_value_metadata(footer).build();
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), schema, options)?;
    let mut is_changed = false;
    for batch in builder.build()? {
        let batch = batch?;
        let index = batch.schema().index_of(column)?;
        let mut values: Vec<Option<i64>> = batch.column(index).as_primitive::<Int64Type>().iter().collect();
        if let Some(value) = values.iter_mut().flatten().next().filter(|_| !is_changed) {
            *value += number;
            is_changed = true;
        }
        let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
        if let Some(slot) = columns.get_mut(index) {
            *slot = Arc::new(Int64Array::from(values));
        }
        writer.write(&RecordBatch::try_new(batch.schema(), columns)?)?;
    }
    assert!(is_changed, "{column} has a value");
    Ok(writer.into_inner()?.into())
}
