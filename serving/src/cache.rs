//! The rows of answers, kept while they are the newest: equal queries are computed once, those at the same time, too.

use std::sync::Arc;

use anabranch_views::Value;
use moka::sync::Cache;

use crate::{
    answer::{self, Limits, Rows},
    answerable::Answerable,
    problem::Problem,
    query::Resolved,
};

/// By the tag of the answer: query, definition, version and offsets.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    kept: Cache<String, Arc<Rows>>,
}

impl Answers {
    /// Keeps about so many bytes.
    pub(crate) fn new(bytes: u64) -> Self {
        let weigh = |tag: &String, rows: &Arc<Rows>| u32::try_from(tag.len() + bytes_of(rows)).unwrap_or(u32::MAX);
        Self { kept: Cache::builder().max_capacity(bytes).weigher(weigh).build() }
    }

    /// The rows of an answer.
    ///
    /// # Errors
    /// As [`answer::rows`].
    pub(crate) fn rows(&self, answerable: &Answerable, query: &Resolved, limits: &Limits) -> Result<Arc<Rows>, Problem> {
        let tag = answer::tag(answerable, query, "rows");
        loop {
            match self.kept.try_get_with_by_ref(&tag, || answer::rows(answerable, query, limits).map(Arc::new)) {
                Ok(rows) => return Ok(rows),
                // Whoever began it has left; this one waits still.
                Err(problem) if problem.code == answer::ABANDONED && !limits.left.is_cancelled() => {}
                Err(problem) => return Err((*problem).clone()),
            }
        }
    }
}

fn bytes_of(rows: &Rows) -> usize {
    let cell = |value: &Value| size_of::<Value>() + if let Value::Text(text) = value { text.len() } else { 0 };
    rows.cells.iter().map(|row| size_of::<Vec<Value>>() + row.iter().map(cell).sum::<usize>()).sum()
}
