//! `POST /v1beta/models/{model}:generateContent` and its neighbours: Google's clients in front of every provider.

use crate::gateway::{Gateway, KEY};
use orbyt::sim::client::{Answer, BodyEnd};
use orbyt::sim::{Call, Sim, SimDialect, SimFault, Step};
use serde_json::{Value, json};

/// A model that thinks at each of the simulated providers.
const THINKERS: [(SimDialect, &str); 6] = [
    (SimDialect::OpenAi, "openai/o4-mini"),
    (SimDialect::Anthropic, "anthropic/claude-sonnet-4-20250514"),
    (SimDialect::Gemini, "google/gemini-2.5-flash"),
    (SimDialect::Cohere, "cohere/command-a-plus-05-2026"),
    (SimDialect::Ollama, "ollama/qwen3"),
    (SimDialect::Bedrock, "bedrock/us.anthropic.claude-sonnet-4-20250514-v1:0"),
];

/// How an answer is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum How {
    Whole,
    Events,
    Array,
}

pub const ALL: [How; 3] = [How::Whole, How::Events, How::Array];

impl How {
    pub fn path(self, model: &str) -> String {
        let method = match self {
            Self::Whole => "generateContent",
            Self::Events => "streamGenerateContent?alt=sse",
            Self::Array => "streamGenerateContent",
        };
        format!("/v1beta/models/{model}:{method}")
    }
}

pub fn asking(text: &str) -> Value {
    json!({ "contents": [{ "role": "user", "parts": [{ "text": text }] }] })
}

pub async fn ask(gateway: &Gateway, how: How, model: &str, body: &Value) -> Answer {
    post(gateway, &how.path(model), body).await
}

async fn post(gateway: &Gateway, path: &str, body: &Value) -> Answer {
    gateway.ask(path, &[("x-goog-api-key", KEY), ("content-type", "application/json")], body).await
}

/// What came of an answer, put together by Google's documents alone.
#[derive(Debug)]
pub struct Generated {
    /// The first candidate's parts; neighbouring texts are one.
    pub parts: Vec<Value>,
    pub finish: Value,
    pub usage: Value,
    pub complete: bool,
    pub error: Option<Value>,
}

impl Generated {
    pub fn of(answer: &Answer) -> Self {
        let answers = answer.json_pieces().unwrap_or_default();
        let mut all = Self { parts: Vec::new(), finish: Value::Null, usage: Value::Null, complete: false, error: None };
        for value in answers {
            if value.get("error").is_some() {
                all.error = Some(value["error"].clone());
                continue;
            }
            let candidate = &value["candidates"][0];
            for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
                all.part(part);
            }
            if candidate["finishReason"].is_string() {
                all.finish = candidate["finishReason"].clone();
            }
            if value["usageMetadata"].is_object() {
                all.usage = value["usageMetadata"].clone();
            }
        }
        all.parts.retain(|part| part["text"] != "" || part.get("thoughtSignature").is_some());
        all.complete = all.error.is_none() && all.finish.is_string() && answer.end == BodyEnd::Clean;
        all
    }

    fn part(&mut self, part: &Value) {
        let is_piece = |part: &Value| part["text"].is_string();
        if let Some(last) = self.parts.last_mut()
            && is_piece(last)
            && is_piece(part)
            && last["thought"] == part["thought"]
            && last.get("thoughtSignature").is_none()
        {
            last["text"] = format!("{}{}", last["text"].as_str().unwrap(), part["text"].as_str().unwrap()).into();
            if let Some(signature) = part.get("thoughtSignature") {
                last["thoughtSignature"] = signature.clone();
            }
            return;
        }
        self.parts.push(part.clone());
    }

    pub fn text(&self) -> String {
        let said = self.parts.iter().filter(|part| part["thought"] != true);
        said.filter_map(|part| part["text"].as_str()).collect()
    }

    pub fn calls(&self) -> Vec<Value> {
        self.parts.iter().filter_map(|part| part.get("functionCall")).cloned().collect()
    }
}

trait Pieces {
    /// The answers of a stream in either framing, or the one.
    fn json_pieces(&self) -> Result<Vec<Value>, serde_json::Error>;
}

impl Pieces for Answer {
    fn json_pieces(&self) -> Result<Vec<Value>, serde_json::Error> {
        if self.is_stream() {
            let text = self.body_text();
            let data = |line: &str| serde_json::from_str(line.strip_prefix("data: ").unwrap_or("null"));
            return text.lines().filter(|line| !line.trim().is_empty()).map(data).collect();
        }
        Ok(match serde_json::from_str(&self.body_text())? {
            Value::Array(answers) => answers,
            one => vec![one],
        })
    }
}

#[tokio::test]
async fn every_provider_answers_whole_and_in_both_framings() {
    let (gateway, sims) = Gateway::in_front_of_all().await;
    for sim in &sims {
        let model = format!("{}/sim-ok", sim.dialect().provider_id());
        let mut seen = Vec::new();
        for how in ALL {
            let answer = ask(&gateway, how, &model, &asking("five words are said here")).await;
            let what = format!("{model} {how:?} {} {}", answer.status, answer.body_text());
            assert_eq!((answer.status, answer.is_stream()), (200, how == How::Events), "{what}");
            if how == How::Array {
                assert!(answer.json().is_array() && answer.header("content-type") == "application/json", "{what}");
            }
            let generated = Generated::of(&answer);
            assert!(generated.complete, "{what}");
            assert_eq!((&*generated.text(), &generated.finish), ("five words are said here", &json!("STOP")), "{what}");
            let usage = &generated.usage;
            let counts = [&usage["promptTokenCount"], &usage["candidatesTokenCount"]];
            assert!(counts.iter().all(|count| count.as_u64() > Some(0)), "{what}");
            assert_eq!(answer.header("x-provider"), sim.dialect().provider_id());
            let line = gateway.log_line(&answer).await;
            assert_eq!(line["prompt_tokens"], usage["promptTokenCount"], "{line} {what}");
            assert_eq!(line["completion_tokens"], usage["candidatesTokenCount"], "{line} {what}");
            assert_eq!(line["route"], "POST /v1beta/models/{model}:generateContent", "{line}");
            seen.push((generated.parts, usage["candidatesTokenCount"].clone()));
        }
        assert!(seen.iter().all(|one| *one == seen[0]), "{model}: {seen:?}");
    }
}

#[tokio::test]
async fn functions_pictures_and_results_reach_every_provider() {
    let (gateway, sims) = Gateway::in_front_of_all().await;
    // One in each of the two kinds of schema, and one without.
    let tools = json!([{"function_declarations": [
        {"name": "alpha", "description": "A.", "parameters": {"type": "OBJECT", "properties": {"at": {"type": "STRING"}}, "required": ["at"]}},
        {"name": "beta", "parametersJsonSchema": {"type": "object", "properties": {}}},
    ]}]);
    for sim in &sims {
        let model = format!("{}/sim-ok", sim.dialect().provider_id());
        for how in ALL {
            let mut body = asking("alpha and beta");
            body["tools"] = tools.clone();
            let answer = ask(&gateway, how, &model, &body).await;
            let generated = Generated::of(&answer);
            let calls = generated.calls();
            let names: Vec<&Value> = calls.iter().map(|call| &call["name"]).collect();
            assert_eq!(names, ["alpha", "beta"], "{model} {how:?}: {}", answer.body_text());
            assert!(calls[0]["args"]["at"].is_string() && calls[1]["args"] == json!({}), "{calls:?}");
            assert_eq!(generated.finish, "STOP");
            let results: Vec<Value> = calls
                .iter()
                .map(|call| {
                    let name = call["name"].as_str().unwrap();
                    // Google's own older models give calls no ids, and clients then send none.
                    json!({"functionResponse": {"name": name, "response": {"result": format!("{name} done")}}})
                })
                .collect();
            let turns = body["contents"].as_array_mut().unwrap();
            turns.push(json!({"role": "model", "parts": generated.parts}));
            turns.push(json!({"role": "user", "parts": results}));
            let answer = ask(&gateway, how, &model, &body).await;
            let said = Generated::of(&answer).text();
            let seen = format!("{model} {how:?}: {}", answer.body_text());
            assert!(said.contains("alpha done") && said.contains("beta done"), "{seen}");
        }
        let mut body = asking("What is this?");
        let picture = json!({"inline_data": {"mime_type": "image/png", "data": "iVBORw0KGgo="}});
        body["contents"][0]["parts"].as_array_mut().unwrap().push(picture);
        let answer = ask(&gateway, How::Whole, &model, &body).await;
        assert!(Generated::of(&answer).text().contains("image"), "{model}: {}", answer.body_text());
    }
}

#[tokio::test]
async fn answers_in_json_follow_their_schema_everywhere() {
    let (gateway, sims) = Gateway::in_front_of_all().await;
    for sim in &sims {
        let model = format!("{}/sim-ok", sim.dialect().provider_id());
        for how in ALL {
            let mut body = asking("A person.");
            body["generationConfig"] = json!({
                "responseMimeType": "application/json", "temperature": 0.5, "topK": 40.0, "maxOutputTokens": 500,
                "responseSchema": {"type": "OBJECT", "properties": {"name": {"type": "STRING"}}, "required": ["name"]},
            });
            let answer = ask(&gateway, how, &model, &body).await;
            let generated = Generated::of(&answer);
            let value: Value = serde_json::from_str(&generated.text()).unwrap_or_default();
            assert!(value["name"].is_string(), "{model} {how:?}: {}", answer.body_text());
        }
    }
}

#[tokio::test]
async fn the_same_format_on_both_sides_passes_byte_by_byte() {
    let (gateway, [_, _, google, ..]) = Gateway::in_front_of_all().await;
    let answer_body = r#"{"candidates":[{"content":{"parts":[{"executableCode":{"language":"PYTHON","code":"1"}},{"text":"\u00e9"}],"role":"model"},"finishReason":"MALFORMED_FUNCTION_CALL","zeta":1.50}],"usageMetadata":{"promptTokenCount":3,"totalTokenCount":3},"modelVersion":"x"}"#;
    google.always(Step::Reply { status: 200, headers: Vec::new(), body: answer_body.to_owned() });
    let text = r#"{"zeta":{"y":[1.50,2]},"extra":{"retry":0},"tools":[{"google_search":{}},{"codeExecution":{}}],
        "contents":{"parts":{"text":"q"}},"safetySettings":[],"cachedContent":"cachedContents/1"}"#;
    let body: Value = serde_json::from_str(text).unwrap();
    let path = "/v1/models/google/some-model:generateContent";
    let answer = gateway.ask(&format!("{path}?key={KEY}&alt=json"), &[("x-goog-api-client", "a")], &body).await;
    assert_eq!((answer.status, &*answer.body_text()), (200, answer_body));
    let call = google.calls().pop().unwrap();
    let mut expected = body.clone();
    expected.as_object_mut().unwrap().shift_remove("extra");
    assert_eq!(String::from_utf8(call.body.clone()).unwrap(), expected.to_string());
    assert_eq!((&*call.path, &*call.query), ("/v1beta/models/some-model:generateContent", ""));
    assert_eq!((call.header("x-goog-api-key"), call.header("x-goog-api-client")), (Some("key-of-google"), None));
}

#[tokio::test]
async fn a_blocked_prompt_is_googles_own_answer() {
    let (gateway, [_, _, google, ..]) = Gateway::in_front_of_all().await;
    let blocked = r#"{"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 4, "totalTokenCount": 4}}"#;
    google.always(Step::Reply { status: 200, headers: Vec::new(), body: blocked.to_owned() });
    for how in ALL {
        let answer = ask(&gateway, how, "google/sim-ok", &asking("x")).await;
        let pieces = answer.json_pieces().unwrap();
        assert_eq!(pieces[0]["promptFeedback"]["blockReason"], "PROHIBITED_CONTENT", "{how:?} {}", answer.body_text());
        assert_eq!((answer.status, pieces.len()), (200, 1));
    }
}

#[tokio::test]
async fn a_key_is_taken_from_header_and_query_and_stays_out_of_the_log() {
    let (gateway, _sims) = Gateway::in_front_of_all().await;
    let (plain, good) = (("content-type", "application/json"), asking("x"));
    let path = "/v1beta/models/google/sim-ok:generateContent";
    let bearer = format!("Bearer {KEY}");
    for (path, header) in [
        (path.to_owned(), ("x-goog-api-key", KEY)),
        (path.to_owned(), ("authorization", bearer.as_str())),
        (format!("{path}?key={KEY}"), plain),
    ] {
        let answer = gateway.ask(&path, &[header, plain], &good).await;
        assert_eq!(answer.status, 200, "{path} {header:?}: {}", answer.body_text());
        gateway.log_line(&answer).await;
    }
    let wrong = gateway.ask(&format!("{path}?key=nobodys-secret-key"), &[plain], &good).await;
    assert_eq!(wrong.json()["error"]["status"], "UNAUTHENTICATED");
    let unknown = gateway.ask("/v1beta/nothing?key=nobodys-secret-key", &[plain], &good).await;
    assert_eq!(unknown.json()["error"]["status"], "NOT_FOUND");
    // The other formats' routes have no keys in queries.
    let chat = gateway.ask(&format!("/v1/chat/completions?key={KEY}"), &[plain], &good).await;
    assert_eq!(chat.status, 401);
    gateway.log_line(&unknown).await;
    let output = gateway.output();
    assert!(!output.contains(KEY) && !output.contains("nobodys-secret-key"), "{output}");
    let calls = gateway.get_console("/metrics").await.unwrap().body_text();
    assert!(!calls.contains(KEY));
}

#[tokio::test]
async fn what_only_google_can_do_is_a_clear_400_elsewhere() {
    let (gateway, _sims) = Gateway::in_front_of_all().await;
    for provider in ["openai", "anthropic", "cohere", "ollama", "bedrock"] {
        for (member, value, field) in [
            ("tools", json!([{"googleSearch": {}}]), "tools[0].googleSearch"),
            ("tools", json!([{"functionDeclarations": []}, {"code_execution": {}}]), "tools[1].codeExecution"),
            ("tools", json!([{"urlContext": {}}]), "tools[0].urlContext"),
            ("cachedContent", json!("cachedContents/1"), "cachedContent"),
        ] {
            let mut body = asking("x");
            body[member] = value;
            let answer = ask(&gateway, How::Whole, &format!("{provider}/sim-ok"), &body).await;
            let error = &answer.json()["error"];
            let what = answer.body_text();
            assert_eq!((answer.status, &error["status"]), (400, &json!("INVALID_ARGUMENT")), "{what}");
            let details = error["details"].as_array().unwrap();
            assert!(details.iter().any(|detail| detail["fieldViolations"][0]["field"] == field), "{what}");
            // Google stands in where it may.
            body["extra"] = json!({"fallback_models": ["google/sim-ok"]});
            let answer = ask(&gateway, How::Events, &format!("{provider}/sim-ok"), &body).await;
            assert_eq!(answer.header("x-provider"), "google", "{}", answer.body_text());
        }
    }
}

#[tokio::test]
async fn errors_are_googles() {
    let (gateway, _sims) = Gateway::in_front_of_all().await;
    let good = asking("x");
    let nobody = [("x-goog-api-key", "nobodys"), ("content-type", "application/json")];
    let cases = [
        (gateway.ask(&How::Whole.path("google/sim-ok"), &nobody, &good).await, 401, "UNAUTHENTICATED"),
        (post(&gateway, "/v1beta/models/google/sim-ok:predict", &good).await, 404, "NOT_FOUND"),
        (ask(&gateway, How::Whole, "google/sim-ok", &json!({})).await, 400, "INVALID_ARGUMENT"),
        (ask(&gateway, How::Events, "openai/sim-ok", &json!({"contents": 1})).await, 400, "INVALID_ARGUMENT"),
        (ask(&gateway, How::Whole, "nobody/x", &good).await, 404, "NOT_FOUND"),
        (ask(&gateway, How::Array, "google/sim-400", &good).await, 400, "INVALID_ARGUMENT"),
        (ask(&gateway, How::Events, "openai/sim-400", &good).await, 400, "INVALID_ARGUMENT"),
        (ask(&gateway, How::Whole, "anthropic/sim-429", &good).await, 429, "RESOURCE_EXHAUSTED"),
        (ask(&gateway, How::Events, "openai/sim-500", &good).await, 503, "UNAVAILABLE"),
    ];
    for (answer, status, word) in cases {
        let body = answer.json();
        let what = answer.body_text();
        assert_eq!((answer.status, &body["error"]["code"]), (status, &json!(status)), "{what}");
        assert_eq!(body["error"]["status"], word, "{what}");
        assert!(body["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{what}");
        let details = body["error"]["details"].as_array().unwrap();
        assert!(details.iter().any(|one| one["requestId"] == answer.header("x-request-id")), "{what}");
    }
    let wrong_method = gateway.ask("/v1/models/a/b:floor", &[("x-goog-api-key", KEY)], &good).await;
    assert!(wrong_method.status == 405 && wrong_method.json()["error"]["status"].is_null());
}

#[tokio::test]
async fn tokens_are_counted_where_they_can_be_and_estimated_elsewhere() {
    let (gateway, sims) = Gateway::in_front_of_all().await;
    for sim in &sims {
        let id = sim.dialect().provider_id();
        for body in [
            asking(&"word ".repeat(100)),
            json!({"generateContentRequest": {
                "model": "models/other", "contents": asking(&"word ".repeat(100))["contents"],
            }}),
        ] {
            sim.forget_calls();
            let answer = post(&gateway, &format!("/v1beta/models/{id}/sim-ok:countTokens"), &body).await;
            let (tokens, what) = (answer.json()["totalTokens"].as_u64(), answer.body_text());
            assert!(answer.status == 200 && tokens > Some(100) && tokens < Some(300), "{id}: {what}");
            let estimated = !matches!(sim.dialect(), SimDialect::Anthropic | SimDialect::Gemini);
            assert_eq!(answer.header("x-orbyt-token-count"), if estimated { "estimated" } else { "" }, "{id}");
            let calls: Vec<Call> = sim.calls().into_iter().filter(|call| call.method == "POST").collect();
            assert_eq!(calls.len(), usize::from(!estimated), "{id}");
            if sim.dialect() == SimDialect::Gemini {
                assert_eq!(calls[0].path, "/v1beta/models/sim-ok:countTokens");
                assert_eq!(calls[0].json()["generateContentRequest"]["model"], "models/sim-ok");
            }
            let line = gateway.log_line(&answer).await;
            assert_eq!(line["route"], "POST /v1beta/models/{model}:countTokens", "{line}");
        }
    }
}

#[tokio::test]
async fn aliases_and_presets_are_models_too() {
    let sims = [SimDialect::OpenAi, SimDialect::Gemini].map(|dialect| Sim::start(dialect).unwrap());
    let config = r#"
        [[model]]
        name = "house"
        targets = ["openai/sim-ok"]

        [[preset]]
        slug = "brief"
        model = "google/sim-ok"
        system = "Be brief."
        parameters = { temperature = 0.2, max_tokens = 3, stop = "END" }
    "#;
    let mut builder = Gateway::builder().config(config);
    for sim in &sims {
        builder = builder.provider(sim.dialect().provider_id(), sim);
    }
    let gateway = builder.start().await;
    for how in ALL {
        let answer = ask(&gateway, how, "house", &asking("one two")).await;
        assert_eq!((answer.header("x-provider"), &*Generated::of(&answer).text()), ("openai", "one two"));
        let mut body = asking("one two three four");
        body["generation_config"] = json!({"temperature": 0.9});
        let answer = ask(&gateway, how, "@preset/brief", &body).await;
        let what = answer.body_text();
        assert_eq!(Generated::of(&answer).finish, "MAX_TOKENS", "{what}");
        let sent = sims[1].calls().pop().unwrap().json();
        let config = json!({"maxOutputTokens": 3, "stopSequences": ["END"], "temperature": 0.9});
        assert_eq!(sent["generation_config"], config, "{sent}");
        assert_eq!(sent["systemInstruction"], json!({"parts": [{"text": "Be brief."}]}));
        let answer = ask(&gateway, how, "house@preset/brief", &asking("one two three four")).await;
        assert_eq!(Generated::of(&answer).finish, "MAX_TOKENS", "{}", answer.body_text());
        let sent = sims[0].calls().pop().unwrap().json();
        assert_eq!(
            (&sent["temperature"], &sent["messages"][0]["content"]),
            (&json!(0.2), &json!("Be brief.")),
            "{sent}"
        );
    }
}

/// How far two bodies are the same, as the text that follows.
fn after_common<'a>(one: &'a str, other: &'a str) -> (&'a str, &'a str) {
    let same = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    (&one[same..], &other[same..])
}

fn body_of(call: &Call) -> String {
    String::from_utf8(call.body.clone()).unwrap()
}

/// The turns that a client keeps of a stream: each piece as it came, as Google's client for Node does.
fn kept(answer: &Answer) -> Vec<Value> {
    let pieces = answer.json_pieces().unwrap();
    pieces.iter().map(|piece| piece["candidates"][0]["content"].clone()).collect()
}

/// Twenty steps of an agent's loop, streamed, with thoughts: each request begins with the bytes of the one before, up to where the
/// list of messages ended, and the providers (who check their signatures) take every one of them.
#[tokio::test]
async fn a_loop_of_twenty_steps_keeps_its_beginning_and_its_signatures() {
    for (dialect, model) in THINKERS {
        let sim = Sim::start(dialect).unwrap();
        let gateway = Gateway::builder().provider(dialect.provider_id(), &sim).start().await;
        let mut body = json!({
            "contents": [{"role": "user", "parts": [{"text": "look at it 0"}]}],
            "systemInstruction": {"parts": [{"text": "You are an agent."}]},
            "generationConfig": {"maxOutputTokens": 8000, "thinkingConfig": {"includeThoughts": true, "thinkingBudget": 2000}},
            "tools": [{"functionDeclarations": [{"name": "look", "description": "Looks.",
                "parameters": {"type": "OBJECT", "properties": {"at": {"type": "STRING"}}}}]}],
        });
        for step in 1..=20 {
            let answer = ask(&gateway, How::Events, model, &body).await;
            let generated = Generated::of(&answer);
            let what = format!("{model}, step {step}: {} {}", answer.status, answer.body_text());
            assert!(generated.complete, "{what}");
            let calls = generated.calls();
            assert_eq!(calls.len(), step % 2, "{what}");
            let proved = |part: &Value| part["thought"] == true || part.get("thoughtSignature").is_some();
            assert!(generated.parts.iter().any(proved), "{what}");
            let turns = body["contents"].as_array_mut().unwrap();
            // Google wants the call in the turn in front of its result.
            match dialect {
                SimDialect::Gemini => turns.push(json!({"role": "model", "parts": generated.parts})),
                _ => turns.extend(kept(&answer)),
            }
            turns.push(match calls.first() {
                Some(call) => json!({"role": "user", "parts": [{"functionResponse": {
                    "id": call["id"], "name": "look", "response": {"output": format!("seen {step}")}}}]}),
                None => json!({"role": "user", "parts": [{"text": format!("look at it {step}")}]}),
            });
        }
        let calls: Vec<Call> = sim.calls().into_iter().filter(Call::is_generation).collect();
        assert_eq!(calls.len(), 20);
        for pair in calls.windows(2) {
            let (one, other) = (body_of(&pair[0]), body_of(&pair[1]));
            let (end, more) = after_common(&one, &other);
            assert!(end.starts_with(']') && more.starts_with(','), "{model}: {end:.60} / {more:.60}");
        }
    }
}

/// A provider that fails in the middle of a conversation: another of another format goes on, and then the first again.
#[tokio::test]
async fn a_conversation_moves_from_google_to_anthropic_and_back() {
    for model in ["google/gemini-2.5-flash", "google/gemini-3-pro-preview"] {
        let (gateway, [_, anthropic, google, ..]) = Gateway::in_front_of_all().await;
        let mut body = json!({
            "contents": [{"role": "user", "parts": [{"text": "look at it"}]}],
            "generationConfig": {"maxOutputTokens": 8000, "thinkingConfig": {"includeThoughts": true, "thinkingBudget": 2000}},
            "extra": {"fallback_models": ["anthropic/claude-sonnet-4-20250514"], "retry": 0},
            "tools": [{"functionDeclarations": [{"name": "look",
                "parameters": {"type": "OBJECT", "properties": {"at": {"type": "STRING"}}}}]}],
        });
        for (step, expected) in
            ["google", "anthropic", "google", "anthropic", "anthropic", "google"].into_iter().enumerate()
        {
            if expected == "anthropic" {
                google.script([SimFault::ErrorAfterPrelude]);
            }
            let answer = ask(&gateway, How::Events, model, &body).await;
            let generated = Generated::of(&answer);
            let what = format!("{model}, step {step}: {} {}", answer.status, answer.body_text());
            assert!(generated.complete, "{what}");
            assert_eq!(answer.header("x-provider"), expected, "{what}");
            let turns = body["contents"].as_array_mut().unwrap();
            turns.push(json!({"role": "model", "parts": generated.parts}));
            turns.push(match generated.calls().first() {
                Some(_) => json!({"role": "user", "parts": [{"functionResponse": {
                    "name": "look", "response": {"output": "seen"}}}]}),
                None => json!({"role": "user", "parts": [{"text": "look again"}]}),
            });
        }
        assert_eq!((google.generations(), anthropic.generations()), (6, 3));
    }
}

#[tokio::test]
async fn answers_are_cached_apart_for_each_framing() {
    let sims = [SimDialect::OpenAi, SimDialect::Gemini].map(|dialect| Sim::start(dialect).unwrap());
    let mut builder = Gateway::builder().config("[cache]\nbackend = \"memory\"\nmax_temperature = 0.5\n");
    for sim in &sims {
        builder = builder.provider(sim.dialect().provider_id(), sim);
    }
    let gateway = builder.start().await;
    for sim in &sims {
        let model = format!("{}/sim-ok", sim.dialect().provider_id());
        for how in ALL {
            let first = ask(&gateway, how, &model, &asking("one two")).await;
            let again = ask(&gateway, how, &model, &asking("one two")).await;
            assert_eq!((first.header("x-cache"), again.header("x-cache")), ("MISS", "HIT"), "{model} {how:?}");
            assert_eq!(first.body_text(), again.body_text());
            assert_eq!(first.header("content-type"), again.header("content-type"));
            let mut hot = asking("one two");
            hot["generationConfig"] = json!({"temperature": 1.0});
            assert_eq!(ask(&gateway, how, &model, &hot).await.header("x-cache"), "BYPASS");
        }
        assert_eq!(sim.generations(), 6);
    }
}
