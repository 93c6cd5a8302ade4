//! Renders a request for a provider of OpenAI's format.
//!
//! What `quirks` of the provider's row say about requests is heeded as in a pass-through: how the bound of the output is called, whether
//! `stream_options` are taken, in which form effort is asked for.

use super::messages;
use crate::dialect::chat::{ModelTraits, Reasoning, Rendered, Request, ResponseFormat, Tool, ToolChoice};
use crate::dialect::openai_chat::quirks::Quirks;
use crate::domain::{Fault, FaultKind};
use serde_json::{Map, Value, json};

/// The client's parameters that are left out, by name; or the refusal to leave any out.
pub(super) struct Losses {
    names: Vec<String>,
    refuse: bool,
}

impl Losses {
    pub fn drop(&mut self, parameter: &str, why: &'static str) -> Result<(), Fault> {
        if self.refuse {
            return Err(Fault::bad_request(parameter, why));
        }
        if !self.names.iter().any(|name| name == parameter) {
            self.names.push(parameter.to_owned());
        }
        Ok(())
    }
}

/// Renders a body for `POST …/chat/completions`. The messages stand last, so that the bytes of a longer conversation are the same as far as
/// it is the same.
///
/// # Errors
/// `BadRequest` with the parameter to blame, when the request cannot be said in this format at all or something would have to be dropped
/// that [`ModelTraits::require_parameters`] protects.
pub fn render(request: &Request, target: &ModelTraits) -> Result<Rendered, Fault> {
    let quirks = target.quirks;
    let mut losses = Losses { names: Vec::new(), refuse: target.require_parameters };
    let mut body = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    };
    put("model", Some(target.model.as_str().into()));
    if request.stream {
        put("stream", Some(true.into()));
        let asks = !quirks.has(Quirks::NO_STREAM_OPTIONS);
        put("stream_options", asks.then(|| json!({"include_usage": true})));
    }
    let bound = request.max_tokens.map(|asked| asked.min(target.max_output.unwrap_or(u64::MAX)));
    put(bound_name(quirks), bound.map(Value::from));
    if target.sampling {
        put("temperature", request.temperature.map(Value::from));
        put("top_p", request.top_p.map(Value::from));
    } else {
        for (name, value) in [("temperature", request.temperature), ("top_p", request.top_p)] {
            // 1 is the default of both.
            if value.is_some_and(|value| value != 1.0) {
                losses.drop(name, "this model takes no sampling parameters")?;
            }
        }
    }
    if quirks.is_plain() && request.top_k.is_some() {
        losses.drop("top_k", "this provider has no such parameter")?;
    } else {
        put("top_k", request.top_k.map(Value::from));
    }
    put("frequency_penalty", request.frequency_penalty.map(Value::from));
    put("presence_penalty", request.presence_penalty.map(Value::from));
    put("seed", request.seed.map(Value::from));
    put("stop", (!request.stop.is_empty()).then(|| request.stop.clone().into()));
    put("n", request.n.map(Value::from));
    put("logprobs", request.logprobs.map(Value::from));
    put("top_logprobs", request.top_logprobs.map(Value::from));
    put("modalities", (!request.modalities.is_empty()).then(|| request.modalities.clone().into()));
    put("user", request.user.clone().map(Value::from));
    let (name, value) = reasoning(request.reasoning.as_ref(), target, &mut losses)?;
    put(name, value);
    put("response_format", request.response_format.as_ref().and_then(response_format));
    put("parallel_tool_calls", request.parallel_tool_calls.filter(|_| !request.tools.is_empty()).map(Value::from));
    put("tool_choice", tool_choice(request));
    for (name, value) in rest(request, &mut losses)? {
        put(&name, Some(value));
    }
    let marks = quirks.has(Quirks::OPENROUTER_NATIVE);
    let tools: Vec<Value> = request.tools.iter().map(|tool| definition(tool, marks)).collect();
    put("tools", (!tools.is_empty()).then(|| tools.into()));
    put("messages", Some(messages::render(request, quirks, &mut losses)?.into()));
    let body = serde_json::to_vec(&body)
        .map_err(|error| Fault::new(FaultKind::Internal, format!("the request could not be written: {error}")))?;
    Ok(Rendered { body, headers: Vec::new(), dropped: losses.names, answer_tool: None })
}

/// How the bound of the output is called: OpenAI itself, and who deviates in nothing, has the newer name.
fn bound_name(quirks: Quirks) -> &'static str {
    let newer = quirks.is_plain() || quirks.has(Quirks::MAX_COMPLETION_TOKENS);
    if newer && !quirks.has(Quirks::MAX_TOKENS) { "max_completion_tokens" } else { "max_tokens" }
}

/// How much to think: OpenRouter's `reasoning`, else `reasoning_effort`, of which a budget in tokens becomes the nearest word.
fn reasoning(
    asked: Option<&Reasoning>,
    target: &ModelTraits,
    losses: &mut Losses,
) -> Result<(&'static str, Option<Value>), Fault> {
    const NAME: &str = "reasoning_effort";
    let Some(asked) = asked else { return Ok((NAME, None)) };
    if target.quirks.has(Quirks::OPENROUTER_NATIVE) {
        let mut value = Map::new();
        match (asked.max_tokens, asked.effort.as_deref(), asked.enabled) {
            (Some(tokens), ..) => drop(value.insert("max_tokens".to_owned(), tokens.into())),
            (None, Some("none"), _) | (None, None, Some(false)) => {
                drop(value.insert("enabled".to_owned(), false.into()))
            }
            (None, Some(effort), _) => drop(value.insert("effort".to_owned(), effort.into())),
            (None, None, enabled) => drop(value.insert("enabled".to_owned(), enabled.unwrap_or(true).into())),
        }
        if asked.exclude {
            value.insert("exclude".to_owned(), true.into());
        }
        return Ok(("reasoning", Some(value.into())));
    }
    if !target.reasons {
        let wants = asked.enabled != Some(false) && asked.effort.as_deref() != Some("none");
        if wants {
            losses.drop("reasoning", "this model does not think, or not as it is told")?;
        }
        return Ok((NAME, None));
    }
    let off = asked.enabled == Some(false) || asked.max_tokens == Some(0);
    let word = match (asked.effort.as_deref(), asked.max_tokens) {
        // Few models can be told not to think, and the others refuse to be.
        _ if off || asked.effort.as_deref() == Some("none") => None,
        // Anthropic's strongest word has no counterpart.
        (Some("max"), _) => Some("high"),
        (Some(word), _) => Some(word),
        (None, Some(0..=2048)) => Some("low"),
        (None, Some(2049..=8192)) => Some("medium"),
        (None, Some(_)) => Some("high"),
        (None, None) => None,
    };
    Ok((NAME, word.map(Value::from)))
}

fn response_format(format: &ResponseFormat) -> Option<Value> {
    Some(match format {
        ResponseFormat::Text => return None,
        ResponseFormat::JsonObject => json!({"type": "json_object"}),
        ResponseFormat::JsonSchema { name, description, schema, strict } => {
            let mut inner = Map::new();
            inner.insert("name".to_owned(), name.as_str().into());
            for (name, value) in [
                ("description", description.clone().map(Value::from)),
                ("schema", schema.clone()),
                ("strict", strict.map(Value::from)),
            ] {
                if let Some(value) = value {
                    inner.insert(name.to_owned(), value);
                }
            }
            json!({"type": "json_schema", "json_schema": inner})
        }
    })
}

fn definition(tool: &Tool, marks: bool) -> Value {
    let mut function = Map::new();
    function.insert("name".to_owned(), tool.name.as_str().into());
    if let Some(description) = &tool.description {
        function.insert("description".to_owned(), description.as_str().into());
    }
    let nothing = || json!({"type": "object", "properties": {}});
    function.insert("parameters".to_owned(), tool.parameters.clone().unwrap_or_else(nothing));
    if let Some(strict) = tool.strict {
        function.insert("strict".to_owned(), strict.into());
    }
    let mut whole = json!({"type": "function", "function": function});
    if let Some(mark) = tool.cache_control.as_ref().filter(|_| marks) {
        whole["cache_control"] = mark.clone();
    }
    whole
}

fn tool_choice(request: &Request) -> Option<Value> {
    if request.tools.is_empty() {
        return None;
    }
    Some(match request.tool_choice.as_ref()? {
        ToolChoice::Auto => "auto".into(),
        ToolChoice::None => "none".into(),
        ToolChoice::Required => "required".into(),
        ToolChoice::Function(name) => json!({"type": "function", "function": {"name": name}}),
        ToolChoice::Allowed { names, required } => {
            let tools: Vec<Value> =
                names.iter().map(|name| json!({"type": "function", "function": {"name": name}})).collect();
            let mode = if *required { "required" } else { "auto" };
            json!({"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}})
        }
    })
}

/// Fields that the hub has no word for and OpenAI has; the others are dropped.
fn rest(request: &Request, losses: &mut Losses) -> Result<Vec<(String, Value)>, Fault> {
    const KNOWN: [&str; 12] = [
        "audio",
        "logit_bias",
        "metadata",
        "moderation",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "store",
        "verbosity",
        "web_search_options",
    ];
    let mut kept = Vec::new();
    for (name, value) in &request.rest {
        match (name.as_str(), value) {
            // Anthropic's word for the standard service.
            ("service_tier", Value::String(tier)) if tier == "standard_only" => {
                kept.push((name.clone(), "default".into()));
            }
            ("service_tier", _) => kept.push((name.clone(), value.clone())),
            (known, _) if KNOWN.contains(&known) => kept.push((name.clone(), value.clone())),
            _ => losses.drop(name, "this provider has no such parameter")?,
        }
    }
    Ok(kept)
}
