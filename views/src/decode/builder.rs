//! Typed values of one column, one after the other.

use std::sync::Arc;

use anabranch_core::definition::DataType;
use arrow::array::{ArrayRef, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder, Int64Builder, StringViewBuilder, TimestampMicrosecondBuilder};

use super::slot::Slot;
use crate::value::arrow_type;

#[derive(Debug)]
pub(super) enum Builder {
    Boolean(BooleanBuilder),
    BigInt(Int64Builder),
    Double(Float64Builder),
    Decimal(Decimal128Builder),
    Text(StringViewBuilder),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
}

impl Builder {
    pub(super) fn new(data_type: DataType) -> Self {
        match data_type {
            DataType::Boolean => Self::Boolean(BooleanBuilder::new()),
            DataType::BigInt => Self::BigInt(Int64Builder::new()),
            DataType::Decimal { .. } => Self::Decimal(Decimal128Builder::new().with_data_type(arrow_type(data_type))),
            DataType::Double => Self::Double(Float64Builder::new()),
            DataType::Text => Self::Text(StringViewBuilder::new()),
            DataType::Date => Self::Date(Date32Builder::new()),
            DataType::Timestamp => Self::Timestamp(TimestampMicrosecondBuilder::new().with_timezone("UTC")),
        }
    }

    pub(super) fn append(&mut self, slot: &Slot<'_>) {
        match (self, slot) {
            (Self::Boolean(builder), Slot::Boolean(value)) => builder.append_value(*value),
            (Self::BigInt(builder), Slot::BigInt(value)) => builder.append_value(*value),
            (Self::Double(builder), Slot::Double(value)) => builder.append_value(*value),
            (Self::Decimal(builder), Slot::Decimal(value)) => builder.append_value(*value),
            (Self::Text(builder), Slot::Text(value)) => builder.append_value(value),
            (Self::Date(builder), Slot::Date(value)) => builder.append_value(*value),
            (Self::Timestamp(builder), Slot::Timestamp(value)) => builder.append_value(*value),
            (builder, _) => builder.append_null(),
        }
    }

    pub(super) fn append_null(&mut self) {
        match self {
            Self::Boolean(builder) => builder.append_null(),
            Self::BigInt(builder) => builder.append_null(),
            Self::Double(builder) => builder.append_null(),
            Self::Decimal(builder) => builder.append_null(),
            Self::Text(builder) => builder.append_null(),
            Self::Date(builder) => builder.append_null(),
            Self::Timestamp(builder) => builder.append_null(),
        }
    }

    pub(super) fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Boolean(builder) => Arc::new(builder.finish()),
            Self::BigInt(builder) => Arc::new(builder.finish()),
            Self::Double(builder) => Arc::new(builder.finish()),
            Self::Decimal(builder) => Arc::new(builder.finish()),
            Self::Text(builder) => Arc::new(builder.finish()),
            Self::Date(builder) => Arc::new(builder.finish()),
            Self::Timestamp(builder) => Arc::new(builder.finish()),
        }
    }
}
