//! What a view's answers are computed from.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anabranch_core::{Coverage, OffsetRange, Partition, definition::View, protocol::RunId};
use anabranch_views::{Columns, Row};
use thiserror::Error;

use crate::{
    live::{Dead, Level},
    version::{Held, Version},
};

/// The ages by which late groups are counted.
const LATE_MS: [(&str, i64); 3] = [("1h", 3_600_000), ("1d", 86_400_000), ("7d", 7 * 86_400_000)];

/// A version holds what cannot be read.
#[derive(Debug, Error)]
#[error("a version holds what cannot be read: {0}")]
pub(crate) struct Unreadable(pub(crate) String);

/// What a view's answers are computed from: complete, immutable, shared.
#[derive(Clone, Debug)]
pub struct Answerable {
    /// The view.
    pub view: Arc<View>,
    /// The run of the loaded version.
    pub run: Option<RunId>,
    /// What the version includes.
    pub coverage: Coverage,
    /// *o*: an answer equals the fold of all records below.
    pub offsets: Coverage,
    /// Records that Kafka has above the offsets; nothing while nobody looks.
    pub lag_records: Option<i64>,
    /// For how long speed had written nothing of some partition when this was read, milliseconds.
    pub speed_silent_ms: Option<i64>,
    /// How old the version was when this was read, milliseconds.
    pub version_age_ms: Option<i64>,
    /// When this was read, milliseconds since 1970.
    pub refreshed_ms: i64,
    /// Ranges below the coverage whose records nobody has any more: the answer is without them.
    pub lost: Vec<(Partition, OffsetRange)>,
    pub(crate) version: Option<Arc<Version>>,
    /// The levels of each epoch.
    pub(crate) live: Vec<Vec<Level>>,
}

impl Answerable {
    /// A version alone, without live rows.
    pub(crate) fn of_version(view: Arc<View>, version: Arc<Version>, age_ms: i64, lost: Vec<(Partition, OffsetRange)>, now_ms: i64) -> Self {
        let coverage = version.coverage.clone();
        Self {
            view,
            run: Some(version.run),
            offsets: coverage.clone(),
            lag_records: None,
            speed_silent_ms: None,
            version_age_ms: Some(age_ms),
            refreshed_ms: now_ms,
            lost: lost.into_iter().filter(|(partition, range)| coverage.get(*partition).is_some_and(|end| range.start < end)).collect(),
            coverage,
            version: Some(version),
            live: Vec::new(),
        }
    }

    /// Takes the groups of the version, then the live ones, with those that were replaced. A group may be in several: merging makes
    /// it one. What lies in files is read as far as it may be of the range, with the accumulators that are wanted alone.
    ///
    /// # Errors
    /// When a file cannot be read, or `take` fails.
    pub(crate) fn tables<E: From<Unreadable>>(
        &self,
        range_micros: Option<(i64, i64)>,
        wanted: Option<&BTreeSet<usize>>,
        mut take: impl FnMut(&Columns, Option<&Dead>) -> Result<(), E>,
    ) -> Result<(), E> {
        for part in self.version.iter().flat_map(|version| version.parts.values()) {
            match part {
                Held::Memory(columns) => take(columns, None)?,
                Held::Local(part) => {
                    for columns in part.columns(&self.view, range_micros, wanted) {
                        take(&columns.map_err(|error| Unreadable(format!("{error:#}")))?, None)?;
                    }
                }
            }
        }
        self.live.iter().flatten().try_for_each(|level| take(&level.columns, Some(&level.dead)))
    }

    /// All rows, one by one; for views with few.
    ///
    /// # Errors
    /// When a file cannot be read, or a row holds what is not a sketch.
    pub(crate) fn rows(&self) -> Result<Vec<Row>, Unreadable> {
        let mut rows = Vec::new();
        self.tables(None, None, |columns, dead| {
            for row in (0..columns.len()).filter(|row| !dead.is_some_and(|dead| dead.contains(*row))) {
                rows.push(columns.row(&self.view, row).map_err(|error| Unreadable(error.to_string()))?);
            }
            Ok::<_, Unreadable>(())
        })?;
        Ok(rows)
    }

    /// The groups of each part of the version.
    #[must_use]
    pub fn part_counts(&self) -> BTreeMap<&str, usize> {
        self.version.iter().flat_map(|version| &version.parts).map(|(name, part)| (name.as_str(), part.groups())).collect()
    }

    /// Whether the version is held in memory.
    #[must_use]
    pub fn is_in_memory(&self) -> bool {
        self.version.iter().flat_map(|version| version.parts.values()).all(|part| matches!(part, Held::Memory(_)))
    }

    /// The groups of each live epoch.
    #[must_use]
    pub fn live_counts(&self) -> Vec<usize> {
        self.live.iter().map(|levels| levels.iter().map(Level::alive).sum()).collect()
    }

    /// How many live groups have buckets that began longer before `now_ms` than each of these: records came late for them, and the
    /// version is without them. Empty where the view has no buckets.
    #[must_use]
    pub fn late_groups(&self, now_ms: i64) -> BTreeMap<&'static str, usize> {
        let older_than = |age_ms: i64| self.live.iter().flatten().map(|level| level.until((now_ms - age_ms) * 1000)).sum();
        self.view.bucket.iter().flat_map(|_| LATE_MS).map(|(name, age_ms)| (name, older_than(age_ms))).collect()
    }

    /// How many groups the version and the live rows hold.
    #[must_use]
    pub fn group_counts(&self) -> (usize, usize) {
        let version = self.version.iter().flat_map(|version| version.parts.values()).map(Held::groups).sum();
        (version, self.live_counts().into_iter().sum())
    }
}

/// Whether and how a view can be answered.
#[derive(Clone, Debug)]
pub enum ViewState {
    /// It can.
    Ready(Arc<Answerable>),
    /// Its history is being computed.
    BeingBuilt(Arc<View>),
}

impl ViewState {
    /// Its definition.
    #[must_use]
    pub fn view(&self) -> &Arc<View> {
        match self {
            Self::Ready(answerable) => &answerable.view,
            Self::BeingBuilt(view) => view,
        }
    }
}
