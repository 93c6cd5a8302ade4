//! Makes a JSON schema one that Anthropic's constrained decoding takes, or finds that it cannot be one.
//!
//! Sources: Anthropic's guide "Structured outputs" (JSON schema limitations), what its Python SDK does to schemas
//! before it sends them, and the error messages in recordings, which name the limits.

use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// How many tools of one request may be strict.
const MAX_STRICT_TOOLS: u32 = 20;
/// How many properties of all schemas of one request may be optional.
const MAX_OPTIONAL: u32 = 24;
/// How many places of all schemas of one request may be a choice between types.
const MAX_UNIONS: u32 = 16;

/// The keywords that pass as they are.
const KEPT: [&str; 5] = ["title", "description", "default", "enum", "const"];
/// The string formats that are enforced.
const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"];

/// How much of what one request may ask of constrained decoding is used up.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::dialect) struct Grammar {
    strict_tools: u32,
    optional: u32,
    unions: u32,
}

impl Grammar {
    /// The schema as it may be sent for the answer itself. Constraints that are not enforced (`minimum`, `pattern` …)
    /// move into the description, and objects are closed, which lets nothing through that the schema would not.
    ///
    /// `None` when that would change what it means (an object with free keys, a value of any type), when it refers to
    /// itself, or when the request's schemas together would be too complex.
    pub fn admit(&mut self, schema: &Value) -> Option<Value> {
        let mut grammar = *self;
        let closed = grammar.close(schema)?;
        let fits = grammar.optional <= MAX_OPTIONAL && grammar.unions <= MAX_UNIONS && !refers_to_itself(&closed);
        fits.then(|| {
            *self = grammar;
            closed
        })
    }

    /// The same for a tool's arguments.
    pub fn admit_tool(&mut self, schema: &Value) -> Option<Value> {
        if self.strict_tools >= MAX_STRICT_TOOLS {
            return None;
        }
        let admitted = self.admit(schema)?;
        self.strict_tools += 1;
        Some(admitted)
    }

    fn close(&mut self, schema: &Value) -> Option<Value> {
        let schema = schema.as_object()?;
        let mut rest = schema.clone();
        let mut out = Map::new();
        for definitions in ["$defs", "definitions"] {
            if let Some(Value::Object(named)) = rest.shift_remove(definitions) {
                out.insert(definitions.to_owned(), Value::Object(self.close_each(&named)?));
            }
        }
        for silent in ["$schema", "$id", "$comment"] {
            rest.shift_remove(silent);
        }
        if let Some(reference) = rest.shift_remove("$ref") {
            out.insert("$ref".to_owned(), reference);
            return Some(Value::Object(out));
        }
        let kind = rest.shift_remove("type").or_else(|| schema.contains_key("properties").then(|| json!("object")));
        self.variants(&mut rest, &mut out)?;
        for name in KEPT {
            if let Some(value) = rest.shift_remove(name) {
                out.insert(name.to_owned(), value);
            }
        }
        if !literals_are_plain(&out) {
            return None;
        }
        let described = ["anyOf", "allOf", "enum", "const"].iter().any(|name| out.contains_key(*name));
        match &kind {
            Some(Value::Array(_)) => self.unions += 1,
            None if !described => return None,
            _ => {}
        }
        if is(&kind, "object") {
            self.object(&mut rest, &mut out)?;
        }
        if is(&kind, "array") {
            self.array(&mut rest, &mut out)?;
        }
        if is(&kind, "string") && rest.get("format").and_then(Value::as_str).is_some_and(|it| FORMATS.contains(&it)) {
            out.extend(rest.shift_remove("format").map(|format| ("format".to_owned(), format)));
        }
        out.extend(kind.map(|kind| ("type".to_owned(), kind)));
        tell(&rest, &mut out);
        Some(Value::Object(out))
    }

    fn close_each(&mut self, named: &Map<String, Value>) -> Option<Map<String, Value>> {
        named.iter().map(|(name, schema)| Some((name.clone(), self.close(schema)?))).collect()
    }

    /// `anyOf`, `oneOf` (which is enforced as `anyOf`) and `allOf`.
    fn variants(&mut self, rest: &mut Map<String, Value>, out: &mut Map<String, Value>) -> Option<()> {
        for (from, to) in [("anyOf", "anyOf"), ("oneOf", "anyOf"), ("allOf", "allOf")] {
            let Some(Value::Array(variants)) = rest.shift_remove(from) else { continue };
            self.unions += u32::from(to == "anyOf");
            let variants = variants.iter().map(|variant| self.close(variant)).collect::<Option<Vec<_>>>()?;
            if out.insert(to.to_owned(), Value::Array(variants)).is_some() {
                return None;
            }
        }
        Some(())
    }

    fn object(&mut self, rest: &mut Map<String, Value>, out: &mut Map<String, Value>) -> Option<()> {
        let properties = match rest.shift_remove("properties") {
            Some(Value::Object(properties)) => properties,
            _ => Map::new(),
        };
        let free = match rest.shift_remove("additionalProperties") {
            None | Some(Value::Bool(true)) => properties.is_empty(),
            Some(Value::Bool(false)) => false,
            Some(_) => true,
        };
        if free || rest.contains_key("patternProperties") {
            return None;
        }
        let required = rest.shift_remove("required");
        let is_required = |name: &str| {
            required.as_ref().and_then(Value::as_array).is_some_and(|names| names.iter().any(|it| it == name))
        };
        self.optional += u32::try_from(properties.keys().filter(|name| !is_required(name)).count()).ok()?;
        out.insert("properties".to_owned(), Value::Object(self.close_each(&properties)?));
        out.extend(required.map(|required| ("required".to_owned(), required)));
        out.insert("additionalProperties".to_owned(), Value::Bool(false));
        Some(())
    }

    fn array(&mut self, rest: &mut Map<String, Value>, out: &mut Map<String, Value>) -> Option<()> {
        // An array without `items` may hold anything.
        let items = rest.shift_remove("items")?;
        out.insert("items".to_owned(), self.close(&items)?);
        if rest.get("minItems").and_then(Value::as_u64).is_some_and(|least| least <= 1) {
            out.extend(rest.shift_remove("minItems").map(|least| ("minItems".to_owned(), least)));
        }
        Some(())
    }
}

/// Whether a schema's `type` is, or may be, this one.
fn is(kind: &Option<Value>, name: &str) -> bool {
    match kind {
        Some(Value::String(kind)) => kind == name,
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == name),
        _ => false,
    }
}

/// Whether `enum` and `const` hold no objects or arrays, which constrained decoding does not take.
fn literals_are_plain(schema: &Map<String, Value>) -> bool {
    let plain = |value: &Value| !value.is_object() && !value.is_array();
    schema.get("const").is_none_or(plain)
        && schema.get("enum").is_none_or(|values| values.as_array().is_some_and(|values| values.iter().all(plain)))
}

/// Tells the model about the keywords that nothing enforces.
fn tell(rest: &Map<String, Value>, out: &mut Map<String, Value>) {
    if rest.is_empty() {
        return;
    }
    let constraints: Vec<String> = rest.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let mut description = match out.get("description").and_then(Value::as_str) {
        Some(text) => format!("{text}\n\n"),
        None => String::new(),
    };
    description.push_str(&constraints.join(", "));
    out.insert("description".to_owned(), Value::String(description));
}

/// Whether following the references of a schema leads back to where it came from, or nowhere.
fn refers_to_itself(root: &Value) -> bool {
    fn visit<'v>(at: &'v Value, root: &'v Value, marks: &mut HashMap<&'v str, Mark>) -> bool {
        if let Some(reference) = at.get("$ref").and_then(Value::as_str) {
            match marks.get(reference) {
                Some(Mark::Entered) => return true,
                Some(Mark::Left) => return false,
                None => {}
            }
            let Some(target) =
                reference.strip_prefix('#').filter(|path| !path.is_empty()).and_then(|path| root.pointer(path))
            else {
                return true;
            };
            marks.insert(reference, Mark::Entered);
            let found = visit(target, root, marks);
            marks.insert(reference, Mark::Left);
            return found;
        }
        match at {
            Value::Object(fields) => fields.values().any(|value| visit(value, root, marks)),
            Value::Array(items) => items.iter().any(|value| visit(value, root, marks)),
            _ => false,
        }
    }
    visit(root, root, &mut HashMap::new())
}

/// How far the walk through a definition is.
enum Mark {
    Entered,
    Left,
}
