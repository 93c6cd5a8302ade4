//! `orbyt backup` and `orbyt restore`: what comes back is what was there, made while the gateway was at work.

use crate::api_keys::{orbyt, said};
use crate::gateway::{Gateway, KEY, PATIENCE, saying};
use orbyt::sim::client;
use orbyt::sim::{Sim, SimDialect};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a command says that has to fail.
fn fails(data_dir: &Path, url: Option<&str>, arguments: &[&str]) -> String {
    let output = orbyt(data_dir, url, arguments, "");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{text}");
    text
}

fn requests(data_dir: &Path) -> usize {
    said(data_dir, None, &["requests", "list", "--json", "--limit", "1000000"], "").lines().count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_made_under_load_comes_back_whole() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let gateway = Gateway::builder().provider("one", &sim).start().await;
    let data_dir = gateway.data_dir();
    let made = said(&data_dir, None, &["keys", "create", "--name", "kept"], "");
    said(&data_dir, None, &["vault", "add", "openai", "--name", "sealed"], "key-in-the-vault");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup.db");
    let path = file.to_str().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let asking: Vec<_> = (0..8)
        .map(|_| {
            let (url, stop) = (format!("{}/v1/chat/completions", gateway.url), stop.clone());
            tokio::spawn(async move {
                let mut asked = 0;
                while !stop.load(Ordering::Relaxed) {
                    let body = saying("one/sim-ok", "one", false).to_string();
                    let answer = client::send("POST", &url, &[("x-api-key", KEY)], body.as_bytes()).await.unwrap();
                    assert!(answer.looks_complete(), "{}", answer.body_text());
                    asked += 1;
                }
                asked
            })
        })
        .collect();
    gateway.until("some requests in the ledger", || requests(&data_dir) > 20).await;
    let before = requests(&data_dir);
    let arguments = ["backup", path, "--with-master-key"];
    let output = orbyt(&data_dir, None, &arguments, "");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && text.contains(" 1 keys in the vault, "), "{text}");
    assert!(text.contains("backup.db.master.key: the master key, which opens the vault"), "{text}");
    stop.store(true, Ordering::Relaxed);
    for asked in asking {
        assert!(asked.await.unwrap() > 0);
    }
    // Not over what is there, and not below a gateway that runs.
    assert!(fails(&data_dir, None, &["backup", path]).contains("is there already"));
    assert!(fails(&data_dir, None, &["restore", path]).contains("a gateway uses "));

    let other = folder.path().join("other");
    let output = orbyt(&other, None, &["restore", path], "");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && text.contains("restored the master key"), "{text}");
    assert!(!text.contains("warning"), "{text}");
    assert!(requests(&other) >= before, "{} of {before}", requests(&other));
    let builder = Gateway::builder().provider("one", &sim).variable("ORBYT_DATA_DIR", other.to_str().unwrap());
    let again = builder.start().await;
    let body = saying("one/sim-ok", "one", false);
    let answer = again.ask("/v1/chat/completions", &[("x-api-key", made.trim())], &body).await;
    assert!(answer.looks_complete(), "{}", answer.body_text());
    assert!(said(&other, None, &["vault", "list"], "").contains("sealed"));
}

#[tokio::test]
async fn what_was_replaced_is_kept_and_a_vault_that_does_not_open_is_told() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let mut gateway = Gateway::builder().provider("one", &sim).start().await;
    let data_dir = gateway.data_dir();
    let made = said(&data_dir, None, &["keys", "create", "--name", "kept"], "");
    said(&data_dir, None, &["vault", "add", "openai", "--name", "sealed"], "key-in-the-vault");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup.db");
    let path = file.to_str().unwrap();
    let output = orbyt(&data_dir, None, &["backup", path], "");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && text.contains("master.key, which is not in it"), "{text}");
    said(&data_dir, None, &["keys", "revoke", "kept"], "");
    gateway.signal(libc::SIGTERM);
    gateway.ended(PATIENCE).await.expect("it did not end");
    assert!(!said(&data_dir, None, &["keys", "list"], "").contains("kept"));
    let output = orbyt(&data_dir, None, &["restore", path], "");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && text.contains("what was there is now "), "{text}");
    assert!(said(&data_dir, None, &["keys", "list"], "").contains("kept") && !made.is_empty());
    let kept = std::fs::read_dir(&data_dir).unwrap().map(|entry| entry.unwrap().path());
    assert_eq!(kept.filter(|path| path.to_string_lossy().contains("orbyt.db.before-")).count(), 1);
    // In another place, without its master key.
    let elsewhere = folder.path().join("elsewhere");
    let output = orbyt(&elsewhere, None, &["restore", path], "");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && text.contains("warning: vault: key sealed of openai"), "{text}");
}

#[test]
fn what_is_no_backup_and_what_postgres_has_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let path = folder.path().join("file");
    std::fs::write(&path, "no database, but long enough to be looked at ".repeat(100)).unwrap();
    let file = path.to_str().unwrap();
    assert!(fails(&data_dir, None, &["restore", file]).contains("is damaged"));
    assert!(fails(&data_dir, None, &["backup", "other"]).contains("there is no database in"));
    let url = Some("postgres://user:canary@127.0.0.1:1/none");
    for (arguments, says) in [(["backup", "other"], "use pg_dump"), (["restore", file], "use pg_restore")] {
        let text = fails(&data_dir, url, &arguments);
        assert!(text.contains(says) && !text.contains("canary"), "{text}");
    }
}
