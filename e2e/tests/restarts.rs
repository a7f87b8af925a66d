//! Layers that are killed, alone and together: a restart is right and fresh within seconds.

use std::{collections::BTreeMap, time::Duration};

use anabranch_e2e::{Process, scene::Scene};
use anyhow::{Context, Result};

const LAYERS: [&str; 4] = ["speed", "archive", "batch", "serve"];
/// A restarted layer opens an epoch, reads from its offset and answers; nothing waits for a time-out.
const RESTART_LIMIT: Duration = Duration::from_secs(5);
const START_LIMIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn layers_that_are_killed_answer_exactly_and_freshly_within_five_seconds() -> Result<()> {
    let mut scene = Scene::new("killed", "1000").await?;
    let mut running: BTreeMap<&str, Process> = BTreeMap::new();
    for layer in LAYERS {
        running.insert(layer, scene.stage.start(&[layer])?);
    }
    let begun = scene.ends().await?;
    scene.fresh(running.get("serve").context("it runs")?, &begun, START_LIMIT).await?;
    let sets: [&[&str]; 6] = [&["speed"], &["archive"], &["batch"], &["serve"], &["speed", "serve"], &LAYERS];
    for round in 0..2 {
        for killed in sets {
            for layer in killed {
                running.remove(layer).context("it runs")?.kill()?;
            }
            let ends = scene.ends().await?.into_iter().map(|(partition, end)| (partition, end + 1)).collect();
            for layer in killed {
                running.insert(layer, scene.stage.start(&[layer])?);
            }
            let serving = running.get("serve").context("it runs")?;
            let took = scene.fresh(serving, &ends, RESTART_LIMIT).await.with_context(|| format!("round {round}, killed {killed:?}"))?;
            println!("killed {killed:?}: fresh after {:.2} s", took.as_secs_f64());
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
    }
    scene.finish(running.get("serve").context("it runs")?).await?;
    println!("{} cells", scene.cells);
    Ok(())
}
