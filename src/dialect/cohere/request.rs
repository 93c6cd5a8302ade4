//! Renders a request for Cohere.
//!
//! What is the same in both formats is copied; the rest is decided in one file each: the conversation in `messages`, tools and the form of the answer in `tools`, thinking in `thinking`, everything else in `params`.

use super::body::Body;
use super::losses::Losses;
use super::{messages, params, thinking, tools};
use crate::dialect::chat::{ModelTraits, Rendered, Request};
use crate::domain::{Fault, FaultKind};

/// The path below the base URL.
pub const PATH: &str = "/v2/chat";

/// Renders a body. The same request gives the same bytes, and a longer conversation the same bytes as far as it is the same, so that
/// Cohere's prompt cache finds them again.
///
/// # Errors
/// `BadRequest` with the parameter to blame, when the request cannot be said in this format at all or something would have to be dropped
/// that [`ModelTraits::require_parameters`] protects.
pub fn render(request: &Request, target: &ModelTraits) -> Result<Rendered, Fault> {
    let mut losses = Losses::new(target.require_parameters);
    let tooling = tools::render(request, target, &mut losses)?;
    // A form of the answer and documents exclude each other, so a file then stands in the message.
    let apart = tooling.format.is_none();
    let conversation = messages::render(request, target, apart, &mut losses)?;
    let mut extras = params::extras(request, &mut losses)?;
    extras.documents.extend(conversation.documents);
    let max_tokens = request.max_tokens.map(|asked| asked.min(target.max_output.unwrap_or(u64::MAX)));
    let body = Body {
        model: &target.model,
        stream: request.stream,
        max_tokens,
        thinking: thinking::render(request.reasoning.as_ref(), max_tokens, target, &mut losses)?,
        sampling: params::sampling(request, target, &mut losses)?,
        extras,
        response_format: tooling.format,
        tool_choice: tooling.choice,
        strict_tools: tooling.strict,
        tools: tooling.tools,
        messages: conversation.turns,
    };
    let body = serde_json::to_vec(&body)
        .map_err(|error| Fault::new(FaultKind::Internal, format!("the request could not be written: {error}")))?;
    Ok(Rendered { body, headers: Vec::new(), dropped: losses.into_names(), answer_tool: tooling.answer_tool })
}
