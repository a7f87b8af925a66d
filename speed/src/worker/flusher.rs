//! Flushes go on beside reading: one at a time, on a connection of their own.

use std::time::{Duration, Instant};

use anabranch_core::protocol::EpochId;
use anabranch_process::{catalog::answered, metrics};
use anyhow::{Context, Result, bail};
use tokio::runtime::Handle;
use tokio_postgres::Client;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::REPEATS;
use crate::{fold::Changes, store};

/// How long reading goes on before it is asked again whether a flush that is late has ended.
const LATE: Duration = Duration::from_millis(10);

/// Writes the changes of a worker's epoch.
pub(super) struct Flusher {
    runtime: Handle,
    interval: Duration,
    /// When the next flush is due, at the earliest.
    due: Instant,
    state: State,
}

enum State {
    Idle(Client),
    Flushing(AbortOnDropHandle<(Client, Instant, Result<()>)>),
    /// The task was lost; its worker ends.
    Lost,
}

impl Flusher {
    pub(super) fn new(runtime: &Handle, client: Client, interval: Duration) -> Self {
        Self { runtime: runtime.clone(), interval, due: Instant::now() + interval, state: State::Idle(client) }
    }

    /// Until when to read before the next flush.
    pub(super) fn due(&self) -> Instant {
        match &self.state {
            State::Flushing(task) if !task.is_finished() => self.due.max(Instant::now() + LATE),
            _ => self.due,
        }
    }

    /// Begins to write `changes`, after what is being written.
    ///
    /// # Errors
    /// Those of the flush before.
    pub(super) fn begin(&mut self, source: &str, epoch: EpochId, changes: Changes) -> Result<()> {
        self.finish()?;
        let State::Idle(mut client) = std::mem::replace(&mut self.state, State::Lost) else { bail!("an earlier flush was lost") };
        let (began, interval, source) = (Instant::now(), self.interval, source.to_owned());
        let task = self.runtime.spawn(async move {
            let result = flush(&mut client, &source, epoch, &changes).await;
            metrics::observe(&metrics::SPEED_FLUSH_SECONDS.with_label_values(&[&source]), began.elapsed());
            // At most half of the time goes into flushing: more load means more aggregation, not more SQL.
            (client, began + interval.max(2 * began.elapsed()), result)
        });
        self.state = State::Flushing(AbortOnDropHandle::new(task));
        Ok(())
    }

    /// Nothing is written this time.
    pub(super) fn skip(&mut self) {
        self.due = Instant::now() + self.interval;
    }

    /// Waits until nothing is being written.
    ///
    /// # Errors
    /// Those of the flush.
    pub(super) fn finish(&mut self) -> Result<()> {
        let State::Flushing(task) = &mut self.state else { return Ok(()) };
        let (client, due, result) = self.runtime.block_on(task).context("a flush was lost")?;
        self.state = State::Idle(client);
        self.due = due;
        result.context("flush")
    }
}

async fn flush(client: &mut Client, source: &str, epoch: EpochId, changes: &Changes) -> Result<()> {
    for repeat in 0.. {
        match answered(store::flush(client, source, epoch, changes)).await {
            Err(error) if store::is_transient(&error) && repeat < REPEATS => debug!(error = format!("{error:#}"), "repeating a flush"),
            result => return result,
        }
    }
    Ok(())
}
