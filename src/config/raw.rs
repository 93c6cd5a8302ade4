//! The configuration as it was written: every value optional, each with its place. `file` fills it in, `env` writes over
//! it, `compile` gives it its meaning.
#![allow(missing_docs, reason = "the fields are the keys that `settings::SETTINGS` explains")]

use super::net::IpNet;
use super::problem::At;
use super::snapshot::{ByokFallback, CacheBackend, LogFormat, Sticky, UnknownPrice};
use crate::dialect::openai_chat::passthrough::Quirks;
use crate::dialect::table::Dialect;
use crate::domain::payloads::{Pattern, Policy};
use crate::domain::{Limit, Money, OnOutage, Scope, Secret, Strategy};
use crate::provider::{AuthScheme, CloudKind};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A setting that may be missing.
pub type Setting<T> = Option<At<T>>;
/// A list of settings that may be missing.
pub type Settings<T> = Option<Vec<At<T>>>;

/// All sections.
#[derive(Debug, Default)]
pub struct Raw {
    /// `[server]`
    pub server: RawServer,
    /// `[console]`
    pub console: RawConsole,
    /// `[[provider]]`, and those that the environment adds.
    pub providers: Vec<RawProvider>,
    /// `[[model]]`
    pub models: Vec<RawAlias>,
    /// `[[preset]]`
    pub presets: Vec<RawPreset>,
    /// `[routing]`
    pub routing: RawRouting,
    /// `[retry]`
    pub retry: RawRetry,
    /// `[breaker]`
    pub breaker: RawBreaker,
    /// `[health]`
    pub health: RawHealth,
    /// `[hedging]`
    pub hedging: RawHedging,
    /// `[timeouts]`
    pub timeouts: RawTimeouts,
    /// `[gate]`
    pub gate: RawGate,
    /// `[limits]`
    pub limits: RawLimits,
    /// `[money]`
    pub money: RawMoney,
    /// `[cache]`
    pub cache: RawCache,
    /// `[store]`
    pub store: RawStore,
    /// `[telemetry]`
    pub telemetry: RawTelemetry,
    /// `[alerts]`
    pub alerts: RawAlerts,
    /// `[media]`
    pub media: RawMedia,
    /// `[responses]`
    pub responses: RawResponses,
}

/// A secret as it is referred to. Never printed: the text is a [`Secret`].
#[derive(Clone, Debug)]
pub enum RawSecret {
    /// The text itself, in the file.
    Plain(Secret),
    /// The text itself, out of this environment variable.
    FromEnv(Secret),
    /// `{ env = "NAME" }`
    Env(String),
    /// `{ file = "PATH" }`
    File(PathBuf),
    /// The text itself, out of the vault.
    Vault(Secret),
    /// `{ credential = "NAME" }`: a file below `$CREDENTIALS_DIRECTORY`, as systemd hands them over.
    Credential(String),
}

/// One of `server.api_keys`: a secret, and the name that its operator gives it.
#[derive(Clone, Debug)]
pub struct RawGatewayKey {
    /// Whether what its requests carry may be kept.
    pub store: bool,
    pub name: Option<String>,
    pub secret: RawSecret,
}

/// `[server]`, `[server.cors]`, `[server.tls]`.
#[derive(Debug, Default)]
pub struct RawServer {
    pub listen: Settings<SocketAddr>,
    pub data_dir: Setting<PathBuf>,
    pub api_keys: Settings<RawGatewayKey>,
    pub max_body_bytes: Setting<u64>,
    pub trusted_proxies: Settings<IpNet>,
    pub workers: Setting<u32>,
    pub grace: Setting<Duration>,
    pub upgrade_grace: Setting<Duration>,
    pub allow_origins: Settings<String>,
    pub tls: Setting<RawTls>,
}

/// `[server.tls]`.
#[derive(Debug, Default)]
pub struct RawTls {
    pub listen: Settings<SocketAddr>,
    pub certificate: Setting<PathBuf>,
    pub key: Setting<PathBuf>,
}

/// `[console]`.
#[derive(Debug, Default)]
pub struct RawConsole {
    pub listen: Settings<SocketAddr>,
    pub devtools_listen: Settings<SocketAddr>,
    pub admin_token: Setting<RawSecret>,
    pub secure_cookies: Setting<bool>,
}

/// `[[provider]]`.
#[derive(Debug)]
pub struct RawProvider {
    pub id: At<String>,
    pub name: Setting<String>,
    pub enabled: Setting<bool>,
    pub base_url: Setting<String>,
    pub dialect: Setting<Dialect>,
    pub auth: Setting<AuthScheme>,
    pub cloud: Setting<CloudKind>,
    pub region: Setting<String>,
    pub api_version: Setting<String>,
    pub deployments: Vec<(At<String>, String)>,
    pub project: Setting<String>,
    pub location: Setting<String>,
    pub headers: Vec<(At<String>, String)>,
    pub ca_file: Setting<PathBuf>,
    pub quirks: Settings<Quirks>,
    pub weight: Setting<u32>,
    pub max_concurrent: Setting<u32>,
    pub discover: Setting<bool>,
    pub aliases: Settings<String>,
    pub group: Setting<String>,
    pub keys: Vec<RawKey>,
    pub timeouts: RawTimeouts,
    pub models: Vec<RawModel>,
}

impl RawProvider {
    /// A provider of which only the id is known.
    pub fn new(id: At<String>) -> Self {
        Self {
            id,
            name: None,
            enabled: None,
            base_url: None,
            dialect: None,
            auth: None,
            cloud: None,
            region: None,
            api_version: None,
            deployments: Vec::new(),
            project: None,
            location: None,
            headers: Vec::new(),
            ca_file: None,
            quirks: None,
            weight: None,
            max_concurrent: None,
            discover: None,
            aliases: None,
            group: None,
            keys: Vec::new(),
            timeouts: RawTimeouts::default(),
            models: Vec::new(),
        }
    }
}

/// `[[provider.key]]`.
#[derive(Debug)]
pub struct RawKey {
    pub name: Setting<String>,
    pub secret: At<RawSecret>,
    pub rpm: Setting<u32>,
    pub tpm: Setting<u64>,
    pub group: Setting<String>,
}

impl RawKey {
    /// A key of which only the secret is known.
    pub fn new(secret: At<RawSecret>) -> Self {
        Self { name: None, secret, group: None, rpm: None, tpm: None }
    }
}

/// `[[provider.model]]`. Prices are dollars per million tokens.
#[derive(Debug)]
pub struct RawModel {
    pub id: At<String>,
    pub name: Setting<String>,
    pub aliases: Settings<String>,
    pub context: Setting<u64>,
    pub max_output: Setting<u64>,
    pub max_concurrent: Setting<u32>,
    pub input: Setting<Money>,
    pub output: Setting<Money>,
    pub cached_input: Setting<Money>,
    pub cache_write_5m: Setting<Money>,
    pub cache_write_1h: Setting<Money>,
    pub reasoning: Setting<Money>,
    pub audio_input: Setting<Money>,
    pub audio_output: Setting<Money>,
    pub image: Setting<Money>,
    pub second: Setting<Money>,
    pub character: Setting<Money>,
    pub request: Setting<Money>,
    pub above: Vec<RawTier>,
    pub pictures: Vec<RawPicture>,
    pub fallbacks: Settings<String>,
}

/// `[[provider.model.above]]`. Prices are dollars per million tokens.
#[derive(Debug)]
pub struct RawTier {
    pub tokens: At<u64>,
    pub input: Setting<Money>,
    pub output: Setting<Money>,
    pub cached_input: Setting<Money>,
    pub cache_write_5m: Setting<Money>,
    pub cache_write_1h: Setting<Money>,
}

/// `[[provider.model.picture]]`.
#[derive(Debug)]
pub struct RawPicture {
    pub size: Setting<String>,
    pub quality: Setting<String>,
    pub price: At<Money>,
}

/// `[[model]]`.
#[derive(Debug)]
pub struct RawAlias {
    pub name: At<String>,
    pub targets: Vec<At<String>>,
    pub fallbacks: Settings<String>,
    pub strategy: Setting<Strategy>,
}

/// `[[preset]]`. Parameters are names with their values as JSON.
#[derive(Debug)]
pub struct RawPreset {
    pub slug: At<String>,
    pub name: Setting<String>,
    pub model: Setting<String>,
    pub fallbacks: Settings<String>,
    pub strategy: Setting<Strategy>,
    pub system: Setting<String>,
    pub parameters: Vec<At<(String, String)>>,
}

/// `[routing]`.
#[derive(Debug, Default)]
pub struct RawRouting {
    pub strategy: Setting<Strategy>,
    pub providers: Settings<String>,
    pub weights: Settings<u32>,
    pub fallbacks: Settings<String>,
    pub auto: Settings<String>,
    pub byok_fallback: Setting<ByokFallback>,
    pub sticky: Setting<Sticky>,
}

/// `[retry]`.
#[derive(Debug, Default)]
pub struct RawRetry {
    pub max: Setting<u32>,
    pub base: Setting<Duration>,
    pub cap: Setting<Duration>,
    pub budget: Setting<f64>,
}

/// `[breaker]`.
#[derive(Debug, Default)]
pub struct RawBreaker {
    pub enabled: Setting<bool>,
    pub failures: Setting<u32>,
    pub open_for: Setting<Duration>,
    pub max_open_share: Setting<f64>,
}

/// `[health]`. An inner `None` is `"off"`.
#[derive(Debug, Default)]
pub struct RawHealth {
    pub probe: Setting<Option<Duration>>,
}

/// `[hedging]`.
#[derive(Debug, Default)]
pub struct RawHedging {
    pub enabled: Setting<bool>,
    pub quantile: Setting<f64>,
    pub min_delay: Setting<Duration>,
    pub budget: Setting<f64>,
}

/// `[alerts]`.
#[derive(Debug, Default)]
pub struct RawAlerts {
    pub hold: Setting<Duration>,
    pub keep: Setting<Duration>,
    pub webhook: Setting<RawWebhook>,
}

/// `[alerts.webhook]`.
#[derive(Debug, Default)]
pub struct RawWebhook {
    pub url: Setting<RawSecret>,
    pub secret: Setting<RawSecret>,
}

/// `[timeouts]` and `[provider.timeouts]`.
#[derive(Debug, Default)]
pub struct RawTimeouts {
    pub connect: Setting<Duration>,
    pub first_output: Setting<Duration>,
    pub idle: Setting<Duration>,
    pub total: Setting<Duration>,
}

/// `[gate]`. An inner `None` is `"off"`.
#[derive(Debug, Default)]
pub struct RawGate {
    pub max_bytes: Setting<u64>,
    pub max_wait: Setting<Option<Duration>>,
    pub min_throughput: Setting<Option<u32>>,
    pub throughput_window: Setting<Duration>,
    pub keepalive: Setting<Option<Duration>>,
    pub keepalive_before_commit: Setting<bool>,
}

/// `[limits]`. An inner `None` is `"off"`.
#[derive(Debug, Default)]
pub struct RawLimits {
    pub global_per_second: Setting<Option<u32>>,
    pub address_per_second: Setting<Option<u32>>,
    pub bad_key_per_minute: Setting<u32>,
    pub concurrent: Setting<Option<u32>>,
    pub assumed_output_tokens: Setting<u64>,
    pub queue_size: Setting<u32>,
    pub queue_wait: Setting<Option<Duration>>,
    pub on_outage: Setting<OnOutage>,
    pub rules: Vec<RawRule>,
}

/// `[[limits.rule]]`. The limits are those of `requests_per_minute` and its like.
#[derive(Debug)]
pub struct RawRule {
    pub scope: At<Scope>,
    pub pattern: Setting<String>,
    pub limits: Vec<Limit>,
}

/// `[money]`.
#[derive(Debug, Default)]
pub struct RawMoney {
    pub unknown_price: Setting<UnknownPrice>,
}

/// `[cache]`.
#[derive(Debug, Default)]
pub struct RawCache {
    pub backend: Setting<CacheBackend>,
    pub ttl: Setting<Duration>,
    pub max_ttl: Setting<Duration>,
    pub max_size: Setting<u32>,
    pub max_bytes: Setting<u64>,
    pub max_temperature: Setting<f64>,
    pub semantic: RawSemantic,
}

/// `[cache.semantic]`.
#[derive(Debug, Default)]
pub struct RawSemantic {
    pub enabled: Setting<bool>,
    pub model: Setting<String>,
    pub threshold: Setting<f64>,
    pub max_entries: Setting<u32>,
    pub timeout: Setting<Duration>,
}

/// `[store]`.
#[derive(Debug, Default)]
pub struct RawStore {
    pub database_url: Setting<RawSecret>,
    pub connections: Setting<u32>,
    pub master_key: Setting<RawSecret>,
    pub redis_url: Setting<RawSecret>,
    pub redis_ca_file: Setting<PathBuf>,
    pub redis_timeout: Setting<Duration>,
    pub node_ttl: Setting<Duration>,
    pub node_name: Setting<String>,
}

/// `[telemetry]`.
#[derive(Debug, Default)]
pub struct RawTelemetry {
    pub log_level: Setting<log::LevelFilter>,
    pub log_format: Setting<LogFormat>,
    pub ledger: Setting<bool>,
    pub ledger_retention: Setting<Option<Duration>>,
    pub spool_max_bytes: Setting<u64>,
    pub ring_bytes: Setting<Option<u64>>,
    pub ring_entries: Setting<u32>,
    pub payloads: Setting<Policy>,
    pub payloads_retention: Setting<Option<Duration>>,
    pub body_bytes: Setting<u64>,
    pub redact: Settings<Pattern>,
    pub otlp: RawOtlp,
}

/// `[telemetry.otlp]`.
#[derive(Debug, Default)]
pub struct RawOtlp {
    pub endpoint: Setting<String>,
    pub authorization: Setting<RawSecret>,
    pub headers: Vec<(At<String>, String)>,
    pub timeout: Setting<Duration>,
    pub service: Setting<String>,
}

/// `[media]`.
#[derive(Debug, Default)]
pub struct RawMedia {
    pub fetch_remote: Setting<bool>,
    pub max_bytes: Setting<u64>,
}

/// `[responses]`.
#[derive(Debug, Default)]
pub struct RawResponses {
    pub keep: Setting<Option<Duration>>,
    pub max_entries: Setting<u32>,
    pub max_bytes: Setting<u64>,
}
