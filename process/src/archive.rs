//! The archive as it is read: every record of a source, in files that tile the log.

pub mod footer;
pub mod listing;
pub mod rejected;
