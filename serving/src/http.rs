//! The routes.
#![expect(clippy::indexing_slicing, reason = "members of JSON objects made here, or a missing one is NULL")]

use std::time::Duration;

use anabranch_core::definition::View;
use anabranch_process::{Catalog, Settings, clock};
use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, RawQuery, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value as Json_, json};
use tower_http::{cors::CorsLayer, timeout::TimeoutLayer};
use tracing::error;

use crate::{
    answer::{self, cube_type, member_json},
    mirror::{Mirror, ViewState},
    problem::Problem,
    query::{self, Query},
    status,
};

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
        .route("/v1/load", get(load_get).post(load_post))
        .route("/v1/meta", get(meta))
        .route("/v1/status", get(read_status))
        .route("/healthz", get(|| async { Json(json!({"health": "HEALTH"})) }))
        .route("/readyz", get(readyz))
        .fallback(|| async {
            Problem {
                status: StatusCode::NOT_FOUND,
                code: "unknown_route",
                detail: "unknown route; /v1/load, /v1/meta, /v1/status, /healthz, /readyz".to_owned(),
            }
        })
        .layer(DefaultBodyLimit::max(BODY_LIMIT_BYTES))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, REQUEST_LIMIT))
        .layer(CorsLayer::permissive())
        .with_state(App { mirror, settings })
}

/// What a POST holds; GET has the same as parameters.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LoadRequest {
    query: Json_,
    query_type: Option<String>,
}

fn parse<T: DeserializeOwned>(json: Json_) -> Result<T, Problem> {
    serde_json::from_value(json).map_err(|error| Problem::bad_query("bad_query", format!("Invalid query format: {error}")))
}

async fn load_get(State(app): State<App>, RawQuery(parameters): RawQuery) -> Result<Response, Problem> {
    let parameters = parameters.unwrap_or_default();
    let parameter = |name: &str| {
        let pairs = url_pairs(&parameters);
        pairs.into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
    };
    let text = parameter("query").ok_or_else(|| Problem::bad_query("bad_query", "the parameter query is missing: /v1/load?query={…}"))?;
    let query = serde_json::from_str(&text).map_err(|error| Problem::bad_query("bad_query", format!("Invalid query format: {error}")))?;
    load(&app, &LoadRequest { query, query_type: parameter("queryType") })
}

async fn load_post(State(app): State<App>, body: Bytes) -> Result<Response, Problem> {
    let json: Json_ = serde_json::from_slice(&body).map_err(|error| Problem::bad_query("bad_query", format!("the body is not JSON: {error}")))?;
    // The query itself is taken too: shorter for people with curl.
    let request = if json.get("query").is_some() { parse(json)? } else { LoadRequest { query: json, query_type: None } };
    load(&app, &request)
}

fn load(app: &App, request: &LoadRequest) -> Result<Response, Problem> {
    // Cube's clients send the query as a string, too.
    let query: Query = match &request.query {
        Json_::String(text) => serde_json::from_str(text).map_err(|error| Problem::bad_query("bad_query", format!("Invalid query format: {error}")))?,
        other => parse(other.clone())?,
    };
    let name = query::view_name(&query)?;
    let views = app.mirror.views();
    let Some(state) = views.get(&name) else {
        app.mirror.ready().map_err(|reason| Problem::unavailable("not_ready", reason))?;
        let help = anabranch_core::definition::error::nearest(&name, views.keys().map(String::as_str));
        return Err(Problem::bad_query("unknown_view", format!("unknown view \"{name}\"; {help}").trim_end_matches("; ")));
    };
    let resolved = query::resolve(state.view(), &query)?;
    let ViewState::Ready(answerable) = state else {
        return Err(Problem::unavailable("being_built", format!("the view \"{name}\" is being built: its history is read from the archive; see /v1/status")));
    };
    let now_ms = clock::now_ms();
    let mut result = answer::answer(answerable, &resolved, now_ms);
    if request.query_type.as_deref() != Some("multi") {
        return Ok(Json(result).into_response());
    }
    let time = chrono::DateTime::from_timestamp_millis(answerable.refreshed_ms).map(|time| time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string());
    result["lastRefreshTime"] = json!(time);
    result["total"] = Json_::Null;
    let mut pivot = json!(resolved.echo);
    pivot["queryType"] = json!("regularQuery");
    Ok(Json(json!({"queryType": "regularQuery", "slowQuery": false, "results": [result], "pivotQuery": pivot})).into_response())
}

/// `a=b&c=d`, form-urlencoded.
fn url_pairs(text: &str) -> Vec<(String, String)> {
    serde_urlencoded::from_str(text).unwrap_or_default()
}

async fn meta(State(app): State<App>) -> Result<Json<Json_>, Problem> {
    app.mirror.ready().map_err(|reason| Problem::unavailable("not_ready", reason))?;
    let cubes: Vec<Json_> = app.mirror.views().values().map(|state| cube(state.view())).collect();
    Ok(Json(json!({ "cubes": cubes })))
}

fn cube(view: &View) -> Json_ {
    let full = |name: &str| format!("{}.{name}", view.name);
    // The main time dimension comes first: clients take the first one as default.
    let described = |mut entry: Json_, name: &str| {
        if let Some(comment) = view.column_comments.get(name) {
            entry["description"] = json!(comment);
        }
        entry
    };
    let mut dimensions: Vec<Json_> = view.bucket.iter().map(|bucket| described(dimension(&full(&bucket.name), "time"), &bucket.name)).collect();
    dimensions.extend(view.dimensions.iter().map(|found| described(dimension(&full(&found.name), cube_type(found.expression.data_type)), &found.name)));
    let measures: Vec<Json_> = view
        .measures
        .iter()
        .map(|measure| {
            let mut entry = member_json(&full(&measure.name), cube_type(measure.data_type), Some(view.exactness(measure)));
            entry["public"] = json!(true);
            entry["isVisible"] = json!(true);
            entry["drillMembersGrouped"] = json!({"measures": [], "dimensions": []});
            described(entry, &measure.name)
        })
        .collect();
    json!({
        "name": view.name, "title": view.name.replace('_', " "), "description": view.comment, "type": "view", "public": true, "isVisible": true,
        "measures": measures, "dimensions": dimensions, "segments": [], "hierarchies": [], "folders": [], "nestedFolders": [],
        "meta": {"source": view.source.name, "fingerprint": view.fingerprint, "granularity": view.bucket.as_ref().map(|bucket| bucket.width.to_string()), "rows": view.is_rows},
    })
}

fn dimension(member: &str, member_type: &str) -> Json_ {
    let mut entry = member_json(member, member_type, None);
    entry["suggestFilterValues"] = json!(true);
    entry["primaryKey"] = json!(false);
    entry["public"] = json!(true);
    entry["isVisible"] = json!(true);
    entry
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
