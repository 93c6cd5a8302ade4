//! A value that must never be printed.

use sha2::{Digest, Sha256};
use std::fmt;
use zeroize::Zeroize;

/// A provider key, a gateway key or a token. It has no `Display`, its `Debug` shows nothing of it, and its memory
/// is wiped when it is dropped. The only way to the text is [`Secret::reveal`], so that every use can be found.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text that must not be shown.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, to be put into a header or hashed and nowhere else.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// SHA-256 of the text: what is compared and what is kept on disk instead of it.
    pub fn hash(&self) -> KeyHash {
        KeyHash::of(self.0.as_bytes())
    }

    /// The form in which people may see a key again: its prefix, three characters and the last three, as in
    /// `sk-or-v1-8f3•••9fb`. A short key shows nothing at all.
    pub fn masked(&self) -> String {
        const PREFIX: &str = "sk-or-v1-";
        let body = self.0.strip_prefix(PREFIX).unwrap_or(&self.0);
        if body.len() < 16 || !body.is_ascii() {
            return "•••".to_owned();
        }
        let prefix = if body.len() == self.0.len() { "" } else { PREFIX };
        format!("{prefix}{}•••{}", &body[..3], &body[body.len() - 3..])
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// SHA-256 of a gateway key. Comparison is in constant time.
#[derive(Clone, Copy)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// Hashes the bytes that a client sent as its key.
    pub fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// Its bytes, to tell the holders of keys apart.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads the hex form that [`KeyHash::to_hex`] wrote; `None` when it is not 64 hex digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// Its first bytes: by them a key is looked up.
    pub fn lookup(&self) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.0[..8]);
        bytes
    }

    /// The hash as 64 hex digits, to be kept in a file.
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }
}

impl PartialEq for KeyHash {
    fn eq(&self, other: &Self) -> bool {
        use subtle::ConstantTimeEq;
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for KeyHash {}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}…", hex::encode(&self.0[..4]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_the_text() {
        let secret = Secret::new("sk-canary-1234567890abcdef");
        assert!(!format!("{secret:?}").contains("canary"));
    }

    #[test]
    fn masks_to_prefix_and_ends() {
        let hex = format!("8f3{}9fb", "0".repeat(58));
        assert_eq!(Secret::new(format!("sk-or-v1-{hex}")).masked(), "sk-or-v1-8f3•••9fb");
        assert_eq!(Secret::new("short").masked(), "•••");
    }

    #[test]
    fn hashes_round_trip_through_hex() {
        let hash = Secret::new("a").hash();
        assert_eq!(KeyHash::from_hex(&hash.to_hex()), Some(hash));
        assert_ne!(hash, Secret::new("b").hash());
        assert_eq!(KeyHash::from_hex("xyz"), None);
    }
}
