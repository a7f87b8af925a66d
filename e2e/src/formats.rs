//! Answers in every form in which they can be had, as the oracle wants them; files are read back by programs of others.
#![expect(clippy::indexing_slicing, reason = "members of JSON answers")]

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value as Json, json};

use crate::{Process, Stage, clicks::LIMIT, sql, variable};

/// The forms beside JSON: what `Accept` asks for; the stream; SQL.
pub const FORMS: [&str; 6] = ["csv", "ndjson", "arrow", "parquet", "stream", "sql"];

/// The media type of a format, by its name here.
///
/// # Panics
/// When there is no such format.
#[must_use]
pub fn media_type(format: &str) -> &'static str {
    match format {
        "csv" => "text/csv",
        "ndjson" => "application/x-ndjson",
        "arrow" => "application/vnd.apache.arrow.stream",
        "parquet" => "application/vnd.apache.parquet",
        _ => panic!("no format {format}"),
    }
}

/// The rows of a file, and what its schema says of it, by `DuckDB` and pyarrow.
///
/// # Errors
/// When they cannot read it.
pub fn read(stage: &Stage, format: &str, body: &[u8]) -> Result<Json> {
    let path = stage.folder().join(format!("answer.{format}"));
    std::fs::write(&path, body)?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/readers/formats.py");
    let output = Command::new(variable("ANABRANCH_PYTHON")).arg(script).arg(format).arg(&path).output().context("start python")?;
    ensure!(output.status.success(), "{format}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The answer to a query in one of the forms; nothing where that form does not have the view.
///
/// # Errors
/// When it is refused, or cannot be read.
pub async fn ask(stage: &Stage, process: &Process, form: &str, view: &str, topic: &str, query: &Json) -> Result<Option<Json>> {
    match form {
        "sql" if sql::WHOLE_VIEWS.contains(&view) => Ok(Some(sql::ask(&stage.database().await?, view, topic).await?)),
        "sql" => Ok(None),
        "stream" => tokio::time::timeout(LIMIT, of_stream(process, query)).await?.map(Some),
        format => {
            let request = reqwest::Client::new().post(format!("{}/v1/load", process.url)).header("accept", media_type(format)).json(query);
            let response = request.send().await?;
            ensure!(response.status().is_success(), "{format}: {}", response.text().await?);
            let lambda: Json = serde_json::from_str(response.headers()["anabranch-lambda"].to_str()?)?;
            let mut file = read(stage, format, &response.bytes().await?)?;
            numbers(&mut file["rows"], query);
            Ok(Some(json!({"data": file["rows"], "lambda": lambda})))
        }
    }
}

/// The second answer of a subscription: one that came by itself.
async fn of_stream(process: &Process, query: &Json) -> Result<Json> {
    let url = format!("{}/v1/stream", process.url);
    let mut response = reqwest::Client::new().get(url).query(&[("query", query.to_string()), ("maxPerSecond", "10".to_owned())]).send().await?;
    let mut answers = Vec::new();
    let mut text = String::new();
    while answers.len() < 2 {
        text.push_str(std::str::from_utf8(&response.chunk().await?.context("the stream ended")?)?);
        while let Some((event, rest)) = text.split_once("\n\n").map(|(event, rest)| (event.to_owned(), rest.to_owned())) {
            text = rest;
            if event.lines().any(|line| line == "event: answer") {
                answers.extend(event.lines().find_map(|line| line.strip_prefix("data: ")).map(serde_json::from_str::<Json>).transpose()?);
            }
        }
    }
    answers.pop().context("no answer")
}

/// Texts of measures that are numbers as numbers: CSV has texts alone.
fn numbers(rows: &mut Json, query: &Json) {
    for row in rows.as_array_mut().into_iter().flatten() {
        for measure in query["measures"].as_array().into_iter().flatten().filter_map(Json::as_str) {
            if let Some(number) = row[measure].as_str().and_then(|text| serde_json::from_str::<Json>(text).ok()).filter(Json::is_number) {
                row[measure] = number;
            }
        }
    }
}
