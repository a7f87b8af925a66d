//! `anabranch-oracle`: asks the serving API for every view and recounts.
#![expect(clippy::print_stdout, reason = "a command prints its result")]

use std::{
    collections::BTreeMap,
    process::ExitCode,
    time::{Duration, Instant},
};

use anabranch_oracle::{Domain, compare, offsets, topic::Topic};
use anyhow::{Context, Result, bail};
use clap::Parser;
use serde_json::Value as Json;

/// How long views may need to answer at the topic's ends once nothing is produced any more.
const LIMIT: Duration = Duration::from_secs(60);

/// Recounts the views of a shipped pipeline from the topic and compares every cell of the answers. Exit code 1 at the first wrong
/// cell.
#[derive(Debug, Parser)]
struct Arguments {
    /// Kafka.
    #[arg(long, env = "ANABRANCH_KAFKA__BROKERS", default_value = "localhost:9092")]
    brokers: String,
    /// The serving API.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// The pipeline: server-status or music.
    #[arg(long, default_value = "server-status", value_parser = ["server-status", "music"])]
    pipeline: String,
    /// Wait until the answers cover the whole topic; nothing may be produced meanwhile.
    #[arg(long)]
    at_ends: bool,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let domain = if arguments.pipeline == "music" { Domain::Music } else { Domain::ServerStatus };
    let mut topic = Topic::of(domain, &arguments.brokers, domain.topic())?;
    let ends = topic.ends()?;
    let (mut cells, mut records) = (0, 0);
    let (mut stated, nothing) = (BTreeMap::new(), BTreeMap::new());
    for (view, query) in domain.queries() {
        // A view over files alone covers no offsets.
        let is_of_files = ["songs", "artists"].contains(&view);
        let answer = ask(&arguments, &query, if is_of_files { &nothing } else { &ends }).await?;
        if !is_of_files {
            stated = offsets(&answer);
            topic.read_to(&stated)?;
        }
        let verdict = compare(view, &answer, &topic.records);
        if let Some(wrong) = verdict.wrong {
            println!("wrong: {wrong}");
            return Ok(ExitCode::from(1));
        }
        cells += verdict.cells;
        records = records.max(verdict.records);
    }
    let list: Vec<String> = stated.iter().map(|(partition, offset)| format!("{partition}:{offset}")).collect();
    let place = if stated == ends { "the ends of the topic" } else { "behind the ends of the topic" };
    println!("{records} events, {cells} cells, offsets {} ({place})", list.join(" "));
    println!("recount agrees");
    Ok(ExitCode::SUCCESS)
}

async fn ask(arguments: &Arguments, query: &Json, ends: &BTreeMap<i32, i64>) -> Result<Json> {
    let client = reqwest::Client::new();
    let began = Instant::now();
    loop {
        let response = client.post(format!("{}/v1/load", arguments.url)).json(query).send().await.context("ask the serving API")?;
        let answer: Json = response.error_for_status().context("ask the serving API")?.json().await?;
        if !arguments.at_ends || offsets(&answer) == *ends {
            return Ok(answer);
        }
        if began.elapsed() > LIMIT {
            bail!("the answers stand at {:?}, the topic ends at {ends:?}", offsets(&answer));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
