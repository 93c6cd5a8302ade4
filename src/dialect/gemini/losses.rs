//! What of a request cannot be said in this format.

pub use crate::dialect::losses::Losses;
