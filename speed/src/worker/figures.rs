//! What a worker counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anabranch_core::{Offset, Partition};
use anabranch_process::{clock, metrics};

/// The figures of one worker's source.
pub(super) struct Figures {
    source: String,
    records: prometheus::IntCounter,
}

impl Figures {
    pub(super) fn new(source: &str) -> Self {
        Self { source: source.to_owned(), records: metrics::SPEED_RECORDS.with_label_values(&[source]) }
    }

    /// So many records were read, the last one of this partition and with this time of Kafka.
    pub(super) fn read(&self, records: u64, last: Option<(i32, Option<i64>)>) {
        self.records.inc_by(records);
        if let Some((partition, Some(timestamp_micros))) = last {
            let behind = Duration::from_millis(u64::try_from(clock::now_ms() - timestamp_micros / 1000).unwrap_or_default());
            metrics::SPEED_LAG_SECONDS.with_label_values(&[&self.source, &partition.to_string()]).set(behind.as_secs_f64());
        }
    }

    /// There is nothing more to read of the partition.
    pub(super) fn at_end(&self, partition: Partition) {
        metrics::SPEED_LAG_SECONDS.with_label_values(&[&self.source, &partition.to_string()]).set(0.0);
    }

    /// Where the partitions end, and how far they are folded.
    #[expect(clippy::cast_precision_loss, reason = "figures of Prometheus are floating-point numbers")]
    pub(super) fn ends(&self, ends: &BTreeMap<Partition, Offset>, folded: impl Fn(Partition) -> Option<Offset>) {
        for (partition, end) in ends {
            if let Some(folded) = folded(*partition) {
                metrics::SPEED_LAG.with_label_values(&[&self.source, &partition.to_string()]).set((end.0 - folded.0).max(0) as f64);
            }
        }
    }

    /// Others read these partitions from here on.
    pub(super) fn gave_back(&self, partitions: &BTreeSet<Partition>) {
        for partition in partitions {
            for figure in [&metrics::SPEED_LAG, &metrics::SPEED_LAG_SECONDS] {
                // One that showed nothing yet.
                drop(figure.remove_label_values(&[&self.source, &partition.to_string()]));
            }
        }
    }

    pub(super) fn opened(&self) {
        metrics::SPEED_OPENINGS.with_label_values(&[&self.source]).inc();
    }

    pub(super) fn fenced(&self) {
        metrics::SPEED_FENCED.with_label_values(&[&self.source]).inc();
    }
}
