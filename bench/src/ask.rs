//! Asks one server the queries of a file, a line each, from so many clients for so many seconds, and prints how many were
//! answered and how long they took: `anabranch-ask (http://…|postgres://…) FILE CLIENTS SECONDS`. A query that fails ends it.
#![expect(clippy::print_stdout, reason = "prints its result")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tokio_postgres::NoTls;

enum Client {
    Http(reqwest::Client, String),
    Postgres(tokio_postgres::Client),
}

impl Client {
    async fn new(target: &str) -> Result<Self> {
        if target.starts_with("http") {
            return Ok(Self::Http(reqwest::Client::new(), format!("{target}/v1/load")));
        }
        let (client, connection) = tokio_postgres::connect(target, NoTls).await?;
        tokio::spawn(connection);
        Ok(Self::Postgres(client))
    }

    /// Asks, and reads the whole answer.
    async fn ask(&self, query: &str) -> Result<()> {
        match self {
            Self::Http(client, url) => {
                let response = client.post(url).header("content-type", "application/json").body(query.to_owned()).send().await?;
                let status = response.status();
                let body = response.bytes().await?;
                ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
            }
            Self::Postgres(client) => {
                client.query(query, &[]).await?;
            }
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = |name: &'static str| arguments.next().context(name);
    let (target, file) = (argument("a target")?, argument("a file")?);
    let (clients, seconds): (usize, u64) = (argument("clients")?.parse()?, argument("seconds")?.parse()?);
    let queries: Arc<Vec<String>> = Arc::new(std::fs::read_to_string(file)?.lines().map(str::to_owned).collect());
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|_| {
            let (target, queries, next) = (target.clone(), Arc::clone(&queries), Arc::clone(&next));
            tokio::spawn(async move {
                let client = Client::new(&target).await?;
                let mut took = Vec::new();
                while began.elapsed() < Duration::from_secs(seconds) {
                    let query = queries.get(next.fetch_add(1, Ordering::Relaxed) % queries.len().max(1)).context("the file has no queries")?;
                    let asked = Instant::now();
                    client.ask(query).await.with_context(|| query.clone())?;
                    took.push(asked.elapsed().as_secs_f64() * 1000.0);
                }
                anyhow::Ok(took)
            })
        })
        .collect();
    let mut took = Vec::new();
    for task in tasks {
        took.append(&mut task.await??);
    }
    let elapsed = began.elapsed().as_secs_f64();
    took.sort_by(f64::total_cmp);
    let at = |percent: usize| took.get((took.len() * percent / 100).min(took.len().saturating_sub(1))).map(|ms| (ms * 100.0).round() / 100.0);
    println!("{}", serde_json::json!({"queries": took.len(), "per_second": (took.len() as f64 / elapsed).round(), "p50_ms": at(50), "p99_ms": at(99)}));
    Ok(())
}
