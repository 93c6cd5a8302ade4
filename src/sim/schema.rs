//! A value that a JSON schema accepts, always the same one.

use serde_json::{Map, Value, json};

const DEEPEST: usize = 12;

/// An example of what a schema describes. It takes what the schema offers (`const`, `enum`, `default`, `examples`), else
/// the smallest plausible value; a string is the name of its property. Gemini's upper-case types are understood.
pub(super) fn example(schema: &Value) -> Value {
    fill(schema, schema, "value", DEEPEST)
}

fn fill(schema: &Value, root: &Value, name: &str, depth: usize) -> Value {
    if depth == 0 {
        return Value::Null;
    }
    if let Some(reference) = schema["$ref"].as_str() {
        let target = reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
        return target.map_or(Value::Null, |target| fill(target, root, name, depth - 1));
    }
    let offered = schema.get("const").or_else(|| schema["enum"].get(0)).or_else(|| schema.get("default"));
    if let Some(value) = offered.or_else(|| schema["examples"].get(0)) {
        return value.clone();
    }
    for union in ["anyOf", "any_of", "oneOf", "allOf"] {
        if let Some(options) = schema[union].as_array() {
            let option = options.iter().find(|option| kind(option) != "null").or(options.first());
            return option.map_or(Value::Null, |option| fill(option, root, name, depth - 1));
        }
    }
    match kind(schema).as_str() {
        "object" => object(schema, root, depth),
        "array" => array(schema, root, name, depth),
        "integer" => json!(smallest(schema).ceil() as i64),
        "number" => json!(smallest(schema)),
        "boolean" => json!(true),
        "null" => Value::Null,
        "string" => json!(string(schema, name)),
        _ if schema.get("properties").is_some() => object(schema, root, depth),
        _ if schema.get("items").is_some() => array(schema, root, name, depth),
        _ => json!({}),
    }
}

/// The first type that is not null, in lower case.
fn kind(schema: &Value) -> String {
    let kinds = match &schema["type"] {
        Value::Array(kinds) => kinds.as_slice(),
        kind => std::slice::from_ref(kind),
    };
    let names = || kinds.iter().filter_map(Value::as_str).map(str::to_ascii_lowercase);
    names().find(|name| name != "null").or_else(|| names().next()).unwrap_or_default()
}

fn object(schema: &Value, root: &Value, depth: usize) -> Value {
    let mut object = Map::new();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let required = schema["required"].as_array().is_some_and(|names| names.iter().any(|one| one == name));
        // Optional properties end a recursive schema.
        if required || depth > DEEPEST - 4 {
            object.insert(name.clone(), fill(property, root, name, depth - 1));
        }
    }
    Value::Object(object)
}

fn array(schema: &Value, root: &Value, name: &str, depth: usize) -> Value {
    let wanted = schema["minItems"].as_u64().unwrap_or(1).min(16) as usize;
    let wanted = if depth > DEEPEST - 4 || schema.get("minItems").is_some() { wanted } else { 0 };
    Value::Array(vec![fill(&schema["items"], root, name, depth - 1); wanted])
}

fn smallest(schema: &Value) -> f64 {
    let minimum = schema["minimum"].as_f64().or_else(|| schema["exclusiveMinimum"].as_f64().map(|bound| bound + 1.0));
    minimum.or_else(|| schema["maximum"].as_f64().map(|bound| bound.min(1.0))).unwrap_or(1.0)
}

fn string(schema: &Value, name: &str) -> String {
    let text = match schema["format"].as_str() {
        Some("date") => "2026-11-20",
        Some("date-time") => "2026-11-20T12:00:00Z",
        Some("time") => "12:00:00Z",
        Some("email") => "someone@example.com",
        Some("uri") => "https://example.com/",
        Some("uuid") => "00000000-0000-4000-8000-000000000000",
        _ => name,
    };
    let shortest = schema["minLength"].as_u64().unwrap_or(0).min(1024) as usize;
    let longest = schema["maxLength"].as_u64().map_or(usize::MAX, |length| length as usize);
    format!("{text:x<shortest$}").chars().take(longest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_in_what_schemas_ask_for() {
        let schema = json!({
            "type": "object",
            "properties": {
                "city": { "type": "string" },
                "unit": { "type": ["null", "string"], "enum": ["celsius", "kelvin"] },
                "days": { "type": "INTEGER", "minimum": 3 },
                "ratio": { "type": "number" },
                "exact": { "type": "boolean" },
                "when": { "type": "string", "format": "date" },
                "tags": { "type": "array", "items": { "type": "string" }, "minItems": 2 },
                "place": { "$ref": "#/$defs/place" },
                "either": { "anyOf": [{ "type": "null" }, { "type": "integer" }] }
            },
            "required": ["city"],
            "$defs": { "place": { "type": "object", "properties": { "name": { "type": "string" } }, "required": ["name"] } }
        });
        assert_eq!(
            example(&schema),
            json!({
                "city": "city", "unit": "celsius", "days": 3, "ratio": 1.0, "exact": true, "when": "2026-11-20",
                "tags": ["tags", "tags"], "place": { "name": "name" }, "either": 1
            })
        );
    }

    #[test]
    fn ends_a_recursive_schema() {
        let schema = json!({
            "$ref": "#/$defs/node",
            "$defs": { "node": { "type": "object", "required": ["value"], "properties": {
                "value": { "type": "integer" }, "children": { "type": "array", "items": { "$ref": "#/$defs/node" } }
            } } }
        });
        assert!(example(&schema)["children"][0]["value"].is_i64());
    }
}
