//! `/v1/stream`: one query, and a new answer whenever it changed, as server-sent events.
//!
//! ```text
//! event: answer      id: the answer's tag      data: as /v1/load gives it
//! ```

use std::{convert::Infallible, time::Duration};

use anabranch_process::clock;
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
    load::{LoadRequest, answerable, asked, from_url, parameter, resolved},
};
use crate::{answer, problem::Problem, query::Query};

/// Faster than this nobody reads; a client may ask for fewer.
const MOST_A_SECOND: u32 = 10;
const USUAL_A_SECOND: u32 = 2;
/// A quiet connection is kept alive through proxies that end silent ones after a minute or so.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// One subscription.
struct Subscription {
    app: App,
    query: Query,
    changes: watch::Receiver<u64>,
    /// What the client has: the tag, and the rows of the answer.
    tag: String,
    data: Json,
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
    let mut asked = asked(&request)?;
    let (Some(query), true) = (asked.queries.pop(), asked.queries.is_empty()) else {
        return Err(Problem::bad_query("several_answers", "one subscription follows one query"));
    };
    let rate = match parameter(&parameters, "maxPerSecond") {
        None => USUAL_A_SECOND,
        Some(text) => text
            .parse()
            .ok()
            .filter(|rate| (1..=MOST_A_SECOND).contains(rate))
            .ok_or_else(|| Problem::bad_query("rate", format!("maxPerSecond is a number from 1 to {MOST_A_SECOND}, not \"{text}\"")))?,
    };
    resolved(&app, &query, clock::now_ms())?;
    let tag = headers.get("last-event-id").and_then(|tag| tag.to_str().ok()).unwrap_or_default().to_owned();
    let mut changes = app.mirror.changes();
    // The first answer does not wait for a change.
    changes.mark_changed();
    let subscription = Subscription { app, query, changes, tag, data: Json::Null, pause: Duration::from_secs(1) / rate, next: Instant::now(), ended: false };
    Ok(Sse::new(stream::unfold(subscription, next)).keep_alive(KeepAlive::new().interval(HEARTBEAT)))
}

/// The next event; nothing when the view is gone or the server stops.
async fn next(mut subscription: Subscription) -> Option<(Result<Event, Infallible>, Subscription)> {
    while !subscription.ended {
        subscription.changes.changed().await.ok()?;
        sleep_until(subscription.next).await;
        subscription.changes.mark_unchanged();
        match subscription.answer() {
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
    /// The answer, if it is another one than the client has.
    fn answer(&mut self) -> Result<Option<Event>, Problem> {
        let now_ms = clock::now_ms();
        let (state, resolved) = resolved(&self.app, &self.query, now_ms)?;
        let Ok(answerable) = answerable(&state) else { return Ok(None) };
        let tag = answer::tag(answerable, &resolved, "text/event-stream");
        if tag == self.tag {
            return Ok(None);
        }
        let answer = answer::answer(answerable, &resolved, now_ms);
        self.tag.clone_from(&tag);
        // Events that are none of this query's moved the offsets alone.
        let data = answer.get("data");
        if data == Some(&self.data) {
            return Ok(None);
        }
        self.data = data.cloned().unwrap_or_default();
        Ok(Some(Event::default().event("answer").id(tag).data(answer.to_string())))
    }
}
