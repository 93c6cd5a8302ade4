//! Keys and tokens that the gateway makes itself: on first start, and when an administrator asks for a new one.

use crate::domain::Secret;
use crate::store::file::write_private;
use crate::store::ports::credentials::{Credentials, StoredCredentials, StoredKey};
use rand::TryRngCore;
use rand::rngs::OsRng;
use std::fmt;
use std::path::{Path, PathBuf};

/// What begins a gateway key.
const KEY_PREFIX: &str = "sk-or-v1-";
/// What begins an administrator's token.
const TOKEN_PREFIX: &str = "orbyt-admin-";
/// Where the credentials of the first start are left when nobody is looking.
const FIRST_START_FILE: &str = "first-start-credentials.txt";

/// Why there are no credentials.
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
/// When the system has no randomness to give.
pub fn new_key() -> Result<Secret, Failed> {
    random(KEY_PREFIX)
}

/// A new administrator's token: `orbyt-admin-` and 64 hex digits.
///
/// # Errors
/// When the system has no randomness to give.
pub fn new_admin_token() -> Result<Secret, Failed> {
    random(TOKEN_PREFIX)
}

fn random(prefix: &str) -> Result<Secret, Failed> {
    let mut bytes = [0; 32];
    OsRng.try_fill_bytes(&mut bytes).map_err(|error| Failed(format!("the system gives no random bytes: {error}")))?;
    Ok(Secret::new(format!("{prefix}{}", hex::encode(bytes))))
}

/// What the configuration brings already.
#[derive(Clone, Copy, Debug)]
pub struct Configured {
    /// It has gateway keys.
    pub keys: bool,
    /// It has an administrator's token.
    pub admin_token: bool,
}

/// Where credentials that were just made can be seen, this once.
#[derive(Debug)]
pub enum FirstStart {
    /// There were credentials already.
    NotNeeded,
    /// Show them on the terminal.
    Show {
        /// The first gateway key.
        key: Secret,
        /// The administrator's token, unless the configuration has one.
        admin_token: Option<Secret>,
    },
    /// They are in this file, which only its owner may read: its path goes to the log.
    Written(PathBuf),
}

/// Makes the first gateway key and the administrator's token when the store is empty and the configuration brings no key.
/// Only hashes are kept. Returns what is stored now, and where the new credentials can be seen: on a terminal they are
/// the caller's to show, otherwise they are in a file.
///
/// # Errors
/// When the store is damaged or the data directory cannot be written: then nothing was made.
pub fn first_start(
    store: &dyn Credentials,
    data_dir: &Path,
    configured: Configured,
    on_terminal: bool,
) -> Result<(StoredCredentials, FirstStart), Failed> {
    let mut stored = store.load().map_err(|error| Failed(error.to_string()))?;
    if configured.keys || !stored.keys.is_empty() {
        return Ok((stored, FirstStart::NotNeeded));
    }
    let key = new_key()?;
    stored.keys.push(StoredKey { name: key.masked().into(), hash: key.hash() });
    let has_token = configured.admin_token || stored.admin_token.is_some();
    let admin_token = if has_token { None } else { Some(new_admin_token()?) };
    stored.admin_token = admin_token.as_ref().map(Secret::hash).or(stored.admin_token);
    // What nobody can read any more must not be kept, so the readable copy comes first.
    let seen = if on_terminal {
        FirstStart::Show { key, admin_token }
    } else {
        let path = data_dir.join(FIRST_START_FILE);
        write_private(&path, in_file(&key, admin_token.as_ref()).as_bytes()).map_err(|error| {
            Failed(format!("cannot write {}: {error}; set ORBYT_API_KEYS or ORBYT_DATA_DIR", path.display()))
        })?;
        FirstStart::Written(path)
    };
    store.save(&stored).map_err(|error| Failed(format!("{error}; set ORBYT_API_KEYS or ORBYT_DATA_DIR")))?;
    Ok((stored, seen))
}

fn in_file(key: &Secret, admin_token: Option<&Secret>) -> String {
    let token = admin_token.map_or_else(String::new, |token| format!("admin token: {}\n", token.reveal()));
    format!(
        "Made on Orbyt's first start and kept nowhere else: note them, then delete this file.\n\nAPI key: {}\n{token}",
        key.reveal()
    )
}

/// Makes a new administrator's token, which replaces the old one.
///
/// # Errors
/// When the store is damaged or cannot be written: then the old token stays.
pub fn reset_token(store: &dyn Credentials) -> Result<Secret, Failed> {
    let mut stored = store.load().map_err(|error| Failed(error.to_string()))?;
    let token = new_admin_token()?;
    stored.admin_token = Some(token.hash());
    store.save(&stored).map_err(|error| Failed(error.to_string()))?;
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::file::CredentialsFile;
    use std::os::unix::fs::PermissionsExt;

    const NOTHING: Configured = Configured { keys: false, admin_token: false };

    #[test]
    fn the_first_start_on_a_terminal_shows_what_it_keeps_only_as_hashes() {
        let directory = tempfile::tempdir().unwrap();
        let store = CredentialsFile::new(directory.path());
        let (stored, seen) = first_start(&store, directory.path(), NOTHING, true).unwrap();
        let FirstStart::Show { key, admin_token: Some(token) } = seen else { panic!("{seen:?}") };
        assert!(key.reveal().starts_with("sk-or-v1-") && key.reveal().len() == 9 + 64);
        assert_eq!(stored.keys[0].hash, key.hash());
        assert_eq!(&*stored.keys[0].name, key.masked());
        assert_eq!(stored.admin_token, Some(token.hash()));
        let kept = std::fs::read_to_string(store.path()).unwrap();
        assert!(!kept.contains(key.reveal()) && !kept.contains(token.reveal()));
        assert!(!directory.path().join(FIRST_START_FILE).exists());
        let (again, seen) = first_start(&store, directory.path(), NOTHING, true).unwrap();
        assert!(matches!(seen, FirstStart::NotNeeded));
        assert_eq!(again, stored);
    }

    #[test]
    fn a_service_finds_them_in_a_file_that_only_it_may_read() {
        let directory = tempfile::tempdir().unwrap();
        let store = CredentialsFile::new(directory.path());
        let (stored, seen) = first_start(&store, directory.path(), NOTHING, false).unwrap();
        let FirstStart::Written(path) = seen else { panic!("{seen:?}") };
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).unwrap();
        let key = text.lines().find_map(|line| line.strip_prefix("API key: ")).unwrap();
        assert_eq!(Secret::new(key).hash(), stored.keys[0].hash);
        let token = text.lines().find_map(|line| line.strip_prefix("admin token: ")).unwrap();
        assert_eq!(Some(Secret::new(token).hash()), stored.admin_token);
    }

    #[test]
    fn configured_credentials_are_not_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let store = CredentialsFile::new(&directory.path().join("data"));
        let with_key = Configured { keys: true, admin_token: false };
        let (stored, seen) = first_start(&store, directory.path(), with_key, false).unwrap();
        assert!(matches!(seen, FirstStart::NotNeeded));
        assert_eq!(stored, StoredCredentials::default());
        assert!(!directory.path().join("data").exists(), "nothing is written");
        let with_token = Configured { keys: false, admin_token: true };
        let (stored, seen) = first_start(&store, directory.path(), with_token, true).unwrap();
        assert!(matches!(seen, FirstStart::Show { admin_token: None, .. }));
        assert_eq!(stored.admin_token, None);
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_an_error_and_nothing_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let blocker = directory.path().join("file");
        std::fs::write(&blocker, "").unwrap();
        let store = CredentialsFile::new(&blocker);
        for on_terminal in [true, false] {
            let error = first_start(&store, &blocker, NOTHING, on_terminal).unwrap_err();
            assert!(error.to_string().contains(&*blocker.display().to_string()), "{error}");
        }
    }

    #[test]
    fn a_new_token_voids_the_old_one_and_leaves_the_keys() {
        let directory = tempfile::tempdir().unwrap();
        let store = CredentialsFile::new(directory.path());
        let (before, _) = first_start(&store, directory.path(), NOTHING, true).unwrap();
        let token = reset_token(&store).unwrap();
        let after = store.load().unwrap();
        assert_eq!(after.admin_token, Some(token.hash()));
        assert_ne!(after.admin_token, before.admin_token);
        assert_eq!(after.keys, before.keys);
    }
}
