//! The routes.
//!
//! | file | routes |
//! |---|---|
//! | `http/load.rs` | `/v1/load`, `/v1/dry-run`, `/v1/explain` |
//! | `http/meta.rs` | `/v1/meta` |
//! | `http/stream.rs` | `/v1/stream` |
//! | `http/dashboard.rs` | `/`, `/assets/…` |

use std::time::Duration;

use anabranch_process::{Catalog, Settings};
use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    http::StatusCode,
    routing::get,
};
use serde_json::{Value as Json_, json};
use tower_http::{
    compression::{
        CompressionLayer,
        predicate::{DefaultPredicate, NotForContentType, Predicate},
    },
    cors::CorsLayer,
    timeout::TimeoutLayer,
};
use tracing::error;

use self::{
    load::{dry_run, explain, load, of_query},
    meta::cube,
};
use crate::{mirror::Mirror, problem::Problem, status};

mod dashboard;
mod load;
mod meta;
mod stream;

/// A query is a few kilobytes.
const BODY_LIMIT_BYTES: usize = 1024 * 1024;
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

#[derive(Clone)]
struct App {
    mirror: Mirror,
    settings: Settings,
}

pub(crate) fn routes(mirror: Mirror, settings: Settings) -> Router {
    Router::new()
        .route("/v1/load", of_query(load))
        // Cube's clients poll it: the same answer.
        .route("/v1/subscribe", of_query(load))
        .route("/v1/dry-run", of_query(dry_run))
        .route("/v1/explain", of_query(explain))
        .route("/v1/stream", get(stream::stream))
        .route("/v1/meta", get(read_meta).post(read_meta))
        .route("/v1/status", get(read_status))
        .merge(dashboard::routes())
        .route("/healthz", get(|| async { Json(json!({"health": "HEALTH"})) }))
        .route("/readyz", get(readyz))
        .fallback(|| async {
            Problem {
                status: StatusCode::NOT_FOUND,
                code: "unknown_route",
                detail: "unknown route; /v1/load, /v1/dry-run, /v1/explain, /v1/stream, /v1/meta, /v1/status, /healthz, /readyz".to_owned(),
            }
        })
        .layer(CompressionLayer::new().compress_when(DefaultPredicate::new().and(NotForContentType::new("application/wasm"))))
        .layer(DefaultBodyLimit::max(BODY_LIMIT_BYTES))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, REQUEST_LIMIT))
        .layer(CorsLayer::permissive())
        .with_state(App { mirror, settings })
}

async fn read_meta(State(app): State<App>) -> Result<Json<Json_>, Problem> {
    app.mirror.ready().map_err(|reason| Problem::unavailable("not_ready", reason))?;
    let cubes: Vec<Json_> = app.mirror.views().values().map(|state| cube(state.view())).collect();
    Ok(Json(json!({ "cubes": cubes })))
}

async fn read_status(State(app): State<App>) -> Result<Json<status::Status>, Problem> {
    let read = async {
        let catalog = Catalog::at(&app.settings.postgres.url)?;
        status::read(&catalog, &app.mirror).await
    };
    read.await.map(Json).map_err(|cause| {
        error!(error = format!("{cause:#}"), "could not read the status");
        Problem::unavailable("no_status", "the catalog does not answer")
    })
}

async fn readyz(State(app): State<App>) -> Result<Json<Json_>, Problem> {
    app.mirror.ready().map(|()| Json(json!({"health": "HEALTH"}))).map_err(|reason| Problem::unavailable("not_ready", reason))
}
