//! What the program survives: layers that are killed, servers that stop, die and come back, zombies.
#![expect(clippy::print_stdout, reason = "the figures of a run")]

use std::{collections::BTreeMap, time::Duration};

use anabranch_e2e::{
    Process,
    scene::{Offsets, Scene},
    servers::{self, Server},
};
use anyhow::{Context, Result, ensure};

const LAYERS: [&str; 4] = ["speed", "archive", "batch", "serve"];
/// A restarted layer opens an epoch, reads from its offset and answers; nothing waits for a time-out.
const RESTART_LIMIT: Duration = Duration::from_secs(5);
/// After servers came back: their own recovery, our back-off, what piled up.
const RECOVERY_LIMIT: Duration = Duration::from_secs(60);

type Running = BTreeMap<&'static str, Process>;

fn start(scene: &mut Scene, layers: &[&'static str], running: &mut Running) -> Result<()> {
    for layer in layers {
        let process = scene.stage.start(&[layer])?;
        running.insert(layer, process);
    }
    Ok(())
}

fn serving(running: &Running) -> Result<&Process> {
    running.get("serve").context("nobody serves")
}

fn one_more(ends: Offsets) -> Offsets {
    ends.into_iter().map(|(partition, end)| (partition, end + 1)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_that_are_killed_answer_exactly_and_freshly_within_five_seconds() -> Result<()> {
    let mut scene = Scene::new("killed", "1000").await?;
    let mut running = Running::new();
    start(&mut scene, &LAYERS, &mut running)?;
    let begun = scene.ends()?;
    scene.fresh(serving(&running)?, &begun, RECOVERY_LIMIT).await?;
    let sets: [&[&'static str]; 6] = [&["speed"], &["archive"], &["batch"], &["serve"], &["speed", "serve"], &LAYERS];
    for round in 0..2 {
        for killed in sets {
            for layer in killed {
                running.remove(layer).context("it runs")?.kill()?;
            }
            let ends = one_more(scene.ends()?);
            start(&mut scene, killed, &mut running)?;
            let took = scene.fresh(serving(&running)?, &ends, RESTART_LIMIT).await.with_context(|| format!("round {round}, killed {killed:?}"))?;
            println!("killed {killed:?}: fresh after {:.2} s", took.as_secs_f64());
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
    }
    scene.finish(serving(&running)?).await?;
    println!("{} cells", scene.cells);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_stop_or_die_are_waited_for() -> Result<()> {
    let mut scene = Scene::new("servers", "1000").await?;
    let mut running = Running::new();
    start(&mut scene, &LAYERS, &mut running)?;
    let begun = scene.ends()?;
    scene.fresh(serving(&running)?, &begun, RECOVERY_LIMIT).await?;
    for server in Server::ALL {
        for dies in [false, true] {
            if dies {
                server.kill()?
            } else {
                server.pause()?
            }
            tokio::time::sleep(Duration::from_secs(8)).await;
            // Alive, whatever is gone; ready only with its database.
            ensure!(serving(&running)?.route("/healthz").await == Some(200), "not alive without {server:?}");
            let ready = serving(&running)?.route("/readyz").await;
            ensure!(ready == Some(if server == Server::PostgreSql { 503 } else { 200 }), "ready says {ready:?} without {server:?}");
            if dies {
                servers::start_all()?
            } else {
                server.resume()?
            }
            let ends = one_more(scene.ends()?);
            let took = scene.fresh(serving(&running)?, &ends, RECOVERY_LIMIT).await.with_context(|| format!("{server:?} dies: {dies}"))?;
            println!("{server:?} {}: fresh after {:.2} s", if dies { "killed" } else { "stopped" }, took.as_secs_f64());
        }
    }
    scene.finish(serving(&running)?).await?;
    for (layer, process) in running {
        let mut said: BTreeMap<String, usize> = BTreeMap::new();
        for line in process.complaints(&[])? {
            println!("{layer}: {line}");
            // Without its time: the same complaint is not repeated at each retry.
            *said.entry(line.split_once("\"level\"").map_or(line.clone(), |(_, rest)| rest.to_owned())).or_default() += 1;
        }
        // Two outages of each server, so twice is once for each.
        ensure!(said.values().all(|count| *count <= 4), "{layer} repeats itself: {said:?}");
        ensure!(process.stop().await?.success(), "{layer} did not stop in order");
    }
    Ok(())
}
