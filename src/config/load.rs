//! Reads the configuration from where it is: the only file in `config/` that touches the disk.

use super::compile::{self, Surroundings, compile};
use super::env::{self, Env};
use super::file;
use super::keys::StoredKeys;
use super::problem::{At, Place, Problem, Report};
use super::raw::{Raw, RawKey, RawProvider, RawSecret};
use super::snapshot::{Snapshot, Store};
use super::stored::{self, Laid, LaidSetting};
use crate::domain::stored_setting::StoredSetting;
use crate::domain::tenancy::VaultKey;
use crate::provider::{Catalog, PriceList};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the configuration comes from. Kept for the life of the process, so that a reload asks the same places again.
#[derive(Clone, Debug)]
pub struct Source {
    /// The configuration file, when one was named on the command line; else `ORBYT_CONFIG` names it, or there is none.
    pub file: Option<PathBuf>,
    /// The variables of the process.
    pub process: Vec<(String, String)>,
    /// A file with more variables, which those of the process win over. It need not exist.
    pub dotenv: Option<PathBuf>,
    /// The built-in providers and models.
    pub catalog: Arc<Catalog>,
}

/// A configuration that can be used.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub snapshot: Snapshot,
    /// What is worth knowing about it.
    pub warnings: Vec<Problem>,
    /// The files that it was made of, those that were looked for and not there included: a change to any of them is a
    /// reason to load again.
    pub files: Vec<PathBuf>,
}

/// Why a configuration cannot be used.
#[derive(Debug)]
pub struct Refused {
    /// Everything that is wrong, at least one thing.
    pub errors: Vec<Problem>,
    /// What else is worth knowing.
    pub warnings: Vec<Problem>,
}

/// Where the credentials of a process are that systemd has started.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";
/// Those of the service while it runs: an administrator's commands find them there, where they may read them.
const OF_THE_SERVICE: &str = "/run/credentials/orbyt.service";

impl Source {
    /// The variables of this process, `.env` in the working directory, and the file of the command line.
    ///
    /// # Errors
    /// The built-in catalog's, which a test rules out.
    pub fn of_process(file: Option<PathBuf>) -> Result<Self, Problem> {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        let catalog = Catalog::builtin().map_err(|error| Problem::general(format!("the built-in catalog: {error}")))?;
        let mut process: Vec<_> = std::env::vars_os().filter_map(text).collect();
        if !process.iter().any(|(name, _)| name == CREDENTIALS) && Path::new(OF_THE_SERVICE).is_dir() {
            process.push((CREDENTIALS.to_owned(), OF_THE_SERVICE.to_owned()));
        }
        Ok(Self { file, process, dotenv: Some(PathBuf::from(".env")), catalog: Arc::new(catalog) })
    }

    /// The variables alone, for commands that need nothing else. What cannot be read is left out.
    pub fn variables(&self) -> Env {
        self.env(&mut Vec::new(), &mut Report::default())
    }

    fn env(&self, files: &mut Vec<PathBuf>, report: &mut Report) -> Env {
        let mut variables = Vec::new();
        if let Some(path) = &self.dotenv {
            files.push(path.clone());
            match dotenvy::from_path_iter(path) {
                Ok(entries) => {
                    for entry in entries {
                        match entry {
                            Ok(variable) => variables.push(variable),
                            // The message would repeat the line, which may hold a key.
                            Err(_) => report
                                .error(Problem::env(path.display().to_string(), "holds a line that is not NAME=value")),
                        }
                    }
                }
                Err(dotenvy::Error::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(_) => report.error(Problem::env(path.display().to_string(), "cannot be read")),
            }
        }
        Env::new(self.process.iter().cloned(), variables)
    }
}

/// Reads everything anew.
///
/// # Errors
/// Everything that is wrong, all at once.
pub fn load(source: &Source) -> Result<Loaded, Refused> {
    load_with(source, &FromStore { vault: &[], keys: &StoredKeys::default(), prices: None, settings: &[] })
}

/// What the database adds to a configuration.
pub struct FromStore<'a> {
    /// Keys of providers, which join those of file and environment.
    pub vault: &'a [VaultKey],
    /// The gateway's keys, which rules may be for.
    pub keys: &'a StoredKeys,
    /// Imported prices, which go before the catalog's.
    pub prices: Option<&'a PriceList>,
    /// Models, presets and routing settings, which hold where file and environment say nothing.
    pub settings: &'a [StoredSetting],
}

/// Reads everything anew, with what the database adds. A row of that which nothing can be made of, such as a key for a provider that there is
/// not, is left out with a warning: it must not keep gateways from starting.
///
/// # Errors
/// Everything that is wrong, all at once.
pub fn load_with(source: &Source, from: &FromStore<'_>) -> Result<Loaded, Refused> {
    let all: Vec<&StoredSetting> = from.settings.iter().collect();
    let whole = load_all(source, from, from.vault, &all);
    if (from.vault.is_empty() && all.is_empty()) || whole.is_ok() {
        return whole;
    }
    let mut sound = load_all(source, from, &[], &[])?;
    let (mut kept, mut left_out) = (Vec::new(), Vec::new());
    for key in from.vault {
        kept.push(key.clone());
        match load_all(source, from, &kept, &[]) {
            Ok(loaded) => sound = loaded,
            Err(refused) => {
                kept.pop();
                let why = refused.errors.first().map(|problem| problem.message.as_str()).unwrap_or_default();
                left_out.push(Problem { place: place(key), message: format!("is left out: {why}") });
            }
        }
    }
    let (mut laid, mut unfit) = (Vec::new(), Vec::new());
    for setting in from.settings {
        laid.push(setting);
        match load_all(source, from, &kept, &laid) {
            Ok(loaded) => sound = loaded,
            Err(refused) => {
                laid.pop();
                let why = refused.errors.into_iter().next().unwrap_or_else(|| Problem::general("it is not sound"));
                left_out.push(Problem::general(format!("is left out: {why}")));
                let (kind, name) = (setting.kind, setting.name.clone());
                unfit.push(LaidSetting { kind, name, laid: Laid::LeftOut(why) });
            }
        }
    }
    sound.warnings.extend(left_out);
    sound.snapshot.stored = sound.snapshot.stored.iter().cloned().chain(unfit).collect();
    Ok(sound)
}

fn load_all(
    source: &Source,
    from: &FromStore<'_>,
    vault: &[VaultKey],
    settings: &[&StoredSetting],
) -> Result<Loaded, Refused> {
    let Written { mut raw, env, path, mut files, is_readable, mut report } = Written::read(source);
    let lay = |setting: &&StoredSetting| LaidSetting {
        kind: setting.kind,
        name: setting.name.clone(),
        laid: stored::lay_below(&mut raw, setting, &mut report),
    };
    let laid: Vec<LaidSetting> = settings.iter().map(lay).collect();
    for key in vault {
        add(&mut raw, &source.catalog, key);
    }
    let seen = RefCell::new(&mut files);
    let read = |path: &Path| {
        seen.borrow_mut().push(path.to_owned());
        std::fs::read(path).map_err(|error| plain(&error))
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let around = Surroundings { env: &env, read: &read, base: base(path.as_deref()), stored: from.keys, cores };
    let with_prices = |list: &PriceList| Arc::new(source.catalog.with_prices(list.clone()));
    let catalog = from.prices.map_or_else(|| source.catalog.clone(), with_prices);
    // With a broken syntax, what seems to be missing may only be unreadable.
    let snapshot = if is_readable { compile(raw, catalog, &around, &mut report) } else { None };
    report.sort();
    match snapshot {
        Some(mut snapshot) => {
            snapshot.stored = laid.into();
            Ok(Loaded { snapshot, warnings: report.warnings, files })
        }
        None => Err(Refused { errors: report.errors, warnings: report.warnings }),
    }
}

fn place(key: &VaultKey) -> Place {
    Place::Env(format!("vault key {}/{}", key.provider, key.name))
}

/// A key of the vault beside the others of its provider, which it switches on where there is none.
fn add(raw: &mut Raw, catalog: &Catalog, key: &VaultKey) {
    let id = |written: &str| catalog.provider(written).map_or(written.to_owned(), |row| row.id.to_string());
    let place = || place(key);
    let wanted = id(&key.provider);
    let at = raw.providers.iter().position(|provider| id(&provider.id.value) == wanted).unwrap_or_else(|| {
        raw.providers.push(RawProvider::new(At::new(wanted.clone(), place())));
        raw.providers.len() - 1
    });
    let secret = At::new(RawSecret::Vault(key.secret.clone()), place());
    let name = Some(At::new(key.name.clone(), place()));
    raw.providers[at].keys.push(RawKey { name, secret, group: None, rpm: None, tpm: None });
}

/// Where the state of the gateway is that a configuration describes.
#[derive(Debug)]
pub struct StoreSettings {
    /// The data directory.
    pub data_dir: PathBuf,
    /// `[store]`.
    pub store: Store,
    /// Whether the configuration brings an administrator's token.
    pub has_admin_token: bool,
    /// The providers that are written down, as they are written.
    pub providers: Vec<String>,
    /// The built-in ones.
    pub catalog: Arc<Catalog>,
}

/// Where the state of the gateway is. No other secret is looked up, because only the service itself may be able to.
///
/// # Errors
/// What keeps the file or the environment from being read, or what is wrong with `[store]`.
pub fn store_settings(source: &Source) -> Result<StoreSettings, Refused> {
    settings_of(source, true)
}

/// The same for whoever opens no key of the vault: the master key, which may be at hand for the service alone, is not looked at.
///
/// # Errors
/// As [`store_settings`].
pub fn store_settings_but_vault(source: &Source) -> Result<StoreSettings, Refused> {
    settings_of(source, false)
}

fn settings_of(source: &Source, with_vault: bool) -> Result<StoreSettings, Refused> {
    let Written { mut raw, env, path, mut report, .. } = Written::read(source);
    if !with_vault {
        raw.store.master_key = None;
    }
    let read = |path: &Path| std::fs::read(path).map_err(|error| plain(&error));
    let stored = &StoredKeys::default();
    let around = Surroundings { env: &env, read: &read, base: base(path.as_deref()), stored, cores: 1 };
    let (data_dir, store) = compile::store_alone(&raw, &source.catalog, &around, &mut report);
    if !report.errors.is_empty() {
        return Err(Refused { errors: report.errors, warnings: report.warnings });
    }
    let catalog = Arc::clone(&source.catalog);
    let providers = raw.providers.iter().map(|provider| provider.id.value.clone()).collect();
    Ok(StoreSettings { data_dir, store, has_admin_token: raw.console.admin_token.is_some(), providers, catalog })
}

/// Where the data directory is. Nothing else of the configuration need be right, nor any secret be at hand.
///
/// # Errors
/// What keeps the file from being read.
pub fn data_dir(source: &Source) -> Result<PathBuf, Refused> {
    let Written { raw, env, path, is_readable, report, .. } = Written::read(source);
    if is_readable {
        return Ok(compile::data_dir(&raw.server.data_dir, &env, base(path.as_deref())));
    }
    Err(Refused { errors: report.errors, warnings: report.warnings })
}

/// What is written in the file and the environment, with no meaning yet.
struct Written {
    raw: Raw,
    env: Env,
    path: Option<PathBuf>,
    files: Vec<PathBuf>,
    is_readable: bool,
    report: Report,
}

impl Written {
    fn read(source: &Source) -> Self {
        let mut report = Report::default();
        let mut files = Vec::new();
        let env = source.env(&mut files, &mut report);
        let path = source.file.clone().or_else(|| env.get("ORBYT_CONFIG").map(PathBuf::from));
        let (mut raw, mut is_readable) = (Raw::default(), true);
        if let Some(path) = &path {
            files.push(path.clone());
            match read_text(path) {
                Ok(text) => {
                    let parsed = file::parse(&path.display().to_string(), &text);
                    report.errors.extend(parsed.report.errors);
                    report.warnings.extend(parsed.report.warnings);
                    (raw, is_readable) = (parsed.raw, parsed.is_toml);
                }
                Err(message) => {
                    report.error(Problem::general(format!("{}: {message}", path.display())));
                    is_readable = false;
                }
            }
        }
        env::apply(&env, &source.catalog, &mut raw, &mut report);
        report.sort();
        Self { raw, env, path, files, is_readable, report }
    }
}

/// The directory that paths in a file are relative to: its own.
fn base(file: Option<&Path>) -> &Path {
    file.and_then(Path::parent).unwrap_or(Path::new(""))
}

fn read_text(path: &Path) -> Result<String, String> {
    let bytes = std::fs::read(path).map_err(|error| plain(&error))?;
    String::from_utf8(bytes).map_err(|error| {
        let line =
            error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("line {line} is not UTF-8")
    })
}

/// The system's message without its number.
fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "may not be read".to_owned(),
        _ => error.to_string(),
    }
}
