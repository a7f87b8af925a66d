//! What a definition computes: records → columns → states → answers.
//!
//! The same code runs in both arms: speed folds what it polls, batch folds what it reads from the archive. Nothing here
//! does IO.
//!
//! | file | step |
//! |---|---|
//! | [`decode`] | raw records → typed columns, each rejected record with its reason |
//! | [`evaluate`] | columns → columns, by Polars |
//! | [`partial`] | columns → one row of states per group |
//! | [`state`] | the mergeable states |
//! | [`group`] | groups, their hashes, and merging |
//! | [`table`] | rows of states ↔ Arrow, for live rows, flush messages and parts |
//! | [`finalize`] | states → the values a user sees |

pub mod decode;
pub mod evaluate;
pub mod finalize;
pub mod group;
pub mod partial;
pub mod state;
pub mod table;
pub mod value;

pub use group::{GroupHash, Groups, Row};
pub use state::{DoubleSum, State};
pub use value::Value;
