//! `COMMENT ON TABLE | MATERIALIZED VIEW | COLUMN … IS '…'`.

use std::collections::BTreeMap;

use sqlparser::ast::{CommentObject, ObjectName, Spanned};

use super::{
    Source, View,
    error::Mistake,
    options::name_parts,
    source::{identifier, object_name},
};

pub(super) fn set(
    object: &CommentObject,
    name: &ObjectName,
    comment: Option<&str>,
    tables: &mut BTreeMap<String, Source>,
    views: &mut BTreeMap<String, View>,
) -> Result<(), Mistake> {
    let span = name.span();
    let parts = name_parts(name);
    let comment = comment.map(str::to_owned);
    let unknown =
        |what: &str, name: &str, names: Vec<&str>| Err(Mistake::new("unknown_object", span, format!("unknown {what} \"{name}\"")).nearest(name, names));
    match object {
        CommentObject::Table => {
            let name = object_name(&parts, span)?;
            match tables.get_mut(&name) {
                Some(table) => table.comment = comment,
                None => return unknown("table", &name, tables.keys().map(String::as_str).collect()),
            }
        }
        CommentObject::View | CommentObject::MaterializedView => {
            let name = object_name(&parts, span)?;
            match views.get_mut(&name) {
                Some(view) => view.comment = comment,
                None => return unknown("view", &name, views.keys().map(String::as_str).collect()),
            }
        }
        CommentObject::Column => {
            let [owner, column] = parts.as_slice() else {
                return Err(Mistake::new("bad_name", span, "a column is named with its table or view").help("COMMENT ON COLUMN view.column IS '…'"));
            };
            let (owner, column) = (identifier(owner)?, identifier(column)?);
            if let Some(table) = tables.get_mut(&owner) {
                match table.columns.iter_mut().find(|known| known.name == column) {
                    Some(known) => known.comment = comment,
                    None => return unknown("column", &column, table.columns.iter().map(|column| column.name.as_str()).collect()),
                }
            } else if let Some(view) = views.get_mut(&owner) {
                let names: Vec<&str> = view.column_names().collect();
                if !names.contains(&column.as_str()) {
                    return unknown("column", &column, names);
                }
                match comment {
                    Some(comment) => view.column_comments.insert(column, comment),
                    None => view.column_comments.remove(&column),
                };
            } else {
                return unknown("table or view", &owner, tables.keys().chain(views.keys()).map(String::as_str).collect());
            }
        }
        other => {
            return Err(Mistake::new("unknown_statement", span, format!("COMMENT ON {other} is not known here")).help("TABLE, MATERIALIZED VIEW or COLUMN"));
        }
    }
    Ok(())
}
