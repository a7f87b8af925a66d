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

use anabranch_process::{Catalog, Settings, workers};
use anyhow::Result;
use tokio_util::sync::CancellationToken;

mod fold;
mod store;
mod worker;

/// Runs one worker per source until `stop`.
///
/// # Errors
/// When a setting is wrong.
pub async fn run(settings: Settings, stop: CancellationToken) -> Result<()> {
    let catalog = Catalog::at(&settings.postgres.url)?;
    let (own, token) = (catalog.clone(), stop.clone());
    workers::for_each_source("speed", &catalog, &stop, move |source| worker::Worker::run(&settings, &own, source, &token)).await;
    Ok(())
}
