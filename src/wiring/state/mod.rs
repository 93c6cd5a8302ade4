//! What outlives the process, put together: the database, the vault's master key, and the copy on disk for when the database is away.

mod doorbell;
mod follow;
mod spend;

pub use doorbell::{Heard, ring};
pub use follow::Follower;

use crate::config::{BudgetBook, Store, StoredKeys};
use crate::domain::audit::AuditEvent;
use crate::domain::secret::KeyHash;
use crate::domain::stored_setting::StoredSetting;
use crate::domain::tenancy::{ApiKey, DEFAULT_ORG, DEFAULT_PROJECT, KeySecret, SavedKey, Scopes, SealedKey, VaultKey};
use crate::domain::{Money, Secret};
use crate::provider::PriceList;
use crate::store::file::{
    BalancesFile, KeptBalances, LastKnown, earlier_credentials, lock, make_for_owner, set_aside, write_private,
};
use crate::store::ports::accounts::Accounts;
use crate::store::ports::audit::noted;
use crate::store::ports::database::{Access, Contents, Database, StoreError};
use crate::store::postgres::{PostgresDatabase, check as check_server};
use crate::store::sqlite::{SqliteDatabase, check as check_file};
use crate::vault::{self, MasterKey, MasterKeys};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Balances that take longer to be written down are written down less often.
const SLOW: Duration = Duration::from_millis(20);
/// The file of the master key in the data directory, where the configuration gives none.
const MASTER_KEY_FILE: &str = "master.key";

/// The state of a gateway.
pub struct State {
    /// The database.
    pub database: Arc<dyn Database>,
    data_dir: PathBuf,
    /// The master keys of the configuration; `None` for those of the file.
    given: Option<MasterKeys>,
    /// The keys of rows that have opened, by what they were sealed for: a master key that is being changed must not take away what serves.
    opened: Mutex<HashMap<String, Secret>>,
    last_known: Option<LastKnown>,
    balances: Option<BalancesFile>,
    /// When balances may be written down again: that of many takes longer.
    keeps_again: Mutex<Option<Instant>>,
}

/// What the database holds, and why it could not be asked.
#[derive(Debug)]
pub struct Seen {
    /// What it holds, or held when it was last seen.
    pub contents: Contents,
    /// Why it cannot be reached; then `contents` may be old.
    pub degraded: Option<String>,
    /// Nobody knows what it holds: it is away, and there is no copy of it.
    pub is_unknown: bool,
}

/// What of it the data plane runs on.
#[derive(Clone, Debug, Default)]
pub struct Followed {
    /// The gateway's keys.
    pub keys: Arc<StoredKeys>,
    /// The hash of the administrator's token.
    pub admin_token: Option<KeyHash>,
    /// Keys of providers, without those that an organisation has saved for itself: these are among `keys`.
    pub vault: Vec<VaultKey>,
    /// What may be spent.
    pub budgets: Arc<BudgetBook>,
    /// Prices that were imported.
    pub prices: Option<Arc<PriceList>>,
    /// Models, presets and routing settings that the configuration is read with.
    pub settings: Arc<[StoredSetting]>,
}

impl Followed {
    /// Whether there is nothing that a configuration has to be read with.
    pub fn is_empty(&self) -> bool {
        self.vault.is_empty() && self.settings.is_empty() && self.prices.is_none() && self.keys.names().next().is_none()
    }
}

impl State {
    /// Opens the database that is configured. One on a server need not be there yet.
    ///
    /// # Errors
    /// What an operator has to see to.
    pub async fn open(data_dir: &Path, store: &Store) -> Result<Self, StoreError> {
        let given = store.master_key.as_ref().map(|text| MasterKeys::parse(text.reveal())).transpose();
        let given = given.map_err(|error| StoreError::Refused(format!("store.master_key {error}")))?;
        let (database, copies): (Arc<dyn Database>, _) = match &store.database_url {
            Some(url) => {
                let database = PostgresDatabase::open(url, store.connections).await?;
                let place = database.place();
                let copies = (LastKnown::new(data_dir, place.clone()), BalancesFile::new(data_dir, place));
                (Arc::new(database), Some(copies))
            }
            None => (Arc::new(SqliteDatabase::open(data_dir)?), None),
        };
        let (last_known, balances) = copies.unzip();
        let (opened, keeps_again) = (Mutex::default(), Mutex::default());
        Ok(Self { database, data_dir: data_dir.to_owned(), given, opened, last_known, balances, keeps_again })
    }

    /// What the database holds; while it is away, what it held when it was last seen.
    ///
    /// # Errors
    /// When the database is damaged, or away and the copy on disk is damaged too.
    pub async fn look(&self) -> Result<Seen, StoreError> {
        match self.database.contents().await {
            Ok(contents) => Ok(Seen { contents, degraded: None, is_unknown: false }),
            Err(StoreError::Unavailable(why)) if self.last_known.is_some() => {
                let recalled = self.last_known.as_ref().map(LastKnown::recall).transpose()?.flatten();
                let is_unknown = recalled.is_none();
                Ok(Seen { contents: recalled.unwrap_or_default(), degraded: Some(why), is_unknown })
            }
            Err(error) => Err(error),
        }
    }

    /// Writes down what the database holds, where it is on a server.
    ///
    /// # Errors
    /// When the copy cannot be written.
    pub fn keep_copy(&self, contents: &Contents) -> Result<(), StoreError> {
        self.last_known.as_ref().map_or(Ok(()), |file| file.keep(contents))
    }

    /// Writes down what was spent of these accounts, where the database is on a server. What of the spool is deleted next is in it.
    pub fn keep_balances(&self, accounts: &dyn Accounts) {
        let Some(file) = &self.balances else { return };
        let begun = Instant::now();
        let mut again = self.keeps_again.lock();
        if again.is_some_and(|again| begun < again) {
            return;
        }
        // Before it is looked: of what is booked while it is, a part may be in it.
        let at = now_ms();
        let spent = accounts.balances().into_iter().filter(|(_, balance)| balance.spent > Money::ZERO);
        let spent: Vec<_> = spent.map(|(account, balance)| (account, balance.spent)).collect();
        if spent.is_empty() {
            return;
        }
        if let Err(error) = file.keep(KeptBalances { at, spent }) {
            log::warn!("{error}");
        }
        // A tenth of the time at most; of a few accounts this is nothing.
        let took = begun.elapsed();
        *again = (took > SLOW).then(|| Instant::now() + took * 10);
    }

    /// What was written down last.
    ///
    /// # Errors
    /// When the copy is damaged.
    pub fn recall_balances(&self) -> Result<Option<KeptBalances>, StoreError> {
        self.balances.as_ref().map(BalancesFile::recall).transpose().map(Option::flatten)
    }

    /// Takes over what version 0.1 kept in `credentials.json`.
    ///
    /// # Errors
    /// When that file is damaged, or the database does not take it.
    pub async fn import_earlier(&self) -> Result<(), StoreError> {
        let Some(earlier) = earlier_credentials(&self.data_dir)? else { return Ok(()) };
        let key = |(name, hash): &(String, KeyHash)| {
            let now = now_ms();
            // The file kept the masked form as the name.
            let secret = KeySecret { hash: *hash, shown: name.clone(), created_at: now, expires_at: None };
            new_key(new_id("key"), name, secret, now)
        };
        let keys: Vec<ApiKey> = earlier.keys.iter().map(key).collect();
        if !self.database.begin_with(&keys, earlier.admin_token).await? {
            for key in &keys {
                match self.database.create_key(&Access::System, key).await {
                    Ok(()) | Err(StoreError::Conflict(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        let details = serde_json::json!({"keys": keys.len(), "admin_token": earlier.admin_token.is_some()});
        let event = new_event("gateway".to_owned(), "gateway", "credentials.import", "credentials.json", &details);
        self.database.append(&event).await?;
        set_aside(&self.data_dir)
    }

    /// The master keys: those of the configuration, else those of the file; none when there is neither.
    ///
    /// # Errors
    /// When the file cannot be read or holds something else.
    pub fn master_keys(&self) -> Result<MasterKeys, StoreError> {
        if let Some(given) = &self.given {
            return Ok(given.clone());
        }
        let path = self.master_key_file();
        match std::fs::read_to_string(&path).map(Secret::new) {
            Ok(text) => MasterKeys::parse(text.reveal())
                .map_err(|error| StoreError::Damaged(format!("the master key in {} {error}", path.display()))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(MasterKeys::default()),
            Err(error) => Err(StoreError::Unavailable(format!("cannot read {}: {error}", path.display()))),
        }
    }

    /// Whether the configuration gives the master keys.
    pub fn has_given_master_key(&self) -> bool {
        self.given.is_some()
    }

    /// Where the master key is when the configuration gives none.
    pub fn master_key_file(&self) -> PathBuf {
        self.data_dir.join(MASTER_KEY_FILE)
    }

    /// Makes a master key where there is none, and nothing yet that one that was lost has sealed; says where it was put.
    ///
    /// # Errors
    /// When it cannot be made or written.
    pub fn make_master_key(&self, sealed: &[SealedKey]) -> Result<Option<PathBuf>, StoreError> {
        if self.master_keys()?.current().is_some() || !sealed.is_empty() {
            return Ok(None);
        }
        let key = MasterKey::random().map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let (path, text) = (self.master_key_file(), MasterKeys::default().with_new(key).to_text());
        // Another process may have made one in this moment, and have sealed with it.
        let made = make_for_owner(&path, text.as_bytes()).map_err(|error| cannot_write(&path, &error))?;
        Ok(made.then_some(path))
    }

    /// Keeps other processes of this data directory from changing the master key, or sealing with it, until it is dropped. Blocks.
    ///
    /// # Errors
    /// When the lock's file cannot be made.
    pub fn lock_master_key(&self) -> Result<Option<File>, StoreError> {
        if self.given.is_some() {
            return Ok(None);
        }
        let path = self.data_dir.join("master.key.lock");
        lock(&path).map(Some).map_err(|error| cannot_write(&path, &error))
    }

    /// The master keys with the one first that the database's rows are to be sealed with.
    ///
    /// # Errors
    /// The file's or the database's.
    pub async fn sealing_keys(&self) -> Result<MasterKeys, StoreError> {
        let keys = self.master_keys()?;
        let in_use = self.database.master_key().await?;
        // Without it, sealing works and the database refuses what is sealed, saying why.
        Ok(in_use.and_then(|id| keys.led_by(&id)).unwrap_or(keys))
    }

    /// Whether other gateways, with master keys in files of their own, may use the database.
    pub fn is_shared(&self) -> bool {
        self.last_known.is_some()
    }

    /// Seals a key and puts it into the vault, with an entry in the audit log. The caller has [`State::lock_master_key`], until the row is there:
    /// a master key that nothing is sealed with yet might be replaced.
    ///
    /// # Errors
    /// When there is no master key, or the database does not take the key.
    pub async fn seal_and_add(&self, mut key: SealedKey, secret: &Secret, event: AuditEvent) -> Result<(), StoreError> {
        let others = self.database.provider_keys(&Access::System).await?;
        self.make_master_key(&others)?;
        let keys = self.sealing_keys().await?;
        let sealed = vault::seal(&keys, &key.identity(), secret);
        key.envelope = sealed.map_err(|error| StoreError::Refused(error.to_string()))?;
        noted(&*self.database, event, self.database.add_provider_key(&Access::System, &key)).await
    }

    /// Puts these keys into the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_master_keys(&self, keys: &MasterKeys) -> Result<(), StoreError> {
        let path = self.master_key_file();
        write_private(&path, keys.to_text().as_bytes()).map_err(|error| cannot_write(&path, &error))
    }

    /// What the data plane runs on, and everything that is wrong with single rows. Of the vault's, those that do not open serve on as they
    /// last did, or are left out; those of organisations then stand for themselves, so that nobody else's key pays instead.
    pub fn open_up(&self, contents: &Contents) -> (Followed, Vec<String>) {
        let (vault, saved, mut problems) = self.unseal(&contents.provider_keys);
        problems.extend(contents.problems.iter().cloned());
        let prices = contents.prices.as_ref().and_then(|json| match PriceList::from_json(json.as_bytes()) {
            Ok(list) => Some(Arc::new(list)),
            Err(error) => {
                problems.push(format!("the imported prices: {error}; orbyt catalog import writes them anew"));
                None
            }
        });
        let budgets = Arc::new(BudgetBook::new(contents.budgets.clone(), &contents.credits));
        let keys = Arc::new(StoredKeys::new(contents.keys.clone(), &saved));
        let settings = contents.settings.as_slice().into();
        (Followed { keys, admin_token: contents.admin_token, vault, budgets, prices, settings }, problems)
    }

    /// The keys that serve everybody, those of organisations, and what is wrong with others.
    fn unseal(&self, sealed: &[SealedKey]) -> (Vec<VaultKey>, Vec<SavedKey>, Vec<String>) {
        let (mut opened, mut saved, mut problems) = (Vec::new(), Vec::new(), Vec::new());
        let mut known = self.opened.lock();
        let mut still_known = HashMap::new();
        let keys = if sealed.is_empty() { Ok(MasterKeys::default()) } else { self.master_keys() };
        let keys = keys.unwrap_or_else(|error| {
            problems.push(error.to_string());
            MasterKeys::default()
        });
        for row in sealed {
            let SealedKey { org, project, provider, name, envelope, .. } = row;
            let identity = row.identity();
            let secret = vault::open(&keys, &identity, envelope).map_or_else(
                |error| {
                    let before = known.get(&identity).cloned();
                    let serves = if before.is_some() { "; it serves as it last did" } else { "" };
                    problems.push(format!("vault: key {name} of {provider}: {error}{serves}"));
                    before
                },
                Some,
            );
            if let Some(secret) = &secret {
                still_known.insert(identity, secret.clone());
            }
            let (provider, name) = (provider.clone(), name.clone());
            match (org, secret) {
                (None, Some(secret)) => opened.push(VaultKey { provider, name, secret }),
                (None, None) => {}
                (Some(org), secret) => {
                    saved.push(SavedKey { org: org.clone(), project: project.clone(), provider, name, secret });
                }
            }
        }
        *known = still_known;
        (opened, saved, problems)
    }
}

fn cannot_write(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Refused(format!("cannot write {}: {error}; set ORBYT_MASTER_KEY", path.display()))
}

/// Looks at the database that is configured without changing it: how many steps of the schema are left to take, or `None` when there is none
/// yet.
///
/// # Errors
/// When it cannot be reached, is damaged, or belongs to a later version.
pub async fn steps_to_take(data_dir: &Path, store: &Store) -> Result<Option<usize>, StoreError> {
    match &store.database_url {
        None => check_file(data_dir),
        Some(url) => check_server(url).await.map(Some),
    }
}

/// A key of the default project that may be used for everything.
pub fn new_key(id: String, name: &str, secret: KeySecret, now: u64) -> ApiKey {
    ApiKey {
        id: id.into(),
        org: DEFAULT_ORG.into(),
        project: DEFAULT_PROJECT.into(),
        name: name.into(),
        owner: None,
        workflow: None,
        scopes: Scopes::default(),
        limits: [].into(),
        metadata: BTreeMap::new(),
        disabled: false,
        created_at: now,
        expires_at: None,
        revoked_at: None,
        secrets: vec![secret],
    }
}

/// An event of now, of no organisation, on this machine.
pub fn new_event(actor: String, origin: &str, action: &str, target: &str, details: &serde_json::Value) -> AuditEvent {
    // Read once: events are also made where a request waits.
    static HOST: LazyLock<String> = LazyLock::new(|| {
        // Not by /proc/sys, which a hardened service does not see.
        let system = rustix::system::uname();
        let host = system.nodename().to_string_lossy();
        if host.is_empty() { "this machine".to_owned() } else { host.into_owned() }
    });
    let host = &*HOST;
    AuditEvent {
        at: now_ms(),
        org: None,
        actor,
        origin: format!("{origin} on {host}"),
        action: action.to_owned(),
        target: target.to_owned(),
        details: details.to_string(),
    }
}

/// `key_` and 24 hex digits.
pub fn new_id(kind: &str) -> String {
    format!("{kind}_{:08x}{:016x}", fastrand::u32(..), fastrand::u64(..))
}

/// Unix milliseconds.
pub fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
