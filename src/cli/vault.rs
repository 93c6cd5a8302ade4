//! `orbyt vault`: keys of providers, sealed in the database, and the master key that seals them.

use super::args::{AddVaultArgs, RemoveVaultArgs};
use super::audit::{by_hand, noted, shown};
use super::keys::project_named;
use crate::config::StoreSettings;
use crate::domain::Secret;
use crate::domain::audit::AuditEvent;
use crate::domain::tenancy::SealedKey;
use crate::store::ports::database::{Access, Database, StoreError};
use crate::vault::{self, MasterKey, MasterKeys};
use crate::wiring::state::{State, new_id};
use serde_json::json;
use std::fmt::Write;
use std::sync::Arc;

/// How often a row that somebody else changes meanwhile is tried again.
const TRIES: u32 = 5;

/// Seals a key of a provider. Returns what is to be said.
///
/// # Errors
/// A text for the operator.
pub async fn add(
    state: &State,
    settings: &StoreSettings,
    args: &AddVaultArgs,
    secret: &Secret,
    now: u64,
) -> Result<String, String> {
    if secret.reveal().is_empty() || !secret.reveal().bytes().all(|byte| matches!(byte, b'!'..=b'~')) {
        return Err(
            "the key on standard input is empty, or holds characters that cannot be sent in a header".to_owned()
        );
    }
    fits(settings, args, secret)?;
    let told = |error: StoreError| error.to_string();
    // Until the row is there: a master key that nothing is sealed with yet might be replaced.
    let _lock = state.lock_master_key().map_err(told)?;
    let (org, project) = owner(&*state.database, args).await?;
    let key = SealedKey {
        id: new_id("pk").into(),
        org,
        project,
        provider: args.provider.clone(),
        name: args.name.clone().unwrap_or_else(|| format!("{}_vault", args.provider)),
        shown: secret.masked(),
        created_at: now,
        envelope: String::new(),
    };
    state.seal_and_add(key.clone(), secret, about("vault.add", &key)).await.map_err(|error| match error {
        StoreError::Conflict(_) => format!("{} has a key called {}: give another --name", key.provider, key.name),
        error => error.to_string(),
    })?;
    let whose = if key.org.is_some() { format!(" for {}", shown_owner(&key)) } else { String::new() };
    Ok(format!("The key {} of {} ({}) is in the vault{whose}.", key.name, key.provider, key.id))
}

/// Whether there is such a provider, and the key may be one for it.
fn fits(settings: &StoreSettings, args: &AddVaultArgs, secret: &Secret) -> Result<(), String> {
    let (wanted, catalog) = (&args.provider, &settings.catalog);
    if catalog.provider(wanted).is_none() && !settings.providers.contains(wanted) {
        return Err(format!(
            "there is no provider {wanted:?}: the catalog has none, nor has the configuration; name its file with -c, or in ORBYT_CONFIG"
        ));
    }
    let name = args.name.as_deref().unwrap_or("x");
    if name.trim().is_empty() || name.chars().count() > 100 || name.chars().any(char::is_control) {
        return Err("--name must have 1 to 100 characters".to_owned());
    }
    match catalog.foreign_key(wanted, secret.reveal()) {
        None => Ok(()),
        Some(makers) => Err(format!("this is not a key for {wanted}: it begins like one of {}", makers.join(" or "))),
    }
}

fn about(action: &str, key: &SealedKey) -> AuditEvent {
    let details = json!({"provider": &key.provider, "name": &key.name, "key": &key.shown, "for": shown_owner(key)});
    by_hand(action, &key.id, key.org.as_ref(), &details)
}

type Owner = (Option<Arc<str>>, Option<Arc<str>>);

/// Whose own the key is to be: an organisation's, a project's, or everybody's.
async fn owner(database: &dyn Database, args: &AddVaultArgs) -> Result<Owner, String> {
    if let Some(wanted) = &args.project {
        let project = project_named(database, wanted).await?;
        return Ok((Some(project.org), Some(project.id)));
    }
    let Some(wanted) = &args.org else { return Ok((None, None)) };
    let orgs = database.orgs(&Access::System).await.map_err(|error| error.to_string())?;
    let org = orgs.into_iter().find(|org| *org.id == **wanted || org.name == *wanted);
    Ok((Some(org.ok_or_else(|| format!("--org {wanted}: there is no such organisation"))?.id), None))
}

fn shown_owner(key: &SealedKey) -> &str {
    key.project.as_deref().or(key.org.as_deref()).unwrap_or("everybody")
}

/// The keys as a table, none of them in clear.
///
/// # Errors
/// The database's.
pub async fn list(state: &State) -> Result<String, String> {
    let keys = state.database.provider_keys(&Access::System).await.map_err(|error| error.to_string())?;
    let mut text = format!("{:<16} {:<24} {:<28} {:<12} {:<28} SEALED WITH\n", "PROVIDER", "NAME", "ID", "KEY", "FOR");
    for key in &keys {
        let with = vault::sealed_with(&key.envelope).unwrap_or("?");
        // A string takes any amount of text.
        let (provider, name) = (shown(&key.provider), shown(&key.name));
        let _ = write!(text, "{provider:<16} {name:<24} {:<28} {:<12} ", key.id, key.shown);
        let _ = writeln!(text, "{:<28} {with}", shown_owner(key));
    }
    Ok(text)
}

/// Takes a key away. Returns what is to be said.
///
/// # Errors
/// When there is no such key.
pub async fn remove(state: &State, args: &RemoveVaultArgs) -> Result<String, String> {
    let keys = state.database.provider_keys(&Access::System).await.map_err(|error| error.to_string())?;
    let of_name: Vec<&SealedKey> = keys.iter().filter(|key| *key.id == *args.key || key.name == args.key).collect();
    let [key] = of_name[..] else {
        let what = if of_name.is_empty() { "there is no such key" } else { "several keys have that name: give the id" };
        return Err(format!("{}: {what}, see `orbyt vault list`", args.key));
    };
    let database = &*state.database;
    let remove = database.remove_provider_key(&Access::System, &key.id);
    noted(database, about("vault.remove", key), remove).await.map_err(|error| error.to_string())?;
    Ok(format!("The key {} of {} ({}) is gone.", key.name, key.provider, key.id))
}

/// Where other gateways open the same rows with files of their own, a new master key has to be at all of them before anything is sealed
/// with it.
async fn in_two_steps(state: &State, keys: &MasterKeys) -> Result<(), String> {
    let rows = state.database.provider_keys(&Access::System).await.map_err(|error| error.to_string())?;
    let current = keys.current().map(MasterKey::id);
    if rows.iter().any(|row| vault::sealed_with(&row.envelope) != current.as_deref()) {
        return Ok(());
    }
    Err(format!(
        "nothing was changed: other gateways of {} would not be able to open their keys. First put a new master key \
         (`openssl rand -base64 32`) as a line of its own before the present one into {} at every gateway, then run this again",
        state.database.place(),
        state.master_key_file().display()
    ))
}

/// Seals everything anew: with a new master key where it lies in the data directory, else with the first of those that are given. The
/// gateway goes on meanwhile: until the end both keys are at hand.
///
/// # Errors
/// A text for the operator. What was sealed anew by then stays so, and every row still opens.
pub async fn rotate(state: &State) -> Result<String, String> {
    let told = |error: StoreError| error.to_string();
    let _lock = state.lock_master_key().map_err(told)?;
    let mut keys = state.master_keys().map_err(told)?;
    let is_ours = !state.has_given_master_key();
    if is_ours && keys.current().is_none() {
        return Err(vault::VaultError::NoMasterKey.to_string());
    }
    if let Some(id) = state.database.master_key().await.map_err(told)?
        && keys.by_id(&id).is_none()
    {
        return Err(format!("the keys of this database are sealed with the master key {id}, which is not given"));
    }
    if is_ours && state.is_shared() {
        in_two_steps(state, &keys).await?;
    } else if is_ours {
        let key = MasterKey::random().map_err(|error| error.to_string())?;
        keys = keys.with_new(key);
        // Before the first row, so that none is ever sealed with a key that is nowhere.
        state.write_master_keys(&keys).map_err(told)?;
    }
    let current = keys.current().map(MasterKey::id).ok_or("there is no master key")?;
    // From now on nobody adds a row that is sealed with an older one.
    state.database.set_master_key(&current).await.map_err(told)?;
    let event = by_hand("vault.rotate", "vault", None, &json!({"master_key": &current}));
    state.database.append(&event).await.map_err(told)?;
    let mut sealed_anew = 0;
    for _ in 0..TRIES {
        let rows = state.database.provider_keys(&Access::System).await.map_err(told)?;
        let old: Vec<_> = rows.iter().filter(|row| vault::sealed_with(&row.envelope) != Some(&current)).collect();
        if old.is_empty() {
            break;
        }
        for row in old {
            let name = |error: vault::VaultError| format!("key {} of {}: {error}", row.name, row.provider);
            let secret = vault::open(&keys, &row.identity(), &row.envelope).map_err(name)?;
            let new = vault::seal(&keys, &row.identity(), &secret).map_err(name)?;
            let done = state.database.reseal_provider_key(&Access::System, &row.id, &row.envelope, &new).await;
            sealed_anew += u32::from(done.map_err(told)?);
        }
    }
    let rows = state.database.provider_keys(&Access::System).await.map_err(told)?;
    if rows.iter().any(|row| vault::sealed_with(&row.envelope) != Some(&current)) {
        return Err("keys are being added with an older master key: run it again".to_owned());
    }
    if is_ours {
        state.write_master_keys(&keys.without_old()).map_err(told)?;
    }
    let next = match (is_ours, sealed_anew) {
        (true, _) if state.is_shared() => {
            "The older one is out of master.key here; take its line out at the other gateways.".to_owned()
        }
        (true, _) => {
            format!("It is in {}: keep a copy of it somewhere else.", state.master_key_file().display())
        }
        (false, 0) => {
            "Nothing was to be done. To change it, put a new key before the old one: ORBYT_MASTER_KEY=NEW,OLD."
                .to_owned()
        }
        (false, _) => "Older ones may be taken out of ORBYT_MASTER_KEY now.".to_owned(),
    };
    Ok(format!("{sealed_anew} keys were sealed anew with the master key {current}. {next}"))
}
