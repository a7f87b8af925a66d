//! What stands in WITH and OPTIONS: names with values, each with its place.

use sqlparser::{
    ast::{CreateTable, CreateTableOptions, Expr as SqlExpr, ObjectName, ObjectNamePart, Spanned, SqlOption, Value},
    tokenizer::Span,
};

use super::error::Mistake;

/// Options with the place of each.
pub(super) struct Options {
    /// Where the table's name stands: the place of what is missing.
    pub(super) table: Span,
    values: Vec<(String, String, Span)>,
}

impl Options {
    /// The options of a table.
    pub(super) fn of_table(table: &CreateTable, allowed: &[&str]) -> Result<Self, Mistake> {
        let span = table.name.span();
        match &table.table_options {
            CreateTableOptions::With(list) | CreateTableOptions::Options(list) => Self::read(list, allowed, span),
            _ => {
                let mistake = Mistake::new("no_options", span, "the table says neither connector nor topic");
                Err(mistake.help("WITH (connector = 'kafka', topic = '…', format = 'json')"))
            }
        }
    }

    pub(super) fn read(list: &[SqlOption], allowed: &[&str], table: Span) -> Result<Self, Mistake> {
        let mut options = Self { table, values: Vec::new() };
        for option in list {
            let SqlOption::KeyValue { key, value } = option else {
                return Err(Mistake::new("bad_option", table, format!("\"{option}\" is not an option")).help("name = 'value'"));
            };
            let span = if key.span.start.line == 0 { table } else { key.span };
            let name = key.value.to_lowercase();
            let known = allowed.iter().any(|allowed| *allowed == name || allowed.strip_suffix('*').is_some_and(|prefix| name.starts_with(prefix)));
            if !known {
                return Err(Mistake::new("unknown_option", span, format!("unknown option \"{name}\"")).nearest(&name, allowed.iter().copied()));
            }
            let text = match value {
                SqlExpr::Value(value) => match &value.value {
                    Value::SingleQuotedString(text) => Some(text.clone()),
                    _ => None,
                },
                _ => None,
            };
            let Some(text) = text else {
                return Err(Mistake::new("bad_option", span, format!("the value of \"{name}\" is not a string")).help(format!("{name} = '…'")));
            };
            if options.find(&name).is_some() {
                return Err(Mistake::new("duplicate_option", span, format!("the option \"{name}\" stands twice")));
            }
            options.values.push((name, text, span));
        }
        Ok(options)
    }

    pub(super) fn find(&self, name: &str) -> Option<(&str, Span)> {
        self.values.iter().find(|(key, _, _)| key == name).map(|(_, value, span)| (value.as_str(), *span))
    }

    /// Those whose name begins with a prefix: the rest of the name, value, place.
    pub(super) fn starting<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str, Span)> {
        self.values.iter().filter_map(move |(key, value, span)| Some((key.strip_prefix(prefix)?, value.as_str(), *span)))
    }

    pub(super) fn get(&self, name: &str) -> Result<(&str, Span), Mistake> {
        self.find(name).ok_or_else(|| Mistake::new("missing_option", self.table, format!("the option \"{name}\" is missing")).help(format!("{name} = '…'")))
    }

    /// One of these values.
    pub(super) fn one_of(&self, name: &str, allowed: &[&str]) -> Result<&str, Mistake> {
        let (value, span) = self.get(name)?;
        if allowed.contains(&value) {
            return Ok(value);
        }
        Err(Mistake::new("option_value", span, format!("unknown {name} '{value}'")).nearest(value, allowed.iter().copied()))
    }

    /// Refuses an option that has no meaning beside the others.
    pub(super) fn refuse(&self, name: &str, reason: &str) -> Result<(), Mistake> {
        match self.find(name) {
            Some((_, span)) => Err(Mistake::new("option_here", span, format!("the option \"{name}\" has no meaning {reason}"))),
            None => Ok(()),
        }
    }

    /// 'true' or 'false'; false without it.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Mistake> {
        if self.find(name).is_none() { Ok(false) } else { Ok(self.one_of(name, &["true", "false"])? == "true") }
    }
}

/// The parts of a name as they are written.
pub(super) fn name_parts(name: &ObjectName) -> Vec<sqlparser::ast::Ident> {
    name.0.iter().filter_map(ObjectNamePart::as_ident).cloned().collect()
}
