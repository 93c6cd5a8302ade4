//! State in one SQLite file: the default, with nothing to install.
//!
//! A thread of its own owns the connection and works off what it is asked, one after the other. Several processes may use the file at
//! once (`orbyt keys` beside a gateway): it is in WAL mode, and every process asks the file five times a second whether the count of
//! changes has risen.

mod api_keys;
mod audit;
mod backup;
mod budgets;
mod ledger;
mod logins;
mod payloads;
mod provider_keys;
mod reader;
mod reports;
mod schema;
mod stored_settings;
mod tenants;

pub use backup::{Copied, backup, restore};
pub use schema::{MIGRATIONS, check};

use super::ports::database::{Access, Contents, Database, Link, StoreError};
use super::ports::facts::GatewayFacts;
use crate::domain::secret::KeyHash;
use crate::domain::tenancy::ApiKey;
use async_trait::async_trait;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, TransactionBehavior, params};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot, watch};

/// The file in the data directory.
pub const FILE: &str = "orbyt.db";
/// How often it is looked whether another process has changed something.
const LOOK: Duration = Duration::from_millis(200);
/// How long it waits for another process that writes.
const BUSY: Duration = Duration::from_secs(5);

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// The file and the thread that has it open. Dropped, the thread finishes what it was asked and closes the file.
pub struct SqliteDatabase {
    path: PathBuf,
    jobs: Mutex<Sender<Job>>,
    link: watch::Receiver<Link>,
    readers: Arc<Semaphore>,
}

impl SqliteDatabase {
    /// Opens the file in this directory, makes both where they are missing, and brings the schema up to date.
    ///
    /// # Errors
    /// When it cannot be opened, is damaged, or belongs to a later version.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        let path = data_dir.join(FILE);
        let connection = schema::open(&path)?;
        let first = revision(&connection).map_err(|error| failed(&path, &error))?;
        let (tell, link) = watch::channel(Link { revision: first, down: None });
        let (jobs, orders) = channel();
        std::thread::Builder::new()
            .name("orbyt-sqlite".to_owned())
            .spawn(move || work(connection, &orders, &tell))
            .map_err(|error| StoreError::Unavailable(format!("cannot start the thread of the database: {error}")))?;
        Ok(Self { path, jobs: Mutex::new(jobs), link, readers: Arc::new(Semaphore::new(reader::AT_ONCE)) })
    }

    /// Has the thread do something in a transaction, which is kept when it succeeds.
    async fn transact<T: Send + 'static>(
        &self,
        behaviour: TransactionBehavior,
        job: impl FnOnce(&Transaction<'_>) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let order: Job = Box::new(move |connection| {
            let outcome =
                connection.transaction_with_behavior(behaviour).map_err(Trouble::from).and_then(|transaction| {
                    let outcome = job(&transaction)?;
                    transaction.commit()?;
                    Ok(outcome)
                });
            // Nobody may be waiting any more.
            let _ = answer.send(outcome);
        });
        let gone = || StoreError::Unavailable(format!("the database {} is closed", self.path.display()));
        self.jobs.lock().map_err(|_| gone())?.send(order).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?.map_err(|trouble| trouble.told(&self.path))
    }

    async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Transaction<'_>) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.transact(TransactionBehavior::Deferred, job).await
    }

    async fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Transaction<'_>) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.transact(TransactionBehavior::Immediate, job).await
    }
}

/// Works off what is asked, and tells when the count of changes has risen.
fn work(mut connection: Connection, orders: &Receiver<Job>, tell: &watch::Sender<Link>) {
    loop {
        match orders.recv_timeout(LOOK) {
            Ok(job) => job(&mut connection),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let seen = revision(&connection);
        tell.send_if_modified(|link| {
            let now = match &seen {
                Ok(revision) => Link { revision: *revision, down: None },
                Err(error) => Link { revision: link.revision, down: Some(error.to_string().into()) },
            };
            let differs = *link != now;
            *link = now;
            differs
        });
    }
}

fn revision(connection: &Connection) -> rusqlite::Result<u64> {
    let value: i64 = connection.prepare_cached("SELECT value FROM revision")?.query_row([], |row| row.get(0))?;
    Ok(super::rows::read_time(value))
}

/// What can go wrong in a transaction.
enum Trouble {
    Sqlite(rusqlite::Error),
    Store(StoreError),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl Trouble {
    /// Nothing of the kind is in sight.
    fn unknown(what: &str) -> Self {
        Self::Store(StoreError::Refused(format!("there is no such {what}")))
    }

    /// A row that holds what no version has written.
    fn damaged(row: &str) -> Self {
        Self::Store(StoreError::Damaged(format!("{row} is damaged")))
    }

    fn told(self, path: &Path) -> StoreError {
        match self {
            Self::Sqlite(error) => failed(path, &error),
            Self::Store(StoreError::Damaged(message)) => StoreError::Damaged(format!("{}: {message}", path.display())),
            Self::Store(error) => error,
        }
    }
}

/// An error of SQLite, told with the file.
fn failed(path: &Path, error: &rusqlite::Error) -> StoreError {
    let place = path.display();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Damaged(format!(
            "{place} is damaged ({error}) and was left as it is; restore it from a backup, or move it away to begin anew"
        )),
        Some(ErrorCode::ConstraintViolation) => {
            let said = error.to_string();
            if said.contains("UNIQUE") {
                StoreError::Conflict("there is one of that name already".to_owned())
            } else if said.contains("FOREIGN KEY") {
                StoreError::Refused("it belongs to an organisation or a project that there is not".to_owned())
            } else {
                StoreError::Rejected(format!("{place} does not take it: {said}"))
            }
        }
        _ => StoreError::Unavailable(format!("cannot use {place}: {error}")),
    }
}

#[async_trait]
impl GatewayFacts for SqliteDatabase {
    async fn admin_token(&self) -> Result<Option<KeyHash>, StoreError> {
        self.read(admin_token).await
    }

    async fn set_admin_token(&self, hash: KeyHash) -> Result<(), StoreError> {
        self.write(move |transaction| set_admin_token(transaction, hash)).await
    }

    async fn set_prices(&self, list: &str) -> Result<(), StoreError> {
        let list = list.to_owned();
        self.write(move |transaction| set_fact(transaction, PRICES, &list)).await
    }

    async fn begin_with(&self, keys: &[ApiKey], token: Option<KeyHash>) -> Result<bool, StoreError> {
        let keys = keys.to_vec();
        self.write(move |transaction| {
            let any: bool = transaction.query_row("SELECT EXISTS (SELECT 1 FROM api_keys)", [], |row| row.get(0))?;
            if any {
                return Ok(false);
            }
            for key in &keys {
                api_keys::insert(transaction, key)?;
            }
            if let (Some(token), None) = (token, admin_token(transaction)?) {
                set_admin_token(transaction, token)?;
            }
            Ok(true)
        })
        .await
    }
}

/// The names of facts.
const ADMIN_TOKEN: &str = "admin_token_sha256";
const PRICES: &str = "price_list";

fn fact(transaction: &Transaction<'_>, name: &str) -> Result<Option<String>, Trouble> {
    let query = "SELECT value FROM gateway_facts WHERE name = ?1";
    Ok(transaction.query_row(query, [name], |row| row.get(0)).optional()?)
}

fn set_fact(transaction: &Transaction<'_>, name: &str, value: &str) -> Result<(), Trouble> {
    let put = "INSERT INTO gateway_facts (name, value) VALUES (?1, ?2) \
               ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    transaction.execute(put, params![name, value])?;
    Ok(())
}

fn admin_token(transaction: &Transaction<'_>) -> Result<Option<KeyHash>, Trouble> {
    let read =
        |hex: String| KeyHash::from_hex(&hex).ok_or_else(|| Trouble::damaged("gateway_facts/admin_token_sha256"));
    fact(transaction, ADMIN_TOKEN)?.map(read).transpose()
}

fn set_admin_token(transaction: &Transaction<'_>, hash: KeyHash) -> Result<(), Trouble> {
    set_fact(transaction, ADMIN_TOKEN, &hash.to_hex())
}

#[async_trait]
impl Database for SqliteDatabase {
    fn place(&self) -> String {
        self.path.display().to_string()
    }

    async fn contents(&self) -> Result<Contents, StoreError> {
        self.read(|transaction| {
            let mut problems = Vec::new();
            let keys = api_keys::all(transaction, &Access::System, &mut problems)?;
            Ok(Contents {
                keys,
                provider_keys: provider_keys::all(transaction, &Access::System)?,
                admin_token: admin_token(transaction)?,
                prices: fact(transaction, PRICES)?.map(Into::into),
                budgets: budgets::all(transaction, &Access::System)?,
                credits: budgets::credits(transaction, &Access::System)?,
                settings: stored_settings::all(transaction)?,
                problems,
            })
        })
        .await
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.link.clone()
    }
}
