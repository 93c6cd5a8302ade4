//! Reranking in its two forms. Where the client's and the provider's are the same the bytes pass; else the members that both have are put
//! in the other's words, and the answer is written anew.
//!
//! ```text
//!            the best so many   answer
//!   Results  top_n              {"results": [{"index", "relevance_score", "document": {"text"}}], ...}   Cohere, Jina, most others
//!   Data     top_k              {"data": [{"index", "relevance_score", "document": "text"}], ...}        Voyage
//! ```
//!
//! Sources: the API references of Cohere, Jina and Voyage AI.

use crate::dialect::openai_chat::envelope::Envelope;
use crate::dialect::openai_chat::quirks::Quirks;
use crate::dialect::work::{Endpoint, Work};
use crate::domain::Fault;
use serde_json::{Map, Value, json};

/// A form of reranking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Cohere's.
    Results,
    /// Voyage's.
    Data,
}

/// Members that only one form has, whose client says so by them. Voyage's SDK always writes both of its.
const OF_RESULTS: [&str; 3] = ["top_n", "max_tokens_per_doc", "priority"];
const OF_DATA: [&str; 2] = ["top_k", "truncation"];

impl Form {
    /// The form in which a client asks.
    fn asked(envelope: &Envelope) -> Self {
        let has = |names: &[&str]| names.iter().any(|name| envelope.member(name).is_some());
        if has(&OF_DATA) && !has(&OF_RESULTS) { Self::Data } else { Self::Results }
    }

    /// The form in which a provider is asked.
    fn provided(quirks: Quirks) -> Self {
        if quirks.has(Quirks::RERANK_DATA) { Self::Data } else { Self::Results }
    }
}

/// The form that an answer has to be brought into; `None` where it passes.
pub fn wanted(envelope: &Envelope, quirks: Quirks) -> Option<Form> {
    let asked = Form::asked(envelope);
    (envelope.work == Work::Relay(Endpoint::Rerank) && asked != Form::provided(quirks)).then_some(asked)
}

/// What a member of the client's is called at the provider, where that is another name.
pub(super) fn renamed(wanted: Form, name: &str) -> Option<&'static str> {
    match (wanted, name) {
        (Form::Results, "top_n") => Some("top_k"),
        (Form::Data, "top_k") => Some("top_n"),
        _ => None,
    }
}

/// The client's members for which the provider has nothing.
pub fn lost(envelope: &Envelope, wanted: Form) -> Vec<String> {
    let names = envelope.members.iter().map(|member| envelope.name_of(member));
    names.filter(|name| is_lost(wanted, name)).map(Into::into).collect()
}

/// Whether the provider has no member like this one of the client's.
pub(super) fn is_lost(wanted: Form, name: &str) -> bool {
    let own: &[&str] = if wanted == Form::Results { &OF_RESULTS } else { &OF_DATA };
    own.contains(&name) && renamed(wanted, name).is_none()
}

/// Writes a provider's answer anew in the form that is wanted.
///
/// # Errors
/// `Malformed` when it is none.
pub(super) fn retell(answer: &[u8], wanted: Form, out: &mut Vec<u8>) -> Result<(), Fault> {
    let none = || Fault::malformed("the provider's answer is no ranking");
    let Ok(Value::Object(mut answer)) = serde_json::from_slice(answer) else { return Err(none()) };
    let (from, to) = if wanted == Form::Results { ("data", "results") } else { ("results", "data") };
    let ranks = answer.remove(from).or_else(|| answer.remove(to));
    let Some(Value::Array(mut ranks)) = ranks else { return Err(none()) };
    for rank in ranks.iter_mut().filter_map(Value::as_object_mut) {
        if let Some(document) = rank.remove("document") {
            rank.insert("document".to_owned(), document_in(wanted, document));
        }
    }
    answer.insert(to.to_owned(), ranks.into());
    if wanted == Form::Data {
        answer.insert("object".to_owned(), "list".into());
        count(&mut answer);
    } else {
        answer.remove("object");
    }
    out.extend_from_slice(Value::Object(answer).to_string().as_bytes());
    Ok(())
}

fn document_in(wanted: Form, document: Value) -> Value {
    match (wanted, document) {
        (Form::Results, Value::String(text)) => json!({ "text": text }),
        (Form::Data, Value::Object(mut whole)) if whole.len() == 1 => match whole.remove("text") {
            Some(text @ Value::String(_)) => text,
            other => other.unwrap_or_default(),
        },
        (_, document) => document,
    }
}

/// Voyage's clients read the tokens; of Cohere's there may be none but those billed.
fn count(answer: &mut Map<String, Value>) {
    let meta = answer.get("meta").unwrap_or(&Value::Null);
    let known = [&meta["tokens"]["input_tokens"], &meta["billed_units"]["total_tokens"]];
    let tokens = known.into_iter().find_map(Value::as_u64).unwrap_or_default();
    answer.entry("usage").or_insert_with(|| json!({ "total_tokens": tokens }));
}
