//! The API in full: every way to ask gives what the recount computes.
#![expect(clippy::indexing_slicing, reason = "members of JSON answers")]

use std::collections::{BTreeMap, BTreeSet};

use anabranch_e2e::{
    Process, formats,
    scene::{Running, Scene, recount, serving},
};
use anyhow::{Context, Result, ensure};
use serde_json::{Value as Json, json};

const KEYS: [&str; 3] = ["status_by_city.minute", "status_by_city.city", "status_by_city.status_color"];
const MEASURES: [&str; 3] = ["status_by_city.messages", "status_by_city.resolution_time", "status_by_city.avg_resolution_time"];

/// An answer with its status and headers.
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

async fn ask(process: &Process, route: &str, query: &Json, headers: &[(&str, &str)]) -> Result<Answer> {
    let mut request = reqwest::Client::new().post(format!("{}{route}", process.url)).json(query);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await?;
    let headers = response.headers().iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned())).collect();
    Ok(Answer { status: response.status().as_u16(), headers, body: response.bytes().await?.to_vec() })
}

async fn rows(process: &Process, query: &Json) -> Result<Vec<Json>> {
    let answer = ask(process, "/v1/load", query, &[]).await?;
    let body: Json = serde_json::from_slice(&answer.body)?;
    ensure!(answer.status == 200, "{query}: {body}");
    Ok(body["data"].as_array().context("no data")?.clone())
}

/// The client's own, or a new one.
async fn request_ids(process: &Process) -> Result<()> {
    let query = json!({"measures": [MEASURES[0]]});
    for (sent, length) in [(&[("x-request-id", "mine")][..], 4), (&[], 36)] {
        let answer = ask(process, "/v1/load", &query, sent).await?;
        let id = answer.headers.get("x-request-id").context("no id")?;
        ensure!(id.len() == length && (sent.is_empty() || id == "mine"), "{id}");
    }
    Ok(())
}

fn number(value: &Json) -> f64 {
    value.as_f64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_default()
}

/// The sum of a measure over rows.
fn sum(rows: &[Json], measure: &str) -> f64 {
    rows.iter().map(|row| number(&row[measure])).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_ask_gives_what_the_recount_computes() -> Result<()> {
    let mut scene = Scene::new("asked", "800").await?;
    let running = scene.begin().await?;
    // The same views without memory for their versions.
    scene.stage.set("ANABRANCH_SERVING__MEMORY_BYTES", "0");
    let from_files = scene.stage.start(&["serve"])?;
    follow(&mut scene, &running).await?;
    scene.fresh_from_now(&from_files).await?;
    // Everything stands still, and every cell was recounted at the topic's ends.
    scene.finish(serving(&running)?).await?;
    let process = serving(&running)?;
    request_ids(process).await?;
    let all_query = json!({"dimensions": KEYS, "measures": MEASURES, "limit": 50_000});
    let all = rows(process, &all_query).await?;
    ensure!(all.len() > 100, "{} rows", all.len());
    vocabulary(process, &all).await?;
    each_format(&scene, process, &all_query, &all).await?;
    several(process, &all).await?;
    the_same(process, &from_files, &all_query).await?;
    rejected(&scene, process).await
}

/// A view over its budget answers out of local files what it answers out of memory.
async fn the_same(process: &Process, from_files: &Process, all: &Json) -> Result<()> {
    let of_time = |range: &str| json!({"dimension": "status_by_city.minute", "granularity": "hour", "dateRange": range});
    let queries = [
        all.clone(),
        json!({"measures": [MEASURES[2]], "dimensions": [KEYS[1]]}),
        json!({"dimensions": [KEYS[2]]}),
        json!({"measures": [MEASURES[0]], "timeDimensions": [of_time("last 2 hours")]}),
        json!({"measures": [MEASURES[1]], "timeDimensions": [of_time("from 90 minutes ago to now")], "filters": [{"member": MEASURES[0], "operator": "gt", "values": ["3"]}]}),
        json!({"measures": ["status_by_server_type.distinct_events", "status_by_server_type.p95_resolution_time", "status_by_server_type.latest_status"],
            "dimensions": ["status_by_server_type.server_type"]}),
    ];
    for query in queries {
        let (of_memory, of_files) = (rows(process, &query).await?, rows(from_files, &query).await?);
        ensure!(!of_memory.is_empty() && of_memory == of_files, "{query}: {} rows out of memory, {} out of files", of_memory.len(), of_files.len());
    }
    for (process, held) in [(process, "memory"), (from_files, "local files")] {
        let explained: Json = serde_json::from_slice(&ask(process, "/v1/explain", all, &[]).await?.body)?;
        let stands_on = &explained["queries"][0]["stands_on"];
        ensure!(stands_on["parts_held_in"] == held && number(&stands_on["lambda"]["version_groups"]) > 100.0, "{stands_on}");
    }
    Ok(())
}

/// The newest rejected records, as they are in the topic.
async fn rejected(scene: &Scene, process: &Process) -> Result<()> {
    let get = |parameters: &str| reqwest::get(format!("{}/v1/rejected?{parameters}", process.url));
    let found: Json = get("source=server_status&limit=30").await?.json().await?;
    let records = found["records"].as_array().context("no records")?;
    ensure!(records.len() == 30 && found["complete"] == true && found["unarchived"] == 0, "{found}");
    for record in records {
        let (partition, offset) = (record["partition"].as_i64(), record["offset"].as_i64());
        let known = scene.topic.records.iter().find(|known| (Some(i64::from(known.partition)), Some(known.offset)) == (partition, offset));
        ensure!(known.is_some_and(|known| known.event.is_err()) && record["reason"].is_string(), "{record}");
    }
    let reason = &records[0]["reason"];
    let some: Json = get(&format!("source=server_status&reason={}", reason.as_str().context("no reason")?)).await?.json().await?;
    ensure!(some["records"].as_array().is_some_and(|some| !some.is_empty() && some.iter().all(|record| record["reason"] == *reason)), "{some}");
    for (parameters, status) in [("", 400), ("source=server_status&limit=1000", 400), ("source=server_status&partition=x", 400), ("source=nobody", 404)] {
        ensure!(get(parameters).await?.status() == status, "{parameters}");
    }
    Ok(())
}

/// Answers come by themselves while events flow, and each is right.
async fn follow(scene: &mut Scene, running: &Running) -> Result<()> {
    let query = json!({"dimensions": ["status_by_server_type.hour", "status_by_server_type.server_type"],
        "measures": ["status_by_server_type.messages", "status_by_server_type.distinct_events", "status_by_server_type.p95_resolution_time", "status_by_server_type.latest_status"],
        "limit": 50_000});
    let url = format!("{}/v1/stream", serving(running)?.url);
    let mut response = reqwest::Client::new().get(url).query(&[("query", query.to_string()), ("maxPerSecond", "4".to_owned())]).send().await?;
    ensure!(response.headers()["content-type"] == "text/event-stream");
    let (mut text, mut answers, mut tags) = (String::new(), 0, BTreeSet::new());
    let began = std::time::Instant::now();
    while answers < 20 {
        ensure!(began.elapsed() < std::time::Duration::from_secs(60), "{answers} answers in a minute");
        let chunk = response.chunk().await?.context("the stream ended")?;
        text.push_str(std::str::from_utf8(&chunk)?);
        while let Some((event, rest)) = text.split_once("\n\n").map(|(event, rest)| (event.to_owned(), rest.to_owned())) {
            text = rest;
            let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
            let Some(data) = field("data: ") else { continue };
            if field("event: ").as_deref() == Some("lambda") {
                let lambdas: Vec<Json> = serde_json::from_str(&data)?;
                ensure!(lambdas.len() == 1 && lambdas[0]["offsets"].is_object(), "{event}");
                continue;
            }
            ensure!(field("event: ").as_deref() == Some("answer"), "{event}");
            ensure!(tags.insert(field("id: ").context("no id")?), "an answer came twice");
            scene.cells += recount(&mut scene.topic, "status_by_server_type", &serde_json::from_str(&data)?)?;
            answers += 1;
        }
    }
    // Four a second, and one at once.
    ensure!(began.elapsed() > std::time::Duration::from_secs(4), "20 answers in {:?}", began.elapsed());
    Ok(())
}

/// Filters, segments, pages and zones against the rows of the whole answer.
async fn vocabulary(process: &Process, all: &[Json]) -> Result<()> {
    let (city, color, messages) = ("status_by_city.city", "status_by_city.status_color", "status_by_city.messages");
    let text = |row: &Json, member: &str| row[member].as_str().unwrap_or_default().to_lowercase();
    let leaf = |member: &str, operator: &str, values: Json| json!({"member": member, "operator": operator, "values": values});
    type Holds = Box<dyn Fn(&Json) -> bool>;
    let cases: Vec<(Json, Holds)> = vec![
        (leaf(color, "equals", json!(["Red"])), Box::new(move |row| text(row, color) == "red")),
        (leaf(color, "notEquals", json!(["Red", "Green"])), Box::new(move |row| text(row, color) == "orange")),
        (leaf(city, "contains", json!(["BER"])), Box::new(move |row| text(row, city).contains("ber"))),
        (leaf(city, "notContains", json!(["a"])), Box::new(move |row| !text(row, city).contains('a'))),
        (leaf(city, "startsWith", json!(["l", "m"])), Box::new(move |row| text(row, city).starts_with(['l', 'm']))),
        (leaf(city, "notEndsWith", json!(["o"])), Box::new(move |row| !text(row, city).ends_with('o'))),
        (leaf(city, "set", Json::Null), Box::new(|_| true)),
        (leaf(city, "notSet", Json::Null), Box::new(|_| false)),
        (
            json!({"or": [leaf(color, "equals", json!(["Red"])), {"and": [leaf(city, "startsWith", json!(["b"])), leaf(color, "equals", json!(["Green"]))]}]}),
            Box::new(move |row| text(row, color) == "red" || (text(row, city).starts_with('b') && text(row, color) == "green")),
        ),
        (leaf(messages, "gt", json!([2])), Box::new(move |row| number(&row[messages]) > 2.0)),
        (leaf(messages, "lte", json!(["2"])), Box::new(move |row| number(&row[messages]) <= 2.0)),
    ];
    let mut shown = 0;
    for (filter, holds) in cases {
        let found = rows(process, &json!({"dimensions": KEYS, "measures": MEASURES, "limit": 50_000, "filters": [filter]})).await?;
        let expected: Vec<&Json> = all.iter().filter(|row| holds(row)).collect();
        ensure!(found.len() == expected.len(), "{filter}: {} rows, {} expected", found.len(), expected.len());
        let total: f64 = expected.iter().map(|row| number(&row[messages])).sum();
        ensure!((sum(&found, messages) - total).abs() < 0.5, "{filter}");
        shown += 1;
    }
    ensure!(shown >= 11);
    // Pages.
    let (mut paged, mut offset) = (Vec::new(), 0);
    loop {
        let query =
            json!({"dimensions": KEYS, "measures": MEASURES, "limit": 97, "offset": offset, "total": true, "order": [["status_by_city.messages", "desc"]]});
        let answer: Json = serde_json::from_slice(&ask(process, "/v1/load", &query, &[]).await?.body)?;
        ensure!(answer["total"] == all.len(), "{}", answer["total"]);
        let page = answer["data"].as_array().context("no data")?.clone();
        if page.is_empty() {
            break;
        }
        offset += page.len();
        paged.extend(page);
    }
    ensure!(paged.len() == all.len() && paged.windows(2).all(|pair| number(&pair[0][messages]) >= number(&pair[1][messages])));
    // A zone two hours ahead of the other shows the same events two hours later.
    let by_hour = |zone: &str| json!({"measures": [messages], "timeDimensions": [{"dimension": "status_by_city.minute", "granularity": "hour"}], "timezone": zone, "limit": 50_000});
    let (utc, there) = (rows(process, &by_hour("UTC")).await?, rows(process, &by_hour("Etc/GMT-2")).await?);
    let hours = |rows: &[Json]| {
        rows.iter().map(|row| (row["status_by_city.minute.hour"].as_str().unwrap_or_default().to_owned(), number(&row[messages]))).collect::<BTreeMap<_, _>>()
    };
    let later: BTreeMap<String, f64> = hours(&utc)
        .into_iter()
        .filter_map(|(hour, count)| {
            let time = chrono::NaiveDateTime::parse_from_str(&hour, "%Y-%m-%dT%H:%M:%S%.3f").ok()?;
            Some(((time + chrono::Duration::hours(2)).format("%Y-%m-%dT%H:%M:%S%.3f").to_string(), count))
        })
        .collect();
    ensure!(hours(&there) == later && later.len() > 1);
    Ok(())
}

/// The same cells in each format, read back by pyarrow and `DuckDB`.
async fn each_format(scene: &Scene, process: &Process, query: &Json, all: &[Json]) -> Result<()> {
    let mut tag = String::new();
    for format in ["csv", "ndjson", "arrow", "parquet"] {
        let media_type = formats::media_type(format);
        let answer = ask(process, "/v1/load", query, &[("accept", media_type)]).await?;
        ensure!(answer.status == 200 && answer.headers["content-type"] == media_type, "{format}: {}", answer.status);
        let lambda: Json = serde_json::from_str(&answer.headers["anabranch-lambda"])?;
        ensure!(lambda["offsets"].is_object());
        let read = formats::read(&scene.stage, format, &answer.body)?;
        let found = read["rows"].as_array().context("no rows")?;
        ensure!(found.len() == all.len(), "{format}: {} rows of {}", found.len(), all.len());
        for (row, expected) in found.iter().zip(all) {
            for name in KEYS {
                ensure!(row[name] == expected[name], "{format} {name}: {} is not {}", row[name], expected[name]);
            }
            for name in MEASURES {
                ensure!((number(&row[name]) - number(&expected[name])).abs() < 1e-9, "{format} {name}: {} is not {}", row[name], expected[name]);
            }
        }
        if matches!(format, "arrow" | "parquet") {
            ensure!(read["metadata"]["lambda"].as_str().is_some_and(|lambda| lambda.contains("offsets")), "{format}: {}", read["metadata"]);
        }
        ensure!(answer.headers["etag"] != tag, "each format has a tag of its own");
        tag.clone_from(&answer.headers["etag"]);
    }
    // Nothing moved: the client has it.
    let known = ask(process, "/v1/load", query, &[("accept", "application/vnd.apache.parquet"), ("if-none-match", &tag)]).await?;
    ensure!(known.status == 304 && known.body.is_empty());
    let refused = ask(process, "/v1/load", query, &[("accept", "image/png")]).await?;
    ensure!(refused.status == 406 && refused.headers["content-type"] == "application/problem+json");
    Ok(())
}

/// Comparisons, blending, and the routes beside `load`.
async fn several(process: &Process, all: &[Json]) -> Result<()> {
    let messages = "status_by_city.messages";
    let time = json!({"dimension": "status_by_city.minute", "granularity": "day", "compareDateRange": ["today", "yesterday"]});
    let answer: Json = serde_json::from_slice(&ask(process, "/v1/load", &json!({"measures": [messages], "timeDimensions": [time]}), &[]).await?.body)?;
    ensure!(answer["queryType"] == "compareDateRangeQuery" && answer["results"].as_array().map(Vec::len) == Some(2), "{answer}");
    ensure!(answer["results"][0]["data"][0]["compareDateRange"].as_str().is_some_and(|range| range.contains(" - ")), "{answer}");
    let both = json!([{"measures": [messages]}, {"measures": ["status_by_server_type.messages"]}]);
    let answer: Json = serde_json::from_slice(&ask(process, "/v1/load", &both, &[]).await?.body)?;
    let total = sum(all, messages);
    ensure!(
        answer["queryType"] == "blendingQuery" && (number(&answer["results"][1]["data"][0]["status_by_server_type.messages"]) - total).abs() < 0.5,
        "{answer}"
    );
    let query = json!({"measures": [messages], "timeDimensions": [{"dimension": "status_by_city.minute", "dateRange": "last 7 days"}]});
    let dry: Json = serde_json::from_slice(&ask(process, "/v1/dry-run", &query, &[]).await?.body)?;
    ensure!(dry["normalizedQueries"][0]["timeDimensions"][0]["dateRange"].as_array().map(Vec::len) == Some(2), "{dry}");
    let explained: Json = serde_json::from_slice(&ask(process, "/v1/explain", &query, &[]).await?.body)?;
    ensure!(explained["queries"][0]["stands_on"]["lambda"]["run"].is_i64() && explained["queries"][0]["stands_on"]["parts"].is_object(), "{explained}");
    for (query, kind) in [
        (json!({"measures": ["status_by_city.message"]}), "unknown_member"),
        (json!({"measures": [messages], "timezone": "Mars/Olympus"}), "unknown_timezone"),
        (json!({"measures": [messages], "what": 1}), "bad_query"),
    ] {
        let answer = ask(process, "/v1/load", &query, &[]).await?;
        let body: Json = serde_json::from_slice(&answer.body)?;
        ensure!(answer.status == 400 && body["type"] == format!("urn:anabranch:{kind}") && body["error"].is_string(), "{body}");
    }
    Ok(())
}
