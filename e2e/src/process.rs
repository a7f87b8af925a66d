//! A running program: its API, its signals, its memory, its log.

use std::{
    path::PathBuf,
    process::{Child, Command, ExitStatus},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::Value as Json;

/// An orderly stop flushes, seals and commits; longer than this it hangs.
const STOP_LIMIT: Duration = Duration::from_secs(30);

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
    pub(crate) fn new(child: Child, log: PathBuf, url: String) -> Self {
        Self { child, log, url, client: reqwest::Client::new() }
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
    pub async fn ended(mut self) -> Result<ExitStatus> {
        self.wait(STOP_LIMIT).await
    }

    /// Waits until it has ended, as long as this.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
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
