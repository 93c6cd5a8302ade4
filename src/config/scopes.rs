//! What a key may be used for, ready to be asked on every request.

use super::glob;
use super::net::IpNet;
use super::snapshot::{Provider, Snapshot};
use crate::domain::tenancy::Scopes;
use crate::provider::ModelRow;
use std::net::IpAddr;

/// [`Scopes`], taken apart. An empty list allows everything.
#[derive(Clone, Debug, Default)]
pub struct KeyScopes {
    models: Vec<String>,
    providers: Vec<String>,
    routes: Vec<String>,
    networks: Vec<IpNet>,
    /// Addresses were named, readable or not: then what is not named is not allowed.
    by_address: bool,
}

/// What is wrong with scopes that somebody wrote; `None` when nothing is.
pub fn mistake(scopes: &Scopes) -> Option<String> {
    let empty = |list: &[String]| list.iter().any(|text| text.trim().is_empty());
    if empty(&scopes.models) || empty(&scopes.providers) || empty(&scopes.routes) {
        return Some("a scope is empty: leave it out, or write * for everything".to_owned());
    }
    let all = [&scopes.models, &scopes.providers, &scopes.routes, &scopes.addresses];
    if all.into_iter().flatten().any(|text| text.contains(char::is_control)) {
        return Some("a scope has a control character".to_owned());
    }
    if let Some(bad) = scopes.addresses.iter().find(|text| IpNet::parse(text).is_none()) {
        return Some(format!("{bad:?} is neither an address nor a network such as 192.0.2.0/24"));
    }
    let bad = scopes.routes.iter().find(|route| !route.starts_with('/') && !route.starts_with('*'));
    bad.map(|route| format!("{route:?} is no path such as /v1/chat/completions"))
}

/// The scopes that fit nothing that this configuration has: probably written wrong, though a provider may have models that nobody knows of.
pub fn idle(scopes: &Scopes, snapshot: &Snapshot) -> Vec<String> {
    let providers = || snapshot.providers.iter().map(|provider| &**provider);
    let fits_provider = |pattern: &str| providers().any(|it| names(it).any(|name| glob::matches(pattern, name)));
    let fits_model = |pattern: &str| {
        let known = |provider: &Provider| {
            let rows = snapshot.catalog.models().iter().filter(|row| *row.provider == *provider.id);
            rows.chain(&provider.models).any(|row| fits(pattern, provider, row))
        };
        providers().any(known) || snapshot.aliases.iter().any(|alias| glob::matches(pattern, &alias.name))
    };
    let of_providers = scopes.providers.iter().filter(|pattern| !fits_provider(pattern));
    let of_models = scopes.models.iter().filter(|pattern| match pattern.split_once('/') {
        // A model that the catalog does not have may be there all the same.
        Some((provider, model)) => !fits_provider(provider) || (model.contains('*') && !fits_model(pattern)),
        None => !fits_model(pattern),
    });
    of_providers.chain(of_models).cloned().collect()
}

impl KeyScopes {
    /// Takes scopes apart.
    pub fn new(scopes: &Scopes) -> Self {
        Self {
            models: scopes.models.clone(),
            providers: scopes.providers.clone(),
            routes: scopes.routes.clone(),
            networks: scopes.addresses.iter().filter_map(|text| IpNet::parse(text)).collect(),
            by_address: !scopes.addresses.is_empty(),
        }
    }

    /// Whether a client may come from there. One whose address is not known may not, where addresses are named.
    pub fn allows_address(&self, address: Option<IpAddr>) -> bool {
        !self.by_address || address.is_some_and(|address| self.networks.iter().any(|net| net.contains(address)))
    }

    /// Whether a path may be used.
    pub fn allows_route(&self, path: &str) -> bool {
        self.routes.is_empty() || self.routes.iter().any(|pattern| glob::matches(pattern, path))
    }

    /// Whether a provider may be used, by any of its names.
    pub fn allows_provider(&self, provider: &Provider) -> bool {
        self.providers.is_empty()
            || self.providers.iter().any(|pattern| names(provider).any(|name| glob::matches(pattern, name)))
    }

    /// Whether a name that stands for models, such as that of a `[[model]]`, is allowed as such.
    pub fn allows_name(&self, name: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|pattern| glob::matches(pattern, name))
    }

    /// Whether a model may be used at a provider: `provider/model` by any name of both, or a name without a provider.
    pub fn allows_model(&self, provider: &Provider, model: &ModelRow) -> bool {
        self.models.is_empty() || self.models.iter().any(|pattern| fits(pattern, provider, model))
    }

    /// The models that it may use, as they were written.
    pub fn models(&self) -> &[String] {
        &self.models
    }
}

fn fits(pattern: &str, provider: &Provider, model: &ModelRow) -> bool {
    let called = || std::iter::once(&*model.upstream).chain(model.aliases.iter().map(String::as_str));
    if pattern.contains('/') {
        names(provider).any(|id| called().any(|name| glob::matches(pattern, &format!("{id}/{name}"))))
            || glob::matches(pattern, &model.id)
    } else {
        called().any(|name| glob::matches(pattern, name))
    }
}

fn names(provider: &Provider) -> impl Iterator<Item = &str> {
    std::iter::once(&*provider.id).chain(provider.aliases.iter().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(change: impl FnOnce(&mut Scopes)) -> KeyScopes {
        let mut scopes = Scopes::default();
        change(&mut scopes);
        assert_eq!(mistake(&scopes), None);
        KeyScopes::new(&scopes)
    }

    #[test]
    fn nothing_named_allows_everything() {
        let all = scopes(|_| {});
        assert!(all.allows_address(None) && all.allows_route("/v1/models") && all.allows_name("x"));
    }

    #[test]
    fn addresses_and_routes_are_held_to() {
        let some = scopes(|scopes| {
            scopes.addresses = vec!["192.0.2.0/24".into(), "2001:db8::1".into()];
            scopes.routes = vec!["/v1/chat/*".into()];
        });
        let from = |text: &str| some.allows_address(Some(text.parse().unwrap()));
        assert!(from("192.0.2.7") && from("2001:db8::1") && !from("192.0.3.7") && !from("2001:db8::2"));
        assert!(!some.allows_address(None));
        assert!(some.allows_route("/v1/chat/completions") && !some.allows_route("/v1/models"));
    }

    #[test]
    fn an_address_that_cannot_be_read_is_no_leave() {
        let broken = Scopes { addresses: vec!["anywhere".into()], ..Scopes::default() };
        assert!(mistake(&broken).is_some_and(|message| message.contains("anywhere")));
        assert!(!KeyScopes::new(&broken).allows_address(Some("192.0.2.1".parse().unwrap())));
    }

    #[test]
    fn mistakes_are_named() {
        let empty = Scopes { models: vec![" ".into()], ..Scopes::default() };
        assert!(mistake(&empty).unwrap().contains("empty"));
        let route = Scopes { routes: vec!["v1/models".into()], ..Scopes::default() };
        assert!(mistake(&route).unwrap().contains("\"v1/models\" is no path"));
        for strange in [
            Scopes { models: vec!["a\0".into()], ..Scopes::default() },
            Scopes { providers: vec!["a\u{1b}[2J".into()], ..Scopes::default() },
            Scopes { routes: vec!["/v1\n".into()], ..Scopes::default() },
        ] {
            assert!(mistake(&strange).unwrap().contains("control character"));
        }
    }
}
