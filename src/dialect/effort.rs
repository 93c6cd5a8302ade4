//! How much thinking a client asks for, in one meaning for the renderers whose format has no word of its own for it.

use super::chat::Reasoning;

/// What the client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// What the model does by itself.
    Default,
    /// No thoughts at all.
    Off,
    /// Thoughts, as many as the model sees fit.
    Open,
    /// At most so many tokens.
    Tokens(u64),
    /// By a word.
    Effort(Effort),
}

/// OpenAI's words, those that no format tells apart taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// `minimal` and `low`.
    Low,
    /// `medium`.
    Medium,
    /// `high`, `xhigh` and `max`.
    High,
}

/// Reads the wish; `None` for a word that nobody knows.
pub fn wish(reasoning: &Reasoning) -> Option<Wish> {
    if reasoning.enabled == Some(false) {
        return Some(Wish::Off);
    }
    if let Some(tokens) = reasoning.max_tokens {
        return Some(if tokens == 0 { Wish::Off } else { Wish::Tokens(tokens) });
    }
    let Some(word) = reasoning.effort.as_deref() else {
        return Some(if reasoning.enabled == Some(true) { Wish::Open } else { Wish::Default });
    };
    Some(match word.to_ascii_lowercase().as_str() {
        "none" => Wish::Off,
        "minimal" | "low" => Wish::Effort(Effort::Low),
        "medium" => Wish::Effort(Effort::Medium),
        "high" | "xhigh" | "max" => Wish::Effort(Effort::High),
        "auto" | "default" => Wish::Default,
        _ => return None,
    })
}

/// The name by which the client most likely asked, which the hub does not keep.
pub fn parameter(reasoning: &Reasoning) -> &'static str {
    match reasoning {
        Reasoning { effort: Some(_), max_tokens: None, enabled: None, exclude: false } => "reasoning_effort",
        _ => "reasoning",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_goes_before_a_word_and_off_before_both() {
        let word = |word: &str| Reasoning { effort: Some(word.to_owned()), ..Reasoning::default() };
        assert_eq!(wish(&Reasoning { enabled: Some(false), max_tokens: Some(5), ..word("high") }), Some(Wish::Off));
        assert_eq!(wish(&Reasoning { max_tokens: Some(5), ..word("high") }), Some(Wish::Tokens(5)));
        assert_eq!(wish(&Reasoning { max_tokens: Some(0), ..word("high") }), Some(Wish::Off));
        assert_eq!(wish(&word("XHigh")), Some(Wish::Effort(Effort::High)));
        assert_eq!((wish(&word("none")), wish(&word("huge"))), (Some(Wish::Off), None));
        assert_eq!(wish(&Reasoning { exclude: true, ..Reasoning::default() }), Some(Wish::Default));
        assert_eq!(parameter(&word("low")), "reasoning_effort");
        assert_eq!(parameter(&Reasoning { enabled: Some(true), ..word("low") }), "reasoning");
    }
}
