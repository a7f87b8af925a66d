//! Figures for Prometheus: of the service itself, of each view's freshness, and the measures that views declare.
//!
//! What views say is computed at each scrape: a group that is gone is gone here, too.

#![expect(clippy::cast_precision_loss, reason = "figures of Prometheus are floating-point numbers")]

use anabranch_core::{
    Coverage,
    definition::{Gauges, View},
};
use anabranch_process::{
    clock,
    metrics::{self, Figure},
};
use anabranch_views::{Value, scalar};
use anyhow::Result;
use prometheus::{Encoder, GaugeVec, HistogramOpts, HistogramVec, Opts, Registry, TextEncoder, histogram_opts};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    answer::{self, Limits, Rows},
    answerable::{Answerable, ViewState},
    mirror::Mirror,
    query::{self, DateRange, Query, TimeDimension},
};

/// Groups of one view: more series are a load for Prometheus, and no longer anything to alert by.
const MOST_SERIES: usize = 1_000;

mod sources;

const REQUESTS: Figure = Figure {
    name: "anabranch_http_request_seconds",
    kind: "histogram",
    labels: &["route", "status"],
    help: "Seconds from a request to the beginning of its answer",
};
const READY: Figure = Figure::gauge("anabranch_view_ready", &["view"], "1 where the view can be answered, 0 while it is being built");
const LAG: Figure = Figure::gauge("anabranch_view_lag_records", &["view"], "Records that Kafka has above the offsets of an answer");
const SILENT: Figure = Figure::gauge("anabranch_view_speed_silent_seconds", &["view"], "Seconds since speed wrote of some partition of the view's source");
const AGE: Figure = Figure::gauge("anabranch_view_version_age_seconds", &["view"], "Seconds since the view's version was published");
const COVERAGE_LAG: Figure =
    Figure::gauge("anabranch_view_coverage_lag_records", &["view"], "Offsets between the coverage of the version and those of an answer");
const GROUPS: Figure = Figure::gauge("anabranch_view_groups", &["view", "arm"], "Groups in memory: of the version, and live");
const OVER_LIMIT: Figure = Figure::gauge("anabranch_view_series_over_limit", &["view"], "1 where the declared metrics have too many groups and are left out");

/// What the service shows of itself and of views.
#[cfg(test)]
pub(crate) const TABLE: [Figure; 8] = [REQUESTS, READY, LAG, SILENT, AGE, COVERAGE_LAG, GROUPS, OVER_LIMIT];

/// What the service counts.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    registry: Registry,
    /// Seconds that requests took, by route and status.
    pub(crate) requests: HistogramVec,
}

impl Figures {
    pub(crate) fn new() -> Result<Self> {
        let registry = Registry::new();
        let options: HistogramOpts =
            histogram_opts!(REQUESTS.name, REQUESTS.help, vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0]);
        let requests = HistogramVec::new(options, REQUESTS.labels)?;
        registry.register(Box::new(requests.clone()))?;
        Ok(Self { registry, requests })
    }

    /// All figures in Prometheus' text format.
    ///
    /// # Errors
    /// Only when the program itself is wrong.
    pub(crate) fn text(&self, mirror: &Mirror, groups: usize) -> Result<Vec<u8>> {
        let mut families = metrics::families()?;
        families.extend(self.registry.gather());
        families.extend(sources::of_sources(mirror)?.gather());
        families.extend(of_views(mirror, groups)?.gather());
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(text)
    }
}

/// The figures of the views at this moment.
fn of_views(mirror: &Mirror, groups: usize) -> Result<Registry> {
    let registry = Registry::new();
    let (ready, lag, silent, age) = (READY.gauge_in(&registry)?, LAG.gauge_in(&registry)?, SILENT.gauge_in(&registry)?, AGE.gauge_in(&registry)?);
    let (coverage_lag, held, left_out) = (COVERAGE_LAG.gauge_in(&registry)?, GROUPS.gauge_in(&registry)?, OVER_LIMIT.gauge_in(&registry)?);
    for (name, state) in mirror.views() {
        let labels = [name.as_str()];
        ready.with_label_values(&labels).set(if matches!(state, ViewState::Ready(_)) { 1.0 } else { 0.0 });
        let ViewState::Ready(answerable) = state else { continue };
        let since = clock::now_ms() - answerable.refreshed_ms;
        if let Some(records) = answerable.lag_records {
            lag.with_label_values(&labels).set(records as f64);
        }
        for (figure, milliseconds) in [(&silent, answerable.speed_silent_ms), (&age, answerable.version_age_ms)] {
            if let Some(milliseconds) = milliseconds {
                figure.with_label_values(&labels).set((milliseconds + since) as f64 / 1000.0);
            }
        }
        let covered = |coverage: &Coverage| coverage.iter().map(|(_, offset)| offset.0).sum::<i64>();
        if answerable.run.is_some() {
            coverage_lag.with_label_values(&labels).set((covered(&answerable.offsets) - covered(&answerable.coverage)) as f64);
        }
        let (version, live) = answerable.group_counts();
        held.with_label_values(&[name.as_str(), "batch"]).set(version as f64);
        held.with_label_values(&[name.as_str(), "live"]).set(live as f64);
        if let Some(declared) = &answerable.view.gauges {
            let shown = declared_gauges(&registry, &answerable, declared, groups)?;
            left_out.with_label_values(&labels).set(if shown { 0.0 } else { 1.0 });
        }
    }
    Ok(registry)
}

/// One gauge for each declared measure and group; false where there are too many.
fn declared_gauges(registry: &Registry, answerable: &Answerable, declared: &Gauges, groups: usize) -> Result<bool> {
    let view = &answerable.view;
    let limits = Limits { groups, left: CancellationToken::new() };
    let answered = query::resolve(view, &query_of(view, declared), clock::now_ms()).and_then(|query| answer::rows(answerable, &query, &limits));
    let Rows { cells, .. } = match answered {
        Ok(rows) if rows.total <= MOST_SERIES => rows,
        Ok(_) => return Ok(false),
        Err(problem) => {
            warn!(view = view.name, detail = problem.detail, "could not compute the declared metrics");
            return Ok(false);
        }
    };
    let labels: Vec<String> = declared.by.iter().map(|name| plain(name)).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    for (index, measure) in declared.measures.iter().enumerate() {
        let help = view.column_comments.get(measure).cloned().unwrap_or_else(|| format!("{measure} of the view {}", view.name));
        let gauge = GaugeVec::new(Opts::new(format!("anabranch_{}_{}", plain(&view.name), plain(measure)), help), &labels)?;
        for row in &cells {
            let values: Vec<String> = row.iter().take(labels.len()).map(|value| scalar::text(value).unwrap_or_default()).collect();
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            if let Some(number) = row.get(labels.len() + index).and_then(number) {
                gauge.with_label_values(&values).set(number);
            }
        }
        registry.register(Box::new(gauge))?;
    }
    Ok(true)
}

fn query_of(view: &View, declared: &Gauges) -> Query {
    let member = |name: &String| format!("{}.{name}", view.name);
    let recent = |seconds: i64| {
        let now = clock::now_ms() * 1000;
        DateRange::Pair(vec![query::shown(now - seconds * 1_000_000), query::shown(now)])
    };
    let time = view.bucket.as_ref().zip(declared.over_seconds).map(|(bucket, seconds)| TimeDimension {
        dimension: member(&bucket.name),
        granularity: None,
        date_range: Some(recent(seconds)),
        compare_date_range: None,
    });
    Query {
        measures: declared.measures.iter().map(member).collect(),
        dimensions: declared.by.iter().map(member).collect(),
        time_dimensions: time.into_iter().collect(),
        limit: Some(MOST_SERIES),
        ..Query::default()
    }
}

/// As a name of Prometheus.
fn plain(name: &str) -> String {
    name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect()
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::BigInt(value) => Some(*value as f64),
        Value::Decimal(value, scale) => Some(*value as f64 / 10_f64.powi(i32::from(*scale))),
        Value::Double(value) => Some(*value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `UPDATE=1` writes the page anew.
    #[test]
    fn the_documents_name_every_figure() {
        let mut page = include_str!("metrics/head.md").to_owned();
        for (headline, figures) in
            [("Layers", metrics::TABLE), ("Sources, shown by the serving layer", &sources::TABLE), ("Views and requests, shown by the serving layer", &TABLE)]
        {
            page.push_str(&format!("\n## {headline}\n\n{}", metrics::markdown(figures)));
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), page, "UPDATE=1 writes docs/metrics.md anew");
    }
}
