//! Steps that are taken only when something is wrong already.
#![expect(clippy::indexing_slicing, reason = "members of JSON answers")]

use anabranch_e2e::{
    Process, Stage,
    clicks::{LIMIT, applied, click, delete_records, in_trouble, new_pages, pages, pipeline, produce, query, recompute, status},
    eventually, servers,
};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use serde_json::Value as Json;

use super::{SIDES, crashed};

/// A step, and the command whose process takes it.
const STEPS: [(&str, &[&str]); 10] = [
    ("batch.catch_up", &["recompute"]),
    ("batch.cut_silent", &["recompute"]),
    ("batch.drift", &["recompute", "--full"]),
    ("catalog.drop", &["apply", "--prune"]),
    ("lease.end_holder", &["batch"]),
    ("speed.trouble", &["speed"]),
    ("archive.trouble", &["archive"]),
    ("speed.skip", &["skip-lost", "NAME", "--yes"]),
    ("speed.limit", &["speed"]),
    ("speed.leave_out", &["speed"]),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_a_step_of_trouble_changes_no_answer() -> Result<()> {
    servers::start_all()?;
    println!("\n| command | step | crash |\n|---|---|---|");
    for (number, (step, command)) in STEPS.into_iter().enumerate() {
        for side in SIDES {
            let name = format!("rare_{}_{number}_{side}", std::process::id());
            let point = format!("{step} {side}");
            perform(&name, step, command, &point).await.with_context(|| point.clone())?;
            println!("| {} | {step} | {side} |", command.first().unwrap_or(&""));
        }
    }
    Ok(())
}

/// An installation with twenty clicks folded.
struct Scene {
    stage: Stage,
    name: String,
    serving: Process,
    speed: Process,
    archive: Process,
}

/// Brings an installation to where the step is taken, crashes there, goes on, and looks at the answers.
async fn perform(name: &str, step: &str, command: &[&str], point: &str) -> Result<()> {
    let total = |options: &str| format!("CREATE MATERIALIZED VIEW total {options} AS SELECT 1 AS one, count(*) AS clicks FROM {name} GROUP BY 1;");
    let mut stage = applied(name, 1, &(pipeline(name, "earliest", "page") + &total(""))).await?;
    stage.set("ANABRANCH_ARCHIVE__ROTATE_SECONDS", "1");
    stage.set("ANABRANCH_SPEED__LIVE_ROWS", "100");
    stage.set("ANABRANCH_BATCH__INCREMENTAL", "*/3 * * * * *");
    let (serving, speed, archive) = (stage.start(&["serve"])?, stage.start(&["speed"])?, stage.start(&["archive"])?);
    produce(name, 0, &new_pages(0..20))?;
    ensure!(pages(&serving, 20).await?.len() == 20);
    let command: Vec<&str> = command.iter().map(|word| if *word == "NAME" { name } else { word }).collect();
    let mut scene = Scene { stage, name: name.to_owned(), serving, speed, archive };
    let mut expected = 21;
    match step {
        "speed.trouble" | "archive.trouble" | "speed.skip" => return scene.loses_offsets(step, &command, point).await,
        "speed.limit" | "speed.leave_out" => return scene.reaches_its_limit(step, &command, point).await,
        "lease.end_holder" => return scene.has_a_hanging_leader(&command, point).await,
        "batch.cut_silent" => scene.speed.signal("KILL")?,
        "batch.catch_up" => {
            recompute(&scene.stage)?;
            scene.stage.pipeline(&(pipeline(name, "earliest", "page") + &total("WITH (publish = 'postgres')")))?;
            let (code, text) = scene.stage.run(&["apply"])?;
            ensure!(code == Some(0), "{text}");
        }
        "batch.drift" => {
            plant_an_older_part(&scene.stage, name, &scene.serving).await?;
            expected = 22;
        }
        _ => scene.stage.pipeline(&pipeline(name, "earliest", "page"))?,
    }
    crashed(scene.stage.start_crashing(&command, point)?, point).await?;
    let (code, text) = scene.stage.run(&command)?;
    // The audit that crashed may have published what it found to be right.
    ensure!(code == Some(0) || (step == "batch.drift" && code == Some(1)), "{text}");
    let _speed = scene.stage.start(&["speed"])?;
    produce(name, 0, &[click("page 0")])?;
    right(&scene.stage, &scene.serving, expected).await
}

impl Scene {
    async fn has_a_hanging_leader(mut self, command: &[&str], point: &str) -> Result<()> {
        let leader = self.stage.start(&["batch"])?;
        eventually("it leads", LIMIT, || async { Ok(self.serving.load(&query()).await?.filter(has_version)) }).await?;
        leader.pause()?;
        crashed(self.stage.start_crashing(command, point)?, point).await?;
        let _next = self.stage.start(&["batch"])?;
        produce(&self.name, 0, &[click("page 0")])?;
        pages(&self.serving, 21).await?;
        let at = run_of(&self.serving).await?;
        eventually("the next one leads", LIMIT, || async { Ok((run_of(&self.serving).await? > at).then_some(())) }).await?;
        right(&self.stage, &self.serving, 21).await
    }

    /// Ten clicks, of which Kafka loses five before anybody has read them.
    async fn loses_offsets(mut self, step: &str, command: &[&str], point: &str) -> Result<()> {
        recompute(&self.stage)?;
        self.speed.kill()?;
        self.archive.kill()?;
        produce(&self.name, 0, &new_pages(0..10))?;
        delete_records(&self.name, 0, 25).await?;
        let beside: &[&str] = match step {
            "speed.trouble" => &["archive"],
            "archive.trouble" => &["speed"],
            _ => &["speed", "archive"],
        };
        let mut others = beside.iter().map(|layer| self.stage.start(&[layer])).collect::<Result<Vec<Process>>>()?;
        let troubles = ["speed_trouble", "archive_trouble"];
        if step == "speed.skip" {
            in_trouble(&self.stage, 0, &troubles).await?;
        }
        crashed(self.stage.start_crashing(command, point)?, point).await?;
        if step != "speed.skip" {
            others.push(self.stage.start(command)?);
            in_trouble(&self.stage, 0, &troubles).await?;
        }
        let (code, text) = self.stage.run(&["skip-lost", &self.name, "--yes"])?;
        ensure!(code == Some(0), "{text}");
        recompute(&self.stage)?;
        produce(&self.name, 0, &[click("page 0")])?;
        drop(others);
        let _running = (self.stage.start(&["speed"])?, self.stage.start(&["archive"])?);
        right(&self.stage, &self.serving, 26).await
    }

    async fn reaches_its_limit(mut self, step: &str, command: &[&str], point: &str) -> Result<()> {
        recompute(&self.stage)?;
        let fails = step == "speed.leave_out";
        if fails {
            break_parts(&self.stage).await?;
        }
        // One record alone reaches the limit: none is left behind it.
        for new in [20..119, 119..120] {
            let total = i64::try_from(new.end)?;
            produce(&self.name, 0, &new_pages(new))?;
            pages(&self.serving, total).await?;
        }
        self.speed.kill()?;
        if fails {
            let (code, text) = self.stage.run(&["recompute"])?;
            ensure!(code == Some(4), "{text}");
        }
        // One that runs may have been at the limit before it was killed; only a change is written.
        let reset = "UPDATE source SET speed_trouble = NULL; UPDATE definition SET left_out = false";
        self.stage.database().await?.batch_execute(reset).await?;
        crashed(self.stage.start_crashing(command, point)?, point).await?;
        let _speed = self.stage.start(&["speed"])?;
        if fails {
            let left_out = || async {
                let views = status(&self.stage)?["views"].as_array().cloned().unwrap_or_default();
                Ok(views.iter().any(|view| view["view"] == "by_page" && view["left_out"] == true).then_some(()))
            };
            return eventually("the view is left out", LIMIT, left_out).await;
        }
        recompute(&self.stage)?;
        produce(&self.name, 0, &[click("page 0")])?;
        right(&self.stage, &self.serving, 121).await
    }
}

fn has_version(answer: &Json) -> bool {
    answer["lambda"]["run"].is_number()
}

async fn run_of(serving: &Process) -> Result<i64> {
    Ok(serving.load(&query()).await?.and_then(|answer| answer["lambda"]["run"].as_i64()).unwrap_or_default())
}

/// So many clicks live and from a version; the archive tiles; the audit finds nothing.
async fn right(stage: &Stage, serving: &Process, clicks: i64) -> Result<()> {
    pages(serving, clicks).await?;
    recompute(stage)?;
    pages(serving, clicks).await?;
    let in_sql: i64 = stage.database().await?.query_one("SELECT sum(clicks)::bigint FROM serving.by_page", &[]).await?.get(0);
    ensure!(in_sql == clicks, "{in_sql} clicks in SQL, {clicks} in the API");
    let (code, text) = stage.run(&["verify"])?;
    ensure!(code == Some(0), "{text}");
    let (code, text) = stage.run(&["recompute", "--full"])?;
    ensure!(code == Some(0), "{text}");
    Ok(())
}

/// Two versions, of which the newer one holds what the older one held.
async fn plant_an_older_part(stage: &Stage, name: &str, serving: &Process) -> Result<()> {
    recompute(stage)?;
    let older = stage.parts("by_page").await?;
    produce(name, 0, &[click("page 0")])?;
    pages(serving, 21).await?;
    recompute(stage)?;
    for (part, newer) in stage.parts("by_page").await? {
        let content = stage.warehouse()?.read(older.get(&part).context("no such part before")?).await?;
        stage.replace(&newer, content).await?;
    }
    Ok(())
}

async fn break_parts(stage: &Stage) -> Result<()> {
    for path in stage.parts("by_page").await?.values() {
        stage.replace(path, Bytes::from_static(b"not Parquet")).await?;
    }
    Ok(())
}
