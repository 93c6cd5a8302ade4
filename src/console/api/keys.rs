//! `/api/v1/keys`: the gateway's own keys. Shaped like OpenRouter's: `data` holds a key, and `key`, once, its secret.

use super::FromPage;
use super::http::*;
use crate::config::scopes;
use crate::console::problem::Problem;
use crate::console::roles::Operation;
use crate::console::routes::Shared;
use crate::console::viewer::Viewer;
use crate::console::{new_id, new_key_secret, now_ms};
use crate::domain::tenancy::{ApiKey, DEFAULT_PROJECT, KeySecret, Project, Scopes, Standing};
use crate::domain::{Limit, Measure, Secret};
use crate::store::ports::audit::noted;
use crate::store::ports::database::Access;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use utoipa::{IntoParams, ToSchema};

/// For how long the old secret of a key goes on after a rotation, where nobody says.
const OVERLAP: Duration = Duration::from_secs(24 * 60 * 60);
/// For how long at most: a year.
const LONGEST_OVERLAP: u64 = 366 * 24 * 60 * 60;
/// How much may be remembered of a key, in entries and characters.
const MOST_METADATA: usize = 32;
/// What a key of the console's own has as `purpose` in its metadata. Nobody else's key has it.
pub(in crate::console) const PURPOSE: &str = "console";
/// A key of the console's own lasts no longer.
const LONGEST_OWN: u64 = 10 * 60 * 1000;

/// What a key may be used for. An empty list allows everything.
#[derive(Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct KeyScopes {
    /// Models: `provider/model`, or a bare name for that model at any provider; `*` stands for any text.
    models: Vec<String>,
    /// Providers by id.
    providers: Vec<String>,
    /// Paths of the gateway, such as `/v1/chat/completions`.
    routes: Vec<String>,
    /// Addresses or networks that the client may come from.
    addresses: Vec<String>,
}

/// A secret of a key, as far as it is shown.
#[derive(Serialize, ToSchema)]
pub(super) struct ShownSecret {
    /// Its ends.
    label: String,
    /// When it was made.
    created_at: String,
    /// When it ends, after a rotation.
    expires_at: Option<String>,
}

/// A key, without its secret.
#[derive(Serialize, ToSchema)]
pub(super) struct Key {
    /// Its id. It stays when the key is rotated.
    id: String,
    /// SHA-256 of its newest secret, by which OpenRouter's clients know a key.
    hash: String,
    /// Its organisation.
    org: String,
    /// Its project.
    project: String,
    /// Its name, unique among those of the organisation that are not revoked.
    name: String,
    /// The ends of its newest secret.
    label: String,
    /// Who answers for it.
    owner: Option<String>,
    /// What it is used for.
    workflow: Option<String>,
    /// What it may be used for.
    scopes: KeyScopes,
    /// Its own limits, by their names in `[[limits.rule]]`.
    limits: BTreeMap<String, u64>,
    /// Whatever else is to be remembered.
    metadata: BTreeMap<String, String>,
    /// `active`, `disabled`, `expired` or `revoked`.
    status: &'static str,
    /// Whether it is switched off.
    disabled: bool,
    /// When it was made.
    created_at: String,
    /// When it ends.
    expires_at: Option<String>,
    /// When it was revoked.
    revoked_at: Option<String>,
    /// Its secrets, the newest first; more than one while a rotation overlaps.
    secrets: Vec<ShownSecret>,
}

impl Key {
    fn of(key: &ApiKey, now: u64) -> Self {
        let newest = key.secrets.first();
        let Scopes { models, providers, routes, addresses } = key.scopes.clone();
        let secret = |secret: &KeySecret| ShownSecret {
            label: secret.shown.clone(),
            created_at: time_text(secret.created_at),
            expires_at: secret.expires_at.map(time_text),
        };
        Self {
            id: key.id.to_string(),
            hash: newest.map_or_else(String::new, |secret| secret.hash.to_hex()),
            org: key.org.to_string(),
            project: key.project.to_string(),
            name: key.name.to_string(),
            label: newest.map_or_else(String::new, |secret| secret.shown.clone()),
            owner: key.owner.clone(),
            workflow: key.workflow.clone(),
            scopes: KeyScopes { models, providers, routes, addresses },
            limits: key.limits.iter().map(|limit| (limit.measure.key(), limit.amount)).collect(),
            metadata: key.metadata.clone(),
            status: key.standing(now).name(),
            disabled: key.disabled,
            created_at: time_text(key.created_at),
            expires_at: key.expires_at.map(time_text),
            revoked_at: key.revoked_at.map(time_text),
            secrets: key.secrets.iter().map(secret).collect(),
        }
    }
}

/// One key.
#[derive(Serialize, ToSchema)]
pub(super) struct OneKey {
    data: Key,
}

/// A key with its secret, which is shown this once.
#[derive(Serialize, ToSchema)]
pub(super) struct KeyWithSecret {
    data: Key,
    /// The key itself: nobody can show it again.
    key: String,
}

/// What became of a key that was to be removed.
#[derive(Serialize, ToSchema)]
pub(super) struct Deleted {
    /// Always true.
    deleted: bool,
}

/// A key to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKey {
    /// Its name.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// Its project, by id; by default the project `default` of the organisation, or its oldest where none is called so.
    project: Option<String>,
    /// Its organisation, by id, where the project is not named; by default the one that you belong to.
    org: Option<String>,
    /// Who answers for it. A member can answer for their own keys alone.
    owner: Option<String>,
    /// What it is used for.
    workflow: Option<String>,
    /// What it may be used for.
    #[serde(default)]
    scopes: KeyScopes,
    /// Its own limits.
    #[serde(default)]
    limits: BTreeMap<String, u64>,
    /// Whatever else is to be remembered.
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    /// When it ends (RFC 3339).
    expires_at: Option<String>,
}

/// What is to be changed of a key; what is left out stays, what is null goes.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyChange {
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    disabled: Option<bool>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    owner: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    workflow: Option<Option<String>>,
    scopes: Option<KeyScopes>,
    limits: Option<BTreeMap<String, u64>>,
    metadata: Option<BTreeMap<String, String>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    expires_at: Option<Option<String>>,
}

/// How a key is to be rotated.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Rotation {
    /// For how many seconds the old secret goes on; a day by default.
    #[schema(maximum = 31_622_400)]
    overlap_seconds: Option<u64>,
}

/// Which keys are wanted.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct KeysWanted {
    /// Of this organisation alone, by its id.
    org: Option<String>,
    /// How many at most, 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// Behind the end of the page that had this as `next_cursor`.
    cursor: Option<String>,
    /// `oldest` (by default) or `newest` first. It is to be the same for all pages of a list.
    #[param(inline)]
    order: Option<KeyOrder>,
    /// Those alone of which this is the status.
    #[param(inline)]
    status: Option<KeyStatus>,
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum KeyOrder {
    Oldest,
    Newest,
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum KeyStatus {
    Active,
    Disabled,
    Expired,
    Revoked,
}

impl KeyStatus {
    fn is_of(self, standing: Standing) -> bool {
        match self {
            Self::Active => standing == Standing::Active,
            Self::Disabled => standing == Standing::Disabled,
            Self::Expired => standing == Standing::Expired,
            Self::Revoked => standing == Standing::Revoked,
        }
    }
}

/// List keys, revoked ones included.
#[utoipa::path(get, path = "/api/v1/keys", tag = "keys", params(KeysWanted), responses((status = 200, body = Page<Key>)))]
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Params(KeysWanted { org, limit, cursor, order, status }): Params<KeysWanted>,
) -> Result<Json<Page<Key>>, Problem> {
    let (mut keys, now) = (Vec::new(), now_ms());
    for access in viewer.reach(Operation::SeeKeys, org.as_deref())? {
        keys.extend(database(&shared)?.keys(&access).await?);
    }
    keys.retain(|key| status.is_none_or(|status| status.is_of(key.standing(now))));
    let place = |key: &ApiKey| match order {
        None | Some(KeyOrder::Oldest) => format!("{:020}{}", key.created_at, key.id),
        Some(KeyOrder::Newest) => format!("{:020}{}", u64::MAX - key.created_at, key.id),
    };
    let page = Page::of(keys, place, &ListParams { org, limit, cursor })?;
    Ok(Json(page.map(|key| Key::of(&key, now))))
}

/// Make a key. It is shown once, in the answer.
#[utoipa::path(post, path = "/api/v1/keys", tag = "keys", request_body = NewKey, responses((status = 201, body = KeyWithSecret)))]
pub(super) async fn create(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    page: Option<Extension<FromPage>>,
    Body(wanted): Body<NewKey>,
) -> Result<Response, Problem> {
    let database = database(&shared)?;
    if page.is_none() {
        not_consoles_own(&wanted.metadata)?;
    }
    let project = project_of(&shared, &viewer, wanted.project.as_deref(), wanted.org.as_deref()).await?;
    viewer.may(Operation::MakeOwnKeys, Some(&project.org))?;
    let now = now_ms();
    let (secret, kept) = new_secret(now)?;
    let key = ApiKey {
        id: new_id("key").into(),
        org: project.org.clone(),
        project: project.id,
        name: checked_key_name(&wanted.name)?,
        owner: owner(&viewer, &project.org, checked_text("owner", wanted.owner)?)?,
        workflow: checked_text("workflow", wanted.workflow)?,
        scopes: checked_scopes(wanted.scopes)?,
        limits: checked_limits(&wanted.limits)?,
        metadata: checked_metadata(wanted.metadata)?,
        disabled: false,
        created_at: now,
        expires_at: wanted.expires_at.map(|text| time_ahead("expires_at", &text, now)).transpose()?,
        revoked_at: None,
        secrets: vec![kept],
    };
    let details = json!({"name": &*key.name, "project": &*key.project, "owner": &key.owner});
    let event = viewer.event(now, "key.create", &key.id, Some(&key.org), &details);
    let access = Access::Org(key.org.clone());
    noted(&**database, event, database.create_key(&access, &key)).await.map_err(taken("name", "a key"))?;
    in_force(&shared).await;
    let answer = KeyWithSecret { data: Key::of(&key, now), key: secret.reveal().to_owned() };
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

/// One key.
#[utoipa::path(get, path = "/api/v1/keys/{id}", tag = "keys", params(("id" = String, Path,)), responses((status = 200, body = OneKey)))]
pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Segments(id): Segments<String>,
) -> Result<Response, Problem> {
    let key = find(&shared, &viewer, &id).await?;
    Ok(tagged(StatusCode::OK, OneKey { data: Key::of(&key, now_ms()) }))
}

/// Change a key. With `if-match`, only the version that was seen.
#[utoipa::path(patch, path = "/api/v1/keys/{id}", tag = "keys", params(("id" = String, Path,)), request_body = KeyChange,
    responses((status = 200, body = OneKey)))]
pub(super) async fn change(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Segments(id): Segments<String>,
    seen: IfMatch,
    Body(change): Body<KeyChange>,
) -> Result<Response, Problem> {
    let now = now_ms();
    let old = find(&shared, &viewer, &id).await?;
    may_change(&viewer, &old)?;
    seen.check(&OneKey { data: Key::of(&old, now) })?;
    if old.revoked_at.is_some() {
        return Err(Problem::new(StatusCode::CONFLICT, "This key was revoked, for good: make a new one."));
    }
    let mut new = old.clone();
    if let Some(name) = change.name {
        new.name = checked_key_name(&name)?;
    }
    if let Some(asked) = change.owner {
        new.owner = owner(&viewer, &old.org, checked_text("owner", asked)?)?;
    }
    if let Some(workflow) = change.workflow {
        new.workflow = checked_text("workflow", workflow)?;
    }
    if let Some(scopes) = change.scopes {
        new.scopes = checked_scopes(scopes)?;
    }
    if let Some(limits) = change.limits {
        new.limits = checked_limits(&limits)?;
    }
    if let Some(metadata) = change.metadata {
        not_consoles_own(&metadata)?;
        new.metadata = checked_metadata(metadata)?;
    }
    if let Some(end) = change.expires_at {
        new.expires_at = end.map(|text| time_ahead("expires_at", &text, now)).transpose()?;
    }
    new.disabled = change.disabled.unwrap_or(new.disabled);
    let database = database(&shared)?;
    let details = json!({"name": &*new.name, "disabled": new.disabled, "owner": &new.owner});
    let event = viewer.event(now, "key.change", &old.id, Some(&old.org), &details);
    let access = Access::Org(old.org.clone());
    let replaced = noted(&**database, event, database.replace_key(&access, &old, &new)).await;
    if !replaced.map_err(taken("name", "a key"))? {
        return Err(changed());
    }
    in_force(&shared).await;
    Ok(tagged(StatusCode::OK, OneKey { data: Key::of(&new, now) }))
}

/// Give a key a new secret, shown once; the old one goes on for a while.
#[utoipa::path(post, path = "/api/v1/keys/{id}/rotate", tag = "keys", params(("id" = String, Path,)), request_body = Rotation,
    responses((status = 200, body = KeyWithSecret)))]
pub(super) async fn rotate(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Segments(id): Segments<String>,
    Body(how): Body<Rotation>,
) -> Result<Json<KeyWithSecret>, Problem> {
    let now = now_ms();
    let mut key = find(&shared, &viewer, &id).await?;
    may_change(&viewer, &key)?;
    if matches!(key.standing(now), Standing::Revoked | Standing::Expired) {
        let detail = "This key was revoked or has expired: a new secret would not work either.";
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    let overlap = how.overlap_seconds.unwrap_or(OVERLAP.as_secs());
    if overlap > LONGEST_OVERLAP {
        return Err(Problem::invalid("overlap_seconds", "overlap_seconds must be at most a year."));
    }
    let old_until = now.saturating_add(overlap.saturating_mul(1000));
    let (secret, kept) = new_secret(now)?;
    let details = json!({"name": &*key.name, "new": &kept.shown, "old_until": time_text(old_until)});
    let event = viewer.event(now, "key.rotate", &key.id, Some(&key.org), &details);
    let (database, access) = (database(&shared)?, Access::Org(key.org.clone()));
    if !noted(&**database, event, database.rotate_key(&access, &key.id, &kept, old_until)).await? {
        return Err(Problem::new(StatusCode::CONFLICT, "This key was revoked meanwhile."));
    }
    in_force(&shared).await;
    for old in &mut key.secrets {
        old.expires_at = Some(old.expires_at.map_or(old_until, |end| end.min(old_until)));
    }
    key.secrets.insert(0, kept);
    Ok(Json(KeyWithSecret { data: Key::of(&key, now), key: secret.reveal().to_owned() }))
}

/// Revoke a key, for good. The next request with it is refused here, and within a second everywhere.
#[utoipa::path(post, path = "/api/v1/keys/{id}/revoke", tag = "keys", params(("id" = String, Path,)),
    responses((status = 200, body = OneKey)))]
pub(super) async fn revoke(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Segments(id): Segments<String>,
) -> Result<Json<OneKey>, Problem> {
    let key = revoked(&shared, &viewer, &id, None).await?;
    Ok(Json(OneKey { data: Key::of(&key, now_ms()) }))
}

/// Revoke a key as OpenRouter's clients do. Its row stays, because the ledger names it.
#[utoipa::path(delete, path = "/api/v1/keys/{id}", tag = "keys", params(("id" = String, Path,)),
    responses((status = 200, body = Deleted)))]
pub(super) async fn remove(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Segments(id): Segments<String>,
    seen: IfMatch,
) -> Result<Json<Deleted>, Problem> {
    revoked(&shared, &viewer, &id, Some(&seen)).await?;
    Ok(Json(Deleted { deleted: true }))
}

async fn revoked(shared: &Shared, viewer: &Viewer, id: &str, seen: Option<&IfMatch>) -> Result<ApiKey, Problem> {
    let now = now_ms();
    let mut key = find(shared, viewer, id).await?;
    may_change(viewer, &key)?;
    if let Some(seen) = seen {
        seen.check(&OneKey { data: Key::of(&key, now) })?;
    }
    if key.revoked_at.is_none() {
        let database = database(shared)?;
        let event = viewer.event(now, "key.revoke", &key.id, Some(&key.org), &json!({"name": &*key.name}));
        let access = Access::Org(key.org.clone());
        noted(&**database, event, database.revoke_key(&access, &key.id, now)).await?;
        // Each question of the playground has one: their rows would be more than everybody else's. The audit log has them all.
        if is_consoles_own(&key) {
            database.forget_key(&access, &key.id).await?;
        }
        in_force(shared).await;
        key.revoked_at = Some(now);
    }
    Ok(key)
}

/// The key of an id, or of the hash of its newest secret, if it is in sight.
async fn find(shared: &Shared, viewer: &Viewer, id: &str) -> Result<ApiKey, Problem> {
    for access in viewer.reach(Operation::SeeKeys, None)? {
        let keys = database(shared)?.keys(&access).await?;
        let is_it = |key: &ApiKey| *key.id == *id || key.secrets.first().is_some_and(|it| it.hash.to_hex() == id);
        if let Some(key) = keys.into_iter().find(is_it) {
            return Ok(key);
        }
    }
    Err(Problem::not_found("key"))
}

/// Whoever may change everybody's keys may, and members those that they answer for.
fn may_change(viewer: &Viewer, key: &ApiKey) -> Result<(), Problem> {
    let own = viewer.as_person().is_some_and(|person| key.owner.as_deref() == Some(person.email.as_str()));
    let operation = if own { Operation::MakeOwnKeys } else { Operation::ManageKeys };
    viewer.may(operation, Some(&key.org))
}

/// Who answers for a key: whoever makes it, unless they may say that it is somebody else.
fn owner(viewer: &Viewer, org: &str, asked: Option<String>) -> Result<Option<String>, Problem> {
    let Some(person) = viewer.as_person() else { return Ok(asked) };
    match asked {
        Some(other) if other == person.email => Ok(Some(other)),
        other if viewer.can(Operation::ManageKeys, org) => Ok(other),
        None => Ok(Some(person.email.clone())),
        Some(_) => Err(Problem::new(StatusCode::FORBIDDEN, "A member can answer for their own keys alone.")),
    }
}

/// The project that something is to belong to.
pub(super) async fn project_of(
    shared: &Shared,
    viewer: &Viewer,
    project: Option<&str>,
    org: Option<&str>,
) -> Result<Project, Problem> {
    let mut projects = Vec::new();
    for access in viewer.reach(Operation::SeeOrg, org)? {
        projects.extend(database(shared)?.projects(&access).await?);
    }
    let by_id = |id: &str| projects.iter().find(|one| *one.id == *id).cloned();
    let found = match (project, org) {
        (Some(id), _) => by_id(id),
        (None, None) if viewer.is_administrator() => by_id(DEFAULT_PROJECT),
        (None, _) => {
            let first = projects.first().cloned();
            if projects.iter().any(|one| first.as_ref().is_some_and(|first| first.org != one.org)) {
                return Err(Problem::invalid("org", "You belong to several organisations: name one, or a project."));
            }
            // Where that was renamed: the oldest, which it most likely is.
            projects.iter().find(|one| one.name == "default").cloned().or(first)
        }
    };
    found.ok_or_else(|| Problem::invalid("project", "There is no such project."))
}

fn new_secret(now: u64) -> Result<(Secret, KeySecret), Problem> {
    let secret = new_key_secret().map_err(|error| {
        log::error!("{error}");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "The system gives no random bytes.")
    })?;
    let kept = KeySecret { hash: secret.hash(), shown: secret.masked(), created_at: now, expires_at: None };
    Ok((secret, kept))
}

fn checked_key_name(name: &str) -> Result<Arc<str>, Problem> {
    let name = checked_name("name", name)?;
    if name.contains('/') {
        // Keys of other organisations are called `organisation/name` in logs and rules.
        return Err(Problem::invalid("name", "name must not have a slash."));
    }
    Ok(name.into())
}

fn checked_scopes(scopes: KeyScopes) -> Result<Scopes, Problem> {
    let tidy = |list: Vec<String>| list.into_iter().map(|text| text.trim().to_owned()).collect::<Vec<_>>();
    let scopes = Scopes {
        models: tidy(scopes.models),
        // Their ids are in lower case.
        providers: tidy(scopes.providers).into_iter().map(|id| id.to_lowercase()).collect(),
        routes: tidy(scopes.routes),
        addresses: tidy(scopes.addresses),
    };
    match scopes::mistake(&scopes) {
        Some(mistake) => Err(Problem::invalid("scopes", mistake)),
        None => Ok(scopes),
    }
}

fn checked_limits(limits: &BTreeMap<String, u64>) -> Result<Arc<[Limit]>, Problem> {
    for (key, amount) in limits {
        if Measure::from_key(key).is_none() {
            let known = Measure::all().map(Measure::key).collect::<Vec<_>>().join(", ");
            return Err(Problem::invalid("limits", format!("There is no limit {key:?}: there are {known}.")));
        }
        if *amount == 0 || i64::try_from(*amount).is_err() {
            return Err(Problem::invalid("limits", format!("{key} must be 1 or more: disable the key to stop it.")));
        }
    }
    let limit = |measure: Measure| limits.get(&measure.key()).map(|amount| Limit { measure, amount: *amount });
    Ok(Measure::all().filter_map(limit).collect())
}

/// Whether a key is one that the console has made for a request of its own.
fn is_consoles_own(key: &ApiKey) -> bool {
    let is_short = key.expires_at.is_some_and(|end| end.saturating_sub(key.created_at) <= LONGEST_OWN);
    is_short && key.metadata.get("purpose").is_some_and(|purpose| purpose == PURPOSE)
}

/// Refuses metadata by which people's keys would be taken for the console's own.
fn not_consoles_own(metadata: &BTreeMap<String, String>) -> Result<(), Problem> {
    match metadata.get("purpose") {
        Some(purpose) if purpose == PURPOSE => {
            Err(Problem::invalid("metadata", "The purpose \"console\" is that of the console's own keys."))
        }
        _ => Ok(()),
    }
}

fn checked_metadata(metadata: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Problem> {
    let is_long = |text: &str| text.chars().count() > 500 || text.contains('\0');
    if metadata.len() > MOST_METADATA || metadata.iter().any(|(name, value)| is_long(name) || is_long(value)) {
        return Err(Problem::invalid("metadata", "metadata may have 32 entries of at most 500 characters."));
    }
    Ok(metadata)
}
