//! The plan of a request: every target that may serve it, in the order in which they are tried.
//!
//! What the request names replaces what is configured. The legs are: the model asked for; the fallbacks (of the request, else of the
//! `[[model]]`, else of `[routing]`); and, when the providers in use were named (`GATEWAY_PROVIDERS`) and no fallback was, the catalog's
//! equivalent at each of the others.

use super::core::Core;
use super::error::{ApiError, Reason};
use super::names::{Meaning, Names, Target};
use crate::config::snapshot::{Provider, Snapshot};
use crate::dialect::extensions::{Extensions, ProviderChoice, Sort};
use crate::dialect::openai_chat::envelope::{Envelope, Needs};
use crate::domain::{Money, Strategy};
use crate::provider::Status;
use crate::routing::plan::{Candidate, Facts, order};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is assumed of the output when the request does not bound it, for the estimate of its price alone.
const ASSUMED_OUTPUT_TOKENS: u64 = 1000;

/// How many targets a request for `auto` may try: an outage must not walk through the whole catalog.
const AUTO_TARGETS: usize = 6;
/// `provider.max_price` is quoted per so many tokens.
const TOKENS_PER_QUOTE: u64 = 1_000_000;

/// The targets of a request and the rules for trying them.
#[derive(Debug)]
pub(super) struct Plan {
    /// Targets with the leg that each belongs to, in order.
    pub(super) targets: Vec<(usize, Target)>,
    /// What the catalog has in the place of a model that its maker has switched off; tried only when the maker says so and the request
    /// leaves no other way.
    pub(super) successors: Vec<Target>,
    /// The provider that a single key of the client's own is meant for: that of the model asked for, whatever is tried first.
    pub(super) byok_provider: Arc<str>,
    /// The model that was asked for, whatever serves in the end and whichever of its names was used: a name of `[[model]]`, `auto`, or
    /// `provider/model`.
    pub(super) asked: Arc<str>,
    /// Fallbacks that the request names and that no configured provider has, by their place in the request.
    pub(super) unusable: Vec<String>,
    /// The strategy that ordered them.
    pub(super) strategy: Strategy,
    /// Retries of one target.
    pub(super) retry_max: u32,
    /// How long the request may take in all.
    pub(super) total: Duration,
    /// Refuse with a 400 instead of dropping a parameter.
    pub(super) require_parameters: bool,
}

impl Plan {
    /// Makes the plan of a request.
    ///
    /// # Errors
    /// 404 when nothing is meant by the model's name, 400 when the request contradicts itself.
    pub(super) fn new(core: &Core, snapshot: &Snapshot, envelope: &Envelope) -> Result<Self, ApiError> {
        let discovered = core.discovered.load();
        let names = Names { snapshot, discovered: &discovered };
        let planner = Planner { snapshot, names, wishes: &envelope.extensions, needs: envelope.needs };
        let meaning = planner.names.resolve(&envelope.model)?;
        let (strategy, lock) = planner.strategy(&meaning)?;
        let (mut legs, unusable) = planner.legs(&meaning, strategy)?;
        if let Some(provider) = &lock {
            planner.lock(&mut legs, provider);
        }
        planner.narrow(&mut legs)?;
        let mut candidates: Vec<Candidate<Target>> = Vec::new();
        for (leg, targets) in legs.into_iter().enumerate() {
            for target in targets {
                let known = |c: &Candidate<Target>| {
                    c.target.provider.id == target.provider.id && c.target.model.upstream == target.model.upstream
                };
                if !candidates.iter().any(known) {
                    let facts = facts(core, &target, envelope);
                    candidates.push(Candidate { target, leg, facts });
                }
            }
            // Cut before the fallbacks come, so that none of those is lost as a double of what is cut.
            if leg == 0 && meaning.auto {
                order(strategy, &mut candidates, fastrand::f64);
                candidates.truncate(AUTO_TARGETS);
            }
        }
        if candidates.len() > 1 {
            order(strategy, &mut candidates, fastrand::f64);
        }
        let targets: Vec<(usize, Target)> = candidates.into_iter().map(|c| (c.leg, c.target)).collect();
        let preferences = &envelope.extensions.preferences;
        let free = lock.is_none() && preferences.allow_fallbacks != Some(false);
        Ok(Self {
            successors: if free { planner.successors(&meaning) } else { Vec::new() },
            targets: if preferences.allow_fallbacks == Some(false) {
                targets.into_iter().take(1).collect()
            } else {
                targets
            },
            byok_provider: lock.as_ref().map_or(&meaning.targets[0].provider, |locked| locked).id.clone(),
            asked: meaning.name(),
            unusable,
            strategy,
            retry_max: envelope.extensions.retry.unwrap_or(snapshot.retry.max),
            total: envelope.extensions.timeout.unwrap_or(snapshot.timeouts.total),
            require_parameters: preferences.require_parameters == Some(true),
        })
    }

    /// Adds the successors of a model that its maker no longer has, as further legs; false when there are none, or there were.
    pub(super) fn add_successors(&mut self) -> bool {
        let leg = self.targets.last().map_or(0, |(leg, _)| leg + 1);
        let successors = std::mem::take(&mut self.successors);
        let any = !successors.is_empty();
        self.targets.extend(successors.into_iter().enumerate().map(|(place, target)| (leg + place, target)));
        any
    }

    /// Whether another target of the same leg follows.
    pub(super) fn has_next_provider(&self, at: usize) -> bool {
        self.targets.get(at + 1).is_some_and(|(leg, _)| *leg == self.targets[at].0)
    }

    /// Where the next leg begins.
    pub(super) fn next_leg(&self, at: usize) -> Option<usize> {
        let leg = self.targets.get(at)?.0;
        (at + 1..self.targets.len()).find(|next| self.targets[*next].0 != leg)
    }
}

struct Planner<'a> {
    snapshot: &'a Snapshot,
    names: Names<'a>,
    wishes: &'a Extensions,
    needs: Needs,
}

impl Planner<'_> {
    /// The strategy, and the provider that the request is locked to.
    fn strategy(&self, meaning: &Meaning) -> Result<(Strategy, Option<Arc<Provider>>), ApiError> {
        // Among all models there is no order of preference, so the price decides.
        let unordered = meaning.auto && self.snapshot.routing.auto.is_empty();
        let configured = match meaning.strategy.unwrap_or(self.snapshot.routing.strategy) {
            Strategy::Order if unordered => Strategy::Cheap,
            strategy => strategy,
        };
        let sorted = match self.wishes.preferences.sort {
            Some(Sort::Price) => Strategy::Cheap,
            Some(Sort::Throughput | Sort::Latency) => Strategy::Fast,
            // An order that the request gives itself is not sorted again.
            None if !self.wishes.preferences.order.is_empty() => Strategy::Order,
            None => configured,
        };
        let word = match &self.wishes.provider {
            None => return Ok((sorted, None)),
            Some(ProviderChoice::Cheap) => return Ok((Strategy::Cheap, None)),
            Some(ProviderChoice::Fast) => return Ok((Strategy::Fast, None)),
            Some(ProviderChoice::Reliable) => return Ok((Strategy::Reliable, None)),
            Some(ProviderChoice::Named(word)) => word,
        };
        match self.snapshot.provider(word) {
            Some(provider) => Ok((sorted, Some(provider.clone()))),
            None => {
                let ids: Vec<&str> = self.snapshot.providers.iter().map(|provider| &*provider.id).collect();
                let message = format!(
                    "extra.provider is {word:?}: it must be cheap, fast, reliable or a configured provider ({})",
                    ids.join(", ")
                );
                Err(ApiError::new(Reason::InvalidRequest, message).param("extra.provider"))
            }
        }
    }

    /// The legs, and the fallbacks that are left out because their provider is not configured: the model asked for can still be served.
    fn legs(&self, meaning: &Meaning, strategy: Strategy) -> Result<(Vec<Vec<Target>>, Vec<String>), ApiError> {
        let mut unusable = Vec::new();
        let mut legs = vec![meaning.targets.clone()];
        if meaning.auto {
            legs[0].retain(|target| self.is_capable(target));
        }
        let (fallbacks, asked) = self.fallbacks(meaning);
        for (place, name) in fallbacks.iter().enumerate() {
            match self.fallback(name, &meaning.targets[0]) {
                Ok(targets) => legs.push(targets),
                Err(_) if asked && self.names.is_known(name) => unusable.push(format!("fallback_models[{place}]")),
                Err(error) if asked => return Err(error.param("extra.fallback_models")),
                // `orbyt check` has warned of it; a request does not fail for a fallback that it did not ask for.
                Err(_) => {}
            }
        }
        if legs.len() == 1 && !asked {
            self.add_equivalents(&mut legs, meaning, strategy);
        }
        Ok((legs, unusable))
    }

    /// The fallbacks that apply, and whether the request itself named them.
    fn fallbacks<'a>(&'a self, meaning: &'a Meaning) -> (&'a [String], bool) {
        for models in [&self.wishes.fallback_models, &self.wishes.models] {
            if !models.is_empty() {
                return (models, true);
            }
        }
        let first = &meaning.targets[0];
        // The rows of `[[provider.model]]` are the operator's own; those of the catalog only say what succeeds a retired model.
        let own = || first.provider.models.iter().find(|row| Arc::ptr_eq(row, &first.model));
        let configured = match &meaning.alias {
            Some(alias) => &alias.fallbacks,
            None => own().map_or(&self.snapshot.routing.fallbacks, |row| &row.fallbacks),
        };
        (if configured.is_empty() { &self.snapshot.routing.fallbacks } else { configured }, false)
    }

    /// Whether a model can take the request at all, as far as the catalog knows.
    fn is_capable(&self, target: &Target) -> bool {
        let (needs, can) = (&self.needs, &target.model.capabilities);
        [
            (needs.tools, can.tools),
            (needs.structured_output, can.structured_output || can.json_mode),
            (needs.images, can.vision),
            (needs.files, can.pdf),
            (needs.audio, can.audio_input),
            (needs.video, can.video_input),
        ]
        .into_iter()
        .all(|(needed, can)| !needed || can)
    }

    /// A fallback is a model, or a provider for the same model there.
    fn fallback(&self, name: &str, primary: &Target) -> Result<Vec<Target>, ApiError> {
        match self.snapshot.provider(name) {
            Some(provider) => Ok(vec![self.names.elsewhere(primary, provider)]),
            None => Ok(self.names.resolve(name)?.targets),
        }
    }

    /// With the providers in use named, the catalog's equivalents at the others stand in. Under weights they share the traffic of a
    /// model that was asked for by its bare name; otherwise they follow in order.
    fn add_equivalents(&self, legs: &mut Vec<Vec<Target>>, meaning: &Meaning, strategy: Strategy) {
        let Some(ids) = &self.snapshot.routing.providers else { return };
        let primary = &meaning.targets[0];
        for provider in ids.iter().filter_map(|id| self.snapshot.provider(id)) {
            if legs[0].iter().any(|target| target.provider.id == provider.id) {
                continue;
            }
            let Some(row) = self.snapshot.catalog.equivalent(&primary.model, &provider.id) else { continue };
            let target = Target { provider: provider.clone(), model: row.clone() };
            if strategy == Strategy::Weighted && !meaning.pinned {
                legs[0].push(target);
            } else {
                legs.push(vec![target]);
            }
        }
    }

    fn successors(&self, meaning: &Meaning) -> Vec<Target> {
        let row = &meaning.targets[0].model;
        if row.status != Status::Deprecated {
            return Vec::new();
        }
        let found = row.fallbacks.iter().filter_map(|id| self.names.resolve(id).ok());
        let mut leg = [found.flat_map(|found| found.targets).collect()];
        // What the request rules out stays ruled out.
        let _ = self.narrow(&mut leg);
        let [successors] = leg;
        successors
    }

    /// Keeps every leg at one provider; a leg without it asks for the same model there.
    fn lock(&self, legs: &mut [Vec<Target>], provider: &Arc<Provider>) {
        for leg in legs {
            match leg.iter().position(|target| target.provider.id == provider.id) {
                Some(_) => leg.retain(|target| target.provider.id == provider.id),
                None => *leg = leg.first().map(|first| self.names.elsewhere(first, provider)).into_iter().collect(),
            }
        }
    }

    /// Applies OpenRouter's `only`, `ignore`, `order` and `max_price`.
    fn narrow(&self, legs: &mut [Vec<Target>]) -> Result<(), ApiError> {
        let preferences = &self.wishes.preferences;
        let id = |name: &String| self.snapshot.provider(name).map(|provider| provider.id.clone());
        let ids = |names: &[String]| names.iter().filter_map(id).collect::<Vec<_>>();
        let (only, ignore, first) = (ids(&preferences.only), ids(&preferences.ignore), ids(&preferences.order));
        for leg in legs.iter_mut() {
            leg.retain(|target| {
                let wanted = preferences.only.is_empty() || only.contains(&target.provider.id);
                wanted && !ignore.contains(&target.provider.id) && self.affordable(target)
            });
            leg.sort_by_key(|target| first.iter().position(|id| *id == target.provider.id).unwrap_or(usize::MAX));
        }
        if legs.iter().all(Vec::is_empty) {
            let message =
                "no target is left: provider.only, provider.ignore or provider.max_price leaves every one out";
            return Err(ApiError::new(Reason::InvalidRequest, message).param("provider"));
        }
        Ok(())
    }

    /// Whether a target's prices are known to be within `provider.max_price`.
    fn affordable(&self, target: &Target) -> bool {
        let (most, prices) = (&self.wishes.preferences.max_price, &target.model.prices);
        let within = |price: Option<Money>, most: Option<Money>| {
            most.is_none_or(|most| price.is_some_and(|token| token * TOKENS_PER_QUOTE <= most))
        };
        // What has no price of its own per request or picture costs nothing more.
        let fee = |price: Option<Money>, most: Option<Money>| most.is_none_or(|most| price.unwrap_or_default() <= most);
        within(prices.input, most.prompt)
            && within(prices.output, most.completion)
            && fee(prices.request, most.request)
            && fee(prices.image, most.image)
    }
}

fn facts(core: &Core, target: &Target, envelope: &Envelope) -> Facts {
    let health = core.targets.health(&target.provider.id, &target.model.upstream);
    let output = envelope.max_tokens.unwrap_or(ASSUMED_OUTPUT_TOKENS);
    Facts {
        price: target.model.prices.estimate(envelope.estimated_input_tokens, output),
        first_output_ms: health.first_output_ms(),
        success_rate: health.at(Instant::now()).success_rate(),
        weight: target.provider.weight.unwrap_or(1),
    }
}

#[cfg(test)]
mod tests;
