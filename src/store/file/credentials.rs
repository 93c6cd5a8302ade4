//! `credentials.json`, in which version 0.1 kept what it had made on first start. It is read once and moved out of the way; the database has
//! it from then on.
//!
//! ```json
//! {"version": 1, "keys": [{"name": "sk-or-v1-8f3•••9fb", "sha256": "…"}], "admin_token_sha256": "…"}
//! ```

use crate::domain::secret::KeyHash;
use crate::store::ports::database::StoreError;
use serde::Deserialize;
use std::io;
use std::path::Path;

const FILE: &str = "credentials.json";
const VERSION: u32 = 1;

/// What version 0.1 had made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// Names (masked forms) and hashes of gateway keys.
    pub keys: Vec<(String, KeyHash)>,
    /// The hash of the administrator's token.
    pub admin_token: Option<KeyHash>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    version: u32,
    keys: Vec<Key>,
    #[serde(default)]
    admin_token_sha256: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    name: String,
    sha256: String,
}

/// What version 0.1 left in the data directory, if anything.
///
/// # Errors
/// When it cannot be read or is damaged; it is left as it is.
pub fn earlier_credentials(data_dir: &Path) -> Result<Option<Earlier>, StoreError> {
    let path = data_dir.join(FILE);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::Unavailable(format!("cannot read {}: {error}", path.display()))),
    };
    let damaged = |why: String| {
        let place = path.display();
        StoreError::Damaged(format!(
            "{place} is damaged ({why}) and was left as it is; restore it, or move it away to begin with new credentials"
        ))
    };
    let contents: Contents = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if contents.version != VERSION {
        return Err(damaged(format!("its version is {}, not {VERSION}", contents.version)));
    }
    let hash = |hex: String| KeyHash::from_hex(&hex).ok_or_else(|| damaged("a hash is not 64 hex digits".to_owned()));
    let key = |key: Key| Ok((key.name, hash(key.sha256)?));
    Ok(Some(Earlier {
        keys: contents.keys.into_iter().map(key).collect::<Result<_, _>>()?,
        admin_token: contents.admin_token_sha256.map(hash).transpose()?,
    }))
}

/// Moves the file out of the way, once the database has what it held.
///
/// # Errors
/// When it cannot be moved; it will be read again at the next start, which changes nothing.
pub fn set_aside(data_dir: &Path) -> Result<(), StoreError> {
    let (from, to) = (data_dir.join(FILE), data_dir.join("credentials.json.imported"));
    std::fs::rename(&from, to)
        .map_err(|error| StoreError::Unavailable(format!("cannot move {} away: {error}", from.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Secret;

    #[test]
    fn it_is_read_and_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(earlier_credentials(folder.path()), Ok(None));
        let (key, token) = (Secret::new("a").hash(), Secret::new("b").hash());
        let text = format!(
            r#"{{"version":1,"keys":[{{"name":"sk-or-v1-abc•••def","sha256":"{}"}}],"admin_token_sha256":"{}"}}"#,
            key.to_hex(),
            token.to_hex()
        );
        std::fs::write(folder.path().join(FILE), text).unwrap();
        let expected = Earlier { keys: vec![("sk-or-v1-abc•••def".into(), key)], admin_token: Some(token) };
        assert_eq!(earlier_credentials(folder.path()), Ok(Some(expected)));
        set_aside(folder.path()).unwrap();
        assert_eq!(earlier_credentials(folder.path()), Ok(None));
    }

    #[test]
    fn a_damaged_file_is_an_error_and_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        let short = r#"{"version":1,"keys":[{"name":"x","sha256":"ab"}]}"#;
        for text in ["", "{", "[]", r#"{"version":2,"keys":[]}"#, short, r#"{"version":1,"keys":[],"more":1}"#] {
            std::fs::write(&file, text).unwrap();
            let error = earlier_credentials(folder.path()).unwrap_err();
            assert!(error.to_string().contains("credentials.json is damaged"), "{error}");
            assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
        }
    }
}
