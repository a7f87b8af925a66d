//! How the rows of an answer are ordered.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, SeqAccess, Visitor},
};

use super::{Column, Problem, unknown};

/// Members with `asc` or `desc`, the first one counts most: `{"member": "asc"}` in the order in which it is written, or
/// `[["member", "desc"]]`; echoed as the latter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Order(pub Vec<(String, String)>);

impl<'de> Deserialize<'de> for Order {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Order;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("order as {\"member\": \"asc\"} or [[\"member\", \"desc\"]]")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Order, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Order(pairs))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Order, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = list.next_element()? {
                    pairs.push(pair);
                }
                Ok(Order(pairs))
            }
        }
        deserializer.deserialize_any(Pairs)
    }
}

/// Default: time ascending, else the first measure descending, else the first dimension ascending.
pub(super) fn resolve(order: Option<&Order>, columns: &[Column]) -> Result<Vec<(usize, bool)>, Problem> {
    let Some(Order(pairs)) = order else {
        let time = columns.iter().position(|column| matches!(column, Column::Time { .. }));
        let measure = columns.iter().position(|column| matches!(column, Column::Measure { .. }));
        return Ok(vec![time.map(|index| (index, false)).or(measure.map(|index| (index, true))).unwrap_or((0, false))]);
    };
    let mut resolved = Vec::new();
    for (member, direction) in pairs {
        let plain = |column: &Column| matches!(column, Column::Time { member: name, .. } if name == member);
        let index = columns.iter().position(|column| column.name() == *member || plain(column));
        let names: Vec<String> = columns.iter().map(Column::name).collect();
        let index = index.ok_or_else(|| unknown("order member", member, &names))?;
        match direction.as_str() {
            "asc" => resolved.push((index, false)),
            "desc" => resolved.push((index, true)),
            other => return Err(Problem::bad_query("order", format!("unknown direction \"{other}\" of \"{member}\"; asc or desc"))),
        }
    }
    Ok(resolved)
}
