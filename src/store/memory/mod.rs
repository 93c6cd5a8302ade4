//! The live state of one node, in memory.

mod keys;
mod limits;
mod targets;

pub use keys::MemoryKeyPool;
pub use limits::MemoryLimits;
pub use targets::MemoryTargets;
