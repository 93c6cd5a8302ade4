//! What was written becomes what is run: [`Raw`] to [`Snapshot`], with every error and not only the first. Pure: files are
//! read through [`Surroundings`].

mod alerts;
mod clouds;
mod limits;
mod presets;
mod providers;
mod routing;
mod semantic;
mod store;
mod telemetry;

use super::env::Env;
use super::keys::{GatewayKeys, StoredKeys};
use super::net::listeners_clash;
use super::problem::{At, Place, Problem, Report};
use super::raw::*;
use super::snapshot::*;
use crate::provider::Catalog;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use store::store_alone;

/// What the configuration refers to outside itself.
pub struct Surroundings<'a> {
    /// The environment.
    pub env: &'a Env,
    /// Reads a file; the error is the system's message.
    pub read: &'a dyn Fn(&Path) -> Result<Vec<u8>, String>,
    /// Paths in the configuration are relative to this directory: that of the file.
    pub base: &'a Path,
    /// The gateway keys of the database, which rules may be for.
    pub stored: &'a StoredKeys,
    /// Worker threads when the configuration leaves it open.
    pub cores: usize,
}

/// Gives the settings their meaning. `None` when there was an error, which the report then holds.
pub fn compile(raw: Raw, catalog: Arc<Catalog>, around: &Surroundings<'_>, report: &mut Report) -> Option<Snapshot> {
    let mut compiler = Compiler { around, catalog: &catalog, report };
    let timeouts = compiler.timeouts(&raw.timeouts, DEFAULT_TIMEOUTS);
    let keys = compiler.gateway_keys(raw.server.api_keys.as_deref().unwrap_or_default());
    let server = compiler.server(raw.server);
    let console = compiler.console(raw.console);
    compiler.clashes(&server, &console);
    let mut providers = compiler.providers(&raw.providers, timeouts);
    compiler.groups(&raw.providers);
    let aliases = compiler.aliases(&raw.models, &raw.providers);
    let presets = compiler.presets(raw.presets, &raw.models, &raw.providers);
    let routing = compiler.routing(raw.routing, &raw.models, &raw.providers, &mut providers);
    let retry = compiler.retry(&raw.retry);
    let semantic = compiler.semantic(&raw.cache, &raw.providers, &providers);
    let limits = compiler.limits(&raw.limits);
    compiler.unmatched_rules(&raw.limits, &keys, &providers, &aliases);
    let store = compiler.store(&raw.store, &raw.cache);
    let telemetry = compiler.telemetry(raw.telemetry);
    let snapshot = Snapshot {
        server,
        console,
        providers: providers.into_iter().map(Arc::new).collect(),
        aliases,
        presets,
        keys,
        routing,
        retry,
        breaker: breaker(&raw.breaker),
        health: Health { probe: or(&raw.health.probe, None) },
        hedging: or(&raw.hedging.enabled, false).then(|| hedging(&raw.hedging)),
        timeouts,
        gate: gate(&raw.gate),
        limits,
        money: MoneyRules { unknown_price: or(&raw.money.unknown_price, UnknownPrice::Deny) },
        budgets: Arc::default(),
        cache: Cache { semantic, ..cache(&raw.cache) },
        store,
        alerts: compiler.alerts(&raw.alerts),
        telemetry,
        media: media(&raw.media),
        responses: responses(&raw.responses),
        stored: [].into(),
        catalog: Arc::clone(&catalog),
    };
    report.errors.is_empty().then_some(snapshot)
}

struct Compiler<'a> {
    around: &'a Surroundings<'a>,
    catalog: &'a Arc<Catalog>,
    report: &'a mut Report,
}

const DEFAULT_TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(5),
    first_output: Duration::from_secs(60),
    idle: Duration::from_secs(60),
    total: Duration::from_secs(600),
};

impl Compiler<'_> {
    fn server(&mut self, raw: RawServer) -> Server {
        let tls = raw.tls.and_then(|tls| self.tls(tls));
        Server {
            listen: match raw.listen {
                // HTTPS alone.
                Some(none) if none.is_empty() && tls.is_some() => Vec::new(),
                some => self.listen("server.listen", some, ([127, 0, 0, 1], 3001)),
            },
            tls,
            data_dir: data_dir(&raw.data_dir, self.around.env, self.around.base),
            max_body_bytes: or(&raw.max_body_bytes, 32 << 20),
            trusted_proxies: all(raw.trusted_proxies),
            cors: Cors { allow_origins: all(raw.allow_origins) },
            workers: match or(&raw.workers, 0) {
                0 => self.around.cores.max(1),
                workers => workers as usize,
            },
            grace: or(&raw.grace, Duration::from_secs(30)),
            upgrade_grace: or(&raw.upgrade_grace, Duration::from_secs(3600)),
        }
    }

    fn tls(&mut self, at: At<RawTls>) -> Option<ServerTls> {
        use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
        let raw = &at.value;
        for (name, is_missing) in [
            ("listen", raw.listen.as_ref().is_none_or(Vec::is_empty)),
            ("certificate", raw.certificate.is_none()),
            ("key", raw.key.is_none()),
        ] {
            if is_missing {
                self.report.error(at.problem(format!("{name} is missing")));
            }
        }
        if let Some(certificate) = &raw.certificate {
            self.certificates(certificate);
        }
        if let Some(key) = &raw.key
            && let Some(pem) = self.read(key)
            && PrivateKeyDer::from_pem_slice(&pem).is_err()
        {
            self.report.error(key.problem("holds no private key in PEM form"));
        }
        let path = |path: &Setting<PathBuf>| path.as_ref().map(|path| self.around.base.join(&path.value));
        let (certificate, key) = (path(&raw.certificate)?, path(&raw.key)?);
        Some(ServerTls { listen: all(at.value.listen), certificate, key })
    }

    fn console(&mut self, raw: RawConsole) -> Console {
        Console {
            listen: self.listen("console.listen", raw.listen, ([127, 0, 0, 1], 4000)),
            devtools_listen: match raw.devtools_listen {
                Some(none) if none.is_empty() => Vec::new(),
                some => self.listen("console.devtools_listen", some, ([127, 0, 0, 1], 4983)),
            },
            admin_token: raw.admin_token.and_then(|token| self.secret(&token)).map(|token| token.hash()),
            secure_cookies: or(&raw.secure_cookies, false),
        }
    }

    fn listen(&mut self, key: &str, raw: Settings<SocketAddr>, default: ([u8; 4], u16)) -> Vec<SocketAddr> {
        let Some(listen) = raw else { return vec![SocketAddr::from(default)] };
        if listen.is_empty() {
            self.report.error(Problem::general(format!("{key} has no address")));
        }
        for (index, at) in listen.iter().enumerate() {
            if listen[..index].iter().any(|other| listeners_clash(&other.value, &at.value)) {
                self.report.error(at.problem(format!("{} is listened on twice", at.value)));
            }
        }
        listen.into_iter().map(|at| at.value).collect()
    }

    /// Reports listeners of different sections that want the same port.
    fn clashes(&mut self, server: &Server, console: &Console) {
        let tls = server.tls.iter().flat_map(|tls| &tls.listen);
        let gateway = server.listen.iter().map(|address| ("server.listen", address));
        let tls = tls.map(|address| ("server.tls.listen", address));
        let devtools = console.devtools_listen.iter().map(|address| ("console.devtools_listen", address));
        let console = console.listen.iter().map(|address| ("console.listen", address));
        let all: Vec<_> = gateway.chain(tls).chain(console).chain(devtools).collect();
        for (index, (section, address)) in all.iter().enumerate() {
            for (other_section, other) in all[..index].iter().filter(|(other, _)| other != section) {
                if listeners_clash(address, other) {
                    let message = format!("{section} {address} and {other_section} {other} want the same port");
                    self.report.error(Problem::general(message));
                }
            }
        }
    }

    fn gateway_keys(&mut self, raw: &[At<RawGatewayKey>]) -> GatewayKeys {
        let mut keys = GatewayKeys::default();
        // Those with names come first: no mask may take the name of one.
        let (named, nameless): (Vec<_>, Vec<_>) = raw.iter().partition(|at| at.value.name.is_some());
        for at in named.into_iter().chain(nameless) {
            let secret = self.secret(&At::new(at.value.secret.clone(), at.place.clone()));
            if let Some(other) = secret.as_ref().and_then(|secret| keys.name_of(secret)) {
                let problem = at.problem(format!("is the same key as {other:?}: each needs a secret of its own"));
                // Twice the same in a list of secrets does no harm.
                let is_plain = at.value.name.is_none() && at.value.store && keys.stores(&other);
                if is_plain {
                    self.report.warn(problem)
                } else {
                    self.report.error(problem)
                }
                continue;
            }
            match (&at.value.name, secret) {
                (Some(name), _) if keys.names().any(|other| other == name) => {
                    self.report.error(at.problem(format!("there are two keys called {name:?}")));
                }
                (Some(name), _) if name.len() > 100 || name.chars().any(char::is_control) => {
                    self.report.error(at.problem("has a name that is longer than 100 bytes or not text"));
                }
                (Some(name), Some(secret)) => keys.add_named(name, secret),
                (None, Some(secret)) => keys.add_clear(secret),
                (_, None) => continue,
            }
            if !at.value.store {
                keys.do_not_store_last();
            }
        }
        keys
    }

    fn timeouts(&mut self, raw: &RawTimeouts, default: Timeouts) -> Timeouts {
        let timeouts = Timeouts {
            connect: or(&raw.connect, default.connect),
            first_output: or(&raw.first_output, default.first_output),
            idle: or(&raw.idle, default.idle),
            total: or(&raw.total, default.total),
        };
        for at in [&raw.connect, &raw.first_output, &raw.idle].into_iter().flatten() {
            if at.value > timeouts.total {
                self.report.warn(at.problem(format!(
                    "is longer than the total of {:?}, which ends the request first",
                    timeouts.total
                )));
            }
        }
        timeouts
    }

    fn retry(&mut self, raw: &RawRetry) -> Retry {
        let retry = Retry {
            max: or(&raw.max, 2),
            base: or(&raw.base, Duration::from_millis(250)),
            cap: or(&raw.cap, Duration::from_secs(5)),
            budget: or(&raw.budget, 0.2),
        };
        if retry.base > retry.cap
            && let Some(at) = raw.base.as_ref().or(raw.cap.as_ref())
        {
            self.report.error(at.problem(format!("base ({:?}) is longer than cap ({:?})", retry.base, retry.cap)));
        }
        retry
    }
}

/// Where state is kept: as written, else systemd's state directory, else the user's; else one below the working directory.
pub fn data_dir(raw: &Setting<PathBuf>, env: &Env, base: &Path) -> PathBuf {
    let of_service = || env.get("STATE_DIRECTORY").and_then(|dirs| dirs.split(':').next()).map(PathBuf::from);
    let of_user = || env.get("HOME").map(|home| Path::new(home).join(".local/share/orbyt"));
    let written = raw.as_ref().map(|dir| match dir.place {
        Place::Env(_) => dir.value.clone(),
        _ => base.join(&dir.value),
    });
    written.or_else(of_service).or_else(of_user).unwrap_or_else(|| PathBuf::from("orbyt-data"))
}

fn breaker(raw: &RawBreaker) -> Breaker {
    Breaker {
        enabled: or(&raw.enabled, true),
        failures: or(&raw.failures, 5),
        open_for: or(&raw.open_for, Duration::from_secs(30)),
        max_open_share: or(&raw.max_open_share, 0.5),
    }
}

fn hedging(raw: &RawHedging) -> Hedging {
    Hedging {
        quantile: or(&raw.quantile, 0.95),
        min_delay: or(&raw.min_delay, Duration::from_millis(50)),
        budget: or(&raw.budget, 0.05),
    }
}

fn gate(raw: &RawGate) -> Gate {
    Gate {
        max_bytes: usize::try_from(or(&raw.max_bytes, 8 << 20)).unwrap_or(usize::MAX),
        max_wait: or(&raw.max_wait, None),
        min_throughput: or(&raw.min_throughput, None),
        throughput_window: or(&raw.throughput_window, Duration::from_secs(2)),
        keepalive: or(&raw.keepalive, Some(Duration::from_secs(15))).unwrap_or_default(),
        keepalive_before_commit: or(&raw.keepalive_before_commit, false),
    }
}

fn cache(raw: &RawCache) -> Cache {
    let ttl = or(&raw.ttl, Duration::from_secs(300));
    Cache {
        backend: or(&raw.backend, CacheBackend::Off),
        ttl,
        max_ttl: or(&raw.max_ttl, Duration::from_secs(24 * 3600)).max(ttl),
        max_size: or(&raw.max_size, 10_000),
        max_bytes: or(&raw.max_bytes, 256 << 20),
        max_temperature: raw.max_temperature.as_ref().map(|at| at.value),
        semantic: None,
    }
}

fn media(raw: &RawMedia) -> Media {
    Media { fetch_remote: or(&raw.fetch_remote, false), max_bytes: or(&raw.max_bytes, 20 << 20) }
}

fn responses(raw: &RawResponses) -> Responses {
    Responses {
        keep: or(&raw.keep, Some(Duration::from_secs(24 * 3600))).unwrap_or_default(),
        max_entries: or(&raw.max_entries, 10_000) as usize,
        max_bytes: or(&raw.max_bytes, 256 << 20) as usize,
    }
}

/// The value that was written, or the default.
fn or<T: Copy>(setting: &Setting<T>, default: T) -> T {
    setting.as_ref().map_or(default, |at| at.value)
}

/// The values of a list; none was written means an empty one.
fn all<T>(list: Settings<T>) -> Vec<T> {
    list.into_iter().flatten().map(|at| at.value).collect()
}
