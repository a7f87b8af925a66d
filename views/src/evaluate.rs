//! Columns → columns: by Polars what it computes fast and as PostgreSQL does, all else value by value.
//!
//! | file | what |
//! |---|---|
//! | `evaluate/rows.rs` | expressions value by value |
//! | `evaluate/bridge.rs` | Arrow ↔ Polars without copying |
//! | `evaluate/compile.rs` | typed expressions → Polars expressions |

use std::{collections::BTreeSet, sync::Arc};

use anabranch_core::definition::{Bucket, DECODE_ERROR, DataType, Expr, Function, KAFKA_OFFSET, KAFKA_PARTITION, Literal, Node, Source, View, Width};
use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringViewBuilder},
    compute,
    datatypes::{Field, Schema},
    error::ArrowError,
};
use polars::prelude::IntoLazy;
use thiserror::Error;

use crate::{
    lookup::{self, Lookups},
    value::arrow_type,
};

mod bridge;
mod compile;
mod rows;

/// The program is wrong: a definition that was checked cannot be evaluated.
#[derive(Debug, Error)]
pub enum EvaluateError {
    /// Polars refused.
    #[error("polars: {0}")]
    Polars(#[from] polars::error::PolarsError),
    /// Arrow refused.
    #[error("arrow: {0}")]
    Arrow(#[from] ArrowError),
    /// The rows of a reference are not there.
    #[error("the rows of the reference {0} are not loaded")]
    Reference(String),
    /// A reference has more rows than can be counted in 32 bits.
    #[error("the reference {0} has more than 4,294,967,295 rows")]
    TooManyRows(String),
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
    column.generated.as_ref().is_some_and(|expression| column.not_null || rows::can_fail(expression))
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
        let (values, failed) = computed(expression, &batch)?;
        batch = append(&batch, &column.name, values)?;
        if let Some(failed) = failed {
            batch = reject(&batch, &failed, &format!("cannot be computed: {}", column.name))?;
        }
        if column.not_null {
            let missing = compute::is_null(batch.column(batch.num_columns() - 1))?;
            batch = reject(&batch, &missing, &format!("missing: {}", column.name))?;
        }
    }
    Ok(batch)
}

/// The values of an expression, and where it cannot be computed.
fn computed(expression: &Expr, batch: &RecordBatch) -> Result<(ArrayRef, Option<BooleanArray>), EvaluateError> {
    if !compile::is_columnar(expression) {
        let (values, failed) = rows::evaluate(expression, batch)?;
        return Ok((values, Some(failed)));
    }
    let compiled = compile::compile(expression);
    let mut names = BTreeSet::new();
    expression.collect_columns(&mut names);
    let frame = bridge::to_frame(&columns_named(batch, &names)?)?;
    let mut outputs = vec![compiled.value.alias("value")];
    outputs.extend(compiled.failed.map(|failed| failed.alias("failed")));
    let evaluated = frame.lazy().select(outputs).collect()?;
    let values = bridge::from_column(evaluated.column("value")?, &arrow_type(expression.data_type))?;
    let failed = match evaluated.column("failed") {
        Ok(failed) => Some(broadcast(bridge::from_column(failed, &arrow::datatypes::DataType::Boolean)?, batch.num_rows())?.as_boolean().clone()),
        Err(_) => None,
    };
    Ok((broadcast(values, batch.num_rows())?, failed))
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

/// The rows that a view folds, column by column.
pub(crate) struct ViewColumns {
    pub(crate) rows: usize,
    /// The bucket, if the view has one, then the dimensions.
    pub(crate) keys: Vec<ArrayRef>,
    /// One for each accumulator that has an argument.
    pub(crate) arguments: Vec<Option<ArrayRef>>,
    /// Event time, partition and offset, where an accumulator asks which record is last.
    pub(crate) position: Option<[ArrayRef; 3]>,
}

/// Evaluates a view's expressions over a batch. Plain columns stay where they are; the others are one Polars selection.
pub(crate) fn view_columns(view: &View, batch: &RecordBatch, lookups: &Lookups) -> Result<ViewColumns, EvaluateError> {
    let batch = &lookup::joined(view, batch, lookups)?;
    let keys = view.dimensions.iter().map(|dimension| &dimension.expression);
    let arguments = view.accumulators.iter().filter_map(|accumulator| accumulator.argument.as_ref());
    let mut values = Values::over(batch);
    let filter = view.filter.as_ref().map(|filter| values.ask(filter));
    let bucket = view.bucket.as_ref().map(|bucket| values.ask_bucket(bucket));
    let keys: Vec<Asked> = bucket.into_iter().chain(keys.map(|key| values.ask(key)).collect::<Vec<_>>()).collect();
    let arguments: Vec<Asked> = arguments.map(|argument| values.ask(argument)).collect();
    let values = values.evaluate()?;
    let mask = selected(view, batch, filter.map(|filter| values.get(filter)).transpose()?.as_deref())?;
    let chosen = |array: ArrayRef| match &mask {
        Some(mask) => compute::filter(&array, mask),
        None => Ok(array),
    };
    let get = |asked: Asked| Ok::<_, EvaluateError>(chosen(values.get(asked)?)?);
    let mut arguments = arguments.into_iter().map(get).collect::<Result<Vec<_>, _>>()?.into_iter();
    let position = match view.source.event_time.as_deref().filter(|_| view.needs_position()) {
        Some(time) => Some([chosen(values.column(time)?)?, chosen(values.column(KAFKA_PARTITION)?)?, chosen(values.column(KAFKA_OFFSET)?)?]),
        None => None,
    };
    Ok(ViewColumns {
        rows: mask.as_ref().map_or(batch.num_rows(), BooleanArray::true_count),
        keys: keys.into_iter().map(get).collect::<Result<_, _>>()?,
        arguments: view.accumulators.iter().map(|accumulator| accumulator.argument.as_ref().and_then(|_| arguments.next())).collect(),
        position,
    })
}

/// Which rows the view folds; nothing for all of them.
fn selected(view: &View, batch: &RecordBatch, filter: Option<&dyn Array>) -> Result<Option<BooleanArray>, EvaluateError> {
    let errors = batch.column_by_name(DECODE_ERROR).ok_or_else(|| ArrowError::SchemaError("no decode_error".to_owned()))?;
    let good = match (view.over_rejected, errors.null_count() == errors.len()) {
        (false, true) => None,
        (false, false) => Some(compute::is_null(errors)?),
        (true, _) => Some(compute::is_not_null(errors)?),
    };
    // Where a condition is NULL, it does not hold.
    let holds = filter.map(AsArray::as_boolean).map(|holds| if holds.null_count() > 0 { compute::prep_null_mask_filter(holds) } else { holds.clone() });
    Ok(match (good, holds) {
        (Some(good), Some(holds)) => Some(compute::and(&good, &holds)?),
        (good, holds) => good.or(holds),
    })
}

/// What was asked of [`Values`].
#[derive(Clone, Copy)]
pub(crate) enum Asked {
    /// A column of the batch, by its index.
    Column(usize),
    /// Something that Polars computes.
    Polars(usize),
    /// Something that is computed value by value.
    Rows(usize),
}

/// Expressions over one batch, computed together.
pub(crate) struct Values<'a> {
    batch: &'a RecordBatch,
    names: BTreeSet<String>,
    expressions: Vec<polars::prelude::Expr>,
    types: Vec<DataType>,
    by_polars: Vec<ArrayRef>,
    by_rows: Vec<ArrayRef>,
    rows: Vec<Expr>,
}

impl<'a> Values<'a> {
    pub(crate) fn over(batch: &'a RecordBatch) -> Self {
        Self { batch, names: BTreeSet::new(), expressions: Vec::new(), types: Vec::new(), by_polars: Vec::new(), by_rows: Vec::new(), rows: Vec::new() }
    }

    fn plain(&self, expression: &Expr) -> Option<usize> {
        let Node::Column(name) = &expression.node else { return None };
        self.batch.schema_ref().index_of(name).ok()
    }

    pub(crate) fn ask(&mut self, expression: &Expr) -> Asked {
        match self.plain(expression) {
            Some(index) => Asked::Column(index),
            None if compile::is_columnar(expression) => self.ask_polars(expression, compile::compile(expression).value),
            None => {
                self.rows.push(expression.clone());
                Asked::Rows(self.rows.len() - 1)
            }
        }
    }

    fn ask_bucket(&mut self, bucket: &Bucket) -> Asked {
        let (function, arguments) = match bucket.width {
            Width::Exact => return self.ask(&bucket.time),
            Width::Calendar(granularity) if compile::is_columnar(&bucket.time) => {
                return self.ask_polars(&bucket.time, compile::truncated(&bucket.time, granularity));
            }
            Width::Calendar(granularity) => {
                (Function::DateTrunc, vec![constant(Literal::Text(granularity.name().to_owned()), DataType::Text), bucket.time.clone()])
            }
            Width::Every { micros, origin } => {
                let (every, origin) = (constant(Literal::BigInt(micros), DataType::BigInt), constant(Literal::Timestamp(origin), DataType::Timestamp));
                (Function::DateBin, vec![every, bucket.time.clone(), origin])
            }
        };
        self.ask(&Expr { node: Node::Call(function, arguments), data_type: DataType::Timestamp })
    }

    fn ask_polars(&mut self, expression: &Expr, compiled: polars::prelude::Expr) -> Asked {
        expression.collect_columns(&mut self.names);
        self.expressions.push(compiled.alias(self.types.len().to_string()));
        self.types.push(expression.data_type);
        Asked::Polars(self.types.len() - 1)
    }

    pub(crate) fn evaluate(mut self) -> Result<Self, EvaluateError> {
        for expression in &self.rows {
            self.by_rows.push(rows::evaluate(expression, self.batch)?.0);
        }
        if self.expressions.is_empty() {
            return Ok(self);
        }
        let frame = bridge::to_frame(&columns_named(self.batch, &self.names)?)?;
        let evaluated = frame.lazy().select(std::mem::take(&mut self.expressions)).collect()?;
        for (index, data_type) in self.types.iter().enumerate() {
            let column = bridge::from_column(evaluated.column(&index.to_string())?, &arrow_type(*data_type))?;
            self.by_polars.push(broadcast(column, self.batch.num_rows())?);
        }
        Ok(self)
    }

    pub(crate) fn get(&self, asked: Asked) -> Result<ArrayRef, EvaluateError> {
        let missing = || ArrowError::SchemaError("an expression was not evaluated".to_owned());
        let array = match asked {
            Asked::Column(index) => self.batch.columns().get(index),
            Asked::Polars(index) => self.by_polars.get(index),
            Asked::Rows(index) => self.by_rows.get(index),
        };
        Ok(Arc::clone(array.ok_or_else(missing)?))
    }

    fn column(&self, name: &str) -> Result<ArrayRef, EvaluateError> {
        let column = self.batch.column_by_name(name).ok_or_else(|| ArrowError::SchemaError(format!("no column {name}")))?;
        Ok(Arc::clone(column))
    }
}

fn constant(literal: Literal, data_type: DataType) -> Expr {
    Expr { node: Node::Literal(literal), data_type }
}
