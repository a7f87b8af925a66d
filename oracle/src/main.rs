//! `anabranch-oracle`: asks the serving API for every view and recounts.
#![expect(clippy::print_stdout, reason = "a command prints its result")]

use std::process::ExitCode;

use anabranch_oracle::{compare, offsets, queries, topic::Topic};
use anyhow::{Context, Result};
use clap::Parser;

/// Recounts the server-status views from the topic and compares every cell of the answers.
#[derive(Debug, Parser)]
struct Arguments {
    /// Kafka.
    #[arg(long, env = "ANABRANCH_KAFKA__BROKERS", default_value = "localhost:9092")]
    brokers: String,
    /// The serving API.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let client = reqwest::Client::new();
    let mut topic = Topic::open(&arguments.brokers, "server-live-status")?;
    let (mut cells, mut records) = (0, 0);
    let mut stated = Default::default();
    for (view, query) in queries() {
        let response = client.post(format!("{}/v1/load", arguments.url)).json(&query).send().await.context("ask the serving API")?;
        let answer: serde_json::Value = response.error_for_status().context("ask the serving API")?.json().await?;
        stated = offsets(&answer);
        topic.read_to(&stated)?;
        let verdict = compare(view, &answer, &topic.records);
        if let Some(wrong) = verdict.wrong {
            println!("wrong: {wrong}");
            return Ok(ExitCode::from(1));
        }
        cells += verdict.cells;
        records = records.max(verdict.records);
    }
    let ends = topic.ends()?;
    println!("{records} events, {cells} cells, offsets {stated:?}, the topic ends at {ends:?}");
    println!("recount agrees");
    Ok(ExitCode::SUCCESS)
}
