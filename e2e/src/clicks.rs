//! Clicks on pages: a small topic with one view, written event by event.
#![expect(clippy::indexing_slicing, reason = "members of JSON answers")]

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::{
    Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
};
use serde_json::{Value as Json, json};

use crate::{Process, Stage, create_topic, eventually, kafka};

/// What takes longer than this does not come any more.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A pipeline over `topic` with one view, which counts by this expression.
#[must_use]
pub fn pipeline(topic: &str, start: &str, key: &str) -> String {
    format!(
        "CREATE TABLE {topic} (page TEXT NOT NULL, number BIGINT, amount DOUBLE)
         WITH (connector = 'kafka', topic = '{topic}', format = 'json', start = '{start}');
         CREATE MATERIALIZED VIEW by_page WITH (publish = 'postgres') AS
         SELECT {key} AS page, count(*) AS clicks, sum(amount) AS amount FROM {topic} GROUP BY 1;"
    )
}

/// An installation without layers: the topic, and these definitions applied.
///
/// # Errors
/// When a server does not answer, or a definition is wrong.
pub async fn applied(name: &str, partitions: i32, sql: &str) -> Result<Stage> {
    let mut stage = Stage::new(name).await?;
    create_topic(name, partitions).await?;
    stage.pipeline(sql)?;
    let (code, text) = stage.run(&["apply"])?;
    ensure!(code == Some(0), "{text}");
    Ok(stage)
}

/// Produces events to a partition.
///
/// # Errors
/// When Kafka does not take them.
pub fn produce(topic: &str, partition: i32, events: &[Json]) -> Result<()> {
    let producer: ThreadedProducer<DefaultProducerContext> = kafka().create()?;
    for event in events {
        producer.send(BaseRecord::<(), str>::to(topic).partition(partition).payload(&event.to_string())).map_err(|(error, _)| error)?;
    }
    producer.flush(Duration::from_secs(20))?;
    Ok(())
}

/// One click.
#[must_use]
pub fn click(page: &str) -> Json {
    json!({"page": page, "number": 1, "amount": 0.1})
}

/// Asks for the clicks of each page.
#[must_use]
pub fn query() -> Json {
    json!({"dimensions": ["by_page.page"], "measures": ["by_page.clicks"]})
}

/// The first answer that covers this many partitions: every one of them has an origin.
///
/// # Errors
/// When there is none in time.
pub async fn begun(process: &Process, topic: &str, partitions: usize) -> Result<Json> {
    eventually("an answer that covers all partitions", LIMIT, || async {
        let answer = process.load(&query()).await?;
        Ok(answer.filter(|answer| answer["lambda"]["offsets"][topic].as_object().is_some_and(|offsets| offsets.len() == partitions)))
    })
    .await
}

/// The clicks of each page, once there are `total` of them in all.
///
/// # Errors
/// When there are not in time.
pub async fn pages(process: &Process, total: i64) -> Result<Vec<(String, i64)>> {
    eventually(&format!("{total} clicks"), LIMIT, || async {
        let Some(answer) = process.load(&query()).await? else { return Ok(None) };
        let rows = answer["data"].as_array().context("no data")?;
        let mut pages: Vec<(String, i64)> =
            rows.iter().map(|row| (row["by_page.page"].as_str().unwrap_or("NULL").to_owned(), row["by_page.clicks"].as_i64().unwrap_or_default())).collect();
        pages.sort();
        Ok((pages.iter().map(|(_, clicks)| clicks).sum::<i64>() == total).then_some(pages))
    })
    .await
}

/// A run that must succeed.
///
/// # Errors
/// When it does not.
pub fn recompute(stage: &Stage) -> Result<String> {
    let (code, text) = stage.run(&["recompute"])?;
    ensure!(code == Some(0), "{text}");
    Ok(text)
}

/// Retention, at once: what lies below `first` is gone.
///
/// # Errors
/// When Kafka refuses.
pub async fn delete_records(topic: &str, partition: i32, first: i64) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = kafka().create()?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(first))?;
    admin.delete_records(&list, &AdminOptions::new()).await?;
    Ok(())
}

/// What `status` says of the source.
///
/// # Errors
/// When it fails.
///
/// # Panics
/// When it ends with another exit code than 0.
pub fn status(stage: &Stage) -> Result<Json> {
    let (code, text) = stage.run(&["status", "--json"])?;
    assert_eq!(code, Some(0), "{text}");
    // Logs may follow the JSON.
    let json: Json = serde_json::Deserializer::from_str(&text).into_iter().next().context("no status")??;
    Ok(json["sources"][0].clone())
}

/// Waits until these troubles of a partition say something.
///
/// # Errors
/// When they do not.
pub async fn in_trouble(stage: &Stage, partition: usize, troubles: &[&str]) -> Result<()> {
    eventually("a partition in trouble", LIMIT, || async {
        let state = status(stage)?["partitions"][partition].clone();
        Ok(troubles.iter().all(|trouble| state[trouble].is_string()).then_some(()))
    })
    .await
}

/// One click on each of these pages.
#[must_use]
pub fn new_pages(numbers: std::ops::Range<usize>) -> Vec<Json> {
    numbers.map(|number| click(&format!("page {number}"))).collect()
}
