//! How the rows of an answer are ordered.

use serde_json::Value as Json;

use super::{Column, Problem, unknown};

/// Default: time ascending, else the first measure descending, else the first dimension ascending.
pub(super) fn resolve(order: Option<&Json>, columns: &[Column]) -> Result<Vec<(usize, bool)>, Problem> {
    let bad = || Problem::bad_query("order", "order is {\"member\": \"asc\"} or [[\"member\", \"desc\"]]");
    let pairs: Vec<(String, String)> = match order {
        None => {
            let time = columns.iter().position(|column| matches!(column, Column::Time { .. }));
            let measure = columns.iter().position(|column| matches!(column, Column::Measure { .. }));
            return Ok(vec![time.map(|index| (index, false)).or(measure.map(|index| (index, true))).unwrap_or((0, false))]);
        }
        Some(Json::Object(members)) => {
            members.iter().map(|(member, direction)| Some((member.clone(), direction.as_str()?.to_owned()))).collect::<Option<_>>().ok_or_else(bad)?
        }
        Some(Json::Array(pairs)) => pairs
            .iter()
            .map(|pair| match pair.as_array()?.as_slice() {
                [member, direction] => Some((member.as_str()?.to_owned(), direction.as_str()?.to_owned())),
                _ => None,
            })
            .collect::<Option<_>>()
            .ok_or_else(bad)?,
        Some(_) => return Err(bad()),
    };
    let mut resolved = Vec::new();
    for (member, direction) in pairs {
        let plain = |column: &Column| matches!(column, Column::Time { member: name, .. } if *name == member);
        let index = columns.iter().position(|column| column.name() == member || plain(column));
        let names: Vec<String> = columns.iter().map(Column::name).collect();
        let index = index.ok_or_else(|| unknown("order member", &member, &names))?;
        match direction.as_str() {
            "asc" => resolved.push((index, false)),
            "desc" => resolved.push((index, true)),
            other => return Err(Problem::bad_query("order", format!("unknown direction \"{other}\" of \"{member}\"; asc or desc"))),
        }
    }
    Ok(resolved)
}
