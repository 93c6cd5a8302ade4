//! The gateway's own keys, as hashes, and who they belong to.

use crate::domain::secret::KeyHash;
use crate::domain::{Principal, Secret};
use std::sync::Arc;

/// The keys that clients may present.
#[derive(Clone, Debug, Default)]
pub struct GatewayKeys {
    entries: Vec<(KeyHash, Principal)>,
    /// The keys that the configuration gives in clear, kept for redaction alone.
    clear: Vec<Secret>,
}

impl GatewayKeys {
    /// Adds a key of which only the hash is known.
    pub fn add(&mut self, name: Arc<str>, hash: KeyHash) {
        self.entries.push((hash, Principal { key_name: name, key_hash: hash }));
    }

    /// Adds a key of the configuration that has no name there. Its name is its masked form, or its number when it is too short to show any of it.
    pub fn add_clear(&mut self, secret: Secret) {
        let masked = secret.masked();
        let hidden = masked.chars().all(|c| c == '•');
        let number = self.entries.len() + 1;
        // Limits go by the name, so no two keys share one.
        let taken = self.entries.iter().any(|(_, principal)| *principal.key_name == *masked);
        let name = match (hidden, taken) {
            (true, _) => format!("key_{number:02}"),
            (false, true) => format!("{masked}_{number:02}"),
            (false, false) => masked,
        };
        self.add(name.into(), secret.hash());
        self.clear.push(secret);
    }

    /// Adds a key of the configuration under the name that its operator has given it.
    pub fn add_named(&mut self, name: &str, secret: Secret) {
        self.add(name.into(), secret.hash());
        self.clear.push(secret);
    }

    /// The names of all keys, as in the log.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(_, principal)| &*principal.key_name)
    }

    /// The holder of a presented key. Every entry is compared, each in constant time, so that the time taken says
    /// nothing about a key.
    pub fn find(&self, presented: &str) -> Option<Principal> {
        let hash = KeyHash::of(presented.as_bytes());
        let mut found = None;
        for (entry, principal) in &self.entries {
            if *entry == hash {
                found = Some(principal);
            }
        }
        found.cloned()
    }

    /// Whether there is no key at all, so that nobody could be let in.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The keys that are known in clear.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.clear.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_holder_and_nobody_else() {
        let mut keys = GatewayKeys::default();
        assert!(keys.is_empty());
        keys.add("first".into(), Secret::new("sk-or-v1-aaaa").hash());
        keys.add_clear(Secret::new("x"));
        keys.add_clear(Secret::new("team-a-0123456789-key"));
        let name = |key: &str| keys.find(key).map(|principal| principal.key_name.to_string());
        assert_eq!(name("sk-or-v1-aaaa").as_deref(), Some("first"));
        assert_eq!(name("x").as_deref(), Some("key_02"));
        assert_eq!(name("team-a-0123456789-key").as_deref(), Some("tea•••key"));
        assert_eq!(name(""), None);
        assert_eq!(name("sk-or-v1-aaab"), None);
        assert_eq!(keys.len(), 3);
    }

    #[test]
    fn debug_shows_no_key() {
        let mut keys = GatewayKeys::default();
        keys.add_clear(Secret::new("canary-canary-canary"));
        assert!(!format!("{keys:?}").contains("canary"));
    }
}
