//! Definitions live in the catalog: files are applied to it, workers fold what it holds.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use anabranch_core::definition::{File, Fingerprint, Pipeline, Source, View, parse};
use anabranch_views::table::{self, ColumnType};
use anyhow::{Context, Result};
use tokio_postgres::{Client, GenericClient, Transaction};

use crate::{crash, failure::Refused};

/// Compiles all `*.sql` files of a folder.
///
/// # Errors
/// [`Refused`] with file, line, column, a caret and what is allowed.
pub fn read_folder(folder: &Path) -> Result<Pipeline> {
    let entries = std::fs::read_dir(folder).map_err(|error| Refused(format!("folder of pipelines {}: {error}", folder.display())))?;
    let mut paths: Vec<_> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
    paths.sort();
    if paths.is_empty() {
        return Err(Refused(format!("folder of pipelines {}: no *.sql file", folder.display())).into());
    }
    let mut files = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).map_err(|error| Refused(format!("{}: {error}", path.display())))?;
        files.push(File { path: path.display().to_string(), text });
    }
    Ok(parse(&files).map_err(|error| Refused(error.to_string()))?)
}

/// What applying changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The view is new.
    Created,
    /// The view has another definition; the old one serves until the new one is built.
    Changed,
    /// Nothing.
    Unchanged,
}

/// Applies a pipeline under the locks of its sources.
///
/// # Errors
/// [`Refused`] when a source is on another topic now; else when PostgreSQL does not answer.
pub async fn apply(client: &mut Client, pipeline: &Pipeline) -> Result<Vec<(String, Applied)>> {
    let mut report = Vec::new();
    // References that views are over alone are runs' sources, too.
    let references = pipeline.references.iter().filter(|reference| pipeline.views_of(&reference.name).next().is_some());
    for source in pipeline.sources.iter().chain(references) {
        let transaction = client.transaction().await?;
        let changed = apply_source(&transaction, source, pipeline.views_of(&source.name), &mut report).await?;
        if changed {
            transaction.execute("UPDATE source SET definitions = definitions + 1 WHERE name = $1", &[&source.name]).await?;
            transaction.execute("SELECT pg_notify('anabranch', '')", &[]).await?;
        }
        crash::step("catalog.apply", transaction.commit()).await?;
    }
    Ok(report)
}

/// The views of the catalog that no file defines any more, by source.
///
/// # Errors
/// When PostgreSQL does not answer.
pub async fn undefined(client: &impl GenericClient, pipeline: &Pipeline) -> Result<BTreeMap<String, Vec<String>>> {
    let mut undefined: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in client.query("SELECT source, name FROM view ORDER BY source, name", &[]).await? {
        let (source, name): (String, String) = (row.get(0), row.get(1));
        if !pipeline.views.iter().any(|view| view.name == name) {
            undefined.entry(source).or_default().push(name);
        }
    }
    Ok(undefined)
}

/// Drops the views that no file defines any more: from the next epoch on nobody folds them. Their versions stay in the
/// warehouse, and a definition that comes back goes on from its newest one.
///
/// # Errors
/// When PostgreSQL does not answer.
pub async fn drop_undefined(client: &mut Client, pipeline: &Pipeline) -> Result<Vec<String>> {
    let mut dropped = Vec::new();
    for (source, names) in undefined(client, pipeline).await? {
        let transaction = client.transaction().await?;
        transaction.execute("UPDATE source SET definitions = definitions + 1 WHERE name = $1", &[&source]).await?;
        transaction.execute("DELETE FROM view WHERE source = $1 AND name = ANY($2)", &[&source, &names]).await?;
        transaction.execute("SELECT pg_notify('anabranch', '')", &[]).await?;
        crash::step("catalog.drop", transaction.commit()).await?;
        dropped.extend(names);
    }
    Ok(dropped)
}

async fn apply_source<'a>(
    transaction: &Transaction<'_>,
    source: &Source,
    views: impl Iterator<Item = &'a View>,
    report: &mut Vec<(String, Applied)>,
) -> Result<bool> {
    let resolved = serde_json::to_value(source)?;
    // No topic can have this name.
    let topic_name = if source.files.is_some() { format!("reference {}", source.name) } else { source.topic.clone() };
    transaction
        .execute("INSERT INTO source (name, topic, resolved) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", &[&source.name, &topic_name, &resolved])
        .await?;
    let row = transaction.query_opt("SELECT topic FROM source WHERE name = $1 FOR UPDATE", &[&source.name]).await?;
    let topic: Option<String> = row.map(|row| row.get(0));
    if topic.as_ref() != Some(&topic_name) {
        let message = match topic {
            Some(topic) => format!("source {}: its topic is \"{topic}\" and cannot become \"{topic_name}\"; give the source another name", source.name),
            None => format!("source {}: the topic \"{topic_name}\" belongs to another source already", source.name),
        };
        return Err(Refused(message).into());
    }
    transaction.execute("UPDATE source SET resolved = $2 WHERE name = $1", &[&source.name, &resolved]).await?;
    let mut changed = false;
    for view in views {
        transaction.batch_execute(&live_table_ddl(view)).await.with_context(|| format!("make the live table of view {}", view.name))?;
        transaction
            .execute(
                "INSERT INTO definition (source, view, fingerprint, resolved) VALUES ($1, $2, $3, $4) ON CONFLICT (source, fingerprint) DO UPDATE SET resolved = $4",
                &[&source.name, &view.name, &view.fingerprint.0, &serde_json::to_value(view)?],
            )
            .await?;
        let before = transaction.query_opt("SELECT source, wanted FROM view WHERE name = $1", &[&view.name]).await?;
        let applied = match before {
            None => Applied::Created,
            Some(row) if row.get::<_, String>("source") != source.name => {
                return Err(Refused(format!("view {}: the name belongs to source {}", view.name, row.get::<_, String>("source"))).into());
            }
            Some(row) if row.get::<_, String>("wanted") == view.fingerprint.0 => Applied::Unchanged,
            Some(_) => Applied::Changed,
        };
        if applied != Applied::Unchanged {
            changed = true;
            let sql = "INSERT INTO view (source, name, wanted, serving) VALUES ($1, $2, $3, $3) ON CONFLICT (name) DO UPDATE SET wanted = $3";
            transaction.execute(sql, &[&source.name, &view.name, &view.fingerprint.0]).await?;
        }
        report.push((view.name.clone(), applied));
    }
    Ok(changed)
}

/// The live table of a definition.
#[must_use]
pub fn live_table(fingerprint: &Fingerprint) -> String {
    format!("live_{fingerprint}")
}

/// The name of a column in PostgreSQL.
#[must_use]
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The PostgreSQL type of a column of states.
#[must_use]
pub fn sql_type(column_type: ColumnType) -> Cow<'static, str> {
    use anabranch_core::definition::DataType;
    Cow::Borrowed(match column_type {
        ColumnType::Sql(DataType::Decimal { precision, scale }) => return Cow::Owned(format!("numeric({precision},{scale})")),
        ColumnType::Bytes => "bytea",
        ColumnType::Sql(DataType::Boolean) => "boolean",
        ColumnType::Sql(DataType::BigInt) => "bigint",
        ColumnType::Sql(DataType::Double) => "double precision",
        ColumnType::Sql(DataType::Text) => "text",
        ColumnType::Sql(DataType::Date) => "date",
        ColumnType::Sql(DataType::Timestamp) => "timestamp",
    })
}

/// Only the key is indexed: an index on a column that every flush changes would end HOT updates; the fill factor leaves
/// room for them on the page.
fn live_table_ddl(view: &View) -> String {
    let columns: Vec<String> = table::columns(view).iter().map(|column| format!("{} {}", quoted(&column.name), sql_type(column.column_type))).collect();
    format!(
        "CREATE TABLE IF NOT EXISTS {} (_epoch bigint NOT NULL, _group_hash bytea NOT NULL, {}, PRIMARY KEY (_epoch, _group_hash)) WITH (fillfactor = 50)",
        live_table(&view.fingerprint),
        columns.join(", ")
    )
}

/// What the catalog holds of one view.
#[derive(Clone, Debug)]
pub struct ViewEntry {
    /// Its name.
    pub name: String,
    /// The definition that it shall have.
    pub wanted: Fingerprint,
    /// The definition by which it is answered.
    pub serving: Fingerprint,
}

/// What the catalog holds of one source.
#[derive(Clone, Debug)]
pub struct SourceDefinitions {
    /// The source, by its newest definition.
    pub source: Source,
    /// Raised whenever what epochs must fold changes.
    pub number: i64,
    /// Its views.
    pub views: Vec<ViewEntry>,
    /// All wanted and serving definitions.
    pub definitions: BTreeMap<Fingerprint, Arc<View>>,
    /// Those among them that epochs leave out: too many live rows, and runs that fail.
    pub left_out: BTreeSet<Fingerprint>,
}

impl SourceDefinitions {
    /// What is wanted or serves.
    #[must_use]
    pub fn kept(&self) -> BTreeSet<Fingerprint> {
        self.definitions.keys().cloned().collect()
    }

    /// What an epoch must fold.
    #[must_use]
    pub fn folded(&self) -> BTreeSet<Fingerprint> {
        self.kept().difference(&self.left_out).cloned().collect()
    }

    /// What every epoch above a cut must hold before a run takes it. A definition that epochs leave out is built all the
    /// same, but no cut waits for it.
    #[must_use]
    pub fn awaited(&self) -> BTreeSet<Fingerprint> {
        self.views.iter().map(|view| view.wanted.clone()).filter(|wanted| !self.left_out.contains(wanted)).collect()
    }
}

/// The names of all sources.
///
/// # Errors
/// When PostgreSQL does not answer.
pub async fn sources(client: &impl GenericClient) -> Result<Vec<String>> {
    Ok(client.query("SELECT name FROM source ORDER BY name", &[]).await?.iter().map(|row| row.get(0)).collect())
}

/// The names of the sources that are topics.
///
/// # Errors
/// When PostgreSQL does not answer.
pub async fn topics(client: &impl GenericClient) -> Result<Vec<String>> {
    let sql = "SELECT name FROM source WHERE resolved->'files' IS NULL OR resolved->'files' = 'null' ORDER BY name";
    Ok(client.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect())
}

/// The number of a source's definitions, to see whether they changed.
///
/// # Errors
/// When PostgreSQL does not answer.
pub async fn number(client: &impl GenericClient, source: &str) -> Result<i64> {
    Ok(client.query_one("SELECT definitions FROM source WHERE name = $1", &[&source]).await?.get(0))
}

/// Reads and compiles a source's definitions.
///
/// # Errors
/// [`Refused`] for an unknown source or a definition of a newer program.
pub async fn load(client: &impl GenericClient, source: &str) -> Result<SourceDefinitions> {
    let row = client
        .query_opt("SELECT definitions, resolved FROM source WHERE name = $1", &[&source])
        .await?
        .ok_or_else(|| Refused(format!("unknown source \"{source}\"; `anabranch apply` makes the sources of the pipelines known")))?;
    let views = client.query("SELECT name, wanted, serving FROM view WHERE source = $1 ORDER BY name", &[&source]).await?;
    let views: Vec<ViewEntry> =
        views.iter().map(|row| ViewEntry { name: row.get("name"), wanted: Fingerprint(row.get("wanted")), serving: Fingerprint(row.get("serving")) }).collect();
    let fingerprints: BTreeSet<String> = views.iter().flat_map(|view| [view.wanted.0.clone(), view.serving.0.clone()]).collect();
    let fingerprints: Vec<String> = fingerprints.into_iter().collect();
    let definitions = compiled(client, source, &fingerprints).await?;
    let left_out = client.query("SELECT fingerprint FROM definition WHERE source = $1 AND left_out", &[&source]).await?;
    let left_out = left_out.iter().map(|row| Fingerprint(row.get(0))).collect();
    let resolved = serde_json::from_value(row.get("resolved")).map_err(|error| Refused(format!("source {source} is not one of this program: {error}")))?;
    Ok(SourceDefinitions { source: resolved, number: row.get("definitions"), views, definitions, left_out })
}

/// The definitions of a source with these fingerprints, also those that left.
///
/// # Errors
/// [`Refused`] for one of a newer program.
pub async fn compiled(client: &impl GenericClient, source: &str, fingerprints: &[String]) -> Result<BTreeMap<Fingerprint, Arc<View>>> {
    let sql = "SELECT fingerprint, resolved FROM definition WHERE source = $1 AND fingerprint = ANY($2)";
    let mut definitions = BTreeMap::new();
    for row in client.query(sql, &[&source, &fingerprints]).await? {
        let fingerprint: String = row.get("fingerprint");
        let view: View = serde_json::from_value(row.get("resolved"))
            .map_err(|error| Refused(format!("definition {fingerprint} of source {source} is not one of this program: {error}; use a newer anabranch")))?;
        definitions.insert(Fingerprint(fingerprint), Arc::new(view));
    }
    Ok(definitions)
}
