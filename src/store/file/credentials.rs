//! Credentials as a JSON file.
//!
//! ```json
//! {"version": 1, "keys": [{"name": "sk-or-v1-8f3•••9fb", "sha256": "…"}], "admin_token_sha256": "…"}
//! ```

use super::write_private;
use crate::domain::secret::KeyHash;
use crate::store::ports::credentials::{Credentials, CredentialsError, StoredCredentials, StoredKey};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// `credentials.json` in the data directory.
pub struct CredentialsFile {
    path: PathBuf,
}

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    version: u32,
    keys: Vec<Key>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    admin_token_sha256: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    name: String,
    sha256: String,
}

impl CredentialsFile {
    /// The file in that data directory. Nothing is read or made yet.
    pub fn new(data_dir: &Path) -> Self {
        Self { path: data_dir.join("credentials.json") }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn corrupt(&self, why: impl Into<String>) -> CredentialsError {
        CredentialsError::Corrupt { place: self.path.display().to_string(), why: why.into() }
    }

    fn hash(&self, hex: &str) -> Result<KeyHash, CredentialsError> {
        KeyHash::from_hex(hex).ok_or_else(|| self.corrupt("a hash is not 64 hex digits"))
    }
}

impl Credentials for CredentialsFile {
    fn load(&self) -> Result<StoredCredentials, CredentialsError> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(StoredCredentials::default()),
            Err(error) => return Err(CredentialsError::Io { what: format!("read {}", self.path.display()), error }),
        };
        let contents: Contents = serde_json::from_slice(&bytes).map_err(|error| self.corrupt(error.to_string()))?;
        if contents.version != VERSION {
            return Err(self.corrupt(format!("its version is {}, not {VERSION}", contents.version)));
        }
        let key = |key: Key| Ok(StoredKey { name: key.name.into(), hash: self.hash(&key.sha256)? });
        Ok(StoredCredentials {
            keys: contents.keys.into_iter().map(key).collect::<Result<_, _>>()?,
            admin_token: contents.admin_token_sha256.map(|hex| self.hash(&hex)).transpose()?,
        })
    }

    fn save(&self, credentials: &StoredCredentials) -> Result<(), CredentialsError> {
        let key = |key: &StoredKey| Key { name: key.name.to_string(), sha256: key.hash.to_hex() };
        let contents = Contents {
            version: VERSION,
            keys: credentials.keys.iter().map(key).collect(),
            admin_token_sha256: credentials.admin_token.map(|hash| hash.to_hex()),
        };
        let failed = |error| CredentialsError::Io { what: format!("write {}", self.path.display()), error };
        let mut text = serde_json::to_vec_pretty(&contents).map_err(|error| failed(error.into()))?;
        text.push(b'\n');
        write_private(&self.path, &text).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Secret;
    use std::os::unix::fs::PermissionsExt;

    fn some() -> StoredCredentials {
        let key = StoredKey { name: "sk-or-v1-abc•••def".into(), hash: Secret::new("a").hash() };
        StoredCredentials { keys: vec![key], admin_token: Some(Secret::new("b").hash()) }
    }

    #[test]
    fn what_is_saved_is_loaded_and_only_the_owner_may_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = CredentialsFile::new(&directory.path().join("deep/er"));
        assert_eq!(file.load().unwrap(), StoredCredentials::default());
        file.save(&some()).unwrap();
        assert_eq!(file.load().unwrap(), some());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(file.path()), 0o600);
        assert_eq!(mode(file.path().parent().unwrap()), 0o700);
        let others: Vec<_> = std::fs::read_dir(file.path().parent().unwrap()).unwrap().collect();
        assert_eq!(others.len(), 1, "no temporary file is left");
    }

    #[test]
    fn a_damaged_file_is_an_error_and_stays_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let file = CredentialsFile::new(directory.path());
        let short = r#"{"version":1,"keys":[{"name":"x","sha256":"ab"}]}"#;
        for text in ["", "{", "[]", r#"{"version":2,"keys":[]}"#, short, r#"{"version":1,"keys":[],"more":1}"#] {
            std::fs::write(file.path(), text).unwrap();
            let error = file.load().unwrap_err();
            assert!(matches!(error, CredentialsError::Corrupt { .. }), "{text}");
            assert!(error.to_string().contains("credentials.json is damaged"), "{error}");
            assert_eq!(std::fs::read_to_string(file.path()).unwrap(), text);
        }
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_an_error_that_names_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let blocker = directory.path().join("file");
        std::fs::write(&blocker, "").unwrap();
        let error = CredentialsFile::new(&blocker).save(&some()).unwrap_err();
        assert!(error.to_string().contains("credentials.json"), "{error}");
    }
}
