//! The thread through the whole: events flow, every answer is recounted at its own offsets, the archive tiles.
#![expect(clippy::print_stdout, reason = "the figures of a run")]

use std::{
    collections::{BTreeMap, VecDeque},
    process::Stdio,
    time::{Duration, Instant},
};

use anabranch_e2e::{Anabranch, anabranch, eventually, variable};
use anabranch_oracle::{compare, offsets, queries, topic::Topic};
use anabranch_process::{Warehouse, warehouse};
use anyhow::{Context, Result};
use rdkafka::{
    ClientConfig,
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
};
use serde_json::Value as Json;

/// More than the probes need on a slow machine; the simulator is stopped after them.
const EVENTS: &str = "1000000";
const RATE: &str = "2500";
const PROBES: usize = 30;
const TOPIC: &str = "server-live-status";

/// Tombstones, an aborted and a committed transaction among the simulator's events.
fn disturb(brokers: &str, round: usize) -> Result<()> {
    let producer: ThreadedProducer<DefaultProducerContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).set("transactional.id", "e2e-disturb").create()?;
    let limit = Duration::from_secs(20);
    producer.init_transactions(limit)?;
    for commits in [false, true] {
        producer.begin_transaction()?;
        for number in 0..20 {
            let key = format!("{round}-{number}");
            producer.send(BaseRecord::<str, [u8]>::to(TOPIC).key(&key)).map_err(|(error, _)| error)?;
        }
        if commits { producer.commit_transaction(limit)? } else { producer.abort_transaction(limit)? }
    }
    Ok(())
}

async fn load(client: &reqwest::Client, url: &str, query: &Json) -> Result<Option<Json>> {
    let Ok(response) = client.post(format!("{url}/v1/load")).json(query).send().await else { return Ok(None) };
    if !response.status().is_success() {
        return Ok(None);
    }
    Ok(Some(response.json().await?))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_exact_while_events_flow() -> Result<()> {
    let brokers = variable("ANABRANCH_KAFKA__BROKERS");
    let mut simulator = anabranch(&["simulate", "server-status", "--count", EVENTS, "--rate", RATE, "--late", "0.1", "--malformed", "0.01"])
        .stdout(Stdio::null())
        .spawn()
        .context("start the simulator")?;
    let anabranch = Anabranch::run()?;
    let client = reqwest::Client::new();
    let (_, first) = queries().remove(0);
    eventually("a first answer", Duration::from_secs(60), || load(&client, &anabranch.url, &first)).await?;
    let mut topic = Topic::open(&brokers, TOPIC)?;
    // Before the first version every answer is live alone: exact, too, but not what is to be shown here.
    let early = load(&client, &anabranch.url, &first).await?.context("no answer")?;
    topic.read_to(&offsets(&early))?;
    assert_eq!(compare("status_by_city", &early, &topic.records).wrong, None);
    eventually("a first version", Duration::from_secs(60), || async {
        Ok(load(&client, &anabranch.url, &first).await?.filter(|answer| answer["lambda"]["run"].is_i64()))
    })
    .await?;
    let (mut cells, mut both, mut answers) = (0, 0, 0);
    let mut ends: VecDeque<(Instant, BTreeMap<i32, i64>)> = VecDeque::new();
    let mut runs = std::collections::BTreeSet::new();
    for probe in 0..PROBES {
        if probe % 5 == 1 {
            disturb(&brokers, probe)?;
        }
        ends.push_back((Instant::now(), topic.ends()?));
        tokio::time::sleep(Duration::from_millis(1000)).await;
        for (view, query) in queries() {
            // What the topic's ends were two seconds before the question.
            let old = ends.iter().rev().find(|(at, _)| at.elapsed() >= Duration::from_secs(2)).map(|(_, ends)| ends.clone()).unwrap_or_default();
            let answer = load(&client, &anabranch.url, &query).await?.context("no answer")?;
            let stated = offsets(&answer);
            for (partition, end) in &old {
                assert!(stated[partition] >= *end, "probe {probe}: {view} is not fresh: partition {partition} at {} of {end}", stated[partition]);
            }
            topic.read_to(&stated)?;
            let verdict = compare(view, &answer, &topic.records);
            assert_eq!(verdict.wrong, None, "probe {probe} at {stated:?}");
            cells += verdict.cells;
            if view != "server_status_rejected" {
                answers += 1;
                both += usize::from(answer["lambda"]["version_groups"] != 0 && answer["lambda"]["live_groups"] != 0);
            }
            runs.extend(answer["lambda"]["run"].as_i64());
        }
    }
    println!("{PROBES} probes, {cells} cells, {both} of {answers} answers with both arms, versions {runs:?}");
    assert!(runs.len() >= 2, "at least two versions are published while events flow: {runs:?}");
    assert!(both * 10 >= answers * 8, "{both} of {answers} answers merged a version and live rows");
    eventually("100,000 events", Duration::from_secs(60), || async { Ok((topic.ends()?.values().sum::<i64>() >= 101_000).then_some(())) }).await?;
    // As Ctrl-C would: it flushes what it has.
    std::process::Command::new("kill").arg(simulator.id().to_string()).status()?;
    simulator.wait()?;
    after_the_flow(&anabranch, &client, &mut topic).await
}

/// The end: everything is covered, the archive tiles, the audit agrees, and planted faults are named.
async fn after_the_flow(anabranch: &Anabranch, client: &reqwest::Client, topic: &mut Topic) -> Result<()> {
    let ends = topic.ends()?;
    topic.read_to(&ends)?;
    println!("the topic holds {} records, ends {ends:?}", topic.records.len());
    assert!(topic.records.len() >= 100_000);
    for (view, query) in queries() {
        let answer = eventually("an answer at the topic's ends", Duration::from_secs(20), || async {
            Ok(load(client, &anabranch.url, &query).await?.filter(|answer| offsets(answer) == ends))
        })
        .await?;
        assert_eq!(compare(view, &answer, &topic.records).wrong, None);
    }
    let (code, text) = anabranch.command(&["recompute"])?;
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = anabranch.command(&["verify"])?;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains(&format!("{} records, 0 faults", topic.records.len())), "every committed record is archived: {text}");
    let (code, text) = anabranch.command(&["recompute", "--full"])?;
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = anabranch.command(&["status"])?;
    assert_eq!(code, Some(0), "{text}");
    for reason in ["not JSON", "not an object", "tombstone", "missing: event_id", "not a time: event_datetime"] {
        assert!(text.contains(reason), "{reason} is counted: {text}");
    }
    a_removed_file_is_named(anabranch).await
}

async fn a_removed_file_is_named(anabranch: &Anabranch) -> Result<()> {
    let warehouse = Warehouse::at(&variable("ANABRANCH_WAREHOUSE__URL"))?;
    let files = warehouse.list("server_status/archive").await?;
    let file = files.first().context("no archive file")?;
    let (from, to) = (format!("server_status/archive/{}", file.name), "server_status/taken".to_owned());
    warehouse.rename_new(&from, &to).await?;
    let (code, text) = anabranch.command(&["verify"])?;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("server_status partition 0: gap [0, "), "{text}");
    warehouse.rename_new(&to, &from).await?;
    let (code, text) = anabranch.command(&["verify"])?;
    assert_eq!(code, Some(0), "{text}");
    Ok(())
}

#[tokio::test]
async fn hdfs_conforms() -> Result<()> {
    let warehouse = Warehouse::at(&format!("{}-conformance", variable("ANABRANCH_WAREHOUSE__URL")))?;
    warehouse::conformance(&warehouse).await?;
    Ok(())
}
