//! The request of one target as it will be sent: where to, and what of the client's own head goes along.

use crate::dialect::client::Client;
use crate::dialect::embeddings::answer::Expected;
use bytes::Bytes;

/// The rendered request of a target.
pub(super) struct Message {
    pub(super) path: String,
    pub(super) body: Bytes,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) dropped: Vec<String>,
    pub(super) answer_tool: Option<String>,
    /// Further bodies, sent one after the other where a provider takes only so many inputs at once.
    pub(super) more: Vec<Bytes>,
    /// What the answer to a request for vectors has to be.
    pub(super) vectors: Option<Box<Expected>>,
}

impl Message {
    /// A body for a path.
    pub(super) fn new(path: String, body: impl Into<Bytes>) -> Self {
        Self {
            path,
            body: body.into(),
            headers: Vec::new(),
            dropped: Vec::new(),
            answer_tool: None,
            more: Vec::new(),
            vectors: None,
        }
    }
}

/// The part of a client's query that belongs to its format.
pub(super) fn passed_query(client: Client, query: Option<&str>) -> &'static str {
    let is_beta = || query.is_some_and(|query| query.split('&').any(|pair| pair == "beta=true"));
    if client == Client::AnthropicMessages && is_beta() { "?beta=true" } else { "" }
}

/// The headers of a client's that belong to its format, for a provider that speaks the same.
pub(super) fn passed_headers(client: Client, headers: &http::HeaderMap) -> Vec<(&'static str, String)> {
    let named = |name: &&'static str| {
        let values: Vec<&str> = headers.get_all(*name).iter().filter_map(|value| value.to_str().ok()).collect();
        (!values.is_empty()).then(|| (*name, values.join(",")))
    };
    client.headers().iter().filter_map(named).collect()
}
