//! One worker: one consumer of one source, with transactions of its own.
//!
//! Everything happens on one thread, in this order, again and again: answer the group, open an epoch where there is
//! none, poll and decode, fold, flush. So positions, states and the database are never looked at in between.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anabranch_core::{
    Offset, Partition,
    protocol::{CutNumber, EpochId},
};
use anabranch_process::{
    Catalog, Settings,
    catalog::definitions::{self, SourceDefinitions},
    kafka::{self, GroupConsumer, Polled, Rebalance},
};
use anyhow::{Context, Result, bail};
use tokio::runtime::Handle;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    fold::Fold,
    store::{self, Opening},
};

/// Records folded at once: large enough that grouping is cheap, small enough to answer the group in time.
const CHUNK_RECORDS: usize = 16_000;
/// Groups in memory at which the epoch ends and the next begins empty: about 1 kB each.
const EPOCH_GROUPS: usize = 400_000;
/// A transaction that met a deadlock is repeated from memory this often.
const REPEATS: u32 = 3;
const WATERMARK_INTERVAL: Duration = Duration::from_secs(1);
const FORGET_INTERVAL: Duration = Duration::from_secs(60);
/// Without an answer for this long a statement counts as failed, and its outcome as unknown.
const STATEMENT_LIMIT_MS: u32 = 30_000;

struct Open {
    epoch: EpochId,
    cut: CutNumber,
    fold: Fold,
}

pub(crate) struct Worker<'a> {
    settings: &'a Settings,
    runtime: Handle,
    client: Client,
    definitions: SourceDefinitions,
    consumer: GroupConsumer,
    /// Partitions that the group gives and librdkafka fetches.
    reading: BTreeSet<Partition>,
    /// Partitions that the group gives and that wait for the next opening.
    given: BTreeSet<Partition>,
    open: Option<Open>,
    interval: Duration,
}

impl<'a> Worker<'a> {
    /// Works until `stop`, or until something fails; then the next worker begins from the database.
    pub(crate) fn run(settings: &'a Settings, catalog: &Catalog, source: &str, stop: &CancellationToken) -> Result<()> {
        let runtime = Handle::current();
        let client = runtime.block_on(catalog.connect())?;
        runtime.block_on(client.batch_execute(&format!("SET statement_timeout = {STATEMENT_LIMIT_MS}")))?;
        let definitions = runtime.block_on(definitions::load(&client, source))?;
        runtime.block_on(kafka::check_topic(&settings.kafka, &definitions.source.topic))?;
        let consumer = GroupConsumer::join(&settings.kafka, "speed", source, &definitions.source.topic)?;
        info!(source, topic = definitions.source.topic, "started speed worker");
        let interval = Duration::from_millis(settings.speed.flush_ms);
        let mut worker = Self { settings, runtime, client, definitions, consumer, reading: BTreeSet::new(), given: BTreeSet::new(), open: None, interval };
        worker.work(stop)
    }

    fn work(&mut self, stop: &CancellationToken) -> Result<()> {
        let mut next_flush = Instant::now() + self.interval;
        let mut next_watermarks = Instant::now();
        let mut next_forget = Instant::now() + FORGET_INTERVAL;
        while !stop.is_cancelled() {
            for event in self.consumer.rebalances() {
                self.rebalance(event)?;
            }
            if !self.given.is_empty() || (self.open.is_none() && !self.reading.is_empty()) {
                self.open_epoch()?;
            }
            self.poll(next_flush)?;
            if Instant::now() >= next_flush {
                let began = Instant::now();
                self.flush()?;
                // At most half of the time goes into flushing: more load means more aggregation, not more SQL.
                self.interval = began.elapsed().max(Duration::from_millis(self.settings.speed.flush_ms));
                next_flush = Instant::now() + self.interval;
            }
            if Instant::now() >= next_watermarks {
                next_watermarks = Instant::now() + WATERMARK_INTERVAL;
                self.store_watermarks()?;
            }
            if Instant::now() >= next_forget {
                next_forget = Instant::now() + FORGET_INTERVAL;
                self.runtime.block_on(store::forget_old_flushes(&self.client))?;
            }
        }
        self.flush()?;
        info!(source = self.definitions.source.name, "stopped speed worker");
        Ok(())
    }

    fn rebalance(&mut self, event: Rebalance) -> Result<()> {
        match event {
            Rebalance::Assigned(partitions) => {
                info!(source = self.definitions.source.name, partitions = partitions.len(), "was given partitions");
                if partitions.is_empty() {
                    self.consumer.assign(&BTreeMap::new()).context("accept an empty assignment")?;
                }
                self.given.extend(partitions);
            }
            Rebalance::Revoked(partitions) => {
                info!(source = self.definitions.source.name, partitions = partitions.len(), "gave partitions back");
                self.given.retain(|partition| !partitions.contains(partition));
                self.reading.retain(|partition| !partitions.contains(partition));
                let opened = if self.open.is_some() { self.open_epoch() } else { Ok(()) };
                self.consumer.unassign(&partitions).context("give partitions back")?;
                opened?;
            }
        }
        Ok(())
    }

    /// Opens the next epoch over everything that the group gives, after flushing the one that is open.
    fn open_epoch(&mut self) -> Result<()> {
        let source = self.definitions.source.name.clone();
        if let Some(open) = &mut self.open {
            open.fold.fold()?;
        }
        let wanted: BTreeSet<Partition> = self.reading.union(&self.given).copied().collect();
        let mut origins = BTreeMap::new();
        for partition in self.runtime.block_on(store::unknown(&self.client, &source, &wanted))? {
            let origin =
                self.consumer.origin(partition, self.definitions.source.start).with_context(|| format!("ask for the origin of partition {partition}"))?;
            origins.insert(partition, origin);
        }
        let mut opened = None;
        for repeat in 0.. {
            let old = (self.open.as_ref().map(|open| open.epoch), self.open.as_ref().map(|open| &open.fold));
            match self.runtime.block_on(store::open(&mut self.client, &self.definitions, &wanted, &origins, old)) {
                Ok(Opening::Done(done)) => {
                    opened = Some(done);
                    break;
                }
                Ok(Opening::OtherDefinitions) => {
                    // The old epoch's states stay valid: they were folded by the definitions that its row names.
                    self.definitions = self.runtime.block_on(definitions::load(&self.client, &source))?;
                }
                Err(error) if store::is_transient(&error) && repeat < REPEATS => debug!(error = format!("{error:#}"), "repeating an opening"),
                Err(error) if store::is_fenced(&error) => {
                    info!(source, error = format!("{error:#}"), "was fenced; dropping states");
                    return self.doubt();
                }
                Err(error) => return Err(error.context("open an epoch")),
            }
        }
        let Some(opened) = opened else { bail!("no epoch could be opened") };
        let begins: BTreeMap<Partition, Offset> =
            opened.positions.iter().filter(|(partition, _)| self.given.contains(partition)).map(|(partition, offset)| (*partition, *offset)).collect();
        if !self.given.is_empty() {
            self.consumer.assign(&begins).context("begin to read")?;
            self.reading.append(&mut self.given);
        }
        debug!(source, epoch = opened.epoch.0, cut = opened.cut.0, partitions = wanted.len(), "opened epoch");
        let fold = Fold::new(&self.definitions, &opened.positions);
        self.open = (!wanted.is_empty()).then_some(Open { epoch: opened.epoch, cut: opened.cut, fold });
        Ok(())
    }

    /// Drops the states and reads every partition again from its `next_offset`, in a new epoch.
    fn doubt(&mut self) -> Result<()> {
        let old = self.open.take().map(|open| open.epoch);
        let reading = self.reading.clone();
        self.consumer.pause(&reading).context("pause")?;
        let opening = self.runtime.block_on(store::open(&mut self.client, &self.definitions, &reading, &BTreeMap::new(), (old, None)))?;
        let Opening::Done(opened) = opening else { bail!("the definitions changed while an epoch was opened") };
        self.consumer.resume_from(&opened.positions).context("read again from next_offset")?;
        let fold = Fold::new(&self.definitions, &opened.positions);
        self.open = (!reading.is_empty()).then_some(Open { epoch: opened.epoch, cut: opened.cut, fold });
        Ok(())
    }

    /// Decodes what comes until the next flush is due or a chunk is full, then folds it.
    fn poll(&mut self, until: Instant) -> Result<()> {
        loop {
            let limit = until.saturating_duration_since(Instant::now()).min(Duration::from_millis(100));
            match self.consumer.poll(limit).context("poll")? {
                Polled::Record(message) => {
                    if let Some(open) = &mut self.open {
                        open.fold.push(&kafka::raw(&message));
                    }
                }
                Polled::End(partition, position) => {
                    if let Some(open) = &mut self.open {
                        open.fold.pass(partition, position);
                    }
                }
                Polled::Nothing => break,
            }
            if Instant::now() >= until || self.open.as_ref().is_none_or(|open| open.fold.waiting() >= CHUNK_RECORDS) {
                break;
            }
        }
        if let Some(open) = &mut self.open {
            open.fold.fold()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let source = &self.definitions.source.name;
        let wishes = self.runtime.block_on(store::wishes(&self.client, source))?;
        if wishes.cut > open.cut || wishes.definitions != self.definitions.number || open.fold.group_count() > EPOCH_GROUPS {
            return self.open_epoch();
        }
        if open.fold.advances().iter().all(|advance| advance.from == advance.to) {
            return Ok(());
        }
        for repeat in 0.. {
            match self.runtime.block_on(store::flush(&mut self.client, source, open.epoch, &open.fold)) {
                Ok(()) => break,
                Err(error) if store::is_transient(&error) && repeat < REPEATS => debug!(error = format!("{error:#}"), "repeating a flush"),
                Err(error) if store::is_fenced(&error) => {
                    info!(source, error = format!("{error:#}"), "was fenced; dropping states");
                    return self.doubt();
                }
                Err(error) => return Err(error.context("flush")),
            }
        }
        open.fold.flushed();
        Ok(())
    }

    fn store_watermarks(&mut self) -> Result<()> {
        let mut ends = BTreeMap::new();
        for partition in &self.reading {
            match self.consumer.end(*partition) {
                Ok(end) => {
                    ends.insert(*partition, end);
                }
                Err(error) => {
                    warn!(source = self.definitions.source.name, %partition, %error, "could not ask for the end of a partition");
                    break;
                }
            }
        }
        self.runtime.block_on(store::watermarks(&self.client, &self.definitions.source.name, &ends))
    }
}
