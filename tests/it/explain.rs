//! `orbyt explain`: why each target was or was not tried, asked of the running gateway.

use crate::api_keys::said;
use crate::gateway::{ADMIN_TOKEN, Gateway, binary, saying};
use orbyt::sim::{Sim, SimDialect, SimFault};
use serde_json::{Value, json};
use std::process::{Command, Output};

const CONFIG: &str = "[retry]\nmax = 0\n[[model]]\nname = \"any\"\ntargets = [\"one/m1\", \"two/m2\", \"three/m3\"]\n";

fn orbyt(arguments: &[&str], token: &str) -> Output {
    let mut command = Command::new(binary());
    let folder = tempfile::tempdir().unwrap();
    command.arg("explain").args(arguments).current_dir(folder.path()).env_clear().env("ORBYT_ADMIN_TOKEN", token);
    // Which must not get to see the token, and cannot help.
    command.env("HTTP_PROXY", "http://127.0.0.1:1").env("http_proxy", "http://127.0.0.1:1");
    command.output().unwrap()
}

fn sim() -> Sim {
    Sim::start(SimDialect::OpenAi).unwrap()
}

#[tokio::test]
async fn explains_which_targets_were_tried_and_why_and_repeats_the_decision() {
    let sims = [sim(), sim(), sim()];
    let mut builder = Gateway::builder().config(CONFIG);
    for (sim, id) in sims.iter().zip(["one", "two", "three"]) {
        builder = builder.provider(id, sim);
    }
    let gateway = builder.start().await;
    sims[0].always(SimFault::ServerError);
    let mut request = saying("any", "one two", false);
    request["provider"] = json!({"ignore": ["three"]});
    let answer = gateway.chat(&request).await;
    assert_eq!((answer.status, answer.header("x-provider")), (200, "two"), "{}", answer.body_text());
    gateway.log_line(&answer).await;
    let id = answer.header("x-request-id");
    let shown = orbyt(&[id, "--console", &gateway.console_url], ADMIN_TOKEN);
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.status.success(), "{text}{}", String::from_utf8_lossy(&shown.stderr));
    let line =
        |target: &str| text.lines().find(|line| line.contains(target)).unwrap_or_else(|| panic!("{target}: {text}"));
    assert!(line("one/m1").starts_with('1') && line("one/m1").contains("500 server_error with one_01"), "{text}");
    assert!(line("two/m2").starts_with('2') && line("two/m2").contains("served with two_01"), "{text}");
    assert!(line("three/m3").starts_with('-') && line("three/m3").contains("is in provider.ignore"), "{text}");
    assert!(
        text.contains("strategy  order, seed ")
            && text.contains("computed again from this record alone, and is the same"),
        "{text}"
    );

    let json = orbyt(&[id, "--console", &gateway.console_url, "--json"], ADMIN_TOKEN);
    let mut explanation: Value = serde_json::from_slice(&json.stdout).unwrap();
    let decision = serde_json::from_value(explanation["decision"].take()).unwrap();
    assert!(orbyt::routing::plan::repeats(&decision), "{decision:?}");
    let mut other = decision;
    other.order.reverse();
    assert!(!orbyt::routing::plan::repeats(&other), "another order is not the one that the inputs give");
}

#[tokio::test]
async fn what_a_key_may_not_use_is_said_to_be_that() {
    let sims = [sim(), sim(), sim()];
    let mut builder = Gateway::builder().config(CONFIG);
    for (sim, id) in sims.iter().zip(["one", "two", "three"]) {
        builder = builder.provider(id, sim);
    }
    let gateway = builder.start().await;
    let create = ["keys", "create", "--name", "narrow", "--providers", "two"];
    let key = said(&gateway.data_dir(), None, &create, "");
    let headers = [("x-api-key", key.trim()), ("content-type", "application/json")];
    let answer = gateway.ask("/v1/chat/completions", &headers, &saying("any", "one two", false)).await;
    assert_eq!((answer.status, answer.header("x-provider")), (200, "two"), "{}", answer.body_text());
    gateway.log_line(&answer).await;
    let shown = orbyt(&[answer.header("x-request-id"), "--console", &gateway.console_url], ADMIN_TOKEN);
    let text = String::from_utf8(shown.stdout).unwrap();
    let line =
        |target: &str| text.lines().find(|line| line.contains(target)).unwrap_or_else(|| panic!("{target}: {text}"));
    assert!(line("one/m1").contains("not tried: is not for this key"), "{text}");
    assert!(line("two/m2").contains("served with two_01"), "{text}");
    assert!(text.contains("computed again from this record alone, and is the same"), "{text}");
}

#[tokio::test]
async fn a_refused_request_is_explained_too_and_what_is_not_there_is_said() {
    let one = sim();
    let gateway = Gateway::builder().provider("one", &one).start().await;
    let mut request = saying("one/m", "x", false);
    request["provider"] = json!({"ignore": ["one"]});
    let answer = gateway.chat(&request).await;
    assert_eq!(answer.status, 400, "{}", answer.body_text());
    gateway.log_line(&answer).await;
    let console = ["--console", gateway.console_url.as_str()];
    let shown = orbyt(&[answer.header("x-request-id"), console[0], console[1]], ADMIN_TOKEN);
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(text.contains("not tried: is in provider.ignore"), "{text}");

    for (id, token, says) in [
        ("req_000000000000000000000000", ADMIN_TOKEN, "Nothing is kept of this request"),
        ("nonsense", ADMIN_TOKEN, "This is no request's id"),
        ("req_000000000000000000000000", "wrong", "This is not the admin token"),
        ("req_000000000000000000000000", "", "set ORBYT_ADMIN_TOKEN"),
    ] {
        let failed = orbyt(&[id, console[0], console[1]], token);
        let said = String::from_utf8(failed.stderr).unwrap();
        assert!(!failed.status.success() && said.contains(says), "{id} {token:?}: {said}");
    }
    let dead = orbyt(&["req_000000000000000000000000", "--console", "http://127.0.0.1:1"], ADMIN_TOKEN);
    assert!(String::from_utf8(dead.stderr).unwrap().contains("is the gateway running?"));
}
