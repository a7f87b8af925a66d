//! The thread through the whole: events flow, every answer is recounted at its own offsets, the archive tiles, and faults
//! that are planted are found.
#![expect(clippy::print_stdout, clippy::indexing_slicing, reason = "the figures of a run; members of JSON answers")]

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use anabranch_e2e::{Process, Stage, eventually, formats, kafka, scene::recount, variable};
use anabranch_oracle::{compare, offsets, queries, topic::Topic};
use anyhow::{Context, Result};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use serde_json::Value as Json;

#[path = "thread/planted.rs"]
mod planted;
#[path = "thread/readers.rs"]
mod readers;

/// More than the probes need on a slow machine; the simulator is stopped after them.
const EVENTS: &str = "1000000";
const RATE: &str = "1500";
const PROBES: usize = 30;
const TOPIC: &str = "server-live-status";

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_exact_while_events_flow_and_planted_faults_are_found() -> Result<()> {
    let mut stage = Stage::new("thread").await?;
    stage.set("ANABRANCH_BATCH__INCREMENTAL", "*/10 * * * * *");
    let simulator = stage.start(&["simulate", "server-status", "--count", EVENTS, "--rate", RATE, "--late", "0.1", "--malformed", "0.01"])?;
    let anabranch = stage.start(&["run"])?;
    let mut topic = flow(&stage, &anabranch).await?;
    assert!(simulator.stop().await?.success());
    after_the_flow(&stage, &anabranch, &mut topic).await?;
    // Until archive files are removed by hand, nobody has a reason to complain.
    assert_eq!(anabranch.complaints(&[])?, Vec::<String>::new());
    readers::read_the_archive_as_plain_parquet(&stage, &topic).await?;
    assert!(anabranch.stop().await?.success());
    planted::faults_are_found(&mut stage, &mut topic).await
}

/// What the topic holds beside the simulator's events: tombstones, events of 30 days ago and of tomorrow, an aborted and a
/// committed transaction.
fn disturb(round: usize) -> Result<()> {
    let producer: ThreadedProducer<DefaultProducerContext> = kafka().set("transactional.id", "e2e-disturb").create()?;
    let limit = Duration::from_secs(20);
    producer.init_transactions(limit)?;
    for commits in [false, true] {
        producer.begin_transaction()?;
        for number in 0..20 {
            let key = format!("{round}-{number}");
            producer.send(BaseRecord::<str, [u8]>::to(TOPIC).key(&key)).map_err(|(error, _)| error)?;
        }
        #[expect(clippy::disallowed_methods, reason = "an event far from now")]
        let now = chrono::Utc::now();
        for days in [-30, 1] {
            let event = serde_json::json!({
                "event_id": format!("{round}-{days}"), "event_server_status_color_name_severity_level": "Red|Severity 1",
                "event_datetime": (now + chrono::Duration::days(days)).format("%Y-%m-%d %H:%M:%S").to_string(),
            });
            producer.send(BaseRecord::<str, str>::to(TOPIC).payload(&event.to_string())).map_err(|(error, _)| error)?;
        }
        if commits { producer.commit_transaction(limit)? } else { producer.abort_transaction(limit)? }
    }
    Ok(())
}

/// Probes all views while events flow, as JSON and every other time in one more form; gives the topic as far as it was read.
async fn flow(stage: &Stage, anabranch: &Process) -> Result<Topic> {
    let (_, first) = queries().remove(0);
    let early = eventually("a first answer", Duration::from_secs(60), || anabranch.load(&first)).await?;
    let mut topic = Topic::open(&variable("ANABRANCH_KAFKA__BROKERS"), TOPIC)?;
    // Before the first version every answer is live alone: exact, too, but not what is to be shown here.
    topic.read_to(&offsets(&early))?;
    assert_eq!(compare("status_by_city", &early, &topic.records).wrong, None);
    eventually("a first version", Duration::from_secs(60), || async { Ok(anabranch.load(&first).await?.filter(|answer| answer["lambda"]["run"].is_i64())) })
        .await?;
    let mut probes = Probes::default();
    for probe in 0..PROBES {
        if probe % 5 == 1 {
            disturb(probe)?;
        }
        probes.ends.push_back((Instant::now(), topic.ends()?));
        tokio::time::sleep(Duration::from_secs(1)).await;
        for (view, query) in queries() {
            let answer = anabranch.load(&query).await?.context("no answer")?;
            probes.look_at(probe, view, &answer, &mut topic)?;
        }
        if probe % 2 == 0 {
            continue;
        }
        let form = formats::FORMS[probe / 2 % formats::FORMS.len()];
        for (view, query) in queries() {
            let Some(answer) = formats::ask(stage, anabranch, form, view, TOPIC, &query).await? else { continue };
            *probes.forms.entry(form).or_default() += recount(&mut topic, view, &answer).with_context(|| format!("{view} as {form}"))?;
        }
    }
    let Probes { cells, both, answers, runs, forms, .. } = probes;
    println!("{PROBES} probes, {cells} cells as JSON, {forms:?}, {both} of {answers} answers with both arms, versions {runs:?}");
    assert!(formats::FORMS.iter().all(|form| forms.get(form).is_some_and(|cells| *cells > 1000)), "{forms:?}");
    assert!(runs.len() >= 2, "at least two versions are published while events flow: {runs:?}");
    assert!(both * 10 >= answers * 8, "{both} of {answers} answers merged a version and live rows");
    eventually("100,000 events", Duration::from_secs(60), || async { Ok((topic.ends()?.values().sum::<i64>() >= 101_000).then_some(())) }).await?;
    Ok(topic)
}

#[derive(Default)]
struct Probes {
    /// The topic's ends, and when they were asked for.
    ends: VecDeque<(Instant, BTreeMap<i32, i64>)>,
    cells: usize,
    /// Cells that were asked for in another form.
    forms: BTreeMap<&'static str, usize>,
    both: usize,
    answers: usize,
    runs: BTreeSet<i64>,
}

impl Probes {
    /// An answer is fresh, and every cell of it is right.
    fn look_at(&mut self, probe: usize, view: &str, answer: &Json, topic: &mut Topic) -> Result<()> {
        let stated = offsets(answer);
        // What the topic's ends were two seconds before the question.
        let old = self.ends.iter().rev().find(|(at, _)| at.elapsed() >= Duration::from_secs(2)).map(|(_, ends)| ends.clone()).unwrap_or_default();
        for (partition, end) in &old {
            let at = stated.get(partition).copied().unwrap_or_default();
            assert!(at >= *end, "probe {probe}: {view} is not fresh: partition {partition} at {at} of {end}");
        }
        topic.read_to(&stated)?;
        let verdict = compare(view, answer, &topic.records);
        assert_eq!(verdict.wrong, None, "probe {probe} at {stated:?}");
        self.cells += verdict.cells;
        if view != "server_status_rejected" {
            self.answers += 1;
            self.both += usize::from(answer["lambda"]["version_groups"] != 0 && answer["lambda"]["live_groups"] != 0);
        }
        self.runs.extend(answer["lambda"]["run"].as_i64());
        Ok(())
    }
}

/// Every view answers at the topic's ends, and every cell is right.
async fn exact_at_the_ends(process: &Process, topic: &mut Topic) -> Result<()> {
    let ends = topic.ends()?;
    topic.read_to(&ends)?;
    for (view, query) in queries() {
        let answer = eventually("an answer at the topic's ends", Duration::from_secs(30), || async {
            Ok(process.load(&query).await?.filter(|answer| offsets(answer) == ends))
        })
        .await?;
        assert_eq!(compare(view, &answer, &topic.records).wrong, None);
    }
    Ok(())
}

/// Everything is covered, the archive tiles, the audit agrees, rejected records are counted.
async fn after_the_flow(stage: &Stage, anabranch: &Process, topic: &mut Topic) -> Result<()> {
    exact_at_the_ends(anabranch, topic).await?;
    println!("the topic holds {} records, ends {:?}", topic.records.len(), topic.ends()?);
    assert!(topic.records.len() >= 100_000);
    let (code, text) = stage.run(&["recompute"])?;
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = stage.run(&["verify"])?;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains(&format!("{} records, 0 faults", topic.records.len())), "every committed record is archived: {text}");
    let (code, text) = stage.run(&["recompute", "--full"])?;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("compared 3 views, 0 cells differ"), "{text}");
    let (code, text) = stage.run(&["status"])?;
    assert_eq!(code, Some(0), "{text}");
    for reason in ["not JSON", "not an object", "tombstone", "missing: event_id", "not a time: event_datetime"] {
        assert!(text.contains(reason), "{reason} is counted: {text}");
    }
    Ok(())
}
