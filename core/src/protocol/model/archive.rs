//! Archivers: create, list again, write, seal, rename; and a compaction that frees names.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::{Bag, Guard, Log, PARTITIONS, Step, World, add, holds};
use crate::{
    Offset, OffsetRange, Partition,
    protocol::archive::{self, Outcome},
};

/// A name: the start, and for a merged file the end, too.
type Name = (Partition, Offset, Option<Offset>);

#[derive(Clone, Debug)]
pub(super) struct File {
    range: OffsetRange,
    uuid: Uuid,
    records: Bag,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Warehouse {
    visible: BTreeMap<Name, File>,
    /// Files being written; whether each is sealed is known to its archiver alone.
    temporaries: BTreeMap<Uuid, (Partition, Offset)>,
    /// Originals of merged files, which the next compaction removes.
    merged: BTreeSet<Uuid>,
}

/// One archiver at one partition.
#[derive(Clone, Debug, Default)]
pub(super) enum Archiver {
    #[default]
    Idle,
    /// It knows where the archive ends.
    Listed(Offset),
    /// Its temporary file exists; it has not listed again.
    Created(OffsetRange, Uuid),
    /// It takes records.
    Writing(OffsetRange, Uuid),
    /// Complete, not visible.
    Sealed(OffsetRange, Uuid),
    /// The reply of the rename was not a success.
    Looking(OffsetRange, Uuid),
}

/// Whether the reply of a rename arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Arrives,
    LostAfterRename,
    LostBeforeRename,
}

impl Warehouse {
    pub(super) fn ranges(&self, partition: Partition) -> Vec<OffsetRange> {
        self.of(partition).map(|file| file.range).collect()
    }

    fn of(&self, partition: Partition) -> impl Iterator<Item = &File> {
        self.visible.iter().filter(move |((of, _, _), _)| *of == partition).map(|(_, file)| file)
    }

    pub(super) fn end(&self, partition: Partition) -> Offset {
        archive::archived_end(&self.ranges(partition)).unwrap_or_default()
    }

    /// What a reader of `window` gets; nothing at a gap.
    pub(super) fn read(&self, partition: Partition, window: OffsetRange) -> Option<Bag> {
        let files: Vec<&File> = self.of(partition).collect();
        let reached = OffsetRange { start: window.start, end: window.end.min(self.end(partition).max(window.start)) };
        let mut bag = Bag::new();
        for (index, clip) in archive::clip(&self.ranges(partition), reached).ok()? {
            let inside = files[index].records.iter().filter(|((_, offset), _)| clip.contains(*offset));
            add(&mut bag, &inside.map(|(record, count)| (*record, *count)).collect());
        }
        Some(bag)
    }

    /// I4, and that every file holds what its range promises. A merged file beside its originals is no overlap yet.
    pub(super) fn check(&self, log: &Log) -> Step {
        for partition in PARTITIONS {
            let ranges: Vec<OffsetRange> = self.of(partition).filter(|file| !self.merged.contains(&file.uuid)).map(|file| file.range).collect();
            if let Some(fault) = archive::tile(&ranges, Offset(0)).first() {
                return Err(format!("archive of partition {partition}: {fault}"));
            }
            if let Some(file) = self.of(partition).find(|file| file.records != log.records(partition, file.range.start, file.range.end)) {
                return Err(format!("archive file {} of partition {partition} lacks records", file.range));
            }
        }
        Ok(())
    }
}

impl World {
    /// The next step of an archiver that waits for nothing.
    pub(super) fn archive(&mut self, archiver: usize, partition: Partition) -> Step {
        self.archive_with(archiver, partition, Reply::Arrives)
    }

    pub(super) fn archive_with(&mut self, archiver: usize, partition: Partition, reply: Reply) -> Step {
        let state = self.archivers[archiver].remove(&partition).unwrap_or_default();
        let next = match state {
            Archiver::Idle => Archiver::Listed(self.warehouse.end(partition)),
            Archiver::Listed(start) => {
                self.attempts += 1;
                let uuid = Uuid::from_u128(self.attempts);
                self.warehouse.temporaries.insert(uuid, (partition, start));
                Archiver::Created(OffsetRange { start, end: start }, uuid)
            }
            Archiver::Created(range, uuid) if archive::goes_on(range.start, self.warehouse.end(partition)) => Archiver::Writing(range, uuid),
            Archiver::Created(_, uuid) => {
                self.warehouse.temporaries.remove(&uuid);
                Archiver::Idle
            }
            Archiver::Writing(range, uuid) if self.log.records(partition, range.start, range.end).is_empty() => Archiver::Writing(range, uuid),
            Archiver::Writing(range, uuid) => Archiver::Sealed(range, uuid),
            Archiver::Sealed(range, uuid) => self.rename(partition, range, uuid, reply),
            Archiver::Looking(range, uuid) => self.look_who_won(partition, range, uuid),
        };
        self.archivers[archiver].insert(partition, next);
        self.check()
    }

    /// An archiver takes up to `records` more.
    pub(super) fn archive_records(&mut self, archiver: usize, partition: Partition, records: i64) {
        let end = self.log.end(partition);
        if let Some(Archiver::Writing(range, _)) = self.archivers[archiver].get_mut(&partition) {
            range.end = Offset(range.end.0.saturating_add(records).min(end.0)).max(range.end);
        }
    }

    /// One rename that never overwrites.
    fn rename(&mut self, partition: Partition, range: OffsetRange, uuid: Uuid, reply: Reply) -> Archiver {
        let name = (partition, range.start, None);
        let is_free = !self.warehouse.visible.contains_key(&name) || !holds(Guard::RenameNeverOverwrites);
        if reply != Reply::LostBeforeRename && is_free && self.warehouse.temporaries.remove(&uuid).is_some() {
            let records = self.log.records(partition, range.start, range.end);
            self.warehouse.visible.insert(name, File { range, uuid, records });
            if reply == Reply::Arrives {
                return Archiver::Idle;
            }
        }
        Archiver::Looking(range, uuid)
    }

    /// What is really there decides. In every outcome it goes on from the committed end.
    fn look_who_won(&mut self, partition: Partition, range: OffsetRange, uuid: Uuid) -> Archiver {
        let target = self.warehouse.visible.get(&(partition, range.start, None)).map(|file| file.uuid);
        match archive::outcome(uuid, target, self.warehouse.temporaries.contains_key(&uuid)) {
            Outcome::Won | Outcome::Vanished => Archiver::Idle,
            Outcome::Lost => {
                self.warehouse.temporaries.remove(&uuid);
                Archiver::Idle
            }
            Outcome::Again => Archiver::Sealed(range, uuid),
        }
    }

    /// Reports below which position everything is committed or holds no record; only ever raised.
    pub(super) fn report_archived(&mut self, archiver: usize, partition: Partition) {
        self.database.insert_partition(partition);
        let reached = match self.archivers[archiver].get(&partition) {
            Some(Archiver::Writing(range, _) | Archiver::Sealed(range, _) | Archiver::Looking(range, _)) => {
                self.log.records(partition, range.start, range.end).keys().next().map_or(range.end, |(_, first)| *first)
            }
            _ => self.warehouse.end(partition),
        };
        let reported = self.database.archived_to.entry(partition).or_default();
        *reported = reached.max(*reported);
    }

    /// Everything that the log holds is committed and reported.
    pub(super) fn archive_all(&mut self, archiver: usize, partition: Partition) -> Step {
        for _ in 0..4 {
            // Idle → listed → created → writing, whatever it was about before.
            for _ in 0..8 {
                if matches!(self.archivers[archiver].get(&partition), Some(Archiver::Writing(..))) {
                    break;
                }
                self.archive(archiver, partition)?;
            }
            self.archive_records(archiver, partition, i64::MAX);
            self.report_archived(archiver, partition);
            self.archive(archiver, partition)?;
            self.archive(archiver, partition)?;
            self.report_archived(archiver, partition);
        }
        Ok(())
    }

    /// An archiver's process ends; its temporary files stay.
    pub(super) fn crash_archiver(&mut self, archiver: usize) {
        self.archivers[archiver].clear();
    }

    /// Compaction, first step: two neighbours become one file with a new name; the originals stay visible.
    pub(super) fn merge_files(&mut self, partition: Partition) -> Step {
        let originals: Vec<File> = self.warehouse.of(partition).filter(|file| !self.warehouse.merged.contains(&file.uuid)).take(2).cloned().collect();
        if let [first, second] = originals.as_slice() {
            self.attempts += 1;
            let (uuid, range) = (Uuid::from_u128(self.attempts), OffsetRange { start: first.range.start, end: second.range.end });
            let mut records = first.records.clone();
            add(&mut records, &second.records);
            self.warehouse.merged.extend([first.uuid, second.uuid]);
            self.warehouse.visible.insert((partition, range.start, Some(range.end)), File { range, uuid, records });
        }
        self.check()
    }

    /// Compaction, second step: who removes a visible file first deletes every temporary that begins below its end.
    pub(super) fn remove_originals(&mut self, partition: Partition) -> Step {
        let gone: Vec<(Name, OffsetRange)> = self
            .warehouse
            .visible
            .iter()
            .filter(|((of, _, _), file)| *of == partition && self.warehouse.merged.contains(&file.uuid))
            .map(|(name, file)| (*name, file.range))
            .collect();
        for (name, range) in gone {
            self.warehouse.temporaries.retain(|_, (of, start)| *of != partition || *start >= range.end);
            self.warehouse.visible.remove(&name);
        }
        self.check()
    }
}
