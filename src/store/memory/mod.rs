//! The live state of one node, in memory.

mod accounts;
mod answers;
mod keys;
mod leases;
mod limits;
mod logins;
mod responses;
mod targets;
mod vectors;

use crate::store::ports::Stores;
use std::sync::Arc;

pub(in crate::store) use accounts::until;
pub use accounts::{MemoryAccounts, OpenReservation};
pub use answers::MemoryAnswers;
pub use keys::{AccountName, KeyNews, MemoryKeyPool, Use};
pub use limits::{KeptMeter, KeptSubject, MemoryLimits};
pub use logins::MemoryLogins;
pub use responses::MemoryResponses;
pub use targets::MemoryTargets;
pub use vectors::MemoryVectors;

/// The state of a node that shares none, with room for so many cached answers, bytes of them, and questions that are compared.
pub fn stores(answers: u32, answer_bytes: u64, questions: u32) -> Stores {
    Stores {
        pool: Arc::new(MemoryKeyPool::default()),
        targets: Arc::new(MemoryTargets::default()),
        limits: Arc::new(MemoryLimits::default()),
        accounts: Arc::new(MemoryAccounts::default()),
        answers: Arc::new(MemoryAnswers::new(answers, answer_bytes)),
        responses: Arc::new(MemoryResponses::default()),
        vectors: Arc::new(MemoryVectors::new(questions)),
    }
}
