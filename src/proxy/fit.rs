//! Whether a target can and may serve a request, and what a strategy looks at when it may.
//!
//! A target is refused only for what must fail: for what the catalog says of a model that it knows. Models that it does not know, and
//! those that the operator wrote down (`[[provider.model]]`), are presumed capable.

use super::core::{Core, breaker_policy};
use super::error::ApiError;
use super::names::Target;
use crate::config::snapshot::{Provider, Snapshot};
use crate::dialect::client::Client;
use crate::dialect::extensions::{MaxPrice, ProviderPreferences};
use crate::dialect::openai_chat::envelope::{Envelope, Needs};
use crate::dialect::work::Work;
use crate::domain::Money;
use crate::domain::decision::{Candidate, Facts, Parameter, Refusal};
use crate::provider::Capabilities;
use crate::routing::health::Health;
use crate::routing::plan::measured;
use crate::store::ports::live::Ask;
use std::cell::OnceCell;
use std::sync::Arc;
use std::time::Instant;

/// What is assumed of the output when the request does not bound it, for the estimate of its price alone.
const ASSUMED_OUTPUT_TOKENS: u64 = 1000;
/// `provider.max_price` is quoted per so many tokens.
const TOKENS_PER_QUOTE: u64 = 1_000_000;
/// The estimate of the input may be so many times too high: text in which every character is escaped has six bytes for each.
const ESTIMATE_ERROR: u64 = 2;

/// Looks at targets with one request in mind.
pub(super) struct Fit<'a> {
    core: &'a Core,
    snapshot: &'a Snapshot,
    envelope: &'a Envelope,
    now: Instant,
    /// The providers of the preferences, by their ids.
    only: Vec<Arc<str>>,
    ignore: Vec<Arc<str>>,
    first: Vec<Arc<str>>,
    /// The media of the request, looked up once, when a target lacks what it seems to need.
    confirmed: OnceCell<Needs>,
}

impl<'a> Fit<'a> {
    pub(super) fn new(core: &'a Core, snapshot: &'a Snapshot, envelope: &'a Envelope, now: Instant) -> Self {
        let preferences = &envelope.extensions.preferences;
        let id = |name: &String| named(snapshot, name).map(|provider| provider.id.clone());
        let ids = |names: &[String]| names.iter().filter_map(id).collect();
        Self {
            core,
            snapshot,
            envelope,
            now,
            only: ids(&preferences.only),
            ignore: ids(&preferences.ignore),
            first: ids(&preferences.order),
            confirmed: OnceCell::new(),
        }
    }

    /// A target as a candidate of the plan.
    pub(super) fn candidate(&self, target: &Target, leg: u16) -> Candidate {
        Candidate {
            provider: target.provider.id.clone(),
            model: target.model.upstream.clone(),
            leg,
            refusal: self.refusal(target),
            facts: self.facts(target),
        }
    }

    /// How many targets may be tried: with `allow_fallbacks: false` and no `order` only the first.
    pub(super) fn limit(&self) -> Option<u16> {
        let alone = self.preferences().allow_fallbacks == Some(false) && self.preferences().order.is_empty();
        alone.then_some(1)
    }

    /// Tokens of input, estimated.
    pub(super) fn input_tokens(&self) -> u64 {
        self.envelope.estimated_input_tokens
    }

    /// Tokens of output that the estimate of a price is for.
    pub(super) fn output_tokens(&self) -> u64 {
        self.envelope.max_tokens.unwrap_or(ASSUMED_OUTPUT_TOKENS).saturating_mul(self.choices())
    }

    fn choices(&self) -> u64 {
        self.envelope.n.unwrap_or(1).max(1)
    }

    /// Why the target must not or cannot serve, but for the length of the prompt, which only the whole plan decides.
    pub(super) fn refusal(&self, target: &Target) -> Option<Refusal> {
        let (preferences, id) = (self.preferences(), &target.provider.id);
        if self.ignore.contains(id) {
            return Some(Refusal::Ignored);
        }
        if !preferences.only.is_empty() && !self.only.contains(id) {
            return Some(Refusal::NotAllowed);
        }
        if preferences.allow_fallbacks == Some(false) && !preferences.order.is_empty() && !self.first.contains(id) {
            return Some(Refusal::NotInOrder);
        }
        if preferences.max_price != MaxPrice::default() && !self.is_affordable(target) {
            return Some(Refusal::TooDear);
        }
        if let Some(refusal) = self.wrong_work(target) {
            return Some(refusal);
        }
        // Whatever is presumed of a model: what has no word in a chat cannot be said to one.
        if let Some(parameter) = self.beyond_chat(target) {
            return Some(Refusal::NoParameter(parameter));
        }
        let missing = lack(&self.envelope.needs, &target.model.capabilities).or_else(|| self.parameter(target))?;
        if self.is_presumed_capable(target) {
            return None;
        }
        match missing {
            Refusal::NoParameter(_) => Some(missing),
            _ => {
                let needs = self.confirmed.get_or_init(|| self.envelope.confirmed_needs());
                lack(needs, &target.model.capabilities).or_else(|| self.parameter(target))
            }
        }
    }

    /// Why the target does something else than what is asked for.
    fn wrong_work(&self, target: &Target) -> Option<Refusal> {
        let (work, provider) = (self.envelope.work, &target.provider);
        let (has_way, refusal) = match work {
            Work::Converse => (true, Refusal::NoConversation),
            Work::Embed => (provider.embedding_form(&target.model).is_some(), Refusal::NoEmbeddings),
            Work::Relay(endpoint) => (endpoint.path_at(target.dialect()).is_some(), Refusal::NoRoute),
        };
        let can = has_way && (target.model.class.does(work) || self.is_presumed_capable(target));
        (!can).then_some(refusal)
    }

    /// What of a text completion has no word in a chat, and is not honoured by the target's route of text completions if it has one.
    fn beyond_chat(&self, target: &Target) -> Option<Parameter> {
        let (asked, lacks) = (&self.envelope.beyond_chat, &target.provider.row.completions_lacks);
        let first = *asked.first()?;
        if !target.speaks(self.envelope.client, &self.snapshot.catalog) {
            return Some(first);
        }
        asked.iter().copied().find(|parameter| lacks.contains(parameter))
    }

    /// Whether this is a text completion without a prompt.
    pub(super) fn lacks_prompt(&self) -> bool {
        self.envelope.client == Client::OpenAiCompletions && !self.envelope.has("prompt")
    }

    /// The error where no target makes up a document out of nothing.
    pub(super) fn without_prompt(&self, error: ApiError) -> ApiError {
        let message = format!("you must provide a prompt: {}", error.message);
        error.message(message).param("prompt")
    }

    /// Refuses targets whose context the prompt does not fit into: those that it cannot fit into for certain, and those that it does not
    /// fit into by the estimate when it fits elsewhere.
    pub(super) fn refuse_long_prompts(&self, targets: &[Target], candidates: &mut [Candidate]) {
        // Of other works the context is that of one input among many.
        if self.envelope.work != Work::Converse {
            return;
        }
        let tokens = self.envelope.estimated_input_tokens;
        let context = |target: &Target| target.model.context.filter(|context| *context < tokens);
        if targets.iter().all(|target| context(target).is_none()) {
            return;
        }
        let fits_elsewhere =
            (targets.iter().zip(&*candidates)).any(|(target, one)| one.refusal.is_none() && context(target).is_none());
        for (target, candidate) in targets.iter().zip(candidates) {
            let Some(context) = context(target).filter(|_| candidate.refusal.is_none()) else { continue };
            let is_certain = tokens / ESTIMATE_ERROR > context;
            if (is_certain || fits_elsewhere) && !self.is_presumed_capable(target) {
                candidate.refusal = Some(Refusal::ContextTooShort { context });
            }
        }
    }

    fn preferences(&self) -> &ProviderPreferences {
        &self.envelope.extensions.preferences
    }

    /// Whether the catalog's word does not bind: it does not know the model, or the operator has written it down.
    fn is_presumed_capable(&self, target: &Target) -> bool {
        let is_operators = target.provider.models.iter().any(|row| Arc::ptr_eq(row, &target.model));
        is_operators || self.snapshot.catalog.model_at(&target.provider.id, &target.model.upstream).is_none()
    }

    /// A parameter that a translation would drop, or the provider refuse, when the request wants every one honoured.
    fn parameter(&self, target: &Target) -> Option<Refusal> {
        if self.preferences().require_parameters != Some(true) {
            return None;
        }
        let (row, has) = (&target.model, |name| self.envelope.has(name));
        [
            (Parameter::Temperature, !row.sampling && has("temperature")),
            (Parameter::TopP, !row.sampling && has("top_p")),
            (Parameter::Reasoning, !row.capabilities.reasoning && (has("reasoning") || has("reasoning_effort"))),
        ]
        .into_iter()
        .find_map(|(parameter, is_lost)| is_lost.then_some(Refusal::NoParameter(parameter)))
    }

    /// Whether a target's prices are known to be within `provider.max_price`.
    fn is_affordable(&self, target: &Target) -> bool {
        let (most, prices) = (&self.preferences().max_price, &target.model.prices);
        let within = |price: Option<Money>, most: Option<Money>| {
            most.is_none_or(|most| price.is_some_and(|token| token * TOKENS_PER_QUOTE <= most))
        };
        // What has no price of its own per request or picture costs nothing more.
        let fee = |price: Option<Money>, most: Option<Money>| most.is_none_or(|most| price.unwrap_or_default() <= most);
        within(prices.input, most.prompt)
            && within(prices.output, most.completion)
            && within(prices.audio_input.or(prices.input), most.audio)
            && fee(prices.request, most.request)
            && fee(prices.image, most.image)
    }

    fn facts(&self, target: &Target) -> Facts {
        let (provider, model) = (&target.provider, &target.model);
        let health = self.core.targets.health(&provider.id, &model.upstream).at(self.now);
        let gate = self.core.targets.peek(&provider.id, &model.upstream, breaker_policy(self.snapshot), self.now);
        let most = model.max_output.unwrap_or(u64::MAX).saturating_mul(self.choices());
        let output = self.output_tokens().min(most);
        let price = model.prices.estimate(self.envelope.estimated_input_tokens, output);
        Facts {
            price_picos: price.map(|price| u64::try_from(price.picos()).unwrap_or(u64::MAX)),
            room_percent: self.room_percent(target),
            weight: provider.weight.unwrap_or(1),
            rank: self
                .first
                .iter()
                .position(|id| *id == provider.id)
                .map_or(u16::MAX, |place| u16::try_from(place).unwrap_or(u16::MAX)),
            misses_preference: self.misses_preference(&health),
            ..measured(&health, gate)
        }
    }

    fn room_percent(&self, target: &Target) -> u8 {
        let provider = &target.provider;
        if provider.keys.is_empty() {
            return 100;
        }
        let tokens = target.tokens_wanted(self.envelope);
        let ask = Ask { provider: &provider.id, keys: &provider.keys, tried: &[], tokens };
        // The cast saturates.
        (self.core.pool.room(&ask, self.now) * 100.0).ceil() as u8
    }

    /// What was never measured misses nothing.
    fn misses_preference(&self, health: &Health) -> bool {
        let preferences = self.preferences();
        let late = preferences.preferred_max_latency.zip(health.first_output_ms());
        let slow = preferences.preferred_min_throughput.zip(health.tokens_per_second());
        late.is_some_and(|(most, ms)| ms > most * 1000.0) || slow.is_some_and(|(least, rate)| rate < least)
    }
}

/// The provider that a preference names; OpenRouter writes some with capital letters.
pub(super) fn named<'a>(snapshot: &'a Snapshot, name: &str) -> Option<&'a Arc<Provider>> {
    snapshot.provider(name).or_else(|| snapshot.provider(&name.to_lowercase()))
}

/// What a request needs and a model has not.
fn lack(needs: &Needs, can: &Capabilities) -> Option<Refusal> {
    let structured = can.structured_output || (can.json_mode && !needs.json_schema);
    [
        (needs.tools && !can.tools, Refusal::NoTools),
        (needs.structured_output && !structured, Refusal::NoStructuredOutput),
        (needs.images && !can.vision, Refusal::NoVision),
        (needs.files && !can.pdf, Refusal::NoDocuments),
        (needs.audio && !can.audio_input, Refusal::NoAudio),
        (needs.video && !can.video_input, Refusal::NoVideo),
    ]
    .into_iter()
    .find_map(|(lacks, refusal)| lacks.then_some(refusal))
}
