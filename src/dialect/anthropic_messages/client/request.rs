//! A request of `POST /v1/messages` read into the hub, for providers that speak another format.
//!
//! What only Anthropic can do is refused where the answer depends on it (tools that it runs itself, MCP servers), and otherwise kept in
//! [`Request::rest`] under the client's own name, so that the renderer reports it as dropped.
//!
//! Source: Anthropic's API reference of messages, its beta fields included.

use super::content;
use crate::dialect::chat::{Reasoning, Request, ResponseFormat, Tool, ToolChoice};
use crate::dialect::extensions;
use crate::dialect::openai_chat::fields::{Fields, Path};
use crate::domain::{Fault, FaultKind};
use serde_json::{Map, Value};

/// Reads a request.
///
/// # Errors
/// `BadRequest` that names the field with the wrong type or value, or that no other provider can honour.
pub fn parse(body: &[u8]) -> Result<Request, Fault> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|broken| Fault::new(FaultKind::BadRequest, format!("the body is not JSON: {broken}")))?;
    let Value::Object(rest) = value else {
        return Err(Fault::new(FaultKind::BadRequest, "the body must be a JSON object"));
    };
    let root = Path::top("");
    let mut fields = Fields { rest, path: &root };
    let mut lost = Lost::default();
    refuse_servers(&mut fields)?;
    let stream = fields.boolean("stream")?.unwrap_or(false);
    let messages = content::messages(&mut fields, &mut lost)?;
    let (tool_choice, parallel_tool_calls) = tool_choice(&mut fields)?;
    let mut output = output(&mut fields, &mut lost)?;
    let reasoning = reasoning(&mut fields, output.effort.take())?;
    let mut request = Request {
        messages,
        tools: tools(&mut fields, &mut lost)?,
        tool_choice,
        parallel_tool_calls,
        response_format: output.format,
        temperature: fields.number("temperature")?,
        top_p: fields.number("top_p")?,
        top_k: fields.count("top_k")?,
        stop: fields.texts("stop_sequences")?,
        max_tokens: fields.positive("max_tokens")?,
        reasoning,
        user: user(&mut fields)?,
        stream,
        include_usage: stream,
        ..Request::default()
    };
    fields.rest.retain(|name, value| {
        let is_ours = matches!(name.as_str(), "model" | "anthropic_version" | "anthropic_beta" | "betas");
        !is_ours && !extensions::MEMBERS.contains(&name.as_str()) && !value.is_null()
    });
    request.rest = fields.rest;
    request.rest.extend(lost.0);
    Ok(request)
}

/// Parts of the request that the hub has no word for, by the client's name for them.
#[derive(Default)]
pub(super) struct Lost(Map<String, Value>);

impl Lost {
    pub fn note(&mut self, name: &str) {
        self.0.entry(name).or_insert(Value::Bool(true));
    }
}

fn refuse_servers(fields: &mut Fields<'_>) -> Result<(), Fault> {
    match fields.list("mcp_servers")? {
        Some(servers) if !servers.is_empty() => {
            Err(Path::top("mcp_servers").fault("mcp_servers are called by Anthropic itself: this provider cannot"))
        }
        _ => Ok(()),
    }
}

/// `metadata.user_id`.
fn user(fields: &mut Fields<'_>) -> Result<Option<String>, Fault> {
    let Some(metadata) = fields.any("metadata") else { return Ok(None) };
    let path = Path::top("metadata");
    let user = Fields::of(metadata, &path)?.text("user_id")?;
    Ok(user.filter(|user| !user.is_empty()))
}

#[derive(Default)]
struct Output {
    effort: Option<String>,
    format: Option<ResponseFormat>,
}

/// `output_config`, and `output_format` as it was called before.
fn output(fields: &mut Fields<'_>, lost: &mut Lost) -> Result<Output, Fault> {
    let mut output = Output::default();
    let path = Path::top("output_format");
    if let Some(value) = fields.any("output_format") {
        output.format = Some(format(value, &path)?);
    }
    let path = Path::top("output_config");
    if let Some(value) = fields.any("output_config") {
        let mut config = Fields::of(value, &path)?;
        output.effort = config.text("effort")?;
        if let Some(value) = config.any("format") {
            output.format = Some(format(value, &path.member("format"))?);
        }
        for name in config.rest.keys() {
            lost.note(&format!("output_config.{name}"));
        }
    }
    Ok(output)
}

fn format(value: Value, path: &Path<'_>) -> Result<ResponseFormat, Fault> {
    let mut fields = Fields::of(value, path)?;
    if fields.required_text("type")? != "json_schema" {
        return Err(path.member("type").must_be("\"json_schema\""));
    }
    let schema = fields.any("schema").filter(Value::is_object);
    let schema = schema.ok_or_else(|| path.member("schema").must_be("a JSON schema"))?;
    Ok(ResponseFormat::JsonSchema {
        name: "response".to_owned(),
        description: None,
        schema: Some(schema),
        strict: Some(true),
    })
}

/// `thinking`, with the effort of `output_config` beside it.
fn reasoning(fields: &mut Fields<'_>, effort: Option<String>) -> Result<Option<Reasoning>, Fault> {
    let path = Path::top("thinking");
    let asked = |reasoning| Ok(Some(reasoning));
    let Some(value) = fields.any("thinking") else {
        return Ok(effort.map(|effort| Reasoning { effort: Some(effort), ..Reasoning::default() }));
    };
    let mut thinking = Fields::of(value, &path)?;
    let exclude = thinking.text("display")?.as_deref() == Some("omitted");
    match thinking.required_text("type")?.as_str() {
        "enabled" => {
            let max_tokens = thinking.count("budget_tokens")?;
            asked(Reasoning { effort: None, max_tokens, enabled: Some(true), exclude })
        }
        "adaptive" => asked(Reasoning { effort, max_tokens: None, enabled: Some(true), exclude }),
        "disabled" => {
            asked(Reasoning { effort: Some("none".to_owned()), enabled: Some(false), ..Reasoning::default() })
        }
        _ => Err(path.member("type").must_be("\"enabled\", \"adaptive\" or \"disabled\"")),
    }
}

fn tools(fields: &mut Fields<'_>, lost: &mut Lost) -> Result<Vec<Tool>, Fault> {
    let path = Path::top("tools");
    let list = fields.list("tools")?.unwrap_or_default();
    list.into_iter().enumerate().map(|(place, value)| tool(value, &path.item(place), lost)).collect()
}

fn tool(value: Value, path: &Path<'_>, lost: &mut Lost) -> Result<Tool, Fault> {
    let mut tool = Fields::of(value, path)?;
    let kind = tool.text("type")?;
    if let Some(kind) = kind.filter(|kind| kind != "custom") {
        let message = format!("{path} is a tool of Anthropic's own ({kind}): this provider has no such tool");
        return Err(path.member("type").fault(message));
    }
    let schema = tool.any("input_schema");
    if schema.as_ref().is_some_and(|schema| !schema.is_object()) {
        return Err(path.member("input_schema").must_be("a JSON schema"));
    }
    let read = Tool {
        name: tool.required_text("name")?,
        description: tool.text("description")?,
        parameters: schema,
        strict: tool.boolean("strict")?,
        cache_control: tool.any("cache_control"),
    };
    for (name, value) in &tool.rest {
        if !matches!(value, Value::Null | Value::Bool(false)) {
            lost.note(&format!("tools.{name}"));
        }
    }
    Ok(read)
}

/// `tool_choice`, and whether several calls at once are allowed.
fn tool_choice(fields: &mut Fields<'_>) -> Result<(Option<ToolChoice>, Option<bool>), Fault> {
    let path = Path::top("tool_choice");
    let Some(value) = fields.any("tool_choice") else { return Ok((None, None)) };
    let mut choice = Fields::of(value, &path)?;
    let parallel = choice.boolean("disable_parallel_tool_use")?.map(|disabled| !disabled);
    let choice = match choice.required_text("type")?.as_str() {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Function(choice.required_text("name")?),
        _ => return Err(path.member("type").must_be("\"auto\", \"any\", \"tool\" or \"none\"")),
    };
    Ok((Some(choice), parallel))
}
