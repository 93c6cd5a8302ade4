//! The live state of one node, in memory.

mod keys;
mod leases;
mod limits;
mod targets;

use crate::store::ports::Stores;
use std::sync::Arc;

pub use keys::MemoryKeyPool;
pub use limits::MemoryLimits;
pub use targets::MemoryTargets;

/// The state of a node that shares none.
pub fn stores() -> Stores {
    Stores {
        pool: Arc::new(MemoryKeyPool::default()),
        targets: Arc::new(MemoryTargets::default()),
        limits: Arc::new(MemoryLimits::default()),
    }
}
