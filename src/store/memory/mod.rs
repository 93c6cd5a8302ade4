//! The live state of one node, in memory.

mod answers;
mod keys;
mod leases;
mod limits;
mod targets;

use crate::store::ports::Stores;
use std::sync::Arc;

pub use answers::MemoryAnswers;
pub use keys::MemoryKeyPool;
pub use limits::MemoryLimits;
pub use targets::MemoryTargets;

/// The state of a node that shares none, with room for so many cached answers and bytes of them.
pub fn stores(answers: u32, answer_bytes: u64) -> Stores {
    Stores {
        pool: Arc::new(MemoryKeyPool::default()),
        targets: Arc::new(MemoryTargets::default()),
        limits: Arc::new(MemoryLimits::default()),
        answers: Arc::new(MemoryAnswers::new(answers, answer_bytes)),
    }
}
