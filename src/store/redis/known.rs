//! What nodes have said about keys, and who is right when they disagree: of a refusal and an operator who enables the key again, the later.
//!
//! Each of them holds for a day after it was learnt, so the one that holds longer is the later one.

use crate::domain::KeyId;
use crate::store::memory::KeyNews;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A key that its provider does not accept is tried again after so long, by nodes that have not tried it.
pub(super) const DISABLED_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// A key: its provider, and which of its keys.
pub(super) type PooledKey = (Arc<str>, KeyId);

/// What is known besides what the pool itself knows.
#[derive(Default)]
pub(super) struct Known {
    /// Rests that were heard of, for keys that a reload brings, and when they end.
    rests: HashMap<PooledKey, (KeyNews, Instant)>,
    refused: HashMap<PooledKey, Refused>,
    /// Keys that were enabled, and until when that counts.
    enabled: HashMap<PooledKey, Instant>,
}

/// A key that its provider does not accept.
struct Refused {
    until: Instant,
    /// This node has tried it.
    is_own: bool,
}

impl Known {
    /// This node has tried a key, and it was refused.
    pub(super) fn refused(&mut self, key: PooledKey, now: Instant) {
        self.refused.insert(key, Refused { until: now + DISABLED_FOR, is_own: true });
    }

    /// A key is enabled here. Returns until when that counts.
    pub(super) fn enabled(&mut self, key: PooledKey, now: Instant) -> Instant {
        let until = now + DISABLED_FOR;
        self.refused.remove(&key);
        self.enabled.insert(key, until);
        until
    }

    /// For how long a refusal that this node has seen itself still holds.
    pub(super) fn own_refusal(&self, key: &PooledKey, now: Instant) -> Option<Duration> {
        let own = self.refused.get(key).filter(|refused| refused.is_own && refused.until > now)?;
        Some(own.until - now)
    }

    /// Takes note of what another node says. Returns whether it is to be believed.
    pub(super) fn hear(&mut self, key: PooledKey, news: KeyNews, until: Instant, now: Instant) -> bool {
        self.rests.retain(|_, (_, until)| *until > now);
        self.refused.retain(|_, refused| refused.until > now);
        self.enabled.retain(|_, until| *until > now);
        match news {
            KeyNews::Cooldown(_) | KeyNews::Exhausted(_) => {
                self.rests.insert(key, (news, until));
            }
            KeyNews::Disabled => {
                if self.enabled.get(&key).is_some_and(|enabled| *enabled >= until) {
                    return false;
                }
                let refused = self.refused.entry(key).or_insert(Refused { until, is_own: false });
                refused.until = until.max(refused.until);
            }
            KeyNews::Enabled => {
                if self.refused.get(&key).is_some_and(|refused| refused.until > until) {
                    return false;
                }
                self.refused.remove(&key);
                let enabled = self.enabled.entry(key).or_insert(until);
                *enabled = until.max(*enabled);
            }
        }
        true
    }

    /// What still holds, for keys that were not there when it was heard.
    pub(super) fn holding(&self, now: Instant) -> Vec<(PooledKey, KeyNews)> {
        let rests = self.rests.iter().filter(|(_, (_, until))| *until > now).map(|(key, (news, until))| {
            let news = match news {
                KeyNews::Exhausted(_) => KeyNews::Exhausted(*until - now),
                _ => KeyNews::Cooldown(*until - now),
            };
            (key.clone(), news)
        });
        let refused = self.refused.iter().filter(|(_, refused)| refused.until > now);
        rests.chain(refused.map(|(key, _)| (key.clone(), KeyNews::Disabled))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Secret;

    const SECOND: Duration = Duration::from_secs(1);

    fn key() -> PooledKey {
        ("p".into(), KeyId::of(&Secret::new("k")))
    }

    #[test]
    fn of_a_refusal_and_an_operator_the_later_is_right() {
        let (mut known, now) = (Known::default(), Instant::now());
        let told_at = |seconds: u32| now + SECOND * seconds + DISABLED_FOR;
        known.refused(key(), now + SECOND * 5);
        assert!(!known.hear(key(), KeyNews::Enabled, told_at(4), now), "enabled before it was refused");
        assert_eq!(known.own_refusal(&key(), now + SECOND * 5), Some(DISABLED_FOR));
        assert!(known.hear(key(), KeyNews::Enabled, told_at(6), now));
        assert_eq!(known.own_refusal(&key(), now), None);
        assert!(!known.hear(key(), KeyNews::Disabled, told_at(5), now), "refused before it was enabled");
        assert!(known.holding(now).is_empty());
        assert!(known.hear(key(), KeyNews::Disabled, told_at(7), now));
        assert!(known.hear(key(), KeyNews::Disabled, told_at(9), now), "refused a second time");
        assert!(!known.hear(key(), KeyNews::Enabled, told_at(8), now), "enabled before that");
        assert_eq!(known.own_refusal(&key(), now), None, "it was only heard");
        assert_eq!(known.holding(now), vec![(key(), KeyNews::Disabled)]);
    }

    #[test]
    fn who_enables_a_key_does_not_listen_to_what_was_said_before() {
        let (mut known, now) = (Known::default(), Instant::now());
        let until = known.enabled(key(), now);
        assert!(!known.hear(key(), KeyNews::Disabled, until, now));
        assert!(known.hear(key(), KeyNews::Cooldown(SECOND), now + SECOND, now));
        assert_eq!(known.holding(now), vec![(key(), KeyNews::Cooldown(SECOND))]);
    }
}
