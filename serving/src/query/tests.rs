use anabranch_core::definition::{File, View, parse};
use anabranch_views::Value;
use serde_json::{Value as Json, json};

use super::*;

/// 2026-01-14 15:20:30 UTC.
pub(super) const NOW_MS: i64 = 1_768_404_030_000;

pub(super) fn view() -> View {
    let text = "CREATE TABLE t (id TEXT, name TEXT, amount BIGINT, share DOUBLE, price DECIMAL(10, 2), good BOOLEAN, day DATE, at TIMESTAMP)
          WITH (connector = 'kafka', topic = 't', format = 'json');
        CREATE MATERIALIZED VIEW v WITH (\"segment.large\" = 'amount > 100 AND name <> ''x''') AS
        SELECT date_trunc('hour', at) AS hour, name, amount, share, price, good, day, count(*) AS n, sum(price) AS total FROM t GROUP BY 1, 2, 3, 4, 5, 6, 7;";
    let pipeline = parse(&[File { path: "t.sql".into(), text: text.into() }]).unwrap_or_else(|error| panic!("{error}"));
    pipeline.views.into_iter().find(|view| view.name == "v").unwrap()
}

fn resolved(query: Json) -> Result<Resolved, Problem> {
    resolve(&view(), &serde_json::from_value(query).unwrap(), NOW_MS)
}

fn code(query: Json) -> &'static str {
    resolved(query).unwrap_err().code
}

/// hour, name, amount, share, price, good, day.
fn row(name: Option<&str>) -> Vec<Value> {
    vec![
        Value::Timestamp(1_768_402_800_000_000),
        name.map_or(Value::Null, |name| Value::Text(name.to_owned())),
        Value::BigInt(120),
        Value::Double(0.5),
        Value::Decimal(1250, 2),
        Value::Boolean(true),
        Value::Date(20_467),
    ]
}

fn holds(filter: Json, name: Option<&str>) -> bool {
    let resolved = resolved(json!({"measures": ["v.n"], "filters": [filter]})).unwrap_or_else(|problem| panic!("{}", problem.detail));
    let row = row(name);
    let value = |subject: Subject| std::borrow::Cow::Owned(if let Subject::Key(index) = subject { row[index].clone() } else { Value::Null });
    resolved.conditions.rows.iter().all(|condition| condition.holds(&value))
}

#[test]
fn every_operator_means_what_it_means_in_cube() {
    let leaf = |member: &str, operator: &str, values: Json| json!({"member": format!("v.{member}"), "operator": operator, "values": values});
    for (member, operator, values, expected) in [
        ("name", "equals", json!(["Red", "Blue"]), true),
        ("name", "equals", json!(["red"]), false),
        ("name", "notEquals", json!(["Blue"]), true),
        ("name", "in", json!(["Red"]), true),
        ("name", "contains", json!(["ED"]), true),
        ("name", "notContains", json!(["ed"]), false),
        ("name", "startsWith", json!(["r"]), true),
        ("name", "notStartsWith", json!(["x"]), true),
        ("name", "endsWith", json!(["x", "D"]), true),
        ("name", "notEndsWith", json!(["d"]), false),
        ("name", "set", Json::Null, true),
        ("name", "notSet", Json::Null, false),
        ("amount", "equals", json!(["120"]), true),
        ("amount", "equals", json!([120.0]), true),
        ("amount", "gt", json!([119.5]), true),
        ("amount", "gte", json!(["120"]), true),
        ("amount", "lt", json!(["120"]), false),
        ("amount", "lte", json!([120]), true),
        ("amount", "lt", json!(["99999999999999999999999"]), true),
        ("share", "equals", json!(["0.5"]), true),
        ("price", "equals", json!(["12.5"]), true),
        ("price", "gt", json!([12.49]), true),
        ("price", "lt", json!(["12"]), false),
        ("good", "equals", json!(["true"]), true),
        ("good", "notEquals", json!([false]), true),
        ("day", "equals", json!(["2026-01-14"]), true),
        ("day", "inDateRange", json!(["2026-01-01", "2026-01-14"]), true),
        ("hour", "inDateRange", json!(["today"]), true),
        ("hour", "notInDateRange", json!(["last 7 days"]), true),
        ("hour", "beforeDate", json!(["2026-01-14"]), false),
        ("hour", "afterDate", json!(["2026-01-14"]), true),
        ("hour", "afterOrOnDate", json!(["2026-01-14T15:00:00.000"]), true),
        ("hour", "beforeOrOnDate", json!(["2026-01-14T15:00:00.000"]), true),
        ("hour", "onTheDate", json!(["2026-01-14"]), true),
    ] {
        assert_eq!(holds(leaf(member, operator, values.clone()), Some("Red")), expected, "{member} {operator} {values}");
    }
    // NULL: what denies lets it pass unless it is named; what asserts takes it only when it is named.
    for (operator, values, expected) in [
        ("equals", json!(["Red"]), false),
        ("equals", json!(["Red", null]), true),
        ("notEquals", json!(["Red"]), true),
        ("notEquals", json!(["Red", null]), false),
        ("contains", json!(["e"]), false),
        ("notContains", json!(["e"]), true),
        ("notContains", json!(["e", null]), false),
        ("set", Json::Null, false),
        ("notSet", Json::Null, true),
    ] {
        assert_eq!(holds(leaf("name", operator, values.clone()), None), expected, "{operator} {values}");
    }
}

#[test]
fn filters_are_trees_and_speak_of_rows_or_of_groups() {
    let red = json!({"member": "v.name", "operator": "equals", "values": ["Red"]});
    let large = json!({"member": "v.amount", "operator": "gt", "values": [1000]});
    assert!(holds(json!({"or": [large, red]}), Some("Red")));
    assert!(!holds(json!({"and": [large, red]}), Some("Red")));
    assert!(holds(json!({"and": [red, {"or": [large, red]}]}), Some("Red")));
    let many = json!({"member": "v.n", "operator": "gt", "values": [5]});
    let both = resolved(json!({"measures": ["v.n"], "filters": [red, many]})).unwrap();
    assert_eq!((both.conditions.rows.len(), both.conditions.groups.len()), (1, 1));
    assert_eq!(code(json!({"measures": ["v.n"], "filters": [{"or": [red, many]}]})), "mixed_filter");
}

#[test]
fn wrong_queries_are_refused_with_their_code() {
    let filter = |filter: Json| json!({"measures": ["v.n"], "filters": [filter]});
    let time = |time: Json| json!({"measures": ["v.n"], "timeDimensions": [time]});
    let mut deep = json!({"member": "v.name", "operator": "set"});
    for _ in 0..30 {
        deep = json!({ "and": [deep] });
    }
    let many: Vec<Json> = (0..10_000).map(|number| json!({"member": "v.name", "operator": "equals", "values": [number]})).collect();
    for (query, expected) in [
        (json!({"measures": ["v.m"]}), "unknown_member"),
        (json!({"dimensions": ["v.nam"]}), "unknown_member"),
        (json!({"measures": ["v.n"], "segments": ["v.larg"]}), "unknown_member"),
        (filter(json!("v.name = 'Red'")), "filter"),
        (filter(json!({"member": "v.name", "operator": "equals", "value": ["Red"]})), "filter"),
        (filter(json!({"member": "v.name", "operator": "equals"})), "filter_values"),
        (filter(json!({"member": "v.name", "operator": "equals", "values": "Red"})), "filter_values"),
        (filter(json!({"member": "v.name", "operator": "equal", "values": ["Red"]})), "unknown_operator"),
        (filter(json!({"member": "v.name", "operator": "inDateRange", "values": ["today"]})), "operator_type"),
        (filter(json!({"member": "v.good", "operator": "gt", "values": [1]})), "operator_type"),
        (filter(json!({"member": "v.amount", "operator": "gt", "values": ["many"]})), "filter_value"),
        (filter(json!({"member": "v.amount", "operator": "equals", "values": ["'; DROP TABLE x"]})), "filter_value"),
        (filter(json!({"member": "v.hour", "operator": "afterDate", "values": ["someday"]})), "date"),
        (filter(deep), "filter_depth"),
        (json!({"measures": ["v.n"], "filters": many}), "filter_count"),
        (time(json!({"dimension": "v.hour", "granularity": "minute"})), "granularity"),
        (time(json!({"dimension": "v.hour", "granularity": "fortnight"})), "unknown_granularity"),
        (time(json!({"dimension": "v.hour", "dateRange": ["2026-02-01", "2026-01-01"]})), "date_range"),
        (time(json!({"dimension": "v.hour", "dateRange": "all time"})), "date"),
        (json!({"measures": ["v.n"], "limit": 50_001}), "limit"),
        (json!({"measures": ["v.n"], "order": {"v.x": "asc"}}), "unknown_member"),
        (json!({"measures": ["v.n"], "order": {"v.n": "up"}}), "order"),
        (json!({"measures": ["v.n"], "timezone": "Europe/Berlim"}), "unknown_timezone"),
        (json!({"measures": ["v.n"], "timezone": "Asia/Kolkata"}), "timezone_buckets"),
        (json!({"measures": ["v.n"], "ungrouped": true}), "ungrouped"),
        (json!({}), "empty_query"),
    ] {
        assert_eq!(code(query.clone()), expected, "{}", query.to_string().chars().take(200).collect::<String>());
    }
    assert_eq!(resolved(json!({"measures": ["v.n"], "timezone": "Europe/Berlin", "segments": ["v.large"]})).unwrap().segments.len(), 1);
}

#[test]
fn a_comparison_is_a_query_for_each_range() {
    let query = |time: Json| serde_json::from_value(json!({"measures": ["v.n"], "timeDimensions": [time]})).unwrap();
    let ranges = json!({"dimension": "v.hour", "granularity": "day", "compareDateRange": ["last week", ["2026-01-01", "2026-01-07"]]});
    let both = compared(&query(ranges)).unwrap().unwrap();
    assert_eq!(both.len(), 2);
    assert!(both.iter().all(|query| query.time_dimensions[0].compare_date_range.is_none() && query.time_dimensions[0].date_range.is_some()));
    assert!(compared(&query(json!({"dimension": "v.hour", "dateRange": "today", "compareDateRange": ["last week"]}))).is_err());
    assert!(compared(&query(json!({"dimension": "v.hour"}))).unwrap().is_none());
}
