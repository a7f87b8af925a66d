//! The archive as an external table of Spark SQL, by the printed statements of Hive and of Spark, with its embedded catalogue.

use std::process::Command;

use anabranch_e2e::{Stage, scene::Scene, variable};
use anyhow::{Context, Result};

/// Counts and sums of the archive as Spark reads it, through the statement of a dialect.
fn counted(stage: &Stage, dialect: &str) -> Result<String> {
    let (code, statements) = stage.run(&["ddl", dialect])?;
    anyhow::ensure!(code == Some(0), "{statements}");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/readers/spark.py");
    let output = Command::new(variable("ANABRANCH_PYTHON_SPARK")).arg(script).arg(&statements).current_dir(stage.folder()).output().context("start python")?;
    let text = String::from_utf8(output.stdout)?;
    anyhow::ensure!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    Ok(text.trim().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn spark_reads_the_archive_by_the_printed_statements() -> Result<()> {
    let mut scene = Scene::new("spark", "1000").await?;
    let running = scene.begin().await?;
    scene.grown_to(10_000).await?;
    scene.finish(anabranch_e2e::scene::serving(&running)?).await?;
    let records = scene.topic.records.len();
    let rejected = scene.topic.records.iter().filter(|record| record.event.is_err()).count();
    // What the recount has, and its sum through the merged answer, which was compared with it.
    let query = serde_json::json!({"measures": ["status_by_city.messages", "status_by_city.resolution_time"]});
    let answer = anabranch_e2e::scene::serving(&running)?.load(&query).await?.context("no answer")?;
    let row = answer["data"].get(0).context("no row")?;
    let expected = format!("{records} {rejected} {} {}", row["status_by_city.messages"], row["status_by_city.resolution_time"]);
    for dialect in ["hive", "spark"] {
        assert_eq!(counted(&scene.stage, dialect)?, expected, "{dialect}");
    }
    Ok(())
}
