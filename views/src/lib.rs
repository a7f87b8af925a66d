//! What a definition computes: records → columns → states → answers.
//!
//! The same code runs in both arms: speed folds what it polls, batch folds what it reads from the archive. Nothing here
//! does IO.
//!
//! | file | step |
//! |---|---|
//! | [`decode`] | raw records → typed columns, each rejected record with its reason |
//! | [`lookup`] | records joined to the rows of references |
//! | `cells` | the typed values of a column |
//! | [`evaluate`] | columns → columns, by Polars where it is exact and fast, by value elsewhere |
//! | [`scalar`] | the meaning of every function, value by value |
//! | [`partial`] | columns → one row of states per group |
//! | [`state`] | the mergeable states |
//! | [`columns`] | groups as packed columns, for answers |
//! | [`group`] | groups, their hashes, and merging |
//! | [`table`] | rows of states ↔ Arrow, for live rows, flush messages and parts |
//! | [`finalize`] | states → the values a user sees |

mod cells;
pub mod columns;
pub mod decode;
pub mod evaluate;
pub mod finalize;
pub mod group;
pub mod lookup;
pub mod partial;
pub mod scalar;
pub mod state;
pub mod table;
pub mod value;

pub use columns::Columns;
pub use group::{GroupHash, Groups, Row};
pub use lookup::Lookups;
pub use state::{DoubleSum, State};
pub use value::{CellError, Value};
