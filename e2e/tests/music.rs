//! The music pipeline: every cell and every row of the star schema, through both arms, while layers are killed.

use std::time::Duration;

use anabranch_e2e::scene::{LAYERS, RECOVERY_LIMIT, Scene, serving};
use anabranch_oracle::Domain;
use anyhow::{Context, Result};

const ROUNDS: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn the_star_schema_is_exact_in_every_row_while_layers_are_killed() -> Result<()> {
    // An answer has at most 50,000 rows: so many songs are played within five minutes.
    let mut scene = Scene::with_music("music", "300", "200").await?;
    let mut running = scene.begin().await?;
    let mut both = 0;
    for round in 0..ROUNDS {
        for layer in LAYERS {
            running.remove(layer).context("a layer does not run")?.kill()?;
            scene.start(&[layer], &mut running)?;
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        let took = scene.fresh_from_now(serving(&running)?).await?;
        for (_, query) in Domain::Music.queries() {
            let answer = serving(&running)?.load(&query).await?.context("no answer")?;
            both += usize::from(answer["lambda"]["version_groups"] != 0 && answer["lambda"]["live_groups"] != 0);
        }
        println!("round {round}: fresh after {:.1} s, {} cells so far", took.as_secs_f64(), scene.cells);
        assert!(took <= RECOVERY_LIMIT);
    }
    // Of nine views two have no live arm, and of the others not each moved since the last version.
    assert!(both >= ROUNDS * 4, "{both} answers with both arms");
    scene.finish(serving(&running)?).await?;
    println!("{} cells compared, {both} answers with both arms", scene.cells);
    assert!(scene.cells > 100_000);
    for (layer, process) in running {
        assert!(process.stop().await?.success(), "{layer} did not stop in order");
    }
    Ok(())
}
