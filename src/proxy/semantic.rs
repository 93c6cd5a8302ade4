//! The cache's second look: for the answer to a question that was put in other words.
//!
//! ```text
//!   exact: none ──> comparable? ──no──────────────────────────────> walk
//!                       │
//!                       └─> embed ──> nearest ──┬─ near enough, its answer is there ──> replay   x-cache-similarity
//!                             │                 └─ not ──> walk, and keep the vector with the answer
//!                             └─ failed ──> walk
//! ```
//!
//! Compared are the last texts of two users' turns, and only where everything else is the same: who asks, which targets may answer, every
//! parameter, the conversation before (`dialect::openai_chat::question`). An answer that was found in this way is not kept once more under
//! the new words: a chain of questions, each near the one before, must not lead ever farther away from what was asked.

use super::cache::{kept_preset, key, now_unix_ms};
use super::core::{ClientCtx, Core};
use super::embed::embed;
use super::names::{Names, Target};
use super::plan::Plan;
use crate::config::snapshot::{Provider, Semantic};
use crate::dialect::client::Client;
use crate::dialect::openai_chat::envelope::Envelope;
use crate::dialect::openai_chat::question::question;
use crate::dialect::work::Work;
use crate::domain::SemanticRecord;
use crate::store::ports::answers::StoredAnswer;
use crate::store::ports::vectors::{Place, Vector};
use http::HeaderMap;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// So many questions are looked at whose answers turn out to be gone.
const MOST_GONE: usize = 8;

/// An answer that will do, and how near its question is when that is another one.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) answer: Arc<StoredAnswer>,
    /// The cosine between the two questions; `None` when they are the same.
    pub(super) similarity: Option<f32>,
}

/// A question to be kept with its answer.
#[derive(Debug)]
pub(super) struct Located {
    pub(super) place: Place,
    pub(super) vector: Vector,
}

/// A search for the answer to a question that means the same.
pub(super) struct Search {
    /// Who makes the embedding.
    target: Target,
    place: Place,
    text: String,
    threshold: f32,
    limit: Duration,
}

/// Whether the answer to another question will do for a request, as far as it and the configuration say so.
pub(super) fn wanted<'a>(client: &'a ClientCtx, envelope: &Envelope) -> Option<&'a Semantic> {
    let semantic = client.snapshot.cache.semantic.as_ref()?;
    envelope.extensions.cache_semantic.unwrap_or(semantic.by_default).then_some(semantic)
}

/// Whether the request and its key leave it open that this provider gets its text.
fn may_see(client: &ClientCtx, envelope: &Envelope, provider: &Provider) -> bool {
    let scopes = client.holder.as_ref().and_then(|holder| holder.scopes.as_ref());
    if scopes.is_some_and(|scopes| !scopes.allows_provider(provider)) {
        return false;
    }
    let preferences = &envelope.extensions.preferences;
    let named = |names: &[String]| {
        let mut ids = names.iter().filter_map(|name| client.snapshot.provider(name));
        ids.any(|named| named.id == provider.id)
    };
    (preferences.only.is_empty() || named(&preferences.only)) && !named(&preferences.ignore)
}

impl Search {
    /// `None` when the request is not to be compared with others, or has no time for it.
    pub(super) fn of(client: &ClientCtx, envelope: &Envelope, plan: &Plan) -> Option<Self> {
        let settings = wanted(client, envelope).filter(|_| envelope.work == Work::Converse)?;
        // A question is known by OpenAI's format alone; switches in headers, as other formats have them, are no part of it.
        if client.dialect != Client::OpenAiChat {
            return None;
        }
        if client.started.elapsed() + settings.timeout >= plan.total {
            return None;
        }
        let question = question(envelope.body(), envelope.stream)?;
        let provider = client.snapshot.provider(&settings.provider)?;
        if !may_see(client, envelope, provider) {
            return None;
        }
        let target = Names { snapshot: &client.snapshot, discovered: &[] }.at(provider, &settings.model);
        let mut owner = Sha256::new();
        owner.update(key(client, &HeaderMap::new(), plan, &[0; 32], kept_preset(envelope)));
        for text in [&*provider.id, &provider.base.to_string(), &target.model.upstream] {
            owner.update((text.len() as u64).to_le_bytes());
            owner.update(text);
        }
        let owner: [u8; 32] = owner.finalize().into();
        let scope = Sha256::new().chain_update(owner).chain_update(question.rest).finalize().into();
        Some(Self {
            target,
            place: Place { owner, scope },
            text: question.text,
            threshold: settings.threshold,
            limit: settings.timeout,
        })
    }

    /// An answer that is near enough and that the request `takes`; else where to keep the one that is to come.
    pub(super) async fn run(
        self,
        core: &Arc<Core>,
        client: &mut ClientCtx,
        takes: impl Fn(&StoredAnswer) -> bool,
    ) -> (Option<Found>, Option<Located>) {
        let begun = Instant::now();
        let embedding = embed(core, &client.snapshot, &self.target, &self.text, self.limit).await;
        let took = begun.elapsed();
        client.waited += took;
        let usage = embedding.as_ref().ok().and_then(|embedding| embedding.usage);
        let mut record = SemanticRecord {
            provider: self.target.provider.id.clone(),
            model: self.target.model.upstream.clone(),
            took,
            usage,
            cost: usage.and_then(|usage| self.target.model.prices.cost(&usage)),
            similarity: None,
            failed: None,
        };
        // A vector of nothing but zeros has no direction.
        let vector = embedding.and_then(|embedding| Vector::of(embedding.vector).ok_or("malformed")).map_err(|why| {
            record.failed = Some(why);
        });
        let Ok(vector) = vector else {
            client.record.semantic = Some(record);
            core.telemetry.metrics.compared("failed");
            return (None, None);
        };
        let found = self.nearest(core, &vector, &mut record, takes).await;
        client.record.semantic = Some(record);
        core.telemetry.metrics.compared(if found.is_some() { "hit" } else { "miss" });
        let located = found.is_none().then_some(Located { place: self.place, vector });
        (found, located)
    }

    async fn nearest(
        &self,
        core: &Core,
        vector: &Vector,
        record: &mut SemanticRecord,
        takes: impl Fn(&StoredAnswer) -> bool,
    ) -> Option<Found> {
        for _ in 0..MOST_GONE {
            let near = core.vectors.nearest(&self.place, vector, now_unix_ms()).await?;
            record.similarity = Some(near.similarity);
            if near.similarity < self.threshold {
                return None;
            }
            match core.answers.get(&near.key, now_unix_ms()).await {
                Some(answer) if takes(&answer) => return Some(Found { answer, similarity: Some(near.similarity) }),
                Some(_) => return None,
                None => core.vectors.forget(&self.place, &near.key).await,
            }
        }
        None
    }
}
