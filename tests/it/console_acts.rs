//! The console's pages against a running gateway: which organisation they are about, what is listed, and what they leave behind.

use crate::admin_api::{Client, Org, gateway, id, ok};
use crate::gateway::{Gateway, PATIENCE, saying};
use orbyt::sim::{Sim, SimDialect};
use serde_json::{Value, json};
use std::time::Instant;

fn sim() -> Sim {
    Sim::start(SimDialect::OpenAi).unwrap()
}

/// The addresses that a page links to.
fn links(page: &str) -> Vec<String> {
    let all = page.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
    all.map(|link| link.replace("&amp;", "&")).collect()
}

/// The names of the keys of a page, as it has them.
fn keys(page: &str) -> Vec<String> {
    let rows = page.split("<th scope=\"row\">").skip(1);
    rows.map(|row| row.split('<').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn who_belongs_to_two_organisations_acts_in_the_one_that_the_page_shows() {
    let sim = sim();
    let gateway = gateway(&sim, None).await;
    let admin = Client::administrator(&gateway);
    let (acme, zeta) = (Org::make(&gateway, &admin, "acme").await, Org::make(&gateway, &admin, "zeta").await);
    let email = format!("admin@{}.example", acme.id);
    let wanted = json!({"email": email, "role": "owner", "keep_password": true});
    assert_eq!(admin.post(&format!("/orgs/{}/members", zeta.id), &wanted).await.status, 201);
    let person = acme.person("admin");
    // Owner of the one, admin of the other: where no address says which, it is the first.
    let page = person.page("/keys").await.body_text();
    assert!(page.contains(&format!("<option value=\"{}\" selected>zeta</option>", zeta.id)), "{page}");
    assert_eq!(page.matches(" selected").count(), 1, "{page}");
    let link = links(&page).into_iter().find(|link| link.starts_with("/budgets")).unwrap();
    assert_eq!(link, format!("/budgets?org={}", zeta.id));
    let action = format!("action=\"/keys?org={}\"", zeta.id);
    assert!(page.contains(&action), "the form names it: {page}");
    for (org, name) in [(&zeta, "of zeta"), (&acme, "of acme")] {
        let made = person.form(&format!("/keys?org={}", org.id), &[("name", name)]).await;
        assert_eq!(made.status, 200, "{}", made.body_text());
        let listed = ok(&admin.get(&format!("/keys?org={}", org.id)).await)["data"].to_string();
        assert!(listed.contains(name), "{listed}");
    }
    let page = person.page("/keys").await.body_text();
    assert!(keys(&page).contains(&"of zeta".to_owned()) && !page.contains("of acme"), "{page}");
}

#[tokio::test]
async fn the_newest_keys_are_on_the_page_and_the_consoles_own_leave_nothing() {
    let sim = sim();
    let gateway = gateway(&sim, None).await;
    let admin = Client::administrator(&gateway);
    let before = ok(&admin.get("/keys?limit=1000").await)["data"].as_array().unwrap().len();
    for number in 0..105 {
        // Some are void, and stay listed.
        let key = id(&admin.post("/keys", &json!({"name": format!("key {number:03}")})).await);
        if number % 20 == 0 {
            assert_eq!(admin.delete(&format!("/keys/{key}")).await.status, 200);
        }
    }
    let page = admin.page("/keys").await.body_text();
    let names = keys(&page);
    assert_eq!((names.len(), names[0].as_str(), names[99].as_str()), (100, "key 104", "key 005"), "{page}");
    let older = links(&page).into_iter().find(|link| link.contains("cursor=")).unwrap();
    let rest = admin.page(&older).await.body_text();
    assert_eq!(keys(&rest).len(), 5 + before, "{rest}");
    assert!(keys(&rest)[0] == "key 004" && !links(&rest).iter().any(|link| link.contains("cursor=")), "{rest}");
    let active = keys(&admin.page("/keys?status=active").await.body_text());
    assert!(active.contains(&"key 104".to_owned()) && !active.contains(&"key 100".to_owned()), "{active:?}");

    let asked = admin.form("/playground", &[("model", "one/sim-ok"), ("prompt", "x")]).await.body_text();
    assert!(asked.contains("href=\"/requests/req_"), "{asked}");
    let left = ok(&admin.get("/keys?limit=1000").await)["data"].as_array().unwrap().len();
    assert_eq!(left, before + 105, "its key is gone");
    let log = ok(&admin.get("/audit").await)["data"].to_string();
    assert!(log.contains("key.create") && log.contains("\"console "), "the audit log has it: {log}");

    // Nobody hides a key behind the name of the console's.
    let hidden = json!({"name": "backup", "metadata": {"purpose": "console"}});
    assert_eq!(admin.post("/keys", &hidden).await.status, 422);
    let plain = id(&admin.post("/keys", &json!({"name": "backup", "metadata": {"purpose": "batch"}})).await);
    let change = json!({"metadata": {"purpose": "console"}});
    assert_eq!(admin.patch(&format!("/keys/{plain}"), &change).await.status, 422);
    // Nor makes the database say where it is.
    let strange = json!({"name": "strange", "scopes": {"models": ["a\u{0}"]}});
    let refused = admin.post("/keys", &strange).await;
    assert!(refused.status == 422 && refused.body_text().contains("control character"), "{}", refused.body_text());
}

#[tokio::test]
async fn a_project_that_is_not_called_default_any_more_is_still_the_default_one() {
    let sim = sim();
    let gateway = gateway(&sim, None).await;
    let admin = Client::administrator(&gateway);
    let org = Org::make(&gateway, &admin, "acme").await;
    let owner = org.person("owner");
    let projects = ok(&owner.get("/projects").await)["data"].clone();
    let project = projects[0]["id"].as_str().unwrap();
    assert_eq!(owner.patch(&format!("/projects/{project}"), &json!({"name": "web"})).await.status, 200);
    let own = json!({"name": "own", "org": org.id});
    assert_eq!(ok(&owner.post("/keys", &own).await)["data"]["project"], project);
    assert_eq!(owner.form("/keys", &[("name", "by a form")]).await.status, 200);
    // Others come later, whatever they are called.
    for name in ["a", "zz"] {
        id(&owner.post("/projects", &json!({"org": org.id, "name": name})).await);
    }
    assert_eq!(ok(&owner.post("/keys", &json!({"name": "later"})).await)["data"]["project"], project);
    let asked = owner.form("/playground", &[("model", "one/sim-ok"), ("prompt", "x")]).await.body_text();
    assert!(asked.contains("href=\"/requests/req_"), "{asked}");
}

#[tokio::test]
async fn money_is_written_down_for_the_organisation_that_was_chosen_and_its_people_are_told() {
    let sim = sim();
    let gateway = Gateway::builder().provider("one", &sim).start().await;
    let admin = Client::administrator(&gateway);
    let paid = [("amount", "100"), ("amount_usd", "100"), ("note", "invoice 17")];
    assert_eq!(admin.form("/credits", &paid).await.status, 200, "with one organisation there is nothing to choose");
    let (acme, other) = (Org::make(&gateway, &admin, "acme").await, Org::make(&gateway, &admin, "other").await);
    let all = admin.page("/budgets").await.body_text();
    // Beside it stands the selector of organisations.
    let all = &all[all.find("<main").unwrap()..];
    assert!(
        !all.contains("action=\"/credits")
            && !all.contains("action=\"/budgets\"")
            && all.contains("Choose an organisation"),
        "{all}"
    );
    assert_eq!(admin.form("/credits", &paid).await.status, 422);
    let budget = [("payer", "org"), ("span", "day"), ("amount", "0"), ("amount_usd", "0")];
    assert_eq!(admin.form("/budgets", &budget).await.status, 422);
    let saved = [("provider", "one"), ("key", "saved-key-0123456789"), ("owner", "org")];
    assert_eq!(admin.form("/provider-keys", &saved).await.status, 422);
    assert_eq!(admin.form(&format!("/budgets?org={}", acme.id), &budget).await.status, 200);
    let budgets = ok(&admin.get("/budgets").await)["data"].clone();
    assert_eq!((budgets.as_array().unwrap().len(), &budgets[0]["org"]), (1, &acme.id.as_str().into()), "{budgets}");
    // A budget of nothing is used up: those whom it concerns see why they get 402s.
    gateway.shows("orbyt_alerts{kind=\"budget\"} 1\n").await;
    for (person, is_told) in [(acme.person("viewer"), true), (&admin, true), (other.person("owner"), false)] {
        let page = person.page("/overview").await.body_text();
        assert_eq!(page.contains("is used up"), is_told, "{page}");
    }
}

#[tokio::test]
async fn usage_says_when_it_is_not_all_and_leads_to_sessions_that_have_only_a_trace() {
    let sim = sim();
    let gateway = gateway(&sim, None).await;
    let admin = Client::administrator(&gateway);
    for (model, trace) in [("one/sim-ok", "trace-1"), ("one/other", "trace-2")] {
        let mut body = saying(model, "x", false);
        body["extra"] = json!({"trace_id": trace});
        assert_eq!(gateway.chat(&body).await.status, 200);
    }
    let started = Instant::now();
    while ok(&admin.get("/requests").await)["data"].as_array().unwrap().len() < 2 {
        assert!(started.elapsed() < PATIENCE, "they are not in the ledger\n{}", gateway.output());
    }
    let usage = async |query: &str| ok(&admin.get(&format!("/usage?by=model{query}")).await);
    let (all, part): (Value, Value) = (usage("").await, usage("&limit=1").await);
    assert_eq!((all["data"].as_array().unwrap().len(), &all["more"]), (2, &json!(false)), "{all}");
    assert_eq!((part["data"].as_array().unwrap().len(), &part["more"]), (1, &json!(true)), "{part}");
    let page = admin.page("/usage?by=session").await.body_text();
    let sessions: Vec<_> = links(&page).into_iter().filter(|link| link.starts_with("/sessions/")).collect();
    assert_eq!(sessions.len(), 2, "{page}");
    for link in sessions {
        let session = admin.page(&link).await;
        assert!(session.status == 200 && session.body_text().contains("trace-"), "{link}: {}", session.status);
    }
    let requests = admin.get("/requests/nonsense/explain").await;
    assert!(requests.header("content-type").starts_with("application/problem+json"), "{}", requests.body_text());
}

#[tokio::test]
async fn a_setting_is_changed_by_the_tag_that_was_seen_and_no_other() {
    let sim = sim();
    let file = "[[preset]]\nslug = \"of-file\"\nmodel = \"one/sim-ok\"\n";
    let gateway = Gateway::builder().provider("one", &sim).config(file).start().await;
    let admin = Client::administrator(&gateway);
    let put = async |tag: Option<&str>, body: Value| {
        let kind = ("content-type", "application/json");
        let headers: Vec<_> = tag.map(|tag| ("if-match", tag)).into_iter().chain([kind]).collect();
        admin.send("PUT", "/presets/of-file", &headers, body.to_string().as_bytes()).await.status
    };
    // What stands in the file alone cannot be changed here, so it has no tag to change it by.
    assert!(!admin.get("/presets/of-file").await.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("etag")));
    assert_eq!(put(None, json!({"model": "one/other"})).await, 201);
    let shown = admin.get("/presets/of-file").await;
    assert_eq!(shown.json()["source"], "file");
    let tag = shown.header("etag").to_owned();
    assert_eq!(put(Some(&tag), json!({"model": "one/third"})).await, 200, "the tag that was received is right");
    assert_eq!(put(Some(&tag), json!({"model": "one/fourth"})).await, 412);
}
