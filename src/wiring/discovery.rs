//! Asks providers that list their own models (Ollama, vLLM) which ones they have, now and then.

use crate::config::snapshot::Provider;
use crate::dialect::table::Dialect;
use crate::domain::ProviderKey;
use crate::provider::AuthScheme;
use crate::provider::credential::GoogleAccount;
use crate::proxy::{Core, oauth};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

/// How often the lists are asked for.
const EVERY: Duration = Duration::from_secs(30);
/// How long a provider may take to list its models.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
struct List {
    data: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    id: String,
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

/// The models that a provider lists, in OpenAI's form.
async fn list(http: &reqwest::Client, provider: &Provider) -> Result<Vec<String>, String> {
    let answer = ask(http, provider, provider.keys.first().map(|key| &**key)).await?;
    let list: List = answer.json().await.map_err(told)?;
    Ok(list.data.into_iter().map(|item| item.id).collect())
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
        Dialect::OpenAiChat if provider.cloud.is_some() => "/openai/v1/models",
        Dialect::OpenAiChat => "/models",
        Dialect::AnthropicMessages => "/v1/models",
        Dialect::Gemini if provider.cloud.is_some() => "/v1beta1/publishers/google/models",
        Dialect::Gemini => "/v1beta/models",
        Dialect::BedrockConverse => return Err("its models are not listed at this address".to_owned()),
    };
    let mut request = http.get(format!("{}{path}", provider.base));
    for (name, value) in &provider.headers {
        request = request.header(name, value);
    }
    if let Some(key) = key {
        request = match provider.auth {
            AuthScheme::Google if GoogleAccount::is_meant(key.secret.reveal()) => {
                let account = GoogleAccount::parse(key.secret.reveal())?;
                let token = oauth::buy(&account).await.map_err(|fault| fault.message.into_owned())?;
                request.bearer_auth(token.secret.reveal())
            }
            AuthScheme::Azure => request.header("api-key", key.secret.reveal()),
            AuthScheme::Bearer | AuthScheme::None | AuthScheme::Aws | AuthScheme::Google => {
                request.bearer_auth(key.secret.reveal())
            }
            AuthScheme::Header(name) => request.header(name, key.secret.reveal()),
        };
    }
    request.send().await.map_err(told)?.error_for_status().map_err(told)
}

fn told(error: reqwest::Error) -> String {
    let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
    format!("{}{source}", error.without_url())
}
