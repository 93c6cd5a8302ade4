//! Secrets are planted everywhere and looked for everywhere: none may show.

use crate::gateway::{Gateway, PATIENCE, saying};
use orbyt::sim::client::{self, Answer, Exchange};
use orbyt::sim::{Sim, SimDialect, SimFault, Step};
use serde_json::{Value, json};
use std::path::Path;

const PROVIDER: &str = "canary-provider-key-4c1d90a7";
const GATEWAY: &str = "canary-gateway-key-b00f77e2";
const ADMIN: &str = "canary-admin-token-93ad5510";
const OWN: &str = "canary-own-key-6e2f8841";
const ALL: [&str; 4] = [PROVIDER, GATEWAY, ADMIN, OWN];

/// A gateway whose every secret is a canary and that logs as much as it can.
struct Mine {
    gateway: Gateway,
    live: Exchange,
    seen: String,
}

impl Mine {
    async fn start(sim: &Sim, config: &str) -> Self {
        let gateway = Gateway::builder()
            .config("[telemetry]\nlog_level = \"trace\"\npayloads = \"all\"\n[breaker]\nenabled = false\n[retry]\nmax = 0\n")
            .config(config)
            .provider_with_keys("one", sim, &[PROVIDER])
            .variable("ORBYT_API_KEYS", GATEWAY)
            .variable("ORBYT_ADMIN_TOKEN", ADMIN)
            .start()
            .await;
        let url = format!("{}/api/v1/live", gateway.console_url);
        let live = client::open("GET", &url, &[("authorization", &format!("Bearer {ADMIN}"))], b"").await.unwrap();
        assert_eq!(live.status, 200);
        Self { gateway, live, seen: String::new() }
    }

    async fn send(&self, headers: &[(&str, &str)], body: &Value) -> Answer {
        let url = format!("{}/v1/chat/completions", self.gateway.url);
        let bearer = format!("Bearer {GATEWAY}");
        let headers: Vec<_> = [("authorization", bearer.as_str())].into_iter().chain(headers.iter().copied()).collect();
        client::send("POST", &url, &headers, body.to_string().as_bytes()).await.unwrap()
    }

    /// Looks for every canary in everything that was said about a request.
    async fn search(&mut self, answer: &Answer, what: &str) {
        self.gateway.log_line(answer).await;
        let id = answer.header("x-request-id");
        let is_over = |text: &str| {
            let over = |line: &str| line.contains(id) && (line.contains("\"success\"") || line.contains("\"error\""));
            text.lines().any(over)
        };
        while !is_over(&self.seen) {
            let piece = tokio::time::timeout(PATIENCE, self.live.piece()).await.expect("the live events are silent");
            self.seen += &String::from_utf8(piece.expect("the live events ended")).unwrap();
        }
        let mut places = vec![
            ("output", self.gateway.output()),
            ("metrics", self.gateway.metrics().await),
            ("live events", self.seen.clone()),
            ("headers", format!("{:?}", answer.headers)),
            ("state", text_of(&self.gateway.data_dir())),
        ];
        if answer.status >= 400 || answer.error().is_some() {
            places.push(("error", answer.body_text()));
        }
        for path in ["/readyz", "/livez", "/"] {
            places.push(("console", self.gateway.get_console(path).await.unwrap().body_text()));
        }
        let url = format!("{}/api/v1/requests/{id}/payloads", self.gateway.console_url);
        let bearer = format!("Bearer {ADMIN}");
        let shown = client::send("GET", &url, &[("authorization", bearer.as_str())], b"").await.unwrap();
        assert!([200, 404].contains(&shown.status), "{}", shown.body_text());
        places.push(("payloads", shown.body_text()));
        for (place, text) in places {
            for canary in ALL {
                assert!(!text.contains(canary), "{what}: {canary} stands in the {place}:\n{text}");
            }
        }
    }
}

/// Everything that lies in a directory, if it exists.
fn text_of(folder: &Path) -> String {
    let Ok(entries) = std::fs::read_dir(folder) else { return String::new() };
    let text = |path: std::path::PathBuf| match path.is_dir() {
        true => text_of(&path),
        // A socket has nothing to read.
        false if !path.is_file() => String::new(),
        false => String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned(),
    };
    entries.map(|entry| text(entry.unwrap().path())).collect()
}

#[tokio::test]
async fn none_is_shown_whatever_a_provider_does() {
    for dialect in SimDialect::ALL {
        let sim = Sim::start(dialect).unwrap();
        let mut mine = Mine::start(&sim, "").await;
        for fault in [SimFault::Ok, SimFault::ServerError, SimFault::ResetBeforeHead, SimFault::EchoKey] {
            for byok in [false, true] {
                let mut request = saying(&format!("one/sim-{}", fault.name()), "x", false);
                if byok {
                    request["extra"] = json!({"byok": OWN});
                }
                let answer = mine.send(&[], &request).await;
                mine.search(&answer, &format!("{dialect:?} {fault:?} byok={byok}")).await;
            }
        }
    }
}

#[tokio::test]
async fn none_is_shown_when_a_provider_repeats_it_anywhere_in_an_error() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let mut mine = Mine::start(&sim, "").await;
    for key in [PROVIDER, OWN] {
        let repeated = json!({"error": {
            "message": format!("{key} is wrong: \"{key}\""),
            "type": format!("type-{key}"),
            "code": format!("code {key}"),
            "param": key,
        }});
        for (status, body) in [
            (400, repeated.to_string()),
            (401, repeated.to_string()),
            (403, repeated.to_string()),
            (404, repeated.to_string()),
            (
                422,
                json!({"detail": [{"loc": ["header"], "msg": format!("bad header Authorization: Bearer {key}")}]})
                    .to_string(),
            ),
            (429, repeated.to_string()),
            (500, format!("<html>{key}</html>")),
            (200, repeated.to_string()),
            (200, format!("{{\"cut\": \"{key}")),
        ] {
            sim.script([Step::Reply { status, headers: vec![("x-key", key.to_owned())], body }]);
            let mut request = saying("one/sim-ok", "x", false);
            if key == OWN {
                request["extra"] = json!({"byok": OWN});
            }
            let answer = mine.send(&[], &request).await;
            assert!(answer.status >= 400, "{status}: {}", answer.body_text());
            mine.search(&answer, &format!("{status} {key}")).await;
            // A refused key is back after a reload, a resting one after another key has been told of.
            mine.gateway.signal(libc::SIGHUP);
        }
    }
}

#[tokio::test]
async fn none_is_shown_when_it_stands_where_it_does_not_belong() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    sim.only_models(&["sim-ok", "sim-500"]);
    let mut mine = Mine::start(&sim, "").await;
    let mut wrong_type = saying("one/sim-ok", "x", false);
    wrong_type["extra"] = json!({"byok": {"one": {"key": OWN}}});
    let mut in_text = saying("one/sim-500", "x", false);
    in_text["messages"][0]["content"] = json!(format!("my key is {PROVIDER}"));
    let mut as_provider = saying("one/sim-ok", "x", false);
    as_provider["extra"] = json!({"provider": GATEWAY});
    for (what, body) in
        [("a key of a wrong type", wrong_type), ("a key in the prompt", in_text), ("a key as a provider", as_provider)]
    {
        let answer = mine.send(&[("cookie", OWN), ("x-api-key", GATEWAY), ("x-secret", ADMIN)], &body).await;
        mine.search(&answer, what).await;
    }
    for model in [PROVIDER, GATEWAY, &format!("one/{PROVIDER}")] {
        let answer = mine.send(&[], &saying(model, "x", false)).await;
        assert_eq!(answer.status, 404, "{}", answer.body_text());
        mine.search(&answer, "a key as a model").await;
    }
    for call in sim.calls() {
        let head = format!("{:?}", call.headers);
        assert!(!head.contains(OWN) && !head.contains(GATEWAY) && !head.contains(ADMIN), "the provider got {head}");
    }
    let url = format!("{}/v1/models?api_key={GATEWAY}", mine.gateway.url);
    let answer = client::send("GET", &url, &[], b"").await.unwrap();
    assert_eq!(answer.status, 401, "a key in the URL would stand in every log on the way");
    mine.search(&answer, "a key in the URL").await;
    let path = format!("{}/v1/{GATEWAY}", mine.gateway.url);
    let answer = client::send("GET", &path, &[], b"").await.unwrap();
    mine.gateway.log_line(&answer).await;
    assert!(!mine.gateway.output().contains(GATEWAY), "a key in the path stands in the log");
}
