//! Tools, which of them must be called, and the form of the answer.
//!
//! Cohere demands a call of any tool or forbids all of them; that one certain tool must be called is said by offering no other. It takes
//! no form of the answer beside tools: there the answer is made the arguments of one more tool, the *answer tool*, and some tool must
//! be called.

use super::body::{Format, Function, Tool};
use super::losses::Losses;
use crate::dialect::chat::{self, ModelTraits, Request, ResponseFormat, StructuredOutput, ToolChoice};
use crate::domain::Fault;
use serde_json::{Value, json};
use std::borrow::Cow;

/// What goes into the body.
#[derive(Debug, Default)]
pub(super) struct Tooling<'a> {
    pub tools: Vec<Tool<'a>>,
    pub choice: Option<&'static str>,
    pub strict: Option<bool>,
    pub format: Option<Format<'a>>,
    /// The tool whose arguments are the answer.
    pub answer_tool: Option<String>,
}

/// The client's tools that are offered, and whether they must (`REQUIRED`) or must not (`NONE`) be called.
struct Offer<'a> {
    tools: Vec<&'a chat::Tool>,
    choice: Option<&'static str>,
}

/// How the form of the answer is asked for.
enum Form<'a> {
    Text,
    Native(Format<'a>),
    Tool { schema: &'a Value, description: &'a str },
}

const REQUIRED: &str = "REQUIRED";
const NONE: &str = "NONE";

/// Renders tools, tool choice and response format.
///
/// # Errors
/// `BadRequest` when the tool choice names no tool there is, the schema of an answer tool is not one of an object, or something would
/// be lost and must not be.
pub(super) fn render<'a>(
    request: &'a Request,
    target: &ModelTraits,
    losses: &mut Losses,
) -> Result<Tooling<'a>, Fault> {
    let mut offer = offer(request)?;
    let form = form(request, target, &offer, losses)?;
    if matches!(form, Form::Native(_)) {
        // They must not be called, or there are none.
        offer.tools.clear();
    }
    note_losses(request, &offer, losses)?;
    let strict = strict(&offer, matches!(form, Form::Tool { .. }), losses)?;
    let mut out = Tooling {
        choice: offer.choice.filter(|_| !offer.tools.is_empty()),
        tools: offer.tools.into_iter().map(definition).collect(),
        strict,
        ..Tooling::default()
    };
    match form {
        Form::Text => {}
        Form::Native(format) => out.format = Some(format),
        Form::Tool { schema, description } => {
            let name = answer_name(&request.tools);
            let function = Function {
                name: Cow::Owned(name.clone()),
                description: Some(description),
                parameters: Cow::Borrowed(schema),
            };
            out.tools.push(Tool { function });
            out.choice = Some(REQUIRED);
            out.answer_tool = Some(name);
        }
    }
    Ok(out)
}

fn offer(request: &Request) -> Result<Offer<'_>, Fault> {
    let all = || request.tools.iter().collect::<Vec<_>>();
    let only = |names: &[String]| {
        let tools: Vec<_> = request.tools.iter().filter(|tool| names.contains(&tool.name)).collect();
        if tools.is_empty() { None } else { Some(tools) }
    };
    let missing = || Fault::bad_request("tool_choice", "the tool choice names no tool of this request");
    let (tools, choice) = match &request.tool_choice {
        None | Some(ToolChoice::Auto) => (all(), None),
        Some(ToolChoice::None) => (all(), Some(NONE)),
        Some(ToolChoice::Required) if request.tools.is_empty() => return Err(missing()),
        Some(ToolChoice::Required) => (all(), Some(REQUIRED)),
        Some(ToolChoice::Function(name)) => (only(std::slice::from_ref(name)).ok_or_else(missing)?, Some(REQUIRED)),
        Some(ToolChoice::Allowed { names, required: true }) => (only(names).ok_or_else(missing)?, Some(REQUIRED)),
        Some(ToolChoice::Allowed { names, required: false }) => match only(names) {
            Some(tools) => (tools, None),
            None => (all(), Some(NONE)),
        },
    };
    Ok(Offer { tools, choice })
}

fn form<'a>(
    request: &'a Request,
    target: &ModelTraits,
    offer: &Offer<'a>,
    losses: &mut Losses,
) -> Result<Form<'a>, Fault> {
    let callable = !offer.tools.is_empty() && offer.choice != Some(NONE);
    let native = target.structured_output == StructuredOutput::Native && !callable;
    Ok(match &request.response_format {
        None | Some(ResponseFormat::Text) => Form::Text,
        // Where a tool must be called there is no text whose form could matter.
        Some(_) if callable && offer.choice == Some(REQUIRED) => Form::Text,
        Some(format @ ResponseFormat::JsonSchema { schema: Some(_), .. }) if native => {
            Form::Native(Format { json_schema: format.described_schema() })
        }
        Some(ResponseFormat::JsonSchema { schema: Some(schema), description, .. }) => {
            if schema.get("type").and_then(Value::as_str) != Some("object") {
                let why = "this target takes a schema of an object for the answer";
                return Err(Fault::bad_request("response_format.json_schema.schema", why));
            }
            let says = description.as_deref().filter(|text| !text.is_empty());
            Form::Tool {
                schema,
                description: says.unwrap_or("Gives the final answer. Its arguments are the whole answer."),
            }
        }
        Some(ResponseFormat::JsonObject | ResponseFormat::JsonSchema { schema: None, .. }) if callable => {
            losses.drop("response_format", "this provider gives no plain JSON while it has tools")?;
            Form::Text
        }
        Some(ResponseFormat::JsonObject | ResponseFormat::JsonSchema { schema: None, .. }) => {
            Form::Native(Format { json_schema: None })
        }
    })
}

fn note_losses(request: &Request, offer: &Offer<'_>, losses: &mut Losses) -> Result<(), Fault> {
    if offer.tools.is_empty() {
        return Ok(());
    }
    if request.parallel_tool_calls == Some(false) {
        losses.drop("parallel_tool_calls", "this provider decides by itself how many tools it calls at once")?;
    }
    if offer.tools.iter().any(|tool| tool.cache_control.is_some()) {
        losses.drop("cache_control", "this provider decides by itself what it caches")?;
    }
    Ok(())
}

/// Strictness is one switch for all tools, and each then needs a required argument.
fn strict(offer: &Offer<'_>, answer_tool: bool, losses: &mut Losses) -> Result<Option<bool>, Fault> {
    let strict = |tool: &chat::Tool| tool.strict == Some(true);
    let required = |schema: &Value| schema["required"].as_array().is_some_and(|names| !names.is_empty());
    if !offer.tools.iter().any(|tool| strict(tool)) {
        return Ok(None);
    }
    if !answer_tool && offer.tools.iter().all(|tool| strict(tool) && tool.parameters.as_ref().is_some_and(required)) {
        return Ok(Some(true));
    }
    losses.drop(
        "tools.strict",
        "this provider holds all tools to their schemas or none, each with a required argument",
    )?;
    Ok(None)
}

fn definition(tool: &chat::Tool) -> Tool<'_> {
    let parameters = match &tool.parameters {
        None | Some(Value::Null) => Cow::Owned(json!({ "type": "object", "properties": {} })),
        // An empty schema means anything, but arguments are an object.
        Some(Value::Object(schema)) if schema.is_empty() => Cow::Owned(json!({ "type": "object", "properties": {} })),
        Some(schema) => Cow::Borrowed(schema),
    };
    let description = tool.description.as_deref().filter(|text| !text.is_empty());
    Tool { function: Function { name: Cow::Borrowed(&tool.name), description, parameters } }
}

/// A name for the answer tool that no tool of the client has.
fn answer_name(tools: &[chat::Tool]) -> String {
    let mut name = "final_answer".to_owned();
    while tools.iter().any(|tool| tool.name == name) {
        name.push('_');
    }
    name
}
