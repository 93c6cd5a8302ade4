//! What other providers signed, encrypted or want back, in the one opaque member that a reasoning item has: `encrypted_content`.
//!
//! Clients give reasoning items back as they got them. The seal holds the hub's whole [`ReasoningDetail`], its text too: a provider
//! checks the signature against the very text, and clients may shorten what they show. It is an envelope, not a secret: what needs to be
//! secret is encrypted by the provider already.

use crate::dialect::chat::{ReasoningDetail, ReasoningKind, is_unsigned};
use crate::dialect::event::ReasoningPiece;
use crate::dialect::openai_chat::fields::Path;
use crate::dialect::openai_chat::{message, stream};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::borrow::Cow;

/// What a seal begins with; nothing that OpenAI encrypts does.
pub const PREFIX: &str = "orbyt.r1.";

/// [`ReasoningDetail::format`] of what OpenAI encrypted itself, the name that OpenRouter gives it.
pub const FORMAT_OPENAI: &str = "openai-responses-v1";

/// The `encrypted_content` of a piece of reasoning; `None` when there is nothing to prove.
pub fn seal(detail: &ReasoningDetail) -> Option<String> {
    let format = detail.format.as_deref().unwrap_or_default();
    let id = detail.id.as_deref();
    let mut json = Vec::new();
    match &detail.kind {
        ReasoningKind::Text { text, signature: Some(signature) } => {
            stream::write_signed(detail.index, id, format, (text, signature), &mut json);
        }
        ReasoningKind::Encrypted(data) if format == FORMAT_OPENAI => return Some(data.clone()),
        ReasoningKind::Encrypted(data) => {
            stream::write_detail(detail.index, id, format, ReasoningPiece::Encrypted(data), &mut json);
        }
        ReasoningKind::Text { text, signature: None } if is_unsigned(format) => {
            stream::write_detail(detail.index, id, format, ReasoningPiece::Text(text), &mut json);
        }
        ReasoningKind::Summary(text) if is_unsigned(format) => {
            stream::write_detail(detail.index, id, format, ReasoningPiece::Summary(text), &mut json);
        }
        ReasoningKind::Text { signature: None, .. } | ReasoningKind::Summary(_) => return None,
    }
    Some(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(json)))
}

/// What is behind an `encrypted_content`: what was sealed here, or what OpenAI encrypted. `None` for a seal that is damaged: the
/// provider would refuse it.
pub fn open(text: &str) -> Option<ReasoningDetail> {
    let Some(sealed) = text.strip_prefix(PREFIX) else {
        return Some(ReasoningDetail {
            kind: ReasoningKind::Encrypted(text.to_owned()),
            id: None,
            format: Some(Cow::Borrowed(FORMAT_OPENAI)),
            index: 0,
        });
    };
    let json = URL_SAFE_NO_PAD.decode(sealed).ok()?;
    let value = serde_json::from_slice(&json).ok()?;
    message::detail(value, 0, &Path::top("encrypted_content")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::chat::{FORMAT_ANTHROPIC, FORMAT_COHERE, FORMAT_GEMINI};

    #[test]
    fn what_is_sealed_is_opened_unchanged() {
        for (kind, id, format) in [
            (
                ReasoningKind::Text { text: "thought \"a\"\n".into(), signature: Some("c2ln+/=".into()) },
                None,
                FORMAT_ANTHROPIC,
            ),
            (ReasoningKind::Text { text: String::new(), signature: Some("s".into()) }, None, FORMAT_ANTHROPIC),
            (ReasoningKind::Encrypted("redacted".into()), None, FORMAT_ANTHROPIC),
            (ReasoningKind::Encrypted("c2ln".into()), Some("call_1".to_owned()), FORMAT_GEMINI),
            (ReasoningKind::Encrypted("gAAAAAB".into()), None, FORMAT_OPENAI),
            (ReasoningKind::Text { text: "thought".into(), signature: None }, None, FORMAT_COHERE),
            (ReasoningKind::Summary("plan".into()), None, FORMAT_COHERE),
        ] {
            let detail = ReasoningDetail { kind, id, format: Some(format.into()), index: 0 };
            let sealed = seal(&detail).unwrap();
            assert_eq!(sealed.starts_with(PREFIX), format != FORMAT_OPENAI);
            assert_eq!(open(&sealed), Some(detail));
        }
    }

    #[test]
    fn thoughts_without_a_signature_need_no_seal_and_damage_is_noticed() {
        let plain = ReasoningDetail {
            kind: ReasoningKind::Text { text: "t".into(), signature: None },
            id: None,
            format: None,
            index: 0,
        };
        assert_eq!(seal(&plain), None);
        for damaged in ["orbyt.r1.", "orbyt.r1.!!", "orbyt.r1.e30", "orbyt.r1.eyJ0eXBlIjoxfQ"] {
            assert_eq!(open(damaged), None, "{damaged}");
        }
    }
}
