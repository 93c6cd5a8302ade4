//! Secrets at rest: each in an envelope of its own, AES-256-GCM under a master key that is kept elsewhere.
//!
//! An envelope is `v1.<id of the master key>.<nonce>.<ciphertext and tag>`, the last two in URL-safe base64 without padding. The nonce is
//! 96 random bits; the associated data is the identity of the row, so that an envelope put into another row does not open.

mod master_key;

pub use master_key::{MasterKey, MasterKeys};

use crate::domain::Secret;
use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRngCore;
use rand::rngs::OsRng;
use std::fmt;
use zeroize::{Zeroize, Zeroizing};

const VERSION: &str = "v1";
const NONCE_BYTES: usize = 12;

/// Why an envelope was not made or did not open. Each names the row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VaultError {
    /// The system gives no random bytes.
    NoRandomness,
    /// No master key was given.
    NoMasterKey,
    /// What is there is no envelope.
    NotAnEnvelope {
        /// The row.
        row: String,
    },
    /// It was sealed with a master key that is not at hand.
    OtherMasterKey {
        /// The row.
        row: String,
        /// The id of the key that it was sealed with.
        id: String,
    },
    /// It was changed, or belongs to another row.
    Tampered {
        /// The row.
        row: String,
    },
}

impl fmt::Display for VaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRandomness => f.write_str("the system gives no random bytes"),
            Self::NoMasterKey => {
                f.write_str("there is no master key to seal with: set ORBYT_MASTER_KEY, or put back master.key")
            }
            Self::NotAnEnvelope { row } => write!(f, "{row} holds no envelope: it is damaged"),
            Self::OtherMasterKey { row, id } => {
                write!(f, "{row} was sealed with the master key {id}, which is not given (ORBYT_MASTER_KEY)")
            }
            Self::Tampered { row } => write!(f, "{row} does not open: it was changed, or taken from another row"),
        }
    }
}

impl std::error::Error for VaultError {}

/// Seals a secret for a row with the first of the keys.
///
/// # Errors
/// Without a master key or random bytes.
pub fn seal(keys: &MasterKeys, row: &str, secret: &Secret) -> Result<String, VaultError> {
    let key = keys.current().ok_or(VaultError::NoMasterKey)?;
    let mut nonce = [0; NONCE_BYTES];
    OsRng.try_fill_bytes(&mut nonce).map_err(|_| VaultError::NoRandomness)?;
    let payload = Payload { msg: secret.reveal().as_bytes(), aad: row.as_bytes() };
    // Only a text of many gigabytes fails.
    let sealed = cipher(key)
        .encrypt(Nonce::from_slice(&nonce), payload)
        .map_err(|_| VaultError::NotAnEnvelope { row: row.to_owned() })?;
    Ok(format!("{VERSION}.{}.{}.{}", key.id(), URL_SAFE_NO_PAD.encode(nonce), URL_SAFE_NO_PAD.encode(sealed)))
}

/// Opens the envelope of a row.
///
/// # Errors
/// When it was sealed with another key, or is not what was sealed for this row.
pub fn open(keys: &MasterKeys, row: &str, envelope: &str) -> Result<Secret, VaultError> {
    let damaged = || VaultError::NotAnEnvelope { row: row.to_owned() };
    let parts: Vec<&str> = envelope.split('.').collect();
    let [VERSION, id, nonce, sealed] = parts[..] else { return Err(damaged()) };
    let nonce = URL_SAFE_NO_PAD.decode(nonce).map_err(|_| damaged())?;
    let sealed = URL_SAFE_NO_PAD.decode(sealed).map_err(|_| damaged())?;
    if nonce.len() != NONCE_BYTES {
        return Err(damaged());
    }
    let other = || VaultError::OtherMasterKey { row: row.to_owned(), id: id.chars().take(16).collect() };
    let key = keys.by_id(id).ok_or_else(other)?;
    let tampered = || VaultError::Tampered { row: row.to_owned() };
    let payload = Payload { msg: &sealed, aad: row.as_bytes() };
    let opened = Zeroizing::new(cipher(key).decrypt(Nonce::from_slice(&nonce), payload).map_err(|_| tampered())?);
    let text = std::str::from_utf8(&opened).map_err(|_| tampered())?;
    Ok(Secret::new(text))
}

/// The id of the master key that an envelope names.
pub fn sealed_with(envelope: &str) -> Option<&str> {
    envelope.split('.').nth(1)
}

fn cipher(key: &MasterKey) -> Aes256Gcm {
    let mut bytes = aes_gcm::Key::<Aes256Gcm>::clone_from_slice(key.bytes());
    let cipher = Aes256Gcm::new(&bytes);
    bytes.as_mut_slice().zeroize();
    cipher
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(texts: &[u8]) -> MasterKeys {
        let list: Vec<String> =
            texts.iter().map(|byte| MasterKey::from_bytes([*byte; 32]).to_base64().to_string()).collect();
        MasterKeys::parse(&list.join(",")).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_for_its_row_and_its_key_alone() {
        let secret = Secret::new("sk-canary");
        let envelope = seal(&keys(&[1]), "provider_keys/a", &secret).unwrap();
        assert!(!envelope.contains("canary"));
        assert_eq!(open(&keys(&[1]), "provider_keys/a", &envelope), Ok(secret.clone()));
        assert_eq!(open(&keys(&[2, 1]), "provider_keys/a", &envelope), Ok(secret.clone()), "an older key opens too");
        assert_ne!(seal(&keys(&[1]), "provider_keys/a", &secret).unwrap(), envelope, "the nonce is new each time");
        let wrong_row = open(&keys(&[1]), "provider_keys/b", &envelope).unwrap_err();
        assert_eq!(wrong_row, VaultError::Tampered { row: "provider_keys/b".into() });
        let wrong_key = open(&keys(&[2]), "provider_keys/a", &envelope).unwrap_err();
        assert!(wrong_key.to_string().starts_with("provider_keys/a was sealed with the master key "), "{wrong_key}");
        assert_eq!(seal(&MasterKeys::default(), "r", &secret), Err(VaultError::NoMasterKey));
    }

    #[test]
    fn every_changed_character_is_noticed() {
        let envelope = seal(&keys(&[1]), "row", &Secret::new("s")).unwrap();
        for at in 0..envelope.len() {
            for other in ["A", "b", ".", "é"] {
                let mut changed = envelope.clone();
                changed.replace_range(at..=at, other);
                if changed != envelope {
                    let error = open(&keys(&[1]), "row", &changed).unwrap_err();
                    assert!(error.to_string().contains("row"), "{error}");
                }
            }
            assert!(open(&keys(&[1]), "row", &envelope[..at]).is_err());
        }
    }

    #[test]
    fn two_texts_that_say_the_same_bits_are_no_way_around() {
        // Base64 with bits left over could be written in several ways; only one is taken.
        let envelope = seal(&keys(&[1]), "row", &Secret::new("ab")).unwrap();
        let last = envelope.chars().last().unwrap();
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let open_ones = alphabet.chars().filter(|other| {
            let changed = format!("{}{other}", &envelope[..envelope.len() - last.len_utf8()]);
            open(&keys(&[1]), "row", &changed).is_ok()
        });
        assert_eq!(open_ones.collect::<String>(), last.to_string());
    }
}
