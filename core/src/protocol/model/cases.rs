//! The schedules that broke earlier drafts, by their numbers; each holds, and fails without the guards that it names.
//!
//! Not here, because the model has no texts, locks or bytes: 8 (`layout.rs`), 11 (`e2e`), 12, 14, 15, 19, 33 and 34 (the
//! speed layer's tests on PostgreSQL), 20 (the parts of batch), 21 (the states of views).

use super::*;
use crate::protocol::guard::{ALL, without};

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

        pub(super) const NEEDED: &[&[Guard]] = &[$(&[$(Guard::$guard),*]),*];
    };
}

mod reading;
mod writing;

#[test]
fn every_guard_is_needed_by_a_case() {
    let needed: BTreeSet<&Guard> = writing::NEEDED.iter().chain(reading::NEEDED).copied().flatten().collect();
    let free: Vec<&Guard> = ALL.iter().filter(|guard| !needed.contains(guard)).collect();
    assert!(free.is_empty(), "no case needs {free:?}");
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
