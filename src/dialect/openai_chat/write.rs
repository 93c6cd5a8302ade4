//! JSON written straight into the output, without a tree and without an allocation for each piece.

use serde_json::Value;
use std::io::Write;

/// Writes a string with its quotes and escapes.
pub fn string(text: &str, out: &mut Vec<u8>) {
    // Writing into a vector cannot fail, here and below.
    let _ = serde_json::to_writer(out, text);
}

/// Writes a whole number.
pub fn number(value: u64, out: &mut Vec<u8>) {
    let _ = write!(out, "{value}");
}

/// Writes a JSON value.
pub fn value(value: &Value, out: &mut Vec<u8>) {
    let _ = serde_json::to_writer(out, value);
}

/// Writes bytes that are JSON already.
pub fn raw(json: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(json.as_bytes());
}

/// Writes `"name":text` with a comma before it unless an object has just been opened.
pub fn string_member(name: &str, text: &str, out: &mut Vec<u8>) {
    key(name, out);
    string(text, out);
}

/// Writes `"name":` with a comma before it unless an object has just been opened. The name must need no escaping.
pub fn key(name: &str, out: &mut Vec<u8>) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}
