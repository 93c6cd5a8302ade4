//! `[[limits.rule]]` and `max_concurrent`, from the file to what they mean.

use super::{Trial, with_file};
use crate::domain::{Limit, Measure, Period, Scope};
use crate::routing::fair_queue::Caps;
use std::time::Duration;

#[test]
fn a_rule_holds_every_limit_that_it_names() {
    let text = "[limits]\nqueue_size = 7\nqueue_wait = 'off'\nassumed_output_tokens = 50\n\
                [[limits.rule]]\nscope = 'key'\nrequests_per_minute = 60\ntokens_per_day = 1000000\nconcurrency = 4";
    let limits = with_file(text).sound().limits;
    assert_eq!((limits.queue_size, limits.queue_wait, limits.assumed_output_tokens), (7, None, 50));
    let expected = [
        Limit { measure: Measure::Requests(Period::Minute), amount: 60 },
        Limit { measure: Measure::Tokens(Period::Day), amount: 1_000_000 },
        Limit { measure: Measure::Concurrency, amount: 4 },
    ];
    assert_eq!(*limits.rules[0].limits, expected);
    let nothing = with_file("").sound().limits;
    assert_eq!((nothing.rules.len(), nothing.queue_wait), (0, Some(Duration::from_secs(30))));
}

#[test]
fn names_fit_patterns_and_models_also_without_their_provider() {
    let text = "[[limits.rule]]\nscope = 'model'\nmatch = 'big-*'\nconcurrency = 1\n\
                [[limits.rule]]\nscope = 'model'\nmatch = 'one/*'\nconcurrency = 1\n\
                [[limits.rule]]\nscope = 'user'\nmatch = 'big-*'\nconcurrency = 1\n\
                [[limits.rule]]\nscope = 'key'\nconcurrency = 1";
    let rules = with_file(text).sound().limits.rules;
    let fits = |rule: usize, name: &str| rules[rule].matches(name);
    assert!(fits(0, "big-1") && fits(0, "one/big-1") && fits(0, "one/big-a/b") && !fits(0, "one/small"));
    assert!(fits(1, "one/big-1") && !fits(1, "two/one/x") && !fits(1, "one"));
    assert!(fits(2, "big-1") && !fits(2, "one/big-1"));
    assert!(fits(3, "") && fits(3, "anything"));
    assert_eq!(rules[3].scope, Scope::Key);
}

#[test]
fn a_rule_that_is_never_reached_is_told() {
    let rule = |scope: &str, more: &str| format!("[[limits.rule]]\nscope = '{scope}'\n{more}\nconcurrency = 1\n");
    let text = [rule("key", "match = 'a*'"), rule("key", ""), rule("user", ""), rule("key", "match = 'b*'")].concat();
    let outcome = with_file(&text);
    let told: Vec<_> = outcome.warnings.iter().filter(|warning| warning.contains("is never reached")).collect();
    assert!(told.len() == 1 && told[0].contains("limits.rule[3].scope"), "{:?}", outcome.warnings);
}

#[test]
fn caps_are_those_of_the_provider_and_of_the_model() {
    let text = "[[provider]]\nid = 'a'\nbase_url = 'http://h'\nmax_concurrent = 9\n\
                [[provider.model]]\nid = 'm'\nmax_concurrent = 2\n[[provider.model]]\nid = 'n'\n\
                [[provider]]\nid = 'b'\nbase_url = 'http://h'\n[[provider.model]]\nid = 'm'\nmax_concurrent = 3";
    let snapshot = Trial { file: text, ..Trial::default() }.run().sound();
    let caps = |provider: usize, model: &str| snapshot.providers[provider].caps(model);
    assert_eq!(caps(0, "m"), Some(Caps { provider: Some(9), model: Some(2) }));
    assert_eq!(caps(0, "n"), Some(Caps { provider: Some(9), model: None }));
    assert_eq!(caps(1, "m"), Some(Caps { provider: None, model: Some(3) }));
    assert_eq!(caps(1, "n"), None);
}

#[test]
fn keys_have_the_names_that_their_operator_gives_them() {
    let text = "[server]\napi_keys = [{ env = 'C' }, { name = 'team-a', env = 'A' }, { name = 'team-b', file = 'b' }]\n\
                [[limits.rule]]\nscope = 'key'\nmatch = 'team-*'\nconcurrency = 1";
    let (variables, disk) = ([("A", "k1"), ("C", "k3"), ("HOME", "/h")], [("/etc/orbyt/b", "k2")]);
    let outcome = Trial { file: text, variables: &variables, disk: &disk }.run();
    assert_eq!(outcome.warnings, Vec::<String>::new());
    let snapshot = outcome.sound();
    assert_eq!(snapshot.keys.names().collect::<Vec<_>>(), ["team-a", "team-b", "key_03"]);
    assert_eq!(snapshot.keys.find("k2", 0).map(|found| found.principal.key_name.to_string()).as_deref(), Ok("team-b"));
    for (keys, error) in [
        ("{ name = 'a', env = 'A' }, { name = 'a', env = 'HOME' }", "there are two keys called \"a\""),
        (
            "{ name = 'a', env = 'A' }, { name = 'b', env = 'A' }",
            "is the same key as \"a\": each needs a secret of its own",
        ),
        ("{ env = 'A' }, { env = 'A', store = false }", "is the same key as "),
        ("{ name = 'a' }", "must be a text"),
        ("{ name = '', env = 'A' }", "must be a text"),
        ("{ name = 'a', env = 'A', file = 'b' }", "must be a text"),
    ] {
        let file = format!("[server]\napi_keys = [{keys}]");
        let errors = Trial { file: &file, variables: &variables, disk: &disk }.run().errors;
        assert!(errors.iter().any(|told| told.contains(error)), "{keys}: {errors:?}");
    }
}

#[test]
fn a_node_that_waits_too_long_for_redis_is_told() {
    let warnings = |store: &str| {
        let file = format!("[store]\nredis_url = 'redis://h'\n{store}");
        Trial { file: &file, ..Trial::default() }.run().warnings
    };
    assert!(warnings("redis_timeout = '2s'").is_empty() && warnings("").is_empty());
    for store in ["redis_timeout = '3s'", "node_ttl = '100s'\nredis_timeout = '30s'"] {
        assert!(warnings(store).iter().any(|told| told.contains("more than a quarter of node_ttl")), "{store}");
    }
}

#[test]
fn a_rule_that_nothing_matches_is_told() {
    let rule = |scope: &str, pattern: &str| {
        format!("[[limits.rule]]\nscope = '{scope}'\nmatch = '{pattern}'\nrequests_per_minute = 1\n")
    };
    let file = |rules: &[String]| {
        "[server]\napi_keys = [{ name = 'blue', env = 'K' }]\n[[provider]]\nid = 'google'\n\
         [[provider.key]]\nsecret = { env = 'K' }\n[[model]]\nname = 'mine/fast'\ntargets = ['google/x']\n"
            .to_owned()
            + &rules.concat()
    };
    let run = |file: &str| Trial { file, variables: &[("K", "k"), ("HOME", "/h")], disk: &[] }.run().warnings;
    let fine = [
        ("key", "b*"),
        ("key", "sk-or-v1-8f3•••9fb"),
        ("user", "team-*"),
        ("model", "gpt-*"),
        ("model", "google/*"),
        ("model", "*/x"),
        ("model", "mine/*"),
    ];
    assert_eq!(run(&file(&fine.map(|(scope, pattern)| rule(scope, pattern)))), Vec::<String>::new());
    for (scope, pattern, expected) in [
        ("key", "team-*", "matches no gateway key: there are blue. server.api_keys names them"),
        ("model", "openai/*", "matches no model: no provider \"openai\" is configured"),
        ("model", "gemini/*", "matches no model: write google/*"),
    ] {
        let warnings = run(&file(&[rule(scope, pattern)]));
        assert!(warnings.len() == 1 && warnings[0].contains("limits.rule[0].match"), "{warnings:?}");
        assert!(warnings[0].contains(expected), "{warnings:?}");
    }
    let nameless = rule("key", "team-*");
    assert!(with_file(&nameless).warnings[0].contains("none has a name"));
    assert_eq!(with_file(&rule("key", "*")).warnings, Vec::<String>::new());
}
