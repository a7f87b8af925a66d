//! Reading a topic with a consumer of its own: no group, assigned from the beginning, committed records only.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
};

use crate::{Domain, Record};

const CALL_LIMIT: Duration = Duration::from_secs(10);
/// Without a record that is waited for in this time a topic counts as unreadable.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);

/// The records of a topic, read further and further.
pub struct Topic {
    consumer: BaseConsumer,
    domain: Domain,
    name: String,
    /// All records so far.
    pub records: Vec<Record>,
    positions: BTreeMap<i32, i64>,
}

impl std::fmt::Debug for Topic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Topic").field("name", &self.name).field("positions", &self.positions).finish_non_exhaustive()
    }
}

impl Topic {
    /// Opens a topic of server events.
    ///
    /// # Errors
    /// When Kafka does not answer.
    pub fn open(brokers: &str, name: &str) -> Result<Self> {
        Self::of(Domain::ServerStatus, brokers, name)
    }

    /// Opens a topic.
    ///
    /// # Errors
    /// When Kafka does not answer.
    pub fn of(domain: Domain, brokers: &str, name: &str) -> Result<Self> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", "anabranch-oracle")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            // Never a smaller number in silence.
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_committed")
            .create()
            .context("make a Kafka consumer")?;
        let metadata = consumer.fetch_metadata(Some(name), CALL_LIMIT).context("ask Kafka for the topic")?;
        let positions = metadata.topics().iter().flat_map(|topic| topic.partitions()).map(|partition| (partition.id(), 0)).collect();
        let topic = Self { consumer, domain, name: name.to_owned(), records: Vec::new(), positions };
        topic.read_on()?;
        Ok(topic)
    }

    /// Fetches every partition from where it was read to.
    fn read_on(&self) -> Result<()> {
        let mut list = TopicPartitionList::new();
        for (partition, position) in &self.positions {
            let from = if *position == 0 { Offset::Beginning } else { Offset::Offset(*position) };
            list.add_partition_offset(&self.name, *partition, from)?;
        }
        Ok(self.consumer.assign(&list)?)
    }

    /// Reads partitions too that the topic was given since.
    ///
    /// # Errors
    /// When Kafka does not answer.
    pub fn look_for_partitions(&mut self) -> Result<()> {
        let metadata = self.consumer.fetch_metadata(Some(&self.name), CALL_LIMIT).context("ask Kafka for the topic")?;
        let known = self.positions.len();
        for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
            self.positions.entry(partition.id()).or_insert(0);
        }
        if self.positions.len() > known { self.read_on() } else { Ok(()) }
    }

    /// The end of every partition now.
    ///
    /// # Errors
    /// When Kafka does not answer.
    pub fn ends(&self) -> Result<BTreeMap<i32, i64>> {
        self.positions
            .keys()
            .map(|partition| Ok((*partition, self.consumer.fetch_watermarks(&self.name, *partition, CALL_LIMIT)?.1)))
            .collect::<Result<_, KafkaError>>()
            .context("ask Kafka for the ends")
    }

    /// Reads on until every partition is read up to `offsets`, however many records that takes.
    ///
    /// # Errors
    /// When Kafka gives none of them for long.
    pub fn read_to(&mut self, offsets: &BTreeMap<i32, i64>) -> Result<()> {
        let mut deadline = Instant::now() + SILENCE_LIMIT;
        let mut last = None;
        while offsets.iter().any(|(partition, end)| self.positions.get(partition).is_none_or(|position| position < end)) {
            if Instant::now() > deadline {
                bail!("the topic {} could not be read up to {offsets:?}, only to {:?}; last error: {last:?}", self.name, self.positions);
            }
            if offsets.keys().any(|partition| !self.positions.contains_key(partition)) {
                // The topic was given partitions; not every broker may know them yet.
                self.look_for_partitions()?;
            }
            match self.consumer.poll(Duration::from_millis(100)) {
                None => {}
                Some(Ok(message)) => {
                    if offsets.get(&message.partition()).is_some_and(|end| message.offset() < *end) {
                        deadline = Instant::now() + SILENCE_LIMIT;
                    }
                    self.positions.insert(message.partition(), message.offset() + 1);
                    self.records.push(Record {
                        partition: message.partition(),
                        offset: message.offset(),
                        timestamp_ms: message.timestamp().to_millis().unwrap_or_default(),
                        event: self.domain.decode(message.payload()),
                    });
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    // Markers at the end of a partition are no records, but offsets.
                    let position = self.consumer.position()?.find_partition(&self.name, partition).map(|element| element.offset());
                    if let Some(Offset::Offset(offset)) = position {
                        self.positions.insert(partition, offset);
                    }
                }
                // librdkafka gives the partition up; where Kafka has its offsets all the same, it is read on.
                Some(Err(error)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) => {
                    last = Some(error);
                    self.read_on()?;
                }
                // A broker that comes back is read on; one that does not is a failure after the limit.
                Some(Err(error)) => last = Some(error),
            }
        }
        Ok(())
    }
}
