//! SQL files → a pipeline.

use std::collections::BTreeMap;

use sqlparser::{
    ast::{Spanned, Statement},
    dialect::PostgreSqlDialect,
    parser::{Parser, ParserError},
    tokenizer::{Location, Span},
};

use super::{DefinitionError, File, Pipeline, Source, error::Mistake, source, view};

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
    let mut sources: BTreeMap<String, Source> = BTreeMap::new();
    for (file, statement) in &statements {
        if let Statement::CreateTable(table) = statement {
            let source = source::compile(table).map_err(|mistake| mistake.at(file, statement.span()))?;
            let duplicate = sources.contains_key(&source.name);
            let topic = sources.values().find(|other| other.topic == source.topic).map(|other| other.name.clone());
            if duplicate {
                let mistake = Mistake::new("duplicate_name", table.name.span(), format!("the source \"{}\" is defined twice", source.name));
                return Err(mistake.at(file, statement.span()));
            }
            if let Some(other) = topic {
                let message = format!("the topic \"{}\" is read by the source \"{other}\" already", source.topic);
                return Err(Mistake::new("duplicate_topic", table.name.span(), message).at(file, statement.span()));
            }
            sources.insert(source.name.clone(), source);
        }
    }
    let mut views = BTreeMap::new();
    for source in sources.values() {
        views.insert(source.rejected_view(), view::rejected(source));
    }
    for (file, statement) in &statements {
        match statement {
            Statement::CreateTable(_) => {}
            Statement::CreateView(definition) => {
                let view = view::compile(definition, &sources).map_err(|mistake| mistake.at(file, statement.span()))?;
                if views.contains_key(&view.name) || sources.contains_key(&view.name) {
                    let message = format!("the name \"{}\" is taken", view.name);
                    return Err(Mistake::new("duplicate_name", definition.name.span(), message).at(file, statement.span()));
                }
                views.insert(view.name.clone(), view);
            }
            other => {
                let mistake = Mistake::new("unknown_statement", other.span(), "this statement defines nothing")
                    .help("CREATE TABLE defines a source, CREATE MATERIALIZED VIEW a view");
                return Err(mistake.at(file, other.span()));
            }
        }
    }
    Ok(Pipeline { sources: sources.into_values().collect(), views: views.into_values().collect() })
}

#[expect(clippy::result_large_err, reason = "as above")]
fn split(file: &File) -> Result<Vec<Statement>, DefinitionError> {
    Parser::parse_sql(&PostgreSqlDialect {}, &file.text).map_err(|error| {
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
