//! What has to be there before the gateway can listen: a configuration without errors, its state, and credentials.

use super::credentials::{FirstStart, first_start};
use crate::config::{self, FromStore, Loaded, Refused, Snapshot, Source};
use crate::store::file::enter;
use crate::store::sqlite::FILE as DATABASE_FILE;
use crate::wiring::state::{Followed, State};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

/// A gateway that is ready to listen.
pub struct Prepared {
    /// The configuration, with the vault's keys and without the database's.
    pub loaded: Loaded,
    /// The database and the vault.
    pub state: Arc<State>,
    /// What the database holds.
    pub followed: Followed,
    /// Where new credentials can be seen.
    pub first_start: FirstStart,
    /// Where a new master key was put.
    pub master_key: Option<PathBuf>,
    /// Says that a gateway uses the data directory, for as long as it is held; `None` where nothing can be written there.
    pub presence: Option<File>,
    /// What is not as it should be, and does not keep the gateway from starting.
    pub warnings: Vec<String>,
}

impl Prepared {
    /// The whole: configuration and database.
    pub fn snapshot(&self) -> Snapshot {
        self.loaded.snapshot.clone().with_stored(
            self.followed.keys.clone(),
            self.followed.budgets.clone(),
            self.followed.admin_token,
        )
    }
}

/// Loads the configuration, opens the database and, on the very first start, makes credentials.
///
/// # Errors
/// Everything that keeps the gateway from starting, one a line.
pub fn prepare(source: &Source, on_terminal: bool) -> Result<Prepared, String> {
    let mut loaded = reload(source, &Followed::default())?;
    let told = |error: &dyn std::fmt::Display| format!("error: {error}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| told(&error))?;
    let snapshot = &loaded.snapshot;
    let presence = match enter(&snapshot.server.data_dir) {
        Ok(None) => return Err(format!("error: a backup is being restored in {}", snapshot.server.data_dir.display())),
        Ok(presence) => presence,
        // Whoever needs the directory says what is wrong with it.
        Err(_) => None,
    };
    let (state, seen, first_start, master_key) = runtime.block_on(async {
        let state = State::open(&snapshot.server.data_dir, &snapshot.store).await.map_err(|error| told(&error))?;
        let mut seen = state.look().await.map_err(|error| told(&error))?;
        let mut made = FirstStart::NotNeeded;
        if seen.degraded.is_none() {
            state.import_earlier().await.map_err(|error| told(&error))?;
            seen = state.look().await.map_err(|error| told(&error))?;
            if snapshot.keys.is_empty() && seen.contents.keys.is_empty() {
                let has_token = snapshot.console.admin_token.is_some();
                made = first_start(&state, has_token, on_terminal).await.map_err(|error| told(&error))?;
                seen = state.look().await.map_err(|error| told(&error))?;
            }
            state.keep_copy(&seen.contents).map_err(|error| told(&error))?;
        }
        let master_key = match &seen.degraded {
            None => state.make_master_key(&seen.contents.provider_keys).map_err(|error| told(&error))?,
            Some(_) => None,
        };
        Ok::<_, String>((Arc::new(state), seen, made, master_key))
    })?;
    // What is wrong with rows of the vault is told by whoever follows the database from now on.
    let (followed, _) = state.open_up(&seen.contents);
    let mut warnings = Vec::new();
    if let Some(why) = seen.degraded {
        warnings.push(match seen.is_unknown {
            false => format!("the database is away, keys and budgets are those of when it was last seen: {why}"),
            true => format!(
                "the database is away and was never seen from here: its keys are not known, and no budget is in force: {why}"
            ),
        });
    }
    if !followed.is_empty() {
        loaded = reload(source, &followed)?;
    }
    Ok(Prepared { loaded, state, followed, first_start, master_key, presence, warnings })
}

/// Loads the configuration with what the database holds for it.
///
/// # Errors
/// Everything that keeps it from being used.
pub fn reload_with(source: &Source, followed: &Followed) -> Result<Loaded, Refused> {
    let Followed { vault, keys, prices, settings, .. } = followed;
    config::load_with(source, &FromStore { vault, keys, prices: prices.as_deref(), settings })
}

/// Loads the configuration with what the database holds for it.
///
/// # Errors
/// Everything that keeps it from being used, one a line.
pub fn reload(source: &Source, followed: &Followed) -> Result<Loaded, String> {
    reload_with(source, followed).map_err(|refused| told(&refused))
}

/// Whether the embedded database that a configuration describes would have to be made.
pub fn has_no_database(source: &Source) -> bool {
    let settings = config::store_settings(source);
    settings.is_ok_and(|it| it.store.database_url.is_none() && !it.data_dir.join(DATABASE_FILE).exists())
}

/// Opens the state that a configuration describes, without what only the service needs.
///
/// # Errors
/// Everything that is in the way, one a line.
pub async fn open_state(source: &Source) -> Result<(State, config::StoreSettings), String> {
    opened(config::store_settings(source)).await
}

/// The same for whoever opens no key of the vault.
///
/// # Errors
/// Everything that is in the way, one a line.
pub async fn open_state_but_vault(source: &Source) -> Result<(State, config::StoreSettings), String> {
    opened(config::store_settings_but_vault(source)).await
}

async fn opened(settings: Result<config::StoreSettings, Refused>) -> Result<(State, config::StoreSettings), String> {
    let settings = settings.map_err(|refused| told(&refused))?;
    let state = State::open(&settings.data_dir, &settings.store).await.map_err(|error| format!("error: {error}"))?;
    state.import_earlier().await.map_err(|error| format!("error: {error}"))?;
    Ok((state, settings))
}

fn told(refused: &Refused) -> String {
    let errors = refused.errors.iter().map(|problem| format!("error: {problem}"));
    let warnings = refused.warnings.iter().map(|problem| format!("warning: {problem}"));
    errors.chain(warnings).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Secret;
    use crate::domain::tenancy::KeySecret;
    use crate::provider::Catalog;
    use crate::store::ports::database::Access;
    use crate::wiring::state::{new_id, new_key};
    use std::path::Path;

    fn source(data_dir: &Path, more: &[(&str, &str)]) -> Source {
        let data_dir = [("ORBYT_DATA_DIR", data_dir.to_str().unwrap())];
        let variables = data_dir.iter().chain(more).map(|(name, value)| (name.to_string(), value.to_string()));
        let catalog = Arc::new(Catalog::builtin().unwrap());
        Source { file: None, process: variables.collect(), dotenv: None, catalog }
    }

    #[test]
    fn the_key_of_the_first_start_works_then_and_later() {
        let directory = tempfile::tempdir().unwrap();
        let source = source(directory.path(), &[]);
        let prepared = prepare(&source, true).unwrap();
        assert_eq!(prepared.master_key, Some(directory.path().join("master.key")));
        let FirstStart::Show { key, admin_token: Some(token) } = &prepared.first_start else { panic!("not shown") };
        let knows = |snapshot: &Snapshot| snapshot.keys.find(key.reveal(), u64::MAX).is_ok();
        assert!(knows(&prepared.snapshot()));
        assert_eq!(prepared.snapshot().console.admin_token, Some(token.hash()));
        let again = prepare(&source, true).unwrap();
        assert!(matches!(again.first_start, FirstStart::NotNeeded) && again.master_key.is_none());
        assert!(knows(&again.snapshot()));
    }

    #[test]
    fn what_version_0_1_kept_is_taken_over_once() {
        let directory = tempfile::tempdir().unwrap();
        let (key, token) = (Secret::new("earlier-key"), Secret::new("earlier-token"));
        let (key_hash, token_hash) = (key.hash().to_hex(), token.hash().to_hex());
        let text = format!(
            r#"{{"version":1,"keys":[{{"name":"sk-or-v1-abc•••def","sha256":"{key_hash}"}}],"admin_token_sha256":"{token_hash}"}}"#
        );
        std::fs::write(directory.path().join("credentials.json"), text).unwrap();
        let source = source(directory.path(), &[]);
        for _ in 0..2 {
            let prepared = prepare(&source, true).unwrap();
            assert!(matches!(prepared.first_start, FirstStart::NotNeeded));
            let snapshot = prepared.snapshot();
            let holder = snapshot.keys.find("earlier-key", u64::MAX).unwrap();
            assert_eq!(&*holder.principal.key_name, "sk-or-v1-abc•••def", "limits go by the name");
            assert_eq!(snapshot.console.admin_token, Some(token.hash()));
            assert!(!directory.path().join("credentials.json").exists());
        }
    }

    #[test]
    fn rules_may_be_for_keys_of_the_database() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("orbyt.toml");
        let rule = |name: &str| format!("[[limits.rule]]\nscope = 'key'\nmatch = '{name}'\nconcurrency = 1\n");
        std::fs::write(&file, rule("nightly") + &rule("nobody")).unwrap();
        let source = Source { file: Some(file), ..source(&directory.path().join("data"), &[]) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (state, _) = open_state(&source).await.unwrap();
            let secret =
                KeySecret { hash: Secret::new("k").hash(), shown: String::new(), created_at: 0, expires_at: None };
            state.database.create_key(&Access::System, &new_key(new_id("key"), "nightly", secret, 0)).await.unwrap();
        });
        let told = |warnings: &[String]| {
            assert!(warnings.len() == 1 && warnings[0].contains("limits.rule[1].match: matches no gateway key"));
            assert!(warnings[0].contains("there are nightly. "), "{warnings:?}");
        };
        let prepared = prepare(&source, true).unwrap();
        told(&prepared.loaded.warnings.iter().map(ToString::to_string).collect::<Vec<_>>());
        let mut out = Vec::new();
        assert!(super::super::check::report(&source, &mut out).unwrap().is_some());
        let text = String::from_utf8(out).unwrap();
        told(&text.lines().filter(|line| line.contains("limits.rule")).map(str::to_owned).collect::<Vec<_>>());
    }

    #[test]
    fn damaged_state_keeps_the_gateway_from_starting_and_is_left_alone() {
        for (name, text) in [("credentials.json", "{"), ("orbyt.db", "no database, but long enough to be looked at")] {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join(name);
            let text = text.repeat(if name == "orbyt.db" { 100 } else { 1 });
            std::fs::write(&file, &text).unwrap();
            let source = source(directory.path(), &[("ORBYT_API_KEYS", "k")]);
            let error = prepare(&source, true).map(|_| ()).unwrap_err();
            assert!(error.starts_with("error: ") && error.contains(name) && error.contains("is damaged"), "{error}");
            assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
        }
    }

    #[test]
    fn errors_of_the_configuration_come_one_a_line() {
        let directory = tempfile::tempdir().unwrap();
        let source = source(directory.path(), &[("ORBYT_LOG", "loud"), ("ORBYT_LISTEN", "x"), ("ORBYT_LISTN", "x")]);
        let error = prepare(&source, true).map(|_| ()).unwrap_err();
        let starts: Vec<_> = error.lines().map(|line| line.split(':').take(2).collect::<Vec<_>>().join(":")).collect();
        assert_eq!(starts, ["error: ORBYT_LISTEN", "error: ORBYT_LOG", "warning: ORBYT_LISTN"]);
        assert!(std::fs::read_dir(directory.path()).unwrap().next().is_none(), "nothing was made");
    }
}
