//! `CREATE TABLE … WITH (connector = 'kafka' | 'filesystem', …)` → a source or a reference.

use std::collections::BTreeSet;

use sqlparser::{
    ast::{ColumnDef, ColumnOption, CreateTable, DataType as SqlType, ExactNumberInfo, Ident, Spanned},
    tokenizer::Span,
};

use super::{
    Column, DataType, FileFormat, Files, MAX_SUMMED_PRECISION, Source, Start,
    error::Mistake,
    options::{Options, name_parts},
    scalar,
    tables::Tables,
    typing::timestamp_micros,
};

/// A record longer than this is rejected; the broker's own default limit is 1 MiB, so only topics with a raised one meet it.
const MAX_RECORD_BYTES: usize = 16 * 1024 * 1024;

/// What WITH may hold.
const OPTIONS: [&str; 9] = ["connector", "topic", "format", "event_time", "timestamp_format", "start", "lenient", "path", "unique"];
/// What the OPTIONS of a column may hold.
const COLUMN_OPTIONS: [&str; 2] = ["path", "timestamp_format"];
/// Times as numbers.
pub(super) const EPOCHS: [&str; 3] = ["epoch_s", "epoch_ms", "epoch_us"];

pub(super) fn compile(table: &CreateTable) -> Result<Source, Mistake> {
    let name = object_name(&name_parts(&table.name), table.name.span())?;
    if table.query.is_some() {
        return Err(Mistake::new("not_supported", table.name.span(), "a table with a query is not known here").help("CREATE MATERIALIZED VIEW … AS SELECT …"));
    }
    let options = Options::of_table(table, &OPTIONS)?;
    let is_topic = options.one_of("connector", &["kafka", "filesystem"])? == "kafka";
    let mut source = Source {
        name,
        comment: None,
        topic: String::new(),
        files: None,
        columns: Vec::new(),
        event_time: None,
        timestamp_formats: time_formats(&options)?,
        lenient: options.flag("lenient")?,
        start: start(&options)?,
        max_record_bytes: MAX_RECORD_BYTES,
    };
    if is_topic {
        options.one_of("format", &["json"])?;
        options.refuse("path", "for a topic: a column has OPTIONS (path = …)")?;
        options.refuse("unique", "for a topic")?;
        options.get("topic")?.0.clone_into(&mut source.topic);
    } else {
        ["topic", "event_time", "start"].iter().try_for_each(|name| options.refuse(name, "for files"))?;
        source.files = Some(files(&options)?);
        // What CSV holds are texts.
        source.lenient |= options.find("format").is_some_and(|(format, _)| format == "csv");
    }
    let generated = |column: &&ColumnDef| column.options.iter().any(|option| matches!(option.option, ColumnOption::Generated { .. }));
    for column in table.columns.iter().filter(|column| !generated(column)).chain(table.columns.iter().filter(generated)) {
        let column = compile_column(column, &source)?;
        source.columns.push(column);
    }
    if source.columns.is_empty() {
        return Err(Mistake::new("no_columns", table.name.span(), "a table needs at least one column"));
    }
    if let Some((event_time, span)) = options.find("event_time") {
        match source.column(event_time) {
            Some(column) if column.data_type == DataType::Timestamp => source.event_time = Some(event_time.to_owned()),
            Some(column) => {
                let message = format!("event_time \"{event_time}\" is {}, not TIMESTAMP", column.data_type);
                return Err(Mistake::new("event_time_type", span, message));
            }
            None => {
                let names: Vec<&str> = source.columns.iter().map(|column| column.name.as_str()).collect();
                return Err(Mistake::new("unknown_column", span, format!("unknown column \"{event_time}\"")).nearest(event_time, names));
            }
        }
    }
    Ok(source)
}

fn files(options: &Options) -> Result<Files, Mistake> {
    let format = match options.one_of("format", &["json", "csv", "parquet"])? {
        "csv" => FileFormat::Csv,
        "parquet" => FileFormat::Parquet,
        _ => FileFormat::Json,
    };
    let unique_first = options.find("unique").is_some() && options.one_of("unique", &["first"])? == "first";
    Ok(Files { format, path: options.get("path")?.0.to_owned(), unique_first, content: None })
}

fn start(options: &Options) -> Result<Start, Mistake> {
    let Some((value, span)) = options.find("start") else { return Ok(Start::Earliest) };
    match value {
        "earliest" => Ok(Start::Earliest),
        "latest" => Ok(Start::Latest),
        other => timestamp_micros(other)
            .map(|micros| Start::Timestamp(micros / 1000))
            .ok_or_else(|| Mistake::new("option_value", span, format!("unknown start '{other}'")).help("earliest, latest, or a time as 2026-01-31 00:00:00")),
    }
}

/// The formats of `timestamp_format`, one after the other with `|` between them.
fn time_formats(options: &Options) -> Result<Vec<String>, Mistake> {
    let Some((text, span)) = options.find("timestamp_format") else { return Ok(Vec::new()) };
    let formats: Vec<String> = text.split('|').map(|format| format.trim().to_owned()).collect();
    match formats.iter().find(|format| !EPOCHS.contains(&format.as_str()) && *format != "rfc3339" && strftime_is_wrong(format)) {
        Some(wrong) => {
            let help = "strftime as in '%Y-%m-%d %H:%M:%S', rfc3339, epoch_s, epoch_ms or epoch_us; several with | between them";
            Err(Mistake::new("timestamp_format", span, format!("\"{wrong}\" is not a time format")).help(help))
        }
        None => Ok(formats),
    }
}

/// A format needs a date; its other mistakes show when the first record is decoded.
fn strftime_is_wrong(format: &str) -> bool {
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
    let mut result = Column { name, comment: None, path: Vec::new(), timestamp_formats: Vec::new(), data_type, not_null: false, generated: None };
    for option in &column.options {
        match &option.option {
            ColumnOption::NotNull => result.not_null = true,
            ColumnOption::Null => result.not_null = false,
            ColumnOption::Comment(text) => result.comment = Some(text.clone()),
            ColumnOption::Options(list) => {
                let options = Options::read(list, &COLUMN_OPTIONS, span)?;
                result.timestamp_formats = time_formats(&options)?;
                if !result.timestamp_formats.is_empty() && data_type != DataType::Timestamp {
                    return options.refuse("timestamp_format", "for a column that is not TIMESTAMP").map(|()| result);
                }
                result.path = options.find("path").map(|(path, span)| json_path(path, span)).transpose()?.unwrap_or_default();
            }
            ColumnOption::Generated { generation_expr: Some(expression), .. } => {
                let expression = scalar::compile(expression, &mut Tables::of(source))?;
                if expression.data_type != data_type {
                    let message = format!("the expression is {}, the column {data_type}", expression.data_type);
                    return Err(Mistake::new("generated_type", span, message).help(format!("CAST(… AS {data_type})")));
                }
                result.generated = Some(expression);
            }
            other => {
                let message = format!("a column of a table cannot have \"{other}\"");
                return Err(Mistake::new("column_option", span, message).help("NOT NULL, OPTIONS (path = '$.a.b'), or GENERATED ALWAYS AS (…) STORED"));
            }
        }
    }
    if let Some(other) =
        source.columns.iter().find(|other| result.generated.is_none() && other.generated.is_none() && overlap(&member_path(other), &member_path(&result)))
    {
        let message = format!("the columns \"{}\" and \"{}\" take the same member, or one inside the other's", other.name, result.name);
        return Err(Mistake::new("same_member", span, message).help("compute one of them: GENERATED ALWAYS AS (…) STORED"));
    }
    Ok(result)
}

/// The members on the way to a column's value.
fn member_path(column: &Column) -> Vec<String> {
    if column.path.is_empty() { vec![column.name.clone()] } else { column.path.clone() }
}

fn overlap(one: &[String], other: &[String]) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// `$.payload.user.id`.
fn json_path(text: &str, span: Span) -> Result<Vec<String>, Mistake> {
    let members: Option<Vec<String>> = text.strip_prefix("$.").map(|rest| rest.split('.').map(str::to_owned).collect());
    match members {
        Some(members) if members.iter().all(|member| !member.is_empty() && !member.contains(['[', ']', '*', '\''])) => Ok(members),
        _ => Err(Mistake::new("bad_path", span, format!("\"{text}\" is not a path")).help("members alone, as in '$.payload.user.id'")),
    }
}

fn decimal(info: &ExactNumberInfo, span: Span) -> Result<DataType, Mistake> {
    let (precision, scale) = match info {
        ExactNumberInfo::None => (u64::from(MAX_SUMMED_PRECISION), 0),
        ExactNumberInfo::Precision(precision) => (*precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (*precision, *scale),
    };
    match (u8::try_from(precision), u8::try_from(scale)) {
        (Ok(precision @ 1..=MAX_SUMMED_PRECISION), Ok(scale)) if scale <= precision => Ok(DataType::Decimal { precision, scale }),
        _ => {
            let message = format!("DECIMAL({precision},{scale}) is not possible here");
            Err(Mistake::new("decimal_size", span, message).help("1 to 18 digits, so that no sum of them overflows 38; not more behind the point than in all"))
        }
    }
}

/// The type of that SQL name.
pub(super) fn data_type(sql: &SqlType, span: Span) -> Result<DataType, Mistake> {
    Ok(match sql {
        SqlType::Boolean | SqlType::Bool => DataType::Boolean,
        SqlType::BigInt(_) | SqlType::Int8(_) | SqlType::Int(_) | SqlType::Integer(_) | SqlType::SmallInt(_) | SqlType::Int64 => DataType::BigInt,
        SqlType::Double(_) | SqlType::DoublePrecision | SqlType::Float8 | SqlType::Float64 => DataType::Double,
        SqlType::Text | SqlType::Varchar(None) | SqlType::String(None) => DataType::Text,
        SqlType::Date => DataType::Date,
        SqlType::Timestamp(_, _) | SqlType::Datetime(_) => DataType::Timestamp,
        SqlType::Decimal(info) | SqlType::Numeric(info) | SqlType::Dec(info) => decimal(info, span)?,
        other => {
            return Err(
                Mistake::new("unknown_type", span, format!("unknown type {other}")).help("one of BOOLEAN, BIGINT, DOUBLE, DECIMAL(p,s), TEXT, DATE, TIMESTAMP")
            );
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
