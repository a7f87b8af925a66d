//! `anabranch query`: the serving API from a shell.
#![expect(clippy::indexing_slicing, reason = "members of a JSON answer; a missing one is NULL")]

use std::{io::Write as _, process::ExitCode, time::Duration};

use anabranch_process::{
    Settings,
    failure::{NotReady, Refused, Unreachable},
};
use anyhow::Result;
use serde_json::{Value as Json, json};

use crate::{
    arguments::{Format, QueryArguments},
    show,
};

const REFRESH: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(10);

pub(crate) async fn run(settings: &Settings, arguments: &QueryArguments) -> Result<ExitCode> {
    let query = query_of(arguments)?;
    let url = format!("http://{}/v1/load", settings.serving.listen);
    let client = reqwest::Client::builder().timeout(LIMIT).build()?;
    loop {
        let sent = client.post(&url).json(&serde_json::json!({ "query": query })).send().await;
        let response = match sent {
            Ok(response) => response,
            Err(_) if arguments.watch => {
                tokio::time::sleep(REFRESH).await;
                continue;
            }
            Err(error) => return Err(Unreachable { service: "the serving API", address: url, cause: error.into() }.into()),
        };
        let status = response.status();
        let answer: Json = response.json().await?;
        if status.is_client_error() {
            return Err(Refused(answer["detail"].as_str().unwrap_or("the query was refused").to_owned()).into());
        }
        if !status.is_success() && !arguments.watch {
            return Err(NotReady { service: "the serving API", reason: answer["detail"].as_str().unwrap_or(status.as_str()).to_owned() }.into());
        }
        if arguments.json {
            println!("{}", serde_json::to_string_pretty(&answer)?);
            return Ok(ExitCode::SUCCESS);
        }
        let text = match (status.is_success(), arguments.format) {
            (false, _) => format!("{}\n", answer["detail"].as_str().unwrap_or("not ready")),
            (true, Format::Table) => shown(&answer),
            (true, Format::Csv) => comma_separated(&answer)?,
            (true, Format::Json) => format!("{}\n", serde_json::to_string_pretty(&answer["data"])?),
        };
        if !arguments.watch {
            print!("{text}");
            return Ok(ExitCode::SUCCESS);
        }
        // Home, then clear what was below: the table refreshes in place.
        print!("\x1b[H\x1b[J{text}");
        std::io::stdout().flush()?;
        tokio::time::sleep(REFRESH).await;
    }
}

/// The query that the flags spell, or that is written as JSON.
fn query_of(arguments: &QueryArguments) -> Result<Json> {
    if let Some(text) = &arguments.query {
        let text = match text.strip_prefix('@') {
            Some(path) => std::fs::read_to_string(path).map_err(|error| Refused(format!("{path}: {error}")))?,
            None => text.clone(),
        };
        return Ok(serde_json::from_str(&text).map_err(|error| Refused(format!("the query is not JSON: {error}")))?);
    }
    let mut query = json!({ "measures": arguments.measure, "dimensions": arguments.dimension });
    if let Some(time) = &arguments.time {
        let mut parts = time.splitn(3, ':');
        let mut dimension = json!({ "dimension": parts.next() });
        if let Some(granularity) = parts.next().filter(|granularity| !granularity.is_empty()) {
            dimension["granularity"] = json!(granularity);
        }
        if let Some(range) = parts.next() {
            dimension["dateRange"] = json!(range.split("..").collect::<Vec<_>>());
        }
        query["timeDimensions"] = json!([dimension]);
    }
    let filters = arguments.filter.iter().map(|text| filter(text)).collect::<Result<Vec<_>>>()?;
    let order: Vec<Json> = arguments
        .order
        .iter()
        .map(|text| text.split_once(':').map_or_else(|| json!([text, "asc"]), |(member, direction)| json!([member, direction])))
        .collect();
    for (key, list) in [("filters", filters), ("order", order)] {
        if !list.is_empty() {
            query[key] = Json::Array(list);
        }
    }
    if let Some(limit) = arguments.limit {
        query["limit"] = json!(limit);
    }
    if arguments.ungrouped {
        query["ungrouped"] = json!(true);
    }
    Ok(query)
}

fn filter(text: &str) -> Result<Json> {
    let (member, operator, values) = match (text.split_once("!="), text.split_once('=')) {
        (Some((member, values)), _) => (member, "notEquals", values),
        (None, Some((member, values))) => (member, "equals", values),
        (None, None) => return Err(Refused(format!("\"{text}\" is not a condition; as member=value or member!=value")).into()),
    };
    let values: Vec<Json> = values.split(',').map(|value| if value == "NULL" { Json::Null } else { json!(value) }).collect();
    Ok(json!({ "member": member.trim(), "operator": operator, "values": values }))
}

/// The columns of an answer, and how many of them are keys.
fn columns(answer: &Json) -> (Vec<String>, usize) {
    let query = &answer["query"];
    let list = |key: &str| query[key].as_array().into_iter().flatten().filter_map(|member| member.as_str().map(str::to_owned)).collect::<Vec<_>>();
    let mut columns = list("dimensions");
    for time in query["timeDimensions"].as_array().into_iter().flatten() {
        if let (Some(dimension), Some(granularity)) = (time["dimension"].as_str(), time["granularity"].as_str()) {
            columns.push(format!("{dimension}.{granularity}"));
        }
    }
    let keys = columns.len();
    columns.extend(list("measures"));
    (columns, keys)
}

fn comma_separated(answer: &Json) -> Result<String> {
    let (columns, _) = columns(answer);
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(&columns)?;
    for row in answer["data"].as_array().into_iter().flatten() {
        writer.write_record(columns.iter().map(|column| match &row[column] {
            Json::Null => String::new(),
            Json::String(text) => text.clone(),
            other => other.to_string(),
        }))?;
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}

fn shown(answer: &Json) -> String {
    let (columns, keys) = columns(answer);
    let short: Vec<&str> = columns.iter().map(|column| column.split_once('.').map_or(column.as_str(), |(_, name)| name)).collect();
    let mut table = show::table(short, &(keys..columns.len()).collect::<Vec<_>>());
    for row in answer["data"].as_array().into_iter().flatten() {
        table.add_row(columns.iter().map(|column| match &row[column] {
            Json::Null => "NULL".to_owned(),
            Json::String(text) => text.clone(),
            other => other.to_string(),
        }));
    }
    let lambda = &answer["lambda"];
    let version = lambda["run"].as_i64().map_or_else(|| "none yet".to_owned(), |run| format!("run {run}"));
    // A view over a reference alone has none.
    let mut offsets = "none".to_owned();
    for (topic, partitions) in lambda["offsets"].as_object().into_iter().flatten() {
        let list: Vec<String> = partitions.as_object().into_iter().flatten().map(|(partition, offset)| format!("{partition}:{offset}")).collect();
        offsets = format!("{topic} {}", list.join(" "));
    }
    let errors: Vec<String> = answer["errors"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|error| {
            format!(
                "\nrow {}, {}: {}",
                error["row"].as_u64().map_or(0, |row| row + 1),
                error["member"].as_str().unwrap_or_default(),
                error["error"].as_str().unwrap_or_default()
            )
        })
        .collect();
    let rows = answer["data"].as_array().map_or(0, Vec::len);
    let errors = errors.concat();
    let lag = lambda["lag_records"].as_i64().map_or_else(|| "unknown".to_owned(), |records| format!("{records} records"));
    format!("{table}\n({rows} rows){errors}\noffsets  {offsets}\nlag      {lag}\nversion  {version}\n")
}
