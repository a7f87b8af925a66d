//! What the program survives: servers that stop, die and come back, networks, zombies, rebalances.

use std::{collections::BTreeMap, time::Duration};

use anabranch_e2e::{
    clicks::produce,
    eventually,
    proxy::Mode,
    scene::{RECOVERY_LIMIT, Running, Scene, serving},
    servers::{self, Server},
};
use anyhow::{Context, Result, ensure};

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_stop_or_die_are_waited_for() -> Result<()> {
    let mut scene = Scene::new("servers", "1000").await?;
    let running = scene.begin().await?;
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
            let took = scene.fresh_from_now(serving(&running)?).await.with_context(|| format!("{server:?} dies: {dies}"))?;
            println!("{server:?} {}: fresh after {:.2} s", if dies { "killed" } else { "stopped" }, took.as_secs_f64());
        }
    }
    scene.finish(serving(&running)?).await?;
    for (layer, process) in running {
        let mut said: BTreeMap<String, usize> = BTreeMap::new();
        for line in process.complaints(&[])? {
            // Without its time: the same complaint is not repeated at each retry.
            *said.entry(line.split_once("\"level\"").map_or(line.clone(), |(_, rest)| rest.to_owned())).or_default() += 1;
        }
        println!("{layer} complained of {} things, at most {} times", said.len(), said.values().max().unwrap_or(&0));
        // Two outages of each server, so twice is once for each.
        ensure!(said.values().all(|count| *count <= 2), "{layer} repeats itself: {said:#?}");
        ensure!(process.stop().await?.success(), "{layer} did not stop in order");
    }
    Ok(())
}

/// While PostgreSQL does not answer, what cannot be stored must not pile up.
#[tokio::test(flavor = "multi_thread")]
async fn memory_stays_bounded_while_postgresql_is_stopped_for_a_minute() -> Result<()> {
    let mut scene = Scene::new("bounded", "20000").await?;
    let running = scene.begin().await?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let resident = |running: &Running| running.iter().map(|(layer, process)| Ok((*layer, process.resident_bytes()? >> 20))).collect::<Result<BTreeMap<_, _>>>();
    let before = resident(&running)?;
    Server::PostgreSql.pause()?;
    let mut most = before.clone();
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        for (layer, now) in resident(&running)? {
            most.entry(layer).and_modify(|most| *most = (*most).max(now));
        }
    }
    Server::PostgreSql.resume()?;
    println!("MiB before {before:?}, at most {most:?}");
    for (layer, most) in most {
        let before = before.get(layer).copied().unwrap_or_default();
        ensure!(most < before + 300, "{layer} grew from {before} to {most} MiB");
    }
    scene.stop_events().await?;
    let ends = scene.ends().await?;
    let took = scene.fresh(serving(&running)?, &ends, RECOVERY_LIMIT).await?;
    println!("after a minute without PostgreSQL at 20,000 events a second: at the topic's ends after {:.2} s", took.as_secs_f64());
    Ok(())
}

/// The stopped process was replaced; when it continues, it changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn zombies_change_nothing() -> Result<()> {
    let mut scene = Scene::new("zombies", "1000").await?;
    // Two leaders and two readers, and the same name in the group: the replacement takes over at once.
    let mut running = scene.begin().await?;
    for layer in ["speed", "archive", "batch"] {
        for _ in 0..3 {
            let zombie = running.remove(layer).context("it runs")?;
            zombie.signal("STOP")?;
            scene.start(&[layer], &mut running)?;
            scene.fresh_from_now(serving(&running)?).await.with_context(|| format!("{layer} was replaced"))?;
            zombie.signal("CONT")?;
            tokio::time::sleep(Duration::from_secs(2)).await;
            zombie.kill()?;
            let took = scene.fresh_from_now(serving(&running)?).await.with_context(|| format!("a {layer} zombie continued"))?;
            println!("{layer}: fresh {:.2} s after its zombie was gone", took.as_secs_f64());
        }
    }
    // A batch that hangs while it leads: the other one leads within half a minute.
    let published = |answer: &serde_json::Value| answer["lambda"]["run"].as_i64().unwrap_or_default();
    let hanging = running.remove("batch").context("it runs")?;
    hanging.signal("STOP")?;
    scene.start(&["batch"], &mut running)?;
    let query = serde_json::json!({"measures": ["status_by_server_type.messages"]});
    let at = published(&serving(&running)?.load(&query).await?.context("no answer")?);
    eventually("a version of the other batch", Duration::from_secs(90), || async {
        Ok(serving(&running)?.load(&query).await?.filter(|answer| published(answer) > at + 1))
    })
    .await?;
    hanging.signal("CONT")?;
    // A reader that sleeps through two versions and the pruning of what it holds.
    let reader = serving(&running)?;
    reader.signal("STOP")?;
    tokio::time::sleep(Duration::from_secs(35)).await;
    reader.signal("CONT")?;
    for _ in 0..5 {
        scene.exact(serving(&running)?).await?;
    }
    scene.fresh_from_now(serving(&running)?).await?;
    drop(hanging);
    scene.finish(serving(&running)?).await
}

/// Connections to PostgreSQL and to the NameNode that are cut, slow, or swallow everything.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_slow_or_dead_are_survived() -> Result<()> {
    let mut scene = Scene::new("network", "1000").await?;
    let (to_postgres, to_namenode) = scene.behind_proxies().await?;
    let running = scene.begin().await?;
    for (name, proxy) in [("PostgreSQL", &to_postgres), ("the NameNode", &to_namenode)] {
        for (mode, seconds) in [(Mode::Pass, 0), (Mode::Slow, 10), (Mode::Refuse, 5), (Mode::Swallow, 10)] {
            let before = proxy.connections();
            proxy.set(mode);
            if mode != Mode::Slow {
                proxy.cut();
            }
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            proxy.set(Mode::Pass);
            if mode == Mode::Swallow {
                // What was swallowed is missing in the stream.
                proxy.cut();
            }
            let took = scene.fresh_from_now(serving(&running)?).await.with_context(|| format!("{name}, {mode:?}"))?;
            println!("{name} {mode:?}: fresh after {:.2} s, {} connections", took.as_secs_f64(), proxy.connections() - before);
        }
    }
    ensure!(to_postgres.connections() > 10, "connections go through the proxy");
    scene.finish(serving(&running)?).await
}

/// Workers of both arms join and leave, and the topic gets more partitions, while events flow.
#[tokio::test(flavor = "multi_thread")]
async fn workers_join_and_leave_and_partitions_are_added() -> Result<()> {
    let mut scene = Scene::new("rebalance", "1000").await?;
    let mut running = scene.begin().await?;
    let settings = scene.stage.folder().join("second.toml");
    std::fs::write(&settings, "[kafka.client]\n\"group.instance.id\" = \"second\"\n")?;
    let settings = settings.display().to_string();
    for round in 0..2 {
        for layer in ["speed", "archive"] {
            let second = scene.stage.start(&["--config", &settings, layer])?;
            eventually("the second worker has partitions", Duration::from_secs(40), || async {
                Ok((layer == "archive" || second.log()?.contains("was given partitions")).then_some(()))
            })
            .await?;
            let took = scene.fresh_from_now(serving(&running)?).await.with_context(|| format!("a second {layer}"))?;
            tokio::time::sleep(Duration::from_secs(5)).await;
            scene.exact(serving(&running)?).await?;
            let first = running.remove(layer).context("it runs")?;
            if round == 0 {
                second.stop().await?;
                running.insert(layer, first);
            } else {
                // The first one dies, the second one stays.
                first.kill()?;
                running.insert(layer, second);
            }
            let left = scene.fresh_from_now(serving(&running)?).await.with_context(|| format!("one {layer} less"))?;
            println!("{layer}: fresh {:.2} s after one joined, {:.2} s after one left", took.as_secs_f64(), left.as_secs_f64());
        }
    }
    scene.add_partitions(10).await?;
    // The simulator looks for new partitions every five minutes only.
    for partition in [8, 9] {
        produce(&scene.name, partition, &vec![serde_json::json!({"event_id": null}); 10])?;
    }
    let ends = scene.ends().await?;
    ensure!(ends.values().filter(|end| **end == 10).count() == 2, "the new partitions hold events: {ends:?}");
    scene.fresh(serving(&running)?, &ends, RECOVERY_LIMIT).await.context("two partitions more")?;
    scene.finish(serving(&running)?).await
}

/// PostgreSQL comes back in the state of some time ago, under running workers and readers.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_state_of_postgresql_is_gone_on_from() -> Result<()> {
    let mut scene = Scene::new("restored", "1000").await?;
    let running = scene.begin().await?;
    let folder: String = scene.stage.database().await?.query_one("SHOW data_directory", &[]).await?.get(0);
    let backup = format!("{folder}.backup");
    let copy = |from: &str, to: &str| -> Result<()> {
        let status = std::process::Command::new("sh").args(["-c", "rm -rf \"$2\" && cp -a \"$1\" \"$2\"", "sh", from, to]).status()?;
        ensure!(status.success(), "{from} cannot be copied");
        Ok(())
    };
    Server::PostgreSql.kill()?;
    copy(&folder, &backup)?;
    servers::start_all()?;
    // Two versions and some epochs later.
    tokio::time::sleep(Duration::from_secs(25)).await;
    scene.fresh_from_now(serving(&running)?).await?;
    Server::PostgreSql.kill()?;
    copy(&backup, &folder)?;
    servers::start_all()?;
    let took = scene.fresh_from_now(serving(&running)?).await?;
    println!("fresh {:.2} s after PostgreSQL came back in an older state", took.as_secs_f64());
    std::fs::remove_dir_all(&backup)?;
    scene.finish(serving(&running)?).await
}

/// A member that restarts gets its old partitions back without a rebalance: what the topic was given while it was away must
/// not stay nobody's.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_are_added_while_nobody_runs_are_read() -> Result<()> {
    let mut scene = Scene::new("orphans", "500").await?;
    let mut running = scene.begin().await?;
    for layer in ["speed", "archive"] {
        running.remove(layer).context("it runs")?.kill()?;
    }
    scene.add_partitions(10).await?;
    for partition in [8, 9] {
        produce(&scene.name, partition, &vec![serde_json::json!({"event_id": null}); 10])?;
    }
    scene.start(&["speed", "archive"], &mut running)?;
    let ends = scene.ends().await?;
    let took = scene.fresh(serving(&running)?, &ends, RECOVERY_LIMIT).await?;
    println!("new partitions are read {:.1} s after the restart", took.as_secs_f64());
    scene.finish(serving(&running)?).await
}
