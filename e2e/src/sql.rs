//! Views in SQL, asked as the oracle wants answers.
#![expect(clippy::indexing_slicing, reason = "members of JSON answers")]

use anyhow::Result;
use chrono::{NaiveDate, NaiveDateTime};
use serde_json::{Value as Json, json};
use tokio_postgres::Client;

/// Views of the shipped pipelines of which SQL has every cell.
pub const WHOLE_VIEWS: [&str; 3] = ["status_by_city", "songplays", "songs"];

/// A view's rows in SQL, in the form of an answer of the API, with the offsets that they cover; one statement, one snapshot.
///
/// # Errors
/// When PostgreSQL refuses or does not answer.
pub async fn ask(client: &Client, view: &str, topic: &str) -> Result<Json> {
    let sql = format!(
        "SELECT coalesce(jsonb_agg(to_jsonb(rows)), '[]'), (SELECT to_jsonb(about) FROM anabranch.answer_of('{view}') AS about)
         FROM serving.\"{view}\" AS rows"
    );
    let row = client.query_one(&sql, &[]).await?;
    let (rows, about): (Json, Json) = (row.get(0), row.get(1));
    let data: Vec<Json> = rows.as_array().into_iter().flatten().map(|row| named(view, row)).collect();
    Ok(json!({"data": data, "lambda": {"run": about["run"], "coverage": {topic: about["coverage"]}, "offsets": {topic: about["offsets"]}}}))
}

/// Members by their full names; times as the API writes them; a row of a row view counts as one.
fn named(view: &str, row: &Json) -> Json {
    let mut named = serde_json::Map::from_iter([(format!("{view}.count"), json!(1))]);
    for (name, value) in row.as_object().into_iter().flatten() {
        let text = value.as_str();
        let day = text.and_then(|text| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()).map(NaiveDateTime::from);
        let time = text.and_then(|text| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").ok()).or(day);
        let value = time.map_or_else(|| value.clone(), |time| time.format("%Y-%m-%dT%H:%M:%S%.3f").to_string().into());
        named.insert(format!("{view}.{name}"), value);
    }
    named.into()
}
