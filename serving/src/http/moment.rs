//! The views at one moment: all queries of a request are answered from it.

use std::{collections::BTreeMap, sync::Arc};

use anabranch_core::{Coverage, Offset, Partition, protocol::RunId};
use anabranch_process::clock;
use axum::http::StatusCode;
use serde_json::json;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{App, request::LoadRequest};
use crate::{
    answer::{self, Limits, Rows},
    answerable::{Answerable, ViewState},
    cache::Answers,
    problem::Problem,
    query::{self, Query, Resolved},
};

/// See the module.
pub(super) struct Moment {
    pub(super) views: BTreeMap<String, ViewState>,
    pub(super) now_ms: i64,
    /// What each answer may use.
    pub(super) limits: Limits,
    answers: Answers,
    ready: Result<(), String>,
}

impl Moment {
    pub(super) fn of(app: &App) -> Self {
        let limits = Limits { groups: app.settings.serving.groups, left: CancellationToken::new() };
        Self { views: app.mirror.views(), now_ms: clock::now_ms(), limits, answers: app.answers.clone(), ready: app.mirror.ready() }
    }

    /// The rows of an answer.
    ///
    /// # Errors
    /// When a limit is passed.
    pub(super) fn rows(&self, answerable: &Answerable, query: &Resolved) -> Result<Arc<Rows>, Problem> {
        self.answers.rows(answerable, query, &self.limits)
    }

    /// The moment at which a request can be answered: its offsets are reached, its version is loaded.
    ///
    /// # Errors
    /// A [`Problem`] when the offsets are not reached in time, or the version is not kept.
    pub(super) async fn wanted(app: &App, request: &LoadRequest, queries: &[Query]) -> Result<Self, Problem> {
        let deadline = Instant::now() + request.wait;
        let mut changes = app.mirror.changes();
        let mut moment = Self::of(app);
        while let Some(behind) = moment.behind(request, queries)? {
            if timeout_at(deadline, changes.changed()).await.is_err() {
                return Err(behind);
            }
            moment = Self::of(app);
        }
        if let Some(run) = request.run {
            for query in queries {
                let name = query::view_name(query)?;
                let older = moment.older(app, &name, RunId(run)).await?;
                moment.views.insert(name, ViewState::Ready(older));
            }
        }
        Ok(moment)
    }

    /// What is said of an answer that does not cover what the client wants to see.
    fn behind(&self, request: &LoadRequest, queries: &[Query]) -> Result<Option<Problem>, Problem> {
        if request.min_offsets.is_empty() {
            return Ok(None);
        }
        if request.run.is_some() {
            return Err(Problem::bad_query("parameter", "min_offsets is for answers of now, run for those of a version"));
        }
        for query in queries {
            let (state, _) = self.resolved(query)?;
            let topic = &state.view().source.topic;
            let (Some(wanted), 1) = (request.min_offsets.get(topic), request.min_offsets.len()) else {
                return Err(Problem::bad_query("parameter", format!("min_offsets of \"{}\" are those of the topic \"{topic}\"", state.view().name)));
            };
            let wanted: Coverage = wanted.iter().map(|(partition, offset)| (Partition(*partition), Offset(*offset))).collect();
            let answerable = answerable(&state)?;
            if !answerable.offsets.reaches(&wanted) {
                let detail = format!("not at these offsets within {} ms (wait_ms); lambda says where it stands", request.wait.as_millis());
                return Ok(Some(Problem::unavailable("not_yet", detail).with("lambda", answer::lambda(answerable, self.now_ms))));
            }
        }
        Ok(None)
    }

    /// An older version of a view, by the run that published it.
    async fn older(&self, app: &App, name: &str, run: RunId) -> Result<Arc<Answerable>, Problem> {
        let view = Arc::clone(self.state(name)?.view());
        match app.mirror.older(&view, run).await {
            Ok(Ok(older)) => Ok(older),
            Ok(Err(kept)) => {
                let detail = format!("there is no version of run {} of \"{name}\"", run.0);
                let kept: Vec<i64> = kept.iter().map(|run| run.0).collect();
                Err(Problem { status: StatusCode::NOT_FOUND, ..Problem::bad_query("unknown_run", format!("{detail}; kept: {kept:?}")) }
                    .with("kept", json!(kept)))
            }
            Err(error) => {
                warn!(view = name, run = run.0, error = format!("{error:#}"), "could not load an older version");
                Err(Problem::unavailable("not_loaded", format!("the version of run {} of \"{name}\" cannot be loaded now", run.0)))
            }
        }
    }

    fn state(&self, name: &str) -> Result<&ViewState, Problem> {
        self.views.get(name).ok_or_else(|| match &self.ready {
            Err(reason) => Problem::unavailable("not_ready", reason.clone()),
            Ok(()) => {
                let help = anabranch_core::definition::error::nearest(name, self.views.keys().map(String::as_str));
                Problem::bad_query("unknown_view", format!("unknown view \"{name}\"; {help}").trim_end_matches("; "))
            }
        })
    }

    /// The view of a query, and what it asks of it.
    pub(super) fn resolved(&self, query: &Query) -> Result<(ViewState, Resolved), Problem> {
        let state = self.state(&query::view_name(query)?)?;
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
