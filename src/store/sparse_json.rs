//! JSON without the members that are null: of a ledger's row they are half, and reading takes them for null all the same.
//!
//! The formatter marks for the writer where a member begins, where its value does, and where a null stands; JSON has no such bytes. The writer
//! takes back a member whose value is null.

use serde::Serialize;
use serde::ser::Error;
use serde_json::ser::Formatter;
use std::io::{self, Write};

const MEMBER: &[u8] = b"\x01";
const VALUE: &[u8] = b"\x02";
const NULL: &[u8] = b"\x03";

/// A value as JSON, without the members of objects that are null.
///
/// # Errors
/// The value's own.
pub(super) fn to_string(value: &impl Serialize) -> serde_json::Result<String> {
    let mut writer = Writer { json: Vec::with_capacity(2048), member: 0, is_open: false };
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut writer, Marking))?;
    String::from_utf8(writer.json).map_err(serde_json::Error::custom)
}

struct Writer {
    json: Vec<u8>,
    /// Where the last member began.
    member: usize,
    /// Its value comes next.
    is_open: bool,
}

impl Write for Writer {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    // A row is written in some two hundred pieces: inlined, most of them are known when this is compiled.
    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match bytes {
            MEMBER => {
                self.member = self.json.len();
                // Those before it may be gone.
                if self.json.last() != Some(&b'{') {
                    self.json.push(b',');
                }
            }
            VALUE => {
                self.json.push(b':');
                self.is_open = true;
            }
            NULL if self.is_open => {
                self.json.truncate(self.member);
                self.is_open = false;
            }
            NULL => self.json.extend_from_slice(b"null"),
            bytes => {
                self.json.extend_from_slice(bytes);
                self.is_open = false;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Marking;

impl Formatter for Marking {
    fn write_null<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(NULL)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, _first: bool) -> io::Result<()> {
        writer.write_all(MEMBER)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(VALUE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn sparse(value: &Value) -> String {
        to_string(value).unwrap()
    }

    #[test]
    fn members_that_are_null_are_left_out_wherever_they_stand() {
        let nothing = Value::Null;
        for (value, text) in [
            (json!({"a": null}), "{}"),
            (json!({"a": null, "b": 1, "c": null, "d": {"e": null}, "f": [null, {"g": null, "h": "x"}], "i": null}), {
                r#"{"b":1,"d":{},"f":[null,{"h":"x"}]}"#
            }),
            (json!([null, [], {}, [{"a": null}]]), "[null,[],{},[{}]]"),
            (json!({"a": [null], "b": "null", "c\u{1}\u{3}": "\u{2}{", "d": "ends with {", "e": true}), {
                r#"{"a":[null],"b":"null","c\u0001\u0003":"\u0002{","d":"ends with {","e":true}"#
            }),
            (nothing, "null"),
        ] {
            assert_eq!(sparse(&value), text);
        }
    }
}
