//! What goes wrong, and when: all of it drawn from one seed, so that a run can be repeated.

use std::{collections::BTreeMap, fmt, time::Duration};

use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

use crate::{proxy::Mode, scene::LAYERS, servers::Server};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL of a layer; restarted when it heals.
    LayerKilled(&'static str),
    /// SIGKILL of all layers at once.
    AllKilled,
    /// SIGSTOP of a layer.
    LayerStopped(&'static str),
    /// SIGSTOP of a layer that is replaced; it continues as a zombie when it heals, and is killed a second later.
    LayerReplaced(&'static str),
    /// A second worker of a layer joins, and leaves when it heals.
    SecondWorker(&'static str),
    /// SIGKILL of a server; started when it heals.
    ServerKilled(Server),
    /// SIGSTOP of a server.
    ServerStopped(Server),
    /// What happens to the connections to PostgreSQL.
    Database(Mode),
    /// What happens to the connections to the NameNode.
    Names(Mode),
    /// Two partitions more.
    MorePartitions,
    /// Tombstones, and transactions that commit and abort.
    Transactions,
    /// Kafka forgets what every arm has.
    Retention,
}

impl Fault {
    /// What is counted together.
    #[must_use]
    pub fn kind(self) -> String {
        match self {
            Self::LayerKilled(layer) => format!("{layer} killed"),
            Self::AllKilled => "all layers killed".to_owned(),
            Self::LayerStopped(layer) => format!("{layer} stopped"),
            Self::LayerReplaced(layer) => format!("{layer} replaced by another, then a zombie"),
            Self::SecondWorker(layer) => format!("second {layer} worker joins and leaves"),
            Self::ServerKilled(server) => format!("{server:?} killed"),
            Self::ServerStopped(server) => format!("{server:?} stopped"),
            Self::Database(mode) => format!("connections to PostgreSQL: {mode:?}"),
            Self::Names(mode) => format!("connections to the NameNode: {mode:?}"),
            Self::MorePartitions => "partitions added".to_owned(),
            Self::Transactions => "transactions aborted and committed, tombstones".to_owned(),
            Self::Retention => "retention of what is archived".to_owned(),
        }
    }

    /// Faults of one subject do not overlap.
    fn subject(self) -> String {
        match self {
            Self::LayerKilled(layer) | Self::LayerStopped(layer) | Self::LayerReplaced(layer) => layer.to_owned(),
            Self::AllKilled => "all".to_owned(),
            Self::SecondWorker(layer) => format!("second {layer}"),
            Self::ServerKilled(server) | Self::ServerStopped(server) => format!("{server:?}"),
            Self::Database(_) => "database".to_owned(),
            Self::Names(_) => "names".to_owned(),
            Self::MorePartitions | Self::Transactions | Self::Retention => "topic".to_owned(),
        }
    }

    /// Needs a Kafka that answers.
    fn needs_kafka(self) -> bool {
        matches!(self, Self::MorePartitions | Self::Transactions | Self::Retention)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind())
    }
}

/// A fault with its times since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// When it begins.
    pub at: Duration,
    /// How long it lasts.
    pub lasts: Duration,
    /// What it is.
    pub fault: Fault,
}

fn all() -> Vec<Fault> {
    let modes = [Mode::Pass, Mode::Slow, Mode::Swallow, Mode::Refuse];
    let mut all = vec![Fault::AllKilled, Fault::MorePartitions, Fault::Transactions, Fault::Retention];
    for layer in LAYERS {
        all.extend([Fault::LayerKilled(layer), Fault::LayerStopped(layer)]);
    }
    for layer in ["speed", "archive", "batch"] {
        all.push(Fault::LayerReplaced(layer));
    }
    for layer in ["speed", "archive"] {
        all.push(Fault::SecondWorker(layer));
    }
    for server in Server::ALL {
        all.extend([Fault::ServerKilled(server), Fault::ServerStopped(server)]);
    }
    all.extend(modes.into_iter().flat_map(|mode| [Fault::Database(mode), Fault::Names(mode)]));
    all
}

/// One fault about every `pace`, overlapping, in `total`; every kind at least as often as the time allows, in a shuffled
/// order. Rounds of faults end with a pause in which everything must become right and fresh again.
#[must_use]
pub fn plan(seed: u64, total: Duration, pace: Duration) -> Vec<Planned> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (mut planned, mut bag): (Vec<Planned>, Vec<Fault>) = (Vec::new(), Vec::new());
    let mut busy: BTreeMap<String, Duration> = BTreeMap::new();
    let mut at = Duration::ZERO;
    while at < total {
        at += pace.mul_f64(random.random_range(0.3..1.4));
        // From a bag, so that no kind is left out for long.
        if bag.is_empty() {
            bag = all();
        }
        let free: Vec<usize> = (0..bag.len()).filter(|index| bag.get(*index).is_some_and(|fault| is_free(&busy, *fault, at))).collect();
        let Some(index) = free.choose(&mut random) else { continue };
        let fault = bag.swap_remove(*index);
        let lasts = Duration::from_millis(random.random_range(200..6_000));
        busy.insert(fault.subject(), at + lasts + Duration::from_millis(1_500));
        planned.push(Planned { at, lasts, fault });
    }
    planned
}

fn is_free(busy: &BTreeMap<String, Duration>, fault: Fault, at: Duration) -> bool {
    let is_busy = |subject: &str| busy.get(subject).is_some_and(|until| *until > at);
    let clashes = match fault {
        Fault::AllKilled => LAYERS.iter().any(|layer| is_busy(layer)),
        Fault::LayerKilled(_) | Fault::LayerStopped(_) | Fault::LayerReplaced(_) => is_busy("all"),
        // What Kafka must take while it is away proves nothing.
        fault if fault.needs_kafka() => is_busy("Kafka"),
        Fault::ServerKilled(Server::Kafka) | Fault::ServerStopped(Server::Kafka) => is_busy("topic"),
        _ => false,
    };
    !clashes && !is_busy(&fault.subject())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_schedule_and_every_kind_comes() {
        let (total, pace) = (Duration::from_secs(1_800), Duration::from_secs(5));
        let first = plan(7, total, pace);
        assert_eq!(first, plan(7, total, pace));
        assert_ne!(first, plan(8, total, pace));
        let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
        first.iter().for_each(|planned| *kinds.entry(planned.fault.kind()).or_default() += 1);
        assert_eq!(kinds.len(), all().len());
        assert!(first.len() >= 300 && kinds.values().all(|count| *count >= 8), "{kinds:?}");
    }
}
