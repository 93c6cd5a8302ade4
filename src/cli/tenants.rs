//! `orbyt orgs`, `orbyt projects`, `orbyt users`: who owns what and who looks after it, with the gateway running or not.

use super::args::{AddUserArgs, CreateOrgArgs, CreateProjectArgs, ListProjectsArgs, PasswordArgs, RemoveUserArgs};
use super::audit::{by_hand, noted};
use crate::console::{LONGEST, NoHash, SHORTEST, hash_password, random_secret};
use crate::domain::Secret;
use crate::domain::tenancy::{DEFAULT_ORG, Organisation, Person, Project, Role};
use crate::store::ports::database::{Access, Database, StoreError};
use crate::wiring::state::new_id;
use serde_json::json;
use std::fmt::Write;
use std::sync::Arc;

const ALL: Access = Access::System;

fn told(error: StoreError) -> String {
    error.to_string()
}

/// A name that people can tell from others at a glance.
fn checked_name(name: &str) -> Result<&str, String> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > 100 || name.chars().any(char::is_control) {
        return Err("a name must have 1 to 100 characters".to_owned());
    }
    Ok(name)
}

fn taken(what: &str, name: &str, error: StoreError) -> String {
    match error {
        StoreError::Conflict(_) => format!("there is {what} called {name:?} already"),
        error => error.to_string(),
    }
}

/// Makes an organisation, and a project in it. Returns what is to be said.
///
/// # Errors
/// A text for the operator.
pub async fn create_org(database: &dyn Database, args: &CreateOrgArgs, now: u64) -> Result<String, String> {
    let name = checked_name(&args.name)?;
    let org = Organisation { id: new_id("org").into(), name: name.to_owned() };
    let event = by_hand("org.create", &org.id, Some(&org.id), &json!({"name": name}));
    noted(database, event, database.create_org(&org, now)).await.map_err(|it| taken("an organisation", name, it))?;
    let project = Project { id: new_id("prj").into(), org: org.id.clone(), name: "default".to_owned() };
    make_project(database, &project, now).await?;
    Ok(format!("The organisation {name} ({}) with the project {}.", org.id, project.id))
}

/// Makes a project. Returns what is to be said.
///
/// # Errors
/// A text for the operator.
pub async fn create_project(database: &dyn Database, args: &CreateProjectArgs, now: u64) -> Result<String, String> {
    let name = checked_name(&args.name)?;
    let org = org_named(database, args.org.as_deref()).await?;
    let project = Project { id: new_id("prj").into(), org: org.id.clone(), name: name.to_owned() };
    make_project(database, &project, now).await?;
    Ok(format!("The project {name} ({}) of {}.", project.id, org.name))
}

async fn make_project(database: &dyn Database, project: &Project, now: u64) -> Result<(), String> {
    let event = by_hand("project.create", &project.id, Some(&project.org), &json!({"name": &project.name}));
    let making = noted(database, event, database.create_project(&ALL, project, now));
    making.await.map_err(|error| taken("a project", &project.name, error))
}

/// The organisation of an id or a name; the default one where none is named.
///
/// # Errors
/// When there is none.
pub(super) async fn org_named(database: &dyn Database, wanted: Option<&str>) -> Result<Organisation, String> {
    let wanted = wanted.unwrap_or(DEFAULT_ORG);
    let orgs = database.orgs(&ALL).await.map_err(told)?;
    let by_id = orgs.iter().find(|org| *org.id == *wanted);
    let org = by_id.or_else(|| orgs.iter().find(|org| org.name == wanted));
    org.cloned().ok_or_else(|| format!("--org {wanted}: there is no such organisation, see `orbyt orgs list`"))
}

/// All organisations as a table.
///
/// # Errors
/// The database's.
pub async fn list_orgs(database: &dyn Database) -> Result<String, String> {
    let (orgs, projects) = (database.orgs(&ALL).await.map_err(told)?, database.projects(&ALL).await.map_err(told)?);
    let mut text = format!("{:<24} {:<28} PROJECTS\n", "NAME", "ID");
    for org in orgs {
        let of_org = projects.iter().filter(|project| project.org == org.id).count();
        // A string takes any amount of text, here and below.
        let _ = writeln!(text, "{:<24} {:<28} {of_org}", org.name, org.id);
    }
    Ok(text)
}

/// The projects as a table.
///
/// # Errors
/// The database's, or when there is no such organisation.
pub async fn list_projects(database: &dyn Database, args: &ListProjectsArgs) -> Result<String, String> {
    let only = match &args.org {
        Some(org) => Some(org_named(database, Some(org)).await?.id),
        None => None,
    };
    let orgs = database.orgs(&ALL).await.map_err(told)?;
    let mut text = format!("{:<24} {:<28} ORGANISATION\n", "NAME", "ID");
    for project in database.projects(&ALL).await.map_err(told)? {
        if only.as_ref().is_some_and(|only| *only != project.org) {
            continue;
        }
        let org = orgs.iter().find(|org| org.id == project.org).map_or(&*project.org, |org| &org.name);
        let _ = writeln!(text, "{:<24} {:<28} {org}", project.name, project.id);
    }
    Ok(text)
}

/// Makes somebody a member. Returns what is to be said.
///
/// # Errors
/// A text for the operator.
pub async fn add_user(database: &dyn Database, args: &AddUserArgs, now: u64) -> Result<String, String> {
    let email = args.email.trim().to_ascii_lowercase();
    let has_both = email.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty());
    if !has_both || email.len() > 254 || email.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(format!("{}: is no address such as ada@example.com", args.email));
    }
    let role = Role::from_name(&args.role).ok_or_else(|| format!("--role {}: there is no such role", args.role))?;
    let org = org_named(database, args.org.as_deref()).await?;
    let known = database.people(&ALL).await.map_err(told)?.into_iter().find(|person| person.email == email);
    let person = match known {
        Some(person) => person,
        None => {
            let person = Person { id: new_id("usr").into(), email: email.clone(), name: args.name.clone() };
            let event = by_hand("user.create", &person.id, None, &json!({"email": &email}));
            noted(database, event, database.create_person(&person, now)).await.map_err(told)?;
            person
        }
    };
    change_role(database, &org.id, &person, Some(role)).await?;
    Ok(format!("{email} ({}) is {} of {}.", person.id, role.name(), org.name))
}

/// Ends a membership. Returns what is to be said.
///
/// # Errors
/// A text for the operator.
pub async fn remove_user(database: &dyn Database, args: &RemoveUserArgs) -> Result<String, String> {
    let org = org_named(database, args.org.as_deref()).await?;
    let wanted = args.user.trim();
    let people = database.people(&Access::Org(org.id.clone())).await.map_err(told)?;
    let person = people.into_iter().find(|one| one.email.eq_ignore_ascii_case(wanted) || *one.id == *wanted);
    let person = person.ok_or_else(|| format!("{wanted} is no member of {}: see `orbyt users list`", org.name))?;
    change_role(database, &org.id, &person, None).await?;
    Ok(format!("{} is no member of {} any more.", person.email, org.name))
}

/// Gives somebody a password: the one that was given, or a new one. Their sessions end. Returns what is to be said, and the new one.
///
/// # Errors
/// A text for the operator.
pub async fn set_password(
    database: &dyn Database,
    args: &PasswordArgs,
    given: Option<Secret>,
) -> Result<(String, Option<Secret>), String> {
    let wanted = args.user.trim();
    let people = database.people(&ALL).await.map_err(told)?;
    let person = people.into_iter().find(|one| one.email.eq_ignore_ascii_case(wanted) || *one.id == *wanted);
    let person = person.ok_or_else(|| format!("there is nobody called {wanted}: see `orbyt users list`"))?;
    let made = match &given {
        Some(_) => None,
        // 96 random bits are more than anybody can guess, and can be typed.
        None => Some(Secret::new(&random_secret("")?.reveal()[..24])),
    };
    let password = given.as_ref().or(made.as_ref()).map_or("", Secret::reveal);
    let hash = hash_password(password).map_err(|why| match why {
        NoHash::Length => format!("a password has at least {SHORTEST} characters, and at most {LONGEST} bytes"),
        NoHash::System => "the system gives no random bytes".to_owned(),
    })?;
    let event = by_hand("user.reset_password", &person.id, None, &json!({"email": &person.email}));
    noted(database, event, database.set_password(&person.id, &hash)).await.map_err(told)?;
    Ok((format!("{} has a new password; their sessions have ended.", person.email), made))
}

async fn change_role(
    database: &dyn Database,
    org: &Arc<str>,
    person: &Person,
    role: Option<Role>,
) -> Result<(), String> {
    let details = json!({"email": &person.email, "role": role.map(Role::name)});
    let event = by_hand("user.role", &person.id, Some(org), &details);
    noted(database, event, database.set_role(&ALL, org, &person.id, role)).await.map_err(told)
}

/// All members as a table.
///
/// # Errors
/// The database's.
pub async fn list_users(database: &dyn Database) -> Result<String, String> {
    let (people, orgs) = (database.people(&ALL).await.map_err(told)?, database.orgs(&ALL).await.map_err(told)?);
    let memberships = database.memberships(&ALL).await.map_err(told)?;
    let mut text = format!("{:<32} {:<28} {:<7} {:<24} NAME\n", "EMAIL", "ID", "ROLE", "ORGANISATION");
    for person in &people {
        let roles = memberships.iter().filter(|membership| membership.person == person.id);
        let mut lines: Vec<(&str, &str)> = roles
            .map(|membership| {
                let org = orgs.iter().find(|org| org.id == membership.org);
                (membership.role.name(), org.map_or(&*membership.org, |org| org.name.as_str()))
            })
            .collect();
        if lines.is_empty() {
            lines.push(("-", "-"));
        }
        for (role, org) in lines {
            let _ = writeln!(text, "{:<32} {:<28} {role:<7} {org:<24} {}", person.email, person.id, person.name);
        }
    }
    Ok(text)
}
