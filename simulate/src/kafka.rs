//! Events → Kafka.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
};

use crate::{Event, pace};

/// A broker that does not answer within this time counts as not there.
const CALL_LIMIT: Duration = Duration::from_secs(10);
const QUEUE_WAIT: Duration = Duration::from_millis(5);
const FLUSH_LIMIT: Duration = Duration::from_secs(60);

/// Makes the topic where it does not exist.
///
/// # Errors
/// When Kafka does not answer or refuses.
pub async fn create_topic(config: &ClientConfig, topic: &str, partitions: i32) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = config.create().context("make a Kafka client")?;
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1));
    let options = AdminOptions::new().request_timeout(Some(CALL_LIMIT)).operation_timeout(Some(CALL_LIMIT));
    let results = admin.create_topics([&new], &options).await?;
    match results.into_iter().next() {
        Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) | None => Ok(()),
        Some(Err((_, code))) => bail!("topic {topic} cannot be made: {code}"),
    }
}

/// Produces events until all are out or `stop` says so; returns how many.
///
/// # Errors
/// When Kafka does not take them.
pub fn produce(config: &ClientConfig, topic: &str, events: impl Iterator<Item = Event>, rate: f64, stop: &dyn Fn() -> bool) -> Result<u64> {
    let producer: ThreadedProducer<DefaultProducerContext> =
        config.clone().set("linger.ms", "5").set("compression.type", "zstd").set("enable.idempotence", "true").create().context("make a Kafka producer")?;
    let began = Instant::now();
    let mut produced = 0;
    'events: for event in events {
        pace(began, produced, rate, stop);
        if stop() {
            break;
        }
        let mut record: BaseRecord<'_, str, [u8]> = BaseRecord::to(topic).payload(&event.value);
        if let Some(key) = &event.key {
            record = record.key(key.as_str());
        }
        while let Err((error, returned)) = producer.send(record) {
            match error {
                // Kafka takes nothing just now: a signal is heard all the same.
                KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) if stop() => break 'events,
                KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) => std::thread::sleep(QUEUE_WAIT),
                error => return Err(error).context("produce an event"),
            }
            record = returned;
        }
        produced += 1;
    }
    producer.flush(FLUSH_LIMIT).context("wait until Kafka has all events")?;
    Ok(produced)
}
