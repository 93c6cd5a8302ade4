//! `[limits]` and `[[limits.rule]]`.

use super::super::glob;
use super::super::keys::{GatewayKeys, StoredKeys};
use super::super::raw::*;
use super::super::snapshot::{LimitRule, Limits, ModelAlias, Provider};
use super::{Compiler, or};
use crate::domain::{OnOutage, Scope};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How the names of keys begin that the gateway makes itself on its first start: they are masks.
const MADE_HERE: &str = "sk-or-v1-";

/// How many names of keys a warning shows.
const NAMES_SHOWN: usize = 8;

impl Compiler<'_> {
    pub(super) fn limits(&mut self, raw: &RawLimits) -> Limits {
        let mut rules: Vec<LimitRule> = Vec::new();
        for raw in &raw.rules {
            let scope = raw.scope.value;
            if raw.limits.is_empty() {
                let message =
                    "limits nothing: set requests_per_minute, tokens_per_minute, concurrency or another limit";
                self.report.error(raw.scope.problem(message));
            }
            if rules.iter().any(|earlier| earlier.scope == scope && earlier.pattern.is_none()) {
                let message = format!(
                    "is never reached: a rule with scope = {:?} and without match stands before it, and the first that matches holds",
                    scope.name()
                );
                self.report.warn(raw.scope.problem(message));
            }
            let pattern = raw.pattern.as_ref().map(|at| at.value.as_str().into());
            rules.push(LimitRule { scope, pattern, limits: raw.limits.as_slice().into() });
        }
        Limits {
            global_per_second: or(&raw.global_per_second, None),
            address_per_second: or(&raw.address_per_second, None),
            bad_key_per_minute: or(&raw.bad_key_per_minute, 60),
            concurrent: or(&raw.concurrent, None),
            assumed_output_tokens: or(&raw.assumed_output_tokens, 1000),
            queue_size: or(&raw.queue_size, 100) as usize,
            queue_wait: or(&raw.queue_wait, Some(Duration::from_secs(30))),
            on_outage: or(&raw.on_outage, OnOutage::Local),
            rules,
        }
    }

    /// Warns of rules that no gateway key and no model can match.
    pub(super) fn unmatched_rules(
        &mut self,
        raw: &RawLimits,
        keys: &GatewayKeys,
        providers: &[Provider],
        aliases: &[Arc<ModelAlias>],
    ) {
        for rule in &raw.rules {
            let Some(at) = &rule.pattern else { continue };
            let pattern = at.value.as_str();
            let message = match rule.scope.value {
                Scope::User => None,
                Scope::Key => without_key(pattern, keys, self.around.stored),
                Scope::Model if aliases.iter().any(|alias| glob::matches(pattern, &alias.name)) => None,
                Scope::Model => without_provider(pattern, providers),
            };
            if let Some(message) = message {
                self.report.warn(at.problem(message));
            }
        }
    }
}

fn without_key(pattern: &str, keys: &GatewayKeys, stored: &StoredKeys) -> Option<String> {
    let may_be_made = pattern.starts_with(MADE_HERE) || (keys.is_empty() && pattern.starts_with('*'));
    let mut names: BTreeSet<&str> = stored.names().collect();
    if may_be_made || keys.names().chain(names.iter().copied()).any(|name| glob::matches(pattern, name)) {
        return None;
    }
    names.retain(|name| keys.names().all(|other| other != *name));
    let mut names: Vec<&str> = keys.names().chain(names).collect();
    if names.len() > NAMES_SHOWN {
        names.truncate(NAMES_SHOWN);
        names.push("…");
    }
    let known = if names.is_empty() { "none has a name".to_owned() } else { format!("there are {}", names.join(", ")) };
    let how =
        "server.api_keys names them: { name = \"team-a\", env = \"…\" }, and orbyt keys create --name team-a does";
    Some(format!("matches no gateway key: {known}. {how}"))
}

fn without_provider(pattern: &str, providers: &[Provider]) -> Option<String> {
    let (prefix, rest) = pattern.split_once('/')?;
    if providers.iter().any(|provider| glob::matches(prefix, &provider.id)) {
        return None;
    }
    let alias = providers.iter().find(|provider| provider.aliases.iter().any(|alias| alias == prefix));
    Some(match alias {
        Some(provider) => format!("matches no model: write {}/{rest}, which is its one name here", provider.id),
        None => format!("matches no model: no provider {prefix:?} is configured"),
    })
}

impl LimitRule {
    /// Whether it is for a key, a user or a model of this name. A pattern without a slash is for a model at any provider.
    pub fn matches(&self, name: &str) -> bool {
        let Some(pattern) = &self.pattern else { return true };
        let bare = name.split_once('/').map(|(_, bare)| bare).filter(|_| self.scope == Scope::Model);
        let fits = |name| glob::matches(pattern, name);
        fits(name) || bare.filter(|_| !pattern.contains('/')).is_some_and(fits)
    }
}
