//! Organisations, projects and people.

use super::{SqliteDatabase, Trouble};
use crate::domain::tenancy::{Membership, Organisation, Person, Project, Role};
use crate::store::ports::database::{Access, StoreError};
use crate::store::ports::tenants::{RoleChange, RoleOutcome, Tenants};
use crate::store::rows::stored_time;
use async_trait::async_trait;
use rusqlite::{OptionalExtension, Transaction, params};
use std::sync::Arc;

fn put_role(transaction: &Transaction<'_>, org: &str, person: &str, role: Option<Role>) -> Result<(), Trouble> {
    match role {
        Some(role) => {
            let put = "INSERT INTO memberships (org_id, user_id, role) VALUES (?1, ?2, ?3) \
                       ON CONFLICT (org_id, user_id) DO UPDATE SET role = excluded.role";
            transaction.execute(put, params![org, person, role.name()])?;
        }
        None => {
            let end = "DELETE FROM memberships WHERE org_id = ?1 AND user_id = ?2";
            transaction.execute(end, params![org, person])?;
        }
    }
    Ok(())
}

#[async_trait]
impl Tenants for SqliteDatabase {
    async fn create_org(&self, org: &Organisation, now: u64) -> Result<(), StoreError> {
        let org = org.clone();
        self.write(move |transaction| {
            let put = "INSERT INTO organisations (id, name, created_at) VALUES (?1, ?2, ?3)";
            transaction.execute(put, params![&*org.id, org.name, stored_time(now)])?;
            Ok(())
        })
        .await
    }

    async fn orgs(&self, access: &Access) -> Result<Vec<Organisation>, StoreError> {
        let access = access.clone();
        self.read(move |transaction| {
            let query = "SELECT id, name FROM organisations WHERE ?1 IS NULL OR id = ?1 ORDER BY name";
            let mut query = transaction.prepare(query)?;
            let rows = query.query_map(params![access.org()], |row| {
                Ok(Organisation { id: row.get::<_, String>(0)?.into(), name: row.get(1)? })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn rename_org(&self, id: &str, old: &str, new: &str) -> Result<bool, StoreError> {
        let (id, old, new) = (id.to_owned(), old.to_owned(), new.to_owned());
        self.write(move |transaction| {
            let put = "UPDATE organisations SET name = ?3 WHERE id = ?1 AND name = ?2";
            Ok(transaction.execute(put, params![id, old, new])? > 0)
        })
        .await
    }

    async fn rename_project(&self, access: &Access, id: &str, old: &str, new: &str) -> Result<bool, StoreError> {
        let (access, id, old, new) = (access.clone(), id.to_owned(), old.to_owned(), new.to_owned());
        self.write(move |transaction| {
            let put = "UPDATE projects SET name = ?3 WHERE id = ?1 AND name = ?2 AND (?4 IS NULL OR org_id = ?4)";
            Ok(transaction.execute(put, params![id, old, new, access.org()])? > 0)
        })
        .await
    }

    async fn create_project(&self, access: &Access, project: &Project, now: u64) -> Result<(), StoreError> {
        let (access, project) = (access.clone(), project.clone());
        self.write(move |transaction| {
            if !access.reaches(Some(&project.org)) {
                return Err(Trouble::unknown("organisation"));
            }
            let put = "INSERT INTO projects (id, org_id, name, created_at) VALUES (?1, ?2, ?3, ?4)";
            transaction.execute(put, params![&*project.id, &*project.org, project.name, stored_time(now)])?;
            Ok(())
        })
        .await
    }

    async fn projects(&self, access: &Access) -> Result<Vec<Project>, StoreError> {
        let access = access.clone();
        self.read(move |transaction| {
            let query = "SELECT id, org_id, name FROM projects WHERE ?1 IS NULL OR org_id = ?1 ORDER BY created_at, id";
            let mut query = transaction.prepare(query)?;
            let text = |row: &rusqlite::Row<'_>, at| row.get::<_, String>(at).map(Arc::from);
            let rows = query.query_map(params![access.org()], |row| {
                Ok(Project { id: text(row, 0)?, org: text(row, 1)?, name: row.get(2)? })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn create_person(&self, person: &Person, now: u64) -> Result<(), StoreError> {
        let person = person.clone();
        self.write(move |transaction| {
            let put = "INSERT INTO users (id, email, name, created_at) VALUES (?1, ?2, ?3, ?4)";
            transaction.execute(put, params![&*person.id, person.email, person.name, stored_time(now)])?;
            Ok(())
        })
        .await
    }

    async fn people(&self, access: &Access) -> Result<Vec<Person>, StoreError> {
        let access = access.clone();
        self.read(move |transaction| {
            let query = "SELECT id, email, name FROM users WHERE ?1 IS NULL \
                         OR EXISTS (SELECT 1 FROM memberships WHERE user_id = users.id AND org_id = ?1) ORDER BY email";
            let mut query = transaction.prepare(query)?;
            let rows = query.query_map(params![access.org()], |row| {
                Ok(Person { id: row.get::<_, String>(0)?.into(), email: row.get(1)?, name: row.get(2)? })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn change_role(&self, change: &RoleChange<'_>) -> Result<RoleOutcome, StoreError> {
        let RoleChange { org, person, seen, wanted, keeps_an_owner } = *change;
        let (org, person) = (org.to_owned(), person.to_owned());
        self.write(move |transaction| {
            let query = "SELECT role FROM memberships WHERE org_id = ?1 AND user_id = ?2";
            let now = transaction.query_row(query, params![org, person], |row| row.get::<_, String>(0)).optional()?;
            let read = |name: String| Role::from_name(&name).ok_or_else(|| Trouble::damaged("memberships"));
            let now = now.map(read).transpose()?;
            if now != seen {
                return Ok(RoleOutcome::Changed);
            }
            if keeps_an_owner && now == Some(Role::Owner) && wanted != now {
                let query = "SELECT count(*) FROM memberships WHERE org_id = ?1 AND role = 'owner' AND user_id <> ?2";
                let others: i64 = transaction.query_row(query, params![org, person], |row| row.get(0))?;
                if others == 0 {
                    return Ok(RoleOutcome::LastOwner);
                }
            }
            put_role(transaction, &org, &person, wanted)?;
            Ok(RoleOutcome::Done)
        })
        .await
    }

    async fn set_role(&self, access: &Access, org: &str, person: &str, role: Option<Role>) -> Result<(), StoreError> {
        let (access, org, person) = (access.clone(), org.to_owned(), person.to_owned());
        self.write(move |transaction| {
            // As in Postgres, where the role of an organisation has no right to it.
            if access != Access::System {
                return Err(Trouble::unknown("organisation"));
            }
            put_role(transaction, &org, &person, role)
        })
        .await
    }

    async fn memberships(&self, access: &Access) -> Result<Vec<Membership>, StoreError> {
        let access = access.clone();
        self.read(move |transaction| {
            let query = "SELECT org_id, user_id, role FROM memberships WHERE ?1 IS NULL OR org_id = ?1 ORDER BY org_id, user_id";
            let mut query = transaction.prepare(query)?;
            let mut rows = query.query(params![access.org()])?;
            let mut memberships = Vec::new();
            while let Some(row) = rows.next()? {
                let text = |at| row.get::<_, String>(at);
                let role = Role::from_name(&text(2)?).ok_or_else(|| Trouble::damaged("memberships"))?;
                memberships.push(Membership { org: text(0)?.into(), person: text(1)?.into(), role });
            }
            Ok(memberships)
        })
        .await
    }
}
