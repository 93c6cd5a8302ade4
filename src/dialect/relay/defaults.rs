//! What a preset adds to a request that passes: members or parts that the client did not write, beside those that it did.
//!
//! They are added as they stand in the preset, because only the provider knows what they mean. A system prompt has no place here.

use super::form::{Form, Part};
use super::{scan_form, scan_json};
use crate::dialect::openai_chat::edit::Edits;
use crate::dialect::openai_chat::envelope::{Defaults, Envelope};
use crate::dialect::openai_chat::write;
use crate::dialect::work::Endpoint;
use crate::domain::Fault;
use serde_json::Value;
use std::sync::Arc;

/// As [`Envelope::with_defaults`].
///
/// # Errors
/// As [`scan_json`] and [`scan_form`]: of what the defaults bring along.
pub(in crate::dialect) fn with_defaults(
    envelope: &Envelope,
    endpoint: Endpoint,
    defaults: &Defaults<'_>,
) -> Result<Envelope, Fault> {
    let mut completed = match &envelope.form {
        Some(form) => scan_form(endpoint, complete(form, defaults.members))?,
        None => {
            let mut added = Vec::new();
            for (name, json) in defaults.members.iter().filter(|(name, _)| !envelope.says(name)) {
                added.push(b',');
                write::string(name, &mut added);
                added.push(b':');
                added.extend_from_slice(json.as_bytes());
            }
            let (mut edits, mut body) = (Edits::default(), Vec::new());
            if let Some(last) = envelope.members.last() {
                edits.insert(last.value.end, &[&added]);
            }
            edits.apply(&envelope.body, &mut body);
            scan_json(endpoint, body.into())?
        }
    };
    completed.model = defaults.model.unwrap_or(&envelope.model).to_owned();
    // Whoever named the preset in the model's place meant the rest of the request as it was read.
    completed.extensions = Arc::clone(&envelope.extensions);
    Ok(completed)
}

/// A form with parts for the members that it has none of. A list is one part for each of its items, as OpenAI's SDKs write it.
fn complete(form: &Form, members: &[(String, String)]) -> Form {
    let mut completed = form.clone();
    for (name, json) in members {
        let listed = format!("{name}[]");
        if form.parts.iter().any(|part| part.name == *name || part.name == listed) {
            continue;
        }
        match serde_json::from_str(json) {
            Ok(Value::Array(items)) => completed.parts.extend(items.iter().map(|item| text(&listed, item))),
            Ok(value) => completed.parts.push(text(name, &value)),
            Err(_) => {}
        }
    }
    completed
}

fn text(name: &str, value: &Value) -> Part {
    let body = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    // A name comes from the configuration, and may be any text there.
    let shown = name.replace('"', "%22").replace(['\r', '\n'], "");
    let disposition = format!("form-data; name=\"{shown}\"").into_bytes();
    let headers = vec![("Content-Disposition".to_owned(), disposition)];
    Part { name: name.to_owned(), is_file: false, headers, body: body.into() }
}
