//! Google's subset of OpenAPI's schemas (`parameters`, `responseSchema`) as JSON schema.
//!
//! Its types are written large, null is a flag, whole numbers are texts, and an order of the properties stands beside them. What it does not
//! know of is left as it is: many clients put plain JSON schema there.

use serde_json::{Map, Number, Value};

/// Deeper than any schema is; a bound for hostile clients, far below what serde_json reads.
const MAX_DEPTH: usize = 100;

/// Rewrites a schema.
pub(super) fn to_json_schema(schema: Value) -> Value {
    rewrite(schema, MAX_DEPTH)
}

fn rewrite(schema: Value, depth: usize) -> Value {
    let (Value::Object(members), Some(depth)) = (schema, depth.checked_sub(1)) else { return Value::Bool(true) };
    let mut out = Map::new();
    let mut nullable = false;
    for (name, value) in members {
        match (name.as_str(), value) {
            (_, Value::Null) | ("propertyOrdering" | "property_ordering", _) => {}
            ("nullable", value) => nullable = value == Value::Bool(true),
            ("type", Value::String(name)) => {
                let name = name.to_ascii_lowercase();
                if name != "type_unspecified" {
                    out.insert("type".to_owned(), name.into());
                }
            }
            ("type", Value::Array(names)) => {
                let lower = |name: Value| name.as_str().map_or(name.clone(), |name| name.to_ascii_lowercase().into());
                out.insert("type".to_owned(), names.into_iter().map(lower).collect());
            }
            ("properties" | "defs" | "$defs", Value::Object(members)) => {
                let name = if name == "defs" { "$defs".to_owned() } else { name };
                let members = members.into_iter().map(|(name, schema)| (name, rewrite(schema, depth)));
                out.insert(name, Value::Object(members.collect()));
            }
            ("items" | "additionalProperties" | "additional_properties", value @ Value::Object(_)) => {
                out.insert(plain(&name), rewrite(value, depth));
            }
            ("anyOf" | "any_of" | "oneOf" | "allOf" | "prefixItems" | "prefix_items", Value::Array(schemas)) => {
                out.insert(plain(&name), schemas.into_iter().map(|schema| rewrite(schema, depth)).collect());
            }
            ("ref", value @ Value::String(_)) => {
                out.insert("$ref".to_owned(), value);
            }
            ("example", value) => {
                out.insert("examples".to_owned(), Value::Array(vec![value]));
            }
            // OpenAPI's `enum` is a word of its own for texts; JSON schema needs no format for it.
            ("format", Value::String(format)) if format == "enum" => {}
            (name, value) => {
                out.insert(plain(name), number(name, value));
            }
        }
    }
    if nullable {
        allow_null(&mut out);
    }
    Value::Object(out)
}

/// The counts and lengths among the members, which Google writes as texts because they have 64 bits.
fn number(name: &str, value: Value) -> Value {
    let is_count = matches!(
        plain(name).as_str(),
        "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties" | "maxProperties"
    );
    match &value {
        Value::String(digits) if is_count => {
            digits.parse::<u64>().map_or(value.clone(), |count| Value::Number(Number::from(count)))
        }
        _ => value,
    }
}

fn plain(name: &str) -> String {
    match name {
        "any_of" => "anyOf",
        "prefix_items" => "prefixItems",
        "additional_properties" => "additionalProperties",
        "min_items" => "minItems",
        "max_items" => "maxItems",
        "min_length" => "minLength",
        "max_length" => "maxLength",
        "min_properties" => "minProperties",
        "max_properties" => "maxProperties",
        other => other,
    }
    .to_owned()
}

fn allow_null(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(values)) = schema.get_mut("enum")
        && !values.contains(&Value::Null)
    {
        values.push(Value::Null);
    }
    match schema.get_mut("type") {
        Some(name @ Value::String(_)) => {
            let one = name.take();
            *name = Value::Array(vec![one, "null".into()]);
        }
        Some(Value::Array(names)) if !names.iter().any(|name| name == "null") => names.push("null".into()),
        Some(_) => {}
        None => {
            if let Some(Value::Array(schemas)) = schema.get_mut("anyOf") {
                schemas.push(serde_json::json!({ "type": "null" }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_subset_becomes_plain_json_schema() {
        let googles = json!({
            "type": "OBJECT", "propertyOrdering": ["b", "a"], "required": ["a"], "description": "An answer.",
            "properties": {
                "a": {"type": "STRING", "format": "enum", "enum": ["x", "y"], "nullable": true},
                "b": {"type": "ARRAY", "minItems": "1", "max_items": "3", "items": {"type": "INTEGER", "format": "int32"}},
                "type": {"any_of": [{"type": "NUMBER"}, {"ref": "#/$defs/c"}], "nullable": true, "example": 1},
            },
            "defs": {"c": {"type": "BOOLEAN", "title": null}},
        });
        let expected = json!({
            "type": "object", "required": ["a"], "description": "An answer.",
            "properties": {
                "a": {"type": ["string", "null"], "enum": ["x", "y", null]},
                "b": {"type": "array", "minItems": 1, "maxItems": 3, "items": {"type": "integer", "format": "int32"}},
                "type": {"anyOf": [{"type": "number"}, {"$ref": "#/$defs/c"}, {"type": "null"}], "examples": [1]},
            },
            "$defs": {"c": {"type": "boolean"}},
        });
        assert_eq!(to_json_schema(googles), expected);
    }

    #[test]
    fn plain_json_schema_stays() {
        let plain = json!({
            "type": ["object", "null"], "properties": {"nullable": {"type": "string", "pattern": "^a", "minLength": 1}},
            "additionalProperties": false, "$defs": {"x": {"const": 1}}, "required": [],
        });
        assert_eq!(to_json_schema(plain.clone()), plain);
    }
}
