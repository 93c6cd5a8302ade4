//! What a bench may see of the stages: the decisions about one request (plan, limits, key), without any I/O.

use super::core::{ClientCtx, Core};
use super::lease::{Lease, Wanted};
use super::plan::Plan;
use super::quota::Quota;
use crate::dialect::openai_chat::envelope::Envelope;
use crate::store::ports::live::KeyOutcome;
use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A request of which everything is decided and nothing sent.
pub struct Decisions {
    core: Arc<Core>,
    envelope: Envelope,
}

impl Decisions {
    /// The request with this body.
    ///
    /// # Errors
    /// When it is none.
    pub fn new(core: Arc<Core>, body: Bytes) -> Result<Self, String> {
        let envelope = Envelope::scan(body).map_err(|fault| fault.message.into_owned())?;
        Ok(Self { core, envelope })
    }

    /// Decides it once: the plan is made, what it takes of its limits reserved, a key leased; then all of it is given back.
    ///
    /// # Errors
    /// What a client would be told.
    pub async fn decide(&self) -> Result<(), String> {
        let told = |error: super::error::ApiError| error.message.to_string();
        let mut client = ClientCtx::new(&self.core);
        let snapshot = client.snapshot.clone();
        let plan = Plan::new(&self.core, &snapshot, &self.envelope, None, fastrand::u64(..))
            .map_err(|none| told(none.error))?;
        client.quota = Quota::reserve(&self.core, &mut client, &self.envelope, &plan).await.map_err(told)?;
        let (_, target) = plan.targets.first().ok_or("no target")?;
        let now = Instant::now();
        let tokens = target.tokens_wanted(&self.envelope);
        let deadline = now + Duration::from_secs(600);
        let wanted = Wanted { target, byok: None, tried: &[], tokens, deadline };
        let mut lease = Lease::take(&self.core, wanted, now).map_err(|_| "no key is ready")?;
        lease.give_back(KeyOutcome::Good, now);
        if let Some(quota) = client.quota.take() {
            quota.settle(&client.record, 0, now);
        }
        Ok(())
    }
}
