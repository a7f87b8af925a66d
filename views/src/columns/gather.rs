//! Columns made of rows of others, column by column: no row is taken apart or put together.

use anabranch_core::definition::View;

use super::{
    Columns,
    packed::{Cells, Dictionary, DictionaryBuilder, Integers, Packer},
};

/// Where a row comes from: which columns, and which of their rows.
pub type Place = (usize, usize);

impl Columns {
    /// These rows of these columns of one view, in order of their buckets, and where each of them was.
    #[must_use]
    pub fn gathered(view: &View, from: &[(&Self, Vec<usize>)]) -> (Self, Vec<Place>) {
        let mut order: Vec<Place> = from.iter().enumerate().flat_map(|(index, (_, rows))| rows.iter().map(move |row| (index, *row))).collect();
        let columns: Vec<&Self> = from.iter().map(|(columns, _)| *columns).collect();
        if view.bucket.is_some() {
            order.sort_by_key(|(index, row)| columns.get(*index).and_then(|columns| columns.keys.first()?.get(*row).as_i64()));
        }
        let keys = (0..columns.first().map_or(0, |first| first.keys.len())).map(|key| {
            let dictionaries: Vec<&Dictionary> = columns.iter().filter_map(|columns| columns.keys.get(key)).collect();
            dictionary(&dictionaries, &order)
        });
        let cells = (0..columns.first().map_or(0, |first| first.cells.len())).map(|cell| {
            let cells: Vec<&Cells> = columns.iter().filter_map(|columns| columns.cells.get(cell)).collect();
            gathered(&cells, &order)
        });
        let states = columns.first().map(|first| first.states.clone()).unwrap_or_default();
        (Self { rows: order.len(), keys: keys.collect(), cells: cells.collect(), states }, order)
    }
}

/// Each value is looked up once for each dictionary that has it.
fn dictionary(from: &[&Dictionary], order: &[Place]) -> Dictionary {
    let mut builder = DictionaryBuilder::of(order.len());
    let mut known: Vec<Vec<Option<u64>>> = from.iter().map(|dictionary| vec![None; dictionary.values().len()]).collect();
    for (index, row) in order {
        let Some((dictionary, known)) = from.get(*index).zip(known.get_mut(*index)) else { continue };
        let code = dictionary.code(*row);
        if let Some(known) = known.get_mut(code) {
            let code = *known.get_or_insert_with(|| builder.code_of(dictionary.get(*row)));
            builder.push_code(code);
        }
    }
    builder.finish()
}

fn gathered(from: &[&Cells], order: &[Place]) -> Cells {
    match from.first() {
        Some(Cells::Integers(data_type, _)) => {
            let integers = order.iter().map(|(index, row)| match from.get(*index) {
                Some(Cells::Integers(_, integers)) => integers.get(*row),
                _ => None,
            });
            Cells::Integers(*data_type, Integers::of(integers.collect()))
        }
        Some(Cells::Dictionary(_)) => {
            let dictionaries: Vec<&Dictionary> =
                from.iter().filter_map(|cells| if let Cells::Dictionary(dictionary) = cells { Some(dictionary) } else { None }).collect();
            Cells::Dictionary(dictionary(&dictionaries, order))
        }
        _ => Packer::Values(order.iter().filter_map(|(index, row)| Some(from.get(*index)?.get(*row))).collect()).finish(),
    }
}
