//! The list of models as Google's and Anthropic's clients ask for it.

use crate::api_keys::create;
use crate::gateway::{Gateway, KEY};
use orbyt::sim::client::{self, Answer};
use orbyt::sim::{Sim, SimDialect};
use serde_json::{Value, json};

async fn gateway() -> (Gateway, Sim, Sim) {
    let (openai, anthropic) = (Sim::start(SimDialect::OpenAi).unwrap(), Sim::start(SimDialect::Anthropic).unwrap());
    let alias = "[[model]]\nname = \"house\"\ntargets = [\"openai/gpt-4o\"]\n";
    let builder = Gateway::builder().config(alias).provider("openai", &openai).provider("anthropic", &anthropic);
    (builder.start().await, openai, anthropic)
}

async fn get(gateway: &Gateway, path: &str, headers: &[(&str, &str)]) -> Answer {
    client::send("GET", &format!("{}{path}", gateway.url), headers, b"").await.unwrap()
}

fn named<'a>(list: &'a Value, id: &str) -> &'a Value {
    let found = list.as_array().unwrap().iter().find(|model| model["name"] == id || model["id"] == id);
    found.unwrap_or_else(|| panic!("no {id} in {list}"))
}

#[tokio::test]
async fn googles_clients_page_through_what_there_is() {
    let (gateway, _openai, _anthropic) = gateway().await;
    let key = [("x-goog-api-key", KEY)];
    let (mut token, mut models) = (String::new(), Vec::new());
    for page in 0.. {
        assert!(page < 100, "no end of it");
        let answer = get(&gateway, &format!("/v1beta/models?pageSize=7&pageToken={token}"), &key).await;
        assert_eq!(answer.status, 200, "{}", answer.body_text());
        let list = answer.json();
        models.extend(list["models"].as_array().unwrap().clone());
        match list["nextPageToken"].as_str() {
            Some(next) => next.clone_into(&mut token),
            None => break,
        }
    }
    let all = get(&gateway, "/v1beta/models?pageSize=1000", &key).await.json();
    assert_eq!(all["models"], json!(models));
    let openai = get(&gateway, "/v1/models", &[("authorization", &format!("Bearer {KEY}"))]).await.json();
    assert_eq!(openai["data"].as_array().unwrap().len(), models.len());
    let model = named(&all["models"], "models/openai/gpt-4o");
    assert_eq!(
        (&model["inputTokenLimit"], &model["supportedGenerationMethods"][0]),
        (&json!(128_000), &json!("generateContent"))
    );
    assert_eq!(named(&all["models"], "models/house")["baseModelId"], "house");
    let vectors = named(&all["models"], "models/openai/text-embedding-3-small");
    assert_eq!(vectors["supportedGenerationMethods"], json!(["embedContent", "batchEmbedContents"]));

    for path in ["/v1beta/models/openai/gpt-4o", "/v1/v1beta/models/openai%2Fgpt-4o", "/v1/models/openai/gpt-4o"] {
        let one = get(&gateway, path, &key).await;
        assert_eq!((one.status, &one.json()), (200, model), "{path}");
    }
    // Some have their key in the query.
    assert_eq!(get(&gateway, &format!("/v1beta/models?key={KEY}"), &[]).await.status, 200);
    let unknown = get(&gateway, "/v1beta/models/nobody/x", &key).await;
    assert_eq!((unknown.status, &unknown.json()["error"]["status"]), (404, &json!("NOT_FOUND")));
    let wrong = get(&gateway, "/v1beta/models?pageToken=x", &key).await;
    assert_eq!((wrong.status, &wrong.json()["error"]["status"]), (400, &json!("INVALID_ARGUMENT")));
    let wrong = client::send("POST", &format!("{}/v1beta/models", gateway.url), &key, b"{}").await.unwrap();
    assert_eq!((wrong.status, wrong.header("allow")), (405, "GET"));
}

#[tokio::test]
async fn anthropics_clients_are_told_by_their_version_or_their_path() {
    let (gateway, _openai, _anthropic) = gateway().await;
    let key = ("x-api-key", KEY);
    for (path, headers) in
        [("/v1/models", vec![key, ("anthropic-version", "2023-06-01")]), ("/anthropic/v1/models", vec![key])]
    {
        let first = get(&gateway, &format!("{path}?limit=2"), &headers).await.json();
        assert_eq!((first["data"].as_array().unwrap().len(), &first["has_more"]), (2, &json!(true)), "{path}");
        let next = format!("{path}?limit=1000&after_id={}", first["last_id"].as_str().unwrap());
        let rest = get(&gateway, &next, &headers).await.json();
        assert_eq!(rest["has_more"], false);
        let whole = get(&gateway, &format!("{path}?limit=1000"), &headers).await.json();
        let both: Vec<Value> =
            [&first, &rest].iter().flat_map(|page| page["data"].as_array().unwrap().clone()).collect();
        assert_eq!(whole["data"], json!(both), "{path}");
        let model = named(&whole["data"], "anthropic/claude-opus-4.5");
        assert_eq!((&model["type"], model["display_name"].is_string()), (&json!("model"), true), "{model}");
        assert!(model["created_at"].as_str().unwrap().ends_with('Z') && model["max_tokens"].is_u64(), "{model}");
        let one = get(&gateway, &format!("{path}/anthropic/claude-opus-4.5"), &headers).await.json();
        assert_eq!(&one, model);
        let unknown = get(&gateway, &format!("{path}/nobody/x"), &headers).await;
        assert_eq!((unknown.status, &unknown.json()["error"]["type"]), (404, &json!("not_found_error")), "{path}");
    }
}

#[tokio::test]
async fn what_a_key_may_not_use_is_in_nobodys_list() {
    let (gateway, _openai, _anthropic) = gateway().await;
    let key = create(&gateway, &["--name", "narrow", "--providers", "anthropic"]);
    let google = get(&gateway, "/v1beta/models?pageSize=1000", &[("x-goog-api-key", &key)]).await.json();
    let anthropic = get(&gateway, "/anthropic/v1/models?limit=1000", &[("x-api-key", &key)]).await.json();
    for (list, member) in [(&google["models"], "name"), (&anthropic["data"], "id")] {
        let names: Vec<&str> = list.as_array().unwrap().iter().map(|model| model[member].as_str().unwrap()).collect();
        assert!(!names.is_empty() && names.iter().all(|name| name.contains("anthropic/")), "{names:?}");
    }
    let other = get(&gateway, "/v1beta/models/openai/gpt-4o", &[("x-goog-api-key", &key)]).await;
    assert_eq!(other.status, 404, "{}", other.body_text());
    let routes = create(&gateway, &["--name", "routes", "--routes", "/v1beta/models"]);
    assert_eq!(get(&gateway, "/v1beta/models", &[("x-goog-api-key", &routes)]).await.status, 200);
    assert_eq!(get(&gateway, "/v1/models", &[("authorization", &format!("Bearer {routes}"))]).await.status, 403);
}
