//! Typed expressions → Polars expressions, with PostgreSQL's meaning.
//!
//! Next to its value an expression has, where it can fail, the condition under which it cannot be computed: a generated
//! column rejects the record then; in a view the value is NULL.

use anabranch_core::definition::{DataType, Expr, Function, Granularity, Literal, Node};
use polars::prelude::{
    BooleanChunked, Column, DataType as Polars, Expr as PolarsExpr, Field, Float64Chunked, Int64Chunked, IntoColumn, IntoSeries, NULL, NewChunkedArray,
    PolarsResult, StringChunked, TimeUnit, TimeZone, coalesce, col, lit, when,
};

use crate::scalar;

/// An expression that Polars runs.
pub(super) struct Compiled {
    pub(super) value: PolarsExpr,
    /// True where the value cannot be computed; nothing when that cannot happen.
    pub(super) failed: Option<PolarsExpr>,
}

impl Compiled {
    fn sure(value: PolarsExpr) -> Self {
        Self { value, failed: None }
    }
}

pub(super) fn polars_type(data_type: DataType) -> Polars {
    match data_type {
        DataType::Boolean => Polars::Boolean,
        DataType::BigInt => Polars::Int64,
        DataType::Double => Polars::Float64,
        DataType::Decimal { .. } => Polars::Int128,
        DataType::Text => Polars::String,
        DataType::Date => Polars::Date,
        DataType::Timestamp => Polars::Datetime(TimeUnit::Microseconds, Some(TimeZone::UTC)),
    }
}

/// Whether the expression can fail for some record.
pub(super) fn can_fail(expression: &Expr) -> bool {
    compile(expression).failed.is_some()
}

/// Whether Polars computes it, in the same way; all else is computed value by value.
pub(super) fn is_columnar(expression: &Expr) -> bool {
    if matches!(expression.data_type, DataType::Decimal { .. }) {
        return false;
    }
    match &expression.node {
        Node::Column(_) | Node::Literal(_) => true,
        Node::Call(function, arguments) => {
            // Polars has no sum of days.
            let types = arguments.iter().all(|argument| !matches!(argument.data_type, DataType::Date | DataType::Timestamp) || COMPARISONS.contains(function));
            COLUMNAR.contains(function) && types && !(*function == Function::Trim && arguments.len() > 1) && arguments.iter().all(is_columnar)
        }
        Node::Case { branches, otherwise } => {
            branches.iter().all(|(condition, value)| is_columnar(condition) && is_columnar(value)) && otherwise.as_deref().is_none_or(is_columnar)
        }
        Node::Cast(inner) => {
            let casts = matches!(
                (inner.data_type, expression.data_type),
                (DataType::BigInt, DataType::Double | DataType::Text)
                    | (DataType::Double, DataType::BigInt)
                    | (DataType::Text, DataType::BigInt | DataType::Boolean)
                    | (DataType::Boolean, DataType::BigInt | DataType::Text)
                    | (DataType::Timestamp, DataType::Date)
                    | (DataType::Date, DataType::Timestamp)
            );
            (casts || inner.data_type == expression.data_type) && is_columnar(inner)
        }
    }
}

const COMPARISONS: [Function; 8] = [
    Function::Equal,
    Function::NotEqual,
    Function::Less,
    Function::LessOrEqual,
    Function::Greater,
    Function::GreaterOrEqual,
    Function::IsNull,
    Function::Coalesce,
];

const COLUMNAR: [Function; 23] = [
    Function::Add,
    Function::Subtract,
    Function::Multiply,
    Function::Divide,
    Function::Modulo,
    Function::Equal,
    Function::NotEqual,
    Function::Less,
    Function::LessOrEqual,
    Function::Greater,
    Function::GreaterOrEqual,
    Function::And,
    Function::Or,
    Function::Not,
    Function::IsNull,
    Function::Coalesce,
    Function::NullIf,
    Function::Concat,
    Function::SplitPart,
    Function::Lower,
    Function::Upper,
    Function::Trim,
    Function::Length,
];

/// The start of a time's bucket.
pub(super) fn truncated(time: &Expr, granularity: Granularity) -> PolarsExpr {
    let every = match granularity {
        Granularity::Second => "1s",
        Granularity::Minute => "1m",
        Granularity::Hour => "1h",
        Granularity::Day => "1d",
        Granularity::Week => "1w",
        Granularity::Month => "1mo",
        Granularity::Quarter => "1q",
        Granularity::Year => "1y",
    };
    compile(time).value.dt().truncate(lit(every))
}

pub(super) fn compile(expression: &Expr) -> Compiled {
    match &expression.node {
        Node::Column(name) => Compiled::sure(col(name.as_str())),
        Node::Literal(literal) => Compiled::sure(constant(literal, expression.data_type)),
        Node::Call(function, arguments) => call(*function, arguments, expression.data_type),
        Node::Case { branches, otherwise } => case(branches, otherwise.as_deref(), expression.data_type),
        Node::Cast(inner) => cast(inner, expression.data_type),
    }
}

fn constant(literal: &Literal, data_type: DataType) -> PolarsExpr {
    match literal {
        Literal::Null => lit(NULL).cast(polars_type(data_type)),
        Literal::Boolean(value) => lit(*value),
        // A bare integer has no width of its own in Polars.
        Literal::BigInt(value) => lit(*value).cast(Polars::Int64),
        Literal::Double(value) => lit(*value),
        Literal::Text(value) => lit(value.clone()),
        Literal::Date(days) => lit(*days).cast(Polars::Date),
        Literal::Timestamp(micros) => lit(*micros).cast(polars_type(DataType::Timestamp)),
    }
}

fn any(conditions: impl IntoIterator<Item = Option<PolarsExpr>>) -> Option<PolarsExpr> {
    conditions.into_iter().flatten().reduce(PolarsExpr::or)
}

fn call(function: Function, arguments: &[Expr], data_type: DataType) -> Compiled {
    let compiled: Vec<Compiled> = arguments.iter().map(compile).collect();
    let values: Vec<PolarsExpr> = compiled.iter().map(|argument| argument.value.clone()).collect();
    let inherited = any(compiled.into_iter().map(|argument| argument.failed));
    let mut values_iter = values.clone().into_iter();
    let mut next = || values_iter.next().unwrap_or_else(|| lit(NULL));
    let (value, own) = match function {
        Function::Add | Function::Subtract | Function::Multiply | Function::Divide | Function::Modulo => {
            let value = arithmetic(function, next(), next(), data_type);
            (value.clone(), Some(lost(&values, value)))
        }
        Function::Equal => (next().eq(next()), None),
        Function::NotEqual => (next().neq(next()), None),
        Function::Less => (next().lt(next()), None),
        Function::LessOrEqual => (next().lt_eq(next()), None),
        Function::Greater => (next().gt(next()), None),
        Function::GreaterOrEqual => (next().gt_eq(next()), None),
        Function::And => (next().and(next()), None),
        Function::Or => (next().or(next()), None),
        Function::Not => (next().not(), None),
        Function::IsNull => (next().is_null(), None),
        Function::Coalesce => (coalesce(&values), None),
        Function::NullIf => {
            let (first, second) = (next(), next());
            (when(first.clone().eq(second)).then(lit(NULL)).otherwise(first), None)
        }
        Function::Concat => (texts(values.clone(), |row| Some(row.concat())), None),
        Function::Lower => (texts(values.clone(), |row| row.first().map(|text| text.to_lowercase())), None),
        Function::Upper => (texts(values.clone(), |row| row.first().map(|text| text.to_uppercase())), None),
        Function::Trim => (texts(values.clone(), |row| row.first().map(|text| text.trim_matches(' ').to_owned())), None),
        Function::Length => (length(next()), None),
        Function::SplitPart => {
            let value = split_part(values.clone());
            let literal = matches!(arguments.get(2), Some(Expr { node: Node::Literal(Literal::BigInt(_)), .. }));
            (value.clone(), (!literal).then(|| lost(&values, value)))
        }
        // Not columnar, so never here.
        _ => (lit(NULL), None),
    };
    Compiled { value, failed: any([inherited, own]) }
}

/// Where no argument is NULL and yet the value is.
fn lost(arguments: &[PolarsExpr], value: PolarsExpr) -> PolarsExpr {
    arguments.iter().fold(value.is_null(), |condition, argument| condition.and(argument.clone().is_not_null()))
}

/// Integers are computed in 128 bits and become NULL where BIGINT does not hold the result.
fn arithmetic(function: Function, left: PolarsExpr, right: PolarsExpr, data_type: DataType) -> PolarsExpr {
    let integers = data_type != DataType::Double;
    if !integers && matches!(function, Function::Divide | Function::Modulo) {
        return quotient_of_doubles(function, vec![left, right]);
    }
    let wide = |value: PolarsExpr| if integers { value.cast(Polars::Int128) } else { value };
    let divisor = || when(right.clone().eq(lit(0i64))).then(lit(NULL)).otherwise(right.clone()).cast(polars_type(data_type));
    let quotient = |left: PolarsExpr, right: PolarsExpr| {
        // Towards zero, as in SQL: the quotient of the absolute values, with the sign of both.
        let same_sign = left.clone().lt(lit(0i64)).eq(right.clone().lt(lit(0i64)));
        let size = left.abs().floor_div(right.abs());
        when(same_sign).then(size.clone()).otherwise(lit(0i64).cast(Polars::Int128) - size)
    };
    let value = match function {
        Function::Add => wide(left) + wide(right),
        Function::Subtract => wide(left) - wide(right),
        Function::Multiply => wide(left) * wide(right),
        Function::Divide => quotient(wide(left), wide(divisor())),
        _ => {
            let (left, right) = (wide(left), wide(divisor()));
            left.clone() - quotient(left, right.clone()) * right
        }
    };
    value.cast(polars_type(data_type))
}

/// Polars multiplies by the reciprocal where the divisor is one value, and a batch may have one row: the last bit would
/// depend on how records are cut into batches. Here it is always the quotient; by zero it is NULL.
fn quotient_of_doubles(function: Function, arguments: Vec<PolarsExpr>) -> PolarsExpr {
    polars::prelude::map_multiple(
        move |columns| {
            let [left, right] = columns else { return Ok(Float64Chunked::from_slice_options("".into(), &[None]).into_column()) };
            let (left, right) = (left.f64()?, right.f64()?);
            let place = |length: usize, row: usize| if length == 1 { 0 } else { row };
            let values: Float64Chunked = (0..row_count([left.len(), right.len()]))
                .map(|row| {
                    let (left, right) = (left.get(place(left.len(), row))?, right.get(place(right.len(), row))?);
                    match function {
                        _ if right == 0.0 => None,
                        Function::Divide => Some(left / right),
                        _ => Some(left % right),
                    }
                })
                .collect();
            Ok(values.into_column())
        },
        arguments,
        |_, fields| Ok(Field::new(fields.first().map(|field| field.name().clone()).unwrap_or_default(), Polars::Float64)),
    )
}

fn case(branches: &[(Expr, Expr)], otherwise: Option<&Expr>, data_type: DataType) -> Compiled {
    let fallback = otherwise.map_or_else(|| Compiled::sure(constant(&Literal::Null, data_type)), compile);
    branches.iter().rev().fold(fallback, |rest, (condition, value)| {
        let (condition, value) = (compile(condition), compile(value));
        let taken = condition.value.clone().fill_null(lit(false));
        let failed = match (value.failed, rest.failed) {
            (None, None) => None,
            (value, rest) => Some(when(taken.clone()).then(value.unwrap_or_else(|| lit(false))).otherwise(rest.unwrap_or_else(|| lit(false)))),
        };
        Compiled { value: when(taken).then(value.value).otherwise(rest.value), failed: any([condition.failed, failed]) }
    })
}

fn cast(inner: &Expr, target: DataType) -> Compiled {
    let argument = compile(inner);
    let input = argument.value.clone();
    let value = match (inner.data_type, target) {
        (from, to) if from == to => return argument,
        // PostgreSQL rounds half to even; out of range is an error.
        (DataType::Double, DataType::BigInt) => input.map(round_to_bigint, |_, field| Ok(Field::new(field.name().clone(), Polars::Int64))),
        (DataType::Text, DataType::BigInt) => {
            parsed(input, Polars::Int64, |texts| texts.iter().map(|text| text?.trim().parse::<i64>().ok()).collect::<Int64Chunked>().into_column())
        }
        (DataType::Text, DataType::Boolean) => {
            parsed(input, Polars::Boolean, |texts| texts.iter().map(|text| scalar::boolean(text?)).collect::<BooleanChunked>().into_column())
        }
        (_, to) => input.cast(polars_type(to)),
    };
    let own = matches!((inner.data_type, target), (DataType::Double | DataType::Text, DataType::BigInt | DataType::Double | DataType::Boolean));
    let failed = any([argument.failed, own.then(|| lost(&[argument.value], value.clone()))]);
    Compiled { value, failed }
}

fn round_to_bigint(column: Column) -> PolarsResult<Column> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    #[expect(clippy::cast_possible_truncation, reason = "checked against the range")]
    let round = |value: f64| (-LIMIT..LIMIT).contains(&value.round_ties_even()).then(|| value.round_ties_even() as i64);
    let values: Int64Chunked = column.f64()?.iter().map(|value| round(value?)).collect();
    Ok(values.with_name(column.name().clone()).into_column())
}

fn parsed(input: PolarsExpr, target: Polars, parse: fn(&StringChunked) -> Column) -> PolarsExpr {
    input.map(move |column| Ok(parse(column.str()?).with_name(column.name().clone())), move |_, field| Ok(Field::new(field.name().clone(), target.clone())))
}

/// A function of TEXT arguments, NULL where one of them is.
fn texts(arguments: Vec<PolarsExpr>, function: fn(&[&str]) -> Option<String>) -> PolarsExpr {
    polars::prelude::map_multiple(
        move |columns| {
            let rows = row_count(columns.iter().map(Column::len));
            let texts: Vec<&StringChunked> = columns.iter().map(|column| column.str()).collect::<PolarsResult<_>>()?;
            let values: StringChunked = (0..rows)
                .map(|row| {
                    let row: Option<Vec<&str>> = texts.iter().map(|text| text.get(if text.len() == 1 { 0 } else { row })).collect();
                    function(&row?)
                })
                .collect();
            Ok(values.into_column())
        },
        arguments,
        |_, fields| Ok(Field::new(fields.first().map(|field| field.name().clone()).unwrap_or_default(), Polars::String)),
    )
}

/// Constants have one row, whatever the others have; beside a column without rows there is none.
fn row_count(lengths: impl IntoIterator<Item = usize>) -> usize {
    lengths.into_iter().reduce(|a, b| if a == 1 { b } else { a }).unwrap_or(0)
}

fn length(argument: PolarsExpr) -> PolarsExpr {
    parsed(argument, Polars::Int64, |texts| {
        texts.iter().map(|text| text.and_then(|text| i64::try_from(text.chars().count()).ok())).collect::<Int64Chunked>().into_column()
    })
}

fn split_part(arguments: Vec<PolarsExpr>) -> PolarsExpr {
    polars::prelude::map_multiple(
        |columns| {
            let [strings, delimiters, fields] = columns else { return Ok(StringChunked::from_slice_options("".into(), &[None::<&str>]).into_column()) };
            let (strings, delimiters, fields) = (strings.str()?, delimiters.str()?, fields.i64()?);
            let rows = row_count([strings.len(), delimiters.len(), fields.len()]);
            let place = |length: usize, row: usize| if length == 1 { 0 } else { row };
            let values: StringChunked = (0..rows)
                .map(|row| {
                    let text = strings.get(place(strings.len(), row))?;
                    let delimiter = delimiters.get(place(delimiters.len(), row))?;
                    scalar::piece(text, delimiter, fields.get(place(fields.len(), row))?)
                })
                .collect();
            Ok(values.into_series().into_column())
        },
        arguments,
        |_, fields| Ok(Field::new(fields.first().map(|field| field.name().clone()).unwrap_or_default(), Polars::String)),
    )
}
