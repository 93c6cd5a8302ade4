//! What is set in the console: models, presets, routing settings, keys of providers, budgets; and the gateway's live state.

use crate::admin_api::{Client, id};
use crate::gateway::{Gateway, PATIENCE, saying};
use crate::postgres;
use orbyt::sim::{Sim, SimDialect, SimFault};
use serde_json::{Value, json};
use std::time::Instant;

/// Which model the provider is asked for when a client asks for this one, or the status that the client gets instead.
async fn asked(sim: &Sim, gateway: &Gateway, model: &str) -> String {
    match gateway.chat(&saying(model, "x", false)).await.status {
        200 => sim.calls().last().unwrap().json()["model"].as_str().unwrap().to_owned(),
        status => status.to_string(),
    }
}

/// Waits until that is so: a busy machine may read its configuration again a moment after the API has answered.
async fn becomes(sim: &Sim, gateway: &Gateway, model: &str, expected: &str) {
    let started = Instant::now();
    while asked(sim, gateway, model).await != expected {
        assert!(started.elapsed() < PATIENCE, "{model} does not become {expected}\n{}", gateway.output());
    }
}

#[tokio::test]
async fn models_and_presets_hold_at_once_here_and_soon_on_other_nodes() {
    let postgres = postgres::Database::create().await;
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let node = || Gateway::builder().provider("one", &sim).variable("DATABASE_URL", &postgres.url());
    let (here, there) = (node().start().await, node().start().await);
    let admin = Client::administrator(&here);
    assert_eq!(asked(&sim, &here, "house").await, "house", "a name that nobody knows is the provider's");
    assert_eq!(admin.put("/models/house", &json!({"targets": ["one/sim-ok"]})).await.status, 201);
    becomes(&sim, &here, "house", "sim-ok").await;
    becomes(&sim, &there, "house", "sim-ok").await;
    let unknown = asked(&sim, &here, "@preset/terse").await;
    let preset = json!({"model": "house", "system": "Be brief.", "parameters": {"temperature": 0.5}});
    assert_eq!(admin.put("/presets/terse", &preset).await.status, 201);
    becomes(&sim, &here, "@preset/terse", "sim-ok").await;
    let sent = sim.calls().last().unwrap().json();
    assert_eq!((&sent["messages"][0]["content"], &sent["temperature"]), (&json!("Be brief."), &json!(0.5)), "{sent}");
    assert_eq!(admin.delete("/presets/terse").await.status, 204);
    assert_ne!(unknown, "sim-ok");
    becomes(&sim, &here, "@preset/terse", &unknown).await;
    assert_eq!(admin.delete("/presets/terse").await.status, 404);
}

#[tokio::test]
async fn the_file_goes_first_and_the_answer_says_so() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let file = "[retry]\nmax = 0\nbase = \"1ms\"\n[[preset]]\nslug = \"of-file\"\nmodel = \"one/sim-ok\"\n";
    let gateway = Gateway::builder().provider("one", &sim).config(file).start().await;
    let admin = Client::administrator(&gateway);
    let answer = admin.put("/presets/of-file", &json!({"model": "one/other"})).await;
    assert_eq!((answer.status, &answer.json()["in_force"]), (201, &false.into()), "{}", answer.body_text());
    assert!(answer.json()["note"].as_str().unwrap().contains("goes first"));
    let listed = admin.get("/presets").await.json();
    let sources: Vec<_> =
        listed["data"].as_array().unwrap().iter().map(|it| (&it["source"], &it["in_force"])).collect();
    assert_eq!(sources, [(&json!("file"), &json!(true)), (&json!("stored"), &json!(false))], "{listed}");
    assert_eq!(admin.get("/presets/of-file").await.json()["source"], "file");
    let ours = admin.get("/presets/of-file?source=stored").await;
    assert_eq!(ours.json()["source"], "stored");
    let [tag, new] = [ours.header("etag"), "*"];
    let changed = json!({"model": "one/third"}).to_string();
    let put = async |condition: (&str, &str)| {
        let headers = [("content-type", "application/json"), condition];
        admin.send("PUT", "/presets/of-file", &headers, changed.as_bytes()).await.status
    };
    assert_eq!(put(("if-none-match", new)).await, 412, "it is not new");
    assert_eq!(put(("if-match", tag)).await, 200);
    assert_eq!(put(("if-match", tag)).await, 412, "it has changed");

    let answer = admin.put("/routing/retry", &json!({"max": 3, "cap": "2ms"})).await;
    assert!(answer.json()["note"].as_str().is_some_and(|note| note.contains("for max")), "{}", answer.body_text());
    let retry = &admin.get("/config").await.json()["retry"];
    assert_eq!((&retry["max"], &retry["cap"]), (&json!(0), &json!("2ms")));

    // What would not fit is refused where it is asked for, and nothing changes.
    for (path, body, at) in [
        ("/presets/x", json!({"model": "nobody/nothing"}), "/model"),
        ("/presets/x", json!({"strategy": "best"}), "/strategy"),
        ("/presets/x", json!({"unknown": 1}), "/unknown"),
        ("/presets/x", json!({"system": null}), "body"),
        ("/presets/no such", json!({}), "/slug"),
        ("/models/x", json!({}), "body"),
        ("/models/x", json!([]), "body"),
        ("/routing/retry", json!({"max": 99}), "/max"),
    ] {
        let answer = admin.put(&path.replace(' ', "%20"), &body).await;
        assert_eq!(answer.status, 422, "{path} {body}: {}", answer.body_text());
        assert_eq!(answer.json()["at"], at, "{path} {body}: {}", answer.body_text());
    }
    assert_eq!(admin.put("/routing/server", &json!({"listen": 1})).await.status, 404);
    assert_eq!(admin.get("/config").await.json()["retry"]["max"], 0);

    let tag = admin.get("/routing/retry").await.header("etag").to_owned();
    assert_eq!(admin.put("/routing/retry", &json!({"cap": "3ms"})).await.status, 200);
    let late = admin.send("DELETE", "/routing/retry", &[("if-match", &tag)], b"").await;
    assert_eq!(late.status, 412);
}

#[tokio::test]
async fn a_key_goes_into_the_vault_and_is_used_and_never_comes_out() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let gateway = Gateway::builder().provider("one", &sim).start().await;
    let admin = Client::administrator(&gateway);
    let added = admin
        .post("/provider-keys", &json!({"provider": "one", "key": "canary-key-0123456789abcdef", "name": "second"}))
        .await;
    let key = id(&added);
    assert_eq!(added.json()["label"], "can•••def");
    let pool = admin.get("/pool").await.json();
    let names: Vec<_> = pool["data"].as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["one_01", "second"], "{pool}");
    let used = async || {
        gateway.chat(&saying("one/sim-ok", "x", false)).await;
        sim.calls().last().unwrap().header("authorization") == Some("Bearer canary-key-0123456789abcdef")
    };
    let started = Instant::now();
    while !used().await {
        assert!(started.elapsed() < PATIENCE, "it is never used");
    }
    for path in ["/provider-keys", "/pool", "/config", "/audit", "/health"] {
        assert!(!admin.get(path).await.body_text().contains("canary-key-0123456789abcdef"), "{path}");
    }
    assert_eq!(admin.delete(&format!("/provider-keys/{key}")).await.status, 204);
    assert_eq!(admin.get("/pool").await.json()["data"].as_array().unwrap().len(), 1);
    assert_eq!(admin.post("/provider-keys", &json!({"provider": "nobody", "key": "x"})).await.status, 422);
}

#[tokio::test]
async fn the_pool_the_breakers_and_the_cache_are_seen_and_set_right() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let config = "[retry]\nmax = 0\n[cache]\nbackend = \"memory\"\n";
    let gateway = Gateway::builder().config(config).provider("one", &sim).start().await;
    let admin = Client::administrator(&gateway);
    sim.script([SimFault::BadKey]);
    gateway.chat(&saying("one/sim-ok", "x", false)).await;
    let state = async || admin.get("/pool").await.json()["data"][0]["state"].clone();
    assert_eq!(state().await, "disabled");
    assert_eq!(admin.post("/pool/one/one_01/enable", &Value::Null).await.status, 204);
    assert_eq!(state().await, "idle");
    assert_eq!(admin.post("/pool/one/nobody/enable", &Value::Null).await.status, 404);

    for _ in 0..2 {
        assert_eq!(gateway.chat(&saying("one/sim-ok", "again", false)).await.status, 200);
    }
    let breakers = admin.get("/breakers").await.json();
    assert_eq!((&breakers["data"][0]["provider"], &breakers["data"][0]["state"]), (&json!("one"), &json!("closed")));
    assert_eq!(admin.get("/cache").await.json()["entries"], 1);
    assert_eq!(admin.delete("/cache").await.status, 204);
    assert_eq!(admin.get("/cache").await.json()["entries"], 0);
    assert_eq!(gateway.chat(&saying("one/sim-ok", "again", false)).await.header("x-cache"), "MISS");
}

#[tokio::test]
async fn budgets_and_credits_bind_from_the_next_request_on() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let base_url = sim.base_url();
    let config = format!(
        "[[provider]]\nid = 'one'\ndialect = 'openai_chat'\nbase_url = '{base_url}'\n[[provider.key]]\nsecret = 'key-in-clear'\n\
         [[provider.model]]\nid = 'sim-ok'\ninput = '1000'\noutput = '1000'\nmax_output = 100\n"
    );
    let gateway = Gateway::builder().config(&config).start().await;
    let admin = Client::administrator(&gateway);
    let wanted = json!({"org": "org_default", "payer": "org", "span": "day", "amount_usd": "0"});
    let budget = id(&admin.post("/budgets", &wanted).await);
    assert_eq!(gateway.chat(&saying("one/sim-ok", "x", false)).await.status, 402);
    let listed = admin.get("/budgets").await.json();
    assert_eq!((&listed["data"][0]["amount_usd"], &listed["data"][0]["spent_usd"]), (&json!("0"), &json!("0")));
    assert_eq!(admin.delete(&format!("/budgets/{budget}")).await.status, 204);
    assert_eq!(gateway.chat(&saying("one/sim-ok", "x", false)).await.status, 200);
    let paid = json!({"org": "org_default", "amount_usd": "2.50", "note": "invoice 1"});
    assert_eq!(admin.post("/credits", &paid).await.status, 201);
    let credits = admin.get("/credits").await.json();
    assert_eq!(
        (&credits["data"]["total_credits"], &credits["data"]["organisations"][0]["paid_usd"]),
        (&json!(2.5), &json!("2.5"))
    );
}
