//! Logs: for people on a terminal, JSON otherwise; to standard error, so that commands keep standard output for results.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// The clients' own logs say the same at every retry, or what they do at each step; what matters of it is said here, once.
const LEVELS: &str = "info,hdfs_native=off,tokio_cron_scheduler=warn,librdkafka=off,refinery_core=warn,tokio_postgres=warn";

/// Starts logging. `RUST_LOG` overrides the levels.
pub fn start() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LEVELS));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start (in tests) keeps the first logger.
    let started = if std::io::stderr().is_terminal() { builder.with_target(false).try_init() } else { builder.json().flatten_event(true).try_init() };
    drop(started);
}
