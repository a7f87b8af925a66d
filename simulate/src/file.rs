//! Events → a file, one a line.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
    time::Instant,
};

use anyhow::{Context, Result};

use crate::{Event, pace};

/// Writes events until all are out or `stop` says so; returns how many.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, events: impl Iterator<Item = Event>, rate: f64, stop: &dyn Fn() -> bool) -> Result<u64> {
    let context = || format!("write {}", path.display());
    let mut file = BufWriter::new(File::create(path).with_context(context)?);
    let began = Instant::now();
    let mut written = 0;
    for event in events {
        pace(began, written, rate, stop);
        if stop() {
            break;
        }
        file.write_all(&event.value).and_then(|()| file.write_all(b"\n")).with_context(context)?;
        written += 1;
    }
    file.flush().with_context(context)?;
    Ok(written)
}
