//! Publication: a run's result becomes a view's version, if the world is still the one that the run read.

use thiserror::Error;

use super::{
    Epoch, RunId,
    guard::{Guard, holds},
};
use crate::{Coverage, definition::Fingerprint};

/// What a run wants to publish for one view.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The run.
    pub run: RunId,
    /// What it built.
    pub fingerprint: Fingerprint,
    /// What the result includes.
    pub coverage: Coverage,
    /// The version of this fingerprint on which it is based, or that it read to compare.
    pub read: Option<RunId>,
}

/// What the source's row and its neighbours say, read under the source's lock.
#[derive(Clone, Copy, Debug)]
pub struct Ground<'a> {
    /// The run that may publish.
    pub running: Option<RunId>,
    /// The definition that the view shall have.
    pub wanted: Option<&'a Fingerprint>,
    /// The definition by which it is answered.
    pub serving: Option<&'a Fingerprint>,
    /// The current version of the candidate's fingerprint.
    pub current: Option<(RunId, &'a Coverage)>,
    /// The epochs of the source.
    pub epochs: &'a [Epoch],
}

/// Why a result was not published; the view keeps its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// A later run took over.
    #[error("another run has taken over")]
    NotRunning,
    /// Somebody published this definition meanwhile.
    #[error("another version was published meanwhile")]
    VersionMoved,
    /// The definition was dropped or replaced.
    #[error("the definition is no longer wanted")]
    NotWanted,
    /// It would take an answer back.
    #[error("the coverage lies below the current one")]
    CoverageDecreases,
    /// An epoch above the coverage does not fold the new definition yet; tried again at the next cut.
    #[error("not every epoch folds the new definition yet")]
    NotYetFolded,
}

/// Whether a run is still the one that may publish: the last that began.
///
/// # Errors
/// [`Refused::NotRunning`]; nothing of the run may be written.
pub fn may_publish(run: RunId, running: Option<RunId>) -> Result<(), Refused> {
    if running != Some(run) && holds(Guard::PublicationChecks) { Err(Refused::NotRunning) } else { Ok(()) }
}

/// Whether `candidate` may become the version of its view; true = it also takes the place of another definition.
///
/// # Errors
/// [`Refused`]; nothing of this view may be written.
pub fn publish(candidate: &Candidate, ground: Ground<'_>) -> Result<bool, Refused> {
    may_publish(candidate.run, ground.running)?;
    if holds(Guard::PublicationChecks) {
        if ground.current.map(|(run, _)| run) != candidate.read {
            return Err(Refused::VersionMoved);
        }
        if ground.wanted != Some(&candidate.fingerprint) && ground.serving != Some(&candidate.fingerprint) {
            return Err(Refused::NotWanted);
        }
    }
    let decreases = ground.current.is_some_and(|(_, current)| !candidate.coverage.reaches(current));
    if decreases && holds(Guard::CoverageNeverDecreases) && holds(Guard::PublicationChecks) {
        return Err(Refused::CoverageDecreases);
    }
    let switches = ground.serving.is_some_and(|serving| *serving != candidate.fingerprint);
    if switches {
        let lacking = |epoch: &Epoch| !epoch.definitions.contains(&candidate.fingerprint);
        let ends_above = |epoch: &Epoch| !epoch.is_open() && !epoch.lies_below(&candidate.coverage);
        let broken = holds(Guard::UnbrokenChain) && ground.epochs.iter().any(|epoch| lacking(epoch) && ends_above(epoch));
        let open = holds(Guard::SwitchOnlyWhenFolded) && ground.epochs.iter().any(|epoch| lacking(epoch) && epoch.is_open());
        if broken || open {
            return Err(Refused::NotYetFolded);
        }
    }
    Ok(switches)
}

/// Whether a run is done with its cut: a view stands on it, or there was nothing to publish. Else the next run takes the
/// cut again, so that none can stall (case 23) and a repaired definition finds one (case 24).
#[must_use]
pub fn finishes(published: usize, failed: usize, refused: &[Refused]) -> bool {
    published > 0 || (failed == 0 && refused.iter().all(|refused| *refused == Refused::NotYetFolded))
}
