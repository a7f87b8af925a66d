//! The process ends itself before and after every step that changes something outside it; then everything must be right.

use std::{collections::BTreeMap, os::unix::process::ExitStatusExt, time::Duration};

use anabranch_e2e::{
    Process, Stage,
    clicks::{click, pages, pipeline, produce, recompute},
    create_topic,
    scene::Scene,
    servers,
};
use anyhow::{Context, Result, ensure};

const LAYERS: [&str; 4] = ["speed", "archive", "batch", "serve"];
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
            "batch.publish",
            "batch.prune",
            "batch.forget_left",
            "batch.remove_epochs",
            "batch.end",
        ],
    ),
];
/// Steps of a first start.
const FIRST_STEPS: [&str; 10] = [
    "catalog.migrate",
    "identity",
    "warehouse.create",
    "warehouse.write",
    "warehouse.close",
    "warehouse.rename",
    "warehouse.make_folder",
    "catalog.apply",
    "archive.origin",
    "speed.open",
];
const SIDES: [&str; 2] = ["before", "after"];
const REACHED_LIMIT: Duration = Duration::from_secs(40);
const FRESH_LIMIT: Duration = Duration::from_secs(30);
const SIGABRT: i32 = 6;

/// Waits until the process has ended itself.
async fn crashed(process: Process, point: &str) -> Result<()> {
    let status = process.ended_within(REACHED_LIMIT).await.with_context(|| format!("{point} was not reached"))?;
    ensure!(status.signal() == Some(SIGABRT), "{point}: ended otherwise, {status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_step_changes_no_answer() -> Result<()> {
    let mut scene = Scene::new("crashes", "1000").await?;
    scene.stage.set("ANABRANCH_BATCH__INCREMENTAL", "*/4 * * * * *");
    scene.stage.set("ANABRANCH_ARCHIVE__ROTATE_SECONDS", "2");
    scene.stage.set("ANABRANCH_BATCH__PRUNE_AFTER_SECONDS", "1");
    let mut running: BTreeMap<&str, Process> = BTreeMap::new();
    for layer in LAYERS {
        running.insert(layer, scene.stage.start(&[layer])?);
    }
    let begun = scene.ends().await?;
    scene.fresh(running.get("serve").context("it runs")?, &begun, FRESH_LIMIT).await?;
    println!("\n| layer | step | crash | fresh and right after |\n|---|---|---|---:|");
    for (layer, steps) in STEPS {
        for (step, side) in steps.iter().flat_map(|step| SIDES.map(|side| (step, side))) {
            let point = format!("{step} {side}");
            running.remove(layer).context("it runs")?.kill()?;
            crashed(scene.stage.start_crashing(&[layer], &point)?, &format!("{layer}: {point}")).await?;
            running.insert(layer, scene.stage.start(&[layer])?);
            let ends = scene.ends().await?.into_iter().map(|(partition, end)| (partition, end + 1)).collect();
            let serving = running.get("serve").context("it runs")?;
            let took = scene.fresh(serving, &ends, FRESH_LIMIT).await.with_context(|| format!("{layer}: {point}"))?;
            println!("| {layer} | {step} | {side} | {:.2} s |", took.as_secs_f64());
        }
    }
    let serving = running.get("serve").context("it runs")?;
    scene.finish(serving).await?;
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
        crashed(stage.start_crashing(&["run"], &point)?, &point).await?;
        let process = stage.start(&["run"])?;
        produce(&name, 1, &[click("a")])?;
        let expected = [("a".to_owned(), 2), ("b".to_owned(), 1)];
        ensure!(pages(&process, 3).await? == expected, "{point}");
        recompute(&stage)?;
        ensure!(pages(&process, 3).await? == expected, "{point}");
        let (code, text) = stage.run(&["verify"])?;
        ensure!(code == Some(0) && text.contains("3 records, 0 faults"), "{point}: {text}");
        println!("| run | {step} | {side} |");
    }
    Ok(())
}
