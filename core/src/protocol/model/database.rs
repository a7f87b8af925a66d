//! What PostgreSQL holds. Each method that writes is one transaction.

use std::collections::{BTreeMap, BTreeSet};

use super::{Bag, Groups, Guard, Log, Step, VIEWS, add, fingerprint, holds};
use crate::{
    Coverage, Offset, Partition,
    definition::Fingerprint,
    protocol::{CutNumber, Epoch, EpochId, EpochRange, PartitionRow, RunId, flush::Advance, fold, open::Plan},
};

#[derive(Clone, Debug)]
pub(super) struct ViewRow {
    pub(super) wanted: Fingerprint,
    pub(super) serving: Fingerprint,
}

#[derive(Clone, Debug)]
pub(super) struct Version {
    pub(super) run: RunId,
    pub(super) coverage: Coverage,
    pub(super) bag: Bag,
}

/// A change of one group: its absolute state.
pub(super) type Change = (Fingerprint, u8, Bag);

#[derive(Clone, Debug)]
pub(super) struct Database {
    pub(super) identity: u32,
    pub(super) cut_wanted: CutNumber,
    pub(super) cut_finished: CutNumber,
    pub(super) definitions: i64,
    pub(super) views: BTreeMap<&'static str, ViewRow>,
    pub(super) running: Option<RunId>,
    pub(super) partitions: BTreeMap<Partition, PartitionRow>,
    pub(super) archived_to: BTreeMap<Partition, Offset>,
    pub(super) epochs: BTreeMap<EpochId, Epoch>,
    pub(super) answers: BTreeMap<CutNumber, Coverage>,
    pub(super) live: BTreeMap<(Fingerprint, EpochId), Groups>,
    pub(super) log: BTreeMap<(EpochId, i64), Vec<Change>>,
    pub(super) versions: BTreeMap<Fingerprint, Vec<Version>>,
    pub(super) pruned: BTreeMap<Fingerprint, Coverage>,
    next_epoch: i64,
    next_run: i64,
    /// Views that failed in the newest run, and those that the next epochs leave out because of the limit on live rows.
    pub(super) failing: BTreeSet<Fingerprint>,
    pub(super) left_out: BTreeSet<Fingerprint>,
    /// What must never happen, noted where it was seen.
    pub(super) fault: Option<String>,
}

impl Database {
    pub(super) fn new() -> Self {
        let view = |name: &&'static str| (*name, ViewRow { wanted: fingerprint(name), serving: fingerprint(name) });
        Self {
            identity: 0,
            cut_wanted: CutNumber(0),
            cut_finished: CutNumber(0),
            definitions: 0,
            views: VIEWS.iter().map(view).collect(),
            running: None,
            partitions: BTreeMap::new(),
            archived_to: BTreeMap::new(),
            epochs: BTreeMap::new(),
            answers: BTreeMap::new(),
            live: BTreeMap::new(),
            log: BTreeMap::new(),
            versions: BTreeMap::new(),
            pruned: BTreeMap::new(),
            next_epoch: 0,
            next_run: 0,
            failing: BTreeSet::new(),
            left_out: BTreeSet::new(),
            fault: None,
        }
    }

    /// What epochs must fold.
    pub(super) fn folded(&self) -> BTreeSet<Fingerprint> {
        self.kept().difference(&self.left_out).cloned().collect()
    }

    /// What is wanted or serves.
    pub(super) fn kept(&self) -> BTreeSet<Fingerprint> {
        self.views.values().flat_map(|view| [view.wanted.clone(), view.serving.clone()]).collect()
    }

    /// The live rows of a definition at or above its current coverage.
    pub(super) fn rows_above_coverage(&self, fingerprint: &Fingerprint) -> usize {
        let coverage = self.current(fingerprint).map(|version| version.coverage.clone()).unwrap_or_default();
        let counts = |(of, id): &(Fingerprint, EpochId)| of == fingerprint && self.epochs.get(id).is_some_and(|epoch| !epoch.lies_below(&coverage));
        self.live.iter().filter(|(key, _)| counts(key)).map(|(_, groups)| groups.len()).sum()
    }

    /// Two closed epochs become one; in one transaction.
    pub(super) fn fold_epochs(&mut self) {
        let epochs = self.epoch_list();
        let next = EpochId(self.next_epoch + 1);
        let pairs = epochs.iter().flat_map(|earlier| epochs.iter().map(move |later| (earlier, later))).filter(|(earlier, later)| earlier.id != later.id);
        let found = pairs.into_iter().find_map(|(earlier, later)| Some((earlier.id, later.id, fold::folded(next, earlier, later, &self.pruned)?)));
        let Some((earlier, later, epoch)) = found else { return };
        self.next_epoch = next.0;
        for fingerprint in &epoch.definitions {
            let mut groups = self.live.remove(&(fingerprint.clone(), earlier)).unwrap_or_default();
            for (group, bag) in self.live.remove(&(fingerprint.clone(), later)).unwrap_or_default() {
                add(groups.entry(group).or_default(), &bag);
            }
            self.live.insert((fingerprint.clone(), next), groups);
        }
        self.log.retain(|(id, _), _| *id != earlier && *id != later);
        self.epochs.retain(|id, _| *id != earlier && *id != later);
        self.epochs.insert(next, epoch);
    }

    /// What runs shall publish.
    pub(super) fn wanted(&self) -> BTreeSet<Fingerprint> {
        self.views.values().map(|view| view.wanted.clone()).collect()
    }

    pub(super) fn current(&self, fingerprint: &Fingerprint) -> Option<&Version> {
        self.versions.get(fingerprint).and_then(|versions| versions.last())
    }

    pub(super) fn insert_partition(&mut self, partition: Partition) {
        let row = PartitionRow { partition, origin: Offset(0), next_offset: Offset(0), cut: CutNumber(0), epoch: None };
        self.partitions.entry(partition).or_insert(row);
    }

    pub(super) fn rows(&self, partitions: &BTreeSet<Partition>) -> Vec<PartitionRow> {
        self.partitions.values().filter(|row| partitions.contains(&row.partition)).cloned().collect()
    }

    pub(super) fn epoch_list(&self) -> Vec<Epoch> {
        self.epochs.values().cloned().collect()
    }

    pub(super) fn begin_run(&mut self) -> RunId {
        self.next_run += 1;
        self.running = Some(RunId(self.next_run));
        RunId(self.next_run)
    }

    /// Upserts absolute states and appends them to the flush log.
    pub(super) fn write_states(&mut self, epoch: EpochId, changes: Vec<Change>) {
        let Some(row) = self.epochs.get_mut(&epoch) else { return };
        row.flush += 1;
        let number = row.flush;
        for (fingerprint, group, bag) in &changes {
            self.live.entry((fingerprint.clone(), epoch)).or_default().insert(*group, bag.clone());
        }
        self.log.insert((epoch, number), changes);
    }

    pub(super) fn write_offsets(&mut self, advances: &[Advance]) {
        for advance in advances {
            if let Some(row) = self.partitions.get_mut(&advance.partition) {
                if advance.to < row.next_offset && self.fault.is_none() {
                    self.fault = Some(format!("next_offset of partition {} goes back from {} to {}", row.partition, row.next_offset, advance.to));
                }
                row.next_offset = advance.to;
            }
        }
    }

    pub(super) fn end_range(&mut self, partition: Partition, end: Offset) {
        for epoch in self.epochs.values_mut() {
            if let Some(range) = epoch.ranges.get_mut(&partition).filter(|range| range.end.is_none()) {
                range.end = Some(end);
            }
        }
    }

    /// `cut_offset` is INSERT only.
    pub(super) fn answer(&mut self, cut: CutNumber, partition: Partition, offset: Offset) {
        let answers = self.answers.entry(cut).or_default();
        let may_again = !holds(Guard::CutAnsweredOnce) || !holds(Guard::SilentCutOnlyUnanswered);
        if answers.get(partition).is_some() && !may_again {
            self.fault.get_or_insert(format!("partition {partition} answers cut {cut} twice"));
        }
        answers.set(partition, offset);
    }

    /// The writes of an opening, in the order of the program.
    pub(super) fn write_opening(&mut self, plan: &Plan) -> Option<EpochId> {
        for (partition, offset) in &plan.ends {
            self.end_range(*partition, *offset);
        }
        for (partition, offset) in &plan.answers {
            self.answer(plan.cut, *partition, *offset);
        }
        for partition in &plan.released {
            if let Some(row) = self.partitions.get_mut(partition) {
                row.epoch = None;
            }
        }
        if plan.begins.is_empty() {
            return None;
        }
        self.next_epoch += 1;
        let id = EpochId(self.next_epoch);
        let ranges = plan.begins.iter().map(|(partition, start)| (*partition, EpochRange { start: *start, end: None })).collect();
        self.epochs.insert(id, Epoch { id, cut: plan.cut, definitions: self.folded(), flush: 0, ranges });
        for partition in plan.begins.keys() {
            if let Some(row) = self.partitions.get_mut(partition) {
                row.epoch = Some(id);
                row.cut = plan.cut;
            }
        }
        Some(id)
    }

    /// I1 of every version, I3, and one open range per partition.
    pub(super) fn check(&self, log: &Log) -> Step {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        for (fingerprint, versions) in &self.versions {
            for version in versions {
                if version.bag != log.below(&version.coverage) {
                    return Err(format!("version {} of {fingerprint} is not the fold of the records below {:?}", version.run, version.coverage));
                }
            }
        }
        let open = self.epochs.values().flat_map(|epoch| epoch.ranges.iter()).filter(|(_, range)| range.end.is_none()).map(|(partition, _)| *partition);
        let mut seen = BTreeSet::new();
        match open.into_iter().find(|partition| !seen.insert(*partition)) {
            Some(partition) => Err(format!("partition {partition} has two open ranges")),
            None => Ok(()),
        }
    }
}
