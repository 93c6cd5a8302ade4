//! Every name in the data leads somewhere, and every name that people use leads to the right row.

mod prices;

use super::*;
use crate::dialect::chat::{StructuredOutput, Thinking};
use crate::dialect::openai_chat::quirks::Quirks;
use crate::dialect::table::Dialect;
use crate::dialect::work::{Endpoint, Work};
use crate::provider::model::{Capabilities, Embeds, OwnForm};
use crate::provider::row::AuthScheme;

fn catalog() -> Catalog {
    Catalog::builtin().expect("the data files are right")
}

fn at<'a>(catalog: &'a Catalog, provider: &str, name: &str) -> &'a str {
    catalog.model_at(provider, name).map_or("nothing", |row| row.id.as_ref())
}

fn first<'a>(catalog: &'a Catalog, bare: &str) -> &'a str {
    catalog.find(bare).first().map_or("nothing", |row| row.id.as_ref())
}

#[test]
fn who_completes_texts_is_said_with_models_that_there_are() {
    let catalog = catalog();
    for row in catalog.providers() {
        let has_route = row.quirks.has(Quirks::COMPLETIONS);
        assert!(has_route || (row.completions_models.is_none() && row.completions_lacks.is_empty()), "{}", row.id);
        assert!(row.completions_path.starts_with('/'), "{}", row.id);
        for model in row.completions_models.iter().flatten() {
            assert_eq!(at(&catalog, &row.id, model), format!("{}/{model}", row.id));
        }
    }
    let has_route: Vec<&str> =
        catalog.providers().iter().filter(|row| row.quirks.has(Quirks::COMPLETIONS)).map(|row| &*row.id).collect();
    let expected = ["openai", "mistral", "deepseek", "together", "fireworks", "openrouter", "ollama", "vllm"];
    assert_eq!(has_route, expected);
}

#[test]
fn the_data_is_large_enough_and_complete() {
    let catalog = catalog();
    assert!(catalog.models().len() >= 130, "{} models", catalog.models().len());
    assert_eq!(catalog.providers().len(), 21);
    for row in catalog.models() {
        assert!(row.snapshot_of.is_none());
        assert_eq!(row.id.split_once('/').map(|(provider, _)| provider), Some(row.provider.as_ref()));
        let makes_no_promise = ["huggingface", "openrouter", "ollama"].contains(&row.provider.as_ref());
        let makes_no_promise = makes_no_promise || !row.class.converses();
        assert!(makes_no_promise || row.context.is_some(), "{} has no context", row.id);
        if let (Some(input), Some(output)) = (row.prices.input, row.prices.output) {
            let cheaper = |price: Option<crate::domain::Money>| price.is_none_or(|price| price <= input);
            assert!(cheaper(row.prices.cached_input), "{}: a cached token costs more than a new one", row.id);
            assert!(output >= input || !row.class.converses(), "{}: output costs less than input", row.id);
        }
        for tier in &row.prices.above {
            assert!(tier.input > row.prices.input, "{}: a long prompt is cheaper", row.id);
        }
        if let Thinking::Budget { min, max, .. } = row.thinking {
            assert!(min < max && row.max_output.is_some_and(|bound| max < bound), "{}: thinking budget", row.id);
        }
        assert_eq!(row.capabilities.reasoning, row.thinking != Thinking::None, "{}: reasoning", row.id);
        assert!(row.capabilities.streaming);
    }
}

#[test]
fn fallbacks_are_models_of_the_catalog_and_never_the_model_itself() {
    let catalog = catalog();
    for row in catalog.models() {
        for fallback in &row.fallbacks {
            let target = catalog.models().iter().find(|other| other.id.as_ref() == fallback);
            assert!(target.is_some(), "{}: there is no {fallback}", row.id);
            assert_ne!(row.id.as_ref(), fallback);
        }
    }
    let deprecated = catalog.models().iter().filter(|row| row.status == Status::Deprecated);
    let stranded: Vec<_> =
        deprecated.filter(|row| row.fallbacks.is_empty() && row.same_as.is_none()).map(|row| &row.id).collect();
    assert!(stranded.is_empty(), "deprecated and nothing stands in: {stranded:?}");
}

#[test]
fn groups_have_members_at_several_providers() {
    let catalog = catalog();
    for (group, members) in &catalog.groups {
        let mut providers: Vec<_> = members.iter().map(|&index| &catalog.models[index].provider).collect();
        providers.sort();
        providers.dedup();
        assert_eq!(providers.len(), members.len(), "{group}: two rows at one provider");
        assert!(members.len() > 1, "{group} has one member");
    }
}

#[test]
fn every_name_of_a_row_leads_to_it_with_and_without_the_provider() {
    let catalog = catalog();
    for row in catalog.models() {
        for name in names_of(row) {
            assert_eq!(at(&catalog, &row.provider, name), row.id.as_ref(), "{name}");
            assert_eq!(at(&catalog, &row.provider, &format!("{}/{name}", row.provider)), row.id.as_ref(), "{name}");
            assert_eq!(at(&catalog, &row.provider, &name.to_ascii_uppercase()), row.id.as_ref(), "{name}");
            assert!(catalog.find(name).iter().any(|found| found.id == row.id), "{name}");
            assert_eq!(first(&catalog, &row.id), row.id.as_ref());
        }
    }
}

#[test]
fn every_bare_name_of_the_product_documents_has_an_owner() {
    let catalog = catalog();
    for (name, id) in [
        ("gpt-5", "openai/gpt-5"),
        ("gpt-4o", "openai/gpt-4o"),
        ("gpt-4o-mini", "openai/gpt-4o-mini"),
        ("o1", "openai/o1"),
        ("o3", "openai/o3"),
        ("claude-3.5-sonnet", "anthropic/claude-3.5-sonnet"),
        ("claude-3.5", "anthropic/claude-3.5-sonnet"),
        ("claude-3-haiku", "anthropic/claude-3-haiku"),
        ("claude-sonnet-4-20250514", "anthropic/claude-sonnet-4"),
        ("opus", "anthropic/claude-opus-5.5"),
        ("sonnet", "anthropic/claude-sonnet-5.5"),
        ("haiku", "anthropic/claude-haiku-5.5"),
        ("gemini-2.0-pro", "google/gemini-2.0-pro"),
        ("gemini-2.0-flash", "google/gemini-2.0-flash"),
        ("gemini-3.1-pro", "google/gemini-3.1-pro-preview"),
        ("gemini-2.5-flash", "google/gemini-2.5-flash"),
        ("gemini-3-flash-preview", "google/gemini-3-flash-preview"),
        ("gemini-flash", "google/gemini-flash-latest"),
        ("llama-3.3-70b", "meta/llama-3.3-70b"),
        ("llama-70b", "meta/llama-3.3-70b"),
        ("mistral-large-2", "mistral/mistral-large-2411"),
        ("mistral-l", "mistral/mistral-large-latest"),
        ("mixtral", "mistral/open-mixtral-8x7b"),
        ("deepseek-r1", "deepseek/deepseek-reasoner"),
        ("grok-3", "xai/grok-3"),
        ("command-r-plus", "cohere/command-r-plus-08-2024"),
        ("phi-3", "ollama/phi3"),
        ("llama3", "ollama/llama3"),
        ("mistral", "ollama/mistral"),
    ] {
        assert_eq!(first(&catalog, name), id, "{name}");
    }
}

#[test]
fn every_prefixed_name_of_the_product_documents_is_found_at_its_provider() {
    let catalog = catalog();
    for (prefix, name, upstream) in [
        ("openai", "gpt-4o", "gpt-4o"),
        ("openai", "gpt-5", "gpt-5"),
        ("google", "gemini-3.1-pro", "gemini-3.1-pro-preview"),
        ("google", "gemini-2.5-flash", "gemini-2.5-flash"),
        ("google", "gemini-3-flash-preview", "gemini-3-flash-preview"),
        ("gemini", "gemini-2.0-pro", "gemini-2.0-pro-exp-02-05"),
        ("anthropic", "claude-3-haiku", "claude-3-haiku-20240307"),
        ("anthropic", "claude-3.5-sonnet", "claude-3-5-sonnet-20241022"),
        ("anthropic", "claude-3.5", "claude-3-5-sonnet-20241022"),
        ("anthropic", "claude-sonnet-4-20250514", "claude-sonnet-4-20250514"),
        ("meta", "llama-3.3-70b", "Llama-3.3-70B-Instruct"),
        ("meta-llama", "Llama-3.3-70B-Instruct", "Llama-3.3-70B-Instruct"),
        ("mistral", "mistral-large-2", "mistral-large-2411"),
        ("mistralai", "mixtral", "open-mixtral-8x7b"),
        ("deepseek", "deepseek-r1", "deepseek-reasoner"),
        ("x-ai", "grok-3", "grok-3"),
        ("cohere", "command-r-plus", "command-r-plus-08-2024"),
        ("groq", "llama-3.3-70b", "llama-3.3-70b-versatile"),
        ("together", "llama-3.3-70b", "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
        ("ollama", "phi-3", "phi3"),
    ] {
        assert_eq!(catalog.model_at(prefix, name).map(|row| row.upstream.as_ref()), Some(upstream), "{prefix}/{name}");
        let row = catalog.find(&format!("{prefix}/{name}")).first().map(|row| row.upstream.as_ref());
        assert_eq!(row, Some(upstream), "{prefix}/{name}");
    }
}

#[test]
fn a_dated_name_is_sent_as_it_is_and_priced_as_its_model() {
    let catalog = catalog();
    let row = catalog.model_at("openai", "gpt-4o-2024-08-06").expect("a snapshot");
    assert_eq!(row.upstream.as_ref(), "gpt-4o-2024-08-06");
    assert_eq!(row.snapshot_of.as_deref(), Some("openai/gpt-4o"));
    assert_eq!(row.prices, catalog.model_at("openai", "gpt-4o").expect("its model").prices);
    assert!(!catalog.models().iter().any(|listed| listed.id == row.id), "snapshots are not listed");
    let priced_apart = catalog.model_at("openai", "gpt-4o-2024-05-13").expect("a row of its own");
    assert_ne!(priced_apart.prices, row.prices);
    assert_eq!(at(&catalog, "anthropic", "claude-sonnet-4-5-20250929"), "anthropic/claude-sonnet-4-5-20250929");
    assert_eq!(first(&catalog, "gpt-4o-2024-08-06"), "openai/gpt-4o-2024-08-06");
}

#[test]
fn a_bare_name_finds_the_maker_first_and_the_same_weights_elsewhere() {
    let catalog = catalog();
    let providers = |name: &str| catalog.find(name).iter().map(|row| row.provider.as_ref()).collect::<Vec<_>>();
    assert_eq!(providers("llama-3.3-70b"), ["meta", "groq", "together", "fireworks", "huggingface", "ollama"]);
    assert_eq!(providers("llama-3.3-70b-versatile")[0], "groq");
    assert_eq!(providers("llama-3.3-70b-versatile").len(), 6);
    assert_eq!(providers("gpt-4o"), ["openai", "openrouter"]);
    assert_eq!(providers("openai/gpt-4o"), ["openai", "openrouter"]);
    assert_eq!(providers("anthropic/claude-3-haiku"), ["anthropic", "openrouter"]);
    assert_eq!(providers("gpt-oss-120b")[..2], ["groq", "together"]);
    assert!(providers("no-such-model").is_empty());
    assert!(providers("").is_empty());
}

#[test]
fn a_name_with_a_maker_inside_passes_through_to_the_host() {
    let catalog = catalog();
    assert_eq!(at(&catalog, "openrouter", "anthropic/claude-3.5-sonnet"), "openrouter/anthropic/claude-3.5-sonnet");
    assert_eq!(
        at(&catalog, "openrouter", "openrouter/anthropic/claude-3.5-sonnet"),
        "openrouter/anthropic/claude-3.5-sonnet"
    );
    assert_eq!(at(&catalog, "openrouter", "openrouter/auto"), "openrouter/auto");
    assert_eq!(
        at(&catalog, "together", "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
        "together/meta-llama/Llama-3.3-70B-Instruct-Turbo"
    );
    assert_eq!(
        at(&catalog, "hf", "meta-llama/Llama-3.3-70B-Instruct"),
        "huggingface/meta-llama/Llama-3.3-70B-Instruct"
    );
    assert_eq!(at(&catalog, "openrouter", "someone/something-new"), "nothing");
    // The prefix of another provider is not taken off.
    assert_eq!(at(&catalog, "openai", "anthropic/gpt-4o"), "nothing");
    let openrouter = catalog.provider("openrouter").expect("a row");
    let row = catalog.unknown_model(openrouter, "someone/something-new");
    assert_eq!((row.id.as_ref(), row.upstream.as_ref()), ("openrouter/someone/something-new", "someone/something-new"));
}

#[test]
fn providers_are_found_by_id_and_alias() {
    let catalog = catalog();
    for (name, id) in [
        ("openai", "openai"),
        ("OpenAI", "openai"),
        ("gemini", "google"),
        ("mistralai", "mistral"),
        ("x-ai", "xai"),
        ("meta-llama", "meta"),
        ("hf", "huggingface"),
        ("vllm", "vllm"),
    ] {
        assert_eq!(catalog.provider(name).map(|row| row.id.as_ref()), Some(id));
    }
    assert!(catalog.provider("nobody").is_none());
    for row in catalog.providers() {
        // A cloud's host follows from its region, or is one's own.
        assert_eq!(row.base_url.is_empty(), row.cloud.is_some(), "{}", row.id);
        if row.cloud.is_none() {
            assert!(!row.base_url.ends_with('/') && row.base_url.starts_with("http"), "{}", row.id);
            assert_eq!(row.base_url_from(&row.base_url), row.base_url, "{}: its own base URL changes", row.id);
        }
        assert!(!row.key_env.is_empty() && !row.base_url_env.is_empty(), "{}", row.id);
        assert_eq!(row.key_required, !row.discovers, "{}", row.id);
        let upper = row.id.to_ascii_uppercase();
        assert!(row.base_url_env.contains(&format!("{upper}_BASE_URL")), "{}", row.id);
    }
    let anthropic = catalog.provider("anthropic").expect("a row");
    assert_eq!(anthropic.auth, AuthScheme::Header("x-api-key"));
    assert_eq!(anthropic.dialect, Dialect::AnthropicMessages);
    assert_eq!(anthropic.headers, [("anthropic-version".to_owned(), "2023-06-01".to_owned())]);
    let google = catalog.provider("google").expect("a row");
    assert_eq!((google.auth, google.dialect), (AuthScheme::Header("x-goog-api-key"), Dialect::Gemini));
}

#[test]
fn a_base_url_is_what_the_providers_own_sdk_takes() {
    let catalog = catalog();
    for (provider, given, base) in [
        ("openai", "http://h/v1", "http://h/v1"),
        ("openai", "http://h/v1/", "http://h/v1"),
        ("openai", "http://h:8080", "http://h:8080/v1"),
        ("openai", "http://h/prefix/v1", "http://h/prefix/v1"),
        ("openai", "http://h/openai", "http://h/openai"),
        ("groq", "https://api.groq.com", "https://api.groq.com/openai/v1"),
        ("groq", "http://h/v1", "http://h/v1"),
        ("anthropic", "http://h", "http://h"),
        ("anthropic", "http://h/", "http://h"),
        ("anthropic", "http://h/v1", "http://h"),
        ("anthropic", "http://h/proxy/v1/", "http://h/proxy"),
        ("google", "http://h", "http://h"),
        ("google", "http://h/v1beta", "http://h"),
        ("cohere", "http://h", "http://h"),
        ("cohere", "http://h/v2/", "http://h"),
        ("cohere", "http://h/proxy", "http://h/proxy"),
        ("cohere", "http://h/compatibility/v1", "http://h/compatibility/v1"),
        ("ollama", "http://localhost:11434", "http://localhost:11434/v1"),
        ("ollama", "http://localhost:11434/v1", "http://localhost:11434/v1"),
        ("ollama", "http://h/ollama", "http://h/ollama/v1"),
        ("ollama", "http://h/api", "http://h"),
        ("vllm", "http://h:8000/v1", "http://h:8000/v1"),
        ("vllm", "http://h:8000", "http://h:8000/v1"),
        ("perplexity", "http://h", "http://h"),
        ("perplexity", "http://h/v1", "http://h/v1"),
    ] {
        let row = catalog.provider(provider).expect("a row").spoken_to(None, Some(given));
        assert_eq!(row.base_url_from(given), base, "{provider} {given}");
    }
}

#[test]
fn a_provider_of_two_formats_is_spoken_to_in_the_one_that_is_meant() {
    let catalog = catalog();
    for (provider, asked, given, dialect, base) in [
        ("cohere", None, None, Dialect::Cohere, "https://api.cohere.com"),
        ("cohere", None, Some("http://h"), Dialect::Cohere, "http://h"),
        ("cohere", None, Some("http://h/compatibility/v1/"), Dialect::OpenAiChat, "http://h/compatibility/v1"),
        ("cohere", Some(Dialect::OpenAiChat), None, Dialect::OpenAiChat, "https://api.cohere.ai/compatibility/v1"),
        ("cohere", Some(Dialect::OpenAiChat), Some("http://h/v2"), Dialect::OpenAiChat, "http://h/compatibility/v1"),
        ("cohere", Some(Dialect::Cohere), Some("http://h/compatibility/v1"), Dialect::Cohere, "http://h"),
        ("ollama", None, None, Dialect::OpenAiChat, "http://localhost:11434/v1"),
        ("ollama", None, Some("http://h:11434"), Dialect::OpenAiChat, "http://h:11434/v1"),
        ("ollama", None, Some("http://h:11434/api"), Dialect::Ollama, "http://h:11434"),
        ("ollama", Some(Dialect::Ollama), Some("http://h:11434"), Dialect::Ollama, "http://h:11434"),
        ("ollama", Some(Dialect::Ollama), Some("http://h:11434/v1"), Dialect::Ollama, "http://h:11434"),
    ] {
        let row = catalog.provider(provider).expect("a row").spoken_to(asked, given);
        let url = given.map_or(row.base_url.clone(), |given| row.base_url_from(given));
        assert_eq!((row.dialect, url.as_str()), (dialect, base), "{provider} {asked:?} {given:?}");
        assert!(row.speaks(Dialect::OpenAiChat), "{provider}");
    }
}

#[test]
fn an_unknown_bare_name_is_guessed_by_its_beginning() {
    let catalog = catalog();
    for (name, provider) in [
        ("gpt-9-nova", Some("openai")),
        ("o3-ultra", Some("openai")),
        ("ft:gpt-4o-mini:acme::x", Some("openai")),
        ("claude-epic-9", Some("anthropic")),
        ("gemini-9-flash", Some("google")),
        ("gemma-9b", Some("google")),
        ("mistral-huge", Some("mistral")),
        ("deepseek-v9", Some("deepseek")),
        ("grok-9", Some("xai")),
        ("command-z", Some("cohere")),
        ("sonar-ultra", Some("perplexity")),
        ("llama-9", Some("meta")),
        ("gpt-oss-999b", None),
        ("Claude-Epic-9", Some("anthropic")),
        ("qwen9", None),
        ("", None),
        ("é", None),
    ] {
        assert_eq!(catalog.guess_provider(name).map(|row| row.id.as_ref()), provider, "{name}");
    }
    for family in &catalog.families {
        assert!(family.owner.as_deref().is_none_or(|owner| catalog.provider(owner).is_some()), "{}", family.prefix);
    }
}

#[test]
fn a_clouds_name_for_a_model_tells_its_maker_what_it_can_do_and_what_it_costs() {
    let catalog = catalog();
    let known = catalog.find("claude-sonnet-4-5-20250929")[0];
    for (provider, name) in [
        ("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("bedrock", "arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("vertex", "claude-sonnet-4-5@20250929"),
    ] {
        let row = catalog.unknown_model_at(provider, name);
        assert_eq!((&*row.upstream, row.maker.as_deref()), (name, Some("anthropic")));
        assert_eq!((row.max_output, row.thinking, row.sampling), (known.max_output, known.thinking, known.sampling));
        assert_eq!(
            (&row.prices, row.priced_as.as_ref()),
            (&known.prices, Some(&known.id)),
            "at its maker's prices, and marked"
        );
    }
    for (provider, name) in [("bedrock", "an-import"), ("acme", "claude-sonnet-4-5-20250929")] {
        let row = catalog.unknown_model_at(provider, name);
        assert_eq!(
            (row.prices.is_known(), row.priced_as),
            (false, None),
            "{provider}/{name}: nobody says what it costs there"
        );
    }
    let maker = |name: &str| catalog.unknown_model_at("bedrock", name).maker.as_deref().map(str::to_owned);
    for (name, expected) in [
        ("eu.amazon.nova-lite-v1:0", Some("amazon")),
        ("openai.gpt-oss-120b-1:0", Some("openai")),
        ("qwen.qwen3-32b-v1:0", Some("qwen")),
        ("global.anthropic.claude-epic-9", Some("anthropic")),
        ("mistral.mistral-7b-instruct-v0:2", Some("mistral")),
        ("arn:aws:bedrock:us-east-1:1:application-inference-profile/abc123", None),
        ("an-import", None),
        ("9.9", None),
    ] {
        assert_eq!(maker(name).as_deref(), expected, "{name}");
    }
    assert_eq!(catalog.unknown_model_at("bedrock", "us.amazon.nova-2-lite-v1:0").thinking, Thinking::Level);
    assert_eq!(catalog.unknown_model_at("bedrock", "us.amazon.nova-lite-v1:0").thinking, Thinking::None);
}

#[test]
fn an_unknown_model_is_asked_as_its_family() {
    let catalog = catalog();
    let unknown = |provider: &str, name: &str| catalog.unknown_model(catalog.provider(provider).expect("a row"), name);
    let new = unknown("anthropic", "claude-epic-9");
    assert_eq!((new.thinking, new.sampling, new.structured_output), (Thinking::Level, false, StructuredOutput::Native));
    let old = unknown("anthropic", "claude-3-5-sonnet-20999999");
    assert_eq!(
        (old.thinking, old.sampling, old.structured_output),
        (Thinking::None, true, StructuredOutput::ForcedTool)
    );
    let four = unknown("anthropic", "claude-sonnet-4@20250514");
    assert_eq!(four.structured_output, StructuredOutput::ForcedTool);
    assert!(matches!(four.thinking, Thinking::Budget { min: 1024, .. }));
    assert!(matches!(unknown("google", "gemini-2.5-flash-001").thinking, Thinking::Budget { can_disable: true, .. }));
    assert!(matches!(unknown("google", "gemini-2.5-pro-001").thinking, Thinking::Budget { can_disable: false, .. }));
    assert_eq!(unknown("google", "gemini-9-pro").thinking, Thinking::Level);
    assert!(!unknown("google", "gemini-1.5-pro-009").media_urls);
    let nobody_knows = catalog.unknown_model_at("acme", "mystery");
    assert_eq!(nobody_knows.id.as_ref(), "acme/mystery");
    assert_eq!(nobody_knows.capabilities, Capabilities::ALL);
    assert!(nobody_knows.prices.estimate(1, 1).is_none());
    // What another provider's row says of that name is taken over, but for its prices.
    let hosted = unknown("openrouter", "anthropic/claude-sonnet-5.5");
    let original = catalog.model_at("anthropic", "claude-sonnet-5.5").expect("a row");
    assert_eq!((hosted.context, hosted.capabilities), (original.context, original.capabilities));
    assert_eq!(hosted.upstream.as_ref(), "anthropic/claude-sonnet-5.5");
    assert!(hosted.prices.input.is_none());
    let variant = unknown("openrouter", "openai/gpt-4o:free");
    assert_eq!((variant.context, variant.prices.input), (Some(128_000), None));
    assert_eq!(variant.upstream.as_ref(), "openai/gpt-4o:free");
}

#[test]
fn known_claudes_are_asked_as_the_family_of_their_name_would_be() {
    let catalog = catalog();
    let known = catalog.models().iter().filter(|row| ["anthropic", "google"].contains(&row.provider.as_ref()));
    for row in known.filter(|row| row.class.converses()) {
        let Some(family) = catalog.family(&row.upstream) else { continue };
        let guessed = ModelRow::unknown(&row.provider, &row.upstream, Some(family));
        let thinks = |row: &ModelRow| std::mem::discriminant(&row.thinking);
        let asked = |row: &ModelRow| (thinks(row), row.structured_output);
        let latest_or_odd = row.id.contains("gemma") || row.id.contains("2.5-flash-preview");
        assert!(
            latest_or_odd || asked(row) == asked(&guessed),
            "{}: {:?} {:?}",
            row.id,
            row.thinking,
            guessed.thinking
        );
    }
}

#[test]
fn an_equivalent_is_the_same_weights_or_of_the_same_class() {
    let catalog = catalog();
    let equivalent = |id: &str, provider: &str| {
        let (own, name) = id.split_once('/').expect("an id");
        let row = catalog.model_at(own, name).expect("a row");
        catalog.equivalent(row, provider).map_or("nothing", |row| row.id.as_ref())
    };
    assert_eq!(equivalent("groq/llama-3.3-70b", "together"), "together/meta-llama/Llama-3.3-70B-Instruct-Turbo");
    assert_eq!(equivalent("deepseek/deepseek-r1", "fireworks"), "fireworks/accounts/fireworks/models/deepseek-r1-0528");
    assert_eq!(equivalent("openai/gpt-4o", "openrouter"), "openrouter/openai/gpt-4o");
    assert_eq!(equivalent("openai/gpt-4o", "anthropic"), "anthropic/claude-sonnet-5.5");
    assert_eq!(equivalent("openai/gpt-4o", "gemini"), "google/gemini-3.8-flash");
    assert_eq!(equivalent("openai/gpt-4o-mini", "anthropic"), "anthropic/claude-haiku-5.5");
    assert_eq!(equivalent("anthropic/claude-opus-5.5", "openai"), "openai/gpt-6-astra");
    // A class that a provider does not have: the nearest that it has.
    assert_eq!(equivalent("openai/o3", "anthropic"), "anthropic/claude-opus-5.5");
    assert_eq!(equivalent("openai/gpt-4o", "openai"), "nothing");
    assert_eq!(equivalent("openai/gpt-4o", "vllm"), "nothing");
    assert_eq!(equivalent("openai/gpt-4o", "nobody"), "nothing");
    assert_eq!(equivalent("openai/gpt-4o", "perplexity"), "nothing");
}

#[test]
fn a_stand_in_is_in_service_where_the_provider_has_one() {
    let catalog = catalog();
    for (&(provider, class), &index) in &catalog.stand_ins {
        let provider = &catalog.providers[provider].id;
        let live = catalog
            .models()
            .iter()
            .any(|row| row.provider == *provider && row.class == class && row.status == Status::Live);
        assert!(!live || catalog.models[index].status == Status::Live, "{provider} {class:?}");
    }
}

#[test]
fn wrong_data_is_named() {
    let build = |providers: &str, families: &str, models: &str| {
        let providers: ProvidersFile = toml::from_str(providers).expect("toml");
        let families: FamiliesFile = toml::from_str(families).expect("toml");
        let models: ModelsFile = toml::from_str(models).expect("toml");
        Catalog::build(providers.provider, families.family, models.model).err().unwrap_or_default()
    };
    let provider = "[[provider]]\nid = \"a\"\nname = \"A\"\nbase_url = \"http://a\"\notel_name = \"a\"\n";
    let model = |rest: &str| format!("[[model]]\nname = \"M\"\nclass = \"small\"\n{rest}\n");
    let no_family = "family = []";
    let no_model = "model = []";
    assert_eq!(build(provider, no_family, &model("id = \"a/m\"")), "");
    for (providers, families, models, says) in [
        (format!("{provider}{provider}"), no_family, no_model.to_owned(), "provider a: the name a is taken"),
        (format!("{provider}auth = \"magic\""), no_family, no_model.to_owned(), "unknown auth \"magic\""),
        (format!("{provider}dialect = \"klingon\""), no_family, no_model.to_owned(), "unknown dialect \"klingon\""),
        (format!("{provider}quirks = [\"typo\"]"), no_family, no_model.to_owned(), "unknown quirk \"typo\""),
        (provider.to_owned(), no_family, model("id = \"b/m\""), "model b/m: there is no such provider"),
        (provider.to_owned(), no_family, model("id = \"m\""), "an id is provider/name"),
        (provider.to_owned(), no_family, model("id = \"a/m\"\ncan = [\"fly\"]"), "unknown capability \"fly\""),
        (
            provider.to_owned(),
            no_family,
            model("id = \"a/m\"\nprice = { input = \"dear\" }"),
            "\"dear\" is not a price",
        ),
        (
            provider.to_owned(),
            no_family,
            format!("{}{}", model("id = \"a/m\""), model("id = \"a/n\"\naliases = [\"M\"]")),
            "the name M is taken by a/m",
        ),
        (provider.to_owned(), "[[family]]\nprefix = \"x\"\ncan = [\"fly\"]", no_model.to_owned(), "unknown capability"),
    ] {
        let error = build(&providers, families, &models);
        assert!(error.contains(says), "{error:?} does not say {says:?}");
    }
}

#[test]
fn a_key_that_begins_like_another_providers_is_foreign() {
    let catalog = Catalog::builtin().unwrap();
    for (provider, key, makers) in [
        ("openai", "sk-ant-api03-x", Some(vec!["Anthropic"])),
        ("openai", "sk-or-v1-x", Some(vec!["OpenRouter"])),
        ("openai", "sk-proj-x", None),
        ("openai", "sk-x", None),
        ("deepseek", "sk-x", None),
        ("deepseek", "sk-proj-x", Some(vec!["OpenAI"])),
        ("anthropic", "sk-ant-x", None),
        ("anthropic", "sk-x", Some(vec!["OpenAI", "DeepSeek"])),
        ("gemini", "gsk_x", Some(vec!["Groq"])),
        ("mistral", "sk-ant-x", Some(vec!["Anthropic"])),
        // Nobody says how these begin, or they may be anybody's.
        ("openai", "some-other-shape", None),
        ("mistral", "0123456789abcdef", None),
        ("vllm", "sk-ant-x", None),
        ("my-own", "sk-ant-x", None),
    ] {
        assert_eq!(catalog.foreign_key(provider, key), makers, "{provider} {key}");
    }
}

#[test]
fn what_a_model_is_for_is_known_and_nothing_else_stands_in_for_it() {
    let catalog = catalog();
    let row = |id: &str| catalog.find(id).first().map(|row| Arc::clone(row)).expect(id);
    for (id, work) in [
        ("text-embedding-3-small", Work::Embed),
        ("voyage/voyage-3.5", Work::Embed),
        ("gpt-image-1", Work::Relay(Endpoint::ImageEdits)),
        ("tts-1", Work::Relay(Endpoint::Speech)),
        ("whisper-1", Work::Relay(Endpoint::Translations)),
        ("omni-moderation-latest", Work::Relay(Endpoint::Moderations)),
        ("rerank-v3.5", Work::Relay(Endpoint::Rerank)),
        ("gpt-4o", Work::Converse),
    ] {
        let row = row(id);
        assert!(row.class.does(work), "{id}");
        assert_eq!(row.class.converses(), work == Work::Converse, "{id}");
    }
    let vectors = row("openai/text-embedding-3-small");
    assert!(catalog.equivalent(&vectors, "cohere").is_none());
    let same = catalog.equivalent(&vectors, "openrouter").map(|row| row.id.as_ref());
    assert_eq!(same, Some("openrouter/openai/text-embedding-3-small"));
    let embeds = |provider: &str, name: &str| catalog.unknown_model_at(provider, name).embeds;
    assert_eq!(embeds("vertex", "gemini-embedding-2").form, Some(OwnForm::Content));
    assert_eq!(embeds("vertex", "text-embedding-005").inputs, Some(250));
    assert_eq!(embeds("bedrock", "amazon.nova-2-multimodal-embeddings-v1:0").form, Some(OwnForm::Nova));
    assert_eq!(embeds("bedrock", "amazon.titan-embed-text-v2:0"), Embeds::default());
}
