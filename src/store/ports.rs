//! What the gateway asks of its state: one small trait a concern.

pub mod accounts;
pub mod answers;
pub mod api_keys;
pub mod audit;
pub mod budgets;
pub mod database;
pub mod facts;
pub mod ledger;
pub mod limits;
pub mod live;
pub mod logins;
pub mod nodes;
pub mod payloads;
pub mod provider_keys;
pub mod reports;
pub mod responses;
pub mod spending;
pub mod stored_settings;
pub mod tenants;
pub mod vectors;

use std::sync::Arc;

/// The state that requests share, each concern behind its port.
pub struct Stores {
    /// The pool of provider keys.
    pub pool: Arc<dyn live::KeyPool>,
    /// Breakers and health.
    pub targets: Arc<dyn live::Targets>,
    /// The buckets of `[[limits.rule]]`.
    pub limits: Arc<dyn limits::LimitStore>,
    /// What was spent of budgets.
    pub accounts: Arc<dyn accounts::Accounts>,
    /// The cache of answers.
    pub answers: Arc<dyn answers::Answers>,
    /// The answers of `POST /v1/responses` that are kept.
    pub responses: Arc<dyn responses::ResponseStore>,
    /// The questions that they answer, by what they mean.
    pub vectors: Arc<dyn vectors::Vectors>,
}
