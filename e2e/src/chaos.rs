//! Everything goes wrong, at random and overlapping, by a seeded plan, under events that flow; every answer is recounted.
#![expect(clippy::print_stdout, reason = "the figures of a run")]

use std::{
    collections::BTreeMap,
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rdkafka::{
    Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
};

use crate::{
    Process, clicks, eventually, kafka,
    proxy::{Mode, Proxy},
    scene::{LAYERS, Running, Scene, serving},
    servers::{self, Server},
    variable,
};

pub mod plan;
mod probes;

use plan::{Fault, Planned};
use probes::Probes;

/// One fault about every five seconds.
const PACE: Duration = Duration::from_secs(5);
/// So often everything is healed, and must become right and fresh again.
const QUIET_EVERY: Duration = Duration::from_secs(90);
const QUIET_LIMIT: Duration = Duration::from_secs(90);
const RATE: &str = "1200";
/// An answer has at most 50,000 rows: so many songs are played within an hour.
const MUSIC_RATE: &str = "15";

/// What a run did.
#[derive(Debug, Default)]
pub struct Summary {
    /// How often each kind of fault happened.
    pub faults: BTreeMap<String, usize>,
    /// Answers that were recounted.
    pub answers: usize,
    /// Their cells.
    pub cells: usize,
    /// Records of the topic.
    pub records: usize,
    /// How long it took to be fresh again after each healing, the longest.
    pub slowest: Duration,
}

struct Chaos {
    scene: Scene,
    running: Running,
    /// Second workers.
    seconds: Running,
    /// Stopped, and replaced.
    zombies: Running,
    to_database: Proxy,
    to_names: Proxy,
    addresses: BTreeMap<Server, String>,
    partitions: usize,
    second: String,
    summary: Summary,
}

/// Runs the plan of `seed` for `total`, then lets everything become right, archived and covered.
///
/// # Errors
/// The first wrong cell, an effect that did not come, or what does not become right again.
pub async fn run(seed: u64, total: Duration) -> Result<Summary> {
    let plan = plan::plan(seed, total, PACE);
    println!("seed {seed}: {} faults in {} s", plan.len(), total.as_secs());
    let mut chaos = Chaos::new().await?;
    let probes = Probes::start(&chaos.scene.name)?;
    let result = chaos.follow(&plan, &probes).await;
    let probed = probes.stop();
    result?;
    let (answers, cells) = probed?;
    chaos.summary.answers += answers;
    chaos.summary.cells += cells;
    chaos.finish().await
}

impl Chaos {
    async fn new() -> Result<Self> {
        let mut scene = Scene::with_music("chaos", RATE, MUSIC_RATE).await?;
        let (to_database, to_names) = scene.behind_proxies().await?;
        scene.stage.set("ANABRANCH_ARCHIVE__ROTATE_SECONDS", "20");
        let second = scene.stage.folder().join("second.toml");
        std::fs::write(&second, "[kafka.client]\n\"group.instance.id\" = \"second\"\n")?;
        let addresses = BTreeMap::from([
            (Server::Kafka, variable("ANABRANCH_KAFKA__BROKERS")),
            (Server::NameNode, to_names.target.clone()),
            (Server::PostgreSql, to_database.target.clone()),
        ]);
        let running = scene.begin().await?;
        Ok(Self {
            scene,
            running,
            seconds: BTreeMap::new(),
            zombies: BTreeMap::new(),
            to_database,
            to_names,
            addresses,
            partitions: 8,
            second: second.display().to_string(),
            summary: Summary::default(),
        })
    }

    fn start(&mut self, layer: &'static str) -> Result<()> {
        self.scene.start(&[layer], &mut self.running)
    }

    fn layer(&self, layer: &str) -> Result<&Process> {
        self.running.get(layer).with_context(|| format!("{layer} does not run"))
    }

    async fn follow(&mut self, plan: &[Planned], probes: &Probes) -> Result<()> {
        let began = Instant::now();
        let mut healing: Vec<(Duration, Fault)> = Vec::new();
        let mut next_quiet = QUIET_EVERY;
        // Time spent in quiet spells does not count.
        let mut spent = Duration::ZERO;
        for planned in plan {
            loop {
                let now = began.elapsed() - spent;
                healing.sort_by_key(|(until, _)| *until);
                if let Some((_, fault)) = healing.first().copied().filter(|(until, _)| *until <= now) {
                    healing.remove(0);
                    self.heal(fault).await.with_context(|| format!("heal: {fault}"))?;
                } else if now >= next_quiet {
                    let quiet = Instant::now();
                    for (_, fault) in std::mem::take(&mut healing) {
                        self.heal(fault).await.with_context(|| format!("heal: {fault}"))?;
                    }
                    self.becomes_fresh().await?;
                    spent += quiet.elapsed();
                    next_quiet += QUIET_EVERY;
                } else if planned.at <= now {
                    break;
                } else {
                    probes.ask(serving(&self.running).ok().filter(|_| probes.is_ready())).await;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                probes.check()?;
            }
            println!("{:>6.1} s  {} ({:.1} s)", planned.at.as_secs_f64(), planned.fault, planned.lasts.as_secs_f64());
            self.strike(planned.fault).await.with_context(|| format!("at {:.1} s: {}", planned.at.as_secs_f64(), planned.fault))?;
            *self.summary.faults.entry(planned.fault.kind()).or_default() += 1;
            healing.push((planned.at + planned.lasts, planned.fault));
        }
        for (_, fault) in healing {
            self.heal(fault).await?;
        }
        self.becomes_fresh().await?;
        probes.check()
    }

    /// Nothing is wrong any more: everything goes on by itself.
    async fn becomes_fresh(&mut self) -> Result<()> {
        let began = Instant::now();
        let ends = self.scene.ends().await?;
        let took = self.scene.fresh(serving(&self.running)?, &ends, QUIET_LIMIT).await?;
        // The longer the topic, the longer one core recounts it.
        println!("          quiet: fresh after {:.1} s, recounted and right after {:.1} s", took.as_secs_f64(), began.elapsed().as_secs_f64());
        self.summary.slowest = self.summary.slowest.max(took);
        Ok(())
    }

    /// Begins a fault, and makes sure that it has its effect.
    async fn strike(&mut self, fault: Fault) -> Result<()> {
        match fault {
            // Killing waits until the process is gone.
            Fault::LayerKilled(layer) => self.running.remove(layer).context("it does not run")?.kill()?,
            Fault::AllKilled => {
                for process in std::mem::take(&mut self.running).into_values() {
                    process.kill()?;
                }
            }
            Fault::LayerStopped(layer) => self.layer(layer)?.pause()?,
            Fault::LayerReplaced(layer) => {
                let zombie = self.running.remove(layer).context("it does not run")?;
                zombie.pause()?;
                self.zombies.insert(layer, zombie);
                self.start(layer)?;
            }
            Fault::SecondWorker(layer) => {
                let process = self.scene.stage.start(&["--config", &self.second, layer])?;
                self.seconds.insert(layer, process);
            }
            Fault::ServerKilled(server) => {
                server.kill()?;
                // Its threads may take a moment to go.
                let refuses = || async { Ok(self.addresses.get(&server).is_none_or(|address| TcpStream::connect(address).is_err()).then_some(())) };
                eventually("connections are refused", Duration::from_secs(5), refuses).await?;
            }
            Fault::ServerStopped(server) => server.pause()?,
            Fault::Database(mode) => disturb(&self.to_database, mode),
            Fault::Names(mode) => disturb(&self.to_names, mode),
            Fault::MorePartitions => {
                if self.partitions < 16 {
                    self.partitions += 2;
                    self.scene.add_partitions(self.partitions).await?;
                }
                for partition in 8..i32::try_from(self.partitions)? {
                    clicks::produce(&self.scene.name, partition, &vec![serde_json::json!({"event_id": null}); 5])?;
                }
            }
            Fault::Transactions => transactions(&self.scene.name)?,
            Fault::Retention => self.retain().await?,
        }
        Ok(())
    }

    async fn heal(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::LayerKilled(layer) => self.start(layer)?,
            Fault::AllKilled => self.scene.start(&LAYERS, &mut self.running)?,
            Fault::LayerStopped(layer) => self.layer(layer)?.signal("CONT")?,
            Fault::LayerReplaced(layer) => {
                let zombie = self.zombies.remove(layer).context("no zombie")?;
                zombie.signal("CONT")?;
                tokio::time::sleep(Duration::from_secs(1)).await;
                zombie.kill()?;
            }
            Fault::SecondWorker(layer) => self.seconds.remove(layer).context("no second worker")?.kill()?,
            Fault::ServerKilled(_) => servers::start_all()?,
            Fault::ServerStopped(server) => server.resume()?,
            Fault::Database(mode) => restore(&self.to_database, mode),
            Fault::Names(mode) => restore(&self.to_names, mode),
            Fault::MorePartitions | Fault::Transactions | Fault::Retention => {}
        }
        Ok(())
    }

    /// Kafka forgets what both arms and the oracle have.
    async fn retain(&mut self) -> Result<()> {
        // The catalog may be away just now; then there is nothing to forget.
        let Ok(Ok(database)) = tokio::time::timeout(Duration::from_secs(2), self.scene.stage.database()).await else { return Ok(()) };
        let sql = "SELECT partition, least(next_offset, coalesce(committed_to, 0)) FROM partition";
        let Ok(Ok(rows)) = tokio::time::timeout(Duration::from_secs(2), database.query(sql, &[])).await else { return Ok(()) };
        let had: BTreeMap<i32, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        self.scene.topic.read_to(&had)?;
        let mut list = TopicPartitionList::new();
        for (partition, first) in had {
            list.add_partition_offset(&self.scene.name, partition, Offset::Offset(first / 3))?;
        }
        let admin: AdminClient<DefaultClientContext> = kafka().create()?;
        admin.delete_records(&list, &AdminOptions::new()).await?;
        Ok(())
    }

    async fn finish(mut self) -> Result<Summary> {
        self.scene.finish(serving(&self.running)?).await?;
        self.summary.cells += self.scene.cells;
        self.summary.records = self.scene.topic.records.len();
        for (layer, process) in self.running {
            ensure!(process.stop().await?.success(), "{layer} did not stop in order");
        }
        Ok(self.summary)
    }
}

fn disturb(proxy: &Proxy, mode: Mode) {
    proxy.set(mode);
    // What is slow or swallowed happens to connections that stay.
    if matches!(mode, Mode::Pass | Mode::Refuse) {
        proxy.cut();
    }
}

fn restore(proxy: &Proxy, mode: Mode) {
    proxy.set(Mode::Pass);
    if mode == Mode::Swallow {
        // What was swallowed is missing in the stream.
        proxy.cut();
    }
}

fn transactions(topic: &str) -> Result<()> {
    let limit = Duration::from_secs(30);
    let producer: ThreadedProducer<DefaultProducerContext> = kafka().set("transactional.id", "chaos").create()?;
    producer.init_transactions(limit)?;
    for commits in [false, true, false] {
        producer.begin_transaction()?;
        for number in 0..20 {
            producer.send(BaseRecord::<str, [u8]>::to(topic).key(&number.to_string())).map_err(|(error, _)| error)?;
        }
        if commits { producer.commit_transaction(limit)? } else { producer.abort_transaction(limit)? }
    }
    Ok(())
}
