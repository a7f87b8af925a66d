//! Queries: answered, dry-run, explained.
#![expect(clippy::indexing_slicing, reason = "members of JSON objects made here, or a missing one is NULL")]

use std::{collections::BTreeMap, sync::Arc};

use anabranch_process::clock;
use axum::{
    Json,
    body::Bytes,
    extract::{RawQuery, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};
use serde::Deserialize;
use serde_json::{Value as Json_, json, value::RawValue};
use tracing::error;

use super::App;
use crate::{
    answer,
    format::{self, Format},
    mirror::{Answerable, ViewState},
    problem::Problem,
    query::{self, Query, Resolved},
};

/// Queries of one request.
const MOST_BLENDED: usize = 16;

/// What is asked: the body of a POST, or the parameters of a GET.
pub(super) struct LoadRequest {
    /// As it was written: in an object, members of an order have their places.
    query: Box<RawValue>,
    query_type: Option<String>,
    /// By the header Accept.
    format: Format,
    /// The answers that the client has.
    known: Option<String>,
}

/// The body of a POST; without `query` it is the query itself, which is shorter for people with curl.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    query: Option<Box<RawValue>>,
    query_type: Option<String>,
}

impl LoadRequest {
    fn with(mut self, headers: &HeaderMap) -> Result<Self, Problem> {
        self.format = Format::wanted(headers)?;
        self.known = headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok()).map(str::to_owned);
        Ok(self)
    }

    fn is_multi(&self) -> bool {
        self.query_type.as_deref() == Some("multi")
    }

    /// Whether the client has that answer.
    fn has(&self, tag: &str) -> bool {
        self.known.as_deref().is_some_and(|tags| tags.split(',').any(|known| known.trim().trim_start_matches("W/") == tag))
    }
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Problem> {
    serde_json::from_str(text).map_err(|error| Problem::bad_query("bad_query", format!("Invalid query format: {error}")))
}

pub(super) type Handler<T> = fn(&App, &LoadRequest) -> Result<T, Problem>;

/// A route of queries: GET with the query as a parameter, POST with it as the body, as Cube's clients choose by length.
pub(super) fn of_query<T: IntoResponse + 'static>(handler: Handler<T>) -> MethodRouter<App> {
    let by_get = move |State(app): State<App>, headers: HeaderMap, RawQuery(parameters): RawQuery| async move {
        handler(&app, &from_url(&parameters.unwrap_or_default())?.with(&headers)?)
    };
    let by_post = move |State(app): State<App>, headers: HeaderMap, body: Bytes| async move { handler(&app, &from_body(&body)?.with(&headers)?) };
    get(by_get).post(by_post)
}

/// A parameter of the URL.
pub(super) fn parameter(parameters: &str, name: &str) -> Option<String> {
    url_pairs(parameters).into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

pub(super) fn from_url(parameters: &str) -> Result<LoadRequest, Problem> {
    let parameter = |name: &str| parameter(parameters, name);
    let text = parameter("query").ok_or_else(|| Problem::bad_query("bad_query", "the parameter query is missing: ?query={…}"))?;
    Ok(LoadRequest { query: parse(&text)?, query_type: parameter("queryType"), format: Format::Json, known: None })
}

fn from_body(body: &[u8]) -> Result<LoadRequest, Problem> {
    let bad = |error: serde_json::Error| Problem::bad_query("bad_query", format!("the body is not a query as JSON: {error}"));
    let whole: Box<RawValue> = serde_json::from_slice(body).map_err(bad)?;
    let Body { query, query_type } =
        if whole.get().starts_with('{') { serde_json::from_str(whole.get()).map_err(bad)? } else { Body { query: None, query_type: None } };
    Ok(LoadRequest { query: query.unwrap_or(whole), query_type, format: Format::Json, known: None })
}

/// The queries of a request: one, several to be blended, or one for each range of a comparison.
pub(super) struct Asked {
    pub(super) kind: &'static str,
    pub(super) queries: Vec<Query>,
}

pub(super) fn asked(request: &LoadRequest) -> Result<Asked, Problem> {
    let text = request.query.get();
    // Cube's clients send the query as a string, too.
    let unquoted = if text.starts_with('"') { parse::<String>(text)? } else { text.to_owned() };
    if unquoted.trim_start().starts_with('[') {
        let list: Vec<Query> = parse(&unquoted)?;
        if list.is_empty() || list.len() > MOST_BLENDED {
            return Err(Problem::bad_query("blending", format!("a list of queries has 1 to {MOST_BLENDED}")));
        }
        return Ok(Asked { kind: "blendingQuery", queries: list });
    }
    let query: Query = parse(&unquoted)?;
    Ok(match query::compared(&query)? {
        Some(queries) => Asked { kind: "compareDateRangeQuery", queries },
        None => Asked { kind: "regularQuery", queries: vec![query] },
    })
}

/// The views at one moment: all queries of a request are answered from it.
pub(super) struct Moment {
    pub(super) views: BTreeMap<String, ViewState>,
    pub(super) now_ms: i64,
    ready: Result<(), String>,
}

impl Moment {
    pub(super) fn of(app: &App) -> Self {
        Self { views: app.mirror.views(), now_ms: clock::now_ms(), ready: app.mirror.ready() }
    }

    /// The view of a query, and what it asks of it.
    pub(super) fn resolved(&self, query: &Query) -> Result<(ViewState, Resolved), Problem> {
        let name = query::view_name(query)?;
        let Some(state) = self.views.get(&name) else {
            self.ready.clone().map_err(|reason| Problem::unavailable("not_ready", reason))?;
            let help = anabranch_core::definition::error::nearest(&name, self.views.keys().map(String::as_str));
            return Err(Problem::bad_query("unknown_view", format!("unknown view \"{name}\"; {help}").trim_end_matches("; ")));
        };
        Ok((state.clone(), query::resolve(state.view(), query, self.now_ms)?))
    }
}

pub(super) fn answerable(state: &ViewState) -> Result<&Arc<Answerable>, Problem> {
    let name = &state.view().name;
    match state {
        ViewState::Ready(answerable) => Ok(answerable),
        ViewState::BeingBuilt(_) => {
            Err(Problem::unavailable("being_built", format!("the view \"{name}\" is being built: its history is read from the archive; see /v1/status")))
        }
    }
}

pub(super) fn load(app: &App, request: &LoadRequest) -> Result<Response, Problem> {
    let asked = asked(request)?;
    let (kind, queries) = (asked.kind, &asked.queries);
    let moment = Moment::of(app);
    if let ([query], true) = (queries.as_slice(), kind == "regularQuery") {
        let (state, resolved) = moment.resolved(query)?;
        let answerable = answerable(&state)?;
        let tag = answer::tag(answerable, &resolved, request.format.media_type());
        if request.has(&tag) {
            return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
        }
        if request.format != Format::Json {
            return encoded(request.format, answerable, &resolved, moment.now_ms, tag);
        }
        let mut response = Json(as_json(&moment, &asked, request.is_multi())?).into_response();
        response.headers_mut().extend([(header::ETAG, HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("\"\"")))]);
        return Ok(response);
    }
    if request.format != Format::Json {
        return Err(Problem::bad_query("several_answers", "several queries are answered as JSON alone"));
    }
    Ok(Json(as_json(&moment, &asked, request.is_multi())?).into_response())
}

/// The rows in a format that has no room for more; what they cover is in a header.
fn encoded(format: Format, answerable: &Answerable, query: &Resolved, now_ms: i64, tag: String) -> Result<Response, Problem> {
    let rows = answer::rows(answerable, query);
    let lambda = answer::lambda(answerable, now_ms);
    let content = format::encode(format, &answerable.view, query, &rows, &lambda).map_err(|cause| {
        error!(error = format!("{cause:#}"), "could not encode an answer");
        Problem { status: StatusCode::INTERNAL_SERVER_ERROR, code: "encoding", detail: "the answer could not be encoded".to_owned() }
    })?;
    let mut response = ([(header::CONTENT_TYPE, format.media_type().to_owned()), (header::ETAG, tag)], content).into_response();
    if let Some(value) = format::lambda_header(&lambda) {
        response.headers_mut().insert("anabranch-lambda", value);
    }
    Ok(response)
}

/// One answer, or `results` of several, as Cube's clients want them.
pub(super) fn as_json(moment: &Moment, Asked { kind, queries }: &Asked, multi: bool) -> Result<Json_, Problem> {
    let mut results = Vec::new();
    let mut echoes = Vec::new();
    for query in queries {
        let (state, resolved) = moment.resolved(query)?;
        let answerable = answerable(&state)?;
        let mut result = answer::answer(answerable, &resolved, moment.now_ms);
        let time = chrono::DateTime::from_timestamp_millis(answerable.refreshed_ms).map(|time| time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string());
        result["lastRefreshTime"] = json!(time);
        mark(kind, &resolved, &mut result);
        results.push(result);
        echoes.push(resolved.echo);
    }
    if !multi && *kind == "regularQuery" {
        return Ok(results.swap_remove(0));
    }
    // Cube's clients look for the member, also where nothing was counted.
    for result in &mut results {
        if result["total"].is_null() {
            result["total"] = Json_::Null;
        }
    }
    let pivot = pivot_query(kind, &echoes);
    Ok(json!({"queryType": kind, "slowQuery": false, "results": results, "pivotQuery": pivot}))
}

/// What rows of several answers are told apart by.
fn mark(kind: &str, query: &Resolved, result: &mut Json_) {
    let Some(time) = query.echo.time_dimensions.first() else { return };
    let range = json!(time.date_range);
    for row in result["data"].as_array_mut().into_iter().flatten() {
        match kind {
            "compareDateRangeQuery" => {
                row["compareDateRange"] = json!(format!("{} - {}", range[0].as_str().unwrap_or_default(), range[1].as_str().unwrap_or_default()));
            }
            "blendingQuery" => {
                if let Some(granularity) = &time.granularity {
                    row[format!("time.{granularity}")] = row[format!("{}.{granularity}", time.dimension)].clone();
                }
            }
            _ => {}
        }
    }
}

/// By which query Cube's clients pivot the rows.
fn pivot_query(kind: &str, echoes: &[Query]) -> Json_ {
    let mut pivot = json!(echoes.first());
    match kind {
        "compareDateRangeQuery" => {
            let dimensions: Vec<Json_> = [json!("compareDateRange")].into_iter().chain(pivot["dimensions"].as_array().into_iter().flatten().cloned()).collect();
            pivot["dimensions"] = json!(dimensions);
        }
        "blendingQuery" => {
            let all = |members: fn(&Query) -> &Vec<String>| echoes.iter().flat_map(members).collect::<Vec<_>>();
            let granularity = echoes.iter().find_map(|query| query.time_dimensions.first()?.granularity.clone());
            pivot = json!({
                "measures": all(|query| &query.measures), "dimensions": all(|query| &query.dimensions),
                "timeDimensions": [{"dimension": "time", "granularity": granularity}],
            });
        }
        _ => {}
    }
    pivot["queryType"] = json!(kind);
    pivot
}

/// What a query means, without its answer.
pub(super) fn dry_run(app: &App, request: &LoadRequest) -> Result<Json<Json_>, Problem> {
    let Asked { kind, queries } = asked(request)?;
    let moment = Moment::of(app);
    let echoes = queries.iter().map(|query| Ok(moment.resolved(query)?.1.echo)).collect::<Result<Vec<_>, Problem>>()?;
    // One member an object: an object has no order of its own.
    let pairs = echoes.iter().flat_map(|query| &query.order).flat_map(|order| &order.0);
    let orders: Vec<Json_> = pairs.map(|(member, direction)| json!({ member: direction })).collect();
    let pivot = pivot_query(kind, &echoes);
    let nothing: Vec<Json_> = echoes.iter().map(|_| Json_::Null).collect();
    Ok(Json(json!({"queryType": kind, "normalizedQueries": echoes, "pivotQuery": pivot, "queryOrder": orders, "transformedQueries": nothing})))
}

/// From what an answer would be made: version, parts, live groups; nothing is computed.
pub(super) fn explain(app: &App, request: &LoadRequest) -> Result<Json<Json_>, Problem> {
    let Asked { queries, .. } = asked(request)?;
    let moment = Moment::of(app);
    let mut explained = Vec::new();
    for query in &queries {
        let (state, resolved) = moment.resolved(query)?;
        let view = state.view();
        let stands_on = answerable(&state).ok().map(
            |answerable| json!({"lambda": answer::lambda(answerable, moment.now_ms), "parts": answerable.part_counts(), "live_epochs": answerable.live_counts()}),
        );
        explained.push(json!({
            "view": view.name, "fingerprint": view.fingerprint, "definition": view.sql, "query": resolved.echo,
            "scans": "all groups of the parts and of the live epochs", "stands_on": stands_on,
        }));
    }
    Ok(Json(json!({ "queries": explained })))
}

/// `a=b&c=d`, form-urlencoded.
fn url_pairs(text: &str) -> Vec<(String, String)> {
    serde_urlencoded::from_str(text).unwrap_or_default()
}
