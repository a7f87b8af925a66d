//! Aggregates, and expressions over them → measures.

use std::ops::ControlFlow;

use sqlparser::{
    ast::{Expr as SqlExpr, Function as SqlFunction, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Spanned, Visit, Visitor},
    tokenizer::Span,
};

use super::{
    Accumulator, AccumulatorKind, DataType, Expr, Formula, Function, Literal, MAX_PRECISION, MAX_SUMMED_PRECISION, Measure, Node, View,
    error::Mistake,
    scalar::{self, Scope},
    source::identifier,
    tables::Tables,
    typing::{case, integer},
};

/// The aggregate functions.
pub(super) const NAMES: [&str; 12] =
    ["count", "sum", "min", "max", "avg", "first", "last", "bool_and", "bool_or", "every", "approx_count_distinct", "approx_percentile_cont"];
/// Aggregates of others that have another name here.
const ELSEWHERE: [(&str, &str); 6] = [
    ("percentile_cont", "approx_percentile_cont(0.95) WITHIN GROUP (ORDER BY x)"),
    ("first_value", "first(x)"),
    ("last_value", "last(x)"),
    ("any_value", "last(x) or min(x)"),
    ("array_agg", "count(DISTINCT x), or a row view"),
    ("string_agg", "count(DISTINCT x), or a row view"),
];
/// The most distinct values of one group that `count(DISTINCT …)` holds, where the view does not say.
pub(super) const DISTINCT_LIMIT: usize = 1_000;

/// Whether an aggregate stands in the expression.
pub(super) fn is_over_groups(expression: &SqlExpr) -> bool {
    struct Finder;
    impl Visitor for Finder {
        type Break = ();
        fn pre_visit_expr(&mut self, expression: &SqlExpr) -> ControlFlow<()> {
            match expression {
                SqlExpr::Function(function) if function.over.is_none() && is_aggregate(&function.name.to_string().to_lowercase()) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    expression.visit(&mut Finder).is_break()
}

fn is_aggregate(name: &str) -> bool {
    NAMES.contains(&name) || ELSEWHERE.iter().any(|(other, _)| *other == name)
}

/// Compiles an expression over aggregates; the accumulators that it needs are added to the view.
pub(super) fn compile(name: &str, sql: &SqlExpr, tables: &Tables<'_>, limit: usize, view: &mut View) -> Result<Measure, Mistake> {
    let mut scope = Aggregates { tables, view, limit, inputs: Vec::new() };
    let expression = scalar::compile(sql, &mut scope)?;
    let formula = match (&expression.node, scope.inputs.as_slice()) {
        (Node::Column(_), [alone]) => alone.clone(),
        _ => Formula::Derived { inputs: scope.inputs, expression: expression.clone() },
    };
    Ok(Measure { name: name.to_owned(), data_type: expression.data_type, formula })
}

/// The scope of an expression over groups: it names aggregates alone.
struct Aggregates<'a, 'b> {
    tables: &'a Tables<'b>,
    view: &'a mut View,
    limit: usize,
    inputs: Vec<Formula>,
}

impl Scope for Aggregates<'_, '_> {
    fn column(&self, _: Option<&Ident>, name: &Ident) -> Result<Expr, Mistake> {
        let message = format!("the column \"{}\" stands beside an aggregate", identifier(name)?);
        Err(Mistake::new("column_beside_aggregate", name.span, message)
            .help("put it into an aggregate, such as max(…) or last(…), or into a column of its own"))
    }

    fn divides_exactly(&self) -> bool {
        true
    }

    fn aggregate(&mut self, function: &SqlFunction, span: Span) -> Result<Expr, Mistake> {
        let (formula, data_type) = aggregate(function, span, self)?;
        let place = self.inputs.iter().position(|input| *input == formula).unwrap_or_else(|| {
            self.inputs.push(formula);
            self.inputs.len() - 1
        });
        Ok(Expr::column(&place.to_string(), data_type))
    }
}

/// The index of that accumulator; measures share what they can.
fn accumulator(view: &mut View, kind: AccumulatorKind, argument: Option<Expr>) -> usize {
    let wanted = Accumulator { kind, argument };
    if let Some(index) = view.accumulators.iter().position(|accumulator| *accumulator == wanted) {
        return index;
    }
    view.accumulators.push(wanted);
    view.accumulators.len() - 1
}

/// What stands in the parentheses.
struct Arguments {
    /// `*`.
    star: bool,
    distinct: bool,
    values: Vec<Expr>,
    filter: Option<Expr>,
}

fn read(name: &str, function: &SqlFunction, span: Span, tables: &Tables<'_>) -> Result<Arguments, Mistake> {
    let mut scope = tables.clone();
    let FunctionArguments::List(list) = &function.args else {
        return Err(Mistake::new("bad_arguments", span, format!("{name} needs arguments in parentheses")));
    };
    if let Some(clause) = list.clauses.first() {
        let help = if name == "first" || name == "last" { "they go by the source's event time" } else { "write the arguments alone" };
        return Err(Mistake::new("not_supported", span, format!("\"{clause}\" inside {name} is not known here")).help(help));
    }
    let star = matches!(list.args.as_slice(), [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)]);
    let distinct = matches!(list.duplicate_treatment, Some(sqlparser::ast::DuplicateTreatment::Distinct));
    let mut values = Vec::new();
    if !star {
        for argument in scalar::arguments(function, span)? {
            if is_over_groups(argument) {
                return Err(Mistake::new("nested_aggregate", argument.span(), format!("an aggregate inside {name}"))
                    .help("an aggregate of aggregates is a view over another question: ask the API"));
            }
            values.push(scalar::compile(argument, &mut scope)?);
        }
    }
    if let Some(order) = function.within_group.first() {
        if name != "approx_percentile_cont" || function.within_group.len() != 1 {
            return Err(Mistake::new("not_supported", span, format!("WITHIN GROUP of {name} is not known here"))
                .help("approx_percentile_cont(0.95) WITHIN GROUP (ORDER BY x)"));
        }
        values.insert(0, scalar::compile(&order.expr, &mut scope)?);
    }
    let filter = function.filter.as_deref().map(|condition| condition_of("FILTER", condition, &mut scope)).transpose()?;
    Ok(Arguments { star, distinct, values, filter })
}

/// A condition of WHERE or FILTER.
pub(super) fn condition_of(what: &str, sql: &SqlExpr, scope: &mut dyn Scope) -> Result<Expr, Mistake> {
    let condition = scalar::compile(sql, scope)?;
    if condition.data_type == DataType::Boolean {
        return Ok(condition);
    }
    Err(Mistake::new("wrong_types", sql.span(), format!("{what} needs a condition, not {}", condition.data_type)))
}

/// A value that is NULL, which no aggregate counts, where the filter does not hold.
fn filtered(value: Expr, filter: Option<Expr>, span: Span) -> Result<Expr, Mistake> {
    match filter {
        None => Ok(value),
        Some(filter) => case(vec![(filter, value)], None, span),
    }
}

fn aggregate(function: &SqlFunction, span: Span, scope: &mut Aggregates<'_, '_>) -> Result<(Formula, DataType), Mistake> {
    let name = function.name.to_string().to_lowercase();
    if let Some((_, here)) = ELSEWHERE.iter().find(|(other, _)| *other == name) {
        return Err(Mistake::new("unknown_function", span, format!("the aggregate {name} is not known here")).help(*here));
    }
    let Arguments { star, distinct, mut values, filter } = read(&name, function, span, scope.tables)?;
    let wanted = if name == "approx_percentile_cont" { 2 } else { 1 };
    if star && (name != "count" || distinct) {
        return Err(Mistake::new("bad_arguments", span, format!("{name} does not take \"*\"")));
    }
    if !star && values.len() != wanted {
        return Err(Mistake::new("bad_arguments", span, format!("{name} takes {wanted} argument{}", if wanted == 1 { "" } else { "s" })));
    }
    if distinct && name != "count" {
        return Err(Mistake::new("distinct", span, format!("{name}(DISTINCT …) is not known here"))
            .help("count(DISTINCT …), or approx_count_distinct(…) without a limit"));
    }
    let rank = if wanted == 2 { values.pop().map(|rank| self::rank(&rank, span)).transpose()? } else { None };
    let view = &mut *scope.view;
    let Some(value) = values.pop() else {
        // count(*): with a filter, the records for which it holds.
        let held = filter.map(|filter| filtered(integer(1), Some(filter), span)).transpose()?;
        return Ok((Formula::Value(accumulator(view, AccumulatorKind::Count, held)), DataType::BigInt));
    };
    let value = filtered(value, filter, span)?;
    let found = value.data_type;
    check(&name, found, view, span)?;
    let mut state = |kind: AccumulatorKind| Formula::Value(accumulator(view, kind, Some(value.clone())));
    Ok(match name.as_str() {
        "count" if distinct => (state(AccumulatorKind::Values { limit: scope.limit }), DataType::BigInt),
        "count" => (state(AccumulatorKind::Count), DataType::BigInt),
        "sum" => (state(AccumulatorKind::Sum), sum_type(found)),
        "min" | "bool_and" | "every" => (state(AccumulatorKind::Min), found),
        "max" | "bool_or" => (state(AccumulatorKind::Max), found),
        "first" => (state(AccumulatorKind::First), found),
        "last" => (state(AccumulatorKind::Last), found),
        "approx_count_distinct" => (state(AccumulatorKind::Distinct), DataType::BigInt),
        "avg" => {
            let sum = accumulator(view, AccumulatorKind::Sum, Some(value.clone()));
            let count = accumulator(view, AccumulatorKind::Count, Some(value));
            (Formula::Mean { sum, count }, DataType::Double)
        }
        _ => {
            let histogram = accumulator(view, AccumulatorKind::Histogram, Some(value));
            (Formula::Percentile { histogram, rank: rank.unwrap_or(0.5) }, DataType::Double)
        }
    })
}

/// The type of a sum: that of DOUBLE is DOUBLE, exact ones have room for all digits.
fn sum_type(argument: DataType) -> DataType {
    if argument == DataType::Double { argument } else { DataType::Decimal { precision: MAX_PRECISION, scale: argument.scale() } }
}

fn check(name: &str, found: DataType, view: &View, span: Span) -> Result<(), Mistake> {
    let wrong = |needs: &str| Err(Mistake::new("wrong_types", span, format!("{name} needs {needs}, not {found}")));
    match name {
        "sum" | "avg" | "approx_percentile_cont" if !found.is_number() => wrong("a number"),
        "bool_and" | "bool_or" | "every" if found != DataType::Boolean => wrong("a condition"),
        "sum" | "avg" if matches!(found, DataType::Decimal { precision, .. } if precision > MAX_SUMMED_PRECISION) => {
            let message = format!("{name} of {found} could overflow 38 digits");
            Err(Mistake::new("sum_overflow", span, message).help("CAST(… AS DECIMAL(18,2)), or AS DOUBLE"))
        }
        "first" | "last" if view.source.event_time.is_none() => {
            let message = format!("{name} needs to know when the events of \"{}\" happened", view.source.name);
            Err(Mistake::new("no_event_time", span, message).help("event_time = '…' in the source's WITH"))
        }
        _ => Ok(()),
    }
}

fn rank(sql: &Expr, span: Span) -> Result<f64, Mistake> {
    let rank = match sql.node {
        Node::Literal(Literal::Double(rank)) => Some(rank),
        Node::Literal(Literal::BigInt(0)) => Some(0.0),
        Node::Literal(Literal::BigInt(1)) => Some(1.0),
        _ => None,
    };
    rank.filter(|rank| (0.0..=1.0).contains(rank))
        .ok_or_else(|| Mistake::new("bad_rank", span, "the rank is not a constant between 0 and 1").help("0.95 is the 95th percentile"))
}

/// `date_trunc` or `date_bin` over a time: the bucket's width and the time; nothing for other expressions.
pub(super) fn bucket(expression: &Expr) -> Option<(super::Width, Expr)> {
    let Node::Call(function, arguments) = &expression.node else { return None };
    match (function, arguments.as_slice()) {
        (Function::DateTrunc, [Expr { node: Node::Literal(Literal::Text(name)), .. }, time]) => {
            Some((super::Width::Calendar(super::Granularity::named(name)?), time.clone()))
        }
        (
            Function::DateBin,
            [Expr { node: Node::Literal(Literal::BigInt(micros)), .. }, time, Expr { node: Node::Literal(Literal::Timestamp(origin)), .. }],
        ) => Some((super::Width::Every { micros: *micros, origin: *origin }, time.clone())),
        _ => None,
    }
}
