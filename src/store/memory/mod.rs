//! The live state of one node, in memory.

mod answers;
mod keys;
mod targets;

pub use answers::MemoryAnswers;
pub use keys::MemoryKeyPool;
pub use targets::MemoryTargets;
