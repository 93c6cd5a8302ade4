//! The parameters that are neither messages nor tools nor thinking.

use super::body::{Document, Extras, Sampling};
use super::losses::Losses;
use crate::dialect::chat::{ModelTraits, Request};
use crate::domain::Fault;
use serde_json::Value;

/// How many stop sequences are taken.
const MAX_STOPS: usize = 5;

/// How tokens are drawn, within Cohere's bounds: `p` from 0.01 to 0.99, `k` to 500, penalties from 0 to 1.
pub(super) fn sampling<'a>(
    request: &'a Request,
    target: &ModelTraits,
    losses: &mut Losses,
) -> Result<Sampling<'a>, Fault> {
    named(request, losses)?;
    let mut sampling = Sampling {
        // Folded to what is not negative, which keeps its purpose: the same seed is the same seed.
        seed: request.seed.map(|seed| (seed & i64::MAX) as u64),
        logprobs: request.logprobs.filter(|wanted| *wanted),
        frequency_penalty: penalty("frequency_penalty", request.frequency_penalty, losses)?,
        presence_penalty: penalty("presence_penalty", request.presence_penalty, losses)?,
        ..Sampling::default()
    };
    for (asked, name) in [
        (request.temperature.is_some_and(|value| value != 1.0), "temperature"),
        (request.top_p.is_some_and(|value| value != 1.0), "top_p"),
        (request.top_k.is_some(), "top_k"),
    ] {
        if asked && !target.sampling {
            losses.drop(name, "this model takes no sampling parameters")?;
        }
    }
    if target.sampling {
        sampling.temperature = request.temperature;
        sampling.p = request.top_p.map(|p| p.clamp(0.01, 0.99));
        sampling.k = request.top_k.map(|k| k.min(500));
    }
    sampling.stop_sequences = request.stop.iter().take(MAX_STOPS).map(String::as_str).collect();
    if request.stop.len() > MAX_STOPS {
        losses.drop("stop", "this provider takes five stop sequences")?;
    }
    Ok(sampling)
}

/// A penalty; zero is none.
fn penalty(name: &str, value: Option<f64>, losses: &mut Losses) -> Result<Option<f64>, Fault> {
    let Some(value) = value.filter(|value| *value != 0.0) else { return Ok(None) };
    if !(0.0..=1.0).contains(&value) {
        losses.drop(name, "this provider takes penalties from 0 to 1")?;
    }
    Ok(Some(value.clamp(0.0, 1.0)).filter(|value| *value > 0.0))
}

/// Notes the parameters that the hub has a word for and Cohere has not. One that asks for nothing special is no loss.
fn named(request: &Request, losses: &mut Losses) -> Result<(), Fault> {
    for (asked, name, why) in [
        (request.n.is_some_and(|n| n > 1), "n", "this provider gives one choice only"),
        (request.top_logprobs.is_some_and(|it| it > 0), "top_logprobs", "this provider gives no alternatives"),
        (request.modalities.iter().any(|it| it != "text"), "modalities", "this provider answers in text only"),
        (
            request.user.as_deref().is_some_and(|user| !user.is_empty()),
            "user",
            "this provider has no field for the end user",
        ),
    ] {
        if asked {
            losses.drop(name, why)?;
        }
    }
    Ok(())
}

/// The fields that the hub has no word for: Cohere's own pass, what asks for nothing is no loss, the rest is dropped.
pub(super) fn extras<'a>(request: &'a Request, losses: &mut Losses) -> Result<Extras<'a>, Fault> {
    let mut extras = Extras::default();
    for (name, value) in &request.rest {
        let nothing = match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.is_empty() && name != "web_search_options",
            _ => false,
        };
        match (name.as_str(), value) {
            _ if nothing => {}
            ("documents", Value::Array(items)) => extras.documents = items.iter().map(Document::Given).collect(),
            ("citation_options", Value::Object(_)) => extras.citation_options = Some(value),
            ("safety_mode", Value::String(_)) => extras.safety_mode = Some(value),
            ("priority", Value::Number(_)) => extras.priority = Some(value),
            // What happens anyway.
            ("service_tier", Value::String(tier)) if matches!(tier.as_str(), "auto" | "default") => {}
            ("stream_options", _) => {}
            _ => losses.drop(name, "this provider has no such parameter")?,
        }
    }
    Ok(extras)
}
