//! The parameters that are neither messages nor tools nor thinking.

use super::body::{Extras, Inference, ServiceTier};
use super::thinking::Output;
use crate::dialect::chat::{ModelTraits, Request};
use crate::dialect::losses::Losses;
use crate::domain::Fault;
use serde_json::{Map, Value, json};

/// What every model takes, with what thinking and the maker's own rules leave of it; what only some take goes into `fields`.
pub(super) fn inference<'a>(
    request: &'a Request,
    target: &ModelTraits,
    output: &mut Output,
    losses: &mut Losses,
) -> Result<Inference<'a>, Fault> {
    let anthropic = target.maker.as_deref() == Some("anthropic");
    let (mut temperature, mut top_p, mut top_k) = (request.temperature, request.top_p, request.top_k);
    if !target.sampling || output.excludes_sampling {
        let why = if target.sampling {
            "this model takes no sampling parameters while it thinks"
        } else {
            "this model takes no sampling parameters"
        };
        // The default is no loss.
        temperature = temperature.filter(|it| *it != 1.0);
        top_p = top_p.filter(|it| *it != 1.0);
        if temperature.take().is_some() {
            losses.drop("temperature", why)?;
        }
        if top_p.take().is_some() {
            losses.drop("top_p", why)?;
        }
        if top_k.take().is_some() {
            losses.drop("top_k", why)?;
        }
    }
    // Recent models of Anthropic's refuse one beside the other.
    if anthropic && temperature.is_some() && top_p.take().is_some_and(|top_p| top_p != 1.0) {
        losses.drop("top_p", "this model takes either temperature or top_p")?;
    }
    if temperature.is_some_and(|temperature| temperature > 1.0) {
        losses.drop("temperature", "this provider takes temperatures from 0 to 1")?;
        temperature = Some(1.0);
    }
    if let Some(top_k) = top_k {
        match target.maker.as_deref() {
            Some("anthropic" | "cohere" | "mistral") => {
                output.fields.insert("top_k".to_owned(), top_k.into());
            }
            Some("amazon") => {
                output.fields.insert("inferenceConfig".to_owned(), json!({ "topK": top_k }));
            }
            _ => losses.drop("top_k", "this model has no top_k")?,
        }
    }
    let (visible, blank): (Vec<&str>, Vec<&str>) =
        request.stop.iter().map(String::as_str).partition(|stop| !anthropic || !stop.trim().is_empty());
    if !blank.is_empty() {
        losses.drop("stop", "this model takes no stop sequence that is only white space")?;
    }
    Ok(Inference { max_tokens: output.max_tokens, temperature, top_p, stop_sequences: visible })
}

/// Everything else: what passes is returned or put into `fields`, what does not is noted.
pub(super) fn extras<'a>(
    request: &'a Request,
    fields: &mut Map<String, Value>,
    losses: &mut Losses,
) -> Result<Extras<'a>, Fault> {
    let mut extras = Extras::default();
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
            ("guardrailConfig" | "guardrail_config", Value::Object(_)) => extras.guardrail_config = Some(value),
            ("performanceConfig" | "performance_config", Value::Object(_)) => extras.performance_config = Some(value),
            ("metadata" | "requestMetadata", Value::Object(entries)) if entries.values().all(fits) => {
                extras.request_metadata = Some(value);
            }
            ("additionalModelRequestFields" | "additional_model_request_fields", Value::Object(own)) => {
                // What the client says in the model's own words goes over what was made of its other parameters.
                fields.extend(own.clone());
            }
            ("service_tier", Value::String(tier)) => match tier.as_str() {
                "auto" => {}
                "default" | "flex" | "priority" | "reserved" => {
                    extras.service_tier = Some(ServiceTier { kind: tier });
                }
                _ => losses.drop("service_tier", "this provider has no such service tier")?,
            },
            ("serviceTier", Value::Object(tier)) if tier.get("type").is_some_and(Value::is_string) => {
                extras.service_tier = tier.get("type").and_then(Value::as_str).map(|kind| ServiceTier { kind });
            }
            ("metadata" | "requestMetadata", _) => losses.drop(name, "this provider keeps short plain texts only")?,
            _ => losses.drop(name, "this provider has no such parameter")?,
        }
    }
    Ok(extras)
}

/// Whether a value of `metadata` is one that Converse keeps.
fn fits(value: &Value) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c.is_ascii_whitespace() || ":_@$#=/+,-.".contains(c);
    value.as_str().is_some_and(|text| text.len() <= 256 && text.chars().all(allowed))
}

/// Notes the parameters that the hub has a word for and Converse has not. One that asks for nothing special is no loss.
fn named(request: &Request, losses: &mut Losses) -> Result<(), Fault> {
    for (asked, name, why) in [
        (request.n.is_some_and(|n| n > 1), "n", "this provider gives one choice only"),
        (request.seed.is_some(), "seed", "this provider does not sample repeatably"),
        (request.frequency_penalty.is_some_and(|it| it != 0.0), "frequency_penalty", "this provider has no penalties"),
        (request.presence_penalty.is_some_and(|it| it != 0.0), "presence_penalty", "this provider has no penalties"),
        (request.logprobs == Some(true), "logprobs", "this provider gives no log probabilities"),
        (request.top_logprobs.is_some_and(|it| it > 0), "top_logprobs", "this provider gives no log probabilities"),
        (request.modalities.iter().any(|it| it != "text"), "modalities", "this provider answers in text only"),
        (request.user.as_deref().is_some_and(|it| !it.is_empty()), "user", "this provider takes no id of the end user"),
    ] {
        if asked {
            losses.drop(name, why)?;
        }
    }
    Ok(())
}
