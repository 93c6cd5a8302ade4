//! `[cache.semantic]`: what it needs, and what it says when that is not there.

use super::{Outcome, with_file};
use std::time::Duration;

/// A file with providers of three formats and this section.
fn with_section(section: &str) -> Outcome {
    with_file(&format!(
        "[cache]\nbackend = 'memory'\n[[provider]]\nid = 'own'\nbase_url = 'http://h/v1'\naliases = ['mine']\n\
         [[provider]]\nid = 'claude'\ndialect = 'anthropic_messages'\nbase_url = 'http://h'\n\
         [cache.semantic]\n{section}"
    ))
}

#[test]
fn a_model_is_all_that_it_needs() {
    let semantic = with_section("model = 'mine/vectors/v1'").sound().cache.semantic.unwrap();
    assert_eq!((&*semantic.provider, &*semantic.model, semantic.by_default), ("own", "vectors/v1", false));
    assert_eq!((semantic.threshold, semantic.max_entries), (0.95, 10_000));
    assert_eq!(semantic.timeout, Duration::from_secs(1));
    let all = "model = 'own/v'\nenabled = true\nthreshold = 0.8\nmax_entries = 5\ntimeout = '2s'";
    let semantic = with_section(all).sound().cache.semantic.unwrap();
    assert_eq!((semantic.by_default, semantic.threshold, semantic.max_entries), (true, 0.8, 5));
    assert_eq!(semantic.timeout, Duration::from_secs(2));
    assert_eq!(with_section("threshold = 0.8").sound().cache.semantic, None);
    assert_eq!(with_section("enabled = false").sound().cache.semantic, None);
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (section, message) in [
        ("enabled = true", "orbyt.toml:12:11: cache.semantic.enabled: needs a model for the embeddings: set model"),
        ("model = 'vectors'", "orbyt.toml:12:9: cache.semantic.model: must be provider/model"),
        ("model = 'own/'", "orbyt.toml:12:9: cache.semantic.model: must be provider/model"),
        (
            "model = 'opnai/v'",
            "orbyt.toml:12:9: cache.semantic.model: there is no provider \"opnai\", did you mean \"openai\"?",
        ),
        (
            "model = 'claude/v'",
            "orbyt.toml:12:9: cache.semantic.model: must be at a provider that makes embeddings; claude speaks anthropic_messages",
        ),
        ("threshold = 1.5", "orbyt.toml:12:13: cache.semantic.threshold: must be a number from 0 to 1"),
        ("max_entries = 0", "orbyt.toml:12:15: cache.semantic.max_entries: must be a whole number from 1 to 1000000"),
        ("modle = 'x'", "orbyt.toml:12:1: cache.semantic.modle: unknown key, did you mean \"model\"?"),
    ] {
        assert_eq!(with_section(section).errors, [message]);
    }
}

#[test]
fn a_provider_without_a_key_and_a_cache_that_is_off_are_worth_a_warning() {
    let outcome = with_section("model = 'openai/v'\nenabled = true");
    assert_eq!(
        outcome.warnings,
        ["orbyt.toml:12:9: cache.semantic.model: openai is not set up: no questions are compared"]
    );
    assert_eq!(outcome.sound().cache.semantic, None);
    let off = "[[provider]]\nid = 'own'\nbase_url = 'http://h/v1'\n[cache.semantic]\nmodel = 'own/v'\nenabled = true";
    assert_eq!(
        with_file(off).warnings,
        ["orbyt.toml:6:11: cache.semantic.enabled: has no effect while cache.backend is \"off\""]
    );
}

#[test]
fn the_size_of_the_index_needs_a_restart_and_the_rest_does_not() {
    let snapshot = |section: &str| with_section(section).sound();
    let plain = snapshot("model = 'own/v'");
    let other = snapshot("model = 'own/w'\nenabled = true\nthreshold = 0.5");
    assert_eq!(plain.needs_restart(&other), Vec::<&str>::new());
    assert_eq!(plain.needs_restart(&snapshot("threshold = 0.5")), Vec::<&str>::new());
    assert_eq!(plain.needs_restart(&snapshot("model = 'own/v'\nmax_entries = 7")), ["cache.semantic.max_entries"]);
}
