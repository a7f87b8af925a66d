//! The archive: every record of a source, in files that tile the log.
//!
//! | file | what |
//! |---|---|
//! | [`file`] | what an archive file is, and its writer |
//! | `encoder.rs` | records → a file's bytes, beside reading |
//! | `commit.rs` | making a file visible |
//! | `archiver.rs` | the loop of one archiver |
//! | [`skip`] | a file that stands for what nobody has any more |
//! | [`verify`] | proof that files tile the log |

use anabranch_process::{Catalog, Settings, Warehouse, workers};
use anyhow::Result;
use tokio_util::sync::CancellationToken;

mod archiver;
mod commit;
mod encoder;
pub mod file;
pub mod skip;
pub mod verify;

/// Runs one archiver per source until `stop`.
///
/// # Errors
/// When a setting is wrong.
pub async fn run(settings: Settings, stop: CancellationToken) -> Result<()> {
    let catalog = Catalog::at(&settings.postgres.url)?;
    let warehouse = Warehouse::at(&settings.warehouse.url)?;
    let (own, token) = (catalog.clone(), stop.clone());
    workers::for_each_source("archive", &catalog, &stop, move |source| archiver::Archiver::run(&settings, &own, &warehouse, source, &token)).await;
    Ok(())
}
