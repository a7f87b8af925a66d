//! SQL files → a pipeline.

use std::collections::BTreeMap;

use sqlparser::{
    ast::{Spanned, Statement},
    dialect::GenericDialect,
    parser::{Parser, ParserError},
    tokenizer::{Location, Span},
};

use super::{DefinitionError, File, Pipeline, Source, View, comments, error::Mistake, source, view};

/// Compiles the files of a pipeline. Views may use sources of any file.
///
/// # Errors
/// The first mistake, with its place and what is allowed.
#[expect(clippy::result_large_err, reason = "made once, where the program ends")]
pub fn parse(files: &[File]) -> Result<Pipeline, DefinitionError> {
    let mut statements = Vec::new();
    for file in files {
        for statement in split(file)? {
            statements.push((file, statement));
        }
    }
    let mut tables: BTreeMap<String, Source> = BTreeMap::new();
    for (file, statement) in &statements {
        if let Statement::CreateTable(table) = statement {
            let compiled = source::compile(table).and_then(|source| unique(source, table.name.span(), &tables));
            let source = compiled.map_err(|mistake| mistake.at(file, statement.span()))?;
            tables.insert(source.name.clone(), source);
        }
    }
    let mut views: BTreeMap<String, View> = BTreeMap::new();
    for source in tables.values().filter(|source| source.files.is_none()) {
        views.insert(source.rejected_view(), view::rejected(source));
    }
    for (file, statement) in &statements {
        let done = match statement {
            Statement::CreateTable(_) | Statement::Comment { .. } => Ok(()),
            Statement::CreateView(definition) => view::compile(definition, &tables).and_then(|view| {
                if views.contains_key(&view.name) || tables.contains_key(&view.name) {
                    return Err(Mistake::new("duplicate_name", definition.name.span(), format!("the name \"{}\" is taken", view.name)));
                }
                views.insert(view.name.clone(), view);
                Ok(())
            }),
            other => Err(Mistake::new("unknown_statement", other.span(), "this statement defines nothing")
                .help("CREATE TABLE defines a source or a reference, CREATE MATERIALIZED VIEW a view, COMMENT ON says what they are")),
        };
        done.map_err(|mistake| mistake.at(file, statement.span()))?;
    }
    for (file, statement) in &statements {
        if let Statement::Comment { object_type, object_name, comment, .. } = statement {
            let place = object_name.span();
            comments::set(object_type, object_name, comment.as_deref(), &mut tables, &mut views).map_err(|mistake| mistake.at(file, place))?;
        }
    }
    let (references, sources) = tables.into_values().partition(|table| table.files.is_some());
    Ok(Pipeline { sources, references, views: views.into_values().collect() })
}

/// Two sources share neither name nor topic.
fn unique(source: Source, place: Span, tables: &BTreeMap<String, Source>) -> Result<Source, Mistake> {
    if tables.contains_key(&source.name) {
        return Err(Mistake::new("duplicate_name", place, format!("the table \"{}\" is defined twice", source.name)));
    }
    if let Some(other) = tables.values().find(|other| source.files.is_none() && other.topic == source.topic) {
        let message = format!("the topic \"{}\" is read by the source \"{}\" already", source.topic, other.name);
        return Err(Mistake::new("duplicate_topic", place, message));
    }
    Ok(source)
}

#[expect(clippy::result_large_err, reason = "as above")]
fn split(file: &File) -> Result<Vec<Statement>, DefinitionError> {
    Parser::parse_sql(&GenericDialect {}, &file.text).map_err(|error| {
        let text = match error {
            ParserError::TokenizerError(text) | ParserError::ParserError(text) => text,
            ParserError::RecursionLimitExceeded => "the statement is nested too deeply".to_owned(),
        };
        let (message, place) = match text.rsplit_once(" at Line: ") {
            Some((message, place)) => (message.to_owned(), place.to_owned()),
            None => (text, String::new()),
        };
        let mut numbers = place.split(", Column: ").filter_map(|number| number.trim().parse::<u64>().ok());
        let last_line = u64::try_from(file.text.lines().count()).unwrap_or(1).max(1);
        let line = numbers.next().filter(|line| *line > 0).unwrap_or(last_line);
        let start = Location { line, column: numbers.next().unwrap_or(1) };
        Mistake::new("syntax", Span::new(start, start), message).at(file, Span::new(start, start))
    })
}
