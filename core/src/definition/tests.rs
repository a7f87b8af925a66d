use std::path::Path;

use super::*;

const TABLES: &str = "CREATE TABLE events (
  id TEXT NOT NULL,
  at TIMESTAMP,
  amount BIGINT,
  share DOUBLE,
  price DECIMAL(10, 2),
  kind TEXT GENERATED ALWAYS AS (split_part(id, '|', 1)) STORED
) WITH (connector = 'kafka', topic = 'events', format = 'json', event_time = 'at');
CREATE TABLE others (other TEXT) WITH ('connector' = 'kafka', 'topic' = 'others', 'format' = 'json');
CREATE TABLE songs (title TEXT, kind TEXT, year BIGINT) WITH (connector = 'filesystem', path = 'songs.json', format = 'json');
";

#[expect(clippy::result_large_err, reason = "a test")]
fn compile(view: &str) -> Result<Pipeline, DefinitionError> {
    parse(&[File { path: "pipelines/test.sql".into(), text: format!("{TABLES}{view}") }])
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

fn view(text: &str) -> View {
    let pipeline = compile(text).unwrap_or_else(|error| panic!("{error}"));
    pipeline.views.into_iter().find(|view| view.name == "v").unwrap()
}

/// What a file of the tests should be; UPDATE=1 writes it.
fn matches_file(path: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    if let Some((known, now)) = known.lines().zip(text.lines()).find(|(known, now)| known != now) {
        panic!("{}: \"{known}\" is now \"{now}\"; UPDATE=1 writes it anew", path.display());
    }
    assert_eq!(known.len(), text.len(), "{}; UPDATE=1 writes it anew", path.display());
}

/// Every wrong definition is refused with its code, and the messages are those of `tests/refusals.txt`.
#[test]
fn wrong_definitions_are_refused_with_file_line_caret_and_help() {
    let mut messages = String::new();
    let mut codes = BTreeSet::new();
    let mut cases = 0;
    let mut wrong = Vec::new();
    for case in include_str!("tests/refusals.sql").split("-- ").skip(1) {
        let (code, text) = case.split_once('\n').unwrap();
        let error = match compile(text) {
            Ok(_) => {
                wrong.push(format!("not refused: {text}"));
                continue;
            }
            Err(error) => error,
        };
        if error.code != code {
            wrong.push(format!("{code}, but {}: {error}", error.code));
        }
        assert!(error.line > TABLES.lines().count() as u64, "{error}");
        messages.push_str(&format!("{code}\n{error}\n\n"));
        codes.insert(code);
        cases += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    matches_file("src/definition/tests/refusals.txt", &messages);
    assert!(cases >= 60 && codes.len() >= 25, "{cases} cases, {} codes", codes.len());
    // Every code in the program is shown by a case.
    let mut known = BTreeSet::new();
    for file in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/definition")).unwrap() {
        let Ok(text) = std::fs::read_to_string(file.unwrap().path()) else { continue };
        known.extend(text.split("Mistake::new(\"").skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned));
    }
    let shown: BTreeSet<String> = codes.into_iter().map(str::to_owned).collect();
    assert_eq!(known.difference(&shown).collect::<Vec<_>>(), Vec::<&String>::new(), "codes that no case shows");
}

#[test]
fn the_documents_have_every_function() {
    assert!(Function::TABLE.iter().filter(|entry| entry.is_called()).count() >= 40);
    for (index, entry) in Function::TABLE.iter().enumerate() {
        assert_eq!(entry.function as usize, index);
        assert!(!entry.examples.is_empty(), "{} has no example", entry.name);
    }
    matches_file("../docs/functions.md", &function::markdown());
}

#[test]
fn filters_and_expressions_over_aggregates_share_their_states() {
    let view = view(
        "CREATE MATERIALIZED VIEW v AS SELECT kind, count(*) AS n, count(*) FILTER (WHERE amount > 5) AS large,
           count(*) FILTER (WHERE amount > 5) * 100 / count(*) AS percent, avg(amount) AS mean, sum(amount) AS total,
           count(DISTINCT id) AS ids, first(id) AS earliest, bool_or(amount > 3) AS any, max(price) - min(price) AS spread
         FROM events GROUP BY kind",
    );
    let names: Vec<&str> = view.measures.iter().map(|measure| measure.name.as_str()).collect();
    assert_eq!(names, ["n", "large", "percent", "mean", "total", "ids", "earliest", "any", "spread"]);
    // count, count filtered, sum, count(amount), values, first, max of a condition, max and min of price.
    assert_eq!(view.accumulators.len(), 9);
    let types: Vec<String> = view.measures.iter().map(|measure| measure.data_type.to_string()).collect();
    assert_eq!(types, ["BIGINT", "BIGINT", "DOUBLE", "DOUBLE", "DECIMAL(38,0)", "BIGINT", "TEXT", "BOOLEAN", "DECIMAL(11,2)"]);
}

#[test]
fn a_view_without_groups_is_one_of_rows() {
    let view = view(
        "CREATE MATERIALIZED VIEW v AS SELECT e.id, at, s.year FROM events AS e LEFT JOIN songs AS s ON s.title = e.id AND e.kind = s.kind WHERE amount > 1;
         COMMENT ON COLUMN v.year IS 'When the song came out.'",
    );
    assert!(view.is_rows);
    let names: Vec<&str> = view.column_names().collect();
    assert_eq!(names, ["at", "kafka_partition", "kafka_offset", "id", "year", "count"]);
    assert_eq!(view.joins[0].on.len(), 2);
    assert_eq!(view.column_comments["year"], "When the song came out.");
    let needed: Vec<String> = view.needed_columns().into_iter().collect();
    assert_eq!(needed, ["amount", "at", "decode_error", "id", "kafka_offset", "kafka_partition", "kind"]);
}

#[test]
fn the_content_of_a_reference_is_part_of_the_fingerprint() {
    let pipeline = compile("CREATE MATERIALIZED VIEW v AS SELECT id, year FROM events JOIN songs ON id = title").unwrap();
    let with = |content: &str| {
        let pipeline = pipeline.clone().with_contents(&BTreeMap::from([("songs".to_owned(), content.to_owned())]));
        let all: BTreeMap<String, Fingerprint> = pipeline.views.into_iter().map(|view| (view.name, view.fingerprint)).collect();
        all
    };
    let (one, other) = (with("1"), with("2"));
    assert_ne!(one["v"], other["v"]);
    assert_eq!(one["events_rejected"], other["events_rejected"]);
}
