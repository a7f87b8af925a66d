//! The command line.

use std::path::PathBuf;

use chrono::{DateTime, NaiveDateTime, Utc};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::ddl::Dialect;

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
    /// Ask a layer on this machine whether it is ready; exit code 3 if it is not. For health checks of containers.
    Healthy,
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
    /// Ask the serving API: a view's members as a table, CSV or JSON.
    Query(QueryArguments),
    /// Decoded events of a source as they arrive, one JSON object a line.
    Tail(TailArguments),
    /// The records of a source that could not be decoded: reason, offset, the raw text; the newest first.
    Rejected(RejectedArguments),
    /// Look at the messages of a topic and propose a CREATE TABLE and a first view.
    Infer {
        /// The Kafka topic.
        topic: String,
    },
    /// Print the archive as external tables of other programs, or the views as an entity diagram.
    Ddl {
        /// For whom.
        dialect: Dialect,
    },
    /// Drop what Anabranch made: tables, archive, consumer groups. Says what; without --yes only that, with exit code 1.
    Reset(ResetArguments),
    /// Seeded event generators to Kafka.
    Simulate {
        #[command(subcommand)]
        domain: Domain,
    },
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  anabranch query -m status_by_city.messages -d status_by_city.country -f status_by_city.status_color=Red\n  anabranch query -m paid_share.paid_share -t paid_share.day:month --format csv\n  anabranch query @pipelines/music.analyze/top-songs.json"
)]
pub(crate) struct QueryArguments {
    /// The query as for /v1/load: {"measures": ["view.measure"], "dimensions": […]}; @FILE reads it from a file.
    #[arg(conflicts_with_all = ["measure", "dimension", "time", "filter", "order", "limit", "ungrouped"], required_unless_present_any = ["measure", "dimension", "time"])]
    pub(crate) query: Option<String>,
    /// A measure, as view.measure; may be repeated.
    #[arg(long, short, value_name = "MEMBER")]
    pub(crate) measure: Vec<String>,
    /// A dimension, as view.dimension; may be repeated.
    #[arg(long, short, value_name = "MEMBER")]
    pub(crate) dimension: Vec<String>,
    /// The time bucket: view.bucket:GRANULARITY, with a range of days or times as view.bucket:day:2026-01-01..2026-01-31.
    #[arg(long, short, value_name = "MEMBER[:GRANULARITY[:RANGE]]")]
    pub(crate) time: Option<String>,
    /// A condition: member=value, member!=value, several values with commas; member=NULL, member!=NULL. May be repeated.
    #[arg(long, short, value_name = "CONDITION")]
    pub(crate) filter: Vec<String>,
    /// Order by a member; member:desc for descending. May be repeated.
    #[arg(long, short, value_name = "MEMBER[:desc]")]
    pub(crate) order: Vec<String>,
    /// Rows at most.
    #[arg(long, short, value_name = "ROWS")]
    pub(crate) limit: Option<usize>,
    /// Of a row view: each record is a row, also where the columns are equal.
    #[arg(long)]
    pub(crate) ungrouped: bool,
    /// How the answer is printed.
    #[arg(long, value_enum, default_value_t = Format::Table, conflicts_with = "json")]
    pub(crate) format: Format,
    /// Ask again and again and refresh the table in place.
    #[arg(long)]
    pub(crate) watch: bool,
    /// Print the whole answer as JSON, what it covers included.
    #[arg(long, conflicts_with = "watch")]
    pub(crate) json: bool,
}

/// How an answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A table, with the offsets that it covers.
    Table,
    /// Comma-separated values with a line of names.
    Csv,
    /// The rows alone, as a JSON array.
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct TailArguments {
    /// The source.
    pub(crate) source: String,
    /// Begin so many records before the end.
    #[arg(long, short = 'n', default_value_t = 10)]
    pub(crate) last: u64,
    /// Begin at the first record that Kafka has.
    #[arg(long, conflicts_with = "last")]
    pub(crate) from_beginning: bool,
    /// Stop after this many; until stopped without it.
    #[arg(long)]
    pub(crate) count: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct RejectedArguments {
    /// The source.
    pub(crate) source: String,
    /// Only reasons that contain this text, such as "wrong type" or a column's name.
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// Only this partition.
    #[arg(long)]
    pub(crate) partition: Option<i32>,
    /// Records at most.
    #[arg(long, default_value_t = 20)]
    pub(crate) limit: usize,
    /// One JSON object a line, with the whole text.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ResetArguments {
    /// Only the versions and live rows of this view; the archive stays, and the view is built anew from it.
    #[arg(long)]
    pub(crate) view: Option<String>,
    /// Do it.
    #[arg(long)]
    pub(crate) yes: bool,
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
