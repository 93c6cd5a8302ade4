//! The live state of one node, in memory.

mod keys;
mod leases;
mod targets;

pub use keys::MemoryKeyPool;
pub use targets::MemoryTargets;
