//! A client's chat request read into the hub, for providers that speak another format.
//!
//! Source: OpenAI's API reference of chat completions, its deprecated fields included; OpenRouter's `reasoning`; Anthropic's
//! `cache_control` and `thinking` as LiteLLM's users write them.

use super::fields::{Fields, Path};
use super::message;
use crate::dialect::chat::{Reasoning, Request, ResponseFormat, Tool, ToolChoice};
use crate::dialect::extensions;
use crate::domain::{Fault, FaultKind};
use serde_json::{Map, Value};

/// Reads a request. Fields that the hub has no word for are kept in [`Request::rest`]; `model` and the gateway's own members are not.
///
/// # Errors
/// `BadRequest` that names the field with the wrong type or value.
pub fn parse(body: &[u8]) -> Result<Request, Fault> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|broken| Fault::new(FaultKind::BadRequest, format!("the body is not JSON: {broken}")))?;
    let Value::Object(rest) = value else {
        return Err(Fault::new(FaultKind::BadRequest, "the body must be a JSON object"));
    };
    read(rest)
}

/// Reads the members of a request.
///
/// # Errors
/// As [`parse`].
pub(in crate::dialect) fn read(rest: Map<String, Value>) -> Result<Request, Fault> {
    let root = Path::top("");
    let mut fields = Fields { rest, path: &root };
    let stream = fields.boolean("stream")?.unwrap_or(false);
    let mut request = Request {
        messages: message::parse_all(fields.list("messages")?)?,
        tools: tools(&mut fields)?,
        tool_choice: tool_choice(&mut fields)?,
        parallel_tool_calls: fields.boolean("parallel_tool_calls")?,
        response_format: fields.any("response_format").map(response_format).transpose()?.flatten(),
        temperature: fields.number("temperature")?,
        top_p: fields.number("top_p")?,
        top_k: fields.count("top_k")?,
        frequency_penalty: fields.number("frequency_penalty")?,
        presence_penalty: fields.number("presence_penalty")?,
        seed: fields.integer("seed")?,
        stop: stop(&mut fields)?,
        max_tokens: max_tokens(&mut fields)?,
        n: fields.positive("n")?,
        logprobs: fields.boolean("logprobs")?,
        top_logprobs: fields.count("top_logprobs")?,
        reasoning: reasoning(&mut fields)?,
        user: user(&mut fields)?,
        stream,
        include_usage: include_usage(&mut fields)? && stream,
        modalities: fields.texts("modalities")?,
        rest: Map::new(),
    };
    let asks_for_usage = |value: &Value| value.get("include").is_some();
    fields.rest.retain(|name, value| {
        let is_ours = name == "model"
            || extensions::MEMBERS.contains(&name.as_str())
            || (name == "usage" && asks_for_usage(value));
        !is_ours && !value.is_null()
    });
    request.rest = fields.rest;
    Ok(request)
}

fn stop(fields: &mut Fields<'_>) -> Result<Vec<String>, Fault> {
    match fields.rest.get("stop") {
        Some(Value::String(_)) => Ok(fields.text("stop")?.into_iter().collect()),
        Some(Value::Array(_) | Value::Null) | None => fields.texts("stop"),
        Some(_) => Err(Path::top("stop").must_be("a string or a list of strings")),
    }
}

fn max_tokens(fields: &mut Fields<'_>) -> Result<Option<u64>, Fault> {
    let old = fields.positive("max_tokens")?;
    Ok(fields.positive("max_completion_tokens")?.or(old))
}

fn user(fields: &mut Fields<'_>) -> Result<Option<String>, Fault> {
    let user = fields.text("user")?;
    Ok(fields.text("safety_identifier")?.or(user))
}

fn include_usage(fields: &mut Fields<'_>) -> Result<bool, Fault> {
    let Some(options) = fields.any("stream_options") else { return Ok(false) };
    let path = Path::top("stream_options");
    Ok(Fields::of(options, &path)?.boolean("include_usage")?.unwrap_or(false))
}

/// `reasoning_effort`, OpenRouter's `reasoning` and `include_reasoning`, Anthropic's `thinking`; the first that says something counts.
fn reasoning(fields: &mut Fields<'_>) -> Result<Option<Reasoning>, Fault> {
    let effort = fields.text("reasoning_effort")?;
    let visible = fields.boolean("include_reasoning")?;
    let thinking = thinking(fields)?;
    let mut found = match fields.any("reasoning") {
        None => None,
        Some(value) => {
            let path = Path::top("reasoning");
            let mut given = Fields::of(value, &path)?;
            Some(Reasoning {
                effort: given.text("effort")?,
                max_tokens: given.count("max_tokens")?,
                enabled: given.boolean("enabled")?,
                exclude: given.boolean("exclude")?.unwrap_or(false),
            })
        }
    };
    if effort.is_some() {
        let given = found.get_or_insert_default();
        given.effort = given.effort.take().or(effort);
    }
    if visible == Some(false) {
        found.get_or_insert_default().exclude = true;
    }
    Ok(found.or(thinking))
}

/// Anthropic's `thinking`; another provider's object of that name stays where it is.
fn thinking(fields: &mut Fields<'_>) -> Result<Option<Reasoning>, Fault> {
    let path = Path::top("thinking");
    let enabled = match fields.rest.get("thinking").and_then(|value| value["type"].as_str()) {
        Some("enabled" | "adaptive" | "auto") => true,
        Some("disabled") => false,
        _ => return Ok(None),
    };
    let max_tokens = match fields.any("thinking") {
        Some(value) => Fields::of(value, &path)?.count("budget_tokens")?,
        None => None,
    };
    let effort = (!enabled).then(|| "none".to_owned());
    Ok(Some(Reasoning { enabled: Some(enabled), effort, max_tokens, exclude: false }))
}

/// `tools`, and the old `functions`.
fn tools(fields: &mut Fields<'_>) -> Result<Vec<Tool>, Fault> {
    let mut tools = Vec::new();
    let path = Path::top("tools");
    for (place, value) in fields.list("tools")?.unwrap_or_default().into_iter().enumerate() {
        let path = path.item(place);
        let mut tool = Fields::of(value, &path)?;
        let kind = tool.text("type")?;
        if kind.as_deref().is_some_and(|kind| kind != "function") {
            return Err(path
                .member("type")
                .must_be("\"function\": other kinds of tools run at their own provider only"));
        }
        let cache_control = tool.any("cache_control");
        let inner = path.member("function");
        // The function stands in an object of its own, or beside the type as in OpenAI's newer API.
        let mut function = match tool.any("function") {
            Some(value) => Fields::of(value, &inner)?,
            None => tool,
        };
        tools.push(Tool { cache_control, ..one_tool(&mut function)? });
    }
    let path = Path::top("functions");
    for (place, value) in fields.list("functions")?.unwrap_or_default().into_iter().enumerate() {
        tools.push(one_tool(&mut Fields::of(value, &path.item(place))?)?);
    }
    Ok(tools)
}

fn one_tool(function: &mut Fields<'_>) -> Result<Tool, Fault> {
    let parameters = function.any("parameters");
    if parameters.as_ref().is_some_and(|schema| !schema.is_object()) {
        return Err(function.path.member("parameters").must_be("a JSON schema"));
    }
    Ok(Tool {
        name: function.required_text("name")?,
        description: function.text("description")?,
        parameters,
        strict: function.boolean("strict")?,
        cache_control: function.any("cache_control"),
    })
}

/// `tool_choice`, and the old `function_call`.
fn tool_choice(fields: &mut Fields<'_>) -> Result<Option<ToolChoice>, Fault> {
    let old = fields.any("function_call");
    match (fields.any("tool_choice"), old) {
        (Some(value), _) => one_choice(value, &Path::top("tool_choice")).map(Some),
        (None, Some(value)) => one_choice(value, &Path::top("function_call")).map(Some),
        (None, None) => Ok(None),
    }
}

fn one_choice(value: Value, path: &Path<'_>) -> Result<ToolChoice, Fault> {
    let expected = "\"auto\", \"none\", \"required\" or an object that names a function";
    let word = |word: &str| match word {
        "auto" => Ok(ToolChoice::Auto),
        "none" => Ok(ToolChoice::None),
        // `any` is Mistral's and Anthropic's word.
        "required" | "any" => Ok(ToolChoice::Required),
        _ => Err(path.must_be(expected)),
    };
    let mut choice = match value {
        Value::String(text) => return word(&text),
        value => Fields::of(value, path).map_err(|_| path.must_be(expected))?,
    };
    match choice.text("type")?.as_deref() {
        Some("function" | "tool") | None => {
            let inner = path.member("function");
            let name = match choice.any("function") {
                Some(function) => Fields::of(function, &inner)?.required_text("name")?,
                None => choice.required_text("name")?,
            };
            Ok(ToolChoice::Function(name))
        }
        Some("allowed_tools") => allowed_tools(choice, path),
        Some(other) => word(other).map_err(|_| path.member("type").must_be("\"function\" or \"allowed_tools\"")),
    }
}

fn allowed_tools(mut choice: Fields<'_>, path: &Path<'_>) -> Result<ToolChoice, Fault> {
    let inner = path.member("allowed_tools");
    let mut allowed = match choice.any("allowed_tools") {
        Some(value) => Fields::of(value, &inner)?,
        None => choice,
    };
    let required = match allowed.text("mode")?.as_deref() {
        Some("required") => true,
        Some("auto") | None => false,
        Some(_) => return Err(inner.member("mode").must_be("\"auto\" or \"required\"")),
    };
    let list = inner.member("tools");
    let tools = allowed.list("tools")?.ok_or_else(|| list.must_be("given"))?;
    let names = tools.into_iter().enumerate().map(|(place, value)| {
        let path = list.item(place);
        let mut tool = Fields::of(value, &path)?;
        let function = path.member("function");
        match tool.any("function") {
            Some(value) => Fields::of(value, &function)?.required_text("name"),
            None => tool.required_text("name"),
        }
    });
    Ok(ToolChoice::Allowed { names: names.collect::<Result<_, _>>()?, required })
}

fn response_format(value: Value) -> Result<Option<ResponseFormat>, Fault> {
    let path = Path::top("response_format");
    let mut format = Fields::of(value, &path)?;
    let kind = format.required_text("type")?;
    match kind.as_str() {
        "text" => Ok(Some(ResponseFormat::Text)),
        // Together and Fireworks take a schema beside `json_object`.
        "json_object" => Ok(Some(match format.any("schema") {
            None => ResponseFormat::JsonObject,
            schema => ResponseFormat::JsonSchema { name: "response".into(), description: None, schema, strict: None },
        })),
        "json_schema" => {
            let inner = path.member("json_schema");
            let value = format.any("json_schema").ok_or_else(|| inner.must_be("given"))?;
            let mut given = Fields::of(value, &inner)?;
            let schema = given.any("schema");
            if schema.as_ref().is_some_and(|schema| !schema.is_object()) {
                return Err(inner.member("schema").must_be("a JSON schema"));
            }
            Ok(Some(ResponseFormat::JsonSchema {
                name: given.text("name")?.unwrap_or_else(|| "response".into()),
                description: given.text("description")?,
                schema,
                strict: given.boolean("strict")?,
            }))
        }
        _ => Err(path.member("type").must_be("\"text\", \"json_object\" or \"json_schema\"")),
    }
}

#[cfg(test)]
mod tests;
