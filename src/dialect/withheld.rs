//! What of a client's body nobody may keep: its own keys (`extra.byok`), however they are spelled, and all of it where the client says
//! `"store": false`. Pure: it says where, and whoever keeps a body cuts it out.
//!
//! The request itself is read by [`super::extensions`], which refuses what it does not know. This look has to hold for what is refused too,
//! so it is made over the bytes as they came: members of that name at any depth, in any case, with escapes, twice. What may hold a key
//! and cannot be read is not kept at all.

use super::openai_chat::scan::{Cursor, Invalid, inner};
use memchr::{memchr, memchr2_iter, memmem};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::LazyLock;

/// What a look at a body has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Withheld {
    /// Where the values stand that are secrets, in order and apart.
    pub secrets: Vec<Range<usize>>,
    /// The client says that nothing of the request is to be kept.
    pub forbidden: bool,
    /// It may hold a secret, and where cannot be told: nothing of the body is to be kept.
    pub unreadable: bool,
}

/// Looks at a body; `boundary` is that of a form.
pub fn look(body: &[u8], boundary: Option<&str>) -> Withheld {
    let mut found = Withheld::default();
    match boundary {
        Some(boundary) => parts(body, boundary).into_iter().for_each(|part| found.part(body, part)),
        None => found.json(body),
    }
    found
}

impl Withheld {
    fn json(&mut self, body: &[u8]) {
        // Text in another encoding, or compressed, hides what it says from this look.
        if memchr(0, body).is_some() || std::str::from_utf8(body).is_err() {
            self.unreadable = true;
            return;
        }
        let (names_keys, speaks_of_store) = (may_name_keys(body), may_say_store(body));
        if (names_keys || speaks_of_store) && self.read(body, 0).is_err() {
            self.unreadable |= names_keys;
            // What is no JSON is refused; what it says is taken at its word all the same.
            self.forbidden |= speaks_of_store && memmem::find(body, b"false").is_some();
        }
    }

    fn part(&mut self, body: &[u8], part: Range<usize>) {
        let content = &body[part.clone()];
        if !may_name_keys(content) && !may_say_store(content) {
            return;
        }
        // Behind its head; a part without one is looked at whole.
        let start = part.start + memmem::find(content, b"\r\n\r\n").map_or(0, |end| end + 4);
        let known = self.secrets.len();
        if self.read(&body[start..part.end], start).is_err() && may_name_keys(content) {
            self.secrets.truncate(known);
            self.secrets.push(part);
        }
    }

    /// Reads a JSON text that stands at `offset` of the body.
    fn read(&mut self, text: &[u8], offset: usize) -> Result<(), Invalid> {
        let mut cursor = Cursor::new(text, 0);
        self.value(&mut cursor, offset, Place::Top)?;
        cursor.end()
    }

    fn value(&mut self, cursor: &mut Cursor<'_>, offset: usize, place: Place) -> Result<(), Invalid> {
        match cursor.peek() {
            Some(b'{') => cursor.object(|cursor, key| self.member(cursor, key, offset, place)).map(drop),
            Some(b'[') => cursor.array(|cursor| self.value(cursor, offset, Place::Deeper)).map(drop),
            _ => cursor.value().map(drop),
        }
    }

    fn member(
        &mut self,
        cursor: &mut Cursor<'_>,
        key: Range<usize>,
        offset: usize,
        place: Place,
    ) -> Result<(), Invalid> {
        let name = name(&cursor.text()[key]);
        if name.eq_ignore_ascii_case("byok") {
            let value = cursor.value()?;
            self.secrets.push(value.start + offset..value.end + offset);
            return Ok(());
        }
        let inside = match (place, &*name) {
            (Place::Top, "extra") => Place::Extra,
            (Place::Top | Place::Extra, "store") => {
                let value = cursor.value()?;
                self.forbidden |= &cursor.text()[value] == b"false";
                return Ok(());
            }
            _ => Place::Deeper,
        };
        self.value(cursor, offset, inside)
    }
}

/// Where in a body a value stands.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Top,
    Extra,
    Deeper,
}

/// A key's text without its escapes.
fn name(key: &[u8]) -> Cow<'_, str> {
    if memchr(b'\\', key).is_some() {
        return serde_json::from_slice::<String>(key).unwrap_or_default().into();
    }
    String::from_utf8_lossy(inner(key))
}

/// Whether the body may have a member `byok`, however spelled. Nearly all bodies end here, so it is quick.
fn may_name_keys(body: &[u8]) -> bool {
    let named = |k: usize| k >= 3 && body[k - 3..k].eq_ignore_ascii_case(b"byo");
    memchr2_iter(b'k', b'K', body).any(named) || has_escaped_letter(body)
}

/// Whether the body may have a member `store`.
fn may_say_store(body: &[u8]) -> bool {
    static STORE: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new("\"store\""));
    STORE.find(body).is_some() || has_escaped_letter(body)
}

/// Whether a letter of ASCII is written as an escape, which nobody has to.
fn has_escaped_letter(body: &[u8]) -> bool {
    static ESCAPE: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new("\\u00"));
    ESCAPE.find_iter(body).any(|at| matches!(body.get(at + 4), Some(b'4'..=b'7')))
}

/// The parts of a form, heads included: what stands between the boundaries. Source: RFC 7578.
fn parts(body: &[u8], boundary: &str) -> Vec<Range<usize>> {
    let delimiter = format!("--{boundary}");
    let mut ends: Vec<usize> = memmem::find_iter(body, delimiter.as_bytes()).collect();
    ends.push(body.len());
    let mut start = 0;
    let mut parts = Vec::with_capacity(ends.len());
    for end in ends {
        parts.push(start..end);
        start = (end + delimiter.len()).min(body.len());
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The body with what is withheld cut out.
    fn kept(body: &str) -> String {
        let found = look(body.as_bytes(), None);
        if found.unreadable || found.forbidden {
            return String::new();
        }
        let mut kept = body.to_owned();
        found.secrets.iter().rev().for_each(|place| kept.replace_range(place.clone(), "0"));
        kept
    }

    #[test]
    fn keys_are_found_however_they_are_spelled() {
        for body in [
            r#"{"extra":{"byok":"CANARY"}}"#,
            r#"{"extra":{"byok":{"a":"CANARY","b":"CANARY"},"retry":1}}"#,
            r#"{"extra":{"\u0062yok":"CANARY"}}"#,
            r#"{"extra":{"b\u0079\u006fk":"CANARY"}}"#,
            r#"{"\u0065xtra":{"BYOK":"CANARY"}}"#,
            r#"{"extra":{"byok":"CANARY","byok":["CANARY"]},"extra":{}}"#,
            r#"{"byok":"CANARY","extra_body":{"extra":{"byOK" : "CANARY"}}}"#,
            r#"{"a":[{"byok":"CANARY"}],"b":{"\u0042YOK":{"x":{"byok":"CANARY"}}}}"#,
            r#"{"extra":{"byok":"CANARY"}"#,
            r#"{"extra":{"byok":"CANARY"}} trailing"#,
            r#"{"extra":{"byok":"CANARY"#,
            r#"extra=%7B%22byok%22%3A%22CANARY%22%7D"#,
            r#"{'extra':{'byok':'CANARY'}}"#,
        ] {
            let kept = kept(body);
            assert!(!kept.contains("CANARY"), "{body} became {kept}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_kept() {
        let utf16: Vec<u8> = r#"{"extra":{"byok":"CANARY"}}"#.encode_utf16().flat_map(u16::to_le_bytes).collect();
        for body in [&utf16[..], b"\x1f\x8b\x08\x00gzip", b"{\"extra\":{\"byok\":\"CAN\xffARY\"}}"] {
            assert!(look(body, None).unreadable, "{body:?}");
        }
        assert_eq!(look(b"not JSON at all", None), Withheld::default());
    }

    #[test]
    fn ordinary_bodies_have_nothing_to_hide() {
        for body in [
            r#"{"model":"m","messages":[{"role":"user","content":"what does \"store\": false mean? And extra.byok?"}]}"#,
            r#"{"model":"m","store":true,"metadata":{"store":false},"extra":{"store":true}}"#,
            r#"{"text":"caf\u00e9 \u0001"}"#,
        ] {
            assert_eq!(look(body.as_bytes(), None), Withheld::default(), "{body}");
        }
    }

    #[test]
    fn a_client_may_forbid_it() {
        for body in [
            r#"{"model":"m","store":false}"#,
            r#"{"model":"m","s\u0074ore" : false}"#,
            r#"{"store":true,"store":false}"#,
            r#"{"extra":{"store":false}}"#,
            r#"{"store":false,"messages":["#,
        ] {
            assert!(look(body.as_bytes(), None).forbidden, "{body}");
        }
    }

    #[test]
    fn the_parts_of_a_form_are_looked_at_one_by_one() {
        let form = "--x\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nm\r\n--x\r\n\
            content-disposition: form-data; name=\"extra\"\r\n\r\n{\"byok\":\"CANARY\"}\r\n--x\r\n\
            content-disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nRIFF\0\u{ff}\r\n--x\r\n\
            content-disposition: form-data; name=\"extra\"\r\n\r\n{\"byok\":\"CANARY\"\r\n--x--\r\n";
        let found = look(form.as_bytes(), Some("x"));
        assert!(!found.unreadable && !found.forbidden);
        let hidden: Vec<&str> = found.secrets.iter().map(|place| &form[place.clone()]).collect();
        assert_eq!(hidden.len(), 2);
        assert_eq!(hidden[0], "\"CANARY\"");
        assert!(hidden[1].contains("CANARY"), "a part that cannot be read goes as a whole: {hidden:?}");
        let forbids = form.replace("{\"byok\":\"CANARY\"}", "{\"store\":false}");
        assert!(look(forbids.as_bytes(), Some("x")).forbidden);
        // Another boundary than the body has: all of it is one part, which is no JSON.
        let all: usize = look(form.as_bytes(), Some("y")).secrets.iter().map(ExactSizeIterator::len).sum();
        assert_eq!(all, form.len());
    }

    proptest! {
        #[test]
        fn no_escaping_and_no_damage_lets_a_key_through(
            escaped in proptest::collection::vec(any::<bool>(), 9),
            at in 0usize..60,
            byte in any::<u8>(),
        ) {
            let spell = |word: &str, marks: &[bool]| -> String {
                let letter = |(letter, &mark): (char, &bool)| {
                    if mark { format!("\\u{:04x}", u32::from(letter)) } else { letter.to_string() }
                };
                word.chars().zip(marks).map(letter).collect()
            };
            let (extra, byok) = (spell("extra", &escaped[..5]), spell("byok", &escaped[5..]));
            let text = format!(r#"{{"model":"m","{extra}":{{"retry":1,"{byok}":{{"openai":"CANARY"}}}}}}"#);
            prop_assert!(!kept(&text).contains("CANARY"), "{}", text);
            let mut damaged = text.into_bytes();
            let place = at % damaged.len();
            damaged[place] = byte;
            let found = look(&damaged, None);
            // What the gateway still reads as a key is found wherever the body is read at all.
            if let Ok(value) = serde_json::from_slice::<serde_json::Value>(&damaged)
                && value["extra"]["byok"]["openai"] == "CANARY"
            {
                prop_assert!(found.unreadable || !found.secrets.is_empty());
            }
        }
    }
}
