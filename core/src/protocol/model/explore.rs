//! Random schedules: any step of anybody, in any order; no violation, and in the end everything is answered.

use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};

use super::*;
use crate::protocol::guard::{ALL, without};

/// Schedules of one `cargo test`.
const SCHEDULES: u32 = 10_000;
const STEPS: usize = 60;

/// A step; the numbers choose who does it.
#[derive(Clone, Copy, Debug)]
enum Move {
    Produce(Partition, i64),
    Marker(Partition),
    Fold(usize, Partition, i64),
    Flush(usize, speed::Reply),
    Open(usize),
    CrashWorker(usize),
    Rebalance(Partition, usize, bool),
    Archive(usize, Partition, archive::Reply),
    ArchiveRecords(usize, Partition, i64),
    ReportArchived(usize, Partition),
    CrashArchiver(usize),
    MergeFiles(Partition),
    RemoveOriginals(Partition),
    Begin(usize),
    TakeCut(usize, bool),
    Build(usize, bool),
    Publish(usize),
    Prune,
    DropLeft,
    Apply(bool),
    DropView,
    ForgetFlushes,
    Refresh(usize),
    Load(usize),
    RestartReader(usize),
    BackUp,
    FailOver,
    ArchiveEverything,
    Version,
    FoldEpochs,
}

fn any_move() -> impl Strategy<Value = Move> {
    use Move::*;
    let who = 0..2usize;
    let partition = prop::sample::select(&PARTITIONS[..]);
    let reply = prop_oneof![6 => Just(speed::Reply::Arrives), 1 => Just(speed::Reply::LostAfterCommit), 1 => Just(speed::Reply::LostBeforeCommit)];
    let rename = prop_oneof![6 => Just(archive::Reply::Arrives), 1 => Just(archive::Reply::LostAfterRename), 1 => Just(archive::Reply::LostBeforeRename)];
    prop_oneof![
        8 => (partition.clone(), 1..4i64).prop_map(|(p, n)| Produce(p, n)),
        1 => partition.clone().prop_map(Marker),
        8 => (who.clone(), partition.clone(), 1..5i64).prop_map(|(w, p, n)| Fold(w, p, n)),
        10 => (who.clone(), reply).prop_map(|(w, reply)| Flush(w, reply)),
        1 => who.clone().prop_map(Open),
        1 => who.clone().prop_map(CrashWorker),
        3 => (partition.clone(), who.clone(), any::<bool>()).prop_map(|(p, w, notices)| Rebalance(p, w, notices)),
        14 => (who.clone(), partition.clone(), rename).prop_map(|(a, p, reply)| Archive(a, p, reply)),
        6 => (who.clone(), partition.clone(), 1..9i64).prop_map(|(a, p, n)| ArchiveRecords(a, p, n)),
        4 => (who.clone(), partition.clone()).prop_map(|(a, p)| ReportArchived(a, p)),
        1 => who.clone().prop_map(CrashArchiver),
        1 => partition.clone().prop_map(MergeFiles),
        1 => partition.clone().prop_map(RemoveOriginals),
        3 => who.clone().prop_map(Begin),
        9 => (who.clone(), prop::bool::weighted(0.3)).prop_map(|(r, silent)| TakeCut(r, silent)),
        5 => (who.clone(), prop::bool::weighted(0.2)).prop_map(|(r, fails)| Build(r, fails)),
        5 => who.clone().prop_map(Publish),
        3 => Just(Prune),
        1 => Just(DropLeft),
        1 => any::<bool>().prop_map(Apply),
        1 => Just(DropView),
        1 => Just(ForgetFlushes),
        8 => who.clone().prop_map(Refresh),
        4 => who.clone().prop_map(Load),
        1 => who.prop_map(RestartReader),
        1 => Just(BackUp),
        1 => Just(FailOver),
        2 => Just(ArchiveEverything),
        3 => Just(Version),
        2 => Just(FoldEpochs),
    ]
}

impl World {
    fn make(&mut self, step: Move) -> Step {
        match step {
            Move::Produce(partition, records) => self.produce(partition, records),
            Move::Marker(partition) => self.produce_marker(partition),
            Move::Fold(worker, partition, records) => self.fold(worker, partition, records),
            Move::Flush(worker, reply) => self.flush_with(worker, reply)?,
            Move::Open(worker) => self.open(worker)?,
            Move::CrashWorker(worker) => self.workers[worker].crash(),
            Move::Rebalance(partition, to, old_notices) => self.rebalance(partition, to, old_notices)?,
            Move::Archive(archiver, partition, reply) => self.archive_with(archiver, partition, reply)?,
            Move::ArchiveRecords(archiver, partition, records) => self.archive_records(archiver, partition, records),
            Move::ReportArchived(archiver, partition) => self.report_archived(archiver, partition),
            Move::CrashArchiver(archiver) => self.crash_archiver(archiver),
            Move::MergeFiles(partition) => self.merge_files(partition)?,
            Move::RemoveOriginals(partition) => self.remove_originals(partition)?,
            Move::Begin(run) => self.begin(run),
            Move::TakeCut(run, cuts_silent) => self.take_cut(run, cuts_silent)?,
            Move::Build(run, fails) => self.build(run, if fails { &["other"] } else { &[] })?,
            Move::Publish(run) => self.publish(run)?,
            Move::Prune => self.prune()?,
            Move::DropLeft => self.drop_left(),
            Move::Apply(replaces) => self.apply("view", if replaces { "view 2" } else { "view" }),
            Move::DropView => match self.database.views.contains_key("other") {
                true => self.drop_view("other"),
                false => self.apply("other", "other"),
            },
            Move::ForgetFlushes => self.forget_flushes(),
            Move::Refresh(reader) => self.refresh(reader)?,
            Move::Load(reader) => self.load(reader),
            Move::RestartReader(reader) => self.restart_reader(reader),
            Move::BackUp => self.back_up(),
            Move::FailOver => self.fail_over(),
            Move::ArchiveEverything => self.archive_everything()?,
            Move::Version => self.version()?,
            Move::FoldEpochs => self.database.fold_epochs(),
        }
        self.check()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: SCHEDULES, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_schedule_breaks_the_protocol(moves in prop::collection::vec(any_move(), STEPS)) {
        let mut world = World::new();
        for (number, step) in moves.iter().enumerate() {
            if let Err(violation) = world.make(*step) {
                return Err(TestCaseError::fail(format!("step {number}, {step:?}: {violation}")));
            }
        }
        world.settle().map_err(|violation| TestCaseError::fail(format!("in the end: {violation}")))?;
    }
}

/// What random schedules are worth: guards whose absence a few of them notice. The rarer ones have a case of their own.
#[test]
fn random_schedules_notice_dropped_guards() {
    const OFTEN: [Guard; 6] = [
        Guard::FlushCompareAndSet,
        Guard::FlushOwner,
        Guard::RowsAndOffsetTogether,
        Guard::PruneByPreviousVersion,
        Guard::MirrorKnowsIdentity,
        Guard::FlushWholeOrNothing,
    ];
    let mut runner = TestRunner::deterministic();
    let schedules: Vec<Vec<Move>> = (0..300).map(|_| prop::collection::vec(any_move(), STEPS).new_tree(&mut runner).unwrap().current()).collect();
    let breaks = |moves: &Vec<Move>| {
        let mut world = World::new();
        moves.iter().try_for_each(|step| world.make(*step)).and_then(|()| world.settle()).is_err()
    };
    let first = |guard: &Guard| without(Some(*guard), || schedules.iter().position(breaks));
    let noticed: Vec<(Guard, usize)> = ALL.into_iter().filter_map(|guard| Some((guard, first(&guard)?))).collect();
    println!("noticed {} of {}, first by schedule: {noticed:?}", noticed.len(), ALL.len());
    for guard in OFTEN {
        assert!(noticed.iter().any(|(noticed, _)| *noticed == guard), "no schedule notices that {guard:?} is dropped");
    }
}
