//! The clouds: signatures and event streams of Bedrock, paths and keys of Azure, tokens and paths of Vertex.

use crate::gateway::{Gateway, PATIENCE, saying};
use crate::gemini::{self, Generated, How, asking};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use orbyt::sim::{Call, Sim, SimDialect, SimFault, TOKEN};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::time::Instant;

/// A configuration with one provider.
pub(crate) fn provider(id: &str, sim: &Sim, more: &str) -> String {
    format!("[retry]\nmax = 0\n[[provider]]\nid = \"{id}\"\nbase_url = \"http://{}\"\n{more}\n", sim.address())
}

pub(crate) fn key(secret: &str) -> String {
    format!("[[provider.key]]\nsecret = '{secret}'\n")
}

// ------------------------------------------------------------------------------------------------------------ Bedrock

/// The signature of a call as Amazon's document describes it, computed from what arrived and nothing else.
fn expected_signature(call: &Call, secret: &str, region: &str) -> String {
    fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
        let mut block = [0_u8; 64];
        block[..key.len()].copy_from_slice(key);
        let pad = |with: u8| block.iter().map(|byte| byte ^ with).collect::<Vec<u8>>();
        let inner = Sha256::digest([pad(0x36), message.to_vec()].concat());
        Sha256::digest([pad(0x5c), inner.to_vec()].concat()).to_vec()
    }
    let authorization = call.header("authorization").unwrap();
    let signed = authorization.split("SignedHeaders=").nth(1).unwrap().split(',').next().unwrap();
    let headers: String = signed.split(';').map(|name| format!("{name}:{}\n", call.header(name).unwrap())).collect();
    let path = call.path.replace('%', "%25");
    let body = hex::encode(Sha256::digest(&call.body));
    let canonical = format!("{}\n{path}\n{}\n{headers}\n{signed}\n{body}", call.method, call.query);
    let time = call.header("x-amz-date").unwrap();
    let scope = format!("{}/{region}/bedrock/aws4_request", &time[..8]);
    let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex::encode(Sha256::digest(canonical)));
    let key = scope.split('/').fold(format!("AWS4{secret}").into_bytes(), |key, part| hmac(&key, part.as_bytes()));
    hex::encode(hmac(&key, to_sign.as_bytes()))
}

#[tokio::test]
async fn requests_to_bedrock_are_signed_over_all_that_is_sent() {
    let sim = Sim::start(SimDialect::Bedrock).unwrap();
    let keys = key("AKIDOFTHETESTS:secret/of+the=tests:session-of-the-tests");
    let gateway =
        Gateway::builder().config(&provider("bedrock", &sim, &format!("region = 'eu-west-3'\n{keys}"))).start().await;
    for stream in [false, true] {
        let answer = gateway.chat(&saying("bedrock/eu.amazon.nova-lite-v1:0", "one two three", stream)).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "one two three"), "{}", answer.body_text());
        assert_eq!(answer.finish_reasons(), ["stop"]);
        assert_eq!((answer.header("x-provider"), answer.header("x-model")), ("bedrock", "eu.amazon.nova-lite-v1:0"));
    }
    let calls = sim.calls();
    let paths: Vec<&str> = calls.iter().map(|call| call.path.as_str()).collect();
    assert_eq!(
        paths,
        ["/model/eu.amazon.nova-lite-v1%3A0/converse", "/model/eu.amazon.nova-lite-v1%3A0/converse-stream"]
    );
    for call in &calls {
        let authorization = call.header("authorization").unwrap();
        assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKIDOFTHETESTS/"), "{authorization}");
        assert!(
            authorization.ends_with(&expected_signature(call, "secret/of+the=tests", "eu-west-3")),
            "{authorization}"
        );
        assert!(authorization.contains("x-amz-security-token"), "{authorization}");
        assert_eq!(call.header("x-amz-security-token"), Some("session-of-the-tests"));
        let seen = format!("{call:?}");
        assert!(!seen.contains("secret/of"), "the secret key was sent");
    }
    assert_eq!(calls[1].header("accept"), Some("application/vnd.amazon.eventstream"));
    assert!(!gateway.output().contains("secret/of"), "the secret key was printed");
}

#[tokio::test]
async fn bedrock_calls_tools_and_reads_what_they_answered() {
    let sim = Sim::start(SimDialect::Bedrock).unwrap();
    let gateway = Gateway::builder().config(&provider("bedrock", &sim, &key("an-api-key"))).start().await;
    let tool = json!({"type": "function", "function": {"name": "weather", "strict": true, "parameters": {"type": "object",
        "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": false}}});
    for stream in [false, true] {
        let mut request = saying("bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0", "weather please", stream);
        request["tools"] = json!([tool]);
        request["reasoning_effort"] = json!("low");
        let answer = gateway.chat(&request).await;
        assert_eq!(answer.finish_reasons(), ["tool_calls"], "{}", answer.body_text());
        assert!(answer.body_text().contains("anthropic-claude-v1"), "no reasoning details: {}", answer.body_text());
        if stream {
            continue;
        }
        let message = answer.json()["choices"][0]["message"].clone();
        let id = message["tool_calls"][0]["id"].clone();
        assert_eq!(message["tool_calls"][0]["function"]["name"], "weather");
        let messages = request["messages"].as_array_mut().unwrap();
        messages.push(message);
        messages.push(json!({"role": "tool", "tool_call_id": id, "content": "sunny"}));
        let answer = gateway.chat(&request).await;
        assert_eq!(answer.text(), "weather said: sunny", "{}", answer.body_text());
    }
    assert!(sim.calls().iter().all(|call| call.header("authorization") == Some("Bearer an-api-key")));
}

#[tokio::test]
async fn a_key_that_bedrock_refuses_makes_way_for_the_next() {
    let sim = Sim::start(SimDialect::Bedrock).unwrap();
    sim.only_keys(&["AKIDTWO"]);
    let keys = key("AKIDONE:one") + &key("AKIDTWO:two");
    let gateway = Gateway::builder().config(&provider("bedrock", &sim, &keys)).start().await;
    let answer = gateway.chat(&saying("bedrock/m", "one", false)).await;
    assert_eq!((answer.status, answer.header("x-orbyt-attempts")), (200, "2"), "{}", answer.body_text());
}

#[tokio::test]
async fn amazons_variables_and_a_region_are_a_provider() {
    let sim = Sim::start(SimDialect::Bedrock).unwrap();
    let gateway = Gateway::builder()
        .variable("AWS_ACCESS_KEY_ID", "AKIDENV")
        .variable("AWS_SECRET_ACCESS_KEY", "secret-of-the-environment")
        .variable("AWS_REGION", "ap-south-1")
        .variable("BEDROCK_BASE_URL", &format!("http://{}", sim.address()))
        .start()
        .await;
    let answer = gateway.chat(&saying("bedrock/m", "one", true)).await;
    assert_eq!(answer.text(), "one", "{}", answer.body_text());
    let call = &sim.calls()[0];
    let authorization = call.header("authorization").unwrap();
    assert!(authorization.contains("Credential=AKIDENV/") && authorization.contains("/ap-south-1/bedrock/"));
    assert!(authorization.ends_with(&expected_signature(call, "secret-of-the-environment", "ap-south-1")));
}

// -------------------------------------------------------------------------------------------------------------- Azure

#[tokio::test]
async fn azure_is_asked_by_its_paths_with_its_keys() {
    for (more, secret, path, query) in [
        ("", "key-of-azure", "/openai/v1/chat/completions", ""),
        ("api_version = 'preview'", "key-of-azure", "/openai/v1/chat/completions", "api-version=preview"),
        (
            "api_version = '2024-10-21'\ndeployments = { 'gpt-4o' = 'our-4o' }",
            "eyJhbGciOi.eyJhdWQiOi.c2lnbmF0dXJl",
            "/openai/deployments/our-4o/chat/completions",
            "api-version=2024-10-21",
        ),
    ] {
        let sim = Sim::start(SimDialect::OpenAi).unwrap();
        let gateway =
            Gateway::builder().config(&provider("azure", &sim, &format!("{more}\n{}", key(secret)))).start().await;
        for stream in [false, true] {
            let answer = gateway.chat(&saying("azure/gpt-4o", "one two", stream)).await;
            assert_eq!((answer.status, answer.text().as_str()), (200, "one two"), "{}", answer.body_text());
        }
        for call in sim.calls() {
            assert_eq!((call.path.as_str(), call.query.as_str()), (path, query));
            let bearer = format!("Bearer {secret}");
            let expected = if secret.starts_with("ey") { (None, Some(bearer.as_str())) } else { (Some(secret), None) };
            assert_eq!((call.header("api-key"), call.header("authorization")), expected);
        }
    }
}

#[tokio::test]
async fn azures_filter_is_passed_on_and_its_refusal_understood() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let spare = Sim::start(SimDialect::OpenAi).unwrap();
    let config = provider("azure", &sim, &key("key-of-azure"));
    let gateway = Gateway::builder().config(&config).provider("spare", &spare).start().await;
    let filtered = json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m",
        "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {"hate": {"filtered": false, "severity": "safe"}}}],
        "choices": [{"index": 0, "finish_reason": "content_filter", "message": {"role": "assistant", "content": "half"},
            "content_filter_results": {"violence": {"filtered": true, "severity": "high"}}}]});
    let reply = |status, body: &Value| orbyt::sim::Step::Reply { status, headers: Vec::new(), body: body.to_string() };
    let refusal = json!({"error": {"message": "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
        "type": null, "param": "prompt", "code": "content_filter", "status": 400,
        "innererror": {"code": "ResponsibleAIPolicyViolation"}}});
    sim.script([reply(200, &filtered), reply(400, &refusal)]);
    let answer = gateway.chat(&saying("azure/m", "one", false)).await;
    assert_eq!(answer.json()["choices"][0]["content_filter_results"]["violence"]["filtered"], true);
    assert_eq!(answer.json()["prompt_filter_results"], filtered["prompt_filter_results"]);
    let mut request = saying("azure/m", "one", false);
    request["extra"] = json!({"fallback_models": ["spare/sim-ok"]});
    let answer = gateway.chat(&request).await;
    assert_eq!((answer.status, answer.header("x-provider")), (200, "spare"), "{}", answer.body_text());
}

#[tokio::test]
async fn azures_variables_are_a_provider_only_together() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let with_endpoint = Gateway::builder()
        .variable("AZURE_OPENAI_API_KEY", "key-of-azure")
        .variable("AZURE_OPENAI_ENDPOINT", &format!("http://{}/", sim.address()))
        .variable("OPENAI_API_VERSION", "2024-10-21")
        .start()
        .await;
    assert_eq!(with_endpoint.chat(&saying("azure/d", "one", false)).await.text(), "one");
    assert_eq!(sim.calls()[0].path, "/openai/deployments/d/chat/completions");
    let without = Gateway::builder().variable("AZURE_OPENAI_API_KEY", "key-of-azure").start().await;
    without.until("the advice", || without.output().contains("AZURE_OPENAI_ENDPOINT")).await;
}

// ------------------------------------------------------------------------------------------------------------- Vertex

/// A key made for these tests, in DER (PKCS #1).
const PRIVATE_KEY: &str = "\
    MIIEowIBAAKCAQEA69JuIbV/BmMSh8PTD59Vefu0tAmmOF0d1TitfocT5uMhltgYKr8fEqMKcKLmso8jqM2k3AP5B//g3I9HRmYC\
    hDOvIhXRseHdUdKl6LshD+ejdB/uYw3k88XejqZvbAmKaQiR2zUYAUE3lFsqTKZo3Fa+oFv3m37s4iLp0cG2jNyq7wdBKyLO0zRY\
    /IXcFIPRX1ExLu3xadoDEw/yVoNaEMo3cXcs6vaTK41DkXlEpx+WEvb4uL+n09CD2nguPWH7wUltONPL+cMGNzYakFo4tlALWS2n\
    7aiJ/VYZ4CNPkXNVETvBkBpDHPFOZeiyfLVob0PeZ8pmXLp99/s9xDut6QIDAQABAoIBAAObsuUvpHupyOcMYz6WMsXcyNFHY4Rx\
    wkrYpOjucqrB92naMRZ4WaacmYSLLYn2YDaNPPRD2Evbyao+Q/orBedVbhzQpiZ5XPxLQ5AZyuH2Kp1Ufr6DwCjNsn/Owp4t0DEW\
    uTqYJ5+fSpUpxu4ozqpuZljIR3PY35F/NMIpm1ww3aTWyyMztaci+vQvpA6pYZA5CR6LjKze1kizgqVI1nBMVD0r5r9Pc9mvPYLH\
    prIOMrl+RuD4CEkvV5sQzDCkyYu+8yN2eCd01bUCP8XtRobf54AlzbCpS+tEZLNo+X1GH9uC6svJ6DIqsucS9IPyR6bUtghZpdsv\
    1YI9LtN1mgECgYEA9dTiNvqQ9RuQBGauEXyLF0a3p65jNv3GLNoFb8PFcTUy6D06F3u1egaITAt71zidG8QBdSqyChSPQW3CeTRd\
    ChsojxzavQL9QMCSjuPAaSa0W3T8q5GJAla0pn0qHqEfytwMW4H1usiPzO9jCbuwD8Jwpy2467AP9cLiCwu+YukCgYEA9ZOOCX0i\
    YtoCYnTipKsieXqsNtQsNjLCjH7q5GeZyrKszwta6RYastzf5hgbTbjUGgMim0x23I8I5F7yySepLgS3popcmET12nATfE+5Sb8c\
    c/JpEKo/a+9PknSbpnCl97IlrsM5iOKb0tVWeFYacn7oDq7B1l5eZ0FeHKo2EwECgYAKN8L/TgLgbTjbNfleOLL/UK0phxIQoxOt\
    oZJARv7Z6cAn7wOPHlE4tTTNFF0dYPkGwmrdF902lgwuSAWhTA/h76cL68MbwBgOrPJqhgTlWfp9Iqut5eqv8jKoCOPLSh8sK2FI\
    HGq+TL/NYNXY/bgfr5FHIZtiEHtZV7RViTNsoQKBgQCgt/gOV7oIbdt/qjWmRWYjkNhibcudkOzoXCvIXdE16mfUfP77av8ALjPO\
    d9purFcLyx97+bgUsvvD0iwc3/sF5gp3UTg2Y3NviUgHZHnEPPIXJAAE6xbkwdMW63/uluzXxdyJmrTt1Djc68hSqy9V3Z5r9Y1g\
    iZRJCWvZYMBRAQKBgE5e/tNIAESz+17khHs5HF6OmikMBACZ8saFXSUpoG2Ou76Q1CggNtNWnX58We9/oyn1Ck8oi4+d67aeb0br\
    wzHmWSTfyb42fooUlZsxA+m9ocrIsm1MNL+vzx5Uiiao6K6VttuUjVtsFRmV43SkrAwRiqhYRTU/Yrp8NOS2reS9\
    ";

/// Its public half.
const PUBLIC_KEY: &str = "\
    MIIBCgKCAQEA69JuIbV/BmMSh8PTD59Vefu0tAmmOF0d1TitfocT5uMhltgYKr8fEqMKcKLmso8jqM2k3AP5B//g3I9HRmYChDOv\
    IhXRseHdUdKl6LshD+ejdB/uYw3k88XejqZvbAmKaQiR2zUYAUE3lFsqTKZo3Fa+oFv3m37s4iLp0cG2jNyq7wdBKyLO0zRY/IXc\
    FIPRX1ExLu3xadoDEw/yVoNaEMo3cXcs6vaTK41DkXlEpx+WEvb4uL+n09CD2nguPWH7wUltONPL+cMGNzYakFo4tlALWS2n7aiJ\
    /VYZ4CNPkXNVETvBkBpDHPFOZeiyfLVob0PeZ8pmXLp99/s9xDut6QIDAQAB\
    ";

/// A service account whose tokens come from a simulated provider.
fn account(token_uri: &str) -> String {
    let lines: Vec<String> =
        PRIVATE_KEY.as_bytes().chunks(64).map(|line| String::from_utf8(line.to_vec()).unwrap()).collect();
    let label = "RSA PRIVATE KEY";
    let pem = format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"));
    let account = json!({"type": "service_account", "project_id": "p", "private_key_id": "kid-1", "private_key": pem,
        "client_email": "tests@p.iam.example", "token_uri": token_uri});
    // As the file is that Google's console writes: over several lines.
    format!("{account:#}")
}

/// A gateway with Vertex behind a simulated provider, whose account stands in a file.
pub(crate) async fn vertex(sim: &Sim, token_uri: &str, more: &str) -> (Gateway, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("account.json");
    std::fs::write(&file, account(token_uri)).unwrap();
    let key = format!("[[provider.key]]\nsecret = {{ file = '{}' }}\n{more}", file.display());
    let config = provider("vertex", sim, &format!("project = 'p'\nlocation = 'us-east5'\n{key}"));
    (Gateway::builder().config(&config).start().await, folder)
}

fn token_requests(calls: &[Call]) -> Vec<&Call> {
    calls.iter().filter(|call| call.is_token_request()).collect()
}

#[tokio::test]
async fn vertex_serves_gemini_with_a_token_that_the_account_buys_once() {
    let sim = Sim::start(SimDialect::Gemini).unwrap();
    let token_uri = format!("http://{}/token", sim.address());
    let (gateway, _folder) = vertex(&sim, &token_uri, "").await;
    let request = saying("vertex/gemini-2.5-flash", "one two", true);
    let answers = futures::future::join_all((0..8).map(|_| gateway.chat(&request))).await;
    for answer in answers {
        assert_eq!(answer.text(), "one two", "{}", answer.body_text());
    }
    let calls = sim.calls();
    let bought = token_requests(&calls);
    assert_eq!(bought.len(), 1, "one flight serves all");
    let form = String::from_utf8(bought[0].body.clone()).unwrap();
    let assertion = form.split("assertion=").nth(1).unwrap().split('&').next().unwrap();
    let key = DecodingKey::from_rsa_der(&STANDARD.decode(PUBLIC_KEY.replace(' ', "")).unwrap());
    let mut rules = Validation::new(Algorithm::RS256);
    rules.set_audience(&[&token_uri]);
    rules.set_issuer(&["tests@p.iam.example"]);
    let claim = jsonwebtoken::decode::<Value>(assertion, &key, &rules).unwrap();
    assert_eq!(claim.header.kid.as_deref(), Some("kid-1"));
    assert_eq!(claim.claims["scope"], "https://www.googleapis.com/auth/cloud-platform");
    for call in calls.iter().filter(|call| call.is_generation()) {
        assert_eq!(
            (call.path.as_str(), call.query.as_str()),
            (
                "/v1/projects/p/locations/us-east5/publishers/google/models/gemini-2.5-flash:streamGenerateContent",
                "alt=sse"
            )
        );
        assert!(call.header("authorization").unwrap().starts_with(&format!("Bearer {TOKEN}")), "{call:?}");
        assert_eq!(call.header("x-goog-api-key"), None);
    }
    assert!(!gateway.output().contains(TOKEN), "a token was printed");
}

#[tokio::test]
async fn vertex_serves_claude_by_raw_predict() {
    let sim = Sim::start(SimDialect::Anthropic).unwrap();
    let (gateway, _folder) = vertex(&sim, &format!("http://{}/token", sim.address()), "").await;
    for (stream, method) in [(false, "rawPredict"), (true, "streamRawPredict")] {
        sim.forget_calls();
        let answer = gateway.chat(&saying("vertex/claude-sonnet-4-5@20250929", "one two", stream)).await;
        assert_eq!(answer.text(), "one two", "{}", answer.body_text());
        let calls = sim.calls();
        let call = calls.iter().find(|call| call.is_generation()).unwrap();
        let place = "/v1/projects/p/locations/us-east5/publishers/anthropic/models/claude-sonnet-4-5@20250929";
        assert_eq!(call.path, format!("{place}:{method}"));
        let body = call.json();
        assert_eq!((&body["anthropic_version"], body.get("model")), (&json!("vertex-2023-10-16"), None));
    }
}

/// Google's clients: to its own models the bytes pass, to Claude they are translated; each at Vertex's place, with Vertex's token.
#[tokio::test]
async fn googles_clients_reach_vertex() {
    for (dialect, model, place) in [
        (SimDialect::Gemini, "gemini-2.5-flash", "google/models/gemini-2.5-flash"),
        (SimDialect::Anthropic, "claude-sonnet-4-5@20250929", "anthropic/models/claude-sonnet-4-5@20250929"),
    ] {
        let sim = Sim::start(dialect).unwrap();
        let (gateway, _folder) = vertex(&sim, &format!("http://{}/token", sim.address()), "").await;
        let own = dialect == SimDialect::Gemini;
        for (how, method, query) in [
            (How::Whole, if own { "generateContent" } else { "rawPredict" }, ""),
            (
                How::Events,
                if own { "streamGenerateContent" } else { "streamRawPredict" },
                if own { "alt=sse" } else { "" },
            ),
            (
                How::Array,
                if own { "streamGenerateContent" } else { "streamRawPredict" },
                if own { "alt=sse" } else { "" },
            ),
        ] {
            sim.forget_calls();
            let mut body = asking("one two three");
            body["generationConfig"] = json!({"maxOutputTokens": 50, "temperature": 0.5});
            let answer = gemini::ask(&gateway, how, &format!("vertex/{model}"), &body).await;
            let generated = Generated::of(&answer);
            let what = format!("{model} {how:?}: {}", answer.body_text());
            assert!(generated.complete && generated.text() == "one two three", "{what}");
            assert_eq!((&generated.finish, answer.header("x-provider")), (&json!("STOP"), "vertex"), "{what}");
            assert!(generated.usage["candidatesTokenCount"].is_u64(), "{what}");
            let calls = sim.calls();
            let call = calls.iter().find(|call| call.is_generation()).unwrap();
            let path = format!("/v1/projects/p/locations/us-east5/publishers/{place}:{method}");
            assert_eq!((&call.path, call.query.as_str()), (&path, query), "{what}");
            assert!(call.header("authorization").unwrap().starts_with(&format!("Bearer {TOKEN}")), "{call:?}");
            assert_eq!(call.header("x-goog-api-key"), None, "the client's key went on");
            if own {
                assert_eq!(call.json()["generationConfig"], body["generationConfig"], "{what}");
            }
        }
        sim.always(SimFault::BadRequest);
        let refused = gemini::ask(&gateway, How::Whole, &format!("vertex/{model}"), &asking("x")).await;
        assert_eq!((refused.status, &refused.json()["error"]["status"]), (400, &json!("INVALID_ARGUMENT")));
    }
}

#[tokio::test]
async fn a_token_is_renewed_ahead_and_bought_anew_when_it_is_refused() {
    let sim = Sim::start(SimDialect::Gemini).unwrap();
    // Its last 30 seconds are not used, so this one is never kept.
    let (gateway, _folder) = vertex(&sim, &format!("http://{}/token?life=20", sim.address()), "").await;
    let request = saying("vertex/gemini-2.5-flash", "one", false);
    for expected in 1..=3 {
        assert_eq!(gateway.chat(&request).await.text(), "one");
        assert_eq!(token_requests(&sim.calls()).len(), expected);
    }
    // One of an hour is kept.
    let (gateway, _folder) = vertex(&sim, &format!("http://{}/token", sim.address()), "").await;
    sim.forget_calls();
    for _ in 0..3 {
        assert_eq!(gateway.chat(&request).await.text(), "one");
    }
    assert_eq!(token_requests(&sim.calls()).len(), 1);
}

#[tokio::test]
async fn an_account_that_is_refused_is_the_keys_fault_and_another_target_serves() {
    let sim = Sim::start(SimDialect::Gemini).unwrap();
    let spare = Sim::start(SimDialect::OpenAi).unwrap();
    let uri = format!("http://{}/token?refuse", sim.address());
    let more = format!("[[provider]]\nid = 'spare'\nbase_url = '{}'\nauth = 'bearer'\n{}", spare.base_url(), key("k"));
    let (gateway, _folder) = vertex(&sim, &uri, &more).await;
    let mut request = saying("vertex/gemini-2.5-flash", "one", false);
    request["extra"] = json!({"fallback_models": ["spare/sim-ok"]});
    for tries in [1, 1] {
        let answer = gateway.chat(&request).await;
        assert_eq!((answer.status, answer.header("x-provider")), (200, "spare"), "{}", answer.body_text());
        assert_eq!(token_requests(&sim.calls()).len(), tries, "a refused key is not tried again");
    }
    assert_eq!(sim.generations(), 0);
    let health = gateway.get_console("/metrics").await.unwrap().body_text();
    assert!(health.contains("vertex"), "{health}");
}

#[tokio::test]
async fn a_token_endpoint_that_is_down_costs_the_key_nothing() {
    let sim = Sim::start(SimDialect::Gemini).unwrap();
    let endpoint = Sim::start(SimDialect::Gemini).unwrap();
    endpoint.always(SimFault::Refused);
    let (gateway, _folder) = vertex(&sim, &format!("http://{}/token", endpoint.address()), "").await;
    let request = saying("vertex/gemini-2.5-flash", "one", false);
    assert!(gateway.chat(&request).await.status >= 500);
    endpoint.reset();
    let started = Instant::now();
    while gateway.chat(&request).await.status != 200 {
        assert!(started.elapsed() < PATIENCE, "{}", gateway.output());
    }
}

#[tokio::test]
async fn googles_variables_and_a_project_are_a_provider() {
    let sim = Sim::start(SimDialect::Gemini).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("account.json");
    std::fs::write(&file, account(&format!("http://{}/token", sim.address()))).unwrap();
    let gateway = Gateway::builder()
        .variable("GOOGLE_APPLICATION_CREDENTIALS", file.to_str().unwrap())
        .variable("GOOGLE_CLOUD_PROJECT", "of-the-environment")
        .variable("VERTEX_BASE_URL", &format!("http://{}", sim.address()))
        .start()
        .await;
    assert_eq!(gateway.chat(&saying("vertex/gemini-2.5-flash", "one", false)).await.text(), "one");
    let path = sim.calls().iter().find(|call| call.is_generation()).unwrap().path.clone();
    assert!(path.starts_with("/v1/projects/of-the-environment/locations/global/publishers/google/"), "{path}");
}
