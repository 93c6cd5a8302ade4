//! How much to think, as `thinkingConfig`.
//!
//! Older models take a budget in tokens (`thinkingBudget`, 0 is off, -1 lets the model decide), newer ones a word (`thinkingLevel`), and
//! both also the other's, though not at once. The budgets behind OpenAI's words are those of Google's own OpenAI-compatible endpoint
//! (`ai.google.dev/gemini-api/docs/openai`). `maxOutputTokens` bounds thoughts and answer together, so a budget leaves room for the answer.

use super::losses::Losses;
use crate::dialect::chat::{ModelTraits, Reasoning, Thinking};
use crate::domain::Fault;
use serde_json::{Value, json};

/// What the client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// What the model does by itself; thoughts are not shown then.
    Default,
    /// No thoughts at all.
    Off,
    /// Thoughts, as many as the model sees fit.
    Open,
    /// At most so many tokens.
    Tokens(u64),
    /// By a word: its place among minimal, low, medium, high, xhigh.
    Effort(usize),
}

/// Tokens by effort; those of `xhigh` are cut to what the model takes.
const BUDGETS: [u64; 5] = [1024, 1024, 8192, 24_576, u64::MAX];
/// The share of `maxOutputTokens` that thoughts may take, in percent, by effort.
const SHARES: [u64; 5] = [10, 20, 50, 80, 90];
/// Words by effort. `minimal` is not known to every model, `low` is.
const LEVELS: [&str; 5] = ["low", "low", "medium", "high", "high"];

/// The `thinkingConfig`, or nothing where the model decides.
///
/// # Errors
/// `BadRequest` when the wish cannot be met and nothing may be dropped.
pub fn config(
    reasoning: Option<&Reasoning>,
    max_tokens: Option<u64>,
    traits: &ModelTraits,
    losses: &mut Losses,
) -> Result<Option<Value>, Fault> {
    let Some(reasoning) = reasoning else { return Ok(None) };
    let parameter = parameter(reasoning);
    let Some(wish) = wish(reasoning) else {
        losses.drop(parameter, "there is no such effort: use none, minimal, low, medium, high or xhigh")?;
        return Ok(None);
    };
    let shown = !reasoning.exclude;
    Ok(match (traits.thinking, wish) {
        (_, Wish::Default) => None,
        (Thinking::None, Wish::Off) => None,
        (Thinking::None, _) => {
            losses.drop(parameter, "this model does not think")?;
            None
        }
        (Thinking::Budget { can_disable: true, .. }, Wish::Off) => Some(json!({ "thinkingBudget": 0 })),
        (Thinking::Budget { min, .. }, Wish::Off) => {
            losses.drop(parameter, "this model cannot do without thinking")?;
            Some(json!({ "thinkingBudget": min }))
        }
        (Thinking::Budget { .. }, Wish::Open) => Some(json!({ "thinkingBudget": -1, "includeThoughts": shown })),
        (Thinking::Budget { min, max, .. }, Wish::Tokens(_) | Wish::Effort(_)) => {
            let budget = budget(wish, max_tokens).min(max).max(min);
            Some(json!({ "thinkingBudget": budget, "includeThoughts": shown }))
        }
        (Thinking::Level, Wish::Off) => {
            losses.drop(parameter, "this model cannot do without thinking")?;
            Some(json!({ "thinkingLevel": "low" }))
        }
        (Thinking::Level, Wish::Open) => Some(json!({ "includeThoughts": shown })),
        (Thinking::Level, Wish::Tokens(_)) => {
            Some(json!({ "thinkingBudget": budget(wish, max_tokens), "includeThoughts": shown }))
        }
        (Thinking::Level, Wish::Effort(effort)) => {
            Some(json!({ "thinkingLevel": LEVELS[effort], "includeThoughts": shown }))
        }
    })
}

/// The name by which the client most likely asked.
fn parameter(reasoning: &Reasoning) -> &'static str {
    let Reasoning { effort, max_tokens, enabled, exclude } = reasoning;
    if effort.is_some() && max_tokens.is_none() && enabled.is_none() && !exclude {
        "reasoning_effort"
    } else {
        "reasoning"
    }
}

/// Reads the wish; `None` for an effort that nobody knows.
fn wish(reasoning: &Reasoning) -> Option<Wish> {
    if reasoning.enabled == Some(false) {
        return Some(Wish::Off);
    }
    if let Some(tokens) = reasoning.max_tokens {
        return Some(if tokens == 0 { Wish::Off } else { Wish::Tokens(tokens) });
    }
    let Some(word) = reasoning.effort.as_deref() else {
        return Some(if reasoning.exclude && reasoning.enabled.is_none() { Wish::Default } else { Wish::Open });
    };
    Some(match word.to_ascii_lowercase().as_str() {
        "none" => Wish::Off,
        "minimal" => Wish::Effort(0),
        "low" => Wish::Effort(1),
        "medium" => Wish::Effort(2),
        "high" => Wish::Effort(3),
        "xhigh" | "max" => Wish::Effort(4),
        "auto" | "default" => Wish::Default,
        _ => return None,
    })
}

/// The budget in tokens, with room for the answer below `max_tokens`.
fn budget(wish: Wish, max_tokens: Option<u64>) -> u64 {
    let room = max_tokens.unwrap_or(u64::MAX);
    match wish {
        Wish::Default | Wish::Off | Wish::Open => 0,
        Wish::Tokens(tokens) => tokens.min(room.saturating_sub(1).max(1)),
        Wish::Effort(effort) => {
            BUDGETS[effort].min((room / 100).saturating_mul(SHARES[effort]).max(room % 100 * SHARES[effort] / 100))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effort(word: &str) -> Reasoning {
        Reasoning { effort: Some(word.to_owned()), ..Reasoning::default() }
    }

    fn ask(thinking: Thinking, reasoning: &Reasoning, max_tokens: Option<u64>) -> (Option<Value>, Vec<String>) {
        let traits = ModelTraits { thinking, ..ModelTraits::default() };
        let mut losses = Losses::new(false);
        let config = config(Some(reasoning), max_tokens, &traits, &mut losses).unwrap();
        (config, losses.into_names())
    }

    const FLASH: Thinking = Thinking::Budget { min: 0, max: 24_576, can_disable: true };
    const PRO: Thinking = Thinking::Budget { min: 128, max: 32_768, can_disable: false };

    #[test]
    fn words_become_budgets() {
        let budget = |thinking, word, max| ask(thinking, &effort(word), max).0.unwrap()["thinkingBudget"].clone();
        assert_eq!(budget(FLASH, "low", None), 1024);
        assert_eq!(budget(FLASH, "xhigh", None), 24_576);
        assert_eq!(budget(PRO, "xhigh", None), 32_768);
        assert_eq!(budget(FLASH, "medium", Some(1000)), 500);
        assert_eq!(budget(FLASH, "high", Some(50)), 40);
        assert_eq!(budget(PRO, "low", Some(100)), 128);
        assert_eq!(ask(FLASH, &effort("none"), None), (Some(json!({"thinkingBudget": 0})), vec![]));
        assert_eq!(
            ask(PRO, &effort("none"), None),
            (Some(json!({"thinkingBudget": 128})), vec!["reasoning_effort".to_owned()])
        );
    }

    #[test]
    fn words_become_levels() {
        let (config, lost) = ask(Thinking::Level, &effort("minimal"), None);
        assert_eq!((config, lost), (Some(json!({"thinkingLevel": "low", "includeThoughts": true})), vec![]));
        let tokens = Reasoning { max_tokens: Some(9000), exclude: true, ..Reasoning::default() };
        let expected = json!({"thinkingBudget": 3999, "includeThoughts": false});
        assert_eq!(ask(Thinking::Level, &tokens, Some(4000)).0, Some(expected));
        assert_eq!(ask(Thinking::Level, &effort("none"), None).1, ["reasoning_effort"]);
    }

    #[test]
    fn a_model_that_cannot_think_says_so() {
        assert_eq!(ask(Thinking::None, &effort("high"), None), (None, vec!["reasoning_effort".to_owned()]));
        assert_eq!(ask(Thinking::None, &effort("none"), None), (None, vec![]));
        let on = Reasoning { enabled: Some(true), ..Reasoning::default() };
        assert_eq!(ask(Thinking::None, &on, None), (None, vec!["reasoning".to_owned()]));
        assert_eq!(ask(FLASH, &on, None).0, Some(json!({"thinkingBudget": -1, "includeThoughts": true})));
        let hidden = Reasoning { exclude: true, ..Reasoning::default() };
        assert_eq!((ask(Thinking::None, &hidden, None), ask(FLASH, &hidden, None)), ((None, vec![]), (None, vec![])));
        let mut losses = Losses::new(true);
        assert!(config(Some(&effort("high")), None, &ModelTraits::default(), &mut losses).is_err());
        assert!(config(Some(&effort("huge")), None, &ModelTraits::default(), &mut losses).is_err());
        assert_eq!(ask(FLASH, &effort("huge"), None), (None, vec!["reasoning_effort".to_owned()]));
        assert_eq!(ask(FLASH, &effort("default"), None), (None, vec![]));
    }
}
