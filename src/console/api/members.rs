//! `/api/v1/orgs/{org}/members`: who belongs to an organisation and what they may do there, up to one's own role.

use super::http::*;
use super::orgs::find;
use crate::console::auth::is_password;
use crate::console::password::{LONGEST, NoHash, SHORTEST};
use crate::console::problem::Problem;
use crate::console::roles::Operation;
use crate::console::routes::Shared;
use crate::console::viewer::Viewer;
use crate::console::{new_id, now_ms, random_secret};
use crate::domain::tenancy::{Membership, Person, Role};
use crate::store::ports::audit::noted;
use crate::store::ports::database::{Access, StoreError};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use utoipa::ToSchema;

/// Somebody who belongs to an organisation.
#[derive(Serialize, ToSchema)]
pub(super) struct Member {
    /// The person's id.
    id: String,
    /// Their address.
    email: String,
    /// Their name, which may be empty.
    name: String,
    /// The organisation.
    org: String,
    /// `owner`, `admin`, `member` or `viewer`.
    role: &'static str,
}

impl Member {
    fn of(person: &Person, org: &str, role: Role) -> Self {
        let (id, email, name) = (person.id.to_string(), person.email.clone(), person.name.clone());
        Self { id, email, name, org: org.to_owned(), role: role.name() }
    }
}

/// What somebody may do.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RoleName {
    /// Everything, the organisation's name included.
    Owner,
    /// Manages keys, projects and members.
    Admin,
    /// Makes and revokes keys of their own.
    Member,
    /// Sees, and changes nothing.
    Viewer,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Owner => Self::Owner,
            RoleName::Admin => Self::Admin,
            RoleName::Member => Self::Member,
            RoleName::Viewer => Self::Viewer,
        }
    }
}

/// Somebody who is to belong to an organisation.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewMember {
    /// Their address.
    email: String,
    /// Their name, where they are not known yet.
    #[serde(default)]
    name: String,
    /// What they may do.
    role: RoleName,
}

/// A member, and the password of one who was not known before.
#[derive(Serialize, ToSchema)]
pub(super) struct AddedMember {
    data: Member,
    /// What they can log in with for the first time, shown this once; null for somebody who is known already.
    password: Option<String>,
}

/// Another role.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRole {
    role: RoleName,
}

/// A new password.
#[derive(Serialize, ToSchema)]
pub(super) struct ShownPassword {
    /// What they can log in with, shown this once.
    password: String,
}

/// List the members of an organisation.
#[utoipa::path(get, path = "/api/v1/orgs/{org}/members", tag = "members", params(("org" = String, Path,), ListParams),
    responses((status = 200, body = Page<Member>)))]
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Segments(org): Segments<String>,
    Params(wanted): Params<ListParams>,
) -> Result<Json<Page<Member>>, Problem> {
    let org = find(&shared, &viewer, Operation::SeeOrg, &org).await?;
    let members = members(&shared, &org.id).await?.into_iter();
    let members = members.map(|(person, role)| Member::of(&person, &org.id, role)).collect();
    Ok(Json(Page::of(members, |member: &Member| member.email.clone(), &wanted)?))
}

/// Make somebody a member. Who is not known yet gets a password, which is shown once.
#[utoipa::path(post, path = "/api/v1/orgs/{org}/members", tag = "members", params(("org" = String, Path,)), request_body = NewMember,
    responses((status = 201, body = AddedMember)))]
pub(super) async fn add(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Segments(org): Segments<String>,
    Body(wanted): Body<NewMember>,
) -> Result<Response, Problem> {
    let org = find(&shared, &viewer, Operation::ManageMembers, &org).await?;
    let (database, now, role) = (database(&shared)?, now_ms(), Role::from(wanted.role));
    may_give(&viewer, &org.id, role)?;
    let email = checked_email(&wanted.email)?;
    if members(&shared, &org.id).await?.iter().any(|(person, _)| person.email == email) {
        return Err(Problem::new(StatusCode::CONFLICT, "They are a member already.").about("email"));
    }
    let known = database.people(&Access::System).await?.into_iter().find(|person| person.email == email);
    let (person, password) = match known {
        Some(person) => (person, None),
        None => {
            let name = checked_text("name", Some(wanted.name))?.unwrap_or_default();
            let person = Person { id: new_id("usr").into(), email, name };
            let event = viewer.event(now, "user.create", &person.id, Some(&org.id), &json!({"email": &person.email}));
            let creating = noted(&**database, event, database.create_person(&person, now));
            creating.await.map_err(taken("email", "somebody"))?;
            let password = set_new_password(&shared, &person).await?;
            (person, Some(password))
        }
    };
    change_role(&shared, &viewer, &org.id, &person, Some(role)).await?;
    let answer = AddedMember { data: Member::of(&person, &org.id, role), password };
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

/// One member.
#[utoipa::path(get, path = "/api/v1/orgs/{org}/members/{id}", tag = "members",
    params(("org" = String, Path,), ("id" = String, Path,)), responses((status = 200, body = Member)))]
pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Segments((org, id)): Segments<(String, String)>,
) -> Result<Response, Problem> {
    let org = find(&shared, &viewer, Operation::SeeOrg, &org).await?;
    let (person, role) = member(&shared, &org.id, &id).await?;
    Ok(tagged(StatusCode::OK, Member::of(&person, &org.id, role)))
}

/// Give a member another role.
#[utoipa::path(patch, path = "/api/v1/orgs/{org}/members/{id}", tag = "members",
    params(("org" = String, Path,), ("id" = String, Path,)), request_body = NewRole, responses((status = 200, body = Member)))]
pub(super) async fn change(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Segments((org, id)): Segments<(String, String)>,
    seen: IfMatch,
    Body(wanted): Body<NewRole>,
) -> Result<Response, Problem> {
    let org = find(&shared, &viewer, Operation::ManageMembers, &org).await?;
    let (person, now) = member(&shared, &org.id, &id).await?;
    seen.check(&Member::of(&person, &org.id, now))?;
    let role = Role::from(wanted.role);
    may_give(&viewer, &org.id, role.max(now))?;
    if role != Role::Owner {
        not_the_last_owner(&shared, &viewer, &org.id, now).await?;
    }
    change_role(&shared, &viewer, &org.id, &person, Some(role)).await?;
    Ok(tagged(StatusCode::OK, Member::of(&person, &org.id, role)))
}

/// End a membership.
#[utoipa::path(delete, path = "/api/v1/orgs/{org}/members/{id}", tag = "members",
    params(("org" = String, Path,), ("id" = String, Path,)), responses((status = 204)))]
pub(super) async fn remove(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Segments((org, id)): Segments<(String, String)>,
) -> Result<StatusCode, Problem> {
    let org = find(&shared, &viewer, Operation::SeeOrg, &org).await?;
    let is_self = viewer.as_person().is_some_and(|person| *person.id == *id);
    if !is_self {
        viewer.may(Operation::ManageMembers, Some(&org.id))?;
    }
    let (person, role) = member(&shared, &org.id, &id).await?;
    may_give(&viewer, &org.id, role)?;
    not_the_last_owner(&shared, &viewer, &org.id, role).await?;
    change_role(&shared, &viewer, &org.id, &person, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Give a member a new password, shown once; their sessions end. Who belongs to other organisations, too, keeps theirs.
#[utoipa::path(post, path = "/api/v1/orgs/{org}/members/{id}/password", tag = "members",
    params(("org" = String, Path,), ("id" = String, Path,)), responses((status = 200, body = ShownPassword)))]
pub(super) async fn reset_password(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Segments((org, id)): Segments<(String, String)>,
) -> Result<Json<ShownPassword>, Problem> {
    let org = find(&shared, &viewer, Operation::ManageMembers, &org).await?;
    let (person, role) = member(&shared, &org.id, &id).await?;
    may_give(&viewer, &org.id, role)?;
    let database = database(&shared)?;
    let memberships = database.memberships(&Access::System).await?;
    let of_others = memberships.iter().any(|it| it.person == person.id && viewer.role_in(&it.org) < Some(it.role));
    if of_others {
        // Whoever can set their password can do what they can do elsewhere.
        let detail = "They belong to another organisation too: only the administrator can give them a password.";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    let event = viewer.event(now_ms(), "user.reset_password", &person.id, Some(&org.id), &json!({}));
    database.append(&event).await?;
    Ok(Json(ShownPassword { password: set_new_password(&shared, &person).await? }))
}

/// A password, and the one before.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PasswordChange {
    /// The one that you have now.
    current: String,
    /// The one that you want.
    #[schema(min_length = 10, max_length = 256)]
    new: String,
}

/// Change one's own password. All sessions end, this one too.
#[utoipa::path(post, path = "/api/v1/session/password", tag = "session", request_body = PasswordChange, responses((status = 204)))]
pub(super) async fn change_password(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Body(wanted): Body<PasswordChange>,
) -> Result<StatusCode, Problem> {
    let Some(person) = viewer.as_person() else {
        return Err(Problem::new(StatusCode::FORBIDDEN, "The administrator has no password but a token."));
    };
    shared.failures.guess(viewer.address, &person.email, std::time::Instant::now())?;
    let known = shared.deps.logins.login(&person.email).await?;
    let hash = known.map(|login| login.password_hash);
    if !is_password(&shared, viewer.address, &person.email, wanted.current, hash).await? {
        return Err(Problem::invalid("current", "This is not your password."));
    }
    shared.failures.forgive(viewer.address, &person.email);
    let hash = shared.passwords.hash(wanted.new).await.map_err(no_hash)?;
    let event = viewer.event(now_ms(), "user.change_password", &person.id, None, &json!({}));
    database(&shared)?.append(&event).await?;
    shared.deps.logins.set_password(&person.id, &hash).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn no_hash(why: NoHash) -> Problem {
    match why {
        NoHash::Length => {
            let detail = format!("A password has at least {SHORTEST} characters, and at most {LONGEST} bytes.");
            Problem::invalid("new", detail)
        }
        NoHash::System => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "No password can be hashed now."),
    }
}

async fn set_new_password(shared: &Shared, person: &Person) -> Result<String, Problem> {
    let full = random_secret("").map_err(|_| no_hash(NoHash::System))?;
    // 96 random bits are more than anybody can guess, and can be typed.
    let password = full.reveal()[..24].to_owned();
    let hash = shared.passwords.hash(password.clone()).await.map_err(no_hash)?;
    shared.deps.logins.set_password(&person.id, &hash).await?;
    Ok(password)
}

/// Nobody gives, changes or takes away a role above their own.
fn may_give(viewer: &Viewer, org: &str, role: Role) -> Result<(), Problem> {
    if viewer.role_in(org) >= Some(role) {
        return Ok(());
    }
    Err(Problem::new(StatusCode::FORBIDDEN, format!("This takes the role {} yourself.", role.name())))
}

/// An organisation that nobody owns is one that only the administrator can help.
async fn not_the_last_owner(shared: &Shared, viewer: &Viewer, org: &str, role: Role) -> Result<(), Problem> {
    if role != Role::Owner || viewer.is_administrator() {
        return Ok(());
    }
    let owners = members(shared, org).await?.iter().filter(|(_, role)| *role == Role::Owner).count();
    if owners > 1 { Ok(()) } else { Err(Problem::new(StatusCode::CONFLICT, "They are its last owner.")) }
}

async fn members(shared: &Shared, org: &str) -> Result<Vec<(Person, Role)>, Problem> {
    let (database, access) = (database(shared)?, Access::Org(org.into()));
    let memberships = database.memberships(&access).await?;
    let roles: HashMap<_, _> = memberships.into_iter().map(|Membership { person, role, .. }| (person, role)).collect();
    let people = database.people(&access).await?.into_iter();
    Ok(people.filter_map(|person| roles.get(&person.id).map(|role| (person, *role))).collect())
}

async fn member(shared: &Shared, org: &str, id: &str) -> Result<(Person, Role), Problem> {
    let found = members(shared, org).await?.into_iter().find(|(person, _)| *person.id == *id);
    found.ok_or_else(|| Problem::not_found("member"))
}

async fn change_role(
    shared: &Shared,
    viewer: &Viewer,
    org: &str,
    person: &Person,
    role: Option<Role>,
) -> Result<(), Problem> {
    let database = database(shared)?;
    let details = json!({"email": &person.email, "role": role.map(Role::name)});
    let event = viewer.event(now_ms(), "user.role", &person.id, Some(org), &details);
    // An organisation sees its people; who belongs to it is decided by the gateway alone.
    let setting: Result<(), StoreError> =
        noted(&**database, event, database.set_role(&Access::System, org, &person.id, role)).await;
    Ok(setting?)
}

fn checked_email(email: &str) -> Result<String, Problem> {
    let email = email.trim().to_ascii_lowercase();
    let has_both = email.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty());
    if !has_both || email.len() > 254 || email.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(Problem::invalid("email", "This is no address such as ada@example.com."));
    }
    Ok(email)
}
