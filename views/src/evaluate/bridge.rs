//! Arrow ↔ Polars through the Arrow C Data Interface: pointers move, values stay where they are.
//!
//! Both sides declare the interface's two structs with the same C layout, so a transmute between them is sound; this is
//! the only unsafe code of the project.
#![expect(unsafe_code, reason = "the C Data Interface is made of raw structs")]

use arrow::{
    array::{Array, ArrayRef, RecordBatch, make_array},
    compute,
    datatypes::DataType,
    ffi::{self, FFI_ArrowArray, FFI_ArrowSchema},
};
use polars::prelude::{Column, CompatLevel, DataFrame, IntoColumn, Series};
use polars_arrow::ffi as polars_ffi;

use super::EvaluateError;

/// All columns of a batch as a data frame.
pub(super) fn to_frame(batch: &RecordBatch) -> Result<DataFrame, EvaluateError> {
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (field, array) in batch.schema().fields().iter().zip(batch.columns()) {
        columns.push(to_column(field.name(), array.as_ref())?);
    }
    Ok(DataFrame::new(batch.num_rows(), columns)?)
}

fn to_column(name: &str, array: &dyn Array) -> Result<Column, EvaluateError> {
    let (c_array, c_schema) = ffi::to_ffi(&array.to_data())?;
    // SAFETY: both are the interface's structs with `#[repr(C)]`; ownership moves with the value, so each is released once.
    let (array, field) = unsafe {
        let c_array: polars_ffi::ArrowArray = std::mem::transmute::<FFI_ArrowArray, polars_ffi::ArrowArray>(c_array);
        let c_schema: polars_ffi::ArrowSchema = std::mem::transmute::<FFI_ArrowSchema, polars_ffi::ArrowSchema>(c_schema);
        let field = polars_ffi::import_field_from_c(&c_schema)?;
        (polars_ffi::import_array_from_c(c_array, field.dtype().clone())?, field)
    };
    drop(field);
    Ok(Series::from_arrow(name.into(), array)?.into_column())
}

/// A column of a data frame as an Arrow array of `wanted`.
pub(super) fn from_column(column: &Column, wanted: &DataType) -> Result<ArrayRef, EvaluateError> {
    let series = column.as_materialized_series().rechunk();
    let field = series.field().to_arrow(CompatLevel::newest());
    let array = series.to_arrow(0, CompatLevel::newest());
    let c_array = polars_ffi::export_array_to_c(array);
    let c_schema = polars_ffi::export_field_to_c(&field);
    // SAFETY: as above, in the other direction.
    let data = unsafe {
        let c_array: FFI_ArrowArray = std::mem::transmute::<polars_ffi::ArrowArray, FFI_ArrowArray>(c_array);
        let c_schema: FFI_ArrowSchema = std::mem::transmute::<polars_ffi::ArrowSchema, FFI_ArrowSchema>(c_schema);
        ffi::from_ffi(c_array, &c_schema)?
    };
    let array = make_array(data);
    Ok(if array.data_type() == wanted { array } else { compute::cast(&array, wanted)? })
}
