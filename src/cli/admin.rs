//! `orbyt admin`: what only the machine's owner may do.

use super::credentials;
use crate::config::{self, Source};
use crate::domain::Secret;
use crate::store::file::CredentialsFile;
use std::path::PathBuf;

/// A new administrator's token.
#[derive(Debug)]
pub struct ResetToken {
    /// The token, to be printed once.
    pub token: Secret,
    /// Where its hash is kept.
    pub kept_in: PathBuf,
    /// The configuration names a token of its own, which goes before this one.
    pub is_overruled: bool,
}

/// Makes a new administrator's token in the data directory that the configuration names.
///
/// # Errors
/// The errors of the configuration, one a line, or the store's.
pub fn reset_token(source: &Source) -> Result<ResetToken, String> {
    let (data_dir, is_overruled) = config::data_dir(source).map_err(|refused| {
        let lines: Vec<_> = refused.errors.iter().map(|problem| format!("error: {problem}")).collect();
        lines.join("\n")
    })?;
    let store = CredentialsFile::new(&data_dir);
    let token = credentials::reset_token(&store).map_err(|error| format!("error: {error}"))?;
    Ok(ResetToken { token, kept_in: store.path().to_owned(), is_overruled })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Catalog;
    use crate::store::ports::credentials::Credentials;
    use std::sync::Arc;

    #[test]
    fn needs_none_of_the_services_secrets() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("orbyt.toml");
        std::fs::write(&file, "[server]\ndata_dir = 'state'\n[console]\nadmin_token = { credential = 'x' }\n").unwrap();
        let catalog = Arc::new(Catalog::builtin().unwrap());
        let source = Source { file: Some(file), process: Vec::new(), dotenv: None, catalog };
        let reset = reset_token(&source).unwrap();
        assert!(reset.is_overruled);
        assert_eq!(reset.kept_in, directory.path().join("state/credentials.json"));
        let kept = CredentialsFile::new(&directory.path().join("state")).load().unwrap();
        assert_eq!(kept.admin_token, Some(reset.token.hash()));
    }

    #[test]
    fn a_configuration_that_cannot_be_read_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = Arc::new(Catalog::builtin().unwrap());
        let file = Some(directory.path().join("none.toml"));
        let error = reset_token(&Source { file, process: Vec::new(), dotenv: None, catalog }).unwrap_err();
        assert!(error.starts_with("error: ") && error.ends_with("none.toml: there is no such file"), "{error}");
    }
}
