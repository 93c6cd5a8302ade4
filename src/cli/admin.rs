//! `orbyt admin`: what only the machine's owner may do.

use super::{credentials, start};
use crate::config::Source;
use crate::domain::Secret;
use crate::wiring::state::ring;

/// A new administrator's token.
#[derive(Debug)]
pub struct ResetToken {
    /// The token, to be shown once.
    pub token: Secret,
    /// The database that has its hash.
    pub kept_in: String,
    /// The configuration names a token, which goes before this one.
    pub is_overruled: bool,
}

/// Makes a new administrator's token in the state that the configuration names.
///
/// # Errors
/// The errors of the configuration, one a line, or the database's.
pub async fn reset_token(source: &Source) -> Result<ResetToken, String> {
    let (state, settings) = start::open_state(source).await?;
    let token = credentials::reset_token(&state).await.map_err(|error| format!("error: {error}"))?;
    ring(&settings.data_dir);
    Ok(ResetToken { token, kept_in: state.database.place(), is_overruled: settings.has_admin_token })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Catalog;
    use std::sync::Arc;

    #[tokio::test]
    async fn needs_none_of_the_services_secrets() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("orbyt.toml");
        std::fs::write(&file, "[server]\ndata_dir = 'state'\n[console]\nadmin_token = { credential = 'x' }\n").unwrap();
        let catalog = Arc::new(Catalog::builtin().unwrap());
        let source = Source { file: Some(file), process: Vec::new(), dotenv: None, catalog };
        let reset = reset_token(&source).await.unwrap();
        assert!(reset.is_overruled);
        assert_eq!(reset.kept_in, directory.path().join("state/orbyt.db").display().to_string());
        let (state, _) = start::open_state(&source).await.unwrap();
        assert_eq!(state.database.admin_token().await.unwrap(), Some(reset.token.hash()));
    }

    #[tokio::test]
    async fn a_configuration_that_cannot_be_read_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = Arc::new(Catalog::builtin().unwrap());
        let file = Some(directory.path().join("none.toml"));
        let error = reset_token(&Source { file, process: Vec::new(), dotenv: None, catalog }).await.unwrap_err();
        assert!(error.starts_with("error: ") && error.ends_with("none.toml: there is no such file"), "{error}");
    }
}
