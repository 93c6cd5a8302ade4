//! Thoughts of other providers' models in Anthropic's blocks.
//!
//! A `thinking` block has a text and a signature, a `redacted_thinking` block data: both are opaque to the client, which sends them
//! back as they are. What another provider needs to get its thoughts back (whose they are, which call they belong to, the proof) is
//! therefore written into them, behind a mark that no signature of Anthropic's has:
//!
//! ```text
//!   orbyt:v1:<format>:<length of the call's id>:<the call's id><data>
//! ```

use crate::dialect::chat::{FORMAT_ANTHROPIC, ReasoningDetail, ReasoningKind, is_unsigned};
use std::borrow::Cow;

/// What a signature begins with that is not Anthropic's.
pub(super) const MARK: &str = "orbyt:v1:";

/// What follows the format where a block is a summary (a plan, to Cohere) and no thought.
const SUMMARY: &str = "+summary";

/// The signature of thoughts that nobody signed: whose they are, where that has to be known, and that they are not Anthropic's.
pub(super) fn unsigned(format: &str, is_summary: bool) -> String {
    let format = if is_unsigned(format) { format } else { "" };
    let format = if is_summary && !format.is_empty() { format!("{format}{SUMMARY}") } else { format.to_owned() };
    Foreign { format: &format, id: None, data: "" }.seal()
}

/// What stands behind the mark.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Foreign<'a> {
    pub format: &'a str,
    pub id: Option<&'a str>,
    pub data: &'a str,
}

impl<'a> Foreign<'a> {
    /// Writes it as a signature.
    pub fn seal(&self) -> String {
        let id = self.id.unwrap_or_default();
        format!("{MARK}{}:{}:{id}{}", self.format, id.len(), self.data)
    }

    /// Reads a signature; `None` for one of Anthropic's own.
    pub fn unseal(signature: &'a str) -> Option<Self> {
        let (format, rest) = signature.strip_prefix(MARK)?.split_once(':')?;
        let (length, rest) = rest.split_once(':')?;
        let (id, data) = rest.split_at_checked(length.parse().ok()?)?;
        Some(Self { format, id: Some(id).filter(|id| !id.is_empty()), data })
    }
}

/// A `thinking` block of an earlier answer.
pub(super) fn thinking(text: String, signature: &str, index: u32) -> ReasoningDetail {
    let (format, id, data) = origin(signature);
    if let Some(format) = format.as_deref().and_then(|format| format.strip_suffix(SUMMARY)) {
        let format = Some(Cow::Owned(format.to_owned()));
        return ReasoningDetail { kind: ReasoningKind::Summary(text), id, format, index };
    }
    let signature = Some(data.to_owned()).filter(|data| !data.is_empty());
    ReasoningDetail { kind: ReasoningKind::Text { text, signature }, id, format, index }
}

/// A `redacted_thinking` block of an earlier answer.
pub(super) fn redacted(data: &str, index: u32) -> ReasoningDetail {
    let (format, id, data) = origin(data);
    ReasoningDetail { kind: ReasoningKind::Encrypted(data.to_owned()), id, format, index }
}

type Origin<'a> = (Option<Cow<'static, str>>, Option<String>, &'a str);

fn origin(signature: &str) -> Origin<'_> {
    match Foreign::unseal(signature) {
        Some(foreign) => {
            let format = Some(foreign.format.to_owned().into()).filter(|format: &Cow<'_, str>| !format.is_empty());
            (format, foreign.id.map(str::to_owned), foreign.data)
        }
        // Without any signature they are nobody's.
        None => (Some(FORMAT_ANTHROPIC.into()).filter(|_| !signature.is_empty()), None, signature),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::chat::FORMAT_COHERE;

    #[test]
    fn what_is_sealed_is_read_again() {
        for (format, id, data) in [
            ("google-gemini-v1", Some("functions.a:0"), "AQ=="),
            ("google-gemini-v1", None, "a:b:c"),
            ("", None, ""),
            ("", Some("ä"), "ö"),
        ] {
            let foreign = Foreign { format, id, data };
            assert_eq!(Foreign::unseal(&foreign.seal()), Some(foreign));
        }
    }

    #[test]
    fn unsigned_thoughts_and_plans_say_whose_they_are_where_that_counts() {
        let read = |format: &str, is_summary| thinking("t".into(), &unsigned(format, is_summary), 0);
        assert_eq!(read(FORMAT_COHERE, false).format.as_deref(), Some(FORMAT_COHERE));
        assert_eq!(read(FORMAT_COHERE, true).kind, ReasoningKind::Summary("t".into()));
        assert_eq!(read(FORMAT_COHERE, true).format.as_deref(), Some(FORMAT_COHERE));
        assert_eq!((read("", true).format, read("google-gemini-v1", false).format), (None, None));
    }

    #[test]
    fn anthropics_own_and_broken_marks_are_not_read() {
        for text in ["", "EqQBCkYIARgCKkDe", "orbyt:v1:", "orbyt:v1:x", "orbyt:v1:x:9:a", "orbyt:v1:x:1:ä"] {
            assert_eq!(Foreign::unseal(text), None, "{text}");
        }
        assert_eq!(thinking("t".into(), "EqQB", 0).format.as_deref(), Some(FORMAT_ANTHROPIC));
        assert_eq!(thinking("t".into(), "", 0).format, None);
    }
}
