//! Filters as they are written → trees of conditions.

use anabranch_core::definition::{DataType, View};
use serde_json::Value as Json;

use super::{
    super::{
        Problem, dimension,
        range::{self, Clock},
    },
    Comparison, Condition, Conditions, Operand, Place, Subject, Test,
};

/// More conditions than anybody writes by hand.
const MOST_CONDITIONS: usize = 1_000;
/// How deep groups may lie in each other.
const DEEPEST: usize = 20;

/// The operators, as messages list them.
const OPERATORS: [&str; 25] = [
    "equals",
    "notEquals",
    "in",
    "notIn",
    "contains",
    "notContains",
    "startsWith",
    "notStartsWith",
    "endsWith",
    "notEndsWith",
    "gt",
    "gte",
    "lt",
    "lte",
    "set",
    "notSet",
    "inDateRange",
    "notInDateRange",
    "onTheDate",
    "beforeDate",
    "beforeOrOnDate",
    "afterDate",
    "afterOrOnDate",
    "measureFilter",
    "notOnTheDate",
];

/// Reads the filters of a query.
///
/// # Errors
/// A [`Problem`] that names the member, operator or value and what is allowed.
pub(in crate::query) fn conditions(view: &View, filters: &[Json], clock: &Clock) -> Result<Conditions, Problem> {
    let mut reader = Reader { view, clock, count: 0 };
    let mut conditions = Conditions::default();
    for filter in filters {
        let condition = reader.read(filter, 0)?;
        match sides(&condition) {
            (true, true) => {
                return Err(Problem::bad_query(
                    "mixed_filter",
                    "a group of filters is either over dimensions or over measures: the former act before grouping, the latter after",
                ));
            }
            (_, true) => conditions.groups.push(condition),
            _ => conditions.rows.push(condition),
        }
    }
    Ok(conditions)
}

/// Whether a tree speaks of keys, and whether of measures.
fn sides(condition: &Condition) -> (bool, bool) {
    match condition {
        Condition::All(list) | Condition::Any(list) => {
            list.iter().map(sides).fold((false, false), |(keys, measures), (other_keys, other_measures)| (keys || other_keys, measures || other_measures))
        }
        Condition::One { subject: Subject::Key(_), .. } => (true, false),
        Condition::One { subject: Subject::Measure(_), .. } => (false, true),
    }
}

struct Reader<'a> {
    view: &'a View,
    clock: &'a Clock,
    count: usize,
}

impl Reader<'_> {
    fn read(&mut self, filter: &Json, depth: usize) -> Result<Condition, Problem> {
        if depth > DEEPEST {
            return Err(Problem::bad_query("filter_depth", format!("filters lie more than {DEEPEST} groups deep")));
        }
        self.count += 1;
        if self.count > MOST_CONDITIONS {
            return Err(Problem::bad_query("filter_count", format!("more than {MOST_CONDITIONS} filters")));
        }
        let Some(object) = filter.as_object() else {
            return Err(Problem::bad_query(
                "filter",
                format!("{filter} is not a filter; {{\"member\": …, \"operator\": …, \"values\": […]}}, or {{\"or\": […]}}, or {{\"and\": […]}}"),
            ));
        };
        for (key, all) in [("and", true), ("or", false)] {
            if let Some(list) = object.get(key) {
                let Some(list) = list.as_array().filter(|_| object.len() == 1) else {
                    return Err(Problem::bad_query("filter", format!("\"{key}\" is a list of filters and stands alone")));
                };
                let list = list.iter().map(|filter| self.read(filter, depth + 1)).collect::<Result<Vec<_>, _>>()?;
                return Ok(if all { Condition::All(list) } else { Condition::Any(list) });
            }
        }
        if let Some(unknown) = object.keys().find(|key| !["member", "dimension", "operator", "values"].contains(&key.as_str())) {
            return Err(Problem::bad_query("filter", format!("unknown key \"{unknown}\" of a filter; one of member, operator, values")));
        }
        let text = |key: &str| object.get(key).and_then(Json::as_str);
        let member = text("member")
            .or_else(|| text("dimension"))
            .ok_or_else(|| Problem::bad_query("filter", "a filter names a member: {\"member\": \"view.column\", …}"))?;
        let operator = text("operator").ok_or_else(|| Problem::bad_query("filter", format!("the filter on \"{member}\" has no operator")))?;
        let values = match object.get("values") {
            None | Some(Json::Null) => None,
            Some(Json::Array(values)) => Some(values.as_slice()),
            Some(other) => return Err(Problem::bad_query("filter_values", format!("the values of the filter on \"{member}\" are a list, not {other}"))),
        };
        let (subject, data_type) = self.subject(member)?;
        Ok(Condition::One { subject, test: test(&Leaf { member, operator, values, data_type, clock: self.clock })? })
    }

    fn subject(&self, member: &str) -> Result<(Subject, DataType), Problem> {
        let measure = self
            .view
            .measures
            .iter()
            .position(|measure| member.strip_prefix(&self.view.name).and_then(|rest| rest.strip_prefix('.')) == Some(measure.name.as_str()));
        if let Some((index, measure)) = measure.and_then(|index| Some((index, self.view.measures.get(index)?))) {
            return Ok((Subject::Measure(index), measure.data_type));
        }
        let (key, data_type) = dimension(self.view, member)?;
        Ok((Subject::Key(key), data_type))
    }
}

/// A filter on one member as it is written.
struct Leaf<'a> {
    member: &'a str,
    operator: &'a str,
    values: Option<&'a [Json]>,
    data_type: DataType,
    clock: &'a Clock,
}

fn test(leaf: &Leaf<'_>) -> Result<Test, Problem> {
    let is_time = matches!(leaf.data_type, DataType::Date | DataType::Timestamp);
    let texts = |leaf: &Leaf<'_>| -> Result<(Vec<String>, bool), Problem> {
        let values = leaf.values()?;
        let texts = values.iter().filter(|value| !value.is_null()).map(|value| plain(value).to_lowercase()).collect();
        Ok((texts, values.iter().any(Json::is_null)))
    };
    Ok(match leaf.operator {
        "set" => Test::Set,
        "notSet" => Test::NotSet,
        "measureFilter" => Test::True,
        "inDateRange" | "onTheDate" if is_time => leaf.range().map(|(start, end)| Test::Within(start, end))?,
        "notInDateRange" | "notOnTheDate" if is_time => leaf.range().map(|(start, end)| Test::Without(start, end))?,
        "beforeDate" if is_time => Test::Beside(Comparison::Less, Operand::Integer(leaf.moment()?.0.into())),
        "beforeOrOnDate" if is_time => Test::Beside(Comparison::LessOrEqual, Operand::Integer(leaf.moment()?.1.into())),
        "afterDate" if is_time => Test::Beside(Comparison::Greater, Operand::Integer(leaf.moment()?.1.into())),
        "afterOrOnDate" if is_time => Test::Beside(Comparison::GreaterOrEqual, Operand::Integer(leaf.moment()?.0.into())),
        "inDateRange" | "onTheDate" | "notInDateRange" | "notOnTheDate" | "beforeDate" | "beforeOrOnDate" | "afterDate" | "afterOrOnDate" => {
            return Err(Problem::bad_query("operator_type", format!("\"{}\" asks for a time, and \"{}\" is {}", leaf.operator, leaf.member, leaf.data_type)));
        }
        "equals" | "in" => Test::OneOf(leaf.operands()?),
        "notEquals" | "notIn" => Test::NoneOf(leaf.operands()?),
        "contains" => Test::Like(Place::Inside, texts(leaf)?.0),
        "startsWith" => Test::Like(Place::Start, texts(leaf)?.0),
        "endsWith" => Test::Like(Place::End, texts(leaf)?.0),
        "notContains" => texts(leaf).map(|(texts, null)| Test::Unlike(Place::Inside, texts, !null))?,
        "notStartsWith" => texts(leaf).map(|(texts, null)| Test::Unlike(Place::Start, texts, !null))?,
        "notEndsWith" => texts(leaf).map(|(texts, null)| Test::Unlike(Place::End, texts, !null))?,
        "gt" => Test::Beside(Comparison::Greater, leaf.number()?),
        "gte" => Test::Beside(Comparison::GreaterOrEqual, leaf.number()?),
        "lt" => Test::Beside(Comparison::Less, leaf.number()?),
        "lte" => Test::Beside(Comparison::LessOrEqual, leaf.number()?),
        other => {
            let help = anabranch_core::definition::error::nearest(other, OPERATORS);
            return Err(Problem::bad_query("unknown_operator", format!("unknown operator \"{other}\" on \"{}\"; {help}", leaf.member).trim_end_matches("; ")));
        }
    })
}

/// A value as its text.
fn plain(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl Leaf<'_> {
    fn values(&self) -> Result<&[Json], Problem> {
        match self.values {
            Some(values) if !values.is_empty() => Ok(values),
            _ => Err(Problem::bad_query("filter_values", format!("the filter \"{}\" on \"{}\" needs values", self.operator, self.member))),
        }
    }

    fn operands(&self) -> Result<Vec<Option<Operand>>, Problem> {
        self.values()?.iter().map(|value| if value.is_null() { Ok(None) } else { self.operand(value).map(Some) }).collect()
    }

    /// A value in the type of the member.
    fn operand(&self, value: &Json) -> Result<Operand, Problem> {
        let text = plain(value);
        let wrong = || Problem::bad_query("filter_value", format!("\"{text}\" is no value of \"{}\", which is {}", self.member, self.data_type));
        Ok(match self.data_type {
            DataType::Text => Operand::Text(text),
            DataType::Boolean => Operand::Boolean(match text.as_str() {
                "true" | "1" => true,
                "false" | "0" => false,
                _ => return Err(wrong()),
            }),
            DataType::BigInt | DataType::Double | DataType::Decimal { .. } => match (text.parse::<i128>(), text.parse::<f64>()) {
                (Ok(integer), _) => Operand::Integer(integer),
                (_, Ok(number)) if number.is_finite() => Operand::Number(number),
                _ => return Err(wrong()),
            },
            DataType::Date | DataType::Timestamp => Operand::Integer(range::moment(&text, false, self.clock)?.into()),
        })
    }

    /// The first value, as a number or a time.
    fn number(&self) -> Result<Operand, Problem> {
        match self.data_type {
            DataType::Boolean => {
                Err(Problem::bad_query("operator_type", format!("\"{}\" compares numbers, and \"{}\" is {}", self.operator, self.member, self.data_type)))
            }
            _ => self.operand(self.values()?.first().unwrap_or(&Json::Null)),
        }
    }

    fn range(&self) -> Result<(i64, i64), Problem> {
        let texts: Vec<String> = self.values()?.iter().map(plain).collect();
        range::resolve(&texts.iter().map(String::as_str).collect::<Vec<_>>(), self.clock)
    }

    /// The start and the end of what the first value resolves to; a bare day is its midnight.
    fn moment(&self) -> Result<(i64, i64), Problem> {
        let text = self.values()?.first().map(plain).unwrap_or_default();
        match range::moment(&text, false, self.clock) {
            Ok(moment) => Ok((moment, moment)),
            Err(_) => range::resolve(&[&text], self.clock),
        }
    }
}
