//! Asks providers that list their own models (Ollama, vLLM) which ones they have, now and then.

use crate::config::snapshot::Provider;
use crate::proxy::Core;
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
    let Ok(http) = client() else { return };
    loop {
        let snapshot = core.snapshot.load_full();
        let mut lists = Vec::new();
        for provider in snapshot.providers.iter().filter(|provider| provider.discovers) {
            let old = || core.discovered.load().iter().find(|(id, _)| *id == provider.id).map(|(_, models)| models.clone());
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
///
/// # Errors
/// A text without any key.
async fn list(http: &reqwest::Client, provider: &Provider) -> Result<Vec<String>, String> {
    let url = format!("{}/models", provider.base);
    let mut request = http.get(url);
    if let Some(key) = provider.keys.first() {
        request = request.bearer_auth(key.secret.reveal());
    }
    let told = |error: reqwest::Error| error.without_url().to_string();
    let answer = request.send().await.map_err(told)?.error_for_status().map_err(told)?;
    let list: List = answer.json().await.map_err(told)?;
    Ok(list.data.into_iter().map(|item| item.id).collect())
}
