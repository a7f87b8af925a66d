//! What people type: tail, rejected, infer, query, ddl, reset.

use anabranch_e2e::{
    Stage,
    clicks::{LIMIT, applied, begun, click, pages, pipeline, produce, recompute},
    create_topic, eventually, variable,
};
use anyhow::{Context, Result};
use serde_json::{Value as Json, json};

/// The record of the well-known eventsim log, as it is written there.
const EVENTSIM: &str = r#"{"artist": null, "auth": "Logged In", "firstName": "Walter", "gender": "M", "itemInSession": 0, "lastName": "Frye", "length": null, "level": "free", "location": "San Francisco-Oakland-Hayward, CA", "method": "GET","page": "Home", "registration": 1540919166796.0, "sessionId": 38, "song": null, "status": 200, "ts": 1541105830796, "userAgent": "\"Mozilla\/5.0 (Macintosh; Intel Mac OS X 10_9_4) AppleWebKit\/537.36 (KHTML, like Gecko) Chrome\/36.0.1985.143 Safari\/537.36\"", "userId": "39"}"#;

fn objects(text: &str) -> Vec<Json> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[tokio::test]
async fn events_are_shown_as_they_are_decoded_and_the_rejected_ones_with_their_text() -> Result<()> {
    let shipped = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../pipelines/music.sql"))?;
    let songs = concat!(env!("CARGO_MANIFEST_DIR"), "/../pipelines/music/songs.json");
    let sql = shipped.replace("'music-events'", "'shown'").replace("'music/songs.json'", &format!("'{songs}'"));
    let mut stage = applied("shown", 1, &sql).await?;
    let bad = r#"{"page": "Home", "ts": "soon"}"#;
    produce("shown", 0, &[serde_json::from_str(EVENTSIM)?, serde_json::from_str(bad)?])?;
    let (code, text) = stage.run(&["tail", "music_events", "--from-beginning", "--count", "2"])?;
    assert_eq!(code, Some(0), "{text}");
    let shown = objects(&text);
    assert_eq!(shown.len(), 2, "{text}");
    let good = shown.first().context("no event")?;
    for (column, value) in [
        ("first_name", json!("Walter")),
        ("registration", json!("2018-10-30 17:06:06.796")),
        ("ts", json!("2018-11-01 20:57:10.796")),
        ("session_id", json!(38)),
        ("artist", Json::Null),
        ("user_id", json!("39")),
    ] {
        assert_eq!(good.get(column), Some(&value), "{good}");
    }
    let rejected = shown.get(1).context("no second event")?;
    assert_eq!((rejected.get("decode_error"), rejected.get("kafka_offset")), (Some(&json!("not a time: ts")), Some(&json!(1))));
    // From the archive, with the reason and the raw text.
    stage.set("ANABRANCH_ARCHIVE__ROTATE_SECONDS", "1");
    let _archive = stage.start(&["archive"])?;
    let found = eventually("the rejected record in the archive", LIMIT, || async {
        let (code, text) = stage.run(&["rejected", "music_events", "--json", "--reason", "not a time"])?;
        Ok(objects(&text).pop().filter(|_| code == Some(0)))
    })
    .await?;
    assert_eq!((found.get("offset"), found.get("reason")), (Some(&json!(1)), Some(&json!("not a time: ts"))));
    assert!(found.get("value").and_then(Json::as_str).is_some_and(|value| value.contains("soon")), "{found}");
    let (code, text) = stage.run(&["tail", "music_event"])?;
    assert_eq!((code, text.contains("unknown source \"music_event\"")), (Some(2), true), "{text}");
    Ok(())
}

#[tokio::test]
async fn what_is_inferred_from_a_topic_passes_check_and_answers() -> Result<()> {
    let mut stage = Stage::new("inferred").await?;
    create_topic("inferred", 2).await?;
    let (code, text) = stage.run(&["simulate", "music", "--topic", "inferred", "--count", "3000", "--rate", "0", "--malformed", "0"])?;
    assert_eq!(code, Some(0), "{text}");
    let (code, proposal) = stage.run(&["infer", "inferred"])?;
    assert_eq!(code, Some(0), "{proposal}");
    for line in ["ts TIMESTAMP OPTIONS (timestamp_format = 'epoch_ms')", "first_name TEXT OPTIONS (path = '$.firstName')", "event_time = 'ts'"] {
        assert!(proposal.contains(line), "{line}: {proposal}");
    }
    stage.pipeline(&proposal)?;
    let (code, text) = stage.run(&["check"])?;
    assert_eq!(code, Some(0), "{text}\n{proposal}");
    let process = stage.start(&["run"])?;
    let events = json!({"measures": ["inferred_by_hour.events"]});
    eventually("all events", LIMIT, || async {
        Ok(process.load(&events).await?.filter(|answer| answer.to_string().contains("\"inferred_by_hour.events\":3000")))
    })
    .await?;
    let (code, text) = stage.run(&["infer", "not-there"])?;
    assert_eq!(code, Some(2), "{text}");
    Ok(())
}

#[tokio::test]
async fn a_query_is_spelled_by_flags_and_printed_as_table_csv_and_json() -> Result<()> {
    let mut stage = applied("asked", 1, &pipeline("asked", "earliest", "page")).await?;
    let process = stage.start(&["run"])?;
    produce("asked", 0, &[click("a"), click("b"), click("a"), click("c, d")])?;
    pages(&process, 4).await?;
    let ask = |arguments: &[&str]| stage.run(&[&["query", "-m", "by_page.clicks", "-d", "by_page.page", "-o", "by_page.clicks:desc"], arguments].concat());
    let (code, text) = ask(&["--format", "csv", "-f", "by_page.page!=b"])?;
    assert_eq!((code, text.as_str()), (Some(0), "by_page.page,by_page.clicks\na,2\n\"c, d\",1\n"));
    let (code, text) = ask(&["--format", "json", "-l", "1"])?;
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(serde_json::from_str::<Json>(&text)?, json!([{"by_page.page": "a", "by_page.clicks": 2}]));
    let (code, text) = ask(&[])?;
    assert!(code == Some(0) && text.contains("(3 rows)") && text.contains("offsets  asked 0:4"), "{text}");
    let file = stage.folder().join("question.json");
    std::fs::write(&file, r#"{"measures": ["by_page.clicks"]}"#)?;
    let (code, text) = stage.run(&["query", &format!("@{}", file.display()), "--format", "csv"])?;
    assert_eq!((code, text.as_str()), (Some(0), "by_page.clicks\n4\n"));
    let (code, text) = stage.run(&["query", "-m", "by_page.click"])?;
    assert!(code == Some(2) && text.contains("did you mean \"by_page.clicks\"?"), "{text}");
    let (code, text) = stage.run(&["query", "-m", "by_page.clicks", "--ungrouped"])?;
    assert!(code == Some(2) && text.contains("keeps groups, not rows"), "{text}");
    Ok(())
}

#[tokio::test]
async fn reset_says_what_goes_and_then_everything_can_begin_anew() -> Result<()> {
    let mut stage = applied("again", 1, &pipeline("again", "earliest", "page")).await?;
    let process = stage.start(&["run"])?;
    produce("again", 0, &[click("a"), click("b")])?;
    pages(&process, 2).await?;
    recompute(&stage)?;
    // One view: its versions go, and it is built anew from the archive.
    let (code, text) = stage.run(&["reset", "--view", "by_page"])?;
    assert_eq!((code, text.contains("nothing was changed")), (Some(1), true), "{text}");
    let (code, text) = stage.run(&["reset", "--view", "by_page", "--yes"])?;
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = stage.run(&["apply"])?;
    assert_eq!(code, Some(0), "{text}");
    eventually("the view anew", LIMIT, || async {
        recompute(&stage)?;
        Ok(process.load(&json!({"measures": ["by_page.clicks"]})).await?.filter(|answer| answer.to_string().contains("\"by_page.clicks\":2")))
    })
    .await?;
    // Everything: not while a layer runs.
    let (code, text) = stage.run(&["reset"])?;
    assert_eq!((code, text.contains("archive files")), (Some(1), true), "{text}");
    let (code, text) = stage.run(&["reset", "--yes"])?;
    assert_eq!((code, text.contains("stop every layer first")), (Some(2), true), "{text}");
    assert!(process.stop().await?.success());
    // Members that left are known to the group for a session's time.
    eventually("reset", LIMIT, || async { Ok(stage.run(&["reset", "--yes"])?.0.filter(|code| *code == 0)) }).await?;
    assert_eq!(stage.warehouse()?.list("again/archive").await?, vec![]);
    let process = stage.start(&["run"])?;
    begun(&process, "again", 1).await?;
    assert_eq!(pages(&process, 2).await?.len(), 2);
    Ok(())
}

/// The archive in the words of `DuckDB`.
#[tokio::test]
async fn duckdb_reads_the_archive_by_the_printed_statement() -> Result<()> {
    let mut stage = applied("printed", 1, &pipeline("printed", "earliest", "page")).await?;
    stage.set("ANABRANCH_ARCHIVE__ROTATE_SECONDS", "1");
    let _archive = stage.start(&["archive"])?;
    produce("printed", 0, &[click("a"), click("b"), json!({"page": 5})])?;
    let database = stage.database().await?;
    eventually("a committed file", LIMIT, || async { Ok(database.query_opt("SELECT 1 FROM partition WHERE committed_to = 3", &[]).await?) }).await?;
    let copy = stage.folder().join("copy");
    std::fs::create_dir_all(copy.join("printed/archive"))?;
    for file in stage.warehouse()?.list("printed/archive").await? {
        std::fs::write(copy.join("printed/archive").join(&file.name), stage.warehouse()?.read(&format!("printed/archive/{}", file.name)).await?)?;
    }
    stage.set("ANABRANCH_WAREHOUSE__URL", &format!("file://{}", copy.display()));
    let (code, statement) = stage.run(&["ddl", "duckdb"])?;
    assert_eq!(code, Some(0), "{statement}");
    let script = "import duckdb, sys; c = duckdb.connect(); c.execute(sys.argv[1]); \
        print(c.execute('SELECT count(*), count(page), sum(number), count(decode_error) FROM printed').fetchone())";
    let output = std::process::Command::new(variable("ANABRANCH_PYTHON")).args(["-c", script, &statement]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(text.trim(), "(3, 2, 2, 1)");
    Ok(())
}
