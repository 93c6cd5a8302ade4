//! What a request costs: beforehand at most, and in the end.
//!
//! Nothing delivered, nothing charged. What the provider counted is what it costs; where the provider did not come to count it, because the
//! client hung up or the answer broke, the input is estimated as for limits, and the output at four bytes of text a token. Such a usage is
//! marked as estimated in the record.

use super::byok::OwnKeys;
use super::core::ClientCtx;
use super::lane::Lane;
use super::lease::Lease;
use super::names::{Names, Target};
use super::plan::Plan;
use super::quota::BYTES_A_TOKEN;
use super::semantic;
use super::walk::Walk;
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
struct Delivered {
    /// What the provider has counted, or said so far.
    usage: Option<Usage>,
    /// Bytes of text in its answer.
    output_bytes: u64,
    /// The answer was whole.
    whole: bool,
    /// The client has something of it.
    any: bool,
    /// It was made with a key of the client's own.
    own_key: bool,
}

/// What an attempt used and cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Bill {
    usage: Option<Usage>,
    /// Whether the usage, or a part of it, was not counted by the provider.
    estimated: bool,
    /// `None` when a price is unknown.
    cost: Option<Money>,
    /// The row whose prices were reckoned with, where they are not the model's own.
    priced_as: Option<Arc<str>>,
}

/// The bill of the attempt that served.
fn bill(snapshot: &Snapshot, model: &ModelRow, input_estimate: u64, told: Delivered) -> Bill {
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

/// Notes what the attempt that the client has an answer of has used and cost; `whole` says that it has all of it.
pub(super) fn note_usage(client: &mut ClientCtx, lane: &Lane<'_>, whole: bool) {
    let observed = lane.translator.observed();
    client.output_bytes = observed.output_bytes;
    let Asked { input_tokens, own_key, counts } = lane.asked;
    if counts {
        client.record.usage = observed.usage;
        return;
    }
    let (usage, output_bytes) = (observed.usage, observed.output_bytes);
    let any = whole || (client.record.status == 200 && output_bytes > 0);
    let bill = bill(
        &client.snapshot,
        &lane.target.model,
        input_tokens,
        Delivered { usage, output_bytes, whole, any, own_key },
    );
    let record = &mut client.record;
    (record.usage, record.estimated, record.cost) = (bill.usage, bill.estimated, bill.cost);
    (record.priced_as, record.byok) = (bill.priced_as, own_key);
}

impl Walk<'_> {
    /// What the bill of an attempt has to know of it.
    pub(super) fn asked_with(&self, lease: &Lease) -> Asked {
        let (input_tokens, counts) = (self.envelope.estimated_input_tokens, self.envelope.counts_tokens);
        Asked { input_tokens, own_key: lease.is_byok(), counts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Catalog;

    fn delivered(usage: Option<(u64, u64)>, output_bytes: u64, whole: bool, any: bool) -> Delivered {
        let usage = usage.map(|(prompt_tokens, completion_tokens)| Usage {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens + completion_tokens,
            ..Usage::default()
        });
        Delivered { usage, output_bytes, whole, any, own_key: false }
    }

    fn snapshot(unknown_price: UnknownPrice) -> Snapshot {
        let catalog = Arc::new(Catalog::builtin().unwrap());
        let source = crate::config::Source { file: None, process: Vec::new(), dotenv: None, catalog };
        let mut snapshot = crate::config::load(&source).unwrap().snapshot;
        snapshot.money.unknown_price = unknown_price;
        snapshot
    }

    /// A token costs a pico-dollar in, ten out.
    fn model() -> ModelRow {
        let mut row = Catalog::builtin().unwrap().unknown_model_at("acme", "m");
        row.prices.input = Some(Money::from_picos(1));
        row.prices.output = Some(Money::from_picos(10));
        row
    }

    #[test]
    fn the_providers_count_is_the_bill_and_what_it_did_not_count_is_estimated() {
        let snapshot = snapshot(UnknownPrice::Deny);
        // Estimated at 100 tokens of input.
        for (told, picos, estimated) in [
            (delivered(Some((90, 30)), 41, true, true), 390, false),
            (delivered(None, 41, true, true), 210, true),
            (delivered(Some((90, 1)), 41, false, true), 200, true),
            (delivered(Some((90, 30)), 41, false, true), 390, false),
            (delivered(Some((90, 30)), 41, false, false), 0, false),
            (delivered(None, 0, false, false), 0, false),
            (Delivered { own_key: true, ..delivered(Some((90, 30)), 41, true, true) }, 0, false),
        ] {
            let bill = bill(&snapshot, &model(), 100, told);
            assert_eq!((bill.cost.map(Money::picos), bill.estimated), (Some(picos), estimated), "{told:?}");
        }
    }

    #[test]
    fn an_unknown_price_is_none_or_that_of_the_dearest_of_its_kind() {
        let unknown = Catalog::builtin().unwrap().unknown_model_at("acme", "m");
        let told = delivered(Some((90, 30)), 41, true, true);
        for choice in [UnknownPrice::Deny, UnknownPrice::Allow] {
            assert_eq!(bill(&snapshot(choice), &unknown, 100, told).cost, None);
        }
        let estimated = bill(&snapshot(UnknownPrice::Estimate), &unknown, 100, told);
        assert!(estimated.cost > Some(Money::ZERO) && estimated.priced_as.is_some(), "{estimated:?}");
    }
}
