//! The admin API of a running gateway: who may do what, whose is what, and what is changed is in force.

use crate::api_keys::said;
use crate::gateway::{ADMIN_TOKEN, Gateway, saying};
use crate::postgres;
use orbyt::sim::client::{self, Answer};
use orbyt::sim::{Sim, SimDialect};
use serde_json::{Value, json};

const PASSWORD: &str = "correct horse battery";

/// Somebody who asks the console: by the administrator's token, or in a session.
pub struct Client {
    url: String,
    headers: Vec<(String, String)>,
}

impl Client {
    pub fn administrator(gateway: &Gateway) -> Self {
        let headers = vec![("authorization".to_owned(), format!("Bearer {ADMIN_TOKEN}"))];
        Self { url: gateway.console_url.clone(), headers }
    }

    /// Logs somebody in.
    pub async fn log_in(gateway: &Gateway, email: &str, password: &str) -> Self {
        let mut client = Self { url: gateway.console_url.clone(), headers: Vec::new() };
        let begun = client.post("/session", &json!({"email": email, "password": password})).await;
        assert_eq!(begun.status, 201, "{}", begun.body_text());
        let cookie = begun.header("set-cookie").split(';').next().unwrap().to_owned();
        client.headers.push(("cookie".to_owned(), cookie));
        let csrf = begun.json()["csrf_token"].as_str().unwrap().to_owned();
        client.headers.push(("x-csrf-token".to_owned(), csrf));
        client
    }

    pub async fn send(&self, method: &str, path: &str, more: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut headers: Vec<(&str, &str)> = self.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        headers.extend(more);
        client::send(method, &format!("{}/api/v1{path}", self.url), &headers, body).await.unwrap()
    }

    async fn json(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.send(method, path, &[("content-type", "application/json")], body.to_string().as_bytes()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"").await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.json("POST", path, body).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.json("PUT", path, body).await
    }

    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.json("PATCH", path, body).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], b"").await
    }

    fn without(&self, header: &str) -> Self {
        let headers = self.headers.iter().filter(|(name, _)| name != header).cloned().collect();
        Self { url: self.url.clone(), headers }
    }
}

#[track_caller]
fn ok(answer: &Answer) -> Value {
    assert!(matches!(answer.status, 200 | 201), "{} {}", answer.status, answer.body_text());
    answer.json()
}

#[track_caller]
pub fn id(answer: &Answer) -> String {
    let json = ok(answer);
    let id = json["data"]["id"].as_str().or(json["id"].as_str());
    id.unwrap().to_owned()
}

/// Adds somebody by API and gives them a password of ours by command line.
async fn person(gateway: &Gateway, admin: &Client, org: &str, role: &str) -> Client {
    let email = format!("{role}@{org}.example");
    let added = admin.post(&format!("/orgs/{org}/members"), &json!({"email": email, "role": role})).await;
    let password = ok(&added)["password"].as_str().unwrap().to_owned();
    Client::log_in(gateway, &email, &password).await
}

/// An organisation with somebody of each role, an API key and a saved key of a provider.
struct Org {
    id: String,
    project: String,
    key: String,
    provider_key: String,
    owner_id: String,
    people: Vec<(&'static str, Client)>,
}

const ROLES: [&str; 4] = ["owner", "admin", "member", "viewer"];

impl Org {
    async fn make(gateway: &Gateway, admin: &Client, name: &str) -> Self {
        let org = id(&admin.post("/orgs", &json!({"name": name})).await);
        let projects = ok(&admin.get(&format!("/projects?org={org}")).await);
        let project = projects["data"][0]["id"].as_str().unwrap().to_owned();
        let key = id(&admin.post("/keys", &json!({"name": "k", "project": project})).await);
        let saved = json!({"provider": "one", "key": format!("saved-key-of-{name}-0123456789"), "org": org});
        let provider_key = id(&admin.post("/provider-keys", &saved).await);
        let mut people = Vec::new();
        for role in ROLES {
            people.push((role, person(gateway, admin, &org, role).await));
        }
        let members = ok(&admin.get(&format!("/orgs/{org}/members")).await);
        let owner = members["data"].as_array().unwrap().iter().find(|member| member["role"] == "owner").unwrap();
        let owner_id = owner["id"].as_str().unwrap().to_owned();
        Self { id: org, project, key, provider_key, owner_id, people }
    }

    fn person(&self, role: &str) -> &Client {
        &self.people.iter().find(|(name, _)| *name == role).unwrap().1
    }
}

/// What is done, by which method and where, with which body, and the statuses that owner, admin, member and viewer get for it.
type Case = (&'static str, String, Value, [u16; 4]);

fn cases(org: &Org) -> Vec<Case> {
    let Org { id, project, key, owner_id, .. } = org;
    let none = Value::Null;
    let at = |path: &str| path.to_owned();
    vec![
        ("GET", at("/session"), none.clone(), [200; 4]),
        ("GET", at("/keys"), none.clone(), [200; 4]),
        ("GET", format!("/keys/{key}"), none.clone(), [200; 4]),
        // Without a name the role is looked at first, where there is one to be looked at.
        ("POST", at("/keys"), json!({"name": "a/b", "project": project}), [422, 422, 422, 403]),
        ("PATCH", format!("/keys/{key}"), json!({"name": "a/b"}), [422, 422, 403, 403]),
        ("POST", format!("/keys/{key}/rotate"), json!({"overlap_seconds": 99_999_999_999_u64}), [422, 422, 403, 403]),
        ("GET", at("/orgs"), none.clone(), [200; 4]),
        ("GET", format!("/orgs/{id}"), none.clone(), [200; 4]),
        ("POST", at("/orgs"), json!({"name": "mine"}), [403; 4]),
        ("PATCH", format!("/orgs/{id}"), json!({"name": ""}), [422, 403, 403, 403]),
        ("GET", at("/projects"), none.clone(), [200; 4]),
        ("POST", at("/projects"), json!({"org": id, "name": ""}), [422, 422, 403, 403]),
        ("PATCH", format!("/projects/{project}"), json!({"name": ""}), [422, 422, 403, 403]),
        ("GET", format!("/orgs/{id}/members"), none.clone(), [200; 4]),
        ("POST", format!("/orgs/{id}/members"), json!({"email": "x", "role": "viewer"}), [422, 422, 403, 403]),
        ("POST", format!("/orgs/{id}/members"), json!({"email": "x", "role": "owner"}), [422, 403, 403, 403]),
        ("PATCH", format!("/orgs/{id}/members/{owner_id}"), json!({"role": "viewer"}), [409, 403, 403, 403]),
        ("GET", at("/provider-keys"), none.clone(), [200; 4]),
        ("POST", at("/provider-keys"), json!({"provider": "nobody", "key": "x", "org": id}), [422, 422, 403, 403]),
        ("POST", at("/provider-keys"), json!({"provider": "one", "key": "x"}), [403; 4]),
        ("GET", at("/models"), none.clone(), [200; 4]),
        ("PUT", at("/models/fast"), json!({"targets": ["one/sim-ok"]}), [403; 4]),
        ("DELETE", at("/models/fast"), none.clone(), [403; 4]),
        ("GET", at("/presets"), none.clone(), [200; 4]),
        ("PUT", at("/presets/terse"), json!({"system": "Be brief."}), [403; 4]),
        ("GET", at("/routing"), none.clone(), [200; 4]),
        ("PUT", at("/routing/retry"), json!({"max": 1}), [403; 4]),
        ("GET", at("/budgets"), none.clone(), [200; 4]),
        (
            "POST",
            at("/budgets"),
            json!({"org": id, "payer": "org", "span": "day", "amount_usd": "x"}),
            [422, 422, 403, 403],
        ),
        ("GET", at("/credits"), none.clone(), [200; 4]),
        ("POST", at("/credits"), json!({"org": id, "amount_usd": "5"}), [403; 4]),
        ("GET", at("/audit"), none.clone(), [200, 200, 403, 403]),
        ("GET", at("/audit/verify"), none.clone(), [403; 4]),
        // How the gateway fares is every owner's to know; what is in it is not.
        ("GET", at("/health"), none.clone(), [200, 403, 403, 403]),
        ("GET", at("/accounts"), none.clone(), [403; 4]),
        ("GET", at("/pool"), none.clone(), [200, 403, 403, 403]),
        ("POST", at("/pool/one/one_01/enable"), none.clone(), [403; 4]),
        ("GET", at("/breakers"), none.clone(), [200, 403, 403, 403]),
        ("GET", at("/cache"), none.clone(), [403; 4]),
        ("DELETE", at("/cache"), none.clone(), [403; 4]),
        ("GET", at("/config"), none.clone(), [200, 403, 403, 403]),
        ("GET", at("/live"), none, [403; 4]),
    ]
}

async fn status_of(client: &Client, method: &str, path: &str, body: &Value) -> u16 {
    let answer = match body {
        Value::Null => client.send(method, path, &[], b"").await,
        body => client.json(method, path, body).await,
    };
    answer.status
}

async fn gateway(sim: &Sim, url: Option<&str>) -> Gateway {
    let builder = Gateway::builder().provider("one", sim);
    match url {
        Some(url) => builder.variable("DATABASE_URL", url).start().await,
        None => builder.start().await,
    }
}

#[tokio::test]
async fn each_role_may_do_what_the_table_says_and_nothing_in_another_organisation() {
    let postgres = postgres::Database::create().await;
    for url in [None, Some(postgres.url())] {
        let sim = Sim::start(SimDialect::OpenAi).unwrap();
        let gateway = gateway(&sim, url.as_deref()).await;
        let admin = Client::administrator(&gateway);
        let (org, other) = (Org::make(&gateway, &admin, "acme").await, Org::make(&gateway, &admin, "evil").await);
        for (method, path, body, expected) in cases(&org) {
            for (role, expected) in ROLES.into_iter().zip(expected) {
                let status = status_of(org.person(role), method, &path, &body).await;
                assert_eq!(status, expected, "{role} {method} {path} {body}");
            }
        }
        isolated(&org, &other).await;
        // Nothing of all that has happened: the names that were asked for are free, the key works, its owner is its owner.
        assert!(ok(&admin.get("/models").await)["data"].as_array().unwrap().is_empty());
        assert_eq!(ok(&admin.get(&format!("/keys/{}", org.key)).await)["data"]["status"], "active");
        assert_eq!(ok(&admin.get("/audit/verify").await)["intact"], true);
    }
}

/// Whatever the owner of one organisation asks for by the ids of another is not there.
async fn isolated(org: &Org, other: &Org) {
    let owner = org.person("owner");
    let Org { id, project, key, provider_key, owner_id, .. } = other;
    let name = json!({"name": "stolen"});
    let hostile = [
        ("GET", format!("/keys/{key}"), Value::Null),
        ("PATCH", format!("/keys/{key}"), name.clone()),
        ("DELETE", format!("/keys/{key}"), Value::Null),
        ("POST", format!("/keys/{key}/revoke"), Value::Null),
        ("POST", format!("/keys/{key}/rotate"), json!({})),
        ("GET", format!("/keys?org={id}"), Value::Null),
        ("GET", format!("/orgs/{id}"), Value::Null),
        ("PATCH", format!("/orgs/{id}"), name.clone()),
        ("GET", format!("/orgs/{id}/members"), Value::Null),
        ("POST", format!("/orgs/{id}/members"), json!({"email": "a@b.example", "role": "viewer"})),
        ("PATCH", format!("/orgs/{id}/members/{owner_id}"), json!({"role": "viewer"})),
        ("DELETE", format!("/orgs/{id}/members/{owner_id}"), Value::Null),
        ("POST", format!("/orgs/{id}/members/{owner_id}/password"), Value::Null),
        // Theirs, through one's own organisation.
        ("POST", format!("/orgs/{}/members/{owner_id}/password", org.id), Value::Null),
        ("DELETE", format!("/orgs/{}/members/{owner_id}", org.id), Value::Null),
        ("GET", format!("/projects/{project}"), Value::Null),
        ("PATCH", format!("/projects/{project}"), name.clone()),
        ("POST", "/projects".to_owned(), json!({"org": id, "name": "x"})),
        ("DELETE", format!("/provider-keys/{provider_key}"), Value::Null),
        ("POST", "/provider-keys".to_owned(), json!({"provider": "one", "key": "x", "org": id})),
        ("GET", format!("/provider-keys?org={id}"), Value::Null),
        ("GET", format!("/budgets?org={id}"), Value::Null),
        ("POST", "/budgets".to_owned(), json!({"org": id, "payer": "org", "span": "day", "amount_usd": "0"})),
        ("GET", format!("/audit?org={id}"), Value::Null),
        ("GET", format!("/keys?org={}", "x' OR '1'='1"), Value::Null),
        ("GET", format!("/orgs/{id}%00"), Value::Null),
    ];
    for (method, path, body) in hostile {
        let status = status_of(owner, method, &path.replace(' ', "%20"), &body).await;
        assert_eq!(status, 404, "{method} {path}");
    }
    for (path, body) in [
        ("/keys", json!({"name": "x", "project": project})),
        ("/provider-keys", json!({"provider": "one", "key": "x", "project": project})),
        ("/budgets", json!({"org": org.id, "payer": "project", "subject": project, "span": "day", "amount_usd": "1"})),
        ("/budgets", json!({"org": org.id, "payer": "key", "subject": key, "span": "day", "amount_usd": "1"})),
    ] {
        assert_eq!(status_of(owner, "POST", path, &body).await, 422, "{path} {body}");
    }
    // Of the keys in the pool an owner hears how they are, and not which.
    for path in ["/pool", "/health", "/config"] {
        let seen = owner.get(path).await.body_text();
        assert!(
            !seen.contains("one_01") && !seen.contains("127.0.0.1") && !seen.contains("\u{2022}"),
            "{path}: {seen}"
        );
    }
    assert_eq!(owner.get("/pool").await.json()["data"][0]["state"], "idle");
    for path in ["/keys", "/orgs", "/projects", "/provider-keys", "/budgets", "/credits", "/audit", "/session"] {
        let seen = owner.get(path).await.body_text();
        for theirs in [id, project, key, provider_key, owner_id] {
            assert!(!seen.contains(theirs.as_str()), "{theirs} in {path}: {seen}");
        }
    }
}

#[tokio::test]
async fn a_key_is_made_shown_once_used_changed_and_void_with_the_next_request() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let gateway = gateway(&sim, None).await;
    let admin = Client::administrator(&gateway);
    let wanted = json!({
        "name": "team", "scopes": {"models": ["sim-ok"]}, "limits": {"requests_per_minute": 1000}, "metadata": {"a": "b"},
        "expires_at": "2100-01-01T00:00:00Z",
    });
    let made = ok(&admin.post("/keys", &wanted).await);
    let (id, secret) = (made["data"]["id"].as_str().unwrap(), made["key"].as_str().unwrap().to_owned());
    let ask = async |secret: &str, model: &str| {
        gateway.ask("/v1/chat/completions", &[("x-api-key", secret)], &saying(model, "x", false)).await.status
    };
    assert_eq!(ask(&secret, "one/sim-ok").await, 200);
    assert_eq!(ask(&secret, "one/sim-long").await, 403);
    let seen = admin.get(&format!("/keys/{id}")).await;
    assert!(!seen.body_text().contains(&secret[12..]), "{}", seen.body_text());
    assert_eq!(seen.json()["data"], made["data"]);

    let path = format!("/keys/{id}");
    let tag = seen.header("etag").to_owned();
    let change = |tag: String, body: Value| {
        let (admin, path) = (&admin, &path);
        async move {
            let headers = [("content-type", "application/json"), ("if-match", tag.as_str())];
            admin.send("PATCH", path, &headers, body.to_string().as_bytes()).await
        }
    };
    let changed = change(tag.clone(), json!({"disabled": true, "expires_at": null})).await;
    assert_eq!((changed.status, &ok(&changed)["data"]["expires_at"]), (200, &Value::Null));
    assert_eq!(ask(&secret, "one/sim-ok").await, 401);
    assert_eq!(change(tag, json!({"disabled": false})).await.status, 412, "somebody else was faster");
    assert_eq!(change(changed.header("etag").to_owned(), json!({"disabled": false})).await.status, 200);
    assert_eq!(ask(&secret, "one/sim-ok").await, 200);

    let rotated = ok(&admin.post(&format!("{path}/rotate"), &json!({"overlap_seconds": 0})).await);
    let new = rotated["key"].as_str().unwrap();
    assert_eq!((ask(&secret, "one/sim-ok").await, ask(new, "one/sim-ok").await), (401, 200));
    assert_eq!(admin.delete(&path).await.json(), json!({"deleted": true}));
    assert_eq!(ask(new, "one/sim-ok").await, 401);
    assert_eq!(ok(&admin.get(&path).await)["data"]["status"], "revoked");
    assert_eq!(change("*".to_owned(), json!({"disabled": false})).await.status, 409);

    let log = ok(&admin.get("/audit").await);
    let actions: Vec<_> = log["data"].as_array().unwrap().iter().filter_map(|entry| entry["action"].as_str()).collect();
    for action in ["key.create", "key.change", "key.rotate", "key.revoke"] {
        assert!(actions.contains(&action), "{action} in {actions:?}");
    }
    assert!(log["data"][0]["actor"] == "administrator" && log["data"][0]["origin"] == "console, 127.0.0.1", "{log}");
}

#[tokio::test]
async fn a_member_answers_for_their_own_keys_alone() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let gateway = gateway(&sim, None).await;
    let org = Org::make(&gateway, &Client::administrator(&gateway), "acme").await;
    let (member, owner) = (org.person("member"), org.person("owner"));
    let own = ok(&member.post("/keys", &json!({"name": "mine"})).await);
    assert_eq!(own["data"]["owner"], format!("member@{}.example", org.id));
    let path = format!("/keys/{}", own["data"]["id"].as_str().unwrap());
    assert_eq!(member.patch(&path, &json!({"workflow": "nightly"})).await.status, 200);
    assert_eq!(member.patch(&path, &json!({"owner": "somebody@else.example"})).await.status, 403);
    assert_eq!(member.post("/keys", &json!({"name": "b", "owner": "somebody@else.example"})).await.status, 403);
    assert_eq!(member.delete(&format!("/keys/{}", org.key)).await.status, 403);
    assert_eq!(owner.delete(&path).await.status, 200);
    assert_eq!(owner.post("/keys", &json!({"name": "k"})).await.status, 409, "the name is taken");
}

#[tokio::test]
async fn a_session_needs_its_token_ends_with_the_password_and_guesses_are_counted() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let gateway = gateway(&sim, None).await;
    let run = |arguments: &[&str], input: &str| said(&gateway.data_dir(), None, arguments, input);
    run(&["users", "add", "ada@example.com", "--role", "owner"], "");
    run(&["users", "password", "ada@example.com", "--stdin"], PASSWORD);
    let ada = Client::log_in(&gateway, "Ada@Example.com", PASSWORD).await;
    let forged = ada.without("x-csrf-token");
    assert_eq!(forged.get("/keys").await.status, 200);
    assert_eq!(forged.post("/keys", &json!({"name": "x"})).await.status, 403);
    assert_eq!(ada.post("/keys", &json!({"name": "x"})).await.status, 201);

    let new = run(&["users", "password", "ada@example.com"], "").trim().to_owned();
    assert_eq!(ada.get("/keys").await.status, 401, "her sessions have ended");
    let ada = Client::log_in(&gateway, "ada@example.com", &new).await;
    let change = json!({"current": new, "new": PASSWORD});
    assert_eq!(ada.post("/session/password", &json!({"current": "wrong", "new": PASSWORD})).await.status, 422);
    assert_eq!(ada.post("/session/password", &json!({"current": new, "new": "short"})).await.status, 422);
    assert_eq!(ada.post("/session/password", &change).await.status, 204);
    let ada = Client::log_in(&gateway, "ada@example.com", PASSWORD).await;
    assert_eq!(ada.delete("/session").await.status, 204);
    assert_eq!(ada.get("/keys").await.status, 401);

    let stranger = Client { url: gateway.console_url.clone(), headers: Vec::new() };
    let mut statuses = Vec::new();
    for guess in 0..16 {
        let email = if guess < 8 && guess % 2 == 0 { "nobody@example.com" } else { "ada@example.com" };
        statuses.push(stranger.post("/session", &json!({"email": email, "password": "wrong wrong"})).await.status);
    }
    assert!(statuses[..8].iter().all(|status| *status == 401), "known or not, the answer is the same: {statuses:?}");
    assert_eq!(statuses.last(), Some(&429), "{statuses:?}");
    // From the same address, as behind one proxy, others still get in.
    run(&["users", "add", "kim@example.com", "--role", "viewer"], "");
    run(&["users", "password", "kim@example.com", "--stdin"], PASSWORD);
    assert_eq!(Client::log_in(&gateway, "kim@example.com", PASSWORD).await.get("/keys").await.status, 200);
    for _ in 0..12 {
        let guess = [("authorization", "Bearer a guess")];
        stranger.send("GET", "/keys", &guess, b"").await;
    }
    assert_eq!(Client::administrator(&gateway).get("/keys").await.status, 200);
    assert!(!gateway.output().contains(PASSWORD));
}

#[tokio::test]
async fn nobody_takes_over_somebody_who_belongs_elsewhere_too() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let gateway = gateway(&sim, None).await;
    let admin = Client::administrator(&gateway);
    let (org, other) = (Org::make(&gateway, &admin, "acme").await, Org::make(&gateway, &admin, "evil").await);
    let email = format!("owner@{}.example", org.id);
    let invite = json!({"email": email, "role": "viewer"});
    let added = ok(&other.person("owner").post(&format!("/orgs/{}/members", other.id), &invite).await);
    assert_eq!(added["password"], Value::Null);
    let reset = format!("/orgs/{}/members/{}/password", other.id, org.owner_id);
    assert_eq!(other.person("owner").post(&reset, &Value::Null).await.status, 403);
    assert_eq!(other.person("admin").post(&reset, &Value::Null).await.status, 403);
    assert_eq!(admin.post(&reset, &Value::Null).await.status, 200);
}
