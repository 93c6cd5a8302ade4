//! The plan of a request: every target that may serve it, in the order in which they are tried.
//!
//! What the request names replaces what is configured. The legs are: the model asked for; the fallbacks (of the request, else of the
//! `[[model]]`, else of `[routing]`); and, when the providers in use were named (`GATEWAY_PROVIDERS`) and no fallback was, the catalog's
//! equivalent at each of the others. [`super::fit`] says which of these targets cannot serve and what is known of each, `routing::plan`
//! puts them in order, and the [`Decision`] keeps all of it for `orbyt explain`.

use super::core::Core;
use super::error::{ApiError, Reason};
use super::fit::{Fit, named};
use super::names::{Meaning, Names, Target};
use crate::config::scopes::KeyScopes;
use crate::config::snapshot::{Provider, Snapshot, Sticky};
use crate::dialect::extensions::{Extensions, ProviderChoice, Sort};
use crate::dialect::openai_chat::envelope::Envelope;
use crate::dialect::work::Work;
use crate::domain::decision::{Candidate, Refusal, Rules};
use crate::domain::{Decision, Strategy};
use crate::provider::Status;
use crate::routing::plan::order;
use crate::routing::seed::{bytes_hash, text_hash};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many targets a request for `auto` may try: an outage must not walk through the whole catalog.
const AUTO_TARGETS: u16 = 6;

/// How many refused targets a decision keeps; `auto` looks at the whole catalog.
const REFUSED_KEPT: usize = 32;

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
    /// What the request names and cannot be used here, by its place in the request: a model or fallbacks that no configured provider has,
    /// providers that there are not, keys that are for none of the targets.
    pub(super) unusable: Vec<String>,
    /// The strategy that ordered them.
    pub(super) strategy: Strategy,
    /// How they came into their order; moved into the record when the plan is made.
    pub(super) decision: Option<Box<Decision>>,
    /// The targets of the first leg are not all of one model: `auto`, a `[[model]]` of several, equivalents that share the traffic.
    mixed: bool,
    /// Retries of one target.
    pub(super) retry_max: u32,
    /// How long the request may take in all.
    pub(super) total: Duration,
    /// Refuse with a 400 instead of dropping a parameter.
    pub(super) require_parameters: bool,
}

/// A plan that leaves nothing to try: what the client is told, and why each target was refused.
#[derive(Debug)]
pub(super) struct NoPlan {
    pub(super) error: ApiError,
    pub(super) decision: Option<Box<Decision>>,
}

impl From<ApiError> for NoPlan {
    fn from(error: ApiError) -> Self {
        Self { error, decision: None }
    }
}

impl Plan {
    /// Makes the plan of a request. `seed` decides whatever is left to chance. `auto` chooses among what the `scopes` of the key allow; a
    /// model that was asked for by its name is held to them afterwards, so that the refusal can name it.
    ///
    /// # Errors
    /// 404 when nothing is meant by the model's name, 400 when the request contradicts itself or no target can serve it.
    pub(super) fn new(
        core: &Core,
        snapshot: &Snapshot,
        envelope: &Envelope,
        scopes: Option<&KeyScopes>,
        seed: u64,
    ) -> Result<Self, NoPlan> {
        let discovered = core.discovered.load();
        let names = Names { snapshot, discovered: &discovered };
        let planner = Planner { snapshot, names, wishes: &envelope.extensions, work: envelope.work };
        let (meaning, absent) = planner.meaning(&envelope.model)?;
        if meaning.auto && envelope.work != Work::Converse {
            let message = "auto chooses among models for conversations: name the model";
            return Err(ApiError::new(Reason::InvalidRequest, message).param("model").into());
        }
        let (strategy, lock) = planner.strategy(&meaning)?;
        let (mut legs, dropped) = planner.legs(&meaning, strategy)?;
        let mut unusable: Vec<String> = absent.iter().map(|_| "model".to_owned()).chain(dropped).collect();
        if let Some(provider) = &lock {
            planner.lock(&mut legs, provider);
        }
        if let Some(scopes) = scopes.filter(|_| meaning.auto) {
            keep_to_scopes(&mut legs[0], scopes);
        }
        unusable.extend(planner.unknown_providers());
        let preferences = &envelope.extensions.preferences;
        let mut rules = Rules {
            strategy,
            seed,
            affinity: planner.affinity(envelope),
            across_models: preferences.across_models,
            limit: None,
        };
        let fit = Fit::new(core, snapshot, envelope, Instant::now());
        let mixed = legs.first().is_some_and(|leg| leg.windows(2).any(|two| two[0].name() != two[1].name()));
        let (targets, decision) = choose(&fit, &mut rules, legs, meaning.auto)?;
        let free = planner.converses() && lock.is_none() && preferences.allow_fallbacks != Some(false);
        let successors = if free { planner.successors(&meaning, &fit) } else { Vec::new() };
        Ok(Self {
            targets,
            successors,
            byok_provider: match (&lock, absent) {
                (Some(locked), _) => locked.id.clone(),
                // The key is for the provider that is not there, and not for the one that stands in for it.
                (None, Some(absent)) => absent,
                (None, None) => meaning.targets[0].provider.id.clone(),
            },
            asked: meaning.name(),
            unusable,
            mixed,
            strategy,
            decision: Some(Box::new(decision)),
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

    /// Where the next model is.
    pub(super) fn next_model(&self, at: usize) -> Option<usize> {
        let is_mixed =
            self.mixed && self.targets.get(at).is_some_and(|(leg, _)| *leg == 0) && self.has_next_provider(at);
        if is_mixed { Some(at + 1) } else { self.next_leg(at) }
    }

    /// Where the next leg begins.
    fn next_leg(&self, at: usize) -> Option<usize> {
        let leg = self.targets.get(at)?.0;
        (at + 1..self.targets.len()).find(|next| self.targets[*next].0 != leg)
    }
}

/// Leaves to `auto` what the key may use, before the best are chosen; all of it where it may use none, so that it is told what it may.
fn keep_to_scopes(leg: &mut Vec<Target>, scopes: &KeyScopes) {
    let is_allowed = |target: &Target| {
        scopes.allows_provider(&target.provider) && scopes.allows_model(&target.provider, &target.model)
    };
    if leg.iter().any(is_allowed) {
        leg.retain(is_allowed);
    }
}

/// Puts the targets of all legs in order, those left out that cannot or may not serve.
fn choose(
    fit: &Fit<'_>,
    rules: &mut Rules,
    legs: Vec<Vec<Target>>,
    auto: bool,
) -> Result<(Vec<(usize, Target)>, Decision), NoPlan> {
    let count = legs.iter().map(Vec::len).sum();
    let (mut targets, mut candidates): (Vec<Target>, Vec<Candidate>) =
        (Vec::with_capacity(count), Vec::with_capacity(count));
    for (leg, of_leg) in (0u16..).zip(legs) {
        for target in of_leg {
            let known = |c: &Candidate| {
                let is_same = c.provider == target.provider.id && c.model == target.model.upstream;
                is_same && c.refusal != Some(Refusal::BeyondAuto)
            };
            if !candidates.iter().any(known) {
                candidates.push(fit.candidate(&target, leg));
                targets.push(target);
            }
        }
        // Cut before the fallbacks come, so that none of those is lost as a double of what is cut.
        if leg == 0 && auto {
            // What cannot take the prompt takes no place among the best.
            fit.refuse_long_prompts(&targets, &mut candidates);
            cut_auto(rules, &mut targets, &mut candidates);
        }
    }
    fit.refuse_long_prompts(&targets, &mut candidates);
    rules.limit = fit.limit();
    let order = order(rules, &candidates);
    let plan = order
        .iter()
        .map(|place| usize::from(*place))
        .map(|place| (usize::from(candidates[place].leg), targets[place].clone()));
    let plan: Vec<(usize, Target)> = plan.collect();
    let mut decision = Decision {
        rules: *rules,
        input_tokens: fit.input_tokens(),
        output_tokens: fit.output_tokens(),
        candidates,
        order,
        omitted: 0,
    };
    if plan.is_empty() {
        let error = nothing_left(&decision);
        let error = if fit.lacks_prompt() { fit.without_prompt(error) } else { error };
        return Err(NoPlan { error, decision: Some(Box::new(decision)) });
    }
    if decision.candidates.len() > decision.order.len() + REFUSED_KEPT {
        forget_most_refused(&mut decision);
    }
    Ok((plan, decision))
}

/// Leaves the best of the capable models to `auto`. What is cut is refused, not forgotten.
fn cut_auto(rules: &Rules, targets: &mut Vec<Target>, candidates: &mut Vec<Candidate>) {
    let best = order(&Rules { limit: Some(AUTO_TARGETS), ..*rules }, candidates);
    let (mut places, mut rest) = (best.clone(), Vec::new());
    for (place, candidate) in (0u16..).zip(candidates.iter_mut()) {
        if !best.contains(&place) {
            candidate.refusal = candidate.refusal.or(Some(Refusal::BeyondAuto));
            rest.push(place);
        }
    }
    // What stays keeps the order of the configuration, by which ties are decided.
    places.sort_unstable();
    places.extend(rest);
    *targets = places.iter().map(|place| targets[usize::from(*place)].clone()).collect();
    *candidates = places.iter().map(|place| candidates[usize::from(*place)].clone()).collect();
}

/// Keeps the record of a request for `auto` small.
fn forget_most_refused(decision: &mut Decision) {
    let mut refused = 0;
    let kept: Vec<bool> = (decision.candidates.iter())
        .map(|candidate| {
            refused += usize::from(candidate.refusal.is_some());
            candidate.refusal.is_none() || refused <= REFUSED_KEPT
        })
        .collect();
    let place_of = |old: u16| kept[..usize::from(old)].iter().filter(|kept| **kept).count();
    let order = decision.order.iter().map(|old| u16::try_from(place_of(*old)).unwrap_or(u16::MAX)).collect();
    decision.order = order;
    decision.omitted = u32::try_from(kept.iter().filter(|kept| !**kept).count()).unwrap_or(u32::MAX);
    let mut kept = kept.into_iter();
    decision.candidates.retain(|_| kept.next().unwrap_or(true));
}

/// Says what is missing, and which target lacks it.
fn nothing_left(decision: &Decision) -> ApiError {
    let refused = || decision.candidates.iter().filter_map(|candidate| Some((candidate, candidate.refusal?)));
    let why = |(candidate, refusal): (&Candidate, Refusal)| {
        let model = candidate.model.chars().take(100).collect::<String>();
        format!("{}/{model} {refusal}", candidate.provider)
    };
    let shown: Vec<String> = refused().take(8).map(why).collect();
    let more = refused().count().saturating_sub(shown.len());
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    // What the client ruled out itself is the more useful thing to say.
    let first = refused().find(|(_, refusal)| !refusal.is_capability()).or_else(|| refused().next());
    let message = format!("no target is left: {}{more}", shown.join("; "));
    ApiError::new(Reason::InvalidRequest, message).param(first.map_or("model", |(_, refusal)| refusal.param()))
}

struct Planner<'a> {
    snapshot: &'a Snapshot,
    names: Names<'a>,
    wishes: &'a Extensions,
    work: Work,
}

impl Planner<'_> {
    /// Whether one model can stand in for another: vectors of two models have nothing to do with each other.
    fn converses(&self) -> bool {
        self.work == Work::Converse
    }

    /// What the request asks for; where the provider of its model is not configured, the first of its own fallbacks that is available,
    /// with the provider that is missing.
    fn meaning(&self, model: &str) -> Result<(Meaning, Option<Arc<str>>), ApiError> {
        let error = match self.names.resolve(model) {
            Ok(meaning) => return Ok((meaning, None)),
            Err(error) => error,
        };
        // A word that nobody knows is a mistake of the client's, and is not passed over.
        let absent = self.names.provider_of(model).map(|row| row.id.clone()).filter(|_| error.status == 404);
        let stand_in = |_: &Arc<str>| self.wished_fallbacks().iter().find_map(|name| self.stand_in(name, model));
        match absent.as_ref().and_then(stand_in) {
            Some(meaning) => Ok((meaning, absent)),
            None => Err(error),
        }
    }

    /// What a fallback means for a model whose provider is not configured.
    fn stand_in(&self, name: &str, model: &str) -> Option<Meaning> {
        let Some(provider) = self.snapshot.provider(name) else { return self.names.resolve(name).ok() };
        let catalog = &self.snapshot.catalog;
        let row = catalog.find(model).into_iter().find_map(|row| catalog.equivalent(row, &provider.id))?;
        let target = Target { provider: provider.clone(), model: row.clone() };
        Some(Meaning { targets: vec![target], alias: None, strategy: None, pinned: true, auto: false })
    }

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
            Some(Sort::Throughput) => Strategy::Throughput,
            Some(Sort::Latency) => Strategy::Latency,
            None => configured,
        };
        let word = match &self.wishes.provider {
            None => return Ok((sorted, None)),
            Some(ProviderChoice::By(strategy)) => return Ok((*strategy, None)),
            Some(ProviderChoice::Named(word)) => word,
        };
        match self.snapshot.provider(word) {
            Some(provider) => Ok((sorted, Some(provider.clone()))),
            None => {
                let ids: Vec<&str> = self.snapshot.providers.iter().map(|provider| &*provider.id).collect();
                let message = format!(
                    "extra.provider is {word:?}: it must be cheap, fast, reliable, another strategy or a configured provider ({})",
                    ids.join(", ")
                );
                Err(ApiError::new(Reason::InvalidRequest, message).param("extra.provider"))
            }
        }
    }

    /// The legs, and the fallbacks that are left out because nothing here is meant by them: the model asked for can still be served.
    fn legs(&self, meaning: &Meaning, strategy: Strategy) -> Result<(Vec<Vec<Target>>, Vec<String>), ApiError> {
        let mut unusable = Vec::new();
        let mut legs = vec![meaning.targets.clone()];
        let (fallbacks, asked) = self.fallbacks(meaning);
        for (place, name) in fallbacks.iter().enumerate() {
            match self.fallback(name, &meaning.targets[0]) {
                Ok(targets) => legs.push(targets),
                // A preset is a mistake of another kind: it is known, and would be a whole request.
                Err(error) if asked && name.contains("@preset/") => return Err(error.param("extra.fallback_models")),
                Err(_) if asked => unusable.push(format!("fallback_models[{place}]")),
                // `orbyt check` has warned of it; a request does not fail for a fallback that it did not ask for.
                Err(_) => {}
            }
        }
        if legs.len() == 1 && !asked {
            self.add_equivalents(&mut legs, meaning, strategy);
        }
        Ok((legs, unusable))
    }

    /// The fallbacks that the request itself names.
    fn wished_fallbacks(&self) -> &[String] {
        let lists = [&self.wishes.fallback_models, &self.wishes.models];
        lists.into_iter().find(|models| !models.is_empty()).map_or(&[], |models| models.as_slice())
    }

    /// The fallbacks that apply, and whether the request itself named them.
    fn fallbacks<'a>(&'a self, meaning: &'a Meaning) -> (&'a [String], bool) {
        match self.wished_fallbacks() {
            [] => {}
            wished => return (wished, true),
        }
        let first = &meaning.targets[0];
        // The rows of `[[provider.model]]` are the operator's own; those of the catalog only say what succeeds a retired model.
        let own = || first.provider.models.iter().find(|row| Arc::ptr_eq(row, &first.model));
        let general: &[String] = if self.converses() { &self.snapshot.routing.fallbacks } else { &[] };
        let configured = match &meaning.alias {
            Some(alias) => alias.fallbacks.as_slice(),
            None => own().map_or(general, |row| &row.fallbacks),
        };
        (if configured.is_empty() { general } else { configured }, false)
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

    fn successors(&self, meaning: &Meaning, fit: &Fit<'_>) -> Vec<Target> {
        let row = &meaning.targets[0].model;
        if row.status != Status::Deprecated {
            return Vec::new();
        }
        let found = row.fallbacks.iter().filter_map(|id| self.names.resolve(id).ok());
        // What the request rules out stays ruled out.
        found.flat_map(|found| found.targets).filter(|target| fit.refusal(target).is_none()).collect()
    }

    /// What requests that belong together have in common, when they are to keep to one target.
    fn affinity(&self, envelope: &Envelope) -> Option<u64> {
        let session = || self.wishes.session_id.as_deref().map(text_hash);
        match self.snapshot.routing.sticky {
            Sticky::Off => None,
            Sticky::Session => session(),
            Sticky::Prefix => session().or_else(|| self.converses().then(|| bytes_hash(envelope.beginning()))),
        }
    }

    /// The providers of the request's preferences that are not configured, by their places: a misspelt one must not look like one that
    /// had an effect. (`only` is not among them: with a name that leads nowhere nothing is left, which is told.)
    fn unknown_providers(&self) -> impl Iterator<Item = String> {
        let preferences = &self.wishes.preferences;
        [("order", &preferences.order), ("ignore", &preferences.ignore)].into_iter().flat_map(move |(list, names)| {
            let unknown = names.iter().enumerate().filter(|(_, name)| named(self.snapshot, name).is_none());
            unknown.map(move |(place, _)| format!("provider.{list}[{place}]"))
        })
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
}

#[cfg(test)]
mod tests;
