//! The guards of the protocol, by name, so that the model can drop them one by one.
//!
//! In the program every guard holds; the compiler sees a constant. The feature `dropped-guards`, for tests alone, makes
//! the real program drop the one that `ANABRANCH_WITHOUT` names.

/// A check without which the protocol gives a wrong answer in some schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(not(test), expect(dead_code, reason = "the model alone names the guards of steps that it performs by itself"))]
pub(crate) enum Guard {
    FlushCompareAndSet,
    FlushOwner,
    RowsAndOffsetTogether,
    CoverageAtCut,
    PruneByPreviousVersion,
    PrunePerView,
    UnbrokenChain,
    OffsetsFromChain,
    CoverageNeverDecreases,
    PublicationChecks,
    MirrorKnowsPruned,
    MirrorKnowsIdentity,
    RenameNeverOverwrites,
    SecondListing,
    ReadersClip,
    CutAnsweredOnce,
    FlushWholeOrNothing,
    CutFlushOwnsAll,
    SilentCutOnlyUnanswered,
    SilentCutFences,
    CutWantedUnderLock,
    MissingAnswerIsNoAnswer,
    SwitchOnlyWhenFolded,
    FlushNumbersWithoutHole,
}

/// Every guard: each must be needed by a case of the model.
#[cfg(test)]
pub(crate) const ALL: [Guard; 24] = [
    Guard::FlushCompareAndSet,
    Guard::FlushOwner,
    Guard::RowsAndOffsetTogether,
    Guard::CoverageAtCut,
    Guard::PruneByPreviousVersion,
    Guard::PrunePerView,
    Guard::UnbrokenChain,
    Guard::OffsetsFromChain,
    Guard::CoverageNeverDecreases,
    Guard::PublicationChecks,
    Guard::MirrorKnowsPruned,
    Guard::MirrorKnowsIdentity,
    Guard::RenameNeverOverwrites,
    Guard::SecondListing,
    Guard::ReadersClip,
    Guard::CutAnsweredOnce,
    Guard::FlushWholeOrNothing,
    Guard::CutFlushOwnsAll,
    Guard::SilentCutOnlyUnanswered,
    Guard::SilentCutFences,
    Guard::CutWantedUnderLock,
    Guard::MissingAnswerIsNoAnswer,
    Guard::SwitchOnlyWhenFolded,
    Guard::FlushNumbersWithoutHole,
];

/// Whether `guard` holds; always, outside the model.
#[cfg(not(any(test, feature = "dropped-guards")))]
#[inline]
pub(crate) const fn holds(_guard: Guard) -> bool {
    true
}

#[cfg(all(feature = "dropped-guards", not(test)))]
#[expect(clippy::disallowed_methods, reason = "the tests say by the environment which guard to drop")]
pub(crate) fn holds(guard: Guard) -> bool {
    static DROPPED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    DROPPED.get_or_init(|| std::env::var("ANABRANCH_WITHOUT").ok()).as_ref().is_none_or(|dropped| *dropped != format!("{guard:?}"))
}

#[cfg(test)]
pub(crate) use dropping::{holds, without};

#[cfg(test)]
mod dropping {
    use std::cell::Cell;

    use super::Guard;

    thread_local! {
        static DROPPED: Cell<Option<Guard>> = const { Cell::new(None) };
    }

    pub(crate) fn holds(guard: Guard) -> bool {
        DROPPED.get() != Some(guard)
    }

    /// Runs `body` on this thread with one guard dropped, or with none.
    pub(crate) fn without<T>(guard: Option<Guard>, body: impl FnOnce() -> T) -> T {
        let before = DROPPED.replace(guard);
        let result = body();
        DROPPED.set(before);
        result
    }
}
