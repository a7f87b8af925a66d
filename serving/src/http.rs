//! The routes.
//!
//! | file | routes |
//! |---|---|
//! | `http/request.rs`, `http/moment.rs` | what is asked, and of which moment |
//! | `http/load.rs` | `/v1/load`, `/v1/dry-run`, `/v1/explain` |
//! | `http/meta.rs` | `/v1/meta` |
//! | `http/stream.rs` | `/v1/stream` |
//! | `http/rejected.rs` | `/v1/rejected` |
//! | `http.rs` | `/v1/status`, `/healthz`, `/readyz`, `/metrics` |
//! | `http/openapi.rs` | `/v1/openapi.json` |
//! | `http/dashboard.rs` | `/`, `/assets/…` |

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anabranch_process::Settings;
use axum::{
    Json, Router,
    extract::{MatchedPath, Request, State},
    http::{StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value as Json_, json};
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};
use tokio_util::sync::CancellationToken;
use tower_http::{
    compression::{
        CompressionLayer,
        predicate::{DefaultPredicate, NotForContentType, Predicate},
    },
    cors::CorsLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, RequestId, SetRequestIdLayer},
    timeout::TimeoutLayer,
};
use tracing::{Instrument, error, info_span};

use self::{
    load::{dry_run, explain, load, of_query},
    meta::cube,
};
use crate::{cache::Answers, metrics::Figures, mirror::Mirror, problem::Problem, status};

mod dashboard;
mod load;
mod meta;
mod moment;
mod openapi;
mod rejected;
mod request;
mod stream;

/// Beyond the limits of single steps: no request takes longer.
const REQUEST_LIMIT: Duration = Duration::from_secs(120);
/// A query waits so long for its turn.
const TURN_LIMIT: Duration = Duration::from_secs(10);

#[derive(Clone)]
struct App {
    mirror: Mirror,
    settings: Arc<Settings>,
    answers: Answers,
    figures: Figures,
    turns: Arc<Semaphore>,
}

impl App {
    /// Computes something beside the connections, a few at a time; `left` is told when nobody waits for it any more.
    ///
    /// # Errors
    /// A [`Problem`] that names the limit and its setting.
    async fn compute<T: Send + 'static>(&self, left: CancellationToken, work: impl FnOnce() -> Result<T, Problem> + Send + 'static) -> Result<T, Problem> {
        let serving = &self.settings.serving;
        let turn = timeout(TURN_LIMIT, Arc::clone(&self.turns).acquire_owned()).await.ok().and_then(Result::ok).ok_or_else(|| {
            let at_once = serving.queries_at_once;
            Problem::unavailable(
                "busy",
                format!("{at_once} queries are being computed (serving.queries_at_once), and none ended within {} s", TURN_LIMIT.as_secs()),
            )
        })?;
        let _waiting = left.drop_guard();
        let work = spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        match timeout(Duration::from_secs(serving.query_seconds), work).await {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => {
                error!(error = %panic, "a query broke off");
                Err(Problem { status: StatusCode::INTERNAL_SERVER_ERROR, ..Problem::bad_query("broken", "the query broke off; the server's log says why") })
            }
            Err(_) => Err(Problem::unavailable("time_limit", format!("not computed within {} s (serving.query_seconds)", serving.query_seconds))),
        }
    }
}

pub(crate) fn routes(mirror: Mirror, settings: Settings) -> anyhow::Result<Router> {
    let app = App {
        mirror,
        answers: Answers::new(settings.serving.cache_bytes),
        figures: Figures::new()?,
        turns: Arc::new(Semaphore::new(settings.serving.queries_at_once)),
        settings: Arc::new(settings),
    };
    let router = Router::new()
        .route("/v1/load", of_query(load))
        // Cube's clients poll it: the same answer.
        .route("/v1/subscribe", of_query(load))
        .route("/v1/dry-run", of_query(dry_run))
        .route("/v1/explain", of_query(explain))
        .route("/v1/stream", get(stream::stream))
        .route("/v1/meta", get(read_meta).post(read_meta))
        .route("/v1/status", get(read_status))
        .route("/v1/rejected", get(rejected::read))
        .route("/v1/openapi.json", get(openapi::openapi))
        .merge(dashboard::routes())
        .route("/healthz", get(|| async { Json(json!({"health": "HEALTH"})) }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(read_metrics))
        .fallback(|| async {
            let known = openapi::ROUTES.map(|(path, ..)| path).join(", ");
            Problem { status: StatusCode::NOT_FOUND, ..Problem::bad_query("unknown_route", format!("unknown route; {known}, /docs")) }
        })
        .layer(CompressionLayer::new().compress_when(DefaultPredicate::new().and(NotForContentType::new("application/wasm"))))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, REQUEST_LIMIT))
        .layer(CorsLayer::permissive())
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(from_fn_with_state(app.clone(), timed))
        // The client's own, or a new one.
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
        .with_state(app);
    Ok(router)
}

async fn read_meta(State(app): State<App>) -> Result<Json<Json_>, Problem> {
    app.mirror.ready().map_err(|reason| Problem::unavailable("not_ready", reason))?;
    let cubes: Vec<Json_> = app.mirror.views().values().map(|state| cube(state.view())).collect();
    Ok(Json(json!({ "cubes": cubes })))
}

async fn read_status(State(app): State<App>) -> Result<Json<status::Status>, Problem> {
    status::read(app.mirror.catalog(), &app.mirror).await.map(Json).map_err(|cause| {
        error!(error = format!("{cause:#}"), "could not read the status");
        Problem::unavailable("no_status", "the catalog does not answer")
    })
}

async fn read_metrics(State(app): State<App>) -> Result<impl IntoResponse, Problem> {
    let scraped = app.clone();
    let text = app
        .compute(CancellationToken::new(), move || {
            scraped.figures.text(&scraped.mirror, scraped.settings.serving.groups).map_err(|cause| {
                error!(error = format!("{cause:#}"), "could not write the metrics");
                Problem { status: StatusCode::INTERNAL_SERVER_ERROR, ..Problem::bad_query("metrics", "the metrics could not be written") }
            })
        })
        .await?;
    Ok(([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text))
}

/// Notes how long a request took; what is logged meanwhile names it.
async fn timed(State(app): State<App>, path: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = request.extensions().get::<RequestId>().and_then(|id| id.header_value().to_str().ok()).unwrap_or_default().to_owned();
    let response = next.run(request).instrument(info_span!("request", id)).await;
    let route = path.as_ref().map_or("unknown", MatchedPath::as_str);
    app.figures.requests.with_label_values(&[route, response.status().as_str()]).observe(began.elapsed().as_secs_f64());
    response
}

async fn readyz(State(app): State<App>) -> Result<Json<Json_>, Problem> {
    app.mirror.ready().map(|()| Json(json!({"health": "HEALTH"}))).map_err(|reason| Problem::unavailable("not_ready", reason))
}
