//! Guards of the protocol, dropped one by one in the real program on real servers: each is missed within seconds.
//!
//! The topic's records are clicks on a page named after their partition, so that an answer is right exactly when each page
//! has as many clicks as its partition has offsets below the answer's.
#![expect(clippy::print_stdout, reason = "the table of what was noticed")]

#[path = "guards/play.rs"]
mod play;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anabranch_e2e::{
    clicks::LIMIT,
    eventually,
    servers::{self, Server},
};
use anyhow::{Context, Result, bail, ensure};
use play::{
    Caught, FOLDED, Play,
    Schedule::{self, *},
    caught,
};

macro_rules! schedules {
    ($($name:ident: $schedule:ident without [$($guard:literal),*];)*) => {
        const DROPPED: &[&str] = &[$($($guard),*),*];

        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() -> Result<()> {
            is_noticed($schedule, &[$($guard),*]).await
        })*
    };
}

schedules! {
    another_worker_takes_over: TakenOver without ["FlushCompareAndSet", "FlushOwner", "FlushWholeOrNothing"];
    another_worker_takes_a_quiet_partition_over: QuietTakenOver without ["CutFlushOwnsAll"];
    a_worker_opens_again: OpenedAgain without ["CutAnsweredOnce"];
    batch_cuts_in_silence: CutInSilence without ["SilentCutFences"];
    a_worker_answers_meanwhile: AnsweredMeanwhile without ["SilentCutOnlyUnanswered"];
    a_cut_is_taken_again: CutTakenAgain without ["CoverageAtCut"];
    half_of_a_cut_is_answered: HalfAnswered without ["MissingAnswerIsNoAnswer"];
    a_reader_is_slow: SlowReader without ["PruneByPreviousVersion"];
    a_reader_sleeps: SleepingReader without ["MirrorKnowsPruned"];
    a_version_has_a_gap_before_it: GapBehindVersion without ["OffsetsFromChain"];
    a_flush_is_forgotten: ForgottenFlush without ["FlushNumbersWithoutHole"];
    a_definition_is_switched_below_an_epoch: SwitchedBelowEpoch without ["UnbrokenChain"];
    a_definition_is_switched_beside_an_epoch: SwitchedBesideEpoch without ["SwitchOnlyWhenFolded"];
    a_run_sleeps: SleepingRun without ["PublicationChecks"];
    an_answer_is_low: LowAnswer without ["CoverageNeverDecreases"];
}

/// No schedule of the program can need these yet: there is no compaction, and pruning never looks at other views.
const MODEL_ALONE: [&str; 3] = ["SecondListing", "ReadersClip", "PrunePerView"];

#[test]
fn every_condition_of_the_program_is_dropped_here_or_in_the_model_alone() -> Result<()> {
    let mut used = BTreeSet::new();
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../core/src/protocol"))? {
        let text = std::fs::read_to_string(entry?.path()).unwrap_or_default();
        used.extend(text.split("holds(Guard::").skip(1).filter_map(|rest| rest.split(')').next()).map(ToOwned::to_owned));
    }
    let here = DROPPED.iter().chain(&MODEL_ALONE).map(ToString::to_string);
    assert_eq!(used, here.collect());
    Ok(())
}

/// The schedule is survived with every guard, and without one of these it is not.
async fn is_noticed(schedule: Schedule, guards: &[&str]) -> Result<()> {
    servers::start_all()?;
    perform(schedule, None).await.context("every guard holds")?;
    for guard in guards {
        let began = Instant::now();
        match perform(schedule, Some(guard)).await {
            Ok(()) => bail!("nobody notices that {guard} is dropped"),
            Err(error) => match error.downcast_ref::<Caught>() {
                Some(found) => println!("| `{guard}` | {schedule:?} | {found} | {:.1} s |", began.elapsed().as_secs_f64()),
                None => return Err(error.context(format!("without {guard}"))),
            },
        }
    }
    Ok(())
}

async fn perform(schedule: Schedule, guard: Option<&str>) -> Result<()> {
    let mut play = Play::begin(guard).await?;
    let performed = match schedule {
        TakenOver | QuietTakenOver | OpenedAgain => workers(&mut play, schedule).await,
        CutInSilence | AnsweredMeanwhile | HalfAnswered => cuts(&mut play, schedule).await,
        CutTakenAgain | LowAnswer => cuts_again(&mut play, schedule).await,
        SlowReader | SleepingReader | GapBehindVersion | ForgottenFlush => readers(&mut play, schedule).await,
        SwitchedBelowEpoch | SwitchedBesideEpoch | SleepingRun => runs(&mut play, schedule).await,
    };
    Server::NameNode.resume()?;
    performed
}

async fn workers(play: &mut Play, schedule: Schedule) -> Result<()> {
    match schedule {
        TakenOver => {
            play.folded_and_not_flushed(&[3, 3]).await?;
            play.take_over(0, Some(1), 0).await?;
            play.settle().await?;
            play.run(&["recompute"])?;
        }
        QuietTakenOver => {
            play.folded_and_not_flushed(&[3, 0]).await?;
            play.speed.pause()?;
            play.events(&[0, 2])?;
            play.take_over(1, Some(1), 2).await?;
            // It flushes as soon as it continues, before Kafka has told it of the two.
            tokio::time::sleep(Duration::from_secs(3)).await;
            play.speed.signal("CONT")?;
        }
        _ => {
            play.run(&["recompute"])?;
            let again = play.stage.start(&["speed"])?;
            std::mem::replace(&mut play.speed, again).kill()?;
        }
    }
    play.events(&[1, 1])?;
    play.settle().await
}

async fn cuts(play: &mut Play, schedule: Schedule) -> Result<()> {
    match schedule {
        CutInSilence => {
            // The archive stands where speed has flushed, and the worker holds three records more.
            loop {
                play.archived().await?;
                play.archive.pause()?;
                let before = play.flushed_records().await?;
                play.events(&[3, 3])?;
                tokio::time::sleep(FOLDED).await;
                play.speed.pause()?;
                if play.flushed_records().await? == before {
                    break;
                }
                play.speed.signal("CONT")?;
                play.archive.signal("CONT")?;
                play.flushed().await?;
            }
            play.run(&["recompute"])?;
            play.speed.signal("CONT")?;
            play.archive.signal("CONT")?;
        }
        AnsweredMeanwhile => {
            play.archived().await?;
            play.speed.pause()?;
            let mut run = play.stage.start(&["recompute"])?;
            eventually("the cut is raised", LIMIT, || async { Ok((play.cut_wanted().await? == 1).then_some(())) }).await?;
            tokio::time::sleep(Duration::from_secs(8)).await;
            let holder = play.stage.database().await?;
            holder.batch_execute("BEGIN; SELECT 1 FROM partition ORDER BY partition FOR UPDATE").await?;
            let waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
            eventually("batch waits for the rows", LIMIT, || async { Ok(play.database.query_opt(waiting, &[]).await?) }).await?;
            let answer = "INSERT INTO cut_offset SELECT source, 1, partition, next_offset FROM partition; UPDATE partition SET cut = 1; COMMIT";
            holder.batch_execute(answer).await?;
            let status = run.wait(LIMIT).await?;
            if !status.success() {
                return caught(format!("a run that ends with {status}: the primary key of cut_offset"));
            }
            play.speed.signal("CONT")?;
        }
        _ => {
            play.archived().await?;
            play.speed.pause()?;
            play.take_over(0, Some(1), 0).await?;
            play.run(&["recompute"])?;
            play.speed.signal("CONT")?;
        }
    }
    play.events(&[1, 1])?;
    play.settle().await
}

async fn cuts_again(play: &mut Play, schedule: Schedule) -> Result<()> {
    match schedule {
        CutTakenAgain => {
            play.archived().await?;
            play.archive.pause()?;
            play.events(&[2, 2])?;
            play.settle().await?;
            let run = play.stage.start(&["recompute"])?;
            play.answered(1).await?;
            run.kill()?;
            play.events(&[3, 3])?;
            play.settle().await?;
            play.archive.signal("CONT")?;
            play.run(&["recompute"])?;
        }
        _ => {
            play.run(&["recompute"])?;
            play.events(&[2, 2])?;
            play.settle().await?;
            play.archive.pause()?;
            play.events(&[2, 2])?;
            play.settle().await?;
            let run = play.stage.start(&["recompute"])?;
            play.answered(2).await?;
            run.kill()?;
            play.database.execute("UPDATE cut_offset SET \"offset\" = 4 WHERE cut = 2", &[]).await?;
            play.archive.signal("CONT")?;
            let (code, text) = play.stage.run(&["recompute"])?;
            if code == Some(0) {
                play.events(&[1, 1])?;
                play.settle().await?;
            }
            ensure!(text.contains("below the current one"), "{text}");
            return play.settle().await;
        }
    }
    play.events(&[1, 1])?;
    play.settle().await
}

async fn readers(play: &mut Play, schedule: Schedule) -> Result<()> {
    if matches!(schedule, ForgottenFlush) {
        play.serving.pause()?;
        play.events(&[2, 0])?;
        play.flushed().await?;
        play.events(&[0, 2])?;
        play.flushed().await?;
        let first = "DELETE FROM flush WHERE (epoch, flush) IN (SELECT epoch, max(flush) - 1 FROM flush GROUP BY epoch)";
        ensure!(play.database.execute(first, &[]).await? > 0, "a flush is forgotten");
        play.serving.signal("CONT")?;
        return play.settle().await;
    }
    play.run(&["recompute"])?;
    play.settle().await?;
    play.versioned().await?;
    match schedule {
        SlowReader => {
            play.events(&[2, 2])?;
            play.settle().await?;
            play.serving.pause()?;
            play.run(&["recompute"])?;
            play.events(&[2, 2])?;
            play.flushed().await?;
        }
        SleepingReader => {
            play.serving.pause()?;
            for other in ["other", "another"] {
                play.events(&[2, 2])?;
                play.flushed().await?;
                // Another view needs the epoch for longer, so that it stays when its rows are gone.
                let sql = "UPDATE epoch SET definitions = definitions || $1::text WHERE id IN (SELECT epoch FROM epoch_range WHERE \"end\" IS NULL)";
                play.database.execute(sql, &[&other]).await?;
                play.run(&["recompute"])?;
            }
            // So old that the log of flushes has forgotten them.
            play.database.execute("DELETE FROM flush", &[]).await?;
        }
        _ => {
            play.speed.pause()?;
            play.events(&[3, 0])?;
            play.archived().await?;
            play.serving.pause()?;
            play.run(&["recompute"])?;
        }
    }
    Server::NameNode.pause()?;
    play.serving.signal("CONT")?;
    if matches!(schedule, SlowReader) {
        // It goes on without the newest version.
        play.settle().await?;
    } else {
        // It stands, right, until it can load what is current.
        play.stand().await?;
    }
    Server::NameNode.resume()?;
    play.speed.signal("CONT")?;
    play.events(&[1, 1])?;
    play.settle().await
}

async fn runs(play: &mut Play, schedule: Schedule) -> Result<()> {
    play.run(&["recompute"])?;
    play.events(&[2, 2])?;
    play.settle().await?;
    match schedule {
        SwitchedBelowEpoch => {
            play.change_view()?;
            play.events(&[2, 2])?;
            play.settle().await?;
            play.run(&["recompute", "--full"])?;
        }
        SwitchedBesideEpoch => {
            play.speed.pause()?;
            play.change_view()?;
            play.run(&["recompute", "--full"])?;
            play.stand().await?;
            play.speed.signal("CONT")?;
        }
        _ => {
            // It waits for the archive, then sleeps for longer than its lease.
            play.archive.pause()?;
            play.events(&[2, 2])?;
            play.settle().await?;
            let mut sleeping = play.stage.start(&["recompute"])?;
            play.answered(2).await?;
            play.pause_outside_transactions(&sleeping).await?;
            play.archive.signal("CONT")?;
            for _ in 0..2 {
                play.run(&["recompute"])?;
                play.events(&[2, 2])?;
                play.settle().await?;
            }
            sleeping.signal("CONT")?;
            let status = sleeping.wait(LIMIT).await?;
            if status.success() {
                return caught("a run that publishes after another took over".to_owned());
            }
            let log = sleeping.log()?;
            ensure!(log.contains("another run has taken over"), "the run that slept ended otherwise: {log}");
        }
    }
    play.events(&[1, 1])?;
    play.settle().await?;
    play.run(&["recompute"])?;
    play.settle().await
}
