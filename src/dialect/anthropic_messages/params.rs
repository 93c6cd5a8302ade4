//! The parameters that are neither messages nor tools nor thinking.

use super::body::{Extras, Metadata, Sampling};
use super::losses::Losses;
use crate::dialect::chat::{ModelTraits, Request};
use crate::domain::Fault;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::borrow::Cow;

/// The longest `metadata.user_id` that is taken, in bytes.
const MAX_USER_ID: usize = 256;

/// How tokens are drawn, under Anthropic's rules: temperatures end at 1, thinking takes none but the default, and
/// recent models refuse a temperature beside a `top_p`. What equals the default is left out where it would be in the
/// way, for nothing is lost by that.
pub(super) fn sampling(
    request: &Request,
    target: &ModelTraits,
    thinks: bool,
    losses: &mut Losses,
) -> Result<Sampling, Fault> {
    let mut sampling = Sampling { temperature: request.temperature, top_p: request.top_p, top_k: request.top_k };
    if sampling.top_p == Some(1.0) {
        sampling.top_p = None;
    }
    if sampling.temperature == Some(1.0) && (thinks || !target.sampling || sampling.top_p.is_some()) {
        sampling.temperature = None;
    }
    if !target.sampling || thinks {
        let why = if thinks {
            "this model takes no sampling parameters while it thinks"
        } else {
            "this model takes no sampling parameters"
        };
        if sampling.temperature.take().is_some() {
            losses.drop("temperature", why)?;
        }
        // A thinking model takes a top_p between 0.95 and 1.
        if sampling.top_p.is_some_and(|top_p| !target.sampling || top_p < 0.95) {
            sampling.top_p = None;
            losses.drop("top_p", why)?;
        }
        if sampling.top_k.take().is_some() {
            losses.drop("top_k", why)?;
        }
    }
    if sampling.temperature.is_some() && sampling.top_p.take().is_some() {
        losses.drop("top_p", "this provider takes either temperature or top_p")?;
    }
    if sampling.temperature.is_some_and(|temperature| temperature > 1.0) {
        losses.drop("temperature", "this provider takes temperatures from 0 to 1")?;
        sampling.temperature = Some(1.0);
    }
    Ok(sampling)
}

/// The texts that end the answer. Anthropic refuses those without a visible character.
pub(super) fn stop_sequences<'a>(request: &'a Request, losses: &mut Losses) -> Result<Vec<&'a str>, Fault> {
    let (visible, blank): (Vec<&str>, Vec<&str>) =
        request.stop.iter().map(String::as_str).partition(|stop| !stop.trim().is_empty());
    if !blank.is_empty() {
        losses.drop("stop", "this provider takes no stop sequence that is only white space")?;
    }
    Ok(visible)
}

/// Everything else: what passes is returned, what does not is noted.
pub(super) fn extras<'a>(request: &'a Request, losses: &mut Losses) -> Result<Extras<'a>, Fault> {
    let mut extras = Extras::default();
    if let Some(user) = request.user.as_deref().filter(|user| !user.is_empty()) {
        extras.metadata = Some(Metadata { user_id: opaque(user) });
    }
    named(request, losses)?;
    for (name, value) in &request.rest {
        let nothing = match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            _ => false,
        };
        match (name.as_str(), value) {
            _ if nothing => {}
            ("cache_control", Value::Object(_)) => extras.cache_control = Some(value),
            ("container", _) => extras.container = Some(value),
            ("inference_geo", Value::String(_)) => extras.inference_geo = Some(value),
            ("service_tier", Value::String(tier)) => match tier.as_str() {
                "auto" => extras.service_tier = Some("auto"),
                // OpenAI's `default` is the standard service even where the account has a better one.
                "default" | "standard_only" => extras.service_tier = Some("standard_only"),
                _ => losses.drop("service_tier", "this provider has no such service tier")?,
            },
            ("metadata", Value::Object(fields)) => {
                if let (None, Some(user)) = (&extras.metadata, fields.get("user_id").and_then(Value::as_str)) {
                    extras.metadata = Some(Metadata { user_id: opaque(user) });
                }
                if fields.keys().any(|key| key != "user_id") {
                    losses.drop("metadata", "this provider keeps no metadata but a user id")?;
                }
            }
            _ => losses.drop(name, "this provider has no such parameter")?,
        }
    }
    Ok(extras)
}

/// Notes the parameters that the hub has a word for and Anthropic has not. One that asks for nothing special is no
/// loss.
fn named(request: &Request, losses: &mut Losses) -> Result<(), Fault> {
    for (asked, name, why) in [
        (request.n.is_some_and(|n| n > 1), "n", "this provider gives one choice only"),
        (request.seed.is_some(), "seed", "this provider does not sample repeatably"),
        (request.frequency_penalty.is_some_and(|it| it != 0.0), "frequency_penalty", "this provider has no penalties"),
        (request.presence_penalty.is_some_and(|it| it != 0.0), "presence_penalty", "this provider has no penalties"),
        (request.logprobs == Some(true), "logprobs", "this provider gives no log probabilities"),
        (request.top_logprobs.is_some_and(|it| it > 0), "top_logprobs", "this provider gives no log probabilities"),
        (request.modalities.iter().any(|it| it != "text"), "modalities", "this provider answers in text only"),
    ] {
        if asked {
            losses.drop(name, why)?;
        }
    }
    Ok(())
}

/// The end user's id as Anthropic takes it. It refuses what looks like an e-mail address or a telephone number and asks
/// for a hash instead, so everything that is not plainly opaque already becomes one: the same user keeps the same id.
fn opaque(user: &str) -> Cow<'_, str> {
    let plain = user.len() <= MAX_USER_ID
        && user.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        && user.bytes().any(|byte| byte.is_ascii_alphabetic());
    if plain { Cow::Borrowed(user) } else { Cow::Owned(hex::encode(Sha256::digest(user.as_bytes()))) }
}
