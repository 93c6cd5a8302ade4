//! Passwords: hashed with Argon2id, and checked so that an unknown address takes as long as a wrong password.

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use rand::TryRngCore;
use rand::rngs::OsRng;
use std::sync::{Arc, OnceLock};
use tokio::sync::Semaphore;

/// The fewest characters: OWASP and NIST agree on no less than 8 where nothing else protects, and length is what counts.
pub const SHORTEST: usize = 10;
/// The most bytes, so that nobody can have megabytes hashed.
pub const LONGEST: usize = 256;

/// Argon2id with 19 MiB, two passes, one lane: the first choice of OWASP's Password Storage Cheat Sheet.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// How many are hashed at once, and so how much memory and how many cores guesses can take.
const AT_ONCE: usize = 2;
/// How many may be checked or wait for that: some two seconds' work.
const MOST_WAITING: usize = 64;

/// Why there is no hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoHash {
    /// Fewer than [`SHORTEST`] characters, or more than [`LONGEST`] bytes.
    Length,
    /// The system gives no random bytes, or no thread.
    System,
}

/// Hashes and checks passwords, on threads beside the runtime.
pub(super) struct Passwords {
    permits: Arc<Semaphore>,
    /// Those that are being checked or wait for it.
    waiting: Semaphore,
}

impl Default for Passwords {
    fn default() -> Self {
        Self { permits: Arc::new(Semaphore::new(AT_ONCE)), waiting: Semaphore::new(MOST_WAITING) }
    }
}

impl Passwords {
    /// Whether the password is the one that was hashed. Without a hash it takes as long, and is not. `None`: too many are waiting, nobody looked.
    pub async fn check(&self, password: String, hash: Option<String>) -> Option<bool> {
        let _place = self.waiting.try_acquire().ok()?;
        let _permit = self.permits.acquire().await.ok()?;
        Some(tokio::task::spawn_blocking(move || is_right(&password, hash.as_deref())).await.unwrap_or(false))
    }

    /// The hash of a new password.
    pub async fn hash(&self, password: String) -> Result<String, NoHash> {
        let _permit = self.permits.acquire().await.map_err(|_| NoHash::System)?;
        tokio::task::spawn_blocking(move || hash(&password)).await.map_err(|_| NoHash::System)?
    }
}

fn hasher() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).unwrap_or(Params::DEFAULT);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// Hashes a password with a salt of its own, in PHC form.
///
/// # Errors
/// When it is too short or too long, or the system gives no random bytes.
pub fn hash(password: &str) -> Result<String, NoHash> {
    if password.chars().count() < SHORTEST || password.len() > LONGEST {
        return Err(NoHash::Length);
    }
    let mut salt = [0; 16];
    OsRng.try_fill_bytes(&mut salt).map_err(|_| NoHash::System)?;
    let salt = SaltString::encode_b64(&salt).map_err(|_| NoHash::System)?;
    let hash = hasher().hash_password(password.as_bytes(), &salt).map_err(|_| NoHash::System)?;
    Ok(hash.to_string())
}

fn is_right(password: &str, hash: Option<&str>) -> bool {
    /// Nobody's: what is checked in the place of a hash that is not there.
    static NOBODYS: OnceLock<Option<String>> = OnceLock::new();
    let nobodys = || NOBODYS.get_or_init(|| self::hash("nobody has this password").ok()).as_deref();
    let Some(known) = hash.or_else(nobodys) else { return false };
    let Ok(known) = PasswordHash::new(known) else { return false };
    let matches = password.len() <= LONGEST && hasher().verify_password(password.as_bytes(), &known).is_ok();
    matches && hash.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_right_password_alone_is_right() {
        let passwords = Passwords::default();
        let hash = passwords.hash("correct horse battery".to_owned()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        let is_right = async |password: &str, hash: Option<&str>| {
            passwords.check(password.to_owned(), hash.map(str::to_owned)).await.unwrap()
        };
        assert!(is_right("correct horse battery", Some(&hash)).await);
        assert!(!is_right("correct horse batter", Some(&hash)).await);
        assert!(!is_right("nobody has this password", None).await);
        assert!(!is_right("anything", Some("$argon2id$damaged")).await);
    }

    #[tokio::test]
    async fn who_comes_when_too_many_wait_is_sent_away() {
        let passwords = Passwords::default();
        let _all = passwords.waiting.acquire_many(MOST_WAITING as u32).await.unwrap();
        assert_eq!(passwords.check("anything".to_owned(), None).await, None);
    }

    #[test]
    fn too_short_and_too_long_are_refused() {
        assert_eq!(hash("123456789"), Err(NoHash::Length));
        assert_eq!(hash(&"x".repeat(LONGEST + 1)), Err(NoHash::Length));
    }
}
