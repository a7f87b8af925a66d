//! Records joined to the rows of references: a hash table from key to row.
//!
//! ```text
//!  a record's keys ──► their encoding ──► XXH3 ──► the row of the reference ──► its columns beside the record's
//! ```

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use anabranch_core::definition::{Join, Source, View};
use arrow::{
    array::{Array, BooleanArray, RecordBatch, UInt32Array},
    compute,
    datatypes::{Field, Schema},
    error::ArrowError,
};
use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    cells::Cells,
    evaluate::{EvaluateError, Values},
};

/// The rows of references, by name and content.
#[derive(Clone, Debug, Default)]
pub struct Lookups {
    tables: BTreeMap<(String, String), Arc<Table>>,
}

#[derive(Debug)]
struct Table {
    rows: RecordBatch,
    /// By the columns of the key.
    indexes: Mutex<HashMap<Vec<String>, Arc<Index>>>,
}

impl Lookups {
    /// Adds the rows of a reference, as [`Decoder::finish`](crate::decode::Decoder::finish) gives them.
    pub fn insert(&mut self, name: &str, content: &str, rows: RecordBatch) {
        self.tables.insert((name.to_owned(), content.to_owned()), Arc::new(Table { rows, indexes: Mutex::default() }));
    }

    /// Whether that content is there.
    #[must_use]
    pub fn has(&self, name: &str, content: &str) -> bool {
        self.tables.contains_key(&(name.to_owned(), content.to_owned()))
    }

    /// Leaves only what is in `wanted`, by name and content.
    pub fn retain(&mut self, wanted: &BTreeSet<(String, String)>) {
        self.tables.retain(|key, _| wanted.contains(key));
    }

    fn table(&self, reference: &Source) -> Result<&Table, EvaluateError> {
        let content = reference.files.as_ref().and_then(|files| files.content.clone()).unwrap_or_default();
        let table = self.tables.get(&(reference.name.clone(), content));
        table.map(AsRef::as_ref).ok_or_else(|| EvaluateError::Reference(reference.name.clone()))
    }
}

/// The hash of a reference's rows, 32 hexadecimal digits: the same whatever files they are in.
///
/// # Errors
/// [`EvaluateError`] only when the rows lack a column.
pub fn content_hash(reference: &Source, rows: &RecordBatch) -> Result<String, EvaluateError> {
    let columns = reference.columns.iter().map(|column| cells(reference, &column.name, rows)).collect::<Result<Vec<_>, _>>()?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(reference.columns_fingerprint().0.as_bytes());
    let mut row_bytes = Vec::new();
    for row in 0..rows.num_rows() {
        row_bytes.clear();
        columns.iter().for_each(|cells| cells.encode_key(row, &mut row_bytes));
        hasher.update(&row_bytes);
    }
    Ok(hasher.finalize().to_hex().chars().take(32).collect())
}

fn cells<'a>(reference: &Source, name: &str, rows: &'a RecordBatch) -> Result<Cells<'a>, EvaluateError> {
    let missing = || EvaluateError::Arrow(ArrowError::SchemaError(format!("no column {name}")));
    let column = reference.column(name).ok_or_else(missing)?;
    Ok(Cells::of(rows.column_by_name(name).ok_or_else(missing)?, column.data_type))
}

/// A key that several rows of a reference have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DuplicateKey {
    /// The columns of the key.
    pub columns: Vec<String>,
    /// Two of the rows, from 0.
    pub rows: (usize, usize),
}

/// The first key of a join that two rows of a reference share; NULL keys match nothing and may repeat.
///
/// # Errors
/// [`EvaluateError`] only when the rows lack a column.
pub fn duplicate_key(join: &Join, rows: &RecordBatch) -> Result<Option<DuplicateKey>, EvaluateError> {
    let columns: Vec<String> = join.on.iter().map(|(_, column)| column.clone()).collect();
    let (_, duplicate) = Index::build(&join.reference, &columns, rows)?;
    Ok(duplicate.map(|rows| DuplicateKey { columns, rows }))
}

/// The rows of a reference by their keys; of several with one key the first.
#[derive(Debug)]
struct Index {
    table: HashTable<(u64, u32)>,
    /// The encoded keys one after the other, and where each row's ends.
    keys: Vec<u8>,
    ends: Vec<usize>,
}

impl Index {
    fn build(reference: &Source, columns: &[String], rows: &RecordBatch) -> Result<(Self, Option<(usize, usize)>), EvaluateError> {
        let cells = columns.iter().map(|name| cells(reference, name, rows)).collect::<Result<Vec<_>, _>>()?;
        let mut index = Self { table: HashTable::with_capacity(rows.num_rows()), keys: Vec::new(), ends: Vec::with_capacity(rows.num_rows()) };
        let mut key = Vec::new();
        let mut duplicate = None;
        for row in 0..rows.num_rows() {
            let found = if encoded(&cells, row, &mut key) { index.find(&key) } else { Some(row) };
            index.keys.extend_from_slice(&key);
            index.ends.push(index.keys.len());
            match found {
                None => {
                    let hash = xxh3_64(&key);
                    let place = u32::try_from(row).map_err(|_| EvaluateError::TooManyRows(reference.name.clone()))?;
                    index.table.insert_unique(hash, (hash, place), |(hash, _)| *hash);
                }
                Some(other) if other != row => duplicate = duplicate.or(Some((other, row))),
                Some(_) => {}
            }
        }
        Ok((index, duplicate))
    }

    fn key(&self, row: usize) -> &[u8] {
        let start = row.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.ends.get(row).and_then(|end| self.keys.get(start..*end)).unwrap_or_default()
    }

    fn find(&self, key: &[u8]) -> Option<usize> {
        let hash = xxh3_64(key);
        self.table.find(hash, |(known, row)| *known == hash && self.key(*row as usize) == key).map(|(_, row)| *row as usize)
    }
}

/// Writes the key of a row over `key`; whether it can equal another: NULL equals nothing.
fn encoded(cells: &[Cells<'_>], row: usize, key: &mut Vec<u8>) -> bool {
    key.clear();
    if !cells.iter().all(|cells| cells.is_valid(row)) {
        return false;
    }
    cells.iter().for_each(|cells| cells.encode_key(row, key));
    true
}

/// The batch with the columns of the view's references that its expressions name, as `alias.column`.
pub(crate) fn joined(view: &View, batch: &RecordBatch, lookups: &Lookups) -> Result<RecordBatch, EvaluateError> {
    let mut batch = batch.clone();
    let names = named(view);
    for join in &view.joins {
        batch = one(join, &batch, lookups.table(&join.reference)?, &names)?;
    }
    Ok(batch)
}

/// Every column that the view's expressions name.
fn named(view: &View) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let bucket = view.bucket.iter().map(|bucket| &bucket.time);
    let dimensions = view.dimensions.iter().map(|dimension| &dimension.expression);
    let arguments = view.accumulators.iter().filter_map(|accumulator| accumulator.argument.as_ref());
    let keys = view.joins.iter().flat_map(|join| join.on.iter().map(|(key, _)| key));
    bucket.chain(dimensions).chain(arguments).chain(keys).chain(&view.filter).for_each(|expression| expression.collect_columns(&mut names));
    names
}

fn one(join: &Join, batch: &RecordBatch, table: &Table, names: &BTreeSet<String>) -> Result<RecordBatch, EvaluateError> {
    let columns: Vec<String> = join.on.iter().map(|(_, column)| column.clone()).collect();
    let index = {
        let mut indexes = table.indexes.lock().unwrap_or_else(PoisonError::into_inner);
        match indexes.get(&columns) {
            Some(index) => Arc::clone(index),
            None => {
                let index = Arc::new(Index::build(&join.reference, &columns, &table.rows)?.0);
                indexes.insert(columns, Arc::clone(&index));
                index
            }
        }
    };
    let mut values = Values::over(batch);
    let keys: Vec<_> = join.on.iter().map(|(key, _)| (values.ask(key), key.data_type)).collect();
    let values = values.evaluate()?;
    let keys = keys.into_iter().map(|(asked, data_type)| Ok((values.get(asked)?, data_type))).collect::<Result<Vec<_>, EvaluateError>>()?;
    let cells: Vec<Cells<'_>> = keys.iter().map(|(array, data_type)| Cells::of(array, *data_type)).collect();
    let mut key = Vec::new();
    let found = |row: usize| encoded(&cells, row, &mut key).then(|| index.find(&key)).flatten().and_then(|row| u32::try_from(row).ok());
    let rows: UInt32Array = (0..batch.num_rows()).map(found).collect();
    let mut fields: Vec<Field> = batch.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    let mut arrays = batch.columns().to_vec();
    for column in &join.reference.columns {
        let name = join.column(&column.name);
        let values = table.rows.column_by_name(&column.name).filter(|_| names.contains(&name));
        if let Some(values) = values {
            fields.push(Field::new(name, values.data_type().clone(), true));
            arrays.push(compute::take(values, &rows, None)?);
        }
    }
    let wide = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?;
    if !join.inner || rows.null_count() == 0 {
        return Ok(wide);
    }
    let matched: BooleanArray = compute::is_not_null(&rows)?;
    Ok(compute::filter_record_batch(&wide, &matched)?)
}
