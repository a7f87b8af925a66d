//! SQL expressions → typed expressions over what a [`Scope`] offers.

use sqlparser::{
    ast::{
        BinaryOperator, CastKind, DateTimeField, Expr as SqlExpr, Function as SqlFunction, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Interval,
        Spanned, TrimWhereField, TypedString, UnaryOperator, Value,
    },
    tokenizer::Span,
};

use super::{
    DataType, Expr, Literal,
    error::Mistake,
    function::Function,
    source::data_type,
    typing::{adapt, call, case, cast, constant, integer, interval, negate, text},
};

/// What an expression may name.
pub(super) trait Scope {
    /// The column of that name, of that table where one is named.
    fn column(&self, table: Option<&Ident>, name: &Ident) -> Result<Expr, Mistake>;

    /// An aggregate: none may stand in an expression over records.
    fn aggregate(&mut self, function: &SqlFunction, span: Span) -> Result<Expr, Mistake> {
        let name = function.name.to_string().to_lowercase();
        Err(Mistake::new("aggregate_here", span, format!("the aggregate {name} cannot stand here")).help("aggregates stand in the SELECT list of a view"))
    }

    /// Whether `/` of integers is their exact quotient, as between measures.
    fn divides_exactly(&self) -> bool {
        false
    }
}

/// Compiles an expression.
pub(super) fn compile(sql: &SqlExpr, scope: &mut dyn Scope) -> Result<Expr, Mistake> {
    let span = sql.span();
    match sql {
        SqlExpr::Nested(inner) => compile(inner, scope),
        SqlExpr::Identifier(ident) => scope.column(None, ident),
        SqlExpr::CompoundIdentifier(parts) => match parts.as_slice() {
            [table, name] => scope.column(Some(table), name),
            _ => Err(Mistake::new("unknown_table", span, format!("unknown column \"{sql}\"")).help("table.column")),
        },
        SqlExpr::Value(value) => literal(&value.value, span),
        SqlExpr::TypedString(TypedString { data_type: sql_type, value, .. }) => match &value.value {
            Value::SingleQuotedString(string) => adapt(text(string), data_type(sql_type, span)?, span),
            other => Err(Mistake::new("unknown_literal", span, format!("{other} is not known here"))),
        },
        SqlExpr::UnaryOp { op: UnaryOperator::Minus, expr } => negate(compile(expr, scope)?, span),
        SqlExpr::UnaryOp { op: UnaryOperator::Plus, expr } => compile(expr, scope),
        SqlExpr::UnaryOp { op: UnaryOperator::Not, expr } => function(Function::Not, &[expr], scope, span),
        SqlExpr::BinaryOp { left, op, right } => binary(left, op, right, scope, span),
        SqlExpr::Between { expr, negated, low, high } => {
            let from = function(Function::GreaterOrEqual, &[expr, low], scope, span)?;
            let to = function(Function::LessOrEqual, &[expr, high], scope, span)?;
            negated_if(*negated, call(Function::And, vec![from, to], span)?, span)
        }
        SqlExpr::InList { expr, list, negated } => {
            let mut found: Option<Expr> = None;
            for candidate in list {
                let equal = function(Function::Equal, &[expr, candidate], scope, span)?;
                found = Some(match found {
                    None => equal,
                    Some(before) => call(Function::Or, vec![before, equal], span)?,
                });
            }
            let found = found.ok_or_else(|| Mistake::new("unknown_expression", span, "IN needs at least one value"))?;
            negated_if(*negated, found, span)
        }
        SqlExpr::Like { negated, any: false, expr, pattern, escape_char: None } => {
            let like = function(Function::Like, &[expr, pattern], scope, span)?;
            negated_if(*negated, like, span)
        }
        SqlExpr::ILike { negated, any: false, expr, pattern, escape_char: None } => {
            let like = function(Function::Ilike, &[expr, pattern], scope, span)?;
            negated_if(*negated, like, span)
        }
        SqlExpr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr, data_type: target, .. } => {
            cast(compile(expr, scope)?, data_type(target, span)?, span)
        }
        SqlExpr::Case { operand, conditions, else_result, .. } => {
            let mut branches = Vec::new();
            for branch in conditions {
                let condition = match operand {
                    None => compile(&branch.condition, scope)?,
                    Some(operand) => function(Function::Equal, &[operand, &branch.condition], scope, span)?,
                };
                branches.push((condition, compile(&branch.result, scope)?));
            }
            let otherwise = else_result.as_deref().map(|value| compile(value, scope)).transpose()?;
            case(branches, otherwise, span)
        }
        SqlExpr::Function(called) => named(called, scope, span),
        SqlExpr::Subquery(_) | SqlExpr::Exists { .. } | SqlExpr::InSubquery { .. } => {
            Err(Mistake::new("subquery", span, "a sub-query cannot be part of a view").help("JOIN a reference, or write a view of its own"))
        }
        _ => test(sql, scope, span).unwrap_or_else(|| special(sql, scope, span)),
    }
}

/// IS NULL and its like.
fn test(sql: &SqlExpr, scope: &mut dyn Scope, span: Span) -> Option<Result<Expr, Mistake>> {
    let (found, arguments, constant, negated): (Function, Vec<&SqlExpr>, Option<bool>, bool) = match sql {
        SqlExpr::IsNull(inner) => (Function::IsNull, vec![inner], None, false),
        SqlExpr::IsNotNull(inner) => (Function::IsNull, vec![inner], None, true),
        SqlExpr::IsUnknown(inner) => (Function::IsNull, vec![inner], None, false),
        SqlExpr::IsNotUnknown(inner) => (Function::IsNull, vec![inner], None, true),
        SqlExpr::IsDistinctFrom(left, right) => (Function::IsDistinctFrom, vec![left, right], None, false),
        SqlExpr::IsNotDistinctFrom(left, right) => (Function::IsDistinctFrom, vec![left, right], None, true),
        SqlExpr::IsTrue(inner) => (Function::IsDistinctFrom, vec![inner], Some(true), true),
        SqlExpr::IsNotTrue(inner) => (Function::IsDistinctFrom, vec![inner], Some(true), false),
        SqlExpr::IsFalse(inner) => (Function::IsDistinctFrom, vec![inner], Some(false), true),
        SqlExpr::IsNotFalse(inner) => (Function::IsDistinctFrom, vec![inner], Some(false), false),
        _ => return None,
    };
    let compiled = arguments.into_iter().map(|argument| compile(argument, scope)).collect::<Result<Vec<_>, _>>();
    Some(compiled.and_then(|mut arguments| {
        arguments.extend(constant.map(|value| self::constant(Literal::Boolean(value), DataType::Boolean)));
        negated_if(negated, call(found, arguments, span)?, span)
    }))
}

/// Functions whose arguments are written with words between them.
fn special(sql: &SqlExpr, scope: &mut dyn Scope, span: Span) -> Result<Expr, Mistake> {
    match sql {
        SqlExpr::Trim { trim_where, trim_what, expr, trim_characters } => {
            let found = match trim_where {
                None | Some(TrimWhereField::Both) => Function::Trim,
                Some(TrimWhereField::Leading) => Function::Ltrim,
                Some(TrimWhereField::Trailing) => Function::Rtrim,
            };
            let characters = trim_what.as_deref().or_else(|| trim_characters.as_ref().and_then(|list| list.first()));
            function(found, &[Some(expr.as_ref()), characters].into_iter().flatten().collect::<Vec<_>>(), scope, span)
        }
        SqlExpr::Substring { expr, substring_from, substring_for, .. } => {
            let mut arguments = vec![compile(expr, scope)?];
            arguments.push(substring_from.as_deref().map_or_else(|| Ok(integer(1)), |from| compile(from, scope))?);
            arguments.extend(substring_for.as_deref().map(|length| compile(length, scope)).transpose()?);
            call(Function::Substr, arguments, span)
        }
        SqlExpr::Position { expr, r#in } => function(Function::Strpos, &[r#in, expr], scope, span),
        SqlExpr::Extract { field, expr, .. } => {
            let field = match field {
                DateTimeField::Custom(name) => name.value.to_lowercase(),
                other => other.to_string().to_lowercase(),
            };
            let plural = ["milliseconds", "microseconds"].contains(&field.as_str());
            let field = if plural { field.trim_end_matches('s') } else { &field };
            call(Function::Extract, vec![text(field), compile(expr, scope)?], span)
        }
        SqlExpr::Ceil { expr, .. } => function(Function::Ceil, &[expr], scope, span),
        SqlExpr::Floor { expr, .. } => function(Function::Floor, &[expr], scope, span),
        SqlExpr::Interval(written) => {
            let (months, micros) = read_interval(written, span)?;
            if months != 0 {
                return Err(Mistake::new("bad_interval", span, "months have no fixed length").help("an interval of days or less"));
            }
            Ok(integer(micros))
        }
        other => Err(Mistake::new("unknown_expression", span, format!("\"{other}\" is not known here"))),
    }
}

fn binary(left: &SqlExpr, operator: &BinaryOperator, right: &SqlExpr, scope: &mut dyn Scope, span: Span) -> Result<Expr, Mistake> {
    if let SqlExpr::Interval(written) = right {
        let sign = match operator {
            BinaryOperator::Plus => 1,
            BinaryOperator::Minus => -1,
            other => return Err(Mistake::new("unknown_operator", span, format!("{other} does not take an interval")).help("time + INTERVAL '1 hour'")),
        };
        let (months, micros) = read_interval(written, span)?;
        return call(Function::AddInterval, vec![compile(left, scope)?, integer(sign * months), integer(sign * micros)], span);
    }
    let found = match operator {
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
    };
    let mut arguments = vec![compile(left, scope)?, compile(right, scope)?];
    if found == Function::Divide && scope.divides_exactly() {
        arguments = arguments.into_iter().map(|argument| adapt(argument, DataType::Double, span)).collect::<Result<_, _>>()?;
    }
    call(found, arguments, span)
}

fn read_interval(written: &Interval, span: Span) -> Result<(i64, i64), Mistake> {
    let bad = || Mistake::new("bad_interval", span, format!("\"{written}\" is not an interval")).help("INTERVAL '15 minutes'");
    let SqlExpr::Value(value) = written.value.as_ref() else { return Err(bad()) };
    let number = match &value.value {
        Value::SingleQuotedString(text) | Value::Number(text, _) => text.clone(),
        _ => return Err(bad()),
    };
    let whole = written.leading_field.as_ref().map_or_else(|| number.clone(), |unit| format!("{number} {unit}"));
    interval(&whole).ok_or_else(bad)
}

fn function(found: Function, arguments: &[&SqlExpr], scope: &mut dyn Scope, span: Span) -> Result<Expr, Mistake> {
    let arguments = arguments.iter().map(|argument| compile(argument, scope)).collect::<Result<Vec<_>, _>>()?;
    call(found, arguments, span)
}

fn negated_if(negated: bool, condition: Expr, span: Span) -> Result<Expr, Mistake> {
    if negated { call(Function::Not, vec![condition], span) } else { Ok(condition) }
}

fn literal(value: &Value, span: Span) -> Result<Expr, Mistake> {
    Ok(match value {
        Value::SingleQuotedString(string) => text(string),
        Value::Boolean(value) => constant(Literal::Boolean(*value), DataType::Boolean),
        // NULL alone has no type; where it meets another argument it takes that one's.
        Value::Null => constant(Literal::Null, DataType::Text),
        Value::Number(text, _) => match text.parse::<i64>() {
            Ok(value) => integer(value),
            Err(_) => match text.parse::<f64>() {
                Ok(number) if number.is_finite() => constant(Literal::Double(number), DataType::Double),
                _ => return Err(Mistake::new("bad_number", span, format!("\"{text}\" is not a number that DOUBLE holds"))),
            },
        },
        other => return Err(Mistake::new("unknown_literal", span, format!("{other} is not known here"))),
    })
}

fn named(called: &SqlFunction, scope: &mut dyn Scope, span: Span) -> Result<Expr, Mistake> {
    const FORBIDDEN: [&str; 8] =
        ["now", "random", "current_timestamp", "current_date", "clock_timestamp", "localtimestamp", "gen_random_uuid", "statement_timestamp"];
    let name = called.name.to_string().to_lowercase();
    if FORBIDDEN.contains(&name.as_str()) {
        let mistake = Mistake::new("not_deterministic", span, format!("{name}() gives another answer each time a record is read"));
        return Err(mistake.help("use a column of the event, or kafka_timestamp"));
    }
    if called.over.is_some() {
        let mistake = Mistake::new("window", span, "a window (OVER) cannot be part of a view: its value would change with every record");
        return Err(mistake.help("group by a time bucket, and compare buckets in the query"));
    }
    if super::aggregate::NAMES.contains(&name.as_str()) {
        return scope.aggregate(called, span);
    }
    let Some(found) = Function::named(&name) else {
        let names = Function::names().chain(super::aggregate::NAMES);
        return Err(Mistake::new("unknown_function", span, format!("unknown function {name}")).nearest(&name, names));
    };
    let mut compiled = Vec::new();
    for argument in arguments(called, span)? {
        compiled.push(compile(argument, scope)?);
    }
    if matches!(found, Function::DateTrunc | Function::Extract)
        && let Some(first) = compiled.first_mut()
        && let super::Node::Literal(Literal::Text(word)) = &mut first.node
    {
        *word = word.to_lowercase();
    }
    call(found, compiled, span)
}

/// The plain arguments of a function; `*` and names are refused.
pub(super) fn arguments(function: &SqlFunction, span: Span) -> Result<Vec<&SqlExpr>, Mistake> {
    let list = match &function.args {
        FunctionArguments::List(list) => list,
        FunctionArguments::None | FunctionArguments::Subquery(_) => {
            return Err(Mistake::new("bad_arguments", span, format!("{} needs arguments in parentheses", function.name)));
        }
    };
    let arguments = list.args.iter().map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expression)) => Ok(expression),
        other => Err(Mistake::new("bad_arguments", span, format!("{} does not take \"{other}\"", function.name))),
    });
    arguments.collect()
}
