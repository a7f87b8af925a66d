//! The version numbers of everything that outlives a process; `docs/formats.md` describes each.

use thiserror::Error;

/// Archive files: their columns and footer.
pub const ARCHIVE: u32 = 1;
/// Parts: one row of states per group.
pub const PART: u32 = 1;
/// Manifests.
pub const MANIFEST: u32 = 1;
/// The warehouse's `_anabranch.json`.
pub const WAREHOUSE: u32 = 1;
/// Arrow messages in the `flush` log.
pub const FLUSH: u32 = 1;
/// The meaning of definitions: raised when any function computes something else than before, so that every view is
/// rebuilt; part of each fingerprint.
pub const SEMANTICS: u32 = 1;

/// A file or row of a format that this program is too old for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{what} has format version {found}, this program reads up to {known}; use a newer anabranch")]
pub struct TooNew {
    /// What was read, with its place.
    pub what: String,
    /// The version found there.
    pub found: u32,
    /// The newest version this program reads.
    pub known: u32,
}

/// Refuses what a newer program wrote.
///
/// # Errors
/// [`TooNew`] when `found` is above `known`: nothing may be read from it.
pub fn check(what: &str, found: u32, known: u32) -> Result<(), TooNew> {
    if found > known {
        return Err(TooNew { what: what.to_owned(), found, known });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_format_is_refused_with_a_message() {
        let error = check("archive file a.parquet", 2, 1).unwrap_err();
        insta::assert_snapshot!(error, @"archive file a.parquet has format version 2, this program reads up to 1; use a newer anabranch");
        assert!(check("archive file a.parquet", 1, 1).is_ok());
    }
}
