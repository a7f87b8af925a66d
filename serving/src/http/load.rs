//! Queries: answered, dry-run, explained.
#![expect(clippy::indexing_slicing, reason = "members of JSON objects made here, or a missing one is NULL")]

use axum::{
    Json,
    body::Body,
    extract::{RawQuery, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};
use serde_json::{Value as Json_, json};
use tracing::error;

use super::{
    App,
    moment::{Moment, answerable},
    request::{Asked, LoadRequest, asked},
};
use crate::{
    answer,
    answerable::Answerable,
    format::{self, Format},
    problem::Problem,
    query::{Query, Resolved},
};

/// What is done with the queries of a request, at one moment.
pub(super) type Handler<T> = fn(&Moment, &LoadRequest, &Asked) -> Result<T, Problem>;

/// A route of queries: GET with the query as a parameter, POST with it as the body.
pub(super) fn of_query<T: IntoResponse + Send + 'static>(handler: Handler<T>) -> MethodRouter<App> {
    let by_get = move |State(app): State<App>, headers: HeaderMap, RawQuery(parameters): RawQuery| async move {
        handle(app, LoadRequest::from_url(&parameters.unwrap_or_default(), &headers)?, handler).await
    };
    let by_post =
        move |State(app): State<App>, headers: HeaderMap, body: Body| async move { handle(app, LoadRequest::from_body(body, &headers).await?, handler).await };
    get(by_get).post(by_post)
}

async fn handle<T: IntoResponse + Send + 'static>(app: App, request: LoadRequest, handler: Handler<T>) -> Result<Response, Problem> {
    let asked = asked(&request)?;
    let moment = Moment::wanted(&app, &request, &asked.queries).await?;
    let left = moment.limits.left.clone();
    app.compute(left, move || Ok(handler(&moment, &request, &asked)?.into_response())).await
}

pub(super) fn load(moment: &Moment, request: &LoadRequest, asked: &Asked) -> Result<Response, Problem> {
    let (kind, queries) = (asked.kind, &asked.queries);
    if let ([query], true) = (queries.as_slice(), kind == "regularQuery") {
        let (state, resolved) = moment.resolved(query)?;
        let answerable = answerable(&state)?;
        let tag = answer::tag(answerable, &resolved, request.format.media_type());
        if request.has(&tag) {
            return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
        }
        if request.format != Format::Json {
            return encoded(moment, request.format, answerable, &resolved, tag);
        }
        let mut response = Json(as_json(moment, asked, request.is_multi())?).into_response();
        response.headers_mut().extend([(header::ETAG, HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("\"\"")))]);
        return Ok(response);
    }
    if request.format != Format::Json {
        return Err(Problem::bad_query("several_answers", "several queries are answered as JSON alone"));
    }
    Ok(Json(as_json(moment, asked, request.is_multi())?).into_response())
}

/// The rows in a format that has no room for more; what they cover is in a header.
fn encoded(moment: &Moment, format: Format, answerable: &Answerable, query: &Resolved, tag: String) -> Result<Response, Problem> {
    let rows = moment.rows(answerable, query)?;
    let lambda = answer::lambda(answerable, moment.now_ms);
    let content = format::encode(format, &answerable.view, query, &rows, &lambda).map_err(|cause| {
        error!(error = format!("{cause:#}"), "could not encode an answer");
        Problem { status: StatusCode::INTERNAL_SERVER_ERROR, ..Problem::bad_query("encoding", "the answer could not be encoded") }
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
        let mut result = answer::answer(answerable, &resolved, &*moment.rows(answerable, &resolved)?, moment.now_ms);
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
pub(super) fn dry_run(moment: &Moment, _: &LoadRequest, Asked { kind, queries }: &Asked) -> Result<Json<Json_>, Problem> {
    let echoes = queries.iter().map(|query| Ok(moment.resolved(query)?.1.echo)).collect::<Result<Vec<_>, Problem>>()?;
    // One member an object: an object has no order of its own.
    let pairs = echoes.iter().flat_map(|query| &query.order).flat_map(|order| &order.0);
    let orders: Vec<Json_> = pairs.map(|(member, direction)| json!({ member: direction })).collect();
    let pivot = pivot_query(kind, &echoes);
    let nothing: Vec<Json_> = echoes.iter().map(|_| Json_::Null).collect();
    Ok(Json(json!({"queryType": kind, "normalizedQueries": echoes, "pivotQuery": pivot, "queryOrder": orders, "transformedQueries": nothing})))
}

/// From what an answer would be made: version, parts, live groups; nothing is computed.
pub(super) fn explain(moment: &Moment, _: &LoadRequest, Asked { queries, .. }: &Asked) -> Result<Json<Json_>, Problem> {
    let mut explained = Vec::new();
    for query in queries {
        let (state, resolved) = moment.resolved(query)?;
        let view = state.view();
        let stands_on = answerable(&state).ok().map(|answerable| {
            json!({
                "lambda": answer::lambda(answerable, moment.now_ms), "parts": answerable.part_counts(),
                "parts_held_in": if answerable.is_in_memory() { "memory" } else { "local files" }, "live_epochs": answerable.live_counts(),
            })
        });
        explained.push(json!({
            "view": view.name, "fingerprint": view.fingerprint, "definition": view.sql, "query": resolved.echo,
            "scans": "the groups of the range of time, in the parts and in the live epochs", "stands_on": stands_on,
        }));
    }
    Ok(Json(json!({ "queries": explained })))
}
