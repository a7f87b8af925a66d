//! Partitions that the group gives to nobody.
//!
//! A static member that restarts gets its old partitions back without a rebalance (KIP-345). If the topic was given
//! partitions meanwhile, no client sees their number change, and nobody would ever be given the new ones.

use std::{
    cell::Cell,
    collections::BTreeSet,
    time::{Duration, Instant},
};

use bytes::Buf;
use rdkafka::{consumer::Consumer, error::KafkaError, groups::GroupMemberInfo, metadata::MetadataTopic};

use super::GroupConsumer;

/// How often a member looks. What is nobody's twice in a row stays so: a group that sees a new partition by itself needs
/// one interval of its metadata, which is as long.
const INTERVAL: Duration = Duration::from_secs(10);
/// Asked on the polling thread, so not for long.
const CALL_LIMIT: Duration = Duration::from_secs(1);

/// The last look.
pub(super) struct Orphans(Cell<Look>);

#[derive(Clone, Copy)]
struct Look {
    looked: Instant,
    seen: bool,
}

impl Default for Orphans {
    fn default() -> Self {
        Self(Cell::new(Look { looked: Instant::now(), seen: false }))
    }
}

impl GroupConsumer {
    /// Joins the group anew when a partition of the topic is nobody's for long; call it again and again.
    pub fn claim_orphans(&self) {
        let before = self.orphans.0.get();
        if before.looked.elapsed() < INTERVAL {
            return;
        }
        // A broker that does not answer now is asked again.
        let seen = self.has_orphans().unwrap_or(false);
        self.orphans.0.set(Look { looked: Instant::now(), seen: seen && !before.seen });
        if seen && before.seen {
            tracing::info!(group = self.group, topic = self.topic, "partitions of the topic are nobody's; joining the group anew");
            self.consumer.unsubscribe();
            if let Err(error) = self.consumer.subscribe(&[&self.topic]) {
                tracing::warn!(group = self.group, %error, "could not join the group anew; trying on");
            }
        }
    }

    fn has_orphans(&self) -> Result<bool, KafkaError> {
        let groups = self.consumer.fetch_group_list(Some(&self.group), CALL_LIMIT)?;
        let Some(group) = groups.groups().iter().find(|group| group.name() == self.group && group.state() == "Stable") else { return Ok(false) };
        let assigned: BTreeSet<i32> = group.members().iter().filter_map(GroupMemberInfo::assignment).flat_map(|bytes| assigned(bytes, &self.topic)).collect();
        let metadata = self.consumer.fetch_metadata(Some(&self.topic), CALL_LIMIT)?;
        Ok(metadata.topics().iter().flat_map(MetadataTopic::partitions).any(|partition| !assigned.contains(&partition.id())))
    }
}

/// The partitions of `topic` in an assignment of Kafka's consumer protocol: version, then topics with their partitions.
fn assigned(mut bytes: &[u8], topic: &str) -> Vec<i32> {
    let mut partitions = Vec::new();
    let mut read = || -> Option<()> {
        bytes.try_get_i16().ok()?;
        for _ in 0..bytes.try_get_i32().ok()? {
            let length = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
            let (name, rest) = bytes.split_at_checked(length)?;
            bytes = rest;
            for _ in 0..bytes.try_get_i32().ok()? {
                let partition = bytes.try_get_i32().ok()?;
                if name == topic.as_bytes() {
                    partitions.push(partition);
                }
            }
        }
        Some(())
    };
    // What is not understood counts as nobody's: at worst the group is joined once more.
    read().unwrap_or_default();
    partitions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_read_as_the_protocol_writes_it() {
        let bytes = [&[0, 1, 0, 0, 0, 2, 0, 1][..], b"a", &[0, 0, 0, 1, 0, 0, 0, 9, 0, 2], b"bb", &[0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 0]].concat();
        assert_eq!(assigned(&bytes, "bb"), [3, 4]);
        assert_eq!(assigned(&bytes, "a"), [9]);
        assert_eq!(assigned(&bytes[..bytes.len() - 8], "bb"), [3]);
        assert_eq!(assigned(&[], "a"), Vec::<i32>::new());
    }
}
