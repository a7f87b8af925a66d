//! Runs, definitions and readers: what is published, and what an answer may merge.

use super::*;
use crate::protocol::CutNumber;

cases! {
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
