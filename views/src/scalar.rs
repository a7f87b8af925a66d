//! Scalar expressions, value by value: what every function means.
//!
//! Polars evaluates the frequent ones by columns ([`crate::evaluate`]); all others, and expressions over measures, are
//! evaluated here. Where both can, a law says that they agree.
//!
//! | file | functions of |
//! |---|---|
//! | `scalar/cast.rs` | CAST |
//! | `scalar/numbers.rs` | numbers |
//! | `scalar/texts.rs` | texts |
//! | `scalar/times.rs` | days and times |

use anabranch_core::definition::{DataType, Expr, Function, Literal, Node};

use crate::value::{Value, canonical};

mod cast;
mod numbers;
mod texts;
mod times;

pub(crate) use cast::{boolean, rescaled};
pub use cast::{decimal_text, parse_decimal, text};
pub(crate) use texts::piece;
pub use times::truncated;

/// The value of an expression for one record.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluated {
    /// NULL where it cannot be computed.
    pub value: Value,
    /// Whether some part of it could not be computed.
    pub failed: bool,
}

/// Evaluates an expression; `column` gives the values that it names.
#[must_use]
pub fn evaluate(expression: &Expr, column: &dyn Fn(&str) -> Value) -> Evaluated {
    let mut evaluation = Evaluation { column, failed: false };
    let value = evaluation.value(expression);
    Evaluated { value, failed: evaluation.failed }
}

struct Evaluation<'a> {
    column: &'a dyn Fn(&str) -> Value,
    failed: bool,
}

impl Evaluation<'_> {
    fn value(&mut self, expression: &Expr) -> Value {
        match &expression.node {
            Node::Column(name) => (self.column)(name),
            Node::Literal(literal) => constant(literal),
            Node::Cast(inner) => {
                let value = self.value(inner);
                if value.is_null() {
                    return Value::Null;
                }
                let cast = cast::cast(value, expression.data_type);
                self.or_failed(cast)
            }
            Node::Case { branches, otherwise } => {
                for (condition, value) in branches {
                    if self.value(condition) == Value::Boolean(true) {
                        return self.value(value);
                    }
                }
                otherwise.as_deref().map_or(Value::Null, |value| self.value(value))
            }
            Node::Call(function, arguments) => {
                let arguments: Vec<Value> = arguments.iter().map(|argument| self.value(argument)).collect();
                let value = call(*function, arguments, expression.data_type);
                self.or_failed(value)
            }
        }
    }

    fn or_failed(&mut self, value: Option<Value>) -> Value {
        value.unwrap_or_else(|| {
            self.failed = true;
            Value::Null
        })
    }
}

fn constant(literal: &Literal) -> Value {
    match literal {
        Literal::Null => Value::Null,
        Literal::Boolean(value) => Value::Boolean(*value),
        Literal::BigInt(value) => Value::BigInt(*value),
        Literal::Double(value) => Value::Double(*value),
        Literal::Text(value) => Value::Text(value.clone()),
        Literal::Date(days) => Value::Date(*days),
        Literal::Timestamp(micros) => Value::Timestamp(*micros),
    }
}

/// A function's value; nothing where it cannot be computed.
fn call(function: Function, arguments: Vec<Value>, data_type: DataType) -> Option<Value> {
    use Function::{And, Coalesce, ConcatAll, ConcatWith, Greatest, IsDistinctFrom, IsNull, Least, NullIf, Or};
    if let Some(error) = arguments.iter().find(|argument| matches!(argument, Value::Error(_))) {
        return Some(error.clone());
    }
    let first = arguments.first();
    Some(match function {
        IsNull => Value::Boolean(first.is_none_or(Value::is_null)),
        IsDistinctFrom => match arguments.as_slice() {
            [left, right] => Value::Boolean(left.is_null() != right.is_null() || left.compare(right).is_ne()),
            _ => return None,
        },
        Coalesce => arguments.into_iter().find(|argument| !argument.is_null()).unwrap_or(Value::Null),
        NullIf => match <[Value; 2]>::try_from(arguments).ok()? {
            [left, right] if !left.is_null() && !right.is_null() && left.compare(&right).is_eq() => Value::Null,
            [left, _] => left,
        },
        Greatest => arguments.into_iter().filter(|argument| !argument.is_null()).max_by(Value::compare).unwrap_or(Value::Null),
        Least => arguments.into_iter().filter(|argument| !argument.is_null()).min_by(Value::compare).unwrap_or(Value::Null),
        And | Or => {
            // The value that decides, whatever the other one is.
            let decides = Value::Boolean(function == Or);
            match arguments.contains(&decides) {
                true => decides,
                false if arguments.iter().any(Value::is_null) => Value::Null,
                false => Value::Boolean(function == And),
            }
        }
        ConcatAll | ConcatWith => return texts::joined(function, &arguments),
        _ if arguments.iter().any(Value::is_null) => Value::Null,
        _ => return strict(function, &arguments, data_type),
    })
}

/// A function that is NULL where an argument is.
fn strict(function: Function, arguments: &[Value], data_type: DataType) -> Option<Value> {
    if let [left, right] = arguments {
        let ordering = left.compare(right);
        match function {
            Function::Equal => return Some(Value::Boolean(ordering.is_eq())),
            Function::NotEqual => return Some(Value::Boolean(ordering.is_ne())),
            Function::Less => return Some(Value::Boolean(ordering.is_lt())),
            Function::LessOrEqual => return Some(Value::Boolean(ordering.is_le())),
            Function::Greater => return Some(Value::Boolean(ordering.is_gt())),
            Function::GreaterOrEqual => return Some(Value::Boolean(ordering.is_ge())),
            _ => {}
        }
    }
    if let (Function::Not, [Value::Boolean(value)]) = (function, arguments) {
        return Some(Value::Boolean(!value));
    }
    match arguments.first()? {
        Value::BigInt(_) | Value::Double(_) | Value::Decimal(..) if !matches!(function, Function::Chr | Function::ToHex) => {
            numbers::call(function, arguments, data_type).or_else(|| times::from_numbers(function, arguments))
        }
        Value::BigInt(value) => texts::of_integer(function, *value),
        Value::Date(_) | Value::Timestamp(_) => times::call(function, arguments),
        Value::Text(word) if matches!(function, Function::DateTrunc | Function::Extract) => times::part(function, word, arguments.get(1)?),
        Value::Text(text) => texts::call(function, text, arguments.get(1..)?),
        _ => None,
    }
}

/// A DOUBLE as cells hold it; nothing where numbers that are finite give one that is not.
fn finite(value: f64) -> Option<Value> {
    value.is_finite().then(|| Value::Double(canonical(value)))
}

#[cfg(test)]
mod tests;
