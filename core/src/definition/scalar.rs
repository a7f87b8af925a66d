//! SQL expressions → typed expressions over the columns of a source.

use chrono::{NaiveDate, NaiveDateTime};
use sqlparser::{
    ast::{
        BinaryOperator, CastKind, DataType as SqlType, Expr as SqlExpr, Function as SqlFunction, FunctionArg, FunctionArgExpr, FunctionArguments, Spanned,
        TypedString, UnaryOperator, Value,
    },
    tokenizer::Span,
};

use super::{
    DataType, Expr, Function, KAFKA_OFFSET, KAFKA_PARTITION, KAFKA_TIMESTAMP, Literal, Node, Source,
    error::Mistake,
    source::{data_type, identifier},
};

/// Compiles an expression over the columns of `source`.
pub(super) fn compile(sql: &SqlExpr, source: &Source) -> Result<Expr, Mistake> {
    let one = |sql: &SqlExpr| compile(sql, source);
    match sql {
        SqlExpr::Nested(inner) => one(inner),
        SqlExpr::Identifier(ident) => column(&identifier(ident)?, ident.span, source),
        SqlExpr::CompoundIdentifier(parts) => match parts.as_slice() {
            [table, name] if identifier(table)? == source.name => column(&identifier(name)?, name.span, source),
            _ => Err(Mistake::new("unknown_table", sql.span(), format!("unknown column \"{sql}\"")).help(format!("columns of {} only", source.name))),
        },
        SqlExpr::Value(value) => literal(&value.value, sql.span()),
        SqlExpr::TypedString(TypedString { data_type: sql_type, value, .. }) => typed_literal(sql_type, &value.value, sql.span()),
        SqlExpr::UnaryOp { op: UnaryOperator::Minus, expr } => negate(one(expr)?, sql.span()),
        SqlExpr::UnaryOp { op: UnaryOperator::Plus, expr } => one(expr),
        SqlExpr::UnaryOp { op: UnaryOperator::Not, expr } => call(Function::Not, vec![one(expr)?], sql.span()),
        SqlExpr::IsNull(inner) => call(Function::IsNull, vec![one(inner)?], sql.span()),
        SqlExpr::IsNotNull(inner) => not(call(Function::IsNull, vec![one(inner)?], sql.span())?, sql.span()),
        SqlExpr::BinaryOp { left, op, right } => call(operator(op, sql.span())?, vec![one(left)?, one(right)?], sql.span()),
        SqlExpr::Between { expr, negated, low, high } => {
            let from = call(Function::GreaterOrEqual, vec![one(expr)?, one(low)?], sql.span())?;
            let to = call(Function::LessOrEqual, vec![one(expr)?, one(high)?], sql.span())?;
            let between = call(Function::And, vec![from, to], sql.span())?;
            if *negated { not(between, sql.span()) } else { Ok(between) }
        }
        SqlExpr::InList { expr, list, negated } => {
            let mut found: Option<Expr> = None;
            for candidate in list {
                let equal = call(Function::Equal, vec![one(expr)?, one(candidate)?], sql.span())?;
                found = Some(match found {
                    None => equal,
                    Some(before) => call(Function::Or, vec![before, equal], sql.span())?,
                });
            }
            let found = found.ok_or_else(|| Mistake::new("empty_list", sql.span(), "IN needs at least one value"))?;
            if *negated { not(found, sql.span()) } else { Ok(found) }
        }
        SqlExpr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr, data_type: target, .. } => cast(one(expr)?, target, sql.span()),
        SqlExpr::Case { operand, conditions, else_result, .. } => {
            let mut branches = Vec::new();
            for branch in conditions {
                let condition = match operand {
                    None => one(&branch.condition)?,
                    Some(operand) => call(Function::Equal, vec![one(operand)?, one(&branch.condition)?], sql.span())?,
                };
                branches.push((condition, one(&branch.result)?));
            }
            case(branches, else_result.as_deref().map(one).transpose()?, sql.span())
        }
        SqlExpr::Trim { trim_where: None, trim_what: None, expr, trim_characters: None } => call(Function::Trim, vec![one(expr)?], sql.span()),
        SqlExpr::Function(function) => named(function, sql.span(), source),
        other => Err(Mistake::new("unknown_expression", other.span(), format!("\"{other}\" is not known here"))),
    }
}

fn column(name: &str, span: Span, source: &Source) -> Result<Expr, Mistake> {
    let built_in = match name {
        KAFKA_PARTITION | KAFKA_OFFSET => Some(DataType::BigInt),
        KAFKA_TIMESTAMP => Some(DataType::Timestamp),
        _ => None,
    };
    if let Some(data_type) = built_in.or_else(|| source.column(name).map(|column| column.data_type)) {
        return Ok(Expr::column(name, data_type));
    }
    let names = source.columns.iter().map(|column| column.name.as_str()).chain([KAFKA_PARTITION, KAFKA_OFFSET, KAFKA_TIMESTAMP]);
    Err(Mistake::new("unknown_column", span, format!("unknown column \"{name}\"")).nearest(name, names))
}

fn constant(literal: Literal, data_type: DataType) -> Expr {
    Expr { node: Node::Literal(literal), data_type }
}

fn literal(value: &Value, span: Span) -> Result<Expr, Mistake> {
    Ok(match value {
        Value::SingleQuotedString(text) => constant(Literal::Text(text.clone()), DataType::Text),
        Value::Boolean(value) => constant(Literal::Boolean(*value), DataType::Boolean),
        // NULL alone has no type; where it meets another argument it takes that one's.
        Value::Null => constant(Literal::Null, DataType::Text),
        Value::Number(text, _) => match text.parse::<i64>() {
            Ok(integer) => constant(Literal::BigInt(integer), DataType::BigInt),
            Err(_) => {
                let number = text.parse::<f64>().map_err(|_| Mistake::new("bad_number", span, format!("\"{text}\" is not a number")))?;
                constant(Literal::Double(number), DataType::Double)
            }
        },
        other => return Err(Mistake::new("unknown_literal", span, format!("{other} is not known here"))),
    })
}

fn typed_literal(sql_type: &SqlType, value: &Value, span: Span) -> Result<Expr, Mistake> {
    let Value::SingleQuotedString(text) = value else {
        return Err(Mistake::new("unknown_literal", span, format!("{value} is not known here")));
    };
    let text_literal = constant(Literal::Text(text.clone()), DataType::Text);
    adapt(text_literal, data_type(sql_type, span)?, span)
}

/// A time as `2026-01-31 12:00:00.5` or with a T, or a day; microseconds since 1970.
pub(super) fn timestamp_micros(text: &str) -> Option<i64> {
    let text = text.trim().trim_end_matches('Z').replace('T', " ");
    let time = NaiveDateTime::parse_from_str(&text, "%Y-%m-%d %H:%M:%S%.f").ok();
    let day = || NaiveDate::parse_from_str(&text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
    Some(time.or_else(day)?.and_utc().timestamp_micros())
}

/// A literal in the type of what it meets: 'text' as a time or a day, NULL as anything, an integer as DOUBLE.
fn adapt(expression: Expr, target: DataType, span: Span) -> Result<Expr, Mistake> {
    const MICROS_OF_DAY: i64 = 86_400_000_000;
    let bad = |text: &str| Mistake::new("bad_literal", span, format!("'{text}' is not a {target}")).help("as '2026-01-31' or '2026-01-31 12:00:00'");
    Ok(match (&expression.node, target) {
        _ if expression.data_type == target && !matches!(expression.node, Node::Literal(Literal::Null)) => expression,
        (Node::Literal(Literal::Null), _) => constant(Literal::Null, target),
        (Node::Literal(Literal::Text(text)), DataType::Timestamp) => constant(Literal::Timestamp(timestamp_micros(text).ok_or_else(|| bad(text))?), target),
        (Node::Literal(Literal::Text(text)), DataType::Date) => {
            let micros = timestamp_micros(text).ok_or_else(|| bad(text))?;
            constant(Literal::Date(i32::try_from(micros.div_euclid(MICROS_OF_DAY)).map_err(|_| bad(text))?), target)
        }
        (_, DataType::Double) if expression.data_type == DataType::BigInt => Expr { node: Node::Cast(Box::new(expression)), data_type: target },
        _ => expression,
    })
}

/// The type that all arguments can have.
fn common_type(arguments: &[Expr]) -> DataType {
    let typed: Vec<&Expr> = arguments.iter().filter(|argument| !matches!(argument.node, Node::Literal(Literal::Null))).collect();
    let strong = typed.iter().find(|argument| !matches!(argument.node, Node::Literal(Literal::Text(_)))).or(typed.first());
    let double = typed.iter().any(|argument| argument.data_type == DataType::Double);
    match strong {
        Some(argument) if argument.data_type == DataType::BigInt && double => DataType::Double,
        Some(argument) => argument.data_type,
        None => DataType::Text,
    }
}

fn wrong_types(name: &str, arguments: &[Expr], span: Span, help: &str) -> Mistake {
    let types: Vec<String> = arguments.iter().map(|argument| argument.data_type.to_string()).collect();
    Mistake::new("wrong_types", span, format!("{name} does not take ({})", types.join(", "))).help(help)
}

/// A function with its arguments, typed.
pub(super) fn call(function: Function, arguments: Vec<Expr>, span: Span) -> Result<Expr, Mistake> {
    use DataType::{BigInt, Boolean, Text};
    let name = function.name();
    let same = |arguments: Vec<Expr>| -> Result<(Vec<Expr>, DataType), Mistake> {
        let target = common_type(&arguments);
        let adapted = arguments.into_iter().map(|argument| adapt(argument, target, span)).collect::<Result<Vec<_>, _>>()?;
        if adapted.iter().any(|argument| argument.data_type != target) {
            return Err(wrong_types(name, &adapted, span, "arguments of one type"));
        }
        Ok((adapted, target))
    };
    let take = |types: &[DataType], help: &str, result: DataType| -> Result<Expr, Mistake> {
        let adapted = if arguments.len() == types.len() {
            arguments.iter().cloned().zip(types).map(|(argument, target)| adapt(argument, *target, span)).collect::<Result<Vec<_>, _>>()?
        } else {
            arguments.clone()
        };
        if adapted.len() != types.len() || adapted.iter().zip(types).any(|(argument, target)| argument.data_type != *target) {
            return Err(wrong_types(name, &adapted, span, help));
        }
        Ok(Expr { node: Node::Call(function, adapted), data_type: result })
    };
    match function {
        Function::Add | Function::Subtract | Function::Multiply | Function::Divide | Function::Modulo => {
            let (arguments, data_type) = same(arguments)?;
            if arguments.len() != 2 || !data_type.is_number() {
                return Err(wrong_types(name, &arguments, span, "two numbers"));
            }
            Ok(Expr { node: Node::Call(function, arguments), data_type })
        }
        Function::Equal | Function::NotEqual | Function::Less | Function::LessOrEqual | Function::Greater | Function::GreaterOrEqual => {
            let (arguments, _) = same(arguments)?;
            Ok(Expr { node: Node::Call(function, arguments), data_type: Boolean })
        }
        Function::And | Function::Or => take(&[Boolean, Boolean], "two conditions", Boolean),
        Function::Not => take(&[Boolean], "a condition", Boolean),
        Function::IsNull => Ok(Expr { node: Node::Call(function, arguments), data_type: Boolean }),
        Function::Concat => take(&[Text, Text], "two TEXT", Text),
        Function::SplitPart => {
            if let Some(Expr { node: Node::Literal(Literal::BigInt(0)), .. }) = arguments.get(2) {
                return Err(Mistake::new("split_part_zero", span, "the field of split_part is not 0").help("1 is the first, -1 the last"));
            }
            take(&[Text, Text, BigInt], "split_part(string, delimiter, n)", Text)
        }
        Function::Lower | Function::Upper | Function::Trim => take(&[Text], "one TEXT", Text),
        Function::Length => take(&[Text], "one TEXT", BigInt),
        Function::Abs => match arguments.first().map(|argument| argument.data_type) {
            Some(data_type) if data_type.is_number() => take(&[data_type], "one number", data_type),
            _ => Err(wrong_types(name, &arguments, span, "one number")),
        },
        Function::Coalesce | Function::NullIf => {
            let wanted = if function == Function::NullIf { 2..=2 } else { 1..=64 };
            let (arguments, data_type) = same(arguments)?;
            if !wanted.contains(&arguments.len()) {
                return Err(wrong_types(name, &arguments, span, "nullif(a, b), coalesce(a, …)"));
            }
            Ok(Expr { node: Node::Call(function, arguments), data_type })
        }
    }
}

fn not(expression: Expr, span: Span) -> Result<Expr, Mistake> {
    call(Function::Not, vec![expression], span)
}

fn negate(expression: Expr, span: Span) -> Result<Expr, Mistake> {
    match expression.node {
        Node::Literal(Literal::BigInt(value)) => Ok(constant(Literal::BigInt(value.wrapping_neg()), DataType::BigInt)),
        Node::Literal(Literal::Double(value)) => Ok(constant(Literal::Double(-value), DataType::Double)),
        _ => call(Function::Subtract, vec![constant(Literal::BigInt(0), DataType::BigInt), expression], span),
    }
}

fn case(branches: Vec<(Expr, Expr)>, otherwise: Option<Expr>, span: Span) -> Result<Expr, Mistake> {
    let values: Vec<Expr> = branches.iter().map(|(_, value)| value.clone()).chain(otherwise.clone()).collect();
    let target = common_type(&values);
    let typed = |value: Expr| -> Result<Expr, Mistake> {
        let value = adapt(value, target, span)?;
        if value.data_type == target { Ok(value) } else { Err(wrong_types("case", &[value], span, "values of one type")) }
    };
    let branches = branches
        .into_iter()
        .map(|(condition, value)| match condition.data_type {
            DataType::Boolean => Ok((condition, typed(value)?)),
            other => Err(Mistake::new("wrong_types", span, format!("WHEN needs a condition, not {other}"))),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let otherwise = otherwise.map(typed).transpose()?.map(Box::new);
    Ok(Expr { node: Node::Case { branches, otherwise }, data_type: target })
}

fn cast(expression: Expr, target: &SqlType, span: Span) -> Result<Expr, Mistake> {
    use DataType::{BigInt, Boolean, Date, Double, Text, Timestamp};
    let target = data_type(target, span)?;
    let allowed = matches!(
        (expression.data_type, target),
        (BigInt | Double, BigInt | Double | Text)
            | (Text, BigInt | Double | Boolean | Text)
            | (Boolean, BigInt | Text | Boolean)
            | (Timestamp, Date)
            | (Date, Timestamp)
    ) || expression.data_type == target;
    if allowed {
        return Ok(Expr { node: Node::Cast(Box::new(expression)), data_type: target });
    }
    if matches!(expression.node, Node::Literal(_)) {
        return adapt(expression, target, span);
    }
    Err(Mistake::new("cast", span, format!("{} cannot be cast to {target}", expression.data_type)))
}

fn operator(operator: &BinaryOperator, span: Span) -> Result<Function, Mistake> {
    Ok(match operator {
        BinaryOperator::Plus => Function::Add,
        BinaryOperator::Minus => Function::Subtract,
        BinaryOperator::Multiply => Function::Multiply,
        BinaryOperator::Divide => Function::Divide,
        BinaryOperator::Modulo => Function::Modulo,
        BinaryOperator::Eq => Function::Equal,
        BinaryOperator::NotEq => Function::NotEqual,
        BinaryOperator::Lt => Function::Less,
        BinaryOperator::LtEq => Function::LessOrEqual,
        BinaryOperator::Gt => Function::Greater,
        BinaryOperator::GtEq => Function::GreaterOrEqual,
        BinaryOperator::And => Function::And,
        BinaryOperator::Or => Function::Or,
        BinaryOperator::StringConcat => Function::Concat,
        other => return Err(Mistake::new("unknown_operator", span, format!("unknown operator {other}"))),
    })
}

fn named(function: &SqlFunction, span: Span, source: &Source) -> Result<Expr, Mistake> {
    const FORBIDDEN: [&str; 6] = ["now", "random", "current_timestamp", "current_date", "clock_timestamp", "localtimestamp"];
    let name = function.name.to_string().to_lowercase();
    if FORBIDDEN.contains(&name.as_str()) {
        let mistake = Mistake::new("not_deterministic", span, format!("{name}() gives another answer each time a record is read"));
        return Err(mistake.help("use a column of the event, or kafka_timestamp"));
    }
    if super::view::AGGREGATES.contains(&name.as_str()) {
        let mistake = Mistake::new("aggregate_here", span, format!("the aggregate {name} cannot stand here"));
        return Err(mistake.help("aggregates stand alone in the SELECT list of a view"));
    }
    if name == "date_trunc" {
        let mistake = Mistake::new("date_trunc_here", span, "date_trunc stands in the SELECT list of a view, once: it is its time bucket");
        return Err(mistake.help("SELECT date_trunc('minute', event_time) AS minute, …"));
    }
    let candidates = Function::ALL.iter().filter(|candidate| candidate.name().chars().all(|c| c.is_ascii_lowercase() || c == '_'));
    let names: Vec<&str> = candidates.clone().map(|candidate| candidate.name()).collect();
    let Some(found) = candidates.clone().find(|candidate| candidate.name() == name) else {
        return Err(Mistake::new("unknown_function", span, format!("unknown function {name}")).nearest(&name, names));
    };
    let arguments = arguments(function, span)?.into_iter().map(|argument| compile(argument, source)).collect::<Result<Vec<_>, _>>()?;
    call(*found, arguments, span)
}

/// The plain arguments of a function; `*` and names are refused.
pub(super) fn arguments(function: &SqlFunction, span: Span) -> Result<Vec<&SqlExpr>, Mistake> {
    let FunctionArguments::List(list) = &function.args else {
        return Err(Mistake::new("bad_arguments", span, format!("{} needs arguments in parentheses", function.name)));
    };
    list.args
        .iter()
        .map(|argument| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expression)) => Ok(expression),
            other => Err(Mistake::new("bad_arguments", span, format!("{} does not take \"{other}\"", function.name))),
        })
        .collect()
}
