//! The speed layer: Kafka → near-real-time states in PostgreSQL.
//!
//! ```text
//!  consumer ──► decode ──► partial ──► merge into the epoch's groups ──► flush: rows and next_offset in one transaction
//!     ▲                                                                    │
//!     └──────────── opening an epoch says where to read on ◄───────────────┘ cut, rebalance, new definitions, doubt
//! ```
//!
//! | file | what |
//! |---|---|
//! | `worker.rs` | the loop of one worker |
//! | `fold.rs` | records → states in memory |
//! | `store.rs` | the transactions |
//!
//! No state is loaded, ever: after a restart or in doubt a worker opens a new epoch and reads from `next_offset`.

use std::time::Duration;

use anabranch_process::{Catalog, Settings, catalog::definitions};
use anyhow::Result;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

mod fold;
mod store;
mod worker;

/// A worker that failed starts anew after this time; sources that were applied are noticed within it.
const RETRY: Duration = Duration::from_secs(1);

/// Runs one worker per source until `stop`.
///
/// # Errors
/// Only what starting anew cannot mend: the program is wrong.
pub async fn run(settings: Settings, stop: CancellationToken) -> Result<()> {
    let catalog = Catalog::at(&settings.postgres.url)?;
    let mut workers: JoinSet<String> = JoinSet::new();
    let mut running = std::collections::BTreeSet::new();
    let mut complained = false;
    while !stop.is_cancelled() {
        match known_sources(&catalog).await {
            Ok(sources) => {
                complained = false;
                for source in sources.into_iter().filter(|source| !running.contains(source)).collect::<Vec<_>>() {
                    running.insert(source.clone());
                    let (settings, catalog, stop) = (settings.clone(), catalog.clone(), stop.clone());
                    workers.spawn_blocking(move || {
                        supervise(&settings, &catalog, &source, &stop);
                        source
                    });
                }
            }
            Err(error) if !complained => {
                complained = true;
                error!(error = format!("{error:#}"), "could not read the sources; trying on");
            }
            Err(_) => {}
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(RETRY) => {}
        }
    }
    while workers.join_next().await.is_some() {}
    info!("stopped speed");
    Ok(())
}

async fn known_sources(catalog: &Catalog) -> Result<Vec<String>> {
    definitions::sources(&catalog.connect().await?).await
}

/// Runs a worker again and again; each failure is said once.
fn supervise(settings: &Settings, catalog: &Catalog, source: &str, stop: &CancellationToken) {
    let mut last = String::new();
    while !stop.is_cancelled() {
        match worker::Worker::run(settings, catalog, source, stop) {
            Ok(()) => last.clear(),
            Err(error) => {
                let message = format!("{error:#}");
                if message != last {
                    error!(source, error = message, "speed worker failed; starting anew");
                }
                last = message;
                std::thread::sleep(RETRY);
            }
        }
    }
}
