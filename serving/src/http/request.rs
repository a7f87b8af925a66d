//! What is asked: the body of a POST, or the parameters of a GET, as Cube's clients choose by length.

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use axum::{
    body::{Body, to_bytes},
    http::{HeaderMap, StatusCode, header},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    format::Format,
    problem::Problem,
    query::{self, Query},
};

/// A query is a few kilobytes.
const BODY_LIMIT_BYTES: usize = 1024 * 1024;
/// Queries of one request.
const MOST_BLENDED: usize = 16;
/// Longer than this no request waits for offsets; below the limit of time of a request.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// One request.
pub(super) struct LoadRequest {
    /// As it was written: in an object, members of an order have their places.
    query: Box<RawValue>,
    query_type: Option<String>,
    /// By the header Accept.
    pub(super) format: Format,
    /// The answers that the client has.
    known: Option<String>,
    /// An older version.
    pub(super) run: Option<i64>,
    /// What an answer must cover: by topic, then by partition.
    pub(super) min_offsets: BTreeMap<String, BTreeMap<i32, i64>>,
    /// How long it may be waited for.
    pub(super) wait: Duration,
}

/// The body of a POST; without `query` it is the query itself, which is shorter for people with curl.
#[derive(Default, Deserialize)]
struct Posted {
    query: Option<Box<RawValue>>,
    #[serde(rename = "queryType")]
    query_type: Option<String>,
    run: Option<i64>,
    min_offsets: Option<BTreeMap<String, BTreeMap<i32, i64>>>,
    wait_ms: Option<u64>,
}

impl LoadRequest {
    /// Of the parameters of a URL.
    pub(super) fn from_url(parameters: &str, headers: &HeaderMap) -> Result<Self, Problem> {
        let parameter = |name: &str| parameter(parameters, name);
        let text = parameter("query").ok_or_else(|| Problem::bad_query("bad_query", "the parameter query is missing: ?query={…}"))?;
        let posted = Posted {
            query: Some(parse(&text)?),
            query_type: parameter("queryType"),
            run: number(parameters, "run")?,
            min_offsets: parameter("min_offsets").map(|text| parse(&text)).transpose()?,
            wait_ms: number(parameters, "wait_ms")?,
        };
        Self::of(posted, None, headers)
    }

    /// Of the body of a POST.
    pub(super) async fn from_body(body: Body, headers: &HeaderMap) -> Result<Self, Problem> {
        let body = to_bytes(body, BODY_LIMIT_BYTES).await.map_err(|_| Problem {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            ..Problem::bad_query("body_limit", format!("a body has at most {BODY_LIMIT_BYTES} bytes"))
        })?;
        let bad = |error: serde_json::Error| Problem::bad_query("bad_query", format!("the body is not a query as JSON: {error}"));
        let whole: Box<RawValue> = serde_json::from_slice(&body).map_err(bad)?;
        let posted = if whole.get().starts_with('{') { serde_json::from_str(whole.get()).map_err(bad)? } else { Posted::default() };
        Self::of(posted, Some(whole), headers)
    }

    fn of(posted: Posted, whole: Option<Box<RawValue>>, headers: &HeaderMap) -> Result<Self, Problem> {
        let Posted { query, query_type, run, min_offsets, wait_ms } = posted;
        let query = query.or(whole).ok_or_else(|| Problem::bad_query("bad_query", "there is no query"))?;
        let wait = Duration::from_millis(wait_ms.unwrap_or(0));
        if wait > LONGEST_WAIT {
            return Err(Problem::bad_query("parameter", format!("wait_ms is at most {}", LONGEST_WAIT.as_millis())));
        }
        let known = headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok()).map(str::to_owned);
        Ok(Self { query, query_type, format: Format::wanted(headers)?, known, run, min_offsets: min_offsets.unwrap_or_default(), wait })
    }

    /// Whether the client wants the list form of an answer.
    pub(super) fn is_multi(&self) -> bool {
        self.query_type.as_deref() == Some("multi")
    }

    /// Whether the client has that answer.
    pub(super) fn has(&self, tag: &str) -> bool {
        self.known.as_deref().is_some_and(|tags| tags.split(',').any(|known| known.trim().trim_start_matches("W/") == tag))
    }
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Problem> {
    serde_json::from_str(text).map_err(|error| Problem::bad_query("bad_query", format!("Invalid query format: {error}")))
}

/// A parameter of the URL.
pub(super) fn parameter(parameters: &str, name: &str) -> Option<String> {
    let pairs: Vec<(String, String)> = serde_urlencoded::from_str(parameters).unwrap_or_default();
    pairs.into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

/// A parameter of the URL that is a number.
pub(super) fn number<T: FromStr>(parameters: &str, name: &str) -> Result<Option<T>, Problem> {
    let bad = |text: &str| Problem::bad_query("parameter", format!("{name} is a number, not \"{text}\""));
    parameter(parameters, name).map(|text| text.parse().map_err(|_| bad(&text))).transpose()
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
