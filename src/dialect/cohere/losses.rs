//! What of a request cannot be said in this format.

pub(super) use crate::dialect::losses::Losses;
