//! `anabranch query`: the serving API from a shell.
#![expect(clippy::indexing_slicing, reason = "members of a JSON answer; a missing one is NULL")]

use std::{io::Write as _, process::ExitCode, time::Duration};

use anabranch_process::{
    Settings,
    failure::{Refused, Unreachable},
};
use anyhow::Result;
use serde_json::Value as Json;

use crate::{arguments::QueryArguments, show};

const REFRESH: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(10);

pub(crate) async fn run(settings: &Settings, arguments: &QueryArguments) -> Result<ExitCode> {
    let query: Json = serde_json::from_str(&arguments.query).map_err(|error| Refused(format!("the query is not JSON: {error}")))?;
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
        if arguments.json {
            println!("{}", serde_json::to_string_pretty(&answer)?);
            return Ok(ExitCode::SUCCESS);
        }
        let text = if status.is_success() { shown(&answer) } else { format!("{}\n", answer["detail"].as_str().unwrap_or("not ready")) };
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

fn shown(answer: &Json) -> String {
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
    let mut offsets = String::new();
    for (topic, partitions) in lambda["offsets"].as_object().into_iter().flatten() {
        let list: Vec<String> = partitions.as_object().into_iter().flatten().map(|(partition, offset)| format!("{partition}:{offset}")).collect();
        offsets = format!("{topic} {}", list.join(" "));
    }
    format!("{table}\noffsets  {offsets}\nlag      {} records\nversion  {version}\n", lambda["lag_records"])
}
