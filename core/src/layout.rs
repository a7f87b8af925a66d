//! Where things lie in the warehouse. A path is spelled here and nowhere else.
//!
//! ```text
//! _anabranch.json
//! _references/<reference>/<content>.parquet
//! _references/_tmp/<reference>+<content>+<uuid>
//! <source>/archive/<topic>+<partition:05>+<start:020>.parquet
//! <source>/_tmp/<topic>+<partition:05>+<start:020>+<uuid>
//! <source>/views/<view>/<fingerprint>/<run uuid>/<part>.parquet
//! <source>/views/<view>/<fingerprint>/<run uuid>/manifest.json
//! ```
//!
//! An archive file's name holds only its start: the rename that makes it visible is then a compare-and-set on
//! (topic, partition, start). A date or an end in the name would let two racers both win.

use uuid::Uuid;

use crate::{Offset, Partition, definition::Fingerprint};

/// Ties a warehouse to one database.
pub const IDENTITY: &str = "_anabranch.json";

/// The place of an archive file in the log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArchiveName {
    /// The Kafka topic.
    pub topic: String,
    /// The partition.
    pub partition: Partition,
    /// The first offset of the file's range.
    pub start: Offset,
}

impl ArchiveName {
    fn stem(&self) -> String {
        format!("{}+{:05}+{:020}", self.topic, self.partition.0, self.start.0)
    }

    /// The visible path of the file.
    #[must_use]
    pub fn path(&self, source: &str) -> String {
        format!("{}/{}.parquet", archive_folder(source), self.stem())
    }

    /// The path of one attempt to write the file.
    #[must_use]
    pub fn temporary(&self, source: &str, attempt: Uuid) -> String {
        format!("{}/{}+{attempt}", temporary_folder(source), self.stem())
    }

    /// The place that a file name (without its folder) speaks of; nothing for names that are not archive files.
    #[must_use]
    pub fn parse(file_name: &str) -> Option<Self> {
        let mut parts = file_name.strip_suffix(".parquet")?.rsplitn(3, '+');
        let start: i64 = parts.next()?.parse().ok()?;
        let partition: i32 = parts.next()?.parse().ok()?;
        let topic = parts.next()?;
        (start >= 0 && partition >= 0 && !topic.is_empty()).then(|| Self { topic: topic.to_owned(), partition: Partition(partition), start: Offset(start) })
    }
}

/// The folder of the warehouse's copies of references.
pub const REFERENCES: &str = "_references";

/// The warehouse's copy of a reference's rows, by the hash of its content.
#[must_use]
pub fn reference(name: &str, content: &str) -> String {
    format!("{REFERENCES}/{name}/{content}.parquet")
}

/// One attempt to write it.
#[must_use]
pub fn temporary_reference(name: &str, content: &str, attempt: Uuid) -> String {
    format!("{REFERENCES}/_tmp/{name}+{content}+{attempt}")
}

/// The folder of a source's visible archive files.
#[must_use]
pub fn archive_folder(source: &str) -> String {
    format!("{source}/archive")
}

/// The folder of a source's files that are being written.
#[must_use]
pub fn temporary_folder(source: &str) -> String {
    format!("{source}/_tmp")
}

/// The folder of what one run wrote for one view.
#[must_use]
pub fn run_folder(source: &str, view: &str, fingerprint: &Fingerprint, run: Uuid) -> String {
    format!("{source}/views/{view}/{fingerprint}/{run}")
}

/// The manifest in a run's folder.
#[must_use]
pub fn manifest(run_folder: &str) -> String {
    format!("{run_folder}/manifest.json")
}

/// A part in a run's folder.
#[must_use]
pub fn part(run_folder: &str, part: &str) -> String {
    format!("{run_folder}/{part}.parquet")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_archive_name_is_read_back(topic in "[a-zA-Z0-9._+-]{1,40}", partition in 0..i32::MAX, start in 0..i64::MAX) {
            let name = ArchiveName { topic, partition: Partition(partition), start: Offset(start) };
            let path = name.path("events");
            prop_assert_eq!(ArchiveName::parse(path.rsplit('/').next().unwrap()), Some(name));
        }
    }

    #[test]
    fn other_files_are_not_archive_files() {
        for name in ["_SUCCESS", "a.parquet", "a+1.parquet", "a+x+1.parquet", "a+1+2.csv", "+00001+00002.parquet", "a+1+-2.parquet"] {
            assert_eq!(ArchiveName::parse(name), None, "{name}");
        }
    }

    #[test]
    fn case_08_racers_at_one_start_race_for_one_name() {
        let name = ArchiveName { topic: "t".into(), partition: Partition(3), start: Offset(7) };
        assert_ne!(name.temporary("s", Uuid::from_u128(1)), name.temporary("s", Uuid::from_u128(2)));
        assert_eq!(name.path("s"), "s/archive/t+00003+00000000000000000007.parquet");
    }

    #[test]
    fn names_sort_by_start() {
        let name = |start| ArchiveName { topic: "t".into(), partition: Partition(3), start: Offset(start) }.path("s");
        assert!(name(9) < name(10) && name(99_999) < name(100_000));
    }
}
