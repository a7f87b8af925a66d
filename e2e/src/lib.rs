//! Tests of the whole, on real Kafka, HDFS and PostgreSQL; `make test` starts them.
#![expect(clippy::disallowed_methods, reason = "the servers of the tests are in the environment")]

use std::{
    collections::BTreeMap,
    fs::File,
    future::Future,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anabranch_process::Warehouse;
use anyhow::{Context, Result, bail};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};
use serde_json::Value as Json;
use tokio_postgres::{Client, NoTls};

pub mod chaos;
pub mod clicks;
pub mod proxy;
pub mod scene;
pub mod servers;

/// An orderly stop flushes, seals and commits; longer than this it hangs.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// A setting of the environment that `dev/test` prepares.
///
/// # Panics
/// Without it: a test that needs a server fails loudly when there is none.
#[must_use]
pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; run the tests by `make test`"))
}

/// The Kafka of the tests.
#[must_use]
pub fn kafka() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", variable("ANABRANCH_KAFKA__BROKERS"));
    config
}

/// Makes a topic.
///
/// # Errors
/// When Kafka refuses.
pub async fn create_topic(name: &str, partitions: i32) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = kafka().create()?;
    let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    for result in admin.create_topics([&topic], &AdminOptions::new()).await? {
        result.map_err(|(topic, code)| anyhow::anyhow!("make topic {topic}: {code}"))?;
    }
    Ok(())
}

/// One installation: a database and a warehouse of its own on the shared servers.
#[derive(Debug)]
pub struct Stage {
    settings: BTreeMap<String, String>,
    folder: PathBuf,
}

impl Stage {
    /// An empty one, with the shipped pipelines.
    ///
    /// # Errors
    /// When PostgreSQL does not answer.
    pub async fn new(name: &str) -> Result<Self> {
        // Beside the servers' own logs, and gone with them.
        let folder = tempfile::Builder::new().prefix(&format!("stage-{name}-")).tempdir_in(variable("ANABRANCH_SERVERS"))?.keep();
        let mut stage = Self { settings: BTreeMap::new(), folder };
        stage.set("ANABRANCH_PIPELINES__DIR", concat!(env!("CARGO_MANIFEST_DIR"), "/../pipelines"));
        stage.set("ANABRANCH_WAREHOUSE__URL", &format!("{}-{name}", variable("ANABRANCH_WAREHOUSE__URL")));
        stage.set("ANABRANCH_BATCH__PRUNE_AFTER_SECONDS", "5");
        stage.new_database(name).await?;
        Ok(stage)
    }

    /// From here on it has another, empty database.
    ///
    /// # Errors
    /// When PostgreSQL does not answer.
    pub async fn new_database(&mut self, name: &str) -> Result<()> {
        let shared = variable("ANABRANCH_POSTGRES__URL");
        let (client, connection) = tokio_postgres::connect(&shared, NoTls).await?;
        tokio::spawn(connection);
        client.batch_execute(&format!("CREATE DATABASE {name}")).await?;
        let (server, _) = shared.rsplit_once('/').context("the URL of PostgreSQL names a database")?;
        self.set("ANABRANCH_POSTGRES__URL", &format!("{server}/{name}"));
        Ok(())
    }

    /// A setting as it is now.
    ///
    /// # Errors
    /// When it was never set.
    pub fn setting(&self, name: &str) -> Result<String> {
        self.settings.get(name).cloned().with_context(|| format!("{name} is not set"))
    }

    /// Changes a setting of everything that is started from here on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.insert(name.to_owned(), value.to_owned());
    }

    /// A folder for files of the test.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its pipeline is this text from here on.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn pipeline(&mut self, sql: &str) -> Result<()> {
        let folder = self.folder().join("pipelines");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("pipeline.sql"), sql)?;
        self.set("ANABRANCH_PIPELINES__DIR", &folder.display().to_string());
        Ok(())
    }

    /// Its warehouse.
    ///
    /// # Errors
    /// When the address cannot be read.
    pub fn warehouse(&self) -> Result<Warehouse> {
        Ok(Warehouse::at(self.settings.get("ANABRANCH_WAREHOUSE__URL").context("no warehouse")?)?)
    }

    /// A connection to its database.
    ///
    /// # Errors
    /// When PostgreSQL does not answer.
    pub async fn database(&self) -> Result<Client> {
        let url = self.settings.get("ANABRANCH_POSTGRES__URL").context("no database")?;
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(connection);
        client.batch_execute("SET search_path = anabranch").await?;
        Ok(client)
    }

    fn program(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).envs(&self.settings).current_dir(&self.folder);
        command
    }

    /// Runs a command of `anabranch` to its end: its exit code, and what it printed.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(&self, arguments: &[&str]) -> Result<(Option<i32>, String)> {
        finished(self.program(&variable("ANABRANCH_BIN"), arguments))
    }

    /// Runs the oracle against an API.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn oracle(&self, process: &Process) -> Result<(Option<i32>, String)> {
        let oracle = Path::new(&variable("ANABRANCH_BIN")).with_file_name("anabranch-oracle");
        finished(self.program(&oracle.display().to_string(), &["--url", &process.url]))
    }

    /// Starts a service, or a simulator.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&mut self, arguments: &[&str]) -> Result<Process> {
        self.start_program(&variable("ANABRANCH_BIN"), arguments)
    }

    /// Starts a service that ends itself at a crash point.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_crashing(&mut self, arguments: &[&str], point: &str) -> Result<Process> {
        self.set("ANABRANCH_CRASH", point);
        let started = self.start_program(&variable("ANABRANCH_CRASHING"), arguments);
        self.settings.remove("ANABRANCH_CRASH");
        started
    }

    fn start_program(&mut self, program: &str, arguments: &[&str]) -> Result<Process> {
        let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        if arguments.iter().any(|argument| ["run", "serve"].contains(argument)) {
            // Commands ask the newest API.
            self.set("ANABRANCH_SERVING__LISTEN", &listen);
        }
        let name = arguments.iter().map(|argument| argument.rsplit('/').next().unwrap_or(argument)).collect::<Vec<_>>().join("-");
        let log = self.folder.join(format!("{name}-{listen}.log"));
        let mut command = self.program(program, arguments);
        let child = command.stdout(Stdio::null()).stderr(File::create(&log)?).spawn().context("start anabranch")?;
        Ok(Process { child, log, url: format!("http://{listen}"), client: reqwest::Client::new() })
    }
}

fn finished(mut command: Command) -> Result<(Option<i32>, String)> {
    let output = command.output().context("start a command")?;
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Ok((output.status.code(), text))
}

/// A running `anabranch`, killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
    /// Where its API answers, if it has one.
    pub url: String,
    client: reqwest::Client,
}

impl Process {
    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The answer to a query; nothing while it is not ready.
    ///
    /// # Errors
    /// When an answer is not JSON.
    pub async fn load(&self, query: &Json) -> Result<Option<Json>> {
        let Ok(response) = self.client.post(format!("{}/v1/load", self.url)).json(query).send().await else { return Ok(None) };
        if !response.status().is_success() {
            return Ok(None);
        }
        Ok(Some(response.json().await?))
    }

    /// SIGTERM, then waits.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn stop(self) -> Result<ExitStatus> {
        self.signal("TERM")?;
        self.ended().await
    }

    /// SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// The status of an HTTP route; nothing when nobody answers within a second.
    pub async fn route(&self, path: &str) -> Option<u16> {
        let answer = self.client.get(format!("{}{path}", self.url)).timeout(Duration::from_secs(1)).send().await;
        answer.ok().map(|answer| answer.status().as_u16())
    }

    /// SIGSTOP, and waits until it is stopped.
    ///
    /// # Errors
    /// When it does not stop.
    pub fn pause(&self) -> Result<()> {
        self.signal("STOP")?;
        let deadline = Instant::now() + Duration::from_secs(5);
        while !std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?.contains(") T ") {
            if Instant::now() > deadline {
                bail!("{} is not stopped", self.log.display());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Its log so far.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(&self.log)?)
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When `kill` cannot be started.
    pub fn signal(&self, signal: &str) -> Result<()> {
        Command::new("kill").args(["-s", signal, &self.child.id().to_string()]).status()?;
        Ok(())
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn ended(self) -> Result<ExitStatus> {
        self.ended_within(STOP_LIMIT).await
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn ended_within(mut self, limit: Duration) -> Result<ExitStatus> {
        let child = &mut self.child;
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("{} did not stop within {} s", self.log.display(), limit.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Its resident memory in bytes.
    ///
    /// # Errors
    /// When it has ended.
    pub fn resident_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    /// The lines of its log that somebody should look at, without those that the test announced.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn complaints(&self, announced: &[&str]) -> Result<Vec<String>> {
        let log = std::fs::read_to_string(&self.log)?;
        let is_complaint = |line: &&str| {
            let plain = serde_json::from_str::<Json>(line).is_err();
            plain || line.contains("\"level\":\"WARN\"") || line.contains("\"level\":\"ERROR\"")
        };
        Ok(log.lines().filter(is_complaint).filter(|line| !announced.iter().any(|text| line.contains(text))).map(str::to_owned).collect())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Polls until `check` gives something.
///
/// # Errors
/// When it does not within `limit`.
pub async fn eventually<T, F: Future<Output = Result<Option<T>>>>(what: &str, limit: Duration, mut check: impl FnMut() -> F) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = check().await? {
            return Ok(value);
        }
        if Instant::now() > deadline {
            bail!("{what}: not within {} s", limit.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
