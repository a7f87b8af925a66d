use anabranch_core::definition::{DECODE_ERROR, File, parse};
use arrow::array::{Array, AsArray};

use super::*;

/// The reason why a value is rejected; nothing for a good one.
fn reason(value: Option<&[u8]>) -> Option<String> {
    let text = "CREATE TABLE t (a TEXT NOT NULL, n BIGINT, d DOUBLE, b BOOLEAN, at TIMESTAMP, day DATE,
        twice BIGINT GENERATED ALWAYS AS (n * 2) STORED) WITH (connector = 'kafka', topic = 't', format = 'json')";
    let pipeline = parse(&[File { path: "t.sql".into(), text: text.into() }]).unwrap();
    let mut reasons = Vec::new();
    // Both arms must agree, whatever they build.
    for wanted in [Wanted::Archive, Wanted::Columns(BTreeSet::from([DECODE_ERROR.to_owned()]))] {
        let mut decoder = Decoder::new(&pipeline.sources[0], wanted);
        decoder.push(&RawRecord { partition: 0, offset: 0, timestamp_micros: None, key: None, value }, []);
        let batch = decoder.finish().unwrap();
        let errors = batch.column_by_name(DECODE_ERROR).unwrap().as_string_view().clone();
        reasons.push(errors.is_valid(0).then(|| errors.value(0).to_owned()));
    }
    assert_eq!(reasons[0], reasons[1]);
    reasons.remove(0)
}

#[test]
fn good_records_pass() {
    for value in [
        r#"{"a": "x"}"#,
        r#"{"a": "x", "n": 5.0, "d": 5, "b": true, "at": "2026-01-31T12:00:00Z", "day": "2026-01-31", "other": {"deep": [1]}}"#,
        r#"{"a": 5, "a": "the last counts"}"#,
        r#"{"a": "\u00e9", "n": null}"#,
    ] {
        assert_eq!(reason(Some(value.as_bytes())), None, "{value}");
    }
}

#[test]
fn bad_records_are_rejected_with_their_reason() {
    for (value, expected) in [
        ("{", "not JSON"),
        (r#"{"a": "x"} {}"#, "not JSON"),
        ("[1]", "not an object"),
        ("7", "not an object"),
        ("{}", "missing: a"),
        (r#"{"a": null}"#, "missing: a"),
        (r#"{"a": 5}"#, "wrong type: a"),
        (r#"{"a": "x", "n": "5"}"#, "wrong type: n"),
        (r#"{"a": "x", "n": 5.5}"#, "wrong type: n"),
        (r#"{"a": "x", "n": 9223372036854775808}"#, "out of range: n"),
        (r#"{"a": "x", "b": 1}"#, "wrong type: b"),
        (r#"{"a": "x", "at": "soon"}"#, "not a time: at"),
        (r#"{"a": "x", "day": "2026-02-30"}"#, "not a date: day"),
        (r#"{"a": "\u0000"}"#, "U+0000: a"),
        (r#"{"a": "x", "n": 9223372036854775807}"#, "cannot be computed: twice"),
    ] {
        assert_eq!(reason(Some(value.as_bytes())).as_deref(), Some(expected), "{value}");
    }
    assert_eq!(reason(None).as_deref(), Some("tombstone"));
    assert_eq!(reason(Some(&[0xff])).as_deref(), Some("not UTF-8"));
    let limit = 16 * 1024 * 1024;
    let value = |length: usize| format!(r#"{{"a": "{}"}}"#, "x".repeat(length - 9)).into_bytes();
    assert_eq!(reason(Some(&value(limit))), None);
    assert_eq!(reason(Some(&value(limit + 1))).as_deref(), Some("oversized"));
}
