//! A validating look at JSON that builds nothing: members and items by their place in the text, in one pass.
//!
//! Both the client's body and every chunk of a provider's stream pass through here, so it neither allocates nor copies. It accepts
//! what RFC 8259 accepts, up to [`MAX_DEPTH`] levels.

use std::ops::Range;

/// How deep objects and arrays may nest: the limit that `serde_json` has, so that what passes here can be parsed later.
pub const MAX_DEPTH: usize = 127;

/// Text that is not JSON: where, and what is wrong there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Byte offset of the first byte that does not fit.
    pub at: usize,
    /// What was expected.
    pub what: &'static str,
}

impl Invalid {
    /// Line and column, both from 1, the column in characters' bytes.
    pub fn line_and_column(&self, text: &[u8]) -> (usize, usize) {
        let before = &text[..self.at.min(text.len())];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = before.len() - memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1) + 1;
        (line, column)
    }
}

/// Tells whether a JSON object or array that comes in pieces is closed, without looking at anything else.
#[derive(Clone, Copy, Debug, Default)]
pub struct Balance {
    depth: usize,
    place: Where,
    begun: bool,
}

#[derive(Clone, Copy, Debug, Default)]
enum Where {
    #[default]
    Outside,
    InString,
    /// Behind a backslash in a string.
    Escaped,
}

impl Balance {
    /// Takes the next piece of the text.
    pub fn push(&mut self, piece: &[u8]) {
        for byte in piece {
            self.place = match (self.place, byte) {
                (Where::Outside, b'"') | (Where::Escaped, _) => Where::InString,
                (Where::InString, b'\\') => Where::Escaped,
                (Where::InString, b'"') => Where::Outside,
                (Where::Outside, b'{' | b'[') => {
                    self.depth += 1;
                    self.begun = true;
                    Where::Outside
                }
                (Where::Outside, b'}' | b']') => {
                    self.depth = self.depth.saturating_sub(1);
                    Where::Outside
                }
                (place, _) => place,
            };
        }
    }

    /// Whether every bracket that was opened is closed again.
    pub fn is_closed(&self) -> bool {
        self.begun && self.depth == 0 && matches!(self.place, Where::Outside)
    }
}

/// A place in a JSON text.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
    depth: usize,
}

/// The key of a member: its place, quotes included.
pub type Key = Range<usize>;

impl<'a> Cursor<'a> {
    /// A cursor at `at`, which must be where a value begins (white space before it is skipped).
    pub fn new(text: &'a [u8], at: usize) -> Self {
        Self { text, at, depth: 0 }
    }

    /// The text under the cursor.
    pub fn text(&self) -> &'a [u8] {
        self.text
    }

    /// The first byte of the next value, which says its type: `{`, `[`, `"`, `t`, `f`, `n`, a digit or `-`.
    pub fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.text.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    /// Walks over an object. The callback gets each key and must move the cursor over its value.
    ///
    /// # Errors
    /// The callback's, or that this is no object.
    pub fn object<E: From<Invalid>>(
        &mut self,
        mut each: impl FnMut(&mut Self, Key) -> Result<(), E>,
    ) -> Result<Range<usize>, E> {
        let start = self.open(b'{', "an object was expected")?;
        if self.take(b'}') {
            self.depth -= 1;
            return Ok(start..self.at);
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.invalid("a key in double quotes was expected").into());
            }
            let key = self.string()?;
            if !self.take(b':') {
                return Err(self.invalid("a colon was expected after the key").into());
            }
            each(self, key)?;
            if self.take(b'}') {
                self.depth -= 1;
                return Ok(start..self.at);
            }
            if !self.take(b',') {
                return Err(self.invalid("a comma or the end of the object was expected").into());
            }
        }
    }

    /// Walks over an array. The callback must move the cursor over each item.
    ///
    /// # Errors
    /// The callback's, or that this is no array.
    pub fn array<E: From<Invalid>>(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<Range<usize>, E> {
        let start = self.open(b'[', "an array was expected")?;
        if self.take(b']') {
            self.depth -= 1;
            return Ok(start..self.at);
        }
        loop {
            each(self)?;
            if self.take(b']') {
                self.depth -= 1;
                return Ok(start..self.at);
            }
            if !self.take(b',') {
                return Err(self.invalid("a comma or the end of the array was expected").into());
            }
        }
    }

    /// Moves over any value and says where it stands.
    ///
    /// # Errors
    /// That there is none, or a broken one.
    pub fn value(&mut self) -> Result<Range<usize>, Invalid> {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'{') => self.object(|cursor, _| cursor.value().map(drop)),
            Some(b'[') => self.array(|cursor| cursor.value().map(drop)),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => Err(self.invalid("a value was expected")),
            None => Err(self.invalid("the text ends where a value was expected")),
        }
    }

    /// Checks that nothing but white space follows.
    ///
    /// # Errors
    /// That something does.
    pub fn end(&mut self) -> Result<(), Invalid> {
        if self.peek().is_some() { Err(self.invalid("something follows after the end of the value")) } else { Ok(()) }
    }

    fn invalid(&self, what: &'static str) -> Invalid {
        let what = if self.at >= self.text.len() { "the text ends too early" } else { what };
        Invalid { at: self.at, what }
    }

    fn open(&mut self, bracket: u8, what: &'static str) -> Result<usize, Invalid> {
        if self.peek() != Some(bracket) {
            return Err(self.invalid(what));
        }
        if self.depth >= MAX_DEPTH {
            return Err(self.invalid("the nesting is too deep"));
        }
        self.depth += 1;
        self.at += 1;
        Ok(self.at - 1)
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn word(&mut self, word: &str) -> Result<Range<usize>, Invalid> {
        let start = self.at;
        if !self.text[start..].starts_with(word.as_bytes()) {
            return Err(Invalid { at: start, what: "a value was expected" });
        }
        self.at += word.len();
        Ok(start..self.at)
    }

    fn digits(&mut self) -> Result<(), Invalid> {
        let count = self.text[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if count == 0 {
            return Err(self.invalid("a digit was expected"));
        }
        self.at += count;
        Ok(())
    }

    fn number(&mut self) -> Result<Range<usize>, Invalid> {
        let start = self.at;
        self.at += usize::from(self.text[self.at] == b'-');
        match self.text.get(self.at) {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.text.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.text.get(self.at), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(start..self.at)
    }

    fn string(&mut self) -> Result<Range<usize>, Invalid> {
        let start = self.at;
        self.at += 1;
        loop {
            self.at += plain(&self.text[self.at..]);
            match self.text.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(start..self.at);
                }
                Some(b'\\') => self.escape()?,
                Some(_) => return Err(self.invalid("a control character in a string must be escaped")),
                None => return Err(self.invalid("a string is not closed")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Invalid> {
        match self.text.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => {
                let digits = self.text.get(self.at + 2..self.at + 6).unwrap_or_default();
                if digits.len() < 4 {
                    self.at = self.text.len();
                }
                if digits.len() < 4 || !digits.iter().all(u8::is_ascii_hexdigit) {
                    return Err(self.invalid("four hexadecimal digits were expected after \\u"));
                }
                self.at += 6;
            }
            Some(_) => return Err(self.invalid("an unknown escape in a string")),
            None => {
                self.at = self.text.len();
                return Err(self.invalid("a string is not closed"));
            }
        }
        Ok(())
    }
}

/// How many bytes at the start of `text` are neither a quote, a backslash nor a control character. Most strings are short, but most bytes
/// of a body are in long ones: what is left after the first bytes is searched as wide as the machine is.
fn plain(text: &[u8]) -> usize {
    const SHORT: usize = 32;
    let at = plain_words(&text[..text.len().min(SHORT)]);
    if at < SHORT {
        return at;
    }
    let rest = &text[at..];
    let end = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
    // Without a way out of the loop, so that it is done on many bytes at once.
    let has_control = rest[..end].iter().fold(false, |found, byte| found | (*byte < 0x20));
    at + if has_control { rest.iter().position(|byte| *byte < 0x20).unwrap_or(end) } else { end }
}

/// The same, eight bytes at a time.
fn plain_words(text: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    let mut at = 0;
    while let Some(word) = text.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*word);
        let has = |byte: u8| {
            let x = word ^ (ONES * u64::from(byte));
            x.wrapping_sub(ONES) & !x
        };
        // A byte below 0x20 borrows in the subtraction; bytes from 0x80 on are part of a longer character and are left out.
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let found = (has(b'"') | has(b'\\') | control) & TOPS;
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
    at + text[at..].iter().position(special).unwrap_or(text.len() - at)
}

/// What stands between the quotes of a JSON string, escapes as they are; empty when it is no string.
pub fn inner(string: &[u8]) -> &[u8] {
    string.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or_default()
}

/// A whole number as it stands in the text.
pub fn integer(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str) -> Result<(), Invalid> {
        let mut cursor = Cursor::new(text.as_bytes(), 0);
        cursor.value()?;
        cursor.end()
    }

    #[test]
    fn accepts_what_the_standard_accepts_and_nothing_else() {
        for good in
            ["{}", "[]", " [1 , 2.5e-3,-0, true,false , null, \"a\\u00e9\\n\" ] ", "{\"a\":{\"b\":[]}}", "\"\\\\\""]
        {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "{",
            "[1,]",
            "{\"a\"}",
            "{\"a\":}",
            "{a:1}",
            "01",
            "-",
            "1.",
            "1e",
            "tru",
            "\"a",
            "\"\\x\"",
            "\"\\u12g4\"",
            "{} {}",
            "{\"a\":1,}",
            "\"\n\"",
            "'a'",
            "\"\\u12",
            "\"\\",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_crash() {
        let deep = "[".repeat(1_000_000);
        assert_eq!(check(&deep).unwrap_err().what, "the nesting is too deep");
        let most = format!("{}{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
        assert_eq!(check(&most), Ok(()));
        assert!(serde_json::from_str::<serde_json::Value>(&most).is_ok());
    }

    #[test]
    fn says_line_and_column() {
        let text = "{\n  \"a\": 1,\n  b\n}";
        let invalid = check(text).unwrap_err();
        assert_eq!(invalid.line_and_column(text.as_bytes()), (3, 3));
    }

    #[test]
    fn finds_specials_at_every_place_of_a_word() {
        for at in 0..20 {
            for special in [b'"', b'\\', b'\n', 0x1f, 0] {
                for other in [b'a', 0x20, 0x21, 0x7f, 0x80, 0xff, b'#', b'[', b']'] {
                    let mut text = vec![other; 24];
                    text[at] = special;
                    assert_eq!(plain(&text), at, "{special} at {at} among {other}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json(text in "[\\[\\]{}:,\"\\\\0-9.eE+\\-truefalsnu \n\t\u{e9}/b]{0,24}") {
            let theirs = serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok();
            prop_assert_eq!(check(&text).is_ok(), theirs, "{}", text);
        }

        #[test]
        fn agrees_with_serde_json_on_mutated_documents(at in 0usize..60, byte in 0x20u8..0x7f) {
            let mut text = br#"{"a":[1,-2.5e3,"x\u00e9\n"],"b":{"c":null,"d":[true,false]}}"#.to_vec();
            let length = text.len();
            text[at % length] = byte;
            let text = String::from_utf8(text).unwrap();
            let theirs = serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok();
            prop_assert_eq!(check(&text).is_ok(), theirs, "{}", text);
        }
    }
}
