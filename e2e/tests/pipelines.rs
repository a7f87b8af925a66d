//! Small installations: empty topics, silent partitions, definitions that come and go, servers that are not there.

use anabranch_e2e::{
    Stage,
    clicks::{LIMIT, applied, begun, click, pages, pipeline, produce, recompute},
    create_topic, eventually, variable,
};
use anabranch_process::{Warehouse, warehouse};
use anyhow::{Context, Result};
use serde_json::json;

#[tokio::test]
async fn an_empty_topic_has_versions_and_silent_partitions_stop_nobody() -> Result<()> {
    let mut stage = Stage::new("quiet").await?;
    create_topic("quiet", 3).await?;
    stage.pipeline(&pipeline("quiet", "earliest", "page"))?;
    let process = stage.start(&["run"])?;
    // Nothing was produced: an answer without rows, and an aggregate over nothing.
    let answer = begun(&process, "quiet", 3).await?;
    assert_eq!(answer["data"], json!([]));
    let totals = process.load(&json!({"measures": ["by_page.clicks", "by_page.amount"]})).await?.context("no answer")?;
    assert_eq!(totals["data"], json!([{"by_page.clicks": 0, "by_page.amount": null}]));
    recompute(&stage)?;
    assert_eq!(pages(&process, 0).await?, []);
    produce("quiet", 1, &[click("a"), click("b"), click("a")])?;
    assert_eq!(pages(&process, 3).await?, [("a".to_owned(), 2), ("b".to_owned(), 1)]);
    recompute(&stage)?;
    assert_eq!(pages(&process, 3).await?.len(), 2);
    let (code, text) = stage.run(&["recompute", "--full"])?;
    assert_eq!(code, Some(0), "{text}");
    // Idle, with everything loaded.
    let resident = process.resident_bytes()?;
    println!("an idle `run` has {} MiB resident", resident / 1024 / 1024);
    assert!(resident < 150 * 1024 * 1024, "an idle `run` has {} MiB resident", resident / 1024 / 1024);
    assert_eq!(process.complaints(&[])?, Vec::<String>::new());
    assert!(process.stop().await?.success());
    Ok(())
}

/// Beside production a test: the same definitions, the same topic, another database and warehouse.
#[tokio::test]
async fn two_installations_read_one_topic_whole() -> Result<()> {
    create_topic("shared", 4).await?;
    produce("shared", 0, &[click("a"), click("b")])?;
    let (mut first, mut second) = (Stage::new("shared_first").await?, Stage::new("shared_second").await?);
    for stage in [&mut first, &mut second] {
        stage.pipeline(&pipeline("shared", "earliest", "page"))?;
    }
    let (one, other) = (first.start(&["run"])?, second.start(&["run"])?);
    for partition in 0..4 {
        produce("shared", partition, &[click("a")])?;
    }
    for (stage, process) in [(&first, &one), (&second, &other)] {
        assert_eq!(pages(process, 6).await?, [("a".to_owned(), 5), ("b".to_owned(), 1)]);
        recompute(stage)?;
        assert_eq!(pages(process, 6).await?, [("a".to_owned(), 5), ("b".to_owned(), 1)]);
    }
    Ok(())
}

#[tokio::test]
async fn a_source_that_starts_at_the_latest_offset_leaves_out_what_was_before() -> Result<()> {
    let mut stage = Stage::new("latest").await?;
    create_topic("latest", 2).await?;
    produce("latest", 0, &[click("before"), click("before")])?;
    stage.pipeline(&pipeline("latest", "latest", "page"))?;
    let process = stage.start(&["run"])?;
    begun(&process, "latest", 2).await?;
    produce("latest", 0, &[click("after")])?;
    assert_eq!(pages(&process, 1).await?, [("after".to_owned(), 1)]);
    recompute(&stage)?;
    let (code, text) = stage.run(&["verify"])?;
    assert_eq!((code, text.contains("1 records, 0 faults")), (Some(0), true), "{text}");
    Ok(())
}

#[tokio::test]
async fn a_changed_view_is_built_from_history_before_it_answers() -> Result<()> {
    let mut stage = Stage::new("changed").await?;
    create_topic("changed", 2).await?;
    produce("changed", 0, &[click("a"), click("b")])?;
    stage.pipeline(&pipeline("changed", "earliest", "page"))?;
    let process = stage.start(&["run"])?;
    pages(&process, 2).await?;
    recompute(&stage)?;
    stage.pipeline(&pipeline("changed", "earliest", "upper(page)"))?;
    let (code, text) = stage.run(&["apply"])?;
    assert_eq!(code, Some(0), "{text}");
    produce("changed", 1, &[click("a")])?;
    // The old definition answers, live rows included, until a run has built the new one.
    assert_eq!(pages(&process, 3).await?, [("a".to_owned(), 2), ("b".to_owned(), 1)]);
    recompute(&stage)?;
    eventually("the new definition", LIMIT, || async { Ok((pages(&process, 3).await? == [("A".to_owned(), 2), ("B".to_owned(), 1)]).then_some(())) }).await?;
    produce("changed", 1, &[click("b")])?;
    assert_eq!(pages(&process, 4).await?, [("A".to_owned(), 2), ("B".to_owned(), 2)]);
    // The first definition comes back; on a quiet topic its kept version and the cut have the same coverage.
    recompute(&stage)?;
    stage.pipeline(&pipeline("changed", "earliest", "page"))?;
    let (code, text) = stage.run(&["apply"])?;
    assert_eq!(code, Some(0), "{text}");
    eventually("the old definition again", LIMIT, || async {
        recompute(&stage)?;
        Ok((pages(&process, 4).await? == [("a".to_owned(), 2), ("b".to_owned(), 2)]).then_some(()))
    })
    .await?;
    assert_eq!(process.complaints(&[])?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn a_view_that_left_the_files_is_dropped_on_demand() -> Result<()> {
    let mut stage = Stage::new("dropped").await?;
    create_topic("dropped", 1).await?;
    let both = pipeline("dropped", "earliest", "page") + "CREATE MATERIALIZED VIEW total AS SELECT 1 AS one, count(*) AS clicks FROM dropped GROUP BY 1;";
    stage.pipeline(&both)?;
    let process = stage.start(&["run"])?;
    produce("dropped", 0, &[click("a")])?;
    pages(&process, 1).await?;
    stage.pipeline(&pipeline("dropped", "earliest", "page"))?;
    let (_, text) = stage.run(&["apply"])?;
    assert!(text.contains("apply --prune"), "{text}");
    let (code, text) = stage.run(&["apply", "--prune"])?;
    assert_eq!(code, Some(0), "{text}");
    let total = json!({"measures": ["total.clicks"]});
    eventually("no such view", LIMIT, || async { Ok(process.load(&total).await?.is_none().then_some(())) }).await?;
    // Its live table goes two runs later: rows first, then the table.
    let database = stage.database().await?;
    eventually("no live table of the view", LIMIT, || async {
        recompute(&stage)?;
        let tables: i64 = database.query_one("SELECT count(*) FROM pg_tables WHERE tablename LIKE 'live_%'", &[]).await?.get(0);
        // by_page, and the rejected records.
        Ok((tables == 2).then_some(()))
    })
    .await?;
    assert_eq!(pages(&process, 1).await?, [("a".to_owned(), 1)]);
    Ok(())
}

#[tokio::test]
async fn a_second_signal_ends_the_program_at_once() -> Result<()> {
    let mut stage = Stage::new("signals").await?;
    create_topic("signals", 1).await?;
    stage.pipeline(&pipeline("signals", "earliest", "page"))?;
    let process = stage.start(&["run"])?;
    begun(&process, "signals", 1).await?;
    // Two of one kind may become one on the way.
    process.signal("TERM")?;
    process.signal("INT")?;
    assert_eq!(process.ended().await?.code(), Some(130));
    Ok(())
}

/// Case 11: a database that lost its history must not begin it anew.
#[tokio::test]
async fn case_11_an_empty_database_beside_a_full_warehouse_is_refused() -> Result<()> {
    let mut stage = Stage::new("history").await?;
    stage.pipeline(&pipeline("history", "earliest", "page"))?;
    let (code, text) = stage.run(&["apply"])?;
    assert_eq!(code, Some(0), "{text}");
    stage.new_database("history_lost").await?;
    let (code, text) = stage.run(&["apply"])?;
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("holds the history of incarnation"), "{text}");
    Ok(())
}

/// Case 1, on the real program: batch alone goes on without speed.
#[tokio::test]
async fn batch_goes_past_a_speed_layer_that_is_down() -> Result<()> {
    let mut stage = applied("past", 1, &pipeline("past", "earliest", "page")).await?;
    produce("past", 0, &[click("a")])?;
    stage.set("ANABRANCH_ARCHIVE__ROTATE_SECONDS", "1");
    let archive = stage.start(&["archive"])?;
    let serving = stage.start(&["serve"])?;
    let database = stage.database().await?;
    eventually("a committed file", LIMIT, || async { Ok(database.query_opt("SELECT 1 FROM partition WHERE committed_to = 1", &[]).await?) }).await?;
    recompute(&stage)?;
    assert_eq!(pages(&serving, 1).await?, [("a".to_owned(), 1)]);
    let speed = stage.start(&["speed"])?;
    produce("past", 0, &[click("b")])?;
    assert_eq!(pages(&serving, 2).await?.len(), 2);
    drop((archive, speed));
    Ok(())
}

/// Case 8 of the faults: what an audit of some days looks at, by command and by cron, and what it leaves alone.
#[tokio::test]
async fn an_audit_of_a_window_looks_at_the_last_days_alone() -> Result<()> {
    let shipped = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../pipelines/server_status.sql"))?;
    let mut stage = applied("days", 1, &shipped.replace("'server-live-status'", "'days'")).await?;
    let _layers = (stage.start(&["speed"])?, stage.start(&["archive"])?);
    let database = stage.database().await?;
    let mut versions = Vec::new();
    for (seed, start) in [("1", Some("2020-01-01T12:00:00")), ("2", Some("2020-01-01T12:00:00")), ("3", None)] {
        let mut simulate = vec!["simulate", "server-status", "--topic", "days", "--rate", "0", "--count", "1000", "--malformed", "0", "--seed", seed];
        simulate.extend(start.iter().flat_map(|start| ["--start", start]));
        let (code, text) = stage.run(&simulate)?;
        assert_eq!(code, Some(0), "{text}");
        let folded = format!("SELECT 1 FROM partition WHERE next_offset = {seed}000");
        eventually("all of it folded", LIMIT, || async { Ok(database.query_opt(&folded, &[]).await?) }).await?;
        recompute(&stage)?;
        versions.push(stage.parts("status_by_city").await?);
    }
    // A day of 2020 says what it said two versions ago.
    let content = stage.warehouse()?.read(&versions[0]["2020-01-01"]).await?;
    stage.replace(&versions[2]["2020-01-01"], content).await?;
    let (code, text) = stage.run(&["recompute", "--full", "--days", "3"])?;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("compared 3 views, 0 cells differ"), "what lies before is left alone: {text}");
    stage.set("ANABRANCH_BATCH__AUDIT", "*/2 * * * * *");
    stage.set("ANABRANCH_BATCH__AUDIT_DAYS", "3");
    let batch = stage.start(&["batch"])?;
    let audits = "SELECT 1 FROM run WHERE kind = 'audit' AND outcome = 'done' OFFSET 2";
    eventually("audits by cron", LIMIT, || async { Ok(database.query_opt(audits, &[]).await?) }).await?;
    assert!(batch.stop().await?.success());
    let (code, text) = stage.run(&["recompute", "--full"])?;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("drift in view status_by_city, minute=2020-01-01"), "{text}");
    Ok(())
}

#[tokio::test]
async fn wrong_input_is_refused_with_its_place_and_exit_code() -> Result<()> {
    let mut stage = Stage::new("wrong").await?;
    stage.pipeline("CREATE TABLE t (a TEXT) WITH (connector = 'kafka', topic = 't', format = 'json');\nCREATE MATERIALIZED VIEW v AS SELECT b, count(*) AS n FROM t GROUP BY 1;")?;
    for command in ["check", "apply", "run"] {
        let (code, text) = stage.run(&[command])?;
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains("pipeline.sql:2:38: unknown column \"b\"") && text.contains("| ") && text.contains('^'), "{text}");
    }
    let settings = stage.folder().join("wrong.toml");
    std::fs::write(&settings, "[speed]\nflush_ms = \"soon\"\n")?;
    let (code, text) = stage.run(&["--config", &settings.display().to_string(), "status"])?;
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("line 2, column 12") && text.contains("flush_ms = \"soon\""), "{text}");
    // Nobody listens on port 1.
    for (setting, url, command, service) in [
        ("ANABRANCH_POSTGRES__URL", "postgres://a@127.0.0.1:1/a", "apply", "PostgreSQL at 127.0.0.1:1/a cannot be reached"),
        ("ANABRANCH_KAFKA__BROKERS", "127.0.0.1:1", "simulate", "Kafka at 127.0.0.1:1 cannot be reached"),
    ] {
        let mut stage = Stage::new(&format!("gone_{}", command)).await?;
        stage.pipeline(&pipeline("gone", "earliest", "page"))?;
        stage.set(setting, url);
        let arguments: &[&str] = if command == "simulate" { &["simulate", "server-status"] } else { &[command] };
        let (code, text) = stage.run(arguments)?;
        assert_eq!(code, Some(3), "{text}");
        assert_eq!(text.matches("cannot be reached").count(), 1, "said once: {text}");
        assert!(text.contains(service), "{text}");
    }
    Ok(())
}

#[tokio::test]
async fn hdfs_conforms() -> Result<()> {
    let warehouse = Warehouse::at(&format!("{}-conformance", variable("ANABRANCH_WAREHOUSE__URL")))?;
    warehouse::conformance(&warehouse).await?;
    Ok(())
}
