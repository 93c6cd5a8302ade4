//! Loading from a disk: files, `.env`, certificates, and the same again on reload.

use super::CATALOG;
use crate::config::{Source, load};
use std::path::Path;
use std::sync::Arc;

fn source(directory: &Path, file: &str, process: &[(&str, &str)]) -> Source {
    Source {
        file: Some(directory.join(file)),
        process: process.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        dotenv: Some(directory.join(".env")),
        catalog: Arc::clone(&CATALOG),
    }
}

#[test]
fn the_file_the_env_file_and_the_process_are_read_again_each_time() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("orbyt.toml", "[[provider]]\nid = 'openai'\n[[provider.key]]\nsecret = { file = 'key' }\n");
    write("key", "first\n");
    write(".env", "# comment\nANTHROPIC_API_KEY='of dotenv'\nGROQ_API_KEY=dotenv\n");
    let source = source(directory.path(), "orbyt.toml", &[("GROQ_API_KEY", "process"), ("HOME", "/h")]);
    let secrets = || {
        let loaded = load(&source).unwrap();
        loaded.snapshot.secrets().map(|secret| secret.reveal().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(secrets(), ["first", "of dotenv", "process"]);
    write("key", "second");
    assert_eq!(secrets(), ["second", "of dotenv", "process"]);
    let files = load(&source).unwrap().files;
    for name in ["orbyt.toml", "key", ".env"] {
        assert!(files.contains(&directory.path().join(name)), "{name} in {files:?}");
    }
    write("orbyt.toml", "[servr]\n");
    let refused = load(&source).unwrap_err();
    assert!(refused.errors[0].to_string().ends_with("orbyt.toml:1:2: servr: unknown key, did you mean \"server\"?"));
}

#[test]
fn a_file_that_is_not_there_or_not_text_is_an_error_and_a_missing_env_file_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let missing = load(&source(directory.path(), "none.toml", &[])).unwrap_err();
    assert!(missing.errors[0].to_string().ends_with("none.toml: there is no such file"));
    std::fs::write(directory.path().join("bad.toml"), b"[server]\nx = '\xff'").unwrap();
    let bad = load(&source(directory.path(), "bad.toml", &[])).unwrap_err();
    assert!(bad.errors[0].to_string().ends_with("bad.toml: line 2 is not UTF-8"));
    let env = source(directory.path(), "x", &[("ORBYT_CONFIG", "/nowhere/orbyt.toml")]);
    let refused = load(&Source { file: None, ..env }).unwrap_err();
    assert_eq!(refused.errors[0].to_string(), "/nowhere/orbyt.toml: there is no such file");
}

#[test]
fn a_bad_line_in_the_env_file_is_an_error_that_does_not_repeat_it() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(".env"), "OPENAI_API_KEY='canary\nX=1\n").unwrap();
    let source = Source { file: None, ..source(directory.path(), "x", &[]) };
    let refused = load(&source).unwrap_err();
    assert!(refused.errors[0].to_string().contains("holds a line that is not NAME=value"), "{:?}", refused.errors);
    assert!(!format!("{refused:?}").contains("canary"));
}

#[test]
fn certificates_must_be_there_and_be_certificates() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    let block = |label: &str| format!("-----BEGIN {label}-----\nMAMCAQA=\n-----END {label}-----\n");
    write(
        "tls.toml",
        "[server.tls]\nlisten = '0'\ncertificate = 'cert.pem'\nkey = 'key.pem'\n[[provider]]\nid = 'lab'\nbase_url = 'https://h'\nca_file = 'ca.pem'\n",
    );
    write("cert.pem", "not a certificate");
    write("key.pem", &block("CERTIFICATE"));
    let source = source(directory.path(), "tls.toml", &[]);
    let refused = load(&source).unwrap_err();
    let errors: Vec<_> = refused.errors.iter().map(|problem| problem.message.clone()).collect();
    assert_eq!(errors[0], "holds no certificate in PEM form");
    assert_eq!(errors[1], "holds no private key in PEM form");
    assert!(errors[2].ends_with("ca.pem: there is no such file"), "{errors:?}");
    write("cert.pem", &block("CERTIFICATE"));
    write("key.pem", &block("PRIVATE KEY"));
    write("ca.pem", &(block("CERTIFICATE") + &block("CERTIFICATE")));
    let loaded = load(&source).unwrap();
    let tls = loaded.snapshot.server.tls.unwrap();
    assert_eq!(tls.certificate, directory.path().join("cert.pem"));
    assert_eq!(loaded.snapshot.providers[0].ca, vec![vec![0x30, 3, 2, 1, 0]; 2]);
}
