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
use super::known::{Known, PooledKey};
use super::link::{Lane, Link, RETRY, is_answer};
use crate::domain::{KeyId, KeyQuota, ProviderKey};
use crate::store::memory::{AccountName, KeyNews, MemoryKeyPool, Use};
use crate::store::ports::live::{Ask, KeyOutcome, KeyPool, KeyState, KeyStatus, Leased, NoKey, Returned, Ticket};
use futures::StreamExt;
use futures::future::join_all;
use parking_lot::Mutex;
use redis::{RedisResult, Script, ScriptInvocation};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};

/// What is known about keys.
const KEYS: &str = "{orbyt}:keys";
/// Where news is published by those that use database 0. Channels know of no databases, so the others add its number.
const NEWS: &str = "{orbyt}:news";
/// So much use may wait to be told; more is left out, and the others learn it by themselves.
const MOST_UNTOLD: usize = 16_384;
/// So much of it is sent at once.
const BATCH: usize = 256;
/// What stands before a key in the hash, where it is said when it was enabled.
const ENABLED: &str = "enabled:";
/// How long subscribing may take.
const SUBSCRIBE: Duration = Duration::from_secs(2);

static TELL: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/tell_key.lua")));
static KNOWN: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/known_keys.lua")));
static USE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/use_key.lua")));

/// Where news is published.
pub(super) fn news(client: &redis::Client) -> String {
    channel(client, NEWS)
}

/// The channel of this name for those who use the same database.
pub(super) fn channel(client: &redis::Client, name: &str) -> String {
    match client.get_connection_info().redis_settings().db() {
        0 => name.to_owned(),
        database => format!("{name}:{database}"),
    }
}

/// What has to be known to Redis before it is asked.
pub(super) fn scripts() -> [&'static Script; 3] {
    [&*TELL, &*KNOWN, &*USE]
}

/// The pool of a node that shares what it learns.
pub struct RedisKeyPool {
    shared: Arc<Shared>,
    used: mpsc::Sender<Used>,
    /// Disabled keys are only told to be enabled by a reload, not by the start.
    is_configured: AtomicBool,
}

/// What the pool shares with the tasks that tell and hear.
struct Shared {
    link: Arc<Link>,
    local: MemoryKeyPool,
    /// Where news is published.
    channel: String,
    known: Mutex<Known>,
    /// News that is not told yet.
    untold: Mutex<HashMap<PooledKey, Untold>>,
    /// There is news.
    tell: Notify,
    /// The configuration has changed: look again.
    look: Notify,
}

/// What there is to tell about a key.
#[derive(Default)]
struct Untold {
    /// Until when it counts that it was enabled.
    enabled_until: Option<Instant>,
    /// The state that it has when it is told.
    state: bool,
}

/// What was used of a key.
struct Used {
    account: AccountName,
    own: KeyQuota,
    what: Use,
}

impl Shared {
    fn tell(&self, key: PooledKey, add: impl FnOnce(&mut Untold)) {
        add(self.untold.lock().entry(key).or_default());
        self.tell.notify_one();
    }
}

impl RedisKeyPool {
    pub(super) fn new(link: Arc<Link>) -> Self {
        let (used, to_tell) = mpsc::channel(MOST_UNTOLD);
        let shared = Arc::new(Shared {
            link: link.clone(),
            channel: news(link.client()),
            local: MemoryKeyPool::default(),
            known: Mutex::default(),
            untold: Mutex::default(),
            tell: Notify::new(),
            look: Notify::new(),
        });
        link.runtime().spawn(tell_news(shared.clone()));
        link.runtime().spawn(tell_use(shared.clone(), to_tell));
        link.runtime().spawn(hear_all(shared.clone()));
        Self { shared, used, is_configured: AtomicBool::new(false) }
    }

    fn local(&self) -> &MemoryKeyPool {
        &self.shared.local
    }

    /// A key is enabled here: it counts everywhere, against what was learnt before.
    fn tell_enabled(&self, provider: Arc<str>, key: KeyId) {
        let key = (provider, key);
        let until = self.shared.known.lock().enabled(key.clone(), Instant::now());
        self.shared.tell(key, |untold| untold.enabled_until = Some(until));
    }

    fn tell_use(&self, provider: &str, key: KeyId, what: Use) {
        if let Some((account, own)) = self.local().limited_account(provider, key) {
            // News is not kept waiting by it.
            if self.used.try_send(Used { account, own, what }).is_err() {
                log::debug!("redis: too much use of keys to tell");
            }
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
            let key: PooledKey = (provider.into(), ticket.key);
            if change == Some(KeyState::Disabled) {
                self.shared.known.lock().refused(key.clone(), Instant::now());
            }
            self.shared.tell(key, |untold| untold.state = true);
        }
        change
    }

    fn enable(&self, provider: &str, key: KeyId) -> bool {
        let was_disabled = self.local().enable(provider, key);
        if was_disabled {
            self.tell_enabled(provider.into(), key);
        }
        was_disabled
    }

    fn configure(&self, providers: &[(Arc<str>, &[Arc<ProviderKey>])], now: Instant) {
        if self.is_configured.swap(true, Ordering::Relaxed) {
            // Disabled keys get another chance everywhere.
            let disabled = self.local().statuses(now).into_iter().filter(|it| it.state == KeyState::Disabled);
            for KeyStatus { provider, id, .. } in disabled {
                self.tell_enabled(provider, id);
            }
        }
        self.local().configure(providers, now);
        for ((provider, key), news) in self.shared.known.lock().holding(now) {
            self.local().hear(&provider, key, news, now);
        }
        self.shared.look.notify_one();
    }

    fn statuses(&self, now: Instant) -> Vec<KeyStatus> {
        self.local().statuses(now)
    }
}

/// The word for news, and for how long it holds, where it says so itself.
fn kind_and_time(news: KeyNews) -> (&'static str, Option<Duration>) {
    match news {
        KeyNews::Cooldown(left) => ("cooldown", Some(left)),
        KeyNews::Exhausted(left) => ("exhausted", Some(left)),
        KeyNews::Disabled => ("disabled", None),
        KeyNews::Enabled => ("enabled", None),
    }
}

fn read_news(kind: &str, left: Duration) -> Option<KeyNews> {
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
    shared: &Shared,
    account: &AccountName,
    own: KeyQuota,
    requests: u32,
    tokens: i64,
    message: &str,
) -> ScriptInvocation<'static> {
    let mut call = USE.prepare_invoke();
    call.key(format!("{{orbyt}}:use:{}", account_name(account)));
    call.arg(own.rpm.unwrap_or_default()).arg(own.tpm.unwrap_or_default());
    call.arg(requests).arg(tokens).arg(&shared.channel).arg(message);
    call
}

/// Tells the news, as soon as Redis is there. Of a key only what is so now is told, so it waits in little room.
async fn tell_news(shared: Arc<Shared>) {
    loop {
        shared.tell.notified().await;
        let lane = shared.link.back().await;
        let untold = std::mem::take(&mut *shared.untold.lock());
        for (key, what) in untold {
            let Err(error) = tell(&shared, &lane, &key, &what).await else { continue };
            shared.link.failed(&lane, &error);
            if !is_answer(&error) {
                // What has happened since is newer.
                shared.tell(key, |untold| {
                    untold.enabled_until = untold.enabled_until.max(what.enabled_until);
                    untold.state |= what.state;
                });
            }
        }
    }
}

async fn tell(shared: &Shared, lane: &Lane, key: &PooledKey, what: &Untold) -> RedisResult<()> {
    let (mut connection, now) = (lane.connection.clone(), Instant::now());
    if let Some(until) = what.enabled_until {
        tell_call(shared, key, "enabled", until - now).invoke_async::<()>(&mut connection).await?;
    }
    let news = if what.state { shared.local.news_of(&key.0, key.1, now) } else { None };
    let Some((kind, left)) = news.map(kind_and_time) else { return Ok(()) };
    // Who has only heard that a key is refused does not say so.
    match left.or_else(|| shared.known.lock().own_refusal(key, now)) {
        Some(left) => tell_call(shared, key, kind, left).invoke_async(&mut connection).await,
        None => Ok(()),
    }
}

/// Tells what is used of keys, while Redis is there.
async fn tell_use(shared: Arc<Shared>, mut used: mpsc::Receiver<Used>) {
    let mut batch = Vec::new();
    while used.recv_many(&mut batch, BATCH).await > 0 {
        let Some(lane) = shared.link.lane() else {
            batch.clear();
            continue;
        };
        let told = batch.drain(..).map(|Used { account, own, what }| {
            let (requests, tokens, said) = match what {
                Use::Begun { tokens } => (1, i128::from(tokens), format!("begun\t{tokens}")),
                Use::Ended { taken, used } => {
                    (0, i128::from(used) - i128::from(taken), format!("ended\t{taken} {used}"))
                }
            };
            let tokens = i64::try_from(tokens).unwrap_or(i64::MAX);
            let message = format!("{}\t{said}\t{}", shared.link.process(), account_name(&account));
            let call = use_call(&shared, &account, own, requests, tokens, &message);
            let mut connection = lane.connection.clone();
            async move { call.invoke_async::<(u64, u64)>(&mut connection).await }
        });
        for error in join_all(told).await.into_iter().filter_map(Result::err) {
            shared.link.failed(&lane, &error);
        }
    }
}

fn tell_call(shared: &Shared, key: &PooledKey, kind: &str, left: Duration) -> ScriptInvocation<'static> {
    let left = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
    let mut call = TELL.prepare_invoke();
    call.key(KEYS).arg(&shared.channel).arg(shared.link.process()).arg(format!("{}:{}", key.1, key.0));
    call.arg(kind).arg(left).arg(ENABLED);
    call
}

/// Hears what others tell, over a connection of its own, for ever.
async fn hear_all(shared: Arc<Shared>) {
    loop {
        if let Some(lane) = shared.link.lane() {
            let why = hear(&shared, &lane).await;
            log::debug!("redis: news: {why}");
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Subscribes, catches up and listens until the connection breaks. Returns why it did.
async fn hear(shared: &Shared, lane: &Arc<Lane>) -> String {
    let subscribed = tokio::time::timeout(SUBSCRIBE, async {
        let mut pubsub = shared.link.client().get_async_pubsub().await?;
        pubsub.subscribe(&shared.channel).await?;
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
            && let Err(error) = catch_up(shared, lane).await
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
async fn catch_up(shared: &Shared, lane: &Lane) -> RedisResult<()> {
    let mut connection = lane.connection.clone();
    let known: Vec<(String, String, u64)> = KNOWN.key(KEYS).invoke_async(&mut connection).await?;
    for (field, kind, left) in known {
        hear_of_key(shared, &field, &kind, Duration::from_millis(left));
    }
    let now = Instant::now();
    for KeyStatus { provider, id, .. } in shared.local.statuses(now) {
        if shared.local.news_of(&provider, id, now).is_some() {
            shared.tell((provider.clone(), id), |untold| untold.state = true);
        }
        if let Some((account, own)) = shared.local.limited_account(&provider, id) {
            let (requests, tokens) = use_call(shared, &account, own, 0, 0, "").invoke_async(&mut connection).await?;
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
    let field = field.strip_prefix(ENABLED).unwrap_or(field);
    let Some((key, provider)) = field.split_once(':') else { return };
    let (Some(key), Some(news), now) = (KeyId::from_hex(key), read_news(kind, left), Instant::now()) else { return };
    let provider: Arc<str> = provider.into();
    if !shared.known.lock().hear((provider.clone(), key), news, now + left, now) {
        return;
    }
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
            let (kind, own) = kind_and_time(told);
            assert_eq!(read_news(kind, own.unwrap_or_default()), Some(told));
        }
        assert_eq!(read_news("retired", left), None);
    }
}
