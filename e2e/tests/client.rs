//! Cube's own JavaScript client against the recount.

use anabranch_e2e::{
    node,
    scene::{Scene, serving},
};
use anabranch_oracle::Event;
use anyhow::{Context, Result, ensure};

#[tokio::test(flavor = "multi_thread")]
async fn the_real_client_gets_what_the_recount_computes() -> Result<()> {
    let mut scene = Scene::new("client", "800").await?;
    let running = scene.begin().await?;
    scene.grown_to(7_000).await?;
    scene.finish(serving(&running)?).await?;
    let mut lines = String::new();
    for record in &scene.topic.records {
        if let Ok(Event::ServerStatus(event)) = &record.event {
            lines.push_str(&serde_json::to_string(event)?);
            lines.push('\n');
        }
    }
    let file = scene.stage.folder().join("events.ndjson");
    std::fs::write(&file, lines)?;
    let text = node::run("suite.mjs", &[&serving(&running)?.url, file.to_str().context("a path")?])?;
    println!("{}", text.trim());
    let queries: usize = text.split(' ').next().context("nothing was printed")?.parse().with_context(|| text.clone())?;
    ensure!(queries >= 40, "{text}");
    Ok(())
}
