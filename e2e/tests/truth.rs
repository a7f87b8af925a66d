//! What an answer says of itself, and what it refuses: older versions, waiting for offsets, limits, figures for Prometheus.
#![expect(clippy::indexing_slicing, clippy::print_stdout, reason = "members of JSON answers; a test prints its figures")]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anabranch_e2e::{
    Process,
    scene::{RECOVERY_LIMIT, Running, Scene, recount, serving},
};
use anabranch_oracle::Event;
use anyhow::{Context, Result, ensure};
use serde_json::{Value as Json, json};

const MESSAGES: &str = "status_by_city.messages";
/// Subscriptions that hear of the same changes.
const SUBSCRIBERS: usize = 2_000;

async fn post(process: &Process, body: Vec<u8>) -> Result<(u16, Json)> {
    let response = reqwest::Client::new().post(format!("{}/v1/load", process.url)).body(body).send().await?;
    let status = response.status().as_u16();
    Ok((status, response.json().await?))
}

async fn ask(process: &Process, body: &Json) -> Result<(u16, Json)> {
    post(process, body.to_string().into_bytes()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_say_what_they_are() -> Result<()> {
    let mut scene = Scene::new("truth", "400").await?;
    let mut running = scene.begin().await?;
    older_versions(&mut scene, &running).await?;
    own_writes(&scene, &running).await?;
    wrong_requests(serving(&running)?).await?;
    idle_subscribers(&scene, &running).await?;
    scene.finish(serving(&running)?).await?;
    metrics(&scene, serving(&running)?).await?;
    few_groups(&mut scene, &mut running).await
}

/// Each version that is kept answers for itself, as it was.
async fn older_versions(scene: &mut Scene, running: &Running) -> Result<()> {
    let process = serving(running)?;
    let (_, query) = anabranch_oracle::queries().into_iter().nth(1).context("no view")?;
    let mut runs = BTreeSet::new();
    let began = Instant::now();
    while runs.len() < 3 {
        ensure!(began.elapsed() < Duration::from_secs(60), "versions {runs:?} in a minute");
        let answer = process.load(&query).await?.context("no answer")?;
        runs.extend(answer["lambda"]["run"].as_i64());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let (status, unknown) = ask(process, &json!({"query": query, "run": 999_999})).await?;
    ensure!(status == 404 && unknown["type"] == "urn:anabranch:unknown_run", "{unknown}");
    let kept: Vec<i64> = unknown["kept"].as_array().context("no list")?.iter().filter_map(Json::as_i64).collect();
    ensure!(kept.len() >= 2, "{unknown}");
    let mut offsets = BTreeSet::new();
    for run in kept {
        let (status, answer) = ask(process, &json!({"query": query, "run": run})).await?;
        ensure!(status == 200 && answer["lambda"]["run"] == run && answer["lambda"]["live_groups"] == 0, "{answer}");
        ensure!(answer["lambda"]["coverage"] == answer["lambda"]["offsets"], "{answer}");
        offsets.insert(answer["lambda"]["offsets"].to_string());
        scene.cells += recount(&mut scene.topic, "status_by_server_type", &answer)?;
    }
    ensure!(offsets.len() >= 2, "{offsets:?}");
    Ok(())
}

/// A client that wrote waits until it reads what it wrote; else it hears where the answer stands.
async fn own_writes(scene: &Scene, running: &Running) -> Result<()> {
    let process = serving(running)?;
    let query = json!({"measures": [MESSAGES]});
    for _ in 0..20 {
        let ends = scene.ends().await?;
        let wanted: BTreeMap<String, i64> = ends.iter().map(|(partition, offset)| (partition.to_string(), *offset)).collect();
        let (status, answer) = ask(process, &json!({"query": query, "min_offsets": {&scene.name: wanted}, "wait_ms": 10_000})).await?;
        ensure!(status == 200, "{answer}");
        let reached = anabranch_oracle::offsets(&answer);
        ensure!(ends.iter().all(|(partition, offset)| reached.get(partition) >= Some(offset)), "{reached:?} of {ends:?}");
    }
    let (status, answer) = ask(process, &json!({"query": query, "min_offsets": {&scene.name: {"0": 1_000_000_000}}, "wait_ms": 300})).await?;
    ensure!(status == 503 && answer["type"] == "urn:anabranch:not_yet" && answer["lambda"]["offsets"].is_object(), "{answer}");
    let (status, answer) = ask(process, &json!({"query": query, "min_offsets": {"another": {"0": 1}}})).await?;
    ensure!(status == 400 && answer["detail"].as_str().is_some_and(|detail| detail.contains(&scene.name)), "{answer}");
    Ok(())
}

/// Each is refused with the name of what is wrong.
async fn wrong_requests(process: &Process) -> Result<()> {
    let leaf = json!({"member": MESSAGES, "operator": "gt", "values": ["1"]});
    let nested = (0..60).fold(leaf.clone(), |inner, _| json!({"and": [inner]}));
    let cases: Vec<(Vec<u8>, u16, &str)> = vec![
        (vec![b' '; 2 * 1024 * 1024], 413, "body_limit"),
        (b"{\"measures\": [\"\xff\xfe\"]}".to_vec(), 400, "bad_query"),
        (b"{\"measures\": [".to_vec(), 400, "bad_query"),
        (["[".repeat(100_000), "]".repeat(100_000)].concat().into_bytes(), 400, "bad_query"),
        (json!({"measures": [MESSAGES], "filters": vec![leaf.clone(); 10_000]}).to_string().into_bytes(), 400, "filter_count"),
        (json!({"measures": [MESSAGES], "filters": [nested]}).to_string().into_bytes(), 400, "filter_depth"),
        (json!({"measures": [MESSAGES], "limit": 50_001}).to_string().into_bytes(), 400, "limit"),
        (b"{\"measures\": [\"status_by_city.messages\"], \"limit\": 99999999999999999999999999}".to_vec(), 400, "bad_query"),
        (json!({"query": {"measures": [MESSAGES]}, "wait_ms": 60_000}).to_string().into_bytes(), 400, "parameter"),
        (json!([]).to_string().into_bytes(), 400, "blending"),
        (json!(vec![json!({"measures": [MESSAGES]}); 17]).to_string().into_bytes(), 400, "blending"),
    ];
    for (body, expected, kind) in cases {
        let (status, answer) = post(process, body).await?;
        ensure!(status == expected && answer["type"] == format!("urn:anabranch:{kind}") && answer["error"].is_string(), "{kind}: {status} {answer}");
    }
    Ok(())
}

/// Many subscriptions to the same query: one computation for all, little memory for each.
async fn idle_subscribers(scene: &Scene, running: &Running) -> Result<()> {
    let process = serving(running)?;
    let before = process.resident_bytes()?;
    let query = json!({"measures": [MESSAGES], "dimensions": ["status_by_city.status_color"]}).to_string();
    let client = reqwest::Client::builder().pool_max_idle_per_host(0).build()?;
    let mut streams = Vec::new();
    for _ in 0..SUBSCRIBERS {
        let url = format!("{}/v1/stream", process.url);
        streams.push(client.get(url).query(&[("query", query.as_str()), ("maxPerSecond", "1")]).send().await?.error_for_status()?);
    }
    for stream in &mut streams {
        ensure!(stream.chunk().await?.is_some(), "a stream without an answer");
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let grown = process.resident_bytes()?.saturating_sub(before);
    println!("{SUBSCRIBERS} subscribers: {} kB each", grown / 1024 / SUBSCRIBERS as u64);
    ensure!(grown < 300 * 1024 * 1024, "{grown} bytes for {SUBSCRIBERS} subscribers");
    // Everybody else is answered meanwhile.
    let began = Instant::now();
    ensure!(process.load(&json!({"measures": [MESSAGES]})).await?.is_some());
    ensure!(began.elapsed() < Duration::from_secs(2), "an answer took {:?} beside them", began.elapsed());
    drop(streams);
    let ends = scene.ends().await?;
    ensure!(!ends.is_empty());
    Ok(())
}

/// The declared measure is what the recount has of the last hour; the service counts itself.
async fn metrics(scene: &Scene, process: &Process) -> Result<()> {
    let recent = || {
        let from = anabranch_process::clock::now_ms() / 1000 - 3600;
        let mut counts: BTreeMap<String, i64> = BTreeMap::new();
        for record in &scene.topic.records {
            let Ok(Event::ServerStatus(event)) = &record.event else { continue };
            let event = json!(event);
            let minute = event["seconds"].as_i64().unwrap_or_default() / 60 * 60;
            if minute >= from && minute <= from + 3600 {
                *counts.entry(event["color"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
            }
        }
        counts
    };
    let before = recent();
    let response = reqwest::get(format!("{}/metrics", process.url)).await?.error_for_status()?;
    ensure!(response.headers()["content-type"].to_str()?.starts_with("text/plain"));
    let text = response.text().await?;
    let after = recent();
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok()).with_context(|| format!("no {name}\n{text}"));
    ensure!(before.len() >= 3);
    for (color, count) in &before {
        let shown = value(&format!("anabranch_status_by_city_messages{{status_color=\"{color}\"}}"))?;
        let left = after.get(color).copied().unwrap_or_default();
        ensure!((left as f64..=*count as f64).contains(&shown), "{color}: {shown} is not between {left} and {count}");
    }
    ensure!(value("anabranch_view_ready{view=\"status_by_city\"}")? > 0.5 && value("anabranch_view_lag_records{view=\"status_by_city\"}")? < 0.5);
    ensure!(value("anabranch_http_request_seconds_count{route=\"/v1/load\",status=\"200\"}")? > 10.0);
    Ok(())
}

/// A limit by setting says which.
async fn few_groups(scene: &mut Scene, running: &mut Running) -> Result<()> {
    running.remove("serve").context("nobody serves")?.kill()?;
    scene.stage.set("ANABRANCH_SERVING__GROUPS", "20");
    scene.start(&["serve"], running)?;
    let process = serving(running)?;
    let ends = scene.ends().await?;
    let query = json!({"measures": [MESSAGES], "dimensions": ["status_by_city.status_color"]});
    anabranch_e2e::eventually("answers again", RECOVERY_LIMIT, || async {
        Ok(process.load(&query).await?.filter(|answer| anabranch_oracle::offsets(answer) == ends))
    })
    .await?;
    let (status, answer) = ask(process, &json!({"measures": [MESSAGES], "dimensions": ["status_by_city.city"]})).await?;
    ensure!(
        status == 400 && answer["type"] == "urn:anabranch:group_limit" && answer["detail"].as_str().is_some_and(|detail| detail.contains("serving.groups")),
        "{answer}"
    );
    Ok(())
}
