//! `anabranch rejected`: the records that could not be decoded, with their reason and what they say.

use std::process::ExitCode;

use anabranch_process::{
    Catalog, Settings, Warehouse,
    archive::rejected::{Rejected, Search, rejected, unarchived},
    catalog::{definitions, rows},
};
use anabranch_views::{Value, scalar};
use anyhow::Result;
use serde_json::json;

use crate::{arguments::RejectedArguments, show};

/// A longer text is cut in the table; `--json` has all of it.
const SHOWN_CHARACTERS: usize = 100;

pub(crate) async fn run(settings: &Settings, arguments: &RejectedArguments) -> Result<ExitCode> {
    let client = Catalog::at(&settings.postgres.url)?.connect().await?;
    let source = definitions::load(&client, &arguments.source).await?.source;
    let warehouse = Warehouse::at(&settings.warehouse.url)?;
    let search = Search { reason: arguments.reason.as_deref(), partition: arguments.partition, limit: arguments.limit, files: usize::MAX };
    let (records, _) = rejected(&warehouse, &source, search).await?;
    if arguments.json {
        for record in &records {
            println!(
                "{}",
                json!({"partition": record.partition.0, "offset": record.offset.0, "time": time(record), "reason": record.reason, "value": record.value.as_deref().map(String::from_utf8_lossy)})
            );
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = show::table(["partition", "offset", "time", "reason", "value"], &[0, 1]);
    for record in &records {
        table.add_row([record.partition.to_string(), record.offset.0.to_string(), time(record).unwrap_or_default(), record.reason.clone(), shown(record)]);
    }
    println!("{table}");
    let more = if records.len() == arguments.limit { "; there may be more: --limit" } else { "" };
    println!("({} rows{more})", records.len());
    let waiting = unarchived(&rows::partitions(&client, &arguments.source).await?);
    if waiting > 0 {
        println!("{waiting} records are not archived yet; their file is closed within {} s (archive.rotate_seconds)", settings.archive.rotate_seconds);
    }
    Ok(ExitCode::SUCCESS)
}

fn time(record: &Rejected) -> Option<String> {
    record.timestamp_micros.and_then(|micros| scalar::text(&Value::Timestamp(micros)))
}

/// The text on one line, control characters escaped.
fn shown(record: &Rejected) -> String {
    let Some(value) = &record.value else { return "NULL".to_owned() };
    let text = String::from_utf8_lossy(value);
    let escaped: String =
        text.chars().take(SHOWN_CHARACTERS).flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect();
    if text.chars().count() > SHOWN_CHARACTERS { format!("{escaped}…") } else { escaped }
}
