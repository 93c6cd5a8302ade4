//! Follows the database while the gateway runs: what changes there is in the snapshot a moment later, and a database that is away is told.
//!
//! A snapshot has two parents: the configuration, which a reload replaces, and the database. This is the only place that puts them together,
//! so that neither undoes what the other has brought.

use super::{Followed, State, doorbell};
use crate::cli::credentials::{FirstStart, first_start};
use crate::config::Snapshot;
use crate::domain::stored_setting::StoredSetting;
use crate::domain::tenancy::VaultKey;
use crate::provider::PriceList;
use crate::proxy::Core;
use crate::store::ports::database::Contents;
use crate::telemetry::StateChange;
use crate::wiring::provider_keys;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex as AsyncMutex, watch};

/// How long until the database is asked again when it could not answer, and when nothing was heard of it.
const SOON: Duration = Duration::from_secs(1);
const IN_CASE: Duration = Duration::from_secs(30);
/// The longest of the waits for a database that cannot answer, and the wait while something in it cannot be used: what that lacks, such as
/// a master key, nobody tells of when it comes.
const LATER: Duration = Duration::from_secs(8);
const REPAIRED: Duration = Duration::from_secs(5);
/// How long whoever asks for the database's contents waits for a reload of the configuration.
const RELOADED: Duration = Duration::from_secs(2);
/// What the database is called in the log.
const DATABASE: &str = "database";
/// How often, and after how long, what did not fit together is read again.
const LOOKS_AGAIN: u32 = 3;
const MOMENT: Duration = Duration::from_millis(50);

/// Puts the snapshot together.
pub struct Follower {
    pub(super) core: Arc<Core>,
    pub(super) state: Option<Arc<State>>,
    pub(super) parents: Mutex<Parents>,
    /// What the database held when it was last asked. One at a time asks.
    known: AsyncMutex<Known>,
    /// Counts the changes of the vault and of the prices, after each of which the configuration has to be read again with them, and how far that has come.
    vault_changes: watch::Sender<u64>,
    reloaded: watch::Sender<u64>,
    /// Something in the database cannot be used.
    is_unsettled: AtomicBool,
}

pub(super) struct Parents {
    configuration: Snapshot,
    pub(super) followed: Followed,
}

struct Known {
    contents: Option<Contents>,
    /// What was wrong with it, so that it is told once.
    problems: Vec<String>,
    /// Credentials have to be made as soon as the database is there and holds none.
    owes_first_start: bool,
}

/// While the master key is changed, rows and key may be read a moment apart and not fit: then both are read again.
async fn settled(
    state: &State,
    mut contents: Contents,
    mut followed: Followed,
    mut problems: Vec<String>,
) -> (Contents, Followed, Vec<String>) {
    for _ in 0..LOOKS_AGAIN {
        if problems.is_empty() {
            break;
        }
        tokio::time::sleep(MOMENT).await;
        let Ok(now) = state.database.contents().await else { break };
        // Keys have been taken over as they were; what has changed of them since is told again.
        contents.provider_keys = now.provider_keys;
        (followed, problems) = state.open_up(&contents);
    }
    (contents, followed, problems)
}

impl Follower {
    /// With this configuration, and what of the database was seen.
    pub fn new(core: Arc<Core>, state: Option<Arc<State>>, configuration: Snapshot, followed: Followed) -> Arc<Self> {
        let owes_first_start = configuration.keys.is_empty();
        let followed_first = followed.clone();
        let parents = Mutex::new(Parents { configuration, followed });
        let known = AsyncMutex::new(Known { contents: None, problems: Vec::new(), owes_first_start });
        let (vault_changes, reloaded) = (watch::Sender::new(0), watch::Sender::new(0));
        let follower = Arc::new(Self {
            core,
            state,
            parents,
            known,
            vault_changes,
            reloaded,
            is_unsettled: AtomicBool::new(false),
        });
        follower.take_keys(followed_first);
        follower
    }

    pub(super) fn publish(&self, change: impl FnOnce(&mut Parents)) {
        let mut parents = self.parents.lock();
        change(&mut parents);
        let Followed { keys, budgets, admin_token, .. } = &parents.followed;
        let snapshot = parents.configuration.clone().with_stored(keys.clone(), budgets.clone(), *admin_token);
        // Still under the lock, so that the latest is what stays.
        self.core.snapshot.store(Arc::new(snapshot));
    }

    /// Takes a new configuration.
    pub fn configure(&self, configuration: Snapshot) {
        self.publish(|parents| parents.configuration = configuration);
    }

    /// The count of changes of the vault, for whoever reads the configuration again after each of them.
    pub(in crate::wiring) fn vault_changes(&self) -> watch::Receiver<u64> {
        self.vault_changes.subscribe()
    }

    /// The configuration was read again after so many changes, or could not be.
    pub(in crate::wiring) fn reloaded(&self, changes: u64) {
        self.reloaded.send_replace(changes);
    }

    /// What the database holds, as a configuration needs it.
    pub fn followed(&self) -> Followed {
        self.parents.lock().followed.clone()
    }

    /// Asks the database and takes over what has changed. Says whether it has answered.
    pub async fn refresh(&self) -> bool {
        let Some(state) = &self.state else { return true };
        let mut known = self.known.lock().await;
        let contents = match state.database.contents().await {
            Ok(contents) => contents,
            Err(error) => {
                self.away(&error.to_string());
                return false;
            }
        };
        self.back();
        // What could not be used may be of use now, though the database has not changed: a master key was put in its place.
        if known.contents.as_ref() == Some(&contents) && known.problems.is_empty() {
            return true;
        }
        let contents = self.pay_first_start(state, &mut known, contents).await;
        let (followed, problems) = state.open_up(&contents);
        let unsettled = !problems.is_empty();
        // At once: what is wrong in the vault must not put off a revocation.
        self.take_keys(followed.clone());
        let (contents, followed, problems) = settled(state, contents, followed, problems).await;
        if unsettled {
            self.take_keys(followed.clone());
        }
        self.take_budgets(state, followed.budgets).await;
        self.take_prices(followed.prices).await;
        self.take_settings(followed.settings).await;
        self.take_vault(followed.vault).await;
        self.is_unsettled.store(!problems.is_empty(), Ordering::Relaxed);
        if known.problems != problems {
            for problem in &problems {
                log::error!("{problem}");
            }
            known.problems = problems;
        }
        if known.contents.as_ref() != Some(&contents)
            && let Err(error) = state.keep_copy(&contents)
        {
            log::warn!("{error}");
        }
        known.contents = Some(contents);
        true
    }

    /// Takes over the gateway's keys, with what their organisations have saved.
    fn take_keys(&self, followed: Followed) {
        let Followed { keys, admin_token, .. } = followed;
        let old = self.core.snapshot.load_full();
        if !keys.saved_secrets().eq(old.keys.saved_secrets()) {
            // Before any of them is used; requests in flight still use the old ones.
            self.core.telemetry.redactor.register(old.secrets().chain(keys.saved_secrets()));
        }
        self.publish(|parents| {
            parents.followed.keys = keys;
            parents.followed.admin_token = admin_token;
        });
    }

    /// Takes over what was set in the console, with which the configuration is read again.
    async fn take_settings(&self, settings: Arc<[StoredSetting]>) {
        if self.parents.lock().followed.settings == settings {
            return;
        }
        self.publish(|parents| parents.followed.settings = settings);
        self.read_again().await;
    }

    /// Takes over imported prices, with which the configuration is read again.
    async fn take_prices(&self, prices: Option<Arc<PriceList>>) {
        if self.parents.lock().followed.prices == prices {
            return;
        }
        self.publish(|parents| parents.followed.prices = prices);
        self.read_again().await;
    }

    /// Takes over the vault. What is in it no more is not used from now on, even if the configuration cannot be read; for what is new the
    /// configuration is read again, which is waited for.
    async fn take_vault(&self, vault: Vec<VaultKey>) {
        let gone: Vec<VaultKey> = {
            let before = &self.parents.lock().followed.vault;
            if *before == vault {
                return;
            }
            before.iter().filter(|key| !vault.contains(key)).cloned().collect()
        };
        // What was registered before goes, so it is all said again; requests in flight still use the old keys.
        let old = self.core.snapshot.load_full();
        self.core.telemetry.redactor.register(old.secrets().chain(vault.iter().map(|key| &key.secret)));
        self.publish(|parents| {
            parents.configuration.forget(&gone);
            parents.followed.vault = vault;
        });
        self.core.pool.configure(&provider_keys(&self.core.snapshot.load()), Instant::now());
        self.read_again().await;
    }

    /// Has the configuration read again, and waits for that.
    async fn read_again(&self) {
        self.vault_changes.send_modify(|changes| *changes += 1);
        if self.vault_changes.receiver_count() > 0 {
            let (changes, mut reloaded) = (*self.vault_changes.borrow(), self.reloaded.subscribe());
            // One that takes longer is in force a moment after the change is said to be.
            let _ = tokio::time::timeout(RELOADED, reloaded.wait_for(|done| *done >= changes)).await;
        }
    }

    /// Makes the first credentials when the database was away at the start and turns out to be empty.
    async fn pay_first_start(&self, state: &State, known: &mut Known, contents: Contents) -> Contents {
        if !std::mem::take(&mut known.owes_first_start) || !contents.keys.is_empty() {
            return contents;
        }
        let has_token = self.core.snapshot.load().console.admin_token.is_some();
        match first_start(state, has_token, false).await {
            Ok(FirstStart::Written(path)) => {
                log::info!("the first API key and the admin token are in {}", path.display());
            }
            Ok(_) => {}
            Err(error) => log::error!("{error}"),
        }
        state.database.contents().await.unwrap_or(contents)
    }

    fn away(&self, why: &str) {
        if self.core.degraded.swap(Some(Arc::new(why.to_owned()))).is_none() {
            self.core.telemetry.state_change(StateChange::StoreUnhealthy { store: DATABASE, why });
        }
    }

    fn back(&self) {
        if self.core.degraded.swap(None).is_some() {
            self.core.telemetry.state_change(StateChange::StoreRecovered { store: DATABASE });
        }
    }

    /// Answers whoever rings at `orbyt.sock`, in the place of a process before where this one takes over from it. Must be called in a runtime.
    pub fn open_door(self: &Arc<Self>, takes_over: bool) {
        let Some(state) = &self.state else { return };
        match doorbell::listen(&state.data_dir, takes_over) {
            Ok(listener) => drop(tokio::spawn(doorbell::answer(listener, self.clone()))),
            Err(error) => log::debug!("changes by other programs are noticed a moment later: orbyt.sock: {error}"),
        }
    }

    /// Follows for as long as the gateway runs. Must be called in a runtime.
    pub async fn follow(self: Arc<Self>) {
        let Some(state) = &self.state else { return };
        let mut link = state.database.link();
        let mut again = SOON;
        loop {
            let down = link.borrow_and_update().down.clone();
            let is_there = match down {
                Some(why) => {
                    self.away(&why);
                    false
                }
                None => self.refresh().await,
            };
            let wait = match is_there {
                true if self.is_unsettled.load(Ordering::Relaxed) => REPAIRED,
                true => IN_CASE,
                false => again,
            };
            again = if is_there { SOON } else { (again * 2).min(LATER) };
            if matches!(tokio::time::timeout(wait, link.changed()).await, Ok(Err(_))) {
                return;
            }
        }
    }
}
