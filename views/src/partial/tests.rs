#![expect(clippy::cast_possible_wrap, reason = "small numbers of a test")]

use anabranch_core::definition::{File, Pipeline, parse};
use proptest::prelude::*;

use super::{partial as partial_with, *};
use crate::{
    decode::{Decoder, RawRecord, Wanted},
    finalize::finalize,
};

fn partial(view: &View, batch: &RecordBatch) -> Result<Groups, EvaluateError> {
    partial_with(view, batch, &Lookups::default())
}

fn pipeline() -> Pipeline {
    let text = include_str!("../../../pipelines/server_status.sql").to_owned();
    parse(&[File { path: "server_status.sql".into(), text }]).unwrap()
}

fn batch(values: &[(i64, String)]) -> RecordBatch {
    let pipeline = pipeline();
    let mut decoder = Decoder::new(&pipeline.sources[0], Wanted::Archive);
    for (offset, value) in values {
        let record = RawRecord { partition: 0, offset: *offset, timestamp_micros: Some(0), key: None, value: Some(value.as_bytes()) };
        decoder.push(&record, []);
    }
    decoder.finish().unwrap()
}

fn event(id: u8, minute: u8, color: u8, time: Option<i8>) -> String {
    let color = ["Red|Severity 1", "Green|Severity 3", "plain"][usize::from(color % 3)];
    serde_json::json!({
        "event_id": id.to_string(), "event_datetime": format!("2026-01-01 00:{:02}:30", minute % 60),
        "event_server_status_color_name_severity_level": color, "event_server_type": "Mail", "event_city_name": "Bern",
        "event_estimated_issue_resolution_time": time,
    })
    .to_string()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_split_anywhere_merges_to_the_whole(events in prop::collection::vec((any::<u8>(), 0..3u8, 0..3u8, any::<Option<i8>>(), 0..10u8), 0..60), cut in 0..60usize) {
        let values: Vec<(i64, String)> = (0i64..)
            .zip(&events)
            .map(|(offset, (id, minute, color, time, bad))| (offset, if *bad == 0 { "[]".to_owned() } else { event(*id, *minute, *color, *time) }))
            .collect();
        let (first, second) = values.split_at(cut.min(values.len()));
        for view in &pipeline().views {
            let whole = partial(view, &batch(&values)).unwrap();
            let (mut left, mut right) = (partial(view, &batch(first)).unwrap(), partial(view, &batch(second)).unwrap());
            let (other_left, other_right) = (left.clone(), right.clone());
            left.merge(other_right);
            right.merge(other_left);
            prop_assert_eq!(&left, &whole);
            prop_assert_eq!(&right, &whole);
        }
    }
}

#[test]
fn a_view_counts_what_a_person_would_count() {
    let values = [event(1, 0, 0, Some(4)), event(2, 0, 0, Some(6)), event(3, 0, 1, None), "nonsense".to_owned()];
    let batch = batch(&values.into_iter().enumerate().map(|(offset, value)| (offset as i64, value)).collect::<Vec<_>>());
    let pipeline = pipeline();
    let view = pipeline.views.iter().find(|view| view.name == "status_by_city").unwrap();
    let groups = partial(view, &batch).unwrap();
    assert_eq!(groups.0.len(), 2);
    let red = groups.0.values().find(|row| row.key.contains(&Value::Text("Red".into()))).unwrap();
    let values: Vec<Value> = view.measures.iter().map(|measure| finalize(measure, &red.states)).collect();
    assert_eq!(values, [Value::BigInt(2), Value::Decimal(10, 0), Value::BigInt(4), Value::BigInt(6), Value::Double(5.0)]);
    let rejected = pipeline.views.iter().find(|view| view.over_rejected).unwrap();
    assert_eq!(partial(rejected, &batch).unwrap().0.len(), 1);
}
