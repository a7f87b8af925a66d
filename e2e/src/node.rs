//! Programs for Node: the client of Cube's API, and a browser.

use std::{
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value as Json;

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/client"))
}

/// Runs a script to its end; gives what it printed.
///
/// # Errors
/// When it fails: with what it said.
pub fn run(script: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new("node").arg(script).args(arguments).current_dir(folder()).output().context("start node")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{script}: {text}{}", String::from_utf8_lossy(&output.stderr));
    Ok(text)
}

/// A browser that does what it is told, a line at a time.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    began: Instant,
}

impl Browser {
    /// Starts one that looks at `url` and leaves pictures in `pictures`.
    ///
    /// # Errors
    /// When Node is missing.
    pub fn start(url: &str, pictures: &str) -> Result<Self> {
        let mut child = Command::new("node")
            .args(["browser.mjs", url, pictures])
            .current_dir(folder())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start node")?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("no stdout")?);
        Ok(Self { child, input, output, began: Instant::now() })
    }

    /// Lets it do something; gives its answer. What it is told is printed with the seconds since it began.
    ///
    /// # Errors
    /// What it says went wrong.
    #[expect(clippy::print_stdout, reason = "a test that fails shows where it was")]
    pub fn tell(&mut self, command: &Json) -> Result<Json> {
        println!("{:6.1} s  {}", self.began.elapsed().as_secs_f64(), command.to_string().chars().take(120).collect::<String>());
        writeln!(self.input.as_mut().context("no stdin")?, "{command}")?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        ensure!(!line.is_empty(), "the browser's script ended");
        let answer: Json = serde_json::from_str(&line).with_context(|| line.clone())?;
        if let Some(error) = answer.get("error") {
            bail!("{command}: {}", error.as_str().unwrap_or_default());
        }
        Ok(answer)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The script closes the browser when its input ends; a kill is for one that hangs.
        drop(self.input.take());
        for _ in 0..50 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
