//! The days that an audit looks at, when it does not look at everything.

use std::ops::Range;

use anabranch_core::definition::{Node, View};
use chrono::{Days, NaiveDate, NaiveTime};
use parquet::file::{metadata::RowGroupMetaData, statistics::Statistics};

/// Buckets from this day on, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first day.
    pub first: NaiveDate,
}

impl Window {
    /// The last `days` days, today included.
    #[must_use]
    pub fn last_days(days: u32, today: NaiveDate) -> Self {
        let back = Days::new(u64::from(days.saturating_sub(1)));
        Self { first: today.checked_sub_days(back).unwrap_or(NaiveDate::MIN) }
    }

    /// Whether a part lies in it; parts are named by their day.
    pub(super) fn holds(self, part: &str) -> bool {
        NaiveDate::parse_from_str(part, "%Y-%m-%d").is_ok_and(|day| day >= self.first)
    }

    /// Whether a row group of an archive file may hold records of the window for `view`, by the statistics of its time.
    pub(super) fn may_hold(self, view: &View, group: &RowGroupMetaData) -> bool {
        let Some(Node::Column(name)) = view.bucket.as_ref().map(|bucket| &bucket.time.node) else { return true };
        let column = group.columns().iter().find(|column| column.column_path().string() == *name);
        match column.and_then(|column| column.statistics()) {
            Some(Statistics::Int64(micros)) => micros.max_opt().is_none_or(|latest| *latest >= self.start_micros()),
            _ => true,
        }
    }

    fn start_micros(self) -> i64 {
        self.first.and_time(NaiveTime::MIN).and_utc().timestamp_micros()
    }
}

/// The row groups of a file that any of `views` needs.
pub(super) fn row_groups<'a>(window: Option<Window>, views: impl Iterator<Item = &'a View> + Clone, groups: &[RowGroupMetaData]) -> Vec<usize> {
    let all: Range<usize> = 0..groups.len();
    let needed = |group: &RowGroupMetaData| window.is_none_or(|window| views.clone().any(|view| window.may_hold(view, group)));
    all.zip(groups).filter(|(_, group)| needed(group)).map(|(index, _)| index).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use anabranch_core::definition::{File, parse};
    use arrow::{
        array::{RecordBatch, TimestampMicrosecondArray},
        datatypes::{DataType, Field, Schema, TimeUnit},
    };
    use bytes::Bytes;
    use parquet::{arrow::ArrowWriter, file::metadata::ParquetMetaDataReader};

    use super::*;

    #[test]
    fn row_groups_before_the_window_are_not_read() {
        let sql = "CREATE TABLE events (name TEXT, at TIMESTAMP) WITH (connector = 'kafka', topic = 'events', format = 'json');
            CREATE MATERIALIZED VIEW by_day AS SELECT date_trunc('day', at) AS day, count(*) AS events FROM events GROUP BY 1;";
        let pipeline = parse(&[File { path: "events.sql".into(), text: sql.into() }]).unwrap();
        let view = pipeline.views.iter().find(|view| view.name == "by_day").unwrap();
        let micros = |day: &str| day.parse::<NaiveDate>().unwrap().and_time(NaiveTime::MIN).and_utc().timestamp_micros();
        let schema = Arc::new(Schema::new(vec![Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true)]));
        let mut content = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut content, Arc::clone(&schema), None).unwrap();
        for days in [["2019-01-01", "2020-01-01"], ["2020-01-01", "2026-03-01"], ["2026-03-01", "2026-03-02"]] {
            let times = TimestampMicrosecondArray::from_iter_values(days.map(micros)).with_timezone("UTC");
            writer.write(&RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(times)]).unwrap()).unwrap();
            writer.flush().unwrap();
        }
        writer.close().unwrap();
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&Bytes::from(content)).unwrap();
        let window = Window { first: "2026-03-01".parse().unwrap() };
        assert_eq!(row_groups(Some(window), [view].into_iter(), metadata.row_groups()), [1, 2]);
        assert_eq!(row_groups(None, [view].into_iter(), metadata.row_groups()), [0, 1, 2]);
    }

    #[test]
    fn a_window_is_made_of_whole_days_and_open_at_its_end() {
        let day = |text: &str| text.parse::<NaiveDate>().unwrap();
        let window = Window::last_days(2, day("2026-03-01"));
        assert_eq!(window.first, day("2026-02-28"));
        assert_eq!(Window::last_days(1, day("2026-03-01")).first, day("2026-03-01"));
        let held = ["2026-02-27", "2026-02-28", "2026-03-01", "2031-01-01", "other", "shard-0"].map(|part| window.holds(part));
        assert_eq!(held, [false, true, true, true, false, false]);
    }
}
