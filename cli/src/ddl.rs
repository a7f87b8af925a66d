//! `anabranch ddl`: the archive as an external table of other programs; the views as a diagram.

use std::collections::BTreeSet;

use anabranch_core::{
    definition::{DECODE_ERROR, DataType, KAFKA_HEADERS, KAFKA_KEY, KAFKA_OFFSET, KAFKA_PARTITION, KAFKA_TIMESTAMP, KAFKA_VALUE, Pipeline, Source, View},
    layout,
};
use clap::ValueEnum;

/// Whose statements are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dialect {
    /// Apache Hive.
    Hive,
    /// Spark SQL.
    Spark,
    /// `DuckDB`.
    Duckdb,
    /// Trino, with its Hive connector.
    Trino,
    /// An entity diagram of tables and views.
    Mermaid,
}

/// The statements for all sources of a pipeline, over a warehouse at `url`.
pub(crate) fn ddl(pipeline: &Pipeline, dialect: Dialect, url: &str) -> String {
    if dialect == Dialect::Mermaid {
        return diagram(pipeline);
    }
    let statements: Vec<String> = pipeline.sources.iter().map(|source| table(source, dialect, url)).collect();
    format!("{}\n{}", note(dialect), statements.join("\n"))
}

/// What was tried with the statements of a dialect.
fn note(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Hive => "-- Tried with Spark SQL, which reads Hive's statements; Hive itself: not tried.",
        Dialect::Spark => "-- Tried with Spark SQL 4 and its embedded catalogue.",
        Dialect::Duckdb => "-- Tried with DuckDB 2 on local files; hdfs:// needs a file system that is registered with DuckDB, such as fsspec's.",
        Dialect::Trino | Dialect::Mermaid => "-- Trino itself: not tried.",
    }
}

fn table(source: &Source, dialect: Dialect, url: &str) -> String {
    let location = format!("{}/{}", url.trim_end_matches('/'), layout::archive_folder(&source.name));
    if dialect == Dialect::Duckdb {
        let path = location.strip_prefix("file://").unwrap_or(&location);
        return format!("CREATE OR REPLACE VIEW {} AS\nSELECT * FROM read_parquet('{path}/*.parquet', union_by_name = true);\n", source.name);
    }
    let columns: Vec<String> = columns(source).iter().map(|(name, kind)| format!("  {} {}", quoted(name, dialect), sql_type(*kind, dialect))).collect();
    let columns = columns.join(",\n");
    let name = &source.name;
    match dialect {
        Dialect::Hive => format!("CREATE EXTERNAL TABLE IF NOT EXISTS {name} (\n{columns}\n)\nSTORED AS PARQUET\nLOCATION '{location}';\n"),
        Dialect::Spark => format!("CREATE TABLE IF NOT EXISTS {name} (\n{columns}\n)\nUSING PARQUET\nLOCATION '{location}';\n"),
        _ => format!("CREATE TABLE IF NOT EXISTS hive.default.{name} (\n{columns}\n)\nWITH (format = 'PARQUET', external_location = '{location}');\n"),
    }
}

fn quoted(name: &str, dialect: Dialect) -> String {
    if dialect == Dialect::Trino { format!("\"{name}\"") } else { format!("`{name}`") }
}

/// The type of a column of the archive.
#[derive(Clone, Copy)]
enum Kind {
    Sql(DataType),
    Bytes,
    Headers,
}

/// The columns of an archive file, in their order.
fn columns(source: &Source) -> Vec<(String, Kind)> {
    let (declared, generated): (Vec<_>, Vec<_>) = source.columns.iter().partition(|column| column.generated.is_none());
    let mut columns: Vec<(String, Kind)> = declared.iter().map(|column| (column.name.clone(), Kind::Sql(column.data_type))).collect();
    let fixed = [
        (KAFKA_PARTITION, Kind::Sql(DataType::BigInt)),
        (KAFKA_OFFSET, Kind::Sql(DataType::BigInt)),
        (KAFKA_TIMESTAMP, Kind::Sql(DataType::Timestamp)),
        (KAFKA_KEY, Kind::Bytes),
        (KAFKA_HEADERS, Kind::Headers),
        (KAFKA_VALUE, Kind::Bytes),
        (DECODE_ERROR, Kind::Sql(DataType::Text)),
    ];
    columns.extend(fixed.into_iter().map(|(name, kind)| (name.to_owned(), kind)));
    columns.extend(generated.iter().map(|column| (column.name.clone(), Kind::Sql(column.data_type))));
    columns
}

fn sql_type(kind: Kind, dialect: Dialect) -> String {
    let is_trino = dialect == Dialect::Trino;
    let name = match kind {
        Kind::Bytes if is_trino => "VARBINARY",
        Kind::Bytes => "BINARY",
        Kind::Headers if is_trino => "ARRAY(ROW(key VARCHAR, value VARBINARY))",
        Kind::Headers => "ARRAY<STRUCT<key: STRING, value: BINARY>>",
        Kind::Sql(DataType::Text) if is_trino => "VARCHAR",
        Kind::Sql(DataType::Text) => "STRING",
        Kind::Sql(DataType::Timestamp) if is_trino => "TIMESTAMP(6)",
        Kind::Sql(other) => return other.to_string(),
    };
    name.to_owned()
}

/// Sources, references and views as entities, with what each reads.
fn diagram(pipeline: &Pipeline) -> String {
    let mut lines = vec!["erDiagram".to_owned()];
    let entity = |name: &str, columns: Vec<(String, DataType)>, lines: &mut Vec<String>| {
        lines.push(format!("  {name} {{"));
        // Mermaid knows no parentheses in types.
        lines.extend(
            columns.iter().map(|(column, data_type)| format!("    {} {column}", data_type.to_string().replace(['(', ',', ')'], "_").trim_end_matches('_'))),
        );
        lines.push("  }".to_owned());
    };
    for table in pipeline.sources.iter().chain(&pipeline.references) {
        entity(&table.name, table.columns.iter().map(|column| (column.name.clone(), column.data_type)).collect(), &mut lines);
    }
    for view in &pipeline.views {
        entity(&view.name, view_columns(view), &mut lines);
        let reads: BTreeSet<&str> = view.joins.iter().map(|join| join.reference.name.as_str()).collect();
        let verb = if view.is_rows { "rows of" } else { "groups" };
        lines.push(format!("  {} ||--o{{ {} : \"{verb}\"", view.source.name, view.name));
        lines.extend(reads.iter().map(|reference| format!("  {reference} |o--o{{ {} : \"joined to\"", view.name)));
    }
    lines.join("\n") + "\n"
}

fn view_columns(view: &View) -> Vec<(String, DataType)> {
    let mut columns: Vec<(String, DataType)> = view.bucket.iter().map(|bucket| (bucket.name.clone(), DataType::Timestamp)).collect();
    columns.extend(view.dimensions.iter().map(|dimension| (dimension.name.clone(), dimension.expression.data_type)));
    columns.extend(view.measures.iter().map(|measure| (measure.name.clone(), measure.data_type)));
    columns
}

#[cfg(test)]
mod tests {
    use anabranch_core::definition::{File, parse};

    use super::*;

    fn pipeline() -> Pipeline {
        let text = "CREATE TABLE events (id TEXT, at TIMESTAMP, price DECIMAL(10, 2), kind TEXT GENERATED ALWAYS AS (lower(id)) STORED)
              WITH (connector = 'kafka', topic = 'events', format = 'json');
            CREATE TABLE kinds (kind TEXT, label TEXT) WITH (connector = 'filesystem', path = 'kinds.csv', format = 'csv');
            CREATE MATERIALIZED VIEW by_label AS SELECT label, sum(price) AS total FROM events JOIN kinds ON events.kind = kinds.kind GROUP BY 1;";
        parse(&[File { path: "ddl.sql".into(), text: text.into() }]).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn every_dialect_has_its_statements() {
        let all: Vec<String> = [Dialect::Hive, Dialect::Spark, Dialect::Duckdb, Dialect::Trino, Dialect::Mermaid]
            .into_iter()
            .map(|dialect| ddl(&pipeline(), dialect, "hdfs://namenode:9000/anabranch"))
            .collect();
        insta::assert_snapshot!(all.join("\n"));
    }
}
