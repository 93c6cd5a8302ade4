//! What is said about each kind of error, and where.

use super::{Trial, with_env, with_file};
use proptest::prelude::*;

#[test]
fn every_error_is_reported_at_once_in_the_order_of_the_lines() {
    let outcome = with_file(
        "[server]\nlisten = 'nowhere'\nmax_body = 1\n[timeouts]\nconnect = 5\n[retry]\nmax = 99\n[cache]\nbackend = 'redis'\nttl = 300\n[budgets]\n",
    );
    assert_eq!(
        outcome.errors,
        [
            "orbyt.toml:2:10: server.listen: must be an address such as \"127.0.0.1:3001\", or a port, or a list of them",
            "orbyt.toml:3:1: server.max_body: unknown key",
            "orbyt.toml:5:11: timeouts.connect: must be a duration such as \"250ms\", \"5s\" or \"1m\"",
            "orbyt.toml:7:7: retry.max: must be a whole number from 0 to 10",
            "orbyt.toml:9:11: cache.backend: needs store.redis_url (REDIS_URL): where is the Redis?",
            "orbyt.toml:10:7: cache.ttl: must be a duration such as \"250ms\", \"5s\" or \"1m\"",
            "orbyt.toml:11:2: budgets: [budgets] is not in this version yet",
        ]
    );
    assert!(outcome.snapshot.is_none());
}

/// A file, and how the message about it begins.
const CASES: &[(&str, &str)] = &[
    ("[timeout]\n", "orbyt.toml:1:2: timeout: unknown key, did you mean \"timeouts\"?"),
    ("[timeouts]\nconect = '5s'", "orbyt.toml:2:1: timeouts.conect: unknown key, did you mean \"connect\"?"),
    ("[[limits.rule]]\nconcurrency = 1", "orbyt.toml:1:1: limits.rule[0]: scope is missing: whom is the limit for?"),
    ("[limits]\non_outage = 'allow'", "orbyt.toml:2:13: limits.on_outage: must be one of \"local\", \"deny\""),
    (
        "[store]\nnode_name = 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'",
        "orbyt.toml:2:13: store.node_name: must be a name of at most 64 characters",
    ),
    ("[store]\nnode_ttl = '10ms'", "orbyt.toml:2:12: store.node_ttl: must be at least 500ms"),
    (
        "[[limits.rule]]\nscope = 'team'\nconcurrency = 1",
        "orbyt.toml:2:9: limits.rule[0].scope: must be one of \"key\", \"user\", \"model\"",
    ),
    (
        "[[limits.rule]]\nscope = 'key'\nmatch = 'a*'",
        "orbyt.toml:2:9: limits.rule[0].scope: limits nothing: set requests_per_minute, tokens_per_minute, concurrency or another limit",
    ),
    (
        "[[limits.rule]]\nscope = 'key'\nrequests_per_minute = 0",
        "orbyt.toml:3:23: limits.rule[0].requests_per_minute: must be a whole number of at least 1",
    ),
    (
        "[[limits.rule]]\nscope = 'key'\nrequest_per_minute = 5",
        "orbyt.toml:3:1: limits.rule[0].request_per_minute: unknown key, did you mean \"requests_per_minute\"?",
    ),
    ("[limits]\nqueue_wait = 5", "orbyt.toml:2:14: limits.queue_wait: must be a duration such as \"15s\", or \"off\""),
    (
        "[[provider]]\nid = 'openai'\nmax_concurrent = 0",
        "orbyt.toml:3:18: provider[0].max_concurrent: must be a whole number from 1 to 1000000",
    ),
    ("server = 1", "orbyt.toml:1:10: server: must be a section: [server]"),
    ("[provider]\nid = 'openai'", "orbyt.toml:1:1: provider: must be a list of sections: [[provider]]"),
    ("[[provider]]\nname = 'x'", "orbyt.toml:1:1: provider[0]: id is missing"),
    (
        "[[provider]]\nid = 'openai'\n[[provider.key]]\nname = 'a'",
        "orbyt.toml:3:1: provider[0].key[0]: secret is missing",
    ),
    (
        "[[provider]]\nid = 'openai'\n[[provider.key]]\nsecret = { enw = 'X' }",
        "orbyt.toml:4:10: provider[0].key[0].secret: must be a text, { env = \"NAME\" }, { file = \"PATH\" } or { credential = \"NAME\" }",
    ),
    (
        "[[provider]]\nid = 'Open AI'",
        "orbyt.toml:2:6: provider[0].id: must be made of lower-case letters, digits, - _ and .",
    ),
    (
        "[[provider]]\nid = 'opnai'",
        "orbyt.toml:2:6: provider[0].id: \"opnai\" is not in the catalog, did you mean \"openai\"?; a provider of your own needs a base_url",
    ),
    (
        "[[provider]]\nid = 'a'\nbase_url = 'h/v1'",
        "orbyt.toml:3:12: provider[0].base_url: must begin with http:// or https://",
    ),
    (
        "[[provider]]\nid = 'a'\nbase_url = 'http://u:p@h'",
        "orbyt.toml:3:12: provider[0].base_url: must not carry a user name or password: give the key separately",
    ),
    (
        "[[provider]]\nid = 'a'\nbase_url = 'http://h'\ndialect = 'klingon'",
        "orbyt.toml:4:11: provider[0].dialect: must be one of \"openai_chat\", \"anthropic_messages\", \"gemini\", \"cohere\", \"ollama\", \"bedrock_converse\"",
    ),
    (
        "[[provider]]\nid = 'a'\nbase_url = 'http://h'\nheaders = { host = 'x' }",
        "orbyt.toml:4:20: provider[0].headers.host: is set by the gateway",
    ),
    (
        "[[provider]]\nid = 'a'\nbase_url = 'http://h'\nheaders = { Authorization = 'x' }",
        "orbyt.toml:4:29: provider[0].headers.Authorization: is set from the key: use [[provider.key]]",
    ),
    (
        "[[provider]]\nid = 'a'\nbase_url = 'http://h'\nheaders = { 'a b' = 'x' }",
        "orbyt.toml:4:21: provider[0].headers.a b: is not a header",
    ),
    (
        "[[provider]]\nid = 'a'\nbase_url = 'http://h'\nca_file = 'ca.pem'",
        "orbyt.toml:4:11: provider[0].ca_file: /etc/orbyt/ca.pem: there is no such file",
    ),
    (
        "[[provider]]\nid = 'a'\nbase_url = 'http://h'\n[[provider]]\nid = 'a'\nbase_url = 'http://i'",
        "orbyt.toml:5:6: provider[1].id: there are two providers called \"a\"",
    ),
    (
        "[[provider]]\nid = 'a'\nbase_url = 'http://h'\nquirks = ['odd']",
        "orbyt.toml:4:11: provider[0].quirks[0]: must be one of \"none\"",
    ),
    (
        "[[provider]]\nid = 'a'\nbase_url = 'http://h'\n[[provider.model]]\nid = 'm'\ninput = -1",
        "orbyt.toml:6:9: provider[0].model[0].input: must be a price in dollars per million tokens, such as \"2.50\"",
    ),
    (
        "[[preset]]\nslug = 'a/b'",
        "orbyt.toml:2:8: preset[0].slug: may hold letters, digits, dots, hyphens and underscores only",
    ),
    (
        "[[preset]]\nslug = 'a'\n[[preset]]\nslug = 'a'",
        "orbyt.toml:4:8: preset[1].slug: there are two presets called \"a\"",
    ),
    (
        "[[preset]]\nslug = 'a'\nmodel = 'opnai/x'",
        "orbyt.toml:3:9: preset[0].model: there is no provider \"opnai\", did you mean \"openai\"?",
    ),
    (
        "[[preset]]\nslug = 'a'\nparameters = { temperature = 'hot' }",
        "orbyt.toml:3:30: preset[0].parameters.temperature: temperature must be a number",
    ),
    (
        "[[preset]]\nslug = 'a'\nparameters = { stream = true }",
        "orbyt.toml:3:25: preset[0].parameters.stream: stream is no parameter of a preset: it has a setting of its own, or is the request's",
    ),
    (
        "[[preset]]\nslug = 'a'\nparameters = { provider = { sort = 'best' } }",
        "orbyt.toml:3:27: preset[0].parameters.provider: provider.sort must be \"price\", \"throughput\" or \"latency\"",
    ),
    ("[routing]\nsticky = 'on'", "orbyt.toml:2:10: routing.sticky: must be one of \"off\", \"session\", \"prefix\""),
    (
        "[routing]\nstrategy = 'best'",
        "orbyt.toml:2:12: routing.strategy: must be one of \"order\", \"cheap\", \"fast\", \"latency\", \"throughput\", \"reliable\", \"weighted\"",
    ),
    (
        "[routing]\nproviders = ['openai', 'antropic']",
        "orbyt.toml:2:24: routing.providers[1]: there is no provider \"antropic\", did you mean \"anthropic\"?",
    ),
    ("[routing]\nproviders = ['google', 'gemini']", "orbyt.toml:2:24: routing.providers[1]: google is named twice"),
    (
        "[routing]\nproviders = ['openai']\nweights = [1, 2]",
        "orbyt.toml:3:12: routing.weights[0]: there are 2 weights for 1 providers",
    ),
    (
        "[routing]\nweights = [1, 2]",
        "orbyt.toml:2:12: routing.weights[0]: needs the providers that the weights are for, in the same order",
    ),
    (
        "[routing]\nfallbacks = ['opnai/x']",
        "orbyt.toml:2:14: routing.fallbacks[0]: there is no provider \"opnai\", did you mean \"openai\"?",
    ),
    ("[[model]]\nname = 'm'", "orbyt.toml:1:1: model[0]: targets is missing: what does the name stand for?"),
    (
        "[[model]]\nname = 'm'\ntargets = ['nobody/x']",
        "orbyt.toml:3:12: model[0].targets[0]: there is no provider \"nobody\"",
    ),
    (
        "[[model]]\nname = 'm'\ntargets = ['zzz']",
        "orbyt.toml:3:12: model[0].targets[0]: nothing is known about \"zzz\": write provider/model",
    ),
    ("[[model]]\nname = 'm'\ntargets = ['m']", "orbyt.toml:3:12: model[0].targets[0]: a model cannot stand for itself"),
    (
        "[[model]]\nname = 'a'\ntargets = ['b']\n[[model]]\nname = 'b'\ntargets = ['openai/x', 'a']",
        "orbyt.toml:3:12: model[0].targets[0]: a model cannot stand for itself",
    ),
    (
        "[[model]]\nname = 'm'\ntargets = ['openai/gpt-4o:floor']",
        "orbyt.toml:3:12: model[0].targets[0]: cannot have a strategy of its own here: set strategy for all of the list",
    ),
    (
        "[routing]\nauto = ['m']\n[[model]]\nname = 'm'\ntargets = ['auto']",
        "orbyt.toml:2:9: routing.auto[0]: auto cannot stand for itself",
    ),
    (
        "[routing]\nauto = ['openai/gpt-4o:nitro']",
        "orbyt.toml:2:9: routing.auto[0]: cannot have a strategy of its own here: set strategy for all of the list",
    ),
    (
        "[telemetry]\nledger_retention = '1h'",
        "orbyt.toml:2:20: telemetry.ledger_retention: must be at least \"1d\", or \"off\"",
    ),
    (
        "[cache.semantic]\nthreshold = 0",
        "orbyt.toml:2:13: cache.semantic.threshold: must be at least 0.5: below it questions would get the answers of others",
    ),
    (
        "[[model]]\nname = 'auto'\ntargets = ['openai/x']",
        "orbyt.toml:2:8: model[0].name: cannot be a model's name: auto, @… and white space are taken",
    ),
    (
        "[[model]]\nname = 'm'\ntargets = ['openai/x']\n[[model]]\nname = 'm'\ntargets = ['openai/x']",
        "orbyt.toml:5:8: model[1].name: there are two models called \"m\"",
    ),
    (
        "[server]\ntrusted_proxies = ['10.0.0.0/99']",
        "orbyt.toml:2:20: server.trusted_proxies[0]: must be an address or a network such as \"10.0.0.0/8\"",
    ),
    (
        "[server]\nlisten = ['3001', '127.0.0.1:3001']",
        "orbyt.toml:2:19: server.listen[1]: 127.0.0.1:3001 is listened on twice",
    ),
    ("[server]\nlisten = []", "server.listen has no address"),
    (
        "[console]\nlisten = '0.0.0.0:3001'",
        "console.listen 0.0.0.0:3001 and server.listen 127.0.0.1:3001 want the same port",
    ),
    ("[server.tls]\nlisten = '3443'", "orbyt.toml:1:1: server.tls: certificate is missing"),
    (
        "[server.cors]\nallow_origins = ['app.example']",
        "orbyt.toml:2:18: server.cors.allow_origins[0]: must be an origin such as \"https://app.example\", or \"*\"",
    ),
    ("[retry]\nbase = '9s'", "orbyt.toml:2:8: retry.base: base (9s) is longer than cap (5s)"),
    ("[retry]\nbudget = 1.5", "orbyt.toml:2:10: retry.budget: must be a number from 0 to 1"),
    ("[gate]\nmax_bytes = 0", "orbyt.toml:2:13: gate.max_bytes: must be a number of bytes such as 1048576 or \"1MiB\""),
    (
        "[limits]\nconcurrent = 0",
        "orbyt.toml:2:14: limits.concurrent: must be a whole number of at least 1, or \"off\"",
    ),
    (
        "[timeouts]\nidle = '0s'",
        "orbyt.toml:2:8: timeouts.idle: must be a duration such as \"250ms\", \"5s\" or \"1m\"",
    ),
    (
        "[console]\nadmin_token = { env = 'NOT_SET' }",
        "orbyt.toml:2:15: console.admin_token: the environment variable NOT_SET is not set",
    ),
    (
        "[console]\nadmin_token = { credential = 'x' }",
        "orbyt.toml:2:15: console.admin_token: $CREDENTIALS_DIRECTORY is not set: systemd sets it for LoadCredential=",
    ),
    (
        "[server]\napi_keys = [{ file = 'k' }]",
        "orbyt.toml:2:13: server.api_keys[0]: /etc/orbyt/k: there is no such file",
    ),
];

#[test]
fn each_kind_of_error_names_its_line_column_and_key() {
    for (file, expected) in CASES {
        let outcome = with_file(file);
        assert!(outcome.errors.iter().any(|error| error.starts_with(expected)), "{file}\n{:#?}", outcome.errors);
        assert!(outcome.snapshot.is_none(), "{file}");
    }
}

#[test]
fn a_broken_syntax_is_reported_with_what_else_can_be_read() {
    let outcome = with_file("[server]\nlisten = \n[timeouts]\nconnect = 'soon'\nconnect = '5s'\n");
    assert!(outcome.errors.iter().any(|error| error.starts_with("orbyt.toml:2:")), "{:?}", outcome.errors);
    assert!(
        outcome.errors.iter().any(|error| error.starts_with("orbyt.toml:4:11: timeouts.connect")),
        "{:?}",
        outcome.errors
    );
    assert!(outcome.errors.iter().any(|error| error.starts_with("orbyt.toml:5:1")), "{:?}", outcome.errors);
}

#[test]
fn columns_count_characters() {
    let outcome = with_file("[telemetry]\n\"ключ\" = 1\n[media]\nmax_bytes = 'ж'");
    assert_eq!(outcome.errors[0], "orbyt.toml:2:1: telemetry.ключ: unknown key");
    assert!(outcome.errors[1].starts_with("orbyt.toml:4:13: media.max_bytes"), "{}", outcome.errors[1]);
}

#[test]
fn bad_variables_are_named() {
    for (name, value, expected) in [
        ("ORBYT_LISTEN", "nowhere", "ORBYT_LISTEN: must be an address such as"),
        ("ORBYT_LOG", "loud", "ORBYT_LOG: must be one of"),
        ("GATEWAY_PROVIDERS", "openai,nobody", "GATEWAY_PROVIDERS: there is no provider \"nobody\""),
        ("GATEWAY_WEIGHTS", "1", "GATEWAY_WEIGHTS: needs the providers that the weights are for"),
        ("GATEWAY_WEIGHTS", "a", "GATEWAY_WEIGHTS: must be whole numbers such as 50,30,20"),
        ("GATEWAY_RETRY_MAX", "11", "GATEWAY_RETRY_MAX: must be a whole number from 0 to 10"),
        ("GATEWAY_HEALTH_CHECK_INTERVAL", "soon", "GATEWAY_HEALTH_CHECK_INTERVAL: must be a duration"),
        ("OPENAI_BASE_URL", "h", "OPENAI_BASE_URL: must begin with http:// or https://"),
        ("OPENAI_API_KEY", " , ", "OPENAI_API_KEY: must be a key, or several with commas between them"),
        ("OPENAI_API_KEY", "sk-ключ", "OPENAI_API_KEY: holds characters that cannot be sent in a header"),
    ] {
        let outcome = with_env(&[(name, value)]);
        assert!(outcome.errors.iter().any(|error| error.starts_with(expected)), "{name}={value}: {:?}", outcome.errors);
    }
}

#[test]
fn no_message_repeats_a_secret() {
    let outcome = Trial {
        file: "[console]\nadmin_token = 'canary-1'\n[server]\napi_keys = ['canary-2', 3]\n[[provider]]\nid = 'openai'\n\
               base_url = 'http://canary-3@h/'\nheaders = { x-key = \"canary-4\\n\" }\n[[provider.key]]\nsecret = [\"canary-5\"]\n\
               [[provider.key]]\nsecret = \"canary-6\\u0001\"",
        variables: &[("ANTHROPIC_API_KEY", "canary-7,canary-7"), ("ACME_BASE_URL", "ftp://canary-8"), ("ACME_API_KEY", "canary-9")],
        ..Trial::default()
    }
    .run();
    assert!(outcome.errors.len() >= 5, "{:?}", outcome.errors);
    let shown = format!("{:?} {:?}", outcome.errors, outcome.warnings);
    assert!(!shown.contains("canary"), "{shown}");
}

/// A file that uses every kind of value, to be broken by the property below.
const SAMPLE: &str = include_str!("../../../conf/orbyt.toml");

proptest! {
    #[test]
    fn a_mutilated_file_never_panics(cuts in prop::collection::vec((0usize..9000, 0usize..12, "[\\PC\n\"'\\[\\]{}=,.#]{0,4}"), 1..6), uncomment: bool) {
        let mut text = if uncomment { SAMPLE.replace("\n#", "\n") } else { SAMPLE.to_owned() };
        for (at, len, insert) in cuts {
            let boundary = |at: usize| (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            let (start, end) = (boundary(at), boundary(at + len));
            text.replace_range(start..end, &insert);
        }
        let outcome = with_file(&text);
        prop_assert_eq!(outcome.snapshot.is_some(), outcome.errors.is_empty());
    }

    #[test]
    fn any_text_never_panics(text in "\\PC{0,200}") {
        let outcome = with_file(&text);
        prop_assert_eq!(outcome.snapshot.is_some(), outcome.errors.is_empty());
    }
}
