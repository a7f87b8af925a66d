//! What a worker does not read: partitions of which Kafka lost offsets, everything while a view is at its limit.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_core::Partition;
use anabranch_process::kafka::Lost;
use anyhow::{Context, Result};
use tracing::{error, info};

use super::Worker;
use crate::store;

impl Worker {
    /// Kafka lost the next offset of partitions that are read: they leave the epoch, the others go on.
    pub(super) fn set_unreadable_aside(&mut self) -> Result<()> {
        if let Some(open) = &mut self.open {
            open.fold.fold()?;
        }
        self.flush()?;
        self.settle()?;
        for (partition, lost) in self.lost(&self.reading)? {
            self.stop(partition, lost)?;
        }
        // Whatever librdkafka stopped to fetch, and Kafka has, is read on.
        let positions = self.open.as_ref().map(|open| open.fold.positions()).unwrap_or_default();
        let positions = positions.into_iter().filter(|(partition, _)| self.reading.contains(partition) && !self.paused.contains(partition)).collect();
        self.consumer.resume_from(&positions).context("read on")?;
        self.open_epoch()
    }

    pub(super) fn lost(&self, partitions: &BTreeSet<Partition>) -> Result<BTreeMap<Partition, Lost>> {
        let positions = Self::wait(&self.runtime, store::positions(&self.client, &self.definitions.source.name, partitions))?;
        self.consumer.lost(&positions).context("ask which offsets Kafka has")
    }

    pub(super) fn stop(&mut self, partition: Partition, lost: Lost) -> Result<()> {
        let source = &self.definitions.source.name;
        error!(source, %partition, "{lost}; the other partitions go on");
        self.consumer.pause(&BTreeSet::from([partition])).context("pause")?;
        Self::wait(&self.runtime, store::trouble(&self.client, source, &BTreeSet::from([partition]), Some(&lost.to_string())))?;
        self.given.remove(&partition);
        self.reading.remove(&partition);
        self.paused.insert(partition);
        self.stopped.insert(partition, lost);
        Ok(())
    }

    /// Whether somebody skipped what was lost, or Kafka has it again.
    pub(super) fn look_after_stopped(&mut self) -> Result<()> {
        if self.stopped.is_empty() {
            return Ok(());
        }
        let partitions: BTreeSet<Partition> = self.stopped.keys().copied().collect();
        let lost = self.lost(&partitions)?;
        for partition in partitions.into_iter().filter(|partition| !lost.contains_key(partition)) {
            let source = &self.definitions.source.name;
            info!(source, %partition, "goes on");
            Self::wait(&self.runtime, store::trouble(&self.client, source, &BTreeSet::from([partition]), None))?;
            self.stopped.remove(&partition);
            self.given.insert(partition);
        }
        Ok(())
    }

    /// While a view has too many live rows nothing is read; cuts are answered and epochs opened all the same.
    pub(super) fn pause_at_limit(&mut self) -> Result<()> {
        let at_limit = self.limit.borrow().is_some();
        let fetched: BTreeSet<Partition> = self.reading.iter().filter(|partition| self.paused.contains(partition) != at_limit).copied().collect();
        if fetched.is_empty() {
            return Ok(());
        }
        if at_limit {
            self.consumer.pause(&fetched).context("pause")?;
            self.paused.extend(fetched);
        } else {
            let folded = self.open.as_ref().map(|open| open.fold.positions()).unwrap_or_default();
            let positions = folded.into_iter().filter(|(partition, _)| fetched.contains(partition)).collect();
            self.consumer.resume_from(&positions).context("read on")?;
            self.paused.retain(|partition| !positions.contains_key(partition));
        }
        Ok(())
    }
}
