//! The batch layer: Kafka → archive on HDFS, archive → versions.
//!
//! | module | what |
//! |---|---|
//! | [`archive`] | its own readers of the topics; every record becomes a row of plain Parquet |
//! | [`runs`] | one execution: a cut, a scan of the archive, parts, publication |
//! | [`schedule`] | when runs happen |

pub mod archive;
pub mod runs;
pub mod schedule;
