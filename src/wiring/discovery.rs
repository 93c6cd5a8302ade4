//! Asks providers that list their own models (Ollama, vLLM) which ones they have, now and then.

use crate::config::snapshot::Provider;
use crate::dialect::table::Dialect;
use crate::domain::ProviderKey;
use crate::provider::AuthScheme;
use crate::proxy::Core;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

/// How often the lists are asked for.
const EVERY: Duration = Duration::from_secs(30);
/// How long a provider may take to list its models.
const PATIENCE: Duration = Duration::from_secs(5);

/// OpenAI's list has `data` with ids, Ollama's own has `models` with names; some servers have both.
#[derive(Deserialize)]
struct List {
    data: Option<Vec<Item>>,
    models: Option<Vec<Item>>,
}

#[derive(Deserialize)]
struct Item {
    id: Option<String>,
    name: Option<String>,
}

impl List {
    fn names(self) -> Result<Vec<String>, String> {
        let items = self.data.or(self.models).ok_or("its answer is not a list of models")?;
        Ok(items.into_iter().filter_map(|item| item.id.or(item.name)).collect())
    }
}

/// Keeps the lists up to date for as long as the gateway runs. A provider that does not answer keeps its last list.
pub(super) async fn keep_up(core: Arc<Core>) {
    let http = match client() {
        Ok(http) => http,
        Err(error) => return log::error!("models cannot be discovered: {error}"),
    };
    loop {
        let snapshot = core.snapshot.load_full();
        let mut lists = Vec::new();
        for provider in snapshot.providers.iter().filter(|provider| provider.discovers) {
            let old =
                || core.discovered.load().iter().find(|(id, _)| *id == provider.id).map(|(_, models)| models.clone());
            match list(&http, provider).await {
                Ok(models) => lists.push((provider.id.clone(), models)),
                Err(error) => {
                    log::debug!("{}: its models could not be listed: {error}", provider.id);
                    lists.extend(old().map(|models| (provider.id.clone(), models)));
                }
            }
        }
        core.discovered.store(Arc::new(lists));
        tokio::time::sleep(EVERY).await;
    }
}

/// The client for the gateway's own small questions to providers.
///
/// # Errors
/// When TLS cannot be set up.
pub fn client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none()).build()
}

/// The models that a provider lists.
async fn list(http: &reqwest::Client, provider: &Provider) -> Result<Vec<String>, String> {
    let answer = ask(http, provider, provider.keys.first().map(|key| &**key)).await?;
    let list: List = answer.json().await.map_err(told)?;
    list.names()
}

/// Asks a provider for its models, with one of its keys: the cheapest question that only a good key gets an answer to.
///
/// # Errors
/// A text without any key: what the provider or the network said.
pub async fn ask(
    http: &reqwest::Client,
    provider: &Provider,
    key: Option<&ProviderKey>,
) -> Result<reqwest::Response, String> {
    let path = match provider.dialect {
        Dialect::OpenAiChat => "/models",
        Dialect::AnthropicMessages => "/v1/models",
        Dialect::Gemini => "/v1beta/models",
        Dialect::Cohere => "/v1/models",
        Dialect::Ollama => "/api/tags",
    };
    let mut request = http.get(format!("{}{path}", provider.base));
    for (name, value) in &provider.headers {
        request = request.header(name, value);
    }
    if let Some(key) = key {
        request = match provider.auth {
            AuthScheme::Bearer | AuthScheme::None => request.bearer_auth(key.secret.reveal()),
            AuthScheme::Header(name) => request.header(name, key.secret.reveal()),
        };
    }
    request.send().await.map_err(told)?.error_for_status().map_err(told)
}

fn told(error: reqwest::Error) -> String {
    let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
    format!("{}{source}", error.without_url())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_either_form_are_read() {
        let names = |json: &str| serde_json::from_str::<List>(json).unwrap().names();
        let openai = r#"{"object": "list", "data": [{"id": "a", "name": "A"}], "models": [{"name": "other"}]}"#;
        assert_eq!(names(openai), Ok(vec!["a".to_owned()]));
        let ollama = r#"{"models": [{"name": "llama:latest", "model": "llama:latest", "size": 1}]}"#;
        assert_eq!(names(ollama), Ok(vec!["llama:latest".to_owned()]));
        assert!(names("{}").is_err());
    }
}
