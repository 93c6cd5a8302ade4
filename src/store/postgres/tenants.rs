//! Organisations and projects.

use super::PostgresDatabase;
use crate::domain::tenancy::{Organisation, Project};
use crate::store::ports::database::{Access, StoreError};
use crate::store::ports::tenants::Tenants;
use crate::store::rows::stored_time;
use async_trait::async_trait;

#[async_trait]
impl Tenants for PostgresDatabase {
    async fn create_org(&self, org: &Organisation, now: u64) -> Result<(), StoreError> {
        self.transact(&Access::System, async |transaction| {
            let put = "INSERT INTO organisations (id, name, created_at) VALUES ($1, $2, $3)";
            transaction.execute(put, &[&&*org.id, &org.name, &stored_time(now)]).await?;
            Ok(())
        })
        .await
    }

    async fn orgs(&self, access: &Access) -> Result<Vec<Organisation>, StoreError> {
        self.transact(access, async |transaction| {
            let rows = transaction.query("SELECT id, name FROM organisations ORDER BY name", &[]).await?;
            let org = |row: &tokio_postgres::Row| {
                Ok(Organisation { id: row.try_get::<_, &str>(0)?.into(), name: row.try_get(1)? })
            };
            rows.iter().map(org).collect()
        })
        .await
    }

    async fn create_project(&self, access: &Access, project: &Project, now: u64) -> Result<(), StoreError> {
        self.transact(access, async |transaction| {
            let put = "INSERT INTO projects (id, org_id, name, created_at) VALUES ($1, $2, $3, $4)";
            transaction.execute(put, &[&&*project.id, &&*project.org, &project.name, &stored_time(now)]).await?;
            Ok(())
        })
        .await
    }

    async fn projects(&self, access: &Access) -> Result<Vec<Project>, StoreError> {
        self.transact(access, async |transaction| {
            let rows = transaction.query("SELECT id, org_id, name FROM projects ORDER BY name, id", &[]).await?;
            let project = |row: &tokio_postgres::Row| {
                let (id, org): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
                Ok(Project { id: id.into(), org: org.into(), name: row.try_get(2)? })
            };
            rows.iter().map(project).collect()
        })
        .await
    }
}
