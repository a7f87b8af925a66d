//! `CREATE TABLE … WITH (connector = 'kafka', …)` → a source.

use std::collections::BTreeSet;

use sqlparser::{
    ast::{ColumnDef, ColumnOption, CreateTable, CreateTableOptions, DataType as SqlType, Expr as SqlExpr, Ident, Spanned, SqlOption, Value},
    tokenizer::Span,
};

use super::{Column, DataType, Source, Start, error::Mistake, scalar};

/// A record longer than this is rejected; the broker's own default limit is 1 MiB, so only topics with a raised one meet it.
const MAX_RECORD_BYTES: usize = 16 * 1024 * 1024;

/// What WITH may hold.
const OPTIONS: [&str; 6] = ["connector", "topic", "format", "event_time", "timestamp_format", "start"];

pub(super) fn compile(table: &CreateTable) -> Result<Source, Mistake> {
    let name = object_name(&table.name.0.iter().filter_map(|part| part.as_ident().cloned()).collect::<Vec<_>>(), table.name.span())?;
    let options = Options::read(table)?;
    options.require("connector", &["kafka"])?;
    options.require("format", &["json"])?;
    let mut source = Source {
        name,
        topic: options.get("topic")?.0,
        columns: Vec::new(),
        event_time: None,
        timestamp_format: options.find("timestamp_format").map(|(text, _)| text),
        start: options.start()?,
        max_record_bytes: MAX_RECORD_BYTES,
    };
    let generated = |column: &&ColumnDef| column.options.iter().any(|option| matches!(option.option, ColumnOption::Generated { .. }));
    for column in table.columns.iter().filter(|column| !generated(column)).chain(table.columns.iter().filter(generated)) {
        let column = compile_column(column, &source)?;
        source.columns.push(column);
    }
    if source.columns.is_empty() {
        return Err(Mistake::new("no_columns", table.name.span(), "a source needs at least one column"));
    }
    if let Some((event_time, span)) = options.find("event_time") {
        match source.column(&event_time) {
            Some(column) if column.data_type == DataType::Timestamp => source.event_time = Some(event_time),
            Some(column) => {
                let message = format!("event_time \"{event_time}\" is {}, not TIMESTAMP", column.data_type);
                return Err(Mistake::new("event_time_type", span, message));
            }
            None => {
                let names: Vec<&str> = source.columns.iter().map(|column| column.name.as_str()).collect();
                return Err(Mistake::new("unknown_column", span, format!("unknown column \"{event_time}\"")).nearest(&event_time, names));
            }
        }
    }
    if let Some((format, span)) = options.find("timestamp_format")
        && chrono_format_is_wrong(&format)
    {
        return Err(Mistake::new("timestamp_format", span, format!("\"{format}\" is not a time format")).help("strftime, as in '%Y-%m-%d %H:%M:%S'"));
    }
    Ok(source)
}

/// A format needs a date; its other mistakes show when the first record is decoded.
fn chrono_format_is_wrong(format: &str) -> bool {
    let directives: BTreeSet<char> = format.split('%').skip(1).filter_map(|piece| piece.chars().next()).collect();
    let known = "aAbBcCdDeFfGgHhIjklMmnpPrRsSTtuUvVwWxXyYzZ%+.36:9#-_0".chars().collect::<BTreeSet<_>>();
    directives.is_empty() || !directives.is_subset(&known)
}

fn compile_column(column: &ColumnDef, source: &Source) -> Result<Column, Mistake> {
    let name = identifier(&column.name)?;
    let span = column.name.span;
    if super::RESERVED_COLUMNS.contains(&name.as_str()) {
        return Err(Mistake::new("reserved_name", span, format!("the column name \"{name}\" is reserved")));
    }
    if source.column(&name).is_some() {
        return Err(Mistake::new("duplicate_column", span, format!("the column \"{name}\" is defined twice")));
    }
    let data_type = data_type(&column.data_type, span)?;
    let mut result = Column { name, data_type, not_null: false, generated: None };
    for option in &column.options {
        match &option.option {
            ColumnOption::NotNull => result.not_null = true,
            ColumnOption::Null => result.not_null = false,
            ColumnOption::Generated { generation_expr: Some(expression), .. } => {
                let expression = scalar::compile(expression, source)?;
                if expression.data_type != data_type {
                    let message = format!("the expression is {}, the column {data_type}", expression.data_type);
                    return Err(Mistake::new("generated_type", span, message).help(format!("CAST(… AS {data_type})")));
                }
                result.generated = Some(expression);
            }
            other => {
                let message = format!("a column of a source cannot have \"{other}\"");
                return Err(Mistake::new("column_option", span, message).help("NOT NULL, or GENERATED ALWAYS AS (…) STORED"));
            }
        }
    }
    Ok(result)
}

/// The type of that SQL name.
pub(super) fn data_type(sql: &SqlType, span: Span) -> Result<DataType, Mistake> {
    Ok(match sql {
        SqlType::Boolean | SqlType::Bool => DataType::Boolean,
        SqlType::BigInt(_) | SqlType::Int8(_) | SqlType::Int(_) | SqlType::Integer(_) | SqlType::SmallInt(_) | SqlType::Int64 => DataType::BigInt,
        SqlType::Double(_) | SqlType::DoublePrecision | SqlType::Float8 | SqlType::Float64 => DataType::Double,
        SqlType::Text | SqlType::Varchar(None) | SqlType::String(None) => DataType::Text,
        SqlType::Date => DataType::Date,
        SqlType::Timestamp(_, _) => DataType::Timestamp,
        other => {
            return Err(Mistake::new("unknown_type", span, format!("unknown type {other}")).help("one of BOOLEAN, BIGINT, DOUBLE, TEXT, DATE, TIMESTAMP"));
        }
    })
}

/// An unquoted name in lower case, as PostgreSQL folds it.
pub(super) fn identifier(ident: &Ident) -> Result<String, Mistake> {
    let name = if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() };
    // A leading _ belongs to the columns that anabranch adds to tables of states.
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && name.starts_with(|c: char| c.is_ascii_alphabetic());
    if plain && !name.is_empty() && name.len() <= 63 {
        return Ok(name);
    }
    Err(Mistake::new("bad_name", ident.span, format!("\"{name}\" cannot be a name here")).help("a letter, then letters, digits and _, at most 63 in all"))
}

pub(super) fn object_name(parts: &[Ident], span: Span) -> Result<String, Mistake> {
    match parts {
        [name] => identifier(name),
        _ => Err(Mistake::new("bad_name", span, "a name here has no schema").help("write the name alone")),
    }
}

/// The options of WITH, each with its place.
struct Options {
    table: Span,
    values: Vec<(String, String, Span)>,
}

impl Options {
    fn read(table: &CreateTable) -> Result<Self, Mistake> {
        let mut options = Self { table: table.name.span(), values: Vec::new() };
        let CreateTableOptions::With(list) = &table.table_options else {
            let mistake = Mistake::new("no_options", options.table, "the source says neither connector nor topic");
            return Err(mistake.help("WITH (connector = 'kafka', topic = '…', format = 'json')"));
        };
        for option in list {
            let SqlOption::KeyValue { key, value } = option else {
                return Err(Mistake::new("bad_option", options.table, format!("\"{option}\" is not an option")).help("name = 'value'"));
            };
            let name = key.value.to_lowercase();
            if !OPTIONS.contains(&name.as_str()) {
                return Err(Mistake::new("unknown_option", key.span, format!("unknown option \"{name}\"")).nearest(&name, OPTIONS));
            }
            let text = match value {
                SqlExpr::Value(value) => match &value.value {
                    Value::SingleQuotedString(text) => Some(text.clone()),
                    _ => None,
                },
                _ => None,
            };
            let Some(text) = text else {
                return Err(Mistake::new("bad_option", key.span, format!("the value of \"{name}\" is not a string")).help(format!("{name} = '…'")));
            };
            options.values.push((name, text, key.span));
        }
        Ok(options)
    }

    fn find(&self, name: &str) -> Option<(String, Span)> {
        self.values.iter().find(|(key, _, _)| key == name).map(|(_, value, span)| (value.clone(), *span))
    }

    fn get(&self, name: &str) -> Result<(String, Span), Mistake> {
        self.find(name).ok_or_else(|| Mistake::new("missing_option", self.table, format!("the option \"{name}\" is missing")).help(format!("{name} = '…'")))
    }

    fn require(&self, name: &str, allowed: &[&str]) -> Result<(), Mistake> {
        let (value, span) = self.get(name)?;
        if allowed.contains(&value.as_str()) {
            return Ok(());
        }
        Err(Mistake::new("option_value", span, format!("unknown {name} '{value}'")).nearest(&value, allowed.iter().copied()))
    }

    fn start(&self) -> Result<Start, Mistake> {
        let Some((value, span)) = self.find("start") else { return Ok(Start::Earliest) };
        match value.as_str() {
            "earliest" => Ok(Start::Earliest),
            "latest" => Ok(Start::Latest),
            other => scalar::timestamp_micros(other).map(|micros| Start::Timestamp(micros / 1000)).ok_or_else(|| {
                Mistake::new("option_value", span, format!("unknown start '{other}'")).help("earliest, latest, or a time as 2026-01-31 00:00:00")
            }),
        }
    }
}
