//! `orbyt keys`: the gateway's own keys, with the gateway running or not.

use super::args::{CreateKeyArgs, ListKeysArgs, OneKeyArgs, RotateKeyArgs};
use super::audit::{by_hand, noted};
use super::budgets::{amount_and_span, put};
use super::credentials::{kept, new_secret};
use super::start::reload;
use crate::config::{Source, scopes, values};
use crate::domain::audit::AuditEvent;
use crate::domain::budget::{Budget, Payer, Span};
use crate::domain::tenancy::{ApiKey, Project, STORE, Scopes, Standing};
use crate::domain::{Limit, Measure, Money, Period, Secret};
use crate::store::ports::database::{Access, Database};
use crate::wiring::state::{State, new_id, new_key};
use serde_json::json;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A key that was made, and what is to be said about it.
#[derive(Debug)]
pub struct Made {
    /// The key, to be shown once.
    pub secret: Secret,
    /// Its name and what it may be used for.
    pub note: String,
}

/// Makes a key.
///
/// # Errors
/// A text for the operator that names the argument.
pub async fn create(database: &dyn Database, args: &CreateKeyArgs, now: u64) -> Result<Made, String> {
    let secret = new_secret().map_err(|error| error.to_string())?;
    let key = described(database, args, &secret, now).await?;
    let budgets = args.budget.iter().map(|text| amount_and_span(text).map_err(|error| format!("--budget {error}")));
    let budgets = budgets.collect::<Result<Vec<_>, _>>()?;
    // Switched off until they are set, so that it never serves without them.
    let key = ApiKey { disabled: !budgets.is_empty(), ..key };
    let details =
        json!({"name": &*key.name, "project": &*key.project, "owner": &key.owner, "restrictions": restrictions(&key)});
    let event = by_hand("key.create", &key.id, Some(&key.org), &details);
    noted(database, event, database.create_key(&Access::System, &key)).await.map_err(|error| match error {
        crate::store::ports::database::StoreError::Conflict(_) => {
            format!("--name {}: there is a key of that name: revoke it first, or rotate it", key.name)
        }
        error => error.to_string(),
    })?;
    if key.disabled {
        bound(database, &key, budgets, now).await?;
    }
    let ends = key.expires_at.map_or_else(String::new, |end| format!(", until {}", date(end)));
    let note = format!("The new key {} ({}){ends}, shown only now:", key.name, key.id);
    Ok(Made { secret, note })
}

/// Sets the budgets of a key that is new and switched off, and switches it on. When that fails, the key is void.
async fn bound(database: &dyn Database, key: &ApiKey, budgets: Vec<(Money, Span)>, now: u64) -> Result<(), String> {
    let set = async {
        for (amount, span) in budgets {
            let (id, org, subject) = (new_id("bud").into(), key.org.clone(), key.id.clone());
            put(database, &Budget { id, org, payer: Payer::Key, subject, span, amount }, now).await?;
        }
        let switch = database.set_key_disabled(&Access::System, &key.id, false);
        noted(database, about("key.enable", key), switch).await.map_err(|error| error.to_string())
    };
    let Err(why) = set.await else { return Ok(()) };
    // Nobody has seen it. Should this fail, too, it stays switched off.
    let revoke = database.revoke_key(&Access::System, &key.id, now);
    let _ = noted(database, about("key.revoke", key), revoke).await;
    Err(format!("the key's budgets cannot be set, so there is no key: {why}"))
}

async fn described(database: &dyn Database, args: &CreateKeyArgs, secret: &Secret, now: u64) -> Result<ApiKey, String> {
    let name = args.name.trim();
    if name.is_empty() || name.chars().count() > 100 || name.chars().any(char::is_control) {
        return Err("--name must have 1 to 100 characters".to_owned());
    }
    if name.contains('/') {
        // Keys of other organisations are called `organisation/name` in logs and rules.
        return Err(format!("--name {name}: must not have a slash"));
    }
    let scopes = scopes_of(args);
    if let Some(mistake) = scopes::mistake(&scopes) {
        return Err(mistake);
    }
    let mut key = new_key(new_id("key"), name, kept(secret, now), now);
    key.expires_at = args.expires.as_deref().map(|text| expiry(text, now)).transpose()?;
    key.owner.clone_from(&args.owner);
    key.workflow.clone_from(&args.workflow);
    key.scopes = scopes;
    key.limits = own_limits(args);
    for pair in &args.metadata {
        let (name, value) = pair.split_once('=').ok_or_else(|| format!("--metadata {pair}: must be NAME=VALUE"))?;
        key.metadata.insert(name.trim().to_owned(), value.to_owned());
    }
    if args.no_store {
        key.metadata.insert(STORE.to_owned(), "false".to_owned());
    }
    if let Some(wanted) = &args.project {
        let project = project_named(database, wanted).await?;
        (key.org, key.project) = (project.org, project.id);
    }
    Ok(key)
}

fn scopes_of(args: &CreateKeyArgs) -> Scopes {
    let tidy = |list: &[String]| list.iter().map(|text| text.trim().to_owned()).collect::<Vec<_>>();
    Scopes {
        models: tidy(&args.models),
        // Their ids are in lower case.
        providers: tidy(&args.providers).iter().map(|id| id.to_lowercase()).collect(),
        routes: tidy(&args.routes),
        addresses: tidy(&args.addresses),
    }
}

/// What is to be said of scopes that fit nothing here. Where the configuration cannot be read, nothing is.
pub async fn note_of_scopes(state: &State, args: &CreateKeyArgs) -> String {
    let (Ok(source), Ok(seen)) = (Source::of_process(args.state.config.clone()), state.look().await) else {
        return String::new();
    };
    let (followed, _) = state.open_up(&seen.contents);
    let Ok(loaded) = reload(&source, &followed) else { return String::new() };
    // Providers whose keys are in the environment of the gateway alone are not known here.
    if loaded.snapshot.providers.is_empty() {
        return String::new();
    }
    let idle = scopes::idle(&scopes_of(args), &loaded.snapshot);
    if idle.is_empty() {
        return String::new();
    }
    format!("\nnote: nothing that is configured here fits {}: is that written as it should be?", idle.join(", "))
}

fn own_limits(args: &CreateKeyArgs) -> Arc<[Limit]> {
    let limits = [
        (args.rpm, Measure::Requests(Period::Minute)),
        (args.rpd, Measure::Requests(Period::Day)),
        (args.tpm, Measure::Tokens(Period::Minute)),
        (args.tpd, Measure::Tokens(Period::Day)),
        (args.concurrency, Measure::Concurrency),
    ];
    limits.into_iter().filter_map(|(amount, measure)| Some(Limit { measure, amount: amount?.get() })).collect()
}

/// The project of an id or a name.
///
/// # Errors
/// When there is none, or the name could mean several.
pub(super) async fn project_named(database: &dyn Database, wanted: &str) -> Result<Project, String> {
    let mut projects = database.projects(&Access::System).await.map_err(|error| error.to_string())?;
    if !projects.iter().any(|project| *project.id == *wanted) {
        projects.retain(|project| project.name == wanted);
        if projects.len() > 1 {
            return Err(format!("--project {wanted}: several organisations have one of that name: give its id"));
        }
    } else {
        projects.retain(|project| *project.id == *wanted);
    }
    projects.pop().ok_or_else(|| format!("--project {wanted}: there is no such project"))
}

/// All keys as a table, revoked ones only when they are asked for.
///
/// # Errors
/// The database's.
pub async fn list(database: &dyn Database, args: &ListKeysArgs, now: u64) -> Result<String, String> {
    let keys = database.keys(&Access::System).await.map_err(|error| error.to_string())?;
    let rows = keys.iter().filter(|key| args.all || key.revoked_at.is_none()).map(|key| {
        let shown = key.secrets.first().map_or("", |secret| secret.shown.as_str());
        let ends = key.expires_at.map_or_else(|| "never".to_owned(), date);
        let cells = [&*key.name, &*key.id, shown, key.standing(now).name(), &ends].map(str::to_owned);
        (cells, restrictions(key))
    });
    let mut text = String::new();
    let head = (["NAME", "ID", "KEY", "STATE", "EXPIRES"].map(str::to_owned), "MAY USE".to_owned());
    for ([name, id, shown, standing, ends], scopes) in std::iter::once(head).chain(rows) {
        // A string takes any amount of text.
        let _ = writeln!(text, "{name:<20} {id:<28} {shown:<19} {standing:<9} {ends:<20} {scopes}");
    }
    Ok(text)
}

fn restrictions(key: &ApiKey) -> String {
    let Scopes { models, providers, routes, addresses } = &key.scopes;
    let lists = [("models", models), ("providers", providers), ("routes", routes), ("addresses", addresses)];
    let named = lists.into_iter().filter(|(_, list)| !list.is_empty());
    let scopes = named.map(|(name, list)| format!("{name}={}", list.join(",")));
    let limits = key.limits.iter().map(|limit| format!("{}={}", limit.measure.key(), limit.amount));
    let kept = (!key.stores()).then(|| "store=false".to_owned());
    let text: Vec<_> = scopes.chain(limits).chain(kept).collect();
    if text.is_empty() { "everything".to_owned() } else { text.join(" ") }
}

/// Makes a key void. Returns what is to be said.
///
/// # Errors
/// When there is no such key, or the name could mean several.
pub async fn revoke(database: &dyn Database, args: &OneKeyArgs, now: u64) -> Result<String, String> {
    let key = named(database, &args.key).await?;
    let revoke = database.revoke_key(&Access::System, &key.id, now);
    noted(database, about("key.revoke", &key), revoke).await.map_err(|error| error.to_string())?;
    Ok(format!("The key {} ({}) is void.", key.name, key.id))
}

/// Switches a key off or on. Returns what is to be said.
///
/// # Errors
/// When there is no such key, or the name could mean several.
pub async fn set_disabled(database: &dyn Database, args: &OneKeyArgs, disabled: bool) -> Result<String, String> {
    let key = named(database, &args.key).await?;
    if key.revoked_at.is_some() {
        return Err(format!("the key {} ({}) was revoked, for good: make a new one", key.name, key.id));
    }
    let event = about(if disabled { "key.disable" } else { "key.enable" }, &key);
    let switch = database.set_key_disabled(&Access::System, &key.id, disabled);
    noted(database, event, switch).await.map_err(|error| error.to_string())?;
    Ok(format!("The key {} ({}) is {}.", key.name, key.id, if disabled { "disabled" } else { "enabled" }))
}

/// Gives a key a new secret; the old one goes on for a while.
///
/// # Errors
/// When there is no such key, or the name could mean several.
pub async fn rotate(database: &dyn Database, args: &RotateKeyArgs, now: u64) -> Result<Made, String> {
    let overlap = duration(&args.overlap).ok_or_else(|| format!("--overlap {}: {DURATION}", args.overlap))?;
    let key = named(database, &args.one.key).await?;
    if key.standing(now) == Standing::Expired {
        return Err(format!("the key {} ({}) has expired: a new secret would not work either", key.name, key.id));
    }
    let secret = new_secret().map_err(|error| error.to_string())?;
    let old_until = now.saturating_add(millis(overlap));
    let kept = kept(&secret, now);
    let details = json!({"name": &*key.name, "new": &kept.shown, "old_until": date(old_until)});
    let event = by_hand("key.rotate", &key.id, Some(&key.org), &details);
    let rotated = noted(database, event, database.rotate_key(&Access::System, &key.id, &kept, old_until)).await;
    if !rotated.map_err(|error| error.to_string())? {
        return Err(format!("the key {} was revoked", key.name));
    }
    let note =
        format!("The key {} ({}) anew, shown only now; the old one works until {}:", key.name, key.id, date(old_until));
    Ok(Made { secret, note })
}

fn about(action: &str, key: &ApiKey) -> AuditEvent {
    by_hand(action, &key.id, Some(&key.org), &json!({"name": &*key.name}))
}

/// The key of an id or a name. A name in force goes before one that was revoked.
async fn named(database: &dyn Database, wanted: &str) -> Result<ApiKey, String> {
    let keys = database.keys(&Access::System).await.map_err(|error| error.to_string())?;
    if let Some(key) = keys.iter().find(|key| *key.id == *wanted) {
        return Ok(key.clone());
    }
    let of_name: Vec<&ApiKey> = keys.iter().filter(|key| *key.name == *wanted).collect();
    let in_force: Vec<&ApiKey> = of_name.iter().copied().filter(|key| key.standing(0) != Standing::Revoked).collect();
    match (&in_force[..], &of_name[..]) {
        ([key], _) | ([], [key]) => Ok((*key).clone()),
        ([], []) => Err(format!("there is no key {wanted:?}: see `orbyt keys list`")),
        _ => Err(format!("several keys are called {wanted:?}: name it by its id, see `orbyt keys list --all`")),
    }
}

const DURATION: &str = "must be a duration such as 30d or 12h";

fn duration(text: &str) -> Option<Duration> {
    if text == "0" { Some(Duration::ZERO) } else { values::duration(text) }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A time from now (`30d`), or a date or time (`2027-01-31`, `2027-01-31T12:00:00Z`), in Unix milliseconds.
fn expiry(text: &str, now: u64) -> Result<u64, String> {
    if let Some(duration) = duration(text) {
        if duration.is_zero() {
            return Err(format!("--expires {text}: has passed"));
        }
        return Ok(now.saturating_add(millis(duration)));
    }
    let time = OffsetDateTime::parse(text, &Rfc3339)
        .or_else(|_| OffsetDateTime::parse(&format!("{text}T00:00:00Z"), &Rfc3339));
    let time = time.map_err(|_| format!("--expires {text}: {DURATION}, or a date such as 2027-01-31"))?;
    let millis = u64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
    if millis > now { Ok(millis) } else { Err(format!("--expires {text}: has passed")) }
}

/// A time (Unix milliseconds) as people read it, to the second.
pub(super) fn date(millis: u64) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis / 1000) * 1_000_000_000);
    time.ok().and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| "the end of time".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_while_or_a_date() {
        assert_eq!(expiry("1h", 1000), Ok(3_601_000));
        assert_eq!(expiry("1970-01-02", 1000), Ok(86_400_000));
        assert_eq!(expiry("1970-01-01T00:01:00+00:00", 1000), Ok(60_000));
        assert!(expiry("1970-01-01", 1000).unwrap_err().contains("has passed"));
        assert!(expiry("0", 1000).unwrap_err().contains("has passed"));
        assert!(expiry("soon", 0).unwrap_err().starts_with("--expires soon: must be a duration"));
        assert_eq!(date(86_400_000), "1970-01-02T00:00:00Z");
    }
}
