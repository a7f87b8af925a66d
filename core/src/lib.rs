//! The arithmetic of Anabranch: offsets, coverage, epochs, cuts and definitions.
//!
//! Nothing here reads a clock, a file or a socket, and nothing depends on Polars. The layers read rows under locks, hand
//! them to a function of [`protocol`], and write what it says; the model of its tests
//! (`protocol/model.rs`) drives the same functions through thousands of schedules. So what is proved there is what runs.

pub mod coverage;
pub mod definition;
pub mod format;
pub mod layout;
pub mod offset;
pub mod protocol;

pub use coverage::Coverage;
pub use offset::{Offset, OffsetRange, Partition};
