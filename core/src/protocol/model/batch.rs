//! Runs: take a cut, build, publish, prune; and definitions that come and go.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Bag, PARTITIONS, Step, World, add,
    database::{Version, ViewRow},
    fingerprint,
};
use crate::{
    Coverage, OffsetRange, Partition,
    definition::Fingerprint,
    protocol::{
        CutNumber, RunId,
        cut::{self, Cuts},
        prune,
        publish::{self, Candidate, Ground, Refused},
    },
};

#[derive(Clone, Debug)]
pub(super) struct Run {
    id: RunId,
    /// The definitions as they were when it began, by view, and their current versions then.
    definitions: BTreeMap<Fingerprint, &'static str>,
    wanted: BTreeSet<Fingerprint>,
    read: BTreeMap<Fingerprint, Version>,
    failed: Vec<Fingerprint>,
    cut: Option<(CutNumber, Coverage)>,
    built: Option<Vec<(Fingerprint, Bag)>>,
}

impl World {
    pub(super) fn begin(&mut self, run: usize) {
        let database = &mut self.database;
        let mut definitions = BTreeMap::new();
        for (name, view) in &database.views {
            definitions.insert(view.wanted.clone(), *name);
            definitions.insert(view.serving.clone(), *name);
        }
        let read = definitions.keys().filter_map(|fingerprint| Some((fingerprint.clone(), database.current(fingerprint)?.clone()))).collect();
        // A view that epochs leave out is built all the same, but no cut waits for it.
        let (id, wanted) = (database.begin_run(), database.wanted().difference(&database.left_out).cloned().collect());
        self.runs[run] = Some(Run { id, definitions, wanted, read, failed: Vec::new(), cut: None, built: None });
    }

    /// One look: takes the cut, or raises the next one, or, where nobody answers in time, cuts by itself.
    pub(super) fn take_cut(&mut self, run: usize, cuts_silent: bool) -> Step {
        let Some(wanted) = self.runs[run].as_ref().filter(|run| run.cut.is_none()).map(|run| run.wanted.clone()) else { return Ok(()) };
        match self.look(&wanted) {
            cut::Step::Take(cut, coverage) => self.settle_on(run, cut, coverage),
            cut::Step::Raise(cut) => {
                if self.database.cut_wanted.0 == cut.0 - 1 {
                    self.database.cut_wanted = cut;
                }
            }
            cut::Step::Await(cut, missing) if cuts_silent => self.cut_silent(cut, &missing),
            cut::Step::Await(..) => {}
        }
        self.check()
    }

    /// What a run sees of the cuts in one snapshot.
    pub(super) fn look(&self, wanted: &BTreeSet<Fingerprint>) -> cut::Step {
        let database = &self.database;
        let partitions: Vec<_> = database.partitions.values().cloned().collect();
        let answers = database.answers.get(&database.cut_wanted).cloned().unwrap_or_default();
        let cuts =
            Cuts { wanted: database.cut_wanted, finished: database.cut_finished, partitions: &partitions, answers: &answers, epochs: &database.epoch_list() };
        cut::step(cuts, wanted)
    }

    /// A run goes on with a cut that it did not choose by the rules: what a stale reading would do.
    pub(super) fn settle_on(&mut self, run: usize, cut: CutNumber, coverage: Coverage) {
        if let Some(run) = &mut self.runs[run] {
            run.cut = Some((cut, coverage));
        }
    }

    pub(super) fn cut_silent(&mut self, cut: CutNumber, missing: &[Partition]) {
        for partition in missing {
            let archived = self.warehouse.end(*partition);
            let Some(row) = self.database.partitions.get(partition).cloned() else { continue };
            let Some(silent) = cut::silent(&row, cut, Some(archived)) else { continue };
            self.database.end_range(*partition, silent.end);
            self.database.answer(cut, *partition, silent.at);
            if let Some(row) = self.database.partitions.get_mut(partition) {
                row.cut = cut;
                row.next_offset = silent.at;
                if silent.fences {
                    row.epoch = None;
                }
            }
        }
    }

    /// Reads the archive once it has reached the cut; `failing` views are not built. All or, with a version, only what is new.
    pub(super) fn build(&mut self, run: usize, failing: &[&str]) -> Step {
        let Some(this) = self.runs[run].clone() else { return Ok(()) };
        let (Some((_, coverage)), None) = (&this.cut, &this.built) else { return Ok(()) };
        let reached = |partition: Partition| self.database.archived_to.get(&partition).copied().unwrap_or_default();
        if coverage.iter().any(|(partition, end)| reached(partition) < end) {
            return Ok(());
        }
        let (mut built, mut failed) = (Vec::new(), Vec::new());
        for (fingerprint, name) in &this.definitions {
            let base = this.read.get(fingerprint);
            // A definition that comes back may have this coverage already: it is published anew, to be switched in.
            let joins = self.database.views.get(name).is_some_and(|row| row.wanted == *fingerprint && row.serving != *fingerprint);
            if base.is_some_and(|version| version.coverage == *coverage) && !joins {
                continue;
            }
            if failing.contains(name) {
                failed.push(fingerprint.clone());
                continue;
            }
            let mut bag = base.map(|version| version.bag.clone()).unwrap_or_default();
            for partition in PARTITIONS {
                let Some(end) = coverage.get(partition) else { continue };
                let start = base.and_then(|version| version.coverage.get(partition)).unwrap_or_default();
                let Some(window) = OffsetRange::new(start, end) else { continue };
                let Some(read) = self.warehouse.read(partition, window) else { return Err(format!("a run finds a gap in partition {partition}, {window}")) };
                add(&mut bag, &read);
            }
            built.push((fingerprint.clone(), bag));
        }
        if let Some(run) = &mut self.runs[run] {
            run.built = Some(built);
            run.failed = failed;
        }
        Ok(())
    }

    /// One transaction under the source's lock.
    pub(super) fn publish(&mut self, run: usize) -> Step {
        let Some(Run { id, definitions, read, failed, cut: Some((cut, coverage)), built: Some(built), .. }) = self.runs[run].take() else { return Ok(()) };
        let epochs = self.database.epoch_list();
        let (mut published, mut refusals) = (0, Vec::new());
        for (fingerprint, bag) in built {
            let name = definitions[&fingerprint];
            let row = self.database.views.get(name).cloned();
            let candidate =
                Candidate { run: id, fingerprint: fingerprint.clone(), coverage: coverage.clone(), read: read.get(&fingerprint).map(|version| version.run) };
            let ground = Ground {
                running: self.database.running,
                wanted: row.as_ref().map(|row| &row.wanted),
                serving: row.as_ref().map(|row| &row.serving),
                current: self.database.current(&fingerprint).map(|version| (version.run, &version.coverage)),
                epochs: &epochs,
            };
            match publish::publish(&candidate, ground) {
                Ok(switches) => {
                    published += 1;
                    self.database.failing.remove(&fingerprint);
                    // The run that publishes a view lets it in again.
                    self.database.definitions += i64::from(self.database.left_out.remove(&fingerprint));
                    if let Some(before) = self.database.current(&fingerprint).filter(|before| !coverage.reaches(&before.coverage)) {
                        return Err(format!("the coverage of {fingerprint} goes back from {:?} to {coverage:?}", before.coverage));
                    }
                    self.database.versions.entry(fingerprint.clone()).or_default().push(Version { run: id, coverage: coverage.clone(), bag });
                    if let Some(row) = self.database.views.get_mut(name).filter(|_| switches) {
                        row.serving = fingerprint;
                        self.database.definitions += 1;
                    }
                }
                Err(refused) => {
                    self.database.definitions += i64::from(refused == Refused::NotYetFolded && self.database.left_out.remove(&fingerprint));
                    refusals.push(refused);
                }
            }
        }
        self.database.failing.extend(failed.iter().cloned());
        if self.database.running == Some(id) {
            self.database.running = None;
            if publish::finishes(published, failed.len(), &refusals) {
                self.database.cut_finished = cut.max(self.database.cut_finished);
            }
        }
        self.check()
    }

    /// Deletes live rows, then epochs that nobody needs, and the rows of definitions that left.
    pub(super) fn prune(&mut self) -> Step {
        let epochs = self.database.epoch_list();
        let kept = self.database.kept();
        let previous = |versions: &[Version]| versions.iter().rev().nth(1).map(|version| version.coverage.clone());
        let of_source = kept.iter().filter_map(|kept| previous(self.database.versions.get(kept)?)).reduce(|a, b| a.max(&b));
        for fingerprint in &kept {
            let Some(versions) = self.database.versions.get(fingerprint) else { continue };
            let Some(current) = versions.last() else { continue };
            let previous = previous(versions);
            let asked = prune::Versions { current: &current.coverage, previous: previous.as_ref(), of_source: of_source.as_ref() };
            let Some(pruned_to) = prune::pruned_to(asked).cloned() else { continue };
            for epoch in prune::prunable(fingerprint, &pruned_to, &epochs) {
                self.database.live.remove(&(fingerprint.clone(), epoch));
            }
            self.raise_pruned(fingerprint, &pruned_to);
        }
        let gone: Vec<_> = epochs
            .iter()
            .filter(|epoch| !epoch.is_open())
            .filter(|epoch| epoch.definitions.iter().all(|held| self.database.pruned.get(held).is_some_and(|pruned| epoch.lies_below(pruned))))
            .map(|epoch| epoch.id)
            .collect();
        self.database.epochs.retain(|id, _| !gone.contains(id));
        self.database.log.retain(|(id, _), _| !gone.contains(id));
        self.check()
    }

    fn raise_pruned(&mut self, fingerprint: &Fingerprint, coverage: &Coverage) {
        let before = self.database.pruned.entry(fingerprint.clone()).or_default();
        *before = before.max(coverage);
    }

    /// Drops the rows of definitions that left, where that is safe.
    pub(super) fn drop_left(&mut self) {
        let (kept, epochs) = (self.database.kept(), self.database.epoch_list());
        let held: BTreeSet<Fingerprint> = epochs.iter().flat_map(|epoch| epoch.definitions.clone()).collect();
        for fingerprint in held {
            if let Some(coverage) = prune::left(&fingerprint, &kept, &epochs) {
                self.database.live.retain(|(of, _), _| *of != fingerprint);
                self.raise_pruned(&fingerprint, &coverage);
            }
        }
    }

    /// `apply`: the view shall have this definition; the old one serves until the new one is built.
    pub(super) fn apply(&mut self, name: &'static str, definition: &str) {
        let wanted = fingerprint(definition);
        if self.database.pruned.contains_key(&wanted) && !self.database.kept().contains(&wanted) {
            self.returned.insert(wanted.clone());
        }
        let row = self.database.views.entry(name).or_insert_with(|| ViewRow { wanted: wanted.clone(), serving: wanted.clone() });
        if row.wanted != wanted || row.serving != wanted {
            row.wanted = wanted;
        }
        self.database.definitions += 1;
    }

    /// `apply --prune` without the view.
    pub(super) fn drop_view(&mut self, name: &'static str) {
        self.database.views.remove(name);
        self.database.definitions += 1;
    }

    /// Old messages of the flush log are forgotten.
    pub(super) fn forget_flushes(&mut self) {
        self.database.log.clear();
    }
}
