//! The serving layer: one answer out of a version and the live rows above it.
//!
//! | file | what |
//! |---|---|
//! | `snapshot.rs` | what PostgreSQL says, in one snapshot |
//! | `version.rs` | published parts in memory |
//! | `live.rs` | live rows in memory |
//! | [`answerable`] | what a view's answers are computed from |
//! | [`mirror`] | both together, refreshed: what answers are computed from |
//! | `older.rs` | versions that were current once |
//! | [`query`] | a query, resolved against a view |
//! | `scan.rs` | a resolved query → groups |
//! | [`answer`] | groups → rows |
//! | `cache.rs` | rows of answers, kept while they are the newest |
//! | [`status`] | where everything stands |
//! | [`format`] | rows as JSON, CSV, NDJSON, Arrow, Parquet |
//! | `http.rs` | the routes |
//! | `metrics.rs` | figures for Prometheus |
//! | `problem.rs` | errors as clients see them |
//!
//! PostgreSQL is never asked per request.

use anabranch_process::{Settings, failure::Refused};
use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

pub mod answer;
pub mod answerable;
mod cache;
pub mod format;
mod http;
mod live;
mod metrics;
pub mod mirror;
mod older;
mod problem;
pub mod query;
mod scan;
mod snapshot;
pub mod status;
mod version;

pub use mirror::Mirror;

/// Serves until `stop`.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn run(settings: Settings, stop: CancellationToken) -> Result<()> {
    let mirror = Mirror::new(&settings)?;
    let listener = TcpListener::bind(&settings.serving.listen)
        .await
        .map_err(|error| Refused(format!("setting serving.listen = \"{}\": {error}", settings.serving.listen)))?;
    info!(listen = %listener.local_addr()?, "started serving");
    let follower = tokio::spawn(mirror.clone().follow(stop.clone()));
    let app = http::routes(mirror, settings)?;
    axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned()).await.context("serve")?;
    follower.await?;
    info!("stopped serving");
    Ok(())
}
