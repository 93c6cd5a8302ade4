//! What the gateway asks of its state: one small trait a concern.

pub mod api_keys;
pub mod database;
pub mod facts;
pub mod limits;
pub mod live;
pub mod provider_keys;
pub mod tenants;
