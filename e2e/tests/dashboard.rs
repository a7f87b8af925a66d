//! The dashboard in a real browser: what it shows is what the recount computes, without a reload; it says when a layer is away.

use std::collections::BTreeMap;

use anabranch_e2e::{
    node::Browser,
    scene::{RECOVERY_LIMIT, Running, Scene, serving},
};
use anabranch_oracle::Event;
use anyhow::{Context, Result, ensure};
use serde_json::{Value as Json, json};

const PICTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/images");
/// What may be loaded before the pivot is opened.
const MOST_BYTES: u64 = 300_000;

/// What the page must show of all events.
struct Expected {
    messages: u64,
    by_city: BTreeMap<String, u64>,
    by_city_and_color: BTreeMap<String, u64>,
    per_hour: BTreeMap<String, u64>,
}

fn recounted(scene: &Scene) -> Result<Expected> {
    let mut expected = Expected { messages: 0, by_city: BTreeMap::new(), by_city_and_color: BTreeMap::new(), per_hour: BTreeMap::new() };
    for record in &scene.topic.records {
        let Ok(Event::ServerStatus(event)) = &record.event else { continue };
        let event = serde_json::to_value(event)?;
        let text = |name: &str| event.get(name).and_then(Json::as_str).unwrap_or_default().to_owned();
        let seconds = event.get("seconds").and_then(Json::as_i64).context("no time")?;
        let hour = chrono::DateTime::from_timestamp(seconds - seconds.rem_euclid(3600), 0).context("no time")?;
        expected.messages += 1;
        *expected.by_city.entry(text("city")).or_default() += 1;
        *expected.by_city_and_color.entry(format!("{}|{}", text("city"), text("color"))).or_default() += 1;
        *expected.per_hour.entry(hour.format("%Y-%m-%dT%H:%M:%S.000").to_string()).or_default() += 1;
    }
    Ok(expected)
}

/// The largest of a pie or a bar, as the page asks for them.
fn largest(counts: &BTreeMap<String, u64>, limit: usize) -> BTreeMap<&str, u64> {
    let mut sorted: Vec<(&str, u64)> = counts.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    sorted.sort_by_key(|(name, count)| (std::cmp::Reverse(*count), *name));
    sorted.into_iter().take(limit).collect()
}

fn number(answer: &Json, name: &str) -> u64 {
    answer.get(name).and_then(Json::as_u64).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_shows_what_the_recount_computes() -> Result<()> {
    let mut scene = Scene::new("seen", "600").await?;
    let mut running = scene.begin().await?;
    let mut browser = Browser::start(&serving(&running)?.url, PICTURES)?;
    // Opened while events flow; what follows comes by itself.
    let opened = browser.tell(&json!({"do": "open", "path": "/?granularity=hour"}))?;
    browser.tell(&json!({"do": "freshness", "contains": "live"}))?;
    let bytes = number(&opened, "bytes");
    ensure!((10_000..MOST_BYTES).contains(&bytes), "{bytes} bytes before the pivot");
    scene.grown_to(7_000).await?;
    scene.stop_events().await?;
    let ends = scene.ends().await?;
    scene.fresh(serving(&running)?, &ends, RECOVERY_LIMIT).await?;
    let expected = recounted(&scene)?;
    let drawn = browser.tell(&json!({
        "do": "reach", "tiles": {"messages": expected.messages}, "pie": largest(&expected.by_city, 12), "bar": largest(&expected.by_city, 16),
        "series": expected.per_hour,
    }))?;
    ensure!(number(&drawn, "slices") >= 12 && number(&drawn, "bars") >= 12, "{drawn}");
    let pivot = browser.tell(&json!({"do": "pivot", "expected": expected.by_city_and_color}))?;
    println!(
        "{bytes} bytes before the pivot, {} for it; {} cells of the pivot, {} events",
        number(&pivot, "bytes"),
        number(&pivot, "cells"),
        expected.messages
    );
    looks(&mut browser, &expected)?;
    layers_go_away(&mut scene, &mut running, &mut browser).await?;
    let complaints = browser.tell(&json!({"do": "complaints"}))?;
    let others: Vec<&Json> = complaints.get("complaints").and_then(Json::as_array).into_iter().flatten().filter(|text| !is_of_a_server_away(text)).collect();
    ensure!(others.is_empty(), "the browser complained: {others:?}");
    Ok(())
}

/// What a browser says itself of requests while nobody answers.
fn is_of_a_server_away(text: &Json) -> bool {
    text.as_str().is_some_and(|text| text.contains("net::ERR") || text.contains("503"))
}

/// Pictures in both colours and on a phone; the keyboard; what axe finds; a threshold.
fn looks(browser: &mut Browser, expected: &Expected) -> Result<()> {
    browser.tell(&json!({"do": "picture", "name": "dashboard-pivot"}))?;
    browser.tell(&json!({"do": "open", "path": "/?granularity=hour"}))?;
    browser.tell(&json!({"do": "freshness", "contains": "live"}))?;
    browser.tell(&json!({"do": "picture", "name": "dashboard"}))?;
    let passed = browser.tell(&json!({"do": "accessible"}))?;
    ensure!(number(&passed, "passes") > 10, "{passed}");
    browser.tell(&json!({"do": "keyboard"}))?;
    browser.tell(&json!({"do": "open", "path": "/?view=status_by_server_type", "scheme": "dark"}))?;
    browser.tell(&json!({"do": "freshness", "contains": "live"}))?;
    browser.tell(&json!({"do": "accessible"}))?;
    browser.tell(&json!({"do": "picture", "name": "dashboard-dark"}))?;
    let phone = browser.tell(&json!({"do": "picture", "name": "dashboard-phone", "width": 390, "height": 844}))?;
    ensure!(number(&phone, "overflow") == 0, "wider than a phone: {phone}");
    // A threshold that some cities are above: they are listed, and no other.
    let above = *largest(&expected.by_city, 12).values().min().context("no city")?;
    let watched = browser.tell(&json!({"do": "watch", "measure": "messages", "above": above}))?;
    let over: BTreeMap<&String, &u64> = expected.by_city.iter().filter(|(_, count)| **count > above).collect();
    ensure!(!over.is_empty() && json!(over) == *watched.get("groups").unwrap_or(&Json::Null), "above {above}: {over:?}, the page has {watched}");
    browser.tell(&json!({"do": "picture", "name": "dashboard-threshold"}))?;
    Ok(())
}

/// The page says which layer is away, and that it is back.
async fn layers_go_away(scene: &mut Scene, running: &mut Running, browser: &mut Browser) -> Result<()> {
    browser.tell(&json!({"do": "open", "path": "/?granularity=hour"}))?;
    browser.tell(&json!({"do": "freshness", "contains": "live"}))?;
    // What was rejected is in the archive then.
    let (code, text) = scene.stage.run(&["recompute"])?;
    ensure!(code == Some(0), "{text}");
    running.remove("speed").context("no speed")?.kill()?;
    browser.tell(&json!({"do": "freshness", "contains": "the speed layer is away; exact up to"}))?;
    browser.tell(&json!({"do": "picture", "name": "dashboard-away"}))?;
    browser.tell(&json!({"do": "open", "path": "/?view=pipeline"}))?;
    browser.tell(&json!({"do": "text", "contains": "away"}))?;
    browser.tell(&json!({"do": "freshness", "contains": "the speed layer is away; exact up to"}))?;
    browser.tell(&json!({"do": "samples", "count": 20}))?;
    browser.tell(&json!({"do": "picture", "name": "dashboard-pipeline"}))?;
    browser.tell(&json!({"do": "accessible"}))?;
    scene.start(&["speed"], running)?;
    browser.tell(&json!({"do": "open", "path": "/?granularity=hour"}))?;
    browser.tell(&json!({"do": "freshness", "contains": "live and exact"}))?;
    running.remove("serve").context("no serving")?.kill()?;
    browser.tell(&json!({"do": "freshness", "contains": "the server is away; exact up to"}))?;
    Ok(())
}
