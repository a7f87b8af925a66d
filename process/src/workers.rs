//! One supervised worker per source, as speed and the archive have them.

use std::{
    any::Any,
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use anyhow::{Result, anyhow};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::catalog::{Catalog, definitions};

/// A worker that failed starts anew after this time; sources that were applied are noticed within it.
const RETRY: Duration = Duration::from_secs(1);
/// A failure that stays the same is said again only after this many starts: about once an hour.
const REPEATED: u32 = 3600;

/// Runs `work` for every source of the catalog on a thread of its own, again and again until `stop`; a failure is said
/// once, also a panic, which ends no other worker.
///
/// `work` returns when `stop` is cancelled, or when it cannot go on.
pub async fn for_each_source<F>(layer: &'static str, catalog: &Catalog, stop: &CancellationToken, work: F)
where
    F: Fn(&str) -> Result<()> + Send + Sync + 'static,
{
    let work = Arc::new(work);
    let mut workers = JoinSet::new();
    let mut running = BTreeSet::new();
    let mut complaint = Complaint::default();
    while !stop.is_cancelled() {
        match known_sources(catalog).await {
            Ok(sources) => {
                complaint = Complaint::default();
                for source in sources.into_iter().filter(|source| running.insert(source.clone())).collect::<Vec<_>>() {
                    let (work, stop) = (Arc::clone(&work), stop.clone());
                    workers.spawn_blocking(move || supervise(layer, &source, &stop, || work(&source)));
                }
            }
            Err(error) => complaint.say(&error, |message| error!(layer, error = message, "could not read the sources; trying on")),
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(RETRY) => {}
        }
    }
    while workers.join_next().await.is_some() {}
    info!(layer, "stopped");
}

async fn known_sources(catalog: &Catalog) -> Result<Vec<String>> {
    definitions::topics(&catalog.connect().await?).await
}

fn supervise(layer: &'static str, source: &str, stop: &CancellationToken, work: impl Fn() -> Result<()>) {
    let mut complaint = Complaint::default();
    while !stop.is_cancelled() {
        let ended = catch_unwind(AssertUnwindSafe(&work)).unwrap_or_else(|panic| Err(anyhow!("the program is wrong: {}", text_of(panic.as_ref()))));
        match ended {
            Ok(()) => complaint = Complaint::default(),
            Err(error) => {
                complaint.say(&error, |message| error!(layer, source, error = message, "worker failed; starting anew"));
                std::thread::sleep(RETRY);
            }
        }
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without a message")
}

/// Says a failure once, not at each retry.
#[derive(Debug, Default)]
struct Complaint {
    last: String,
    repeated: u32,
}

impl Complaint {
    fn say(&mut self, error: &anyhow::Error, say: impl FnOnce(&str)) {
        let message = format!("{error:#}");
        self.repeated += 1;
        if message != self.last || self.repeated >= REPEATED {
            say(&message);
            self.repeated = 0;
        }
        self.last = message;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_panic_starts_the_worker_anew() {
        let (stop, starts) = (CancellationToken::new(), Cell::new(0));
        supervise("speed", "events", &stop, || {
            starts.set(starts.get() + 1);
            if starts.get() == 1 {
                panic!("planted");
            }
            stop.cancel();
            Ok(())
        });
        assert_eq!(starts.get(), 2);
    }

    #[test]
    fn a_failure_that_stays_is_said_once() {
        let (mut complaint, mut said) = (Complaint::default(), 0);
        for message in ["no Kafka", "no Kafka", "no PostgreSQL", "no PostgreSQL"] {
            complaint.say(&anyhow!(message), |_| said += 1);
        }
        assert_eq!(said, 2);
    }
}
