//! The archive is plain Parquet: `DuckDB` and pyarrow read the folder as it is.

use std::{collections::BTreeMap, process::Command};

use anabranch_e2e::{Stage, variable};
use anabranch_oracle::topic::Topic;
use anyhow::{Context, Result};

pub(super) async fn read_the_archive_as_plain_parquet(stage: &Stage, topic: &Topic) -> Result<()> {
    let warehouse = stage.warehouse()?;
    let folder = stage.folder().join("archive");
    std::fs::create_dir_all(&folder)?;
    for file in warehouse.list("server_status/archive").await? {
        std::fs::write(folder.join(&file.name), warehouse.read(&format!("server_status/archive/{}", file.name)).await?)?;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/readers/count.py");
    let output = Command::new(variable("ANABRANCH_PYTHON")).arg(script).arg(&folder).output().context("start python")?;
    let text = String::from_utf8(output.stdout)?;
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let counted: serde_json::Value = serde_json::from_str(&text)?;
    assert_eq!(counted["duckdb"], topic.records.len(), "{text}");
    assert_eq!(counted["pyarrow"], topic.records.len(), "{text}");
    let mut rejected: BTreeMap<String, usize> = BTreeMap::new();
    for reason in topic.records.iter().filter_map(|record| record.event.as_ref().err()) {
        *rejected.entry(reason.clone()).or_default() += 1;
    }
    assert_eq!(counted["rejected"], serde_json::to_value(rejected)?, "{text}");
    println!("DuckDB and pyarrow read {} rows", topic.records.len());
    Ok(())
}
