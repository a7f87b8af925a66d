//! Tests of the whole, on real Kafka, HDFS and PostgreSQL; `make test` starts them.
#![expect(clippy::disallowed_methods, reason = "the servers of the tests are in the environment")]

use std::{
    future::Future,
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// A setting of the environment that `dev/test` prepares.
///
/// # Panics
/// Without it: a test that needs a server fails loudly when there is none.
#[must_use]
pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; run the tests by `make test`"))
}

/// A running `anabranch`, stopped when dropped.
#[derive(Debug)]
pub struct Anabranch {
    child: Child,
    /// Where its API answers.
    pub url: String,
    listen: String,
}

/// The program with the settings of the tests.
#[must_use]
pub fn anabranch(arguments: &[&str]) -> Command {
    let mut command = Command::new(variable("ANABRANCH_BIN"));
    let pipelines = concat!(env!("CARGO_MANIFEST_DIR"), "/../pipelines");
    command.args(arguments).env("ANABRANCH_PIPELINES__DIR", pipelines).env("ANABRANCH_BATCH__PRUNE_AFTER_SECONDS", "5");
    command
}

impl Anabranch {
    /// All layers in one process, with an incremental run every ten seconds.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run() -> Result<Self> {
        let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let child = anabranch(&["run"])
            .env("ANABRANCH_SERVING__LISTEN", &listen)
            .env("ANABRANCH_BATCH__INCREMENTAL", "*/10 * * * * *")
            .stdout(Stdio::null())
            .spawn()
            .context("start anabranch")?;
        Ok(Self { child, url: format!("http://{listen}"), listen })
    }

    /// A command against the same servers; its exit code and what it printed.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn command(&self, arguments: &[&str]) -> Result<(Option<i32>, String)> {
        let output = anabranch(arguments).env("ANABRANCH_SERVING__LISTEN", &self.listen).output()?;
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        Ok((output.status.code(), text))
    }
}

impl Drop for Anabranch {
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
