//! Renders tools, which of them must be called, and the form of the answer.
//!
//! As for Anthropic, a model without a field for structured output answers through one more tool, whose input is the answer. Two
//! things are Converse's own: there is no way to say that no tool may be called, and a conversation with calls in it is refused
//! without a list of tools.

use super::body::{CachePoint, Choice, OutputConfig, Schema, Structure, TextFormat, Tool, ToolConfig};
use crate::dialect::anthropic_messages::schema::Grammar;
use crate::dialect::anthropic_messages::tools::{answer_name, answer_schema, demands_call, object_schema};
use crate::dialect::chat::{self, ModelTraits, Request, ResponseFormat, StructuredOutput, ToolChoice};
use crate::dialect::losses::Losses;
use crate::domain::Fault;
use serde_json::{Value, json};
use std::borrow::Cow;

/// What goes into the body.
#[derive(Debug, Default)]
pub(super) struct Tooling<'a> {
    pub config: Option<ToolConfig<'a>>,
    pub output: Option<OutputConfig>,
    /// The tool whose input is the answer.
    pub answer_tool: Option<String>,
}

/// Renders tools, tool choice and response format.
///
/// # Errors
/// `BadRequest` when the tool choice names no tool there is, or the schema of the answer is not one of an object.
pub(super) fn render<'a>(
    request: &'a Request,
    target: &ModelTraits,
    losses: &mut Losses,
) -> Result<Tooling<'a>, Fault> {
    let mut grammar = Grammar::default();
    let native = target.structured_output == StructuredOutput::Native;
    let mut out = Tooling::default();
    let by_tool = match &request.response_format {
        Some(ResponseFormat::JsonSchema { name, description, schema: Some(schema), .. }) if native => {
            out.output = grammar.admit(schema).map(|schema| output(name, description.as_deref(), &schema));
            out.output.is_none()
        }
        Some(ResponseFormat::JsonSchema { .. } | ResponseFormat::JsonObject) => true,
        Some(ResponseFormat::Text) | None => false,
    };
    if by_tool && !demands_call(request) {
        out.answer_tool = Some(answer_name(request));
    }
    let called = called(request);
    let (choice, tools_stay) = choose(request, out.answer_tool.as_deref(), !called.is_empty(), losses)?;
    let mut tools = Vec::new();
    if tools_stay {
        for tool in wanted(request) {
            definition(tool, native, &mut grammar, losses, &mut tools)?;
        }
    }
    if let Some(name) = &out.answer_tool {
        tools.push(answer_definition(name, request.response_format.as_ref())?);
    }
    // Calls of tools that the request no longer lists; without any list the conversation would be refused.
    if tools.is_empty() {
        tools.extend(called.into_iter().map(|name| Tool::ToolSpec {
            name: Cow::Borrowed(name),
            description: None,
            input_schema: Schema { json: object_schema(None) },
            strict: None,
        }));
    }
    if request.parallel_tool_calls == Some(false) && !tools.is_empty() {
        losses.drop("parallel_tool_calls", "this provider lets the model call several tools at once")?;
    }
    out.config = (!tools.is_empty()).then_some(ToolConfig { tool_choice: choice, tools });
    Ok(out)
}

/// The tools that the client allows.
fn wanted(request: &Request) -> Vec<&chat::Tool> {
    match &request.tool_choice {
        Some(ToolChoice::Allowed { names, .. }) => {
            let allowed: Vec<_> = request.tools.iter().filter(|tool| names.contains(&tool.name)).collect();
            if allowed.is_empty() { request.tools.iter().collect() } else { allowed }
        }
        _ => request.tools.iter().collect(),
    }
}

/// The names of the tools that were called before, each once.
fn called(request: &Request) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for call in request.messages.iter().flat_map(|message| &message.tool_calls) {
        if !names.contains(&call.name.as_str()) {
            names.push(&call.name);
        }
    }
    names
}

/// The tool choice, and whether the client's tools are listed at all. Where none may be called they are left out, which says it best;
/// where earlier calls keep them there, it cannot be said.
fn choose<'a>(
    request: &'a Request,
    answer_tool: Option<&str>,
    was_called: bool,
    losses: &mut Losses,
) -> Result<(Option<Choice<'a>>, bool), Fault> {
    let known = |name: &String| request.tools.iter().any(|tool| tool.name == *name);
    let missing = || Err(Fault::bad_request("tool_choice", "the tool choice names no tool of this request"));
    if request.tools.is_empty() && demands_call(request) {
        return missing();
    }
    let none = match &request.tool_choice {
        Some(ToolChoice::None) => true,
        Some(ToolChoice::Allowed { names, required: false }) => !names.iter().any(known),
        _ => false,
    };
    if let Some(answer) = answer_tool {
        let only = || Choice::Tool { name: Cow::Owned(answer.to_owned()) };
        return Ok((Some(if none || request.tools.is_empty() { only() } else { Choice::Any {} }), !none || was_called));
    }
    if none && !request.tools.is_empty() {
        if was_called {
            losses.drop("tool_choice", "this provider cannot forbid tools after one was called")?;
        }
        return Ok((None, was_called));
    }
    let choice = match &request.tool_choice {
        Some(ToolChoice::Auto) if !request.tools.is_empty() => Some(Choice::Auto {}),
        None | Some(ToolChoice::Auto | ToolChoice::None) => None,
        Some(ToolChoice::Required) => Some(Choice::Any {}),
        Some(ToolChoice::Function(name)) if known(name) => Some(Choice::Tool { name: Cow::Borrowed(name) }),
        Some(ToolChoice::Function(_)) => return missing(),
        Some(ToolChoice::Allowed { names, required: true }) if !names.iter().any(known) => return missing(),
        Some(ToolChoice::Allowed { required: true, .. }) => Some(Choice::Any {}),
        Some(ToolChoice::Allowed { .. }) => None,
    };
    Ok((choice, true))
}

fn definition<'a>(
    tool: &'a chat::Tool,
    native: bool,
    grammar: &mut Grammar,
    losses: &mut Losses,
    tools: &mut Vec<Tool<'a>>,
) -> Result<(), Fault> {
    let mut input_schema = object_schema(tool.parameters.as_ref());
    let mut strict = None;
    if tool.strict == Some(true) {
        let no_arguments = json!({ "type": "object", "additionalProperties": false });
        let schema = tool.parameters.as_ref().map_or(&no_arguments, |_| &*input_schema);
        match native.then(|| grammar.admit_tool(schema)).flatten() {
            Some(schema) => {
                input_schema = Cow::Owned(schema);
                strict = Some(true);
            }
            None => losses.drop("tools.strict", "this model cannot be held to this tool's schema")?,
        }
    }
    tools.push(Tool::ToolSpec {
        name: Cow::Borrowed(&tool.name),
        description: tool.description.as_deref().filter(|text| !text.is_empty()).map(Cow::Borrowed),
        input_schema: Schema { json: input_schema },
        strict,
    });
    tools.extend(tool.cache_control.as_ref().map(|marker| Tool::CachePoint(CachePoint::of(marker))));
    Ok(())
}

fn answer_definition<'a>(name: &str, format: Option<&'a ResponseFormat>) -> Result<Tool<'a>, Fault> {
    let (description, schema) = answer_schema(format)?;
    Ok(Tool::ToolSpec {
        name: Cow::Owned(name.to_owned()),
        description: Some(Cow::Owned(description)),
        input_schema: Schema { json: schema },
        strict: None,
    })
}

fn output(name: &str, description: Option<&str>, schema: &Value) -> OutputConfig {
    let structure = Structure::JsonSchema {
        name: name.to_owned(),
        description: description.filter(|text| !text.is_empty()).map(str::to_owned),
        schema: schema.to_string(),
    };
    OutputConfig { text_format: TextFormat { kind: "json_schema", structure } }
}
