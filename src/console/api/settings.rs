//! `/api/v1/models`, `/api/v1/presets`, `/api/v1/routing`: what was set here stands beside what the configuration file says, which goes first
//! and is said to.

use super::http::*;
use crate::config::stored::Laid;
use crate::config::{ModelAlias, Preset, Snapshot};
use crate::console::Unfit;
use crate::console::now_ms;
use crate::console::problem::Problem;
use crate::console::roles::Operation;
use crate::console::routes::Shared;
use crate::console::viewer::Viewer;
use crate::domain::stored_setting::{SECTIONS, SettingKind, StoredSetting};
use crate::store::ports::audit::noted;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// A model, preset or section of settings.
#[derive(Serialize, ToSchema)]
pub(super) struct Setting {
    /// Its name in requests, or the section's.
    name: String,
    /// `file`: the configuration file, or the environment, has it. `stored`: it was made here.
    source: &'static str,
    /// Whether it holds.
    in_force: bool,
    /// Why it does not hold, or what of it does not.
    note: Option<String>,
    /// What it says, by the keys of the configuration file.
    #[schema(value_type = Object)]
    value: Value,
    /// When it was changed last; null for what the file says.
    changed_at: Option<String>,
    /// Who changed it last.
    changed_by: Option<String>,
}

impl Setting {
    fn of(stored: &StoredSetting, snapshot: &Snapshot) -> Self {
        let laid = snapshot.stored.iter().find(|it| it.kind == stored.kind && it.name == stored.name);
        let (in_force, note) = match laid.map(|it| &it.laid) {
            Some(Laid::InForce) => (true, None),
            Some(Laid::Overridden(keys)) if keys.is_empty() => {
                (false, Some("the configuration file has one of this name, which goes first".to_owned()))
            }
            Some(Laid::Overridden(keys)) => {
                (true, Some(format!("the configuration file, or the environment, goes first for {}", keys.join(", "))))
            }
            Some(Laid::LeftOut(why)) => (false, Some(format!("it does not fit the rest of the configuration: {why}"))),
            None => (false, Some("it is not in force yet".to_owned())),
        };
        Self {
            name: stored.name.to_string(),
            source: "stored",
            in_force,
            note,
            value: serde_json::from_str(&stored.body).unwrap_or_default(),
            changed_at: Some(time_text(stored.changed_at)),
            changed_by: Some(stored.changed_by.clone()),
        }
    }

    fn of_file(name: &str, value: Value) -> Self {
        let (changed_at, changed_by) = (None, None);
        Self { name: name.to_owned(), source: "file", in_force: true, note: None, value, changed_at, changed_by }
    }
}

fn without_nulls(value: Value) -> Value {
    let Value::Object(members) = value else { return value };
    let is_set = |(_, value): &(String, Value)| !value.is_null() && *value != json!([]) && *value != json!({});
    Value::Object(members.into_iter().filter(is_set).collect())
}

fn alias_value(alias: &ModelAlias) -> Value {
    let strategy = alias.strategy.map(|strategy| strategy.name());
    without_nulls(json!({"targets": alias.targets, "fallbacks": alias.fallbacks, "strategy": strategy}))
}

fn preset_value(preset: &Preset) -> Value {
    let read = |(name, json): &(String, String)| (name.clone(), serde_json::from_str(json).unwrap_or_default());
    let parameters: Map<String, Value> = preset.parameters.iter().map(read).collect();
    without_nulls(json!({
        "name": preset.name, "model": preset.model, "fallbacks": preset.fallbacks,
        "strategy": preset.strategy.map(|strategy| strategy.name()), "system": preset.system, "parameters": parameters,
    }))
}

/// What the tag of a setting is made of: what was written, and not what became of it, which changes with the configuration around it.
fn version(it: &StoredSetting) -> impl Serialize {
    (it.kind.name(), it.name.to_string(), it.body.clone(), it.changed_at, it.changed_by.clone())
}

/// A setting that was made here, with its tag where there is one.
fn with_tag(status: StatusCode, setting: Setting, stored: Option<&StoredSetting>) -> Response {
    let mut answer = (status, Json(setting)).into_response();
    let tag = stored.map(|stored| tag(&version(stored)));
    if let Some(tag) = tag.and_then(|tag| HeaderValue::from_str(&tag).ok()) {
        answer.headers_mut().insert(header::ETAG, tag);
    }
    answer
}

/// All of a kind: those of the file, and those that were made here.
async fn all(shared: &Shared, kind: SettingKind) -> Result<Vec<Setting>, Problem> {
    let snapshot = (shared.deps.snapshot)();
    let stored = match &shared.deps.database {
        Some(database) => database.settings().await?,
        None => Vec::new(),
    };
    let is_in_force = |name: &str| {
        let is_it = |it: &&crate::config::stored::LaidSetting| it.kind == kind && *it.name == *name;
        snapshot.stored.iter().find(is_it).is_some_and(|it| it.laid == Laid::InForce)
    };
    let of_file: Vec<Setting> = match kind {
        SettingKind::Model => {
            let own = snapshot.aliases.iter().filter(|alias| !is_in_force(&alias.name));
            own.map(|alias| Setting::of_file(&alias.name, alias_value(alias))).collect()
        }
        SettingKind::Preset => {
            let own = snapshot.presets.iter().filter(|preset| !is_in_force(&preset.slug));
            own.map(|preset| Setting::of_file(&preset.slug, preset_value(preset))).collect()
        }
        SettingKind::Section => Vec::new(),
    };
    let made_here = stored.iter().filter(|it| it.kind == kind).map(|it| Setting::of(it, &snapshot));
    Ok(of_file.into_iter().chain(made_here).collect())
}

async fn listed(
    shared: &Shared,
    viewer: &Viewer,
    kind: SettingKind,
    wanted: &ListParams,
) -> Result<Json<Page<Setting>>, Problem> {
    viewer.may(Operation::SeeModels, wanted.org.as_deref())?;
    let all = all(shared, kind).await?;
    Ok(Json(Page::of(all, |it: &Setting| format!("{} {}", it.name, it.source), wanted)?))
}

/// Which of two of one name is wanted.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// `file`, or `stored` for the one that can be changed here; by default the one that holds.
    #[param(inline)]
    source: Option<Source>,
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Source {
    File,
    Stored,
}

impl Source {
    fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Stored => "stored",
        }
    }
}

async fn shown(
    shared: &Shared,
    viewer: &Viewer,
    (kind, name): (SettingKind, &str),
    wanted: &Which,
) -> Result<Response, Problem> {
    viewer.may(Operation::SeeModels, None)?;
    let is_it = |it: &Setting| it.name == name && wanted.source.is_none_or(|source| source.name() == it.source);
    let mut found: Vec<Setting> = all(shared, kind).await?.into_iter().filter(is_it).collect();
    // What holds goes before what would.
    found.sort_by_key(|it| !it.in_force);
    let setting = found.into_iter().next().ok_or_else(|| Problem::not_found(kind.name()))?;
    let stored = match &shared.deps.database {
        Some(database) => database.settings().await?,
        None => Vec::new(),
    };
    // Its tag is that of what a change is compared with, which is what was made here; what stands in the file alone cannot be changed.
    let stored = stored.iter().find(|it| it.kind == kind && *it.name == *name);
    Ok(with_tag(StatusCode::OK, setting, stored))
}

async fn put(
    shared: &Shared,
    viewer: &Viewer,
    (kind, name): (SettingKind, &str),
    seen: &IfMatch,
    value: Value,
) -> Result<Response, Problem> {
    viewer.may(Operation::ManageModels, None)?;
    let database = database(shared)?;
    checked_name("name", name)?;
    if !value.is_object() {
        return Err(Problem::invalid("body", "The body must be an object with the keys of the configuration file."));
    }
    let now = now_ms();
    let (body, changed_by) = (value.to_string(), viewer.name().to_owned());
    let setting = StoredSetting { kind, name: name.into(), body, changed_at: now, changed_by };
    let is_it = |it: &StoredSetting| it.kind == kind && it.name == setting.name;
    let old = database.settings().await?.into_iter().find(is_it);
    match &old {
        Some(old) => seen.check(&version(old))?,
        None => seen.check_nothing()?,
    }
    shared.deps.backstage.try_setting(setting.clone()).await.map_err(unfit)?;
    let event = viewer.event(now, &format!("{}.set", kind.name()), name, None, &value);
    let old_body = old.as_ref().map(|old| old.body.as_str());
    if !noted(&**database, event, database.put_setting(&setting, old_body)).await? {
        return Err(changed());
    }
    in_force(shared).await;
    let status = if old.is_some() { StatusCode::OK } else { StatusCode::CREATED };
    Ok(with_tag(status, Setting::of(&setting, &(shared.deps.snapshot)()), Some(&setting)))
}

/// What is wrong with a setting, at the member that is.
fn unfit(Unfit { member, why }: Unfit) -> Problem {
    match member {
        Some(member) => Problem::invalid(format!("/{member}"), why),
        None => Problem::invalid("body", why),
    }
}

async fn remove(
    shared: &Shared,
    viewer: &Viewer,
    (kind, name): (SettingKind, &str),
    seen: &IfMatch,
) -> Result<StatusCode, Problem> {
    viewer.may(Operation::ManageModels, None)?;
    let database = database(shared)?;
    let is_it = |it: &StoredSetting| it.kind == kind && *it.name == *name;
    let Some(old) = database.settings().await?.into_iter().find(is_it) else {
        let of_file = all(shared, kind).await?.iter().any(|it| it.name == name);
        return Err(if of_file {
            Problem::new(StatusCode::CONFLICT, "It stands in the configuration file: take it out there.")
        } else {
            Problem::not_found(kind.name())
        });
    };
    seen.check(&version(&old))?;
    let event = viewer.event(now_ms(), &format!("{}.remove", kind.name()), name, None, &json!({}));
    if !noted(&**database, event, database.remove_setting(kind, name, &old.body)).await? {
        return Err(changed());
    }
    in_force(shared).await;
    Ok(StatusCode::NO_CONTENT)
}

macro_rules! routes {
    ($module:ident, $kind:expr, $tag:tt, $list:tt, $one:tt, [$ids:tt, $list_doc:tt, $show_id:tt, $show_doc:tt, $set_id:tt, $set_doc:tt, $remove_id:tt, $remove_doc:tt]) => {
        pub(super) mod $module {
            use super::*;

            #[utoipa::path(get, path = $list, operation_id = $ids, summary = $list_doc, tag = $tag, params(ListParams),
                responses((status = 200, body = Page<Setting>)))]
            pub async fn list(
                State(shared): State<Arc<Shared>>,
                viewer: Viewer,
                Params(wanted): Params<ListParams>,
            ) -> Result<Json<Page<Setting>>, Problem> {
                listed(&shared, &viewer, $kind, &wanted).await
            }

            #[utoipa::path(get, path = $one, operation_id = $show_id, summary = $show_doc, tag = $tag, params(("name" = String, Path,), Which),
                responses((status = 200, body = Setting)))]
            pub async fn show(
                State(shared): State<Arc<Shared>>,
                viewer: Viewer,
                Segments(name): Segments<String>,
                Params(wanted): Params<Which>,
            ) -> Result<Response, Problem> {
                shown(&shared, &viewer, ($kind, &name), &wanted).await
            }

            #[utoipa::path(put, path = $one, operation_id = $set_id, summary = $set_doc, tag = $tag, params(("name" = String, Path,)),
                request_body = Object, responses((status = 200, body = Setting), (status = 201, body = Setting)))]
            pub async fn set(
                State(shared): State<Arc<Shared>>,
                viewer: Viewer,
                Segments(name): Segments<String>,
                seen: IfMatch,
                Body(value): Body<Value>,
            ) -> Result<Response, Problem> {
                put(&shared, &viewer, ($kind, &name), &seen, value).await
            }

            #[utoipa::path(delete, path = $one, operation_id = $remove_id, summary = $remove_doc, tag = $tag, params(("name" = String, Path,)),
                responses((status = 204)))]
            pub async fn remove(
                State(shared): State<Arc<Shared>>,
                viewer: Viewer,
                Segments(name): Segments<String>,
                seen: IfMatch,
            ) -> Result<StatusCode, Problem> {
                super::remove(&shared, &viewer, ($kind, &name), &seen).await
            }
        }
    };
}

routes!(
    models,
    SettingKind::Model,
    "models",
    "/api/v1/models",
    "/api/v1/models/{name}",
    [
        "list_models",
        "List models: those of the configuration file and those that were made here.",
        "show_model",
        "One model; of two of one name the one that holds.",
        "set_model",
        "Set a model: the body has the keys of the configuration file. In force at once here, and within a second everywhere.",
        "remove_model",
        "Take away a model that was made here."
    ]
);
routes!(
    presets,
    SettingKind::Preset,
    "presets",
    "/api/v1/presets",
    "/api/v1/presets/{name}",
    [
        "list_presets",
        "List presets: those of the configuration file and those that were made here.",
        "show_preset",
        "One preset; of two of one name the one that holds.",
        "set_preset",
        "Set a preset: the body has the keys of the configuration file. In force at once here, and within a second everywhere.",
        "remove_preset",
        "Take away a preset that was made here."
    ]
);

/// Sections of settings that were stored here.
#[utoipa::path(get, path = "/api/v1/routing", tag = "routing", params(ListParams), responses((status = 200, body = Page<Setting>)))]
pub(super) async fn sections(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Params(wanted): Params<ListParams>,
) -> Result<Json<Page<Setting>>, Problem> {
    listed(&shared, &viewer, SettingKind::Section, &wanted).await
}

/// One section.
#[utoipa::path(get, path = "/api/v1/routing/{section}", tag = "routing", params(("section" = String, Path,)),
    responses((status = 200, body = Setting)))]
pub(super) async fn section(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Segments(name): Segments<String>,
) -> Result<Response, Problem> {
    shown(&shared, &viewer, (SettingKind::Section, &name), &Which { source: None }).await
}

/// Set a section: `routing`, `retry`, `breaker`, `health`, `hedging` or `timeouts`, by the keys of the configuration file.
#[utoipa::path(put, path = "/api/v1/routing/{section}", tag = "routing", params(("section" = String, Path,)), request_body = Object,
    responses((status = 200, body = Setting), (status = 201, body = Setting)))]
pub(super) async fn set_section(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Segments(name): Segments<String>,
    seen: IfMatch,
    Body(value): Body<Value>,
) -> Result<Response, Problem> {
    viewer.may(Operation::ManageModels, None)?;
    if !SECTIONS.contains(&&*name) {
        return Err(Problem::not_found("section that can be set here"));
    }
    put(&shared, &viewer, (SettingKind::Section, &name), &seen, value).await
}

/// Take away a section that was set here.
#[utoipa::path(delete, path = "/api/v1/routing/{section}", tag = "routing", params(("section" = String, Path,)),
    responses((status = 204)))]
pub(super) async fn remove_section(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Segments(name): Segments<String>,
    seen: IfMatch,
) -> Result<StatusCode, Problem> {
    remove(&shared, &viewer, (SettingKind::Section, &name), &seen).await
}
