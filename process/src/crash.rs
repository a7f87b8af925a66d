//! Crash points: before and after every step that changes something outside this process.
//!
//! Compiled in by the feature `crash-points`, for tests: there the process ends itself at a point that
//! `ANABRANCH_CRASH` names (`"archive: warehouse.rename before"`, the layer being the command), or notes every point that
//! it passes in the file that `ANABRANCH_CRASH_LOG` names. Without the feature a step is just its future.

use std::future::Future;

/// Runs a step that changes something outside the process, between two points named after it.
pub async fn step<T>(name: &'static str, step: impl Future<Output = T>) -> T {
    point(name, "before");
    let result = step.await;
    point(name, "after");
    result
}

#[cfg(not(feature = "crash-points"))]
#[inline]
fn point(_name: &'static str, _side: &'static str) {}

#[cfg(feature = "crash-points")]
fn point(name: &'static str, side: &'static str) {
    let full = format!("{name} {side}");
    fail::fail_point!(full.as_str());
    armed::note(&full);
}

#[cfg(feature = "crash-points")]
pub use armed::arm;

#[cfg(feature = "crash-points")]
mod armed {
    #![expect(clippy::disallowed_methods, reason = "the tests say by the environment where to crash")]

    use std::{
        fs::{File, OpenOptions},
        io::Write,
        sync::OnceLock,
    };

    use anyhow::{Context, Result, anyhow};

    static LOG: OnceLock<File> = OnceLock::new();

    /// Reads what the environment asks for.
    ///
    /// # Errors
    /// When the log cannot be opened.
    pub fn arm() -> Result<()> {
        if let Ok(point) = std::env::var("ANABRANCH_CRASH") {
            // At once, without any destructor, as SIGKILL.
            fail::cfg_callback(point, || std::process::abort()).map_err(|error| anyhow!(error))?;
        }
        if let Ok(path) = std::env::var("ANABRANCH_CRASH_LOG") {
            let file = OpenOptions::new().create(true).append(true).open(&path).with_context(|| format!("open {path}"))?;
            LOG.get_or_init(|| file);
        }
        Ok(())
    }

    pub(super) fn note(point: &str) {
        if let Some(mut log) = LOG.get() {
            drop(writeln!(log, "{point}"));
        }
    }
}
