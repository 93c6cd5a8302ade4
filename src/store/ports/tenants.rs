//! Organisations, their projects and their people.

use super::audit::Change;
use super::database::{Access, StoreError};
use crate::domain::tenancy::{Membership, Organisation, Person, Project, Role};
use async_trait::async_trait;

/// A change of a membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleChange<'a> {
    /// The organisation's id.
    pub org: &'a str,
    /// The person's id.
    pub person: &'a str,
    /// The role that was seen; `None` for somebody who was no member.
    pub seen: Option<Role>,
    /// The role that is wanted; `None` to end the membership.
    pub wanted: Option<Role>,
    /// Whether an owner has to be left.
    pub keeps_an_owner: bool,
}

/// What became of a [`RoleChange`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleOutcome {
    /// It is made.
    Done,
    /// The role is another one by now.
    Changed,
    /// Nobody would own the organisation any more.
    LastOwner,
}

impl Change for RoleOutcome {
    fn is_made(&self) -> bool {
        *self == Self::Done
    }
}

/// Keeps organisations, projects and people.
#[async_trait]
pub trait Tenants: Send + Sync {
    /// Adds an organisation. `now` is Unix milliseconds, here and in the other ports.
    ///
    /// # Errors
    /// A conflict when the name or the id is taken.
    async fn create_org(&self, org: &Organisation, now: u64) -> Result<(), StoreError>;

    /// The organisations in sight, by name.
    ///
    /// # Errors
    /// The database's.
    async fn orgs(&self, access: &Access) -> Result<Vec<Organisation>, StoreError>;

    /// Gives an organisation another name, unless it is not called `old` any more; says whether it was.
    ///
    /// # Errors
    /// A conflict when the name is taken.
    async fn rename_org(&self, id: &str, old: &str, new: &str) -> Result<bool, StoreError>;

    /// Gives a project in sight another name, unless it is not called `old` any more; says whether it was.
    ///
    /// # Errors
    /// A conflict when the name is taken.
    async fn rename_project(&self, access: &Access, id: &str, old: &str, new: &str) -> Result<bool, StoreError>;

    /// Adds a project.
    ///
    /// # Errors
    /// A conflict when the name is taken, a refusal when the organisation is another's or there is none.
    async fn create_project(&self, access: &Access, project: &Project, now: u64) -> Result<(), StoreError>;

    /// The projects in sight, the oldest first.
    ///
    /// # Errors
    /// The database's.
    async fn projects(&self, access: &Access) -> Result<Vec<Project>, StoreError>;

    /// Adds a person, who is a member of nothing yet.
    ///
    /// # Errors
    /// A conflict when the address or the id is taken.
    async fn create_person(&self, person: &Person, now: u64) -> Result<(), StoreError>;

    /// The people in sight, by address: of an organisation its members.
    ///
    /// # Errors
    /// The database's.
    async fn people(&self, access: &Access) -> Result<Vec<Person>, StoreError>;

    /// Makes somebody a member with this role, or with another one than before; `None` ends the membership. That is for the system alone.
    ///
    /// # Errors
    /// A refusal when there is no such organisation or person, and to whoever acts for an organisation.
    async fn set_role(&self, access: &Access, org: &str, person: &str, role: Option<Role>) -> Result<(), StoreError>;

    /// Changes a membership as [`set_role`](Self::set_role) does, if it is still as it was seen; of changes that come at once, one is made and the
    /// others are told that it is not.
    ///
    /// # Errors
    /// A refusal when there is no such organisation or person.
    async fn change_role(&self, change: &RoleChange<'_>) -> Result<RoleOutcome, StoreError>;

    /// The memberships in sight.
    ///
    /// # Errors
    /// The database's.
    async fn memberships(&self, access: &Access) -> Result<Vec<Membership>, StoreError>;
}
