//! What the gateway asks of its state: one small trait a concern.

pub mod answers;
pub mod credentials;
pub mod live;
pub mod vectors;
