//! What a model costs, exactly, kind of token by kind of token.

use crate::domain::{Money, Usage};
use serde::Deserialize;

/// The price list of a model at a provider. Each price is for one token (one picture, one request) and `None` where the
/// provider publishes none of its own: then the price named beside it holds, which is what providers bill.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prices {
    /// A token of input.
    pub input: Option<Money>,
    /// A token of input read from a cache; else as input.
    pub cached_input: Option<Money>,
    /// A token of input written to a cache for five minutes, or for as long as the provider likes; else as input.
    pub cache_write_5m: Option<Money>,
    /// A token of input written to a cache for an hour; else as for five minutes.
    pub cache_write_1h: Option<Money>,
    /// A token of output.
    pub output: Option<Money>,
    /// A token of reasoning; else as output.
    pub reasoning: Option<Money>,
    /// A token of audio in; else as input.
    pub audio_input: Option<Money>,
    /// A token of audio out; else as output.
    pub audio_output: Option<Money>,
    /// A picture that is made, where pictures are not billed as tokens; of other models a picture in the input, for listings: usage does not
    /// count those.
    pub image: Option<Money>,
    /// Pictures that are made, where their price depends on what they are like; what none of these is for costs as `image` says.
    pub pictures: Vec<PicturePrice>,
    /// A second of sound in, where sound is not billed as tokens.
    pub second: Option<Money>,
    /// A character of text that is spoken, where speech is not billed as tokens.
    pub character: Option<Money>,
    /// A request, besides its tokens.
    pub request: Option<Money>,
    /// Other prices for long prompts, by rising threshold.
    pub above: Vec<Tier>,
}

/// What a picture of one kind costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PicturePrice {
    /// Its size, as requests name it (`1024x1024`); `None` for every size.
    pub size: Option<String>,
    /// Its quality, likewise (`hd`); `None` for every quality.
    pub quality: Option<String>,
    /// Dollars for one.
    pub price: Money,
}

/// What a request says of the pictures that it wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PictureKind {
    /// The size; `None` when that is left to the provider.
    pub size: Option<String>,
    /// The quality, likewise.
    pub quality: Option<String>,
}

/// The prices of a request whose prompt is longer than a threshold; they hold for all of its tokens. A price that the tier
/// does not name stays as it is below.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tier {
    /// Holds for prompts of more tokens than this.
    pub above_tokens: u64,
    /// As [`Prices::input`].
    pub input: Option<Money>,
    /// As [`Prices::cached_input`].
    pub cached_input: Option<Money>,
    /// As [`Prices::cache_write_5m`].
    pub cache_write_5m: Option<Money>,
    /// As [`Prices::cache_write_1h`].
    pub cache_write_1h: Option<Money>,
    /// As [`Prices::output`].
    pub output: Option<Money>,
}

/// The prices that hold for one request, with every "else" of [`Prices`] resolved.
struct Rates {
    input: Option<Money>,
    cached_input: Option<Money>,
    cache_write_5m: Option<Money>,
    cache_write_1h: Option<Money>,
    output: Option<Money>,
    reasoning: Option<Money>,
    audio_input: Option<Money>,
    audio_output: Option<Money>,
}

impl Prices {
    /// What this usage costs. The parts of the input (audio, cached, written to a cache) and of the output (reasoning, audio) are
    /// each billed once, at their own price; what is left of the totals is plain text. Where the provider says how many tokens it
    /// bills, those are plain text and nothing else counts. `None` when a price that is needed is unknown: an unknown price is not a
    /// price of nothing.
    pub fn cost(&self, usage: &Usage) -> Option<Money> {
        let usage = &billed(usage);
        let rates = self.rates(usage.prompt_tokens);
        let mut input_left = usage.prompt_tokens;
        let mut of_input = |part: Option<u64>| take(&mut input_left, part.unwrap_or(0));
        let cached = of_input(usage.cached_tokens);
        let written = of_input(usage.cache_write_tokens);
        let audio_in = of_input(usage.audio_prompt_tokens);
        let written_1h = usage.cache_write_1h_tokens.unwrap_or(0).min(written);

        let mut output_left = usage.completion_tokens;
        let mut of_output = |part: Option<u64>| take(&mut output_left, part.unwrap_or(0));
        let reasoning = of_output(usage.reasoning_tokens);
        let audio_out = of_output(usage.audio_completion_tokens);

        let parts = [
            (cached, rates.cached_input),
            (written - written_1h, rates.cache_write_5m),
            (written_1h, rates.cache_write_1h),
            (audio_in, rates.audio_input),
            (input_left, rates.input),
            (reasoning, rates.reasoning),
            (audio_out, rates.audio_output),
            (output_left, rates.output),
        ];
        let tokens: Option<Money> = parts
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, price)| price.map(|price| price * count))
            .sum();
        tokens.map(|tokens| tokens + self.request.unwrap_or(Money::ZERO))
    }

    /// What a request of so many tokens costs when nothing of it is cached: to compare targets and to reserve before the call.
    /// `None` when a price is unknown.
    pub fn estimate(&self, input_tokens: u64, output_tokens: u64) -> Option<Money> {
        self.cost(&Usage {
            prompt_tokens: input_tokens,
            completion_tokens: output_tokens,
            total_tokens: input_tokens.saturating_add(output_tokens),
            ..Usage::default()
        })
    }

    /// The most that a request can cost which has at most so many tokens of input and output, whatever becomes of them: cached or not,
    /// written to a cache (where it asks for that), audio or text, in whichever tier. `None` when a price is unknown.
    pub fn bound(&self, input_tokens: u64, output_tokens: u64, writes_cache: bool) -> Option<Money> {
        let tiers = self.above.iter().filter(|tier| input_tokens > tier.above_tokens).map(|tier| tier.above_tokens + 1);
        let dearest = |tokens: u64| {
            let rates = self.rates(tokens);
            let written = [rates.cache_write_5m, rates.cache_write_1h].into_iter().filter(|_| writes_cache);
            let input = [rates.input, rates.cached_input, rates.audio_input].into_iter().chain(written).flatten().max();
            let output = [rates.output, rates.reasoning, rates.audio_output].into_iter().flatten().max();
            let of =
                |count: u64, price: Option<Money>| if count == 0 { Some(Money::ZERO) } else { Some(price? * count) };
            Some(of(input_tokens, rates.input.and(input))? + of(output_tokens, rates.output.and(output))?)
        };
        let most = std::iter::once(0).chain(tiers).map(dearest).collect::<Option<Vec<_>>>()?.into_iter().max()?;
        Some(most + self.request.unwrap_or(Money::ZERO))
    }

    /// What a picture of a kind costs: the most of what it may turn out to be. `None` when that is not known.
    pub fn picture(&self, kind: &PictureKind) -> Option<Money> {
        let may_be = |asked: &Option<String>, of: &Option<String>| match (asked, of) {
            (Some(asked), Some(of)) => asked.eq_ignore_ascii_case(of),
            _ => true,
        };
        let fits = |it: &&PicturePrice| may_be(&kind.size, &it.size) && may_be(&kind.quality, &it.quality);
        self.pictures.iter().filter(fits).map(|it| it.price).max().or(self.image)
    }

    /// Whether there is a price for tokens.
    pub fn is_known(&self) -> bool {
        self.input.is_some() && self.output.is_some()
    }

    /// These prices, and those of another list where there is none.
    #[must_use]
    pub fn or(self, other: &Self) -> Self {
        Self {
            input: self.input.or(other.input),
            cached_input: self.cached_input.or(other.cached_input),
            cache_write_5m: self.cache_write_5m.or(other.cache_write_5m),
            cache_write_1h: self.cache_write_1h.or(other.cache_write_1h),
            output: self.output.or(other.output),
            reasoning: self.reasoning.or(other.reasoning),
            audio_input: self.audio_input.or(other.audio_input),
            audio_output: self.audio_output.or(other.audio_output),
            image: self.image.or(other.image),
            pictures: if self.pictures.is_empty() { other.pictures.clone() } else { self.pictures },
            second: self.second.or(other.second),
            character: self.character.or(other.character),
            request: self.request.or(other.request),
            above: if self.above.is_empty() { other.above.clone() } else { self.above },
        }
    }

    fn rates(&self, prompt_tokens: u64) -> Rates {
        let tier = self.above.iter().rev().find(|tier| prompt_tokens > tier.above_tokens);
        let pick = |of_tier: fn(&Tier) -> Option<Money>, base: Option<Money>| tier.and_then(of_tier).or(base);
        let input = pick(|tier| tier.input, self.input);
        let output = pick(|tier| tier.output, self.output);
        let cache_write_5m = pick(|tier| tier.cache_write_5m, self.cache_write_5m).or(input);
        Rates {
            cached_input: pick(|tier| tier.cached_input, self.cached_input).or(input),
            cache_write_1h: pick(|tier| tier.cache_write_1h, self.cache_write_1h).or(cache_write_5m),
            cache_write_5m,
            reasoning: self.reasoning.or(output),
            audio_input: self.audio_input.or(input),
            audio_output: self.audio_output.or(output),
            input,
            output,
        }
    }
}

/// Takes a part out of a total, never more than is left: a provider that counts a token twice does not make it cost twice.
fn take(left: &mut u64, part: u64) -> u64 {
    let taken = part.min(*left);
    *left -= taken;
    taken
}

/// Prices as they stand in `data/models/`: decimal dollars, for a million tokens or characters, but for `image`, `second` and `request`.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawPrices {
    input: Option<String>,
    cached_input: Option<String>,
    cache_write_5m: Option<String>,
    cache_write_1h: Option<String>,
    output: Option<String>,
    reasoning: Option<String>,
    audio_input: Option<String>,
    audio_output: Option<String>,
    image: Option<String>,
    second: Option<String>,
    character: Option<String>,
    request: Option<String>,
    above: Vec<RawTier>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTier {
    tokens: u64,
    input: Option<String>,
    cached_input: Option<String>,
    cache_write_5m: Option<String>,
    cache_write_1h: Option<String>,
    output: Option<String>,
}

impl RawPrices {
    /// Reads every price exactly.
    ///
    /// # Errors
    /// The text that is no price, or one whose millionth part is no whole number of pico-dollars.
    pub(super) fn compile(self) -> Result<Prices, String> {
        let tier = |raw: RawTier| -> Result<Tier, String> {
            Ok(Tier {
                above_tokens: raw.tokens,
                input: per_token(raw.input)?,
                cached_input: per_token(raw.cached_input)?,
                cache_write_5m: per_token(raw.cache_write_5m)?,
                cache_write_1h: per_token(raw.cache_write_1h)?,
                output: per_token(raw.output)?,
            })
        };
        let mut above = self.above.into_iter().map(tier).collect::<Result<Vec<_>, _>>()?;
        above.sort_by_key(|tier| tier.above_tokens);
        Ok(Prices {
            input: per_token(self.input)?,
            cached_input: per_token(self.cached_input)?,
            cache_write_5m: per_token(self.cache_write_5m)?,
            cache_write_1h: per_token(self.cache_write_1h)?,
            output: per_token(self.output)?,
            reasoning: per_token(self.reasoning)?,
            audio_input: per_token(self.audio_input)?,
            audio_output: per_token(self.audio_output)?,
            image: dollars(self.image)?,
            pictures: Vec::new(),
            second: dollars(self.second)?,
            character: per_token(self.character)?,
            request: dollars(self.request)?,
            above,
        })
    }
}

fn dollars(text: Option<String>) -> Result<Option<Money>, String> {
    text.map(|text| Money::from_dollars(&text).ok_or_else(|| format!("{text:?} is not a price"))).transpose()
}

fn per_token(text: Option<String>) -> Result<Option<Money>, String> {
    const MILLION: i128 = 1_000_000;
    let Some(per_million) = dollars(text)? else { return Ok(None) };
    if per_million.picos() % MILLION != 0 {
        return Err(format!("{per_million} per million is not a whole number of pico-dollars per token"));
    }
    Ok(Some(Money::from_picos(per_million.picos() / MILLION)))
}

/// What is billed of a usage, as a usage.
fn billed(usage: &Usage) -> Usage {
    let mut billed = *usage;
    if let Some(tokens) = usage.billed_prompt_tokens {
        billed = Usage {
            prompt_tokens: tokens,
            cached_tokens: None,
            cache_write_tokens: None,
            cache_write_1h_tokens: None,
            audio_prompt_tokens: None,
            ..billed
        };
    }
    if let Some(tokens) = usage.billed_completion_tokens {
        billed = Usage { completion_tokens: tokens, reasoning_tokens: None, audio_completion_tokens: None, ..billed };
    }
    billed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prices(toml: &str) -> Prices {
        toml::from_str::<RawPrices>(toml).expect("toml").compile().expect("prices")
    }

    /// Three dollars in, fifteen out, a tenth for cached reads: the shape of many price lists.
    fn plain() -> Prices {
        prices(
            r#"input = "3"
               cached_input = "0.30"
               cache_write_5m = "3.75"
               cache_write_1h = "6"
               output = "15""#,
        )
    }

    fn usage(prompt_tokens: u64, completion_tokens: u64) -> Usage {
        Usage { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens, ..Usage::default() }
    }

    fn cost(prices: &Prices, usage: &Usage) -> String {
        prices.cost(usage).expect("every price is known").to_dollars()
    }

    #[test]
    fn plain_tokens() {
        assert_eq!(cost(&plain(), &usage(1_000, 100)), "0.0045");
        assert_eq!(cost(&plain(), &usage(1, 1)), "0.000018");
        assert_eq!(cost(&plain(), &usage(0, 0)), "0");
    }

    #[test]
    fn each_part_of_the_input_is_billed_once() {
        let usage = Usage {
            cached_tokens: Some(600),
            cache_write_tokens: Some(300),
            cache_write_1h_tokens: Some(100),
            ..usage(1_000, 0)
        };
        // 600 × 0.30 + 200 × 3.75 + 100 × 6 + 100 × 3 = 180 + 750 + 600 + 300 millionths of a dollar
        assert_eq!(cost(&plain(), &usage), "0.00183");
    }

    #[test]
    fn parts_never_exceed_the_whole() {
        let all_cached = Usage { cached_tokens: Some(5_000), cache_write_tokens: Some(9), ..usage(1_000, 0) };
        assert_eq!(cost(&plain(), &all_cached), "0.0003");
        let all_reasoning = Usage { reasoning_tokens: Some(700), ..usage(0, 100) };
        assert_eq!(cost(&plain(), &all_reasoning), "0.0015");
    }

    #[test]
    fn a_kind_without_a_price_of_its_own_costs_as_its_base() {
        let prices = prices("input = \"2\"\noutput = \"8\"");
        let usage = Usage {
            cached_tokens: Some(10),
            cache_write_tokens: Some(10),
            cache_write_1h_tokens: Some(5),
            audio_prompt_tokens: Some(10),
            reasoning_tokens: Some(10),
            audio_completion_tokens: Some(10),
            ..usage(100, 100)
        };
        assert_eq!(cost(&prices, &usage), "0.001");
    }

    #[test]
    fn audio_and_reasoning_have_their_own_prices() {
        let prices =
            prices("input = \"1\"\noutput = \"2\"\naudio_input = \"10\"\naudio_output = \"20\"\nreasoning = \"3\"");
        let usage = Usage {
            audio_prompt_tokens: Some(40),
            audio_completion_tokens: Some(30),
            reasoning_tokens: Some(20),
            ..usage(100, 100)
        };
        // 40 × 10 + 60 × 1 + 30 × 20 + 20 × 3 + 50 × 2
        assert_eq!(cost(&prices, &usage), "0.00122");
    }

    #[test]
    fn a_long_prompt_moves_the_whole_request_to_its_tier() {
        let prices = prices(
            r#"input = "1.25"
               cached_input = "0.125"
               output = "10"
               above = [ { tokens = 1000000, input = "5" }, { tokens = 200000, input = "2.5", output = "15" } ]"#,
        );
        assert_eq!(cost(&prices, &usage(200_000, 1_000)), "0.26");
        assert_eq!(cost(&prices, &usage(200_001, 1_000)), "0.5150025");
        // The highest tier that holds counts; what it does not name is as in the base list.
        assert_eq!(cost(&prices, &usage(2_000_000, 1_000)), "10.01");
        let cached = Usage { cached_tokens: Some(200_001), ..usage(200_001, 0) };
        assert_eq!(cost(&prices, &cached), "0.025000125");
    }

    #[test]
    fn what_the_provider_bills_is_what_it_costs() {
        let prices = prices("input = \"1\"\ncached_input = \"0.1\"\noutput = \"10\"\nreasoning = \"20\"");
        let processed = Usage { cached_tokens: Some(900), reasoning_tokens: Some(50), ..usage(1_000, 100) };
        let billed = Usage { billed_prompt_tokens: Some(40), billed_completion_tokens: Some(90), ..processed };
        assert_eq!(cost(&prices, &billed), "0.00094");
        assert_eq!(cost(&prices, &Usage { billed_completion_tokens: None, ..billed }), "0.00154");
    }

    #[test]
    fn a_request_may_have_a_price() {
        let prices = prices("input = \"1\"\noutput = \"1\"\nrequest = \"0.005\"");
        assert_eq!(cost(&prices, &usage(1_000, 0)), "0.006");
    }

    #[test]
    fn a_picture_costs_the_most_that_it_may_turn_out_to_be() {
        let of = |size: Option<&str>, quality: Option<&str>, picos| PicturePrice {
            size: size.map(str::to_owned),
            quality: quality.map(str::to_owned),
            price: Money::from_picos(picos),
        };
        let pictures = vec![of(Some("1x1"), None, 4), of(Some("1x1"), Some("hd"), 8), of(Some("2x1"), Some("hd"), 12)];
        let prices = Prices { pictures, image: Some(Money::from_picos(1)), ..Prices::default() };
        for (size, quality, expected) in [
            (Some("1x1"), Some("HD"), 8),
            (Some("1x1"), Some("plain"), 4),
            (Some("1x1"), None, 8),
            (None, Some("hd"), 12),
            (None, None, 12),
            (Some("9x9"), None, 1),
        ] {
            let kind = PictureKind { size: size.map(str::to_owned), quality: quality.map(str::to_owned) };
            assert_eq!(prices.picture(&kind).map(Money::picos), Some(expected), "{kind:?}");
        }
        assert_eq!(Prices::default().picture(&PictureKind::default()), None);
    }

    #[test]
    fn an_unknown_price_is_not_nothing() {
        assert_eq!(Prices::default().cost(&usage(1, 0)), None);
        let input_only = prices("input = \"1\"");
        assert_eq!(input_only.cost(&usage(1, 1)), None);
        assert_eq!(cost(&input_only, &usage(1, 0)), "0.000001");
        let free = prices("input = \"0\"\noutput = \"0\"");
        assert_eq!(cost(&free, &usage(9, 9)), "0");
    }

    #[test]
    fn an_estimate_is_the_cost_without_a_cache() {
        assert_eq!(plain().estimate(1_000, 100), plain().cost(&usage(1_000, 100)));
        assert_eq!(Prices::default().estimate(1, 1), None);
    }

    #[test]
    fn a_bound_is_never_below_what_it_costs() {
        let tiered = prices(
            "input = \"1\"\ncached_input = \"0.1\"\ncache_write_1h = \"2\"\naudio_input = \"1.5\"\noutput = \"4\"\nreasoning = \"5\"\nabove = [ { tokens = 1000, input = \"3\", output = \"1\" } ]",
        );
        for (input, output) in [(0, 0), (1, 1), (1000, 50), (1001, 50), (5000, 0)] {
            for part in [0, 1, 7, 1000] {
                let usage = Usage {
                    cached_tokens: Some(part),
                    cache_write_tokens: Some(part / 2),
                    cache_write_1h_tokens: Some(part / 4),
                    audio_prompt_tokens: Some(part / 8),
                    reasoning_tokens: Some(part),
                    ..usage(input, output)
                };
                assert!(tiered.cost(&usage) <= tiered.bound(input, output, true), "{usage:?}");
            }
        }
        assert_eq!(tiered.bound(1000, 10, false), Some(Money::from_picos(1_500_000 * 1000 + 50 * 1_000_000)));
        assert_eq!(plain().bound(10, 0, false), plain().estimate(10, 0));
        assert_eq!(prices("input = \"1\"").bound(1, 1, true), None, "an unknown price is no bound");
        assert_eq!(Prices::default().bound(0, 0, true), Some(Money::ZERO));
    }

    #[test]
    fn the_cheapest_published_prices_are_exact() {
        assert_eq!(prices("input = \"0.0375\"").input, Some(Money::from_picos(37_500)));
        assert_eq!(prices("input = \"0.000001\"").input, Some(Money::from_picos(1)));
        for bad in ["0.0000001", "free", ""] {
            let raw = RawPrices { input: Some(bad.to_owned()), ..RawPrices::default() };
            assert!(raw.compile().is_err(), "{bad}");
        }
    }
}
