//! `/api/v1/orgs` and `/api/v1/projects`: who owns what.

use super::http::*;
use crate::console::problem::Problem;
use crate::console::roles::Operation;
use crate::console::routes::Shared;
use crate::console::viewer::Viewer;
use crate::console::{new_id, now_ms};
use crate::domain::tenancy;
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

/// An organisation.
#[derive(Serialize, ToSchema)]
pub(super) struct Org {
    /// Its id.
    id: String,
    /// Its name, unique.
    name: String,
    /// What you may do there: `owner`, `admin`, `member` or `viewer`.
    role: Option<&'static str>,
}

impl Org {
    fn of(org: &tenancy::Organisation, viewer: &Viewer) -> Self {
        let role = viewer.role_in(&org.id).map(tenancy::Role::name);
        Self { id: org.id.to_string(), name: org.name.clone(), role }
    }
}

/// A project.
#[derive(Serialize, ToSchema)]
pub(super) struct Project {
    /// Its id.
    id: String,
    /// Its organisation.
    org: String,
    /// Its name, unique in the organisation.
    name: String,
}

impl From<&tenancy::Project> for Project {
    fn from(project: &tenancy::Project) -> Self {
        Self { id: project.id.to_string(), org: project.org.to_string(), name: project.name.clone() }
    }
}

/// An organisation to be made, or its new name.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OrgName {
    /// Its name.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
}

/// A project to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewProject {
    /// Its organisation, by id.
    org: String,
    /// Its name.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
}

/// A project's new name.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ProjectName {
    /// Its name.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
}

/// List the organisations in sight.
#[utoipa::path(get, path = "/api/v1/orgs", tag = "organisations", params(ListParams), responses((status = 200, body = Page<Org>)))]
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Params(wanted): Params<ListParams>,
) -> Result<Json<Page<Org>>, Problem> {
    let mut orgs = Vec::new();
    for access in viewer.reach(Operation::SeeOrg, wanted.org.as_deref())? {
        orgs.extend(database(&shared)?.orgs(&access).await?);
    }
    Ok(Json(Page::of(orgs, |org| org.id.to_string(), &wanted)?.map(|org| Org::of(&org, &viewer))))
}

/// Make an organisation, with a project called default.
#[utoipa::path(post, path = "/api/v1/orgs", tag = "organisations", request_body = OrgName, responses((status = 201, body = Org)))]
pub(super) async fn create(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Body(wanted): Body<OrgName>,
) -> Result<Response, Problem> {
    viewer.may(Operation::ManageOrgs, None)?;
    let (database, now) = (database(&shared)?, now_ms());
    let org = tenancy::Organisation { id: new_id("org").into(), name: checked_name("name", &wanted.name)? };
    let event = viewer.event(now, "org.create", &org.id, Some(&org.id), &json!({"name": &org.name}));
    noted(&**database, event, database.create_org(&org, now)).await.map_err(taken("name", "an organisation"))?;
    let project = tenancy::Project { id: new_id("prj").into(), org: org.id.clone(), name: "default".to_owned() };
    make_project(&shared, &viewer, &project).await?;
    Ok((StatusCode::CREATED, Json(Org::of(&org, &viewer))).into_response())
}

/// One organisation.
#[utoipa::path(get, path = "/api/v1/orgs/{org}", tag = "organisations", params(("org" = String, Path,)),
    responses((status = 200, body = Org)))]
pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Segments(id): Segments<String>,
) -> Result<Response, Problem> {
    let org = find(&shared, &viewer, Operation::SeeOrg, &id).await?;
    Ok(tagged(StatusCode::OK, Org::of(&org, &viewer)))
}

/// Rename an organisation.
#[utoipa::path(patch, path = "/api/v1/orgs/{org}", tag = "organisations", params(("org" = String, Path,)), request_body = OrgName,
    responses((status = 200, body = Org)))]
pub(super) async fn rename(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Segments(id): Segments<String>,
    seen: IfMatch,
    Body(wanted): Body<OrgName>,
) -> Result<Response, Problem> {
    let org = find(&shared, &viewer, Operation::ManageOrg, &id).await?;
    seen.check(&Org::of(&org, &viewer))?;
    let (database, name) = (database(&shared)?, checked_name("name", &wanted.name)?);
    let event = viewer.event(now_ms(), "org.rename", &org.id, Some(&org.id), &json!({"from": &org.name, "to": &name}));
    let renamed = noted(&**database, event, database.rename_org(&org.id, &org.name, &name)).await;
    if !renamed.map_err(taken("name", "an organisation"))? {
        return Err(changed());
    }
    Ok(tagged(StatusCode::OK, Org::of(&tenancy::Organisation { name, ..org }, &viewer)))
}

/// List projects.
#[utoipa::path(get, path = "/api/v1/projects", tag = "organisations", params(ListParams),
    responses((status = 200, body = Page<Project>)))]
pub(super) async fn list_projects(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Params(wanted): Params<ListParams>,
) -> Result<Json<Page<Project>>, Problem> {
    let mut projects = Vec::new();
    for access in viewer.reach(Operation::SeeOrg, wanted.org.as_deref())? {
        projects.extend(database(&shared)?.projects(&access).await?);
    }
    Ok(Json(Page::of(projects, |project| project.id.to_string(), &wanted)?.map(|project| Project::from(&project))))
}

/// Make a project, to tell applications and their costs apart.
#[utoipa::path(post, path = "/api/v1/projects", tag = "organisations", request_body = NewProject,
    responses((status = 201, body = Project)))]
pub(super) async fn create_project(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Body(wanted): Body<NewProject>,
) -> Result<Response, Problem> {
    let org = find(&shared, &viewer, Operation::ManageProjects, &wanted.org).await?;
    let name = checked_name("name", &wanted.name)?;
    let project = tenancy::Project { id: new_id("prj").into(), org: org.id, name };
    make_project(&shared, &viewer, &project).await?;
    Ok((StatusCode::CREATED, Json(Project::from(&project))).into_response())
}

async fn make_project(shared: &Shared, viewer: &Viewer, project: &tenancy::Project) -> Result<(), Problem> {
    let (database, now) = (database(shared)?, now_ms());
    let event = viewer.event(now, "project.create", &project.id, Some(&project.org), &json!({"name": &project.name}));
    let access = Access::Org(project.org.clone());
    let making = noted(&**database, event, database.create_project(&access, project, now));
    making.await.map_err(taken("name", "a project"))
}

/// One project.
#[utoipa::path(get, path = "/api/v1/projects/{id}", tag = "organisations", params(("id" = String, Path,)),
    responses((status = 200, body = Project)))]
pub(super) async fn show_project(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Segments(id): Segments<String>,
) -> Result<Response, Problem> {
    let project = find_project(&shared, &viewer, &id).await?;
    Ok(tagged(StatusCode::OK, Project::from(&project)))
}

/// Rename a project.
#[utoipa::path(patch, path = "/api/v1/projects/{id}", tag = "organisations", params(("id" = String, Path,)),
    request_body = ProjectName, responses((status = 200, body = Project)))]
pub(super) async fn rename_project(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Segments(id): Segments<String>,
    seen: IfMatch,
    Body(wanted): Body<ProjectName>,
) -> Result<Response, Problem> {
    let project = find_project(&shared, &viewer, &id).await?;
    viewer.may(Operation::ManageProjects, Some(&project.org))?;
    seen.check(&Project::from(&project))?;
    let (database, name) = (database(&shared)?, checked_name("name", &wanted.name)?);
    let details = json!({"from": &project.name, "to": &name});
    let event = viewer.event(now_ms(), "project.rename", &project.id, Some(&project.org), &details);
    let access = Access::Org(project.org.clone());
    let renamed = noted(&**database, event, database.rename_project(&access, &project.id, &project.name, &name)).await;
    if !renamed.map_err(taken("name", "a project"))? {
        return Err(changed());
    }
    Ok(tagged(StatusCode::OK, Project::from(&tenancy::Project { name, ..project })))
}

/// An organisation in which the viewer may do this.
pub(super) async fn find(
    shared: &Shared,
    viewer: &Viewer,
    operation: Operation,
    id: &str,
) -> Result<tenancy::Organisation, Problem> {
    for access in viewer.reach(operation, Some(id))? {
        let orgs = database(shared)?.orgs(&access).await?;
        if let Some(org) = orgs.into_iter().find(|org| *org.id == *id) {
            return Ok(org);
        }
    }
    Err(Problem::not_found("organisation"))
}

async fn find_project(shared: &Shared, viewer: &Viewer, id: &str) -> Result<tenancy::Project, Problem> {
    for access in viewer.reach(Operation::SeeOrg, None)? {
        let projects = database(shared)?.projects(&access).await?;
        if let Some(project) = projects.into_iter().find(|project| *project.id == *id) {
            return Ok(project);
        }
    }
    Err(Problem::not_found("project"))
}
