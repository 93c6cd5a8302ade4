//! Asks providers that list their own models (Ollama, vLLM) which ones they have, now and then.

use super::ask::Asker;
use crate::config::snapshot::Provider;
use crate::proxy::Core;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

/// How often the lists are asked for.
const EVERY: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
struct List {
    data: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    id: String,
}

/// Keeps the lists up to date for as long as the gateway runs. A provider that does not answer keeps its last list.
pub(super) async fn keep_up(core: Arc<Core>, asker: Arc<Asker>) {
    loop {
        let snapshot = core.snapshot.load_full();
        let mut lists = Vec::new();
        for provider in snapshot.providers.iter().filter(|provider| provider.discovers) {
            let old =
                || core.discovered.load().iter().find(|(id, _)| *id == provider.id).map(|(_, models)| models.clone());
            match list(&asker, provider).await {
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

/// The models that a provider lists, in OpenAI's form.
async fn list(asker: &Asker, provider: &Provider) -> Result<Vec<String>, String> {
    let answer = asker.ask(provider, provider.keys.first().map(|key| &**key)).await.map_err(|error| error.message)?;
    let body = answer.body().await.map_err(|error| error.message)?;
    let list: List = serde_json::from_slice(&body).map_err(|error| format!("its list is not OpenAI's: {error}"))?;
    Ok(list.data.into_iter().map(|item| item.id).collect())
}
