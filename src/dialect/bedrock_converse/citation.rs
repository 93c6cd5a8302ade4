//! Converse's citations in the form of OpenAI's `annotations`.

use serde_json::{Map, Value, json};

/// The annotation of one citation of the text between two positions, counted in characters of the whole visible text.
///
/// What was found on the web, or in a search result that has an address, becomes a `url_citation`; what stands in a document of the
/// client's a `file_citation`: `filename` is the document's title, `index` its place among the documents, and the place inside it has
/// the names that Anthropic gives it (`start_char_index`, `start_page_number`, `start_block_index` …).
pub(super) fn annotation(citation: &Value, start_index: u64, end_index: u64) -> Value {
    let mut inner = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value.filter(|value| !value.is_null()) {
            inner.insert(name.to_owned(), value);
        }
    };
    let location = &citation["location"];
    let source = citation["source"].as_str().filter(|source| source.contains("://"));
    let address = location["web"]["url"].as_str().or(source);
    let kind = if address.is_some() { "url_citation" } else { "file_citation" };
    match address {
        Some(address) => {
            put("url", Some(address.into()));
            let title = citation["title"].as_str().or_else(|| location["web"]["domain"].as_str());
            put("title", Some(title.unwrap_or_default().into()));
        }
        None => {
            put("filename", citation.get("title").cloned());
            for (place, index, from, to) in [
                ("documentChar", "documentIndex", "start_char_index", "end_char_index"),
                ("documentPage", "documentIndex", "start_page_number", "end_page_number"),
                ("documentChunk", "documentIndex", "start_block_index", "end_block_index"),
                ("searchResultLocation", "searchResultIndex", "start_block_index", "end_block_index"),
            ] {
                let Some(found) = location.get(place) else { continue };
                put("index", found.get(index).cloned());
                put(from, found.get("start").cloned());
                put(to, found.get("end").cloned());
            }
        }
    }
    put("start_index", Some(start_index.into()));
    put("end_index", Some(end_index.into()));
    let cited = citation["sourceContent"].as_array().into_iter().flatten().filter_map(|part| part["text"].as_str());
    put("content", Some(cited.collect::<String>()).filter(|cited| !cited.is_empty()).map(Value::from));
    json!({ "type": kind, kind: inner })
}
