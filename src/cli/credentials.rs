//! Keys and tokens that the gateway makes itself: on first start, and when an administrator asks for one.

use super::audit::{by_hand, noted};
pub use crate::console::KEY_PREFIX;
use crate::console::random_secret;
use crate::domain::Secret;
use crate::domain::tenancy::KeySecret;
use crate::store::file::write_private;
use crate::wiring::state::{State, new_event, new_id, new_key, now_ms};
use serde_json::json;
use std::fmt;
use std::path::PathBuf;

const TOKEN_PREFIX: &str = "orbyt-admin-";
const FIRST_START_FILE: &str = "first-start-credentials.txt";

/// Why no credentials could be made; a text for the operator.
#[derive(Debug)]
pub struct Failed(String);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failed {}

/// A new gateway key: `sk-or-v1-` and 64 hex digits.
///
/// # Errors
/// When the system gives no random bytes.
pub fn new_secret() -> Result<Secret, Failed> {
    random(KEY_PREFIX)
}

/// A new administrator's token.
///
/// # Errors
/// When the system gives no random bytes.
pub fn new_admin_token() -> Result<Secret, Failed> {
    random(TOKEN_PREFIX)
}

fn random(prefix: &str) -> Result<Secret, Failed> {
    random_secret(prefix).map_err(Failed)
}

/// What is kept of a key that was made now.
pub fn kept(secret: &Secret, now: u64) -> KeySecret {
    KeySecret { hash: secret.hash(), shown: secret.masked(), created_at: now, expires_at: None }
}

/// What the first start has made.
#[derive(Debug)]
pub enum FirstStart {
    /// There are credentials already.
    NotNeeded,
    /// New ones, to be shown once, on a terminal.
    Show {
        /// The first gateway key.
        key: Secret,
        /// The administrator's token, unless there is one already.
        admin_token: Option<Secret>,
    },
    /// New ones, in this file that only its owner may read.
    Written(PathBuf),
}

/// Makes the first gateway key, and the administrator's token unless there is one. Of several gateways that start at once one makes them.
///
/// # Errors
/// When they cannot be made, shown or kept.
pub async fn first_start(state: &State, has_token: bool, on_terminal: bool) -> Result<FirstStart, Failed> {
    let key = new_secret()?;
    let told = |error: &dyn fmt::Display| Failed(format!("{error}; set ORBYT_API_KEYS or ORBYT_DATA_DIR"));
    let stored = state.database.admin_token().await.map_err(|error| told(&error))?;
    let admin_token = if has_token || stored.is_some() { None } else { Some(new_admin_token()?) };
    // What nobody can read any more must not be kept, so the readable copy comes first.
    let path = state.master_key_file().with_file_name(FIRST_START_FILE);
    if !on_terminal {
        write_private(&path, in_file(&key, admin_token.as_ref()).as_bytes())
            .map_err(|error| told(&format!("cannot write {}: {error}", path.display())))?;
    }
    let now = now_ms();
    let id = new_id("key");
    let row = new_key(id.clone(), "first", kept(&key, now), now);
    let is_first = state.database.begin_with(&[row], admin_token.as_ref().map(Secret::hash)).await;
    let is_first = is_first.map_err(|error| told(&error))?;
    if is_first {
        let details = json!({"key": "first", "admin_token": admin_token.is_some()});
        let event = new_event("gateway".to_owned(), "gateway", "first_start", &id, &details);
        state.database.append(&event).await.map_err(|error| told(&error))?;
    }
    match (is_first, on_terminal) {
        (true, true) => Ok(FirstStart::Show { key, admin_token }),
        (true, false) => Ok(FirstStart::Written(path)),
        (false, _) => {
            // Another gateway was first, and these are nobody's.
            let _ = std::fs::remove_file(&path);
            Ok(FirstStart::NotNeeded)
        }
    }
}

fn in_file(key: &Secret, admin_token: Option<&Secret>) -> String {
    let token = admin_token.map_or_else(String::new, |token| format!("admin token: {}\n", token.reveal()));
    format!(
        "Made on Orbyt's first start and kept nowhere else: note them, then delete this file.\n\nAPI key: {}\n{token}",
        key.reveal()
    )
}

/// Makes a new administrator's token; the old one is void.
///
/// # Errors
/// When it cannot be made or kept.
pub async fn reset_token(state: &State) -> Result<Secret, Failed> {
    let token = new_admin_token()?;
    let event = by_hand("admin.reset_token", "admin_token", None, &json!({}));
    let change = state.database.set_admin_token(token.hash());
    noted(&*state.database, event, change).await.map_err(|error| Failed(error.to_string()))?;
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Store;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    async fn state(data_dir: &Path) -> State {
        let store = Store { database_url: None, connections: 1, master_key: None, redis: None, node_name: None };
        State::open(data_dir, &store).await.unwrap()
    }

    #[tokio::test]
    async fn the_first_start_on_a_terminal_shows_what_it_keeps_only_as_hashes() {
        let directory = tempfile::tempdir().unwrap();
        let state = state(directory.path()).await;
        let seen = first_start(&state, false, true).await.unwrap();
        let FirstStart::Show { key, admin_token: Some(token) } = seen else { panic!("{seen:?}") };
        assert!(key.reveal().starts_with("sk-or-v1-") && key.reveal().len() == 9 + 64);
        let contents = state.look().await.unwrap().contents;
        assert_eq!(contents.keys[0].secrets[0].hash, key.hash());
        assert_eq!(contents.keys[0].secrets[0].shown, key.masked());
        assert_eq!(contents.admin_token, Some(token.hash()));
        assert!(!directory.path().join(FIRST_START_FILE).exists());
        assert!(matches!(first_start(&state, false, true).await.unwrap(), FirstStart::NotNeeded));
        assert_eq!(state.look().await.unwrap().contents, contents);
    }

    #[tokio::test]
    async fn a_service_finds_them_in_a_file_that_only_it_may_read() {
        let directory = tempfile::tempdir().unwrap();
        let state = state(directory.path()).await;
        let seen = first_start(&state, false, false).await.unwrap();
        let FirstStart::Written(path) = seen else { panic!("{seen:?}") };
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).unwrap();
        let contents = state.look().await.unwrap().contents;
        let key = text.lines().find_map(|line| line.strip_prefix("API key: ")).unwrap();
        assert_eq!(Secret::new(key).hash(), contents.keys[0].secrets[0].hash);
        let token = text.lines().find_map(|line| line.strip_prefix("admin token: ")).unwrap();
        assert_eq!(Some(Secret::new(token).hash()), contents.admin_token);
        assert!(matches!(first_start(&state, false, false).await.unwrap(), FirstStart::NotNeeded));
        assert!(!path.exists(), "credentials that nobody made were left");
    }

    #[tokio::test]
    async fn a_new_token_voids_the_old_one_and_leaves_the_keys() {
        let directory = tempfile::tempdir().unwrap();
        let state = state(directory.path()).await;
        first_start(&state, false, true).await.unwrap();
        let before = state.look().await.unwrap().contents;
        let token = reset_token(&state).await.unwrap();
        let after = state.look().await.unwrap().contents;
        assert_eq!(after.admin_token, Some(token.hash()));
        assert_ne!(after.admin_token, before.admin_token);
        assert_eq!(after.keys, before.keys);
    }
}
