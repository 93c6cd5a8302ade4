//! `/api/v1/provider-keys`: keys of providers in the vault. They go in, and never come out.

use super::http::*;
use super::keys::project_of;
use crate::console::problem::Problem;
use crate::console::roles::Operation;
use crate::console::routes::Shared;
use crate::console::viewer::Viewer;
use crate::console::{new_id, now_ms};
use crate::domain::Secret;
use crate::domain::tenancy::SealedKey;
use crate::store::ports::audit::noted;
use crate::store::ports::database::Access;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use utoipa::ToSchema;

/// A provider's key in the vault.
#[derive(Serialize, ToSchema)]
pub(super) struct ProviderKey {
    /// Its id.
    id: String,
    /// The provider's id.
    provider: String,
    /// Its name in logs and metrics.
    name: String,
    /// Its ends.
    label: String,
    /// The organisation whose own it is; null for the gateway's, which serve everybody.
    org: Option<String>,
    /// The project whose own it is; null for all of the organisation's.
    project: Option<String>,
    /// When it was added.
    created_at: String,
}

impl From<&SealedKey> for ProviderKey {
    fn from(key: &SealedKey) -> Self {
        Self {
            id: key.id.to_string(),
            provider: key.provider.clone(),
            name: key.name.clone(),
            label: key.shown.clone(),
            org: key.org.as_deref().map(str::to_owned),
            project: key.project.as_deref().map(str::to_owned),
            created_at: time_text(key.created_at),
        }
    }
}

/// A key to be put into the vault.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewProviderKey {
    /// The provider's id.
    provider: String,
    /// The key itself.
    #[schema(format = Password)]
    key: String,
    /// Its name; `<provider>_vault` by default.
    name: Option<String>,
    /// The organisation whose own it is to be. Without it and `project` the key serves everybody, which takes the administrator.
    org: Option<String>,
    /// The project whose own it is to be.
    project: Option<String>,
}

/// List the keys in the vault, none of them in clear.
#[utoipa::path(get, path = "/api/v1/provider-keys", tag = "provider keys", params(ListParams),
    responses((status = 200, body = Page<ProviderKey>)))]
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Params(wanted): Params<ListParams>,
) -> Result<Json<Page<ProviderKey>>, Problem> {
    let mut keys = Vec::new();
    for access in viewer.reach(Operation::SeeProviderKeys, wanted.org.as_deref())? {
        keys.extend(database(&shared)?.provider_keys(&access).await?);
    }
    let page = Page::of(keys, |key| format!("{:020}{}", key.created_at, key.id), &wanted)?;
    Ok(Json(page.map(|key| ProviderKey::from(&key))))
}

/// Put a key into the vault.
#[utoipa::path(post, path = "/api/v1/provider-keys", tag = "provider keys", request_body = NewProviderKey,
    responses((status = 201, body = ProviderKey)))]
pub(super) async fn add(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Body(wanted): Body<NewProviderKey>,
) -> Result<Response, Problem> {
    database(&shared)?;
    let NewProviderKey { provider, key, name, org, project } = wanted;
    let secret = Secret::new(key);
    let (org, project) = match (org, project) {
        (org, Some(project)) => {
            let project = project_of(&shared, &viewer, Some(&project), org.as_deref()).await?;
            (Some(project.org), Some(project.id))
        }
        (Some(org), None) => {
            (Some(super::orgs::find(&shared, &viewer, Operation::ManageProviderKeys, &org).await?.id), None)
        }
        (None, None) => (None, None),
    };
    match &org {
        Some(org) => viewer.may(Operation::ManageProviderKeys, Some(org))?,
        None => viewer.may(Operation::ManageGateway, None)?,
    }
    let provider = known_provider(&shared, &provider, &secret)?;
    let name = name.map_or_else(|| Ok(format!("{provider}_vault")), |name| checked_name("name", &name))?;
    let key = SealedKey {
        id: new_id("pk").into(),
        org,
        project,
        provider,
        name,
        shown: secret.masked(),
        created_at: now_ms(),
        envelope: String::new(),
    };
    let details =
        json!({"provider": &key.provider, "name": &key.name, "key": &key.shown, "project": key.project.as_deref()});
    let event = viewer.event(key.created_at, "vault.add", &key.id, key.org.as_deref(), &details);
    let adding = shared.deps.backstage.add_provider_key(key.clone(), secret, event);
    adding.await.map_err(taken("name", "a key"))?;
    in_force(&shared).await;
    Ok((StatusCode::CREATED, Json(ProviderKey::from(&key))).into_response())
}

/// Take a key out of the vault: it is not used any more.
#[utoipa::path(delete, path = "/api/v1/provider-keys/{id}", tag = "provider keys", params(("id" = String, Path,)),
    responses((status = 204)))]
pub(super) async fn remove(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Segments(id): Segments<String>,
) -> Result<StatusCode, Problem> {
    let database = database(&shared)?;
    let mut found = None;
    for access in viewer.reach(Operation::SeeProviderKeys, None)? {
        found = found.or(database.provider_keys(&access).await?.into_iter().find(|key| *key.id == *id));
    }
    let key = found.ok_or_else(|| Problem::not_found("provider key"))?;
    match &key.org {
        Some(org) => viewer.may(Operation::ManageProviderKeys, Some(org))?,
        None => viewer.may(Operation::ManageGateway, None)?,
    }
    let details = json!({"provider": &key.provider, "name": &key.name, "key": &key.shown});
    let event = viewer.event(now_ms(), "vault.remove", &key.id, key.org.as_deref(), &details);
    let access = key.org.clone().map_or(Access::System, Access::Org);
    noted(&**database, event, database.remove_provider_key(&access, &key.id)).await?;
    in_force(&shared).await;
    Ok(StatusCode::NO_CONTENT)
}

/// The id of a provider that there is, if the key may be one for it.
fn known_provider(shared: &Shared, wanted: &str, secret: &Secret) -> Result<String, Problem> {
    let text = secret.reveal();
    if text.is_empty() || !text.bytes().all(|byte| matches!(byte, b'!'..=b'~')) {
        let detail = "The key is empty, or holds characters that cannot be sent in a header.";
        return Err(Problem::invalid("key", detail));
    }
    let snapshot = (shared.deps.snapshot)();
    let wanted = wanted.trim().to_lowercase();
    let of_catalog = snapshot.catalog.provider(&wanted).map(|row| row.id.to_string());
    let id = of_catalog.or_else(|| snapshot.provider(&wanted).map(|provider| provider.id.to_string()));
    let id = id.ok_or_else(|| Problem::invalid("provider", "There is no such provider."))?;
    match snapshot.catalog.foreign_key(&id, text) {
        None => Ok(id),
        Some(makers) => {
            let detail = format!("This is not a key for {id}: it begins like one of {}.", makers.join(" or "));
            Err(Problem::invalid("key", detail))
        }
    }
}
