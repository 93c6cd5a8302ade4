//! The shadow of a configuration: everything as it is written, but for the providers, which are simulated ones with keys of no worth, and for
//! whatever reaches outside: listeners, databases, files.

use super::Fault;
use crate::cli::check;
use crate::cli::start::reload_with;
use crate::config::snapshot::CacheBackend;
use crate::config::{self, BaseUrl, Provider, Refused, Snapshot, Source};
use crate::dialect::table::Dialect;
use crate::domain::{KeyId, ProviderKey, Secret};
use crate::provider::AuthScheme;
use crate::sim::{Sim, SimDialect};
use crate::wiring::{self, Parts, Running};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The configuration, read once.
pub(super) struct Shadow {
    snapshot: Snapshot,
    key: String,
}

/// The shadow, running.
pub(super) struct Gateway {
    /// Without `/v1`.
    pub url: String,
    /// The key that it takes.
    pub key: String,
    running: Running,
    _sims: Vec<Sim>,
}

impl Gateway {
    pub fn stop(self) {
        self.running.stop();
    }
}

impl Shadow {
    /// Of the configuration that `orbyt serve` would start with.
    pub fn of(file: Option<PathBuf>) -> Result<Self, String> {
        let source = Source::of_process(file).map_err(|problem| problem.to_string())?;
        let real = config::load(&source).map_err(|refused| told(&refused))?.snapshot;
        // For the providers whose keys are all in the vault.
        let mut said = Vec::new();
        let followed = check::database(&real, &mut said).map_err(|error| error.to_string())?;
        let followed = followed.ok_or_else(|| String::from_utf8_lossy(&said).trim_end().to_owned())?;
        let key = format!("drill-{}", hex::encode(rand::random::<[u8; 16]>()));
        let source = elsewhere(source, &key);
        let loaded = reload_with(&source, &followed).map_err(|refused| told(&refused))?;
        let mut snapshot = loaded.snapshot;
        if snapshot.providers.is_empty() {
            return Err("there is no provider to be simulated: see orbyt check".to_owned());
        }
        shut_in(&mut snapshot);
        Ok(Self { snapshot, key })
    }

    /// The ids of the providers.
    pub fn providers(&self) -> Vec<String> {
        self.snapshot.providers.iter().map(|provider| provider.id.to_string()).collect()
    }

    /// What is asked where no model is named: the names of `[[model]]`, else an example.
    pub fn models(&self) -> Result<Vec<String>, String> {
        let aliases: Vec<String> = self.snapshot.aliases.iter().map(|alias| alias.name.to_string()).collect();
        if !aliases.is_empty() {
            return Ok(aliases);
        }
        let example = self.snapshot.example_model().filter(|model| !model.ends_with("/MODEL"));
        example.map(|model| vec![model]).ok_or_else(|| "no model is known: name one with --model".to_owned())
    }

    /// How long a request may take.
    pub fn patience(&self) -> Duration {
        self.snapshot.timeouts.total
    }

    /// Starts it, with these faults.
    pub fn start(&self, faults: &[Fault]) -> Result<Gateway, String> {
        let mut snapshot = self.snapshot.clone();
        let mut sims = Vec::new();
        for provider in &mut snapshot.providers {
            let (simulated, sim) = simulate(provider, &self.snapshot).map_err(|error| error.to_string())?;
            for fault in faults.iter().filter(|fault| *fault.provider == *simulated.id) {
                sim.always(fault.fault);
            }
            *provider = Arc::new(simulated);
            sims.push(sim);
        }
        let running = wiring::start(Parts {
            snapshot,
            state: None,
            source: None,
            inherited: None,
            log_sink: Box::new(io::sink()),
            log_to_terminal: false,
        })?;
        let address = running.listening.gateway.first().ok_or("the shadow does not listen")?;
        Ok(Gateway { url: format!("http://{address}"), key: self.key.clone(), running, _sims: sims })
    }
}

fn told(refused: &Refused) -> String {
    refused.errors.iter().map(|problem| format!("error: {problem}")).collect::<Vec<_>>().join("\n")
}

/// The same variables, but for where it listens and who may use it.
fn elsewhere(mut source: Source, key: &str) -> Source {
    let own = [
        ("ORBYT_LISTEN", "127.0.0.1:0"),
        ("ORBYT_CONSOLE_LISTEN", "127.0.0.1:0"),
        ("ORBYT_DEVTOOLS_LISTEN", "off"),
        ("ORBYT_API_KEYS", key),
        ("ORBYT_LOG", "off"),
    ];
    source.process.retain(|(name, _)| own.iter().all(|(own, _)| own != name));
    source.process.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
    source
}

/// Takes away everything that reaches outside, besides the providers.
fn shut_in(snapshot: &mut Snapshot) {
    snapshot.server.tls = None;
    snapshot.store.database_url = None;
    snapshot.store.redis = None;
    snapshot.telemetry.ledger = false;
    snapshot.telemetry.otlp = None;
    snapshot.alerts.webhook = None;
    if snapshot.cache.backend == CacheBackend::Redis {
        snapshot.cache.backend = CacheBackend::Memory;
    }
    // Every request says the same: the second one would be answered without asking anybody.
    snapshot.cache.semantic = None;
    snapshot.media.fetch_remote = false;
}

/// A simulated provider in the place of a real one.
fn simulate(provider: &Provider, of: &Snapshot) -> io::Result<(Provider, Sim)> {
    let dialect = match provider.dialect {
        Dialect::OpenAiChat => SimDialect::OpenAi,
        Dialect::AnthropicMessages => SimDialect::Anthropic,
        Dialect::Gemini => SimDialect::Gemini,
        Dialect::Cohere => SimDialect::Cohere,
        Dialect::Ollama => SimDialect::Ollama,
        Dialect::BedrockConverse => SimDialect::Bedrock,
    };
    let sim = Sim::start(dialect)?;
    let key = |(number, key): (usize, &Arc<ProviderKey>)| {
        // No two alike: a fault of one key is not another's.
        let secret = Secret::new(format!("simulated-{}-{number}", provider.id));
        Arc::new(ProviderKey { id: KeyId::of(&secret), secret, ..ProviderKey::clone(key) })
    };
    let auth = of.catalog.provider(dialect.provider_id()).map_or(AuthScheme::Bearer, |row| row.auth);
    let simulated = Provider {
        base: BaseUrl::parse(&sim.base_url()).map_err(io::Error::other)?,
        // A place in a cloud has paths and signatures of its own; what it answers is the same.
        cloud: None,
        auth: if provider.keys.is_empty() { AuthScheme::None } else { auth },
        // One of them may be a secret.
        headers: Vec::new(),
        keys: provider.keys.iter().enumerate().map(key).collect(),
        secrets: Vec::new(),
        ca: Vec::new(),
        ..provider.clone()
    };
    Ok((simulated, sim))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Catalog;

    fn load(variables: &[(&str, &str)]) -> Snapshot {
        let process = variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let catalog = Arc::new(Catalog::builtin().unwrap());
        let source = Source { file: None, process, dotenv: None, catalog };
        let mut snapshot = config::load(&elsewhere(source, "drill-key")).unwrap().snapshot;
        shut_in(&mut snapshot);
        snapshot
    }

    #[test]
    fn no_real_key_address_or_store_is_left_in_it() {
        let snapshot = load(&[
            ("OPENAI_API_KEY", "canary-a,canary-b"),
            ("ANTHROPIC_API_KEY", "canary-c"),
            ("ORBYT_API_KEYS", "canary-d"),
            ("DATABASE_URL", "postgres://u:canary-e@h/d"),
            ("REDIS_URL", "redis://:canary-f@h"),
            ("ORBYT_LISTEN", "0.0.0.0:3001"),
            ("ORBYT_DEVTOOLS_LISTEN", "127.0.0.1:4983"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318"),
        ]);
        let simulated: Vec<_> =
            snapshot.providers.iter().map(|provider| simulate(provider, &snapshot).unwrap()).collect();
        for (provider, sim) in &simulated {
            assert_eq!(provider.base, BaseUrl::parse(&sim.base_url()).unwrap());
            assert!(provider.secrets.is_empty() && provider.headers.is_empty());
            assert!(provider.keys.iter().all(|key| key.secret.reveal().starts_with("simulated-")));
        }
        assert_eq!(simulated.iter().map(|(provider, _)| provider.keys.len()).sum::<usize>(), 3);
        assert_ne!(simulated[0].0.keys[0].id, simulated[0].0.keys[1].id);
        assert!(snapshot.store.database_url.is_none() && snapshot.store.redis.is_none());
        assert!(snapshot.telemetry.otlp.is_none() && snapshot.console.devtools_listen.is_empty());
        assert_eq!(snapshot.server.listen, ["127.0.0.1:0".parse().unwrap()]);
        assert!(snapshot.keys.find("drill-key", u64::MAX).is_ok() && snapshot.keys.find("canary-d", u64::MAX).is_err());
    }
}
