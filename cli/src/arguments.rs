//! The command line.

use std::path::PathBuf;

use chrono::{DateTime, NaiveDateTime, Utc};
use clap::{Args, Parser, Subcommand};

/// Live and exact aggregates over Kafka topics: a speed layer, a batch layer and a serving layer in one program.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    after_help = "Exit codes: 0 done, 1 found what it looked for (gap, drift), 2 usage or definition error, 3 a service is unreachable, 4 a run failed."
)]
pub(crate) struct Arguments {
    /// The settings file; ANABRANCH_<SECTION>__<KEY> overrides one setting.
    #[arg(long, short = 'c', global = true, env = "ANABRANCH_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run all layers in one process; applies the pipelines first.
    Run,
    /// Run the speed layer: Kafka to live rows in PostgreSQL.
    Speed,
    /// Run the archive: Kafka to Parquet on HDFS.
    Archive,
    /// Run the batch layer's schedule: versions from the archive.
    Batch,
    /// Run the serving layer: the HTTP API.
    Serve,
    /// Check settings and definitions; starts nothing.
    Check,
    /// Apply the pipelines' definitions to the catalog.
    Apply {
        /// Drop the views that no file defines any more.
        #[arg(long)]
        prune: bool,
        /// Build changed views anew although their history has more than 10 million records.
        #[arg(long)]
        yes: bool,
    },
    /// One run, now.
    Recompute {
        /// These sources; all without one.
        sources: Vec<String>,
        /// Recompute everything from raw records and compare it with what is published; exit code 1 if a cell differs.
        #[arg(long)]
        full: bool,
        /// With --full: only the buckets of the last so many days, today included; views without a time bucket are left.
        #[arg(long, requires = "full", value_parser = clap::value_parser!(u32).range(1..))]
        days: Option<u32>,
    },
    /// Prove that the archive tiles the log; exit code 1 with the exact range at a gap or overlap.
    Verify {
        /// These sources; all without one.
        sources: Vec<String>,
    },
    /// Accept that Kafka no longer has offsets that were not read; without --yes it only says which, with exit code 1.
    SkipLost {
        /// The source.
        source: String,
        /// Do it: the offsets are gone for good, and every answer above them says so.
        #[arg(long)]
        yes: bool,
    },
    /// Offsets, lag, versions, runs, audits, rejected records.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Ask the serving API: a view's members as a table.
    Query(QueryArguments),
    /// Seeded event generators to Kafka.
    Simulate {
        #[command(subcommand)]
        domain: Domain,
    },
}

#[derive(Debug, Args)]
pub(crate) struct QueryArguments {
    /// The query, as for /v1/load: {"measures": ["view.measure"], "dimensions": […]}.
    pub(crate) query: String,
    /// Ask again and again and refresh the table in place.
    #[arg(long)]
    pub(crate) watch: bool,
    /// Print the answer as JSON.
    #[arg(long, conflicts_with = "watch")]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Domain {
    /// The live status of data-centre servers: topic server-live-status.
    ServerStatus {
        /// Events a second; 0 = as fast as possible.
        #[arg(long, default_value_t = 1000.0)]
        rate: f64,
        /// Same seed and start, same bytes.
        #[arg(long, default_value_t = 7)]
        seed: u64,
        /// The time of the first event, UTC, as 2026-01-31T12:00:00; now without it.
        #[arg(long, value_parser = time)]
        start: Option<DateTime<Utc>>,
        /// Stop after this many; until stopped without it.
        #[arg(long)]
        count: Option<u64>,
        /// The share of late events.
        #[arg(long, default_value_t = 0.1)]
        late: f64,
        /// The share of values that cannot be decoded.
        #[arg(long, default_value_t = 0.01)]
        malformed: f64,
        /// The topic.
        #[arg(long, default_value = anabranch_simulate::server_status::TOPIC)]
        topic: String,
        /// Partitions of the topic, where it is made.
        #[arg(long, default_value_t = 8)]
        partitions: i32,
    },
    /// A music-streaming app in the manner of eventsim: topic music-events.
    Music {
        /// Events a second; 0 = as fast as possible. Their times are those of the simulated app.
        #[arg(long, default_value_t = 1000.0)]
        rate: f64,
        /// Same seed and start, same bytes; the songs that ship are those of the default.
        #[arg(long, default_value_t = anabranch_simulate::music::SEED)]
        seed: u64,
        /// When the app opens, UTC, as 2026-01-31T12:00:00; 30 days ago without it.
        #[arg(long, value_parser = time)]
        start: Option<DateTime<Utc>>,
        /// Users at the start.
        #[arg(long, default_value_t = 1000)]
        users: usize,
        /// Stop after this many; until stopped without it.
        #[arg(long)]
        count: Option<u64>,
        /// Songs of the catalogue.
        #[arg(long, default_value_t = anabranch_simulate::music::SONGS)]
        songs: usize,
        /// The share of plays whose song the catalogue has.
        #[arg(long, default_value_t = 0.7)]
        known: f64,
        /// The share of late events.
        #[arg(long, default_value_t = 0.02)]
        late: f64,
        /// The share of values that cannot be decoded.
        #[arg(long, default_value_t = 0.01)]
        malformed: f64,
        /// The topic.
        #[arg(long, default_value = anabranch_simulate::music::TOPIC)]
        topic: String,
        /// Partitions of the topic, where it is made.
        #[arg(long, default_value_t = 8)]
        partitions: i32,
        /// Write the events to this file, one a line, instead of Kafka.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// Write the catalogue's songs to this file: the reference of the pipeline.
        #[arg(long, value_name = "FILE")]
        catalogue: Option<PathBuf>,
    },
}

fn time(text: &str) -> Result<DateTime<Utc>, String> {
    let plain = text.trim_end_matches('Z').replace('T', " ");
    NaiveDateTime::parse_from_str(&plain, "%Y-%m-%d %H:%M:%S").map(|time| time.and_utc()).map_err(|_| "as 2026-01-31T12:00:00".to_owned())
}
