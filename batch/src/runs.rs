//! A run: one cut, one scan of the archive, all views of a source, one publishing transaction.
//!
//! | file | step |
//! |---|---|
//! | `turn.rs` | one run of a source after the other; the row of a run |
//! | `targets.rs` | the views of a run, and where each begins |
//! | `cut.rs` | take or raise a cut, wait until speed answered it and the archive reached it |
//! | `scan.rs` | archive files → states, row group by row group |
//! | `raw.rs` | records from raw values |
//! | `reference.rs` | rows of a reference → states |
//! | `spill.rs` | states that memory does not hold, in local files by part |
//! | `parts.rs` | states → parts and a manifest, and back |
//! | `audit.rs` | a full result against the kept one, cell by cell |
//! | `publish.rs` | the versions, under the source's lock |
//! | `window.rs` | the days that an audit looks at |
//! | `prune.rs` | live rows that every reader has in a version |

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use anabranch_core::{
    Coverage,
    definition::{Fingerprint, View},
    protocol::{CutNumber, RunId},
};
use anabranch_process::{
    Catalog, Settings, Warehouse,
    catalog::{
        definitions::{self, SourceDefinitions},
        published,
        rows::{self, VersionRow},
    },
    crash, metrics,
    parts::read_manifest,
};
use anyhow::{Context, Result, bail};
use futures::{StreamExt, stream};
use thiserror::Error;
use tokio_postgres::Client;
use tracing::{error, info};
use uuid::Uuid;

mod audit;
mod cut;
mod parts;
mod prune;
mod publish;
mod raw;
mod reference;
mod scan;
mod spill;
mod targets;
mod turn;
mod window;

pub use audit::Drift;
use spill::Collected;
pub(crate) use targets::Target;
use targets::{by_base, common_version};
use turn::{begin, take_turn};
pub use window::Window;

/// What a run does with history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Records since the previous version.
    Incremental,
    /// All records, and the result is compared with the kept one.
    Full,
    /// As full, of the views that have a time bucket, and only of these days.
    Audit(Window),
}

impl Kind {
    /// Its name in the catalog.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Incremental => "incremental",
            Self::Full => "full",
            Self::Audit(_) => "audit",
        }
    }

    fn window(self) -> Option<Window> {
        if let Self::Audit(window) = self { Some(window) } else { None }
    }
}

/// What a run tells while it works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Speed has not answered the cut in this many partitions.
    WaitingForSpeed(usize),
    /// The archive has not reached the cut in this many partitions.
    WaitingForArchive(usize),
    /// Records read, of how many offsets there are to read.
    Scanning {
        /// Read.
        done: u64,
        /// In all.
        total: u64,
    },
    /// Parts are written and published.
    Publishing,
}

/// Neither speed nor the archive has begun a partition of the source: there is nothing to run over yet.
#[derive(Debug, Error)]
#[error("no partition of source {name} was read yet; are `anabranch speed` and `anabranch archive` running?")]
pub struct NothingRead {
    name: String,
}

/// What a run did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Its number.
    pub run: RunId,
    /// Records read.
    pub records: u64,
    /// Bytes of the archive files that were read.
    pub bytes_read: u64,
    /// The views that were recomputed and compared, cell by cell.
    pub audited: Vec<String>,
    /// The views that have a new version.
    pub published: Vec<String>,
    /// The views that keep theirs, with the reason.
    pub refused: Vec<(String, String)>,
    /// The views whose new definition not every epoch folds yet; the next run takes it.
    pub waiting: Vec<String>,
    /// Differences that a full run found.
    pub drift: Vec<Drift>,
}

/// What every run works with.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The settings.
    pub settings: Settings,
    /// The catalog.
    pub catalog: Catalog,
    /// The warehouse.
    pub warehouse: Warehouse,
}

impl Batch {
    /// Of these settings.
    ///
    /// # Errors
    /// When an address cannot be read.
    pub fn new(settings: Settings) -> Result<Self> {
        let catalog = Catalog::at(&settings.postgres.url)?;
        let warehouse = Warehouse::at(&settings.warehouse.url)?;
        Ok(Self { settings, catalog, warehouse })
    }

    /// One run of `source`, now; after the one that is going on. Before a full one, an incremental run brings all views to
    /// one coverage where they are not: an audit compares them there.
    ///
    /// # Errors
    /// When it could not be done; the catalog says so too, and everything stays as it was.
    pub async fn run(&self, source: &str, kind: Kind, progress: &(dyn Fn(Progress) + Sync)) -> Result<Report> {
        if kind != Kind::Incremental && !self.stands_at_one_coverage(source).await? {
            self.execute(source, Kind::Incremental, progress).await?;
        }
        self.execute(source, kind, progress).await
    }

    async fn stands_at_one_coverage(&self, source: &str) -> Result<bool> {
        let client = self.catalog.connect().await?;
        let definitions = definitions::load(&client, source).await?;
        Ok(common_version(&definitions, &rows::versions(&client, source).await?).is_some())
    }

    async fn execute(&self, source: &str, kind: Kind, progress: &(dyn Fn(Progress) + Sync)) -> Result<Report> {
        let mut client = self.catalog.connect().await?;
        let uuid = Uuid::new_v4();
        let _turn = take_turn(&self.catalog, source).await?;
        let run = begin(&mut client, source, kind, uuid).await?;
        let work = Work { batch: self, run, uuid, kind, progress };
        let began = Instant::now();
        let result = work.work(&mut client, source).await;
        let (outcome, message) = match &result {
            Ok(report) if !report.drift.is_empty() => ("drift", Some(format!("{} cells differ", report.drift.len()))),
            Ok(_) => ("done", None),
            Err(error) if error.is::<NothingRead>() => ("skipped", Some(format!("{error:#}"))),
            Err(error) => ("failed", Some(format!("{error:#}"))),
        };
        turn::note(source, kind, outcome, began.elapsed(), result.as_ref().ok());
        let report = result.as_ref().map(|report| (report.records, report.bytes_read)).unwrap_or_default();
        let sql = "UPDATE run SET ended_at = now(), outcome = $2, error = $3, records = $4, bytes_read = $5, peak_memory_bytes = $6 WHERE id = $1";
        let (records, bytes_read) = (i64::try_from(report.0)?, i64::try_from(report.1)?);
        let peak = metrics::memory_bytes("VmHWM:");
        let ended = crash::step("batch.end", client.execute(sql, &[&run.0, &outcome, &message, &records, &bytes_read, &peak])).await;
        if let (Err(error), true) = (ended, result.is_ok()) {
            return Err(error).context("store the end of a run");
        }
        result.with_context(|| format!("run {run} of source {source}"))
    }
}

/// Views of a source whose parts are written at once.
const VIEWS_AT_ONCE: usize = 4;

/// What a run built for a view.
pub(crate) struct Built {
    pub(crate) view: Arc<View>,
    pub(crate) read: Option<RunId>,
    pub(crate) folder: String,
    /// Its parts as SQL will read them, where it is published there.
    pub(crate) staged: Option<Vec<i64>>,
    /// What differs from the version that it was compared with; nothing when there was none.
    pub(crate) audit: Option<Vec<Drift>>,
}

struct Work<'a> {
    batch: &'a Batch,
    run: RunId,
    uuid: Uuid,
    kind: Kind,
    progress: &'a (dyn Fn(Progress) + Sync),
}

impl Work<'_> {
    async fn work(&self, client: &mut Client, source: &str) -> Result<Report> {
        let definitions = definitions::load(client, source).await?;
        let versions = rows::versions(client, source).await?;
        let (cut, coverage) = match (self.kind, common_version(&definitions, &versions)) {
            // Files have no offsets.
            _ if definitions.source.files.is_some() => (CutNumber(0), Coverage::default()),
            // An audit looks at what is published: it needs no cut of its own.
            (Kind::Full | Kind::Audit(_), Some(coverage)) => (CutNumber(0), coverage),
            (Kind::Audit(_), None) => bail!("the views have no versions at one coverage to look at; a run failed before"),
            (Kind::Full | Kind::Incremental, _) => cut::settle(client, &definitions, self.progress).await?,
        };
        let goal = publish::Goal { run: self.run, cut, coverage: &coverage };
        crash::step("batch.run_cut", client.execute("UPDATE run SET cut = $2 WHERE id = $1", &[&self.run.0, &cut.0])).await?;
        let mut report = Report { run: self.run, ..Report::default() };
        let targets = self.targets(&definitions, &versions, &coverage);
        let extent = scan::Extent { coverage: &coverage, window: self.kind.window() };
        let (mut built, mut failed, mut lost) = (Vec::new(), Vec::new(), Vec::new());
        for targets in by_base(targets) {
            let scanned = scan::scan(&self.batch.warehouse, client, &definitions, &targets, extent, self.progress).await?;
            report.records += scanned.records;
            report.bytes_read += scanned.bytes_read;
            lost.extend(scanned.lost);
            let build = |(target, collected): (Target, Collected)| async move {
                let (view, fingerprint) = (target.view.name.clone(), target.view.fingerprint.clone());
                (view, fingerprint, self.build(source, target, collected, goal).await)
            };
            let mut building = stream::iter(targets.into_iter().zip(scanned.collected)).map(build).buffered(VIEWS_AT_ONCE);
            while let Some((view, fingerprint, result)) = building.next().await {
                match result {
                    Ok(mut result) => {
                        if let Some(drift) = &mut result.audit {
                            report.drift.append(drift);
                            report.audited.push(view);
                        }
                        built.push(result);
                    }
                    Err(error) => {
                        failed.push((fingerprint, format!("{error:#}")));
                        report.refused.push((view, format!("{error:#}")));
                    }
                }
            }
        }
        (self.progress)(Progress::Publishing);
        audit::store(client, self.run, &report.drift).await?;
        let began = Instant::now();
        let outcome = publish::publish(client, source, goal, &built, &failed, &lost).await?;
        metrics::observe(&metrics::PUBLISH_SECONDS.with_label_values(&[source]), began.elapsed());
        report.published = outcome.published;
        report.refused.extend(outcome.refused);
        report.waiting = outcome.waiting;
        for view in &report.waiting {
            info!(source, view, "speed does not fold the new definition everywhere yet; the next run takes it");
        }
        for (view, reason) in &report.refused {
            error!(source, view, reason, "a view keeps its version");
        }
        published::sync_views(client).await?;
        published::settle(client, &self.batch.warehouse, source).await?;
        prune::prune(client, source, self.batch.settings.batch.prune_after_seconds).await?;
        info!(source, run = self.run.0, kind = self.kind.name(), cut = cut.0, records = report.records, views = report.published.len(), "finished run");
        Ok(report)
    }

    fn targets(&self, definitions: &SourceDefinitions, versions: &BTreeMap<Fingerprint, Vec<VersionRow>>, coverage: &Coverage) -> Vec<Target> {
        let mut targets = Vec::new();
        for (fingerprint, view) in &definitions.definitions {
            let current = versions.get(fingerprint).and_then(|versions| versions.first()).cloned();
            // A definition that comes back may have this coverage already: it is published anew, to be switched in.
            let joins = definitions.views.iter().any(|entry| entry.wanted == *fingerprint && entry.serving != *fingerprint);
            let done = current.as_ref().is_some_and(|version| version.coverage == *coverage) && !joins;
            let is_left_out = match self.kind {
                Kind::Incremental => done,
                Kind::Full => false,
                Kind::Audit(_) => !done || view.bucket.is_none(),
            };
            if is_left_out {
                continue;
            }
            let base = current.as_ref().filter(|_| self.kind == Kind::Incremental).map(|version| version.coverage.clone());
            targets.push(Target { view: Arc::clone(view), current, base });
        }
        targets
    }

    async fn build(&self, source: &str, target: Target, collected: Collected, goal: publish::Goal<'_>) -> Result<Built> {
        let publish::Goal { cut, coverage, .. } = goal;
        let writer = parts::PartWriter { warehouse: &self.batch.warehouse, source, view: &target.view, run: self.uuid, cut, coverage };
        let kept = match &target.current {
            Some(version) => Some(read_manifest(&self.batch.warehouse, &version.folder).await?),
            None => None,
        };
        let mut audit = None;
        let folder = match (&kept, &target.base) {
            (Some(kept), Some(_)) => writer.merge(kept, collected).await?,
            (Some(kept), None) if target.current.as_ref().is_some_and(|version| version.coverage == *coverage) => {
                writer.audit(collected, kept, self.kind.window(), audit.insert(Vec::new())).await?
            }
            _ => writer.write_all(collected, kept.as_ref()).await?,
        };
        let staged = if target.view.is_published {
            Some(published::stage(&mut self.batch.catalog.connect().await?, &self.batch.warehouse, &target.view, &folder).await?)
        } else {
            None
        };
        Ok(Built { view: target.view, read: target.current.map(|version| version.run), folder, staged, audit })
    }
}
