//! Columns → columns, by Polars.
//!
//! | file | what |
//! |---|---|
//! | `evaluate/bridge.rs` | Arrow ↔ Polars without copying |
//! | `evaluate/compile.rs` | typed expressions → Polars expressions |

use std::{collections::BTreeSet, sync::Arc};

use anabranch_core::definition::{DECODE_ERROR, Source, View};
use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringViewBuilder},
    compute,
    datatypes::{Field, Schema},
    error::ArrowError,
};
use polars::prelude::{DataFrame, IntoLazy, col};
use thiserror::Error;

use crate::value::arrow_type;

mod bridge;
mod compile;

/// Names of the columns that an evaluation of a view gives: the bucket, `dimension N`, `argument N`.
pub(crate) const BUCKET: &str = "bucket";

/// The program is wrong: a definition that was checked cannot be evaluated.
#[derive(Debug, Error)]
pub enum EvaluateError {
    /// Polars refused.
    #[error("polars: {0}")]
    Polars(#[from] polars::error::PolarsError),
    /// Arrow refused.
    #[error("arrow: {0}")]
    Arrow(#[from] ArrowError),
}

/// The declared columns that must be built so that `names` can be computed, and every generated column checked.
pub(crate) fn inputs(source: &Source, names: &BTreeSet<String>) -> BTreeSet<String> {
    let mut inputs = names.clone();
    for column in source.columns.iter().rev() {
        if let Some(expression) = &column.generated
            && (inputs.contains(&column.name) || must_check(column))
        {
            expression.collect_columns(&mut inputs);
        }
    }
    inputs
}

/// Whether a generated column can reject a record, so that it is computed although nobody wants it.
fn must_check(column: &anabranch_core::definition::Column) -> bool {
    column.generated.as_ref().is_some_and(|expression| column.not_null || compile::can_fail(expression))
}

/// Adds the generated columns (the `wanted` ones; all without that) behind the others.
///
/// A record for which one cannot be computed, or is NULL although NOT NULL, is rejected: its reason is set and all its
/// columns become NULL.
pub(crate) fn generate(source: &Source, wanted: Option<&BTreeSet<String>>, mut batch: RecordBatch) -> Result<RecordBatch, EvaluateError> {
    for column in &source.columns {
        let Some(expression) = &column.generated else { continue };
        let is_wanted = wanted.is_none_or(|names| names.contains(&column.name) || depends(source, names, &column.name));
        if !is_wanted && !must_check(column) {
            continue;
        }
        let compiled = compile::compile(expression);
        let mut names = BTreeSet::new();
        expression.collect_columns(&mut names);
        let frame = bridge::to_frame(&columns_named(&batch, &names)?)?;
        let mut outputs = vec![compiled.value.alias("value")];
        outputs.extend(compiled.failed.map(|failed| failed.alias("failed")));
        let evaluated = frame.lazy().select(outputs).collect()?;
        let values = bridge::from_column(evaluated.column("value")?, &arrow_type(column.data_type))?;
        let failed = match evaluated.column("failed") {
            Ok(failed) => Some(bridge::from_column(failed, &arrow::datatypes::DataType::Boolean)?),
            Err(_) => None,
        };
        let values = broadcast(values, batch.num_rows())?;
        batch = append(&batch, &column.name, values)?;
        if let Some(failed) = failed {
            let failed = broadcast(failed, batch.num_rows())?;
            batch = reject(&batch, failed.as_boolean(), &format!("cannot be computed: {}", column.name))?;
        }
        if column.not_null {
            let missing = compute::is_null(batch.column(batch.num_columns() - 1))?;
            batch = reject(&batch, &missing, &format!("missing: {}", column.name))?;
        }
    }
    Ok(batch)
}

/// Polars sees only what an expression names: it need not know the types of all the others.
fn columns_named(batch: &RecordBatch, names: &BTreeSet<String>) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema();
    let indexes: Vec<usize> = schema.fields().iter().enumerate().filter(|(_, field)| names.contains(field.name())).map(|(index, _)| index).collect();
    batch.project(&indexes)
}

fn depends(source: &Source, names: &BTreeSet<String>, name: &str) -> bool {
    inputs(source, names).contains(name)
}

/// A constant expression gives one row for all.
fn broadcast(array: ArrayRef, rows: usize) -> Result<ArrayRef, ArrowError> {
    if array.len() == rows {
        return Ok(array);
    }
    compute::take(&array, &arrow::array::UInt32Array::from(vec![0; rows]), None)
}

fn append(batch: &RecordBatch, name: &str, values: ArrayRef) -> Result<RecordBatch, ArrowError> {
    let mut fields: Vec<Field> = batch.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.push(Field::new(name, values.data_type().clone(), true));
    let mut arrays = batch.columns().to_vec();
    arrays.push(values);
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
}

/// Sets the reason of the records in `mask` that have none yet, and makes the source's columns of all of them NULL.
fn reject(batch: &RecordBatch, mask: &BooleanArray, reason: &str) -> Result<RecordBatch, ArrowError> {
    if mask.true_count() == 0 {
        return Ok(batch.clone());
    }
    let schema = batch.schema();
    let (error_index, _) = schema.column_with_name(DECODE_ERROR).ok_or_else(|| ArrowError::SchemaError("no decode_error".to_owned()))?;
    let before = batch.column(error_index).as_string_view();
    let mut errors = StringViewBuilder::new();
    for row in 0..batch.num_rows() {
        let rejected = mask.is_valid(row) && mask.value(row);
        match (before.is_valid(row), rejected) {
            (true, _) => errors.append_value(before.value(row)),
            (false, true) => errors.append_value(reason),
            (false, false) => errors.append_null(),
        }
    }
    let errors = errors.finish();
    let rejected = compute::is_not_null(&errors)?;
    let mut arrays = Vec::with_capacity(batch.num_columns());
    for (index, field) in schema.fields().iter().enumerate() {
        let array = batch.column(index);
        arrays.push(if index == error_index {
            Arc::new(errors.clone()) as ArrayRef
        } else if field.name().starts_with("kafka_") {
            Arc::clone(array)
        } else {
            compute::nullif(array, &rejected)?
        });
    }
    RecordBatch::try_new(schema, arrays)
}

/// The rows that `view` folds: its bucket, dimensions and arguments, and for `last` the record's position.
pub(crate) fn view_columns(view: &View, batch: &RecordBatch) -> Result<DataFrame, EvaluateError> {
    let frame = bridge::to_frame(&columns_named(batch, &view.needed_columns())?)?;
    let rejected = col(DECODE_ERROR).is_not_null();
    let mut rows = frame.lazy().filter(if view.over_rejected { rejected } else { rejected.not() });
    if let Some(filter) = &view.filter {
        rows = rows.filter(compile::compile(filter).value);
    }
    let mut outputs = Vec::new();
    outputs.extend(view.bucket.iter().map(|bucket| compile::bucket(bucket).alias(BUCKET)));
    outputs.extend(view.dimensions.iter().enumerate().map(|(index, dimension)| compile::compile(&dimension.expression).value.alias(dimension_name(index))));
    for (index, accumulator) in view.accumulators.iter().enumerate() {
        outputs.extend(accumulator.argument.iter().map(|argument| compile::compile(argument).value.alias(argument_name(index))));
    }
    if view.accumulators.iter().any(|accumulator| accumulator.kind == anabranch_core::definition::AccumulatorKind::Last) {
        outputs.extend(view.source.event_time.iter().map(|name| col(name.as_str()).alias("position time")));
        outputs.push(col("kafka_partition").alias("position partition"));
        outputs.push(col("kafka_offset").alias("position offset"));
    }
    // The row count survives when every other column is a constant, or there is none.
    outputs.push(col(DECODE_ERROR).is_null().alias("row"));
    Ok(rows.select(outputs).collect()?)
}

pub(crate) fn dimension_name(index: usize) -> String {
    format!("dimension {index}")
}

pub(crate) fn argument_name(index: usize) -> String {
    format!("argument {index}")
}
