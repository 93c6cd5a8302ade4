//! Renders tools, which of them must be called, and the form of the answer.
//!
//! A model without a field for structured output is made to answer through one more tool, whose input is the answer.
//! Where the client has tools of its own, the model must then call some tool: one of the client's, or the answer. Where
//! the client demands one of its own calls, that call is the answer, and no form is needed.

use super::body::{Choice, Tool};
use super::losses::Losses;
use super::schema::Grammar;
use crate::dialect::chat::{self, ModelTraits, Request, ResponseFormat, StructuredOutput, ToolChoice};
use crate::domain::Fault;
use serde_json::{Value, json};
use std::borrow::Cow;

/// What goes into the body.
#[derive(Debug, Default)]
pub(super) struct Tooling<'a> {
    pub tools: Vec<Tool<'a>>,
    pub choice: Option<Choice<'a>>,
    /// The schema of `output_config.format`.
    pub format: Option<Value>,
    /// The tool whose input is the answer.
    pub answer_tool: Option<String>,
}

/// The longest name of a tool, in bytes.
const MAX_NAME: usize = 64;

/// The name of the answer tool where the client names no schema.
const ANSWER: &str = "json_answer";

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
    let wanted: Vec<&chat::Tool> = match &request.tool_choice {
        Some(ToolChoice::Allowed { names, .. }) => {
            let allowed: Vec<_> = request.tools.iter().filter(|tool| names.contains(&tool.name)).collect();
            // None at all allowed: they stay for the earlier calls' sake, and `choose` forbids them.
            if allowed.is_empty() { request.tools.iter().collect() } else { allowed }
        }
        _ => request.tools.iter().collect(),
    };
    let mut out = Tooling::default();
    let by_tool = match &request.response_format {
        Some(format @ ResponseFormat::JsonSchema { schema: Some(_), .. }) if native => {
            out.format = format.described_schema().and_then(|schema| grammar.admit(&schema));
            out.format.is_none()
        }
        Some(ResponseFormat::JsonSchema { .. } | ResponseFormat::JsonObject) => true,
        Some(ResponseFormat::Text) | None => false,
    };
    if by_tool && !demands_call(request) {
        out.answer_tool = Some(answer_name(request));
    }
    out.choice = choose(request, out.answer_tool.as_deref())?;
    for tool in wanted {
        out.tools.push(definition(tool, native, &mut grammar, losses)?);
    }
    if let Some(name) = &out.answer_tool {
        out.tools.push(answer_definition(name, request.response_format.as_ref())?);
    }
    Ok(out)
}

/// Whether the answer must be a call of the client's own tools.
pub(in crate::dialect) fn demands_call(request: &Request) -> bool {
    matches!(
        request.tool_choice,
        Some(ToolChoice::Required | ToolChoice::Function(_) | ToolChoice::Allowed { required: true, .. })
    )
}

fn choose<'a>(request: &'a Request, answer_tool: Option<&str>) -> Result<Option<Choice<'a>>, Fault> {
    let disable_parallel_tool_use = (request.parallel_tool_calls == Some(false)).then_some(true);
    let known = |name: &String| request.tools.iter().any(|tool| tool.name == *name);
    let missing = || Err(Fault::bad_request("tool_choice", "the tool choice names no tool of this request"));
    if request.tools.is_empty() && demands_call(request) {
        return missing();
    }
    if let Some(answer) = answer_tool {
        // Two answers would be none.
        let one = Some(true);
        return Ok(Some(match &request.tool_choice {
            _ if request.tools.is_empty() => Choice::Any { disable_parallel_tool_use: one },
            Some(ToolChoice::None) => {
                Choice::Tool { name: Cow::Owned(answer.to_owned()), disable_parallel_tool_use: one }
            }
            Some(ToolChoice::Allowed { names, .. }) if !names.iter().any(known) => {
                Choice::Tool { name: Cow::Owned(answer.to_owned()), disable_parallel_tool_use: one }
            }
            _ => Choice::Any { disable_parallel_tool_use },
        }));
    }
    if request.tools.is_empty() {
        return Ok(None);
    }
    Ok(match &request.tool_choice {
        None => disable_parallel_tool_use.map(|_| Choice::Auto { disable_parallel_tool_use }),
        Some(ToolChoice::Auto) => Some(Choice::Auto { disable_parallel_tool_use }),
        Some(ToolChoice::None) => Some(Choice::None),
        Some(ToolChoice::Required) => Some(Choice::Any { disable_parallel_tool_use }),
        Some(ToolChoice::Function(name)) if known(name) => {
            Some(Choice::Tool { name: Cow::Borrowed(name), disable_parallel_tool_use })
        }
        Some(ToolChoice::Function(_)) => return missing(),
        Some(ToolChoice::Allowed { names, required }) => match (names.iter().any(known), required) {
            (true, true) => Some(Choice::Any { disable_parallel_tool_use }),
            (true, false) => Some(Choice::Auto { disable_parallel_tool_use }),
            (false, true) => return missing(),
            (false, false) => Some(Choice::None),
        },
    })
}

fn definition<'a>(
    tool: &'a chat::Tool,
    native: bool,
    grammar: &mut Grammar,
    losses: &mut Losses,
) -> Result<Tool<'a>, Fault> {
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
    Ok(Tool {
        name: Cow::Borrowed(&tool.name),
        description: tool.description.as_deref().filter(|text| !text.is_empty()).map(Cow::Borrowed),
        input_schema,
        strict,
        cache_control: tool.cache_control.as_ref(),
    })
}

/// A tool's schema with the `type` that Anthropic demands.
pub(in crate::dialect) fn object_schema(schema: Option<&Value>) -> Cow<'_, Value> {
    match schema {
        None | Some(Value::Null) => Cow::Owned(json!({ "type": "object", "properties": {} })),
        Some(Value::Object(fields)) if !fields.contains_key("type") => {
            let mut typed = serde_json::Map::new();
            typed.insert("type".to_owned(), json!("object"));
            typed.extend(fields.clone());
            Cow::Owned(Value::Object(typed))
        }
        Some(schema) => Cow::Borrowed(schema),
    }
}

fn answer_definition<'a>(name: &str, format: Option<&'a ResponseFormat>) -> Result<Tool<'a>, Fault> {
    let (description, input_schema) = answer_schema(format)?;
    Ok(Tool {
        name: Cow::Owned(name.to_owned()),
        description: Some(Cow::Owned(description)),
        input_schema,
        strict: None,
        cache_control: None,
    })
}

/// What the answer tool is for, and the schema of its input.
///
/// # Errors
/// `BadRequest` when the schema is not one of an object.
pub(in crate::dialect) fn answer_schema(format: Option<&ResponseFormat>) -> Result<(String, Cow<'_, Value>), Fault> {
    let (schema, about) = match format {
        Some(ResponseFormat::JsonSchema { schema, description, .. }) => (schema.as_ref(), description.as_deref()),
        _ => (None, None),
    };
    let input_schema = match schema {
        Some(schema) => object_schema(Some(schema)),
        None => Cow::Owned(json!({ "type": "object", "additionalProperties": true })),
    };
    if input_schema.get("type").and_then(Value::as_str) != Some("object") {
        return Err(Fault::bad_request(
            "response_format.json_schema.schema",
            "this target takes a schema of an object for the answer",
        ));
    }
    let mut description = "Give the final answer by calling this tool once. Its input is the whole answer.".to_owned();
    if let Some(about) = about.filter(|about| !about.is_empty()) {
        description = format!("{description}\n\n{about}");
    }
    Ok((description, input_schema))
}

/// A name for the answer tool that none of the client's tools has: the schema's, where that can be a tool's name.
pub(in crate::dialect) fn answer_name(request: &Request) -> String {
    let fits = |name: &str| {
        !name.is_empty()
            && name.len() <= MAX_NAME
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    };
    let mut name = match &request.response_format {
        Some(ResponseFormat::JsonSchema { name, .. }) if fits(name) => name.clone(),
        _ => ANSWER.to_owned(),
    };
    let taken = |name: &str| request.tools.iter().any(|tool| tool.name == name);
    if taken(&name) {
        name = ANSWER.to_owned();
    }
    while taken(&name) {
        name.push('_');
    }
    name
}
