//! A request taken apart into what its user says last and all the rest, for those who compare questions by what they mean.
//!
//! The rest is a digest, so of two requests that have the same rest nothing differs but that text: not the conversation before, not a
//! parameter, not a picture beside the text. It includes the numbers of the text, in order: "5 km in miles" and "6 km in miles" lie close
//! together by every embedding, and their answers do not.

use super::digest::asked;
use super::scan::{Cursor, Invalid};
use sha2::{Digest, Sha256};
use std::ops::Range;

/// A longer text, in bytes, is not compared: two documents that differ in one line mean nearly the same, and their answers may not.
const LONGEST_TEXT: usize = 4096;

/// What a request asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// What the user says last, without white space around it.
    pub text: String,
    /// SHA-256 of everything else that may change the answer, and of the numbers in the text.
    pub rest: [u8; 32],
}

/// Takes a request apart. `None` when it is not one to be compared: its last message is not a user's, has no or more than one text, or a
/// long one, or there are tools, whose calls depend on every word.
pub fn question(body: &[u8], stream: bool) -> Option<Question> {
    let place = last_text(body)?;
    if place.len() > LONGEST_TEXT {
        return None;
    }
    let text = serde_json::from_slice::<String>(&body[place.clone()]).ok()?;
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    let without = [&body[..place.start], b"\"\"", &body[place.end..]].concat();
    let mut rest = Sha256::new();
    rest.update(asked(&without, stream).ok()?.digest);
    for number in text.split(|c: char| !c.is_numeric()).filter(|number| !number.is_empty()) {
        rest.update(number);
        rest.update(b" ");
    }
    Some(Question { text: text.to_owned(), rest: rest.finalize().into() })
}

/// Where the one text of the last message stands, quotes included.
///
/// A key that is there twice, or written with escapes, does no harm: whatever is not this one text counts as it is.
fn last_text(body: &[u8]) -> Option<Range<usize>> {
    let (mut last, mut has_tools) = (None, false);
    members(body, 0, |cursor, key| {
        match key {
            b"\"messages\"" if cursor.peek() == Some(b'[') => {
                cursor.array(|cursor| {
                    last = Some(cursor.value()?);
                    Ok::<(), Invalid>(())
                })?;
                return Ok(());
            }
            b"\"tools\"" | b"\"functions\"" => has_tools |= cursor.peek() != Some(b'n'),
            _ => {}
        }
        cursor.value().map(drop)
    })?;
    let message = last.filter(|_| !has_tools)?;
    let (mut is_users, mut content) = (false, None);
    members(body, message.start, |cursor, key| {
        let value = cursor.value()?;
        match key {
            b"\"role\"" => is_users = &body[value] == b"\"user\"",
            b"\"content\"" => content = Some(value),
            _ => {}
        }
        Ok(())
    })?;
    let content = content.filter(|_| is_users)?;
    if body[content.start] == b'"' { Some(content) } else { only_text(body, content) }
}

/// The text of the only part of a content that has one.
fn only_text(body: &[u8], content: Range<usize>) -> Option<Range<usize>> {
    let mut texts = Vec::new();
    let parts = Cursor::new(body, content.start).array(|cursor| {
        let part = cursor.value()?;
        members(body, part.start, |cursor, key| {
            let value = cursor.value()?;
            if key == b"\"text\"" && body[value.start] == b'"' {
                texts.push(value);
            }
            Ok(())
        });
        Ok::<(), Invalid>(())
    });
    match (parts, texts.as_slice()) {
        (Ok(_), [text]) => Some(text.clone()),
        _ => None,
    }
}

/// Walks over the members of the object at a place; `None` when there is none.
fn members(body: &[u8], at: usize, mut each: impl FnMut(&mut Cursor<'_>, &[u8]) -> Result<(), Invalid>) -> Option<()> {
    Cursor::new(body, at).object(|cursor, key| each(cursor, &body[key])).ok().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn of(body: &Value) -> Option<Question> {
        question(body.to_string().as_bytes(), false)
    }

    fn saying(content: &Value) -> Value {
        json!({"model": "m", "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": content}]})
    }

    fn rest(body: &Value) -> [u8; 32] {
        of(body).unwrap().rest
    }

    #[test]
    fn nothing_but_the_last_text_may_differ() {
        let base = saying(&json!("how are you"));
        assert_eq!(of(&base).unwrap().text, "how are you");
        assert_eq!(rest(&saying(&json!(" who \u{e9}\"are\" they\n"))), rest(&base));
        assert_eq!(of(&saying(&json!(" \"hm\" \n"))).unwrap().text, "\"hm\"");
        let mut other = base.clone();
        other["messages"][0]["content"] = json!("S");
        assert_ne!(rest(&other), rest(&base));
        for (name, value) in [("temperature", json!(0)), ("max_tokens", json!(5)), ("n", json!(2))] {
            let mut other = base.clone();
            other[name] = value;
            assert_ne!(rest(&other), rest(&base), "{name}");
        }
        let named = json!({"messages": [{"role": "user", "content": "how are you", "name": "a"}]});
        let unnamed = json!({"messages": [{"role": "user", "content": "how are you"}]});
        assert_ne!(rest(&named), rest(&unnamed));
        let bytes = base.to_string();
        let streamed = question(bytes.as_bytes(), true).unwrap();
        assert_ne!(streamed.rest, rest(&base), "a stream is another answer");
    }

    #[test]
    fn numbers_are_never_alike() {
        let rest = |text: &str| rest(&saying(&json!(text)));
        assert_eq!(rest("what are 5 km in miles"), rest("5 kilometres, how many miles?"));
        assert_ne!(rest("what are 5 km in miles"), rest("what are 6 km in miles"));
        assert_ne!(rest("from 1 to 2"), rest("from 2 to 1"));
        assert_ne!(rest("version 12"), rest("version 1 2"));
        assert_ne!(rest("one"), rest("1"));
    }

    #[test]
    fn parts_beside_the_text_count_as_they_are() {
        let picture = |url: &str| json!({"type": "image_url", "image_url": {"url": url}});
        let seen = |text: &str, url: &str| saying(&json!([{"type": "text", "text": text}, picture(url)]));
        assert_eq!(of(&seen("a dog?", "u")).unwrap().text, "a dog?");
        assert_eq!(rest(&seen("a dog?", "u")), rest(&seen("is it a dog", "u")));
        assert_ne!(rest(&seen("a dog?", "u")), rest(&seen("a dog?", "v")));
        assert_ne!(rest(&saying(&json!([{"type": "text", "text": "x"}]))), rest(&saying(&json!("x"))));
    }

    #[test]
    fn what_is_not_one_short_text_of_a_users_is_left_alone() {
        let text = |text: &str| json!({"type": "text", "text": text});
        let mut with_tools = saying(&json!("x"));
        with_tools["tools"] = json!([{"type": "function", "function": {"name": "f"}}]);
        let mut with_functions = saying(&json!("x"));
        with_functions["functions"] = json!([{"name": "f"}]);
        for body in [
            with_tools,
            with_functions,
            saying(&json!("")),
            saying(&json!(" \n")),
            saying(&json!("x".repeat(LONGEST_TEXT))),
            saying(&json!([text("a"), text("b")])),
            saying(&json!([])),
            saying(&json!(null)),
            saying(&json!(5)),
            json!({"messages": [{"role": "assistant", "content": "x"}]}),
            json!({"messages": [{"role": "user", "content": "x"}, {"role": "tool", "content": "y"}]}),
            json!({"messages": ["x"]}),
            json!({"messages": []}),
            json!({"messages": "x"}),
            json!({}),
            json!([]),
        ] {
            assert_eq!(of(&body), None, "{body}");
        }
        let mut without = saying(&json!("x"));
        without["tools"] = json!(null);
        assert_eq!(rest(&without), rest(&saying(&json!("x"))));
    }

    #[test]
    fn keys_that_are_there_twice_never_hide_a_difference() {
        let body = |first: &str, second: &str| {
            let text = format!(r#"{{"messages":[{{"role":"user","content":"{first}","content":"{second}"}}]}}"#);
            question(text.as_bytes(), false).unwrap()
        };
        assert_eq!(body("a", "b").text, "b");
        assert_ne!(body("a", "b").rest, body("c", "b").rest);
        let escaped = |text: &str| {
            let text = format!(r#"{{"messages":[{{"role":"user","content":"a","cont\u0065nt":"{text}"}}]}}"#);
            question(text.as_bytes(), false).unwrap()
        };
        assert_ne!(escaped("x").rest, escaped("y").rest);
    }
}
