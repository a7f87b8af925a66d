//! `/v1/stream`: one query, and a new answer whenever its rows changed, as server-sent events.
//!
//! ```text
//! event: answer      id: the answer's tag      data: as /v1/load gives it
//! event: lambda      id: the answer's tag      data: a list: what each answer covers now; its rows are the same
//! event: problem     data: why there is no answer; the stream ends
//! ```
//!
//! A list of queries is followed over one connection, too: a page asks several, and all are answered of one moment.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::{RawQuery, State},
    http::HeaderMap,
    response::sse::{Event, KeepAlive, Sse},
};
use futures::{Stream, stream};
use serde_json::{Value as Json, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    App,
    load::{Asked, LoadRequest, Moment, answerable, as_json, asked, from_url, parameter},
};
use crate::{answer, problem::Problem};

/// Faster than this nobody reads; a client may ask for fewer.
const MOST_A_SECOND: u32 = 10;
const USUAL_A_SECOND: u32 = 2;
/// A quiet connection is kept alive through proxies that end silent ones after a minute or so.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// One subscription.
struct Subscription {
    app: App,
    asked: Asked,
    changes: watch::Receiver<u64>,
    /// What the client has: the tag, and the rows of each answer.
    tag: String,
    data: Vec<Json>,
    pause: Duration,
    next: Instant,
    ended: bool,
}

/// The route.
///
/// # Errors
/// A [`Problem`] for a query that could not be answered by `/v1/load` either.
pub(super) async fn stream(
    State(app): State<App>,
    headers: HeaderMap,
    RawQuery(parameters): RawQuery,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let parameters = parameters.unwrap_or_default();
    let request: LoadRequest = from_url(&parameters)?;
    let asked = asked(&request)?;
    let rate = match parameter(&parameters, "maxPerSecond") {
        None => USUAL_A_SECOND,
        Some(text) => text
            .parse()
            .ok()
            .filter(|rate| (1..=MOST_A_SECOND).contains(rate))
            .ok_or_else(|| Problem::bad_query("rate", format!("maxPerSecond is a number from 1 to {MOST_A_SECOND}, not \"{text}\"")))?,
    };
    let moment = Moment::of(&app);
    asked.queries.iter().try_for_each(|query| moment.resolved(query).map(drop))?;
    let tag = headers.get("last-event-id").and_then(|tag| tag.to_str().ok()).unwrap_or_default().to_owned();
    let mut changes = app.mirror.changes();
    // The first answer does not wait for a change.
    changes.mark_changed();
    let subscription = Subscription { app, asked, changes, tag, data: Vec::new(), pause: Duration::from_secs(1) / rate, next: Instant::now(), ended: false };
    Ok(Sse::new(stream::unfold(subscription, next)).keep_alive(KeepAlive::new().interval(HEARTBEAT)))
}

/// The next event; nothing when the view is gone or the server stops.
async fn next(mut subscription: Subscription) -> Option<(Result<Event, Infallible>, Subscription)> {
    while !subscription.ended {
        subscription.changes.changed().await.ok()?;
        sleep_until(subscription.next).await;
        subscription.changes.mark_unchanged();
        match subscription.news() {
            Ok(None) => {}
            Ok(Some(event)) => {
                subscription.next = Instant::now() + subscription.pause;
                return Some((Ok(event), subscription));
            }
            // Said once; the client asks again, and gets it as an answer of its own.
            Err(problem) => {
                subscription.ended = true;
                let body = json!({"type": problem.code, "status": problem.status.as_u16(), "detail": problem.detail});
                return Some((Ok(Event::default().event("problem").data(body.to_string())), subscription));
            }
        }
    }
    None
}

impl Subscription {
    /// What is new to the client.
    fn news(&mut self) -> Result<Option<Event>, Problem> {
        let moment = Moment::of(&self.app);
        let (mut tags, mut lambdas) = (String::new(), Vec::new());
        for query in &self.asked.queries {
            let (state, resolved) = moment.resolved(query)?;
            let Ok(answerable) = answerable(&state) else { return Ok(None) };
            tags.push_str(&answer::tag(answerable, &resolved, "text/event-stream"));
            lambdas.push(answer::lambda(answerable, moment.now_ms));
        }
        let tag = match self.asked.queries.len() {
            1 => tags,
            _ => blake3::hash(tags.as_bytes()).to_hex().to_string(),
        };
        if tag == self.tag {
            return Ok(None);
        }
        let answer = as_json(&moment, &self.asked, false)?;
        let results = answer.get("results").and_then(Json::as_array).map_or(std::slice::from_ref(&answer), Vec::as_slice);
        let data: Vec<Json> = results.iter().map(|result| result.get("data").cloned().unwrap_or_default()).collect();
        self.tag.clone_from(&tag);
        // Events that are none of this query's moved the offsets alone.
        if data == self.data {
            return Ok(Some(Event::default().event("lambda").id(tag).data(json!(lambdas).to_string())));
        }
        self.data = data;
        Ok(Some(Event::default().event("answer").id(tag).data(answer.to_string())))
    }
}
