//! Anthropic's citations in the form of OpenAI's `annotations`.

use serde_json::{Map, Value, json};

/// The annotation of one citation of the text between two positions, counted in characters of the whole visible text.
///
/// What was found on the web or in a search result has an address and becomes a `url_citation`, with the cited passage
/// as `content`. What stands in a document that the client sent has none and becomes a `file_citation`: `filename` is
/// the document's title, `index` its place among the documents, and the place inside it keeps Anthropic's names
/// (`start_char_index`, `start_page_number`, `start_block_index` …).
pub(super) fn annotation(citation: &Value, start_index: u64, end_index: u64) -> Value {
    let field = |name: &str| citation.get(name).filter(|value| !value.is_null()).cloned();
    let mut inner = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            inner.insert(name.to_owned(), value);
        }
    };
    let address = field("url").or_else(|| field("source"));
    let kind = if address.is_some() { "url_citation" } else { "file_citation" };
    match address {
        Some(address) => {
            put("url", Some(address));
            put("title", Some(field("title").unwrap_or_else(|| Value::String(String::new()))));
        }
        None => {
            put("file_id", field("file_id"));
            put("filename", field("document_title"));
            put("index", field("document_index"));
            for place in [
                "start_char_index",
                "end_char_index",
                "start_page_number",
                "end_page_number",
                "start_block_index",
                "end_block_index",
            ] {
                put(place, field(place));
            }
        }
    }
    put("start_index", Some(start_index.into()));
    put("end_index", Some(end_index.into()));
    put("content", field("cited_text"));
    json!({ "type": kind, kind: inner })
}
