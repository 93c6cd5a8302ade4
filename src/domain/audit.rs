//! The audit log: who did what when from where, each entry's hash over the one before it, so that nothing in it can be changed, moved or
//! taken out of its middle without being noticed.
//!
//! Its end can be cut off unnoticed; who keeps the hash of an entry somewhere else (`orbyt audit verify` prints the last) can tell that too.

use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;

/// What is to be written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    /// Unix milliseconds.
    pub at: u64,
    /// The organisation that it is about, if it is about one.
    pub org: Option<Arc<str>>,
    /// Who: a person, or the gateway itself.
    pub actor: String,
    /// From where.
    pub origin: String,
    /// What, as `key.create`.
    pub action: String,
    /// Whom or what it was done to: an id, or a name.
    pub target: String,
    /// The rest, as JSON; no secret.
    pub details: String,
}

/// What stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its place, from 1 without gaps.
    pub seq: u64,
    /// What happened.
    pub event: AuditEvent,
    /// 64 hex digits, over all of this and the hash before it.
    pub hash: String,
}

/// Where the chain stands: the place and the hash of the last entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its place; 0 before the first.
    pub seq: u64,
    /// Its hash; 64 zeros before the first.
    pub hash: String,
}

impl Default for Head {
    fn default() -> Self {
        Self { seq: 0, hash: "0".repeat(64) }
    }
}

/// What is wrong with a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// An entry should be there and is not.
    Missing(u64),
    /// An entry, or the one before it, is not what was written.
    Altered(u64),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(seq) => write!(f, "entry {seq} is missing"),
            Self::Altered(seq) => write!(f, "entry {seq}, or the one before it, is not what was written"),
        }
    }
}

impl Head {
    /// The entry of an event that comes next.
    pub fn next(&self, event: AuditEvent) -> AuditEntry {
        let seq = self.seq.saturating_add(1);
        AuditEntry { seq, hash: self.seal(seq, &event), event }
    }

    /// Goes on to an entry that was read.
    ///
    /// # Errors
    /// When it is not the one that belongs there.
    pub fn check(&self, entry: &AuditEntry) -> Result<Self, Broken> {
        let seq = self.seq.saturating_add(1);
        if entry.seq != seq {
            return Err(Broken::Missing(seq));
        }
        if entry.hash != self.seal(seq, &entry.event) {
            return Err(Broken::Altered(seq));
        }
        Ok(Self { seq, hash: entry.hash.clone() })
    }

    /// Each field stands behind its length, so that no two entries are hashed alike.
    fn seal(&self, seq: u64, event: &AuditEvent) -> String {
        let AuditEvent { at, org, actor, origin, action, target, details } = event;
        let mut hash = Sha256::new();
        let mut add = |field: &[u8]| {
            hash.update((field.len() as u64).to_be_bytes());
            hash.update(field);
        };
        add(self.hash.as_bytes());
        add(&seq.to_be_bytes());
        add(&at.to_be_bytes());
        // No organisation is not the same as one without a name.
        add(&[u8::from(org.is_some())]);
        for field in [org.as_deref().unwrap_or_default(), actor, origin, action, target, details] {
            add(field.as_bytes());
        }
        hex::encode(hash.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(target: &str) -> AuditEvent {
        AuditEvent {
            at: 1,
            org: None,
            actor: "ada".into(),
            origin: "here".into(),
            action: "key.create".into(),
            target: target.into(),
            details: "{}".into(),
        }
    }

    fn chain() -> Vec<AuditEntry> {
        let mut head = Head::default();
        let next = |target: &str| {
            let entry = head.next(event(target));
            head = head.check(&entry).unwrap();
            entry
        };
        ["a", "b", "c"].map(next).into()
    }

    fn check(chain: &[AuditEntry]) -> Result<Head, Broken> {
        chain.iter().try_fold(Head::default(), |head, entry| head.check(entry))
    }

    #[test]
    fn a_chain_holds_until_something_in_it_is_touched() {
        assert_eq!(check(&chain()).map(|head| head.seq), Ok(3));
        assert_eq!(check(&[]), Ok(Head::default()));
        type Touch = fn(&mut Vec<AuditEntry>);
        let touches: [(Touch, Broken); 8] = [
            (|chain| chain[1].event.actor.push('x'), Broken::Altered(2)),
            (|chain| chain[1].event.at += 1, Broken::Altered(2)),
            (|chain| chain[1].event.org = Some("".into()), Broken::Altered(2)),
            (|chain| (chain[1].event.actor, chain[1].event.origin) = ("adah".into(), "ere".into()), Broken::Altered(2)),
            (|chain| drop(chain.remove(1)), Broken::Missing(2)),
            (|chain| drop(chain.remove(0)), Broken::Missing(1)),
            (|chain| chain.swap(1, 2), Broken::Missing(2)),
            // Sealed anew, but not what came after.
            (|chain| chain[1] = Head { seq: 1, hash: chain[0].hash.clone() }.next(event("x")), Broken::Altered(3)),
        ];
        for (touch, broken) in touches {
            let mut chain = chain();
            touch(&mut chain);
            assert_eq!(check(&chain), Err(broken));
        }
    }
}
