//! What a request costs: beforehand at most, and in the end.
//!
//! Nothing delivered, nothing charged. What the provider counted is what it costs; where the provider did not come to count it, because the
//! client hung up or the answer broke, the input is estimated as for limits, and the output at four bytes of text a token. Such a usage is
//! marked as estimated in the record.

use super::byok::OwnKeys;
use super::core::ClientCtx;
use super::names::{Names, Target};
use super::plan::Plan;
use super::quota::BYTES_A_TOKEN;
use super::semantic;
use crate::config::snapshot::{Snapshot, UnknownPrice};
use crate::dialect::openai_chat::envelope::Envelope;
use crate::domain::{Money, Usage};
use crate::provider::{ModelRow, Prices};
use std::borrow::Cow;
use std::sync::Arc;

/// What a provider adds to a request that has tools.
const TOOLS_BESIDE: u64 = 1024;
/// The input that is reckoned with where it has media and the model's context is not known.
const MEDIA: u64 = 200_000;

/// A model that has to have a price and has none.
#[derive(Debug)]
pub(super) struct NoPrice(pub(super) Arc<str>);

/// The prices that a model's use is reckoned with, and the row that they are taken from where they are not its own.
fn prices<'a>(snapshot: &'a Snapshot, model: &'a ModelRow) -> Option<(Cow<'a, Prices>, Option<&'a Arc<str>>)> {
    if model.prices.is_known() {
        return Some((Cow::Borrowed(&model.prices), model.priced_as.as_ref()));
    }
    match snapshot.money.unknown_price {
        UnknownPrice::Deny => None,
        UnknownPrice::Allow => Some((Cow::Owned(model.prices.clone().or(&FREE)), None)),
        UnknownPrice::Estimate => {
            let (estimated, of) = snapshot.catalog.estimated_prices(model)?;
            Some((Cow::Owned(model.prices.clone().or(estimated)), Some(of)))
        }
    }
}

/// What is reckoned with where an unknown price is allowed.
static FREE: Prices = Prices {
    input: Some(Money::ZERO),
    cached_input: None,
    cache_write_5m: None,
    cache_write_1h: None,
    output: Some(Money::ZERO),
    reasoning: None,
    audio_input: None,
    audio_output: None,
    image: None,
    request: None,
    above: Vec::new(),
};

/// The most that a request can cost, whichever of its targets serves.
///
/// # Errors
/// The model whose price is not known, where `money.unknown_price` is `deny`.
pub(super) fn most(client: &ClientCtx, envelope: &Envelope, plan: &Plan) -> Result<Money, NoPrice> {
    let snapshot = &client.snapshot;
    let own = OwnKeys::of(envelope.extensions.byok.as_ref(), client.holder.as_ref());
    let planned = plan.targets.iter().map(|(_, target)| target).chain(&plan.successors);
    let writes_cache = memchr::memmem::find(envelope.body(), b"cache_control").is_some();
    let mut most = Money::ZERO;
    for target in planned.filter(|target| own.key(plan, target).is_none()) {
        most = most.max(bound(snapshot, envelope, target, writes_cache)?);
    }
    if snapshot.hedging.is_some() {
        // A second target may be asked too, and charge for what nobody takes.
        most = most + most;
    }
    if let Some(settings) = semantic::wanted(client, envelope)
        && let Some(provider) = snapshot.provider(&settings.provider)
    {
        let target = Names { snapshot, discovered: &[] }.at(provider, &settings.model);
        let input = Prices { output: Some(Money::ZERO), ..target.model.prices.clone() };
        most += input.bound(envelope.body().len() as u64, 0, false).unwrap_or(Money::ZERO);
    }
    Ok(most)
}

fn bound(snapshot: &Snapshot, envelope: &Envelope, target: &Target, writes_cache: bool) -> Result<Money, NoPrice> {
    let model = &target.model;
    let unknown = || NoPrice(model.id.clone());
    let (prices, _) = prices(snapshot, model).ok_or_else(unknown)?;
    let needs = &envelope.needs;
    let has_media = needs.images || needs.files || needs.audio || needs.video;
    // No token is shorter than a byte. What pictures and documents take does not show in their bytes.
    let text = envelope.body().len() as u64 + if needs.tools { TOOLS_BESIDE } else { 0 };
    let most = model.context.unwrap_or(u64::MAX);
    let input = if has_media { model.context.unwrap_or(text.max(MEDIA)) } else { text.min(most) };
    prices.bound(input, output_bound(snapshot, envelope, model), writes_cache).ok_or_else(unknown)
}

/// The tokens that an answer can have: `max_tokens`, else what the model can give, else `limits.assumed_output_tokens`, for each choice.
fn output_bound(snapshot: &Snapshot, envelope: &Envelope, model: &ModelRow) -> u64 {
    let of_model = model.max_output;
    let one = match (envelope.max_tokens, of_model) {
        (Some(asked), Some(most)) => asked.min(most),
        (asked, most) => asked.or(most).unwrap_or(snapshot.limits.assumed_output_tokens),
    };
    one.saturating_mul(envelope.n.unwrap_or(1).max(1))
}

/// An attempt before it was made, as far as its price is concerned.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    /// The estimate of its input.
    pub(super) input_tokens: u64,
    /// It is made with a key of the client's own.
    pub(super) own_key: bool,
    /// It only counts tokens.
    pub(super) counts: bool,
}

/// How an attempt ended, as far as its price is concerned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delivered {
    /// What the provider has counted, or said so far.
    pub(super) usage: Option<Usage>,
    /// Bytes of text in its answer.
    pub(super) output_bytes: u64,
    /// The answer was whole.
    pub(super) whole: bool,
    /// The client has something of it.
    pub(super) any: bool,
    /// It was made with a key of the client's own.
    pub(super) own_key: bool,
}

/// What an attempt used and cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bill {
    pub(super) usage: Option<Usage>,
    /// Whether the usage, or a part of it, was not counted by the provider.
    pub(super) estimated: bool,
    /// `None` when a price is unknown.
    pub(super) cost: Option<Money>,
    /// The row whose prices were reckoned with, where they are not the model's own.
    pub(super) priced_as: Option<Arc<str>>,
}

/// The bill of the attempt that served.
pub(super) fn bill(snapshot: &Snapshot, model: &ModelRow, input_estimate: u64, told: Delivered) -> Bill {
    let Delivered { usage, output_bytes, whole, any, own_key } = told;
    if !any {
        return Bill { usage, cost: Some(Money::ZERO), ..Bill::default() };
    }
    let written = output_bytes.div_ceil(BYTES_A_TOKEN);
    let (usage, estimated) = match usage {
        // Some say at the beginning how large the input is, and at the end what they wrote.
        Some(counted) if whole || counted.completion_tokens >= written => (counted, false),
        partly => {
            let mut usage = partly.unwrap_or(Usage { prompt_tokens: input_estimate, ..Usage::default() });
            usage.completion_tokens = usage.completion_tokens.max(written);
            usage.total_tokens = usage.prompt_tokens.saturating_add(usage.completion_tokens);
            (usage, true)
        }
    };
    let bill = Bill { usage: Some(usage), estimated, ..Bill::default() };
    if own_key {
        return Bill { cost: Some(Money::ZERO), ..bill };
    }
    let is_guess = !model.prices.is_known() && snapshot.money.unknown_price != UnknownPrice::Estimate;
    match prices(snapshot, model).filter(|_| !is_guess) {
        Some((prices, of)) => Bill { cost: prices.cost(&usage), priced_as: of.cloned(), ..bill },
        // A price that is not known is not one of nothing.
        None => Bill { cost: model.prices.cost(&usage), ..bill },
    }
}
