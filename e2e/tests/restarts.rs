//! Layers that are killed, alone and together: a restart is right and fresh within seconds.

use std::time::Duration;

use anabranch_e2e::scene::{LAYERS, Scene, one_more, serving};
use anyhow::{Context, Result};

/// A restarted layer opens an epoch, reads from its offset and answers; nothing waits for a time-out.
const RESTART_LIMIT: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn layers_that_are_killed_answer_exactly_and_freshly_within_five_seconds() -> Result<()> {
    let mut scene = Scene::new("killed", "1000").await?;
    let mut running = scene.begin().await?;
    let sets: [&[&'static str]; 6] = [&["speed"], &["archive"], &["batch"], &["serve"], &["speed", "serve"], &LAYERS];
    for round in 0..2 {
        for killed in sets {
            for layer in killed {
                running.remove(layer).context("it runs")?.kill()?;
            }
            let ends = one_more(scene.ends().await?);
            scene.start(killed, &mut running)?;
            let took = scene.fresh(serving(&running)?, &ends, RESTART_LIMIT).await.with_context(|| format!("round {round}, killed {killed:?}"))?;
            println!("killed {killed:?}: fresh after {:.2} s", took.as_secs_f64());
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
    }
    scene.finish(serving(&running)?).await?;
    println!("{} cells", scene.cells);
    Ok(())
}
