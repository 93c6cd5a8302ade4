//! The live state of one node, in memory.

mod keys;
mod limits;
mod responses;
mod targets;

pub use keys::MemoryKeyPool;
pub use limits::MemoryLimits;
pub use responses::MemoryResponses;
pub use targets::MemoryTargets;
