//! Presets: what the provider gets when a request names one, and what the list of models says of them.

use crate::gateway::{Gateway, saying};
use orbyt::sim::{Sim, SimDialect};
use serde_json::{Value, json};

const PRESET: &str = "[[preset]]\nslug = \"brief\"\nname = \"In brief\"\nmodel = \"one/m1\"\nfallbacks = [\"two/m2\"]\n\
    system = \"Be brief.\"\nparameters = { temperature = 0.25, max_tokens = 50 }\n[retry]\nmax = 0\n";

async fn gateway() -> (Gateway, Sim, Sim) {
    let (one, two) = (Sim::start(SimDialect::OpenAi).unwrap(), Sim::start(SimDialect::Anthropic).unwrap());
    let gateway = Gateway::builder().config(PRESET).provider("one", &one).provider("two", &two).start().await;
    (gateway, one, two)
}

#[tokio::test]
async fn a_preset_completes_a_request_and_what_the_request_says_wins() {
    let (gateway, one, _two) = gateway().await;
    let answer = gateway.chat(&saying("@preset/brief", "one two", false)).await;
    assert_eq!((answer.status, answer.header("x-model")), (200, "m1"), "{}", answer.body_text());
    let sent = one.calls().pop().unwrap().json();
    assert_eq!((&sent["temperature"], &sent["max_tokens"], &sent["model"]), (&json!(0.25), &json!(50), &json!("m1")));
    assert_eq!(sent["messages"][0], json!({"role": "system", "content": "Be brief."}));

    let mut request = saying("one/other@preset/brief", "one two", false);
    request["temperature"] = json!(1);
    request["max_completion_tokens"] = json!(9);
    let answer = gateway.chat(&request).await;
    assert_eq!((answer.status, answer.header("x-model")), (200, "other"), "{}", answer.body_text());
    let sent = one.calls().pop().unwrap().json();
    assert_eq!((&sent["temperature"], sent.get("max_tokens")), (&json!(1), None));

    let mut request = saying("one/own", "one two", true);
    request["extra"] = json!({"preset": "brief"});
    assert_eq!(gateway.chat(&request).await.header("x-model"), "own");
    let sent = one.calls().pop().unwrap().json();
    assert_eq!((sent.get("extra"), &sent["temperature"]), (None, &json!(0.25)));
}

#[tokio::test]
async fn a_presets_fallbacks_take_over_with_its_parameters_in_another_format() {
    let (gateway, one, two) = gateway().await;
    one.refuse();
    let answer = gateway.chat(&saying("@preset/brief", "one two", false)).await;
    assert_eq!((answer.status, answer.header("x-provider")), (200, "two"), "{}", answer.body_text());
    let sent = two.calls().pop().unwrap().json();
    assert_eq!((&sent["temperature"], &sent["max_tokens"]), (&json!(0.25), &json!(50)), "{sent}");
    assert!(sent["system"].to_string().contains("Be brief."), "{sent}");
    assert_eq!(gateway.log_line(&answer).await["requested_model"], "@preset/brief");
}

#[tokio::test]
async fn presets_are_listed_and_unknown_ones_named() {
    let (gateway, _one, _two) = gateway().await;
    let key = format!("Bearer {}", crate::gateway::KEY);
    let url = format!("{}/v1/models", gateway.url);
    let list = orbyt::sim::client::send("GET", &url, &[("authorization", &key)], b"").await.unwrap();
    let list: Value = serde_json::from_str(&list.body_text()).unwrap();
    let first = &list["data"][0];
    assert_eq!(
        (&first["id"], &first["owned_by"], &first["name"]),
        (&json!("@preset/brief"), &json!("orbyt"), &json!("In brief"))
    );
    let answer = gateway.chat(&saying("@preset/breif", "x", false)).await;
    let error: Value = serde_json::from_str(&answer.body_text()).unwrap();
    assert_eq!((answer.status, &error["error"]["code"]), (404, &json!("model_not_found")));
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.contains("\"breif\"") && message.contains("there are brief"), "{message}");
}

#[tokio::test]
async fn openrouters_own_preset_is_left_to_it_and_to_nobody_else() {
    let (openrouter, other) = (Sim::start(SimDialect::OpenAi).unwrap(), Sim::start(SimDialect::OpenAi).unwrap());
    let builder = Gateway::builder().config("[retry]\nmax = 0\n").provider("openrouter", &openrouter);
    let gateway = builder.provider("other", &other).start().await;
    let mut request = saying("openrouter/a/model", "one two", false);
    request["preset"] = json!("of-my-account");
    request["models"] = json!(["other/m"]);
    assert_eq!(gateway.chat(&request).await.status, 200);
    assert_eq!(openrouter.calls().pop().unwrap().json()["preset"], "of-my-account");
    openrouter.always(orbyt::sim::SimFault::ServerError);
    let answer = gateway.chat(&request).await;
    assert_eq!((answer.status, answer.header("x-provider")), (200, "other"), "{}", answer.body_text());
    assert_eq!(other.calls().pop().unwrap().json().get("preset"), None);
    request["model"] = json!("other/m");
    assert_eq!(gateway.chat(&request).await.status, 404, "nobody there knows it");
}

#[tokio::test]
async fn routes_that_pass_take_a_presets_model_and_members() {
    let (one, two) = (Sim::start(SimDialect::OpenAi).unwrap(), Sim::start(SimDialect::OpenAi).unwrap());
    let config = "[[preset]]\nslug = \"poster\"\nmodel = \"one/painter\"\nfallbacks = [\"two/painter\"]\nsystem = \"Unheard.\"\n\
        parameters = { size = \"1024x1536\", n = 2, response_format = \"b64_json\", tags = [\"a\", \"b\"] }\n[retry]\nmax = 0\n";
    let gateway = Gateway::builder().config(config).provider("one", &one).provider("two", &two).start().await;
    let key = format!("Bearer {}", crate::gateway::KEY);
    let ask = async |path: &str, content_type: &str, body: &[u8]| {
        let headers = [("authorization", key.as_str()), ("content-type", content_type)];
        orbyt::sim::client::send("POST", &format!("{}{path}", gateway.url), &headers, body).await.unwrap()
    };
    let json = "application/json";
    for (body, sent) in [
        (
            r#"{"model":"@preset/poster", "prompt":"\u00e9"}"#,
            r#"{"model":"painter", "prompt":"\u00e9","n":2,"response_format":"b64_json","size":"1024x1536","tags":["a","b"]}"#,
        ),
        (
            r#"{"model":"one/other@preset/poster","n":null,"size":"256x256","prompt":"x"}"#,
            r#"{"model":"other","n":null,"size":"256x256","prompt":"x","response_format":"b64_json","tags":["a","b"]}"#,
        ),
        (
            r#"{"prompt":"x","extra":{"preset":"poster"},"response_format":"url","tags":[],"n":1}"#,
            r#"{"model":"painter","prompt":"x","response_format":"url","tags":[],"n":1,"size":"1024x1536"}"#,
        ),
    ] {
        let answer = ask("/v1/images/generations", json, body.as_bytes()).await;
        assert_eq!((answer.status, answer.header("x-provider")), (200, "one"), "{}", answer.body_text());
        let call = one.calls().pop().unwrap();
        assert_eq!(String::from_utf8(call.body).unwrap(), sent);
    }
    // In a form, and with its stand-in.
    one.refuse();
    let form = "multipart/form-data; boundary=edge";
    let part =
        |name: &str, text: &str| format!("--edge\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n");
    let own = [
        part("model", "@preset/poster"),
        part("n", "1"),
        part("prompt", "x"),
        "--edge\r\nContent-Disposition: form-data; name=\"image\"; filename=\"p.png\"\r\n\r\nPNG\r\n--edge--\r\n"
            .to_owned(),
    ];
    let answer = ask("/v1/images/edits", form, own.concat().as_bytes()).await;
    assert_eq!((answer.status, answer.header("x-provider")), (200, "two"), "{}", answer.body_text());
    let sent = String::from_utf8(two.calls().pop().unwrap().body).unwrap().to_lowercase();
    let added =
        [part("response_format", "b64_json"), part("size", "1024x1536"), part("tags[]", "a"), part("tags[]", "b")];
    assert!(sent.contains(&part("n", "1").to_lowercase()) && !sent.contains(&part("n", "2").to_lowercase()), "{sent}");
    assert!(sent.ends_with(&[&added.concat().to_lowercase(), "--edge--\r\n"].concat()), "{sent}");
    assert!(sent.contains("name=\"model\"\r\n\r\npainter\r\n"), "{sent}");
    let unknown = ask("/v1/rerank", json, br#"{"model":"@preset/poste","query":"q","documents":[]}"#).await;
    assert_eq!((unknown.status, &unknown.json()["error"]["param"]), (404, &json!("model")), "{}", unknown.body_text());
    let speech = ask("/v1/audio/speech", json, br#"{"model":"two/m@preset/poster","input":"hello","voice":"v"}"#).await;
    assert_eq!((speech.status, speech.header("content-type")), (200, "audio/mpeg"), "{}", speech.body_text());
    let called = two.calls().pop().unwrap().json();
    assert_eq!((&called["voice"], &called["model"], called.get("system")), (&json!("v"), &json!("m"), None));
}
