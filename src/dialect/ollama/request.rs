//! Renders a request for Ollama.
//!
//! The conversation is rendered in `messages`, what steers the model in `options`, everything else here.

use super::body::{Body, Function, Think, Tool};
use super::losses::Losses;
use super::{messages, options};
use crate::dialect::chat::{self, ModelTraits, Rendered, Request, ResponseFormat, Thinking, ToolChoice};
use crate::dialect::effort::{Effort, Wish, parameter, wish};
use crate::domain::{Fault, FaultKind};
use serde_json::{Value, json};
use std::borrow::Cow;

/// The path below the base URL.
pub const PATH: &str = "/api/chat";

/// Renders a body.
///
/// # Errors
/// `BadRequest` with the parameter to blame, when the request cannot be said in this format at all or something would have to be dropped
/// that [`ModelTraits::require_parameters`] protects.
pub fn render(request: &Request, target: &ModelTraits) -> Result<Rendered, Fault> {
    let mut losses = Losses::new(target.require_parameters);
    let tools = tools(request, &mut losses)?;
    let messages = messages::render(request, &mut losses)?;
    let steering = options::render(request, target, &mut losses)?;
    let body = Body {
        model: &target.model,
        stream: request.stream,
        think: think(request, target, &mut losses)?,
        format: format(request, !tools.is_empty(), &mut losses)?,
        keep_alive: steering.keep_alive,
        logprobs: request.logprobs.filter(|wanted| *wanted),
        top_logprobs: request.top_logprobs.filter(|wanted| *wanted > 0),
        options: steering.options,
        tools,
        messages,
    };
    let body = serde_json::to_vec(&body)
        .map_err(|error| Fault::new(FaultKind::Internal, format!("the request could not be written: {error}")))?;
    Ok(Rendered { body, headers: Vec::new(), dropped: losses.into_names(), answer_tool: None })
}

/// The tools that are offered. Ollama can neither demand a call nor forbid one, so what must not be called is not offered, and that
/// something must be called is lost.
fn tools<'a>(request: &'a Request, losses: &mut Losses) -> Result<Vec<Tool<'a>>, Fault> {
    let (names, demanded): (Option<&[String]>, bool) = match &request.tool_choice {
        None | Some(ToolChoice::Auto) => (None, false),
        Some(ToolChoice::None) => (Some(&[]), false),
        Some(ToolChoice::Required) => (None, true),
        Some(ToolChoice::Function(name)) => (Some(std::slice::from_ref(name)), true),
        Some(ToolChoice::Allowed { names, required }) => (Some(names), *required),
    };
    let offered: Vec<&chat::Tool> =
        request.tools.iter().filter(|tool| names.is_none_or(|names| names.contains(&tool.name))).collect();
    if demanded && offered.is_empty() {
        return Err(Fault::bad_request("tool_choice", "the tool choice names no tool of this request"));
    }
    let strict = offered.iter().any(|tool| tool.strict == Some(true));
    let marked = offered.iter().any(|tool| tool.cache_control.is_some());
    let alone = request.parallel_tool_calls == Some(false) && !offered.is_empty();
    for (asked, name, why) in [
        (demanded, "tool_choice", "this provider cannot make a model call a tool"),
        (alone, "parallel_tool_calls", "this provider decides by itself how many tools it calls at once"),
        (strict, "tools.strict", "this provider does not hold arguments to their schema"),
        (marked, "cache_control", "this provider decides by itself what it caches"),
    ] {
        if asked {
            losses.drop(name, why)?;
        }
    }
    Ok(offered.into_iter().map(definition).collect())
}

fn definition(tool: &chat::Tool) -> Tool<'_> {
    let parameters = match &tool.parameters {
        None | Some(Value::Null) => Cow::Owned(json!({ "type": "object", "properties": {} })),
        Some(schema) => Cow::Borrowed(schema),
    };
    Tool { function: Function { name: &tool.name, description: tool.description.as_deref(), parameters } }
}

/// The form of the answer: a schema, or the word for any JSON. It binds every token, so beside tools it would forbid to call them.
fn format<'a>(request: &'a Request, tools: bool, losses: &mut Losses) -> Result<Option<Cow<'a, Value>>, Fault> {
    let form = match &request.response_format {
        None | Some(ResponseFormat::Text) => return Ok(None),
        Some(ResponseFormat::JsonSchema { schema: Some(schema), .. }) => Cow::Borrowed(schema),
        Some(ResponseFormat::JsonObject | ResponseFormat::JsonSchema { schema: None, .. }) => Cow::Owned(json!("json")),
    };
    if tools {
        losses.drop("response_format", "this provider's models cannot call tools while their answer has a form")?;
        return Ok(None);
    }
    Ok(Some(form))
}

/// Whether the model thinks. The few that know words take them, the others are switched on or off: their row of the catalog has a
/// budget, which is not sent.
fn think(request: &Request, target: &ModelTraits, losses: &mut Losses) -> Result<Option<Think>, Fault> {
    let Some(reasoning) = &request.reasoning else { return Ok(None) };
    let name = parameter(reasoning);
    let Some(wish) = wish(reasoning) else {
        losses.drop(name, "there is no such effort: use none, minimal, low, medium, high or xhigh")?;
        return Ok(None);
    };
    match (target.thinking, wish) {
        (_, Wish::Default) | (Thinking::None, Wish::Off) => Ok(None),
        (Thinking::None, _) => {
            losses.drop(name, "this model does not think")?;
            Ok(None)
        }
        (_, Wish::Off) => Ok(Some(Think::Switch(false))),
        (_, Wish::Open) => Ok(Some(Think::Switch(true))),
        (Thinking::Level, Wish::Effort(effort)) => Ok(Some(Think::Level(match effort {
            Effort::Low => "low",
            Effort::Medium => "medium",
            Effort::High => "high",
        }))),
        (Thinking::Budget { .. }, Wish::Effort(_)) => Ok(Some(Think::Switch(true))),
        (_, Wish::Tokens(_)) => {
            losses.drop("reasoning.max_tokens", "this provider has no bound of thinking")?;
            Ok(Some(Think::Switch(true)))
        }
    }
}
