//! Expressions value by value.

use std::collections::BTreeSet;

use anabranch_core::definition::{DataType, Expr, Function, Node};
use arrow::{
    array::{ArrayRef, BooleanArray, RecordBatch},
    datatypes::DataType as Arrow,
    error::ArrowError,
};

use super::{EvaluateError, compile};
use crate::{cells::Cells, scalar, table, value::Value};

/// The values of an expression, and where it cannot be computed.
pub(super) fn evaluate(expression: &Expr, batch: &RecordBatch) -> Result<(ArrayRef, BooleanArray), EvaluateError> {
    let mut names = BTreeSet::new();
    expression.collect_columns(&mut names);
    let columns = names
        .iter()
        .map(|name| {
            let array = batch.column_by_name(name).ok_or_else(|| ArrowError::SchemaError(format!("no column {name}")))?;
            Ok((name.as_str(), Cells::of(array, sql_type(array.data_type())?)))
        })
        .collect::<Result<Vec<_>, ArrowError>>()?;
    let mut values = Vec::with_capacity(batch.num_rows());
    let mut failed = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        let column = |name: &str| columns.iter().find(|(known, _)| *known == name).map_or(Value::Null, |(_, cells)| cells.get(row));
        let evaluated = scalar::evaluate(expression, &column);
        values.push(evaluated.value);
        failed.push(evaluated.failed);
    }
    let array = table::array("an expression", table::ColumnType::Sql(expression.data_type), &values);
    Ok((array.map_err(|_| ArrowError::SchemaError("an expression gives values of another type".to_owned()))?, BooleanArray::from(failed)))
}

fn sql_type(arrow: &Arrow) -> Result<DataType, ArrowError> {
    Ok(match arrow {
        Arrow::Boolean => DataType::Boolean,
        Arrow::Int64 => DataType::BigInt,
        Arrow::Float64 => DataType::Double,
        Arrow::Utf8View => DataType::Text,
        Arrow::Date32 => DataType::Date,
        Arrow::Timestamp(_, _) => DataType::Timestamp,
        Arrow::Decimal128(precision, scale) => DataType::Decimal { precision: *precision, scale: scale.unsigned_abs() },
        other => return Err(ArrowError::SchemaError(format!("no expression takes {other}"))),
    })
}

/// Whether the expression can fail for some record.
pub(super) fn can_fail(expression: &Expr) -> bool {
    if compile::is_columnar(expression) {
        return compile::can_fail(expression);
    }
    match &expression.node {
        Node::Column(_) | Node::Literal(_) => false,
        Node::Call(function, arguments) => !NEVER_FAIL.contains(function) || arguments.iter().any(can_fail),
        Node::Case { branches, otherwise } => {
            branches.iter().any(|(condition, value)| can_fail(condition) || can_fail(value)) || otherwise.as_deref().is_some_and(can_fail)
        }
        Node::Cast(_) => true,
    }
}

/// Functions that have a value for all arguments; of the others a generated column is computed in every case.
const NEVER_FAIL: [Function; 22] = [
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
    Function::IsDistinctFrom,
    Function::Coalesce,
    Function::NullIf,
    Function::Greatest,
    Function::Least,
    Function::Lower,
    Function::Upper,
    Function::Trim,
    Function::Left,
    Function::Right,
    Function::StartsWith,
    Function::Extract,
];
