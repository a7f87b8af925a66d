//! Proof that the archive tiles the log: every footer is read.

use std::fmt;

use anabranch_core::{
    Offset, OffsetRange, Partition,
    protocol::archive::{self, Fault},
};
use anabranch_process::{Warehouse, archive::listing, catalog::rows};
use anyhow::Result;
use tokio_postgres::Client;

/// A fault of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The source.
    pub source: String,
    /// The partition.
    pub partition: Partition,
    /// What is wrong, with its offsets.
    pub fault: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} partition {}: {}", self.source, self.partition, self.fault)
    }
}

/// What `verify` saw of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// The number of files.
    pub files: usize,
    /// Their rows.
    pub records: i64,
    /// Every gap, overlap and file without its records.
    pub findings: Vec<Finding>,
    /// Offsets that `skip-lost` accepted as lost: no fault, but not forgotten.
    pub lost: Vec<(Partition, OffsetRange)>,
}

/// Checks that the files of a source tile `[origin, archived end)` of every partition, and that nothing is missing below
/// what the archivers reported.
///
/// # Errors
/// When PostgreSQL or the warehouse does not answer.
pub async fn verify(client: &Client, warehouse: &Warehouse, source: &str) -> Result<Verified> {
    let partitions = rows::partitions(client, source).await?;
    let mut names = listing::list(warehouse, source).await?;
    let mut verified = Verified::default();
    for state in &partitions {
        let partition = state.row.partition;
        let mut find = |fault: String| verified.findings.push(Finding { source: source.to_owned(), partition, fault });
        let files = listing::footers(warehouse, source, names.remove(&partition).unwrap_or_default()).await?;
        for (name, footer) in &files {
            if name.start != footer.range.start {
                find(format!("{} holds {}, which is not what its name says", name.path(source), footer.range));
            }
        }
        verified.lost.extend(files.iter().filter(|(_, footer)| footer.lost).map(|(_, footer)| (partition, footer.range)));
        let ranges: Vec<OffsetRange> = files.iter().map(|(_, footer)| footer.range).collect();
        for fault in archive::tile(&ranges, state.row.origin) {
            find(fault.to_string());
        }
        let end = ranges.iter().map(|range| range.end).max().unwrap_or(state.row.origin);
        if let Some(fault) = missing_tail(client, source, partition, end).await? {
            find(fault.to_string());
        }
        verified.files += files.len();
        verified.records += files.iter().map(|(_, footer)| footer.records).sum::<i64>();
    }
    for (partition, files) in names {
        let fault = format!("{} files of a partition that the catalog does not know", files.len());
        verified.findings.push(Finding { source: source.to_owned(), partition, fault });
    }
    Ok(verified)
}

/// A removed *last* file leaves no gap between files; what its archiver reported when it committed it shows that.
async fn missing_tail(client: &Client, source: &str, partition: Partition, end: Offset) -> Result<Option<Fault>> {
    let sql = "SELECT committed_to FROM partition WHERE source = $1 AND partition = $2";
    let committed: Option<i64> = client.query_opt(sql, &[&source, &partition.0]).await?.and_then(|row| row.get(0));
    Ok(committed.map(Offset).filter(|committed| *committed > end).map(|committed| Fault::Gap(OffsetRange { start: end, end: committed })))
}
