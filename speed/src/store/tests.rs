//! The transactions on a real PostgreSQL: what the model cannot show, locks, snapshots and long texts.

use std::{sync::Arc, time::Duration};

use anabranch_core::{
    definition::{File, parse},
    protocol::PartitionRow,
};
use anabranch_process::{Catalog, catalog::definitions};
use anabranch_views::{Lookups, decode::RawRecord};
use tokio_postgres::{IsolationLevel, NoTls};

use super::*;
use crate::fold::Fold;

const PIPELINE: &str = "CREATE TABLE events (name TEXT) WITH (connector = 'kafka', topic = 'events', format = 'json');
    CREATE MATERIALIZED VIEW by_name AS SELECT name, count(*) AS events FROM events GROUP BY 1;";
const P: Partition = Partition(0);

/// A catalog of its own, with the definitions applied.
async fn catalog(name: &str) -> (Catalog, SourceDefinitions) {
    #[expect(clippy::disallowed_methods, reason = "the server of the tests is in the environment")]
    let url = std::env::var("ANABRANCH_POSTGRES__URL").expect("ANABRANCH_POSTGRES__URL is not set; run the tests by `make test`");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(&format!("DROP DATABASE IF EXISTS {name}")).await.unwrap();
    client.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    let catalog = Catalog::at(&format!("{}/{name}", url.rsplit_once('/').unwrap().0)).unwrap();
    catalog.migrate().await.unwrap();
    let pipeline = parse(&[File { path: "events.sql".into(), text: PIPELINE.into() }]).unwrap();
    let mut client = catalog.connect().await.unwrap();
    definitions::apply(&mut client, &pipeline).await.unwrap();
    let loaded = definitions::load(&client, "events").await.unwrap();
    (catalog, loaded)
}

async fn opened(client: &mut Client, definitions: &SourceDefinitions, partitions: &[Partition]) -> (EpochId, Fold) {
    let wanted: BTreeSet<Partition> = partitions.iter().copied().collect();
    let origins = partitions.iter().map(|partition| (*partition, Offset(0))).collect();
    let Opening::Done(opened) = open(client, definitions, &wanted, &origins, (None, None)).await.unwrap() else { panic!("the definitions are the newest") };
    (opened.epoch, Fold::new(definitions, &Lookups::default(), &opened.positions))
}

fn push(fold: &mut Fold, partition: Partition, offset: i64, name: &str) {
    let value = serde_json::json!({ "name": name }).to_string();
    fold.push(&RawRecord { partition: partition.0, offset, timestamp_micros: Some(0), key: None, value: Some(value.as_bytes()) });
}

async fn count(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

async fn row(client: &Client) -> PartitionRow {
    rows::partitions(client, "events").await.unwrap().remove(0).row
}

#[tokio::test(flavor = "multi_thread")]
async fn case_12_the_offset_is_that_of_the_last_folded_record() {
    let (catalog, definitions) = catalog("speed_case_12").await;
    let mut client = catalog.connect().await.unwrap();
    let (epoch, mut fold) = opened(&mut client, &definitions, &[P]).await;
    push(&mut fold, P, 0, "a");
    push(&mut fold, P, 1, "a");
    fold.fold().unwrap();
    // Fetched and decoded, but not folded: a flush does not speak of it.
    push(&mut fold, P, 2, "a");
    flush(&mut client, "events", epoch, &fold.take_changes().unwrap()).await.unwrap();
    assert_eq!(row(&client).await.next_offset, Offset(2));
    // An end of partition passes markers, in order with the records.
    fold.pass(P, Offset(5));
    fold.fold().unwrap();
    assert_eq!(fold.take_changes().unwrap().advances.first().map(|advance| (advance.from, advance.to)), Some((Offset(2), Offset(5))));
}

#[tokio::test(flavor = "multi_thread")]
async fn case_14_a_lock_returns_the_row_as_it_is_after_the_wait() {
    let (catalog, definitions) = catalog("speed_case_14").await;
    let mut first = catalog.connect().await.unwrap();
    opened(&mut first, &definitions, &[P]).await;
    let transaction = first.transaction().await.unwrap();
    transaction.execute("UPDATE partition SET next_offset = 7", &[]).await.unwrap();
    let mut second = catalog.connect().await.unwrap();
    let waiting = tokio::spawn(async move {
        let transaction = second.transaction().await.unwrap();
        lock(&transaction, "events", &[P]).await.unwrap()
    });
    let watcher = catalog.connect().await.unwrap();
    while count(&watcher, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()").await == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    transaction.commit().await.unwrap();
    assert_eq!(waiting.await.unwrap()[0].next_offset, Offset(7));
}

#[tokio::test(flavor = "multi_thread")]
async fn case_15_a_zombie_is_fenced_before_it_writes_or_locks_a_row() {
    let (catalog, definitions) = catalog("speed_case_15").await;
    let (mut old, mut new) = (catalog.connect().await.unwrap(), catalog.connect().await.unwrap());
    let (epoch, mut fold) = opened(&mut old, &definitions, &[P]).await;
    push(&mut fold, P, 0, "a");
    fold.fold().unwrap();
    opened(&mut new, &definitions, &[P]).await;
    // Somebody holds the zombie's live rows: were they written first, this would wait for ever.
    let table = definitions::live_table(&definitions.views.iter().find(|view| view.name == "by_name").unwrap().wanted);
    let holder = new.transaction().await.unwrap();
    holder.batch_execute(&format!("LOCK TABLE {table} IN EXCLUSIVE MODE")).await.unwrap();
    let error = tokio::time::timeout(Duration::from_secs(5), flush(&mut old, "events", epoch, &fold.take_changes().unwrap()))
        .await
        .expect("it does not wait")
        .unwrap_err();
    assert!(is_fenced(&error), "{error:#}");
    holder.rollback().await.unwrap();
    assert_eq!(count(&new, &format!("SELECT count(*) FROM {table}")).await, 0);
    assert_eq!(row(&new).await.next_offset, Offset(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn case_19_long_texts_nulls_and_strange_characters_are_flushed() {
    let (catalog, definitions) = catalog("speed_case_19").await;
    let mut client = catalog.connect().await.unwrap();
    let (epoch, mut fold) = opened(&mut client, &definitions, &[P]).await;
    // Longer than an index entry may be, were the text the key.
    for (offset, name) in (0..).zip(["x".repeat(100_000), "\u{1}\u{7f}\u{fffd}💥\\".to_owned(), "\u{0}".to_owned()]) {
        push(&mut fold, P, offset, &name);
    }
    fold.fold().unwrap();
    flush(&mut client, "events", epoch, &fold.take_changes().unwrap()).await.unwrap();
    let by_name = Arc::clone(definitions.definitions.values().find(|view| view.name == "by_name").unwrap());
    let rejected = Arc::clone(definitions.definitions.values().find(|view| view.over_rejected).unwrap());
    let rows = live::read(&client, &by_name, epoch).await.unwrap();
    assert_eq!(rows.len(), 2, "U+0000 is rejected at decoding");
    assert_eq!(count(&client, &format!("SELECT count(*) FROM {}", definitions::live_table(&rejected.fingerprint))).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn case_33_openings_with_overlapping_partitions_do_not_deadlock() {
    let (catalog, definitions) = catalog("speed_case_33").await;
    let mut client = catalog.connect().await.unwrap();
    opened(&mut client, &definitions, &[0, 1, 2, 3].map(Partition)).await;
    let mut workers = Vec::new();
    for worker in 0..6 {
        let (catalog, definitions) = (catalog.clone(), definitions.clone());
        workers.push(tokio::spawn(async move {
            let mut client = catalog.connect().await.unwrap();
            for round in 0..20 {
                let mine: Vec<Partition> = (0..4).filter(|partition| (worker + round + partition) % 3 != 0).rev().map(Partition).collect();
                opened(&mut client, &definitions, &mine).await;
            }
        }));
    }
    for worker in workers {
        worker.await.unwrap();
    }
    let open = "SELECT count(*) FROM epoch_range WHERE \"end\" IS NULL";
    assert_eq!(count(&client, open).await, 4, "each partition has one open range");
}

#[tokio::test(flavor = "multi_thread")]
async fn case_34_a_reader_in_a_snapshot_still_sees_pruned_rows() {
    let (catalog, definitions) = catalog("speed_case_34").await;
    let (mut writer, mut reader) = (catalog.connect().await.unwrap(), catalog.connect().await.unwrap());
    let (epoch, mut fold) = opened(&mut writer, &definitions, &[P]).await;
    push(&mut fold, P, 0, "a");
    fold.fold().unwrap();
    flush(&mut writer, "events", epoch, &fold.take_changes().unwrap()).await.unwrap();
    let snapshot = reader.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await.unwrap();
    assert_eq!(rows::epochs(&snapshot, "events").await.unwrap().len(), 1);
    let by_name = Arc::clone(definitions.definitions.values().find(|view| view.name == "by_name").unwrap());
    let table = definitions::live_table(&by_name.fingerprint);
    writer.execute(&format!("DELETE FROM {table} WHERE _epoch = $1"), &[&epoch.0]).await.unwrap();
    assert_eq!(live::read(&snapshot, &by_name, epoch).await.unwrap().len(), 1);
}
