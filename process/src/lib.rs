//! What every layer needs to run: settings, telemetry, shutdown, the catalog in PostgreSQL, the warehouse, the archive as it is read, references.

pub mod archive;
pub mod catalog;
pub mod clock;
pub mod crash;
pub mod failure;
pub mod identity;
pub mod kafka;
pub mod lease;
pub mod metrics;
pub mod parts;
pub mod references;
pub mod settings;
pub mod telemetry;
pub mod warehouse;
pub mod workers;

pub use catalog::Catalog;
pub use settings::Settings;
pub use warehouse::Warehouse;
