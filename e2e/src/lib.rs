//! Tests of the whole, on real Kafka, HDFS and PostgreSQL; `make test` starts them.
#![expect(clippy::disallowed_methods, reason = "the servers of the tests are in the environment")]

use std::{
    collections::BTreeMap,
    fs::File,
    future::Future,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anabranch_process::Warehouse;
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};
use serde_json::Value as Json;
use tokio_postgres::{Client, NoTls};

pub mod chaos;
pub mod clicks;
pub mod formats;
pub mod node;
mod process;
pub mod proxy;
pub mod scene;
pub mod servers;
pub mod sql;

pub use process::Process;

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
    /// The variable that names the program.
    program: &'static str,
}

impl Stage {
    /// An empty one, with the shipped pipelines.
    ///
    /// # Errors
    /// When PostgreSQL does not answer.
    pub async fn new(name: &str) -> Result<Self> {
        // Beside the servers' own logs, and gone with them.
        let folder = tempfile::Builder::new().prefix(&format!("stage-{name}-")).tempdir_in(variable("ANABRANCH_SERVERS"))?.keep();
        let mut stage = Self { settings: BTreeMap::new(), folder, program: "ANABRANCH_BIN" };
        // The topic of the other shipped pipeline is not there.
        stage.pipeline(&std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../pipelines/server_status.sql"))?)?;
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

    /// Takes a setting back.
    pub fn unset(&mut self, name: &str) {
        self.settings.remove(name);
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

    /// The parts of a view's newest version: the path of each, by its name.
    ///
    /// # Errors
    /// When it has no version, or a server does not answer.
    pub async fn parts(&self, view: &str) -> Result<BTreeMap<String, String>> {
        let sql = "SELECT folder FROM version WHERE view = $1 ORDER BY run DESC LIMIT 1";
        let folder: String = self.database().await?.query_one(sql, &[&view]).await?.get(0);
        let manifest: Json = serde_json::from_slice(&self.warehouse()?.read(&format!("{folder}/manifest.json")).await?)?;
        let parts = manifest.get("parts").and_then(Json::as_object).context("no parts")?;
        Ok(parts.iter().filter_map(|(name, part)| Some((name.clone(), part.get("path")?.as_str()?.to_owned()))).collect())
    }

    /// Another content for a file of the warehouse.
    ///
    /// # Errors
    /// When the warehouse fails.
    pub async fn replace(&self, path: &str, content: Bytes) -> Result<()> {
        let warehouse = self.warehouse()?;
        warehouse.remove(path).await?;
        warehouse.write_new(path, content).await?;
        Ok(())
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
        finished(self.program(&variable(self.program), arguments))
    }

    /// Runs a script of bash, in which `anabranch` is the program: its exit code, and what it printed.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn shell(&self, script: &str) -> Result<(Option<i32>, String)> {
        let folder = Path::new(&variable(self.program)).parent().context("the program is in a folder")?.to_owned();
        let mut command = self.program("bash", &["-c", script]);
        command.env("PATH", format!("{}:{}", folder.display(), variable("PATH")));
        finished(command)
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
        self.start_program(&variable(self.program), arguments)
    }

    /// From here on its programs are those in which a test can drop a guard of the protocol; `guard` is dropped.
    pub fn without(&mut self, guard: Option<&str>) {
        self.program = "ANABRANCH_CRASHING";
        if let Some(guard) = guard {
            self.set("ANABRANCH_WITHOUT", guard);
        }
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

    /// Starts a service that notes every crash point that it passes, in this file.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_noting(&mut self, arguments: &[&str], file: &Path) -> Result<Process> {
        self.set("ANABRANCH_CRASH_LOG", &file.display().to_string());
        let started = self.start_program(&variable("ANABRANCH_CRASHING"), arguments);
        self.settings.remove("ANABRANCH_CRASH_LOG");
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
        Ok(Process::new(child, log, format!("http://{listen}")))
    }
}

fn finished(mut command: Command) -> Result<(Option<i32>, String)> {
    let output = command.output().context("start a command")?;
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Ok((output.status.code(), text))
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
