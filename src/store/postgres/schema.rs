//! The schema: its steps, the roles that it needs, and the lock under which it is brought up to date.

use super::{Trouble, connect, failed, place};
use crate::domain::Secret;
use crate::store::migrations::{Applied, Migration, pending};
use crate::store::ports::database::StoreError;
use std::time::Duration;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, GenericClient};

/// The steps of the schema.
pub const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "0001_tenancy", sql: include_str!("../../../migrations/postgres/0001_tenancy.sql") },
    Migration { version: 2, name: "0002_vault", sql: include_str!("../../../migrations/postgres/0002_vault.sql") },
    Migration { version: 3, name: "0003_own", sql: include_str!("../../../migrations/postgres/0003_own.sql") },
    Migration { version: 4, name: "0004_audit", sql: include_str!("../../../migrations/postgres/0004_audit.sql") },
    Migration { version: 5, name: "0005_ledger", sql: include_str!("../../../migrations/postgres/0005_ledger.sql") },
    Migration { version: 6, name: "0006_people", sql: include_str!("../../../migrations/postgres/0006_people.sql") },
    Migration { version: 7, name: "0007_money", sql: include_str!("../../../migrations/postgres/0007_money.sql") },
    Migration {
        version: 8,
        name: "0008_payloads",
        sql: include_str!("../../../migrations/postgres/0008_payloads.sql"),
    },
    Migration { version: 9, name: "0009_console", sql: include_str!("../../../migrations/postgres/0009_console.sql") },
    Migration { version: 10, name: "0010_reports", sql: include_str!("../../../migrations/postgres/0010_reports.sql") },
];

/// Of this lock's number nobody else may think: `orbyt` in ASCII.
const LOCK: i64 = 0x6f_72_62_79_74;
/// How long it is waited for, and for tables that a step changes, before the whole is tried again later.
const PATIENCE: &str = "SET lock_timeout = '30s'";
/// How long a look at the schema may take.
const LOOK: Duration = Duration::from_secs(5);

/// Roles belong to the whole server, so another database may have made them, even in this moment.
const ROLES: &str = "
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['orbyt_app', 'orbyt_system'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN NOINHERIT', wanted);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;
            END;
        END IF;
        IF current_setting('server_version_num')::int < 160000 THEN
            IF NOT pg_has_role(current_user, wanted, 'MEMBER') THEN
                EXECUTE format('GRANT %I TO CURRENT_USER', wanted);
            END IF;
        ELSIF NOT pg_has_role(current_user, wanted, 'SET') THEN
            -- Without inheriting: what forgets to take on a role sees nothing.
            EXECUTE format('GRANT %I TO CURRENT_USER WITH INHERIT FALSE, SET TRUE', wanted);
        END IF;
    END LOOP;
END $$";

/// What an operator has to do where the gateway's user may not.
const ROLES_BY_HAND: &str = "CREATE ROLE orbyt_app NOLOGIN; CREATE ROLE orbyt_system NOLOGIN; GRANT orbyt_app, orbyt_system TO <its user>; \
     (from Postgres 16 on: … TO <its user> WITH INHERIT FALSE, SET TRUE;)";

/// Brings the schema up to date: everything or nothing, one gateway at a time.
pub(super) async fn migrate(client: &mut Client, place: &str) -> Result<(), StoreError> {
    let told = |error: tokio_postgres::Error| failed(place, &error);
    if pending(place, &applied(client).await.map_err(told)?, MIGRATIONS)?.is_empty() {
        return Ok(());
    }
    // The lock is the session's, taken before the transaction: a transaction that had waited for it would go on knowing that the tables are
    // not there. It ends with the connection, if not before.
    client.batch_execute(PATIENCE).await.map_err(told)?;
    client.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await.map_err(told)?;
    take_all(client, place).await?;
    client.execute("SELECT pg_advisory_unlock($1)", &[&LOCK]).await.map_err(told)?;
    client.batch_execute("RESET lock_timeout").await.map_err(told)
}

/// Takes what is left, under the lock.
async fn take_all(client: &mut Client, place: &str) -> Result<(), StoreError> {
    let told = |error: tokio_postgres::Error| failed(place, &error);
    let transaction = client.transaction().await.map_err(told)?;
    // Another gateway may have been first.
    let left = pending(place, &applied(&transaction).await.map_err(told)?, MIGRATIONS)?;
    transaction.batch_execute(ROLES).await.map_err(|error| match error.code() {
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => StoreError::Refused(format!(
            "the user of {place} may not make the roles that row-level security needs; as an administrator: {ROLES_BY_HAND}"
        )),
        _ => failed(place, &error),
    })?;
    take(&transaction, left).await.map_err(|trouble| trouble.told(place))?;
    transaction.commit().await.map_err(told)
}

async fn take(transaction: &tokio_postgres::Transaction<'_>, steps: &[Migration]) -> Result<(), Trouble> {
    transaction
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations (
                version    bigint PRIMARY KEY,
                name       text NOT NULL,
                sha256     text NOT NULL,
                applied_at timestamptz NOT NULL DEFAULT now()
            )",
        )
        .await?;
    for step in steps {
        transaction.batch_execute(step.sql).await?;
        transaction
            .execute(
                "INSERT INTO schema_migrations (version, name, sha256) VALUES ($1, $2, $3)",
                &[&step.version, &step.name, &step.fingerprint()],
            )
            .await?;
    }
    Ok(())
}

async fn applied(client: &impl GenericClient) -> Result<Vec<Applied>, tokio_postgres::Error> {
    let is_there = client.query_one("SELECT to_regclass('schema_migrations') IS NOT NULL", &[]).await?;
    if !is_there.try_get::<_, bool>(0)? {
        return Ok(Vec::new());
    }
    let rows = client.query("SELECT version, sha256 FROM schema_migrations ORDER BY version", &[]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Looks at the database without changing it: how many steps are left to take.
///
/// # Errors
/// When it cannot be reached, refuses the user, or belongs to a later version.
pub async fn check(url: &Secret) -> Result<usize, StoreError> {
    let config = connect::config(url)?;
    let place = place(&config);
    let (client, connection) = connect::Connector::new(tokio::runtime::Handle::current(), config).raw(&place).await?;
    let moved = tokio::spawn(connection);
    let found = tokio::time::timeout(LOOK, applied(&client)).await;
    moved.abort();
    let silent = || StoreError::Unavailable(format!("{place} did not answer within {LOOK:?}"));
    let found = found.map_err(|_| silent())?.map_err(|error| failed(&place, &error));
    Ok(pending(&place, &found?, MIGRATIONS)?.len())
}
