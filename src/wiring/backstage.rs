//! What the console has done to the running gateway.

use super::state::{Follower, State};
use crate::cli::start::reload_with;
use crate::config::Source;
use crate::config::stored::{self, Laid};
use crate::console::{Backstage, Unfit};
use crate::domain::Secret;
use crate::domain::audit::AuditEvent;
use crate::domain::stored_setting::StoredSetting;
use crate::domain::tenancy::SealedKey;
use crate::proxy::Core;
use crate::store::ports::answers::AnswersHeld;
use crate::store::ports::database::StoreError;
use crate::store::ports::live::{KeyStatus, TargetStatus};
use async_trait::async_trait;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// The gateway as the console reaches it.
pub(super) struct BehindConsole {
    pub(super) core: Arc<Core>,
    pub(super) state: Option<Arc<State>>,
    /// Where the configuration comes from; `None` for one that is never read again.
    pub(super) source: Option<Source>,
    /// There from the moment on in which the database is followed; the console listens before that.
    pub(super) follower: OnceLock<Arc<Follower>>,
}

#[async_trait]
impl Backstage for BehindConsole {
    async fn take_over(&self) -> bool {
        match self.follower.get() {
            Some(follower) => follower.refresh().await,
            None => false,
        }
    }

    async fn add_provider_key(&self, key: SealedKey, secret: Secret, event: AuditEvent) -> Result<(), StoreError> {
        let nowhere = || StoreError::Refused("this gateway keeps nothing".to_owned());
        let state = self.state.clone().ok_or_else(nowhere)?;
        // Another process may have the lock, and hold it while it asks its database.
        let locked = state.clone();
        let lock = tokio::task::spawn_blocking(move || locked.lock_master_key()).await;
        let _lock = lock.map_err(|error| StoreError::Unavailable(error.to_string()))??;
        state.seal_and_add(key, &secret, event).await
    }

    async fn try_setting(&self, setting: StoredSetting) -> Result<(), Unfit> {
        let (Some(source), Some(follower)) = (self.source.clone(), self.follower.get()) else {
            return Err(Unfit::general("this gateway's configuration cannot be changed"));
        };
        let mut followed = follower.followed();
        let is_other = |other: &&StoredSetting| (other.kind, &other.name) != (setting.kind, &setting.name);
        let others = followed.settings.iter().filter(is_other).cloned();
        followed.settings = others.chain([setting.clone()]).collect();
        // Reading files blocks.
        let read = tokio::task::spawn_blocking(move || reload_with(&source, &followed)).await;
        let read = read.map_err(|error| Unfit::general(error.to_string()))?;
        let loaded = read.map_err(|refused| {
            let first = refused.errors.first().map(ToString::to_string).unwrap_or_default();
            Unfit::general(format!("the configuration file cannot be read as it is now: {first}"))
        })?;
        let laid = loaded.snapshot.stored.iter().find(|laid| laid.kind == setting.kind && laid.name == setting.name);
        match laid.map(|laid| &laid.laid) {
            Some(Laid::LeftOut(problem)) => Err(match stored::member_of(&setting, problem) {
                Some(member) => Unfit { member: Some(member.to_owned()), why: problem.message.clone() },
                None => Unfit::general(problem.to_string()),
            }),
            _ => Ok(()),
        }
    }

    fn pool(&self) -> Vec<KeyStatus> {
        self.core.pool.statuses(Instant::now())
    }

    fn enable_key(&self, provider: &str, name: &str) -> bool {
        let snapshot = self.core.snapshot.load();
        let Some(provider) = snapshot.provider(provider) else { return false };
        let of_name = provider.keys.iter().filter(|key| *key.name == *name);
        of_name.filter(|key| self.core.pool.enable(&provider.id, key.id)).count() > 0
    }

    fn targets(&self) -> Vec<TargetStatus> {
        self.core.targets.statuses()
    }

    fn cached(&self) -> (AnswersHeld, u64) {
        (self.core.answers.held(), self.core.vectors.held())
    }

    async fn empty_cache(&self) -> bool {
        // Both, also when one of them cannot: what is left of the questions leads nowhere.
        let (answers, questions) = (self.core.answers.clear().await, self.core.vectors.clear().await);
        answers && questions
    }
}
