//! A model of the whole: a log, a database, a warehouse, and the processes that work on them, step by step.
//!
//! Every decision is made by the functions that the program runs; the model adds what surrounds them: who pauses, who
//! crashes, which reply is lost, and in which order the steps come. A state of a group is here the bag of the records
//! that were folded into it, so any answer can be compared with what its offsets promise, record by record.
//!
//! | file | what |
//! |---|---|
//! | `database.rs` | what PostgreSQL holds; a transaction is one call |
//! | `speed.rs` | workers |
//! | `archive.rs` | archivers, compaction |
//! | `batch.rs` | runs, publication, pruning, definitions |
//! | `serving.rs` | readers, and what an answer must be |
//! | `cases.rs` | the schedules that broke earlier drafts, and the guards that each of them needs |
//! | `explore.rs` | random schedules |

use std::collections::{BTreeMap, BTreeSet};

use self::{archive::Warehouse, batch::Run, database::Database, serving::Reader, speed::Worker};
use super::{
    guard::{Guard, holds},
    skip,
};
use crate::{Coverage, Offset, Partition, definition::Fingerprint};

mod archive;
mod batch;
mod cases;
mod database;
mod explore;
mod serving;
mod speed;

/// How often each record was folded in.
type Bag = BTreeMap<(Partition, Offset), u32>;
/// The states of one definition by group. Groups lie across partitions, as real ones do.
type Groups = BTreeMap<u8, Bag>;
/// What went wrong, for people.
type Violation = String;
type Step = Result<(), Violation>;

/// The view that is redefined, and one that is not.
const VIEWS: [&str; 2] = ["view", "other"];

fn fingerprint(name: &str) -> Fingerprint {
    Fingerprint(name.to_owned())
}

fn group_of(offset: Offset) -> u8 {
    u8::from(offset.0 % 2 == 1)
}

fn add(bag: &mut Bag, other: &Bag) {
    for (record, count) in other {
        *bag.entry(*record).or_default() += count;
    }
}

/// A topic: the end of each partition, and the offsets that hold no record.
#[derive(Clone, Debug, Default)]
struct Log {
    ends: BTreeMap<Partition, Offset>,
    holes: BTreeSet<(Partition, Offset)>,
    /// The first offset that Kafka still has.
    firsts: BTreeMap<Partition, Offset>,
}

impl Log {
    fn end(&self, partition: Partition) -> Offset {
        self.ends.get(&partition).copied().unwrap_or_default()
    }

    fn first(&self, partition: Partition) -> Offset {
        self.firsts.get(&partition).copied().unwrap_or_default()
    }

    /// The records of `[start, end)`.
    fn records(&self, partition: Partition, start: Offset, end: Offset) -> Bag {
        (start.0..end.0.min(self.end(partition).0))
            .map(|offset| (partition, Offset(offset)))
            .filter(|record| !self.holes.contains(record))
            .map(|record| (record, 1))
            .collect()
    }

    /// The records below `coverage`.
    fn below(&self, coverage: &Coverage) -> Bag {
        let mut bag = Bag::new();
        for (partition, end) in coverage.iter() {
            add(&mut bag, &self.records(partition, Offset(0), end));
        }
        bag
    }
}

/// Everything.
#[derive(Clone, Debug)]
struct World {
    log: Log,
    database: Database,
    backup: Option<Database>,
    warehouse: Warehouse,
    /// To whom the consumer group gives each partition; a paused worker does not know yet.
    group: BTreeMap<Partition, usize>,
    workers: [Worker; 2],
    archivers: [BTreeMap<Partition, archive::Archiver>; 2],
    runs: [Option<Run>; 2],
    readers: [Reader; 2],
    attempts: u128,
    /// Live rows of a view at or above its coverage at which nothing more is read.
    limit: Option<usize>,
    /// Definitions that left and came back: an answer may then go back, once.
    returned: BTreeSet<Fingerprint>,
}

const P: Partition = Partition(0);
const Q: Partition = Partition(1);
const PARTITIONS: [Partition; 2] = [P, Q];

impl World {
    /// Two empty partitions, given to the first worker; two views, applied, not read yet.
    fn new() -> Self {
        let given: BTreeSet<Partition> = PARTITIONS.into();
        Self {
            log: Log::default(),
            database: Database::new(),
            backup: None,
            warehouse: Warehouse::default(),
            group: PARTITIONS.into_iter().map(|partition| (partition, 0)).collect(),
            workers: [Worker::given(given), Worker::default()],
            archivers: Default::default(),
            runs: [None, None],
            readers: Default::default(),
            attempts: 0,
            limit: None,
            returned: BTreeSet::new(),
        }
    }

    fn produce(&mut self, partition: Partition, records: i64) {
        let end = self.log.ends.entry(partition).or_default();
        *end = Offset(end.0 + records);
    }

    /// A transaction marker: an offset without a record.
    fn produce_marker(&mut self, partition: Partition) {
        let end = self.log.end(partition);
        self.log.holes.insert((partition, end));
        self.produce(partition, 1);
    }

    /// Retention removes what lies below `first`, whoever has not read it.
    fn retain_from(&mut self, partition: Partition, first: i64) {
        self.log.firsts.insert(partition, Offset(first));
    }

    /// `skip-lost`: speed leaves a gap, at which answers stand until a version has passed it; only what the archive lost, too,
    /// is lost.
    fn skip_lost(&mut self, partition: Partition) {
        let (first, archived) = (self.log.first(partition), self.warehouse.end(partition));
        self.log.holes.extend((archived.0..first.0).map(|offset| (partition, Offset(offset))));
        let Some(row) = self.database.partitions.get_mut(&partition) else { return };
        let Some(skip) = skip::skip(row, first) else { return };
        (row.next_offset, row.epoch) = (skip.at, None);
        self.database.end_range(partition, skip.end);
    }

    fn back_up(&mut self) {
        self.backup = Some(self.database.clone());
    }

    /// PostgreSQL fails over to a copy that lags. Connections break, so workers and runs begin anew; readers do not notice.
    fn fail_over(&mut self) {
        let Some(mut copy) = self.backup.clone() else { return };
        copy.identity = self.database.identity + 1;
        self.database = copy;
        for worker in &mut self.workers {
            worker.crash();
        }
        self.runs = [None, None];
    }

    /// What must hold between any two steps.
    fn check(&self) -> Step {
        self.database.check(&self.log)?;
        self.warehouse.check(&self.log)
    }

    /// Everybody wakes up and works on undisturbed: then every view answers, exactly, at the ends of the log. What stands
    /// still for ever is as wrong as a wrong number.
    fn settle(&mut self) -> Step {
        for worker in 0..self.workers.len() {
            self.learn_assignment(worker);
        }
        // Each round is one run; the second takes what the first could not (a definition that joined, a new cut).
        for _ in 0..4 {
            self.work_off()?;
            self.runs = [None, None];
            self.begin(0);
            self.take_cut(0, true)?;
            self.work_off()?;
            self.take_cut(0, true)?;
            self.work_off()?;
            self.build(0, &[])?;
            self.publish(0)?;
            self.prune()?;
            self.drop_left();
            for reader in 0..self.readers.len() {
                self.refresh(reader)?;
                self.load(reader);
                self.refresh(reader)?;
            }
        }
        let ends: Coverage = PARTITIONS.into_iter().map(|partition| (partition, self.log.end(partition))).collect();
        for (name, view) in &self.database.views {
            if view.wanted != view.serving {
                return Err(format!("{name}: {} was never switched in", view.wanted));
            }
            for reader in &self.readers {
                match reader.answers.get(name) {
                    Some(answer) if answer.offsets == ends => {}
                    other => return Err(format!("{name} stands still at {:?}, the log ends at {ends:?}", other.map(|answer| &answer.offsets))),
                }
            }
        }
        Ok(())
    }

    fn work_off(&mut self) -> Step {
        // A first flush may find out that it is fenced; the next one works.
        for _ in 0..3 {
            for worker in 0..self.workers.len() {
                for partition in PARTITIONS {
                    self.fold(worker, partition, i64::MAX);
                }
                self.flush(worker)?;
            }
        }
        for partition in PARTITIONS {
            self.archive_all(0, partition)?;
        }
        Ok(())
    }
}

#[test]
fn an_undisturbed_world_answers_at_the_ends() {
    let mut world = World::new();
    world.produce(P, 3);
    world.produce_marker(P);
    world.produce(Q, 2);
    world.settle().unwrap();
    assert!(world.readers[0].answers.values().all(|answer| answer.bag.len() == 5));
}
