//! The archive: every record of a source, in files that tile the log.
//!
//! | file | what |
//! |---|---|
//! | [`file`] | what an archive file is: its footer, its writer |
//! | [`listing`] | which files a partition has, and where it ends |
//! | `commit.rs` | making a file visible |
//! | `archiver.rs` | the loop of one archiver |
//! | [`verify`] | proof that files tile the log |

use std::{collections::BTreeSet, time::Duration};

use anabranch_process::{Catalog, Settings, Warehouse, catalog::definitions};
use anyhow::Result;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

mod archiver;
mod commit;
pub mod file;
pub mod listing;
pub mod verify;

/// An archiver that failed starts anew after this time; sources that were applied are noticed within it.
const RETRY: Duration = Duration::from_secs(1);

/// Runs one archiver per source until `stop`.
///
/// # Errors
/// When a setting is wrong.
pub async fn run(settings: Settings, stop: CancellationToken) -> Result<()> {
    let catalog = Catalog::at(&settings.postgres.url)?;
    let warehouse = Warehouse::at(&settings.warehouse.url)?;
    let mut archivers = JoinSet::new();
    let mut running = BTreeSet::new();
    let mut complained = false;
    while !stop.is_cancelled() {
        match sources(&catalog).await {
            Ok(sources) => {
                complained = false;
                for source in sources {
                    if !running.insert(source.clone()) {
                        continue;
                    }
                    let (settings, catalog, warehouse, stop) = (settings.clone(), catalog.clone(), warehouse.clone(), stop.clone());
                    archivers.spawn_blocking(move || supervise(&settings, &catalog, &warehouse, &source, &stop));
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
    while archivers.join_next().await.is_some() {}
    info!("stopped archive");
    Ok(())
}

async fn sources(catalog: &Catalog) -> Result<Vec<String>> {
    definitions::sources(&catalog.connect().await?).await
}

/// Runs an archiver again and again; each failure is said once.
fn supervise(settings: &Settings, catalog: &Catalog, warehouse: &Warehouse, source: &str, stop: &CancellationToken) {
    let mut last = String::new();
    while !stop.is_cancelled() {
        match archiver::Archiver::run(settings, catalog, warehouse, source, stop) {
            Ok(()) => last.clear(),
            Err(error) => {
                let message = format!("{error:#}");
                if message != last {
                    error!(source, error = message, "archiver failed; starting anew");
                }
                last = message;
                std::thread::sleep(RETRY);
            }
        }
    }
}
