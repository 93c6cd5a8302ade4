//! Prices out of a public price list: what is read of models.dev's `api.json` and of LiteLLM's `model_prices_and_context_window.json`, and
//! the form in which the gateway keeps them.
//!
//! Sources of the two formats: <https://models.dev> ("cost", dollars for a million tokens) and
//! <https://docs.litellm.ai/docs/proxy/sync_models_github> ("…_cost_per_token", dollars for one).

use super::prices::{PicturePrice, Prices, Tier};
use crate::domain::Money;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The version of the kept form.
const VERSION: u32 = 1;

/// What providers are called in price lists, where that is not one of the catalog's names.
const CALLED: [(&str, &str); 16] = [
    ("amazon-bedrock", "bedrock"),
    ("bedrock_converse", "bedrock"),
    ("google-vertex", "vertex"),
    ("google-vertex-anthropic", "vertex"),
    ("azure_ai", "azure"),
    ("azure_text", "azure"),
    ("text-completion-openai", "openai"),
    ("cohere_chat", "cohere"),
    ("cohere-chat", "cohere"),
    ("meta_llama", "meta"),
    ("llama", "meta"),
    ("togetherai", "together"),
    ("fireworks-ai", "fireworks"),
    ("fireworks_ai-embedding-models", "fireworks"),
    ("github_copilot", "github-copilot"),
    ("palm", "google"),
];

/// Prices by `provider/model`, in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PriceList {
    /// Where they come from, for people.
    pub source: String,
    prices: BTreeMap<String, Prices>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    source: String,
    /// In pico-dollars.
    models: BTreeMap<String, BTreeMap<String, i64>>,
}

impl PriceList {
    /// Reads a public price list, whichever of the two it is. Entries without a price for tokens are left out.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn read(json: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(json).map_err(|error| format!("is no JSON: {error}"))?;
        let Value::Object(entries) = value else { return Err(UNKNOWN.to_owned()) };
        let models_of = |entry: &Value| entry.get("models").is_some_and(Value::is_object);
        let is_models_dev = entries.values().any(models_of);
        let mut list =
            Self { source: if is_models_dev { "models.dev" } else { "litellm" }.to_owned(), ..Self::default() };
        for (name, entry) in &entries {
            if is_models_dev {
                list.add_provider(name, entry);
            } else {
                list.add_entry(name, entry);
            }
        }
        for prices in list.prices.values_mut() {
            // In the order in which they are kept.
            prices.pictures.sort_by(|a, b| (&a.size, &a.quality).cmp(&(&b.size, &b.quality)));
            prices.pictures.dedup_by(|a, b| (&a.size, &a.quality) == (&b.size, &b.quality));
        }
        if list.prices.is_empty() { Err(UNKNOWN.to_owned()) } else { Ok(list) }
    }

    /// How many models have prices in it.
    pub fn len(&self) -> usize {
        self.prices.len()
    }

    /// Whether no model has.
    pub fn is_empty(&self) -> bool {
        self.prices.is_empty()
    }

    /// The prices of a model at a provider.
    pub fn get(&self, provider: &str, model: &str) -> Option<&Prices> {
        if self.prices.is_empty() { None } else { self.prices.get(&key(provider, model)) }
    }

    /// The form in which it is kept.
    pub fn to_json(&self) -> String {
        let models = self.prices.iter().map(|(name, prices)| (name.clone(), flat(prices))).collect();
        let kept = Kept { version: VERSION, source: self.source.clone(), models };
        serde_json::to_string(&kept).unwrap_or_default()
    }

    /// Reads what [`PriceList::to_json`] has written.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_json(json: &[u8]) -> Result<Self, String> {
        let kept: Kept = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        if kept.version != VERSION {
            return Err(format!("is of version {}, this program knows {VERSION}: import the list again", kept.version));
        }
        let read = |(name, flat): (String, BTreeMap<String, i64>)| Some((name, unflat(&flat)?));
        let prices: Option<_> = kept.models.into_iter().map(read).collect();
        Ok(Self { source: kept.source, prices: prices.ok_or("names a price that is not known")? })
    }

    /// A provider of models.dev.
    fn add_provider(&mut self, provider: &str, entry: &Value) {
        let Some(models) = entry.get("models").and_then(Value::as_object) else { return };
        for (model, entry) in models {
            let Some(cost) = entry.get("cost").and_then(Value::as_object) else { continue };
            let price = |cost: &Map<String, Value>, name: &str| money(cost.get(name)?, "e-6");
            let mut above = Vec::new();
            let mut tier = |above_tokens, cost: &Map<String, Value>| {
                above.push(Tier {
                    above_tokens,
                    input: price(cost, "input"),
                    cached_input: price(cost, "cache_read"),
                    cache_write_5m: price(cost, "cache_write"),
                    cache_write_1h: None,
                    output: price(cost, "output"),
                });
            };
            for (name, value) in cost {
                let tokens = name.strip_prefix("context_over_").and_then(|rest| rest.strip_suffix('k')?.parse().ok());
                if let (Some(tokens), Some(cost)) = (tokens.and_then(thousand), value.as_object()) {
                    tier(tokens, cost);
                }
            }
            let prices = Prices {
                input: price(cost, "input"),
                cached_input: price(cost, "cache_read"),
                cache_write_5m: price(cost, "cache_write"),
                cache_write_1h: None,
                output: price(cost, "output"),
                reasoning: price(cost, "reasoning"),
                audio_input: price(cost, "input_audio"),
                audio_output: price(cost, "output_audio"),
                image: None,
                pictures: Vec::new(),
                second: None,
                character: None,
                request: None,
                above,
            };
            self.add(provider, model, prices);
        }
    }

    /// An entry of LiteLLM's list.
    fn add_entry(&mut self, name: &str, entry: &Value) {
        let Some(provider) = entry.get("litellm_provider").and_then(Value::as_str) else { return };
        let price = |field: &str| money(entry.get(field)?, "");
        let mut tiers: BTreeMap<u64, Tier> = BTreeMap::new();
        for (field, value) in entry.as_object().into_iter().flatten() {
            let Some((field, threshold)) = field.split_once("_above_") else { continue };
            let tokens = threshold.strip_suffix("k_tokens").and_then(|text| text.parse().ok()).and_then(thousand);
            let (Some(tokens), Some(price)) = (tokens, money(value, "")) else { continue };
            let tier = tiers.entry(tokens).or_insert_with(|| Tier { above_tokens: tokens, ..Tier::default() });
            match field {
                "input_cost_per_token" => tier.input = Some(price),
                "output_cost_per_token" => tier.output = Some(price),
                "cache_read_input_token_cost" => tier.cached_input = Some(price),
                "cache_creation_input_token_cost" => tier.cache_write_5m = Some(price),
                _ => {}
            }
        }
        let prices = Prices {
            input: price("input_cost_per_token"),
            cached_input: price("cache_read_input_token_cost"),
            cache_write_5m: price("cache_creation_input_token_cost"),
            cache_write_1h: price("cache_creation_input_token_cost_above_1hr"),
            output: price("output_cost_per_token"),
            reasoning: price("output_cost_per_reasoning_token"),
            audio_input: price("input_cost_per_audio_token"),
            audio_output: price("output_cost_per_audio_token"),
            image: price("output_cost_per_image").or_else(|| price("input_cost_per_image")),
            pictures: Vec::new(),
            second: price("input_cost_per_second").or_else(|| price("output_cost_per_second")),
            character: price("input_cost_per_character").or_else(|| price("output_cost_per_character")),
            request: price("input_cost_per_request").or_else(|| price("input_cost_per_query")),
            above: tiers.into_values().filter(|tier| tier.input.is_some() || tier.output.is_some()).collect(),
        };
        // A name may begin with that of its provider, which may end with the kind of its models (`vertex_ai-language-models`).
        let provider = provider
            .split_once("-language")
            .or_else(|| provider.split_once("-anthropic"))
            .map_or(provider, |(it, _)| it);
        let provider = if provider.starts_with("vertex_ai") { "vertex" } else { provider };
        if let Some((kind, model)) = picture_kind(name, provider) {
            let each = price("output_cost_per_image").or_else(|| price("input_cost_per_image"));
            let per_pixel = || Some(price("input_cost_per_pixel")? * kind.pixels?);
            if let Some(each) = each.or_else(per_pixel) {
                self.add_picture(provider, model, kind, each);
                return;
            }
        }
        let model =
            name.split_once('/').filter(|(prefix, _)| called(prefix) == called(provider) || *prefix == "vertex_ai");
        self.add(provider, model.map_or(name, |(_, model)| model), prices);
    }

    /// What a picture of a kind costs that a model makes.
    fn add_picture(&mut self, provider: &str, model: &str, kind: Kind<'_>, price: Money) {
        let prices = self.prices.entry(key(called(provider), model)).or_default();
        let (size, quality) = (kind.size.clone(), kind.quality.map(str::to_owned));
        prices.pictures.push(PicturePrice { size, quality, price });
    }

    fn add(&mut self, provider: &str, model: &str, mut prices: Prices) {
        let of_pieces = [prices.request, prices.image, prices.second, prices.character].iter().any(Option::is_some);
        if prices.input.is_some() || prices.output.is_some() || of_pieces {
            prices.above.sort_by_key(|tier| tier.above_tokens);
            // The plain name of a model is told before its variants, but for those of its pictures.
            let known = self.prices.entry(key(called(provider), model)).or_default();
            *known = std::mem::take(known).or(&prices);
        }
    }

    /// The same list under the catalog's own names of providers.
    #[must_use]
    pub fn with_names(self, id_of: impl Fn(&str) -> Option<String>) -> Self {
        let renamed = |(name, prices): (String, Prices)| {
            let (provider, model) = name.split_once('/').unwrap_or(("", &name));
            (id_of(provider).map_or_else(|| name.clone(), |id| key(&id, model)), prices)
        };
        Self { source: self.source, prices: self.prices.into_iter().map(renamed).collect() }
    }
}

/// What a name says of the pictures that an entry is for.
struct Kind<'a> {
    size: Option<String>,
    pixels: Option<u64>,
    quality: Option<&'a str>,
}

/// Of LiteLLM's `hd/1024-x-1792/dall-e`, maybe behind the provider's name: the kind of picture and the model. `None` for other names.
fn picture_kind<'a>(name: &'a str, provider: &str) -> Option<(Kind<'a>, &'a str)> {
    let (mut kinds, model) = name.rsplit_once('/')?;
    if let Some((_, rest)) = kinds.split_once('/').filter(|(first, _)| called(first) == called(provider)) {
        kinds = rest;
    }
    let mut kind = Kind { size: None, pixels: None, quality: None };
    for part in kinds.split('/') {
        let sides = part.split_once("-x-").and_then(|(wide, high)| Some((wide.parse().ok()?, high.parse().ok()?)));
        match sides {
            Some((wide, high)) => {
                let (wide, high): (u32, u32) = (wide, high);
                kind.size = Some(format!("{wide}x{high}"));
                kind.pixels = Some(u64::from(wide) * u64::from(high));
            }
            None if kind.quality.is_none() => kind.quality = Some(part),
            None => return None,
        }
    }
    kind.size.is_some().then_some((kind, model))
}

const UNKNOWN: &str = "is neither the api.json of models.dev nor LiteLLM's model_prices_and_context_window.json: it has no price of any model";

fn called(provider: &str) -> &str {
    CALLED.iter().find(|(name, _)| *name == provider).map_or(provider, |(_, id)| id)
}

fn key(provider: &str, model: &str) -> String {
    format!("{provider}/{model}").to_ascii_lowercase()
}

fn thousand(count: u64) -> Option<u64> {
    count.checked_mul(1000)
}

/// A price as it is written, exactly: the shortest text of a number is what was written. Never negative; `exponent` scales it.
fn money(value: &Value, exponent: &str) -> Option<Money> {
    let text = match value {
        Value::Number(number) => number.as_f64().filter(|price| *price >= 0.0)?.to_string(),
        _ => return None,
    };
    Money::from_dollars(&format!("{text}{exponent}"))
}

/// The kinds of prices by their names in the kept form.
fn kinds(prices: &Prices) -> [(&'static str, Option<Money>); 12] {
    [
        ("input", prices.input),
        ("cached_input", prices.cached_input),
        ("cache_write_5m", prices.cache_write_5m),
        ("cache_write_1h", prices.cache_write_1h),
        ("output", prices.output),
        ("reasoning", prices.reasoning),
        ("audio_input", prices.audio_input),
        ("audio_output", prices.audio_output),
        ("image", prices.image),
        ("second", prices.second),
        ("character", prices.character),
        ("request", prices.request),
    ]
}

fn flat(prices: &Prices) -> BTreeMap<String, i64> {
    let plain = kinds(prices).map(|(name, price)| (name.to_owned(), price));
    let tiers = prices.above.iter().flat_map(|tier| {
        let Tier { above_tokens, input, cached_input, cache_write_5m, cache_write_1h, output } = tier;
        let of_tier = [
            ("input", *input),
            ("cached_input", *cached_input),
            ("cache_write_5m", *cache_write_5m),
            ("cache_write_1h", *cache_write_1h),
            ("output", *output),
        ];
        of_tier.map(|(name, price)| (format!("{name}@{above_tokens}"), price))
    });
    let pictures = prices.pictures.iter().map(|it| {
        let [size, quality] = [&it.size, &it.quality].map(|text| text.as_deref().unwrap_or_default());
        (format!("picture/{size}/{quality}"), Some(it.price))
    });
    let known = plain.into_iter().chain(tiers).chain(pictures);
    known.filter_map(|(name, price)| Some((name, i64::try_from(price?.picos()).ok()?))).collect()
}

fn unflat(flat: &BTreeMap<String, i64>) -> Option<Prices> {
    let mut prices = Prices::default();
    for (name, picos) in flat {
        let price = Some(Money::from_picos(i128::from(*picos)).max(Money::ZERO));
        if let Some((size, quality)) = name.strip_prefix("picture/").and_then(|kind| kind.split_once('/')) {
            let named = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            prices.pictures.push(PicturePrice { size: named(size), quality: named(quality), price: price? });
            continue;
        }
        let Some((name, tokens)) = name.split_once('@') else {
            match name.as_str() {
                "input" => prices.input = price,
                "cached_input" => prices.cached_input = price,
                "cache_write_5m" => prices.cache_write_5m = price,
                "cache_write_1h" => prices.cache_write_1h = price,
                "output" => prices.output = price,
                "reasoning" => prices.reasoning = price,
                "audio_input" => prices.audio_input = price,
                "audio_output" => prices.audio_output = price,
                "image" => prices.image = price,
                "second" => prices.second = price,
                "character" => prices.character = price,
                "request" => prices.request = price,
                _ => return None,
            }
            continue;
        };
        let above_tokens = tokens.parse().ok()?;
        let at = prices.above.iter().position(|tier| tier.above_tokens == above_tokens).unwrap_or_else(|| {
            prices.above.push(Tier { above_tokens, ..Tier::default() });
            prices.above.len() - 1
        });
        let tier = prices.above.get_mut(at)?;
        match name {
            "input" => tier.input = price,
            "cached_input" => tier.cached_input = price,
            "cache_write_5m" => tier.cache_write_5m = price,
            "cache_write_1h" => tier.cache_write_1h = price,
            "output" => tier.output = price,
            _ => return None,
        }
    }
    prices.above.sort_by_key(|tier| tier.above_tokens);
    Some(prices)
}

#[cfg(test)]
mod tests {
    use super::super::prices::PictureKind;
    use super::*;

    const MODELS_DEV: &str = r#"{
        "acme": {"id": "acme", "name": "Acme", "models": {
            "Big-1": {"id": "Big-1", "cost": {"input": 1.25, "output": 10, "cache_read": 0.125, "cache_write": 1.5625,
                "reasoning": 12, "input_audio": 2, "context_over_200k": {"input": 2.5, "output": 15, "cache_read": 0.25}},
                "limit": {"context": 1000000, "output": 65536}},
            "weights": {"id": "weights", "limit": {"context": 1}}
        }},
        "amazon-bedrock": {"id": "amazon-bedrock", "models": {"acme.big-1-v1:0": {"cost": {"input": 0.000001, "output": 0}}}}
    }"#;

    const LITELLM: &str = r#"{
        "sample_spec": {"input_cost_per_token": 0.0, "litellm_provider": "one of https://docs", "max_tokens": "the most"},
        "big-1": {"litellm_provider": "acme", "input_cost_per_token": 1.25e-06, "output_cost_per_token": 1e-05,
            "cache_read_input_token_cost": 1.25e-07, "cache_creation_input_token_cost": 1.5625e-06,
            "cache_creation_input_token_cost_above_1hr": 2.5e-06, "output_cost_per_reasoning_token": 1.2e-05,
            "input_cost_per_audio_token": 2e-06, "input_cost_per_token_above_200k_tokens": 2.5e-06,
            "output_cost_per_token_above_200k_tokens": 1.5e-05, "cache_read_input_token_cost_above_200k_tokens": 2.5e-07,
            "input_cost_per_image": 0.001, "mode": "chat"},
        "acme/small": {"litellm_provider": "acme", "input_cost_per_token": 7.5e-08, "output_cost_per_token": -1},
        "draw": {"litellm_provider": "acme", "output_cost_per_image": 0.04},
        "rank": {"litellm_provider": "acme", "input_cost_per_query": 0.002},
        "hear": {"litellm_provider": "acme", "input_cost_per_second": 0.0001, "output_cost_per_second": 0.0},
        "speak": {"litellm_provider": "acme", "input_cost_per_character": 1.5e-05},
        "1024-x-1024/paint": {"litellm_provider": "acme", "input_cost_per_pixel": 4e-08, "output_cost_per_pixel": 0.0},
        "acme/hd/1024-x-1792/paint": {"litellm_provider": "acme", "output_cost_per_image": 0.12},
        "paint": {"litellm_provider": "acme", "output_cost_per_image": 0.2},
        "vertex_ai/big-1@001": {"litellm_provider": "vertex_ai-language-models", "input_cost_per_token": 3e-06}
    }"#;

    fn picos(price: Option<Money>) -> i128 {
        price.map_or(-1, Money::picos)
    }

    #[test]
    fn both_formats_say_the_same_of_a_model() {
        let (models_dev, litellm) =
            (PriceList::read(MODELS_DEV.as_bytes()).unwrap(), PriceList::read(LITELLM.as_bytes()).unwrap());
        assert_eq!((&*models_dev.source, &*litellm.source), ("models.dev", "litellm"));
        let (of_dev, of_litellm) = (models_dev.get("acme", "BIG-1").unwrap(), litellm.get("ACME", "big-1").unwrap());
        assert_eq!(picos(of_dev.input), 1_250_000);
        assert_eq!(picos(of_litellm.cache_write_1h), 2_500_000);
        assert_eq!(picos(of_litellm.image), 1_000_000_000);
        assert_eq!((picos(of_dev.above[0].cached_input), of_dev.above[0].above_tokens), (250_000, 200_000));
        let alike = Prices { cache_write_1h: None, image: None, ..of_litellm.clone() };
        assert_eq!(*of_dev, alike);
    }

    #[test]
    fn what_has_no_price_of_tokens_is_left_out_and_providers_go_by_our_names() {
        let (models_dev, litellm) =
            (PriceList::read(MODELS_DEV.as_bytes()).unwrap(), PriceList::read(LITELLM.as_bytes()).unwrap());
        assert_eq!(models_dev.get("acme", "weights"), None);
        assert_eq!(picos(models_dev.get("bedrock", "acme.big-1-v1:0").unwrap().input), 1);
        assert_eq!(picos(litellm.get("acme", "draw").unwrap().image), 40_000_000_000, "by the picture");
        assert_eq!(picos(litellm.get("acme", "rank").unwrap().request), 2_000_000_000, "by the question");
        let small = litellm.get("acme", "small").unwrap();
        assert_eq!((picos(small.input), picos(small.output)), (75_000, -1), "a negative price is none");
        assert_eq!(picos(litellm.get("vertex", "big-1@001").unwrap().input), 3_000_000);
        assert_eq!(litellm.len(), 9);
    }

    #[test]
    fn what_is_paid_by_the_second_the_character_and_the_picture() {
        let list = PriceList::read(LITELLM.as_bytes()).unwrap();
        assert_eq!(picos(list.get("acme", "hear").unwrap().second), 100_000_000);
        assert_eq!(picos(list.get("acme", "speak").unwrap().character), 15_000_000);
        let paint = list.get("acme", "paint").unwrap();
        let of = |size: &str, quality: &str| {
            let named = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            picos(paint.picture(&PictureKind { size: named(size), quality: named(quality) }))
        };
        assert_eq!(of("1024x1024", ""), 41_943_040_000, "by its pixels");
        assert_eq!(of("1024x1792", "hd"), 120_000_000_000);
        assert_eq!(of("9x9", ""), 200_000_000_000, "as any other");
    }

    #[test]
    fn what_is_kept_comes_back() {
        for list in [MODELS_DEV, LITELLM].map(|text| PriceList::read(text.as_bytes()).unwrap()) {
            assert_eq!(PriceList::from_json(list.to_json().as_bytes()), Ok(list));
        }
        let renamed =
            PriceList::read(MODELS_DEV.as_bytes()).unwrap().with_names(|it| (it == "acme").then(|| "ours".into()));
        assert!(renamed.get("ours", "big-1").is_some() && renamed.get("acme", "big-1").is_none());
    }

    #[test]
    fn what_is_no_price_list_says_so() {
        for bad in
            ["", "[]", "{}", r#"{"a":1}"#, r#"{"a":{"models":{}}}"#, r#"{"a":{"litellm_provider":"b"}}"#, "{\"a\":"]
        {
            assert!(PriceList::read(bad.as_bytes()).is_err(), "{bad}");
        }
        for bad in
            ["{}", r#"{"version":2,"source":"","models":{}}"#, r#"{"version":1,"source":"","models":{"a/b":{"x":1}}}"#]
        {
            assert!(PriceList::from_json(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
