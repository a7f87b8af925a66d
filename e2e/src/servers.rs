//! The servers themselves, stopped, killed and started again in the middle of everything.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::variable;

const GONE_LIMIT: Duration = Duration::from_secs(20);

/// One server of the set that the tests run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Server {
    /// The one broker.
    Kafka,
    /// HDFS's names.
    NameNode,
    /// HDFS's blocks.
    DataNode,
    /// The database.
    PostgreSql,
}

impl Server {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Kafka, Self::NameNode, Self::DataNode, Self::PostgreSql];

    fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::NameNode => "namenode",
            Self::DataNode => "datanode-1",
            Self::PostgreSql => "postgres",
        }
    }

    /// Its process.
    fn id(self) -> Result<u32> {
        let path = Path::new(&variable("ANABRANCH_SERVERS")).join(format!("{}.pid", self.name()));
        Ok(fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?.trim().parse()?)
    }

    /// Sends a signal to the process and to those that it started: each of PostgreSQL's leads a group of its own.
    fn signal(self, signal: &str) -> Result<()> {
        let id = self.id()?;
        let mut processes = vec![id.to_string()];
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let stat = fs::read_to_string(format!("/proc/{name}/stat")).unwrap_or_default();
            // pid (name) state parent
            let parent = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1));
            if name.parse::<u32>().is_ok() && parent == Some(&id.to_string()) {
                processes.push(name);
            }
        }
        // A child may end meanwhile; whether the process itself got the signal is looked at by the callers.
        Command::new("kill").args(["-s", signal, "--"]).args(&processes).stderr(Stdio::null()).status()?;
        Ok(())
    }

    /// SIGSTOP: connections stay, nothing answers.
    ///
    /// # Errors
    /// When it did not stop.
    pub fn pause(self) -> Result<()> {
        self.signal("STOP")?;
        self.until("stopped", |state| state == Some('T'))
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(self) -> Result<()> {
        self.signal("CONT")?;
        self.until("running", |state| state.is_some_and(|state| state != 'T'))
    }

    /// SIGKILL, also to what it started.
    ///
    /// # Errors
    /// When it is still there.
    pub fn kill(self) -> Result<()> {
        self.signal("KILL")?;
        self.until("gone", |state| state.is_none_or(|state| state == 'Z'))
    }

    /// Its state as the kernel names it; nothing when it is gone.
    fn state(self) -> Result<Option<char>> {
        let Ok(stat) = fs::read_to_string(format!("/proc/{}/stat", self.id()?)) else { return Ok(None) };
        Ok(stat.rsplit(") ").next().and_then(|rest| rest.chars().next()))
    }

    fn until(self, what: &str, check: impl Fn(Option<char>) -> bool) -> Result<()> {
        let deadline = Instant::now() + GONE_LIMIT;
        while !check(self.state()?) {
            if Instant::now() > deadline {
                bail!("{} is not {what}", self.name());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// Continues every server that is stopped, starts every one that does not run, and waits until all are healthy.
///
/// # Errors
/// When one does not become healthy.
pub fn start_all() -> Result<()> {
    for server in Server::ALL {
        if server.state()? == Some('T') {
            server.resume()?;
        }
    }
    let base = PathBuf::from(variable("ANABRANCH_SERVERS"));
    let (folder, set) = (base.parent().context("no folder of servers")?, base.file_name().context("no set of servers")?);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../dev/servers");
    let output = Command::new(script).arg("up").env("ANABRANCH_DEV_DIR", folder).env("SET", set).stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
