//! Typed access to the members of a client's JSON, with errors that name the place as the client wrote it: `messages[3].content[0].type`.

use crate::domain::Fault;
use serde_json::{Map, Value};
use std::fmt;

/// A place in a request. Built on the stack on the way down, written only when something is wrong there.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Name(&'a str),
    Item(usize),
}

impl<'a> Path<'a> {
    /// A member of the top level.
    pub const fn top(name: &'a str) -> Self {
        Self { parent: None, step: Step::Name(name) }
    }

    /// A member of what is here; at the top level when this place has no name.
    pub const fn member(&'a self, name: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Name(name) }
    }

    /// An item of the list that is here.
    pub const fn item(&'a self, place: usize) -> Self {
        Self { parent: Some(self), step: Step::Item(place) }
    }

    /// A fault that names this place and what it must be.
    pub fn must_be(&self, expected: &str) -> Fault {
        Fault::bad_request(self.to_string(), format!("{self} must be {expected}"))
    }

    /// A fault that names this place, with a message of its own.
    pub fn fault(&self, message: impl Into<String>) -> Fault {
        Fault::bad_request(self.to_string(), message.into())
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            fmt::Display::fmt(parent, f)?;
        }
        match self.step {
            Step::Name(name) if self.parent.is_some_and(|parent| !matches!(parent.step, Step::Name(""))) => {
                write!(f, ".{name}")
            }
            Step::Name(name) => f.write_str(name),
            Step::Item(place) => write!(f, "[{place}]"),
        }
    }
}

/// An object whose members are taken out one by one. `null` counts as absent.
pub struct Fields<'p> {
    /// What has not been taken yet, in the client's order.
    pub rest: Map<String, Value>,
    /// Where the object stands.
    pub path: &'p Path<'p>,
}

/// What a getter yields: `None` for an absent member, a fault for one of the wrong type.
type Taken<T> = Result<Option<T>, Fault>;

impl<'p> Fields<'p> {
    /// The members of `value`.
    ///
    /// # Errors
    /// When it is no object.
    pub fn of(value: Value, path: &'p Path<'p>) -> Result<Self, Fault> {
        match value {
            Value::Object(rest) => Ok(Self { rest, path }),
            _ => Err(path.must_be("an object")),
        }
    }

    /// Takes a member of any type.
    pub fn any(&mut self, name: &str) -> Option<Value> {
        self.rest.shift_remove(name).filter(|value| !value.is_null())
    }

    /// Takes a text.
    pub fn text(&mut self, name: &str) -> Taken<String> {
        self.typed(name, "a string", |value| match value {
            Value::String(text) => Some(text),
            _ => None,
        })
    }

    /// Takes a text that must be there.
    pub fn required_text(&mut self, name: &str) -> Result<String, Fault> {
        self.text(name)?.ok_or_else(|| self.path.member(name).must_be("given"))
    }

    /// Takes a truth value.
    pub fn boolean(&mut self, name: &str) -> Taken<bool> {
        self.typed(name, "true or false", |value| value.as_bool())
    }

    /// Takes a number.
    pub fn number(&mut self, name: &str) -> Taken<f64> {
        self.typed(name, "a number", |value| value.as_f64())
    }

    /// Takes a whole number that is not negative.
    pub fn count(&mut self, name: &str) -> Taken<u64> {
        self.typed(name, "a whole number that is not negative", |value| value.as_u64())
    }

    /// Takes a whole number from 1.
    pub fn positive(&mut self, name: &str) -> Taken<u64> {
        self.typed(name, "a whole number from 1", |value| value.as_u64().filter(|count| *count > 0))
    }

    /// Takes a whole number.
    pub fn integer(&mut self, name: &str) -> Taken<i64> {
        self.typed(name, "a whole number", |value| value.as_i64())
    }

    /// Takes a list.
    pub fn list(&mut self, name: &str) -> Taken<Vec<Value>> {
        self.typed(name, "a list", |value| match value {
            Value::Array(items) => Some(items),
            _ => None,
        })
    }

    /// Takes a list of texts; absent is empty.
    pub fn texts(&mut self, name: &str) -> Result<Vec<String>, Fault> {
        let items = self.list(name)?.unwrap_or_default();
        let path = self.path.member(name);
        items
            .into_iter()
            .enumerate()
            .map(|(place, item)| match item {
                Value::String(text) => Ok(text),
                _ => Err(path.item(place).must_be("a string")),
            })
            .collect()
    }

    fn typed<T>(&mut self, name: &str, expected: &str, convert: impl FnOnce(Value) -> Option<T>) -> Taken<T> {
        match self.any(name) {
            None => Ok(None),
            Some(value) => convert(value).map(Some).ok_or_else(|| self.path.member(name).must_be(expected)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn places_read_as_the_client_wrote_them() {
        let messages = Path::top("messages");
        let (third, root) = (messages.item(3), Path::top(""));
        assert_eq!(third.member("content").item(0).member("type").to_string(), "messages[3].content[0].type");
        assert_eq!(root.member("model").to_string(), "model");
    }

    #[test]
    fn null_is_absent_and_wrong_types_are_named() {
        let path = Path::top("extra");
        let mut fields = Fields::of(json!({"a": null, "b": "x", "c": -1, "d": [1]}), &path).unwrap();
        assert_eq!(fields.text("a"), Ok(None));
        assert_eq!(fields.boolean("b").unwrap_err().param.as_deref(), Some("extra.b"));
        assert_eq!(fields.count("c").unwrap_err().param.as_deref(), Some("extra.c"));
        assert_eq!(fields.texts("d").unwrap_err().param.as_deref(), Some("extra.d[0]"));
        assert!(Fields::of(json!([]), &path).is_err());
    }
}
