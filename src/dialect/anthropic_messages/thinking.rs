//! The bound of the output, and how much of it is thinking.
//!
//! Sources: Anthropic's guides "Extended thinking" (`budget_tokens` from 1,024, below `max_tokens`; only with
//! `tool_choice` auto or none; inside a tool loop only after thinking) and "Adaptive thinking" (no budget, but
//! `output_config.effort`). The share of an effort is OpenRouter's.

pub(in crate::dialect) use super::body::Thinking as Words;
use super::body::{Block, Choice, Speaker, Turn};
use super::losses::Losses;
use crate::dialect::chat::{self, ModelTraits, Reasoning};
use crate::domain::Fault;
use Words as Thinking;

/// `max_tokens` where neither the client nor the catalog names one. Anthropic demands the field, and every model that
/// it still serves takes this much.
const DEFAULT_MAX_TOKENS: u64 = 4096;

/// The smallest thinking budget that Anthropic takes, in tokens.
const MIN_BUDGET: u64 = 1024;

/// What decides over thinking besides the model.
pub(in crate::dialect) struct Circumstances<'a> {
    pub reasoning: Option<&'a Reasoning>,
    pub max_tokens: Option<u64>,
    /// Whether a tool must be called.
    pub forced: Forced,
    /// Whether the conversation stands in the middle of a tool loop that began without thoughts.
    pub unthought_loop: bool,
}

/// Whether a tool must be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dialect) enum Forced {
    /// The model decides.
    Nothing,
    /// Any of them.
    Any,
    /// This very one.
    One,
}

impl Forced {
    /// What a tool choice demands.
    pub(super) fn by(choice: Option<&Choice<'_>>) -> Self {
        match choice {
            Some(Choice::Any { .. }) => Self::Any,
            Some(Choice::Tool { .. }) => Self::One,
            Some(Choice::Auto { .. } | Choice::None) | None => Self::Nothing,
        }
    }
}

/// What goes into the body.
#[derive(Debug, Default, PartialEq)]
pub(in crate::dialect) struct Output {
    /// Bound of the whole output, thinking included.
    pub max_tokens: u64,
    pub thinking: Option<Thinking>,
    pub effort: Option<&'static str>,
}

impl Output {
    /// Whether the model may think.
    pub fn thinks(&self) -> bool {
        matches!(self.thinking, Some(Thinking::Enabled { .. } | Thinking::Adaptive { .. }))
    }
}

/// What the client wants.
#[derive(Clone, Copy)]
enum Wish {
    Nothing,
    Off,
    On(Amount),
}

/// How much thinking: the client's word, its number, or neither.
#[derive(Clone, Copy)]
enum Amount {
    Effort(Effort),
    Tokens(u64),
    Unsaid,
}

/// How hard to think.
#[derive(Clone, Copy)]
enum Effort {
    Minimal,
    Low,
    Medium,
    High,
    XHigh,
    Max,
}

impl Effort {
    /// The effort that takes about so many tokens.
    fn of_tokens(tokens: u64) -> Self {
        match tokens {
            0..=2048 => Self::Low,
            2049..=8192 => Self::Medium,
            _ => Self::High,
        }
    }

    /// Anthropic's word.
    fn word(self) -> &'static str {
        match self {
            Self::Minimal | Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::XHigh => "xhigh",
            Self::Max => "max",
        }
    }

    /// The part of the output that is for thinking, in percent.
    fn share(self) -> u64 {
        match self {
            Self::Minimal => 10,
            Self::Low => 20,
            Self::Medium => 50,
            Self::High => 80,
            Self::XHigh | Self::Max => 95,
        }
    }
}

/// Decides on `max_tokens`, `thinking` and `effort`.
///
/// A bound above what the model can put out is the same as none, so it is lowered to that without a note.
pub(in crate::dialect) fn plan(
    about: &Circumstances<'_>,
    target: &ModelTraits,
    losses: &mut Losses,
) -> Result<Output, Fault> {
    let most = target.max_output.unwrap_or(u64::MAX);
    let max_tokens = about.max_tokens.map_or(target.max_output.unwrap_or(DEFAULT_MAX_TOKENS), |asked| asked.min(most));
    let plain = Output { max_tokens, ..Output::default() };
    let amount = match wish(about.reasoning)? {
        Wish::Nothing => return Ok(plain),
        // Where there is a budget, a model does not think unless it is told to.
        Wish::Off if target.thinking != chat::Thinking::Level => return Ok(plain),
        Wish::Off => return Ok(Output { thinking: Some(Thinking::Disabled), ..plain }),
        Wish::On(amount) => amount,
    };
    let name = parameter(about.reasoning);
    match target.thinking {
        chat::Thinking::None => {
            losses.drop(name, "this model does not think")?;
            Ok(plain)
        }
        chat::Thinking::Level => adaptive(amount, about, plain, losses),
        chat::Thinking::Budget { min, max, .. } => {
            if about.forced != Forced::Nothing {
                losses.drop(name, "this model cannot think where a tool must be called")?;
                return Ok(plain);
            }
            if about.unthought_loop {
                losses.drop(name, "this model cannot begin to think inside a tool loop that began without thoughts")?;
                return Ok(plain);
            }
            budgeted(amount, (min.max(MIN_BUDGET), max), about.max_tokens.is_some(), most, plain, name, losses)
        }
    }
}

fn wish(reasoning: Option<&Reasoning>) -> Result<Wish, Fault> {
    let Some(reasoning) = reasoning else { return Ok(Wish::Nothing) };
    if reasoning.enabled == Some(false) || reasoning.max_tokens == Some(0) {
        return Ok(Wish::Off);
    }
    if let Some(tokens) = reasoning.max_tokens {
        return Ok(Wish::On(Amount::Tokens(tokens)));
    }
    let effort = match reasoning.effort.as_deref() {
        Some("none") => return Ok(Wish::Off),
        // Groq's word for thinking as the model does by itself.
        Some("default") => return Ok(Wish::On(Amount::Unsaid)),
        Some("minimal") => Effort::Minimal,
        Some("low") => Effort::Low,
        Some("medium") => Effort::Medium,
        Some("high") => Effort::High,
        Some("xhigh") => Effort::XHigh,
        Some("max") => Effort::Max,
        Some(_) => {
            return Err(Fault::bad_request(
                parameter(Some(reasoning)),
                "the effort is none, minimal, low, medium, high, xhigh or max",
            ));
        }
        None if reasoning.enabled == Some(true) => return Ok(Wish::On(Amount::Unsaid)),
        None => return Ok(Wish::Nothing),
    };
    Ok(Wish::On(Amount::Effort(effort)))
}

/// The effort that the client wants, in Anthropic's words; `None` when it does not want any thinking, or says nothing.
///
/// # Errors
/// `BadRequest` for a word that is no effort.
pub(in crate::dialect) fn effort(reasoning: &Reasoning) -> Result<Option<&'static str>, Fault> {
    Ok(match wish(Some(reasoning))? {
        Wish::Nothing | Wish::Off => None,
        Wish::On(Amount::Effort(effort)) => Some(effort.word()),
        Wish::On(Amount::Tokens(tokens)) => Some(Effort::of_tokens(tokens).word()),
        Wish::On(Amount::Unsaid) => Some(Effort::Medium.word()),
    })
}

/// The name by which the client most likely asked, which the hub does not keep.
pub(in crate::dialect) fn parameter(reasoning: Option<&Reasoning>) -> &'static str {
    match reasoning {
        Some(Reasoning { effort: Some(_), max_tokens: None, enabled: None, exclude: false }) => "reasoning_effort",
        _ => "reasoning",
    }
}

/// Newer models: the effort is a word, and how many tokens that takes is theirs to decide. The thoughts are asked for,
/// as these models leave them out otherwise.
fn adaptive(amount: Amount, about: &Circumstances<'_>, plain: Output, losses: &mut Losses) -> Result<Output, Fault> {
    let effort = match amount {
        Amount::Effort(effort) => Some(effort),
        Amount::Tokens(tokens) => {
            losses.drop("reasoning.max_tokens", "this model takes an effort instead of a thinking budget")?;
            Some(Effort::of_tokens(tokens))
        }
        Amount::Unsaid => None,
    };
    let plain = Output { effort: effort.map(Effort::word), ..plain };
    if about.forced == Forced::One {
        losses.drop(parameter(about.reasoning), "this model cannot think where one tool must be called")?;
        return Ok(plain);
    }
    let display = about.reasoning.is_some_and(|reasoning| !reasoning.exclude).then_some("summarized");
    Ok(Output { thinking: Some(Thinking::Adaptive { display }), ..plain })
}

/// Models with a budget, which has to stay below `max_tokens`. Where the client's bound leaves no room for the smallest
/// one, the bound is raised by the budget, so that what it allowed is left for the answer itself.
fn budgeted(
    amount: Amount,
    (min, max): (u64, u64),
    client_bound: bool,
    most: u64,
    plain: Output,
    name: &'static str,
    losses: &mut Losses,
) -> Result<Output, Fault> {
    let share = |effort: Effort| plain.max_tokens.saturating_mul(effort.share()) / 100;
    let wanted = match amount {
        Amount::Effort(effort) => share(effort),
        Amount::Tokens(tokens) => tokens,
        Amount::Unsaid => share(Effort::Medium),
    };
    let budget = wanted.min(max).max(min);
    if budget < plain.max_tokens {
        return Ok(Output { thinking: Some(Thinking::Enabled { budget_tokens: budget }), ..plain });
    }
    let max_tokens = budget.saturating_add(plain.max_tokens).min(most);
    let budget = budget.min(max_tokens.saturating_sub(1));
    if budget < min {
        losses.drop(name, "this model's output is too short for a thinking budget")?;
        return Ok(plain);
    }
    if client_bound && max_tokens > plain.max_tokens {
        losses.drop("max_tokens", "this bound leaves no room to think, which takes 1024 tokens at least")?;
    }
    Ok(Output { max_tokens, thinking: Some(Thinking::Enabled { budget_tokens: budget }), effort: None })
}

/// Whether the conversation stands in the middle of a tool loop that began without (replayable) thoughts: made by
/// another model, sent by a client that leaves them out, or begun before thinking was asked for. Anthropic refuses a
/// budget there. Later steps of a loop may lack thoughts.
pub(super) fn in_unthought_tool_loop(turns: &[Turn<'_>]) -> bool {
    let answers = |turn: &Turn<'_>| turn.content.iter().any(|block| matches!(block, Block::ToolResult { .. }));
    let thought =
        |turn: &Turn<'_>| matches!(turn.content.first(), Some(Block::Thinking { .. } | Block::RedactedThinking { .. }));
    let mut first_step = None;
    for pair in turns.rchunks_exact(2) {
        match pair {
            [calls, results] if calls.role == Speaker::Assistant && answers(results) => first_step = Some(calls),
            _ => break,
        }
    }
    first_step.is_some_and(|calls| !thought(calls))
}
