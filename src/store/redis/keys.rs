//! The pool of provider keys of one node, which tells the others what it learns, and hears what they do.
//!
//! ```text
//!   429, 401 …  ──> this pool ──tell──> Redis ──publish──> every other pool
//!                                         └── kept: a node that starts, or comes back, catches up
//! ```
//!
//! A key is leased from memory, without a question to anybody. What is taken from limits that the operator has set (`rpm`, `tpm`) is told
//! the same way, so that nodes know of each other's use after the time that a message takes. What happens while Redis is away is told
//! when it is back, as far as it still holds.

use super::Event;
use super::link::{Lane, Link, RETRY};
use crate::domain::{KeyId, KeyQuota, ProviderKey};
use crate::store::memory::{AccountName, KeyNews, MemoryKeyPool, Use};
use crate::store::ports::live::{Ask, KeyOutcome, KeyPool, KeyState, KeyStatus, Leased, NoKey, Returned, Ticket};
use futures::StreamExt;
use parking_lot::Mutex;
use redis::{RedisResult, Script, ScriptInvocation};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};

/// What is known about keys.
const KEYS: &str = "{orbyt}:keys";
/// Where news is published.
const NEWS: &str = "{orbyt}:news";
/// So much may wait to be told; more is left out, and the others learn it by themselves.
const MOST_UNTOLD: usize = 16_384;
/// A key that its provider does not accept is tried again after so long, by nodes that have not tried it.
const DISABLED_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// How long subscribing may take.
const SUBSCRIBE: Duration = Duration::from_secs(2);

static TELL: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/tell_key.lua")));
static KNOWN: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/known_keys.lua")));
static USE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/use_key.lua")));

/// What has to be known to Redis before it is asked.
pub(super) fn scripts() -> [&'static Script; 3] {
    [&*TELL, &*KNOWN, &*USE]
}

/// The pool of a node that shares what it learns.
pub struct RedisKeyPool {
    shared: Arc<Shared>,
    tell: mpsc::Sender<Word>,
    /// Disabled keys are only told to be enabled by a reload, not by the start.
    is_configured: AtomicBool,
}

/// A key: its provider, and which of its keys.
type PooledKey = (Arc<str>, KeyId);

/// What the pool shares with the tasks that tell and hear.
struct Shared {
    link: Arc<Link>,
    local: MemoryKeyPool,
    /// What was heard of keys, for those that a reload brings.
    heard: Mutex<HashMap<PooledKey, (KeyNews, Instant)>>,
    /// The configuration has changed: look again.
    look: Notify,
}

/// What there is to tell.
enum Word {
    /// The state that a key has when it is told.
    Learnt {
        provider: Arc<str>,
        key: KeyId,
    },
    Enabled {
        provider: Arc<str>,
        key: KeyId,
    },
    Used {
        account: AccountName,
        own: KeyQuota,
        what: Use,
    },
}

impl RedisKeyPool {
    pub(super) fn new(link: Arc<Link>) -> Self {
        let (tell, to_tell) = mpsc::channel(MOST_UNTOLD);
        let shared = Arc::new(Shared {
            link: link.clone(),
            local: MemoryKeyPool::default(),
            heard: Mutex::default(),
            look: Notify::new(),
        });
        link.runtime().spawn(tell_all(shared.clone(), to_tell));
        link.runtime().spawn(hear_all(shared.clone(), tell.clone()));
        Self { shared, tell, is_configured: AtomicBool::new(false) }
    }

    fn local(&self) -> &MemoryKeyPool {
        &self.shared.local
    }

    fn tell(&self, word: Word) {
        if self.tell.try_send(word).is_err() {
            log::debug!("redis: too much to tell about keys");
        }
    }

    fn tell_use(&self, provider: &str, key: KeyId, what: Use) {
        if let Some((account, own)) = self.local().limited_account(provider, key) {
            self.tell(Word::Used { account, own, what });
        }
    }
}

impl KeyPool for RedisKeyPool {
    fn lease(&self, ask: &Ask<'_>, ttl: Duration, random: u64, now: Instant) -> Result<Leased, NoKey> {
        let leased = self.local().lease(ask, ttl, random, now)?;
        self.tell_use(ask.provider, leased.ticket.key, Use::Begun { tokens: ask.tokens });
        Ok(leased)
    }

    fn any_ready(&self, ask: &Ask<'_>, now: Instant) -> bool {
        self.local().any_ready(ask, now)
    }

    fn ready_in(&self, ask: &Ask<'_>, now: Instant) -> Option<Duration> {
        self.local().ready_in(ask, now)
    }

    fn room(&self, ask: &Ask<'_>, now: Instant) -> f64 {
        self.local().room(ask, now)
    }

    fn give_back(&self, provider: &str, ticket: &Ticket, returned: Returned, now: Instant) -> Option<KeyState> {
        let change = self.local().give_back(provider, ticket, returned, now);
        let learnt = !matches!(returned.outcome, KeyOutcome::Good | KeyOutcome::Unknown);
        let used = returned.tokens.filter(|used| *used != ticket.tokens);
        if let Some(used) = used {
            self.tell_use(provider, ticket.key, Use::Ended { taken: ticket.tokens, used });
        }
        if learnt {
            self.tell(Word::Learnt { provider: provider.into(), key: ticket.key });
        }
        change
    }

    fn enable(&self, provider: &str, key: KeyId) -> bool {
        let was_disabled = self.local().enable(provider, key);
        if was_disabled {
            self.tell(Word::Enabled { provider: provider.into(), key });
        }
        was_disabled
    }

    fn configure(&self, providers: &[(Arc<str>, &[Arc<ProviderKey>])], now: Instant) {
        if self.is_configured.swap(true, Ordering::Relaxed) {
            // Disabled keys get another chance everywhere.
            let disabled = self.local().statuses(now).into_iter().filter(|it| it.state == KeyState::Disabled);
            for KeyStatus { provider, id, .. } in disabled {
                self.shared.heard.lock().remove(&(provider.clone(), id));
                self.tell(Word::Enabled { provider, key: id });
            }
        }
        self.local().configure(providers, now);
        let heard = self.shared.heard.lock();
        for ((provider, key), (news, until)) in heard.iter().filter(|(_, (_, until))| *until > now) {
            self.local().hear(provider, *key, lasting(*news, *until - now), now);
        }
        self.shared.look.notify_one();
    }

    fn statuses(&self, now: Instant) -> Vec<KeyStatus> {
        self.local().statuses(now)
    }
}

/// The same news with so much time left.
fn lasting(news: KeyNews, left: Duration) -> KeyNews {
    match news {
        KeyNews::Cooldown(_) => KeyNews::Cooldown(left),
        KeyNews::Exhausted(_) => KeyNews::Exhausted(left),
        KeyNews::Disabled | KeyNews::Enabled => news,
    }
}

/// The word for news, and for how long it holds.
fn kind_and_time(news: KeyNews) -> (&'static str, Duration) {
    match news {
        KeyNews::Cooldown(left) => ("cooldown", left),
        KeyNews::Exhausted(left) => ("exhausted", left),
        KeyNews::Disabled => ("disabled", DISABLED_FOR),
        KeyNews::Enabled => ("enabled", Duration::ZERO),
    }
}

fn news(kind: &str, left: Duration) -> Option<KeyNews> {
    match kind {
        "cooldown" => Some(KeyNews::Cooldown(left)),
        "exhausted" => Some(KeyNews::Exhausted(left)),
        "disabled" => Some(KeyNews::Disabled),
        "enabled" => Some(KeyNews::Enabled),
        _ => None,
    }
}

/// The name of an account in Redis and in messages. An id may hold anything but a line's end, so it comes last.
fn account_name(account: &AccountName) -> String {
    match account {
        AccountName::Group(group) => format!("group:{group}"),
        AccountName::Key(provider, key) => format!("key:{key}:{provider}"),
    }
}

fn account_of(name: &str) -> Option<AccountName> {
    let (kind, rest) = name.split_once(':')?;
    match kind {
        "group" => Some(AccountName::Group(rest.into())),
        "key" => {
            let (key, provider) = rest.split_once(':')?;
            Some(AccountName::Key(provider.into(), KeyId::from_hex(key)?))
        }
        _ => None,
    }
}

fn use_call(
    account: &AccountName,
    own: KeyQuota,
    requests: u32,
    tokens: i64,
    message: &str,
) -> ScriptInvocation<'static> {
    let mut call = USE.prepare_invoke();
    call.key(format!("{{orbyt}}:use:{}", account_name(account)));
    call.arg(own.rpm.unwrap_or_default()).arg(own.tpm.unwrap_or_default());
    call.arg(requests).arg(tokens).arg(NEWS).arg(message);
    call
}

/// Tells what there is to tell, one after the other. What is learnt about keys waits for Redis to be back, what is used of them does not.
async fn tell_all(shared: Arc<Shared>, mut words: mpsc::Receiver<Word>) {
    while let Some(word) = words.recv().await {
        let lane = match (shared.link.lane(), &word) {
            (Some(lane), _) => lane,
            (None, Word::Used { .. }) => continue,
            (None, _) => shared.link.back().await,
        };
        let mut connection = lane.connection.clone();
        let told = match word {
            Word::Enabled { provider, key } => {
                tell_call(&shared, &provider, key, KeyNews::Enabled).invoke_async::<()>(&mut connection).await
            }
            Word::Learnt { provider, key } => match shared.local.news_of(&provider, key, Instant::now()) {
                Some(news) => tell_call(&shared, &provider, key, news).invoke_async::<()>(&mut connection).await,
                None => Ok(()),
            },
            Word::Used { account, own, what } => {
                let (requests, tokens, said) = match what {
                    Use::Begun { tokens } => (1, i128::from(tokens), format!("begun\t{tokens}")),
                    Use::Ended { taken, used } => {
                        (0, i128::from(used) - i128::from(taken), format!("ended\t{taken} {used}"))
                    }
                };
                let tokens = i64::try_from(tokens).unwrap_or(i64::MAX);
                let message = format!("{}\t{said}\t{}", shared.link.process(), account_name(&account));
                use_call(&account, own, requests, tokens, &message)
                    .invoke_async::<(u64, u64)>(&mut connection)
                    .await
                    .map(drop)
            }
        };
        if let Err(error) = told {
            shared.link.failed(&lane, &error);
        }
    }
}

fn tell_call(shared: &Shared, provider: &str, key: KeyId, news: KeyNews) -> ScriptInvocation<'static> {
    let (kind, left) = kind_and_time(news);
    let left = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
    let mut call = TELL.prepare_invoke();
    call.key(KEYS).arg(NEWS).arg(shared.link.process()).arg(format!("{key}:{provider}")).arg(kind).arg(left);
    call
}

/// Hears what others tell, over a connection of its own, for ever.
async fn hear_all(shared: Arc<Shared>, tell: mpsc::Sender<Word>) {
    loop {
        if let Some(lane) = shared.link.lane() {
            let why = hear(&shared, &lane, &tell).await;
            log::debug!("redis: news: {why}");
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Subscribes, catches up and listens until the connection breaks. Returns why it did.
async fn hear(shared: &Shared, lane: &Arc<Lane>, tell: &mpsc::Sender<Word>) -> String {
    let subscribed = tokio::time::timeout(SUBSCRIBE, async {
        let mut pubsub = shared.link.client().get_async_pubsub().await?;
        pubsub.subscribe(NEWS).await?;
        RedisResult::Ok(pubsub)
    });
    let (mut sink, mut messages) = match subscribed.await {
        Ok(Ok(pubsub)) => pubsub.split(),
        Ok(Err(error)) => return error.to_string(),
        Err(_) => return "no answer".to_owned(),
    };
    let mut is_behind = true;
    loop {
        if std::mem::take(&mut is_behind)
            && let Err(error) = catch_up(shared, lane, tell).await
        {
            return error.to_string();
        }
        tokio::select! {
            message = messages.next() => match message {
                Some(message) => take_note(shared, &String::from_utf8_lossy(message.get_payload_bytes())),
                None => return "the connection is gone".to_owned(),
            },
            () = shared.look.notified() => is_behind = true,
            () = tokio::time::sleep(shared.link.beat_every()) => {
                if shared.link.lane().is_some_and(|current| !Arc::ptr_eq(&current, lane)) {
                    return "there is another connection".to_owned();
                }
                match tokio::time::timeout(SUBSCRIBE, sink.ping::<redis::Value>()).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => return error.to_string(),
                    Err(_) => return "no answer".to_owned(),
                }
            }
        }
    }
}

/// Learns what others have told before, and tells what they may have missed.
async fn catch_up(shared: &Shared, lane: &Lane, tell: &mpsc::Sender<Word>) -> RedisResult<()> {
    let mut connection = lane.connection.clone();
    let known: Vec<(String, String, u64)> = KNOWN.key(KEYS).invoke_async(&mut connection).await?;
    for (field, kind, left) in known {
        hear_of_key(shared, &field, &kind, Duration::from_millis(left));
    }
    let now = Instant::now();
    for KeyStatus { provider, id, .. } in shared.local.statuses(now) {
        if shared.local.news_of(&provider, id, now).is_some() {
            // A full channel has enough to tell.
            let _ = tell.try_send(Word::Learnt { provider: provider.clone(), key: id });
        }
        if let Some((account, own)) = shared.local.limited_account(&provider, id) {
            let (requests, tokens) = use_call(&account, own, 0, 0, "").invoke_async(&mut connection).await?;
            shared.local.left_of(&account, requests, tokens, Instant::now());
        }
    }
    Ok(())
}

/// A message: who sends it, its kind, its value, and which key or account it is about. What makes no sense is another version's.
fn take_note(shared: &Shared, message: &str) {
    let mut parts = message.splitn(4, '\t');
    let (Some(process), Some(kind), Some(value), Some(about)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return;
    };
    if process == shared.link.process() {
        return;
    }
    let number = |text: &str| text.parse::<u64>().ok();
    let what = match kind {
        "begun" => number(value).map(|tokens| Use::Begun { tokens }),
        "ended" => value
            .split_once(' ')
            .and_then(|(taken, used)| Some(Use::Ended { taken: number(taken)?, used: number(used)? })),
        _ => {
            if let Some(left) = number(value) {
                hear_of_key(shared, about, kind, Duration::from_millis(left));
            }
            None
        }
    };
    if let Some((what, account)) = what.zip(account_of(about)) {
        shared.local.used_elsewhere(&account, what, Instant::now());
    }
}

fn hear_of_key(shared: &Shared, field: &str, kind: &str, left: Duration) {
    let Some((key, provider)) = field.split_once(':') else { return };
    let (Some(key), Some(news), now) = (KeyId::from_hex(key), news(kind, left), Instant::now()) else { return };
    let provider: Arc<str> = provider.into();
    let mut heard = shared.heard.lock();
    heard.retain(|_, (_, until)| *until > now);
    if news == KeyNews::Enabled {
        heard.remove(&(provider.clone(), key));
    } else {
        heard.insert((provider.clone(), key), (news, now + left));
    }
    drop(heard);
    if let Some((name, state)) = shared.local.hear(&provider, key, news, now) {
        shared.link.tell_observer(Event::Key { provider: &provider, key: &name, state });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Secret;

    #[test]
    fn names_of_accounts_are_read_as_they_are_written() {
        let key = KeyId::of(&Secret::new("k"));
        for account in [AccountName::Group("a:b".into()), AccountName::Key("my:llm".into(), key)] {
            assert_eq!(account_of(&account_name(&account)), Some(account));
        }
        for wrong in ["", "group", "key:xyz:p", "key:12", "other:x"] {
            assert_eq!(account_of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn news_is_read_as_it_is_written() {
        let left = Duration::from_secs(5);
        for told in [KeyNews::Cooldown(left), KeyNews::Exhausted(left), KeyNews::Disabled, KeyNews::Enabled] {
            let (kind, left) = kind_and_time(told);
            assert_eq!(news(kind, left), Some(told));
        }
        assert_eq!(news("retired", left), None);
    }
}
