//! Thoughts of other providers' models in Google's parts.
//!
//! A part may carry a `thoughtSignature`: bytes in base64 that are opaque to the client, which sends the part back as it is. What another
//! provider needs to get its thoughts back is therefore written into it, behind a mark that no signature of Google's has:
//!
//! ```text
//!   base64( orbyt:v1:[kind, format, id of the call, length or text, data] )
//! ```
//!
//! Clients keep the pieces of a stream apart, so a signature says how much of the text in front of it it proves.

use crate::dialect::chat::{FORMAT_GEMINI, ReasoningDetail, ReasoningKind};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::{Deserialize, Serialize};

/// What a signature begins with that is not Google's; its nine bytes are twelve in base64, whatever follows.
pub(super) const MARK: &str = "b3JieXQ6djE6";
const PREFIX: &[u8] = b"orbyt:v1:";

/// What stands behind the mark.
#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Sealed {
    /// The proof of the last `length` bytes of thoughts before it.
    Signature { format: String, length: usize, data: String },
    /// Thoughts that the client did not want to see, with their proof.
    Hidden { format: String, text: String, data: String },
    /// Thoughts that only the provider can read.
    Encrypted { format: String, id: Option<String>, data: String },
    /// The call was not made by one of Google's models.
    Call,
}

impl Sealed {
    /// Writes it as a signature.
    pub fn seal(&self) -> String {
        let mut text = PREFIX.to_vec();
        // Writing into a vector cannot fail.
        let _ = serde_json::to_writer(&mut text, self);
        STANDARD.encode(text)
    }

    /// Reads a signature; `None` for one of Google's own. Clients may have written the bytes in the other alphabet of base64.
    pub fn unseal(signature: &str) -> Option<Self> {
        signature.strip_prefix(MARK)?;
        let usual: String = signature
            .trim_end_matches('=')
            .chars()
            .map(|letter| match letter {
                '-' => '+',
                '_' => '/',
                other => other,
            })
            .collect();
        let text = STANDARD_NO_PAD.decode(usual).ok()?;
        serde_json::from_slice(text.strip_prefix(PREFIX)?).ok()
    }
}

/// The thoughts of one turn, put together from parts.
#[derive(Default)]
pub(super) struct Thoughts {
    pub details: Vec<ReasoningDetail>,
    /// Text that no signature has closed yet.
    open: String,
}

impl Thoughts {
    /// Takes a thought, with the signature that its part carries.
    pub fn thought(&mut self, text: &str, signature: Option<&str>) {
        self.open.push_str(text);
        let Some(signature) = signature.filter(|signature| !signature.is_empty()) else { return };
        match Sealed::unseal(signature) {
            None => {
                let text = std::mem::take(&mut self.open);
                let kind = ReasoningKind::Text { text, signature: Some(signature.to_owned()) };
                self.push(kind, None, Some(FORMAT_GEMINI.to_owned()));
            }
            Some(Sealed::Signature { format, length, data }) => {
                let at = self.open.len().checked_sub(length).filter(|at| self.open.is_char_boundary(*at));
                let text = self.open.split_off(at.unwrap_or(0));
                self.flush();
                self.push(ReasoningKind::Text { text, signature: Some(data) }, None, Some(format));
            }
            Some(Sealed::Hidden { format, text, data }) => {
                self.flush();
                self.push(ReasoningKind::Text { text, signature: Some(data) }, None, Some(format));
            }
            Some(Sealed::Encrypted { format, id, data }) => {
                self.flush();
                self.push(ReasoningKind::Encrypted(data), id, Some(format));
            }
            Some(Sealed::Call) => {}
        }
    }

    /// Takes the signature of a text (`call`: of a call of this id).
    pub fn signature(&mut self, signature: &str, call: Option<&str>) {
        self.flush();
        match Sealed::unseal(signature) {
            None if !signature.is_empty() => {
                let kind = ReasoningKind::Encrypted(signature.to_owned());
                self.push(kind, call.map(str::to_owned), Some(FORMAT_GEMINI.to_owned()));
            }
            Some(Sealed::Encrypted { format, id, data }) => self.push(ReasoningKind::Encrypted(data), id, Some(format)),
            _ => {}
        }
    }

    /// Ends thoughts that nothing proves. Without any signature they are nobody's.
    pub fn flush(&mut self) {
        if !self.open.is_empty() {
            let text = std::mem::take(&mut self.open);
            self.push(ReasoningKind::Text { text, signature: None }, None, None);
        }
    }

    fn push(&mut self, kind: ReasoningKind, id: Option<String>, format: Option<String>) {
        let format = format.filter(|format| !format.is_empty()).map(Into::into);
        let index = u32::try_from(self.details.len()).unwrap_or(u32::MAX);
        self.details.push(ReasoningDetail { kind, id, format, index });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::chat::FORMAT_ANTHROPIC;

    fn signature(length: usize, data: &str) -> Sealed {
        Sealed::Signature { format: FORMAT_ANTHROPIC.to_owned(), length, data: data.to_owned() }
    }

    #[test]
    fn what_is_sealed_is_read_again_in_either_alphabet() {
        for sealed in [
            signature(3, "EqQB>>>???"),
            Sealed::Hidden { format: String::new(), text: "ä\"".into(), data: "x".into() },
            Sealed::Encrypted { format: "f".into(), id: Some("call:1".into()), data: "~~~???".into() },
            Sealed::Call,
        ] {
            let text = sealed.seal();
            assert!(text.starts_with(MARK), "{text}");
            let other = text.replace('+', "-").replace('/', "_");
            assert_eq!(Sealed::unseal(other.trim_end_matches('=')).as_ref(), Some(&sealed));
            assert_eq!(Sealed::unseal(&text), Some(sealed));
        }
    }

    #[test]
    fn googles_own_and_broken_marks_are_not_read() {
        for text in ["", "AQ==", "CiQB4/H/XtxWNIwW", MARK, "b3JieXQ6djE6!", "b3JieXQ6djE6e30="] {
            assert_eq!(Sealed::unseal(text), None, "{text}");
        }
    }

    #[test]
    fn a_signature_proves_as_much_as_it_says() {
        let mut thoughts = Thoughts::default();
        thoughts.thought("nobody's ", None);
        thoughts.thought("pro", None);
        thoughts.thought("ved", Some(&signature(6, "s").seal()));
        thoughts.thought("Google's", Some("AQ=="));
        thoughts.thought("rest", None);
        thoughts.flush();
        let seen: Vec<_> =
            thoughts.details.iter().map(|detail| (detail.kind.clone(), detail.format.as_deref())).collect();
        let text = |text: &str, signature: Option<&str>| ReasoningKind::Text {
            text: text.to_owned(),
            signature: signature.map(str::to_owned),
        };
        assert_eq!(
            seen,
            [
                (text("nobody's ", None), None),
                (text("proved", Some("s")), Some(FORMAT_ANTHROPIC)),
                (text("Google's", Some("AQ==")), Some(FORMAT_GEMINI)),
                (text("rest", None), None),
            ]
        );
    }
}
