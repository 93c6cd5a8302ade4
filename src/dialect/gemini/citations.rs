//! Sources of an answer, as OpenAI's `url_citation` annotations.
//!
//! `groundingMetadata` names web pages (`groundingChunks`) and which piece of the text each supports (`groundingSupports`);
//! `citationMetadata` names pages that the text recites. Google counts places in bytes of UTF-8, OpenAI in characters. A page that
//! supports no piece in particular is cited at 0 to 0, as OpenRouter does it. A source without an address (a file search) is no URL
//! citation and is left out.

use crate::dialect::event::{Event, Sink};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// More recitations than any answer has; a bound for hostile providers.
const MAX_RECITATIONS: usize = 4096;
/// As much text outside ASCII is kept for counting its characters; places behind it stay in bytes.
const MAX_KEPT_TEXT: usize = 1024 * 1024;

/// What a choice's text rests on, collected while it comes.
#[derive(Debug, Default)]
pub struct Sources {
    places: Places,
    /// The last grounding that names pages; it is told as a whole at the end of an answer.
    grounding: Grounding,
    recited: Vec<Recitation>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Grounding {
    grounding_chunks: Vec<GroundingChunk>,
    grounding_supports: Vec<Support>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct GroundingChunk {
    web: Option<Page>,
    retrieved_context: Option<Page>,
    maps: Option<Page>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Page {
    uri: Option<String>,
    title: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Support {
    segment: Segment,
    grounding_chunk_indices: Vec<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Segment {
    start_index: u64,
    end_index: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Recited {
    #[serde(alias = "citations")]
    citation_sources: Vec<Recitation>,
}

#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
struct Recitation {
    start_index: u64,
    end_index: u64,
    uri: Option<String>,
    title: Option<String>,
}

impl Sources {
    /// Notes visible text, whose places the sources name.
    pub fn text(&mut self, text: &str) {
        self.places.push(text);
    }

    /// Takes `groundingMetadata`. One that cannot be read costs its citations, not the answer.
    pub fn ground(&mut self, metadata: &RawValue) {
        let grounding: Grounding = read(metadata);
        if !grounding.grounding_chunks.is_empty() {
            self.grounding = grounding;
        }
    }

    /// Takes `citationMetadata`, which a stream may repeat.
    pub fn recite(&mut self, metadata: &RawValue) {
        let recited: Recited = read(metadata);
        for source in recited.citation_sources {
            if self.recited.len() < MAX_RECITATIONS && !self.recited.contains(&source) {
                self.recited.push(source);
            }
        }
    }

    /// Tells all of them: by place in the text, then pages without a place, then recitations.
    pub fn cite(&self, choice: u32, sink: &mut impl Sink) {
        let Grounding { grounding_chunks: chunks, grounding_supports: supports } = &self.grounding;
        let mut cited = vec![false; chunks.len()];
        for support in supports {
            let Segment { start_index, end_index } = support.segment;
            for &at in &support.grounding_chunk_indices {
                let Some(page) = chunks.get(at).and_then(GroundingChunk::page) else { continue };
                cited[at] = true;
                let value = citation(page, self.places.characters(start_index), self.places.characters(end_index));
                sink.event(Event::Annotation { choice, value: &value });
            }
        }
        for (chunk, _) in chunks.iter().zip(cited).filter(|(_, cited)| !cited) {
            if let Some(page) = chunk.page() {
                sink.event(Event::Annotation { choice, value: &citation(page, 0, 0) });
            }
        }
        for source in &self.recited {
            if let Some(uri) = source.uri.as_deref() {
                let (start, end) =
                    (self.places.characters(source.start_index), self.places.characters(source.end_index));
                let value = citation((uri, source.title.as_deref()), start, end);
                sink.event(Event::Annotation { choice, value: &value });
            }
        }
    }
}

/// Reads metadata; null in it says as much as nothing, and what cannot be read is nothing.
fn read<T: DeserializeOwned + Default>(metadata: &RawValue) -> T {
    let mut value: Value = serde_json::from_str(metadata.get()).unwrap_or_default();
    drop_nulls(&mut value);
    serde_json::from_value(value).unwrap_or_default()
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

impl GroundingChunk {
    fn page(&self) -> Option<(&str, Option<&str>)> {
        let page = [&self.web, &self.retrieved_context, &self.maps].into_iter().flatten().next()?;
        Some((page.uri.as_deref()?, page.title.as_deref()))
    }
}

fn citation((uri, title): (&str, Option<&str>), start: u64, end: u64) -> Value {
    json!({
        "type": "url_citation",
        "url_citation": { "url": uri, "title": title.unwrap_or(uri), "start_index": start, "end_index": end },
    })
}

/// Turns places in bytes into places in characters, and back. Text in ASCII, where they are the same, is only counted.
#[derive(Debug, Default)]
pub(super) struct Places {
    runs: Vec<Run>,
    kept: usize,
}

#[derive(Debug)]
enum Run {
    Ascii(u64),
    Other(String),
}

impl Places {
    pub fn push(&mut self, text: &str) {
        let room = self.kept + text.len() <= MAX_KEPT_TEXT;
        if text.is_ascii() || !room {
            match self.runs.last_mut() {
                Some(Run::Ascii(length)) => *length += text.len() as u64,
                _ => self.runs.push(Run::Ascii(text.len() as u64)),
            }
            return;
        }
        self.kept += text.len();
        match self.runs.last_mut() {
            Some(Run::Other(kept)) => kept.push_str(text),
            _ => self.runs.push(Run::Other(text.to_owned())),
        }
    }

    fn characters(&self, byte: u64) -> u64 {
        let (mut bytes, mut characters) = (0, 0);
        for run in &self.runs {
            let rest = byte - bytes;
            match run {
                Run::Ascii(length) if rest <= *length => return characters + rest,
                Run::Ascii(length) => (bytes, characters) = (bytes + length, characters + length),
                Run::Other(text) if rest <= text.len() as u64 => {
                    return characters + text.char_indices().take_while(|(at, _)| (*at as u64) < rest).count() as u64;
                }
                Run::Other(text) => {
                    (bytes, characters) = (bytes + text.len() as u64, characters + text.chars().count() as u64);
                }
            }
        }
        characters + (byte - bytes)
    }

    /// The place in bytes of a place in characters.
    pub fn bytes(&self, character: u64) -> u64 {
        let (mut bytes, mut characters) = (0, 0);
        for run in &self.runs {
            let rest = character - characters;
            match run {
                Run::Ascii(length) if rest <= *length => return bytes + rest,
                Run::Ascii(length) => (bytes, characters) = (bytes + length, characters + length),
                Run::Other(text) => {
                    let within =
                        text.char_indices().map(|(at, _)| at as u64).nth(usize::try_from(rest).unwrap_or(usize::MAX));
                    if let Some(at) = within {
                        return bytes + at;
                    }
                    (bytes, characters) = (bytes + text.len() as u64, characters + text.chars().count() as u64);
                }
            }
        }
        bytes + (character - characters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cite(sources: &Sources) -> Vec<Value> {
        let mut all = Vec::new();
        sources.cite(0, &mut |event: Event<'_>| {
            if let Event::Annotation { value, .. } = event {
                all.push(value["url_citation"].clone());
            }
        });
        all
    }

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn places_count_characters() {
        let text = "Zürich, 日本 and plain";
        for pieces in [vec![text], vec!["Zür", "ich, ", "日", "本 and", " plain"]] {
            let mut places = Places::default();
            pieces.iter().for_each(|piece| places.push(piece));
            for (characters, (bytes, _)) in text.char_indices().enumerate() {
                assert_eq!(places.characters(bytes as u64), characters as u64);
                assert_eq!(places.bytes(characters as u64), bytes as u64);
            }
            assert_eq!(places.characters(text.len() as u64), text.chars().count() as u64);
        }
    }

    #[test]
    fn pages_are_cited_where_they_support_the_text() {
        let mut sources = Sources::default();
        sources.text("Übung macht den Meister.");
        sources.ground(&raw(
            r#"{"groundingChunks": [{"web": {"uri": "https://a.example", "title": "A"}}, {"web": {"uri": "https://b.example"}},
                {"retrievedContext": {"text": "a file"}}], "groundingSupports": [{"segment": {"endIndex": 6, "text": "Übung"},
                "groundingChunkIndices": [0, 2, 9]}]}"#,
        ));
        sources.ground(&raw("{}"));
        sources.recite(&raw(r#"{"citationSources": [{"startIndex": 7, "endIndex": 12, "uri": "https://c.example"}]}"#));
        sources.recite(&raw(r#"{"citations": [{"startIndex": 7, "endIndex": 12, "uri": "https://c.example"}]}"#));
        assert_eq!(
            cite(&sources),
            [
                json!({"url": "https://a.example", "title": "A", "start_index": 0, "end_index": 5}),
                json!({"url": "https://b.example", "title": "https://b.example", "start_index": 0, "end_index": 0}),
                json!({"url": "https://c.example", "title": "https://c.example", "start_index": 6, "end_index": 11}),
            ]
        );
    }

    #[test]
    fn unreadable_sources_cost_nothing_else() {
        let mut sources = Sources::default();
        sources.ground(&raw(r#"{"groundingChunks": 3}"#));
        sources.recite(&raw("[]"));
        assert!(cite(&sources).is_empty());
    }
}
