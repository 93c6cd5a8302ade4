//! What a request asks, as a digest: the same for bodies that say the same, whatever their order of keys, white space and escapes.
//!
//! Left out is what cannot change the answer: what steers the gateway (its extensions, the model's name, which means what the plan makes
//! of it), what names the asker, and, where nothing is streamed, the options of a stream. A null member is an absent one at the top
//! level. Everything else counts, also what nobody here knows.
//!
//! Each value is fed to SHA-256 with its type and length before it, the members of an object ordered by key, those that are objects or
//! lists themselves as digests of their own. So no two different values feed the same bytes. Numbers count as they are written: `1.0` is
//! not `1`.

use super::scan::{Cursor, Invalid};
use crate::dialect::extensions::MEMBERS;
use sha2::{Digest, Sha256};
use std::borrow::Cow;

/// Top-level members that cannot change the answer, besides the gateway's own.
const BESIDE_THE_POINT: [&str; 7] =
    ["model", "stream", "user", "safety_identifier", "metadata", "prompt_cache_key", "prompt_cache_retention"];

/// What a body asks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Asked {
    /// SHA-256 of it.
    pub digest: [u8; 32],
    /// `temperature`, when it is there and a number.
    pub temperature: Option<f64>,
}

/// Reads what a body asks. Streamed and not streamed answers are different ones.
///
/// # Errors
/// That the body is no JSON object.
pub fn asked(body: &[u8], stream: bool) -> Result<Asked, Invalid> {
    let mut temperature = None;
    let mut members = Vec::with_capacity(16);
    let mut cursor = Cursor::new(body, 0);
    cursor.object(|cursor, key| {
        let name = text(&body[key]);
        if cursor.peek() == Some(b'n') || is_beside_the_point(&name, stream) {
            return cursor.value().map(drop);
        }
        if *name == *b"temperature" {
            let number = cursor.clone().value()?;
            temperature = std::str::from_utf8(&body[number]).ok().and_then(|number| number.parse().ok());
        }
        members.push((name, Member::read(cursor)?));
        Ok::<(), Invalid>(())
    })?;
    let mut hash = Sha256::new();
    hash.update([u8::from(stream)]);
    put_members(members, &mut hash);
    Ok(Asked { digest: hash.finalize().into(), temperature })
}

fn is_beside_the_point(name: &[u8], stream: bool) -> bool {
    let is_one_of = |names: &[&str]| names.iter().any(|known| known.as_bytes() == name);
    is_one_of(&MEMBERS) || is_one_of(&BESIDE_THE_POINT) || !stream && name == b"stream_options"
}

/// What a member of an object is fed as, once they are in order.
enum Member<'a> {
    /// A string's text.
    Text(Cow<'a, [u8]>),
    /// A number or a word, as it is written.
    Word(&'a [u8]),
    /// The digest of an object or a list.
    Digest([u8; 32]),
}

impl<'a> Member<'a> {
    /// The value under the cursor, which moves behind it.
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, Invalid> {
        let whole = cursor.text();
        Ok(match cursor.peek() {
            Some(b'{' | b'[') => {
                let mut hash = Sha256::new();
                put(cursor, &mut hash)?;
                Self::Digest(hash.finalize().into())
            }
            Some(b'"') => Self::Text(text(&whole[cursor.value()?])),
            _ => Self::Word(&whole[cursor.value()?]),
        })
    }

    fn put(&self, hash: &mut Sha256) {
        match self {
            Self::Text(text) => put_bytes(b"\"", text, hash),
            // It ends where the next type begins.
            Self::Word(word) => put_bytes(b"#", word, hash),
            Self::Digest(digest) => put_bytes(b"=", digest, hash),
        }
    }
}

/// Feeds the value under the cursor and moves behind it.
fn put(cursor: &mut Cursor<'_>, hash: &mut Sha256) -> Result<(), Invalid> {
    let whole = cursor.text();
    match cursor.peek() {
        Some(b'{') => {
            let mut members = Vec::new();
            cursor.object(|cursor, key| {
                members.push((text(&whole[key]), Member::read(cursor)?));
                Ok::<(), Invalid>(())
            })?;
            put_members(members, hash);
        }
        Some(b'[') => {
            hash.update(b"[");
            cursor.array(|cursor| put(cursor, hash))?;
            hash.update(b"]");
        }
        _ => Member::read(cursor)?.put(hash),
    }
    Ok(())
}

fn put_members(mut members: Vec<(Cow<'_, [u8]>, Member<'_>)>, hash: &mut Sha256) {
    // Stable: of several members with one key the last one counts, so their order does.
    members.sort_by(|one, other| one.0.cmp(&other.0));
    put_bytes(b"{", &members.len().to_le_bytes(), hash);
    for (key, member) in &members {
        put_bytes(b":", key, hash);
        member.put(hash);
    }
}

fn put_bytes(tag: &[u8; 1], bytes: &[u8], hash: &mut Sha256) {
    hash.update(tag);
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

/// A string's text, escapes resolved. What is no text, such as half a surrogate pair, stays as it is written, behind a byte that no text
/// has.
fn text(string: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'\\', string).is_none() {
        return string[1..string.len() - 1].into();
    }
    match serde_json::from_slice::<String>(string) {
        Ok(text) => text.into_bytes().into(),
        Err(_) => [&[0xFF], string].concat().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    fn of(body: &str) -> [u8; 32] {
        asked(body.as_bytes(), false).unwrap().digest
    }

    #[test]
    fn order_white_space_and_escapes_do_not_matter() {
        let plain = of(r#"{"messages":[{"role":"user","content":"Aä/"}],"seed":1}"#);
        for same in [
            r#" { "seed" : 1 , "messages" : [ { "content" : "Aä/", "role" : "user" } ] } "#,
            r#"{"messages":[{"role":"user","content":"\u0041\u00e4\/"}],"seed":1}"#,
            r#"{"messages":[{"r\u006fle":"user","content":"Aä/"}],"seed":1,"tools":null}"#,
        ] {
            assert_eq!(of(same), plain, "{same}");
        }
    }

    #[test]
    fn what_only_steers_does_not_matter_and_all_else_does() {
        let base = json!({"model": "a", "messages": [{"role": "user", "content": "x"}]});
        let with = |name: &str, value: Value| {
            let mut body = base.clone();
            body[name] = value;
            of(&body.to_string())
        };
        let plain = of(&base.to_string());
        for (name, value) in [
            ("model", json!("b")),
            ("extra", json!({"retry": 1})),
            ("models", json!(["c"])),
            ("provider", json!({"sort": "price"})),
            ("fallbacks", json!(["c"])),
            ("route", json!("fallback")),
            ("stream", json!(false)),
            ("stream_options", json!({"include_usage": true})),
            ("user", json!("u")),
            ("metadata", json!({"a": "b"})),
            ("prompt_cache_key", json!("k")),
        ] {
            assert_eq!(with(name, value), plain, "{name}");
        }
        for (name, value) in [
            ("messages", json!([{"role": "system", "content": "x"}])),
            ("messages", json!([{"role": "user", "content": "x"}, {"role": "user", "content": ""}])),
            ("temperature", json!(0)),
            ("top_p", json!(1)),
            ("max_tokens", json!(5)),
            ("max_completion_tokens", json!(5)),
            ("n", json!(2)),
            ("seed", json!(7)),
            ("stop", json!(["x"])),
            ("tools", json!([])),
            ("tool_choice", json!("auto")),
            ("response_format", json!({"type": "json_object"})),
            ("reasoning", json!({"effort": "low"})),
            ("include_reasoning", json!(false)),
            ("usage", json!({"include": true})),
            ("service_tier", json!("flex")),
            ("nobody_knows_this", json!(true)),
        ] {
            assert_ne!(with(name, value), plain, "{name}");
        }
    }

    #[test]
    fn a_stream_is_another_answer_and_so_are_its_options() {
        let body = br#"{"messages":["x"],"stream":true}"#;
        let with_usage = br#"{"messages":["x"],"stream":true,"stream_options":{"include_usage":true}}"#;
        let digest = |body: &[u8], stream| asked(body, stream).unwrap().digest;
        assert_ne!(digest(body, true), digest(body, false));
        assert_ne!(digest(body, true), digest(with_usage, true));
        assert_eq!(digest(body, false), digest(with_usage, false));
    }

    #[test]
    fn values_that_look_alike_are_told_apart() {
        let different = [
            r#"{"a":1}"#,
            r#"{"a":"1"}"#,
            r#"{"a":1.0}"#,
            r#"{"a":[1]}"#,
            r#"{"a":[[1]]}"#,
            r#"{"a":[1,1]}"#,
            r#"{"a":["1","1"]}"#,
            r#"{"a":["1\",\"1"]}"#,
            r#"{"a":{}}"#,
            r#"{"a":[]}"#,
            r#"{"a":true}"#,
            r#"{"a":"true"}"#,
            r#"{"a":1,"b":1}"#,
            r#"{"a":{"b":1}}"#,
            r#"{"a":{"b":1,"c":null}}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"a":"\ud801"}"#,
            r#"{"a":"\"\\ud800\""}"#,
            r#"{"a":2,"a":1}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"a":18446744073709551617}"#,
            r#"{"a":18446744073709551618}"#,
        ];
        let digests: std::collections::HashSet<_> = different.iter().map(|body| of(body)).collect();
        assert_eq!(digests.len(), different.len());
    }

    #[test]
    fn reads_the_temperature() {
        let temperature = |body: &str| asked(body.as_bytes(), false).unwrap().temperature;
        assert_eq!(temperature(r#"{"temperature": 0.5}"#), Some(0.5));
        assert_eq!(temperature(r#"{"temperature": 1e0, "x": 2}"#), Some(1.0));
        assert_eq!(temperature(r#"{"temperature": null}"#), None);
        assert_eq!(temperature(r#"{"x": {"temperature": 1}}"#), None);
        assert!(asked(b"[]", false).is_err() && asked(b"{", false).is_err());
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-c\"\\\\é]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c]{1,2}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// The same value with the members of every object the other way round.
    fn reversed(value: &Value) -> Value {
        match value {
            Value::Array(items) => items.iter().map(reversed).collect(),
            Value::Object(members) => {
                let turned: Map<String, Value> =
                    members.iter().rev().map(|(key, value)| (key.clone(), reversed(value))).collect();
                Value::Object(turned)
            }
            other => other.clone(),
        }
    }

    proptest! {
        #[test]
        fn two_bodies_have_one_digest_exactly_when_they_say_the_same(one in value(), other in value()) {
            let body = |value: &Value| json!({"messages": [value]});
            let pretty = serde_json::to_string_pretty(&body(&reversed(&one))).unwrap();
            prop_assert_eq!(of(&body(&one).to_string()), of(&pretty));
            prop_assert_eq!(of(&body(&one).to_string()) == of(&body(&other).to_string()), one == other);
        }
    }
}
