//! `/v1/stream`: one query, and a new answer whenever its rows changed, as server-sent events.
//!
//! ```text
//! event: answer      id: the answer's tag      data: as /v1/load gives it
//! event: lambda      id: the answer's tag      data: a list: what each answer covers now; its rows are the same. At least every 5 s:
//!                                              who hears nothing for longer knows that the server is away
//! event: problem     data: why there is no answer; the stream ends
//! ```
//!
//! A list of queries is followed over one connection, too: a page asks several, and all are answered of one moment.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::{RawQuery, State},
    http::HeaderMap,
    response::sse::{Event, KeepAlive, Sse},
};
use futures::{Stream, stream};
use serde_json::{Value as Json, json};
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    App,
    load::as_json,
    moment::{Moment, answerable},
    request::{Asked, LoadRequest, asked, parameter},
};
use crate::{answer, problem::Problem};

/// Faster than this nobody reads; a client may ask for fewer.
const MOST_A_SECOND: u32 = 10;
const USUAL_A_SECOND: u32 = 2;
/// What an answer covers is said this often also where nothing moves.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// A connection without an answer is kept alive through proxies that end silent ones after a minute or so.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

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
    heartbeat: Instant,
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
    let request = LoadRequest::from_url(&parameters, &HeaderMap::new())?;
    if request.run.is_some() || !request.min_offsets.is_empty() {
        return Err(Problem::bad_query("parameter", "a stream follows what is newest: run and min_offsets are for /v1/load"));
    }
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
    let (now, pause) = (Instant::now(), Duration::from_secs(1) / rate);
    let subscription = Subscription { app, asked, changes, tag, data: Vec::new(), pause, next: now, heartbeat: now + HEARTBEAT, ended: false };
    Ok(Sse::new(stream::unfold(subscription, next)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// The next event; nothing when the view is gone or the server stops.
async fn next(mut subscription: Subscription) -> Option<(Result<Event, Infallible>, Subscription)> {
    while !subscription.ended {
        let is_due = timeout_at(subscription.heartbeat, subscription.changes.changed()).await.map_or(Some(true), |changed| changed.ok().map(|()| false))?;
        sleep_until(subscription.next).await;
        subscription.changes.mark_unchanged();
        if is_due {
            subscription.heartbeat = Instant::now() + HEARTBEAT;
        }
        // A subscription waits for its turn as long as it takes: the answer is of the moment at which it has it.
        let turn = Arc::clone(&subscription.app.turns).acquire_owned().await.ok()?;
        let moment = Moment::of(&subscription.app);
        let _waiting = moment.limits.left.clone().drop_guard();
        let computed = spawn_blocking(move || {
            let _turn = turn;
            let news = subscription.news(&moment, is_due);
            (subscription, news)
        });
        let news;
        (subscription, news) = computed.await.ok()?;
        match news {
            Ok(None) => {}
            Ok(Some(event)) => {
                subscription.next = Instant::now() + subscription.pause;
                subscription.heartbeat = Instant::now() + HEARTBEAT;
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
    /// What is new to the client; if its heartbeat is due, what it has covers.
    fn news(&mut self, moment: &Moment, is_due: bool) -> Result<Option<Event>, Problem> {
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
        let covers = |tag: String| Some(Event::default().event("lambda").id(tag).data(json!(lambdas).to_string()));
        if tag == self.tag {
            return Ok(is_due.then(|| covers(tag)).flatten());
        }
        let answer = as_json(moment, &self.asked, false)?;
        let results = answer.get("results").and_then(Json::as_array).map_or(std::slice::from_ref(&answer), Vec::as_slice);
        let data: Vec<Json> = results.iter().map(|result| result.get("data").cloned().unwrap_or_default()).collect();
        self.tag.clone_from(&tag);
        // Events that are none of this query's moved the offsets alone.
        if data == self.data {
            return Ok(covers(tag));
        }
        self.data = data;
        Ok(Some(Event::default().event("answer").id(tag).data(answer.to_string())))
    }
}
