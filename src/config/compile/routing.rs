//! `[routing]` and `[[model]]`: the order of the providers, and names that lead to models that there are.

use super::super::problem::{At, did_you_mean};
use super::super::raw::*;
use super::super::snapshot::{ModelAlias, Provider, Routing};
use super::Compiler;
use crate::domain::Strategy;
use std::sync::Arc;

impl Compiler<'_> {
    /// Puts the providers into the order of preference, drops those that are not named, and reads the rest of `[routing]`.
    pub(super) fn routing(
        &mut self,
        raw: RawRouting,
        models: &[RawAlias],
        written: &[RawProvider],
        providers: &mut Vec<Provider>,
    ) -> Routing {
        let named = raw.providers.map(|named| self.named(&named, written, providers));
        self.weights(raw.weights.as_deref(), named.as_deref(), providers);
        let strategy = match (raw.strategy, raw.weights) {
            (Some(strategy), _) => strategy.value,
            (None, Some(_)) => Strategy::Weighted,
            (None, None) => Strategy::default(),
        };
        if let Some(named) = &named {
            let rank = |provider: &Provider| named.iter().position(|id| *id == provider.id);
            providers.retain(|provider| rank(provider).is_some());
            providers.sort_by_key(rank);
        }
        let (fallbacks, auto) = (raw.fallbacks.unwrap_or_default(), raw.auto.unwrap_or_default());
        fallbacks.iter().chain(&auto).for_each(|model| self.model(model, models, written));
        for model in &auto {
            if leads_to(&model.value, "auto", models, models.len()) {
                self.report.error(model.problem("auto cannot stand for itself"));
            }
            self.plain(model);
        }
        let texts = |list: Vec<At<String>>| list.into_iter().map(|at| at.value).collect();
        let byok_fallback = raw.byok_fallback.map(|at| at.value).unwrap_or_default();
        let sticky = raw.sticky.map(|at| at.value).unwrap_or_default();
        Routing { strategy, providers: named, fallbacks: texts(fallbacks), auto: texts(auto), byok_fallback, sticky }
    }

    /// The ids of the providers that `routing.providers` names, once each. One that is known but not set up is kept, so
    /// that weights still belong to the right one.
    fn named(&mut self, named: &[At<String>], written: &[RawProvider], providers: &[Provider]) -> Vec<Arc<str>> {
        let mut ids: Vec<Arc<str>> = Vec::new();
        for at in named {
            let name = at.value.to_lowercase();
            let in_use = providers.iter().find(|p| *p.id == *name || p.aliases.contains(&name)).map(|p| p.id.clone());
            let known = in_use.clone().or_else(|| self.catalog.provider(&name).map(|row| row.id.clone()));
            let known = known.or_else(|| written.iter().any(|raw| raw.id.value == name).then(|| name.as_str().into()));
            let Some(id) = known else {
                let of_catalog = self.catalog.providers().iter().map(|row| &*row.id);
                let hint = did_you_mean(&name, of_catalog.chain(providers.iter().map(|provider| &*provider.id)));
                self.report.error(at.problem(format!("there is no provider {name:?}{hint}")));
                continue;
            };
            if ids.contains(&id) {
                self.report.error(at.problem(format!("{id} is named twice")));
                continue;
            }
            if in_use.is_none() {
                self.report.warn(at.problem(format!("{id} is not set up and left out")));
            }
            ids.push(id);
        }
        ids
    }

    fn weights(&mut self, weights: Option<&[At<u32>]>, named: Option<&[Arc<str>]>, providers: &mut [Provider]) {
        let Some(weights) = weights else { return };
        let Some(first) = weights.first() else { return };
        let Some(named) = named else {
            return self.report.error(first.problem("needs the providers that the weights are for, in the same order: GATEWAY_PROVIDERS (routing.providers)"));
        };
        if weights.len() != named.len() {
            let message = format!("there are {} weights for {} providers", weights.len(), named.len());
            return self.report.error(first.problem(message));
        }
        if weights.iter().all(|weight| weight.value == 0) {
            self.report.error(first.problem("all weights are 0"));
        }
        for (id, weight) in named.iter().zip(weights) {
            if let Some(provider) = providers.iter_mut().find(|provider| provider.id == *id) {
                provider.weight = Some(weight.value);
            }
        }
    }

    /// `[[model]]`.
    pub(super) fn aliases(&mut self, models: &[RawAlias], written: &[RawProvider]) -> Vec<Arc<ModelAlias>> {
        let mut aliases: Vec<Arc<ModelAlias>> = Vec::new();
        for raw in models {
            let name = &raw.name;
            if aliases.iter().any(|alias| *alias.name == *name.value) {
                self.report.error(name.problem(format!("there are two models called {:?}", name.value)));
            }
            if name.value == "auto" || name.value.starts_with('@') || name.value.contains(char::is_whitespace) {
                self.report.error(name.problem("cannot be a model's name: auto, @… and white space are taken"));
            }
            let fallbacks = raw.fallbacks.as_deref().unwrap_or_default();
            raw.targets.iter().chain(fallbacks).for_each(|model| self.model(model, models, written));
            for target in &raw.targets {
                if leads_to(&target.value, &name.value, models, models.len()) {
                    self.report.error(target.problem("a model cannot stand for itself"));
                }
                self.plain(target);
            }
            let texts = |list: &[At<String>]| list.iter().map(|at| at.value.clone()).collect();
            aliases.push(Arc::new(ModelAlias {
                name: name.value.as_str().into(),
                targets: texts(&raw.targets),
                fallbacks: texts(fallbacks),
                strategy: raw.strategy.as_ref().map(|at| at.value),
            }));
        }
        aliases
    }

    /// Reports a strategy where there is no place for one: in a list, whose own strategy puts it in order.
    fn plain(&mut self, at: &At<String>) {
        if [":floor", ":nitro"].iter().any(|suffix| at.value.ends_with(suffix)) {
            self.report.error(at.problem("cannot have a strategy of its own here: set strategy for all of the list"));
        }
    }

    /// Reports a model that nothing can serve: `provider/model` with an unknown provider, or a bare name that neither
    /// `[[model]]` nor the catalog knows.
    pub(super) fn model(&mut self, at: &At<String>, models: &[RawAlias], written: &[RawProvider]) {
        let name = at.value.trim_end_matches(":floor").trim_end_matches(":nitro");
        let is_local = |raw: &RawProvider| {
            raw.models.iter().any(|m| m.id.value == name || m.aliases.iter().flatten().any(|alias| alias.value == name))
        };
        let of_operator = models.iter().any(|model| model.name.value == name) || written.iter().any(is_local);
        if of_operator || self.is_provider(name, written) || !self.catalog.find(name).is_empty() {
            return;
        }
        let prefix = name.split_once('/').map(|(prefix, _)| prefix);
        let message = match prefix {
            Some(prefix) if self.is_provider(prefix, written) => return,
            Some(prefix) => {
                let ids = self.catalog.providers().iter().map(|row| &*row.id);
                let hint = did_you_mean(prefix, ids.chain(written.iter().map(|raw| &*raw.id.value)));
                format!("there is no provider {prefix:?}{hint}")
            }
            None if self.catalog.guess_provider(name).is_some() => return,
            None => format!("nothing is known about {name:?}: write provider/model"),
        };
        self.report.error(at.problem(message));
    }

    pub(super) fn is_provider(&self, name: &str, written: &[RawProvider]) -> bool {
        let is_written =
            |raw: &RawProvider| raw.id.value == name || raw.aliases.iter().flatten().any(|alias| alias.value == name);
        self.catalog.provider(name).is_some() || written.iter().any(is_written)
    }
}

/// Whether a target leads to a `[[model]]` of this name, by way of so many others at most.
fn leads_to(target: &str, name: &str, models: &[RawAlias], most: usize) -> bool {
    let behind = || models.iter().filter(|model| model.name.value == target).flat_map(|model| &model.targets);
    target == name || (most > 0 && behind().any(|target| leads_to(&target.value, name, models, most - 1)))
}
