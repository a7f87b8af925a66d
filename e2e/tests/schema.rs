//! The API's description against the API: schemathesis makes requests from it, right ones and wrong ones.

use std::process::Command;

use anabranch_e2e::{
    scene::{Scene, serving},
    variable,
};
use anyhow::{Context, Result, ensure};

/// What every answer must be: no error of the server, and as it is described.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";

#[tokio::test(flavor = "multi_thread")]
async fn requests_made_from_the_description_find_no_server_error() -> Result<()> {
    let mut scene = Scene::new("schema", "300").await?;
    let running = scene.begin().await?;
    let url = format!("{}/v1/openapi.json", serving(&running)?.url);
    // A stream has no end.
    let output = Command::new(variable("ANABRANCH_SCHEMATHESIS"))
        .args(["run", &url, "--checks", CHECKS, "--max-examples", "200", "--seed", "1", "--exclude-path", "/v1/stream", "--no-color"])
        .current_dir(scene.stage.folder())
        .output()
        .context("start schemathesis")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let summary: Vec<&str> = text.lines().rev().take(12).collect();
    println!("{}", summary.into_iter().rev().collect::<Vec<_>>().join("\n"));
    scene.exact(serving(&running)?).await?;
    scene.finish(serving(&running)?).await
}
