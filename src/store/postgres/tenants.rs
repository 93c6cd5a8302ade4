//! Organisations, projects and people.

use super::{PostgresDatabase, Trouble};
use crate::domain::tenancy::{Membership, Organisation, Person, Project, Role};
use crate::store::ports::database::{Access, StoreError};
use crate::store::ports::tenants::{RoleChange, RoleOutcome, Tenants};
use crate::store::rows::stored_time;
use async_trait::async_trait;

async fn put_role(
    transaction: &tokio_postgres::Transaction<'_>,
    org: &str,
    person: &str,
    role: Option<Role>,
) -> Result<(), Trouble> {
    match role {
        Some(role) => {
            let put = "INSERT INTO memberships (org_id, user_id, role) VALUES ($1, $2, $3) \
                       ON CONFLICT (org_id, user_id) DO UPDATE SET role = excluded.role";
            transaction.execute(put, &[&org, &person, &role.name()]).await?;
        }
        None => {
            let end = "DELETE FROM memberships WHERE org_id = $1 AND user_id = $2";
            transaction.execute(end, &[&org, &person]).await?;
        }
    }
    Ok(())
}

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

    async fn rename_org(&self, id: &str, old: &str, new: &str) -> Result<bool, StoreError> {
        self.transact(&Access::System, async |transaction| {
            let put = "UPDATE organisations SET name = $3 WHERE id = $1 AND name = $2";
            Ok(transaction.execute(put, &[&id, &old, &new]).await? > 0)
        })
        .await
    }

    async fn rename_project(&self, access: &Access, id: &str, old: &str, new: &str) -> Result<bool, StoreError> {
        self.transact(access, async |transaction| {
            let put = "UPDATE projects SET name = $3 WHERE id = $1 AND name = $2";
            Ok(transaction.execute(put, &[&id, &old, &new]).await? > 0)
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
            let rows = transaction.query("SELECT id, org_id, name FROM projects ORDER BY created_at, id", &[]).await?;
            let project = |row: &tokio_postgres::Row| {
                let (id, org): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
                Ok(Project { id: id.into(), org: org.into(), name: row.try_get(2)? })
            };
            rows.iter().map(project).collect()
        })
        .await
    }

    async fn create_person(&self, person: &Person, now: u64) -> Result<(), StoreError> {
        self.transact(&Access::System, async |transaction| {
            let put = "INSERT INTO users (id, email, name, created_at) VALUES ($1, $2, $3, $4)";
            transaction.execute(put, &[&&*person.id, &person.email, &person.name, &stored_time(now)]).await?;
            Ok(())
        })
        .await
    }

    async fn people(&self, access: &Access) -> Result<Vec<Person>, StoreError> {
        self.transact(access, async |transaction| {
            let rows = transaction.query("SELECT id, email, name FROM users ORDER BY email", &[]).await?;
            let person = |row: &tokio_postgres::Row| {
                let id: &str = row.try_get(0)?;
                Ok(Person { id: id.into(), email: row.try_get(1)?, name: row.try_get(2)? })
            };
            rows.iter().map(person).collect()
        })
        .await
    }

    async fn change_role(&self, change: &RoleChange<'_>) -> Result<RoleOutcome, StoreError> {
        let RoleChange { org, person, seen, wanted, keeps_an_owner } = *change;
        self.transact(&Access::System, async |transaction| {
            // Before anything is read: a transaction sees the database as it was at its first query.
            transaction.batch_execute("LOCK TABLE memberships IN SHARE ROW EXCLUSIVE MODE").await?;
            let rows = transaction.query("SELECT user_id, role FROM memberships WHERE org_id = $1", &[&org]).await?;
            let (mut now, mut others) = (None, 0);
            for row in &rows {
                let (id, role): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
                let role = Role::from_name(role).ok_or_else(|| Trouble::damaged("memberships"))?;
                if id == person {
                    now = Some(role);
                } else if role == Role::Owner {
                    others += 1;
                }
            }
            if now != seen {
                return Ok(RoleOutcome::Changed);
            }
            if keeps_an_owner && now == Some(Role::Owner) && wanted != now && others == 0 {
                return Ok(RoleOutcome::LastOwner);
            }
            put_role(transaction, org, person, wanted).await?;
            Ok(RoleOutcome::Done)
        })
        .await
    }

    async fn set_role(&self, access: &Access, org: &str, person: &str, role: Option<Role>) -> Result<(), StoreError> {
        self.transact(access, async |transaction| put_role(transaction, org, person, role).await).await
    }

    async fn memberships(&self, access: &Access) -> Result<Vec<Membership>, StoreError> {
        self.transact(access, async |transaction| {
            let query = "SELECT org_id, user_id, role FROM memberships ORDER BY org_id, user_id";
            let rows = transaction.query(query, &[]).await?;
            let membership = |row: &tokio_postgres::Row| {
                let (org, person, role): (&str, &str, &str) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
                let role = Role::from_name(role).ok_or_else(|| Trouble::damaged("memberships"))?;
                Ok(Membership { org: org.into(), person: person.into(), role })
            };
            rows.iter().map(membership).collect()
        })
        .await
    }
}
