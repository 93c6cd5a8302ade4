//! `[store]`: where state is kept that outlives the process, and that several nodes share.

use super::super::env::Env;
use super::super::problem::Report;
use super::super::raw::*;
use super::super::snapshot::{CacheBackend, Redis, Store};
use super::{Compiler, Surroundings, or};
use crate::domain::Secret;
use crate::provider::Catalog;
use crate::vault::MasterKeys;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A node gives several signs of life in this time, and Redis has to be asked for each.
const LEAST_NODE_TTL: Duration = Duration::from_millis(500);

/// A node's name stands in a column of a table.
const MOST_OF_A_NAME: usize = 64;
/// So many signs of life a node gives in this time.
const BEATS: u32 = 4;

impl Compiler<'_> {
    pub(super) fn store(&mut self, raw: &RawStore, cache: &RawCache) -> Store {
        if let Some(at) = cache.backend.as_ref().filter(|at| at.value == CacheBackend::Redis)
            && raw.redis_url.is_none()
        {
            self.report.error(at.problem("needs store.redis_url (REDIS_URL): where is the Redis?"));
        }
        let redis = self.redis(raw);
        let node_name = raw.node_name.as_ref().and_then(|at| {
            let fits = (1..=MOST_OF_A_NAME).contains(&at.value.chars().count()) && !at.value.contains(char::is_control);
            if !fits {
                self.report.error(at.problem(format!("must be a name of at most {MOST_OF_A_NAME} characters")));
            }
            fits.then(|| at.value.as_str().into())
        });
        Store { redis, node_name, ..self.database(raw) }
    }

    /// What outlives the process: everything but Redis.
    fn database(&mut self, raw: &RawStore) -> Store {
        let database_url = raw.database_url.as_ref().and_then(|at| {
            let url = self.secret(at)?;
            let is_postgres = ["postgres://", "postgresql://"].iter().any(|scheme| url.reveal().starts_with(scheme));
            if !is_postgres {
                self.report.error(at.problem("must begin with postgres:// (leave it out for the embedded database)"));
            }
            Some(url)
        });
        let master_key = raw.master_key.as_ref().and_then(|at| {
            let text = self.secret(at)?;
            self.report.checked(at, MasterKeys::parse(text.reveal()))?;
            Some(text)
        });
        Store { database_url, connections: or(&raw.connections, 8) as usize, master_key, redis: None, node_name: None }
    }

    fn redis(&mut self, raw: &RawStore) -> Option<Redis> {
        if let Some(at) = raw.node_ttl.as_ref().filter(|at| at.value < LEAST_NODE_TTL) {
            self.report.error(at.problem(format!("must be at least {LEAST_NODE_TTL:?}")));
        }
        let ca = raw.redis_ca_file.as_ref().and_then(|file| {
            // What cannot be read has been reported then, and need not be twice.
            if self.certificates(file).is_empty() { None } else { self.read(file) }
        });
        let at = raw.redis_url.as_ref()?;
        let url = self.secret(at)?;
        let password = self.report.checked(at, parts(url.reveal()).map(|password| password.map(Secret::new)))?;
        let timeout = or(&raw.redis_timeout, Duration::from_millis(50));
        let node_ttl = or(&raw.node_ttl, Duration::from_secs(10));
        if timeout > node_ttl / BEATS
            && let Some(at) = raw.redis_timeout.as_ref().or(raw.node_ttl.as_ref())
        {
            self.report.warn(at.problem(format!(
                "redis_timeout ({timeout:?}) is more than a quarter of node_ttl ({node_ttl:?}): with one slow answer the node may be taken for gone, and what it has reserved be given out twice"
            )));
        }
        Some(Redis { url, password, ca, timeout, node_ttl })
    }
}

/// The data directory and `[store]` without Redis, for commands that need none of the service's other secrets.
pub fn store_alone(
    raw: &Raw,
    catalog: &Arc<Catalog>,
    around: &Surroundings<'_>,
    report: &mut Report,
) -> (PathBuf, Store) {
    let env: &Env = around.env;
    let data_dir = super::data_dir(&raw.server.data_dir, env, around.base);
    (data_dir, Compiler { around, catalog, report }.database(&raw.store))
}

/// The password of a Redis URL. Errors never repeat the URL.
fn parts(url: &str) -> Result<Option<&str>, &'static str> {
    let Some((_, rest)) = url.split_once("://").filter(|(scheme, _)| matches!(*scheme, "redis" | "rediss")) else {
        return Err("must begin with redis:// or rediss://");
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    let port = host.rsplit_once(':').filter(|_| !host.ends_with(']')).map(|(_, port)| port);
    if host.is_empty() || host.starts_with(':') {
        return Err("has no host");
    }
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err("has a bad port");
    }
    let database = path.trim_start_matches('/').split(['?', '#']).next().unwrap_or_default();
    if !database.is_empty() && database.parse::<u16>().is_err() {
        return Err("must end with the number of a database, or with none");
    }
    Ok(user.and_then(|user| user.split_once(':')).map(|(_, password)| password).filter(|password| !password.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_without_being_repeated() {
        assert_eq!(parts("redis://localhost"), Ok(None));
        assert_eq!(parts("rediss://:p@ss@[::1]:6380/2"), Ok(Some("p@ss")));
        assert_eq!(parts("redis://user:secret@h:6379?protocol=resp3"), Ok(Some("secret")));
        for (url, message) in [
            ("http://h", "must begin with redis:// or rediss://"),
            ("localhost:6379", "must begin with redis:// or rediss://"),
            ("redis://", "has no host"),
            ("redis://:6379", "has no host"),
            ("redis://h:x", "has a bad port"),
            ("redis://h/zero", "must end with the number of a database, or with none"),
        ] {
            assert_eq!(parts(url), Err(message), "{url}");
        }
    }
}
