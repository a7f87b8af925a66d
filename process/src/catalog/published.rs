//! Views that SQL reads in PostgreSQL, `WITH (publish = 'postgres')`.
//!
//! ```text
//! published_<fingerprint>   the states of each part's groups, staged part by part before a publication
//! published.parts           of which parts the current version is made: a publication flips this one row
//! serving.<view>            version ⊕ live rows, in the snapshot of the asking statement, by the reach of an answer
//! published.<view>          the version alone
//! ```
//!
//! Parts are immutable files, so staged rows are, too: they are there whole or not at all, under the path of the file. A
//! publication refuses parts that are not staged any more, so that whoever removes rows can take none from it.

use std::{collections::BTreeMap, sync::Arc};

use anabranch_core::{
    definition::{Fingerprint, View},
    protocol::RunId,
};
use anabranch_views::table;
use anyhow::{Context, Result};
use tokio_postgres::{Client, Transaction, error::SqlState};
use tracing::{info, warn};

use super::{
    definitions::{self, quoted, sql_type},
    live,
    rows::{self, VersionRow},
};
use crate::{
    crash,
    parts::{read_manifest, read_part},
    warehouse::Warehouse,
};

mod sql;

/// The schema of the views over version and live rows.
const MERGED: &str = "serving";
/// The schema of the views over versions alone.
const VERSION: &str = "published";
/// The role that may read both, and nothing else.
const READER: &str = "anabranch_reader";
/// A reader that holds a view's lock makes the next run replace it instead.
const LOCK_LIMIT: &str = "SET LOCAL lock_timeout = '2s'";

fn table(fingerprint: &Fingerprint) -> String {
    format!("published_{fingerprint}")
}

/// A row for each group of each part. Without a primary key: a part's rows are appended once and never changed.
fn table_ddl(view: &View) -> String {
    let name = table(&view.fingerprint);
    let columns: Vec<String> = table::columns(view).iter().map(|column| format!("{} {}", quoted(&column.name), sql_type(column.column_type))).collect();
    let mut ddl = format!("CREATE TABLE IF NOT EXISTS {name} (_part bigint NOT NULL, {}); ", columns.join(", "));
    ddl += &format!("CREATE INDEX IF NOT EXISTS {name}_part ON {name} (_part); ");
    if let Some(bucket) = &view.bucket {
        ddl += &format!("CREATE INDEX IF NOT EXISTS {name}_time ON {name} ({}); ", quoted(&bucket.name));
    }
    ddl
}

/// Brings the rows of all parts of a version to PostgreSQL, those that are there already left out; gives their ids.
///
/// # Errors
/// When a part cannot be read, or PostgreSQL does not take it; parts that are complete stay.
pub async fn stage(client: &mut Client, warehouse: &Warehouse, view: &View, folder: &str) -> Result<Vec<i64>> {
    let manifest = read_manifest(warehouse, folder).await?;
    let staged = client.query("SELECT path, id FROM published_part WHERE fingerprint = $1", &[&view.fingerprint.0]).await?;
    let staged: BTreeMap<String, i64> = staged.iter().map(|row| (row.get(0), row.get(1))).collect();
    // Making an index that is there already would lock the table, and keep autovacuum from it.
    let is_made: bool = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&table(&view.fingerprint)]).await?.get(0);
    let mut ids = Vec::new();
    for part in manifest.parts.values() {
        if let Some(id) = staged.get(&part.path) {
            ids.push(*id);
            continue;
        }
        let rows = table::to_batch(view, &read_part(warehouse, view, part).await?)?;
        let transaction = client.transaction().await?;
        if !is_made {
            transaction.batch_execute(&table_ddl(view)).await.with_context(|| format!("make the table of published rows of view {}", view.name))?;
        }
        // Another run of the same source that staged it meanwhile made the same rows.
        let sql = "INSERT INTO published_part (fingerprint, path) VALUES ($1, $2) ON CONFLICT (path) DO NOTHING RETURNING id";
        let id: i64 = match transaction.query_opt(sql, &[&view.fingerprint.0, &part.path]).await? {
            Some(row) => {
                let id = row.get(0);
                live::append(&transaction, view, &table(&view.fingerprint), id, &rows).await?;
                id
            }
            None => transaction.query_one("SELECT id FROM published_part WHERE path = $1", &[&part.path]).await?.get(0),
        };
        crash::step("batch.stage", transaction.commit()).await.with_context(|| format!("publish a part of view {}", view.name))?;
        ids.push(id);
    }
    Ok(ids)
}

/// Locks the parts until the transaction ends, so that nobody removes them; false when one is not there any more.
///
/// # Errors
/// When PostgreSQL does not answer.
pub async fn are_staged(transaction: &Transaction<'_>, parts: &[i64]) -> Result<bool> {
    Ok(transaction.query("SELECT 1 FROM published_part WHERE id = ANY($1) FOR SHARE", &[&parts]).await?.len() == parts.len())
}

/// Lets SQL read a version, in the transaction that publishes it and found its parts there.
///
/// # Errors
/// When PostgreSQL does not answer.
pub async fn flip(transaction: &Transaction<'_>, source: &str, fingerprint: &Fingerprint, run: RunId, parts: &[i64]) -> Result<()> {
    let sql = "INSERT INTO published (fingerprint, source, run, parts) VALUES ($1, $2, $3, $4) \
               ON CONFLICT (fingerprint) DO UPDATE SET source = $2, run = $3, parts = $4";
    transaction.execute(sql, &[&fingerprint.0, &source, &run.0, &parts]).await?;
    Ok(())
}

/// After a publication: versions that were there before their view was published to SQL, and rows that no version needs any more.
///
/// # Errors
/// When a part cannot be read, or PostgreSQL does not answer.
pub async fn settle(client: &mut Client, warehouse: &Warehouse, source: &str) -> Result<()> {
    let loaded = definitions::load(client, source).await?;
    let published: Vec<&Arc<View>> = loaded.definitions.values().filter(|view| view.is_published).collect();
    for view in &published {
        catch_up(client, warehouse, source, view).await?;
    }
    let sql = "SELECT DISTINCT p.fingerprint, EXISTS (SELECT 1 FROM sql_view v WHERE v.fingerprint = p.fingerprint) \
               FROM published_part p JOIN definition d ON d.fingerprint = p.fingerprint WHERE d.source = $1";
    for row in client.query(sql, &[&source]).await? {
        let (fingerprint, is_read): (String, bool) = (row.get(0), row.get(1));
        if published.iter().any(|view| view.fingerprint.0 == fingerprint) {
            remove_old(client, source, &Fingerprint(fingerprint)).await?;
        } else if !is_read {
            remove_all(client, source, &Fingerprint(fingerprint)).await?;
        }
    }
    Ok(())
}

/// Publishes the current version to SQL, where the view was not published when that was made.
async fn catch_up(client: &mut Client, warehouse: &Warehouse, source: &str, view: &View) -> Result<()> {
    let newest = |versions: &BTreeMap<Fingerprint, Vec<VersionRow>>| versions.get(&view.fingerprint).and_then(|versions| versions.first()).cloned();
    let Some(version) = newest(&rows::versions(client, source).await?) else { return Ok(()) };
    let row = client.query_opt("SELECT run FROM published WHERE fingerprint = $1", &[&view.fingerprint.0]).await?;
    if row.is_some_and(|row| row.get::<_, i64>(0) == version.run.0) {
        return Ok(());
    }
    let parts = stage(client, warehouse, view, &version.folder).await?;
    let transaction = client.transaction().await?;
    transaction.execute("SELECT 1 FROM source WHERE name = $1 FOR UPDATE", &[&source]).await?;
    let is_current = newest(&rows::versions(&transaction, source).await?).is_some_and(|newest| newest.run == version.run);
    if is_current && are_staged(&transaction, &parts).await? {
        flip(&transaction, source, &view.fingerprint, version.run, &parts).await?;
        crash::step("batch.catch_up", transaction.commit()).await?;
        info!(source, view = view.name, run = version.run.0, "published to SQL");
    }
    Ok(())
}

/// Removes the rows of parts that the version is not made of. First the parts, which no publication can name from then on:
/// none goes on meanwhile. Then, without a lock, their rows.
async fn remove_old(client: &mut Client, source: &str, fingerprint: &Fingerprint) -> Result<()> {
    let transaction = client.transaction().await?;
    transaction.execute("SELECT 1 FROM source WHERE name = $1 FOR SHARE", &[&source]).await?;
    let sql = "SELECT id FROM published_part WHERE fingerprint = $1 \
               AND NOT id = ANY (coalesce((SELECT parts FROM published WHERE fingerprint = $1), '{}'))";
    let old: Vec<i64> = transaction.query(sql, &[&fingerprint.0]).await?.iter().map(|row| row.get(0)).collect();
    if old.is_empty() {
        return Ok(());
    }
    transaction.execute("DELETE FROM published_part WHERE id = ANY($1)", &[&old]).await?;
    crash::step("batch.unstage", transaction.commit()).await?;
    let table = table(fingerprint);
    let sql = format!("DELETE FROM {table} WHERE NOT _part IN (SELECT id FROM published_part WHERE fingerprint = $1)");
    crash::step("batch.unstage", client.execute(&sql, &[&fingerprint.0])).await.with_context(|| format!("remove rows of {table}"))?;
    Ok(())
}

/// Removes a definition that SQL does not read any more.
async fn remove_all(client: &mut Client, source: &str, fingerprint: &Fingerprint) -> Result<()> {
    let transaction = client.transaction().await?;
    transaction.execute("SELECT 1 FROM source WHERE name = $1 FOR SHARE", &[&source]).await?;
    transaction.execute("DELETE FROM published WHERE fingerprint = $1", &[&fingerprint.0]).await?;
    transaction.execute("DELETE FROM published_part WHERE fingerprint = $1", &[&fingerprint.0]).await?;
    transaction.batch_execute(&format!("DROP TABLE IF EXISTS {}", table(fingerprint))).await?;
    crash::step("batch.unstage", transaction.commit()).await?;
    Ok(())
}

/// Makes the SQL views of what serves, replaces those of other definitions, drops those of views that SQL does not read any more.
///
/// A view that cannot be replaced (somebody reads it for long, or made views of their own over it) stays, answers with an error
/// that says so, and is tried again by the next run.
///
/// # Errors
/// When PostgreSQL does not answer.
pub async fn sync_views(client: &mut Client) -> Result<()> {
    let mut wanted: BTreeMap<String, Arc<View>> = BTreeMap::new();
    for source in definitions::sources(client).await? {
        let mut loaded = definitions::load(client, &source).await?;
        for entry in &loaded.views {
            wanted.extend(loaded.definitions.remove(&entry.serving).filter(|view| view.is_published).map(|view| (entry.name.clone(), view)));
        }
    }
    // One that is gone, or that the role may not read, because it was made later, is made again.
    let sql = "SELECT name, text FROM sql_view WHERE CASE WHEN to_regrole($1) IS NULL THEN to_regclass(format('%I.%I', $2::text, name)) IS NOT NULL \
               ELSE coalesce(has_table_privilege(to_regrole($1), to_regclass(format('%I.%I', $2::text, name)), 'SELECT'), false) END";
    let made = client.query(sql, &[&READER, &MERGED]).await?;
    let made: BTreeMap<String, String> = made.iter().map(|row| (row.get(0), row.get(1))).collect();
    for row in client.query("SELECT name FROM sql_view", &[]).await? {
        let name: String = row.get(0);
        if !wanted.contains_key(&name) {
            report(&name, drop_view(client, &name).await)?;
        }
    }
    for (name, view) in wanted {
        let views = sql::sql_views(&view);
        let text = format!("{}; {}; {}", views.merged, views.version, views.comments);
        if made.get(&name) != Some(&text) {
            report(&name, make_view(client, &view, &views, &text).await)?;
        }
    }
    Ok(())
}

/// What PostgreSQL refuses is a warning; that it is not there is an error.
fn report(view: &str, done: Result<()>) -> Result<()> {
    match done {
        Err(error) if error.chain().any(|cause| cause.downcast_ref::<tokio_postgres::Error>().is_some_and(|error| error.as_db_error().is_some())) => {
            warn!(view, error = format!("{error:#}"), "could not replace a view in SQL; the next run tries again");
            Ok(())
        }
        other => other,
    }
}

async fn make_view(client: &mut Client, view: &View, views: &sql::SqlViews, text: &str) -> Result<()> {
    // Columns that only come after the others leave what depends on the view alone.
    let result = replace_view(client, view, views, text, "").await;
    let is_other_shape = |error: &anyhow::Error| {
        error.chain().any(|cause| cause.downcast_ref::<tokio_postgres::Error>().and_then(|error| error.code()) == Some(&SqlState::INVALID_TABLE_DEFINITION))
    };
    match result {
        Err(error) if is_other_shape(&error) => replace_view(client, view, views, text, &drop_sql(&view.name)).await,
        other => other,
    }
}

/// `before` is done in the same transaction.
async fn replace_view(client: &mut Client, view: &View, views: &sql::SqlViews, text: &str, before: &str) -> Result<()> {
    let transaction = client.transaction().await?;
    let name = quoted(&view.name);
    transaction.batch_execute(LOCK_LIMIT).await?;
    transaction.batch_execute(&schemas()).await.context("make the schemas of SQL views")?;
    transaction.batch_execute(&table_ddl(view)).await?;
    let (merged, version) = (&views.merged, &views.version);
    let create = format!("CREATE OR REPLACE VIEW {MERGED}.{name} AS {merged}; CREATE OR REPLACE VIEW {VERSION}.{name} AS {version}");
    let statements = format!("{before}; {create}; {}", views.comments);
    transaction.batch_execute(&statements).await.with_context(|| format!("make the SQL view {MERGED}.{name}"))?;
    let grants = format!("GRANT SELECT ON {MERGED}.{name}, {VERSION}.{name} TO {READER}");
    if transaction.query_one("SELECT to_regrole($1) IS NOT NULL", &[&READER]).await?.get(0) {
        transaction.batch_execute(&grants).await?;
    }
    let sql = "INSERT INTO sql_view (name, fingerprint, text) VALUES ($1, $2, $3) ON CONFLICT (name) DO UPDATE SET fingerprint = $2, text = $3";
    transaction.execute(sql, &[&view.name, &view.fingerprint.0, &text]).await?;
    crash::step("catalog.sql_view", transaction.commit()).await?;
    info!(view = view.name, "made the view in SQL");
    Ok(())
}

/// The role is one of the whole server; where this user may not make it, an administrator can.
fn schemas() -> String {
    format!(
        "SELECT pg_advisory_xact_lock(hashtextextended('anabranch sql views', 0));
         SET LOCAL client_min_messages = warning;
         CREATE SCHEMA IF NOT EXISTS {MERGED}; CREATE SCHEMA IF NOT EXISTS {VERSION};
         DO $$ BEGIN
           IF to_regrole('{READER}') IS NULL THEN CREATE ROLE {READER} NOLOGIN; END IF;
         EXCEPTION WHEN duplicate_object OR unique_violation OR insufficient_privilege THEN NULL;
         END $$;
         DO $$ BEGIN
           IF to_regrole('{READER}') IS NOT NULL THEN
             GRANT USAGE ON SCHEMA {MERGED}, {VERSION}, anabranch TO {READER};
             GRANT EXECUTE ON FUNCTION anabranch.reach, anabranch.answer_of TO {READER};
           END IF;
         END $$"
    )
}

fn drop_sql(view: &str) -> String {
    let name = quoted(view);
    format!("DROP VIEW IF EXISTS {MERGED}.{name}; DROP VIEW IF EXISTS {VERSION}.{name}")
}

async fn drop_view(client: &mut Client, name: &str) -> Result<()> {
    let transaction = client.transaction().await?;
    transaction.batch_execute(LOCK_LIMIT).await?;
    transaction.batch_execute(&drop_sql(name)).await?;
    transaction.execute("DELETE FROM sql_view WHERE name = $1", &[&name]).await?;
    crash::step("catalog.sql_view", transaction.commit()).await?;
    info!(view = name, "dropped the view in SQL");
    Ok(())
}

/// Drops every SQL view, and their schemas where nothing of others is in them.
///
/// # Errors
/// When PostgreSQL refuses, because others made views over ours, or does not answer.
pub async fn drop_views(client: &mut Client) -> Result<()> {
    for row in client.query("SELECT name FROM sql_view", &[]).await? {
        drop_view(client, row.get(0)).await?;
    }
    let sql = "SELECT nspname::text FROM pg_namespace n WHERE nspname IN ($1, $2) AND NOT EXISTS (SELECT 1 FROM pg_class WHERE relnamespace = n.oid)";
    for row in client.query(sql, &[&MERGED, &VERSION]).await? {
        client.batch_execute(&format!("DROP SCHEMA {}", row.get::<_, String>(0))).await?;
    }
    Ok(())
}
