//! References: files that events are joined to, read, copied, changed; and definitions that are mended.
#![expect(clippy::indexing_slicing, reason = "members of JSON answers")]

use std::collections::BTreeMap;

use anabranch_e2e::{
    Process, Stage,
    clicks::{LIMIT, applied, produce, recompute},
    create_topic, eventually,
};
use anyhow::{Context, Result};
use serde_json::{Value as Json, json};

/// Clicks on pages, and a reference that says where a page belongs.
fn pipeline(topic: &str, path: &str, join: &str, options: &str) -> String {
    format!(
        "CREATE TABLE {topic} (page TEXT NOT NULL, number BIGINT)
         WITH (connector = 'kafka', topic = '{topic}', format = 'json');
         CREATE TABLE sections (page TEXT, section TEXT, weight BIGINT) WITH (connector = 'filesystem', path = '{path}'{options});
         CREATE MATERIALIZED VIEW by_section AS
         SELECT s.section, count(*) AS clicks, sum(s.weight) AS weight FROM {topic} AS e {join} sections AS s ON e.page = s.page GROUP BY 1;
         CREATE MATERIALIZED VIEW section_sizes AS SELECT section, count(*) AS pages FROM sections GROUP BY 1;"
    )
}

const JSON_OPTIONS: &str = ", format = 'json'";

fn click(page: &str) -> Json {
    json!({"page": page, "number": 1})
}

async fn sections(process: &Process, wanted: &[(&str, i64)]) -> Result<()> {
    let query = json!({"dimensions": ["by_section.section"], "measures": ["by_section.clicks"]});
    counts(process, &query, "by_section.section", "by_section.clicks", wanted).await
}

async fn counts(process: &Process, query: &Json, key: &str, measure: &str, wanted: &[(&str, i64)]) -> Result<()> {
    let wanted: BTreeMap<String, i64> = wanted.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    eventually(&format!("{wanted:?}"), LIMIT, || async {
        let Some(answer) = process.load(query).await? else { return Ok(None) };
        let rows = answer["data"].as_array().context("no data")?.iter();
        let found: BTreeMap<String, i64> =
            rows.map(|row| (row[key].as_str().unwrap_or("NULL").to_owned(), row[measure].as_i64().unwrap_or_default())).collect();
        Ok((found == wanted).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_changed_reference_rebuilds_its_views_and_the_old_one_serves_meanwhile() -> Result<()> {
    let mut stage = Stage::new("joined").await?;
    create_topic("joined", 2).await?;
    let file = stage.folder().join("sections.json");
    std::fs::write(&file, "{\"page\": \"a\", \"section\": \"news\", \"weight\": 2}\n\n{\"page\": \"b\", \"section\": \"sport\", \"weight\": 3}\n")?;
    stage.pipeline(&pipeline("joined", &file.display().to_string(), "LEFT JOIN", JSON_OPTIONS))?;
    produce("joined", 0, &[click("a"), click("b"), click("c")])?;
    let process = stage.start(&["run"])?;
    sections(&process, &[("news", 1), ("sport", 1), ("NULL", 1)]).await?;
    recompute(&stage)?;
    produce("joined", 1, &[click("a")])?;
    sections(&process, &[("news", 2), ("sport", 1), ("NULL", 1)]).await?;
    let sizes = json!({"dimensions": ["section_sizes.section"], "measures": ["section_sizes.pages"]});
    counts(&process, &sizes, "section_sizes.section", "section_sizes.pages", &[("news", 1), ("sport", 1)]).await?;
    // A file that changes changes nothing until it is applied: both arms read the warehouse's copy.
    std::fs::write(&file, "{\"page\": \"c\", \"section\": \"news\"}\n{\"page\": \"a\", \"section\": \"art\", \"weight\": 1}\n")?;
    produce("joined", 0, &[click("b")])?;
    sections(&process, &[("news", 2), ("sport", 2), ("NULL", 1)]).await?;
    let (code, text) = stage.run(&["apply"])?;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("joined: by_section will be built from"), "the cost is said: {text}");
    produce("joined", 1, &[click("c")])?;
    // The old content answers, live rows included, until a run has built the new one.
    sections(&process, &[("news", 2), ("sport", 2), ("NULL", 2)]).await?;
    eventually("a run with the new content", LIMIT, || async {
        recompute(&stage)?;
        Ok(process.load(&json!({"dimensions": ["by_section.section"]})).await?.filter(|answer| answer["data"].to_string().contains("art")))
    })
    .await?;
    sections(&process, &[("art", 2), ("news", 2), ("NULL", 2)]).await?;
    counts(&process, &sizes, "section_sizes.section", "section_sizes.pages", &[("art", 1), ("news", 1)]).await?;
    let (code, text) = stage.run(&["recompute", "--full"])?;
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(process.complaints(&[])?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn references_are_read_from_json_csv_and_parquet_in_files_folders_and_patterns() -> Result<()> {
    let mut stage = Stage::new("formats").await?;
    create_topic("formats", 1).await?;
    let folder = stage.folder().join("sections");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("one.csv"), "page,section,weight\na,\"news, daily\",2\nb,,\n")?;
    std::fs::write(folder.join("two.csv"), "weight,page,section\n3,c,sport\n")?;
    std::fs::write(folder.join("_hidden.csv"), "nonsense")?;
    produce("formats", 0, &[click("a"), click("b"), click("c"), click("d")])?;
    let folder = folder.display().to_string();
    stage.pipeline(&pipeline("formats", &folder, "JOIN", ", format = 'csv'"))?;
    let process = stage.start(&["run"])?;
    sections(&process, &[("news, daily", 1), ("NULL", 1), ("sport", 1)]).await?;
    // Only the second file.
    stage.pipeline(&pipeline("formats", &format!("{folder}/t*.csv"), "JOIN", ", format = 'csv'"))?;
    let (code, text) = stage.run(&["check"])?;
    assert_eq!((code, text.contains("reference sections: 1 rows")), (Some(0), true), "{text}");
    // Parquet, as the warehouse's own copy is; by its path on HDFS.
    let database = stage.database().await?;
    let resolved: Json = database.query_one("SELECT resolved FROM definition WHERE view = 'section_sizes' LIMIT 1", &[]).await?.get(0);
    let content = resolved["source"]["files"]["content"].as_str().context("no content")?;
    let copy = format!("{}/_references/sections/{content}.parquet", stage.setting("ANABRANCH_WAREHOUSE__URL")?);
    stage.pipeline(&pipeline("formats", &copy, "JOIN", ", format = 'parquet'"))?;
    let (code, text) = stage.run(&["check"])?;
    assert_eq!((code, text.contains("reference sections: 3 rows")), (Some(0), true), "{text}");
    Ok(())
}

#[tokio::test]
async fn wrong_references_are_refused_with_their_place() -> Result<()> {
    let mut stage = Stage::new("wrong_reference").await?;
    let file = stage.folder().join("sections.json");
    let path = file.display().to_string();
    let good = "{\"page\": \"a\", \"section\": \"news\"}\n";
    for (content, options, wanted) in [
        (None, JSON_OPTIONS, "there is no such file"),
        (Some(format!("{good}{{\"page\": 5}}\n")), JSON_OPTIONS, "sections.json:2: wrong type: page"),
        (Some(format!("{good}\n{{\"page\": \"b\"\n")), JSON_OPTIONS, "sections.json:3: not JSON"),
        (Some(format!("{good}{good}")), JSON_OPTIONS, "rows 1 and 2 have the same page, by which view by_section joins"),
        (Some("page,weight\na,1\n".to_owned()), ", format = 'csv'", "does not name the column \"section\""),
        (Some("page,section,weight\na,x,much\n".to_owned()), ", format = 'csv'", "sections.json:2: wrong type: weight"),
        (Some("nonsense".to_owned()), ", format = 'parquet'", "sections.json"),
    ] {
        match content {
            Some(content) => std::fs::write(&file, content)?,
            None => assert!(!file.exists()),
        }
        stage.pipeline(&pipeline("wrong_reference", &path, "JOIN", options))?;
        for command in ["check", "apply"] {
            let (code, text) = stage.run(&[command])?;
            assert_eq!(code, Some(2), "{wanted}: {text}");
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
    }
    // Declared so, the first row of a key counts; NULL keys may repeat.
    std::fs::write(&file, format!("{good}{{\"page\": \"a\", \"section\": \"art\"}}\n{{\"section\": \"x\"}}\n{{\"section\": \"y\"}}\n"))?;
    stage.pipeline(&pipeline("wrong_reference", &path, "JOIN", ", format = 'json', unique = 'first'"))?;
    let (code, text) = stage.run(&["check"])?;
    assert_eq!((code, text.contains("reference sections: 4 rows")), (Some(0), true), "{text}");
    Ok(())
}

/// I7: a definition that is mended after records were rejected counts them, too.
#[tokio::test]
async fn records_that_a_wrong_definition_rejected_count_after_the_next_run() -> Result<()> {
    let sql = |column: &str| {
        format!(
            "CREATE TABLE mended (page TEXT NOT NULL, {column}) WITH (connector = 'kafka', topic = 'mended', format = 'json');
             CREATE MATERIALIZED VIEW by_page AS SELECT page, count(*) AS clicks, max(number) AS most FROM mended GROUP BY 1;"
        )
    };
    let mut stage = applied("mended", 1, &sql("number BIGINT")).await?;
    let process = stage.start(&["run"])?;
    let events = [json!({"page": "a", "number": 1}), json!({"page": "a", "number": "2"}), json!({"page": "b", "number": 2.5})];
    produce("mended", 0, &events)?;
    let clicks = json!({"dimensions": ["by_page.page"], "measures": ["by_page.clicks"]});
    let rejected = json!({"dimensions": ["mended_rejected.reason"], "measures": ["mended_rejected.records"]});
    counts(&process, &clicks, "by_page.page", "by_page.clicks", &[("a", 1)]).await?;
    counts(&process, &rejected, "mended_rejected.reason", "mended_rejected.records", &[("wrong type: number", 2)]).await?;
    recompute(&stage)?;
    let (code, text) = stage.run(&["rejected", "mended"])?;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("wrong type: number") && text.contains("{\"page\":\"b\",\"number\":2.5}") && text.contains("(2 rows)"), "{text}");
    stage.pipeline(&sql("number DOUBLE").replace("format = 'json'", "format = 'json', lenient = 'true'"))?;
    let (code, text) = stage.run(&["apply"])?;
    assert_eq!(code, Some(0), "{text}");
    eventually("the mended definition", LIMIT, || async {
        recompute(&stage)?;
        Ok(process.load(&clicks).await?.filter(|answer| answer["data"].as_array().is_some_and(|rows| rows.len() == 2)))
    })
    .await?;
    counts(&process, &clicks, "by_page.page", "by_page.clicks", &[("a", 2), ("b", 1)]).await?;
    counts(&process, &rejected, "mended_rejected.reason", "mended_rejected.records", &[]).await?;
    // Decoded by the definition of today, none is rejected, whatever the files say.
    let (code, text) = stage.run(&["rejected", "mended"])?;
    assert_eq!((code, text.contains("(0 rows)")), (Some(0), true), "{text}");
    Ok(())
}
