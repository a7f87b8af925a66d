//! The formats of an answer, by the header Accept: JSON, CSV, NDJSON, Arrow IPC, Parquet. The same cells in each.
//!
//! Where a format has no room for what an answer covers, the header `anabranch-lambda` has it.

use std::{collections::HashMap, sync::Arc};

use anabranch_core::definition::{DataType, View};
use anabranch_views::{
    Value, scalar,
    table::{self, ColumnType},
};
use anyhow::Result;
use arrow::{
    array::RecordBatch,
    compute::cast,
    datatypes::{Field, Schema},
    ipc::writer::StreamWriter,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use parquet::arrow::ArrowWriter;
use serde_json::{Map, Value as Json};

use crate::{
    answer::{Rows, json_of},
    problem::Problem,
    query::{Column, Resolved},
};

/// How an answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// The object that Cube's clients know.
    #[default]
    Json,
    /// Comma-separated values with a line of names; NULL is nothing between commas.
    Csv,
    /// One JSON object a line.
    Ndjson,
    /// An Arrow IPC stream.
    Arrow,
    /// A Parquet file.
    Parquet,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Json, Self::Csv, Self::Ndjson, Self::Arrow, Self::Parquet];

    /// Its media type.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv",
            Self::Ndjson => "application/x-ndjson",
            Self::Arrow => "application/vnd.apache.arrow.stream",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }

    /// What the client likes best; JSON where it takes anything.
    ///
    /// # Errors
    /// A [`Problem`] when it takes none of them.
    pub fn wanted(headers: &HeaderMap) -> Result<Self, Problem> {
        let Some(accept) = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).filter(|accept| !accept.trim().is_empty()) else {
            return Ok(Self::Json);
        };
        let mut best: Option<(f32, Self)> = None;
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default().to_lowercase();
            let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
            let named = Self::ALL.into_iter().find(|format| format.media_type() == name || (name == "application/jsonl" && *format == Self::Ndjson));
            let any = matches!(name.as_str(), "*/*" | "application/*").then_some(Self::Json);
            if let Some(format) = named.or(any).filter(|_| quality > 0.0)
                && best.is_none_or(|(known, _)| quality > known)
            {
                best = Some((quality, format));
            }
        }
        best.map(|(_, format)| format).ok_or_else(|| Problem {
            status: StatusCode::NOT_ACCEPTABLE,
            ..Problem::bad_query("not_acceptable", format!("no answer as {accept}; one of {}", Self::ALL.map(Self::media_type).join(", ")))
        })
    }
}

/// The rows in a format other than JSON.
///
/// # Errors
/// Only when the program itself is wrong.
pub fn encode(format: Format, view: &View, query: &Resolved, rows: &Rows, lambda: &Json) -> Result<Vec<u8>> {
    match format {
        Format::Csv => csv_of(query, rows),
        Format::Ndjson | Format::Json => ndjson(query, rows),
        Format::Arrow => {
            let batch = batch(view, query, rows, lambda)?;
            let mut content = Vec::new();
            let mut writer = StreamWriter::try_new(&mut content, batch.schema_ref())?;
            writer.write(&batch)?;
            writer.finish()?;
            drop(writer);
            Ok(content)
        }
        Format::Parquet => {
            let batch = batch(view, query, rows, lambda)?;
            let mut content = Vec::new();
            let mut writer = ArrowWriter::try_new(&mut content, batch.schema(), None)?;
            writer.write(&batch)?;
            writer.close()?;
            Ok(content)
        }
    }
}

fn csv_of(query: &Resolved, rows: &Rows) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(query.columns.iter().map(Column::name))?;
    for row in &rows.cells {
        writer.write_record(row.iter().map(|cell| match json_of(cell) {
            Json::Null => String::new(),
            Json::String(text) => text,
            _ => scalar::text(cell).unwrap_or_default(),
        }))?;
    }
    Ok(writer.into_inner()?)
}

fn ndjson(query: &Resolved, rows: &Rows) -> Result<Vec<u8>> {
    let names: Vec<String> = query.columns.iter().map(Column::name).collect();
    let mut content = Vec::new();
    for row in &rows.cells {
        let object: Map<String, Json> = names.iter().cloned().zip(row.iter().map(json_of)).collect();
        serde_json::to_writer(&mut content, &object)?;
        content.push(b'\n');
    }
    Ok(content)
}

/// Typed columns; the schema says what the answer covers, and each measure how exact it is.
fn batch(view: &View, query: &Resolved, rows: &Rows, lambda: &Json) -> Result<RecordBatch> {
    let mut fields = Vec::new();
    let mut arrays = Vec::new();
    for (index, column) in query.columns.iter().enumerate() {
        let (data_type, exactness) = match column {
            Column::Dimension { data_type, .. } => (*data_type, None),
            Column::Time { .. } => (DataType::Timestamp, None),
            Column::Measure { index, .. } => {
                let measure = view.measures.get(*index);
                (measure.map_or(DataType::Text, |measure| measure.data_type), measure.map(|measure| view.exactness(measure)))
            }
        };
        // A cell without a value is NULL here, too; the header names none.
        let cells: Vec<Value> =
            rows.cells.iter().map(|row| row.get(index).filter(|cell| !matches!(cell, Value::Error(_))).cloned().unwrap_or(Value::Null)).collect();
        let mut array = table::array(&column.name(), ColumnType::Sql(data_type), &cells)?;
        // Views of text are younger than many readers, those of browsers among them.
        if *array.data_type() == arrow::datatypes::DataType::Utf8View {
            array = cast(&array, &arrow::datatypes::DataType::Utf8)?;
        }
        let mut field = Field::new(column.name(), array.data_type().clone(), true);
        if let Some(exactness) = exactness {
            field = field.with_metadata(HashMap::from([("exactness".to_owned(), serde_json::to_string(&exactness)?.trim_matches('"').to_owned())]));
        }
        fields.push(field);
        arrays.push(array);
    }
    let metadata = HashMap::from([("lambda".to_owned(), lambda.to_string())]);
    Ok(RecordBatch::try_new(Arc::new(Schema::new_with_metadata(fields, metadata)), arrays)?)
}

/// What an answer covers, as a header.
#[must_use]
pub fn lambda_header(lambda: &Json) -> Option<HeaderValue> {
    HeaderValue::from_str(&lambda.to_string()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_what_the_client_likes_best() {
        let wanted = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_str(accept).unwrap());
            Format::wanted(&headers)
        };
        for (accept, format) in [
            ("*/*", Format::Json),
            ("", Format::Json),
            ("text/csv", Format::Csv),
            ("text/html, application/json;q=0.5, text/csv;q=0.9", Format::Csv),
            ("application/x-ndjson", Format::Ndjson),
            ("application/vnd.apache.arrow.stream, */*;q=0.1", Format::Arrow),
            ("application/vnd.apache.parquet", Format::Parquet),
            ("text/csv;q=0, application/json", Format::Json),
        ] {
            assert_eq!(wanted(accept).unwrap(), format, "{accept}");
        }
        assert_eq!(wanted("image/png").unwrap_err().status, StatusCode::NOT_ACCEPTABLE);
        assert_eq!(Format::wanted(&HeaderMap::new()).unwrap(), Format::Json);
    }
}
