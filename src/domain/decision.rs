//! How a plan came about: what was known of each target when the order was decided, and the order itself.
//!
//! Measured values are kept as whole numbers, so that the decision can be repeated from the record to the letter:
//! `routing::plan::order` over [`Decision::rules`] and [`Decision::candidates`] gives [`Decision::order`] again.

use super::{Money, Strategy};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// What the order was decided by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// The strategy.
    pub strategy: Strategy,
    /// The source of every draw; the same seed draws the same.
    pub seed: u64,
    /// The hash of the session or of the prompt's beginning, when requests that share it keep to one target.
    pub affinity: Option<u64>,
    /// Targets of all models are ordered together, not model by model.
    pub across_models: bool,
    /// So many targets are tried at most.
    pub limit: Option<u16>,
}

/// A target that was looked at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The provider's id.
    pub provider: Arc<str>,
    /// The model as the provider knows it.
    pub model: Arc<str>,
    /// Its leg: 0 for the model asked for, then the fallbacks in order.
    pub leg: u16,
    /// Why it is not tried at all; `None` for a target of the plan.
    pub refusal: Option<Refusal>,
    /// What was known of it.
    pub facts: Facts,
}

/// What a strategy looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The estimated price of this request in pico-dollars; `None` when the catalog has no price.
    pub price_picos: Option<u64>,
    /// Average time to first output in microseconds; `None` before the first one was measured.
    pub first_output_us: Option<u32>,
    /// Average thousandths of a token per second; `None` before the first were measured.
    pub rate_milli: Option<u32>,
    /// Recent attempts that succeeded, in millionths.
    pub success_ppm: u32,
    /// Whether it was ever tried.
    pub tried: bool,
    /// Its breaker.
    pub breaker: Breaker,
    /// The share of its limits that the best of its keys has left, in percent, rounded up: 0 when no key is ready, 100 where nothing is known
    /// or no key is needed.
    pub room_percent: u8,
    /// The configured weight.
    pub weight: u32,
    /// Its place in the request's `provider.order`; the largest number when it is not there.
    pub rank: u16,
    /// It is known to miss `provider.preferred_max_latency` or `preferred_min_throughput`.
    pub misses_preference: bool,
}

impl Facts {
    /// Of a target that nothing is known of.
    pub const UNKNOWN: Self = Self {
        price_picos: None,
        first_output_us: None,
        rate_milli: None,
        success_ppm: 1_000_000,
        tried: false,
        breaker: Breaker::Closed,
        room_percent: 100,
        weight: 1,
        rank: u16::MAX,
        misses_preference: false,
    };

    /// The estimated price of this request.
    pub fn price(&self) -> Option<Money> {
        self.price_picos.map(|picos| Money::from_picos(i128::from(picos)))
    }

    /// Whether it could have been asked at once: its breaker lets requests through and a key is ready.
    pub fn is_available(&self) -> bool {
        self.breaker != Breaker::Open && self.room_percent > 0
    }
}

/// What a target's breaker would have said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Breaker {
    /// Requests pass.
    Closed,
    /// The next request is the probe.
    Probe,
    /// No request passes.
    Open,
}

/// Why a target is not tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// It does not converse: it is there for something else.
    NoConversation,
    /// It makes no embeddings.
    NoEmbeddings,
    /// There is nothing like the request's route for it.
    NoRoute,
    /// It does not call functions.
    NoTools,
    /// It does not see pictures.
    NoVision,
    /// It does not read documents.
    NoDocuments,
    /// It does not hear.
    NoAudio,
    /// It does not watch.
    NoVideo,
    /// It does not answer in JSON, or not by a schema.
    NoStructuredOutput,
    /// The prompt is longer than its context.
    ContextTooShort {
        /// Its context in tokens.
        context: u64,
    },
    /// It does not honour a parameter that the request cannot do without: of a text completion, or because it says
    /// `provider.require_parameters`.
    NoParameter(Parameter),
    /// The request's `provider.only` leaves it out.
    NotAllowed,
    /// The request's `provider.ignore` names it.
    Ignored,
    /// The request's `provider.order` does not name it, and `allow_fallbacks` is false.
    NotInOrder,
    /// Its prices are above the request's `provider.max_price`, or not known.
    TooDear,
    /// `auto` tries so many targets at most, and others go before it.
    BeyondAuto,
    /// The key may not use it. It is taken out of a plan that is made.
    OutOfScope,
    /// The organisation's own key for it does not open. It is taken out of a plan that is made.
    SealedKey,
}

impl Refusal {
    /// Whether it has a place in the order all the same, because it is taken out only when that is made.
    pub fn is_afterwards(self) -> bool {
        matches!(self, Self::OutOfScope | Self::SealedKey)
    }
}

/// A parameter that some models do not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parameter {
    /// `temperature`.
    Temperature,
    /// `top_p`.
    TopP,
    /// `reasoning` or `reasoning_effort`.
    Reasoning,
    /// `prompt` of a text completion, when it is not one text.
    Prompt,
    /// `suffix` of a text completion.
    Suffix,
    /// `echo` of a text completion.
    Echo,
    /// `best_of` of a text completion.
    BestOf,
    /// `logprobs` of a text completion.
    Logprobs,
}

impl Parameter {
    /// Its name in a request.
    pub fn name(self) -> &'static str {
        match self {
            Self::Temperature => "temperature",
            Self::TopP => "top_p",
            Self::Reasoning => "reasoning",
            Self::Prompt => "prompt",
            Self::Suffix => "suffix",
            Self::Echo => "echo",
            Self::BestOf => "best_of",
            Self::Logprobs => "logprobs",
        }
    }
}

impl Refusal {
    /// Whether the target could not have served the request, rather than being ruled out by the client.
    pub fn is_capability(self) -> bool {
        !matches!(self, Self::NotAllowed | Self::Ignored | Self::NotInOrder | Self::TooDear | Self::BeyondAuto)
    }

    /// The member of the request that cannot be served.
    pub fn param(self) -> &'static str {
        match self {
            Self::NoConversation | Self::NoEmbeddings | Self::NoRoute => "model",
            Self::NoTools => "tools",
            Self::NoStructuredOutput => "response_format",
            Self::NoVision | Self::NoDocuments | Self::NoAudio | Self::NoVideo | Self::ContextTooShort { .. } => {
                "messages"
            }
            Self::NoParameter(parameter) => parameter.name(),
            _ => "provider",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoConversation => f.write_str("is no model for conversations"),
            Self::NoEmbeddings => f.write_str("makes no embeddings"),
            Self::NoRoute => f.write_str("has nothing behind this route"),
            Self::NoTools => f.write_str("does not call tools"),
            Self::NoVision => f.write_str("does not take pictures"),
            Self::NoDocuments => f.write_str("does not take documents"),
            Self::NoAudio => f.write_str("does not take audio"),
            Self::NoVideo => f.write_str("does not take video"),
            Self::NoStructuredOutput => f.write_str("does not give the JSON that response_format asks for"),
            Self::ContextTooShort { context } => write!(f, "takes {context} tokens, fewer than the prompt has"),
            Self::NoParameter(Parameter::Prompt) => f.write_str("takes one prompt, as a text"),
            Self::NoParameter(parameter) => write!(f, "does not honour {}", parameter.name()),
            Self::NotAllowed => f.write_str("is not in provider.only"),
            Self::Ignored => f.write_str("is in provider.ignore"),
            Self::NotInOrder => f.write_str("is not in provider.order"),
            Self::TooDear => f.write_str("is above provider.max_price, or its price is not known"),
            Self::BeyondAuto => f.write_str("comes after the most that auto tries"),
            Self::OutOfScope => f.write_str("is not for this key"),
            Self::SealedKey => f.write_str("has a key of the organisation's own that does not open"),
        }
    }
}

/// A plan with its inputs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// What the order was decided by.
    pub rules: Rules,
    /// Tokens of input, estimated from the bytes.
    pub input_tokens: u64,
    /// Tokens of output that the prices are for.
    pub output_tokens: u64,
    /// The targets that were looked at, in the order in which they are configured or named.
    pub candidates: Vec<Candidate>,
    /// The plan: places in `candidates`, the first to be tried first.
    pub order: Vec<u16>,
    /// Refused targets that were too many to keep.
    pub omitted: u32,
}

impl Decision {
    /// Says why targets of the plan are not tried that are not among these any more: provider, model and leg.
    pub fn take_out<'a>(&mut self, left: impl Iterator<Item = (&'a str, &'a str, usize)> + Clone, why: Refusal) {
        for planned in &self.order {
            let Some(candidate) = self.candidates.get_mut(usize::from(*planned)) else { continue };
            let place = (&*candidate.provider, &*candidate.model, usize::from(candidate.leg));
            if candidate.refusal.is_none() && !left.clone().any(|left| left == place) {
                candidate.refusal = Some(why);
            }
        }
    }
}
