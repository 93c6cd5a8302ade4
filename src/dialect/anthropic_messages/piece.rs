//! The hot path: reads the pieces that make up nearly all of a stream without a full parse and without an allocation.
//!
//! Anthropic writes every piece in the same way, and [`read`] takes it in that way only:
//!
//! ```text
//!   {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello"}}
//! ```
//!
//! Whatever is written otherwise, or is broken, is left to the general parse, which means the same.

/// A piece of a block.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    /// The block's index in the message.
    pub index: u64,
    /// What the piece belongs to.
    pub kind: PieceKind,
    /// The piece itself, unescaped.
    pub text: &'a str,
}

/// What a piece belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PieceKind {
    /// Visible text.
    Text,
    /// Thoughts.
    Thinking,
    /// The signature of thoughts.
    Signature,
    /// The input of a call, as JSON text.
    Input,
}

/// Each kind with what precedes its text.
const HEADS: [(PieceKind, &[u8]); 3] = [
    (PieceKind::Text, b"text_delta\",\"text\":\""),
    (PieceKind::Thinking, b"thinking_delta\",\"thinking\":\""),
    (PieceKind::Input, b"input_json_delta\",\"partial_json\":\""),
];

/// Reads an event's data if it is a piece in the usual writing. Escapes are resolved in `scratch`.
pub(super) fn read<'a>(data: &'a [u8], scratch: &'a mut String) -> Option<Piece<'a>> {
    let rest = data.strip_prefix(b"{\"type\":\"content_block_delta\",\"index\":")?;
    let digits = rest.iter().take(18).take_while(|byte| byte.is_ascii_digit()).count();
    let index = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
    let rest = rest[digits..].strip_prefix(b",\"delta\":{\"type\":\"")?;
    let (kind, rest) = HEADS.iter().find_map(|(kind, head)| Some((*kind, rest.strip_prefix(*head)?)))?;
    let end = end_of_string(rest)?;
    // The padding that Anthropic puts behind some events stands between the two braces or after them.
    let close = rest[end + 1..].strip_prefix(b"}")?.trim_ascii();
    let text = std::str::from_utf8(&rest[..end]).ok()?;
    if close != b"}" || text.bytes().any(|byte| byte < b' ') {
        return None;
    }
    Some(Piece { index, kind, text: unescape(text, scratch)? })
}

/// Where the quote is that ends a JSON string.
fn end_of_string(rest: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + memchr::memchr2(b'"', b'\\', rest.get(from..)?)?;
        if rest[at] == b'"' {
            return Some(at);
        }
        from = at + 2;
    }
}

/// Resolves the escapes of a JSON string; `None` when one is not valid.
fn unescape<'a>(raw: &'a str, scratch: &'a mut String) -> Option<&'a str> {
    let Some(first) = memchr::memchr(b'\\', raw.as_bytes()) else { return Some(raw) };
    scratch.clear();
    scratch.push_str(&raw[..first]);
    let mut rest = &raw[first..];
    while let Some(escape) = rest.strip_prefix('\\') {
        let (character, length) = match escape.bytes().next()? {
            b'"' => ('"', 1),
            b'\\' => ('\\', 1),
            b'/' => ('/', 1),
            b'b' => ('\u{8}', 1),
            b'f' => ('\u{c}', 1),
            b'n' => ('\n', 1),
            b'r' => ('\r', 1),
            b't' => ('\t', 1),
            b'u' => code_point(escape)?,
            _ => return None,
        };
        scratch.push(character);
        rest = &escape[length..];
        let plain = memchr::memchr(b'\\', rest.as_bytes()).unwrap_or(rest.len());
        scratch.push_str(&rest[..plain]);
        rest = &rest[plain..];
    }
    Some(scratch)
}

/// The character of `uXXXX`, or of a surrogate pair `uXXXX\uXXXX`, and how long that is.
fn code_point(escape: &str) -> Option<(char, usize)> {
    let unit = |at: usize| {
        let digits = escape.get(at..at + 4).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        u32::from_str_radix(digits, 16).ok()
    };
    let first = unit(1)?;
    if let Some(character) = char::from_u32(first) {
        return Some((character, 5));
    }
    let second = escape.get(5..7).filter(|next| *next == "\\u").and_then(|_| unit(7))?;
    let pair = char::decode_utf16([u16::try_from(first).ok()?, u16::try_from(second).ok()?]).next()?;
    Some((pair.ok()?, 11))
}
