//! A mistake in a definition: what, where, and what would be right.

use std::fmt;

use sqlparser::tokenizer::Span;

/// A file of definitions.
#[derive(Clone, Debug)]
pub struct File {
    /// The path that messages name.
    pub path: String,
    /// Its content.
    pub text: String,
}

/// The first mistake of a file.
///
/// ```text
/// pipelines/a.sql:7:12: unknown column "event_cty"
///   7 | SELECT     event_cty, count(*) AS n
///     |            ^
///   help: did you mean "event_city_name"?
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefinitionError {
    /// A stable name of the kind of mistake.
    pub code: &'static str,
    /// The file.
    pub path: String,
    /// The line, from 1.
    pub line: u64,
    /// The column, from 1, in characters.
    pub column: u64,
    /// The text of that line.
    pub excerpt: String,
    /// What is wrong.
    pub message: String,
    /// What is allowed.
    pub help: Option<String>,
}

impl fmt::Display for DefinitionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, column, excerpt, message, .. } = self;
        let margin = line.to_string().len();
        writeln!(f, "{path}:{line}:{column}: {message}")?;
        writeln!(f, "  {line} | {excerpt}")?;
        let before = usize::try_from(column.saturating_sub(1)).unwrap_or_default();
        write!(f, "  {:margin$} | {:before$}^", "", "")?;
        if let Some(help) = &self.help {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

impl std::error::Error for DefinitionError {}

/// A mistake whose file is not known yet.
#[derive(Debug)]
pub(super) struct Mistake {
    code: &'static str,
    span: Span,
    message: String,
    help: Option<String>,
}

impl Mistake {
    pub(super) fn new(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self { code, span, message: message.into(), help: None }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// What is wrong, with what is allowed.
    pub(super) fn message(&self) -> String {
        self.help.as_ref().map_or_else(|| self.message.clone(), |help| format!("{}; {help}", self.message))
    }

    /// Names the nearest of the allowed names, or lists them when none is near.
    pub(super) fn nearest<'a>(self, name: &str, allowed: impl IntoIterator<Item = &'a str>) -> Self {
        let help = nearest(name, allowed);
        if help.is_empty() { self } else { self.help(help) }
    }

    pub(super) fn at(self, file: &File, fallback: Span) -> DefinitionError {
        let span = if self.span.start.line == 0 { fallback } else { self.span };
        let (line, column) = (span.start.line.max(1), span.start.column.max(1));
        let index = usize::try_from(line - 1).unwrap_or_default();
        DefinitionError {
            code: self.code,
            path: file.path.clone(),
            line,
            column,
            excerpt: file.text.lines().nth(index).unwrap_or_default().to_owned(),
            message: self.message,
            help: self.help,
        }
    }
}

/// "did you mean …?" or "one of …", for a name that is not among the allowed ones.
#[must_use]
pub fn nearest<'a>(name: &str, allowed: impl IntoIterator<Item = &'a str>) -> String {
    const NEAR: f64 = 0.75;
    const LISTED: usize = 12;
    let allowed: Vec<&str> = allowed.into_iter().collect();
    let best = allowed.iter().map(|candidate| (strsim::jaro_winkler(name, candidate), *candidate)).max_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((similarity, candidate)) if similarity >= NEAR => format!("did you mean \"{candidate}\"?"),
        Some(_) if allowed.len() <= LISTED => format!("one of {}", allowed.join(", ")),
        _ => String::new(),
    }
}
