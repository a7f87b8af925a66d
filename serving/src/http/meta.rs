//! A view as Cube's clients know it.
#![expect(clippy::indexing_slicing, reason = "members of JSON objects made here")]

use anabranch_core::definition::{AccumulatorKind, Formula, View};
use serde_json::{Value as Json_, json};

use crate::answer::{cube_type, member_json};

pub(super) fn cube(view: &View) -> Json_ {
    let full = |name: &str| format!("{}.{name}", view.name);
    // The main time dimension comes first: clients take the first one as default.
    let described = |mut entry: Json_, name: &str| {
        if let Some(comment) = view.column_comments.get(name) {
            entry["description"] = json!(comment);
        }
        entry
    };
    let mut dimensions: Vec<Json_> = view.bucket.iter().map(|bucket| described(dimension(&full(&bucket.name), "time"), &bucket.name)).collect();
    dimensions.extend(view.dimensions.iter().map(|found| described(dimension(&full(&found.name), cube_type(found.expression.data_type)), &found.name)));
    let measures: Vec<Json_> = view
        .measures
        .iter()
        .map(|measure| {
            let mut entry = member_json(&full(&measure.name), cube_type(measure.data_type), Some(view.exactness(measure)));
            entry["aggType"] = json!(aggregation(view, &measure.formula));
            entry["public"] = json!(true);
            entry["isVisible"] = json!(true);
            entry["drillMembersGrouped"] = json!({"measures": [], "dimensions": []});
            described(entry, &measure.name)
        })
        .collect();
    let segment = |(name, segment): (&String, &anabranch_core::definition::Segment)| {
        let short = name.replace('_', " ");
        json!({"name": full(name), "title": full(name).replace(['.', '_'], " "), "shortTitle": short, "description": segment.sql, "public": true, "isVisible": true})
    };
    let segments: Vec<Json_> = view.segments.iter().map(segment).collect();
    json!({
        "name": view.name, "title": view.name.replace('_', " "), "description": view.comment, "type": "view", "public": true, "isVisible": true,
        "measures": measures, "dimensions": dimensions, "segments": segments, "hierarchies": [], "folders": [], "nestedFolders": [],
        "meta": {"source": view.source.name, "fingerprint": view.fingerprint, "granularity": view.bucket.as_ref().map(|bucket| bucket.width.to_string()), "rows": view.is_rows},
    })
}

fn dimension(member: &str, member_type: &str) -> Json_ {
    let mut entry = member_json(member, member_type, None);
    entry["suggestFilterValues"] = json!(true);
    entry["primaryKey"] = json!(false);
    entry["public"] = json!(true);
    entry["isVisible"] = json!(true);
    entry
}

/// By which aggregate of Cube's a measure is known: clients add up `sum` and `count` themselves, and must not add up others.
fn aggregation(view: &View, formula: &Formula) -> &'static str {
    let kind = |index: &usize| view.accumulators.get(*index).map(|accumulator| &accumulator.kind);
    match formula {
        Formula::Mean { .. } => "avg",
        Formula::Percentile { .. } | Formula::Derived { .. } => "number",
        Formula::Value(index) => match kind(index) {
            Some(AccumulatorKind::Count) => "count",
            Some(AccumulatorKind::Sum) => "sum",
            Some(AccumulatorKind::Min) => "min",
            Some(AccumulatorKind::Max) => "max",
            Some(AccumulatorKind::Distinct) => "countDistinctApprox",
            Some(AccumulatorKind::Values { .. }) => "countDistinct",
            _ => "number",
        },
    }
}
