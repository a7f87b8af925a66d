//! Seeded event generators: the same seed and start give the same bytes.

pub mod places;
pub mod server_status;
