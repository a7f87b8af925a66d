//! The process ends itself before and after every step that changes something outside it; then everything must be right.

use std::{collections::BTreeMap, os::unix::process::ExitStatusExt, time::Duration};

use anabranch_e2e::{
    Process, Stage,
    clicks::{click, pages, pipeline, produce, recompute},
    create_topic,
    scene::{Scene, one_more, serving},
    servers, variable,
};
use anyhow::{Context, Result, ensure};

#[path = "crashes/rare.rs"]
mod rare;

/// Steps that a running layer takes again and again.
const STEPS: [(&str, &[&str]); 3] = [
    ("speed", &["catalog.migrate", "speed.open", "speed.flush", "speed.fold", "speed.forget", "speed.watermarks"]),
    ("archive", &["catalog.migrate", "warehouse.create", "warehouse.write", "warehouse.close", "warehouse.rename", "archive.report"]),
    (
        "batch",
        &[
            "lease.beat",
            "batch.begin",
            "batch.raise",
            "batch.run_cut",
            "warehouse.create",
            "warehouse.write",
            "warehouse.close",
            "batch.stage",
            "batch.publish",
            "batch.unstage",
            "batch.prune",
            "batch.forget_left",
            "batch.remove_epochs",
            "batch.end",
        ],
    ),
];
/// Steps of a first start.
const FIRST_STEPS: [&str; 12] = [
    "catalog.schema",
    "catalog.migrate",
    "identity",
    "warehouse.create",
    "warehouse.write",
    "warehouse.close",
    "warehouse.rename",
    "warehouse.make_folder",
    "catalog.apply",
    "catalog.sql_view",
    "archive.origin",
    "speed.open",
];
const SIDES: [&str; 2] = ["before", "after"];
const REACHED_LIMIT: Duration = Duration::from_secs(40);
const FRESH_LIMIT: Duration = Duration::from_secs(30);
const SIGABRT: i32 = 6;

/// Waits until the process has ended itself.
async fn crashed(mut process: Process, point: &str) -> Result<()> {
    let status = process.wait(REACHED_LIMIT).await.with_context(|| format!("{point} was not reached"))?;
    ensure!(status.signal() == Some(SIGABRT), "{point}: ended otherwise, {status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_step_changes_no_answer() -> Result<()> {
    let mut scene = Scene::new("crashes", "1000").await?;
    scene.stage.set("ANABRANCH_BATCH__INCREMENTAL", "*/4 * * * * *");
    scene.stage.set("ANABRANCH_ARCHIVE__ROTATE_SECONDS", "2");
    scene.stage.set("ANABRANCH_BATCH__PRUNE_AFTER_SECONDS", "1");
    let mut running = scene.begin().await?;
    println!("\n| layer | step | crash | fresh and right after |\n|---|---|---|---:|");
    for (layer, steps) in STEPS {
        for (step, side) in steps.iter().flat_map(|step| SIDES.map(|side| (step, side))) {
            let point = format!("{step} {side}");
            running.remove(layer).context("it runs")?.kill()?;
            crashed(scene.stage.start_crashing(&[layer], &point)?, &format!("{layer}: {point}")).await?;
            scene.start(&[layer], &mut running)?;
            let ends = one_more(scene.ends().await?);
            let took = scene.fresh(serving(&running)?, &ends, FRESH_LIMIT).await.with_context(|| format!("{layer}: {point}"))?;
            scene.exact_in_sql(&scene.stage.database().await?, "status_by_city").await.with_context(|| format!("{layer}: {point}"))?;
            println!("| {layer} | {step} | {side} | {:.2} s |", took.as_secs_f64());
        }
    }
    scene.finish(serving(&running)?).await?;
    println!("{} cells compared, 0 wrong; {} records committed, all archived", scene.cells, scene.topic.records.len());
    Ok(())
}

#[tokio::test]
async fn a_crash_in_a_first_start_is_gone_on_from() -> Result<()> {
    servers::start_all()?;
    println!("\n| command | step | crash |\n|---|---|---|");
    for (number, (step, side)) in FIRST_STEPS.iter().flat_map(|step| SIDES.map(|side| (step, side))).enumerate() {
        let name = format!("first_{}_{number}", std::process::id());
        let mut stage = Stage::new(&name).await?;
        create_topic(&name, 2).await?;
        stage.pipeline(&pipeline(&name, "earliest", "page"))?;
        produce(&name, 0, &[click("a"), click("b")])?;
        let point = format!("{step} {side}");
        // Whichever layer comes first decides an origin: here it must be the archive.
        let command = if step.starts_with("archive") { "archive" } else { "run" };
        if command != "run" {
            let (code, text) = stage.run(&["apply"])?;
            ensure!(code == Some(0), "{text}");
        }
        crashed(stage.start_crashing(&[command], &point)?, &point).await?;
        let process = stage.start(&["run"])?;
        produce(&name, 1, &[click("a")])?;
        let expected = [("a".to_owned(), 2), ("b".to_owned(), 1)];
        ensure!(pages(&process, 3).await? == expected, "{point}");
        recompute(&stage)?;
        ensure!(pages(&process, 3).await? == expected, "{point}");
        let (code, text) = stage.run(&["verify"])?;
        ensure!(code == Some(0) && text.contains("3 records, 0 faults"), "{point}: {text}");
        println!("| {command} | {step} | {side} |");
    }
    Ok(())
}

/// What a transaction of each step writes, of which it writes something first that no other step writes.
const WRITES: [(&str, &str); 29] = [
    ("catalog.sql_view", "INSERT INTO sql_view"),
    ("catalog.schema", "CREATE SCHEMA"),
    ("catalog.migrate", "refinery_schema_history"),
    ("identity", "INSERT INTO identity"),
    ("catalog.apply", "INSERT INTO source"),
    ("lease.beat", "INSERT INTO lease"),
    ("archive.report", "SET archived_to"),
    ("speed.open", "INSERT INTO epoch (id, source, cut, definitions) VALUES"),
    ("speed.fold", "INSERT INTO epoch (id, source, cut, definitions, flush)"),
    ("archive.origin", "INSERT INTO partition"),
    ("speed.flush", "UPDATE epoch SET flush"),
    ("speed.forget", "DELETE FROM flush WHERE flushed_at"),
    ("speed.limit", "UPDATE source SET speed_trouble"),
    ("speed.trouble", "UPDATE partition SET speed_trouble"),
    ("archive.trouble", "UPDATE partition SET archive_trouble"),
    ("speed.watermarks", "UPDATE partition SET high_watermark"),
    ("batch.begin", "INSERT INTO run"),
    ("batch.raise", "SET cut_wanted"),
    ("batch.run_cut", "UPDATE run SET cut"),
    ("batch.cut_silent", "UPDATE partition SET cut = $3"),
    ("batch.drift", "INSERT INTO drift"),
    ("batch.stage", "INSERT INTO published_part"),
    ("batch.publish", "UPDATE source SET running = NULL"),
    ("batch.catch_up", "INSERT INTO published "),
    ("batch.unstage", "DELETE FROM published"),
    ("batch.prune", "INSERT INTO pruned"),
    ("batch.remove_epochs", "DELETE FROM epoch WHERE id"),
    ("batch.forget_left", "DROP TABLE"),
    ("batch.end", "UPDATE run SET ended_at = now(), outcome = $2"),
];

/// The list of steps is complete: what PostgreSQL and the NameNode say was changed was changed by one of them.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_changed_outside_a_step() -> Result<()> {
    servers::start_all()?;
    let name = format!("counted_{}", std::process::id());
    let mut stage = Stage::new(&name).await?;
    create_topic(&name, 2).await?;
    stage.pipeline(&pipeline(&name, "earliest", "page"))?;
    stage.set("ANABRANCH_BATCH__INCREMENTAL", "*/3 * * * * *");
    stage.set("ANABRANCH_BATCH__PRUNE_AFTER_SECONDS", "1");
    let database = stage.database().await?;
    for sql in ["ALTER SYSTEM SET log_statement = 'mod'", "ALTER SYSTEM SET log_line_prefix = '%d|%c|%v|'", "SELECT pg_reload_conf()"] {
        database.batch_execute(sql).await?;
    }
    let notes = stage.folder().join("points");
    let audit = std::path::Path::new(&variable("ANABRANCH_SERVERS")).join("namenode-audit.log");
    let before = std::fs::read_to_string(&audit)?.len();
    let process = stage.start_noting(&["run"], &notes)?;
    for round in 1..=12 {
        produce(&name, round % 2, &[click("a"), click("b")])?;
        pages(&process, i64::from(round) * 2).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    ensure!(process.stop().await?.success());
    for sql in ["ALTER SYSTEM RESET log_statement", "ALTER SYSTEM RESET log_line_prefix", "SELECT pg_reload_conf()"] {
        database.batch_execute(sql).await?;
    }
    let passed = std::fs::read_to_string(&notes)?;
    let passed = |step: &str| passed.lines().filter(|line| *line == format!("{step} after")).count();
    // PostgreSQL: every transaction that changed something is one of a step, and there are no more of them than the step was taken.
    let log = std::fs::read_to_string(std::path::Path::new(&variable("ANABRANCH_SERVERS")).join("postgres.log"))?;
    let mut transactions: BTreeMap<String, String> = BTreeMap::new();
    for line in log.lines().filter(|line| line.starts_with(&format!("{name}|"))) {
        let mut fields = line.splitn(4, '|');
        let (Some(_), Some(session), Some(transaction), Some(text)) = (fields.next(), fields.next(), fields.next(), fields.next()) else { continue };
        if !text.contains("ALTER SYSTEM") {
            transactions.entry(format!("{session} {transaction}")).or_default().push_str(text);
        }
    }
    let mut written: BTreeMap<&str, usize> = BTreeMap::new();
    let mut outside = Vec::new();
    for text in transactions.values() {
        match WRITES.iter().find(|(_, writes)| text.contains(writes)) {
            Some((step, _)) => *written.entry(step).or_default() += 1,
            None => outside.push(text),
        }
    }
    ensure!(outside.is_empty(), "no step writes this: {outside:#?}");
    println!("\n| step | changes | passed |\n|---|---:|---:|");
    for (step, changes) in &written {
        println!("| {step} | {changes} | {} |", passed(step));
        // All migrations are one step.
        ensure!(*changes <= passed(step) || *step == "catalog.migrate", "{step}: {changes} changes, passed {} times", passed(step));
    }
    ensure!(written.len() >= 12, "the log of PostgreSQL has them: {written:?}");
    // HDFS: as many as the steps were taken; the client makes the folders of a file by itself.
    let audit = std::fs::read_to_string(&audit)?.split_off(before);
    for (step, command) in
        [("warehouse.create", "cmd=create"), ("warehouse.rename", "cmd=rename"), ("warehouse.make_folder", "cmd=mkdirs"), ("warehouse.remove", "cmd=delete")]
    {
        let changes = audit.lines().filter(|line| line.contains(&name) && line.split_whitespace().any(|field| field.starts_with(command))).count();
        println!("| {step} | {changes} | {} |", passed(step));
        ensure!(changes <= passed(step), "{step}: {changes} changes, passed {} times", passed(step));
    }
    ensure!(passed("warehouse.create") > 0 && audit.contains("cmd=create"));
    let others: Vec<&str> = audit
        .lines()
        .filter(|line| line.contains(&name))
        .filter(|line| {
            !["cmd=create", "cmd=rename", "cmd=mkdirs", "cmd=delete", "cmd=open", "cmd=getfileinfo", "cmd=listStatus"]
                .iter()
                .any(|command| line.contains(command))
        })
        .collect();
    ensure!(others.is_empty(), "other changes: {others:?}");
    Ok(())
}
