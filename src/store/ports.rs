//! What the gateway asks of its state: one small trait a concern.

pub mod credentials;
pub mod limits;
pub mod live;
pub mod responses;
