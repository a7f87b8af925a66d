//! Readers: a snapshot, a loaded version, an answer; and what an answer must be.

use std::collections::BTreeMap;

use super::{Bag, Groups, Guard, Step, World, add, database::Version, holds};
use crate::{
    Coverage,
    definition::Fingerprint,
    protocol::{
        EpochId,
        reach::{self, Follow, Loaded, NoReach, Snapshot},
    },
};

#[derive(Clone, Debug)]
pub(super) struct Answer {
    fingerprint: Fingerprint,
    pub(super) offsets: Coverage,
    pub(super) bag: Bag,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Reader {
    identity: Option<u32>,
    next_offsets: Coverage,
    seen: BTreeMap<EpochId, (i64, BTreeMap<Fingerprint, Groups>)>,
    loaded: BTreeMap<Fingerprint, Version>,
    /// Versions of the last snapshot, to be loaded.
    current: BTreeMap<Fingerprint, Version>,
    pub(super) answers: BTreeMap<&'static str, Answer>,
}

impl World {
    /// The reader's process begins anew.
    pub(super) fn restart_reader(&mut self, reader: usize) {
        self.readers[reader] = Reader::default();
    }

    /// Loads the versions that the last refresh saw; they may be old by now.
    pub(super) fn load(&mut self, reader: usize) {
        let reader = &mut self.readers[reader];
        reader.loaded.clone_from(&reader.current);
    }

    /// One snapshot; computes what each view answers, and compares it with what it promises.
    pub(super) fn refresh(&mut self, reader: usize) -> Step {
        let next_offsets: Coverage = self.database.partitions.values().map(|row| (row.partition, row.next_offset)).collect();
        let identity = self.database.identity;
        let this = &mut self.readers[reader];
        let is_another_past = this.identity.is_some_and(|before| before != identity) || !next_offsets.reaches(&this.next_offsets);
        if is_another_past && holds(Guard::MirrorKnowsIdentity) {
            *this = Reader::default();
        }
        this.identity = Some(identity);
        this.next_offsets = next_offsets;
        self.follow(reader);
        let names: Vec<&'static str> = self.database.views.keys().copied().collect();
        self.readers[reader].answers.retain(|name, _| names.contains(name));
        for name in names {
            self.answer(reader, name)?;
        }
        Ok(())
    }

    fn follow(&mut self, reader: usize) {
        let (this, database) = (&mut self.readers[reader], &self.database);
        this.current = database.views.values().filter_map(|view| Some((view.serving.clone(), database.current(&view.serving)?.clone()))).collect();
        this.seen.retain(|id, _| database.epochs.contains_key(id));
        for epoch in database.epochs.values() {
            let seen = this.seen.get(&epoch.id).map(|(flush, _)| *flush);
            let above = seen.map_or(i64::MAX, |seen| seen + 1);
            let logged: Vec<i64> = database.log.keys().filter(|(id, number)| *id == epoch.id && *number >= above).map(|(_, number)| *number).collect();
            let entry = this.seen.entry(epoch.id).or_default();
            match reach::follow(seen, epoch.flush, &logged) {
                Follow::UpToDate => {}
                Follow::Apply => {
                    for (fingerprint, group, bag) in logged.iter().filter_map(|number| database.log.get(&(epoch.id, *number))).flatten() {
                        entry.1.entry(fingerprint.clone()).or_default().insert(*group, bag.clone());
                    }
                }
                Follow::Reread => {
                    let live = database.live.iter().filter(|((_, id), _)| *id == epoch.id);
                    entry.1 = live.map(|((fingerprint, _), groups)| (fingerprint.clone(), groups.clone())).collect();
                }
            }
            entry.0 = epoch.flush;
        }
    }

    fn answer(&mut self, reader: usize, name: &'static str) -> Step {
        let (this, database) = (&mut self.readers[reader], &self.database);
        let serving = database.views[name].serving.clone();
        let loaded = this.loaded.get(&serving);
        let current = database.current(&serving);
        if loaded.is_none() && current.is_some() {
            // A version that exists and is not loaded is not the same as none.
            return Ok(());
        }
        let state = match loaded {
            None => Loaded::Nothing,
            Some(version) if current.is_some_and(|current| current.run == version.run) => Loaded::Current(&version.coverage),
            Some(version) => Loaded::Older(&version.coverage),
        };
        let (partitions, epochs) = (database.partitions.values().cloned().collect::<Vec<_>>(), database.epoch_list());
        let reached = reach::reach(state, &serving, database.pruned.get(&serving), Snapshot { partitions: &partitions, epochs: &epochs });
        let reached = match reached {
            Ok(reached) => reached,
            Err(NoReach::BelowPruned) => {
                let versions = database.versions.get(&serving).map_or(&[][..], Vec::as_slice);
                let is_slow = loaded.is_some_and(|loaded| versions.iter().rev().take(2).any(|version| version.run == loaded.run));
                // The time to load a version is what the version before it is kept for.
                let is_slow = is_slow && !self.returned.contains(&serving);
                return if is_slow { Err(format!("{name}: a reader of the version before the current one has lost its live rows")) } else { Ok(()) };
            }
            Err(NoReach::BeingBuilt) => {
                this.answers.remove(name);
                return Ok(());
            }
        };
        let mut bag = loaded.map(|version| version.bag.clone()).unwrap_or_default();
        for epoch in &reached.epochs {
            for groups in this.seen.get(epoch).and_then(|(_, views)| views.get(&serving)).into_iter().flat_map(BTreeMap::values) {
                add(&mut bag, groups);
            }
        }
        let answer = Answer { fingerprint: serving, offsets: reached.offsets, bag };
        let expected = self.log.below(&answer.offsets);
        if answer.bag != expected {
            return Err(format!("{name} states {:?}, has {:?} instead of {expected:?}", answer.offsets, answer.bag));
        }
        let returned = self.returned.contains(&answer.fingerprint);
        if let Some(before) = this.answers.get(name).filter(|before| !answer.offsets.reaches(&before.offsets) && !returned) {
            return Err(format!("{name} goes back from {:?} ({}) to {:?} ({})", before.offsets, before.fingerprint, answer.offsets, answer.fingerprint));
        }
        this.answers.insert(name, answer);
        Ok(())
    }
}
