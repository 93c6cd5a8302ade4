//! State in Postgres, shared by several gateways.
//!
//! A bounded pool serves what is asked; one more connection listens for changes and notices when the database is away. Each request to the
//! database is a transaction that takes on one of two roles (see the migrations), so that row-level security holds for all of it.

mod api_keys;
mod audit;
mod budgets;
mod connect;
mod ledger;
mod listen;
mod logins;
mod nodes;
mod payloads;
mod provider_keys;
mod reports;
mod schema;
mod stored_settings;
mod tenants;

pub use schema::{MIGRATIONS, check};

use super::ports::database::{Access, Contents, Database, Link, StoreError};
use super::ports::facts::GatewayFacts;
use super::ports::nodes::Nodes;
use crate::domain::Secret;
use crate::domain::secret::KeyHash;
use crate::domain::tenancy::ApiKey;
use async_trait::async_trait;
use connect::{Connector, Keeper};
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime};
use nodes::{PostgresNodes, Words};
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Error, IsolationLevel, Transaction};

/// How long a connection may take to come up, and a request for one to wait.
const CONNECT: Duration = Duration::from_secs(3);
/// How long an opening waits for the first connection to listen; then it goes on in the background.
const FIRST: Duration = Duration::from_secs(10);
/// What the server itself gives up after, before [`ANSWER`] is over: otherwise each transaction that waits for a lock would go on occupying
/// a connection there that nobody here counts any more.
const SERVERS_PATIENCE: &str = "SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '4s';";
/// How long a whole transaction may take. A cable that is cut says nothing, so every wait has an end.
const ANSWER: Duration = Duration::from_secs(5);

/// A database on a server.
pub struct PostgresDatabase {
    place: String,
    pool: Pool,
    connector: Connector,
    link: watch::Receiver<Link>,
    words: Arc<Words>,
    /// Dropped last: the connections live on its thread.
    keeper: Keeper,
}

impl PostgresDatabase {
    /// Connects with at most so many connections besides the one that listens, and brings the schema up to date. A server that is not there
    /// is no error: it is waited for in the background, and [`Database::link`] says so.
    ///
    /// # Errors
    /// When the URL is wrong, the server refuses the user, or the database belongs to a later version.
    pub async fn open(url: &Secret, connections: usize) -> Result<Self, StoreError> {
        let config = connect::config(url)?;
        let place = place(&config);
        let keeper = Keeper::start()?;
        let connector = Connector::new(keeper.handle(), config.clone());
        let manager_config = ManagerConfig { recycling_method: RecyclingMethod::Verified };
        let pool = Pool::builder(Manager::from_connect(config, connector.clone(), manager_config))
            .max_size(connections.max(1))
            .wait_timeout(Some(CONNECT))
            .create_timeout(Some(CONNECT))
            .recycle_timeout(Some(CONNECT))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| StoreError::Refused(format!("the pool of connections: {error}")))?;
        let (tell, mut link) = watch::channel(Link {
            revision: 0,
            down: Some(format!("{place} has not answered yet, or waits for a lock").into()),
        });
        let (begun, first) = tokio::sync::oneshot::channel();
        let words = Arc::new(Words::default());
        keeper.handle().spawn(listen::keep_listening(connector.clone(), place.clone(), tell, begun, words.clone()));
        match tokio::time::timeout(FIRST, first).await {
            Ok(Ok(Err(error @ (StoreError::Refused(_) | StoreError::Rejected(_) | StoreError::Damaged(_))))) => {
                return Err(error);
            }
            // One that is reached and waits for somebody else's lock is away too, for now.
            Ok(Ok(Ok(()) | Err(_))) | Err(_) => {}
            Ok(Err(_)) => return Err(StoreError::Unavailable(format!("{place}: the connection's task has ended"))),
        }
        link.mark_unchanged();
        Ok(Self { place, pool, connector, link, words, keeper })
    }

    async fn client(&self) -> Result<Object, StoreError> {
        let link = self.link.borrow().clone();
        if let Link { revision: 0, down: Some(why) } = link {
            // Nothing is known of its schema yet.
            return Err(StoreError::Unavailable(why.to_string()));
        }
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => failed(&self.place, &error),
            PoolError::Timeout(_) => StoreError::Unavailable(format!("{} does not answer", self.place)),
            error => StoreError::Unavailable(format!("{}: {error}", self.place)),
        })
    }

    /// Waits for an answer, but not for ever. A client that was given up on is not used again.
    async fn within<T>(
        &self,
        client: Object,
        work: impl AsyncFnOnce(&mut Client) -> Result<T, Trouble>,
    ) -> Result<T, StoreError> {
        let mut client = client;
        let cancel = client.cancel_token();
        match tokio::time::timeout(ANSWER, work(&mut client)).await {
            Ok(outcome) => outcome.map_err(|trouble| trouble.told(&self.place)),
            Err(_) => {
                drop(Object::take(client));
                self.connector.cancel(cancel);
                Err(StoreError::Unavailable(format!("{} did not answer within {ANSWER:?}", self.place)))
            }
        }
    }

    /// Runs a transaction on somebody's behalf; it is kept when it succeeds.
    async fn transact<T>(
        &self,
        access: &Access,
        work: impl AsyncFnOnce(&Transaction<'_>) -> Result<T, Trouble>,
    ) -> Result<T, StoreError> {
        let client = self.client().await?;
        self.within(client, async |client| {
            // Several queries of one transaction see the database as it was at one moment.
            let transaction =
                client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).start().await?;
            take_on(&transaction, access).await?;
            let outcome = work(&transaction).await?;
            transaction.commit().await?;
            Ok(outcome)
        })
        .await
    }
}

/// Takes on the role of an access for the rest of the transaction.
async fn take_on(transaction: &Transaction<'_>, access: &Access) -> Result<(), Trouble> {
    match access {
        Access::System => {
            transaction.batch_execute(&format!("{SERVERS_PATIENCE} SET LOCAL ROLE orbyt_system")).await?;
        }
        Access::Org(org) => {
            transaction.execute("SELECT set_config('orbyt.org_id', $1, true)", &[&&**org]).await?;
            transaction.batch_execute(&format!("{SERVERS_PATIENCE} SET LOCAL ROLE orbyt_app")).await?;
        }
    }
    Ok(())
}

/// Server and database, without user and password.
fn place(config: &Config) -> String {
    let mut text = String::from("postgres://");
    for (index, host) in config.get_hosts().iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        let port = config.get_ports().get(index).or(config.get_ports().first()).copied().unwrap_or(5432);
        // A string takes any amount of text.
        let _ = match host {
            tokio_postgres::config::Host::Tcp(name) => write!(text, "{comma}{name}:{port}"),
            tokio_postgres::config::Host::Unix(path) => write!(text, "{comma}{}:{port}", path.display()),
        };
    }
    text + "/" + config.get_dbname().or(config.get_user()).unwrap_or_default()
}

/// What can go wrong in a transaction.
enum Trouble {
    Postgres(Error),
    Store(StoreError),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Postgres(error)
    }
}

impl Trouble {
    /// A row that holds what no version has written.
    fn damaged(row: &str) -> Self {
        Self::Store(StoreError::Damaged(format!("{row} is damaged")))
    }

    fn told(self, place: &str) -> StoreError {
        match self {
            Self::Postgres(error) => failed(place, &error),
            Self::Store(StoreError::Damaged(message)) => StoreError::Damaged(format!("{place}: {message}")),
            Self::Store(error) => error,
        }
    }
}

/// An error of the server or of the way to it, told with the place.
fn failed(place: &str, error: &Error) -> StoreError {
    let Some(said) = error.as_db_error() else {
        let why = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
        return StoreError::Unavailable(format!("cannot reach {place}: {why}"));
    };
    let (code, message) = (said.code(), said.message());
    match code.code().get(..2).unwrap_or_default() {
        _ if *code == SqlState::UNIQUE_VIOLATION => {
            StoreError::Conflict("there is one of that name already".to_owned())
        }
        _ if *code == SqlState::FOREIGN_KEY_VIOLATION || message.contains("row-level security") => {
            StoreError::Refused("it belongs to an organisation or a project that there is not".to_owned())
        }
        // Gone, going, coming, full, or at odds with another transaction: not for ever.
        "08" | "53" | "57" | "58" | "40" | "55" => {
            StoreError::Unavailable(format!("{place} cannot answer now: {message}"))
        }
        "XX" => StoreError::Damaged(format!("{place} is damaged: {message}")),
        _ => StoreError::Rejected(format!("{place} refuses: {message} (SQLSTATE {})", code.code())),
    }
}

#[async_trait]
impl GatewayFacts for PostgresDatabase {
    async fn admin_token(&self) -> Result<Option<KeyHash>, StoreError> {
        self.transact(&Access::System, async |transaction| admin_token(transaction).await).await
    }

    async fn set_admin_token(&self, hash: KeyHash) -> Result<(), StoreError> {
        self.transact(&Access::System, async |transaction| set_admin_token(transaction, hash).await).await
    }

    async fn set_prices(&self, list: &str) -> Result<(), StoreError> {
        self.transact(&Access::System, async |transaction| set_fact(transaction, PRICES, list).await).await
    }

    async fn begin_with(&self, keys: &[ApiKey], token: Option<KeyHash>) -> Result<bool, StoreError> {
        self.transact(&Access::System, async |transaction| {
            // Gateways that start at once wait for each other here, and see what the first has done.
            transaction.batch_execute("LOCK TABLE api_keys IN SHARE ROW EXCLUSIVE MODE").await?;
            if !transaction.query("SELECT 1 FROM api_keys LIMIT 1", &[]).await?.is_empty() {
                return Ok(false);
            }
            for key in keys {
                api_keys::insert(transaction, key).await?;
            }
            if let (Some(token), None) = (token, admin_token(transaction).await?) {
                set_admin_token(transaction, token).await?;
            }
            Ok(true)
        })
        .await
    }
}

/// The names of facts.
const ADMIN_TOKEN: &str = "admin_token_sha256";
const PRICES: &str = "price_list";

async fn fact(transaction: &Transaction<'_>, name: &str) -> Result<Option<String>, Trouble> {
    let row = transaction.query_opt("SELECT value FROM gateway_facts WHERE name = $1", &[&name]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

async fn set_fact(transaction: &Transaction<'_>, name: &str, value: &str) -> Result<(), Trouble> {
    let put = "INSERT INTO gateway_facts (name, value) VALUES ($1, $2) \
               ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    transaction.execute(put, &[&name, &value]).await?;
    Ok(())
}

async fn admin_token(transaction: &Transaction<'_>) -> Result<Option<KeyHash>, Trouble> {
    let Some(hex) = fact(transaction, ADMIN_TOKEN).await? else { return Ok(None) };
    KeyHash::from_hex(&hex).map(Some).ok_or_else(|| Trouble::damaged("gateway_facts/admin_token_sha256"))
}

async fn set_admin_token(transaction: &Transaction<'_>, hash: KeyHash) -> Result<(), Trouble> {
    set_fact(transaction, ADMIN_TOKEN, &hash.to_hex()).await
}

#[async_trait]
impl Database for PostgresDatabase {
    fn place(&self) -> String {
        self.place.clone()
    }

    async fn contents(&self) -> Result<Contents, StoreError> {
        self.transact(&Access::System, async |transaction| {
            let mut problems = Vec::new();
            let keys = api_keys::all(transaction, &mut problems).await?;
            Ok(Contents {
                keys,
                provider_keys: provider_keys::all(transaction).await?,
                admin_token: admin_token(transaction).await?,
                prices: fact(transaction, PRICES).await?.map(Into::into),
                budgets: budgets::all(transaction).await?,
                credits: budgets::credits(transaction).await?,
                settings: stored_settings::all(transaction).await?,
                problems,
            })
        })
        .await
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.link.clone()
    }

    fn nodes(&self) -> Option<Arc<dyn Nodes>> {
        let (pool, words) = (self.pool.clone(), self.words.clone());
        Some(Arc::new(PostgresNodes { pool, handle: self.keeper.handle(), words }))
    }
}
