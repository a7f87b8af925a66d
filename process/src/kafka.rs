//! Kafka, as both readers of a topic see it: a group that gives partitions, positions that are ours.
//!
//! A rebalance is a value here: the consumer reports it, the worker opens what it must, then answers with
//! [`GroupConsumer::assign`] or [`GroupConsumer::unassign`]. librdkafka waits for that answer.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anabranch_core::{Offset, OffsetRange, Partition, definition::Start};
use anyhow::{Context as _, Result, anyhow};
use rdkafka::{
    ClientConfig, ClientContext, Message as _, TopicPartitionList,
    admin::{AdminClient, AdminOptions, ResourceSpecifier},
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::BorrowedMessage,
    statistics::Statistics,
    types::RDKafkaRespErr,
};
use thiserror::Error;
use uuid::Uuid;

use crate::{
    failure::{Refused, Unreachable},
    settings::Kafka,
};

mod orphans;

use orphans::Orphans;

/// A broker that does not answer within this time counts as not there.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// The longest wait of one poll: rebalances are answered in between.
const POLL_LIMIT: Duration = Duration::from_millis(100);

/// Items between two looks at the clock, which costs about as much as a column.
const CLOCK_ITEMS: u32 = 64;

/// Events that may wait before the one that says why a broker was not reached.
const EVENTS_HEARD: usize = 64;

/// A restarted worker with the same instance id gets its partitions back at once; others after this time.
const SESSION_TIMEOUT_MS: &str = "10000";

/// What the group did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rebalance {
    /// These partitions are ours; answer with [`GroupConsumer::assign`].
    Assigned(BTreeSet<Partition>),
    /// These are to be given back; answer with [`GroupConsumer::unassign`].
    Revoked(BTreeSet<Partition>),
}

/// What a poll gave.
#[derive(Debug)]
pub enum Polled<'a> {
    /// A record.
    Record(BorrowedMessage<'a>),
    /// A partition was read up to this position, markers passed.
    End(Partition, Offset),
    /// Kafka does not have the offset that is to be read next; [`GroupConsumer::lost`] says of which partitions.
    OutOfRange,
    /// Nothing for now, an event served, or the time is over.
    Nothing,
}

/// Offsets that cannot be read from Kafka (any more).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Lost {
    /// Retention was faster: Kafka begins behind the next offset.
    #[error("Kafka no longer has the offsets {0}; `anabranch skip-lost` accepts the loss")]
    Removed(OffsetRange),
    /// Kafka ends before the next offset: the topic was made anew, or its brokers lost records that were read already.
    #[error("Kafka ends at offset {end}, before the next offset {next}; was the topic made anew?")]
    Behind {
        /// What is to be read next.
        next: Offset,
        /// Where Kafka ends.
        end: Offset,
    },
}

impl Lost {
    /// The nearest offset that Kafka has.
    #[must_use]
    pub fn readable(&self) -> Offset {
        match self {
            Self::Removed(range) => range.end,
            Self::Behind { end, .. } => *end,
        }
    }
}

#[derive(Default)]
struct Events {
    queue: Mutex<Vec<Rebalance>>,
    ends: Mutex<BTreeMap<Partition, Offset>>,
    closing: AtomicBool,
    /// What librdkafka said last of its connections.
    reason: Mutex<String>,
    /// Whether an error was said that no record has followed yet.
    troubled: AtomicBool,
}

impl ClientContext for Events {
    fn error(&self, error: KafkaError, reason: &str) {
        // Brokers come and go; librdkafka reconnects by itself. A failure that matters shows in the next call.
        tracing::debug!(%error, reason, "kafka client");
        let mut said = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        // That all brokers are away says less than why.
        if said.is_empty() || error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            reason.clone_into(&mut said);
        }
    }

    fn stats(&self, statistics: Statistics) {
        let partitions = statistics.topics.into_values().flat_map(|topic| topic.partitions);
        // Negative: unknown. A reader of committed records ends at the last stable offset.
        let known = partitions.filter(|(partition, state)| *partition >= 0 && state.ls_offset >= 0);
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).extend(known.map(|(partition, state)| (Partition(partition), Offset(state.ls_offset))));
    }
}

impl ConsumerContext for Events {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, error: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let list: BTreeSet<Partition> = partitions.elements().iter().map(|element| Partition(element.partition())).collect();
        if self.closing.load(Ordering::Relaxed) {
            // The worker is gone and nobody else would answer.
            drop(consumer.incremental_unassign(partitions));
            return;
        }
        let event = match error {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Rebalance::Assigned(list),
            _ => Rebalance::Revoked(list),
        };
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

/// One member of a layer's consumer group for one source.
pub struct GroupConsumer {
    consumer: BaseConsumer<Events>,
    group: String,
    topic: String,
    orphans: Orphans,
    /// Items since the clock was looked at.
    since_clock: Cell<u32>,
}

impl std::fmt::Debug for GroupConsumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupConsumer").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Drop for GroupConsumer {
    fn drop(&mut self) {
        self.consumer.context().closing.store(true, Ordering::Relaxed);
    }
}

/// The client properties that every client starts from.
///
/// # Errors
/// [`Refused`], with the property that librdkafka does not take, and never its value: it may be a password.
pub fn client_config(settings: &Kafka) -> Result<ClientConfig, Refused> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &settings.brokers).set("client.id", "anabranch");
    for (key, value) in &settings.client {
        config.set(key, value);
    }
    match config.create_native_config() {
        Ok(_) => Ok(config),
        Err(KafkaError::ClientConfig(_, description, key, _)) => Err(Refused(format!("setting kafka.client, \"{key}\": {description}"))),
        Err(error) => Err(Refused(format!("setting kafka.client: {error}"))),
    }
}

/// A client that cannot be made has a wrong property: a file without authorities, an unknown mechanism.
fn made<T>(created: KafkaResult<T>) -> Result<T> {
    created.map_err(|error| match error {
        KafkaError::ClientCreation(message) => Refused(format!("setting kafka.client: {message}")).into(),
        other => anyhow::Error::from(other).context("make a Kafka client"),
    })
}

/// With what librdkafka said last of its connections: a password, an authority, nobody there.
fn unreachable(settings: &Kafka, events: &Events, cause: impl Into<anyhow::Error>) -> Unreachable {
    let reason = events.reason.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let cause = cause.into();
    Unreachable { service: "Kafka", address: settings.brokers.clone(), cause: if reason.is_empty() { cause } else { cause.context(reason) } }
}

/// Makes sure that `topic` exists and keeps every record.
///
/// # Errors
/// [`Unreachable`]; [`Refused`] for a missing or a compacted topic: two readers must see the same records.
pub async fn check_topic(settings: &Kafka, topic: &str) -> Result<()> {
    let admin: AdminClient<Events> = made(client_config(settings)?.create_with_context(Events::default()))?;
    let unreachable = |cause: anyhow::Error| unreachable(settings, admin.inner().context(), cause);
    let options = AdminOptions::new().request_timeout(Some(CALL_LIMIT)).operation_timeout(Some(CALL_LIMIT));
    let results = admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options).await.map_err(|error| unreachable(error.into()))?;
    match results.into_iter().next() {
        Some(Ok(resource)) => match resource.get("cleanup.policy").and_then(|entry| entry.value.as_deref()) {
            Some(policy) if policy.contains("compact") => Err(Refused(format!(
                "topic \"{topic}\" has cleanup.policy={policy}: a compacted topic forgets records, so no two readers see the same; use delete"
            ))
            .into()),
            _ => Ok(()),
        },
        Some(Err(RDKafkaErrorCode::UnknownTopicOrPartition)) => Err(Refused(format!("topic \"{topic}\" does not exist on {}", settings.brokers)).into()),
        other => Err(unreachable(anyhow!("describe topic {topic}: {other:?}")).into()),
    }
}

/// What Kafka has of each partition of a topic.
///
/// # Errors
/// [`Unreachable`].
pub fn watermarks(settings: &Kafka, topic: &str) -> Result<BTreeMap<Partition, OffsetRange>> {
    let mut config = client_config(settings)?;
    let consumer: BaseConsumer<Events> = made(config.set("isolation.level", "read_committed").create_with_context(Events::default()))?;
    let unreachable = |cause: KafkaError| {
        // What was said of connections waits to be heard, among other events.
        (0..EVENTS_HEARD).for_each(|_| drop(consumer.poll(Duration::ZERO)));
        unreachable(settings, consumer.context(), cause)
    };
    let metadata = consumer.fetch_metadata(Some(topic), CALL_LIMIT).map_err(unreachable)?;
    let mut ranges = BTreeMap::new();
    for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
        let (low, high) = consumer.fetch_watermarks(topic, partition.id(), CALL_LIMIT).map_err(unreachable)?;
        ranges.insert(Partition(partition.id()), OffsetRange { start: Offset(low), end: Offset(high) });
    }
    Ok(ranges)
}

impl GroupConsumer {
    /// Joins the group of `layer` for `source` of the installation `incarnation`: another one that reads the same topic on the
    /// same cluster gets every partition, too.
    ///
    /// # Errors
    /// When the client properties are wrong.
    pub fn join(settings: &Kafka, layer: &str, source: &str, topic: &str, incarnation: Uuid) -> Result<Self> {
        let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").map_or_else(|_| "localhost".to_owned(), |name| name.trim().to_owned());
        // Two workers of one source on one host need names of their own.
        let instance = settings.client.get("group.instance.id").cloned().unwrap_or_else(host);
        let group = group_name(layer, source, incarnation);
        let mut config = client_config(settings)?;
        config
            .set("group.id", &group)
            .set("group.instance.id", format!("{instance}-{layer}-{source}"))
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", SESSION_TIMEOUT_MS)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_committed")
            // New partitions of the topic are seen within this time.
            .set("topic.metadata.refresh.interval.ms", "10000")
            // Bounds what is fetched ahead, in KiB.
            .set("queued.max.messages.kbytes", "32768")
            .set("fetch.wait.max.ms", "100")
            // A partition whose queue was full is fetched again soon after, not a second later: else the reader waits for it.
            .set("fetch.queue.backoff.ms", "20")
            // The ends of the partitions, without a request of our own.
            .set("statistics.interval.ms", "1000");
        let consumer: BaseConsumer<Events> = made(config.create_with_context(Events::default()))?;
        consumer.subscribe(&[topic]).with_context(|| format!("subscribe to topic {topic}"))?;
        Ok(Self { consumer, group, topic: topic.to_owned(), orphans: Orphans::default(), since_clock: Cell::new(0) })
    }

    /// What the group did since the last call.
    #[must_use]
    pub fn rebalances(&self) -> Vec<Rebalance> {
        std::mem::take(&mut *self.consumer.context().queue.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The next item, until about `until`; what is there already comes without a look at the clock. Brokers that do not
    /// answer are said once; librdkafka goes on by itself when they are back.
    ///
    /// # Errors
    /// When the consumer cannot go on.
    pub fn poll(&self, until: Instant) -> Result<Polled<'_>, KafkaError> {
        let count = self.since_clock.get();
        self.since_clock.set((count + 1) % CLOCK_ITEMS);
        if count > 0
            && let Some(item) = self.consumer.poll(Duration::ZERO)
        {
            return self.polled(item);
        }
        self.since_clock.set(1);
        let limit = until.saturating_duration_since(Instant::now());
        let item = if limit.is_zero() { None } else { self.consumer.poll(limit.min(POLL_LIMIT)) };
        let Some(item) = item else {
            self.since_clock.set(0);
            return Ok(Polled::Nothing);
        };
        self.polled(item)
    }

    fn polled<'a>(&'a self, item: Result<BorrowedMessage<'a>, KafkaError>) -> Result<Polled<'a>, KafkaError> {
        match item {
            Ok(message) => {
                self.answers();
                Ok(Polled::Record(message))
            }
            Err(KafkaError::PartitionEOF(partition)) => {
                self.answers();
                // Read here, on the polling thread: nothing behind this item was taken yet.
                let positions = self.consumer.position()?;
                let position = positions.find_partition(&self.topic, partition).map(|element| element.offset());
                Ok(match position {
                    Some(rdkafka::Offset::Offset(offset)) => Polled::End(Partition(partition), Offset(offset)),
                    _ => Polled::Nothing,
                })
            }
            Err(error @ KafkaError::MessageConsumptionFatal(_)) => Err(error),
            Err(error) => match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => Ok(Polled::OutOfRange),
                Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::FencedInstanceId) => Err(error),
                _ => {
                    if !self.consumer.context().troubled.swap(true, Ordering::Relaxed) {
                        let reason = self.consumer.context().reason.lock().unwrap_or_else(PoisonError::into_inner).clone();
                        tracing::warn!(topic = self.topic, %error, reason, "Kafka does not answer; trying on");
                    }
                    Ok(Polled::Nothing)
                }
            },
        }
    }

    fn answers(&self) {
        if self.consumer.context().troubled.swap(false, Ordering::Relaxed) {
            tracing::info!(topic = self.topic, "Kafka answers again");
        }
    }

    /// The ends of the partitions that are read, as the brokers said last; about a second old.
    #[must_use]
    pub fn ends(&self) -> BTreeMap<Partition, Offset> {
        self.consumer.context().ends.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Which of these positions Kafka does not have.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub fn lost(&self, positions: &BTreeMap<Partition, Offset>) -> Result<BTreeMap<Partition, Lost>, KafkaError> {
        let mut lost = BTreeMap::new();
        for (partition, next) in positions {
            let (low, high) = self.consumer.fetch_watermarks(&self.topic, partition.0, CALL_LIMIT)?;
            if let Some(removed) = OffsetRange::new(*next, Offset(low)).filter(|range| !range.is_empty()) {
                lost.insert(*partition, Lost::Removed(removed));
            } else if *next > Offset(high) {
                lost.insert(*partition, Lost::Behind { next: *next, end: Offset(high) });
            }
        }
        Ok(lost)
    }

    fn list(&self, positions: impl IntoIterator<Item = (Partition, Offset)>) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in positions {
            list.add_partition_offset(&self.topic, partition.0, rdkafka::Offset::Offset(offset.0))?;
        }
        Ok(list)
    }

    /// Answers [`Rebalance::Assigned`]: read these partitions from here.
    ///
    /// # Errors
    /// When the group took them back meanwhile.
    pub fn assign(&self, positions: &BTreeMap<Partition, Offset>) -> Result<(), KafkaError> {
        self.consumer.incremental_assign(&self.list(positions.iter().map(|(partition, offset)| (*partition, *offset)))?)
    }

    /// Answers [`Rebalance::Revoked`].
    ///
    /// # Errors
    /// When they are gone already.
    pub fn unassign(&self, partitions: &BTreeSet<Partition>) -> Result<(), KafkaError> {
        self.consumer.incremental_unassign(&self.list(partitions.iter().map(|partition| (*partition, Offset(0))))?)
    }

    /// Stops fetching; the group does not notice.
    ///
    /// # Errors
    /// When a partition is not assigned.
    pub fn pause(&self, partitions: &BTreeSet<Partition>) -> Result<(), KafkaError> {
        self.consumer.pause(&self.list(partitions.iter().map(|partition| (*partition, Offset(0))))?)
    }

    /// Goes on from these positions, whatever was fetched before.
    ///
    /// # Errors
    /// When a partition is not assigned, or cannot be sought now; try again after a moment.
    pub fn resume_from(&self, positions: &BTreeMap<Partition, Offset>) -> Result<(), KafkaError> {
        let list = self.list(positions.iter().map(|(partition, offset)| (*partition, *offset)))?;
        let sought = self.consumer.seek_partitions(list, CALL_LIMIT)?;
        for element in sought.elements() {
            element.error()?;
        }
        self.consumer.resume(&self.list(positions.iter().map(|(partition, offset)| (*partition, *offset)))?)
    }

    /// Where a partition begins that was never read.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub fn origin(&self, partition: Partition, start: Start) -> Result<Offset, KafkaError> {
        let (low, high) = self.consumer.fetch_watermarks(&self.topic, partition.0, CALL_LIMIT)?;
        Ok(match start {
            Start::Earliest => Offset(low),
            Start::Latest => Offset(high),
            Start::Timestamp(time_ms) => {
                let mut list = TopicPartitionList::new();
                list.add_partition_offset(&self.topic, partition.0, rdkafka::Offset::Offset(time_ms))?;
                let found = self.consumer.offsets_for_times(list, CALL_LIMIT)?;
                match found.find_partition(&self.topic, partition.0).map(|element| element.offset()) {
                    Some(rdkafka::Offset::Offset(offset)) => Offset(offset),
                    _ => Offset(high),
                }
            }
        })
    }

    /// Tells Kafka how far we are, so that lag tools see it. Truth is in PostgreSQL and in the archive.
    pub fn commit_courtesy(&self, positions: &BTreeMap<Partition, Offset>) {
        if let Ok(list) = self.list(positions.iter().map(|(partition, offset)| (*partition, *offset))) {
            drop(self.consumer.commit(&list, rdkafka::consumer::CommitMode::Async));
        }
    }
}

/// The name of a layer's group for a source: readable, and of one installation alone.
#[must_use]
pub fn group_name(layer: &str, source: &str, incarnation: Uuid) -> String {
    let (installation, ..) = incarnation.as_fields();
    format!("anabranch-{layer}-{source}-{installation:08x}")
}

/// A record as decoding takes it.
#[must_use]
pub fn raw<'a>(message: &'a BorrowedMessage<'_>) -> anabranch_views::decode::RawRecord<'a> {
    anabranch_views::decode::RawRecord {
        partition: message.partition(),
        offset: message.offset(),
        timestamp_micros: message.timestamp().to_millis().map(|millis| millis.saturating_mul(1000)),
        key: message.key(),
        value: message.payload(),
    }
}
