//! What has to be there before the gateway can listen: a configuration without errors, and credentials.

use super::credentials::{Configured, FirstStart, first_start};
use crate::config::{self, Loaded, Snapshot, Source};
use crate::store::file::CredentialsFile;
use crate::store::ports::credentials::{Credentials, StoredCredentials};

/// A gateway that is ready to listen.
#[derive(Debug)]
pub struct Prepared {
    /// The configuration, stored credentials included.
    pub loaded: Loaded,
    /// Where new credentials can be seen.
    pub first_start: FirstStart,
}

/// Loads the configuration and, on the very first start, makes credentials.
///
/// # Errors
/// Everything that keeps the gateway from starting, one a line.
pub fn prepare(source: &Source, on_terminal: bool) -> Result<Prepared, String> {
    let mut loaded = load(source)?;
    let snapshot = &loaded.snapshot;
    let configured =
        Configured { keys: !snapshot.keys.is_empty(), admin_token: snapshot.console.admin_token.is_some() };
    let data_dir = &snapshot.server.data_dir;
    let store = CredentialsFile::new(data_dir);
    let (stored, first_start) =
        first_start(&store, data_dir, configured, on_terminal).map_err(|error| format!("error: {error}"))?;
    loaded.files.push(store.path().to_owned());
    loaded.snapshot = with_stored(loaded.snapshot, stored);
    Ok(Prepared { loaded, first_start })
}

/// Loads the configuration again with the credentials that are stored now; none are made.
///
/// # Errors
/// Everything that keeps it from being used, one a line.
pub fn reload(source: &Source) -> Result<Loaded, String> {
    let mut loaded = load(source)?;
    let store = CredentialsFile::new(&loaded.snapshot.server.data_dir);
    let stored = store.load().map_err(|error| format!("error: {error}"))?;
    loaded.files.push(store.path().to_owned());
    loaded.snapshot = with_stored(loaded.snapshot, stored);
    Ok(loaded)
}

fn load(source: &Source) -> Result<Loaded, String> {
    config::load(source).map_err(|refused| {
        let errors = refused.errors.iter().map(|problem| format!("error: {problem}"));
        let warnings = refused.warnings.iter().map(|problem| format!("warning: {problem}"));
        errors.chain(warnings).collect::<Vec<_>>().join("\n")
    })
}

fn with_stored(snapshot: Snapshot, stored: StoredCredentials) -> Snapshot {
    snapshot.with_stored(stored.keys.into_iter().map(|key| (key.name, key.hash)), stored.admin_token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::credentials::reset_token;
    use crate::provider::Catalog;
    use std::path::Path;
    use std::sync::Arc;

    fn source(data_dir: &Path, more: &[(&str, &str)]) -> Source {
        let data_dir = [("ORBYT_DATA_DIR", data_dir.to_str().unwrap())];
        let variables = data_dir.iter().chain(more).map(|(name, value)| (name.to_string(), value.to_string()));
        let catalog = Arc::new(Catalog::builtin().unwrap());
        Source { file: None, process: variables.collect(), dotenv: None, catalog }
    }

    #[test]
    fn the_key_of_the_first_start_works_then_and_after_every_reload() {
        let directory = tempfile::tempdir().unwrap();
        let source = source(directory.path(), &[]);
        let prepared = prepare(&source, true).unwrap();
        let FirstStart::Show { key, admin_token: Some(token) } = prepared.first_start else { panic!("not shown") };
        let knows = |snapshot: &Snapshot| snapshot.keys.find(key.reveal()).is_some();
        assert!(knows(&prepared.loaded.snapshot));
        assert_eq!(prepared.loaded.snapshot.console.admin_token, Some(token.hash()));
        let again = prepare(&source, true).unwrap();
        assert!(matches!(again.first_start, FirstStart::NotNeeded));
        assert!(knows(&again.loaded.snapshot));
        let new_token = reset_token(&CredentialsFile::new(directory.path())).unwrap();
        let reloaded = reload(&source).unwrap();
        assert!(knows(&reloaded.snapshot));
        assert_eq!(reloaded.snapshot.console.admin_token, Some(new_token.hash()));
        assert!(reloaded.files.contains(&directory.path().join("credentials.json")));
    }

    #[test]
    fn a_damaged_store_keeps_the_gateway_from_starting_and_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("credentials.json");
        std::fs::write(&file, "{").unwrap();
        let source = source(directory.path(), &[("ORBYT_API_KEYS", "k")]);
        for error in [prepare(&source, true).map(|_| ()), reload(&source).map(|_| ())] {
            assert!(error.unwrap_err().starts_with("error: "), "an error");
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "{");
    }

    #[test]
    fn errors_of_the_configuration_come_one_a_line() {
        let directory = tempfile::tempdir().unwrap();
        let source = source(directory.path(), &[("ORBYT_LOG", "loud"), ("ORBYT_LISTEN", "x"), ("DATABASE_URL", "d")]);
        let error = prepare(&source, true).unwrap_err();
        let starts: Vec<_> = error.lines().map(|line| line.split(':').take(2).collect::<Vec<_>>().join(":")).collect();
        assert_eq!(starts, ["error: ORBYT_LISTEN", "error: ORBYT_LOG", "warning: DATABASE_URL"]);
        assert!(std::fs::read_dir(directory.path()).unwrap().next().is_none(), "nothing was made");
    }
}
