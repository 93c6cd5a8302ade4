//! What a client may tell the gateway in the body: `extra`, OpenRouter's `models`, `provider` and `preset`, LiteLLM's `fallbacks`.
//!
//! All of it is taken out before a provider sees the body. An unknown key or a wrong type is a 400 that names it, so that a typo
//! never looks like a setting that has no effect. Keys of OpenRouter that are known but mean nothing here are accepted and listed in
//! [`Extensions::ignored`].
//!
//! Source: OpenRouter's documentation of provider routing and model routing.

use super::openai_chat::fields::{Fields, Path};
use crate::domain::{Fault, Money, Secret, Strategy};
use serde_json::Value;
use std::time::Duration;

/// The top-level members that carry extensions. None of them ever reaches a provider.
pub const MEMBERS: [&str; 6] = ["extra", "models", "provider", "fallbacks", "route", "preset"];

/// The largest `extra.retry`.
pub const MAX_RETRY: u64 = 10;

const EXTRA_KEYS: [&str; 11] = [
    "fallback_models",
    "provider",
    "retry",
    "byok",
    "preset",
    "cache",
    "timeout_ms",
    "max_cost",
    "session_id",
    "trace_id",
    "store",
];

/// What the request says about its own routing. Absent means: as configured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extensions {
    /// `extra.fallback_models` (or LiteLLM's `fallbacks`): models, or providers for the same model, to try in this order.
    pub fallback_models: Vec<String>,
    /// OpenRouter's `models`: models to try after `model`, in this order.
    pub models: Vec<String>,
    /// `extra.provider`, or a top-level `provider` that is a string.
    pub provider: Option<ProviderChoice>,
    /// OpenRouter's `provider` object.
    pub preferences: ProviderPreferences,
    /// `extra.retry`: how often the same target is tried again, 0 to [`MAX_RETRY`].
    pub retry: Option<u32>,
    /// `extra.byok`: the client's own provider keys.
    pub byok: Option<Byok>,
    /// `extra.preset`, or OpenRouter's top-level `preset`.
    pub preset: Option<String>,
    /// `extra.cache`.
    pub cache: Option<CacheChoice>,
    /// `extra.cache.semantic`: whether the answer to a question that means the same will do.
    pub cache_semantic: Option<bool>,
    /// `extra.timeout_ms`: the deadline of the whole request.
    pub timeout: Option<Duration>,
    /// `extra.max_cost`: what the request may cost at most, in dollars.
    pub max_cost: Option<Money>,
    /// `extra.session_id`.
    pub session_id: Option<String>,
    /// `extra.trace_id`.
    pub trace_id: Option<String>,
    /// Known settings that have no effect here, by their full names.
    pub ignored: Vec<&'static str>,
}

/// How a request chooses its provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderChoice {
    /// The target that this strategy puts first.
    By(Strategy),
    /// This provider and no other.
    Named(String),
}

/// OpenRouter's `provider` object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProviderPreferences {
    /// Providers to try first, in this order.
    pub order: Vec<String>,
    /// The only providers allowed; empty means all.
    pub only: Vec<String>,
    /// Providers not to use.
    pub ignore: Vec<String>,
    /// Whether others than those of `order` may stand in; absent means yes.
    pub allow_fallbacks: Option<bool>,
    /// Only providers that honour every parameter.
    pub require_parameters: Option<bool>,
    /// What to order by instead of the configured strategy.
    pub sort: Option<Sort>,
    /// `sort.partition` is `"none"`: the targets of all models are ordered together.
    pub across_models: bool,
    /// Upper bounds of prices.
    pub max_price: MaxPrice,
    /// Prefer providers whose time to first output is below this, in seconds.
    pub preferred_max_latency: Option<f64>,
    /// Prefer providers whose throughput is above this, in tokens per second.
    pub preferred_min_throughput: Option<f64>,
}

/// OpenRouter's `provider.sort`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// Cheapest first.
    Price,
    /// Most tokens per second first.
    Throughput,
    /// Shortest time to the first token first.
    Latency,
}

/// OpenRouter's `provider.max_price`, in dollars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MaxPrice {
    /// Per million input tokens.
    pub prompt: Option<Money>,
    /// Per million output tokens.
    pub completion: Option<Money>,
    /// Per request.
    pub request: Option<Money>,
    /// Per image.
    pub image: Option<Money>,
    /// Per million tokens of audio input.
    pub audio: Option<Money>,
}

/// The client's own provider keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Byok {
    /// One key, for whichever provider serves.
    Any(Secret),
    /// Keys by provider id.
    ByProvider(Vec<(String, Secret)>),
}

impl Byok {
    /// The key for a provider that answers to any of `names`.
    pub fn for_provider<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Option<&Secret> {
        match self {
            Self::Any(key) => Some(key),
            Self::ByProvider(keys) => names
                .into_iter()
                .find_map(|name| keys.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)))
                .map(|(_, key)| key),
        }
    }

    /// All of them, for the redaction of texts that may repeat one.
    pub fn secrets(&self) -> Vec<&Secret> {
        match self {
            Self::Any(key) => vec![key],
            Self::ByProvider(keys) => keys.iter().map(|(_, key)| key).collect(),
        }
    }
}

/// `extra.cache`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheChoice {
    /// `true`: as configured.
    On,
    /// `false`: neither read nor written.
    Off,
    /// `{ttl}`: kept for this long.
    For(Duration),
}

/// The members of a body that carry extensions, as they were; absent or null is `None`.
#[derive(Clone, Debug, Default)]
pub struct Members {
    /// `extra`.
    pub extra: Option<Value>,
    /// `models`.
    pub models: Option<Value>,
    /// `provider`.
    pub provider: Option<Value>,
    /// `fallbacks`.
    pub fallbacks: Option<Value>,
    /// `preset`.
    pub preset: Option<Value>,
}

impl Extensions {
    /// Reads them.
    ///
    /// # Errors
    /// `BadRequest` that names the unknown key or the wrong type.
    pub fn parse(members: Members) -> Result<Self, Fault> {
        let mut extensions = Self::default();
        let root = Path::top("");
        let mut top = Fields { rest: serde_json::Map::new(), path: &root };
        if let Some(models) = members.models {
            top.rest.insert("models".to_owned(), models);
            extensions.models = top.texts("models")?;
        }
        if let Some(fallbacks) = members.fallbacks {
            extensions.fallback_models = litellm_fallbacks(fallbacks)?;
        }
        match members.provider.filter(|provider| !provider.is_null()) {
            None => {}
            Some(Value::String(name)) => extensions.provider = Some(choice(name, &Path::top("provider"))?),
            Some(object) => extensions.openrouter(object)?,
        }
        if let Some(preset) = members.preset {
            top.rest.insert("preset".to_owned(), preset);
            extensions.preset = top.text("preset")?;
        }
        if let Some(extra) = members.extra.filter(|extra| !extra.is_null()) {
            extensions.extra(extra)?;
        }
        Ok(extensions)
    }

    /// What the request names and this version accepts without acting on it; `extra.cache` has an effect where answers are cached, its
    /// `semantic` where they are found by what a question means.
    pub fn without_effect(&self, caches: bool, compares: bool) -> impl Iterator<Item = &'static str> {
        let unused = [
            ("extra.cache", !caches && matches!(self.cache, Some(CacheChoice::On | CacheChoice::For(_)))),
            ("extra.cache.semantic", caches && !compares && self.cache_semantic == Some(true)),
        ];
        let unused = unused.into_iter().filter_map(|(name, named)| named.then_some(name));
        self.ignored.iter().copied().chain(unused).collect::<Vec<_>>().into_iter()
    }

    fn extra(&mut self, value: Value) -> Result<(), Fault> {
        let path = Path::top("extra");
        let mut extra = Fields::of(value, &path)?;
        refuse_unknown(&extra, &EXTRA_KEYS)?;
        let fallback_models = extra.texts("fallback_models")?;
        if !fallback_models.is_empty() {
            self.fallback_models = fallback_models;
        }
        if let Some(name) = extra.text("provider")? {
            self.provider = Some(choice(name, &path.member("provider"))?);
        }
        self.retry = match extra.count("retry")? {
            Some(count) if count > MAX_RETRY => {
                return Err(path.member("retry").must_be("a whole number from 0 to 10"));
            }
            count => count.and_then(|count| u32::try_from(count).ok()),
        };
        self.byok = extra.any("byok").map(|value| byok(value, &path.member("byok"))).transpose()?;
        if let Some(value) = extra.any("cache") {
            let (choice, semantic) = cache(value, &path.member("cache"))?;
            (self.cache, self.cache_semantic) = (Some(choice), semantic);
        }
        self.timeout = extra.positive("timeout_ms")?.map(Duration::from_millis);
        self.max_cost = extra.any("max_cost").map(|value| money(&value, &path.member("max_cost"))).transpose()?;
        self.preset = extra.text("preset")?.or(self.preset.take());
        self.session_id = extra.text("session_id")?;
        self.trace_id = extra.text("trace_id")?;
        extra.boolean("store")?;
        Ok(())
    }

    fn openrouter(&mut self, value: Value) -> Result<(), Fault> {
        const KEYS: [&str; 9] = [
            "order",
            "only",
            "ignore",
            "allow_fallbacks",
            "require_parameters",
            "sort",
            "max_price",
            "preferred_max_latency",
            "preferred_min_throughput",
        ];
        // What each asks for concerns OpenRouter's own contracts with providers.
        const IGNORED: [(&str, &str); 4] = [
            ("data_collection", "provider.data_collection"),
            ("quantizations", "provider.quantizations"),
            ("zdr", "provider.zdr"),
            ("enforce_distillable_text", "provider.enforce_distillable_text"),
        ];
        let path = Path::top("provider");
        let mut given = Fields::of(value, &path)?;
        for (key, full) in IGNORED {
            if given.any(key).is_some() {
                self.ignored.push(full);
            }
        }
        refuse_unknown(&given, &KEYS)?;
        let (sort, across_models) = given.any("sort").map(sort).transpose()?.unzip();
        self.preferences = ProviderPreferences {
            order: given.texts("order")?,
            only: given.texts("only")?,
            ignore: given.texts("ignore")?,
            allow_fallbacks: given.boolean("allow_fallbacks")?,
            require_parameters: given.boolean("require_parameters")?,
            sort,
            across_models: across_models.unwrap_or(false),
            max_price: given.any("max_price").map(max_price).transpose()?.unwrap_or_default(),
            preferred_max_latency: threshold(&mut given, "preferred_max_latency")?,
            preferred_min_throughput: threshold(&mut given, "preferred_min_throughput")?,
        };
        Ok(())
    }
}

/// `"price"`, or `{"by": "price", "partition": …}`; the second is whether models are not told apart.
fn sort(value: Value) -> Result<(Sort, bool), Fault> {
    let path = Path::top("provider");
    let path = path.member("sort");
    let (word, across_models) = match value {
        Value::String(word) => (word, false),
        object => {
            let mut fields =
                Fields::of(object, &path).map_err(|_| path.must_be("a string or an object with \"by\""))?;
            refuse_unknown(&fields, &["by", "partition"])?;
            let across_models = match fields.text("partition")?.as_deref() {
                None | Some("model") => false,
                Some("none") => true,
                Some(_) => return Err(path.member("partition").must_be("\"model\" or \"none\"")),
            };
            (fields.required_text("by")?, across_models)
        }
    };
    let sort = match word.as_str() {
        "price" => Sort::Price,
        "throughput" => Sort::Throughput,
        "latency" => Sort::Latency,
        _ => return Err(path.must_be("\"price\", \"throughput\" or \"latency\"")),
    };
    Ok((sort, across_models))
}

fn refuse_unknown(fields: &Fields<'_>, known: &[&str]) -> Result<(), Fault> {
    match fields.rest.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => {
            let path = fields.path.member(key);
            Err(path.fault(format!("{path} is not known; known keys are {}", known.join(", "))))
        }
    }
}

fn choice(name: String, path: &Path<'_>) -> Result<ProviderChoice, Fault> {
    match Strategy::from_name(&name) {
        Some(strategy) => Ok(ProviderChoice::By(strategy)),
        None if name.is_empty() => {
            Err(path.must_be("\"cheap\", \"fast\", \"reliable\", another strategy or the name of a provider"))
        }
        None => Ok(ProviderChoice::Named(name)),
    }
}

fn byok(value: Value, path: &Path<'_>) -> Result<Byok, Fault> {
    let key = |value: Value, path: &Path<'_>| match value {
        Value::String(key) if !key.is_empty() => Ok(Secret::new(key)),
        _ => Err(path.must_be("a key")),
    };
    match value {
        Value::Object(keys) if !keys.is_empty() => keys
            .into_iter()
            .map(|(provider, value)| {
                let secret = key(value, &path.member(&provider))?;
                Ok((provider, secret))
            })
            .collect::<Result<_, Fault>>()
            .map(Byok::ByProvider),
        value => key(value, path).map(Byok::Any).map_err(|_| path.must_be("a key or an object of keys by provider")),
    }
}

/// The choice, and `semantic`.
fn cache(value: Value, path: &Path<'_>) -> Result<(CacheChoice, Option<bool>), Fault> {
    match value {
        Value::Bool(true) => Ok((CacheChoice::On, None)),
        Value::Bool(false) => Ok((CacheChoice::Off, None)),
        value => {
            let mut fields = Fields::of(value, path)
                .map_err(|_| path.must_be("true, false or an object with \"ttl\" or \"semantic\""))?;
            refuse_unknown(&fields, &["ttl", "semantic"])?;
            let semantic = fields
                .any("semantic")
                .map(|value| value.as_bool().ok_or_else(|| path.member("semantic").must_be("true or false")));
            let semantic = semantic.transpose()?;
            let ttl = path.member("ttl");
            let Some(value) = fields.any("ttl") else {
                return semantic.map(|_| (CacheChoice::On, semantic)).ok_or_else(|| ttl.must_be("given"));
            };
            let wrong = || ttl.must_be("seconds, or a duration like \"5m\"");
            Ok((duration(&value).map(CacheChoice::For).ok_or_else(wrong)?, semantic))
        }
    }
}

/// Seconds as a number, or a text like `250ms`, `5s`, `10m`, `1h`, `1d`.
fn duration(value: &Value) -> Option<Duration> {
    if let Some(seconds) = value.as_f64() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let text = value.as_str()?;
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic())?);
    let number: f64 = number.trim().parse().ok()?;
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * seconds).ok()
}

fn money(value: &Value, path: &Path<'_>) -> Result<Money, Fault> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => String::new(),
    };
    let amount = Money::from_dollars(&text).filter(|amount| *amount >= Money::ZERO);
    amount.ok_or_else(|| path.must_be("an amount of dollars that is not negative"))
}

fn max_price(value: Value) -> Result<MaxPrice, Fault> {
    let provider = Path::top("provider");
    let path = provider.member("max_price");
    let mut fields = Fields::of(value, &path)?;
    refuse_unknown(&fields, &["prompt", "completion", "request", "image", "audio"])?;
    let mut price = |name| fields.any(name).map(|value| money(&value, &path.member(name))).transpose();
    Ok(MaxPrice {
        prompt: price("prompt")?,
        completion: price("completion")?,
        request: price("request")?,
        image: price("image")?,
        audio: price("audio")?,
    })
}

/// A number, or OpenRouter's object of percentiles, of which the median counts.
fn threshold(fields: &mut Fields<'_>, name: &'static str) -> Result<Option<f64>, Fault> {
    let path = fields.path.member(name);
    let Some(value) = fields.any(name) else { return Ok(None) };
    let object = value.as_object();
    let median = object.and_then(|percentiles| percentiles.get("p50").or_else(|| percentiles.values().next()));
    let number = median.unwrap_or(&value).as_f64().filter(|number| *number >= 0.0);
    number.map(Some).ok_or_else(|| path.must_be("a number that is not negative"))
}

/// LiteLLM's `fallbacks`: names, or objects with a `model`.
fn litellm_fallbacks(value: Value) -> Result<Vec<String>, Fault> {
    let path = Path::top("fallbacks");
    let items = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(items) => items,
        _ => return Err(path.must_be("a list")),
    };
    items
        .into_iter()
        .enumerate()
        .map(|(place, item)| match item {
            Value::String(name) => Ok(name),
            Value::Object(object) if object.get("model").is_some_and(Value::is_string) && object.len() == 1 => {
                Ok(object["model"].as_str().unwrap_or_default().to_owned())
            }
            _ => Err(path.item(place).must_be("the name of a model")),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn extra(value: Value) -> Result<Extensions, Fault> {
        Extensions::parse(Members { extra: Some(value), ..Members::default() })
    }

    fn provider(value: Value) -> Result<Extensions, Fault> {
        Extensions::parse(Members { provider: Some(value), ..Members::default() })
    }

    #[test]
    fn reads_every_key_of_extra() {
        let read = extra(json!({
            "fallback_models": ["a/b", "anthropic"], "provider": "cheap", "retry": 0, "byok": {"openai": "sk-canary"},
            "preset": "p", "cache": {"ttl": "5m"}, "timeout_ms": 1500, "max_cost": 0.25, "session_id": "s", "trace_id": "t",
        }))
        .unwrap();
        assert_eq!(read.fallback_models, ["a/b", "anthropic"]);
        assert_eq!(read.provider, Some(ProviderChoice::By(Strategy::Cheap)));
        assert_eq!(read.retry, Some(0));
        assert_eq!(
            read.byok.as_ref().and_then(|keys| keys.for_provider(["OpenAI"])).map(Secret::reveal),
            Some("sk-canary")
        );
        assert!(read.byok.as_ref().is_some_and(|keys| keys.for_provider(["anthropic"]).is_none()));
        assert_eq!(read.cache, Some(CacheChoice::For(Duration::from_secs(300))));
        assert_eq!(read.timeout, Some(Duration::from_millis(1500)));
        assert_eq!(read.max_cost, Money::from_dollars("0.25"));
        assert_eq!(
            (read.preset.as_deref(), read.session_id.as_deref(), read.trace_id.as_deref()),
            (Some("p"), Some("s"), Some("t"))
        );
        assert!(!format!("{read:?}").contains("canary"));
    }

    #[test]
    fn null_is_absent() {
        let nothing = json!({"provider": null, "retry": null, "byok": null, "cache": null, "fallback_models": null});
        assert_eq!(extra(nothing).unwrap(), Extensions::default());
        assert_eq!(extra(Value::Null).unwrap(), Extensions::default());
    }

    #[test]
    fn reads_whether_what_means_the_same_will_do() {
        let read = |value: Value| {
            let read = extra(json!({ "cache": value })).unwrap();
            (read.cache, read.cache_semantic)
        };
        assert_eq!(read(json!({"semantic": true})), (Some(CacheChoice::On), Some(true)));
        assert_eq!(read(json!({"ttl": 60, "semantic": false})).1, Some(false));
        let wish = extra(json!({"cache": {"semantic": true}})).unwrap();
        let without = |caches, compares| wish.without_effect(caches, compares).collect::<Vec<_>>();
        assert_eq!(without(false, true), ["extra.cache"]);
        assert_eq!(without(true, false), ["extra.cache.semantic"]);
        assert_eq!(without(true, true), Vec::<&str>::new());
    }

    #[test]
    fn names_what_is_wrong() {
        for (value, param) in [
            (json!({"retries": 1}), "extra.retries"),
            (json!({"retry": 11}), "extra.retry"),
            (json!({"retry": "2"}), "extra.retry"),
            (json!({"retry": -1}), "extra.retry"),
            (json!({"provider": 5}), "extra.provider"),
            (json!({"provider": ""}), "extra.provider"),
            (json!({"fallback_models": "a"}), "extra.fallback_models"),
            (json!({"fallback_models": ["a", 1]}), "extra.fallback_models[1]"),
            (json!({"byok": {"openai": 1}}), "extra.byok.openai"),
            (json!({"byok": ""}), "extra.byok"),
            (json!({"cache": "no"}), "extra.cache"),
            (json!({"cache": {"ttl": "soon"}}), "extra.cache.ttl"),
            (json!({"cache": {}}), "extra.cache.ttl"),
            (json!({"cache": {"semantic": "yes"}}), "extra.cache.semantic"),
            (json!({"cache": {"near": true}}), "extra.cache.near"),
            (json!({"timeout_ms": 0}), "extra.timeout_ms"),
            (json!({"max_cost": -1}), "extra.max_cost"),
            (json!("cheap"), "extra"),
        ] {
            let fault = extra(value.clone()).unwrap_err();
            assert_eq!(fault.param.as_deref(), Some(param), "{value}");
        }
        let fault = extra(json!({"retries": 1})).unwrap_err();
        assert!(
            fault.message.starts_with("extra.retries is not known; known keys are fallback_models, provider, retry")
        );
        assert!(!extra(json!({"byok": ["sk-canary"]})).unwrap_err().message.contains("canary"));
    }

    #[test]
    fn reads_openrouters_provider_object() {
        let read = provider(json!({
            "order": ["a"], "only": ["b"], "ignore": ["c"], "allow_fallbacks": false, "require_parameters": true,
            "sort": {"by": "throughput", "partition": "none"}, "max_price": {"prompt": 1, "completion": "2.5"},
            "preferred_max_latency": {"p50": 1.5, "p90": 3}, "preferred_min_throughput": 20,
            "data_collection": "deny", "quantizations": ["fp8"],
        }))
        .unwrap();
        let preferences = &read.preferences;
        assert_eq!((&preferences.order[..], &preferences.only[..]), (&["a".to_owned()][..], &["b".to_owned()][..]));
        assert_eq!((preferences.allow_fallbacks, preferences.require_parameters), (Some(false), Some(true)));
        assert_eq!(preferences.sort, Some(Sort::Throughput));
        assert_eq!(preferences.max_price.completion, Money::from_dollars("2.5"));
        assert_eq!((preferences.preferred_max_latency, preferences.preferred_min_throughput), (Some(1.5), Some(20.0)));
        assert!(preferences.across_models);
        assert_eq!(read.ignored, ["provider.data_collection", "provider.quantizations"]);
        for (value, param) in [
            (json!({"oder": []}), "provider.oder"),
            (json!({"sort": "speed"}), "provider.sort"),
            (json!({"sort": {"by": "price", "partition": "all"}}), "provider.sort.partition"),
            (json!({"max_price": {"prompt": "x"}}), "provider.max_price.prompt"),
            (json!({"only": [1]}), "provider.only[0]"),
            (json!(7), "provider"),
        ] {
            assert_eq!(provider(value.clone()).unwrap_err().param.as_deref(), Some(param), "{value}");
        }
        assert_eq!(provider(json!("groq")).unwrap().provider, Some(ProviderChoice::Named("groq".into())));
    }

    #[test]
    fn reads_models_and_litellms_fallbacks() {
        let members = Members {
            models: Some(json!(["x", "y"])),
            fallbacks: Some(json!(["a", {"model": "b"}])),
            ..Members::default()
        };
        let read = Extensions::parse(members).unwrap();
        assert_eq!(
            (read.models, read.fallback_models),
            (vec!["x".to_owned(), "y".into()], vec!["a".to_owned(), "b".into()])
        );
        let wrong = Members { fallbacks: Some(json!([{"a": ["b"]}])), ..Members::default() };
        assert_eq!(Extensions::parse(wrong).unwrap_err().param.as_deref(), Some("fallbacks[0]"));
    }
}
