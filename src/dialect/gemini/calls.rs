//! Function calls in answers: ids where Google gives none, arguments as compact JSON text, and arguments that come in pieces.

use super::wire::PartialArg;
use crate::dialect::sse::MAX_FRAME_BYTES;
use crate::domain::Fault;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// How deep a path into arguments may go.
const MAX_DEPTH: usize = 64;

/// The arguments of a call as the model gave them: order, numbers and escapes stay as they are, white space between tokens goes, so
/// that a pretty-printed answer and a stream say the same. None are `{}`.
pub fn arguments(raw: &str) -> Cow<'_, str> {
    if raw.is_empty() || raw == "null" {
        return Cow::Borrowed("{}");
    }
    let bytes = raw.as_bytes();
    let mut out = String::new();
    let (mut kept, mut at) = (0, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = string_end(bytes, at + 1),
            b' ' | b'\t' | b'\r' | b'\n' => {
                out.push_str(&raw[kept..at]);
                at += 1;
                kept = at;
            }
            _ => at += 1,
        }
    }
    if kept == 0 {
        return Cow::Borrowed(raw);
    }
    out.push_str(&raw[kept..]);
    Cow::Owned(out)
}

/// Where the string that began before `at` ends, behind its quote.
fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        match bytes[at + found] {
            b'"' => return at + found + 1,
            _ => at += found + 2,
        }
    }
    bytes.len()
}

/// An id for a call that has none: the same whenever the same answer is read, unique within it. Where the answer has no id
/// either, a hash of what the call says stands in for it, so that calls of different turns differ.
pub fn make_id(answer: &str, choice: u32, index: u32, says: &[&str]) -> String {
    let place = if choice == 0 { index.to_string() } else { format!("{choice}_{index}") };
    if !answer.is_empty() {
        return format!("call_{answer}_{place}");
    }
    // FNV-1a, 64 bits: stability matters here, not strength.
    let hash = says
        .iter()
        .flat_map(|text| text.bytes().chain([0]))
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("call_{hash:016x}_{place}")
}

/// A call whose arguments come in pieces (`partialArgs`), each a path and a value.
///
/// Vertex AI streams them so when `streamFunctionCallArguments` is on. The values of several paths may grow in any order, so the
/// arguments are put together here and told as one piece.
#[derive(Debug)]
pub struct OpenCall {
    /// The call's place; `None` when its arguments are the answer's text.
    index: Option<u32>,
    value: Value,
    /// What it holds, as a bound for hostile providers.
    bytes: usize,
}

/// A step of a path.
#[derive(Debug, PartialEq, Eq)]
enum Step<'a> {
    Key(Cow<'a, str>),
    Item(usize),
}

impl OpenCall {
    /// The client's call at this place.
    pub fn new(index: u32) -> Self {
        Self { index: Some(index), value: Value::Object(Map::new()), bytes: 0 }
    }

    /// The call of the answer tool.
    pub fn answer() -> Self {
        Self { index: None, value: Value::Object(Map::new()), bytes: 0 }
    }

    /// Sets or extends one value.
    ///
    /// # Errors
    /// `Malformed` when the path cannot be followed or the arguments outgrow a frame.
    pub fn set(&mut self, piece: &PartialArg<'_>) -> Result<(), Fault> {
        let path = piece.json_path.as_ref().map_or("$", |path| &path.0);
        let text = piece.string_value.as_ref().map(|text| text.0.as_ref());
        self.bytes += path.len() + text.map_or(8, str::len);
        if self.bytes > MAX_FRAME_BYTES {
            return Err(Fault::malformed("the provider sent arguments larger than 32 MiB"));
        }
        let steps =
            steps(path).ok_or_else(|| Fault::malformed("the provider sent an argument path that cannot be read"))?;
        let mut place = &mut self.value;
        for step in &steps {
            place = descend(place, step)
                .ok_or_else(|| Fault::malformed("the provider sent an argument path that leads nowhere"))?;
        }
        match (place, text) {
            (Value::String(grown), Some(text)) => grown.push_str(text),
            (place, Some(text)) => *place = Value::String(text.to_owned()),
            (place, None) => *place = scalar(piece),
        }
        Ok(())
    }

    /// Takes whole arguments instead of pieces.
    pub fn replace(&mut self, args: &RawValue) {
        if let Ok(value) = serde_json::from_str(args.get()) {
            self.value = value;
        }
    }

    /// The place and the arguments.
    pub fn close(self) -> (Option<u32>, String) {
        (self.index, self.value.to_string())
    }
}

fn scalar(piece: &PartialArg<'_>) -> Value {
    match (piece.bool_value, piece.number_value) {
        (Some(truth), _) => Value::Bool(truth),
        (None, Some(number)) => serde_json::from_str(number.get()).unwrap_or_default(),
        (None, None) => Value::Null,
    }
}

/// Reads `$.orders[0].name`, also `$['two words']`.
fn steps(path: &str) -> Option<Vec<Step<'_>>> {
    let mut rest = path.strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let step = if let Some(inner) = rest.strip_prefix('.') {
            let end = inner.find(['.', '[']).unwrap_or(inner.len());
            rest = &inner[end..];
            Step::Key(Cow::Borrowed(&inner[..end]))
        } else {
            let inner = rest.strip_prefix('[')?;
            match inner.chars().next()? {
                quote @ ('\'' | '"') => {
                    let (key, behind) = quoted(&inner[1..], quote)?;
                    rest = behind.strip_prefix(']')?;
                    Step::Key(key)
                }
                _ => {
                    let (number, behind) = inner.split_once(']')?;
                    rest = behind;
                    Step::Item(number.parse().ok()?)
                }
            }
        };
        steps.push(step);
        if steps.len() > MAX_DEPTH {
            return None;
        }
    }
    Some(steps)
}

/// A quoted key up to its quote, a backslash escaping one character.
fn quoted(text: &str, quote: char) -> Option<(Cow<'_, str>, &str)> {
    let mut key = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => key.push(chars.next()?.1),
            c if c == quote => return Some((Cow::Owned(key), &text[at + c.len_utf8()..])),
            c => key.push(c),
        }
    }
    None
}

/// One step down, making what is not there yet; an array grows by one item at a time.
fn descend<'a>(place: &'a mut Value, step: &Step<'_>) -> Option<&'a mut Value> {
    match step {
        Step::Key(key) => {
            if place.is_null() {
                *place = Value::Object(Map::new());
            }
            Some(place.as_object_mut()?.entry(key.as_ref()).or_insert(Value::Null))
        }
        Step::Item(at) => {
            if place.is_null() {
                *place = Value::Array(Vec::new());
            }
            let items = place.as_array_mut()?;
            if *at == items.len() {
                items.push(Value::Null);
            }
            items.get_mut(*at)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_lose_white_space_and_nothing_else() {
        assert_eq!(arguments(""), "{}");
        assert_eq!(arguments("null"), "{}");
        assert!(matches!(arguments(r#"{"a":"b c"}"#), Cow::Borrowed(_)));
        let pretty = "{\n  \"z\": [ 1.0, 2e3 ],\n  \"a\": \"x \\\" \\\\\",\r\n\t\"big\": 12345678901234567890123\n}";
        assert_eq!(arguments(pretty), r#"{"z":[1.0,2e3],"a":"x \" \\","big":12345678901234567890123}"#);
    }

    #[test]
    fn ids_are_stable_and_distinct() {
        assert_eq!(make_id("r-1", 0, 2, &[]), "call_r-1_2");
        assert_eq!(make_id("r-1", 1, 2, &[]), "call_r-1_1_2");
        assert_eq!(make_id("", 0, 0, &["f", "{}"]), make_id("", 0, 0, &["f", "{}"]));
        assert_ne!(make_id("", 0, 0, &["f", "{}"]), make_id("", 0, 0, &["f", "{\"a\":1}"]));
    }

    #[test]
    fn paths_are_read() {
        let key = |key: &'static str| Step::Key(Cow::Borrowed(key));
        assert_eq!(steps("$"), Some(vec![]));
        assert_eq!(steps("$.a[0].b"), Some(vec![key("a"), Step::Item(0), key("b")]));
        assert_eq!(steps(r"$['it\'s'][1]"), Some(vec![key("it's"), Step::Item(1)]));
        for path in ["a", "$a", "$.a[", "$[x]", "$['a]"] {
            assert!(steps(path).is_none(), "{path}");
        }
    }

    #[test]
    fn pieces_grow_into_arguments() {
        let mut call = OpenCall::new(0);
        let pieces = [
            r#"{"jsonPath": "$.items[0].name", "stringValue": "ap", "willContinue": true}"#,
            r#"{"jsonPath": "$.items[0].name", "stringValue": "ple"}"#,
            r#"{"jsonPath": "$.items[0].price", "numberValue": 0.50}"#,
            r#"{"jsonPath": "$.items[1]", "nullValue": "NULL_VALUE"}"#,
            r#"{"jsonPath": "$.sold", "boolValue": true}"#,
        ];
        for piece in pieces {
            call.set(&serde_json::from_str(piece).unwrap()).unwrap();
        }
        let expected = r#"{"items":[{"name":"apple","price":0.5},null],"sold":true}"#;
        assert_eq!(call.close(), (Some(0), expected.to_owned()));
        for path in ["$.a[4000000000]", "$[0]", "nonsense"] {
            let piece = format!(r#"{{"jsonPath": "{path}", "stringValue": ""}}"#);
            assert!(OpenCall::answer().set(&serde_json::from_str(&piece).unwrap()).is_err(), "{path}");
        }
    }
}
