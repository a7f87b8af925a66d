//! Figures for Prometheus: what each layer counts, and the page that shows it where no API runs.
//!
//! One table, from which the figures and `docs/metrics.md` are made.

use std::{
    sync::{Arc, LazyLock, atomic::AtomicBool, atomic::Ordering},
    time::Duration,
};

use anyhow::{Context, Result};
use axum::{
    Json, Router,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use prometheus::{Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, TextEncoder, core::Collector};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{clock, failure::Refused};

/// Seconds: from a quick flush to a long run.
const SECONDS: [f64; 15] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0];

/// One kind of figure.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// Its name, with its unit.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

impl Figure {
    /// A gauge.
    #[must_use]
    pub const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind: "gauge", labels, help }
    }

    /// This gauge in a registry that is filled at each scrape: what is gone is gone there, too.
    ///
    /// # Errors
    /// When the registry has it already.
    pub fn gauge_in(&self, registry: &Registry) -> Result<GaugeVec> {
        let gauge = GaugeVec::new(Opts::new(self.name, self.help), self.labels)?;
        registry.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }
}

/// A kind of figure that has labels.
trait Labelled: Collector + Clone + Sized + 'static {
    const KIND: &'static str;
    fn made(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<Self>;
}

impl Labelled for IntCounterVec {
    const KIND: &'static str = "counter";
    fn made(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<Self> {
        Self::new(Opts::new(name, help), labels)
    }
}

impl Labelled for GaugeVec {
    const KIND: &'static str = "gauge";
    fn made(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<Self> {
        Self::new(Opts::new(name, help), labels)
    }
}

impl Labelled for HistogramVec {
    const KIND: &'static str = "histogram";
    fn made(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<Self> {
        Self::new(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()), labels)
    }
}

fn registered<T: Labelled>(figure: &Figure) -> T {
    let made = T::made(figure.name, figure.help, figure.labels).and_then(|made| {
        prometheus::register(Box::new(made.clone()))?;
        Ok(made)
    });
    // A test makes them all.
    made.unwrap_or_else(|error| unreachable!("the figure {}: {error}", figure.name))
}

macro_rules! figures {
    ($($constant:ident: $kind:ident = $name:literal [$($label:literal),*], $help:literal;)*) => {
        $(
            #[doc = $help]
            pub static $constant: LazyLock<$kind> = LazyLock::new(||
                registered(&Figure { name: $name, kind: <$kind as Labelled>::KIND, labels: &[$($label),*], help: $help }));
        )*
        /// What the layers count.
        pub const TABLE: &[Figure] = &[$(Figure { name: $name, kind: <$kind as Labelled>::KIND, labels: &[$($label),*], help: $help }),*];
    };
}

figures! {
    SPEED_RECORDS: IntCounterVec = "anabranch_speed_records_total" ["source"], "Records folded, the rejected ones included; again after a doubt";
    SPEED_LAG: GaugeVec = "anabranch_speed_lag_records" ["source", "partition"], "Offsets between what speed has folded and the end of the partition";
    SPEED_LAG_SECONDS: GaugeVec = "anabranch_speed_lag_seconds" ["source", "partition"], "Seconds between Kafka's timestamp of the last record that speed read of the partition and the reading; 0 at its end";
    SPEED_FLUSH_SECONDS: HistogramVec = "anabranch_speed_flush_seconds" ["source"], "Seconds that a flush of live rows took";
    SPEED_OPENINGS: IntCounterVec = "anabranch_speed_epochs_total" ["source"], "Epochs opened: at cuts, rebalances, new definitions and doubts";
    SPEED_FENCED: IntCounterVec = "anabranch_speed_fenced_total" ["source"], "Writes that were refused because somebody else took over";
    ARCHIVE_RECORDS: IntCounterVec = "anabranch_archive_records_total" ["source"], "Records written to archive files";
    ARCHIVE_FILES: IntCounterVec = "anabranch_archive_files_total" ["source"], "Archive files committed";
    ARCHIVE_SEAL_SECONDS: HistogramVec = "anabranch_archive_seal_seconds" ["source"], "Seconds that sealing and committing archive files took";
    ARCHIVE_FENCED: IntCounterVec = "anabranch_archive_fenced_total" ["source"], "Archive files that were given up because another archiver was first";
    RUN_SECONDS: HistogramVec = "anabranch_batch_run_seconds" ["source", "kind", "outcome"], "Seconds that a run took; outcome: done, drift, failed, or skipped where nothing was read yet";
    RUN_RECORDS: IntCounterVec = "anabranch_batch_records_total" ["source"], "Records that runs read";
    PUBLISH_SECONDS: HistogramVec = "anabranch_batch_publish_seconds" ["source"], "Seconds that the publishing transaction took";
    LAST_RUN: GaugeVec = "anabranch_batch_last_run_timestamp_seconds" ["source", "kind", "outcome"], "When a run of this kind ended this way last, seconds since 1970";
    DRIFT_CELLS: GaugeVec = "anabranch_batch_drift_cells" ["source"], "Cells that the newest audit found to differ from the published ones";
}

/// All figures of this process in Prometheus' text format.
///
/// # Errors
/// Only when the program itself is wrong.
pub fn text() -> Result<Vec<u8>> {
    let mut text = Vec::new();
    TextEncoder::new().encode(&families()?, &mut text)?;
    Ok(text)
}

const BUILD: Figure = Figure::gauge("anabranch_build_info", &["version"], "1, with the version of the program");
const MEMORY: Figure = Figure::gauge("process_resident_memory_bytes", &[], "Memory that the process has");
const START: Figure = Figure::gauge("process_start_time_seconds", &[], "When the process began, seconds since 1970");

/// All figures of this process.
///
/// # Errors
/// Only when the program itself is wrong.
#[expect(clippy::cast_precision_loss, reason = "figures of Prometheus are floating-point numbers")]
pub fn families() -> Result<Vec<prometheus::proto::MetricFamily>> {
    let mut families = prometheus::gather();
    let own = Registry::new();
    BUILD.gauge_in(&own)?.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
    MEMORY.gauge_in(&own)?.with_label_values::<&str>(&[]).set(memory_bytes("VmRSS:") as f64);
    START.gauge_in(&own)?.with_label_values::<&str>(&[]).set(*STARTED);
    families.extend(own.gather());
    Ok(families)
}

static STARTED: LazyLock<f64> = LazyLock::new(seconds_now);

#[expect(clippy::cast_precision_loss, reason = "seconds since 1970")]
fn seconds_now() -> f64 {
    clock::now_ms() as f64 / 1000.0
}

/// Notes when something happened.
pub fn now(gauge: &prometheus::Gauge) {
    gauge.set(seconds_now());
}

/// What Linux says of this process's memory in a line such as `VmRSS:`; 0 elsewhere.
#[must_use]
pub fn memory_bytes(line: &str) -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let found = status.lines().find_map(|text| text.strip_prefix(line));
    found.and_then(|text| text.trim().trim_end_matches(" kB").trim().parse::<i64>().ok()).unwrap_or(0) * 1024
}

/// Shows `/metrics`, `/healthz` and, once `ready`, `/readyz` at `listen` until `stop`.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(listen: &str, ready: Arc<AtomicBool>, stop: CancellationToken) -> Result<()> {
    LazyLock::force(&STARTED);
    let listener = TcpListener::bind(listen).await.map_err(|error| Refused(format!("setting metrics.listen = \"{listen}\": {error}")))?;
    info!(listen = %listener.local_addr()?, "shows metrics");
    let readyz = move || async move {
        if ready.load(Ordering::Relaxed) {
            (StatusCode::OK, Json(json!({"health": "HEALTH"})))
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"health": "DOWN", "error": "waiting for a server; the log says which"})))
        }
    };
    let routes = Router::new().route("/healthz", get(|| async { Json(json!({"health": "HEALTH"})) })).route("/readyz", get(readyz)).route(
        "/metrics",
        get(|| async {
            match text() {
                Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
                Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}")).into_response(),
            }
        }),
    );
    axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await.context("show metrics")
}

/// How long a figure's event took, in seconds.
pub fn observe(histogram: &prometheus::Histogram, took: Duration) {
    histogram.observe(took.as_secs_f64());
}

/// A part of `docs/metrics.md`: a table of figures.
#[must_use]
pub fn markdown(figures: &[Figure]) -> String {
    let row = |figure: &Figure| {
        let labels: Vec<String> = figure.labels.iter().map(|label| format!("`{label}`")).collect();
        format!("| `{}` | {} | {} | {} |\n", figure.name, figure.kind, labels.join(", "), figure.help)
    };
    "| figure | kind | labels | what |\n|---|---|---|---|\n".to_owned() + &figures.iter().map(row).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_can_be_made_and_has_its_unit_in_its_name() {
        SPEED_RECORDS.with_label_values(&["a"]).inc_by(3);
        SPEED_LAG.with_label_values(&["a", "0"]).set(1.0);
        observe(&SPEED_FLUSH_SECONDS.with_label_values(&["a"]), Duration::from_millis(7));
        for figure in TABLE {
            let unit = match figure.kind {
                "counter" => figure.name.ends_with("_total"),
                "histogram" => figure.name.ends_with("_seconds"),
                _ => ["_records", "_seconds", "_cells"].iter().any(|unit| figure.name.ends_with(unit)),
            };
            assert!(unit && figure.name.starts_with("anabranch_"), "{}", figure.name);
        }
        let text = String::from_utf8(text().unwrap()).unwrap();
        assert!(text.contains("anabranch_speed_records_total{source=\"a\"} 3") && text.contains("anabranch_build_info{version="), "{text}");
        assert!(text.contains("anabranch_speed_flush_seconds_bucket{source=\"a\",le=\"0.01\"} 1"), "{text}");
    }
}
