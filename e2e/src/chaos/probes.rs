//! Answers are asked for all the time, and recounted beside: a wrong one ends the run.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
};

use anabranch_oracle::{Domain, queries_by_color, topic::Topic};
use anyhow::{Result, anyhow, bail};
use serde_json::Value as Json;

use crate::{Process, scene::recount, variable};

/// Answers that wait to be recounted; more are not asked for.
const WAITING: usize = 4;

pub(super) struct Probes {
    answers: SyncSender<(&'static str, Json)>,
    asked: AtomicUsize,
    waiting: Arc<AtomicUsize>,
    wrong: Arc<Mutex<Option<String>>>,
    recounting: JoinHandle<Result<(usize, usize)>>,
}

impl Probes {
    pub(super) fn start(topic: &str) -> Result<Self> {
        let brokers = variable("ANABRANCH_KAFKA__BROKERS");
        let mut music = Topic::of(Domain::Music, &brokers, &format!("{topic}_music"))?;
        let mut topic = Topic::open(&brokers, topic)?;
        let (answers, received) = sync_channel::<(&'static str, Json)>(WAITING);
        let wrong = Arc::new(Mutex::new(None));
        let waiting = Arc::new(AtomicUsize::new(0));
        let (noted, done) = (Arc::clone(&wrong), Arc::clone(&waiting));
        let recounting = std::thread::spawn(move || {
            let (mut count, mut cells) = (0, 0);
            for (view, answer) in received {
                let is_music = Domain::Music.queries().iter().any(|(name, _)| *name == view);
                let checked = recount(if is_music { &mut music } else { &mut topic }, view, &answer);
                done.fetch_sub(1, Ordering::Relaxed);
                match checked {
                    Ok(compared) => {
                        count += 1;
                        cells += compared;
                    }
                    Err(error) => {
                        noted.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(format!("{error:#}"));
                        return Err(error);
                    }
                }
            }
            Ok((count, cells))
        });
        Ok(Self { answers, asked: AtomicUsize::new(0), waiting, wrong, recounting })
    }

    /// Whether another answer would be looked at soon.
    pub(super) fn is_ready(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) < WAITING
    }

    /// Asks the next query in turn. Nobody has to answer: the layers are killed and stopped all the time.
    pub(super) async fn ask(&self, process: Option<&Process>) {
        let Some(process) = process else { return };
        let queries = [queries_by_color(), Domain::Music.queries()].concat();
        let turn = self.asked.fetch_add(1, Ordering::Relaxed) % queries.len();
        let Some((view, query)) = queries.into_iter().nth(turn) else { return };
        let answered = tokio::time::timeout(std::time::Duration::from_millis(500), process.load(&query)).await;
        let Ok(Ok(Some(answer))) = answered else { return };
        self.waiting.fetch_add(1, Ordering::Relaxed);
        match self.answers.try_send((view, answer)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// The first wrong answer so far.
    pub(super) fn check(&self) -> Result<()> {
        match self.wrong.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            Some(wrong) => bail!("{wrong}"),
            None => Ok(()),
        }
    }

    /// How many answers and cells were recounted.
    pub(super) fn stop(self) -> Result<(usize, usize)> {
        drop(self.answers);
        self.recounting.join().map_err(|_| anyhow!("the recount broke off"))?
    }
}
