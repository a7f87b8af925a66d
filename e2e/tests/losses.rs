//! What bounds the live side, and what happens when something is lost on purpose: offsets, parts, a batch that stays away.
#![expect(clippy::indexing_slicing, reason = "members of JSON answers")]

use std::time::Duration;

use anabranch_e2e::{
    Stage,
    clicks::{LIMIT, applied, begun, click, delete_records, in_trouble, new_pages, pages, pipeline, produce, query, recompute, status},
    create_topic, eventually,
};
use anyhow::{Context, Result};
use bytes::Bytes;
use serde_json::{Value as Json, json};

fn clicks(page: &str, count: usize) -> Vec<Json> {
    (0..count).map(|_| click(page)).collect()
}

#[tokio::test]
async fn offsets_that_nobody_has_stop_one_partition_until_the_loss_is_accepted() -> Result<()> {
    let mut stage = Stage::new("lost").await?;
    create_topic("lost", 2).await?;
    stage.pipeline(&pipeline("lost", "earliest", "page"))?;
    let process = stage.start(&["run"])?;
    begun(&process, "lost", 2).await?;
    produce("lost", 0, &clicks("a", 100))?;
    produce("lost", 1, &clicks("b", 10))?;
    pages(&process, 110).await?;
    assert!(process.stop().await?.success());
    produce("lost", 0, &clicks("a", 100))?;
    delete_records("lost", 0, 150).await?;
    let process = stage.start(&["run"])?;
    in_trouble(&stage, 0, &["speed_trouble", "archive_trouble"]).await?;
    // The other partition goes on.
    produce("lost", 1, &clicks("b", 5))?;
    assert_eq!(pages(&process, 115).await?, [("a".to_owned(), 100), ("b".to_owned(), 15)]);
    let (code, text) = stage.run(&["skip-lost", "lost"])?;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("partition 0: [100, 150) was never archived") && text.contains("repeat with --yes"), "{text}");
    let (code, text) = stage.run(&["skip-lost", "lost", "--yes"])?;
    assert_eq!(code, Some(0), "{text}");
    eventually("no trouble", LIMIT, || async {
        let state = status(&stage)?["partitions"][0].clone();
        Ok((state["speed_trouble"].is_null() && state["archive_trouble"].is_null() && state["next_offset"] == 200).then_some(()))
    })
    .await?;
    // A gap, not a range: the answer stands until a version has passed it.
    assert_eq!(pages(&process, 115).await?, [("a".to_owned(), 100), ("b".to_owned(), 15)]);
    recompute(&stage)?;
    assert_eq!(pages(&process, 165).await?, [("a".to_owned(), 150), ("b".to_owned(), 15)]);
    the_loss_is_named(&stage, &process).await?;
    produce("lost", 0, &clicks("a", 1))?;
    pages(&process, 166).await?;
    let complaints = process.complaints(&["no longer has the offsets", "are lost"])?;
    assert_eq!(complaints, Vec::<String>::new());
    Ok(())
}

async fn the_loss_is_named(stage: &Stage, process: &anabranch_e2e::Process) -> Result<()> {
    let answer = process.load(&query()).await?.context("no answer")?;
    assert_eq!(answer["lambda"]["lost"], json!({"lost": {"0": [[100, 150]]}}));
    let (code, text) = stage.run(&["verify"])?;
    assert_eq!((code, text.contains("partition 0: [100, 150) is lost")), (Some(0), true), "{text}");
    let (_, text) = stage.run(&["status"])?;
    assert!(text.contains("lost: partition 0 [100, 150)"), "{text}");
    let (code, text) = stage.run(&["recompute", "--full"])?;
    assert_eq!(code, Some(0), "{text}");
    Ok(())
}

/// Only what the archive lost is lost: the number falls when the coverage passes it, and the answer names that range.
#[tokio::test]
async fn what_speed_had_and_the_archive_lost_goes_with_the_next_version() -> Result<()> {
    let mut stage = applied("folded", 1, &pipeline("folded", "earliest", "page")).await?;
    let (serving, _speed, archive) = (stage.start(&["serve"])?, stage.start(&["speed"])?, stage.start(&["archive"])?);
    produce("folded", 0, &clicks("a", 100))?;
    pages(&serving, 100).await?;
    recompute(&stage)?;
    assert!(archive.stop().await?.success());
    produce("folded", 0, &clicks("a", 100))?;
    pages(&serving, 200).await?;
    delete_records("folded", 0, 150).await?;
    let archive = stage.start(&["archive"])?;
    in_trouble(&stage, 0, &["archive_trouble"]).await?;
    archive.kill()?;
    let (code, text) = stage.run(&["skip-lost", "folded", "--yes"])?;
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.contains("speed has not read"), "{text}");
    // The one that said so is gone; the next one takes it back.
    let _archive = stage.start(&["archive"])?;
    eventually("no trouble", LIMIT, || async { Ok(status(&stage)?["partitions"][0]["archive_trouble"].is_null().then_some(())) }).await?;
    assert_eq!(pages(&serving, 200).await?.len(), 1);
    recompute(&stage)?;
    assert_eq!(pages(&serving, 150).await?, [("a".to_owned(), 150)]);
    let answer = serving.load(&query()).await?.context("no answer")?;
    assert_eq!(answer["lambda"]["lost"], json!({"folded": {"0": [[100, 150]]}}));
    Ok(())
}

/// A batch that stays away for long: speed stops at the limit and goes on by itself; a view whose runs fail does not
/// stop the others.
#[tokio::test]
async fn live_rows_have_a_limit_and_a_failing_view_is_left_out() -> Result<()> {
    let total = "CREATE MATERIALIZED VIEW total AS SELECT 1 AS one, count(*) AS clicks FROM limits GROUP BY 1;";
    let mut stage = applied("limits", 1, &(pipeline("limits", "earliest", "page") + total)).await?;
    stage.set("ANABRANCH_SPEED__LIVE_ROWS", "100");
    let (serving, speed, _archive) = (stage.start(&["serve"])?, stage.start(&["speed"])?, stage.start(&["archive"])?);
    // One record alone reaches the limit: none is left behind it. There is no version yet.
    for pages_so_far in [0..99, 99..100] {
        let total = i64::try_from(pages_so_far.end)?;
        produce("limits", 0, &new_pages(pages_so_far))?;
        pages(&serving, total).await?;
    }
    let at_limit = || async { Ok(status(&stage)?["speed_trouble"].as_str().map(str::to_owned)) };
    let trouble = eventually("speed at its limit", LIMIT, at_limit).await?;
    assert!(trouble.contains("view by_page has 100 live rows"), "{trouble}");
    // The worker looks at its limit between two flushes.
    tokio::time::sleep(Duration::from_secs(1)).await;
    produce("limits", 0, &new_pages(100..150))?;
    tokio::time::sleep(Duration::from_secs(4)).await;
    // Older, but exact.
    pages(&serving, 100).await?;
    recompute(&stage)?;
    pages(&serving, 150).await?;
    recompute(&stage)?;
    // Now a part of the view cannot be read: its runs fail.
    let warehouse = stage.warehouse()?;
    let parts: Vec<String> = stage.parts("by_page").await?.into_values().collect();
    let mut originals = Vec::new();
    for part in &parts {
        originals.push(warehouse.read(part).await?);
        stage.replace(part, Bytes::from_static(b"not Parquet")).await?;
    }
    for pages_so_far in [150..249, 249..250] {
        let total = i64::try_from(pages_so_far.end)?;
        produce("limits", 0, &new_pages(pages_so_far))?;
        pages(&serving, total).await?;
    }
    let (code, text) = stage.run(&["recompute"])?;
    assert_eq!((code, text.contains("view by_page keeps its version")), (Some(4), true), "{text}");
    let left_out = || async {
        let views = status(&stage)?["views"].as_array().cloned().unwrap_or_default();
        Ok(views.iter().any(|view| view["view"] == "by_page" && view["left_out"] == true && view["failure"].is_string()).then_some(()))
    };
    eventually("the view is left out", LIMIT, left_out).await?;
    epoch_without(&stage, "by_page").await?;
    produce("limits", 0, &new_pages(250..260))?;
    let clicks = json!({"measures": ["total.clicks"]});
    eventually("the other view goes on", LIMIT, || async { Ok(serving.load(&clicks).await?.filter(|answer| answer["data"][0]["total.clicks"] == 260)) })
        .await?;
    assert_eq!(pages(&serving, 250).await?.len(), 250);
    for (part, original) in parts.iter().zip(originals) {
        stage.replace(part, original).await?;
    }
    recompute(&stage)?;
    assert_eq!(pages(&serving, 260).await?.len(), 260);
    produce("limits", 0, &new_pages(260..270))?;
    pages(&serving, 270).await?;
    let announced = ["live rows come near their limit", "which is the limit", "it is left out until one publishes it"];
    assert_eq!(speed.complaints(&announced)?, Vec::<String>::new());
    Ok(())
}

/// What is left out leaves with the next epoch: what comes before that is still folded.
async fn epoch_without(stage: &Stage, view: &str) -> Result<()> {
    let database = stage.database().await?;
    let sql = "SELECT 1 FROM epoch JOIN epoch_range ON epoch_range.epoch = epoch.id JOIN view ON NOT view.wanted = ANY (epoch.definitions) \
               WHERE view.name = $1 AND epoch_range.\"end\" IS NULL";
    eventually("an open epoch without the view", LIMIT, || async { Ok(database.query_opt(sql, &[&view]).await?.map(|_| ())) }).await
}

/// Many restarts must not pile up live rows.
#[tokio::test]
async fn closed_epochs_are_folded() -> Result<()> {
    let mut stage = applied("folding", 2, &pipeline("folding", "earliest", "page")).await?;
    let serving = stage.start(&["serve"])?;
    for round in 1..=6 {
        let speed = stage.start(&["speed"])?;
        begun(&serving, "folding", 2).await?;
        produce("folding", 0, &[click("a"), click("b")])?;
        produce("folding", 1, &[click("a"), click(&format!("page {round}"))])?;
        pages(&serving, 4 * round).await?;
        speed.kill()?;
    }
    let _speed = stage.start(&["speed"])?;
    let database = stage.database().await?;
    let fingerprint: String = database.query_one("SELECT serving FROM view WHERE name = 'by_page'", &[]).await?.get(0);
    let sql = format!("SELECT (SELECT count(*) FROM epoch), (SELECT count(*) FROM live_{fingerprint})");
    eventually("one closed epoch beside the open one; a, b and six pages, once each", LIMIT, || async {
        let row = database.query_one(&sql, &[]).await?;
        let (epochs, rows): (i64, i64) = (row.get(0), row.get(1));
        Ok((epochs == 2 && rows == 8).then_some(()))
    })
    .await?;
    let fresh = stage.start(&["serve"])?;
    for process in [&serving, &fresh] {
        let pages = pages(process, 24).await?;
        assert_eq!((pages.len(), &pages[0], &pages[1]), (8, &("a".to_owned(), 12), &("b".to_owned(), 6)));
    }
    Ok(())
}

/// Values that nobody can compute with are errors of that cell or that record.
#[tokio::test]
async fn poison_stays_in_its_cell() -> Result<()> {
    let mut stage = Stage::new("poison").await?;
    create_topic("poison", 1).await?;
    stage.pipeline(
        "CREATE TABLE poison (page TEXT NOT NULL, number BIGINT, amount DOUBLE, code TEXT,
                              digits BIGINT GENERATED ALWAYS AS (CAST(code AS BIGINT)) STORED)
         WITH (connector = 'kafka', topic = 'poison', format = 'json');
         CREATE MATERIALIZED VIEW by_page AS
         SELECT page, count(*) AS clicks, sum(number * 4000000000) AS product, sum(amount) AS amount, sum(digits) AS digits FROM poison GROUP BY 1;",
    )?;
    let process = stage.start(&["run"])?;
    let event = |page: &str, number: i64, amount: f64, code: &str| json!({"page": page, "number": number, "amount": amount, "code": code});
    produce(
        "poison",
        0,
        &[event("a", 4_000_000_000, 1e308, "7"), event("a", 4_000_000_000, 1e308, "8"), event("b", 1, 0.5, "seven"), event("b", 2, 0.25, "9")],
    )?;
    let query = json!({"dimensions": ["by_page.page"], "measures": ["by_page.clicks", "by_page.product", "by_page.amount", "by_page.digits"]});
    for is_live in [true, false] {
        let answer = eventually("two pages", LIMIT, || async {
            let answer = process.load(&query).await?;
            Ok(answer.filter(|answer| answer["data"].as_array().is_some_and(|rows| rows.len() == 2) && answer["lambda"]["run"].is_null() == is_live))
        })
        .await?;
        println!("{}", answer["data"]);
        let row = |page: &str| answer["data"].as_array().into_iter().flatten().find(|row| row["by_page.page"] == page).cloned().unwrap_or_default();
        assert_eq!(row("a")["by_page.clicks"], 2);
        assert_eq!(
            row("b"),
            json!({"by_page.page": "b", "by_page.clicks": 1, "by_page.product": 8_000_000_000_i64, "by_page.amount": 0.25, "by_page.digits": 9})
        );
        if is_live {
            recompute(&stage)?;
        }
    }
    let (_, text) = stage.run(&["status"])?;
    assert!(text.contains("digits"), "the record that cannot be computed is counted: {text}");
    assert_eq!(process.complaints(&[])?, Vec::<String>::new());
    Ok(())
}
