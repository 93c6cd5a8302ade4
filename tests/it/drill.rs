//! `orbyt drill`: what clients would see, with nobody real being asked.

use crate::gateway::{PATIENCE, binary};
use orbyt::sim::{Sim, SimDialect};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Runs a drill on this configuration; gives the exit code and what was printed.
fn drill(folder: &Path, config: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let file = folder.join("orbyt.toml");
    std::fs::write(&file, config).unwrap();
    let output = Command::new(binary())
        .args(["drill", "-c", file.to_str().unwrap()])
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("ORBYT_DATA_DIR", folder.join("data"))
        .envs([("KEY_ONE", "canary-one"), ("KEY_TWO", "canary-two")])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains("canary"), "{text}");
    (output.status.code(), text)
}

/// The lines of the table, in single spaces.
fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

fn provider(id: &str, sim: &Sim, key: &str) -> String {
    let base = sim.base_url();
    format!(
        "[[provider]]\nid = '{id}'\ndialect = 'openai_chat'\nbase_url = '{base}'\n[[provider.key]]\nsecret = {{ env = '{key}' }}\n"
    )
}

/// Two providers, and a model that either serves.
fn two(one: &Sim, two: &Sim) -> String {
    let alias = "[[model]]\nname = 'house'\ntargets = ['one/m', 'two/m']\n";
    format!("{}{}{alias}", provider("one", one, "KEY_ONE"), provider("two", two, "KEY_TWO"))
}

#[test]
fn with_a_provider_to_stand_in_no_client_sees_an_error_and_nobody_real_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (Sim::start(SimDialect::OpenAi).unwrap(), Sim::start(SimDialect::OpenAi).unwrap());
    let begun = Instant::now();
    let (code, text) = drill(folder.path(), &two(&one, &other), &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    let lines = lines(&text);
    let has = |begin: &str| assert!(lines.iter().any(|line| line.starts_with(begin)), "{begin}\n{text}");
    has("✓ nothing house whole 200 one m 1 no 2 ");
    has("✓ nothing house stream 200 one m 1 no 2 ");
    has("✓ one down house whole 200 two m ");
    has("✓ two down house stream 200 one m 1 no 2 ");
    assert!(text.contains("no client sees an error: 12 requests"), "{text}");
    assert!(one.calls().is_empty() && other.calls().is_empty(), "a real provider was asked");
    assert!(!folder.path().join("data/orbyt.db").exists(), "the drill has made a database");
}

#[test]
fn what_nobody_can_stand_in_for_is_an_error_and_the_exit_code_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (Sim::start(SimDialect::OpenAi).unwrap(), Sim::start(SimDialect::OpenAi).unwrap());
    let config = two(&one, &other) + "[retry]\nmax = 0\n";
    let both = ["--fault", "one:500", "--fault", "provider=two:refused", "--requests", "1"];
    let (code, text) = drill(folder.path(), &config, &both);
    assert_eq!(code, Some(1), "{text}");
    assert!(lines(&text).iter().any(|line| line.starts_with("✗ one 500, two down house whole 50")), "{text}");
    assert!(text.contains("1 of 1 requests end in an error that a client sees"), "{text}");
    // After the first words nobody can stand in.
    let cut = ["--fault", "one:cut-after-tokens", "--requests", "2", "--model", "house"];
    let (code, text) = drill(folder.path(), &config, &cut);
    assert_eq!(code, Some(1), "{text}");
    let seen = lines(&text);
    assert!(
        seen.iter().any(|line| line.starts_with("✓ one cut-after-tokens house whole 200 two m 2 yes 1 ")),
        "{text}"
    );
    assert!(
        seen.iter().any(|line| line.starts_with("✗ one cut-after-tokens house stream 200, then the error ")),
        "{text}"
    );
}

#[test]
fn what_cannot_be_done_is_said_before_anything_is() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (Sim::start(SimDialect::OpenAi).unwrap(), Sim::start(SimDialect::OpenAi).unwrap());
    let config = two(&one, &other);
    for (config, arguments, says) in [
        (&*config, &["--fault", "three:429"][..], "there is no provider \"three\"; there are one, two"),
        (&*config, &["--fault", "one:sleepy"], "there is no fault \"sleepy\"; there are ok, 429"),
        ("[serve]\n", &[], "orbyt.toml:1:2: serve: unknown key"),
        ("", &[], "there is no provider to be simulated"),
    ] {
        let (code, text) = drill(folder.path(), config, arguments);
        assert!(code == Some(2) && text.contains(says), "{code:?} {text}");
    }
}
