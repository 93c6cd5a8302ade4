//! Organisations and their projects.

use super::database::{Access, StoreError};
use crate::domain::tenancy::{Organisation, Project};
use async_trait::async_trait;

/// Keeps organisations and projects.
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

    /// Adds a project.
    ///
    /// # Errors
    /// A conflict when the name is taken, a refusal when the organisation is another's or there is none.
    async fn create_project(&self, access: &Access, project: &Project, now: u64) -> Result<(), StoreError>;

    /// The projects in sight, by name.
    ///
    /// # Errors
    /// The database's.
    async fn projects(&self, access: &Access) -> Result<Vec<Project>, StoreError>;
}
