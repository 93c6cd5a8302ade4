//! How a model is made to think, in the words of its maker, and the bound of the output that goes with it.
//!
//! ```text
//!   anthropic            thinking { type, budget_tokens } or { type: adaptive } with output_config.effort, as in Anthropic's own format
//!   amazon               reasoningConfig { type: enabled, maxReasoningEffort: low | medium | high }
//!   openai               reasoning_effort
//!   anyone else          no word for it is known
//! ```
//!
//! Sources: Amazon's user guide, "Enhance model responses with model reasoning", the pages of each maker's models there, and
//! recordings.

use super::body::{Block, Speaker, Turn};
use super::tools::Tooling;
use crate::dialect::anthropic_messages::thinking as anthropic;
use crate::dialect::chat::{ModelTraits, Request, Thinking};
use crate::dialect::losses::Losses;
use crate::domain::Fault;
use serde_json::{Map, Value, json};

/// What goes into the body.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// Bound of the whole output, thinking included.
    pub max_tokens: Option<u64>,
    /// Members of `additionalModelRequestFields`.
    pub fields: Map<String, Value>,
    /// Whether the model thinks in a way that excludes sampling parameters.
    pub excludes_sampling: bool,
}

/// Decides on the bound of the output and on thinking.
///
/// # Errors
/// `BadRequest` for an effort that is none, or where nothing may be left out.
pub(super) fn plan(
    request: &Request,
    target: &ModelTraits,
    tooling: &Tooling<'_>,
    turns: &[Turn<'_>],
    losses: &mut Losses,
) -> Result<Output, Fault> {
    let maker = target.maker.as_deref();
    if maker == Some("anthropic") || matches!(target.thinking, Thinking::Budget { .. }) {
        return as_anthropic(request, target, tooling, turns, losses);
    }
    let most = target.max_output.unwrap_or(u64::MAX);
    let mut out = Output { max_tokens: request.max_tokens.map(|asked| asked.min(most)), ..Output::default() };
    let Some(reasoning) = &request.reasoning else { return Ok(out) };
    let name = anthropic::parameter(Some(reasoning));
    let Some(effort) = anthropic::effort(reasoning)? else { return Ok(out) };
    match (maker, target.thinking) {
        (Some("amazon"), Thinking::Level) => {
            let effort = if effort == "xhigh" || effort == "max" { "high" } else { effort };
            out.fields.insert("reasoningConfig".to_owned(), json!({"type": "enabled", "maxReasoningEffort": effort}));
            // At the highest effort these models take neither sampling parameters nor a bound.
            out.excludes_sampling = effort == "high";
            if out.excludes_sampling && out.max_tokens.take().is_some() {
                losses.drop("max_tokens", "this model takes no bound of its output at its highest effort")?;
            }
        }
        (Some("openai"), Thinking::Level) => {
            let effort = if effort == "xhigh" || effort == "max" { "high" } else { effort };
            out.fields.insert("reasoning_effort".to_owned(), effort.into());
        }
        _ => losses.drop(name, "this model does not think, or not on request")?,
    }
    Ok(out)
}

fn as_anthropic(
    request: &Request,
    target: &ModelTraits,
    tooling: &Tooling<'_>,
    turns: &[Turn<'_>],
    losses: &mut Losses,
) -> Result<Output, Fault> {
    use super::body::Choice;
    let forced = match tooling.config.as_ref().and_then(|config| config.tool_choice.as_ref()) {
        Some(Choice::Any {}) => anthropic::Forced::Any,
        Some(Choice::Tool { .. }) => anthropic::Forced::One,
        Some(Choice::Auto {}) | None => anthropic::Forced::Nothing,
    };
    let about = anthropic::Circumstances {
        reasoning: request.reasoning.as_ref(),
        max_tokens: request.max_tokens,
        forced,
        unthought_loop: in_unthought_tool_loop(turns),
    };
    let plan = anthropic::plan(&about, target, losses)?;
    // Without a bound a model may put out all that it can, which only a budget for thinking has to know.
    let bounded = request.max_tokens.is_some() || matches!(plan.thinking, Some(anthropic::Words::Enabled { .. }));
    let mut out = Output {
        max_tokens: bounded.then_some(plan.max_tokens),
        excludes_sampling: plan.thinks(),
        ..Output::default()
    };
    if let Some(thinking) = plan.thinking.as_ref().and_then(|thinking| serde_json::to_value(thinking).ok()) {
        out.fields.insert("thinking".to_owned(), thinking);
    }
    if let Some(effort) = plan.effort {
        out.fields.insert("output_config".to_owned(), json!({ "effort": effort }));
    }
    Ok(out)
}

/// Whether the conversation stands in the middle of a tool loop that began without (replayable) thoughts; a budget is refused there.
fn in_unthought_tool_loop(turns: &[Turn<'_>]) -> bool {
    let answers = |turn: &Turn<'_>| turn.content.iter().any(|block| matches!(block, Block::ToolResult { .. }));
    let thought = |turn: &Turn<'_>| matches!(turn.content.first(), Some(Block::ReasoningContent(_)));
    let mut first_step = None;
    for pair in turns.rchunks_exact(2) {
        match pair {
            [calls, results] if calls.role == Speaker::Assistant && answers(results) => first_step = Some(calls),
            _ => break,
        }
    }
    first_step.is_some_and(|calls| !thought(calls))
}
