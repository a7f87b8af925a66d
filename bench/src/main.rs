//! The raw limit: consumes a topic to its ends and decodes every record as strictly as the layers do (the whole grammar,
//! every declared column) into typed values of the columns that `status_by_city` needs, and nothing else. Prints how many
//! records there were, how many of them wrong, and a sum that keeps the work from being left out.
#![expect(clippy::print_stdout, reason = "prints its result")]

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
};
use serde::Deserialize;

const CALL_LIMIT: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
struct Event<'a> {
    event_id: Text<'a>,
    event_server_status_color_name_severity_level: Text<'a>,
    event_datetime: Text<'a>,
    event_server_type: Option<Text<'a>>,
    event_country_code: Option<Text<'a>>,
    event_country_name: Option<Text<'a>>,
    event_city_name: Option<Text<'a>>,
    event_estimated_issue_resolution_time: Option<i64>,
    event_server_status_other_param_1: Option<Text<'a>>,
    event_server_status_other_param_2: Option<Text<'a>>,
    event_server_status_other_param_3: Option<Text<'a>>,
    event_server_status_other_param_4: Option<Text<'a>>,
    event_server_status_other_param_5: Option<Text<'a>>,
    event_server_config_other_param_1: Option<Text<'a>>,
    event_server_config_other_param_2: Option<Text<'a>>,
    event_server_config_other_param_3: Option<Text<'a>>,
    event_server_config_other_param_4: Option<Text<'a>>,
    event_server_config_other_param_5: Option<Text<'a>>,
}

/// The seconds of `2026-01-31 12:00:00`.
fn seconds(text: &str) -> Option<i64> {
    let number =
        |from: usize, to: usize| text.get(from..to)?.bytes().try_fold(0u32, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u32::from(byte - b'0')));
    let separators =
        text.len() == 19 && [(4, "-"), (7, "-"), (10, " "), (13, ":"), (16, ":")].iter().all(|(at, separator)| text.get(*at..*at + 1) == Some(*separator));
    let date = chrono::NaiveDate::from_ymd_opt(i32::try_from(number(0, 4)?).ok()?, number(5, 7)?, number(8, 10)?).filter(|_| separators)?;
    Some(date.and_hms_opt(number(11, 13)?, number(14, 16)?, number(17, 19)?)?.and_utc().timestamp())
}

fn decode(value: Option<&[u8]>) -> Option<i64> {
    let event: Event<'_> = serde_json::from_str(std::str::from_utf8(value?).ok()?).ok()?;
    let texts = [&event.event_server_type, &event.event_country_code, &event.event_country_name, &event.event_city_name];
    let parameters = [
        [&event.event_server_status_other_param_1, &event.event_server_config_other_param_1],
        [&event.event_server_status_other_param_2, &event.event_server_config_other_param_2],
        [&event.event_server_status_other_param_3, &event.event_server_config_other_param_3],
        [&event.event_server_status_other_param_4, &event.event_server_config_other_param_4],
        [&event.event_server_status_other_param_5, &event.event_server_config_other_param_5],
    ];
    let given = [&event.event_id, &event.event_server_status_color_name_severity_level];
    if texts.into_iter().chain(parameters.into_iter().flatten()).flatten().chain(given).any(|text| text.0.contains('\0')) {
        return None;
    }
    std::hint::black_box((seconds(&event.event_datetime.0)?, texts)).0.checked_add(event.event_estimated_issue_resolution_time.unwrap_or(0))
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (brokers, topic) = arguments.next().zip(arguments.next()).context("usage: anabranch-raw BROKERS TOPIC")?;
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", "raw").set("isolation.level", "read_committed").set("enable.auto.commit", "false");
    let consumer: BaseConsumer =
        config.set("queued.max.messages.kbytes", "32768").set("fetch.queue.backoff.ms", "20").set("enable.partition.eof", "true").create()?;
    let metadata = consumer.fetch_metadata(Some(&topic), CALL_LIMIT)?;
    let mut waiting = BTreeMap::new();
    let mut list = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
        waiting.insert(partition.id(), ());
        list.add_partition_offset(&topic, partition.id(), Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let (mut records, mut rejected, mut sum) = (0u64, 0u64, 0i64);
    while !waiting.is_empty() {
        match consumer.poll(CALL_LIMIT).context("nothing comes")? {
            Ok(message) => match decode(message.payload()) {
                Some(value) => (records, sum) = (records + 1, sum.wrapping_add(value)),
                None => (records, rejected) = (records + 1, rejected + 1),
            },
            Err(KafkaError::PartitionEOF(partition)) => drop(waiting.remove(&partition)),
            Err(error) => return Err(error.into()),
        }
    }
    println!("{records} records, {rejected} rejected, sum {sum}");
    Ok(())
}
