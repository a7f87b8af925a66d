//! Live server events on a topic of their own, recounted by the oracle.
#![expect(clippy::indexing_slicing, reason = "members of JSON answers")]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anabranch_oracle::{Domain, compare, offsets, queries, topic::Topic};
use anyhow::{Context, Result, bail, ensure};
use rdkafka::{
    admin::{AdminClient, AdminOptions, NewPartitions},
    client::DefaultClientContext,
};
use serde_json::Value as Json;
use tokio_postgres::Client;

use crate::{Process, Stage, create_topic, eventually, kafka, proxy::Proxy, servers, sql, variable};

/// The offsets of each partition.
pub type Offsets = BTreeMap<i32, i64>;

/// The layers, each a process of its own here.
pub const LAYERS: [&str; 4] = ["speed", "archive", "batch", "serve"];

/// The layers that run.
pub type Running = BTreeMap<&'static str, Process>;

/// After a start, or after servers came back: their own recovery, our back-off, what piled up.
pub const RECOVERY_LIMIT: Duration = Duration::from_secs(60);

/// The layer that answers.
///
/// # Errors
/// When it does not run.
pub fn serving(running: &Running) -> Result<&Process> {
    running.get("serve").context("nobody serves")
}

/// An installation with events that flow.
#[derive(Debug)]
pub struct Scene {
    /// The installation.
    pub stage: Stage,
    /// Produces until it is dropped or stopped.
    pub simulator: Process,
    /// The name of the topic, and of the installation.
    pub name: String,
    /// The topic, as far as it was read.
    pub topic: Topic,
    /// The music-streaming app beside the servers, where it plays.
    pub music: Option<Music>,
    /// Cells compared so far.
    pub cells: usize,
}

/// The events of the music-streaming app.
#[derive(Debug)]
pub struct Music {
    /// Produces until it is dropped or stopped.
    pub simulator: Process,
    /// The topic, as far as it was read.
    pub topic: Topic,
}

impl Scene {
    /// The shipped views of server events over a topic `name`, `rate` events a second, runs every ten seconds.
    ///
    /// # Errors
    /// When a server does not answer.
    pub async fn new(name: &str, rate: &str) -> Result<Self> {
        Self::of(name, rate, None).await
    }

    /// The views of both shipped pipelines, `music_rate` events of the music app a second.
    ///
    /// # Errors
    /// When a server does not answer.
    pub async fn with_music(name: &str, rate: &str, music_rate: &str) -> Result<Self> {
        Self::of(name, rate, Some(music_rate)).await
    }

    async fn of(name: &str, rate: &str, music_rate: Option<&str>) -> Result<Self> {
        // A test that failed may have left a server stopped.
        servers::start_all()?;
        // A name of its own, so that a test can be run again on the same servers.
        let name = format!("{name}_{}", std::process::id());
        let mut stage = Stage::new(&name).await?;
        create_topic(&name, 8).await?;
        let shipped = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../pipelines/server_status.sql"))?;
        let mut pipelines = shipped.replace("'server-live-status'", &format!("'{name}'"));
        let songs = concat!(env!("CARGO_MANIFEST_DIR"), "/../pipelines/music/songs.json");
        if music_rate.is_some() {
            create_topic(&format!("{name}_music"), 4).await?;
            let music = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../pipelines/music.sql"))?;
            pipelines.push_str(&music.replace("'music-events'", &format!("'{name}_music'")).replace("'music/songs.json'", &format!("'{songs}'")));
        }
        stage.pipeline(&pipelines)?;
        stage.set("ANABRANCH_BATCH__INCREMENTAL", "*/10 * * * * *");
        let (code, text) = stage.run(&["apply"])?;
        ensure!(code == Some(0), "{text}");
        let simulator = stage.start(&["simulate", "server-status", "--topic", &name, "--rate", rate, "--late", "0.1", "--malformed", "0.01"])?;
        let topic = Topic::open(&variable("ANABRANCH_KAFKA__BROKERS"), &name)?;
        let music = match music_rate {
            Some(rate) => {
                let topic = format!("{name}_music");
                let simulator =
                    stage.start(&["simulate", "music", "--topic", &topic, "--rate", rate, "--users", "300", "--late", "0.1", "--malformed", "0.02"])?;
                Some(Music { simulator, topic: Topic::of(Domain::Music, &variable("ANABRANCH_KAFKA__BROKERS"), &topic)? })
            }
            None => None,
        };
        Ok(Self { stage, simulator, name, topic, music, cells: 0 })
    }

    /// Starts layers.
    ///
    /// # Errors
    /// When one cannot be started.
    pub fn start(&mut self, layers: &[&'static str], running: &mut Running) -> Result<()> {
        for layer in layers {
            running.insert(layer, self.stage.start(&[layer])?);
        }
        Ok(())
    }

    /// Starts all layers and waits until they answer.
    ///
    /// # Errors
    /// When they do not.
    pub async fn begin(&mut self) -> Result<Running> {
        let mut running = Running::new();
        self.start(&LAYERS, &mut running)?;
        let ends = self.ends().await?;
        self.fresh(serving(&running)?, &ends, RECOVERY_LIMIT).await?;
        Ok(running)
    }

    /// Asks for every view; each answer must be right in every cell at its own offsets.
    ///
    /// # Errors
    /// The first wrong cell, or that there was no answer.
    pub async fn exact(&mut self, process: &Process) -> Result<()> {
        ensure!(self.exact_where_answered(process).await?, "a view does not answer");
        Ok(())
    }

    /// Reads a view in SQL; every cell must be right at the offsets that SQL states. Gives their number, and the answer.
    ///
    /// # Errors
    /// The first wrong cell, or that there was no answer.
    pub async fn exact_in_sql(&mut self, client: &Client, view: &str) -> Result<(usize, Json)> {
        let answer = sql::ask(client, view, &self.name).await.with_context(|| format!("{view} in SQL"))?;
        let is_music = Domain::Music.queries().iter().any(|(name, _)| *name == view);
        let topic = if is_music { &mut self.music.as_mut().context("no music")?.topic } else { &mut self.topic };
        let cells = recount(topic, view, &answer).with_context(|| format!("{view} in SQL"))?;
        self.cells += cells;
        Ok((cells, answer))
    }

    /// As [`Self::exact`]; false when a view does not answer (yet): a reader that starts loads one version after the other.
    async fn exact_where_answered(&mut self, process: &Process) -> Result<bool> {
        for (view, query) in queries() {
            let Some(answer) = process.load(&query).await? else { return Ok(false) };
            self.cells += recount(&mut self.topic, view, &answer)?;
        }
        if let Some(music) = &mut self.music {
            for (view, query) in Domain::Music.queries() {
                let Some(answer) = process.load(&query).await? else { return Ok(false) };
                self.cells += recount(&mut music.topic, view, &answer)?;
            }
        }
        Ok(true)
    }

    /// Waits until every view is answered at or above `ends`, exactly; says how long that took.
    ///
    /// # Errors
    /// When it takes longer than `limit`, or a cell is wrong.
    pub async fn fresh(&mut self, process: &Process, ends: &Offsets, limit: Duration) -> Result<Duration> {
        let began = Instant::now();
        let music_ends = self.music_ends().await?;
        loop {
            // Freshness is looked at cheaply, on the view with the fewest cells; then all are compared.
            let (_, query) = queries().into_iter().nth(1).context("no view")?;
            let reached = process.load(&query).await?.map(|answer| offsets(&answer)).unwrap_or_default();
            let took = began.elapsed();
            let is_fresh = reaches(&reached, ends);
            let plays = serde_json::json!({"measures": ["paid_share.plays"]});
            let music_is_fresh = music_ends.is_empty() || process.load(&plays).await?.is_some_and(|answer| reaches(&offsets(&answer), &music_ends));
            if is_fresh && music_is_fresh && self.exact_where_answered(process).await? {
                return Ok(took);
            }
            if took > limit {
                bail!("not fresh within {} s: at {reached:?} of {ends:?}", limit.as_secs_f64());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn music_ends(&self) -> Result<Offsets> {
        match &self.music {
            Some(music) => eventually("the ends of the music topic", Duration::from_secs(30), || async { Ok(music.topic.ends().ok()) }).await,
            None => Ok(Offsets::new()),
        }
    }

    /// As [`Self::fresh`], of an event that is yet to come.
    ///
    /// # Errors
    /// As [`Self::fresh`].
    pub async fn fresh_from_now(&mut self, process: &Process) -> Result<Duration> {
        let ends = one_more(self.ends().await?);
        self.fresh(process, &ends, RECOVERY_LIMIT).await
    }

    /// The topic's ends now; a broker that just came back may need a moment.
    ///
    /// # Errors
    /// When Kafka does not answer.
    pub async fn ends(&self) -> Result<Offsets> {
        eventually("the topic's ends", Duration::from_secs(30), || async { Ok(self.topic.ends().ok()) }).await
    }

    /// Waits until the topic holds so many records.
    ///
    /// # Errors
    /// When they do not come.
    pub async fn grown_to(&self, records: i64) -> Result<()> {
        let grown = || async { Ok((self.ends().await?.values().sum::<i64>() >= records).then_some(())) };
        eventually("the topic grows", Duration::from_secs(60), grown).await
    }

    /// Gives the topic more partitions: `count` in all.
    ///
    /// # Errors
    /// When Kafka refuses.
    pub async fn add_partitions(&mut self, count: usize) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = kafka().create()?;
        for result in admin.create_partitions([&NewPartitions::new(&self.name, count)], &AdminOptions::new()).await? {
            result.map_err(|(topic, code)| anyhow::anyhow!("add partitions to {topic}: {code}"))?;
        }
        self.topic.look_for_partitions()
    }

    /// No event comes after this.
    ///
    /// # Errors
    /// When the simulator does not end.
    pub async fn stop_events(&mut self) -> Result<()> {
        let music = self.music.as_mut().map(|music| &mut music.simulator);
        for simulator in [&mut self.simulator].into_iter().chain(music) {
            simulator.signal("TERM")?;
            let status = simulator.wait(RECOVERY_LIMIT).await?;
            ensure!(status.success(), "the simulator ended with {status}");
        }
        Ok(())
    }

    /// From here on, what is started reaches PostgreSQL and the NameNode through these proxies.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn behind_proxies(&mut self) -> Result<(Proxy, Proxy)> {
        Ok((self.behind_proxy("ANABRANCH_POSTGRES__URL").await?, self.behind_proxy("ANABRANCH_WAREHOUSE__URL").await?))
    }

    async fn behind_proxy(&mut self, setting: &str) -> Result<Proxy> {
        let url = self.stage.setting(setting)?;
        let host = url.split("//").nth(1).and_then(|rest| rest.split('/').next()).context("a URL without a host")?;
        let host = host.rsplit('@').next().unwrap_or(host);
        let proxy = Proxy::before(host).await?;
        self.stage.set(setting, &url.replace(host, &proxy.address.to_string()));
        Ok(proxy)
    }

    /// Stops the events; then everything is archived, covered, and right at the topic's ends.
    ///
    /// # Errors
    /// When it is not.
    pub async fn finish(&mut self, process: &Process) -> Result<()> {
        self.stop_events().await?;
        let ends = self.ends().await?;
        self.fresh(process, &ends, RECOVERY_LIMIT).await?;
        let (code, text) = self.stage.run(&["recompute"])?;
        ensure!(code == Some(0), "{text}");
        let (code, text) = self.stage.run(&["verify"])?;
        self.topic.read_to(&ends)?;
        ensure!(
            code == Some(0) && text.contains(&format!("{} records, 0 faults", self.topic.records.len())),
            "{} were committed: {text}",
            self.topic.records.len()
        );
        if let Some(music) = &mut self.music {
            music.topic.read_to(&music.topic.ends()?)?;
            let archived = format!("{} records, 0 faults", music.topic.records.len());
            ensure!(text.contains(&archived), "{archived} of the music topic expected: {text}");
        }
        let (code, text) = self.stage.run(&["recompute", "--full"])?;
        let of_music: &[&str] = if self.music.is_some() { &["compared 7 views, 0 cells differ", "compared 2 views, 0 cells differ"] } else { &[] };
        let all = ["compared 3 views, 0 cells differ"].iter().chain(of_music).all(|line| text.contains(line));
        ensure!(code == Some(0) && all, "{text}");
        self.exact(process).await?;
        let client = self.stage.database().await?;
        for view in sql::WHOLE_VIEWS.iter().take(if self.music.is_some() { sql::WHOLE_VIEWS.len() } else { 1 }) {
            self.exact_in_sql(&client, view).await?;
        }
        Ok(())
    }
}

fn reaches(reached: &Offsets, ends: &Offsets) -> bool {
    ends.iter().all(|(partition, end)| reached.get(partition).is_some_and(|offset| offset >= end))
}

/// One event more than `ends` in each partition.
#[must_use]
pub fn one_more(ends: Offsets) -> Offsets {
    ends.into_iter().map(|(partition, end)| (partition, end + 1)).collect()
}

/// Recounts an answer at its own offsets; gives the number of its cells.
///
/// # Errors
/// The first wrong cell.
pub fn recount(topic: &mut Topic, view: &str, answer: &Json) -> Result<usize> {
    let stated = offsets(answer);
    topic.read_to(&stated)?;
    let verdict = compare(view, answer, &topic.records);
    match verdict.wrong {
        Some(wrong) => bail!("wrong at {stated:?}, run {}: {wrong}", answer["lambda"]["run"]),
        None => Ok(verdict.cells),
    }
}
