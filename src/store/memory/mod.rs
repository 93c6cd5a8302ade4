//! The live state of one node, in memory.

mod answers;
mod keys;
mod targets;
mod vectors;

pub use answers::MemoryAnswers;
pub use keys::MemoryKeyPool;
pub use targets::MemoryTargets;
pub use vectors::MemoryVectors;
