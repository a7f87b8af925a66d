//! Records → the states of the worker's epoch, in memory.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use anabranch_core::{
    Offset, Partition,
    definition::{Fingerprint, View},
    protocol::flush::Advance,
};
use anabranch_process::catalog::{definitions::SourceDefinitions, live::LiveRows};
use anabranch_views::{
    GroupHash, Groups, Lookups,
    decode::{Decoder, RawRecord, Wanted},
    partial::partial,
};
use anyhow::Result;

/// The states of one epoch.
pub(crate) struct Fold {
    sets: Vec<ColumnSet>,
    lookups: Lookups,
    /// Where the epoch's partitions stand: flushed, or being flushed, and folded.
    positions: BTreeMap<Partition, (Offset, Offset)>,
    /// Decoded, but not folded yet.
    pending: BTreeMap<Partition, Offset>,
}

/// Views whose sources have the same columns: their records are decoded once.
struct ColumnSet {
    decoder: Decoder,
    views: Vec<LiveView>,
}

struct LiveView {
    view: Arc<View>,
    groups: Groups,
    changed: HashSet<GroupHash>,
}

/// What a flush writes: absolute states, so that it may be repeated.
pub(crate) struct Changes {
    /// Every partition of the epoch, from where it was flushed to where it is folded.
    pub(crate) advances: Vec<Advance>,
    pub(crate) views: Vec<ViewChanges>,
}

/// The groups of a view that changed since the last flush.
pub(crate) struct ViewChanges {
    pub(crate) view: Arc<View>,
    /// What is stored and what is sent to readers is made of this one copy.
    pub(crate) rows: LiveRows,
}

impl LiveView {
    fn take_changes(&mut self) -> Result<ViewChanges> {
        let changed = self.changed.drain().filter_map(|hash| self.groups.0.get(&hash).map(|row| (hash, row)));
        Ok(ViewChanges { view: Arc::clone(&self.view), rows: LiveRows::of(&self.view, changed)? })
    }
}

impl Fold {
    pub(crate) fn new(definitions: &SourceDefinitions, lookups: &Lookups, positions: &BTreeMap<Partition, Offset>) -> Self {
        let mut sets: BTreeMap<Fingerprint, Vec<Arc<View>>> = BTreeMap::new();
        for view in definitions.definitions.values().filter(|view| !definitions.left_out.contains(&view.fingerprint)) {
            sets.entry(view.source.columns_fingerprint()).or_default().push(Arc::clone(view));
        }
        let set = |views: Vec<Arc<View>>| {
            let needed = views.iter().flat_map(|view| view.needed_columns()).collect();
            let source = views.first().map_or(&definitions.source, |view| &view.source);
            let live = |view: Arc<View>| LiveView { view, groups: Groups::default(), changed: HashSet::new() };
            ColumnSet { decoder: Decoder::new(source, Wanted::Columns(needed)), views: views.into_iter().map(live).collect() }
        };
        Self {
            sets: sets.into_values().map(set).collect(),
            lookups: lookups.clone(),
            positions: positions.iter().map(|(partition, offset)| (*partition, (*offset, *offset))).collect(),
            pending: BTreeMap::new(),
        }
    }

    /// Decodes a record; one of a partition that is not the epoch's is left alone.
    pub(crate) fn push(&mut self, record: &RawRecord<'_>) {
        let partition = Partition(record.partition);
        if !self.positions.contains_key(&partition) {
            return;
        }
        for set in &mut self.sets {
            set.decoder.push(record, []);
        }
        self.pending.insert(partition, Offset(record.offset).next());
    }

    /// The partition was read up to `position`, markers passed.
    pub(crate) fn pass(&mut self, partition: Partition, position: Offset) {
        if let Some((_, folded)) = self.positions.get(&partition) {
            let reached = self.pending.get(&partition).copied().unwrap_or(*folded);
            if position > reached {
                self.pending.insert(partition, position);
            }
        }
    }

    /// Up to where a partition is folded.
    pub(crate) fn position(&self, partition: Partition) -> Option<Offset> {
        self.positions.get(&partition).map(|(_, folded)| *folded)
    }

    /// Records that are decoded and not folded.
    pub(crate) fn waiting(&self) -> usize {
        self.sets.first().map_or(0, |set| set.decoder.len())
    }

    /// Folds what is decoded.
    pub(crate) fn fold(&mut self) -> Result<()> {
        for set in &mut self.sets {
            if set.decoder.is_empty() {
                continue;
            }
            let batch = set.decoder.finish()?;
            for view in &mut set.views {
                let groups = partial(&view.view, &batch, &self.lookups)?;
                view.changed.extend(groups.0.keys().copied());
                view.groups.merge(groups);
            }
        }
        for (partition, reached) in std::mem::take(&mut self.pending) {
            if let Some((_, folded)) = self.positions.get_mut(&partition) {
                *folded = reached.max(*folded);
            }
        }
        Ok(())
    }

    /// The groups held in memory.
    pub(crate) fn group_count(&self) -> usize {
        self.sets.iter().flat_map(|set| &set.views).map(|view| view.groups.0.len()).sum()
    }

    /// What is folded and not flushed; from here on it counts as flushed. A flush that fails is never made up for from
    /// memory: its worker ends, or drops its states.
    pub(crate) fn take_changes(&mut self) -> Result<Changes> {
        let advance =
            |(partition, (from, to)): (&Partition, &mut (Offset, Offset))| Advance { partition: *partition, from: std::mem::replace(from, *to), to: *to };
        let advances = self.positions.iter_mut().map(advance).collect();
        let views = self.sets.iter_mut().flat_map(|set| &mut set.views).map(LiveView::take_changes).collect::<Result<_>>()?;
        Ok(Changes { advances, views })
    }

    /// Whether a flush would write something.
    pub(crate) fn has_changes(&self) -> bool {
        self.positions.values().any(|(flushed, folded)| flushed != folded)
    }

    /// Up to where each partition is folded.
    pub(crate) fn positions(&self) -> BTreeMap<Partition, Offset> {
        self.positions.iter().map(|(partition, (_, folded))| (*partition, *folded)).collect()
    }
}
