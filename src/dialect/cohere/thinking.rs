//! Whether the model thinks, and how much.
//!
//! Cohere's reasoning models think unless they are told not to; a budget in tokens bounds it. Its own OpenAI-compatible side knows the
//! words none and high, which mean off and on, so a high effort is no budget here; lower ones are, as OpenAI has no number for them.

use super::body::Thinking;
use super::losses::Losses;
use crate::dialect::chat::{self, ModelTraits, Reasoning};
use crate::dialect::effort::{Effort, Wish, parameter, wish};
use crate::domain::Fault;

/// The `thinking` member, or nothing where the model decides.
///
/// # Errors
/// `BadRequest` when the wish cannot be met and nothing may be dropped.
pub(super) fn render(
    reasoning: Option<&Reasoning>,
    max_tokens: Option<u64>,
    target: &ModelTraits,
    losses: &mut Losses,
) -> Result<Option<Thinking>, Fault> {
    let Some(reasoning) = reasoning else { return Ok(None) };
    let name = parameter(reasoning);
    let Some(wish) = wish(reasoning) else {
        losses.drop(name, "there is no such effort: use none, minimal, low, medium, high or xhigh")?;
        return Ok(None);
    };
    if wish == Wish::Default {
        return Ok(None);
    }
    if target.thinking == chat::Thinking::None {
        if wish != Wish::Off {
            losses.drop(name, "this model does not think")?;
        }
        return Ok(None);
    }
    Ok(Some(match wish {
        Wish::Off => Thinking::Disabled,
        _ => Thinking::Enabled { token_budget: budget(wish, max_tokens) },
    }))
}

/// The budget in tokens, with room for the answer below `max_tokens`.
fn budget(wish: Wish, max_tokens: Option<u64>) -> Option<u64> {
    let (most, share) = match wish {
        Wish::Default | Wish::Off | Wish::Open => return None,
        Wish::Tokens(tokens) => {
            return Some(max_tokens.map_or(tokens, |room| tokens.min(room.saturating_sub(1)).max(1)));
        }
        Wish::Effort(Effort::Low) => (Some(1024), 20),
        Wish::Effort(Effort::Medium) => (Some(8192), 50),
        Wish::Effort(Effort::High) => (None, 80),
    };
    let room = max_tokens.map(|room| (room.saturating_mul(share) / 100).max(1));
    match (most, room) {
        (Some(most), Some(room)) => Some(most.min(room)),
        (most, room) => most.or(room),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(
        thinking: chat::Thinking,
        reasoning: &Reasoning,
        max_tokens: Option<u64>,
    ) -> (Option<Thinking>, Vec<String>) {
        let target = ModelTraits { thinking, ..ModelTraits::default() };
        let mut losses = Losses::new(false);
        let rendered = render(Some(reasoning), max_tokens, &target, &mut losses).unwrap();
        (rendered, losses.into_names())
    }

    fn word(word: &str) -> Reasoning {
        Reasoning { effort: Some(word.to_owned()), ..Reasoning::default() }
    }

    fn on(token_budget: Option<u64>) -> (Option<Thinking>, Vec<String>) {
        (Some(Thinking::Enabled { token_budget }), Vec::new())
    }

    #[test]
    fn words_bounds_and_switches() {
        let level = chat::Thinking::Level;
        for (reasoning, max_tokens, budget) in [
            (word("high"), None, None),
            (word("high"), Some(1000), Some(800)),
            (word("medium"), None, Some(8192)),
            (word("medium"), Some(1000), Some(500)),
            (word("low"), Some(100_000), Some(1024)),
            (word("low"), Some(1), Some(1)),
            (Reasoning { max_tokens: Some(500), ..Reasoning::default() }, None, Some(500)),
            (Reasoning { max_tokens: Some(500), ..Reasoning::default() }, Some(100), Some(99)),
            (Reasoning { enabled: Some(true), ..Reasoning::default() }, Some(100), None),
        ] {
            assert_eq!(ask(level, &reasoning, max_tokens), on(budget), "{reasoning:?} {max_tokens:?}");
        }
        assert_eq!(ask(level, &word("none"), None), (Some(Thinking::Disabled), vec![]));
        assert_eq!(ask(level, &Reasoning::default(), None), (None, vec![]));
        assert_eq!(ask(level, &word("huge"), None), (None, vec!["reasoning_effort".to_owned()]));
        assert_eq!(ask(chat::Thinking::None, &word("none"), None), (None, vec![]));
        assert_eq!(ask(chat::Thinking::None, &word("low"), None), (None, vec!["reasoning_effort".to_owned()]));
    }
}
