//! `CREATE MATERIALIZED VIEW … AS SELECT …` → a view.

use std::collections::BTreeMap;

use sqlparser::{
    ast::{CreateTableOptions, CreateView, Expr as SqlExpr, GroupByExpr, Ident, Select, SelectItem, SetExpr, Spanned, Value},
    dialect::GenericDialect,
    parser::Parser,
    tokenizer::Span,
};

use super::{
    Accumulator, AccumulatorKind, Bucket, DECODE_ERROR, DataType, Dimension, Expr, Fingerprint, Formula, Granularity, KAFKA_OFFSET, KAFKA_PARTITION,
    KAFKA_TIMESTAMP, Measure, Segment, Source, View, Width,
    aggregate::{self, DISTINCT_LIMIT, condition_of},
    error::Mistake,
    gauges,
    options::{Options, name_parts},
    scalar::{self, Scope},
    source::{identifier, object_name},
    tables::Tables,
};

/// The measure of every row view.
const ROW_COUNT: &str = "count";
/// What the WITH of a view may hold.
const OPTIONS: [&str; 4] = ["distinct_limit.*", "metrics", "publish", "segment.*"];
/// What `distinct_limit` may be: the values of one group are one cell of a table.
const LARGEST_DISTINCT_LIMIT: usize = 100_000;

/// A view over nothing yet.
fn empty(name: String, source: &Source, sql: String) -> View {
    View {
        name,
        comment: None,
        column_comments: BTreeMap::new(),
        segments: BTreeMap::new(),
        gauges: None,
        is_published: false,
        fingerprint: Fingerprint(String::new()),
        source: source.clone(),
        joins: Vec::new(),
        is_rows: false,
        sql,
        over_rejected: false,
        filter: None,
        bucket: None,
        dimensions: Vec::new(),
        accumulators: Vec::new(),
        measures: Vec::new(),
    }
}

/// The view that counts the rejected records of a source by hour and reason.
pub(super) fn rejected(source: &Source) -> View {
    let sql = format!(
        "CREATE MATERIALIZED VIEW {} AS\nSELECT date_trunc('hour', kafka_timestamp) AS hour, decode_error AS reason, count(*) AS records\nFROM rejected records of {}\nGROUP BY 1, 2",
        source.rejected_view(),
        source.name
    );
    let mut view = View {
        comment: Some(format!("The records of {} that could not be decoded, by hour and reason.", source.name)),
        over_rejected: true,
        bucket: Some(Bucket { name: "hour".to_owned(), time: Expr::column(KAFKA_TIMESTAMP, DataType::Timestamp), width: Width::Calendar(Granularity::Hour) }),
        dimensions: vec![Dimension { name: "reason".to_owned(), expression: Expr::column(DECODE_ERROR, DataType::Text) }],
        accumulators: vec![Accumulator { kind: AccumulatorKind::Count, argument: None }],
        measures: vec![Measure { name: "records".to_owned(), data_type: DataType::BigInt, formula: Formula::Value(0) }],
        ..empty(source.rejected_view(), source, sql)
    };
    view.fingerprint = fingerprint(&view);
    view
}

/// The text and the comments of a view are not part of what it computes.
pub(super) fn fingerprint(view: &View) -> Fingerprint {
    let table = |source: &Source| {
        let content = source.files.as_ref().map(|files| (files.content.clone(), files.unique_first));
        (source.name.clone(), source.topic.clone(), content, source.columns_fingerprint(), source.event_time.clone(), source.start)
    };
    let joins: Vec<_> = view.joins.iter().map(|join| (&join.alias, table(&join.reference), join.inner, &join.on)).collect();
    let rows = (view.over_rejected, view.is_rows, joins, &view.filter, &view.bucket, &view.dimensions);
    Fingerprint::of(&(&view.name, table(&view.source), rows, &view.accumulators, &view.measures))
}

pub(super) fn compile(definition: &CreateView, sources: &BTreeMap<String, Source>) -> Result<View, Mistake> {
    let name = object_name(&name_parts(&definition.name), definition.name.span())?;
    if !definition.materialized {
        return Err(Mistake::new("not_materialized", definition.name.span(), "a view here is kept up to date").help("CREATE MATERIALIZED VIEW"));
    }
    let select = select(definition)?;
    let mut tables = Tables::read(select, sources)?;
    let filter = select.selection.as_ref().map(|condition| condition_of("WHERE", condition, &mut tables)).transpose()?;
    let mut view = View { joins: tables.joins.clone(), filter, ..empty(name, tables.source, definition.to_string()) };
    view.comment.clone_from(&definition.comment);
    let items = select.projection.iter().map(Item::read).collect::<Result<Vec<_>, _>>()?;
    let has_groups = !matches!(&select.group_by, GroupByExpr::Expressions(expressions, _) if expressions.is_empty());
    let has_aggregates = items.iter().any(|item| aggregate::is_over_groups(item.expression));
    view.is_rows = !has_groups && !has_aggregates;
    let options = options(definition)?;
    let limits = distinct_limits(&options, &items)?;
    if view.is_rows {
        if view.source.files.is_none() {
            for name in [KAFKA_PARTITION, KAFKA_OFFSET] {
                view.dimensions.push(Dimension { name: name.to_owned(), expression: Expr::column(name, DataType::BigInt) });
            }
        }
        items.iter().try_for_each(|item| column(item, &mut tables, &mut view))?;
        view.accumulators.push(Accumulator { kind: AccumulatorKind::Count, argument: None });
        view.measures.push(Measure { name: ROW_COUNT.to_owned(), data_type: DataType::BigInt, formula: Formula::Value(0) });
    } else {
        let (measures, grouped): (Vec<&Item<'_>>, Vec<&Item<'_>>) = items.iter().partition(|item| aggregate::is_over_groups(item.expression));
        for item in measures {
            let limit = limits.get(&item.name).copied().unwrap_or(DISTINCT_LIMIT);
            let measure = aggregate::compile(&item.name, item.expression, &tables, limit, &mut view)?;
            view.measures.push(measure);
        }
        grouped.iter().try_for_each(|item| column(item, &mut tables, &mut view))?;
        check_group_by(select, &items, &grouped)?;
        if view.measures.is_empty() {
            return Err(Mistake::new("no_measure", select.span(), "the view has no aggregate")
                .help("such as count(*) AS events; or leave GROUP BY out, for a view of rows"));
        }
    }
    check_names(&items, &view)?;
    view.segments = segments(&options, &view)?;
    view.gauges = gauges::gauges(&options, &view)?;
    view.is_published = options.find("publish").is_some() && options.one_of("publish", &["postgres"])? == "postgres";
    view.fingerprint = fingerprint(&view);
    Ok(view)
}

/// What stands in the WITH of a view.
fn options(definition: &CreateView) -> Result<Options, Mistake> {
    let span = definition.name.span();
    match &definition.options {
        CreateTableOptions::None => Options::read(&[], &OPTIONS, span),
        CreateTableOptions::With(list) | CreateTableOptions::Options(list) => Options::read(list, &OPTIONS, span),
        other => Err(Mistake::new("bad_option", span, format!("\"{other}\" is not known here")).help("WITH (\"distinct_limit.measure\" = '5000')")),
    }
}

/// `WITH ("distinct_limit.measure" = '5000')`.
fn distinct_limits(options: &Options, items: &[Item<'_>]) -> Result<BTreeMap<String, usize>, Mistake> {
    let mut limits = BTreeMap::new();
    for (measure, value, span) in options.starting("distinct_limit.") {
        if !items.iter().any(|item| item.name == measure) {
            return Err(
                Mistake::new("unknown_column", span, format!("unknown measure \"{measure}\"")).nearest(measure, items.iter().map(|item| item.name.as_str()))
            );
        }
        let limit = value.parse().ok().filter(|limit| (1..=LARGEST_DISTINCT_LIMIT).contains(limit));
        let limit = limit.ok_or_else(|| Mistake::new("option_value", span, format!("'{value}' is not a limit")).help("a number from 1 to 100000"))?;
        limits.insert(measure.to_owned(), limit);
    }
    Ok(limits)
}

/// `WITH ("segment.red" = 'status_color = ''Red''')`.
fn segments(options: &Options, view: &View) -> Result<BTreeMap<String, Segment>, Mistake> {
    let mut segments = BTreeMap::new();
    for (name, sql, span) in options.starting("segment.") {
        let wrong = |error: &dyn std::fmt::Display| {
            let message = format!("the segment \"{name}\" is no condition: {error}");
            Mistake::new("segment", span, message).help("over the columns of the view, as in 'status_color = ''Red'''")
        };
        let parsed = Parser::new(&GenericDialect {}).try_with_sql(sql).and_then(|mut parser| parser.parse_expr()).map_err(|error| wrong(&error))?;
        let condition = scalar::compile(&parsed, &mut Keys { view, span }).map_err(|mistake| wrong(&mistake.message()))?;
        if condition.data_type != DataType::Boolean {
            return Err(wrong(&condition.data_type));
        }
        segments.insert(name.to_owned(), Segment { sql: sql.to_owned(), condition });
    }
    Ok(segments)
}

/// The scope of a segment: the key columns of its view.
struct Keys<'a> {
    view: &'a View,
    span: Span,
}

impl Scope for Keys<'_> {
    fn column(&self, _: Option<&Ident>, name: &Ident) -> Result<Expr, Mistake> {
        let column = identifier(name)?;
        let bucket = self.view.bucket.iter().map(|bucket| (bucket.name.as_str(), DataType::Timestamp));
        let mut keys = bucket.chain(self.view.dimensions.iter().map(|dimension| (dimension.name.as_str(), dimension.expression.data_type)));
        match keys.find(|(known, _)| *known == column) {
            Some((_, data_type)) => Ok(Expr::column(&column, data_type)),
            None => Err(Mistake::new("segment", self.span, format!("unknown column \"{column}\"")).nearest(&column, self.view.key_names())),
        }
    }
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
        return refuse("a set operation", "one SELECT over one source, for each part");
    };
    if let Some(having) = &select.having {
        return Err(Mistake::new("having", having.span(), "HAVING cannot be part of a view: a group would come and go with each record")
            .help("filter the answer: \"filters\" in the query take measures, too"));
    }
    if select.distinct.is_some() {
        return refuse("DISTINCT", "GROUP BY the columns, with count(*)");
    }
    if !select.named_window.is_empty() || select.qualify.is_some() {
        return Err(Mistake::new("window", select.span(), "a window cannot be part of a view").help("group by a time bucket, and compare buckets in the query"));
    }
    Ok(select)
}

/// An item of the SELECT list.
struct Item<'a> {
    expression: &'a SqlExpr,
    name: String,
    span: Span,
}

impl<'a> Item<'a> {
    fn read(item: &'a SelectItem) -> Result<Self, Mistake> {
        let span = item.span();
        match item {
            SelectItem::ExprWithAlias { expr, alias } => Ok(Self { expression: expr, name: identifier(alias)?, span }),
            SelectItem::UnnamedExpr(expression) => {
                let name = match expression {
                    SqlExpr::Identifier(ident) => identifier(ident)?,
                    SqlExpr::CompoundIdentifier(parts) => parts.last().map(identifier).transpose()?.unwrap_or_default(),
                    other => return Err(Mistake::new("no_name", span, format!("the column \"{other}\" has no name")).help(format!("{other} AS name"))),
                };
                Ok(Self { expression, name, span })
            }
            _ => Err(Mistake::new("star", span, "* would change with the source").help("name the columns")),
        }
    }
}

/// A column that is no aggregate: the time bucket, or a dimension.
fn column(item: &Item<'_>, tables: &mut Tables<'_>, view: &mut View) -> Result<(), Mistake> {
    let expression = scalar::compile(item.expression, tables)?;
    let bucket = match aggregate::bucket(&expression) {
        Some(found) if !view.is_rows => Some(found),
        _ if view.is_rows && expression.data_type == DataType::Timestamp => Some((Width::Exact, expression.clone())),
        _ => None,
    };
    match (bucket, &view.bucket) {
        (Some((width, time)), None) => view.bucket = Some(Bucket { name: item.name.clone(), time, width }),
        _ => view.dimensions.push(Dimension { name: item.name.clone(), expression }),
    }
    Ok(())
}

fn check_names(items: &[Item<'_>], view: &View) -> Result<(), Mistake> {
    for (index, item) in items.iter().enumerate() {
        if items.iter().take(index).any(|other| other.name == item.name) {
            return Err(Mistake::new("duplicate_column", item.span, format!("the column \"{}\" stands twice", item.name)).help("… AS another_name"));
        }
        if view.is_rows && [ROW_COUNT, KAFKA_PARTITION, KAFKA_OFFSET].contains(&item.name.as_str()) {
            let message = format!("every row view has a column \"{}\" already", item.name);
            return Err(Mistake::new("reserved_name", item.span, message).help("leave it out, or … AS another_name"));
        }
    }
    Ok(())
}

/// GROUP BY must name exactly the columns that are no aggregates: by position, by name, or by the same expression.
fn check_group_by(select: &Select, items: &[Item<'_>], grouped: &[&Item<'_>]) -> Result<(), Mistake> {
    let GroupByExpr::Expressions(expressions, modifiers) = &select.group_by else {
        return Err(Mistake::new("group_by", select.span(), "GROUP BY ALL is not known here").help("GROUP BY 1, 2"));
    };
    if let Some(modifier) = modifiers.first() {
        return Err(Mistake::new("group_by", select.span(), format!("GROUP BY … {modifier} is not known here")));
    }
    let mut named = Vec::new();
    for expression in expressions {
        let text = expression.to_string();
        let same = |item: &&Item<'_>| item.expression.to_string() == text;
        let item = match expression {
            SqlExpr::Value(value) => match &value.value {
                Value::Number(number, _) => number.parse::<usize>().ok().and_then(|number| number.checked_sub(1)).and_then(|position| items.get(position)),
                _ => None,
            },
            SqlExpr::Identifier(ident) => {
                let name = identifier(ident)?;
                items.iter().find(|item| item.name == name || same(item))
            }
            _ => items.iter().find(same),
        };
        let Some(item) = item else {
            return Err(Mistake::new("group_by", expression.span(), format!("GROUP BY {text} is not a column of the view"))
                .help("a position, a name, or the same expression"));
        };
        if aggregate::is_over_groups(item.expression) {
            return Err(Mistake::new("group_by", expression.span(), format!("GROUP BY {text} is an aggregate")));
        }
        named.push(item.name.as_str());
    }
    match grouped.iter().find(|item| !named.contains(&item.name.as_str())) {
        Some(item) => {
            Err(Mistake::new("not_grouped", item.span, format!("the column \"{}\" is neither grouped nor an aggregate", item.name)).help("add it to GROUP BY"))
        }
        None => Ok(()),
    }
}
