//! `[cache.semantic]`: a model for embeddings that there is.

use super::super::problem::did_you_mean;
use super::super::raw::{RawCache, RawProvider};
use super::super::snapshot::{CacheBackend, DEFAULT_QUESTIONS, Provider, Semantic};
use super::{Compiler, or};
use crate::dialect::table::Dialect;
use std::time::Duration;

/// Wrong answers are worse than none, so little is taken for the same by default.
const DEFAULT_THRESHOLD: f64 = 0.95;
/// Texts that have nothing to do with each other come near this.
const LEAST_THRESHOLD: f64 = 0.5;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);

impl Compiler<'_> {
    /// `None` when no model is named or it cannot be asked.
    pub(super) fn semantic(
        &mut self,
        raw: &RawCache,
        written: &[RawProvider],
        providers: &[Provider],
    ) -> Option<Semantic> {
        let (cache, raw) = (raw, &raw.semantic);
        if let Some(at) = raw.threshold.as_ref().filter(|at| at.value < LEAST_THRESHOLD) {
            let message =
                format!("must be at least {LEAST_THRESHOLD}: below it questions would get the answers of others");
            self.report.error(at.problem(message));
        }
        let enabled = raw.enabled.as_ref().filter(|at| at.value);
        let Some(at) = &raw.model else {
            if let Some(enabled) = enabled {
                self.report.error(enabled.problem("needs a model for the embeddings: set model"));
            }
            return None;
        };
        if let Some(enabled) = enabled
            && or(&cache.backend, CacheBackend::Off) == CacheBackend::Off
        {
            self.report.warn(enabled.problem("has no effect while cache.backend is \"off\""));
        }
        let Some((id, model)) = at.value.split_once('/').filter(|(_, model)| !model.is_empty()) else {
            self.report.error(at.problem("must be provider/model"));
            return None;
        };
        let called = |provider: &&Provider| *provider.id == *id || provider.aliases.iter().any(|alias| alias == id);
        let Some(provider) = providers.iter().find(called) else {
            if self.is_provider(id, written) {
                self.report.warn(at.problem(format!("{id} is not set up: no questions are compared")));
            } else {
                let ids = self.catalog.providers().iter().map(|row| &*row.id);
                let hint = did_you_mean(id, ids.chain(written.iter().map(|raw| &*raw.id.value)));
                self.report.error(at.problem(format!("there is no provider {id:?}{hint}")));
            }
            return None;
        };
        if provider.dialect == Dialect::AnthropicMessages {
            let format = provider.dialect.name();
            self.report.error(at.problem(format!("must be at a provider that makes embeddings; {id} speaks {format}")));
            return None;
        }
        Some(Semantic {
            by_default: enabled.is_some(),
            provider: provider.id.to_string(),
            model: model.to_owned(),
            threshold: or(&raw.threshold, DEFAULT_THRESHOLD) as f32,
            max_entries: or(&raw.max_entries, DEFAULT_QUESTIONS),
            timeout: or(&raw.timeout, DEFAULT_TIMEOUT),
        })
    }
}
