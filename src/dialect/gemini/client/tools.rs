//! Tools and which of them must be called, read into the hub.

use super::request::{Lost, list, named};
use super::schema;
use crate::dialect::chat::{Tool, ToolChoice};
use crate::dialect::openai_chat::fields::{Fields, Path};
use crate::domain::Fault;
use serde_json::Value;

/// Reads `tools`.
///
/// # Errors
/// `BadRequest` that names the place, for tools that Google runs itself too.
pub(super) fn tools(fields: &mut Fields<'_>, lost: &mut Lost) -> Result<Vec<Tool>, Fault> {
    let path = Path::top("tools");
    let mut out = Vec::new();
    for (place, value) in list(fields, "tools")?.into_iter().enumerate() {
        let path = path.item(place);
        let mut kinds = named(value, &path)?;
        let inner = path.member("functionDeclarations");
        for (place, value) in list(&mut kinds, "functionDeclarations")?.into_iter().enumerate() {
            out.push(declaration(value, &inner.item(place), lost)?);
        }
        if let Some((name, _)) = kinds.rest.iter().find(|(_, value)| !value.is_null()) {
            let path = path.member(name);
            return Err(path.fault(format!("{path} is a tool of Google's own: this provider has no such tool")));
        }
    }
    Ok(out)
}

fn declaration(value: Value, path: &Path<'_>, lost: &mut Lost) -> Result<Tool, Fault> {
    let mut function = named(value, path)?;
    let plain = function.any("parametersJsonSchema");
    let subset = function.any("parameters");
    if plain.as_ref().or(subset.as_ref()).is_some_and(|schema| !schema.is_object()) {
        return Err(path.member("parameters").must_be("a schema"));
    }
    let tool = Tool {
        name: function.required_text("name")?,
        description: function.text("description")?,
        parameters: plain.or_else(|| subset.map(schema::to_json_schema)),
        strict: None,
        cache_control: None,
    };
    let behavior = function.text("behavior")?;
    if behavior.is_some_and(|behavior| !matches!(behavior.as_str(), "BLOCKING" | "UNSPECIFIED")) {
        lost.note("tools.functionDeclarations.behavior");
    }
    for (name, value) in &function.rest {
        // What a function gives back is for the model's information.
        if !value.is_null() {
            lost.note(&format!("tools.functionDeclarations.{name}"));
        }
    }
    Ok(tool)
}

/// Reads `toolConfig`.
///
/// # Errors
/// `BadRequest` that names the place.
pub(super) fn choice(fields: &mut Fields<'_>, lost: &mut Lost) -> Result<Option<ToolChoice>, Fault> {
    let path = Path::top("toolConfig");
    let Some(value) = fields.any("toolConfig") else { return Ok(None) };
    let mut config = named(value, &path)?;
    let inner = path.member("functionCallingConfig");
    let calling = config.any("functionCallingConfig");
    for (name, value) in &config.rest {
        if !value.is_null() {
            lost.note(&format!("toolConfig.{name}"));
        }
    }
    let Some(calling) = calling else { return Ok(None) };
    let mut calling = named(calling, &inner)?;
    let mut names = calling.texts("allowedFunctionNames")?;
    let mode = calling.text("mode")?.map(|mode| mode.to_ascii_uppercase());
    if calling.boolean("streamFunctionCallArguments")? == Some(true) {
        lost.note("toolConfig.functionCallingConfig.streamFunctionCallArguments");
    }
    Ok(match mode.as_deref() {
        None | Some("" | "MODE_UNSPECIFIED") => None,
        Some("NONE") => Some(ToolChoice::None),
        Some("ANY") => Some(match names.len() {
            0 => ToolChoice::Required,
            1 => ToolChoice::Function(names.remove(0)),
            _ => ToolChoice::Allowed { names, required: true },
        }),
        Some(mode @ ("AUTO" | "VALIDATED")) => {
            if mode == "VALIDATED" {
                lost.note("toolConfig.functionCallingConfig.mode");
            }
            Some(if names.is_empty() { ToolChoice::Auto } else { ToolChoice::Allowed { names, required: false } })
        }
        Some(_) => return Err(inner.member("mode").must_be("\"AUTO\", \"ANY\", \"NONE\" or \"VALIDATED\"")),
    })
}
