//! `orbyt backup` and `orbyt restore`: the embedded database in one file, and back.

use super::args::{BackupArgs, RestoreArgs};
use crate::config::{Source, StoreSettings, store_settings};
use crate::store::file::{claim, make_private, write_private};
use crate::store::sqlite::{Copied, backup, restore};
use crate::wiring::state::{State, now_ms};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use time::OffsetDateTime;
use time::macros::format_description;
use zeroize::Zeroizing;

const MASTER_KEY: &str = "master.key";

/// Makes a backup; gives what there is to be said.
///
/// # Errors
/// A text for the operator.
pub fn run_backup(args: &BackupArgs) -> Result<String, String> {
    let settings = settings(args.config.clone())?;
    embedded(&settings, "pg_dump")?;
    let key = if args.with_master_key { Some(read_key(&settings)?) } else { None };
    let copied = backup(&settings.data_dir, &args.file).map_err(|error| format!("error: {error}"))?;
    let mut said = format!("{}: {}", args.file.display(), contents(&copied));
    if let Some(key) = key {
        let path = key_file(&args.file);
        let made = make_private(&path, key.as_bytes());
        match made {
            Ok(true) => said += &format!("\n{}: the master key, which opens the vault: keep it apart", path.display()),
            Ok(false) => return Err(format!("error: {} is there already, and was left as it is", path.display())),
            Err(error) => return Err(format!("error: cannot write {}: {error}", path.display())),
        }
    } else if copied.sealed > 0 {
        said += &if settings.store.master_key.is_some() {
            "\nthe master key that opens the vault is in the configuration, and not in the backup".to_owned()
        } else {
            let path = settings.data_dir.join(MASTER_KEY);
            format!(
                "\nthe vault in it is of no use without {}, which is not in it: keep a copy elsewhere, or use --with-master-key",
                path.display()
            )
        };
    }
    Ok(said)
}

/// Puts a backup into the place of the database; gives what there is to be said.
///
/// # Errors
/// A text for the operator.
pub fn run_restore(args: &RestoreArgs) -> Result<String, String> {
    let settings = settings(args.config.clone())?;
    embedded(&settings, "pg_restore")?;
    let data_dir = &settings.data_dir;
    let alone = claim(data_dir).map_err(|error| format!("error: cannot use {}: {error}", data_dir.display()))?;
    let Some(alone) = alone else {
        return Err(format!(
            "error: a gateway uses {}: stop it first, also one that `orbyt upgrade` has replaced",
            data_dir.display()
        ));
    };
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    let stamp = OffsetDateTime::from_unix_timestamp_nanos(i128::from(now_ms()) * 1_000_000)
        .ok()
        .and_then(|now| now.format(&format).ok())
        .unwrap_or_else(|| now_ms().to_string());
    let (copied, kept) = restore(&args.file, data_dir, &stamp).map_err(|error| format!("error: {error}"))?;
    let mut said = format!("restored {}", contents(&copied));
    if let Some(kept) = kept {
        said += &format!("\nwhat was there is now {}", kept.display());
    }
    said += &restore_key(&args.file, data_dir, &stamp)?;
    for problem in problems(&settings)? {
        said += &format!("\nwarning: {problem}");
    }
    drop(alone);
    Ok(said)
}

fn settings(config: Option<PathBuf>) -> Result<StoreSettings, String> {
    let source = Source::of_process(config).map_err(|problem| problem.to_string())?;
    store_settings(&source).map_err(|refused| {
        refused.errors.iter().map(|problem| format!("error: {problem}")).collect::<Vec<_>>().join("\n")
    })
}

fn embedded(settings: &StoreSettings, instead: &str) -> Result<(), String> {
    if settings.store.database_url.is_some() {
        return Err(format!("error: the state is in Postgres: use {instead}, and keep a copy of the master key"));
    }
    Ok(())
}

fn contents(copied: &Copied) -> String {
    let Copied { bytes, schema, keys, sealed, requests } = copied;
    format!(
        "{bytes} bytes, schema {schema}: {keys} API keys, {sealed} keys in the vault, {requests} requests in the ledger"
    )
}

/// Where the master key stands beside a backup.
fn key_file(backup: &Path) -> PathBuf {
    let mut name = backup.as_os_str().to_owned();
    name.push(".");
    name.push(MASTER_KEY);
    PathBuf::from(name)
}

fn read_key(settings: &StoreSettings) -> Result<Zeroizing<String>, String> {
    if settings.store.master_key.is_some() {
        return Err("error: the master key is in the configuration: leave out --with-master-key".to_owned());
    }
    let path = settings.data_dir.join(MASTER_KEY);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => Err(format!("error: cannot read {}: {error}", path.display())),
    }
}

/// Takes over the master key that stands beside a backup; one that was there is kept.
fn restore_key(backup: &Path, data_dir: &Path, stamp: &str) -> Result<String, String> {
    let (from, to) = (key_file(backup), data_dir.join(MASTER_KEY));
    let text = match std::fs::read_to_string(&from) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => {
            return Err(format!("error: the database is restored, but {} cannot be read: {error}", from.display()));
        }
    };
    let failed = |error: std::io::Error| format!("error: the database is restored, but {} not: {error}", to.display());
    let mut said = format!("\nrestored the master key from {}", from.display());
    match std::fs::read_to_string(&to).map(Zeroizing::new) {
        Ok(before) if before.trim() == text.trim() => return Ok(String::new()),
        Ok(_) => {
            let kept = data_dir.join(format!("{MASTER_KEY}.before-{stamp}"));
            std::fs::rename(&to, &kept).map_err(failed)?;
            said += &format!("\nthe one that was there is now {}", kept.display());
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    write_private(&to, text.as_bytes()).map_err(failed)?;
    Ok(said)
}

/// What a gateway would find wrong with what was restored: a vault that the master key does not open.
fn problems(settings: &StoreSettings) -> Result<Vec<String>, String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let told = |error: crate::store::ports::database::StoreError| format!("error: {error}");
        let state = State::open(&settings.data_dir, &settings.store).await.map_err(told)?;
        let seen = state.look().await.map_err(told)?;
        Ok(state.open_up(&seen.contents).1)
    })
}
