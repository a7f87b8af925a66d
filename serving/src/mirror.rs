//! The mirror: the current version of each view and the live rows above it, in memory.
//!
//! ```text
//!  PostgreSQL ──(snapshot: at most every 50 ms, at least every second)──► live groups by epoch ─┐
//!  HDFS ──(parts of a new version, beside everything else)──────────────► loaded versions ──────┴► answers
//! ```
//!
//! A refresh computes what each view reaches; where that cannot be said, the last complete answer stands.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anabranch_core::{
    Coverage, Offset, Partition,
    definition::{Fingerprint, View},
    protocol::{
        EpochId, PartitionRow, RunId,
        reach::{self, Loaded as LoadedVersion, NoReach, Snapshot as ReachSnapshot},
    },
};
use anabranch_process::{
    Catalog, Settings, Warehouse,
    catalog::{
        definitions::SourceDefinitions,
        rows::{self, PartitionState, VersionRow},
    },
    clock,
};
use anyhow::{Context, Result};
use futures::{StreamExt, stream};
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tokio_postgres::{AsyncMessage, Client};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::{
    answerable::{Answerable, ViewState},
    live::Live,
    older::Older,
    snapshot::{self, Changes, Identity, Seen, Snapshot, SourceSnapshot},
    version::{Loader, Version},
};

/// Notifications come once per flush; more often than this nobody can see a difference.
const SHORTEST: Duration = Duration::from_millis(50);
/// Correctness rests on this poll alone.
const LONGEST: Duration = Duration::from_secs(1);
/// A refresh without an answer for this long is given up, and the connection with it.
const REFRESH_LIMIT: Duration = Duration::from_secs(30);
/// Speed writes of its partitions every second or so; after this long nobody knows how many records wait.
const SILENT_MS: i64 = 10_000;
/// Without a refresh for this long the service is not ready.
const STALE: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(500);

#[derive(Default)]
struct Published {
    views: BTreeMap<String, ViewState>,
    partitions: BTreeMap<String, Vec<PartitionState>>,
    /// Whether a first refresh was complete.
    ready: bool,
    /// When the newest refresh was.
    refreshed: Option<Instant>,
    trouble: Option<String>,
}

struct Shared {
    catalog: Catalog,
    loader: Loader,
    published: RwLock<Published>,
    older: Older,
    notified: Notify,
    changed: tokio::sync::watch::Sender<u64>,
}

/// The mirror; cheap to clone.
#[derive(Clone)]
pub struct Mirror {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Mirror {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mirror").finish_non_exhaustive()
    }
}

impl Mirror {
    /// An empty mirror.
    ///
    /// # Errors
    /// When an address cannot be read.
    pub fn new(settings: &Settings) -> Result<Self> {
        let shared = Shared {
            catalog: Catalog::at(&settings.postgres.url)?,
            loader: Loader { warehouse: Warehouse::at(&settings.warehouse.url)?, memory_bytes: settings.serving.memory_bytes },
            published: RwLock::default(),
            older: Older::default(),
            notified: Notify::new(),
            changed: tokio::sync::watch::Sender::new(0),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The catalog that it reads.
    pub(crate) fn catalog(&self) -> &Catalog {
        &self.shared.catalog
    }

    /// All views by name.
    #[must_use]
    pub fn views(&self) -> BTreeMap<String, ViewState> {
        self.shared.published.read().unwrap_or_else(PoisonError::into_inner).views.clone()
    }

    /// The partitions of each source.
    pub(crate) fn partitions(&self) -> BTreeMap<String, Vec<PartitionState>> {
        self.shared.published.read().unwrap_or_else(PoisonError::into_inner).partitions.clone()
    }

    /// Whether answers can be given; else why not.
    ///
    /// # Errors
    /// The reason, for people.
    pub fn ready(&self) -> Result<(), String> {
        let published = self.shared.published.read().unwrap_or_else(PoisonError::into_inner);
        let age = published.refreshed.map_or(Duration::ZERO, |refreshed| refreshed.elapsed());
        match (published.ready, &published.trouble) {
            (_, Some(trouble)) => Err(trouble.clone()),
            (false, None) => Err("the first refresh is not complete".to_owned()),
            (true, None) if age > STALE => Err(format!("PostgreSQL has not answered for {} s; answers stand and grow older", age.as_secs())),
            (true, None) => Ok(()),
        }
    }

    /// An older version of a view, by the run that published it; else the runs whose versions there are.
    ///
    /// # Errors
    /// When PostgreSQL or the warehouse does not answer.
    pub async fn older(&self, view: &Arc<View>, run: RunId) -> Result<Result<Arc<Answerable>, Vec<RunId>>> {
        let current = match self.views().get(&view.name) {
            Some(ViewState::Ready(answerable)) => answerable.version.clone(),
            _ => None,
        };
        self.shared.older.get(&self.shared.catalog, &self.shared.loader, view, current.as_deref(), run).await
    }

    /// Counts up with every refresh that published something.
    #[must_use]
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    /// Refreshes until `stop`; PostgreSQL or HDFS may come and go.
    pub async fn follow(self, stop: CancellationToken) {
        let mut state = State::default();
        let mut said = String::new();
        while !stop.is_cancelled() {
            let followed = tokio::select! {
                () = stop.cancelled() => break,
                followed = self.follow_connection(&mut state, &mut said) => followed,
            };
            if let Err(error) = followed {
                let message = format!("{error:#}");
                if message != said {
                    warn!(error = message, "could not refresh; answers stand and grow older");
                }
                self.shared.published.write().unwrap_or_else(PoisonError::into_inner).trouble = Some(message.clone());
                said = message;
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn follow_connection(&self, state: &mut State, said: &mut String) -> Result<()> {
        let mut client = self.listen().await?;
        loop {
            let next = Instant::now();
            timeout(REFRESH_LIMIT, self.refresh(&mut client, state)).await.context("PostgreSQL did not answer in time")??;
            if !said.is_empty() {
                info!("refreshing again");
                said.clear();
            }
            tokio::select! {
                () = async { self.shared.notified.notified().await; sleep_until(next + SHORTEST).await; } => {}
                () = sleep_until(next + LONGEST) => {}
            }
        }
    }

    /// A connection whose notifications wake the refresh.
    async fn listen(&self) -> Result<Client> {
        let (client, mut connection) = self.shared.catalog.open().await?;
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
            while let Some(Ok(message)) = messages.next().await {
                if matches!(message, AsyncMessage::Notification(_)) {
                    shared.notified.notify_one();
                }
            }
        });
        client.batch_execute("LISTEN anabranch").await?;
        Ok(client)
    }

    /// One complete look, for commands: reads the catalog and loads every version that can be read.
    ///
    /// # Errors
    /// When PostgreSQL or the warehouse does not answer.
    pub async fn look_once(&self) -> Result<()> {
        let mut client = self.shared.catalog.connect().await?;
        let mut state = State::default();
        self.refresh(&mut client, &mut state).await?;
        while !state.loading.is_empty() {
            state.wait_for_versions().await;
        }
        self.refresh(&mut client, &mut state).await
    }

    async fn refresh(&self, client: &mut Client, state: &mut State) -> Result<()> {
        let mut snapshot = snapshot::read(client, state).await?;
        if state.is_another_past(&snapshot) {
            warn!("the database is not the one that was read before, or an older state of it; starting anew");
            let loading = std::mem::take(&mut state.loading);
            *state = State { loading, ..State::default() };
            snapshot = snapshot::read(client, state).await?;
        }
        state.take(snapshot)?;
        state.collect_versions();
        state.start_loading(&self.shared.loader);
        let views = state.views();
        let mut published = self.shared.published.write().unwrap_or_else(PoisonError::into_inner);
        published.ready = state.loading.is_empty() || published.ready;
        published.trouble = None;
        published.refreshed = Some(Instant::now());
        published.views = views;
        published.partitions = state.sources.iter().map(|(name, source)| (name.clone(), source.partitions.clone())).collect();
        drop(published);
        self.shared.changed.send_modify(|count| *count += 1);
        Ok(())
    }
}

type Loaded = (Fingerprint, RunId, Result<Version>);

/// What the refresh keeps between two looks.
#[derive(Default)]
struct State {
    identity: Option<Identity>,
    sources: BTreeMap<String, SourceSnapshot>,
    live: HashMap<EpochId, LiveEpoch>,
    versions: HashMap<Fingerprint, Arc<Version>>,
    loading: BTreeMap<Fingerprint, RunId>,
    /// Versions that could not be loaded when it was tried last.
    unreadable: BTreeMap<Fingerprint, RunId>,
    tasks: JoinSet<Loaded>,
    answers: BTreeMap<String, ViewState>,
}

struct LiveEpoch {
    flush: i64,
    views: BTreeMap<Fingerprint, Live>,
}

impl Seen for State {
    fn flush(&self, epoch: EpochId) -> Option<i64> {
        self.live.get(&epoch).map(|live| live.flush)
    }

    fn definitions(&self, source: &str, number: i64) -> Option<SourceDefinitions> {
        self.sources.get(source).map(|source| &source.definitions).filter(|definitions| definitions.number == number).cloned()
    }
}

impl State {
    /// Another database, or one whose offsets went back: a fail-over to a copy that lags.
    fn is_another_past(&self, snapshot: &Snapshot) -> bool {
        let next = |source: &SourceSnapshot| -> Coverage { source.partitions.iter().map(|state| (state.row.partition, state.row.next_offset)).collect() };
        let went_back = |(name, before): (&String, &SourceSnapshot)| snapshot.sources.get(name).is_none_or(|after| !next(after).reaches(&next(before)));
        self.identity.as_ref().is_some_and(|identity| *identity != snapshot.identity) || self.sources.iter().any(went_back)
    }

    fn take(&mut self, snapshot: Snapshot) -> Result<()> {
        self.identity = Some(snapshot.identity);
        let mut epochs = HashMap::new();
        for (_, source) in snapshot.sources.iter() {
            for epoch in &source.epochs {
                epochs.insert(epoch.id, epoch.flush);
            }
        }
        self.live.retain(|epoch, _| epochs.contains_key(epoch));
        self.sources = snapshot.sources;
        for source in self.sources.values_mut() {
            for (epoch, changes) in std::mem::take(&mut source.changes) {
                let live = self.live.entry(epoch).or_insert_with(|| LiveEpoch { flush: 0, views: BTreeMap::new() });
                live.flush = epochs.get(&epoch).copied().unwrap_or_default();
                let changed = match changes {
                    Changes::All(all) => {
                        live.views = all.into_iter().collect();
                        continue;
                    }
                    Changes::Some(changed) => changed,
                };
                for (fingerprint, rows) in changed {
                    if let Some(view) = source.definitions.definitions.get(&fingerprint) {
                        // States are absolute: the newest replaces what was there.
                        let replaced = live.views.entry(fingerprint).or_default().replace(view, rows);
                        if let Err(error) = replaced {
                            // It holds half of a flush: it is read anew.
                            self.live.remove(&epoch);
                            return Err(error.into());
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn version_rows(&self) -> impl Iterator<Item = (&VersionRow, &Arc<View>)> {
        self.sources.values().flat_map(|source| {
            let definitions = &source.definitions;
            definitions.views.iter().filter_map(|view| Some((source.versions.get(&view.serving)?, definitions.definitions.get(&view.serving)?)))
        })
    }

    /// Loads new versions beside everything else; the loaded ones serve until then.
    fn start_loading(&mut self, loader: &Loader) {
        let mut wanted = Vec::new();
        for (row, view) in self.version_rows() {
            let loaded = self.versions.get(&row.fingerprint);
            if loaded.is_none_or(|version| version.run != row.run) && !self.loading.contains_key(&row.fingerprint) {
                wanted.push((row.clone(), Arc::clone(view), loaded.cloned()));
            }
        }
        for (row, view, old) in wanted {
            let loader = loader.clone();
            self.loading.insert(row.fingerprint.clone(), row.run);
            self.tasks.spawn(async move {
                let loaded = loader.load(&view, &row, old.as_deref()).await;
                (row.fingerprint, row.run, loaded)
            });
        }
    }

    fn collect_versions(&mut self) {
        while let Some(joined) = self.tasks.try_join_next() {
            self.loaded(joined);
        }
    }

    async fn wait_for_versions(&mut self) {
        if let Some(joined) = self.tasks.join_next().await {
            self.loaded(joined);
        }
    }

    fn loaded(&mut self, joined: Result<Loaded, tokio::task::JoinError>) {
        match joined {
            Ok((fingerprint, run, Ok(version))) => {
                debug!(%fingerprint, run = run.0, parts = version.parts.len(), "loaded version");
                self.loading.remove(&fingerprint);
                self.unreadable.remove(&fingerprint);
                self.versions.insert(fingerprint, Arc::new(version));
            }
            Ok((fingerprint, run, Err(error))) => {
                self.loading.remove(&fingerprint);
                // Said once for each version; it is tried again at every refresh.
                if self.unreadable.insert(fingerprint.clone(), run) != Some(run) {
                    error!(%fingerprint, run = run.0, error = format!("{error:#}"), "could not load a version; answers stand on the one before");
                }
            }
            Err(error) => {
                error!(%error, "loading a version broke off");
                self.loading.clear();
            }
        }
    }

    /// What each view can answer now.
    fn views(&mut self) -> BTreeMap<String, ViewState> {
        let mut views = BTreeMap::new();
        for source in self.sources.values() {
            let partitions: Vec<PartitionRow> = source.partitions.iter().map(|state| state.row.clone()).collect();
            let speed_silent_ms = rows::speed_silent_ms(&source.partitions);
            let heard = speed_silent_ms.is_some_and(|silent| silent < SILENT_MS);
            let ends: BTreeMap<Partition, Offset> = source.partitions.iter().map(|state| (state.row.partition, state.high_watermark)).collect();
            for entry in &source.definitions.views {
                let Some(view) = source.definitions.definitions.get(&entry.serving) else { continue };
                let version = self.versions.get(&entry.serving);
                // A version that exists and is not loaded yet is not the same as none: its live rows may be pruned.
                if version.is_none() && source.versions.contains_key(&entry.serving) {
                    let state = self.answers.get(&entry.name).cloned().unwrap_or_else(|| ViewState::BeingBuilt(Arc::clone(view)));
                    views.insert(entry.name.clone(), state);
                    continue;
                }
                // A view over a reference alone has no epochs: without a version it has nothing.
                if version.is_none() && view.source.files.is_some() {
                    views.insert(entry.name.clone(), ViewState::BeingBuilt(Arc::clone(view)));
                    continue;
                }
                let snapshot = ReachSnapshot { partitions: &partitions, epochs: &source.epochs };
                let loaded = match version {
                    None => LoadedVersion::Nothing,
                    Some(version) if source.versions.get(&entry.serving).is_some_and(|current| current.run == version.run) => {
                        LoadedVersion::Current(&version.coverage)
                    }
                    Some(version) => LoadedVersion::Older(&version.coverage),
                };
                let reached = reach::reach(loaded, &entry.serving, source.pruned.get(&entry.serving), snapshot);
                let state = match reached {
                    Ok(reach) => {
                        let covered = version.map(|version| version.coverage.clone()).unwrap_or_default();
                        let live = reach.epochs.iter().filter_map(|epoch| self.live.get(epoch)?.views.get(&entry.serving)).map(Live::levels).collect();
                        let behind = |(partition, offset): (Partition, Offset)| ends.get(&partition).map_or(0, |end| (end.0 - offset.0).max(0));
                        ViewState::Ready(Arc::new(Answerable {
                            view: Arc::clone(view),
                            run: version.map(|version| version.run),
                            lag_records: heard.then(|| reach.offsets.iter().map(behind).sum()),
                            speed_silent_ms,
                            version_age_ms: version
                                .and_then(|version| source.versions.get(&entry.serving).filter(|row| row.run == version.run))
                                .map(|row| row.age_ms),
                            offsets: reach.offsets,
                            refreshed_ms: clock::now_ms(),
                            lost: source
                                .lost
                                .iter()
                                .filter(|(partition, range)| covered.get(*partition).is_some_and(|end| range.start < end))
                                .copied()
                                .collect(),
                            coverage: covered,
                            version: version.cloned(),
                            live,
                        }))
                    }
                    // The last complete answer stands.
                    Err(NoReach::BelowPruned) => self.answers.get(&entry.name).cloned().unwrap_or_else(|| ViewState::BeingBuilt(Arc::clone(view))),
                    Err(NoReach::BeingBuilt) => ViewState::BeingBuilt(Arc::clone(view)),
                };
                views.insert(entry.name.clone(), state);
            }
        }
        self.answers.clone_from(&views);
        views
    }
}
