//! Renders a request for Converse.
//!
//! What is the same in both formats is copied; the rest is decided in one file each: the messages in `conversation` (files in
//! `media`), tools and structured output in `tools`, the bound of the output and thinking in `thinking`, everything else in `params`.

use super::body::Body;
use super::{conversation, params, thinking, tools};
use crate::dialect::chat::{ModelTraits, Rendered, Request, Thinking};
use crate::dialect::losses::Losses;
use crate::domain::{Fault, FaultKind};

/// Renders a body for `converse` and `converse-stream`, which take the same. The same request gives the same bytes, and a longer
/// conversation the same bytes as far as it is the same, so that a prompt cache finds them again.
///
/// # Errors
/// `BadRequest` with the parameter to blame, when the request cannot be said in this format at all or something would
/// have to be dropped that [`ModelTraits::require_parameters`] protects.
pub fn render(request: &Request, target: &ModelTraits) -> Result<Rendered, Fault> {
    let mut losses = Losses::new(target.require_parameters);
    let conversation = conversation::render(request, target.thinking != Thinking::None, &mut losses)?;
    let tooling = tools::render(request, target, &mut losses)?;
    let mut output = thinking::plan(request, target, &tooling, &conversation.turns, &mut losses)?;
    let inference_config = params::inference(request, target, &mut output, &mut losses)?;
    let extras = params::extras(request, &mut output.fields, &mut losses)?;
    let body = Body {
        inference_config,
        additional_model_request_fields: output.fields,
        output_config: tooling.output,
        extras,
        tool_config: tooling.config,
        system: conversation.system,
        messages: conversation.turns,
    };
    let body = serde_json::to_vec(&body)
        .map_err(|error| Fault::new(FaultKind::Internal, format!("the request could not be written: {error}")))?;
    Ok(Rendered { body, headers: Vec::new(), dropped: losses.into_names(), answer_tool: tooling.answer_tool })
}

/// The path of a request below the provider's base URL. A model's name may be an ARN, so everything but letters, digits and the four
/// marks that no address changes is escaped.
pub fn path(model: &str, stream: bool) -> String {
    let mut path = String::from("/model/");
    for byte in model.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path + if stream { "/converse-stream" } else { "/converse" }
}
