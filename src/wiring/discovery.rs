//! Asks providers that list their own models (Ollama, vLLM) which ones they have, now and then.

use super::ask::Asker;
use crate::config::snapshot::Provider;
use crate::proxy::Core;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

/// How often the lists are asked for.
const EVERY: Duration = Duration::from_secs(30);

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

/// The models that a provider lists.
async fn list(asker: &Asker, provider: &Provider) -> Result<Vec<String>, String> {
    let answer = asker.ask(provider, provider.keys.first().map(|key| &**key)).await.map_err(|error| error.message)?;
    let body = answer.body().await.map_err(|error| error.message)?;
    let list: List = serde_json::from_slice(&body).map_err(|error| format!("its list cannot be read: {error}"))?;
    list.names()
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
