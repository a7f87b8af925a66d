//! FROM and JOIN: the tables that a view reads, and the names of their columns.

use std::collections::BTreeMap;

use sqlparser::{
    ast::{BinaryOperator, Expr as SqlExpr, Ident, JoinConstraint, JoinOperator, Select, Spanned, TableFactor},
    tokenizer::Span,
};

use super::{
    DataType, Expr, Join, KAFKA_KEY, KAFKA_OFFSET, KAFKA_PARTITION, KAFKA_TIMESTAMP, Source,
    error::Mistake,
    options::name_parts,
    scalar::{self, Scope},
    source::{identifier, object_name},
    typing::{adapt, common_type},
};

/// The table of FROM with what was joined to it so far.
#[derive(Clone, Debug)]
pub(super) struct Tables<'a> {
    pub(super) source: &'a Source,
    alias: String,
    pub(super) joins: Vec<Join>,
}

impl<'a> Tables<'a> {
    /// One table alone.
    pub(super) fn of(source: &'a Source) -> Self {
        Self { source, alias: source.name.clone(), joins: Vec::new() }
    }

    /// What the FROM of a view names.
    pub(super) fn read(select: &Select, sources: &'a BTreeMap<String, Source>) -> Result<Self, Mistake> {
        let [table] = select.from.as_slice() else {
            return Err(Mistake::new("from", select.span(), "a view reads exactly one table").help("FROM name, or FROM name JOIN reference ON …"));
        };
        let (source, alias) = named(&table.relation, sources)?;
        let mut tables = Self { source, alias, joins: Vec::new() };
        for join in &table.joins {
            let span = join.relation.span();
            let (reference, alias) = named(&join.relation, sources)?;
            if reference.files.is_none() {
                let message = format!("\"{}\" is a topic: events cannot be joined to events", reference.name);
                return Err(Mistake::new("join", span, message).help("JOIN a table with connector = 'filesystem'"));
            }
            if tables.source.files.is_some() {
                return Err(Mistake::new("join", span, "a view over files cannot join others").help("JOIN them to a topic, or join the files beforehand"));
            }
            if alias == tables.alias || tables.joins.iter().any(|join| join.alias == alias) {
                return Err(Mistake::new("join", span, format!("the name \"{alias}\" stands twice in FROM")).help(format!("{alias} AS other")));
            }
            let (inner, constraint) = match &join.join_operator {
                JoinOperator::Join(constraint) | JoinOperator::Inner(constraint) => (true, constraint),
                JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => (false, constraint),
                _ => return Err(Mistake::new("join", span, "this kind of join is not known here").help("LEFT JOIN or JOIN")),
            };
            let JoinConstraint::On(condition) = constraint else {
                return Err(Mistake::new("join", span, "a join says which columns are equal").help(format!("ON column = {alias}.column")));
            };
            let mut joined = Join { alias, reference: reference.clone(), inner, on: Vec::new() };
            tables.keys(condition, &mut joined)?;
            tables.joins.push(joined);
        }
        Ok(tables)
    }

    /// `a = b AND …`, each with a column of the reference on one side.
    fn keys(&self, condition: &SqlExpr, join: &mut Join) -> Result<(), Mistake> {
        let span = condition.span();
        let refuse = || {
            let help = format!("expression = {}.column, several with AND", join.alias);
            Mistake::new("join_condition", span, format!("\"{condition}\" does not compare with a column of \"{}\"", join.alias)).help(help)
        };
        match condition {
            SqlExpr::Nested(inner) => self.keys(inner, join),
            SqlExpr::BinaryOp { left, op: BinaryOperator::And, right } => {
                self.keys(left, join)?;
                self.keys(right, join)
            }
            SqlExpr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
                let (name, other) = match (self.column_of(left, join)?, self.column_of(right, join)?) {
                    (None, Some(name)) => (name, left),
                    (Some(name), None) => (name, right),
                    _ => return Err(refuse()),
                };
                let key = scalar::compile(other, &mut self.clone())?;
                let column = join.reference.column(&name).map_or(DataType::Text, |column| column.data_type);
                let key = adapt(key.clone(), common_type(&[&key, &Expr::column(&name, column)]), span)?;
                if key.data_type != column {
                    let message = format!("{} is compared with \"{name}\", which is {column}", key.data_type);
                    return Err(Mistake::new("join_types", span, message).help(format!("CAST(… AS {column})")));
                }
                join.on.push((key, name));
                Ok(())
            }
            _ => Err(refuse()),
        }
    }

    /// The column of the reference that is being joined, if the expression is one.
    fn column_of(&self, sql: &SqlExpr, join: &Join) -> Result<Option<String>, Mistake> {
        let (table, name) = match sql {
            SqlExpr::Nested(inner) => return self.column_of(inner, join),
            SqlExpr::CompoundIdentifier(parts) => match parts.as_slice() {
                [table, name] => (Some(table), name),
                _ => return Ok(None),
            },
            SqlExpr::Identifier(name) => (None, name),
            _ => return Ok(None),
        };
        let column = identifier(name)?;
        Ok(match table {
            Some(table) if identifier(table)? == join.alias => match join.reference.column(&column) {
                Some(_) => Some(column),
                None => return Err(unknown(&column, name.span, join.reference.columns.iter().map(|column| column.name.as_str()))),
            },
            Some(_) => None,
            None => {
                let elsewhere = self.source.column(&column).is_some() || self.joins.iter().any(|join| join.reference.column(&column).is_some());
                (!elsewhere && join.reference.column(&column).is_some()).then_some(column)
            }
        })
    }

    /// The columns that every record has.
    fn built_in(&self, name: &str) -> Option<DataType> {
        match name {
            _ if self.source.files.is_some() => None,
            KAFKA_PARTITION | KAFKA_OFFSET => Some(DataType::BigInt),
            KAFKA_TIMESTAMP => Some(DataType::Timestamp),
            _ => None,
        }
    }

    fn own(&self, name: &str) -> Option<Expr> {
        let data_type = self.built_in(name).or_else(|| self.source.column(name).map(|column| column.data_type))?;
        Some(Expr::column(name, data_type))
    }
}

fn unknown<'a>(name: &str, span: Span, names: impl Iterator<Item = &'a str>) -> Mistake {
    Mistake::new("unknown_column", span, format!("unknown column \"{name}\"")).nearest(name, names)
}

fn named<'a>(relation: &TableFactor, sources: &'a BTreeMap<String, Source>) -> Result<(&'a Source, String), Mistake> {
    let TableFactor::Table { name, alias, .. } = relation else {
        return Err(Mistake::new("subquery", relation.span(), "a view reads tables, not expressions").help("FROM name"));
    };
    let wanted = object_name(&name_parts(name), name.span())?;
    let table = sources.get(&wanted).ok_or_else(|| {
        Mistake::new("unknown_source", name.span(), format!("unknown table \"{wanted}\"")).nearest(&wanted, sources.keys().map(String::as_str))
    })?;
    let alias = alias.as_ref().map(|alias| identifier(&alias.name)).transpose()?.unwrap_or(wanted);
    Ok((table, alias))
}

impl Scope for Tables<'_> {
    fn column(&self, table: Option<&Ident>, name: &Ident) -> Result<Expr, Mistake> {
        let (column, span) = (identifier(name)?, name.span);
        if column == KAFKA_KEY {
            return Err(Mistake::new("kafka_key", span, "kafka_key is bytes, which no expression takes").help("put the key into the value, too"));
        }
        let of_join = |join: &Join| join.reference.column(&column).map(|found| Expr::column(&join.column(&column), found.data_type));
        let Some(table) = table else {
            let mut found: Vec<Expr> = self.own(&column).into_iter().collect();
            found.extend(self.joins.iter().filter_map(of_join));
            return match found.len() {
                1 => Ok(found.swap_remove(0)),
                0 => {
                    let joined = self.joins.iter().flat_map(|join| &join.reference.columns);
                    let names = self.source.columns.iter().chain(joined).map(|column| column.name.as_str());
                    Err(unknown(&column, span, names.chain([KAFKA_PARTITION, KAFKA_OFFSET, KAFKA_TIMESTAMP])))
                }
                _ => Err(Mistake::new("ambiguous", span, format!("more than one table has a column \"{column}\"")).help(format!("{}.{column}", self.alias))),
            };
        };
        let wanted = identifier(table)?;
        if wanted == self.alias {
            return self.own(&column).ok_or_else(|| unknown(&column, span, self.source.columns.iter().map(|column| column.name.as_str())));
        }
        match self.joins.iter().find(|join| join.alias == wanted) {
            Some(join) => of_join(join).ok_or_else(|| unknown(&column, span, join.reference.columns.iter().map(|column| column.name.as_str()))),
            None => {
                let names = self.joins.iter().map(|join| join.alias.as_str()).chain([self.alias.as_str()]);
                Err(Mistake::new("unknown_table", table.span, format!("\"{wanted}\" is not in FROM")).nearest(&wanted, names))
            }
        }
    }
}
