//! A view in PostgreSQL's SQL: states of parts and live rows → the values that a user sees.
//!
//! Only what PostgreSQL computes as the program does: a measure that needs a sketch, or a function whose meaning differs there,
//! is left out, and the view's comment names it.

use anabranch_core::definition::{Accumulator, AccumulatorKind, DataType, Exactness, Expr, Formula, Function, Literal, Node, View};
use anabranch_views::table::ColumnType;
use chrono::{DateTime, Duration, NaiveDate};

use super::super::definitions::{live_table, quoted, sql_type};
use super::table;

/// The statements that make the SQL views of a definition in their schemas.
pub(super) struct SqlViews {
    /// Its version and its live rows.
    pub(super) merged: String,
    /// Its version alone.
    pub(super) version: String,
    /// `COMMENT ON` both, and their columns.
    pub(super) comments: String,
}

/// The SQL views of a definition.
pub(super) fn sql_views(view: &View) -> SqlViews {
    let reach = format!("anabranch.reach({})", text(&view.fingerprint.0));
    let parts = format!("FROM anabranch.{} WHERE _part = ANY ((SELECT parts FROM {reach})::bigint[])", table(&view.fingerprint));
    let live = format!("FROM anabranch.{} WHERE _epoch = ANY ((SELECT epochs FROM {reach})::bigint[])", live_table(&view.fingerprint));
    let keys: Vec<String> = view.key_names().map(quoted).collect();
    let measures: Vec<(&str, Option<String>)> = if view.is_rows {
        Vec::new()
    } else {
        let cast = |sql: String, data_type| format!("({sql})::{}", sql_type(ColumnType::Sql(data_type)));
        view.measures.iter().map(|measure| (measure.name.as_str(), formula(view, &measure.formula).map(|sql| cast(sql, measure.data_type)))).collect()
    };
    let values = measures.iter().filter_map(|(name, sql)| Some(format!("{} AS {}", sql.as_ref()?, quoted(name))));
    let selected: Vec<String> = keys.iter().cloned().chain(values).collect();
    let states: Vec<String> = anabranch_views::table::columns(view).iter().map(|column| quoted(&column.name)).collect();
    let grouped = if view.is_rows || keys.is_empty() { String::new() } else { format!(" GROUP BY {}", keys.join(", ")) };
    let select = |from: &str| format!("SELECT {} FROM ({from}) AS states{grouped}", selected.join(", "));
    let states = states.join(", ");
    let merged = select(&format!("SELECT {states} {parts} UNION ALL SELECT {states} {live}"));
    let version = select(&format!("SELECT {states} {parts}"));
    let left_out: Vec<&str> = measures.iter().filter(|(_, sql)| sql.is_none()).map(|(name, _)| *name).collect();
    let rounded = view.measures.iter().filter(|measure| view.exactness(measure) == Exactness::Rounded).map(|measure| measure.name.as_str());
    SqlViews { merged, version, comments: comments(view, &left_out, &rounded.collect::<Vec<_>>(), &measures) }
}

fn comments(view: &View, left_out: &[&str], rounded: &[&str], measures: &[(&str, Option<String>)]) -> String {
    let mut said: Vec<String> = view.comment.iter().cloned().collect();
    if !left_out.is_empty() {
        said.push(format!("Left out, because SQL cannot merge or compute it: {}.", left_out.join(", ")));
    }
    if !rounded.is_empty() {
        said.push(format!("Rounded, as sums of floating point are: {}.", rounded.join(", ")));
    }
    let is_there = |name: &str| view.key_names().any(|key| key == name) || measures.iter().any(|(measure, sql)| *measure == name && sql.is_some());
    let mut statements = Vec::new();
    for (schema, what) in [(super::MERGED, "Its version and what came since"), (super::VERSION, "Its version, as the last run published it")] {
        let relation = format!("{schema}.{}", quoted(&view.name));
        let comment = said.iter().map(String::as_str).chain([what]).collect::<Vec<_>>().join(" ");
        statements.push(format!("COMMENT ON VIEW {relation} IS {}", text(&format!("{comment}."))));
        for (column, comment) in view.column_comments.iter().filter(|(column, _)| is_there(column)) {
            statements.push(format!("COMMENT ON COLUMN {relation}.{} IS {}", quoted(column), text(comment)));
        }
    }
    statements.join("; ")
}

/// A text as a literal, whatever the server's settings are.
fn text(value: &str) -> String {
    let doubled = value.replace('\'', "''");
    if doubled.contains('\\') { format!("E'{}'", doubled.replace('\\', "\\\\")) } else { format!("'{doubled}'") }
}

/// The merged state of an accumulator, finalized; nothing for sketches.
fn state(index: usize, accumulator: &Accumulator) -> Option<String> {
    let column = |suffix: &str| quoted(&format!("_s{index}_{suffix}"));
    let argument = accumulator.argument_type();
    Some(match accumulator.kind {
        AccumulatorKind::Count => format!("coalesce(sum({}), 0)::bigint", column("count")),
        AccumulatorKind::Sum => format!("sum({})", column("sum")),
        AccumulatorKind::Min if argument == Some(DataType::Boolean) => format!("bool_and({})", column("min")),
        AccumulatorKind::Max if argument == Some(DataType::Boolean) => format!("bool_or({})", column("max")),
        AccumulatorKind::Min => format!("min({})", collated(&column("min"), argument)),
        AccumulatorKind::Max => format!("max({})", collated(&column("max"), argument)),
        AccumulatorKind::First | AccumulatorKind::Last => {
            let (which, order) = if accumulator.kind == AccumulatorKind::First { ("first", "ASC") } else { ("last", "DESC") };
            let place: Vec<String> = ["time", "partition", "offset"].iter().map(|part| format!("{} {order}", column(&format!("{which}_{part}")))).collect();
            let value = column(which);
            format!("(array_agg({value} ORDER BY {}) FILTER (WHERE {value} IS NOT NULL))[1]", place.join(", "))
        }
        AccumulatorKind::Values { .. } | AccumulatorKind::Distinct | AccumulatorKind::Histogram => return None,
    })
}

/// Texts are ordered by their bytes.
fn collated(column: &str, data_type: Option<DataType>) -> String {
    if data_type == Some(DataType::Text) { format!("{column} COLLATE \"C\"") } else { column.to_owned() }
}

fn formula(view: &View, formula: &Formula) -> Option<String> {
    let of = |index: usize| state(index, view.accumulators.get(index)?);
    match formula {
        Formula::Value(index) => of(*index),
        Formula::Mean { sum, count } => Some(format!("({})::double precision / nullif({}, 0)", of(*sum)?, of(*count)?)),
        Formula::Percentile { .. } => None,
        Formula::Derived { inputs, expression } => {
            let inputs = inputs.iter().map(|input| self::formula(view, input)).collect::<Option<Vec<_>>>()?;
            self::expression(expression, &inputs)
        }
    }
}

fn expression(expression: &Expr, inputs: &[String]) -> Option<String> {
    let of = |expression: &Expr| self::expression(expression, inputs);
    let sql = match &expression.node {
        Node::Column(place) => inputs.get(place.parse::<usize>().ok()?)?.clone(),
        Node::Literal(literal) => self::literal(literal)?,
        Node::Case { branches, otherwise } => {
            let branches = branches.iter().map(|(condition, value)| Some(format!("WHEN {} THEN {}", of(condition)?, of(value)?)));
            let otherwise = otherwise.as_deref().map_or_else(|| Some("NULL".to_owned()), of)?;
            format!("CASE {} ELSE {otherwise} END", branches.collect::<Option<Vec<_>>>()?.join(" "))
        }
        // A cast that may fail is NULL here and an error there.
        Node::Cast(inner) if always_fits(inner.data_type, expression.data_type) => of(inner)?,
        Node::Cast(_) => return None,
        Node::Call(function, arguments) => {
            let is_text = arguments.iter().any(|argument| argument.data_type == DataType::Text);
            call(*function, expression.data_type, is_text, &arguments.iter().map(of).collect::<Option<Vec<_>>>()?)?
        }
    };
    Some(format!("({sql})::{}", sql_type(ColumnType::Sql(expression.data_type))))
}

/// Whether every value of a type has one in the other, to the last digit that this has.
fn always_fits(from: DataType, to: DataType) -> bool {
    let digits = |data_type| match data_type {
        DataType::BigInt => Some((19, 0)),
        DataType::Decimal { precision, scale } => Some((precision - scale, scale)),
        _ => None,
    };
    match (digits(from), to, digits(to)) {
        (_, DataType::Double, _) => from.is_number(),
        (Some((before, behind)), DataType::Decimal { .. }, Some((room, scale))) => room >= before && scale >= behind,
        _ => false,
    }
}

fn call(function: Function, data_type: DataType, is_text: bool, arguments: &[String]) -> Option<String> {
    let sign = match function {
        Function::Add | Function::Subtract | Function::Multiply | Function::Equal | Function::NotEqual | Function::IsDistinctFrom => function.name(),
        Function::And | Function::Or => function.name(),
        Function::Less | Function::LessOrEqual | Function::Greater | Function::GreaterOrEqual if !is_text => function.name(),
        // x / 0 is NULL.
        Function::Divide if data_type == DataType::Double => {
            let [left, right] = arguments else { return None };
            return Some(format!("{left} / nullif({right}, 0)"));
        }
        Function::Not => return Some(format!("NOT {}", arguments.first()?)),
        Function::IsNull => return Some(format!("{} IS NULL", arguments.first()?)),
        Function::Coalesce | Function::NullIf | Function::Abs => return Some(format!("{}({})", function.name(), arguments.join(", "))),
        Function::Greatest | Function::Least if !is_text => return Some(format!("{}({})", function.name(), arguments.join(", "))),
        _ => return None,
    };
    let [left, right] = arguments else { return None };
    Some(format!("{left} {sign} {right}"))
}

fn literal(literal: &Literal) -> Option<String> {
    Some(match literal {
        Literal::Null => "NULL".to_owned(),
        Literal::Boolean(value) => value.to_string(),
        Literal::BigInt(value) => text(&value.to_string()),
        Literal::Double(value) => text(&value.to_string()),
        Literal::Text(value) => text(value),
        Literal::Date(days) => text(&NaiveDate::default().checked_add_signed(Duration::days(i64::from(*days)))?.to_string()),
        Literal::Timestamp(micros) => text(&DateTime::from_timestamp_micros(*micros)?.naive_utc().to_string()),
    })
}

#[cfg(test)]
mod tests {
    use anabranch_core::definition::{File, parse};

    use super::*;

    fn compiled(select: &str) -> View {
        let text = format!(
            "CREATE TABLE events (name TEXT, number BIGINT, amount DOUBLE, at TIMESTAMP)
             WITH (connector = 'kafka', topic = 'events', format = 'json', event_time = 'at');
             CREATE MATERIALIZED VIEW v WITH (publish = 'postgres') AS {select};"
        );
        let pipeline = parse(&[File { path: "events.sql".into(), text }]).unwrap();
        pipeline.views.into_iter().find(|view| view.name == "v").unwrap()
    }

    #[test]
    fn what_sql_cannot_compute_is_left_out_and_named() {
        let view = compiled(
            "SELECT name, count(*) AS events, sum(amount) AS amount, approx_count_distinct(number) AS numbers,
             round(avg(number), 2) AS mean, count(DISTINCT number) AS distinct_numbers FROM events GROUP BY 1",
        );
        assert!(view.is_published);
        let sql = sql_views(&view);
        assert!(sql.comments.contains("cannot merge or compute it: numbers, mean, distinct_numbers."), "{}", sql.comments);
        assert!(sql.comments.contains("floating point are: amount."), "{}", sql.comments);
        for left_out in ["numbers\"", "mean\""] {
            assert!(!sql.merged.contains(&format!("AS \"{left_out}")), "{}", sql.merged);
        }
    }

    #[test]
    fn literals_cannot_leave_their_quotes() {
        assert_eq!(text("it's"), "'it''s'");
        assert_eq!(text(r"a\'b"), r"E'a\\''b'");
        let view = compiled("SELECT name, CASE WHEN count(*) > 3 THEN 'it''s' ELSE 'few' END AS size FROM events GROUP BY 1");
        assert!(sql_views(&view).merged.contains("('it''s')::text"), "{}", sql_views(&view).merged);
    }
}
