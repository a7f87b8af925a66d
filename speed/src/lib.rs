//! The speed layer: Kafka → near-real-time states in PostgreSQL.
//!
//! ```text
//!  consumer ──► decode ──► partial ──► merge into the epoch's groups ──► flush, beside reading: rows and next_offset in one transaction
//!     ▲                                                                    │
//!     └──────────── opening an epoch says where to read on ◄───────────────┘ cut, rebalance, new definitions, doubt
//! ```
//!
//! | file | what |
//! |---|---|
//! | `worker.rs` | the loop of one worker |
//! | `worker/flusher.rs` | one flush at a time beside it |
//! | `fold.rs` | records → states in memory |
//! | `store.rs` | the transactions |
//! | `skip.rs` | going on behind offsets that Kafka lost |
//! | `housekeeping.rs` | folding of closed epochs, the limit on live rows |
//!
//! No state is loaded, ever: after a restart or in doubt a worker opens a new epoch and reads from `next_offset`.

pub use skip::skip_lost;

use anabranch_process::{Catalog, Settings, workers};
use anyhow::Result;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

mod fold;
mod housekeeping;
mod skip;
mod store;
mod worker;

/// Runs one worker per source until `stop`.
///
/// # Errors
/// When a setting is wrong.
pub async fn run(settings: Settings, stop: CancellationToken) -> Result<()> {
    let catalog = Catalog::at(&settings.postgres.url)?;
    let (own, token) = (catalog.clone(), stop.clone());
    let work = move |source: &str| {
        let (limit, at_limit) = watch::channel(None);
        let keeping = housekeeping::keep(own.clone(), source.to_owned(), settings.speed.live_rows, limit);
        let _house = AbortOnDropHandle::new(tokio::spawn(keeping));
        worker::Worker::run(&settings, &own, source, at_limit, &token)
    };
    workers::for_each_source("speed", &catalog, &stop, work).await;
    Ok(())
}
