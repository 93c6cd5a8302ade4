//! Functions, which of them must be called, and the form of the answer.
//!
//! Schemas go as `parametersJsonSchema` and `responseJsonSchema`, which take JSON schema as it is; the older `parameters` and
//! `responseSchema` take a subset of OpenAPI's and refuse `$ref`, `const`, several types at once and more. Recorded traffic shows both
//! hosts and all generations taking the newer fields.
//!
//! **JSON and functions at once** are refused by models before the third generation (those with a thinking budget). There the answer is
//! made the arguments of one more function, the *answer tool*, and some function must be called.

use super::body::{FunctionCallingConfig, FunctionDeclaration, ToolConfig, Tools};
use super::losses::Losses;
use crate::dialect::chat::{ModelTraits, Request, ResponseFormat, StructuredOutput, Thinking, Tool, ToolChoice};
use crate::domain::Fault;
use serde_json::{Value, json};
use std::borrow::Cow;

/// How the form of the answer is asked for.
#[derive(Debug, PartialEq)]
pub enum Form<'a> {
    /// Not at all.
    Text,
    /// By `responseMimeType`.
    Json,
    /// By `responseMimeType` and `responseJsonSchema`.
    Schema(Cow<'a, Value>),
    /// By the answer tool.
    Tool {
        /// What the schema says of itself.
        description: Option<&'a str>,
        /// The schema.
        schema: &'a Value,
    },
}

/// The functions of a request.
#[derive(Debug, Default)]
pub struct Tooling<'a> {
    /// The declarations.
    pub tools: Vec<Tools<'a>>,
    /// Which must be called.
    pub config: Option<ToolConfig<'a>>,
}

/// Chooses how to ask for the form of the answer.
///
/// # Errors
/// `BadRequest` when the form cannot be asked for and nothing may be dropped.
pub fn form<'a>(request: &'a Request, traits: &ModelTraits, losses: &mut Losses) -> Result<Form<'a>, Fault> {
    let callable = !request.tools.is_empty() && request.tool_choice != Some(ToolChoice::None);
    let together = !callable || traits.thinking == Thinking::Level;
    let forced = is_forced(request.tool_choice.as_ref());
    let native = traits.structured_output == StructuredOutput::Native && together;
    Ok(match &request.response_format {
        None | Some(ResponseFormat::Text) => Form::Text,
        // Where a function must be called there is no text whose form could matter.
        Some(_) if callable && forced && !native => Form::Text,
        Some(format @ ResponseFormat::JsonSchema { schema: Some(_), .. }) if native => {
            format.described_schema().map_or(Form::Json, Form::Schema)
        }
        Some(ResponseFormat::JsonSchema { schema: Some(schema), description, .. }) => {
            Form::Tool { description: description.as_deref(), schema }
        }
        Some(ResponseFormat::JsonObject | ResponseFormat::JsonSchema { schema: None, .. }) if together => Form::Json,
        Some(ResponseFormat::JsonObject | ResponseFormat::JsonSchema { schema: None, .. }) => {
            losses.drop("response_format", "this model gives no plain JSON while it has tools")?;
            Form::Text
        }
    })
}

/// A name for the answer tool that no function of the client has.
pub fn answer_tool_name(tools: &[Tool]) -> String {
    let mut name = "final_answer".to_owned();
    while tools.iter().any(|tool| tool.name == name) {
        name.push('_');
    }
    name
}

/// Declares the functions, the answer tool if there is one, and which must be called.
///
/// # Errors
/// `BadRequest` when something would be lost and must not be.
pub fn tooling<'a>(
    request: &'a Request,
    form: &Form<'a>,
    answer_tool: Option<&'a str>,
    losses: &mut Losses,
) -> Result<Tooling<'a>, Fault> {
    note_losses(request, answer_tool.is_some(), losses)?;
    let choice = request.tool_choice.as_ref();
    let mut tools: Vec<&Tool> = request.tools.iter().collect();
    if let Some(ToolChoice::Allowed { names, required: false }) = choice {
        // Google restricts only calls that must be made. A function that is not declared cannot be called either.
        tools.retain(|tool| names.contains(&tool.name));
    }
    if answer_tool.is_some() && choice == Some(&ToolChoice::None) {
        tools.clear();
    }
    let mut declarations: Vec<FunctionDeclaration<'a>> = tools.into_iter().map(declaration).collect();
    if let (Some(name), Form::Tool { description, schema }) = (answer_tool, form) {
        declarations.push(FunctionDeclaration {
            name,
            description: Some(description.unwrap_or("Gives the final answer. Its arguments are the whole answer.")),
            parameters_json_schema: Some(Cow::Borrowed(schema)),
        });
    }
    if declarations.is_empty() {
        return Ok(Tooling::default());
    }
    let (mode, allowed_function_names) = match (answer_tool, choice) {
        (Some(_), _) => ("ANY", vec![]),
        (None, None) => return Ok(Tooling { tools: vec![Tools::FunctionDeclarations(declarations)], config: None }),
        (None, Some(ToolChoice::Auto | ToolChoice::Allowed { required: false, .. })) => ("AUTO", vec![]),
        (None, Some(ToolChoice::None)) => ("NONE", vec![]),
        (None, Some(ToolChoice::Required)) => ("ANY", vec![]),
        (None, Some(ToolChoice::Function(name))) => ("ANY", vec![name.as_str()]),
        (None, Some(ToolChoice::Allowed { names, required: true })) => {
            ("ANY", names.iter().map(String::as_str).collect())
        }
    };
    let function_calling_config = FunctionCallingConfig { mode, allowed_function_names };
    Ok(Tooling {
        tools: vec![Tools::FunctionDeclarations(declarations)],
        config: Some(ToolConfig { function_calling_config }),
    })
}

fn declaration(tool: &Tool) -> FunctionDeclaration<'_> {
    let parameters_json_schema = match &tool.parameters {
        None | Some(Value::Null) => None,
        // An empty schema means anything, but arguments are an object.
        Some(Value::Object(schema)) if schema.is_empty() => {
            Some(Cow::Owned(json!({ "type": "object", "properties": {} })))
        }
        Some(schema) => Some(Cow::Borrowed(schema)),
    };
    FunctionDeclaration { name: &tool.name, description: tool.description.as_deref(), parameters_json_schema }
}

/// Whether the client wants a call in any case.
fn is_forced(choice: Option<&ToolChoice>) -> bool {
    match choice {
        Some(ToolChoice::Required | ToolChoice::Function(_)) => true,
        Some(ToolChoice::Allowed { required, .. }) => *required,
        Some(ToolChoice::Auto | ToolChoice::None) | None => false,
    }
}

fn note_losses(request: &Request, answer_tool: bool, losses: &mut Losses) -> Result<(), Fault> {
    if request.tools.is_empty() {
        return Ok(());
    }
    if request.parallel_tool_calls == Some(false) {
        losses.drop("parallel_tool_calls", "this provider decides by itself how many tools it calls at once")?;
    }
    // Calls that must be made always match their schema; others only mostly.
    let forced = answer_tool || is_forced(request.tool_choice.as_ref());
    if !forced && request.tools.iter().any(|tool| tool.strict == Some(true)) {
        losses
            .drop("tools.strict", "this provider holds arguments to their schema only where a tool must be called")?;
    }
    if request.tools.iter().any(|tool| tool.cache_control.is_some()) {
        losses.drop("cache_control", "this provider decides by itself what it caches")?;
    }
    Ok(())
}
