use super::*;

const SOURCE: &str = "CREATE TABLE events (
  id TEXT NOT NULL,
  at TIMESTAMP,
  amount BIGINT,
  share DOUBLE,
  kind TEXT GENERATED ALWAYS AS (split_part(id, '|', 1)) STORED
) WITH (connector = 'kafka', topic = 'events', format = 'json', event_time = 'at');
";

#[expect(clippy::result_large_err, reason = "a test")]
fn compile(view: &str) -> Result<Pipeline, DefinitionError> {
    parse(&[File { path: "pipelines/test.sql".into(), text: format!("{SOURCE}{view}") }])
}

fn mistake(view: &str) -> String {
    compile(view).unwrap_err().to_string()
}

#[test]
fn the_shipped_pipeline_compiles() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../pipelines/server_status.sql")).unwrap();
    let pipeline = parse(&[File { path: "server_status.sql".into(), text }]).unwrap();
    let names: Vec<&str> = pipeline.views.iter().map(|view| view.name.as_str()).collect();
    assert_eq!(names, ["server_status_rejected", "status_by_city", "status_by_server_type"]);
    let by_city = &pipeline.views[1];
    assert_eq!(by_city.dimensions.len(), 5);
    // avg shares the sum with sum(…).
    assert_eq!(by_city.accumulators.len(), 5);
    assert_eq!(by_city.needed_columns().len(), 8);
}

#[test]
fn a_fingerprint_follows_the_meaning_and_not_the_text() {
    let of = |view: &str| compile(view).unwrap().views.iter().find(|view| view.name == "v").unwrap().fingerprint.clone();
    let plain = of("CREATE MATERIALIZED VIEW v AS SELECT id, count(*) AS n FROM events GROUP BY 1;");
    assert_eq!(plain, of("create materialized view V as\n select events.id, -- a comment\n count(*) n from events group by id;"));
    assert_ne!(plain, of("CREATE MATERIALIZED VIEW v AS SELECT id, count(amount) AS n FROM events GROUP BY 1;"));
    assert_ne!(plain, of("CREATE MATERIALIZED VIEW v AS SELECT id, count(*) AS n FROM events WHERE amount > 0 GROUP BY 1;"));
}

#[test]
fn mistakes_say_where_they_are_and_what_is_allowed() {
    insta::assert_snapshot!(mistake("CREATE MATERIALIZED VIEW v AS\nSELECT knd, count(*) AS n FROM events GROUP BY 1;"), @r#"
    pipelines/test.sql:9:8: unknown column "knd"
      9 | SELECT knd, count(*) AS n FROM events GROUP BY 1;
        |        ^
      help: did you mean "kind"?
    "#);
    insta::assert_snapshot!(mistake("CREATE MATERIALIZED VIEW v AS SELECT date_trunc('fortnight', at) AS t, count(*) AS n FROM events GROUP BY 1;"), @r"
    pipelines/test.sql:8:49: unknown granularity 'fortnight'
      8 | CREATE MATERIALIZED VIEW v AS SELECT date_trunc('fortnight', at) AS t, count(*) AS n FROM events GROUP BY 1;
        |                                                 ^
      help: one of second, minute, hour, day, week, month, quarter, year
    ");
    insta::assert_snapshot!(mistake("CREATE MATERIALIZED VIEW v AS SELECT id, sum(kind) AS n FROM events GROUP BY 1;"), @r"
    pipelines/test.sql:8:42: sum needs a number, not TEXT
      8 | CREATE MATERIALIZED VIEW v AS SELECT id, sum(kind) AS n FROM events GROUP BY 1;
        |                                          ^
    ");
    insta::assert_snapshot!(mistake("CREATE MATERIALIZED VIEW v AS SELECT id, now() AS t, count(*) AS n FROM events GROUP BY 1, 2;"), @r"
    pipelines/test.sql:8:42: now() gives another answer each time a record is read
      8 | CREATE MATERIALIZED VIEW v AS SELECT id, now() AS t, count(*) AS n FROM events GROUP BY 1, 2;
        |                                          ^
      help: use a column of the event, or kafka_timestamp
    ");
    insta::assert_snapshot!(mistake("CREATE MATERIALIZED VIEW v AS SELECT id, kind, count(*) AS n FROM events GROUP BY 1;"), @r#"
    pipelines/test.sql:8:42: the column "kind" is neither grouped nor an aggregate
      8 | CREATE MATERIALIZED VIEW v AS SELECT id, kind, count(*) AS n FROM events GROUP BY 1;
        |                                          ^
      help: add it to GROUP BY
    "#);
}

#[test]
fn wrong_definitions_are_refused_with_their_code() {
    let cases = [
        ("SELEC 1;", "syntax"),
        ("SELECT 1;", "unknown_statement"),
        ("CREATE VIEW v AS SELECT id, count(*) AS n FROM events GROUP BY 1;", "not_materialized"),
        ("CREATE MATERIALIZED VIEW v AS SELECT id FROM events GROUP BY 1;", "no_measure"),
        ("CREATE MATERIALIZED VIEW v AS SELECT id, count(*) FROM events GROUP BY 1;", "no_name"),
        ("CREATE MATERIALIZED VIEW v AS SELECT * FROM events;", "star"),
        ("CREATE MATERIALIZED VIEW v AS SELECT id, count(*) AS n FROM event GROUP BY 1;", "unknown_source"),
        ("CREATE MATERIALIZED VIEW v AS SELECT id, count(*) AS id FROM events GROUP BY 1;", "duplicate_column"),
        ("CREATE MATERIALIZED VIEW events AS SELECT id, count(*) AS n FROM events GROUP BY 1;", "duplicate_name"),
        ("CREATE MATERIALIZED VIEW v AS SELECT lowr(id) AS x, count(*) AS n FROM events GROUP BY 1;", "unknown_function"),
        ("CREATE MATERIALIZED VIEW v AS SELECT lower(amount) AS x, count(*) AS n FROM events GROUP BY 1;", "wrong_types"),
        ("CREATE MATERIALIZED VIEW v AS SELECT id, sum(count(*)) AS n FROM events GROUP BY 1;", "aggregate_here"),
        ("CREATE MATERIALIZED VIEW v AS SELECT id, count(*) AS n FROM events WHERE amount GROUP BY 1;", "wrong_types"),
        ("CREATE MATERIALIZED VIEW v AS SELECT id, count(*) AS n FROM events WHERE at > 'soon' GROUP BY 1;", "bad_literal"),
        ("CREATE MATERIALIZED VIEW v AS SELECT id, count(*) AS n FROM events GROUP BY 1 HAVING count(*) > 1;", "not_supported"),
        ("CREATE MATERIALIZED VIEW v AS SELECT id, approx_percentile_cont(amount, 2.0) AS n FROM events GROUP BY 1;", "bad_rank"),
        ("CREATE TABLE t (a TEXT) WITH (connector = 'kafka', topic = 'events', format = 'json');", "duplicate_topic"),
        ("CREATE TABLE t (a MONEY) WITH (connector = 'kafka', topic = 't', format = 'json');", "unknown_type"),
        ("CREATE TABLE t (a TEXT) WITH (connector = 'kafka', format = 'json');", "missing_option"),
        ("CREATE TABLE t (a TEXT) WITH (connector = 'kafka', topik = 't', format = 'json');", "unknown_option"),
        ("CREATE TABLE t (a TEXT) WITH (connector = 'pulsar', topic = 't', format = 'json');", "option_value"),
        ("CREATE TABLE t (a TEXT) WITH (connector = 'kafka', topic = 't', format = 'json', event_time = 'a');", "event_time_type"),
        ("CREATE TABLE t (kafka_offset BIGINT) WITH (connector = 'kafka', topic = 't', format = 'json');", "reserved_name"),
    ];
    for (text, code) in cases {
        let error = compile(text).unwrap_err();
        assert_eq!(error.code, code, "{error}");
        assert!(error.line >= 8, "{error}");
    }
}
