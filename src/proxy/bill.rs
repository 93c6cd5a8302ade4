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
use crate::dialect::client::Client;
use crate::dialect::openai_chat::envelope::Envelope;
use crate::dialect::openai_completions::envelope::generated;
use crate::dialect::relay;
use crate::dialect::relay::pieces::Pieces;
use crate::dialect::work::{Endpoint, Work};
use crate::domain::usage::ResponseEnd;
use crate::domain::{KeyId, Money, Usage};
use crate::provider::{ModelRow, PictureKind, Prices};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// What a provider adds to a request that has tools.
const TOOLS_BESIDE: u64 = 1024;
/// The input that is reckoned with where it has media and the model's context is not known.
const MEDIA: u64 = 200_000;
/// What a picture among texts that vectors are made of can take: those who count pictures by their size bound it below this.
const PICTURE: u64 = 32_768;

/// A model that has to have a price and has none.
#[derive(Debug)]
pub(super) struct NoPrice(pub(super) Arc<str>);

/// The prices that a model's use is reckoned with.
struct Reckoned<'a> {
    prices: Cow<'a, Prices>,
    /// The row that they are taken from, where they are not the model's own.
    of: Option<&'a Arc<str>>,
    /// Nobody knows them: the use is allowed, and what it costs is not said.
    is_guess: bool,
}

/// `None` where a price is needed and not known.
fn reckoned<'a>(snapshot: &'a Snapshot, model: &'a ModelRow, work: Work) -> Option<Reckoned<'a>> {
    let own = &model.prices;
    if own.is_known() {
        return Some(Reckoned { prices: Cow::Borrowed(own), of: model.priced_as.as_ref(), is_guess: false });
    }
    let filled = |with: &Prices| Cow::Owned(own.clone().or(with));
    if suffices(own, work) {
        return Some(Reckoned { prices: filled(&FREE), of: model.priced_as.as_ref(), is_guess: false });
    }
    match snapshot.money.unknown_price {
        UnknownPrice::Deny => None,
        UnknownPrice::Allow => Some(Reckoned { prices: filled(&FREE), of: None, is_guess: true }),
        UnknownPrice::Estimate => {
            let (estimated, of) = snapshot.catalog.estimated_prices(model)?;
            Some(Reckoned { prices: filled(estimated), of: Some(of), is_guess: false })
        }
    }
}

/// Whether prices that lack one of tokens are all that this work needs.
fn suffices(prices: &Prices, work: Work) -> bool {
    match work {
        Work::Converse => false,
        Work::Embed | Work::Relay(Endpoint::Moderations | Endpoint::Rerank) => {
            prices.input.is_some() || prices.request.is_some()
        }
        Work::Relay(Endpoint::ImageGenerations | Endpoint::ImageEdits) => {
            prices.image.is_some() || !prices.pictures.is_empty() || prices.request.is_some()
        }
        Work::Relay(Endpoint::Speech) => prices.character.is_some() || prices.request.is_some(),
        Work::Relay(Endpoint::Transcriptions | Endpoint::Translations) => {
            prices.second.is_some() || prices.request.is_some()
        }
    }
}

/// What is paid for by the piece, with so much sound: models that have prices of tokens count them so.
fn of_pieces(prices: &Prices, own: &Prices, pieces: &Pieces, sound: Duration) -> Money {
    const NANOS: i128 = 1_000_000_000;
    if own.is_known() {
        return Money::ZERO;
    }
    let kind = || PictureKind { size: pieces.size.clone(), quality: pieces.quality.clone() };
    let picture = if pieces.pictures > 0 { prices.picture(&kind()) } else { None };
    let nanos = i128::try_from(sound.as_nanos()).unwrap_or(i128::MAX);
    // A part of a pico-dollar is one.
    let heard = |second: Money| {
        let picos = second.picos().saturating_mul(nanos);
        Money::from_picos(picos / NANOS + i128::from(picos % NANOS > 0))
    };
    let parts = [
        picture.map(|price| price * pieces.pictures),
        prices.character.map(|price| price * pieces.characters),
        prices.second.map(heard),
    ];
    parts.into_iter().flatten().sum()
}

/// What an answer is likely to cost that nobody has taken; `None` when that is not known.
pub(super) fn likely(
    snapshot: &Snapshot,
    model: &ModelRow,
    work: Work,
    usage: Option<Usage>,
    input: u64,
) -> Option<Money> {
    let reckoned = reckoned(snapshot, model, work).filter(|reckoned| !reckoned.is_guess)?;
    usage.map_or_else(|| reckoned.prices.estimate(input, 0), |usage| reckoned.prices.cost(&usage))
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
    pictures: Vec::new(),
    second: None,
    character: None,
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
    let writes_cache = writes_cache(envelope);
    let pieces = Pieces::of(envelope);
    // Each that is too slow is paid for, and so is the one after it.
    let adds_up = snapshot.gate.min_throughput.is_some() && envelope.stream && !envelope.background;
    let mut most = Money::ZERO;
    for target in planned.filter(|target| own.key(plan, target).is_none()) {
        let bound = bound(snapshot, envelope, &pieces, target, writes_cache)?;
        most = if adds_up { most + bound } else { most.max(bound) };
    }
    if snapshot.hedging.is_some() && !matches!(envelope.work, Work::Relay(_)) && !envelope.background {
        // A second target may be asked too, and charge for what nobody takes.
        most = most + most;
    }
    if envelope.work == Work::Converse
        && let Some(settings) = semantic::wanted(client, envelope)
        && let Some(provider) = snapshot.provider(&settings.provider)
    {
        let target = Names { snapshot, discovered: &[] }.at(provider, &settings.model);
        let input = Prices { output: Some(Money::ZERO), ..target.model.prices.clone() };
        most += input.bound(envelope.body().len() as u64, 0, false).unwrap_or(Money::ZERO);
    }
    Ok(most)
}

fn writes_cache(envelope: &Envelope) -> bool {
    memchr::memmem::find(envelope.body(), b"cache_control").is_some()
}

fn bound(
    snapshot: &Snapshot,
    envelope: &Envelope,
    pieces: &Pieces,
    target: &Target,
    writes_cache: bool,
) -> Result<Money, NoPrice> {
    let model = &target.model;
    let unknown = || NoPrice(model.id.clone());
    let Reckoned { prices, .. } = reckoned(snapshot, model, envelope.work).ok_or_else(unknown)?;
    let (input, output) = (input_bound(envelope, model), output_bound(snapshot, envelope, model));
    let tokens = prices.bound(input, output, writes_cache).ok_or_else(unknown)?;
    Ok(tokens + of_pieces(&prices, &model.prices, pieces, pieces.sound.most))
}

/// The tokens that a request can have. None is shorter than a byte, but what pictures and documents take does not show in their bytes.
fn input_bound(envelope: &Envelope, model: &ModelRow) -> u64 {
    let bytes = relay::size(envelope) as u64;
    let (context, with_media) = (model.context.unwrap_or(u64::MAX), model.context.unwrap_or(bytes.max(MEDIA)));
    match envelope.work {
        Work::Converse => {
            let needs = &envelope.needs;
            let text = bytes + if needs.tools { TOOLS_BESIDE } else { 0 };
            let has_media = needs.images || needs.files || needs.audio || needs.video;
            if has_media { with_media } else { text.min(context) }
        }
        // The context is that of each input.
        Work::Embed => {
            let pictures = memchr::memmem::find_iter(envelope.body(), b"\"image").count() as u64;
            bytes.saturating_add(pictures.saturating_mul(PICTURE))
        }
        Work::Relay(Endpoint::Rerank) => relay::reranked(envelope),
        Work::Relay(Endpoint::ImageEdits) => with_media,
        Work::Relay(_) => bytes.min(context),
    }
}

/// The tokens that an answer can have: `max_tokens`, else what the model can give, else `limits.assumed_output_tokens`, for each choice.
fn output_bound(snapshot: &Snapshot, envelope: &Envelope, model: &ModelRow) -> u64 {
    let assumed = snapshot.limits.assumed_output_tokens;
    let (one, times) = match envelope.work {
        Work::Converse => {
            let one = match (envelope.max_tokens, model.max_output) {
                (Some(asked), Some(most)) => asked.min(most),
                // Nobody waits for the end of one in the background.
                (None, None) if envelope.background => model.context.unwrap_or(assumed),
                (asked, most) => asked.or(most).unwrap_or(assumed),
            };
            let is_text = envelope.client == Client::OpenAiCompletions;
            (one, if is_text { generated(envelope) } else { envelope.n.unwrap_or(1) })
        }
        Work::Embed | Work::Relay(Endpoint::Moderations | Endpoint::Rerank) => (0, 0),
        // Of pictures and sound the request does not say how many tokens they are.
        Work::Relay(_) => (model.max_output.unwrap_or(assumed), relay::pictures(envelope)),
    };
    one.saturating_mul(times.max(1))
}

/// An attempt before it was made, as far as its price is concerned.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    /// The estimate of its input.
    pub(super) input_tokens: u64,
    /// It is made with a key of the client's own.
    pub(super) own_key: bool,
    /// The key that it is made with, where one is needed.
    pub(super) key: Option<KeyId>,
    /// It only counts tokens.
    pub(super) counts: bool,
    /// What it is for.
    pub(super) work: Work,
    /// What is paid for by the piece; `None` for what never is.
    pub(super) pieces: Option<Box<Pieces>>,
    /// What an answer in the background can come to; `None` for one that ends with its request.
    pub(super) most: Option<Box<Most>>,
}

/// The most that an answer can come to at a target.
#[derive(Clone, Debug)]
pub(super) struct Most {
    output_tokens: u64,
    /// `None` where the price is unknown.
    cost: Option<Money>,
    /// What it is reckoned with in the end.
    pub(super) prices: Option<Prices>,
}

impl Most {
    fn of(snapshot: &Snapshot, envelope: &Envelope, target: &Target) -> Self {
        let model = &target.model;
        let known = reckoned(snapshot, model, envelope.work).filter(|reckoned| !reckoned.is_guess);
        let prices = known.map(|reckoned| reckoned.prices.into_owned());
        // A client may name any number; one that no answer comes to would be summed up with the others.
        let output_tokens = output_bound(snapshot, envelope, model).min(Usage::MOST);
        let input = input_bound(envelope, model);
        let cost = prices.as_ref().and_then(|prices| prices.bound(input, output_tokens, writes_cache(envelope)));
        Self { output_tokens, cost, prices }
    }

    /// The bill of an answer that goes on: until its end is known, it is the most that it can be.
    fn bill(&self, asked: &Asked) -> Bill {
        let (prompt_tokens, completion_tokens) = (asked.input_tokens, self.output_tokens);
        let total_tokens = prompt_tokens.saturating_add(completion_tokens);
        let usage = Some(Usage { prompt_tokens, completion_tokens, total_tokens, ..Usage::default() });
        let cost = if asked.own_key { Some(Money::ZERO) } else { self.cost };
        Bill { usage, cost, estimated: true, priced_as: None }
    }
}

/// What an answer in the background has used in the end, with an input of so many tokens by estimate of which so much output was seen; and
/// whether that is an estimate.
pub(super) fn used(end: &ResponseEnd, input_tokens: u64, seen_bytes: u64) -> (Option<Usage>, bool) {
    match end.usage.filter(Usage::is_plausible) {
        Some(counted) => (Some(counted), false),
        None if end.failed => (None, false),
        // It was cancelled, or its provider does not count.
        None => {
            let completion_tokens = end.output_bytes.max(seen_bytes).div_ceil(BYTES_A_TOKEN);
            let total_tokens = input_tokens.saturating_add(completion_tokens);
            (Some(Usage { prompt_tokens: input_tokens, completion_tokens, total_tokens, ..Usage::default() }), true)
        }
    }
}

/// A model that nobody knows a bound for of how long an answer in the background may become.
pub(super) fn unbounded<'p>(envelope: &Envelope, plan: &'p Plan) -> Option<&'p Arc<str>> {
    if !envelope.background || envelope.max_tokens.is_some() {
        return None;
    }
    let planned = plan.targets.iter().map(|(_, target)| target).chain(&plan.successors);
    let mut models = planned.map(|target| &target.model);
    models.find(|model| model.max_output.or(model.context).is_none()).map(|model| &model.id)
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
    /// The sound that the provider has billed.
    sound: Option<Duration>,
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
fn bill(snapshot: &Snapshot, model: &ModelRow, asked: &Asked, told: Delivered) -> Bill {
    let Delivered { usage, output_bytes, whole, any, sound } = told;
    if !any {
        return Bill { usage, cost: Some(Money::ZERO), ..Bill::default() };
    }
    let written = output_bytes.div_ceil(BYTES_A_TOKEN);
    let (usage, estimated) = match usage {
        // Some say at the beginning how large the input is, and at the end what they wrote.
        Some(counted) if whole || counted.completion_tokens >= written.max(1) => (counted, false),
        partly => {
            let mut usage = partly.unwrap_or(Usage { prompt_tokens: asked.input_tokens, ..Usage::default() });
            usage.completion_tokens = usage.completion_tokens.max(written);
            usage.total_tokens = usage.prompt_tokens.saturating_add(usage.completion_tokens);
            (usage, true)
        }
    };
    let bill = Bill { usage: Some(usage), estimated, ..Bill::default() };
    if asked.own_key {
        return Bill { cost: Some(Money::ZERO), ..bill };
    }
    match reckoned(snapshot, model, asked.work).filter(|reckoned| !reckoned.is_guess) {
        Some(Reckoned { prices, of, .. }) => {
            let (pieces, guessed) = asked.pieces.as_deref().map_or((Money::ZERO, None), |pieces| {
                let is_guess = prices.second.is_some() && sound.is_none() && !pieces.sound.is_exact();
                let heard = sound.unwrap_or(pieces.sound.likely);
                (of_pieces(&prices, &model.prices, pieces, heard), Some(is_guess))
            });
            // Where no tokens are paid for, that they were not counted changes nothing.
            let is_by_piece = !model.prices.is_known() && suffices(&model.prices, asked.work);
            let estimated = guessed.filter(|_| is_by_piece).unwrap_or(bill.estimated);
            let cost = prices.cost(&usage).map(|tokens| tokens + pieces);
            Bill { cost, estimated, priced_as: of.cloned(), ..bill }
        }
        // A price that is not known is not one of nothing.
        None => Bill { cost: model.prices.cost(&usage).filter(|_| usage.total_tokens > 0), ..bill },
    }
}

/// Notes what the attempt that the client has an answer of has used and cost; `whole` says that it has all of it.
pub(super) fn note_usage(client: &mut ClientCtx, lane: &Lane<'_>, whole: bool) {
    let observed = lane.translator.observed();
    client.output_bytes = observed.output_bytes;
    let asked = &lane.asked;
    if asked.counts {
        client.record.usage = observed.usage;
        return;
    }
    // A count that no model comes to is none.
    let usage = observed.usage.filter(Usage::is_plausible);
    let output_bytes = observed.output_bytes;
    // Of sound and pictures the first byte is output; of a conversation the first word.
    let has_begun = client.record.status == 200 && (output_bytes > 0 || asked.work != Work::Converse);
    let told = Delivered { usage, output_bytes, whole, any: whole || has_begun, sound: observed.sound };
    let goes_on = lane.goes_on_alone() && observed.over != Some(true);
    let most = asked.most.as_deref().filter(|_| goes_on);
    if let Some(owing) = &mut client.owing {
        owing.goes_on = most.is_some();
    }
    let bill = most.map_or_else(|| bill(&client.snapshot, &lane.target.model, asked, told), |most| most.bill(asked));
    let record = &mut client.record;
    (record.usage, record.estimated, record.cost) = (bill.usage, bill.estimated, bill.cost);
    (record.priced_as, record.byok) = (bill.priced_as, asked.own_key);
}

impl Walk<'_> {
    /// What the bill of an attempt has to know of it.
    pub(super) fn asked_with(&self, target: &Target, lease: &Lease) -> Asked {
        let Envelope { estimated_input_tokens: input_tokens, counts_tokens: counts, work, .. } = *self.envelope;
        let (own_key, key) = (lease.is_byok(), lease.key().map(|key| key.id));
        let pieces = matches!(work, Work::Relay(_)).then(|| Box::new(Pieces::of(self.envelope)));
        let most = self.envelope.background.then(|| Box::new(Most::of(&self.snapshot, self.envelope, target)));
        Asked { input_tokens, own_key, key, counts, work, pieces, most }
    }
}

/// The tokens per second of an answer: of a stream after its first output, otherwise of the whole. `None` when there are too few of them
/// to tell, or they came at once, as out of a buffer.
pub(super) fn rate(stream: bool, tokens: u64, took: Duration, first_output: Option<Duration>) -> Option<f64> {
    const FEWEST: u64 = 8;
    let spent = took.saturating_sub(first_output.filter(|_| stream).unwrap_or_default());
    (tokens >= FEWEST && spent >= Duration::from_millis(1)).then(|| tokens as f64 / spent.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::relay::pieces::Sound;
    use crate::provider::Catalog;

    const ASKED: Asked = Asked {
        input_tokens: 100,
        own_key: false,
        key: None,
        counts: false,
        work: Work::Converse,
        pieces: None,
        most: None,
    };

    fn delivered(usage: Option<(u64, u64)>, output_bytes: u64, whole: bool, any: bool) -> Delivered {
        let usage = usage.map(|(prompt_tokens, completion_tokens)| Usage {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens + completion_tokens,
            ..Usage::default()
        });
        Delivered { usage, output_bytes, whole, any, sound: None }
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
        ] {
            let bill = bill(&snapshot, &model(), &ASKED, told);
            assert_eq!((bill.cost.map(Money::picos), bill.estimated), (Some(picos), estimated), "{told:?}");
        }
        let own = Asked { own_key: true, ..ASKED };
        let bill = bill(&snapshot, &model(), &own, delivered(Some((90, 30)), 41, true, true));
        assert_eq!((bill.cost, bill.usage.map(|usage| usage.total_tokens)), (Some(Money::ZERO), Some(120)));
    }

    #[test]
    fn an_unknown_price_is_none_or_that_of_the_dearest_of_its_kind() {
        let unknown = Catalog::builtin().unwrap().unknown_model_at("acme", "m");
        let told = delivered(Some((90, 30)), 41, true, true);
        for choice in [UnknownPrice::Deny, UnknownPrice::Allow] {
            assert_eq!(bill(&snapshot(choice), &unknown, &ASKED, told).cost, None);
        }
        let estimated = bill(&snapshot(UnknownPrice::Estimate), &unknown, &ASKED, told);
        assert!(estimated.cost > Some(Money::ZERO) && estimated.priced_as.is_some(), "{estimated:?}");
    }

    #[test]
    fn what_is_no_conversation_needs_the_prices_of_its_own_work() {
        let snapshot = snapshot(UnknownPrice::Deny);
        let (embed, image) = (Work::Embed, Work::Relay(Endpoint::ImageGenerations));
        let speech = Work::Relay(Endpoint::Speech);
        let of = |prices: Prices, work, pictures| {
            let model = ModelRow { prices, ..Catalog::builtin().unwrap().unknown_model_at("acme", "m") };
            let pieces = Some(Box::new(Pieces { pictures, ..Pieces::default() }));
            let asked = Asked { work, pieces, ..ASKED };
            bill(&snapshot, &model, &asked, delivered(None, 0, true, true)).cost.map(Money::picos)
        };
        let (input, piece) = (Some(Money::from_picos(2)), Some(Money::from_picos(1000)));
        let vectors = Prices { input, ..Prices::default() };
        assert_eq!(of(vectors.clone(), embed, 0), Some(200), "vectors have no output");
        assert!(suffices(&vectors, embed) && !suffices(&vectors, image) && !suffices(&vectors, Work::Converse));
        let pieces = Prices { image: piece, ..Prices::default() };
        assert_eq!(of(pieces.clone(), image, 3), Some(3000));
        assert_eq!(of(Prices { request: piece, ..Prices::default() }, speech, 0), Some(1000));
        let both = Prices { input, output: input, ..pieces.clone() };
        assert_eq!(of(both, image, 3), Some(200), "what is counted in tokens is not paid for by the piece too");
        assert_eq!(of(pieces, speech, 0), None, "a price of something else is none");
        assert_eq!(of(Prices::default(), speech, 0), None);
    }

    #[test]
    fn sound_is_paid_by_the_second_and_speech_by_the_character() {
        let snapshot = snapshot(UnknownPrice::Deny);
        let of = |prices: Prices, endpoint, pieces, sound| {
            let model = ModelRow { prices, ..Catalog::builtin().unwrap().unknown_model_at("acme", "m") };
            let asked = Asked { work: Work::Relay(endpoint), pieces: Some(Box::new(pieces)), ..ASKED };
            let bill = bill(&snapshot, &model, &asked, Delivered { sound, ..delivered(None, 0, true, true) });
            (bill.cost.map(Money::picos), bill.estimated)
        };
        let second = Prices { second: Some(Money::from_picos(1000)), ..Prices::default() };
        let exact = Duration::from_millis(1500);
        let known = Pieces { sound: Sound { most: exact, likely: exact }, ..Pieces::default() };
        let guess = Pieces { sound: Sound { most: exact * 9, likely: exact }, ..Pieces::default() };
        let heard = Some(Duration::from_nanos(2_000_000_001));
        assert_eq!(of(second.clone(), Endpoint::Transcriptions, known.clone(), heard), (Some(2001), false));
        assert_eq!(of(second.clone(), Endpoint::Transcriptions, known, None), (Some(1500), false));
        assert_eq!(of(second.clone(), Endpoint::Translations, guess.clone(), None), (Some(1500), true));
        assert_eq!(of(second, Endpoint::Speech, guess, None).0, None, "a price of something else is none");
        let character = Prices { character: Some(Money::from_picos(3)), ..Prices::default() };
        let spoken = Pieces { characters: 11, ..Pieces::default() };
        assert_eq!(of(character, Endpoint::Speech, spoken, None), (Some(33), false));
    }

    #[test]
    fn a_count_that_no_model_comes_to_is_none() {
        let usage = |completion_tokens| Usage { completion_tokens, ..Usage::default() };
        assert!(usage(1 << 32).is_plausible() && !usage(u64::MAX).is_plausible());
        assert!(!Usage { cached_tokens: Some(u64::MAX), ..Usage::default() }.is_plausible());
    }
}
