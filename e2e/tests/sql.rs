//! Plain SQL over published views: the same cells as the API's, at the same offsets, in one snapshot, by a role that may only read.
#![expect(clippy::indexing_slicing, clippy::print_stdout, reason = "members of JSON answers; a test prints its figures")]

use std::{collections::BTreeMap, process::Command, time::Duration};

use anabranch_e2e::{
    Process, Stage,
    clicks::{applied, produce, recompute},
    eventually,
    scene::{Running, Scene, recount, serving},
    sql::{WHOLE_VIEWS, ask},
    variable,
};
use anyhow::{Context, Result, ensure};
use serde_json::{Value as Json, json};
use tokio_postgres::{Client, error::SqlState};

#[tokio::test(flavor = "multi_thread")]
async fn sql_reads_what_the_api_answers() -> Result<()> {
    let mut scene = Scene::with_music("sql", "400", "60").await?;
    let running = scene.begin().await?;
    let client = scene.stage.database().await?;
    let (mut cells, mut both, mut runs) = (0, 0, std::collections::BTreeSet::new());
    for _ in 0..40 {
        for view in WHOLE_VIEWS {
            let (count, answer) = scene.exact_in_sql(&client, view).await?;
            cells += count;
            if view == "status_by_city" {
                let run = answer["lambda"]["run"].as_i64();
                both += usize::from(run.is_some() && answer["lambda"]["coverage"] != answer["lambda"]["offsets"]);
                runs.extend(run);
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    println!("SQL: {cells} cells recounted, {both} of 40 answers of both arms, versions {runs:?}");
    ensure!(both >= 10 && runs.len() >= 2, "{both}, {runs:?}");
    scene.finish(serving(&running)?).await?;
    same_as_the_api(&mut scene, &running, &client).await?;
    only_reads(&scene).await?;
    business_intelligence(&scene, &running).await
}

/// At rest both state the same offsets, and the oracle finds both right.
async fn same_as_the_api(scene: &mut Scene, running: &Running, client: &Client) -> Result<()> {
    let (_, query) = anabranch_oracle::queries().remove(0);
    let of_api = serving(running)?.load(&query).await?.context("no answer")?;
    let (cells, of_sql) = scene.exact_in_sql(client, "status_by_city").await?;
    let name = &scene.name;
    ensure!(of_sql["lambda"]["offsets"][name] == of_api["lambda"]["offsets"][name], "{} {}", of_sql["lambda"], of_api["lambda"]);
    ensure!(of_sql["lambda"]["run"] == of_api["lambda"]["run"]);
    scene.cells += recount(&mut scene.topic, "status_by_city", &of_api)?;
    println!("SQL and API at the same offsets: {cells} cells each");
    Ok(())
}

/// psql, as a role that was granted `anabranch_reader` and nothing else.
async fn only_reads(scene: &Scene) -> Result<()> {
    let client = scene.stage.database().await?;
    let role = format!("bi_{}", std::process::id());
    client.batch_execute(&format!("CREATE ROLE {role} LOGIN IN ROLE anabranch_reader")).await?;
    let url = scene.stage.setting("ANABRANCH_POSTGRES__URL")?.replace("anabranch@", &format!("{role}@"));
    let psql = |sql: &str| -> Result<(bool, String, String)> {
        let output = Command::new("psql").args([&url, "--no-psqlrc", "--csv", "--tuples-only", "--command", sql]).output().context("start psql")?;
        Ok((output.status.success(), String::from_utf8(output.stdout)?.trim().to_owned(), String::from_utf8(output.stderr)?))
    };
    let decoded = scene.topic.records.iter().filter(|record| record.event.is_ok()).count();
    let (ok, counted, error) = psql("SELECT sum(messages) FROM serving.status_by_city")?;
    ensure!(ok && counted == decoded.to_string(), "psql counted {counted} of {decoded}: {error}");
    let (ok, counted, error) = psql("SELECT sum(messages) FROM published.status_by_city")?;
    ensure!(ok && counted == decoded.to_string(), "of the version alone {counted} of {decoded}: {error}");
    let (ok, joined, error) = psql("SELECT count(*) FROM serving.songplays JOIN serving.songs USING (song_id) JOIN serving.users USING (user_id)")?;
    ensure!(ok && joined.parse::<i64>().is_ok_and(|joined| joined > 0), "the star joins: {joined} {error}");
    for forbidden in [
        "SELECT * FROM anabranch.partition",
        "DELETE FROM serving.status_by_city",
        "INSERT INTO published.songs (song_id) VALUES ('a')",
        "CREATE TABLE serving.mine (a int)",
        "UPDATE anabranch.source SET running = 1",
    ] {
        let (ok, _, error) = psql(forbidden)?;
        ensure!(!ok && (error.contains("permission denied") || error.contains("cannot")), "{forbidden}: {error}");
    }
    Ok(())
}

/// `SQLAlchemy`, on which Superset stands, and the statement of a Grafana panel.
async fn business_intelligence(scene: &Scene, running: &Running) -> Result<()> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/readers/bi.py");
    let output = Command::new(variable("ANABRANCH_PYTHON")).arg(script).arg(scene.stage.setting("ANABRANCH_POSTGRES__URL")?).output()?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let found: Json = serde_json::from_str(&text)?;
    ensure!(found["views"]["status_by_city"]["minute"][0] == "TIMESTAMP" && found["views"]["songplays"]["session_id"][0] == "BIGINT", "{}", found["views"]);
    ensure!(found["views"]["songplays"]["start_time"][1] == "When the song began.", "{}", found["views"]);
    ensure!(found["views"]["users"].get("users").is_none(), "{}", found["views"]);
    ensure!(found["comments"]["users"].as_str().is_some_and(|text| text.contains("SQL cannot merge or compute it: users.")), "{}", found["comments"]);
    let query = json!({"measures": ["status_by_city.messages"], "dimensions": ["status_by_city.status_color"]});
    let answer = serving(running)?.load(&query).await?.context("no answer")?;
    let mut expected: BTreeMap<String, i64> = BTreeMap::new();
    for row in answer["data"].as_array().into_iter().flatten() {
        let color = row["status_by_city.status_color"].as_str().context("a colour")?;
        expected.insert(color.to_owned(), row["status_by_city.messages"].as_i64().context("a count")?);
    }
    for tool in ["superset", "grafana"] {
        let mut sums: BTreeMap<String, i64> = BTreeMap::new();
        for row in found[tool].as_array().into_iter().flatten() {
            *sums.entry(row[1].as_str().context("a colour")?.to_owned()).or_default() += row[2].as_i64().context("a count")?;
        }
        ensure!(sums == expected, "{tool}: {sums:?} of {expected:?}");
    }
    Ok(())
}

/// Every kind of state that SQL merges, and every kind of expression over them.
const MEASURES: &str = "count(*) AS events, count(number) AS numbers, sum(number) AS total, sum(price) AS prices, sum(amount) AS amounts,
    avg(number) AS mean, avg(price) AS mean_price, min(name) AS first_name, max(name) AS last_name, min(price) AS cheapest, max(day) AS newest_day,
    bool_and(number > 0) AS all_positive, bool_or(number > 5) AS some_large, first(name) AS opened, last(name) AS closed, last(day) AS last_day,
    count(*) FILTER (WHERE number > 5) AS large, count(*) FILTER (WHERE number > 5) / count(*) AS share, sum(number) / sum(price) AS per_price,
    sum(number) - count(*) AS surplus, CASE WHEN count(*) > 3 THEN 'many' ELSE 'few' END AS size, coalesce(max(number), -1) AS largest,
    greatest(max(number), 3) AS at_least, sum(number) / nullif(count(*) - 4, 0) AS maybe, count(*) > 2 AND max(number) IS NOT NULL AS busy";

fn kinds(name: &str, options: &str, measures: &str) -> String {
    format!(
        "CREATE TABLE {name} (name TEXT, number BIGINT, amount DOUBLE, price DECIMAL(9, 2), day DATE, at TIMESTAMP NOT NULL)
         WITH (connector = 'kafka', topic = '{name}', format = 'json', event_time = 'at', timestamp_format = 'epoch_ms', start = 'earliest');
         CREATE MATERIALIZED VIEW kinds {options} AS
         SELECT date_trunc('hour', at) AS hour, upper(name) AS label, {measures} FROM {name} GROUP BY 1, 2;
         CREATE MATERIALIZED VIEW grand {options} AS SELECT count(*) AS events, max(number) AS largest FROM {name};"
    )
}

const PUBLISHED: &str = "WITH (publish = 'postgres')";

fn events(from: i64, count: i64) -> Vec<Json> {
    let names = ["a", "A", "ä", "z", "Z"];
    let event = |number: i64| {
        let name = usize::try_from(number).ok().and_then(|number| names.get(number % 6)).map_or(Json::Null, |name| json!(name));
        let value = if number % 7 == 0 { Json::Null } else { json!(number % 11 - 2) };
        json!({
            "name": name, "number": value, "amount": f64::from(i32::try_from(number % 97).unwrap_or_default()) / 8.0, "price": format!("{}.{:02}", number % 13, number % 100).parse::<f64>().ok(),
            "day": format!("2026-03-{:02}", number % 28 + 1), "at": 1_770_000_000_000_i64 + number * 400_000,
        })
    };
    (from..from + count).map(event).collect()
}

/// The cells of an answer by group; DOUBLEs rounded, as they are to be.
fn cells(view: &str, keys: &[&str], answer: &Json) -> BTreeMap<String, BTreeMap<String, String>> {
    let text = |value: &Json| match value {
        Json::Null => "null".to_owned(),
        Json::String(text) => text.parse::<f64>().map_or_else(|_| text.clone(), |number| format!("{number:.6}")),
        value => value.as_f64().map_or_else(|| value.to_string(), |number| format!("{number:.6}")),
    };
    let rows = answer["data"].as_array().into_iter().flatten();
    rows.map(|row| {
        let key: Vec<String> = keys.iter().map(|key| text(&row[format!("{view}.{key}")])).collect();
        let members = row.as_object().into_iter().flatten().filter(|(name, _)| !name.ends_with(".count") && !name.ends_with(".hour.hour"));
        (key.join("|"), members.map(|(name, value)| (name.clone(), text(value))).collect())
    })
    .collect()
}

async fn compared(stage: &Stage, process: &Process, view: &str, keys: &[&str], measures: &[String]) -> Result<usize> {
    let client = stage.database().await?;
    let query = json!({
        "measures": measures.iter().map(|name| format!("{view}.{name}")).collect::<Vec<_>>(),
        "dimensions": keys.iter().map(|name| format!("{view}.{name}")).collect::<Vec<_>>(), "limit": 50_000,
    });
    let same = || async {
        let (Some(of_api), of_sql) = (process.load(&query).await?, ask(&client, view, "topic").await?) else { return Ok(None) };
        let offsets = of_api["lambda"]["offsets"].as_object().and_then(|topics| topics.values().next()).cloned();
        Ok((offsets.as_ref() == Some(&of_sql["lambda"]["offsets"]["topic"])).then_some((of_api, of_sql)))
    };
    let (of_api, of_sql) = eventually("SQL and API at the same offsets", Duration::from_secs(30), same).await?;
    let (of_api, of_sql) = (cells(view, keys, &of_api), cells(view, keys, &of_sql));
    for (key, expected) in &of_api {
        let found = of_sql.get(key).with_context(|| format!("{view}: SQL lacks {key}"))?;
        for (name, value) in expected {
            ensure!(found.get(name) == Some(value), "{view} {key}: {name} is {:?} in SQL, {value} in the API", found.get(name));
        }
    }
    ensure!(of_sql.len() == of_api.len(), "{view}: {} groups in SQL, {} in the API", of_sql.len(), of_api.len());
    Ok(of_api.values().map(BTreeMap::len).sum())
}

fn measure_names(measures: &str) -> Vec<String> {
    measures.split(" AS ").skip(1).filter_map(|rest| rest.split(',').next()).map(|name| name.trim().to_owned()).collect()
}

/// Whether the API counts so many events.
async fn counted(process: &Process, count: i64) -> Result<Option<()>> {
    let Some(answer) = process.load(&json!({"measures": ["grand.events"]})).await? else { return Ok(None) };
    Ok((answer["data"][0]["grand.events"] == count).then_some(()))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_measure_merges_in_sql_as_it_does_here() -> Result<()> {
    let name = format!("kinds_{}", std::process::id());
    // Published after a version was there already.
    let mut stage = applied(&name, 2, &kinds(&name, "", MEASURES)).await?;
    let mut process = stage.start(&["run"])?;
    produce(&name, 0, &events(0, 300))?;
    produce(&name, 1, &events(300, 200))?;
    eventually("500 events", Duration::from_secs(60), || counted(&process, 500)).await?;
    recompute(&stage)?;
    let client = stage.database().await?;
    let missing = client.query("SELECT 1 FROM serving.kinds", &[]).await.err().and_then(|error| error.code().cloned());
    ensure!(missing == Some(SqlState::UNDEFINED_TABLE), "{missing:?}");
    stage.pipeline(&kinds(&name, PUBLISHED, MEASURES))?;
    let (code, text) = stage.run(&["apply"])?;
    ensure!(code == Some(0) && text.contains("made the view in SQL"), "{text}");
    let names = measure_names(MEASURES);
    ensure!(names.len() == 25, "{names:?}");
    let mut compared_cells = 0;
    // Before the next run SQL merges from the first event on, then a version, then both.
    for round in 0..3 {
        if round == 1 {
            recompute(&stage)?;
        }
        if round == 2 {
            produce(&name, 0, &events(500, 300))?;
            eventually("800 events", Duration::from_secs(60), || counted(&process, 800)).await?;
        }
        compared_cells += compared(&stage, &process, "kinds", &["hour", "label"], &names).await?;
        compared_cells += compared(&stage, &process, "grand", &[], &["events".to_owned(), "largest".to_owned()]).await?;
    }
    println!("{compared_cells} cells of {} measures are the same in SQL and in the API", names.len() + 2);
    made_again(&stage).await?;
    redefined(&mut stage, &process, &name).await?;
    ensure!(process.stop().await?.success());
    process = stage.start(&["serve"])?;
    unpublished(&mut stage, &name).await?;
    ensure!(process.stop().await?.success());
    Ok(())
}

/// A view that somebody dropped, or that the role may not read, because it was made later, is there after the next `apply`.
async fn made_again(stage: &Stage) -> Result<()> {
    let client = stage.database().await?;
    client.batch_execute("DROP VIEW serving.grand; REVOKE SELECT ON serving.kinds FROM anabranch_reader").await?;
    let (code, text) = stage.run(&["apply"])?;
    ensure!(code == Some(0), "{text}");
    for view in ["serving.grand", "serving.kinds"] {
        let may: bool = client.query_one("SELECT has_table_privilege('anabranch_reader', $1, 'SELECT')", &[&view]).await?.get(0);
        ensure!(may, "{view}");
    }
    Ok(())
}

/// A view that changes: readers in long transactions hold nothing up, views that others made over it are not torn down.
async fn redefined(stage: &mut Stage, process: &Process, name: &str) -> Result<()> {
    let (client, mut reader) = (stage.database().await?, stage.database().await?);
    client.batch_execute("CREATE VIEW public.mine AS SELECT label, closed FROM serving.kinds").await?;
    let long = reader.transaction().await?;
    let before: i64 = long.query_one("SELECT sum(events)::bigint FROM serving.kinds", &[]).await?.get(0);
    // Its column `closed` becomes a number: no view can be replaced in place that way.
    let changed = MEASURES.replace("last(name) AS closed", "count(*) AS closed");
    stage.pipeline(&kinds(name, PUBLISHED, &changed))?;
    let (code, text) = stage.run(&["apply"])?;
    ensure!(code == Some(0), "{text}");
    let switched = || async {
        let (code, text) = stage.run(&["recompute"])?;
        ensure!(code == Some(0), "{text}");
        let answer = process.load(&json!({"measures": ["kinds.closed"]})).await?;
        Ok(answer.is_some_and(|answer| answer["data"][0]["kinds.closed"] == before).then_some(text))
    };
    let text = eventually("the new definition serves", Duration::from_secs(60), switched).await?;
    ensure!(text.contains("could not replace a view in SQL"), "{text}");
    // Exact or an error.
    let refused = client.query("SELECT * FROM public.mine", &[]).await.err().and_then(|error| error.as_db_error().map(|error| error.message().to_owned()));
    ensure!(refused.as_deref() == Some("the definition of this view was replaced"), "{refused:?}");
    drop(long);
    drop(reader);
    client.batch_execute("DROP VIEW public.mine").await?;
    recompute(stage)?;
    let names = measure_names(&changed);
    println!("{} cells after the definition changed", compared(stage, process, "kinds", &["hour", "label"], &names).await?);
    Ok(())
}

/// What is not published any more leaves nothing behind.
async fn unpublished(stage: &mut Stage, name: &str) -> Result<()> {
    let client = stage.database().await?;
    stage.pipeline(&kinds(name, "", MEASURES))?;
    let (code, text) = stage.run(&["apply"])?;
    ensure!(code == Some(0), "{text}");
    let _layers = (stage.start(&["speed"])?, stage.start(&["archive"])?);
    let gone = || async {
        let (code, text) = stage.run(&["recompute"])?;
        ensure!(code == Some(0), "{text}");
        let left: i64 = client
            .query_one("SELECT count(*) FROM pg_class WHERE relname LIKE 'published\\_%' AND relkind = 'r' AND NOT relname IN ('published_part')", &[])
            .await?
            .get(0);
        Ok((left == 0).then_some(()))
    };
    eventually("tables of published rows are dropped", Duration::from_secs(60), gone).await?;
    let views: i64 = client.query_one("SELECT count(*) FROM pg_views WHERE schemaname IN ('serving', 'published')", &[]).await?.get(0);
    ensure!(views == 0, "{views}");
    let parts: i64 = client.query_one("SELECT count(*) FROM published_part", &[]).await?.get(0);
    ensure!(parts == 0, "{parts}");
    Ok(())
}
