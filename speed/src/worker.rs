//! One worker: one consumer of one source, with transactions of its own.
//!
//! One thread, in this order, again and again: answer the group, open an epoch where there is none, poll and decode, fold,
//! begin a flush. A flush takes what changed out of the states and is written beside the reading; the next flush, and whatever
//! opens or closes an epoch, waits until it has ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    time::{Duration, Instant},
};

use anabranch_core::{
    Offset, Partition,
    protocol::{CutNumber, EpochId},
};
use anabranch_process::{
    Catalog, Settings, Warehouse,
    catalog::{
        answered,
        definitions::{self, SourceDefinitions},
    },
    identity,
    kafka::{self, GroupConsumer, Lost, Polled, Rebalance},
    references,
};
use anabranch_views::Lookups;
use anyhow::{Context, Result, bail};
use tokio::{runtime::Handle, sync::watch};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

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
/// How often partitions that cannot go on are looked at again.
const STOPPED_INTERVAL: Duration = Duration::from_secs(2);
/// Without an answer for this long a statement counts as failed, and its outcome as unknown.
const STATEMENT_LIMIT_MS: u32 = 30_000;

mod figures;
mod flusher;
mod halted;

use figures::Figures;
use flusher::Flusher;

struct Open {
    epoch: EpochId,
    cut: CutNumber,
    fold: Fold,
}

pub(crate) struct Worker {
    runtime: Handle,
    client: Client,
    definitions: SourceDefinitions,
    warehouse: Warehouse,
    /// The rows of the references that views join.
    lookups: Lookups,
    consumer: GroupConsumer,
    /// Partitions that the group gives and librdkafka fetches.
    reading: BTreeSet<Partition>,
    /// Partitions that the group gives and that wait for the next opening.
    given: BTreeSet<Partition>,
    /// Partitions that the group gives and that cannot go on.
    stopped: BTreeMap<Partition, Lost>,
    /// Partitions that librdkafka has and does not fetch: stopped ones, all at the limit of live rows.
    paused: BTreeSet<Partition>,
    open: Option<Open>,
    flusher: Flusher,
    figures: Figures,
    /// Why nothing is read: a view has too many live rows.
    limit: watch::Receiver<Option<String>>,
}

impl Worker {
    /// Works until `stop`, or until something fails; then the next worker begins from the database.
    pub(crate) fn run(settings: &Settings, catalog: &Catalog, source: &str, limit: watch::Receiver<Option<String>>, stop: &CancellationToken) -> Result<()> {
        let runtime = Handle::current();
        let (client, flushing) = (Self::connect(&runtime, catalog)?, Self::connect(&runtime, catalog)?);
        let definitions = runtime.block_on(definitions::load(&client, source))?;
        let warehouse = Warehouse::at(&settings.warehouse.url)?;
        let mut lookups = Lookups::default();
        runtime.block_on(references::load(&warehouse, definitions.definitions.values().map(AsRef::as_ref), &mut lookups))?;
        runtime.block_on(kafka::check_topic(&settings.kafka, &definitions.source.topic))?;
        let incarnation = runtime.block_on(identity::of(&client))?;
        let consumer = GroupConsumer::join(&settings.kafka, "speed", source, &definitions.source.topic, incarnation)?;
        info!(source, topic = definitions.source.topic, "started speed worker");
        let flusher = Flusher::new(&runtime, flushing, Duration::from_millis(settings.speed.flush_ms));
        let mut worker = Self {
            runtime,
            client,
            definitions,
            warehouse,
            lookups,
            consumer,
            reading: BTreeSet::new(),
            given: BTreeSet::new(),
            stopped: BTreeMap::new(),
            paused: BTreeSet::new(),
            open: None,
            flusher,
            figures: Figures::new(source),
            limit,
        };
        worker.work(stop)
    }

    fn connect(runtime: &Handle, catalog: &Catalog) -> Result<Client> {
        let client = runtime.block_on(catalog.connect())?;
        runtime.block_on(client.batch_execute(&format!("SET statement_timeout = {STATEMENT_LIMIT_MS}")))?;
        Ok(client)
    }

    fn wait<T>(runtime: &Handle, statement: impl Future<Output = Result<T>>) -> Result<T> {
        runtime.block_on(answered(statement))
    }

    fn work(&mut self, stop: &CancellationToken) -> Result<()> {
        let mut next_watermarks = Instant::now();
        let mut next_look = Instant::now();
        while !stop.is_cancelled() {
            for event in self.consumer.rebalances() {
                self.rebalance(event)?;
            }
            if !self.given.is_empty() || (self.open.is_none() && !self.reading.is_empty()) {
                self.open_epoch()?;
            }
            self.pause_at_limit()?;
            self.consumer.claim_orphans();
            self.poll(self.flusher.due())?;
            if self.open.as_ref().is_some_and(|open| open.fold.group_count() > EPOCH_GROUPS) {
                self.open_epoch()?;
            }
            if Instant::now() >= self.flusher.due() {
                self.flush()?;
            }
            if Instant::now() >= next_watermarks {
                next_watermarks = Instant::now() + WATERMARK_INTERVAL;
                self.store_watermarks()?;
            }
            if Instant::now() >= next_look {
                next_look = Instant::now() + STOPPED_INTERVAL;
                self.look_after_stopped()?;
            }
        }
        self.flush()?;
        self.settle()?;
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
                self.given.extend(partitions.iter().copied());
                // What an earlier worker could not go on with may have been skipped since.
                Self::wait(&self.runtime, store::trouble(&self.client, &self.definitions.source.name, &partitions, None))?;
                for (partition, lost) in self.lost(&partitions)? {
                    // librdkafka waits for an answer of every partition; this one is paused at once.
                    self.consumer.assign(&BTreeMap::from([(partition, lost.readable())])).context("accept a partition")?;
                    self.stop(partition, lost)?;
                }
            }
            Rebalance::Revoked(partitions) => {
                info!(source = self.definitions.source.name, partitions = partitions.len(), "gave partitions back");
                self.figures.gave_back(&partitions);
                self.given.retain(|partition| !partitions.contains(partition));
                self.reading.retain(|partition| !partitions.contains(partition));
                self.stopped.retain(|partition, _| !partitions.contains(partition));
                self.paused.retain(|partition| !partitions.contains(partition));
                let opened = if self.open.is_some() { self.open_epoch() } else { Ok(()) };
                self.consumer.unassign(&partitions).context("give partitions back")?;
                opened?;
            }
        }
        Ok(())
    }

    /// Opens the next epoch over everything that the group gives, after flushing the one that is open.
    fn open_epoch(&mut self) -> Result<()> {
        self.settle()?;
        let source = self.definitions.source.name.clone();
        let mut old = (None, None);
        if let Some(open) = &mut self.open {
            open.fold.fold()?;
            old = (Some(open.epoch), Some(open.fold.take_changes()?));
        }
        let wanted: BTreeSet<Partition> = self.reading.union(&self.given).copied().collect();
        let mut origins = BTreeMap::new();
        for partition in Self::wait(&self.runtime, store::unknown(&self.client, &source, &wanted))? {
            let origin =
                self.consumer.origin(partition, self.definitions.source.start).with_context(|| format!("ask for the origin of partition {partition}"))?;
            origins.insert(partition, origin);
        }
        let mut opened = None;
        for repeat in 0.. {
            match Self::wait(&self.runtime, store::open(&mut self.client, &self.definitions, &wanted, &origins, (old.0, old.1.as_ref()))) {
                Ok(Opening::Done(done)) => {
                    opened = Some(done);
                    break;
                }
                Ok(Opening::OtherDefinitions) => {
                    // The old epoch's states stay valid: they were folded by the definitions that its row names.
                    self.definitions = Self::wait(&self.runtime, definitions::load(&self.client, &source))?;
                    let views = self.definitions.definitions.values().map(AsRef::as_ref);
                    self.runtime.block_on(references::load(&self.warehouse, views, &mut self.lookups))?;
                }
                Err(error) if store::is_transient(&error) && repeat < REPEATS => debug!(error = format!("{error:#}"), "repeating an opening"),
                Err(error) if store::is_fenced(&error) => {
                    info!(source, error = format!("{error:#}"), "was fenced; dropping states");
                    self.figures.fenced();
                    return self.doubt();
                }
                Err(error) => return Err(error.context("open an epoch")),
            }
        }
        let Some(opened) = opened else { bail!("no epoch could be opened") };
        self.figures.opened();
        let given = opened.positions.iter().filter(|(partition, _)| self.given.contains(partition)).map(|(partition, offset)| (*partition, *offset));
        let (again, begins): (BTreeMap<Partition, Offset>, BTreeMap<Partition, Offset>) = given.partition(|(partition, _)| self.paused.contains(partition));
        if !begins.is_empty() {
            self.consumer.assign(&begins).context("begin to read")?;
        }
        if !again.is_empty() {
            self.consumer.resume_from(&again).context("read again")?;
            self.paused.retain(|partition| !again.contains_key(partition));
        }
        self.reading.append(&mut self.given);
        debug!(source, epoch = opened.epoch.0, cut = opened.cut.0, partitions = wanted.len(), "opened epoch");
        let fold = Fold::new(&self.definitions, &self.lookups, &opened.positions);
        self.open = (!wanted.is_empty()).then_some(Open { epoch: opened.epoch, cut: opened.cut, fold });
        Ok(())
    }

    /// Drops the states and reads every partition again from its `next_offset`, in a new epoch.
    fn doubt(&mut self) -> Result<()> {
        let old = self.open.take().map(|open| open.epoch);
        let reading = self.reading.clone();
        self.consumer.pause(&reading).context("pause")?;
        let opening = Self::wait(&self.runtime, store::open(&mut self.client, &self.definitions, &reading, &BTreeMap::new(), (old, None)))?;
        let Opening::Done(opened) = opening else { bail!("the definitions changed while an epoch was opened") };
        self.consumer.resume_from(&opened.positions).context("read again from next_offset")?;
        self.paused.retain(|partition| !reading.contains(partition));
        let fold = Fold::new(&self.definitions, &self.lookups, &opened.positions);
        self.open = (!reading.is_empty()).then_some(Open { epoch: opened.epoch, cut: opened.cut, fold });
        Ok(())
    }

    /// Decodes what comes until the next flush is due or a chunk is full, then folds it.
    fn poll(&mut self, until: Instant) -> Result<()> {
        let (mut records, mut last) = (0, None);
        loop {
            match self.consumer.poll(until).context("poll")? {
                Polled::Record(message) => {
                    if let Some(open) = &mut self.open {
                        let record = kafka::raw(&message);
                        records += 1;
                        last = Some((record.partition, record.timestamp_micros));
                        open.fold.push(&record);
                    }
                }
                Polled::End(partition, position) => {
                    self.figures.at_end(partition);
                    if let Some(open) = &mut self.open {
                        open.fold.pass(partition, position);
                    }
                }
                Polled::OutOfRange => return self.set_unreadable_aside(),
                Polled::Nothing => break,
            }
            if self.open.as_ref().is_none_or(|open| open.fold.waiting() >= CHUNK_RECORDS) {
                break;
            }
        }
        self.figures.read(records, last);
        if let Some(open) = &mut self.open {
            open.fold.fold()?;
        }
        Ok(())
    }

    /// Begins to flush what is folded, or answers a wish by a new epoch.
    fn flush(&mut self) -> Result<()> {
        self.settle()?;
        self.flusher.skip();
        let Some(open) = &mut self.open else { return Ok(()) };
        let source = &self.definitions.source.name;
        let wishes = Self::wait(&self.runtime, store::wishes(&self.client, source))?;
        if wishes.cut > open.cut || wishes.definitions != self.definitions.number {
            return self.open_epoch();
        }
        if open.fold.has_changes() {
            self.flusher.begin(source, open.epoch, open.fold.take_changes()?)?;
        }
        Ok(())
    }

    /// Waits until nothing is being flushed.
    fn settle(&mut self) -> Result<()> {
        match self.flusher.finish() {
            Err(error) if store::is_fenced(&error) => {
                info!(source = self.definitions.source.name, error = format!("{error:#}"), "was fenced; dropping states");
                self.figures.fenced();
                self.doubt()
            }
            result => result,
        }
    }

    fn store_watermarks(&mut self) -> Result<()> {
        let ends = self.consumer.ends();
        self.figures.ends(&ends, |partition| self.open.as_ref()?.fold.position(partition));
        Self::wait(&self.runtime, store::watermarks(&self.client, &self.definitions.source.name, &ends))
    }
}
