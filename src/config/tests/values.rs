//! What sound files mean.

use super::{Trial, with_file};
use crate::config::StoredKeys;
use crate::config::{LogFormat, Timeouts};
use crate::dialect::openai_chat::passthrough::Quirks;
use crate::dialect::table::Dialect;
use crate::domain::{Money, Strategy};
use crate::provider::AuthScheme;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn a_provider_of_ones_own_follows_its_dialect() {
    let file = "[[provider]]\nid = 'claude-proxy'\ndialect = 'anthropic_messages'\nbase_url = 'https://h/anthropic/v1/'\n\
                headers = { X-Team = 'a' }\naliases = ['cp']\n[[provider.key]]\nsecret = { file = 'k' }\n\
                [[provider]]\nid = 'lab'\nbase_url = 'http://h'\n";
    let snapshot = Trial { file, disk: &[("/etc/orbyt/k", " sk-file\n")], ..Trial::default() }.run().sound();
    let own = snapshot.provider("cp").unwrap();
    assert_eq!((own.dialect, own.auth), (Dialect::AnthropicMessages, AuthScheme::Header("x-api-key")));
    assert_eq!(own.base.to_string(), "https://h/anthropic");
    assert!(own.headers.iter().any(|(name, _)| name == "anthropic-version"));
    assert!(own.headers.contains(&("x-team".to_owned(), "a".to_owned())));
    assert_eq!(own.keys[0].secret.reveal(), "sk-file");
    let lab = snapshot.provider("lab").unwrap();
    assert_eq!((lab.base.to_string().as_str(), lab.auth, lab.needs_key()), ("http://h/v1", AuthScheme::None, false));
    assert!(lab.quirks.has(Quirks::ALL_TOLERANT));
}

#[test]
fn a_provider_of_two_formats_is_spoken_to_in_the_one_that_is_written() {
    let file = "[[provider]]\nid = 'cohere'\ndialect = 'openai_chat'\n[[provider.key]]\nsecret = { file = 'k' }\n\
                [[provider]]\nid = 'ollama'\ndialect = 'ollama'\nbase_url = 'http://gpu:11434'\n\
                [[provider]]\nid = 'attic'\ndialect = 'ollama'\nbase_url = 'http://attic:11434/api'\n";
    let snapshot = Trial { file, disk: &[("/etc/orbyt/k", "key\n")], ..Trial::default() }.run().sound();
    let [cohere, ollama, attic] = ["cohere", "ollama", "attic"].map(|id| snapshot.provider(id).unwrap());
    assert_eq!(cohere.base.to_string(), "https://api.cohere.ai/compatibility/v1");
    assert!(cohere.dialect == Dialect::OpenAiChat && cohere.quirks.has(Quirks::from_name("max_tokens").unwrap()));
    assert_eq!((ollama.dialect, ollama.base.to_string().as_str()), (Dialect::Ollama, "http://gpu:11434"));
    assert!(ollama.discovers && !ollama.needs_key());
    assert_eq!((attic.dialect, attic.base.to_string().as_str()), (Dialect::Ollama, "http://attic:11434"));
    assert_eq!((attic.auth, attic.needs_key()), (AuthScheme::None, false));
}

#[test]
fn a_provider_of_the_catalog_keeps_what_is_not_written() {
    let file = "[[provider]]\nid = 'gemini'\nheaders = { x-goog-user-project = 'p' }\ndiscover = true\nweight = 3\n\
                [provider.timeouts]\nfirst_output = '2m'\n[[provider.key]]\nsecret = 'plain'\n[timeouts]\nidle = '9s'";
    let outcome = with_file(file);
    assert_eq!(outcome.warnings.len(), 1, "{:?}", outcome.warnings);
    assert!(outcome.warnings[0].starts_with("orbyt.toml:9:10: provider[0].key[0].secret: a secret in clear"));
    let snapshot = outcome.sound();
    let google = &snapshot.providers[0];
    assert_eq!(
        (&*google.id, google.dialect, google.weight, google.discovers),
        ("google", Dialect::Gemini, Some(3), true)
    );
    assert_eq!(google.base.host, "generativelanguage.googleapis.com");
    let expected = Timeouts {
        connect: Duration::from_secs(5),
        first_output: Duration::from_secs(120),
        idle: Duration::from_secs(9),
        total: Duration::from_secs(600),
    };
    assert_eq!(google.timeouts, Some(expected));
    assert!(!format!("{snapshot:?}").contains("plain"), "Debug shows no secret");
}

#[test]
fn a_provider_that_is_switched_off_or_has_no_key_is_left_out() {
    let file = "[[provider]]\nid = 'openai'\nenabled = false\n[[provider]]\nid = 'anthropic'";
    let variables = &[("OPENAI_API_KEY", "k")];
    let outcome = Trial { file, variables, ..Trial::default() }.run();
    assert!(outcome.ids().is_empty());
    assert_eq!(
        outcome.warnings,
        ["orbyt.toml:5:6: provider[1].id: anthropic has no key and is left out: set ANTHROPIC_API_KEY"]
    );
}

#[test]
fn local_models_change_and_add_to_the_catalog() {
    let file = "[[provider]]\nid = 'openai'\n[[provider.key]]\nsecret = { env = 'K' }\n\
                [[provider.model]]\nid = 'gpt-4o'\ninput = 1\noutput = '0.15'\ncontext = 5\n\
                [[provider.model]]\nid = 'ft:mine'\naliases = ['mine']\ncached_input = 0.5\nfallbacks = ['openai/gpt-4o']\n\
                [[model]]\nname = 'm'\ntargets = ['mine', 'openai/ft:mine', 'gpt-4o']\nstrategy = 'fast'";
    let snapshot = Trial { file, variables: &[("K", "k")], ..Trial::default() }.run().sound();
    let models = &snapshot.providers[0].models;
    assert_eq!((&*models[0].id, models[0].context), ("openai/gpt-4o", Some(5)));
    assert_eq!(models[0].prices.input, Money::from_dollars("0.000001"));
    assert_eq!(models[0].prices.output, Money::from_dollars("0.00000015"));
    assert_eq!((&*models[1].id, &*models[1].upstream), ("openai/ft:mine", "ft:mine"));
    assert_eq!(models[1].prices.cached_input, Money::from_dollars("0.0000005"));
    let alias = snapshot.alias("m").unwrap();
    assert_eq!((alias.targets.len(), alias.strategy), (3, Some(Strategy::Fast)));
}

#[test]
fn values_have_the_notations_that_people_use() {
    let file = "[server]\nlisten = ['0.0.0.0:80', '[::1]:81']\nmax_body_bytes = '1MiB'\ntrusted_proxies = ['10.0.0.0/8', '::1']\n\
                workers = 3\ngrace = '1m'\n[server.cors]\nallow_origins = '*'\n[gate]\nmax_bytes = 0x1000\nmax_wait = '2s'\nkeepalive = 'off'\n\
                [limits]\nglobal_per_second = 1_000\nconcurrent = 'off'\n[telemetry]\nlog_format = 'json'\n[retry]\nbudget = 1\nmax = 0";
    let snapshot = with_file(file).sound();
    assert_eq!(snapshot.server.listen.len(), 2);
    assert_eq!(snapshot.server.max_body_bytes, 1 << 20);
    assert!(snapshot.server.trusted_proxies[0].contains("10.9.9.9".parse().unwrap()));
    assert_eq!((snapshot.server.workers, snapshot.server.grace), (3, Duration::from_secs(60)));
    assert_eq!(snapshot.server.cors.allow_origins, ["*"]);
    assert_eq!((snapshot.gate.max_bytes, snapshot.gate.max_wait), (4096, Some(Duration::from_secs(2))));
    assert_eq!(snapshot.gate.keepalive, Duration::ZERO);
    assert_eq!((snapshot.limits.global_per_second, snapshot.limits.concurrent), (Some(1000), None));
    assert_eq!((snapshot.telemetry.log_format, snapshot.retry.max), (LogFormat::Json, 0));
}

#[test]
fn a_clock_that_can_never_run_out_is_a_warning() {
    let outcome = with_file("[timeouts]\ntotal = '10s'\nidle = '20s'");
    assert!(
        outcome
            .warnings
            .iter()
            .any(|warning| warning.starts_with("orbyt.toml:3:8: timeouts.idle: is longer than the total"))
    );
    assert!(outcome.snapshot.is_some());
}

#[test]
fn the_same_input_makes_the_same_snapshot_and_a_changed_listener_needs_a_restart() {
    let variables =
        &[("OPENAI_API_KEY", "k"), ("ANTHROPIC_API_KEY", "l"), ("ACME_API_KEY", "m"), ("ACME_BASE_URL", "http://h")];
    let file = "[[model]]\nname = 'm'\ntargets = ['openai/gpt-4o']\n";
    let make = |file: &str| Trial { file, variables, ..Trial::default() }.run().sound();
    let (one, two) = (make(file), make(file));
    assert_eq!(format!("{:?}", one.providers), format!("{:?}", two.providers));
    assert_eq!((&one.server, &one.console, &one.routing), (&two.server, &two.console, &two.routing));
    assert_eq!((&one.aliases, &one.retry, &one.gate), (&two.aliases, &two.retry, &two.gate));
    let secrets = |snapshot: &crate::config::Snapshot| {
        snapshot.secrets().map(|secret| secret.reveal().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(secrets(&one), secrets(&two));
    assert!(one.needs_restart(&two).is_empty());
    let moved = make("[server]\nlisten = '1'\n[retry]\nmax = 0\n");
    assert_eq!(one.needs_restart(&moved), ["server.listen"]);
}

#[test]
fn stored_credentials_join_those_of_the_configuration() {
    use crate::domain::Secret;
    let snapshot = with_file("[console]\nadmin_token = 'configured'\n").sound();
    let stored = Arc::new(StoredKeys::default());
    let snapshot = snapshot.with_stored(stored.clone(), Arc::default(), Some(Secret::new("stored-token").hash()));
    assert_eq!(snapshot.console.admin_token, Some(Secret::new("configured").hash()), "the configuration wins");
    let bare = with_file("").sound().with_stored(stored, Arc::default(), Some(Secret::new("stored-token").hash()));
    assert_eq!(bare.console.admin_token, Some(Secret::new("stored-token").hash()));
}

#[test]
fn a_redis_without_a_password_is_no_secret_and_its_missing_certificates_are_told_once() {
    let warnings = |url: &str| with_file(&format!("[store]\nredis_url = '{url}'")).warnings;
    assert_eq!(warnings("redis://localhost:6379/1"), Vec::<String>::new());
    assert!(warnings("redis://:canary@h")[0].contains("a secret in clear"));
    let errors = with_file("[store]\nredis_url = 'rediss://h'\nredis_ca_file = 'ca.pem'").errors;
    assert_eq!(errors.len(), 1, "{errors:?}");
}
