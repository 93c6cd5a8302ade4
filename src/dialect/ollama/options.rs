//! What steers the model: `options`, under the names of its own runtime, and how long it stays loaded.

use super::losses::Losses;
use crate::dialect::chat::{ModelTraits, Request};
use crate::domain::Fault;
use serde_json::{Map, Value};

/// Options that clients of other servers set at the top, under the same name.
const ALIKE: [&str; 5] = ["min_p", "typical_p", "repeat_penalty", "repeat_last_n", "num_ctx"];

/// What steers a request.
#[derive(Debug, Default)]
pub(super) struct Steering<'a> {
    pub options: Map<String, Value>,
    pub keep_alive: Option<&'a Value>,
}

/// Renders the parameters. The client's own `options` pass; where it says the same thing in OpenAI's words, those count.
pub(super) fn render<'a>(
    request: &'a Request,
    target: &ModelTraits,
    losses: &mut Losses,
) -> Result<Steering<'a>, Fault> {
    named(request, losses)?;
    let mut out = Steering::default();
    for (name, value) in &request.rest {
        let nothing = match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.is_empty() && name != "web_search_options",
            _ => false,
        };
        match (name.as_str(), value) {
            _ if nothing => {}
            ("options", Value::Object(options)) => {
                for (option, value) in options {
                    out.options.entry(option.clone()).or_insert_with(|| value.clone());
                }
            }
            ("keep_alive", Value::String(_) | Value::Number(_)) => out.keep_alive = Some(value),
            (name, Value::Number(_)) if ALIKE.contains(&name) => {
                out.options.insert(name.to_owned(), value.clone());
            }
            ("repetition_penalty", Value::Number(_)) => {
                out.options.insert("repeat_penalty".to_owned(), value.clone());
            }
            // What happens anyway.
            ("service_tier", Value::String(tier)) if matches!(tier.as_str(), "auto" | "default") => {}
            ("stream_options", _) => {}
            _ => losses.drop(name, "this provider has no such parameter")?,
        }
    }
    sampling(request, target, &mut out.options, losses)?;
    Ok(out)
}

fn sampling(
    request: &Request,
    target: &ModelTraits,
    options: &mut Map<String, Value>,
    losses: &mut Losses,
) -> Result<(), Fault> {
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            options.insert(name.to_owned(), value);
        }
    };
    // A bound above what the model can write means the same.
    let bound = request.max_tokens.map(|tokens| tokens.min(target.max_output.unwrap_or(u64::MAX)));
    set("num_predict", bound.map(Value::from));
    set("seed", request.seed.map(Value::from));
    set("frequency_penalty", request.frequency_penalty.map(Value::from));
    set("presence_penalty", request.presence_penalty.map(Value::from));
    if !request.stop.is_empty() {
        set("stop", Some(request.stop.clone().into()));
    }
    let wanted = |value: Option<f64>| value.filter(|value| target.sampling || *value != 1.0).map(Value::from);
    for (option, parameter, value) in [
        ("temperature", "temperature", wanted(request.temperature)),
        ("top_p", "top_p", wanted(request.top_p)),
        ("top_k", "top_k", request.top_k.map(Value::from)),
    ] {
        match value {
            Some(_) if !target.sampling => losses.drop(parameter, "this model takes no sampling parameters")?,
            value => set(option, value),
        }
    }
    Ok(())
}

/// Notes the parameters that the hub has a word for and Ollama has not. One that asks for nothing special is no loss.
fn named(request: &Request, losses: &mut Losses) -> Result<(), Fault> {
    for (asked, name, why) in [
        (request.n.is_some_and(|n| n > 1), "n", "this provider gives one choice only"),
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
