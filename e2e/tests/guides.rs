//! The guides, run as they stand: what is between ```` ```sh ```` and its end in a page of `docs` is typed by a user.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use anabranch_e2e::{
    Stage,
    clicks::{LIMIT, applied},
    create_topic, eventually, variable,
};
use anyhow::{Context, Result, ensure};
use serde_json::json;

fn page(name: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// The blocks of one language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while lines.by_ref().any(|line| line == format!("```{language}")) {
        blocks.push(lines.by_ref().take_while(|line| *line != "```").fold(String::new(), |block, line| block + line + "\n"));
    }
    blocks
}

/// Runs the shell blocks of a page, one after the other, in one shell; what they printed.
fn run(stage: &Stage, name: &str) -> Result<String> {
    let blocks = blocks(&page(name)?, "sh");
    ensure!(!blocks.is_empty(), "docs/{name} has shell blocks");
    let mut script = "set -euo pipefail\ntrap 'jobs -p | xargs -r kill; wait' EXIT\n".to_owned();
    for (number, block) in blocks.iter().enumerate() {
        write!(script, "echo '== {name}, block {}'\n{block}", number + 1)?;
    }
    let (code, text) = stage.shell(&script)?;
    ensure!(code == Some(0), "{script}\n{text}");
    Ok(text)
}

#[tokio::test]
async fn your_own_pipeline() -> Result<()> {
    let mut stage = Stage::new("own_pipeline").await?;
    create_topic("orders", 4).await?;
    // The folder that the page makes.
    std::fs::remove_dir_all(stage.folder().join("pipelines"))?;
    stage.set("ANABRANCH_PIPELINES__DIR", "pipelines");
    let text = run(&stage, "own-pipeline.md")?;
    // What the page's loop produces, added up here.
    let cents = |german: bool| (1_u64..=2000).filter(|number| (number % 3 == 0) == german).map(|number| (number % 90 + 9) * 100 + 95).sum::<u64>();
    for (country, orders, cents) in [("DE", 666, cents(true)), ("FR", 1334, cents(false))] {
        let revenue = format!("{}.{:02}", cents / 100, cents % 100);
        let row = |cells: &[&str]| text.lines().any(|line| cells.iter().all(|cell| line.split(['|', ' ', ',']).any(|found| found == *cell)));
        ensure!(row(&[country, &orders.to_string(), &revenue]), "{country}: {orders} orders, {revenue}, by the API: {text}");
        ensure!(row(&[country, &revenue]), "{country}: {revenue} in SQL: {text}");
    }
    for wanted in ["revenue.revenue\n1000.00", "yesterday", "2026-03", "read_parquet"] {
        ensure!(text.contains(wanted), "{wanted}: {text}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_know_and_the_api_from_python() -> Result<()> {
    let shipped = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines/server_status.sql"))?;
    let mut stage = applied("guides", 2, &shipped.replace("'server-live-status'", "'guides'")).await?;
    let (code, text) = stage.run(&["simulate", "server-status", "--topic", "guides", "--count", "500", "--rate", "0", "--malformed", "0"])?;
    ensure!(code == Some(0), "{text}");
    let process = stage.start(&["run"])?;
    let all = json!({"measures": ["status_by_city.messages"]});
    eventually("500 messages", LIMIT, || async {
        let Some(answer) = process.load(&all).await? else { return Ok(None) };
        Ok((answer.pointer("/data/0/status_by_city.messages") == Some(&json!(500))).then_some(()))
    })
    .await?;
    for (name, wanted) in [("install.md", "anabranch "), ("from-spark-and-hive.md", "CREATE EXTERNAL TABLE"), ("from-kafka-connect.md", "offsets  guides 0:")] {
        let text = run(&stage, name)?;
        ensure!(text.contains(wanted), "docs/{name}: {wanted}: {text}");
    }
    let python = blocks(&page("api.md")?, "python").pop().context("docs/api.md has a block of Python")?;
    let script = stage.folder().join("api.py");
    std::fs::write(&script, python.replace("http://127.0.0.1:8080", &process.url))?;
    let (code, text) = stage.shell(&format!("{} {}", variable("ANABRANCH_PYTHON"), script.display()))?;
    ensure!(code == Some(0) && text.lines().count() == 5 && text.contains("{'guides': {'0': "), "{text}");
    ensure!(process.stop().await?.success());
    Ok(())
}

/// The definitions that the pages show are definitions.
#[tokio::test]
async fn definitions_of_the_pages_compile() -> Result<()> {
    let mut stage = Stage::new("pages").await?;
    let shipped = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines/server_status.sql"))?;
    let source = shipped.split("CREATE MATERIALIZED VIEW").next().context("a source")?.to_owned();
    let products: PathBuf = stage.folder().join("pipelines/products");
    std::fs::create_dir_all(&products)?;
    std::fs::write(products.join("all.csv"), "sku,title,category\n1,a,b\n")?;
    for (name, head) in [("definitions.md", ""), ("from-spark-and-hive.md", &*source)] {
        let sql = blocks(&page(name)?, "sql").concat();
        ensure!(sql.contains("CREATE MATERIALIZED VIEW"), "docs/{name} shows a view");
        stage.pipeline(&format!("{head}{sql}"))?;
        let (code, text) = stage.run(&["check"])?;
        ensure!(code == Some(0), "docs/{name}: {text}");
    }
    Ok(())
}
