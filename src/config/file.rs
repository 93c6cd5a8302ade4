//! The configuration file: TOML text to [`Raw`], with every error in it and not only the first.

use super::net::{IpNet, listen_address};
use super::problem::{At, Report};
use super::raw::*;
use super::reader::{Document, Section, quoted};
use super::snapshot::{ByokFallback, CacheBackend, LogFormat, Sticky, UnknownPrice};
use crate::dialect::openai_chat::passthrough::Quirks;
use crate::dialect::table::Dialect;
use crate::domain::payloads::{Pattern, Policy};
use crate::domain::{Limit, Measure, Money, OnOutage, Period, Scope, Strategy};
use crate::provider::{AuthScheme, CloudKind};
use regex::bytes::Regex;

/// What was read, and whether the syntax was sound: with a broken syntax, what seems to be missing may only be unreadable.
pub struct Parsed {
    /// The settings.
    pub raw: Raw,
    /// Errors and warnings.
    pub report: Report,
    /// Whether the file is TOML.
    pub is_toml: bool,
}

/// Reads a file of that name with that text.
pub fn parse(file: &str, text: &str) -> Parsed {
    let document = Document::new(file, text);
    let (raw, is_toml) = {
        let table = document.parse();
        let is_toml = document.is_clean();
        (raw(&document.root(&table)), is_toml)
    };
    Parsed { raw, report: document.into_report(), is_toml }
}

fn raw(root: &Section<'_>) -> Raw {
    let below = |key| root.section(key);
    Raw {
        server: below("server").map(|section| server(&section)).unwrap_or_default(),
        console: below("console").map(|section| console(&section)).unwrap_or_default(),
        providers: root.sections("provider").iter().filter_map(provider).collect(),
        models: root.sections("model").iter().filter_map(alias).collect(),
        presets: root.sections("preset").iter().filter_map(preset).collect(),
        routing: below("routing").map(|section| routing(&section)).unwrap_or_default(),
        retry: below("retry").map(|section| retry(&section)).unwrap_or_default(),
        breaker: below("breaker").map(|section| breaker(&section)).unwrap_or_default(),
        health: below("health").map(|section| health(&section)).unwrap_or_default(),
        hedging: below("hedging").map(|section| hedging(&section)).unwrap_or_default(),
        timeouts: below("timeouts").map(|section| timeouts(&section)).unwrap_or_default(),
        gate: below("gate").map(|section| gate(&section)).unwrap_or_default(),
        limits: below("limits").map(|section| limits(&section)).unwrap_or_default(),
        money: below("money").map(|section| money(&section)).unwrap_or_default(),
        cache: below("cache").map(|section| cache(&section)).unwrap_or_default(),
        store: below("store").map(|section| store(&section)).unwrap_or_default(),
        telemetry: below("telemetry").map(|section| telemetry(&section)).unwrap_or_default(),
        alerts: below("alerts").map(|section| alerts(&section)).unwrap_or_default(),
        media: below("media").map(|section| media(&section)).unwrap_or_default(),
        responses: below("responses").map(|section| responses(&section)).unwrap_or_default(),
    }
}

/// What is said when an address to listen on cannot be read.
pub const LISTEN: &str = r#"an address such as "127.0.0.1:3001", or a port"#;

fn server(section: &Section<'_>) -> RawServer {
    RawServer {
        listen: section.list("listen", LISTEN, listen_address),
        data_dir: section.path("data_dir"),
        api_keys: section.gateway_keys("api_keys"),
        max_body_bytes: section.size("max_body_bytes"),
        trusted_proxies: section.list(
            "trusted_proxies",
            r#"an address or a network such as "10.0.0.0/8""#,
            IpNet::parse,
        ),
        workers: section.small("workers", 0..=1024),
        grace: section.duration("grace"),
        upgrade_grace: section.duration("upgrade_grace"),
        allow_origins: section
            .section("cors")
            .and_then(|cors| cors.list("allow_origins", r#"an origin such as "https://app.example", or "*""#, origin)),
        tls: section.section("tls").map(|tls| At::new(server_tls(&tls), tls.place().clone())),
    }
}

fn server_tls(section: &Section<'_>) -> RawTls {
    RawTls {
        listen: section.list("listen", LISTEN, listen_address),
        certificate: section.path("certificate"),
        key: section.path("key"),
    }
}

/// An origin as browsers send it: scheme and authority, no path.
fn origin(text: &str) -> Option<String> {
    let after_scheme = text.split_once("://").map(|(_, rest)| rest);
    let is_origin = after_scheme.is_some_and(|rest| !rest.is_empty() && !rest.contains(['/', ' ', ',']));
    (text == "*" || is_origin).then(|| text.to_owned())
}

fn console(section: &Section<'_>) -> RawConsole {
    RawConsole {
        listen: section.list("listen", LISTEN, listen_address),
        devtools_listen: section.list("devtools_listen", LISTEN, listen_address),
        admin_token: section.secret("admin_token"),
        secure_cookies: section.boolean("secure_cookies"),
    }
}

fn provider(section: &Section<'_>) -> Option<RawProvider> {
    let id = section.required("id");
    let dialects = Dialect::ALL.map(Dialect::name);
    let auths = ["bearer", "none", "x-api-key", "x-goog-api-key", "api-key", "azure", "aws", "google"];
    let clouds = CloudKind::ALL.map(CloudKind::name);
    let segment = |key, what: &str| section.parsed(key, what, path_segment);
    let raw = RawProvider {
        name: section.text("name"),
        enabled: section.boolean("enabled"),
        base_url: section.text("base_url"),
        dialect: section.choice("dialect", &dialects, Dialect::from_name),
        auth: section.choice("auth", &auths, AuthScheme::from_name),
        cloud: section.choice("cloud", &clouds, CloudKind::from_name),
        region: segment("region", r#"a region such as "us-east-1""#),
        api_version: segment("api_version", r#"a version such as "2024-10-21" or "preview""#),
        deployments: section.map("deployments"),
        project: segment("project", r#"the id of a project, such as "my-project""#),
        location: segment("location", r#"a location such as "us-central1" or "global""#),
        headers: section.map("headers"),
        ca_file: section.path("ca_file"),
        quirks: section.list("quirks", &format!("one of {}", quoted(Quirks::names())), Quirks::from_name),
        weight: section.small("weight", 0..=MAX_WEIGHT),
        max_concurrent: section.small("max_concurrent", 1..=MAX_CONCURRENT),
        discover: section.boolean("discover"),
        aliases: section.texts("aliases"),
        group: section.text("group"),
        keys: section.sections("key").iter().filter_map(key).collect(),
        timeouts: section.section("timeouts").map(|section| timeouts(&section)).unwrap_or_default(),
        models: section.sections("model").iter().filter_map(model).collect(),
        ..RawProvider::new(At::new(String::new(), section.place().clone()))
    };
    id.map(|id| RawProvider { id, ..raw })
}

/// A text that may stand in a host or a path as it is.
fn path_segment(text: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    (!text.is_empty() && text.chars().all(plain) && text.chars().any(|c| c.is_ascii_alphanumeric()))
        .then(|| text.to_owned())
}

fn key(section: &Section<'_>) -> Option<RawKey> {
    let name = section.text("name");
    let secret = section.secret("secret");
    if secret.is_none() && !section.has("secret") {
        section.error("secret is missing");
    }
    let tpm = section.count("tpm");
    let (rpm, group) = (section.small("rpm", 1..=u32::MAX), section.text("group"));
    Some(RawKey { name, secret: secret?, rpm, tpm, group })
}

fn model(section: &Section<'_>) -> Option<RawModel> {
    let id = section.required("id");
    let price = |key| section.number(key, PER_MILLION, price_of);
    let each = |key| section.number(key, r#"a price in dollars, such as "0.005""#, price_of);
    let raw = RawModel {
        name: section.text("name"),
        aliases: section.texts("aliases"),
        context: section.count("context"),
        max_output: section.count("max_output"),
        max_concurrent: section.small("max_concurrent", 1..=MAX_CONCURRENT),
        input: price("input"),
        output: price("output"),
        cached_input: price("cached_input"),
        cache_write_5m: price("cache_write_5m"),
        cache_write_1h: price("cache_write_1h"),
        reasoning: price("reasoning"),
        audio_input: price("audio_input"),
        audio_output: price("audio_output"),
        image: each("image"),
        second: each("second"),
        character: section.number("character", r#"a price in dollars per million characters, such as "15""#, price_of),
        request: each("request"),
        above: section.sections("above").iter().filter_map(tier).collect(),
        pictures: section.sections("picture").iter().filter_map(picture).collect(),
        fallbacks: section.texts("fallbacks"),
        id: At::new(String::new(), section.place().clone()),
    };
    id.map(|id| RawModel { id, ..raw })
}

/// What a price of tokens looks like.
const PER_MILLION: &str = r#"a price in dollars per million tokens, such as "2.50""#;

fn tier(section: &Section<'_>) -> Option<RawTier> {
    let price = |key| section.number(key, PER_MILLION, price_of);
    let tokens = section.count("tokens");
    if !section.has("tokens") {
        section.error("tokens is missing: for prompts of more tokens than what?");
    }
    let (input, output, cached_input) = (price("input"), price("output"), price("cached_input"));
    let (cache_write_5m, cache_write_1h) = (price("cache_write_5m"), price("cache_write_1h"));
    Some(RawTier { tokens: tokens?, input, output, cached_input, cache_write_5m, cache_write_1h })
}

fn picture(section: &Section<'_>) -> Option<RawPicture> {
    let (size, quality) = (section.text("size"), section.text("quality"));
    let price = section.number("price", r#"a price in dollars, such as "0.08""#, price_of);
    if !section.has("price") {
        section.error("price is missing: what does such a picture cost?");
    }
    Some(RawPicture { size, quality, price: price? })
}

fn price_of(text: &str) -> Option<Money> {
    Money::from_dollars(text).filter(|price| *price >= Money::ZERO)
}

fn alias(section: &Section<'_>) -> Option<RawAlias> {
    let name = section.required("name");
    let targets = section.texts("targets");
    if targets.as_ref().is_none_or(Vec::is_empty) {
        section.error("targets is missing: what does the name stand for?");
    }
    let raw = RawAlias {
        targets: targets.unwrap_or_default(),
        fallbacks: section.texts("fallbacks"),
        strategy: strategy(section),
        name: At::new(String::new(), section.place().clone()),
    };
    name.map(|name| RawAlias { name, ..raw })
}

fn preset(section: &Section<'_>) -> Option<RawPreset> {
    let slug = section.required("slug");
    let raw = RawPreset {
        name: section.text("name"),
        model: section.text("model"),
        fallbacks: section.texts("fallbacks"),
        strategy: strategy(section),
        system: section.text("system"),
        parameters: section.json_members("parameters"),
        slug: At::new(String::new(), section.place().clone()),
    };
    slug.map(|slug| RawPreset { slug, ..raw })
}

fn strategy(section: &Section<'_>) -> Setting<Strategy> {
    section.choice("strategy", &Strategy::ALL.map(Strategy::name), Strategy::from_name)
}

fn routing(section: &Section<'_>) -> RawRouting {
    RawRouting {
        strategy: strategy(section),
        providers: section.texts("providers"),
        weights: section.smalls("weights", 0..=MAX_WEIGHT),
        fallbacks: section.texts("fallbacks"),
        auto: section.texts("auto"),
        byok_fallback: section.choice("byok_fallback", &["pool", "deny"], byok_fallback),
        sticky: section.choice("sticky", &Sticky::NAMES, Sticky::from_name),
    }
}

fn byok_fallback(text: &str) -> Option<ByokFallback> {
    match text {
        "pool" => Some(ByokFallback::Pool),
        "deny" => Some(ByokFallback::Deny),
        _ => None,
    }
}

fn retry(section: &Section<'_>) -> RawRetry {
    RawRetry {
        max: section.small("max", 0..=MAX_RETRIES),
        base: section.duration("base"),
        cap: section.duration("cap"),
        budget: section.share("budget"),
    }
}

/// The largest weight of a provider.
pub const MAX_WEIGHT: u32 = 1_000_000;

/// The most requests at once that a cap may name, and the longest queue.
pub const MAX_CONCURRENT: u32 = 1_000_000;

/// The most that `[retry] max` and `GATEWAY_RETRY_MAX` may say.
pub const MAX_RETRIES: u32 = 10;

fn breaker(section: &Section<'_>) -> RawBreaker {
    RawBreaker {
        enabled: section.boolean("enabled"),
        failures: section.small("failures", 1..=1000),
        open_for: section.duration("open_for"),
        max_open_share: section.share("max_open_share"),
    }
}

fn health(section: &Section<'_>) -> RawHealth {
    RawHealth { probe: section.duration_or_off("probe") }
}

fn hedging(section: &Section<'_>) -> RawHedging {
    RawHedging {
        enabled: section.boolean("enabled"),
        quantile: section.share("quantile"),
        min_delay: section.duration("min_delay"),
        budget: section.share("budget"),
    }
}

fn timeouts(section: &Section<'_>) -> RawTimeouts {
    RawTimeouts {
        connect: section.duration("connect"),
        first_output: section.duration("first_output"),
        idle: section.duration("idle"),
        total: section.duration("total"),
    }
}

fn gate(section: &Section<'_>) -> RawGate {
    RawGate {
        max_bytes: section.size("max_bytes"),
        max_wait: section.duration_or_off("max_wait"),
        min_throughput: section.limit_or_off("min_throughput"),
        throughput_window: section.duration("throughput_window"),
        keepalive: section.duration_or_off("keepalive"),
        keepalive_before_commit: section.boolean("keepalive_before_commit"),
    }
}

fn limits(section: &Section<'_>) -> RawLimits {
    RawLimits {
        global_per_second: section.limit_or_off("global_per_second"),
        address_per_second: section.limit_or_off("address_per_second"),
        bad_key_per_minute: section.small("bad_key_per_minute", 1..=1_000_000),
        concurrent: section.limit_or_off("concurrent"),
        assumed_output_tokens: section.count("assumed_output_tokens"),
        queue_size: section.small("queue_size", 0..=MAX_CONCURRENT),
        queue_wait: section.duration_or_off("queue_wait"),
        on_outage: section.choice("on_outage", &OnOutage::ALL.map(OnOutage::name), OnOutage::from_name),
        rules: section.sections("rule").iter().filter_map(rule).collect(),
    }
}

fn rule(section: &Section<'_>) -> Option<RawRule> {
    let scope = section.choice("scope", &Scope::ALL.map(Scope::name), Scope::from_name);
    if !section.has("scope") {
        section.error("scope is missing: whom is the limit for?");
    }
    let pattern = section.text("match");
    let mut limits = Vec::new();
    let mut limit = |key: &str, measure| {
        limits.extend(section.count(key).map(|at| Limit { measure, amount: at.value }));
    };
    for measure in [Measure::Requests, Measure::Tokens] {
        for period in Period::ALL {
            let measure = measure(period);
            limit(&format!("{}_per_{}", measure.kind(), period.name()), measure);
        }
    }
    limit("concurrency", Measure::Concurrency);
    Some(RawRule { scope: scope?, pattern, limits })
}

fn money(section: &Section<'_>) -> RawMoney {
    let choices = UnknownPrice::ALL.map(UnknownPrice::name);
    RawMoney { unknown_price: section.choice("unknown_price", &choices, UnknownPrice::from_name) }
}

fn cache(section: &Section<'_>) -> RawCache {
    let temperature = |text: &str| text.parse().ok().filter(|temperature| (0.0..=2.0).contains(temperature));
    RawCache {
        backend: section.choice("backend", &CacheBackend::ALL.map(CacheBackend::name), CacheBackend::from_name),
        ttl: section.duration("ttl"),
        max_ttl: section.duration("max_ttl"),
        max_size: section.small("max_size", 1..=MAX_ANSWERS),
        max_bytes: section.size("max_bytes"),
        max_temperature: section.number("max_temperature", "a number from 0 to 2", temperature),
        semantic: section.section("semantic").map(|section| semantic(&section)).unwrap_or_default(),
    }
}

fn semantic(section: &Section<'_>) -> RawSemantic {
    RawSemantic {
        enabled: section.boolean("enabled"),
        model: section.text("model"),
        threshold: section.share("threshold"),
        max_entries: section.small("max_entries", 1..=MAX_QUESTIONS),
        timeout: section.duration("timeout"),
    }
}

/// The most that `[cache.semantic] max_entries` may say: each takes some kilobytes.
pub const MAX_QUESTIONS: u32 = 1_000_000;

/// The most that `[cache] max_size` and `GATEWAY_CACHE_MAX_SIZE` may say.
pub const MAX_ANSWERS: u32 = 100_000_000;

fn store(section: &Section<'_>) -> RawStore {
    RawStore {
        database_url: section.secret("database_url"),
        connections: section.small("connections", 1..=1000),
        master_key: section.secret("master_key"),
        redis_url: section.url("redis_url"),
        redis_ca_file: section.path("redis_ca_file"),
        redis_timeout: section.duration("redis_timeout"),
        node_ttl: section.duration("node_ttl"),
        node_name: section.text("node_name"),
    }
}

fn telemetry(section: &Section<'_>) -> RawTelemetry {
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    RawTelemetry {
        log_level: section.choice("log_level", &levels, |text| text.parse().ok()),
        log_format: section.choice("log_format", &["auto", "json", "human"], log_format),
        ledger: section.boolean("ledger"),
        ledger_retention: section.duration_or_off("ledger_retention"),
        spool_max_bytes: section.size("spool_max_bytes"),
        ring_bytes: section.size_or_off("ring_bytes"),
        ring_entries: section.small("ring_entries", 1..=1_000_000),
        payloads: section.parsed(
            "payloads",
            "\"none\", \"errors\", \"sampled(<share from 0 to 1>)\" or \"all\"",
            Policy::parse,
        ),
        payloads_retention: section.duration_or_off("payloads_retention"),
        body_bytes: section.size("body_bytes"),
        otlp: section.section("otlp").map(|section| otlp(&section)).unwrap_or_default(),
        redact: section.list("redact", "a regular expression", |text| Regex::new(text).ok().map(Pattern)),
    }
}

fn otlp(section: &Section<'_>) -> RawOtlp {
    RawOtlp {
        endpoint: section.text("endpoint"),
        authorization: section.secret("authorization"),
        headers: section.map("headers"),
        timeout: section.duration("timeout"),
        service: section.text("service"),
    }
}

fn log_format(text: &str) -> Option<LogFormat> {
    match text {
        "auto" => Some(LogFormat::Auto),
        "json" => Some(LogFormat::Json),
        "human" => Some(LogFormat::Human),
        _ => None,
    }
}

fn responses(section: &Section<'_>) -> RawResponses {
    RawResponses {
        keep: section.duration_or_off("keep"),
        max_entries: section.small("max_entries", 1..=10_000_000),
        max_bytes: section.size("max_bytes"),
    }
}

fn alerts(section: &Section<'_>) -> RawAlerts {
    let webhook = |section: Section<'_>| {
        let raw = RawWebhook { url: section.url("url"), secret: section.secret("secret") };
        At::new(raw, section.place().clone())
    };
    RawAlerts {
        hold: section.duration("hold"),
        keep: section.duration("keep"),
        webhook: section.section("webhook").map(webhook),
    }
}

fn media(section: &Section<'_>) -> RawMedia {
    RawMedia { fetch_remote: section.boolean("fetch_remote"), max_bytes: section.size("max_bytes") }
}
