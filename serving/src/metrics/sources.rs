//! Figures of sources, as the catalog has them: both arms against the end of each partition.

#![expect(clippy::cast_precision_loss, reason = "figures of Prometheus are floating-point numbers")]

use anabranch_process::metrics::Figure;
use anyhow::Result;
use prometheus::Registry;

use crate::{answerable::ViewState, mirror::Mirror, status};

const LAG: Figure = Figure::gauge("anabranch_source_lag_records", &["source", "partition"], "Offsets between what speed wrote and the end of the partition");
const ARCHIVE_LAG: Figure =
    Figure::gauge("anabranch_source_archive_lag_records", &["source", "partition"], "Offsets between what is archived and the end of the partition");
const STOPPED: Figure = Figure::gauge(
    "anabranch_source_stopped",
    &["source", "partition", "layer"],
    "1 where a layer cannot go on with the partition: Kafka lost offsets that it had not read",
);
const LOST: Figure =
    Figure::gauge("anabranch_source_lost_offsets", &["source"], "Offsets that nobody has any more, accepted by skip-lost, below the versions' coverage");
const REJECTED: Figure = Figure::gauge("anabranch_source_rejected_records", &["source", "reason"], "Records that could not be decoded, since the origin");

/// What this file shows.
#[cfg(test)]
pub(crate) const TABLE: [Figure; 5] = [LAG, ARCHIVE_LAG, STOPPED, LOST, REJECTED];

/// The figures of all sources at this moment.
pub(super) fn of_sources(mirror: &Mirror) -> Result<Registry> {
    let registry = Registry::new();
    let (lag, archive_lag, stopped) = (LAG.gauge_in(&registry)?, ARCHIVE_LAG.gauge_in(&registry)?, STOPPED.gauge_in(&registry)?);
    let (lost, rejected) = (LOST.gauge_in(&registry)?, REJECTED.gauge_in(&registry)?);
    let views = mirror.views();
    for (source, partitions) in mirror.partitions() {
        for state in partitions {
            let partition = state.row.partition.to_string();
            let behind = |offset: i64| (state.high_watermark.0 - offset).max(0) as f64;
            lag.with_label_values(&[&source, &partition]).set(behind(state.row.next_offset.0));
            archive_lag.with_label_values(&[&source, &partition]).set(behind(state.archived_to.0));
            for (layer, trouble) in [("speed", &state.speed_trouble), ("archive", &state.archive_trouble)] {
                stopped.with_label_values(&[source.as_str(), &partition, layer]).set(if trouble.is_some() { 1.0 } else { 0.0 });
            }
        }
        let of_source = views.values().filter(|state| state.view().source.name == source);
        let most_lost = of_source.filter_map(|state| if let ViewState::Ready(answerable) = state { Some(&answerable.lost) } else { None });
        let most_lost = most_lost.map(|ranges| ranges.iter().map(|(_, range)| range.end.0 - range.start.0).sum::<i64>()).max();
        lost.with_label_values(&[&source]).set(most_lost.unwrap_or_default() as f64);
        let counted = views.values().find(|state| state.view().over_rejected && state.view().source.name == source);
        for (reason, records) in status::rejected(counted)? {
            rejected.with_label_values(&[&source, &reason]).set(records as f64);
        }
    }
    Ok(registry)
}
