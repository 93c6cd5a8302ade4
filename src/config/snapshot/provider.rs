//! A provider that can be asked.

use super::Timeouts;
use crate::config::net::BaseUrl;
use crate::dialect::client::Client;
use crate::dialect::embeddings::{self, Form};
use crate::dialect::openai_chat::passthrough::Quirks;
use crate::dialect::table::Dialect;
use crate::domain::tenancy::VaultKey;
use crate::domain::{ProviderKey, Secret};
use crate::provider::{AuthScheme, Cloud, ModelRow, OwnForm, ProviderRow};
use crate::routing::fair_queue::Caps;
use std::sync::Arc;

/// A provider in use: its row of the catalog with what the operator changed.
#[derive(Clone, Debug)]
pub struct Provider {
    /// Its id: the prefix of its models and the name in `x-provider`.
    pub id: Arc<str>,
    /// Its name for people.
    pub name: String,
    /// Its wire format.
    pub dialect: Dialect,
    /// Where it is; `Dialect::path` is appended.
    pub base: BaseUrl,
    /// The cloud that it is a place in, which has paths of its own.
    pub cloud: Option<Cloud>,
    /// How it wants its key.
    pub auth: AuthScheme,
    /// Headers of every request.
    pub headers: Vec<(String, String)>,
    /// How it deviates from OpenAI's format.
    pub quirks: Quirks,
    /// Its keys, in order; empty for a provider that needs none.
    pub keys: Vec<Arc<ProviderKey>>,
    /// What of them must not be shown: the keys, or the secret parts of those that are made of several.
    pub secrets: Vec<Secret>,
    /// Certificates (DER) that are trusted besides the system's roots.
    pub ca: Vec<Vec<u8>>,
    /// Its share under [`crate::domain::Strategy::Weighted`], relative to the others.
    pub weight: Option<u32>,
    /// Requests that it takes at once, all models together.
    pub max_concurrent: Option<u32>,
    /// Requests that single models (by their name there) take at once.
    pub model_caps: Vec<(Arc<str>, u32)>,
    /// Whether its models are found by asking it.
    pub discovers: bool,
    /// Its own clocks, complete, where `[provider.timeouts]` changes any.
    pub timeouts: Option<Timeouts>,
    /// Other ids that mean the same.
    pub aliases: Vec<String>,
    /// Its row of the catalog; for a provider that is not in the catalog, a row made of its settings.
    pub row: Arc<ProviderRow>,
    /// The models of `[[provider.model]]`; they come before those of the catalog.
    pub models: Vec<Arc<ModelRow>>,
}

impl Provider {
    /// How many requests it takes at once for one of its models; `None` when it does not matter.
    pub fn caps(&self, upstream: &str) -> Option<Caps> {
        if self.max_concurrent.is_none() && self.model_caps.is_empty() {
            return None;
        }
        let model = self.model_caps.iter().find(|(model, _)| **model == *upstream).map(|(_, cap)| *cap);
        let caps = Caps { provider: self.max_concurrent, model };
        (caps != Caps::default()).then_some(caps)
    }

    /// The format that one of its models is asked in.
    pub fn dialect_of(&self, model: &ModelRow) -> Dialect {
        self.cloud.as_ref().map_or(self.dialect, |cloud| cloud.dialect(self.dialect, model))
    }

    /// The path of a request for one of its models below the base URL, query included.
    pub fn path(&self, model: &ModelRow, stream: bool) -> String {
        let dialect = self.dialect_of(model);
        match &self.cloud {
            Some(cloud) => cloud.path(dialect, model, stream),
            None => dialect.path(&model.upstream, stream),
        }
    }

    /// The path of a request to something that stands beside the chat completions of OpenAI's format (`/embeddings`), below the base URL,
    /// query included.
    pub fn path_beside_chat(&self, model: &ModelRow, path: &str) -> String {
        match &self.cloud {
            Some(cloud) => cloud.path(Dialect::OpenAiChat, model, false).replacen("/chat/completions", path, 1),
            None => path.to_owned(),
        }
    }

    /// How one of its models is asked for vectors; `None` where there is no way to.
    pub fn embedding_form(&self, model: &ModelRow) -> Option<Form> {
        let own = || model.embeds.form.map(OwnForm::form);
        Some(match (self.dialect_of(model), &self.cloud) {
            (Dialect::OpenAiChat, _) => Form::OpenAi,
            (Dialect::Gemini, Some(_)) => own().unwrap_or(Form::VertexPredict),
            (Dialect::Gemini, None) => Form::Gemini,
            (Dialect::Cohere, _) => Form::Cohere,
            (Dialect::Ollama, _) => Form::Ollama,
            (Dialect::BedrockConverse, _) if model.maker.as_deref() == Some("cohere") => Form::CohereOnBedrock,
            (Dialect::BedrockConverse, _) => own().unwrap_or(Form::Titan),
            (Dialect::AnthropicMessages, _) => return None,
        })
    }

    /// How many inputs one of its models makes vectors of at once; `None` leaves it to the form, or to the provider.
    pub fn embedding_inputs(&self, model: &ModelRow) -> Option<usize> {
        model.embeds.inputs.or(self.row.embeddings_inputs)
    }

    /// The path of a request for vectors below the base URL, query included.
    pub fn embedding_path(&self, model: &ModelRow, form: Form) -> String {
        let of_chat = |method: &str| self.path(model, false).replacen(":generateContent", &format!(":{method}"), 1);
        match (form, &self.cloud) {
            // Perplexity's vectors have a version in their path, its conversations none.
            (Form::OpenAi, None) if self.quirks.has(Quirks::INT8_EMBEDDINGS) && self.base.path.is_empty() => {
                format!("/v1{}", embeddings::PATH)
            }
            (Form::OpenAi, _) => self.path_beside_chat(model, embeddings::PATH),
            (Form::GeminiContent, Some(_)) => of_chat(embeddings::gemini::CONTENT),
            (Form::VertexPredict, Some(_)) => of_chat(embeddings::gemini::PREDICT),
            _ => form.path(&model.upstream),
        }
    }

    /// The path of a request that passes to one of its models, where a client's format has a path of its own.
    pub fn path_of(&self, client: Client, model: &ModelRow) -> Option<String> {
        let elsewhere = self.cloud.as_ref().and_then(Cloud::responses_path);
        let own = match client {
            Client::OpenAiResponses if elsewhere.is_some() => return elsewhere,
            Client::OpenAiCompletions => &*self.row.completions_path,
            _ => client.own_path()?,
        };
        Some(self.path_beside_chat(model, own))
    }

    /// Whether it counts the tokens of a request for one of its models. Clouds are not asked:
    /// each has a path and a body of its own for that.
    pub fn counts_tokens(&self, model: &ModelRow) -> bool {
        self.cloud.is_none() && self.dialect_of(model).counts_tokens()
    }

    /// Takes away a key that came out of the vault. Says whether it was there.
    pub(super) fn forget(&mut self, gone: &VaultKey) -> bool {
        let text = gone.secret.reveal();
        // One secret may hold several keys, which are numbered then.
        let is_part = |key: &ProviderKey| {
            key.secret == gone.secret || text.split(',').any(|part| part.trim() == key.secret.reveal())
        };
        let is_called =
            |name: &str| name.strip_prefix(&*gone.name).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
        let before = self.keys.len();
        self.keys.retain(|key| !(is_called(&key.name) && is_part(key)));
        before != self.keys.len()
    }

    /// Whether a key has to be leased before it can be asked.
    pub fn needs_key(&self) -> bool {
        self.row.key_required
    }
}
