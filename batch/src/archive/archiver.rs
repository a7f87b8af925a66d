//! One archiver: one consumer of one source; per partition one open file.
//!
//! ```text
//!   committed files ──┤ open file: records since then ├─ position
//!                     ▲ archived_to: the first record that is not committed, else the position at an end of partition
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anabranch_core::{Coverage, Offset, Partition, definition::Source, protocol::CutNumber};
use anabranch_process::{
    Catalog, Settings, Warehouse,
    archive::listing,
    catalog::{answered, definitions, rows},
    crash, identity,
    kafka::{self, GroupConsumer, Lost, Polled, Rebalance},
    metrics,
};
use anyhow::{Context, Result};
use futures::future::try_join_all;
use rdkafka::{
    Message as _,
    message::{BorrowedMessage, Headers as _},
};
use tokio::runtime::Handle;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use super::{
    commit::{self, Committed},
    file::{self, OpenFile},
};

/// How often rotation, cuts and reports are looked after.
const LOOK: Duration = Duration::from_millis(250);
/// How often partitions that cannot go on are looked at again.
const STOPPED_INTERVAL: Duration = Duration::from_secs(2);
/// Records taken between two answers to the group.
const POLL_RECORDS: usize = 4_096;

struct Slot {
    /// The end of the committed files.
    committed: Offset,
    /// The position at the last end of partition, or behind the last record.
    position: Offset,
    /// What `archived_to` says in PostgreSQL.
    reported: Offset,
    open: Option<(OpenFile, Instant)>,
}

pub(super) struct Archiver<'a> {
    settings: &'a Settings,
    warehouse: &'a Warehouse,
    runtime: Handle,
    client: Client,
    source: Source,
    definitions: i64,
    consumer: GroupConsumer,
    slots: BTreeMap<Partition, Slot>,
    /// Partitions that the group gives and that cannot go on; librdkafka has them, paused.
    stopped: BTreeMap<Partition, Lost>,
}

impl<'a> Archiver<'a> {
    pub(super) fn run(settings: &'a Settings, catalog: &Catalog, warehouse: &'a Warehouse, source: &str, stop: &CancellationToken) -> Result<()> {
        let runtime = Handle::current();
        let client = runtime.block_on(catalog.connect())?;
        let loaded = runtime.block_on(definitions::load(&client, source))?;
        runtime.block_on(kafka::check_topic(&settings.kafka, &loaded.source.topic))?;
        let incarnation = runtime.block_on(identity::of(&client))?;
        let consumer = GroupConsumer::join(&settings.kafka, "archive", source, &loaded.source.topic, incarnation)?;
        info!(source, topic = loaded.source.topic, "started archiver");
        let (slots, stopped) = (BTreeMap::new(), BTreeMap::new());
        let (source, definitions) = (loaded.source, loaded.number);
        let mut archiver = Self { settings, warehouse, runtime, client, source, definitions, consumer, slots, stopped };
        archiver.work(stop)
    }

    fn work(&mut self, stop: &CancellationToken) -> Result<()> {
        let (mut next_look, mut next_look_at_stopped) = (Instant::now(), Instant::now());
        while !stop.is_cancelled() {
            for event in self.consumer.rebalances() {
                self.rebalance(event)?;
            }
            self.consumer.claim_orphans();
            self.poll(next_look)?;
            if Instant::now() >= next_look {
                next_look = Instant::now() + LOOK;
                self.look()?;
            }
            if Instant::now() >= next_look_at_stopped {
                next_look_at_stopped = Instant::now() + STOPPED_INTERVAL;
                self.look_after_stopped()?;
            }
        }
        // What is open is committed, so that a restart reads little again.
        let open: Vec<Partition> = self.slots.keys().copied().collect();
        self.seal(&open)?;
        info!(source = self.source.name, "stopped archiver");
        Ok(())
    }

    fn rebalance(&mut self, event: Rebalance) -> Result<()> {
        match event {
            Rebalance::Assigned(partitions) => {
                let mut positions = BTreeMap::new();
                for partition in partitions {
                    let start = self.start_of(partition)?;
                    self.slots.insert(partition, Slot { committed: start, position: start, reported: Offset(-1), open: None });
                    positions.insert(partition, start);
                }
                let lost = self.consumer.lost(&positions).context("ask which offsets Kafka has")?;
                positions.extend(lost.iter().map(|(partition, lost)| (*partition, lost.readable())));
                self.consumer.assign(&positions).context("begin to read")?;
                // What an earlier archiver could not go on with may have been skipped since.
                self.trouble(&positions.keys().copied().collect::<Vec<_>>(), None)?;
                self.set_aside(lost)?;
            }
            Rebalance::Revoked(partitions) => {
                let sealed = self.seal(&partitions.iter().copied().collect::<Vec<_>>());
                self.slots.retain(|partition, _| !partitions.contains(partition));
                self.stopped.retain(|partition, _| !partitions.contains(partition));
                self.consumer.unassign(&partitions).context("give partitions back")?;
                sealed?;
            }
        }
        Ok(())
    }

    /// The end of the committed files, or the origin; whichever layer comes first decides the origin, once.
    fn start_of(&self, partition: Partition) -> Result<Offset> {
        if let Some(end) = self.runtime.block_on(listing::archived_end(self.warehouse, &self.source.name, partition))? {
            return Ok(end);
        }
        let known = self.runtime.block_on(answered(rows::partitions(&self.client, &self.source.name)))?;
        if let Some(state) = known.iter().find(|state| state.row.partition == partition) {
            return Ok(state.row.origin);
        }
        let origin = self.consumer.origin(partition, self.source.start).with_context(|| format!("ask for the origin of partition {partition}"))?;
        let sql = "INSERT INTO partition (source, partition, origin, next_offset, archived_to) VALUES ($1, $2, $3, $3, $3) ON CONFLICT DO NOTHING";
        self.runtime.block_on(answered(crash::step("archive.origin", self.client.execute(sql, &[&self.source.name, &partition.0, &origin.0]))))?;
        let sql = "SELECT origin FROM partition WHERE source = $1 AND partition = $2";
        Ok(Offset(self.runtime.block_on(answered(self.client.query_one(sql, &[&self.source.name, &partition.0])))?.get(0)))
    }

    fn poll(&mut self, until: Instant) -> Result<()> {
        let mut records = 0;
        for _ in 0..POLL_RECORDS {
            match self.consumer.poll(until).context("poll")? {
                Polled::Record(message) => {
                    let partition = Partition(message.partition());
                    let Some(slot) = self.slots.get_mut(&partition) else { continue };
                    if slot.open.is_none() {
                        let opened = self.runtime.block_on(file::open(self.warehouse, &self.source, partition, slot.committed))?;
                        let Some(file) = opened else {
                            return self.start_anew(partition);
                        };
                        slot.open = Some((file, Instant::now()));
                    }
                    if let Some((file, _)) = &mut slot.open {
                        self.runtime.block_on(push(file, &message))?;
                        records += 1;
                        slot.position = file.end();
                    }
                }
                Polled::End(partition, position) => {
                    if let Some(slot) = self.slots.get_mut(&partition) {
                        slot.position = position.max(slot.position);
                        slot.open.iter_mut().for_each(|(file, _)| file.pass(position));
                    }
                }
                Polled::OutOfRange => return self.set_unreadable_aside(),
                Polled::Nothing => break,
            }
        }
        metrics::ARCHIVE_RECORDS.with_label_values(&[&self.source.name]).inc_by(records);
        Ok(())
    }

    /// Kafka lost the next offset of partitions that are read: what is open of them is committed, the others go on.
    fn set_unreadable_aside(&mut self) -> Result<()> {
        let positions: BTreeMap<Partition, Offset> = self.slots.iter().map(|(partition, slot)| (*partition, slot.position)).collect();
        let lost = self.consumer.lost(&positions).context("ask which offsets Kafka has")?;
        self.seal(&lost.keys().copied().collect::<Vec<_>>())?;
        // Whatever librdkafka stopped to fetch, and Kafka has, is read on.
        let others = positions.into_iter().filter(|(partition, _)| !lost.contains_key(partition)).collect();
        self.consumer.resume_from(&others).context("read on")?;
        self.set_aside(lost)
    }

    fn set_aside(&mut self, lost: BTreeMap<Partition, Lost>) -> Result<()> {
        for (partition, lost) in lost {
            error!(source = self.source.name, %partition, "{lost}; the other partitions go on");
            self.consumer.pause(&BTreeSet::from([partition])).context("pause")?;
            self.trouble(&[partition], Some(&lost.to_string()))?;
            self.slots.remove(&partition);
            self.stopped.insert(partition, lost);
        }
        Ok(())
    }

    /// Notes why partitions cannot go on, or that they can.
    fn trouble(&self, partitions: &[Partition], trouble: Option<&str>) -> Result<()> {
        let partitions: Vec<i32> = partitions.iter().map(|partition| partition.0).collect();
        let sql = "UPDATE partition SET archive_trouble = $3 WHERE source = $1 AND partition = ANY($2) AND archive_trouble IS DISTINCT FROM $3";
        self.runtime.block_on(answered(crash::step("archive.trouble", self.client.execute(sql, &[&self.source.name, &partitions, &trouble]))))?;
        Ok(())
    }

    /// Whether somebody skipped what was lost, or Kafka has it again.
    fn look_after_stopped(&mut self) -> Result<()> {
        for partition in self.stopped.keys().copied().collect::<Vec<_>>() {
            let start = self.start_of(partition)?;
            if self.consumer.lost(&BTreeMap::from([(partition, start)])).context("ask which offsets Kafka has")?.is_empty() {
                info!(source = self.source.name, %partition, "goes on");
                self.trouble(&[partition], None)?;
                self.stopped.remove(&partition);
                self.consumer.resume_from(&BTreeMap::from([(partition, start)])).context("read on")?;
                self.slots.insert(partition, Slot { committed: start, position: start, reported: Offset(-1), open: None });
            }
        }
        Ok(())
    }

    /// Somebody else archived this partition meanwhile: read on from the committed end.
    fn start_anew(&mut self, partition: Partition) -> Result<()> {
        let start = self.start_of(partition)?;
        metrics::ARCHIVE_FENCED.with_label_values(&[&self.source.name]).inc();
        info!(source = self.source.name, %partition, start = start.0, "another archiver was first; going on from its end");
        self.consumer.pause(&BTreeSet::from([partition])).context("pause")?;
        self.consumer.resume_from(&BTreeMap::from([(partition, start)])).context("go on from the committed end")?;
        self.slots.insert(partition, Slot { committed: start, position: start, reported: Offset(-1), open: None });
        Ok(())
    }

    /// Rotation, cuts, reports.
    fn look(&mut self) -> Result<()> {
        let (cut, number) = self.runtime.block_on(answered(newest_cut(&self.client, &self.source.name)))?;
        let all: Vec<Partition> = self.slots.keys().copied().collect();
        if number != self.definitions {
            let loaded = self.runtime.block_on(answered(definitions::load(&self.client, &self.source.name)))?;
            if loaded.source.columns_fingerprint() != self.source.columns_fingerprint() {
                self.seal(&all)?;
            }
            self.source = loaded.source;
            self.definitions = loaded.number;
        }
        let due: Vec<Partition> = self.slots.iter().filter(|(partition, slot)| self.is_due(**partition, slot, &cut)).map(|(partition, _)| *partition).collect();
        self.seal(&due)?;
        self.report()
    }

    fn is_due(&self, partition: Partition, slot: &Slot, cut: &Coverage) -> bool {
        let Some((file, opened)) = &slot.open else { return false };
        let cut_reached = cut.get(partition).is_some_and(|at| file.start() < at && file.end() >= at);
        cut_reached || file.size_bytes() >= self.settings.archive.rotate_bytes || opened.elapsed() >= Duration::from_secs(self.settings.archive.rotate_seconds)
    }

    /// Seals and commits the open files of these partitions, all at once: closing waits for the DataNodes.
    fn seal(&mut self, partitions: &[Partition]) -> Result<()> {
        let mut files = Vec::new();
        for partition in partitions {
            if let Some((file, _)) = self.slots.get_mut(partition).and_then(|slot| slot.open.take()) {
                files.push((*partition, file));
            }
        }
        if files.is_empty() {
            return Ok(());
        }
        let (warehouse, source, began) = (self.warehouse, &self.source.name, Instant::now());
        let commits = files.into_iter().map(|(partition, file)| async move {
            let sealed = file.seal().await.context("seal an archive file")?;
            let committed = commit::commit(warehouse, source, &sealed).await?;
            anyhow::Ok((partition, sealed, committed))
        });
        let committed = self.runtime.block_on(try_join_all(commits))?;
        metrics::observe(&metrics::ARCHIVE_SEAL_SECONDS.with_label_values(&[source]), began.elapsed());
        for (partition, sealed, committed) in committed {
            match committed {
                Committed::Won => {
                    metrics::ARCHIVE_FILES.with_label_values(&[&self.source.name]).inc();
                    if let Some(slot) = self.slots.get_mut(&partition) {
                        slot.committed = sealed.range.end;
                    }
                }
                Committed::Lost => self.start_anew(partition)?,
            }
        }
        Ok(())
    }

    /// Reports below which position everything is committed or holds no record.
    fn report(&mut self) -> Result<()> {
        let mut reports = BTreeMap::new();
        for (partition, slot) in &mut self.slots {
            let reached = slot.open.as_ref().and_then(|(file, _)| file.first()).unwrap_or(slot.position);
            if reached > slot.reported {
                reports.insert(*partition, reached);
            }
        }
        if reports.is_empty() {
            return Ok(());
        }
        let partitions: Vec<i32> = reports.keys().map(|partition| partition.0).collect();
        let offsets: Vec<i64> = reports.values().map(|offset| offset.0).collect();
        let committed: Vec<i64> = reports.keys().map(|partition| self.slots.get(partition).map_or(0, |slot| slot.committed.0)).collect();
        // Partitions are locked in ascending order, as everywhere.
        let sql = "WITH reports AS (SELECT * FROM unnest($2::int[], $3::bigint[], $4::bigint[]) AS reports (partition, reached, committed)), \
                   locked AS (SELECT partition FROM partition WHERE source = $1 AND partition = ANY($2) ORDER BY partition FOR UPDATE) \
                   UPDATE partition SET archived_to = reports.reached, committed_to = greatest(committed_to, reports.committed) FROM reports, locked \
                   WHERE partition.source = $1 AND partition.partition = reports.partition AND locked.partition = reports.partition \
                   AND partition.archived_to < reports.reached";
        self.runtime.block_on(answered(crash::step("archive.report", self.client.execute(sql, &[&self.source.name, &partitions, &offsets, &committed]))))?;
        for (partition, reached) in &reports {
            if let Some(slot) = self.slots.get_mut(partition) {
                slot.reported = *reached;
            }
        }
        self.consumer.commit_courtesy(&reports);
        debug!(source = self.source.name, partitions = reports.len(), "reported archived offsets");
        Ok(())
    }
}

async fn push(file: &mut OpenFile, message: &BorrowedMessage<'_>) -> Result<()> {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter().map(|header| (header.key, header.value)));
    file.push(&kafka::raw(message), headers).await.context("write to an archive file")
}

/// The offsets of the newest cut while it is in work, and the number of the definitions.
async fn newest_cut(client: &Client, source: &str) -> Result<(Coverage, i64)> {
    let row = client.query_one("SELECT cut_wanted, cut_finished, definitions FROM source WHERE name = $1", &[&source]).await?;
    let (wanted, finished): (i64, i64) = (row.get(0), row.get(1));
    let answers = if wanted > finished { rows::answers(client, source, CutNumber(wanted)).await? } else { Coverage::default() };
    Ok((answers, row.get(2)))
}
