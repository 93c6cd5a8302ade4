//! The environment: zero configuration, and what wins over the file. Variables are an argument, so this is pure.

use super::clouds;
use super::file::{LISTEN, MAX_ANSWERS, MAX_RETRIES, MAX_WEIGHT};
use super::net::{BaseUrl, listen_address};
use super::problem::{At, Place, Problem, Report, did_you_mean};
use super::raw::{Raw, RawGatewayKey, RawKey, RawProvider, RawSecret, Setting, Settings};
use super::reader::quoted;
use super::snapshot::CacheBackend;
use super::values;
use crate::domain::Secret;
use crate::provider::{Catalog, ProviderRow};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Environment variables. An empty one counts as unset. Values are not shown by `Debug`: many are secrets.
#[derive(Clone, Default)]
pub struct Env(BTreeMap<String, String>);

impl Env {
    /// The variables of the process and those of a `.env` file; those of the process win.
    pub fn new(
        process: impl IntoIterator<Item = (String, String)>,
        dotenv: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let set = |(_, value): &(String, String)| !value.trim().is_empty();
        Self(dotenv.into_iter().filter(set).chain(process.into_iter().filter(set)).collect())
    }

    /// A variable's value, without white space around it.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim())
    }

    /// The names of all that are set.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The variables of this version besides those of the providers.
const KNOWN: [&str; 19] = [
    "ORBYT_CONFIG",
    "ORBYT_LISTEN",
    "ORBYT_CONSOLE_LISTEN",
    "ORBYT_DEVTOOLS_LISTEN",
    "ORBYT_DATA_DIR",
    "ORBYT_ADMIN_TOKEN",
    "ORBYT_API_KEYS",
    "ORBYT_LOG",
    "ORBYT_NODE_NAME",
    "ORBYT_MASTER_KEY",
    "DATABASE_URL",
    "REDIS_URL",
    "GATEWAY_PROVIDERS",
    "GATEWAY_WEIGHTS",
    "GATEWAY_RETRY_MAX",
    "GATEWAY_HEALTH_CHECK_INTERVAL",
    "GATEWAY_CACHE_BACKEND",
    "GATEWAY_CACHE_TTL",
    "GATEWAY_CACHE_MAX_SIZE",
];

/// Writes what the environment says over what the file says.
pub fn apply(env: &Env, catalog: &Catalog, raw: &mut Raw, report: &mut Report) {
    let mut reader = Reader { env, report };
    reader.settings(raw);
    reader.providers(catalog, raw);
    clouds::apply(env, catalog, raw);
    reader.unused();
}

/// The variables of one provider, the usual ones first.
struct Variables {
    keys: Vec<String>,
    urls: Vec<String>,
}

impl Variables {
    /// `<STEM>_API_KEY` and `<STEM>_BASE_URL`.
    fn of_stems(stems: impl IntoIterator<Item = String>) -> Self {
        let mut names = Self { keys: Vec::new(), urls: Vec::new() };
        for stem in stems {
            names.keys.push(format!("{stem}_API_KEY"));
            names.urls.push(format!("{stem}_BASE_URL"));
        }
        names
    }

    /// Those of the catalog, then those that follow from its other names, as `HUGGINGFACE_API_KEY` beside `HF_TOKEN`.
    fn of_row(row: &ProviderRow) -> Self {
        let from_keys = row.key_env.iter().filter_map(|name| name.strip_suffix("_API_KEY")).map(str::to_owned);
        let from_ids = std::iter::once(&*row.id).chain(row.aliases.iter().map(String::as_str)).map(variable);
        let more = Self::of_stems(from_keys.chain(from_ids));
        Self { keys: distinct(&row.key_env, more.keys), urls: distinct(&row.base_url_env, more.urls) }
    }
}

fn distinct(first: &[String], more: Vec<String>) -> Vec<String> {
    let mut all = first.to_vec();
    for name in more {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}

struct Reader<'a> {
    env: &'a Env,
    report: &'a mut Report,
}

impl Reader<'_> {
    fn settings(&mut self, raw: &mut Raw) {
        over(&mut raw.server.listen, self.list("ORBYT_LISTEN", LISTEN, listen_address));
        over(&mut raw.console.listen, self.list("ORBYT_CONSOLE_LISTEN", LISTEN, listen_address));
        let devtools = match self.env.get("ORBYT_DEVTOOLS_LISTEN") {
            Some("off") => Some(Vec::new()),
            _ => self.list("ORBYT_DEVTOOLS_LISTEN", LISTEN, listen_address),
        };
        over(&mut raw.console.devtools_listen, devtools);
        over(&mut raw.server.data_dir, self.one("ORBYT_DATA_DIR", "a path", |text| Some(PathBuf::from(text))));
        over(&mut raw.server.api_keys, self.list("ORBYT_API_KEYS", "a key", gateway_key));
        over(&mut raw.store.redis_url, self.one("REDIS_URL", "a URL", secret));
        over(&mut raw.console.admin_token, self.one("ORBYT_ADMIN_TOKEN", "a token", secret));
        over(&mut raw.store.database_url, self.one("DATABASE_URL", "a URL", secret));
        over(&mut raw.store.master_key, self.one("ORBYT_MASTER_KEY", "a key", secret));
        let name = |text: &str| Some(text.to_owned());
        over(&mut raw.store.node_name, self.one("ORBYT_NODE_NAME", "a name", name));
        let levels = r#"one of "off", "error", "warn", "info", "debug", "trace""#;
        over(&mut raw.telemetry.log_level, self.one("ORBYT_LOG", levels, |text| text.to_lowercase().parse().ok()));
        let text = |text: &str| Some(text.to_owned());
        over(&mut raw.telemetry.otlp.endpoint, self.one("OTEL_EXPORTER_OTLP_ENDPOINT", "a URL", text));
        over(&mut raw.telemetry.otlp.service, self.one("OTEL_SERVICE_NAME", "a name", text));
        over(&mut raw.routing.providers, self.list("GATEWAY_PROVIDERS", "a provider", |text| Some(text.to_owned())));
        let weight = |text: &str| text.parse().ok().filter(|weight| *weight <= MAX_WEIGHT);
        over(&mut raw.routing.weights, self.list("GATEWAY_WEIGHTS", "whole numbers such as 50,30,20", weight));
        let retries = |text: &str| text.parse().ok().filter(|retries| *retries <= MAX_RETRIES);
        let expected = format!("a whole number from 0 to {MAX_RETRIES}");
        over(&mut raw.retry.max, self.one("GATEWAY_RETRY_MAX", &expected, retries));
        let expected = r#"a duration such as "30s", or a number of seconds"#;
        over(&mut raw.breaker.open_for, self.one("GATEWAY_HEALTH_CHECK_INTERVAL", expected, interval));
        if let Some(at) = self.one("GATEWAY_HEALTH_CHECK_INTERVAL", expected, interval) {
            raw.health.probe = Some(At::new(Some(at.value), at.place));
        }
        over(&mut raw.cache.ttl, self.one("GATEWAY_CACHE_TTL", expected, interval));
        let backends = quoted(CacheBackend::ALL.into_iter().map(CacheBackend::name));
        let backend = |text: &str| CacheBackend::from_name(&text.to_lowercase());
        over(&mut raw.cache.backend, self.one("GATEWAY_CACHE_BACKEND", &format!("one of {backends}"), backend));
        let answers = |text: &str| text.parse().ok().filter(|count| (1..=MAX_ANSWERS).contains(count));
        let expected = format!("a whole number from 1 to {MAX_ANSWERS}");
        over(&mut raw.cache.max_size, self.one("GATEWAY_CACHE_MAX_SIZE", &expected, answers));
    }

    /// Every provider that the environment knows something about: those of the catalog, those of the file, and any
    /// `<NAME>_API_KEY` with a `<NAME>_BASE_URL`.
    fn providers(&mut self, catalog: &Catalog, raw: &mut Raw) {
        let mut taken = Vec::new();
        for row in catalog.providers() {
            let names = Variables::of_row(row);
            let is_it = |raw: &RawProvider| catalog.provider(&raw.id.value).is_some_and(|of| of.id == row.id);
            let at = raw.providers.iter().position(is_it);
            self.provider(&row.id, Some(row), &names, at, raw);
            taken.push(names);
        }
        for at in 0..raw.providers.len() {
            let id = raw.providers[at].id.value.clone();
            if catalog.provider(&id).is_none() {
                let names = Variables::of_stems([variable(&id)]);
                self.provider(&id, None, &names, Some(at), raw);
                taken.push(names);
            }
        }
        let is_ours = |stem: &&str| stem.is_empty() || stem.starts_with("ORBYT") || stem.starts_with("GATEWAY");
        let stems = self.env.names().filter_map(|name| name.strip_suffix("_API_KEY")).filter(|stem| !is_ours(stem));
        for names in stems.map(|stem| Variables::of_stems([stem.to_owned()])).collect::<Vec<_>>() {
            let is_taken = taken.iter().any(|taken| taken.keys.contains(&names.keys[0]));
            let Some(url) = self.env.get(&names.urls[0]).filter(|_| !is_taken) else { continue };
            // A pair that happens to be there for another program must not keep the gateway from starting.
            if let Err(message) = BaseUrl::parse(url) {
                self.report.warn(Problem::env(&names.urls[0], format!("{message}; no provider is made of it")));
                continue;
            }
            let id = names.keys[0].trim_end_matches("_API_KEY").to_lowercase();
            self.provider(&id, None, &names, None, raw);
        }
    }

    fn provider(&mut self, id: &str, row: Option<&ProviderRow>, names: &Variables, at: Option<usize>, raw: &mut Raw) {
        let key_name = self.first_of(&names.keys);
        let url_name = self.first_of(&names.urls);
        let index = match (at, &key_name, &url_name) {
            (_, None, None) => return,
            (Some(index), ..) => index,
            (None, Some(key), None) if row.is_some_and(|row| !row.key_required) => {
                let message = format!("is not used: {id} is switched on by its base URL ({})", names.urls.join(" or "));
                return self.report.warn(Problem::env(*key, message));
            }
            (None, key, url) => {
                let name = key.or(*url).unwrap_or_default();
                raw.providers.push(RawProvider::new(At::new(id.to_owned(), Place::Env(name.to_owned()))));
                raw.providers.len() - 1
            }
        };
        let provider = &mut raw.providers[index];
        if let Some(name) = url_name {
            over(&mut provider.base_url, self.one(name, "a URL", |text| Some(text.to_owned())));
        }
        if let Some(name) = key_name {
            self.keys(name, &names.keys, provider);
        }
    }

    /// Replaces the provider's keys, unless the file itself refers to one of its variables: then the file has said what
    /// the variable is to be.
    fn keys(&mut self, name: &str, all_names: &[String], provider: &mut RawProvider) {
        let refers = |key: &RawKey| matches!(&key.secret.value, RawSecret::Env(used) if all_names.contains(used));
        if provider.keys.iter().any(refers) {
            return;
        }
        if !provider.keys.is_empty() {
            self.report.warn(Problem::env(name, format!("replaces the keys of {} in the file", provider.id.value)));
        }
        let secrets = self.list(name, "a key", secret).unwrap_or_default();
        provider.keys = secrets
            .into_iter()
            .map(|secret| RawKey { name: None, secret, rpm: None, tpm: None, group: None })
            .collect();
    }

    /// The first of several variables that is set. A second one that says something else is reported.
    fn first_of<'n>(&mut self, names: &'n [String]) -> Option<&'n str> {
        let mut set = names.iter().filter_map(|name| Some((name.as_str(), self.env.get(name)?)));
        let (first, value) = set.next()?;
        for (other, _) in set.filter(|(_, other)| *other != value) {
            self.report.warn(Problem::env(other, format!("is not used: {first} is set too")));
        }
        Some(first)
    }

    /// Reports variables that do nothing.
    fn unused(&mut self) {
        // ORBYT_API_KEY is what the documents' clients read; it is no setting.
        let ours =
            |name: &&str| (name.starts_with("ORBYT_") || name.starts_with("GATEWAY_")) && *name != "ORBYT_API_KEY";
        for name in self.env.names().filter(ours).filter(|name| !KNOWN.contains(name)) {
            // A variable that resembles none of ours is somebody else's, such as Kubernetes' ORBYT_SERVICE_HOST.
            let hint = did_you_mean(name, KNOWN);
            if !hint.is_empty() {
                self.report.warn(Problem::env(name, format!("is not known{hint}")));
            }
        }
    }

    fn one<T>(&mut self, name: &str, expected: &str, parse: impl Fn(&str) -> Option<T>) -> Setting<T> {
        let value = parse(self.env.get(name)?);
        if value.is_none() {
            self.report.error(Problem::env(name, format!("must be {expected}")));
        }
        value.map(|value| At::new(value, Place::Env(name.to_owned())))
    }

    fn list<T>(&mut self, name: &str, expected: &str, parse: impl Fn(&str) -> Option<T>) -> Settings<T> {
        let parts: Option<Vec<T>> = values::list(self.env.get(name)?).map(parse).collect();
        let parts = parts.filter(|parts| !parts.is_empty());
        if parts.is_none() {
            self.report.error(Problem::env(name, format!("must be {expected}, or several with commas between them")));
        }
        parts.map(|parts| parts.into_iter().map(|part| At::new(part, Place::Env(name.to_owned()))).collect())
    }
}

/// Keeps what the file says unless the environment says something.
fn over<T>(setting: &mut Option<T>, environment: Option<T>) {
    if environment.is_some() {
        *setting = environment;
    }
}

/// The prefix of a provider's variables: `my-llm` has `MY_LLM_API_KEY`.
fn variable(id: &str) -> String {
    id.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

fn secret(text: &str) -> Option<RawSecret> {
    Some(RawSecret::FromEnv(Secret::new(text)))
}

fn gateway_key(text: &str) -> Option<RawGatewayKey> {
    secret(text).map(|secret| RawGatewayKey { store: true, name: None, secret })
}

fn interval(text: &str) -> Option<Duration> {
    values::duration(text).or_else(|| values::duration(&format!("{text}s"))).filter(|interval| !interval.is_zero())
}
