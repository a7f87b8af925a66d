//! `CREATE MATERIALIZED VIEW … AS SELECT …` → an aggregate view.

use std::collections::BTreeMap;

use sqlparser::{
    ast::{
        CreateView, Expr as SqlExpr, Function as SqlFunction, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Select, SelectItem, SetExpr,
        Spanned, TableFactor, Value,
    },
    tokenizer::Span,
};

use super::{
    Accumulator, AccumulatorKind, Bucket, DECODE_ERROR, DataType, Dimension, Expr, Fingerprint, Formula, Granularity, KAFKA_TIMESTAMP, Literal, Measure, Node,
    Source, View,
    error::Mistake,
    scalar,
    source::{identifier, object_name},
};

/// The aggregate functions.
pub(super) const AGGREGATES: [&str; 8] = ["count", "sum", "min", "max", "avg", "last", "approx_count_distinct", "approx_percentile_cont"];

/// The view that counts the rejected records of a source by hour and reason.
pub(super) fn rejected(source: &Source) -> View {
    let mut view = View {
        name: source.rejected_view(),
        fingerprint: Fingerprint(String::new()),
        source: source.clone(),
        sql: format!(
            "CREATE MATERIALIZED VIEW {} AS\nSELECT date_trunc('hour', kafka_timestamp) AS hour, decode_error AS reason, count(*) AS records\nFROM rejected records of {}\nGROUP BY 1, 2",
            source.rejected_view(),
            source.name
        ),
        over_rejected: true,
        filter: None,
        bucket: Some(Bucket { name: "hour".to_owned(), time: Expr::column(KAFKA_TIMESTAMP, DataType::Timestamp), granularity: Granularity::Hour }),
        dimensions: vec![Dimension { name: "reason".to_owned(), expression: Expr::column(DECODE_ERROR, DataType::Text) }],
        accumulators: vec![Accumulator { kind: AccumulatorKind::Count, argument: None }],
        measures: vec![Measure { name: "records".to_owned(), data_type: DataType::BigInt, formula: Formula::Value(0) }],
    };
    view.fingerprint = fingerprint(&view);
    view
}

/// The text and the name of a view are not part of what it computes.
fn fingerprint(view: &View) -> Fingerprint {
    let source = (&view.source.name, &view.source.topic, view.source.columns_fingerprint(), &view.source.event_time, view.source.start);
    let rows = (view.over_rejected, &view.filter, &view.bucket, &view.dimensions);
    Fingerprint::of(&(&view.name, source, rows, &view.accumulators, &view.measures))
}

pub(super) fn compile(definition: &CreateView, sources: &BTreeMap<String, Source>) -> Result<View, Mistake> {
    let parts: Vec<_> = definition.name.0.iter().filter_map(|part| part.as_ident().cloned()).collect();
    let name = object_name(&parts, definition.name.span())?;
    if !definition.materialized {
        return Err(Mistake::new("not_materialized", definition.name.span(), "a view here is kept up to date").help("CREATE MATERIALIZED VIEW"));
    }
    let select = select(definition)?;
    let source = from(select, sources)?;
    let filter = select.selection.as_ref().map(|condition| condition_of(condition, source)).transpose()?;
    let mut view = View {
        name,
        fingerprint: Fingerprint(String::new()),
        source: source.clone(),
        sql: definition.to_string(),
        over_rejected: false,
        filter,
        bucket: None,
        dimensions: Vec::new(),
        accumulators: Vec::new(),
        measures: Vec::new(),
    };
    let mut grouped = Vec::new();
    for item in &select.projection {
        let item = Item::read(item)?;
        if compile_item(&item, &mut view)? {
            grouped.push(item);
        }
    }
    check_group_by(select, &grouped, &view)?;
    if view.measures.is_empty() {
        return Err(Mistake::new("no_measure", select.span(), "the view has no aggregate").help("such as count(*) AS events"));
    }
    view.fingerprint = fingerprint(&view);
    Ok(view)
}

fn select(definition: &CreateView) -> Result<&Select, Mistake> {
    let query = &definition.query;
    let refuse = |what: &str, help: &str| Err(Mistake::new("not_supported", query.span(), format!("{what} cannot be part of a view")).help(help));
    if query.with.is_some() {
        return refuse("WITH", "one SELECT over one source");
    }
    if query.order_by.is_some() {
        return refuse("ORDER BY", "order the answer: \"order\" in the query");
    }
    if query.limit_clause.is_some() || query.fetch.is_some() {
        return refuse("LIMIT", "limit the answer: \"limit\" in the query");
    }
    let SetExpr::Select(select) = query.body.as_ref() else {
        return refuse("a set operation", "one SELECT over one source");
    };
    if let Some(having) = &select.having {
        return Err(Mistake::new("not_supported", having.span(), "HAVING cannot be part of a view").help("filter the answer: \"filters\" in the query"));
    }
    if select.distinct.is_some() {
        return refuse("DISTINCT", "GROUP BY the columns");
    }
    Ok(select)
}

fn from<'a>(select: &Select, sources: &'a BTreeMap<String, Source>) -> Result<&'a Source, Mistake> {
    let [table] = select.from.as_slice() else {
        return Err(Mistake::new("from", select.span(), "a view reads exactly one source").help("FROM name"));
    };
    if let Some(join) = table.joins.first() {
        return Err(Mistake::new("join", join.relation.span(), "a view cannot join two sources"));
    }
    let TableFactor::Table { name, .. } = &table.relation else {
        return Err(Mistake::new("from", table.relation.span(), "a view reads a source, not an expression").help("FROM name"));
    };
    let parts: Vec<_> = name.0.iter().filter_map(|part| part.as_ident().cloned()).collect();
    let wanted = object_name(&parts, name.span())?;
    sources
        .get(&wanted)
        .ok_or_else(|| Mistake::new("unknown_source", name.span(), format!("unknown source \"{wanted}\"")).nearest(&wanted, sources.keys().map(String::as_str)))
}

fn condition_of(sql: &SqlExpr, source: &Source) -> Result<Expr, Mistake> {
    let condition = scalar::compile(sql, source)?;
    if condition.data_type == DataType::Boolean {
        return Ok(condition);
    }
    Err(Mistake::new("wrong_types", sql.span(), format!("WHERE needs a condition, not {}", condition.data_type)))
}

/// An item of the SELECT list.
struct Item<'a> {
    expression: &'a SqlExpr,
    name: String,
    span: Span,
}

impl<'a> Item<'a> {
    fn read(item: &'a SelectItem) -> Result<Self, Mistake> {
        match item {
            SelectItem::ExprWithAlias { expr, alias } => Ok(Self { expression: expr, name: identifier(alias)?, span: expr.span() }),
            SelectItem::UnnamedExpr(expr) => match expr {
                SqlExpr::Identifier(ident) => Ok(Self { expression: expr, name: identifier(ident)?, span: expr.span() }),
                SqlExpr::CompoundIdentifier(parts) if let Some(ident) = parts.last() => {
                    Ok(Self { expression: expr, name: identifier(ident)?, span: expr.span() })
                }
                _ => Err(Mistake::new("no_name", expr.span(), "this column has no name").help("… AS name")),
            },
            other => Err(Mistake::new("star", other.span(), format!("\"{other}\" cannot be part of a view")).help("name the columns")),
        }
    }
}

/// Adds one item to the view; true = it must be in GROUP BY.
fn compile_item(item: &Item<'_>, view: &mut View) -> Result<bool, Mistake> {
    let taken = view.bucket.iter().map(|bucket| &bucket.name).chain(view.dimensions.iter().map(|dimension| &dimension.name));
    if taken.chain(view.measures.iter().map(|measure| &measure.name)).any(|name| *name == item.name) {
        return Err(Mistake::new("duplicate_column", item.span, format!("the column \"{}\" is defined twice", item.name)));
    }
    if let SqlExpr::Function(function) = item.expression {
        let name = function.name.to_string().to_lowercase();
        if name == "date_trunc" {
            if view.bucket.is_some() {
                return Err(Mistake::new("two_buckets", item.span, "a view has one time bucket").help("truncate further in the query: \"granularity\""));
            }
            view.bucket = Some(bucket(function, item, &view.source)?);
            return Ok(true);
        }
        if AGGREGATES.contains(&name.as_str()) {
            let measure = aggregate(&name, function, item, view)?;
            view.measures.push(measure);
            return Ok(false);
        }
    }
    let expression = scalar::compile(item.expression, &view.source)?;
    view.dimensions.push(Dimension { name: item.name.clone(), expression });
    Ok(true)
}

fn bucket(function: &SqlFunction, item: &Item<'_>, source: &Source) -> Result<Bucket, Mistake> {
    let arguments = scalar::arguments(function, item.span)?;
    let [granularity, time] = arguments.as_slice() else {
        return Err(Mistake::new("bad_arguments", item.span, "date_trunc takes two arguments").help("date_trunc('minute', event_time)"));
    };
    let names = || Granularity::ALL.map(Granularity::name);
    let text = match granularity {
        SqlExpr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => text.to_lowercase(),
            other => other.to_string(),
        },
        other => other.to_string(),
    };
    let granularity = Granularity::named(&text)
        .ok_or_else(|| Mistake::new("unknown_granularity", granularity.span(), format!("unknown granularity '{text}'")).nearest(&text, names()))?;
    let span = time.span();
    let time = scalar::compile(time, source)?;
    if time.data_type != DataType::Timestamp {
        return Err(Mistake::new("wrong_types", span, format!("date_trunc needs a TIMESTAMP, not {}", time.data_type)));
    }
    Ok(Bucket { name: item.name.clone(), time, granularity })
}

fn aggregate(name: &str, function: &SqlFunction, item: &Item<'_>, view: &mut View) -> Result<Measure, Mistake> {
    for (present, what) in [(function.filter.is_some(), "FILTER"), (function.over.is_some(), "OVER"), (!function.within_group.is_empty(), "WITHIN GROUP")] {
        if present {
            return Err(Mistake::new("not_supported", item.span, format!("{what} is not known here")));
        }
    }
    let count_star = matches!(&function.args, FunctionArguments::List(list)
        if matches!(list.args.as_slice(), [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)]));
    if let FunctionArguments::List(list) = &function.args
        && list.duplicate_treatment.is_some()
    {
        return Err(Mistake::new("not_supported", item.span, "DISTINCT is not known here").help("approx_count_distinct(…)"));
    }
    if name == "count" && count_star {
        let state = accumulator(view, AccumulatorKind::Count, None);
        return Ok(Measure { name: item.name.clone(), data_type: DataType::BigInt, formula: Formula::Value(state) });
    }
    let arguments = scalar::arguments(function, item.span)?;
    let (argument, rank_argument) = match (name, arguments.as_slice()) {
        ("approx_percentile_cont", [argument, rank]) => (*argument, Some(*rank)),
        ("approx_percentile_cont", _) => return Err(Mistake::new("bad_arguments", item.span, format!("{name} takes a number and a rank"))),
        (_, [argument]) => (*argument, None),
        _ => return Err(Mistake::new("bad_arguments", item.span, format!("{name} takes 1 argument"))),
    };
    let argument = scalar::compile(argument, &view.source)?;
    let found = argument.data_type;
    let needs_number = matches!(name, "sum" | "avg" | "approx_percentile_cont");
    if needs_number && !found.is_number() {
        return Err(Mistake::new("wrong_types", item.span, format!("{name} needs a number, not {found}")));
    }
    let (data_type, formula) = match name {
        "count" => (DataType::BigInt, Formula::Value(accumulator(view, AccumulatorKind::Count, Some(argument)))),
        "sum" if found == DataType::Double => (found, Formula::Value(accumulator(view, AccumulatorKind::Sum, Some(argument)))),
        "sum" => (DataType::Decimal, Formula::Value(accumulator(view, AccumulatorKind::Sum, Some(argument)))),
        "min" => (found, Formula::Value(accumulator(view, AccumulatorKind::Min, Some(argument)))),
        "max" => (found, Formula::Value(accumulator(view, AccumulatorKind::Max, Some(argument)))),
        "avg" => {
            let sum = accumulator(view, AccumulatorKind::Sum, Some(argument.clone()));
            let count = accumulator(view, AccumulatorKind::Count, Some(argument));
            (DataType::Double, Formula::Mean { sum, count })
        }
        "last" => {
            if view.source.event_time.is_none() {
                let mistake = Mistake::new("no_event_time", item.span, format!("last needs to know when the events of \"{}\" happened", view.source.name));
                return Err(mistake.help("event_time = '…' in the source's WITH"));
            }
            (found, Formula::Value(accumulator(view, AccumulatorKind::Last, Some(argument))))
        }
        "approx_count_distinct" => (DataType::BigInt, Formula::Value(accumulator(view, AccumulatorKind::Distinct, Some(argument)))),
        _ => {
            let rank = rank_argument.map(|sql| rank(sql, &view.source)).transpose()?.unwrap_or(0.5);
            (DataType::Double, Formula::Percentile { histogram: accumulator(view, AccumulatorKind::Histogram, Some(argument)), rank })
        }
    };
    Ok(Measure { name: item.name.clone(), data_type, formula })
}

fn rank(sql: &SqlExpr, source: &Source) -> Result<f64, Mistake> {
    let rank = match scalar::compile(sql, source)?.node {
        Node::Literal(Literal::Double(rank)) => Some(rank),
        Node::Literal(Literal::BigInt(0)) => Some(0.0),
        Node::Literal(Literal::BigInt(1)) => Some(1.0),
        _ => None,
    };
    rank.filter(|rank| (0.0..=1.0).contains(rank))
        .ok_or_else(|| Mistake::new("bad_rank", sql.span(), format!("the rank {sql} is not a constant between 0 and 1")).help("0.95 is the 95th percentile"))
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

/// GROUP BY must name exactly the columns that are no aggregates: by position, by name, or by the same expression.
fn check_group_by(select: &Select, grouped: &[Item<'_>], view: &View) -> Result<(), Mistake> {
    let GroupByExpr::Expressions(expressions, modifiers) = &select.group_by else {
        return Err(Mistake::new("group_by", select.span(), "GROUP BY ALL is not known here").help("GROUP BY 1, 2"));
    };
    if let Some(modifier) = modifiers.first() {
        return Err(Mistake::new("group_by", select.span(), format!("GROUP BY … {modifier} is not known here")));
    }
    let positions: Vec<(usize, &SelectItem)> = select.projection.iter().enumerate().collect();
    let mut named = Vec::new();
    for expression in expressions {
        let text = expression.to_string();
        let item = match expression {
            SqlExpr::Value(value) => match &value.value {
                Value::Number(number, _) => {
                    let position = number.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
                    position.and_then(|position| positions.get(position)).and_then(|(_, item)| Item::read(item).ok()).map(|item| item.name)
                }
                _ => None,
            },
            SqlExpr::Identifier(ident) => {
                let name = identifier(ident)?;
                grouped.iter().find(|item| item.name == name || item.expression.to_string() == text).map(|item| item.name.clone())
            }
            _ => grouped.iter().find(|item| item.expression.to_string() == text).map(|item| item.name.clone()),
        };
        let Some(name) = item else {
            return Err(Mistake::new("group_by", expression.span(), format!("GROUP BY {text} is not a column of the view"))
                .help("a position, a name, or the same expression"));
        };
        if view.measures.iter().any(|measure| measure.name == name) {
            return Err(Mistake::new("group_by", expression.span(), format!("GROUP BY {text} is an aggregate")));
        }
        named.push(name);
    }
    match grouped.iter().find(|item| !named.contains(&item.name)) {
        Some(item) => {
            Err(Mistake::new("group_by", item.span, format!("the column \"{}\" is neither grouped nor an aggregate", item.name)).help("add it to GROUP BY"))
        }
        None => Ok(()),
    }
}
