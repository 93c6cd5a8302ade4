//! The live state of one node, in memory.

mod keys;
mod targets;

pub use keys::MemoryKeyPool;
pub use targets::MemoryTargets;
