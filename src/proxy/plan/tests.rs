//! Plans, as names and wishes make them.

use super::super::core::breaker_policy;
use super::super::preset;
use super::*;
use crate::config::{self, Source};
use crate::provider::Catalog;
use crate::store::memory;
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
    Core::new(loaded.snapshot, memory::stores(1, 1, 1), Arc::new(telemetry))
}

fn plan(core: &Arc<Core>, body: &str) -> Result<Plan, ApiError> {
    let snapshot = core.snapshot.load_full();
    let mut envelope = Envelope::scan(body.to_owned().into()).unwrap();
    preset::complete(&snapshot, &mut envelope)?;
    Plan::new(core, &snapshot, &envelope, None, 1).map_err(|none| none.error)
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
    let body = r#"{"model":"openai/gpt-4o","messages":[{"role":"user","content":"x"}],
                   "models":["groq/llama-3.3-70b","google/gemini-2.5-flash","nobody/knows","nonsense"]}"#;
    let left_out = plan(&core, body).unwrap();
    let unusable = [0, 2, 3].map(|place| format!("fallback_models[{place}]"));
    assert_eq!((left_out.targets.len(), left_out.unusable), (2, unusable.to_vec()));
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
    assert_eq!(words(&core, r#""model":"any","provider":{"order":["Google"]}"#)[0], "0:google/gemini-2.5-flash");
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
fn a_first_model_without_a_provider_leaves_its_place_to_the_fallbacks_that_were_named() {
    let core = core(&THREE[..1], "");
    for fallbacks in
        [r#"["groq/llama-3.3-70b","openai/gpt-4o","gpt-4o-mini"]"#, r#"["what-is-this","gpt-4o","openai/gpt-4o-mini"]"#]
    {
        let fallbacks = format!(r#""model":"google/gemini-2.5-flash","extra":{{"fallback_models":{fallbacks}}}"#);
        let body = format!(r#"{{"messages":[{{"role":"user","content":"x"}}],{fallbacks}}}"#);
        let plan = plan(&core, &body).unwrap();
        let upstream: Vec<_> = plan.targets.iter().map(|(_, target)| &*target.model.upstream).collect();
        // What the catalog does not know goes to the only provider there is.
        let first: &[&str] = if fallbacks.contains("what") { &["what-is-this"] } else { &[] };
        assert_eq!(upstream, [first, &["gpt-4o", "gpt-4o-mini"]].concat());
        assert_eq!(plan.unusable[0], "model");
        assert_eq!(plan.unusable.len(), if first.is_empty() { 2 } else { 1 });
        assert_eq!(&*plan.byok_provider, "google", "a key for Google goes to nobody else");
    }
    let there = words(&core, r#""model":"anthropic/claude-haiku-4.5","extra":{"fallback_models":["openai"]}"#);
    assert!(there.len() == 1 && there[0].starts_with("0:openai/gpt"), "{there:?}");
    let in_vain = r#""model":"google/gemini-2.5-flash","extra":{"fallback_models":["anthropic/claude-haiku-4.5"]}"#;
    let refused = refusal(&core, in_vain);
    assert_eq!(refused.status, 404);
    assert!(refused.message.contains("GEMINI_API_KEY"), "{}", refused.message);
}

#[test]
fn a_maker_is_not_asked_for_the_models_of_another() {
    let lone = core(&THREE[..1], "");
    for (name, key) in [("google/gemini-2.5-flash", "GEMINI_API_KEY"), ("claude-haiku-4.5", "ANTHROPIC_API_KEY")] {
        let refused = refusal(&lone, &format!(r#""model":"{name}""#));
        assert_eq!((refused.status, refused.param.as_deref()), (404, Some("model")));
        assert!(refused.message.contains(key), "{}", refused.message);
    }
    assert_eq!(words(&lone, r#""model":"not-known-yet""#), ["0:openai/not-known-yet"]);
    assert_eq!(words(&lone, r#""model":"openai/claude-haiku-4.5""#), ["0:openai/claude-haiku-4.5"]);
    // Who hosts models has those of many makers, and more than the catalog knows.
    let host = core(&[("GROQ_API_KEY", "gsk")], "");
    assert_eq!(words(&host, r#""model":"claude-haiku-4.5""#), ["0:groq/claude-haiku-4.5"]);
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
    assert_eq!(legs.iter().filter(|word| word.starts_with("0:")).count(), usize::from(AUTO_TARGETS), "{legs:?}");
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

/// What the request asks for, said of one message.
fn with_content(core: &Arc<Core>, model: &str, content: &str, fields: &str) -> Result<Vec<String>, ApiError> {
    let body = format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":{content}}}]{fields}}}"#);
    let plan = plan(core, &body)?;
    Ok(plan.targets.iter().map(|(_, t)| format!("{}/{}", t.provider.id, t.model.upstream)).collect())
}

const BLIND: &str = "openai/gpt-3.5-turbo";
const PICTURE: &str = r#"[{"type":"image_url","image_url":{"url":"https://x.example/a.png"}}]"#;

#[test]
fn what_cannot_see_is_not_shown_a_picture() {
    let core = core(THREE, &format!("[[model]]\nname = 'any'\ntargets = ['{BLIND}', 'openai/gpt-4o']\n"));
    assert_eq!(with_content(&core, "any", PICTURE, "").unwrap(), ["openai/gpt-4o"]);
    assert_eq!(with_content(&core, "any", r#""image_url""#, "").unwrap().len(), 2, "a word is no picture");
    let wrong = with_content(&core, BLIND, PICTURE, "").unwrap_err();
    assert_eq!((wrong.status, wrong.param.as_deref()), (400, Some("messages")));
    assert!(wrong.message.contains("openai/gpt-3.5-turbo does not take pictures"), "{}", wrong.message);
}

#[test]
fn what_the_catalog_does_not_know_or_the_operator_wrote_is_presumed_capable() {
    let known = core(THREE, "");
    assert_eq!(with_content(&known, "openai/gpt-3.5-not-in-the-catalog", PICTURE, "").unwrap().len(), 1);
    let written = "[[provider]]\nid = 'openai'\n[[provider.model]]\nid = 'gpt-3.5-turbo'\n";
    assert_eq!(with_content(&core(THREE, written), BLIND, PICTURE, "").unwrap()[0], BLIND);
}

#[test]
fn a_prompt_goes_where_it_fits() {
    let file = format!("[[model]]\nname = 'any'\ntargets = ['{BLIND}', 'google/gemini-2.5-flash']\n");
    let core = core(THREE, &file);
    let text = |bytes: usize| format!("\"{}\"", "x".repeat(bytes));
    assert_eq!(with_content(&core, "any", &text(1000), "").unwrap().len(), 2);
    assert_eq!(with_content(&core, "any", &text(100_000), "").unwrap(), ["google/gemini-2.5-flash"]);
    // By the estimate it does not fit, but an estimate is no reason to refuse where nothing else is left.
    assert_eq!(with_content(&core, BLIND, &text(100_000), "").unwrap(), [BLIND]);
    let wrong = with_content(&core, BLIND, &text(400_000), "").unwrap_err();
    assert!(wrong.status == 400 && wrong.message.contains("tokens, fewer than the prompt has"), "{}", wrong.message);
}

#[test]
fn the_price_is_that_of_this_request() {
    let models = "[[provider]]\nid = 'a'\nbase_url = 'http://127.0.0.1:1/v1'\nauth = 'none'\n[[provider.model]]\nid = 'm'\ninput = '1'\noutput = '10'\n\
                  [[provider]]\nid = 'b'\nbase_url = 'http://127.0.0.1:1/v1'\nauth = 'none'\n[[provider.model]]\nid = 'm'\ninput = '5'\noutput = '2'\n";
    let core = core(&[("A_API_KEY", "k"), ("B_API_KEY", "k")], models);
    let long = format!("\"{}\"", "x".repeat(40_000));
    assert_eq!(with_content(&core, "m:floor", &long, r#","max_tokens":10"#).unwrap(), ["a/m", "b/m"]);
    assert_eq!(with_content(&core, "m:floor", "\"x\"", r#","max_tokens":1000"#).unwrap(), ["b/m", "a/m"]);
    assert_eq!(with_content(&core, "m:floor", &long, r#","max_tokens":10,"n":1000"#).unwrap(), ["b/m", "a/m"]);
}

#[test]
fn an_order_without_fallbacks_is_the_whole_list() {
    let core = core(
        THREE,
        "[[model]]\nname = 'any'\ntargets = ['openai/gpt-4o', 'google/gemini-2.5-flash', 'anthropic/claude-sonnet-4-20250514']\n",
    );
    let asked = r#""model":"any","provider":{"order":["google","openai"],"allow_fallbacks":false}"#;
    assert_eq!(words(&core, asked), ["0:google/gemini-2.5-flash", "0:openai/gpt-4o"]);
    let body = r#"{"model":"any","messages":[{"role":"user","content":"x"}],"provider":{"order":["gogle"],"ignore":["opnai"]}}"#;
    assert_eq!(plan(&core, body).unwrap().unusable, ["provider.order[0]", "provider.ignore[0]"]);
}

#[test]
fn slow_targets_go_last_when_the_request_prefers_quick_ones() {
    let core = core(THREE, "[[model]]\nname = 'any'\ntargets = ['openai/gpt-4o', 'google/gemini-2.5-flash']\n");
    let policy = breaker_policy(&core.snapshot.load());
    core.targets.enter(&"openai".into(), &"gpt-4o".into(), policy, Instant::now());
    core.targets.report("openai", "gpt-4o", true, Some(Duration::from_secs(3)), policy, Instant::now());
    core.targets.note_rate("openai", "gpt-4o", 20.0);
    for (preference, is_moved) in [
        (r#"{"preferred_max_latency":2}"#, true),
        (r#"{"preferred_max_latency":{"p50":4}}"#, false),
        (r#"{"preferred_min_throughput":30}"#, true),
        (r#"{"preferred_min_throughput":10}"#, false),
    ] {
        let first = words(&core, &format!(r#""model":"any","provider":{preference}"#)).remove(0);
        assert_eq!(first == "0:google/gemini-2.5-flash", is_moved, "{preference}: {first}");
    }
}

#[test]
fn every_parameter_is_honoured_where_that_is_required() {
    let core = core(THREE, &format!("[[model]]\nname = 'any'\ntargets = ['{BLIND}', 'google/gemini-2.5-flash']\n"));
    let fields = r#","reasoning_effort":"low","provider":{"require_parameters":true}"#;
    assert_eq!(with_content(&core, "any", "\"x\"", fields).unwrap(), ["google/gemini-2.5-flash"]);
    let wrong = with_content(&core, BLIND, "\"x\"", fields).unwrap_err();
    assert_eq!((wrong.status, wrong.param.as_deref()), (400, Some("reasoning")));
}

#[test]
fn a_session_stays_at_one_target_and_sessions_spread() {
    let file = "[routing]\nsticky = 'prefix'\nstrategy = 'reliable'\n[[model]]\nname = 'any'\ntargets = ['openai/gpt-4o', 'google/gemini-2.5-flash', 'anthropic/claude-sonnet-4-20250514']\n";
    let core = core(THREE, file);
    let mut firsts = std::collections::BTreeSet::new();
    for session in 0..40 {
        let first = |turn: &str, system: &str| {
            let asked = format!(
                r#""model":"any","messages":[{{"role":"system","content":"{system}"}},{{"role":"user","content":"{session}"}}{turn}]"#
            );
            words(&core, &asked).remove(0)
        };
        let begin = first("", "s");
        assert_eq!(first(r#",{"role":"assistant","content":"a"},{"role":"user","content":"b"}"#, "s"), begin);
        firsts.insert(begin);
    }
    assert_eq!(firsts.len(), 3);
    let session = |id: u32| words(&core, &format!(r#""model":"any","extra":{{"session_id":"{id}"}}"#)).remove(0);
    assert_eq!((0..40).map(session).collect::<std::collections::BTreeSet<_>>().len(), 3);
    let long = "x".repeat(5000);
    let shared = |user: u32| {
        words(&core, &format!(r#""model":"any","messages":[{{"role":"system","content":"{long}"}},{{"role":"user","content":"{user}"}}]"#)).remove(0)
    };
    assert_eq!((0..40).map(shared).collect::<std::collections::BTreeSet<_>>().len(), 1, "they share a cache");
}

#[test]
fn the_decision_says_why_and_repeats_also_for_auto() {
    let core = core(THREE, "");
    for model in ["auto", "auto:nitro", "gpt-4o"] {
        let body = format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":{PICTURE}}}]}}"#);
        let decision = plan(&core, &body).unwrap().decision.unwrap();
        assert!(crate::routing::plan::repeats(&decision), "{model}: {decision:?}");
        assert!(decision.candidates.len() <= decision.order.len() + REFUSED_KEPT);
        let refused = decision.candidates.iter().filter(|one| one.refusal.is_some()).count();
        assert_eq!(refused > 0, model != "gpt-4o", "{decision:?}");
    }
}

const PRESETS: &str = "[[preset]]\nslug = 'brief'\nmodel = 'openai/gpt-4o'\nfallbacks = ['google/gemini-2.5-flash']\nstrategy = 'cheap'\n\
    system = 'Be brief.'\nparameters = { temperature = 0.2, max_tokens = 50, stop = ['END'] }\n[[preset]]\nslug = 'bare'\n";

#[test]
fn a_preset_names_model_fallbacks_and_strategy_and_the_request_wins() {
    let core = core(THREE, PRESETS);
    let both = ["0:openai/gpt-4o", "1:google/gemini-2.5-flash"];
    assert_eq!(words(&core, r#""model":"@preset/brief""#), both);
    assert_eq!(words(&core, r#""extra":{"preset":"brief"}"#), both, "the preset brings the model");
    assert_eq!(words(&core, r#""preset":"brief""#), both);
    assert_eq!(words(&core, r#""model":"openai/gpt-4o-mini@preset/brief""#)[0], "0:openai/gpt-4o-mini");
    assert_eq!(words(&core, r#""model":"openai/gpt-4o-mini","extra":{"preset":"brief"}"#)[0], "0:openai/gpt-4o-mini");
    let own = words(&core, r#""model":"@preset/brief","models":["openai/gpt-4o-mini"]"#);
    assert_eq!(own, ["0:openai/gpt-4o", "1:openai/gpt-4o-mini"]);
    let strategy = |fields: &str| {
        let body = format!(r#"{{"messages":[{{"role":"user","content":"x"}}],{fields}}}"#);
        plan(&core, &body).unwrap().strategy
    };
    assert_eq!(strategy(r#""model":"@preset/brief""#), Strategy::Cheap);
    assert_eq!(strategy(r#""model":"@preset/brief","extra":{"provider":"fast"}"#), Strategy::Fast);
    assert_eq!(strategy(r#""model":"gpt-4o:nitro@preset/brief""#), Strategy::Fast);
    assert_eq!(strategy(r#""model":"@preset/brief","provider":{"sort":"latency"}"#), Strategy::Latency);
}

#[test]
fn a_preset_that_is_not_there_is_named() {
    let core = core(THREE, PRESETS);
    let unknown = refusal(&core, r#""model":"@preset/breif""#);
    assert_eq!((unknown.status, unknown.param.as_deref()), (404, Some("model")));
    assert!(unknown.message.contains("\"breif\"") && unknown.message.contains("brief, bare"), "{}", unknown.message);
    let unknown = refusal(&core, r#""model":"gpt-4o","extra":{"preset":"x"}"#);
    assert_eq!((unknown.status, unknown.param.as_deref()), (404, Some("extra.preset")));
    let two = refusal(&core, r#""model":"@preset/brief","extra":{"preset":"bare"}"#);
    assert_eq!((two.status, two.param.as_deref()), (400, Some("extra.preset")));
    let without = refusal(&core, r#""model":"@preset/bare""#);
    assert_eq!((without.status, without.param.as_deref()), (400, Some("model")));
    let fallback = refusal(&core, r#""model":"gpt-4o","models":["@preset/brief"]"#);
    assert!(fallback.message.contains("only the model of a request"), "{}", fallback.message);
}

#[test]
fn a_prompt_that_most_models_cannot_take_leads_auto_to_those_that_can() {
    let keys = [("OPENAI_API_KEY", "a"), ("MISTRAL_API_KEY", "b"), ("GROQ_API_KEY", "c")];
    let core = core(&keys, "");
    let prompt = "word ".repeat(400_000);
    let body = format!(r#"{{"model":"auto","messages":[{{"role":"user","content":"{prompt}"}}]}}"#);
    let plan = plan(&core, &body).unwrap_or_else(|error| panic!("{}", error.message));
    assert!(!plan.targets.is_empty());
    assert!(plan.targets.iter().all(|(_, target)| target.model.context.is_none_or(|context| context >= 500_000)));
}

#[test]
fn the_next_model_of_a_leg_of_several_is_the_next_target_and_of_a_leg_of_one_the_next_leg() {
    let models = "[[model]]\nname = \"both\"\ntargets = [\"openai/gpt-4o\", \"anthropic/claude-sonnet-4\"]\n";
    let core = core(THREE, models);
    let of = |model: &str| {
        let fields = format!(
            r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}],"extra":{{"fallback_models":["gemini-2.5-flash"]}}}}"#
        );
        plan(&core, &fields).unwrap_or_else(|error| panic!("{}", error.message))
    };
    assert_eq!(
        (of("both").next_model(0), of("both").next_model(1), of("both").next_model(2)),
        (Some(1), Some(2), None)
    );
    assert_eq!((of("gpt-4o").next_model(0), of("gpt-4o").next_model(1)), (Some(1), None));
}
