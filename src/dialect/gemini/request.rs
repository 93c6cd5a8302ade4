//! The hub's request as the body of `generateContent`.

use super::body::{Body, Tools};
use super::losses::Losses;
use super::{contents, thinking, tools};
use crate::dialect::chat::{ModelTraits, Rendered, Request};
use crate::domain::{Fault, FaultKind};
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// The path and query below the base URL. A model may be named `gemini-x`, `models/gemini-x` or `tunedModels/x`; everything else in
/// its name is escaped, so that it can name nothing but a model.
pub fn path(model: &str, stream: bool) -> String {
    let (collection, name) = match model.split_once('/') {
        Some((collection @ ("models" | "tunedModels"), name)) => (collection, name),
        _ => ("models", model),
    };
    let mut path = format!("/v1beta/{collection}/");
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'@' => path.push(char::from(byte)),
            _ => {
                // Writing to a string cannot fail.
                let _ = write!(path, "%{byte:02X}");
            }
        }
    }
    path.push_str(if stream { ":streamGenerateContent?alt=sse" } else { ":generateContent" });
    path
}

/// Renders a request.
///
/// # Errors
/// `BadRequest` with the parameter to blame, when the request cannot be said in this format at all or something would have to be dropped
/// that must not be.
pub fn render(request: &Request, traits: &ModelTraits) -> Result<Rendered, Fault> {
    let mut losses = Losses::new(traits.require_parameters);
    let conversation = contents::conversation(request, traits, &mut losses)?;
    let form = tools::form(request, traits, &mut losses)?;
    let answer_tool = matches!(form, tools::Form::Tool { .. }).then(|| tools::answer_tool_name(&request.tools));
    let tooling = tools::tooling(request, &form, answer_tool.as_deref(), &mut losses)?;
    let mut body = Body {
        system_instruction: conversation.system,
        contents: conversation.turns,
        tools: tooling.tools,
        tool_config: tooling.config,
        generation_config: generation_config(request, &form, traits, &mut losses)?,
        ..Body::default()
    };
    extensions(request, &mut body, &mut losses)?;
    let json = serde_json::to_vec(&body);
    drop(body);
    let body =
        json.map_err(|error| Fault::new(FaultKind::Internal, format!("the request cannot be written: {error}")))?;
    Ok(Rendered { body, headers: Vec::new(), dropped: losses.into_names(), answer_tool })
}

fn generation_config(
    request: &Request,
    form: &tools::Form<'_>,
    traits: &ModelTraits,
    losses: &mut Losses,
) -> Result<Map<String, Value>, Fault> {
    let mut config = Map::new();
    let mut set = |name: &str, value: Value| {
        config.insert(name.to_owned(), value);
    };
    // A bound above what the model can write is refused, and means the same.
    let max_tokens = request.max_tokens.map(|tokens| tokens.min(traits.max_output.unwrap_or(u64::MAX)));
    if let Some(tokens) = max_tokens {
        set("maxOutputTokens", tokens.into());
    }
    if let Some(n) = request.n.filter(|n| *n != 1) {
        set("candidateCount", n.into());
    }
    if !request.stop.is_empty() {
        set("stopSequences", request.stop.clone().into());
    }
    if let Some(seed) = request.seed {
        set("seed", fold(seed).into());
    }
    for (name, value) in
        [("frequencyPenalty", request.frequency_penalty), ("presencePenalty", request.presence_penalty)]
    {
        if let Some(value) = value.filter(|value| *value != 0.0) {
            set(name, value.into());
        }
    }
    // Without sampling parameters a model samples at OpenAI's default, so asking for that is no loss.
    let wanted = |value: Option<f64>| value.filter(|value| traits.sampling || *value != 1.0).map(Value::from);
    let sampling = [
        ("temperature", "temperature", wanted(request.temperature)),
        ("topP", "top_p", wanted(request.top_p)),
        ("topK", "top_k", request.top_k.map(Value::from)),
    ];
    for (name, parameter, value) in sampling {
        match value {
            Some(value) if traits.sampling => set(name, value),
            Some(_) => losses.drop(parameter, "this model takes no sampling parameters")?,
            None => {}
        }
    }
    if request.logprobs == Some(true) {
        set("responseLogprobs", true.into());
        if let Some(top) = request.top_logprobs.filter(|top| *top > 0) {
            set("logprobs", top.into());
        }
    }
    match form {
        tools::Form::Text | tools::Form::Tool { .. } => {}
        tools::Form::Json => set("responseMimeType", "application/json".into()),
        tools::Form::Schema(schema) => {
            set("responseMimeType", "application/json".into());
            set("responseJsonSchema", schema.clone().into_owned());
        }
    }
    if let Some(modalities) = modalities(request, losses)? {
        set("responseModalities", modalities);
    }
    if let Some(thinking) = thinking::config(request.reasoning.as_ref(), max_tokens, traits, losses)? {
        set("thinkingConfig", thinking);
    }
    Ok(config)
}

/// Google's seeds have 32 bits. A larger one is folded, which keeps its purpose: the same seed is the same seed.
fn fold(seed: i64) -> i32 {
    i32::try_from(seed).unwrap_or(((seed >> 32) ^ seed) as i32)
}

fn modalities(request: &Request, losses: &mut Losses) -> Result<Option<Value>, Fault> {
    let mut names: Vec<String> = Vec::new();
    for modality in &request.modalities {
        match modality.to_ascii_lowercase().as_str() {
            word @ ("text" | "image") => names.push(word.to_ascii_uppercase()),
            _ => losses.drop("modalities", "answers of this provider are given as text and pictures only")?,
        }
    }
    Ok(names.iter().any(|name| name == "IMAGE").then(|| names.into()))
}

/// The fields that the hub has no word for: Google's own pass, what asks for nothing is no loss, the rest is dropped.
fn extensions<'a>(request: &'a Request, body: &mut Body<'a>, losses: &mut Losses) -> Result<(), Fault> {
    if request.user.as_deref().is_some_and(|user| !user.is_empty()) {
        losses.drop("user", "this provider has no field for the end user")?;
    }
    for (name, value) in &request.rest {
        let nothing = match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.is_empty() && name != "web_search_options",
            _ => false,
        };
        match (name.as_str(), value) {
            _ if nothing => {}
            ("safety_settings" | "safetySettings", Value::Array(_)) => body.safety_settings = Some(value),
            ("cached_content" | "cachedContent", Value::String(_)) => body.cached_content = Some(value),
            ("web_search_options", Value::Object(options)) => {
                if !body.tools.is_empty() {
                    losses.drop(name, "this provider does not search the web and call functions in one request")?;
                    continue;
                }
                body.tools.push(Tools::GoogleSearch {});
                for option in options.keys() {
                    losses.drop(&format!("{name}.{option}"), "this provider's web search has no such option")?;
                }
            }
            ("image_config", Value::Object(options)) => image_config(options, body, losses)?,
            // What happens anyway.
            ("service_tier", Value::String(tier)) if matches!(tier.as_str(), "auto" | "default") => {}
            ("stream_options", _) => {}
            _ => losses.drop(name, "this provider has no such parameter")?,
        }
    }
    Ok(())
}

/// OpenRouter's `image_config`.
fn image_config(options: &Map<String, Value>, body: &mut Body<'_>, losses: &mut Losses) -> Result<(), Fault> {
    let mut config = Map::new();
    for (option, value) in options {
        match option.as_str() {
            "aspect_ratio" => config.insert("aspectRatio".to_owned(), value.clone()),
            "image_size" => config.insert("imageSize".to_owned(), value.clone()),
            _ => {
                losses.drop(&format!("image_config.{option}"), "this provider has no such option for pictures")?;
                continue;
            }
        };
    }
    body.generation_config.insert("imageConfig".to_owned(), json!(config));
    Ok(())
}
