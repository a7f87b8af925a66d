//! Live server events on a topic of their own, recounted by the oracle.
#![expect(clippy::indexing_slicing, reason = "members of JSON answers")]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anabranch_oracle::{compare, offsets, queries, topic::Topic};
use anyhow::{Context, Result, bail, ensure};
use rdkafka::{
    admin::{AdminClient, AdminOptions, NewPartitions},
    client::DefaultClientContext,
};
use serde_json::Value as Json;

use crate::{Process, Stage, create_topic, eventually, kafka, servers, variable};

/// The offsets of each partition.
pub type Offsets = BTreeMap<i32, i64>;

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
    /// Cells compared so far.
    pub cells: usize,
}

impl Scene {
    /// The shipped views of server events over a topic `name`, `rate` events a second, runs every ten seconds.
    ///
    /// # Errors
    /// When a server does not answer.
    pub async fn new(name: &str, rate: &str) -> Result<Self> {
        // A test that failed may have left a server stopped.
        servers::start_all()?;
        // A name of its own, so that a test can be run again on the same servers.
        let name = format!("{name}_{}", std::process::id());
        let mut stage = Stage::new(&name).await?;
        create_topic(&name, 8).await?;
        let shipped = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../pipelines/server_status.sql"))?;
        stage.pipeline(&shipped.replace("'server-live-status'", &format!("'{name}'")))?;
        stage.set("ANABRANCH_BATCH__INCREMENTAL", "*/10 * * * * *");
        let (code, text) = stage.run(&["apply"])?;
        ensure!(code == Some(0), "{text}");
        let simulator = stage.start(&["simulate", "server-status", "--topic", &name, "--rate", rate, "--late", "0.1", "--malformed", "0.01"])?;
        let topic = Topic::open(&variable("ANABRANCH_KAFKA__BROKERS"), &name)?;
        Ok(Self { stage, simulator, name, topic, cells: 0 })
    }

    /// Asks for every view; each answer must be right in every cell at its own offsets. Gives the offsets that all reach.
    ///
    /// # Errors
    /// The first wrong cell, or that there was no answer.
    pub async fn exact(&mut self, process: &Process) -> Result<Offsets> {
        let mut reached: Option<Offsets> = None;
        for (view, query) in queries() {
            let answer = process.load(&query).await?.with_context(|| format!("{view} does not answer"))?;
            let stated = self.check(view, &answer)?;
            reached = Some(match reached {
                None => stated,
                Some(reached) => reached.into_iter().map(|(partition, offset)| (partition, offset.min(stated.get(&partition).copied().unwrap_or(0)))).collect(),
            });
        }
        reached.context("no view")
    }

    fn check(&mut self, view: &str, answer: &Json) -> Result<Offsets> {
        let stated = offsets(answer);
        self.topic.read_to(&stated)?;
        let verdict = compare(view, answer, &self.topic.records);
        if let Some(wrong) = verdict.wrong {
            bail!("wrong at {stated:?}, run {}: {wrong}", answer["lambda"]["run"]);
        }
        self.cells += verdict.cells;
        Ok(stated)
    }

    /// Waits until every view is answered at or above `ends`, exactly; says how long that took.
    ///
    /// # Errors
    /// When it takes longer than `limit`, or a cell is wrong.
    pub async fn fresh(&mut self, process: &Process, ends: &Offsets, limit: Duration) -> Result<Duration> {
        let began = Instant::now();
        loop {
            // Freshness is looked at cheaply, on the view with the fewest cells; then all are compared.
            let (_, query) = queries().into_iter().nth(1).context("no view")?;
            let reached = process.load(&query).await?.map(|answer| offsets(&answer)).unwrap_or_default();
            let took = began.elapsed();
            if ends.iter().all(|(partition, end)| reached.get(partition).is_some_and(|offset| offset >= end)) {
                self.exact(process).await?;
                return Ok(took);
            }
            if took > limit {
                bail!("not fresh within {} s: at {reached:?} of {ends:?}", limit.as_secs_f64());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The topic's ends now; a broker that just came back may need a moment.
    ///
    /// # Errors
    /// When Kafka does not answer.
    pub async fn ends(&self) -> Result<Offsets> {
        eventually("the topic's ends", Duration::from_secs(30), || async { Ok(self.topic.ends().ok()) }).await
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

    /// Stops the events; then everything is archived, covered, and right at the topic's ends.
    ///
    /// # Errors
    /// When it is not.
    pub async fn finish(&mut self, process: &Process) -> Result<()> {
        self.simulator.signal("TERM")?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let ends = self.ends().await?;
        self.fresh(process, &ends, Duration::from_secs(60)).await?;
        let (code, text) = self.stage.run(&["recompute"])?;
        ensure!(code == Some(0), "{text}");
        let (code, text) = self.stage.run(&["verify"])?;
        self.topic.read_to(&ends)?;
        ensure!(
            code == Some(0) && text.contains(&format!("{} records, 0 faults", self.topic.records.len())),
            "{} were committed: {text}",
            self.topic.records.len()
        );
        let (code, text) = self.stage.run(&["recompute", "--full"])?;
        ensure!(code == Some(0) && text.contains("compared 3 views, 0 cells differ"), "{text}");
        self.exact(process).await?;
        Ok(())
    }
}
