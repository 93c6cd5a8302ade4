//! The words of the gateway: pure values with no I/O, no clock and no Pingora.
//!
//! Read [`fault`] and [`verdict`] together: a [`Fault`] says what went wrong and who is to blame, a
//! [`Verdict`] says what the gateway does about it. [`record`] is what remains of a request afterwards.

pub mod audit;
pub mod budget;
pub mod decision;
pub mod fault;
pub mod ids;
pub mod ledger;
pub mod limit;
pub mod money;
pub mod payloads;
pub mod principal;
pub mod quota;
pub mod record;
pub mod secret;
pub mod stored_setting;
pub mod strategy;
pub mod tenancy;
pub mod usage;
pub mod verdict;

pub use decision::Decision;
pub use fault::{Blame, Clock, Fault, FaultKind};
pub use ids::RequestId;
pub use ledger::{LedgerAttempt, LedgerRow};
pub use limit::{Limit, Measure, OnOutage, Period, Scope};
pub use money::Money;
pub use payloads::Payloads;
pub use principal::{KeyId, Principal, ProviderKey};
pub use quota::{KeyQuota, RateLimit, RateLimits};
pub use record::{AttemptRecord, CacheUse, Ended, RequestRecord, SemanticRecord};
pub use secret::Secret;
pub use strategy::Strategy;
pub use usage::Usage;
pub use verdict::Verdict;
