//! What a view's answers are computed from.

use std::{collections::BTreeMap, sync::Arc};

use anabranch_core::{Coverage, OffsetRange, Partition, definition::View, protocol::RunId};
use anabranch_views::{Columns, Row, table::TableError};

use crate::{
    live::{Dead, Level},
    version::Version,
};

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

    /// The groups of the version, then the live ones, with those that were replaced. A group may be in several: merging makes it one.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (&Columns, Option<&Dead>)> {
        let parts = self.version.iter().flat_map(|version| version.parts.values()).map(|part| (part.as_ref(), None));
        parts.chain(self.live.iter().flatten().map(|level| (level.columns.as_ref(), Some(level.dead.as_ref()))))
    }

    /// All rows, one by one; for views with few.
    ///
    /// # Errors
    /// When one holds what is not a sketch.
    pub(crate) fn rows(&self) -> Result<Vec<Row>, TableError> {
        let alive = |(columns, dead): (&Columns, Option<&Dead>)| {
            let rows = (0..columns.len()).filter(|row| !dead.is_some_and(|dead| dead.contains(*row)));
            rows.map(|row| columns.row(&self.view, row)).collect::<Vec<_>>()
        };
        self.tables().flat_map(alive).collect()
    }

    /// The groups of each part of the version.
    #[must_use]
    pub fn part_counts(&self) -> BTreeMap<&str, usize> {
        self.version.iter().flat_map(|version| &version.parts).map(|(name, part)| (name.as_str(), part.len())).collect()
    }

    /// The groups of each live epoch.
    #[must_use]
    pub fn live_counts(&self) -> Vec<usize> {
        self.live.iter().map(|levels| levels.iter().map(Level::alive).sum()).collect()
    }

    /// How many groups the version and the live rows hold.
    #[must_use]
    pub fn group_counts(&self) -> (usize, usize) {
        let version = self.version.iter().flat_map(|version| version.parts.values()).map(|part| part.len()).sum();
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
