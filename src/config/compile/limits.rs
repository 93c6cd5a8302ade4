//! `[limits]` and `[[limits.rule]]`.

use super::super::raw::*;
use super::super::snapshot::{LimitRule, Limits};
use super::{Compiler, or};
use crate::domain::{OnOutage, Scope};
use std::time::Duration;

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
}

impl LimitRule {
    /// Whether it is for a key, a user or a model of this name. A pattern without a slash is for a model at any provider.
    pub fn matches(&self, name: &str) -> bool {
        let Some(pattern) = &self.pattern else { return true };
        let bare = name.split_once('/').map(|(_, bare)| bare).filter(|_| self.scope == Scope::Model);
        let fits = |name| super::super::glob::matches(pattern, name);
        fits(name) || bare.filter(|_| !pattern.contains('/')).is_some_and(fits)
    }
}
