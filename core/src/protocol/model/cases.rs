//! The schedules that broke earlier drafts, by their numbers; each holds, and fails without the guards that it names.
//!
//! Not here, because the model has no texts, locks or bytes: 8 (`layout.rs`), 11 (`e2e`), 12, 14, 15, 19, 33 and 34 (the
//! speed layer's tests on PostgreSQL), 20 (the parts of batch), 21 (the states of views).

use super::*;
use crate::protocol::{
    CutNumber,
    cut::Step as CutStep,
    guard::{ALL, without},
};

/// Runs a schedule, then lets everybody work on: no violation; and one without each of these guards.
fn holds_and_needs(schedule: fn(&mut World) -> Step, guards: &[Guard]) {
    let outcome = |guard| {
        without(guard, || {
            let mut world = World::new();
            schedule(&mut world)?;
            world.settle()
        })
    };
    assert_eq!(outcome(None), Ok(()), "with every guard");
    for guard in guards {
        let violation = outcome(Some(*guard)).expect_err(&format!("without {guard:?} nothing goes wrong"));
        println!("without {guard:?}: {violation}");
    }
}

macro_rules! cases {
    ($($name:ident [$($guard:ident)*] $schedule:expr;)*) => {
        $(#[test]
        fn $name() {
            holds_and_needs($schedule, &[$(Guard::$guard),*]);
        })*

        #[test]
        fn every_guard_is_needed_by_a_case() {
            let needed: BTreeSet<Guard> = [$(&[$(Guard::$guard),*] as &[Guard]),*].into_iter().flatten().copied().collect();
            let free: Vec<&Guard> = ALL.iter().filter(|guard| !needed.contains(guard)).collect();
            assert!(free.is_empty(), "no case needs {free:?}");
        }
    };
}

impl World {
    /// The worker folds what there is and flushes it.
    fn flow(&mut self, worker: usize) -> Step {
        PARTITIONS.into_iter().for_each(|partition| self.fold(worker, partition, i64::MAX));
        self.flush(worker)
    }

    /// `records` more in both partitions, folded and flushed by the first worker.
    fn events(&mut self, records: i64) -> Step {
        PARTITIONS.into_iter().for_each(|partition| self.produce(partition, records));
        self.flow(0)
    }

    /// An epoch over both partitions, with two records of each flushed.
    fn begun(&mut self) -> Step {
        self.open(0)?;
        self.events(2)
    }

    pub(super) fn archive_everything(&mut self) -> Step {
        PARTITIONS.into_iter().try_for_each(|partition| self.archive_all(0, partition))
    }

    /// A run that raises a cut, which everybody answers, and takes it.
    fn cut(&mut self, run: usize) -> Step {
        self.begin(run);
        self.take_cut(run, false)?;
        (0..self.workers.len()).try_for_each(|worker| self.flush(worker))?;
        self.take_cut(run, false)
    }

    /// A whole run in which these views fail.
    fn version_but(&mut self, failing: &[&str]) -> Step {
        self.cut(0)?;
        self.archive_everything()?;
        self.build(0, failing)?;
        self.publish(0)
    }

    /// A whole run.
    pub(super) fn version(&mut self) -> Step {
        self.version_but(&[])
    }

    /// The reader loads what is current and answers.
    fn read(&mut self, reader: usize) -> Step {
        self.refresh(reader)?;
        self.load(reader);
        self.refresh(reader)
    }

    fn expect_at(&self, view: &str, offsets: [i64; 2]) -> Step {
        let expected: Coverage = PARTITIONS.into_iter().zip(offsets.map(Offset)).collect();
        let found = self.readers[0].answers.get(view).map(|answer| &answer.offsets);
        if found == Some(&expected) { Ok(()) } else { Err(format!("{view} answers at {found:?}, not at {expected:?}")) }
    }
}

cases! {
    case_01_batch_goes_past_a_speed_layer_that_is_down [OffsetsFromChain] |world| {
        world.begun()?;
        world.version()?;
        world.read(0)?;
        world.workers[0].crash();
        world.produce(P, 3);
        world.archive_everything()?;
        world.begin(0);
        world.take_cut(0, false)?;
        world.take_cut(0, true)?;
        world.take_cut(0, false)?;
        world.build(0, &[])?;
        world.publish(0)?;
        // The reader still holds the version before.
        world.refresh(0)?;
        world.expect_at("view", [2, 2])?;
        world.read(0)?;
        world.expect_at("view", [5, 2])
    };
    case_02_a_view_is_replaced_while_a_reader_holds_the_old_one [] |world| {
        world.begun()?;
        world.version()?;
        world.read(0)?;
        world.apply("view", "view 2");
        world.events(2)?;
        world.refresh(0)?;
        world.expect_at("view", [4, 4])?;
        world.version()?;
        world.events(1)?;
        world.refresh(0)?;
        // It left and comes back.
        world.apply("view", "view");
        world.events(1)?;
        world.refresh(0)
    };
    case_03_a_worker_flushes_while_batch_cuts_its_partition [FlushCompareAndSet] |world| {
        world.begun()?;
        world.refresh(0)?;
        world.produce(P, 2);
        world.fold(0, P, i64::MAX);
        world.archive_everything()?;
        world.begin(0);
        world.take_cut(0, false)?;
        world.take_cut(0, true)?;
        world.flush(0)?;
        world.refresh(0)?;
        world.expect_at("view", [2, 2])
    };
    case_04_a_run_with_a_stale_coverage_is_refused [CoverageNeverDecreases] |world| {
        world.begun()?;
        world.version()?;
        world.events(2)?;
        world.version()?;
        world.begin(0);
        let stale = world.database.answers[&CutNumber(1)].clone();
        world.settle_on(0, CutNumber(1), stale);
        world.build(0, &[])?;
        world.publish(0)
    };
    case_05_a_paused_run_publishes_after_another [PublicationChecks] |world| {
        world.begun()?;
        world.cut(1)?;
        world.archive_everything()?;
        world.build(1, &[])?;
        world.version()?;
        world.events(2)?;
        world.version()?;
        world.events(2)?;
        world.version()?;
        world.prune()?;
        world.read(0)?;
        world.publish(1)?;
        world.read(0)
    };
    case_06_one_view_fails_twice_and_keeps_its_live_rows [PrunePerView] |world| {
        world.begun()?;
        world.version()?;
        for _ in 0..2 {
            world.events(2)?;
            world.version_but(&["other"])?;
        }
        world.read(0)?;
        world.prune()?;
        world.read(0)?;
        world.expect_at("other", [6, 6])
    };
    case_07_a_reader_sleeps_through_two_publications [MirrorKnowsPruned] |world| {
        world.begun()?;
        world.version()?;
        world.read(0)?;
        for _ in 0..2 {
            world.events(2)?;
            world.version_but(&["other"])?;
        }
        world.prune()?;
        world.forget_flushes();
        world.refresh(0)?;
        world.expect_at("view", [2, 2])?;
        world.read(0)?;
        world.expect_at("view", [6, 6])
    };
    a_reader_loads_slowly_while_its_version_is_replaced [PruneByPreviousVersion] |world| {
        world.begun()?;
        world.version()?;
        world.read(0)?;
        world.events(2)?;
        world.version()?;
        world.prune()?;
        world.refresh(0)?;
        world.expect_at("view", [4, 4])
    };
    case_09_a_sleeping_archiver_finds_its_name_freed [SecondListing] |world| {
        world.produce(P, 6);
        world.archive(1, P)?;
        for _ in 0..2 {
            (0..3).try_for_each(|_| world.archive(0, P))?;
            world.archive_records(0, P, 3);
            (0..2).try_for_each(|_| world.archive(0, P))?;
        }
        world.merge_files(P)?;
        world.remove_originals(P)?;
        (0..2).try_for_each(|_| world.archive(1, P))?;
        world.archive_records(1, P, 2);
        (0..2).try_for_each(|_| world.archive(1, P))
    };
    case_09_a_merged_file_lies_beside_its_originals [ReadersClip] |world| {
        world.begun()?;
        world.archive_everything()?;
        world.events(2)?;
        world.archive_everything()?;
        world.merge_files(P)?;
        world.version()?;
        world.read(0)
    };
    case_10_postgresql_fails_over_to_a_copy_that_lags [MirrorKnowsIdentity] |world| {
        world.back_up();
        world.produce(P, 2);
        world.produce(Q, 1);
        world.open(0)?;
        world.fold(0, P, 2);
        world.flush(0)?;
        world.refresh(0)?;
        world.fail_over();
        // The same numbers of epoch and flush, other rows.
        world.open(0)?;
        world.fold(0, Q, 1);
        world.flush(0)?;
        world.refresh(0)?;
        world.expect_at("view", [0, 1])
    };
    case_13_a_fenced_worker_opens_again_what_the_group_still_gives_it [] |world| {
        world.begun()?;
        world.begin(0);
        world.take_cut(0, false)?;
        world.take_cut(0, true)?;
        world.events(2)?;
        world.flow(0)?;
        world.flow(0)?;
        world.refresh(0)?;
        world.expect_at("view", [4, 4])
    };
    case_16_the_outcome_of_a_commit_is_unknown [] |world| {
        for reply in [speed::Reply::LostAfterCommit, speed::Reply::LostBeforeCommit] {
            world.open_with(0, reply)?;
            world.flush(0)?;
            world.produce(P, 2);
            world.fold(0, P, i64::MAX);
            world.flush_with(0, reply)?;
            world.flow(0)?;
            world.flow(0)?;
            world.refresh(0)?;
        }
        world.expect_at("view", [4, 0])
    };
    case_17_the_reply_of_a_rename_is_lost [] |world| {
        for reply in [archive::Reply::LostAfterRename, archive::Reply::LostBeforeRename] {
            world.produce(P, 2);
            (0..3).try_for_each(|_| world.archive(0, P))?;
            world.archive_records(0, P, 2);
            world.archive(0, P)?;
            world.archive_with(0, P, reply)?;
            (0..2).try_for_each(|_| world.archive(0, P))?;
        }
        if world.warehouse.end(P) == Offset(4) { Ok(()) } else { Err(format!("archived up to {}", world.warehouse.end(P))) }
    };
    case_18_who_lost_a_race_goes_on_from_the_committed_end [RenameNeverOverwrites] |world| {
        world.produce(P, 6);
        for archiver in [0, 1] {
            (0..3).try_for_each(|_| world.archive(archiver, P))?;
        }
        // The loser has the longer file, and the winner goes on meanwhile.
        world.archive_records(0, P, 3);
        world.archive_records(1, P, 5);
        (0..5).try_for_each(|_| world.archive(0, P))?;
        world.archive_records(0, P, 2);
        (0..3).try_for_each(|_| world.archive(1, P))?;
        (0..2).try_for_each(|_| world.archive(0, P))?;
        if world.warehouse.end(P) == Offset(5) { Ok(()) } else { Err(format!("archived up to {}", world.warehouse.end(P))) }
    };
    case_22_a_partition_is_stolen_before_anything_of_it_was_folded [] |world| {
        world.open(0)?;
        world.produce(P, 2);
        world.flow(0)?;
        world.rebalance(Q, 1, false)?;
        world.produce(Q, 2);
        world.produce(P, 1);
        world.flow(1)?;
        world.fold(0, P, 1);
        world.flush(0)?;
        world.refresh(0)?;
        world.expect_at("view", [3, 2])
    };
    case_23_a_quiet_topic_stalls_no_cut [] |world| {
        world.begun()?;
        for cut in 1..=3 {
            world.version()?;
            if world.database.cut_finished != CutNumber(cut) {
                return Err(format!("cut {cut} is not finished: {}", world.database.cut_finished));
            }
        }
        Ok(())
    };
    case_24_a_repaired_definition_joins_after_a_cut_in_which_all_failed [] |world| {
        world.begun()?;
        world.version_but(&["view", "other"])?;
        if world.database.cut_finished != CutNumber(0) {
            return Err("a cut in which every view failed is not finished".to_owned());
        }
        world.apply("view", "view 2");
        world.flush(0)?;
        world.version()?;
        if world.database.views["view"].serving == fingerprint("view 2") { Ok(()) } else { Err("the repaired view is not switched in".to_owned()) }
    };
    case_25_a_cut_is_raised_between_reading_it_and_locking [CutWantedUnderLock] |world| {
        world.begun()?;
        world.rebalance(Q, 1, true)?;
        world.read_cut_early(0);
        world.begin(0);
        world.take_cut(0, false)?;
        world.flush(1)?;
        world.produce(Q, 2);
        world.flow(1)?;
        world.rebalance(Q, 0, true)?;
        world.events(1)?;
        world.refresh(0)?;
        world.take_cut(0, true)?;
        world.take_cut(0, true)?;
        world.archive_everything()?;
        world.build(0, &[])?;
        world.publish(0)?;
        world.read(0)
    };
    case_26_batch_goes_past_one_partition_of_an_epoch [] |world| {
        world.begun()?;
        world.version()?;
        world.read(0)?;
        world.produce(P, 3);
        world.archive_everything()?;
        world.begin(0);
        world.take_cut(0, false)?;
        world.take_cut(0, true)?;
        world.take_cut(0, true)?;
        world.flow(0)?;
        world.flow(0)?;
        world.events(1)?;
        world.refresh(0)?;
        world.build(0, &[])?;
        world.publish(0)?;
        world.read(0)?;
        world.expect_at("view", [6, 3])
    };
    case_27_one_partition_of_a_flush_is_fenced [FlushWholeOrNothing] |world| {
        world.begun()?;
        world.rebalance(Q, 1, false)?;
        PARTITIONS.into_iter().for_each(|partition| world.produce(partition, 1));
        world.flow(0)?;
        world.flow(1)?;
        world.flow(0)?;
        world.refresh(0)?;
        world.flow(0)?;
        world.refresh(0)?;
        world.expect_at("view", [3, 3])
    };
    case_28_a_cut_flush_checks_the_quiet_partition_that_was_stolen [CutFlushOwnsAll] |world| {
        world.begun()?;
        world.rebalance(Q, 1, false)?;
        world.produce(Q, 2);
        world.flow(1)?;
        world.begin(0);
        world.take_cut(0, false)?;
        world.produce(P, 1);
        world.fold(0, P, 1);
        world.flush(0)?;
        world.produce(Q, 1);
        world.flow(0)?;
        world.flow(0)?;
        world.refresh(0)
    };
    case_30_a_definition_is_switched_in_while_an_epoch_lacks_it [SwitchOnlyWhenFolded] |world| {
        world.begun()?;
        world.version()?;
        world.read(0)?;
        world.apply("view", "view 2");
        world.begin(0);
        let coverage = world.database.answers[&CutNumber(1)].clone();
        world.settle_on(0, CutNumber(1), coverage);
        world.build(0, &[])?;
        // The worker has not looked yet: its open epoch lacks the new definition.
        PARTITIONS.into_iter().for_each(|partition| world.produce(partition, 2));
        PARTITIONS.into_iter().for_each(|partition| world.fold(0, partition, 2));
        world.database.definitions -= 1;
        world.flush(0)?;
        world.database.definitions += 1;
        world.refresh(0)?;
        world.publish(0)?;
        world.read(0)
    };
    case_30_a_definition_is_switched_in_below_an_epoch_that_lacked_it [UnbrokenChain] |world| {
        world.begun()?;
        world.version()?;
        world.events(2)?;
        world.read(0)?;
        world.apply("view", "view 2");
        world.events(2)?;
        world.refresh(0)?;
        world.begin(0);
        let coverage = world.database.answers[&CutNumber(1)].clone();
        world.settle_on(0, CutNumber(1), coverage);
        world.build(0, &[])?;
        world.publish(0)?;
        world.read(0)
    };
    case_31_a_view_joins_when_one_partition_has_been_read [] |world| {
        world.open(0)?;
        world.produce(P, 2);
        world.flow(0)?;
        world.apply("third", "third");
        world.events(1)?;
        world.events(1)?;
        world.refresh(0)?;
        match world.readers[0].answers.get("third") {
            None => Ok(()),
            Some(answer) => Err(format!("a view without its history answers at {:?}", answer.offsets)),
        }
    };
    case_32_batch_cuts_a_partition_that_answered_meanwhile [SilentCutOnlyUnanswered] |world| {
        world.begun()?;
        world.begin(0);
        world.take_cut(0, false)?;
        let CutStep::Await(cut, missing) = world.look(&world.database.wanted()) else { return Err("nobody has answered yet".to_owned()) };
        world.flush(0)?;
        world.events(2)?;
        world.refresh(0)?;
        world.cut_silent(cut, &missing[..1]);
        world.take_cut(0, false)?;
        world.archive_everything()?;
        world.build(0, &[])?;
        world.publish(0)?;
        world.read(0)
    };
    case_32_batch_cuts_and_leaves_the_epoch_in_place [SilentCutFences] |world| {
        world.begun()?;
        world.produce(P, 2);
        world.fold(0, P, 2);
        world.begin(0);
        world.take_cut(0, false)?;
        world.take_cut(0, true)?;
        world.flush(0)?;
        world.refresh(0)
    };
    case_35_a_definition_is_dropped_and_applied_again [] |world| {
        world.begun()?;
        world.read(0)?;
        world.drop_view("other");
        // An open epoch still holds it: its rows stay.
        world.drop_left();
        world.apply("other", "other");
        world.refresh(0)?;
        world.expect_at("other", [2, 2])?;
        world.drop_view("other");
        world.events(1)?;
        world.flow(0)?;
        world.drop_left();
        world.apply("other", "other");
        world.events(1)?;
        world.refresh(0)?;
        match world.readers[0].answers.get("other") {
            None => Ok(()),
            Some(answer) => Err(format!("a view whose rows are gone answers at {:?}", answer.offsets)),
        }
    };
    a_flush_compares_the_owner_not_the_offset_alone [FlushOwner] |world| {
        world.begun()?;
        PARTITIONS.into_iter().for_each(|partition| world.produce(partition, 2));
        PARTITIONS.into_iter().for_each(|partition| world.fold(0, partition, 2));
        world.rebalance(P, 1, false)?;
        world.rebalance(Q, 1, false)?;
        world.begin(0);
        world.take_cut(0, false)?;
        world.flush(1)?;
        world.flush(0)?;
        world.take_cut(0, false)?;
        world.archive_everything()?;
        world.build(0, &[])?;
        world.publish(0)?;
        world.read(0)
    };
    rows_and_offset_move_in_one_transaction [RowsAndOffsetTogether] |world| {
        world.begun()?;
        world.flush(0)?;
        world.events(2)?;
        world.workers[0].crash();
        world.flush(0)?;
        world.flow(0)?;
        world.refresh(0)
    };
    a_coverage_is_the_offsets_of_a_cut [CoverageAtCut] |world| {
        world.begun()?;
        world.version()?;
        world.read(0)?;
        world.begin(0);
        world.take_cut(0, false)?;
        world.flush(0)?;
        world.events(2)?;
        world.take_cut(0, false)?;
        world.events(1)?;
        world.refresh(0)?;
        world.archive_everything()?;
        world.build(0, &[])?;
        world.publish(0)?;
        world.read(0)
    };
    a_partition_without_an_answer_has_not_answered [MissingAnswerIsNoAnswer] |world| {
        world.begun()?;
        world.refresh(0)?;
        world.begin(0);
        world.take_cut(0, false)?;
        world.rebalance(P, 1, false)?;
        world.take_cut(0, false)?;
        world.archive_everything()?;
        world.build(0, &[])?;
        world.publish(0)?;
        world.read(0)
    };
    a_cut_is_answered_once [CutAnsweredOnce] |world| {
        world.begun()?;
        world.begin(0);
        world.take_cut(0, false)?;
        world.flush(0)?;
        world.events(2)?;
        world.refresh(0)?;
        world.rebalance(P, 1, false)?;
        world.begin(0);
        world.take_cut(0, false)?;
        world.archive_everything()?;
        world.build(0, &[])?;
        world.publish(0)?;
        world.read(0)
    };
    a_reader_sees_a_hole_in_the_flush_numbers [FlushNumbersWithoutHole] |world| {
        world.begun()?;
        world.refresh(0)?;
        world.produce(P, 2);
        world.fold(0, P, 1);
        world.flush(0)?;
        world.forget_flushes();
        world.fold(0, P, 1);
        world.flush(0)?;
        world.refresh(0)?;
        world.expect_at("view", [4, 2])
    };
}
