//! The configuration as the gateway runs on it: complete, valid, immutable, swapped as a whole on reload.

mod alerts;
mod money;
mod provider;
mod telemetry;

pub use alerts::{Alerts, Webhook};
pub use money::{MoneyRules, UnknownPrice};
pub use provider::Provider;
pub use telemetry::{LogFormat, Otlp, Telemetry};

use super::budgets::BudgetBook;
use super::keys::{GatewayKeys, StoredKeys};
use super::net::{IpNet, same_places};
use super::stored::LaidSetting;
use crate::domain::secret::KeyHash;
use crate::domain::tenancy::VaultKey;
use crate::domain::{Limit, OnOutage, Scope, Secret, Strategy};
use crate::provider::Catalog;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Everything that a request needs to know of the configuration. A request keeps the snapshot that it began with.
#[derive(Clone)]
pub struct Snapshot {
    /// The built-in providers and models.
    pub catalog: Arc<Catalog>,
    /// The gateway's own listeners.
    pub server: Server,
    /// The console's listener.
    pub console: Console,
    /// The providers in use, in order of preference.
    pub providers: Vec<Arc<Provider>>,
    /// The names of `[[model]]`.
    pub aliases: Vec<Arc<ModelAlias>>,
    /// The presets, `[[preset]]`.
    pub presets: Vec<Arc<Preset>>,
    /// Who may use the gateway.
    pub keys: GatewayKeys,
    /// How targets are chosen.
    pub routing: Routing,
    /// How often the same target is tried again.
    pub retry: Retry,
    /// When a target is left alone.
    pub breaker: Breaker,
    /// How providers are looked after between requests.
    pub health: Health,
    /// Asking a second target when the first is late; `None` when that is off.
    pub hedging: Option<Hedging>,
    /// The clocks of an attempt.
    pub timeouts: Timeouts,
    /// How much of an answer is held back before the client sees any of it.
    pub gate: Gate,
    /// What the gateway itself refuses.
    pub limits: Limits,
    /// How money is reckoned with.
    pub money: MoneyRules,
    /// What may be spent.
    pub budgets: Arc<BudgetBook>,
    /// Which answers are kept for requests that ask the same again.
    pub cache: Cache,
    /// Where state is kept that outlives the process, or that several nodes share.
    pub store: Store,
    /// What is logged.
    pub telemetry: Telemetry,
    /// Who is told what an operator has to know of.
    pub alerts: Alerts,
    /// What is done with pictures and documents given by address.
    pub media: Media,
    /// How long and how many responses are kept.
    pub responses: Responses,
    /// What became of the settings that stand in the database.
    pub stored: Arc<[LaidSetting]>,
}

/// Without the catalog, which is the same in every snapshot.
impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { catalog: _, server, console, providers, aliases, presets, keys, routing, .. } = self;
        let Self { retry, breaker, health, hedging, timeouts, gate, limits, cache, store, telemetry, media, .. } = self;
        let Self { responses, alerts, .. } = self;
        f.debug_struct("Snapshot")
            .field("server", server)
            .field("console", console)
            .field("providers", providers)
            .field("aliases", aliases)
            .field("presets", presets)
            .field("keys", keys)
            .field("routing", routing)
            .field("retry", retry)
            .field("breaker", breaker)
            .field("health", health)
            .field("hedging", hedging)
            .field("timeouts", timeouts)
            .field("gate", gate)
            .field("limits", limits)
            .field("cache", cache)
            .field("store", store)
            .field("telemetry", telemetry)
            .field("alerts", alerts)
            .field("media", media)
            .field("responses", responses)
            .finish_non_exhaustive()
    }
}

/// `[server]`: where clients come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Plain HTTP/1.1 and h2c.
    pub listen: Vec<SocketAddr>,
    /// HTTPS, where configured.
    pub tls: Option<ServerTls>,
    /// Where state is kept on this machine: the embedded database, the master key.
    pub data_dir: PathBuf,
    /// The largest request body in bytes; a larger one is a 413.
    pub max_body_bytes: u64,
    /// The proxies whose `x-forwarded-for` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Which pages in browsers may call.
    pub cors: Cors,
    /// Worker threads, at least one.
    pub workers: usize,
    /// How long a shutdown waits for requests in flight.
    pub grace: Duration,
    /// How long a process that was replaced by `orbyt upgrade` stays for its requests in flight.
    pub upgrade_grace: Duration,
}

/// `[server.tls]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// Where HTTPS is served.
    pub listen: Vec<SocketAddr>,
    /// PEM file of the certificate chain, the server's own first. Known to be readable when the snapshot was made.
    pub certificate: PathBuf,
    /// PEM file of its private key. Known to be readable when the snapshot was made.
    pub key: PathBuf,
}

/// `[server.cors]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    /// Origins such as `https://app.example`, or `*`; empty means that CORS is off.
    pub allow_origins: Vec<String>,
}

/// `[console]`: the control plane's listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Console {
    /// Where the console, its API and `/metrics` are served.
    pub listen: Vec<SocketAddr>,
    /// Where it opens with DevTools; empty where that is not wanted.
    pub devtools_listen: Vec<SocketAddr>,
    /// The hash of the administrator's token; `None` locks everything that needs it.
    pub admin_token: Option<KeyHash>,
    /// Whether browsers are told to send the session's cookie over TLS alone, also where no trusted proxy says that it speaks TLS.
    pub secure_cookies: bool,
}

/// `[[model]]`: a name of the operator's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelAlias {
    /// The name that clients use.
    pub name: Arc<str>,
    /// What it stands for: `provider/model`, in order of preference.
    pub targets: Vec<String>,
    /// Models that stand in when no target can.
    pub fallbacks: Vec<String>,
    /// How to choose between the targets, where it differs from `[routing] strategy`.
    pub strategy: Option<Strategy>,
}

/// `[[preset]]`: what holds where a request that names it says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preset {
    /// Its name in requests: `@preset/<slug>`.
    pub slug: Arc<str>,
    /// Its name for people.
    pub name: Option<String>,
    /// The model, where the request names none.
    pub model: Option<String>,
    /// Models that stand in.
    pub fallbacks: Vec<String>,
    /// How to choose between the targets.
    pub strategy: Option<Strategy>,
    /// The system prompt.
    pub system: Option<String>,
    /// Members of the request: names, and values as JSON.
    pub parameters: Vec<(String, String)>,
}

/// Which requests keep to one target, under a strategy that would spread them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sticky {
    /// None.
    #[default]
    Off,
    /// Those with the same `extra.session_id`.
    Session,
    /// Those, and without a session those whose conversation begins alike, so that the provider's prompt cache serves them.
    Prefix,
}

impl Sticky {
    /// Its name in `[routing] sticky`.
    pub const NAMES: [&str; 3] = ["off", "session", "prefix"];

    /// Its own.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Session => "session",
            Self::Prefix => "prefix",
        }
    }

    /// What a name means.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "off" => Some(Self::Off),
            "session" => Some(Self::Session),
            "prefix" => Some(Self::Prefix),
            _ => None,
        }
    }
}

/// `[routing]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routing {
    /// How to choose where a request leaves it open.
    pub strategy: Strategy,
    /// The providers in use, by id, when they were named: then the catalog's equivalent at the next one stands in for a
    /// model that is down.
    pub providers: Option<Vec<Arc<str>>>,
    /// Models that stand in for any other.
    pub fallbacks: Vec<String>,
    /// What the model `auto` chooses from.
    pub auto: Vec<String>,
    /// With whose keys a request that brings its own falls back to a provider that it brings none for.
    pub byok_fallback: ByokFallback,
    /// Which requests keep to one target.
    pub sticky: Sticky,
}

/// `[routing] byok_fallback`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ByokFallback {
    /// With the gateway's own.
    #[default]
    Pool,
    /// Not at all.
    Deny,
}

/// `[retry]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// How often the same target is tried again, 0 to 10.
    pub max: u32,
    /// The first wait; doubled each time, with full jitter.
    pub base: Duration,
    /// The longest wait.
    pub cap: Duration,
    /// The largest share of live traffic that may be retries, 0 to 1.
    pub budget: f64,
}

/// `[breaker]`: one a provider and model.
#[derive(Clone, Debug, PartialEq)]
pub struct Breaker {
    /// Whether targets are left alone at all.
    pub enabled: bool,
    /// Faults in a row that open it.
    pub failures: u32,
    /// How long it stays open before one request tries again.
    pub open_for: Duration,
    /// The largest share of the providers whose breakers may be open at once, 0 to 1; one always may.
    pub max_open_share: f64,
}

/// `[health]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// How often every provider is asked whether it is there; `None` means never.
    pub probe: Option<Duration>,
}

/// `[hedging]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hedging {
    /// An answer is late when so large a share of the target's answers began sooner.
    pub quantile: f64,
    /// Nothing is late before that.
    pub min_delay: Duration,
    /// So large a share of the requests may ask a second target.
    pub budget: f64,
}

/// `[timeouts]`: the four clocks of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a connection is there.
    pub connect: Duration,
    /// From the sent request to the first output.
    pub first_output: Duration,
    /// Between two pieces of an answer.
    pub idle: Duration,
    /// From the client's request to the end of the answer.
    pub total: Duration,
}

/// `[gate]`: the commit gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Bytes held back at most; more of them commit.
    pub max_bytes: usize,
    /// Time held back at most; `None` means until the first output.
    pub max_wait: Option<Duration>,
    /// Tokens a second that a stream has to show before it is committed while another target is left; `None` for none.
    pub min_throughput: Option<u32>,
    /// For how long after its first output it may show them.
    pub throughput_window: Duration,
    /// How often a comment keeps a silent stream alive; zero means never.
    pub keepalive: Duration,
    /// Whether comments are sent before the commit too, which gives the status away.
    pub keepalive_before_commit: bool,
}

/// `[limits]`: `None` means no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests a second, all clients together.
    pub global_per_second: Option<u32>,
    /// Requests a second from one address.
    pub address_per_second: Option<u32>,
    /// Failed authentications a minute from one address; then even good keys from there wait.
    pub bad_key_per_minute: u32,
    /// Requests in flight at once.
    pub concurrent: Option<u32>,
    /// The limits of keys, users and models; of those of a scope the first that matches holds.
    pub rules: Vec<LimitRule>,
    /// The output in tokens that is reserved for a request which does not bound it.
    pub assumed_output_tokens: u64,
    /// Most requests that wait for a place at one provider.
    pub queue_size: usize,
    /// Longest time that a request waits for one; `None` means that none waits.
    pub queue_wait: Option<Duration>,
    /// What becomes of requests with limits while the shared store cannot be asked.
    pub on_outage: OnOutage,
}

/// `[[limits.rule]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitRule {
    /// What it is for; each key, user or model has buckets of its own.
    pub scope: Scope,
    /// The names that it is for, with `*` for any text; `None` for all.
    pub pattern: Option<Arc<str>>,
    /// What is allowed.
    pub limits: Arc<[Limit]>,
}

/// `[cache]`: whole answers, kept for requests that ask the same again.
#[derive(Clone, Debug, PartialEq)]
pub struct Cache {
    /// Where they are kept.
    pub backend: CacheBackend,
    /// How long one is kept, unless the request says otherwise.
    pub ttl: Duration,
    /// The longest that a request may say; at least that.
    pub max_ttl: Duration,
    /// How many are kept at most.
    pub max_size: u32,
    /// How many bytes they take at most.
    pub max_bytes: u64,
    /// Requests above this temperature are not cached; `None` caches all.
    pub max_temperature: Option<f64>,
    /// How questions that mean the same are found, where a model is named for that.
    pub semantic: Option<Semantic>,
}

/// `[cache.semantic]`: answers to questions that mean the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Semantic {
    /// Whether it is used for requests that do not say.
    pub by_default: bool,
    /// The id of the provider that makes the embeddings.
    pub provider: String,
    /// The model there.
    pub model: String,
    /// The least cosine between two questions that mean the same, 0 to 1.
    pub threshold: f32,
    /// How many questions are kept at most.
    pub max_entries: u32,
    /// How long an embedding may take.
    pub timeout: Duration,
}

impl Cache {
    /// How many questions are kept at most, also as long as none is compared: a reload may turn that on.
    pub fn max_questions(&self) -> u32 {
        self.semantic.as_ref().map_or(DEFAULT_QUESTIONS, |semantic| semantic.max_entries)
    }
}

/// `[cache.semantic] max_entries` where it is not set.
pub const DEFAULT_QUESTIONS: u32 = 10_000;

/// Where answers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheBackend {
    /// Nowhere.
    Off,
    /// In this process.
    Memory,
    /// In the Redis that several nodes share.
    Redis,
}

impl CacheBackend {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Off, Self::Memory, Self::Redis];

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Memory => "memory",
            Self::Redis => "redis",
        }
    }

    /// The backend of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|backend| backend.name() == name)
    }
}

/// `[store]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// The URL of a Postgres database; `None` for the embedded one in the data directory.
    pub database_url: Option<Secret>,
    /// Connections to it at most, besides the one that listens for changes.
    pub connections: usize,
    /// The master keys of the vault in base64, the first of which seals; `None` for a file in the data directory.
    pub master_key: Option<Secret>,
    /// The Redis that several nodes share; `None` for a node that is alone.
    pub redis: Option<Redis>,
    /// What this node is called where several are shown; `None` for the name of its host.
    pub node_name: Option<Arc<str>>,
}

/// A Redis and how it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redis {
    /// Where it is; it may carry a password.
    pub url: Secret,
    /// The password in it, which must not be shown by itself either.
    pub password: Option<Secret>,
    /// Certificates in PEM form that are trusted instead of the system's.
    pub ca: Option<Vec<u8>>,
    /// How long a request waits for an answer.
    pub timeout: Duration,
    /// After so long without a sign of life a node counts as gone.
    pub node_ttl: Duration,
}

/// `[media]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// Whether the gateway fetches remote media itself for providers that do not take addresses.
    pub fetch_remote: bool,
    /// The largest file that it fetches, in bytes.
    pub max_bytes: u64,
}

/// `[responses]`: what is kept of the answers of `POST /v1/responses` that the gateway translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Responses {
    /// How long a response is kept; zero keeps none.
    pub keep: Duration,
    /// How many, of all clients together.
    pub max_entries: usize,
    /// How many bytes, of all clients together.
    pub max_bytes: usize,
}

impl Snapshot {
    /// The provider of an id or one of its aliases.
    pub fn provider(&self, id_or_alias: &str) -> Option<&Arc<Provider>> {
        let called = |provider: &&Arc<Provider>| provider.aliases.iter().any(|alias| alias == id_or_alias);
        let exact = self.providers.iter().find(|provider| &*provider.id == id_or_alias);
        exact.or_else(|| self.providers.iter().find(called))
    }

    /// The `[[model]]` of a name.
    pub fn alias(&self, name: &str) -> Option<&Arc<ModelAlias>> {
        self.aliases.iter().find(|alias| &*alias.name == name)
    }

    /// The `[[preset]]` of a slug.
    pub fn preset(&self, slug: &str) -> Option<&Arc<Preset>> {
        self.presets.iter().find(|preset| &*preset.slug == slug)
    }

    /// Adds what the database knows: the gateway keys, what may be spent, and the administrator's token unless the configuration names one.
    pub fn with_stored(mut self, keys: Arc<StoredKeys>, budgets: Arc<BudgetBook>, admin: Option<KeyHash>) -> Self {
        self.budgets = budgets;
        self.keys.set_stored(keys);
        self.console.admin_token = self.console.admin_token.or(admin);
        self
    }

    /// Takes away keys that are in the vault no more, and providers that cannot be asked without them. Without reading anything: it holds
    /// even while the configuration file cannot be used.
    pub fn forget(&mut self, gone: &[VaultKey]) {
        for key in gone {
            let Some(id) = self.provider(&key.provider).map(|provider| provider.id.clone()) else { continue };
            let of_id = self.providers.iter_mut().find(|provider| provider.id == id);
            if let Some(provider) =
                of_id.filter(|provider| provider.keys.iter().any(|own| own.name.starts_with(&*key.name)))
            {
                Arc::make_mut(provider).forget(key);
            }
            self.providers.retain(|provider| provider.id != id || !provider.keys.is_empty() || !provider.needs_key());
        }
    }

    /// Every secret of the configuration in clear, for the redaction of texts that may repeat one.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let of_redis = self.store.redis.iter().flat_map(|redis| std::iter::once(&redis.url).chain(&redis.password));
        let of_database = self.store.database_url.iter().chain(&self.store.master_key);
        let of_webhook =
            self.alerts.webhook.iter().flat_map(|webhook| std::iter::once(&webhook.url).chain(&webhook.secret));
        let of_stores = of_redis.chain(of_database).chain(of_webhook);
        // A short one is a name, and would be missed in every text.
        let of_collector = self.telemetry.otlp.iter().flat_map(|otlp| &otlp.headers).map(|(_, value)| value);
        let of_collector = of_collector.filter(|value| value.reveal().len() >= 16);
        self.providers
            .iter()
            .flat_map(|provider| &provider.secrets)
            .chain(self.keys.secrets())
            .chain(of_stores)
            .chain(of_collector)
    }

    /// The settings in which `new` differs and which only a restart can apply, as `section.key`.
    pub fn needs_restart(&self, new: &Self) -> Vec<&'static str> {
        let caches = (&self.cache, &new.cache);
        let in_redis = |cache: &Cache| cache.backend == CacheBackend::Redis;
        // To switch it off takes no restart.
        let moves = caches.1.backend != CacheBackend::Off && in_redis(caches.0) != in_redis(caches.1);
        let stores_differ = self.store != new.store;
        let telemetry = (&self.telemetry, &new.telemetry);
        let (old, new) = ((&self.server, &self.console), (&new.server, &new.console));
        [
            ("server.listen", !same_places(&old.0.listen, &new.0.listen)),
            ("server.tls", !same_places(tls_listen(old.0), tls_listen(new.0))),
            ("server.data_dir", old.0.data_dir != new.0.data_dir),
            ("server.workers", old.0.workers != new.0.workers),
            ("server.grace", old.0.grace != new.0.grace),
            ("console.listen", !same_places(&old.1.listen, &new.1.listen)),
            ("console.devtools_listen", !same_places(&old.1.devtools_listen, &new.1.devtools_listen)),
            ("cache.backend", moves),
            ("cache.max_size", caches.0.max_size != caches.1.max_size),
            ("cache.max_bytes", caches.0.max_bytes != caches.1.max_bytes),
            ("cache.semantic.max_entries", caches.0.max_questions() != caches.1.max_questions()),
            ("store", stores_differ),
            ("telemetry.ledger", telemetry.0.ledger != telemetry.1.ledger),
            ("telemetry.otlp", telemetry.0.otlp != telemetry.1.otlp),
            ("telemetry.spool_max_bytes", telemetry.0.spool_max_bytes != telemetry.1.spool_max_bytes),
        ]
        .into_iter()
        .filter_map(|(name, differs)| differs.then_some(name))
        .collect()
    }

    /// Takes over the listeners of the configuration that is replaced: they are what really listens, ports chosen by the system
    /// included.
    pub fn keep_listeners(&mut self, old: &Self) {
        self.server.listen.clone_from(&old.server.listen);
        self.console.listen.clone_from(&old.console.listen);
        self.console.devtools_listen.clone_from(&old.console.devtools_listen);
        if let (Some(new), Some(old)) = (&mut self.server.tls, &old.server.tls) {
            new.listen.clone_from(&old.listen);
        }
    }
}

fn tls_listen(server: &Server) -> &[SocketAddr] {
    server.tls.as_ref().map_or(&[], |tls| &tls.listen)
}
