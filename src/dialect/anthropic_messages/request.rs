//! Renders a request for Anthropic.
//!
//! What is the same in both formats is copied; the rest is decided in one file each: the messages in `conversation`,
//! tools and structured output in `tools` (with `schema`), the bound of the output and thinking in `thinking`,
//! everything else in `params`.

use super::body::{Body, OutputConfig, OutputFormat};
use super::losses::Losses;
use super::{conversation, params, thinking, tools};
use crate::dialect::chat::{ModelTraits, Rendered, Request};
use crate::domain::{Fault, FaultKind};

/// Renders a body for `POST /v1/messages`. The same request gives the same bytes, and a longer conversation the same
/// bytes as far as it is the same, so that Anthropic's prompt cache finds them again.
///
/// # Errors
/// `BadRequest` with the parameter to blame, when the request cannot be said in this format at all or something would
/// have to be dropped that [`ModelTraits::require_parameters`] protects.
pub fn render(request: &Request, target: &ModelTraits) -> Result<Rendered, Fault> {
    let mut losses = Losses::new(target.require_parameters);
    let conversation = conversation::render(request, target, &mut losses)?;
    let tooling = tools::render(request, target, &mut losses)?;
    let output = thinking::plan(
        &thinking::Circumstances {
            reasoning: request.reasoning.as_ref(),
            max_tokens: request.max_tokens,
            forced: thinking::Forced::by(tooling.choice.as_ref()),
            unthought_loop: thinking::in_unthought_tool_loop(&conversation.turns),
        },
        target,
        &mut losses,
    )?;
    let body = Body {
        model: &target.model,
        max_tokens: output.max_tokens,
        stream: request.stream.then_some(true),
        sampling: params::sampling(request, target, output.thinks(), &mut losses)?,
        stop_sequences: params::stop_sequences(request, &mut losses)?,
        thinking: output.thinking,
        output_config: OutputConfig {
            effort: output.effort,
            format: tooling.format.map(|schema| OutputFormat::JsonSchema { schema }),
        },
        extras: params::extras(request, &mut losses)?,
        tool_choice: tooling.choice,
        tools: tooling.tools,
        system: conversation.system,
        messages: conversation.turns,
    };
    let body = serde_json::to_vec(&body)
        .map_err(|error| Fault::new(FaultKind::Internal, format!("the request could not be written: {error}")))?;
    let headers = if conversation.files { vec![("anthropic-beta", FILES_BETA.to_owned())] } else { Vec::new() };
    Ok(Rendered { body, headers, dropped: losses.into_names(), answer_tool: tooling.answer_tool })
}

/// The beta flag that a `file_id` needs.
const FILES_BETA: &str = "files-api-2025-04-14";
