//! JSON without the members that are null: of a ledger's row they are half, and reading takes them for null all the same.
//!
//! A serializer of its own rather than one around `serde_json`'s, because a row of the ledger is some two hundred small pieces for every
//! request: names of fields need no escapes, most texts need none, and what is null is taken back at once. What is rare (floats, texts with
//! something to escape) is left to `serde_json`.

use serde::Serialize;
use serde::ser::{self, Serializer};
use serde_json::{Error, Result};

/// A value as JSON, without the members of objects that are null.
///
/// # Errors
/// The value's own.
pub(super) fn to_string(value: &impl Serialize) -> Result<String> {
    let mut json = Json(String::with_capacity(2048));
    value.serialize(&mut json)?;
    Ok(json.0)
}

struct Json(String);

impl Json {
    fn number(&mut self, number: impl itoa::Integer) {
        self.0.push_str(itoa::Buffer::new().format(number));
    }

    /// What has no short way here.
    fn rare(&mut self, value: &(impl Serialize + ?Sized)) -> Result<()> {
        self.0.push_str(&serde_json::to_string(value)?);
        Ok(())
    }

    /// Begins an element of a list or a member of an object.
    fn next(&mut self) {
        // No value ends like this.
        if !self.0.ends_with(['[', '{']) {
            self.0.push(',');
        }
    }

    /// A member whose name needs no escapes.
    fn member(&mut self, name: &'static str, value: &(impl Serialize + ?Sized)) -> Result<()> {
        let begin = self.0.len();
        self.next();
        self.0.push('"');
        self.0.push_str(name);
        self.0.push_str("\":");
        self.value(begin, value)
    }

    /// The value of a member that began here; without one, the member goes.
    fn value(&mut self, begin: usize, value: &(impl Serialize + ?Sized)) -> Result<()> {
        let at = self.0.len();
        value.serialize(&mut *self)?;
        if &self.0[at..] == "null" {
            self.0.truncate(begin);
        }
        Ok(())
    }

    fn open(&mut self, begin: &str, end: &'static str) -> Open<'_> {
        self.0.push_str(begin);
        Open { json: self, member: 0, end }
    }

    /// Opens what a variant with content holds.
    fn open_variant(&mut self, variant: &'static str, begin: char, end: &'static str) -> Open<'_> {
        self.0.push_str("{\"");
        self.0.push_str(variant);
        self.0.push_str("\":");
        self.0.push(begin);
        Open { json: self, member: 0, end }
    }
}

impl<'a> Serializer for &'a mut Json {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Open<'a>;
    type SerializeTuple = Open<'a>;
    type SerializeTupleStruct = Open<'a>;
    type SerializeTupleVariant = Open<'a>;
    type SerializeMap = Open<'a>;
    type SerializeStruct = Open<'a>;
    type SerializeStructVariant = Open<'a>;

    fn serialize_bool(self, value: bool) -> Result<()> {
        self.0.push_str(if value { "true" } else { "false" });
        Ok(())
    }

    fn serialize_i8(self, value: i8) -> Result<()> {
        self.number(value);
        Ok(())
    }

    fn serialize_i16(self, value: i16) -> Result<()> {
        self.number(value);
        Ok(())
    }

    fn serialize_i32(self, value: i32) -> Result<()> {
        self.number(value);
        Ok(())
    }

    fn serialize_i64(self, value: i64) -> Result<()> {
        self.number(value);
        Ok(())
    }

    fn serialize_u8(self, value: u8) -> Result<()> {
        self.number(value);
        Ok(())
    }

    fn serialize_u16(self, value: u16) -> Result<()> {
        self.number(value);
        Ok(())
    }

    fn serialize_u32(self, value: u32) -> Result<()> {
        self.number(value);
        Ok(())
    }

    fn serialize_u64(self, value: u64) -> Result<()> {
        self.number(value);
        Ok(())
    }

    fn serialize_i128(self, value: i128) -> Result<()> {
        self.number(value);
        Ok(())
    }

    fn serialize_u128(self, value: u128) -> Result<()> {
        self.number(value);
        Ok(())
    }

    fn serialize_f32(self, value: f32) -> Result<()> {
        self.rare(&value)
    }

    fn serialize_f64(self, value: f64) -> Result<()> {
        self.rare(&value)
    }

    fn serialize_char(self, value: char) -> Result<()> {
        self.rare(&value)
    }

    fn serialize_str(self, value: &str) -> Result<()> {
        // Without an early end, so that many bytes are looked at in one go.
        let escapes = |found: bool, &byte: &u8| found | (byte < b' ') | (byte == b'"') | (byte == b'\\');
        if value.as_bytes().iter().fold(false, escapes) {
            return self.rare(value);
        }
        self.0.push('"');
        self.0.push_str(value);
        self.0.push('"');
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<()> {
        self.rare(value)
    }

    fn serialize_none(self) -> Result<()> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<()> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<()> {
        self.0.push_str("null");
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<()> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<()> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<()> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<()> {
        self.0.push('{');
        self.member(variant, value)?;
        self.0.push('}');
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Open<'a>> {
        Ok(self.open("[", "]"))
    }

    fn serialize_tuple(self, _: usize) -> Result<Open<'a>> {
        Ok(self.open("[", "]"))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Open<'a>> {
        Ok(self.open("[", "]"))
    }

    fn serialize_tuple_variant(self, _: &'static str, _: u32, variant: &'static str, _: usize) -> Result<Open<'a>> {
        Ok(self.open_variant(variant, '[', "]}"))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Open<'a>> {
        Ok(self.open("{", "}"))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Open<'a>> {
        Ok(self.open("{", "}"))
    }

    fn serialize_struct_variant(self, _: &'static str, _: u32, variant: &'static str, _: usize) -> Result<Open<'a>> {
        Ok(self.open_variant(variant, '{', "}}"))
    }
}

/// A list or an object that more may come to.
struct Open<'a> {
    json: &'a mut Json,
    /// Where the member began whose value comes next.
    member: usize,
    end: &'static str,
}

impl Open<'_> {
    fn element(&mut self, value: &(impl Serialize + ?Sized)) -> Result<()> {
        self.json.next();
        value.serialize(&mut *self.json)
    }

    fn close(self) -> Result<()> {
        self.json.0.push_str(self.end);
        Ok(())
    }
}

/// What is serialized as elements, and what as members by name.
macro_rules! elements {
    ($($kind:ident, $method:ident;)*) => {$(
        impl ser::$kind for Open<'_> {
            type Ok = ();
            type Error = Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
                self.element(value)
            }

            fn end(self) -> Result<()> {
                self.close()
            }
        }
    )*};
}

elements! {
    SerializeSeq, serialize_element;
    SerializeTuple, serialize_element;
    SerializeTupleStruct, serialize_field;
    SerializeTupleVariant, serialize_field;
}

macro_rules! members {
    ($($kind:ident;)*) => {$(
        impl ser::$kind for Open<'_> {
            type Ok = ();
            type Error = Error;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<()> {
                self.json.member(name, value)
            }

            fn end(self) -> Result<()> {
                self.close()
            }
        }
    )*};
}

members! {
    SerializeStruct;
    SerializeStructVariant;
}

impl ser::SerializeMap for Open<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<()> {
        self.member = self.json.0.len();
        self.json.next();
        let at = self.json.0.len();
        key.serialize(&mut *self.json)?;
        if !self.json.0[at..].starts_with('"') {
            self.json.0.insert(at, '"');
            self.json.0.push('"');
        }
        self.json.0.push(':');
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        self.json.value(self.member, value)
    }

    fn end(self) -> Result<()> {
        self.close()
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

    #[derive(Serialize)]
    enum Kind {
        Plain,
        Of(u8),
        Pair(i64, Option<f64>),
        With { name: &'static str, left: Option<u8> },
    }

    #[derive(Serialize)]
    struct All<'a> {
        kinds: Vec<Kind>,
        unit: (),
        number: i128,
        text: &'a str,
        letter: char,
        by_number: std::collections::BTreeMap<u8, Option<bool>>,
        half: f32,
        nan: f64,
    }

    #[test]
    fn it_reads_as_what_serde_json_writes() {
        for text in ["", "plain", "ä\u{1F600}", "a \"quote\"", "back\\slash", "\n\t\u{0}\u{7f}", "null", "ends with ["]
        {
            let kinds = vec![Kind::Plain, Kind::Of(7), Kind::Pair(-1, None), Kind::With { name: "n", left: None }];
            let by_number = [(1, Some(true)), (2, None), (3, Some(false))].into();
            let all = All { kinds, unit: (), number: -5, text, letter: '"', by_number, half: 0.5, nan: f64::NAN };
            let mut expected = serde_json::to_value(&all).unwrap();
            drop_nulls(&mut expected);
            assert_eq!(serde_json::from_str::<Value>(&to_string(&all).unwrap()).unwrap(), expected, "{text}");
        }
        let json = to_string(&("x", [1u8; 2], "a\"b")).unwrap();
        assert_eq!(json, r#"["x",[1,1],"a\"b"]"#);
    }

    fn drop_nulls(value: &mut Value) {
        match value {
            Value::Object(members) => {
                members.retain(|_, value| !value.is_null());
                members.values_mut().for_each(drop_nulls);
            }
            Value::Array(all) => all.iter_mut().for_each(drop_nulls),
            _ => {}
        }
    }
}
