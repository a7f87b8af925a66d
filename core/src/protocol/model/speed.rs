//! Workers: open, fold, flush; crash, pause, lose a reply.

use std::collections::{BTreeMap, BTreeSet};

use super::{Bag, Groups, Guard, Step, World, group_of, holds};
use crate::{
    Offset, Partition,
    definition::Fingerprint,
    protocol::{
        CutNumber, EpochId,
        flush::{self, Advance},
        open::{self, Closing},
    },
};

#[derive(Clone, Debug, Default)]
pub(super) struct Worker {
    /// What it believes the group gives it.
    given: BTreeSet<Partition>,
    open: Option<OpenEpoch>,
    /// The epoch that it dropped in doubt.
    dropped: Option<EpochId>,
    /// With a dropped guard: the cut as it was read before the partitions were locked.
    read_early: Option<CutNumber>,
}

#[derive(Clone, Debug)]
struct OpenEpoch {
    id: EpochId,
    cut: CutNumber,
    definitions: i64,
    /// Flushed, and folded.
    positions: BTreeMap<Partition, (Offset, Offset)>,
    states: BTreeMap<Fingerprint, Groups>,
    changed: BTreeSet<u8>,
    /// With a dropped guard: rows are written, offsets are not.
    half: bool,
}

impl OpenEpoch {
    fn advances(&self) -> Vec<Advance> {
        self.positions.iter().map(|(partition, (from, to))| Advance { partition: *partition, from: *from, to: *to }).collect()
    }

    fn changes(&self) -> Vec<(Fingerprint, u8, Bag)> {
        let changed = |(fingerprint, groups): (&Fingerprint, &Groups)| {
            let fingerprint = fingerprint.clone();
            groups
                .clone()
                .into_iter()
                .filter(|(group, _)| self.changed.contains(group))
                .map(move |(group, bag)| (fingerprint.clone(), group, bag))
                .collect::<Vec<_>>()
        };
        self.states.iter().flat_map(changed).collect()
    }
}

/// Whether the reply of a COMMIT arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Arrives,
    /// The transaction is committed, the worker does not know.
    LostAfterCommit,
    /// The transaction is not committed, the worker does not know.
    LostBeforeCommit,
}

impl Worker {
    pub(super) fn given(given: BTreeSet<Partition>) -> Self {
        Self { given, ..Self::default() }
    }

    /// SIGKILL and a restart: static membership gives it the same partitions.
    pub(super) fn crash(&mut self) {
        *self = Self::given(std::mem::take(&mut self.given));
    }

    fn doubt(&mut self) {
        self.dropped = self.open.take().map(|open| open.id);
    }
}

impl World {
    /// A successful poll: the worker knows what the group gives it.
    pub(super) fn learn_assignment(&mut self, worker: usize) {
        self.workers[worker].given = self.group.iter().filter(|(_, owner)| **owner == worker).map(|(partition, _)| *partition).collect();
    }

    /// The group gives a partition to another worker, which opens an epoch with it at once. The old one notices and opens
    /// without it first, or sleeps and does not.
    pub(super) fn rebalance(&mut self, partition: Partition, to: usize, old_notices: bool) -> Step {
        let from = self.group.insert(partition, to).unwrap_or(to);
        if old_notices && from != to {
            self.learn_assignment(from);
            self.open(from)?;
        }
        self.learn_assignment(to);
        self.open(to)
    }

    /// With a dropped guard: reads the wanted cut before anything is locked.
    pub(super) fn read_cut_early(&mut self, worker: usize) {
        self.workers[worker].read_early = Some(self.database.cut_wanted);
    }

    /// One transaction; flushes the open epoch, if there is one.
    pub(super) fn open(&mut self, worker: usize) -> Step {
        self.open_with(worker, Reply::Arrives)
    }

    pub(super) fn open_with(&mut self, worker: usize, reply: Reply) -> Step {
        let this = &mut self.workers[worker];
        let early = this.read_early.take().filter(|_| !holds(Guard::CutWantedUnderLock));
        let closing = match (&this.open, this.dropped) {
            (Some(open), _) => Closing::Flushed { epoch: open.id, advances: open.advances() },
            (None, epoch) => Closing::Dropped { epoch },
        };
        if reply == Reply::LostBeforeCommit {
            this.doubt();
            return Ok(());
        }
        let wanted = this.given.clone();
        let mut database = self.database.clone();
        let cut_wanted = early.unwrap_or(database.cut_wanted);
        for partition in &wanted {
            database.insert_partition(*partition);
        }
        let old = this.open.as_ref().map(|open| open.id).or(this.dropped);
        let ranges = old.and_then(|old| database.epochs.get(&old)).map(|epoch| epoch.ranges.keys().copied().collect::<BTreeSet<_>>());
        let locked: BTreeSet<Partition> = wanted.iter().copied().chain(ranges.unwrap_or_default()).collect();
        let Ok(plan) = open::open(cut_wanted, &wanted, &closing, &database.rows(&locked)) else {
            this.doubt();
            self.learn_assignment(worker);
            return Ok(());
        };
        // A partition that is kept is not sought: its records go on where they were.
        let kept: BTreeMap<Partition, Offset> =
            this.open.iter().flat_map(|open| &open.positions).map(|(partition, (_, folded))| (*partition, *folded)).collect();
        if let Some(open) = &this.open {
            database.write_offsets(&plan.advances);
            database.write_states(open.id, open.changes());
        }
        let id = database.write_opening(&plan);
        let definitions = database.definitions;
        let folded = database.folded();
        self.database = database;
        this.dropped = None;
        this.open = id.map(|id| OpenEpoch {
            id,
            cut: plan.cut,
            definitions,
            positions: plan.begins.iter().map(|(partition, offset)| (*partition, (*offset, kept.get(partition).copied().unwrap_or(*offset)))).collect(),
            states: folded.into_iter().map(|fingerprint| (fingerprint, Groups::new())).collect(),
            changed: BTreeSet::new(),
            half: false,
        });
        if reply == Reply::LostAfterCommit {
            this.doubt();
        }
        self.check()
    }

    /// Whether some view has too many live rows: nothing more is read. One whose last run failed is left out instead.
    fn is_at_limit(&mut self) -> bool {
        let Some(limit) = self.limit else { return false };
        let database = &self.database;
        let full: Vec<Fingerprint> = database.folded().into_iter().filter(|fingerprint| database.rows_above_coverage(fingerprint) >= limit).collect();
        let (failing, waiting): (Vec<Fingerprint>, Vec<Fingerprint>) = full.into_iter().partition(|fingerprint| database.failing.contains(fingerprint));
        self.database.definitions += i64::from(!failing.is_empty());
        self.database.left_out.extend(failing);
        !waiting.is_empty()
    }

    /// Folds up to `records` of a partition; behind the last one the position passes markers.
    pub(super) fn fold(&mut self, worker: usize, partition: Partition, records: i64) {
        if self.is_at_limit() {
            return;
        }
        let Some(open) = &mut self.workers[worker].open else { return };
        let Some((_, folded)) = open.positions.get_mut(&partition) else { return };
        if *folded < self.log.first(partition) {
            // Kafka no longer has the next record: an error, and the worker begins anew from the database.
            self.workers[worker].crash();
            return;
        }
        let end = Offset(folded.0.saturating_add(records).min(self.log.end(partition).0));
        if end <= *folded {
            return;
        }
        let bag = self.log.records(partition, *folded, end);
        *folded = if end == self.log.end(partition) { end } else { bag.keys().next_back().map_or(*folded, |(_, offset)| offset.next()) };
        for (record, count) in bag {
            let group = group_of(record.1);
            open.changed.insert(group);
            for groups in open.states.values_mut() {
                *groups.entry(group).or_default().entry(record).or_default() += count;
            }
        }
    }

    /// What a worker does at every interval: open where it must, else flush what moved.
    pub(super) fn flush(&mut self, worker: usize) -> Step {
        self.flush_with(worker, Reply::Arrives)
    }

    pub(super) fn flush_with(&mut self, worker: usize, reply: Reply) -> Step {
        let Some(open) = &self.workers[worker].open else { return self.open_with(worker, reply) };
        if self.database.cut_wanted > open.cut || self.database.definitions != open.definitions {
            return self.open_with(worker, reply);
        }
        let moved: Vec<Advance> = open.advances().into_iter().filter(|advance| advance.from != advance.to).collect();
        if moved.is_empty() || reply == Reply::LostBeforeCommit {
            if reply != Reply::Arrives {
                self.workers[worker].doubt();
            }
            return Ok(());
        }
        let rows = self.database.rows(&moved.iter().map(|advance| advance.partition).collect());
        let Ok(accepted) = flush::flush(open.id, &moved, &rows) else {
            // Fenced: drop the states; after a poll, what the group still gives is opened anew.
            self.workers[worker].doubt();
            self.learn_assignment(worker);
            return Ok(());
        };
        let (id, changes, half) = (open.id, open.changes(), open.half);
        if !half {
            self.database.write_states(id, changes);
        }
        let is_split = !holds(Guard::RowsAndOffsetTogether) && !half;
        if !is_split {
            self.database.write_offsets(&accepted);
        }
        if let Some(open) = &mut self.workers[worker].open {
            open.half = is_split;
            if !is_split {
                open.positions.values_mut().for_each(|(flushed, folded)| *flushed = *folded);
                open.changed.clear();
            }
        }
        if reply == Reply::LostAfterCommit {
            self.workers[worker].doubt();
        }
        self.check()
    }
}
