//! Master keys: 32 bytes in base64. The first seals, all of them open, so that keys can be changed while the gateway runs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::TryRngCore;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};
use std::fmt;
use zeroize::{Zeroize, Zeroizing};

const BYTES: usize = 32;

/// A master key. Its memory is wiped when it is dropped, and its `Debug` shows its id alone.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey([u8; BYTES]);

impl MasterKey {
    /// A new one.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn random() -> Result<Self, super::VaultError> {
        let mut key = Self([0; BYTES]);
        OsRng.try_fill_bytes(&mut key.0).map_err(|_| super::VaultError::NoRandomness)?;
        Ok(key)
    }

    /// One of these bytes.
    pub fn from_bytes(bytes: [u8; BYTES]) -> Self {
        Self(bytes)
    }

    /// As it is written.
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.0))
    }

    /// By what an envelope names it: 8 hex digits of a hash.
    pub fn id(&self) -> String {
        let mut hash = Sha256::new_with_prefix(b"orbyt master key id");
        hash.update(self.0);
        hex::encode(&hash.finalize()[..4])
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for MasterKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "master key {}", self.id())
    }
}

/// The keys at hand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MasterKeys(Vec<MasterKey>);

impl MasterKeys {
    /// Reads keys with commas or white space between them.
    ///
    /// # Errors
    /// What is wrong, without repeating any of it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|part| !part.is_empty());
        let keys = parts.map(|part| {
            let bytes = STANDARD.decode(part).map(Zeroizing::new).map_err(|_| "is not base64".to_owned())?;
            let bytes: &[u8; BYTES] = bytes.as_slice().try_into().map_err(|_| {
                format!("has {} bytes instead of {BYTES}: make one with `openssl rand -base64 32`", bytes.len())
            })?;
            Ok(MasterKey(*bytes))
        });
        let keys: Vec<_> = keys.collect::<Result<_, String>>()?;
        if keys.is_empty() { Err("is empty".to_owned()) } else { Ok(Self(keys)) }
    }

    /// These keys with another before them, which seals from now on.
    pub fn with_new(&self, key: MasterKey) -> Self {
        Self(std::iter::once(key).chain(self.0.iter().cloned()).collect())
    }

    /// The same keys, with the one of an id first; `None` when it is not among them.
    pub fn led_by(&self, id: &str) -> Option<Self> {
        let first = self.by_id(id)?;
        let rest = self.0.iter().filter(|key| *key != first);
        Some(Self(std::iter::once(first).chain(rest).cloned().collect()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first alone.
    pub fn without_old(&self) -> Self {
        Self(self.0.iter().take(1).cloned().collect())
    }

    /// The one that seals.
    pub fn current(&self) -> Option<&MasterKey> {
        self.0.first()
    }

    /// The one of an id.
    pub fn by_id(&self, id: &str) -> Option<&MasterKey> {
        self.0.iter().find(|key| key.id() == id)
    }

    /// As they are written: one a line.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::new());
        for key in &self.0 {
            text.push_str(&key.to_base64());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_are_read_and_the_first_seals() {
        let (a, b) = (MasterKey::from_bytes([1; 32]), MasterKey::from_bytes([2; 32]));
        let keys = MasterKeys::parse(&format!("{}, {}\n", *a.to_base64(), *b.to_base64())).unwrap();
        assert_eq!((keys.current(), keys.by_id(&b.id())), (Some(&a), Some(&b)));
        assert_eq!(MasterKeys::parse(&keys.to_text()).unwrap(), keys);
        assert_eq!(keys.without_old().by_id(&b.id()), None);
        assert_eq!(keys.without_old().with_new(b.clone()).current(), Some(&b));
        let turned = keys.led_by(&b.id()).unwrap();
        assert_eq!((turned.current(), turned.by_id(&a.id()), turned.len()), (Some(&b), Some(&a), 2));
        assert_eq!(keys.without_old().led_by(&b.id()), None);
        assert_ne!(MasterKey::random().unwrap(), MasterKey::random().unwrap());
    }

    #[test]
    fn what_is_no_key_is_named_and_not_repeated() {
        for (text, says) in
            [("", "is empty"), (" ,", "is empty"), ("canary!", "is not base64"), ("YWJj", "has 3 bytes")]
        {
            let error = MasterKeys::parse(text).unwrap_err();
            assert!(error.contains(says) && !error.contains("canary"), "{error}");
        }
        let debug = format!("{:?}", MasterKey::from_bytes([7; 32]));
        assert_eq!(debug, format!("master key {}", MasterKey::from_bytes([7; 32]).id()));
    }
}
