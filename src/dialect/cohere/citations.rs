//! Cohere's citations in the form of OpenAI's `annotations`.

use super::wire::Citation;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// The citations of a list, or of the one that an event has.
pub(super) fn read(raw: &RawValue) -> Vec<Citation> {
    if raw.get().starts_with('[') {
        serde_json::from_str(raw.get()).unwrap_or_default()
    } else {
        serde_json::from_str(raw.get()).map(|one| vec![one]).unwrap_or_default()
    }
}

/// The annotations of a citation, one for each source, its place counted in characters of the whole visible text: `base` is where its
/// content begins there.
///
/// A source with an address is a `url_citation`. Any other is a `file_citation`: `file_id` is the document's id, or the call's and its
/// result's number (`call_1:0`), `filename` is the document's title.
pub(super) fn annotations(citation: &Citation, base: u64) -> Vec<Value> {
    let sources = citation.sources.as_deref().unwrap_or_default();
    let place = |at: Option<u64>| at.map_or(base, |at| base.saturating_add(at));
    let one = |source: &Value| {
        let document = &source["document"];
        let field = |name: &str| document.get(name).filter(|value| value.is_string()).cloned();
        let mut inner = Map::new();
        let kind = match field("url") {
            Some(url) => {
                inner.insert("url".to_owned(), url);
                inner.insert("title".to_owned(), field("title").unwrap_or_else(|| Value::String(String::new())));
                "url_citation"
            }
            None => {
                if let Some(id) = source.get("id").or_else(|| document.get("id")).filter(|id| id.is_string()) {
                    inner.insert("file_id".to_owned(), id.clone());
                }
                if let Some(title) = field("title") {
                    inner.insert("filename".to_owned(), title);
                }
                "file_citation"
            }
        };
        inner.insert("start_index".to_owned(), place(citation.start).into());
        inner.insert("end_index".to_owned(), place(citation.end).into());
        json!({ "type": kind, kind: inner })
    };
    sources.iter().map(one).collect()
}
