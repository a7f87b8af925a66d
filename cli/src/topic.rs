//! Reading a topic for a person: no group, from where one says, records that are committed.

use std::{collections::BTreeMap, time::Duration};

use anabranch_core::{OffsetRange, Partition};
use anabranch_process::{
    failure::{Refused, Unreachable},
    kafka,
    settings::Kafka,
};
use anyhow::{Context, Result};
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::OwnedMessage,
};

/// A reader that hears nothing for this long looks at the clock.
const POLL: Duration = Duration::from_millis(100);

/// A topic from given offsets on.
pub(crate) struct TopicReader {
    consumer: BaseConsumer,
    /// What Kafka had when reading began.
    pub(crate) ranges: BTreeMap<Partition, OffsetRange>,
}

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// The first offset that Kafka has.
    Beginning,
    /// So many records before the end, over all partitions.
    Last(u64),
}

impl TopicReader {
    pub(crate) fn open(settings: &Kafka, topic: &str, from: From) -> Result<Self> {
        let ranges = kafka::watermarks(settings, topic)?;
        if ranges.is_empty() {
            return Err(Refused(format!("topic \"{topic}\" does not exist on {}", settings.brokers)).into());
        }
        let unreachable = |cause: KafkaError| Unreachable { service: "Kafka", address: settings.brokers.clone(), cause: cause.into() };
        let consumer: BaseConsumer = kafka::client_config(settings)?
            .set("group.id", "anabranch-cli")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .create()
            .context("make a Kafka consumer")?;
        let mut list = TopicPartitionList::new();
        let partitions = ranges.len() as u64;
        for (partition, range) in &ranges {
            let start = match from {
                From::Beginning => range.start.0,
                // A partition that has fewer gives fewer.
                From::Last(count) => range.end.0.saturating_sub_unsigned(count.div_ceil(partitions)).max(range.start.0),
            };
            list.add_partition_offset(topic, partition.0, Offset::Offset(start)).context("assign a partition")?;
        }
        consumer.assign(&list).map_err(unreachable)?;
        Ok(Self { consumer, ranges })
    }

    /// The next record; nothing for a while.
    pub(crate) fn next(&self) -> Result<Option<OwnedMessage>> {
        match self.consumer.poll(POLL) {
            Some(Ok(message)) => Ok(Some(message.detach())),
            // Brokers come and go; librdkafka reads on by itself.
            Some(Err(error)) if error.rdkafka_error_code().is_some() => Ok(None),
            Some(Err(error)) => Err(error).context("read the topic"),
            None => Ok(None),
        }
    }
}

/// Whether a record was the last one that its partition had when reading began.
pub(crate) fn reaches_end(ranges: &BTreeMap<Partition, OffsetRange>, message: &OwnedMessage) -> bool {
    ranges.get(&Partition(message.partition())).is_none_or(|range| message.offset() + 1 >= range.end.0)
}
