//! Plans, as names and wishes make them.

use super::*;
use crate::config::{self, Source};
use crate::provider::Catalog;
use crate::store::memory::{MemoryKeyPool, MemoryLimits, MemoryResponses, MemoryTargets};
use crate::telemetry::{Format, Log, Metrics, Redactor, Telemetry};
use std::sync::LazyLock;

static CATALOG: LazyLock<Arc<Catalog>> = LazyLock::new(|| Arc::new(Catalog::builtin().unwrap()));

const THREE: &[(&str, &str)] =
    &[("OPENAI_API_KEY", "sk-a"), ("ANTHROPIC_API_KEY", "sk-ant-a"), ("GEMINI_API_KEY", "AIza")];

fn core(env: &[(&str, &str)], file: &str) -> Arc<Core> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orbyt.toml");
    std::fs::write(&path, file).unwrap();
    let process = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let source = Source { file: Some(path), process, dotenv: None, catalog: CATALOG.clone() };
    let loaded = config::load(&source).unwrap_or_else(|refused| panic!("{:?}", refused.errors));
    let redactor = Arc::new(Redactor::default());
    let log = Log::start(log::LevelFilter::Off, Format::Json, Box::new(std::io::sink()), redactor.clone()).unwrap();
    let telemetry = Telemetry::new(log, Arc::new(Metrics::new("test").unwrap()), redactor);
    let (pool, targets) = (MemoryKeyPool::default(), MemoryTargets::default());
    Core::new(
        loaded.snapshot,
        Arc::new(pool),
        Arc::new(targets),
        Arc::new(MemoryLimits::default()),
        Arc::new(MemoryResponses::default()),
        Arc::new(telemetry),
    )
}

fn plan(core: &Arc<Core>, body: &str) -> Result<Plan, ApiError> {
    let snapshot = core.snapshot.load_full();
    Plan::new(core, &snapshot, &Envelope::scan(body.to_owned().into()).unwrap())
}

/// The plan as `leg:provider/model` words.
fn words(core: &Arc<Core>, fields: &str) -> Vec<String> {
    let body = format!(r#"{{"messages":[{{"role":"user","content":"hi"}}],{fields}}}"#);
    let plan = plan(core, &body).unwrap_or_else(|error| panic!("{fields}: {}", error.message));
    plan.targets.iter().map(|(leg, t)| format!("{leg}:{}/{}", t.provider.id, t.model.upstream)).collect()
}

fn refusal(core: &Arc<Core>, fields: &str) -> ApiError {
    let body = format!(r#"{{"messages":[{{"role":"user","content":"hi"}}],{fields}}}"#);
    plan(core, &body).unwrap_err()
}

#[test]
fn a_prefix_pins_the_provider_and_a_bare_name_finds_it() {
    let core = core(THREE, "");
    assert_eq!(words(&core, r#""model":"openai/gpt-4o""#), ["0:openai/gpt-4o"]);
    assert_eq!(words(&core, r#""model":"gpt-4o""#), ["0:openai/gpt-4o"]);
    assert_eq!(words(&core, r#""model":"gemini/gemini-2.5-flash""#), ["0:google/gemini-2.5-flash"]);
    assert_eq!(words(&core, r#""model":"openai/not-known-yet""#), ["0:openai/not-known-yet"]);
    assert_eq!(words(&core, r#""model":"claude-not-known-yet""#), ["0:anthropic/claude-not-known-yet"]);
}

#[test]
fn fallbacks_are_models_or_providers_in_the_clients_order() {
    let core = core(THREE, "");
    let asked =
        r#""model":"openai/gpt-4o","extra":{"fallback_models":["google/gemini-2.5-flash","openai/gpt-4o-mini"]}"#;
    assert_eq!(words(&core, asked), ["0:openai/gpt-4o", "1:google/gemini-2.5-flash", "2:openai/gpt-4o-mini"]);
    let there = words(&core, r#""model":"openai/gpt-4o","extra":{"fallback_models":["anthropic"]}"#);
    assert_eq!(there.len(), 2);
    assert!(there[1].starts_with("1:anthropic/claude"), "{there:?}");
    let models = words(&core, r#""model":"openai/gpt-4o","models":["google/gemini-2.5-flash"]"#);
    assert_eq!(models, ["0:openai/gpt-4o", "1:google/gemini-2.5-flash"]);
    let wrong = refusal(&core, r#""model":"openai/gpt-4o","extra":{"fallback_models":["nobody/knows"]}"#);
    assert_eq!((wrong.status, wrong.param.as_deref()), (404, Some("extra.fallback_models")));
    let body =
        r#"{"model":"openai/gpt-4o","messages":[{"role":"user","content":"x"}],"models":["groq/llama-3.3-70b"]}"#;
    let left_out = plan(&core, body).unwrap();
    assert_eq!((left_out.targets.len(), left_out.unusable), (1, vec!["fallback_models[0]".to_owned()]));
}

#[test]
fn a_provider_locks_fallbacks_included() {
    let core = core(THREE, "");
    let asked =
        r#""model":"gpt-4o","extra":{"provider":"openai","fallback_models":["gpt-4o-mini","google/gemini-2.5-flash"]}"#;
    let locked = words(&core, asked);
    assert!(locked.iter().all(|word| word.contains(":openai/")), "{locked:?}");
    assert_eq!(locked[..2], ["0:openai/gpt-4o", "1:openai/gpt-4o-mini"]);
    let wrong = refusal(&core, r#""model":"gpt-4o","extra":{"provider":"groq"}"#);
    assert_eq!((wrong.status, wrong.param.as_deref()), (400, Some("extra.provider")));
}

#[test]
fn named_providers_stand_in_for_each_other() {
    let mut env = THREE.to_vec();
    env.push(("GATEWAY_PROVIDERS", "openai,anthropic,google"));
    let core = core(&env, "");
    let legs = words(&core, r#""model":"gpt-4o""#);
    assert_eq!(legs.len(), 3, "{legs:?}");
    assert!(legs[1].starts_with("1:anthropic/") && legs[2].starts_with("2:google/"), "{legs:?}");
    let own = words(&core, r#""model":"gpt-4o","extra":{"fallback_models":["gpt-4o-mini"]}"#);
    assert_eq!(own, ["0:openai/gpt-4o", "1:openai/gpt-4o-mini"], "what the request names replaces what is configured");
}

#[test]
fn an_alias_is_one_model_with_several_targets() {
    let file = "[[model]]\nname = 'house'\ntargets = ['anthropic/claude-sonnet-4-20250514', 'openai/gpt-4o']\nfallbacks = ['google/gemini-2.5-flash']\n";
    let core = core(THREE, file);
    let legs = words(&core, r#""model":"house""#);
    assert_eq!(legs, ["0:anthropic/claude-sonnet-4-20250514", "0:openai/gpt-4o", "1:google/gemini-2.5-flash"]);
}

#[test]
fn cheap_and_the_floor_suffix_order_by_price() {
    let file = "[[model]]\nname = 'either'\ntargets = ['openai/gpt-4o', 'openai/gpt-4o-mini']\n";
    let core = core(THREE, file);
    let cheap = ["0:openai/gpt-4o-mini", "0:openai/gpt-4o"];
    assert_eq!(words(&core, r#""model":"either","extra":{"provider":"cheap"}"#), cheap);
    assert_eq!(words(&core, r#""model":"either:floor""#), cheap);
    assert_eq!(words(&core, r#""model":"either","provider":{"sort":"price"}"#), cheap);
    assert_eq!(words(&core, r#""model":"either""#), ["0:openai/gpt-4o", "0:openai/gpt-4o-mini"]);
}

#[test]
fn openrouters_preferences_narrow_and_order() {
    let core = core(THREE, "[[model]]\nname = 'any'\ntargets = ['openai/gpt-4o', 'google/gemini-2.5-flash']\n");
    assert_eq!(words(&core, r#""model":"any","provider":{"order":["google"]}"#)[0], "0:google/gemini-2.5-flash");
    assert_eq!(words(&core, r#""model":"any","provider":{"ignore":["openai"]}"#), ["0:google/gemini-2.5-flash"]);
    assert_eq!(words(&core, r#""model":"any","provider":{"only":["openai"]}"#), ["0:openai/gpt-4o"]);
    assert_eq!(words(&core, r#""model":"any","provider":{"allow_fallbacks":false}"#), ["0:openai/gpt-4o"]);
    assert_eq!(
        words(&core, r#""model":"any","provider":{"max_price":{"completion":5}}"#),
        ["0:google/gemini-2.5-flash"]
    );
    let wrong = refusal(&core, r#""model":"any","provider":{"only":["anthropic"]}"#);
    assert_eq!((wrong.status, wrong.param.as_deref()), (400, Some("provider")));
}

#[test]
fn unknown_names_get_advice() {
    let lone = core(&[("OPENAI_API_KEY", "sk-a"), ("ANTHROPIC_API_KEY", "sk-ant-a")], "");
    let wrong = refusal(&lone, r#""model":"groq/llama-3.3-70b""#);
    assert_eq!(wrong.status, 404);
    assert!(wrong.message.contains("GROQ_API_KEY"), "{}", wrong.message);
    assert_eq!(refusal(&lone, r#""model":"no-such-thing""#).status, 404);
    assert_eq!(refusal(&core(&[], ""), r#""model":"gpt-4o""#).status, 503);
}

#[test]
fn the_next_leg_skips_the_rest_of_this_one() {
    let core = core(THREE, "");
    let body =
        r#"{"model":"openai/gpt-4o","messages":[{"role":"user","content":"x"}],"models":["google/gemini-2.5-flash"]}"#;
    let plan = plan(&core, body).unwrap();
    assert!(!plan.has_next_provider(0));
    assert_eq!((plan.next_leg(0), plan.next_leg(1)), (Some(1), None));
}

#[test]
fn a_model_that_its_maker_switched_off_has_successors_that_are_tried_last() {
    let core = core(THREE, "");
    let body = |fields: &str| format!(r#"{{"messages":[{{"role":"user","content":"x"}}],{fields}}}"#);
    let mut retired = plan(&core, &body(r#""model":"anthropic/claude-3-haiku""#)).unwrap();
    assert_eq!(retired.targets.len(), 1, "not before the maker has said so");
    assert!(retired.add_successors());
    assert_eq!(retired.targets[1].0, 1);
    assert!(!retired.add_successors(), "only once");
    let locked = body(r#""model":"anthropic/claude-3-haiku","extra":{"provider":"anthropic"}"#);
    assert!(!plan(&core, &locked).unwrap().add_successors());
}

#[test]
fn successors_obey_what_the_request_rules_out() {
    let core = core(THREE, "");
    let fields = r#""model":"anthropic/claude-3-haiku","provider":{"max_price":{"completion":0.000001}}"#;
    let body = format!(r#"{{"messages":[{{"role":"user","content":"x"}}],{fields}}}"#);
    // The model itself is too dear already, so nothing is left at all, successors included.
    assert_eq!(plan(&core, &body).unwrap_err().status, 400);
    let fields = r#""model":"anthropic/claude-3-haiku","provider":{"only":["anthropic"]}"#;
    let body = format!(r#"{{"messages":[{{"role":"user","content":"x"}}],{fields}}}"#);
    let mut plan = plan(&core, &body).unwrap();
    plan.add_successors();
    assert!(plan.targets.iter().all(|(_, target)| &*target.provider.id == "anthropic"));
}

#[test]
fn auto_is_bounded_and_keeps_the_fallbacks_that_the_request_names() {
    let core = core(THREE, "");
    let legs = words(&core, r#""model":"auto","extra":{"fallback_models":["openai/gpt-4o"]}"#);
    assert_eq!(legs.iter().filter(|word| word.starts_with("0:")).count(), AUTO_TARGETS, "{legs:?}");
    assert_eq!(legs.last().map(String::as_str), Some("1:openai/gpt-4o"));
}

#[test]
fn a_single_key_of_the_clients_belongs_to_the_model_asked_for() {
    let file = "[[model]]\nname = 'either'\ntargets = ['openai/gpt-4o', 'google/gemini-2.5-flash-lite']\n";
    let core = core(THREE, file);
    let body = |fields: &str| format!(r#"{{"model":"either","messages":[{{"role":"user","content":"x"}}],{fields}}}"#);
    let cheap = plan(&core, &body(r#""extra":{"provider":"cheap"}"#)).unwrap();
    assert_eq!(&*cheap.targets[0].1.provider.id, "google");
    assert_eq!(&*cheap.byok_provider, "openai", "the strategy does not hand the key to somebody else");
    let locked = plan(&core, &body(r#""extra":{"provider":"google"}"#)).unwrap();
    assert_eq!(&*locked.byok_provider, "google");
}
