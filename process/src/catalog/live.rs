//! Live rows: the states of an epoch's groups in the live table of a definition.

use std::borrow::Cow;

use anabranch_core::{
    definition::{DataType, Fingerprint, View},
    protocol::EpochId,
};
use anabranch_views::{
    GroupHash, Row, Value,
    scalar::{decimal_text, parse_decimal},
    table::{self, ColumnType, TableColumn, TableError},
};
use anyhow::{Context, Result};
use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType},
};
use chrono::{DateTime, NaiveDate, NaiveDateTime};
use futures::{Stream, StreamExt, TryStreamExt};
use tokio_postgres::{GenericClient, types::ToSql};

use super::definitions::{live_table, quoted, sql_type};

/// Rows of one statement: large enough that its cost per row is small, small enough to bound its parameters' memory.
const STATEMENT_ROWS: usize = 5_000;

/// Absolute states of groups as they are stored, in the order of their hashes: no two writers lock in different orders.
#[derive(Debug)]
pub struct LiveRows {
    hashes: Vec<GroupHash>,
    columns: RecordBatch,
}

impl LiveRows {
    /// Puts the groups in order, and makes columns of their states.
    ///
    /// # Errors
    /// [`TableError`] when a row does not fit the view.
    pub fn of<'a>(view: &View, groups: impl IntoIterator<Item = (GroupHash, &'a Row)>) -> Result<Self, TableError> {
        let mut groups: Vec<(GroupHash, &Row)> = groups.into_iter().collect();
        groups.sort_unstable_by_key(|(hash, _)| *hash);
        let columns = table::to_batch(view, groups.iter().map(|(_, row)| *row))?;
        Ok(Self { hashes: groups.into_iter().map(|(hash, _)| hash).collect(), columns })
    }

    /// How many groups.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Their keys and states.
    #[must_use]
    pub fn columns(&self) -> &RecordBatch {
        &self.columns
    }
}

/// Writes absolute states of groups.
///
/// # Errors
/// When PostgreSQL refuses or does not answer, or the columns are not the view's.
pub async fn upsert(client: &impl GenericClient, view: &View, epoch: EpochId, rows: &LiveRows) -> Result<()> {
    let columns = table::columns(view);
    let keys = usize::from(view.bucket.is_some()) + view.dimensions.len();
    let sql = upsert_sql(view, &columns, keys);
    for (hashes, rows) in rows.hashes.chunks(STATEMENT_ROWS).zip(statements(&rows.columns)) {
        let hashes: Vec<&[u8]> = hashes.iter().map(|hash| hash.0.as_slice()).collect();
        let arrays = arrays(&columns, &rows)?;
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&epoch.0, &hashes];
        parameters.extend(arrays.iter().map(|array| array.as_ref() as &(dyn ToSql + Sync)));
        client.execute(&sql, &parameters).await.with_context(|| format!("store live rows of view {}", view.name))?;
    }
    Ok(())
}

/// Appends the states of groups to a table of a part's rows, `_part` before them.
///
/// # Errors
/// As [`upsert`].
pub(super) async fn append(client: &impl GenericClient, view: &View, table: &str, part: i64, rows: &RecordBatch) -> Result<()> {
    let columns = table::columns(view);
    let names: Vec<String> = columns.iter().map(|column| quoted(&column.name)).collect();
    let (unnested, selected, aliases) = unnested(&columns, 2);
    let sql = format!("INSERT INTO {table} (_part, {}) SELECT $1, {selected} FROM unnest({unnested}) AS rows ({aliases})", names.join(", "));
    for rows in statements(rows) {
        let arrays = arrays(&columns, &rows)?;
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&part];
        parameters.extend(arrays.iter().map(|array| array.as_ref() as &(dyn ToSql + Sync)));
        client.execute(&sql, &parameters).await.with_context(|| format!("store rows of a part of view {}", view.name))?;
    }
    Ok(())
}

/// The rows, statement by statement.
fn statements(rows: &RecordBatch) -> impl Iterator<Item = RecordBatch> {
    let count = rows.num_rows();
    (0..count).step_by(STATEMENT_ROWS).map(move |from| rows.slice(from, STATEMENT_ROWS.min(count - from)))
}

/// The rows' cells, an array for each column.
fn arrays<'a>(columns: &[TableColumn], rows: &'a RecordBatch) -> Result<Vec<Box<dyn ToSql + Sync + Send + 'a>>> {
    let array = |column: &TableColumn| {
        let array = rows.column_by_name(&column.name).and_then(|array| parameter(column.column_type, array));
        array.with_context(|| format!("the column {} is missing or has another type", column.name))
    };
    columns.iter().map(array).collect()
}

/// The arrays as parameters from that number on, what is selected of them, and their names between.
fn unnested(columns: &[TableColumn], first: usize) -> (String, String, String) {
    let arrays: Vec<String> = columns.iter().enumerate().map(|(index, column)| format!("${}::{}[]", index + first, wire_type(column.column_type))).collect();
    let selected: Vec<String> = columns.iter().enumerate().map(|(index, column)| format!("c{index}::{}", sql_type(column.column_type))).collect();
    let aliases: Vec<String> = (0..columns.len()).map(|index| format!("c{index}")).collect();
    (arrays.join(", "), selected.join(", "), aliases.join(", "))
}

fn upsert_sql(view: &View, columns: &[TableColumn], keys: usize) -> String {
    let names: Vec<String> = columns.iter().map(|column| quoted(&column.name)).collect();
    let (unnested, selected, aliases) = unnested(columns, 3);
    let updates: Vec<String> = names.iter().skip(keys).map(|name| format!("{name} = EXCLUDED.{name}")).collect();
    format!(
        "INSERT INTO {} (_epoch, _group_hash, {}) SELECT $1, hash, {selected} FROM unnest($2::bytea[], {unnested}) AS rows (hash, {aliases}) \
         ON CONFLICT (_epoch, _group_hash) DO UPDATE SET {}",
        live_table(&view.fingerprint),
        names.join(", "),
        updates.join(", "),
    )
}

/// NUMERIC has no native form in the client; it travels as text.
fn wire_type(column_type: ColumnType) -> Cow<'static, str> {
    match column_type {
        ColumnType::Sql(DataType::Decimal { .. }) => Cow::Borrowed("text"),
        other => sql_type(other),
    }
}

fn timestamp(micros: i64) -> Option<NaiveDateTime> {
    DateTime::from_timestamp_micros(micros).map(|time| time.naive_utc())
}

/// A column as an array of PostgreSQL; texts and bytes are not copied before they are sent. Nothing when it holds something else.
fn parameter(column_type: ColumnType, array: &dyn Array) -> Option<Box<dyn ToSql + Sync + Send + '_>> {
    Some(match column_type {
        ColumnType::Bytes => Box::new(array.as_binary_opt::<i32>()?.iter().collect::<Vec<_>>()),
        ColumnType::Sql(DataType::Boolean) => Box::new(array.as_boolean_opt()?.iter().collect::<Vec<_>>()),
        ColumnType::Sql(DataType::BigInt) => Box::new(array.as_primitive_opt::<Int64Type>()?.iter().collect::<Vec<_>>()),
        ColumnType::Sql(DataType::Double) => Box::new(array.as_primitive_opt::<Float64Type>()?.iter().collect::<Vec<_>>()),
        ColumnType::Sql(DataType::Text) => Box::new(array.as_string_view_opt()?.iter().collect::<Vec<_>>()),
        ColumnType::Sql(DataType::Decimal { scale, .. }) => {
            let texts = array.as_primitive_opt::<Decimal128Type>()?.iter().map(|value| value.map(|value| decimal_text(value, scale)));
            Box::new(texts.collect::<Vec<_>>())
        }
        ColumnType::Sql(DataType::Date) => {
            let date = |days: i32| NaiveDate::default().checked_add_signed(chrono::Duration::days(i64::from(days)));
            Box::new(array.as_primitive_opt::<Date32Type>()?.iter().map(|days| days.and_then(date)).collect::<Vec<_>>())
        }
        ColumnType::Sql(DataType::Timestamp) => {
            Box::new(array.as_primitive_opt::<TimestampMicrosecondType>()?.iter().map(|micros| micros.and_then(timestamp)).collect::<Vec<_>>())
        }
    })
}

/// Pruning and folding move rows of closed epochs; of one source not both at once, until the transaction ends.
///
/// # Errors
/// When PostgreSQL does not answer.
pub async fn lock_folding(client: &impl GenericClient, source: &str) -> Result<()> {
    client.execute("SELECT pg_advisory_xact_lock(hashtextextended('anabranch live rows ' || $1::text, 0))", &[&source]).await?;
    Ok(())
}

/// How many live rows a definition has in these epochs, counted up to `limit`; nothing when its table is gone.
///
/// # Errors
/// When PostgreSQL does not answer.
pub async fn count(client: &impl GenericClient, fingerprint: &Fingerprint, epochs: &[EpochId], limit: i64) -> Result<Option<i64>> {
    let table = live_table(fingerprint);
    if !client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&table]).await?.get::<_, bool>(0) {
        return Ok(None);
    }
    let epochs: Vec<i64> = epochs.iter().map(|epoch| epoch.0).collect();
    let sql = format!("SELECT count(*) FROM (SELECT 1 FROM {table} WHERE _epoch = ANY($1) LIMIT $2) AS rows");
    Ok(Some(client.query_one(&sql, &[&epochs, &limit]).await?.get(0)))
}

/// All live rows of an epoch.
///
/// # Errors
/// When PostgreSQL does not answer, or a row is not one of the view's.
pub async fn read(client: &impl GenericClient, view: &View, epoch: EpochId) -> Result<Vec<Row>> {
    stream(client, view, epoch).await?.try_collect().await
}

/// The same, one by one as they come: there may be millions.
///
/// # Errors
/// As [`read`].
pub async fn stream<'a>(client: &impl GenericClient, view: &'a View, epoch: EpochId) -> Result<impl Stream<Item = Result<Row>> + 'a> {
    let columns = table::columns(view);
    let selected: Vec<String> = columns.iter().map(|column| format!("{}::{}", quoted(&column.name), wire_type(column.column_type))).collect();
    let sql = format!("SELECT {} FROM {} WHERE _epoch = $1", selected.join(", "), live_table(&view.fingerprint));
    let rows = client.query_raw(&sql, [epoch.0]).await?;
    Ok(rows.map(move |row| {
        let row = row?;
        let cells = columns.iter().enumerate().map(|(index, column)| cell(&row, index, column.column_type)).collect::<Result<Vec<_>>>()?;
        table::row(view, cells).with_context(|| format!("read live rows of view {}", view.name))
    }))
}

fn cell(row: &tokio_postgres::Row, index: usize, column_type: ColumnType) -> Result<Value> {
    Ok(match column_type {
        ColumnType::Bytes => row.try_get::<_, Option<Vec<u8>>>(index)?.map_or(Value::Null, Value::Bytes),
        ColumnType::Sql(DataType::Boolean) => row.try_get::<_, Option<bool>>(index)?.map_or(Value::Null, Value::Boolean),
        ColumnType::Sql(DataType::BigInt) => row.try_get::<_, Option<i64>>(index)?.map_or(Value::Null, Value::BigInt),
        ColumnType::Sql(DataType::Double) => row.try_get::<_, Option<f64>>(index)?.map_or(Value::Null, Value::Double),
        ColumnType::Sql(DataType::Text) => row.try_get::<_, Option<String>>(index)?.map_or(Value::Null, Value::Text),
        ColumnType::Sql(DataType::Decimal { precision, scale }) => match row.try_get::<_, Option<String>>(index)? {
            Some(text) => parse_decimal(&text, precision, scale).with_context(|| format!("read the number {text}"))?,
            None => Value::Null,
        },
        ColumnType::Sql(DataType::Date) => match row.try_get::<_, Option<NaiveDate>>(index)? {
            Some(date) => Value::Date(i32::try_from(date.signed_duration_since(NaiveDate::default()).num_days())?),
            None => Value::Null,
        },
        ColumnType::Sql(DataType::Timestamp) => {
            row.try_get::<_, Option<NaiveDateTime>>(index)?.map_or(Value::Null, |time| Value::Timestamp(time.and_utc().timestamp_micros()))
        }
    })
}
