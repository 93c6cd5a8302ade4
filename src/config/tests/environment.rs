//! Zero configuration, and what wins over what.

use super::{Trial, with_env};
use crate::config::Provider;
use crate::config::snapshot::CacheBackend;
use crate::dialect::table::Dialect;
use crate::domain::Strategy;
use crate::provider::AuthScheme;
use std::time::Duration;

fn keys(provider: &Provider) -> Vec<(&str, &str)> {
    provider.keys.iter().map(|key| (&*key.name, key.secret.reveal())).collect()
}

#[test]
fn one_key_is_a_whole_configuration() {
    let outcome = with_env(&[("OPENAI_API_KEY", "sk-1")]);
    assert_eq!(outcome.warnings, Vec::<String>::new());
    assert_eq!(outcome.ids(), ["openai"]);
    let snapshot = outcome.sound();
    let openai = &snapshot.providers[0];
    assert_eq!(openai.base.to_string(), "https://api.openai.com/v1");
    assert_eq!((openai.dialect, openai.auth), (Dialect::OpenAiChat, AuthScheme::Bearer));
    assert_eq!(keys(openai), [("openai_01", "sk-1")]);
    assert_eq!(snapshot.server.listen[0].to_string(), "127.0.0.1:3001");
    assert_eq!(snapshot.console.listen[0].to_string(), "127.0.0.1:4000");
    assert!(snapshot.keys.is_empty());
    assert_eq!(snapshot.routing.providers, None);
}

#[test]
fn nothing_at_all_is_a_sound_configuration_without_providers() {
    let outcome = with_env(&[]);
    assert!(outcome.ids().is_empty());
    assert!(outcome.sound().keys.is_empty());
}

#[test]
fn every_provider_of_the_table_is_switched_on_by_its_key() {
    for (name, id) in [
        ("OPENAI_API_KEY", "openai"),
        ("ANTHROPIC_API_KEY", "anthropic"),
        ("GEMINI_API_KEY", "google"),
        ("GOOGLE_API_KEY", "google"),
        ("MISTRAL_API_KEY", "mistral"),
        ("DEEPSEEK_API_KEY", "deepseek"),
        ("XAI_API_KEY", "xai"),
        ("COHERE_API_KEY", "cohere"),
        ("GROQ_API_KEY", "groq"),
        ("PERPLEXITY_API_KEY", "perplexity"),
        ("HF_TOKEN", "huggingface"),
        ("HUGGINGFACE_API_KEY", "huggingface"),
        ("OPENROUTER_API_KEY", "openrouter"),
        ("TOGETHER_API_KEY", "together"),
        ("FIREWORKS_API_KEY", "fireworks"),
        ("META_API_KEY", "meta"),
    ] {
        let outcome = with_env(&[(name, "k")]);
        assert_eq!(outcome.ids(), [id], "{name}: {:?}", outcome.errors);
        assert_eq!(outcome.warnings, Vec::<String>::new(), "{name}");
    }
}

#[test]
fn local_providers_are_switched_on_by_their_base_url() {
    let outcome = with_env(&[("OLLAMA_BASE_URL", "http://localhost:11434"), ("VLLM_BASE_URL", "http://gpu:8000/v1")]);
    assert_eq!(outcome.ids(), ["ollama", "vllm"]);
    let snapshot = outcome.sound();
    assert!(
        snapshot
            .providers
            .iter()
            .all(|provider| provider.discovers && provider.keys.is_empty() && !provider.needs_key())
    );
    assert_eq!(snapshot.providers[0].base.to_string(), "http://localhost:11434/v1");
    assert_eq!(snapshot.providers[1].base.to_string(), "http://gpu:8000/v1");
    let alone = with_env(&[("VLLM_API_KEY", "k")]);
    assert!(alone.ids().is_empty());
    assert_eq!(alone.warnings, ["VLLM_API_KEY: is not used: vllm is switched on by its base URL (VLLM_BASE_URL)"]);
}

#[test]
fn base_urls_are_what_the_providers_own_sdk_takes() {
    for (provider, given, base) in [
        ("OPENAI", "http://h/v1", "http://h/v1"),
        ("OPENAI", "http://h/v1/", "http://h/v1"),
        ("OPENAI", "http://h", "http://h/v1"),
        ("OPENAI", "http://h/v1/v1", "http://h/v1"),
        ("OPENAI", "http://h/v1/chat/completions", "http://h/v1"),
        ("OPENAI", "http://h/proxy/openai", "http://h/proxy/openai"),
        ("ANTHROPIC", "http://h", "http://h"),
        ("ANTHROPIC", "http://h/v1", "http://h"),
        ("GEMINI", "http://h:8080", "http://h:8080"),
        ("GOOGLE", "http://h/", "http://h"),
        ("COHERE", "http://h", "http://h"),
        ("COHERE", "http://h/v2", "http://h"),
        ("COHERE", "http://h/compatibility/v1", "http://h/compatibility/v1"),
        ("MISTRAL", "https://h/v1", "https://h/v1"),
        ("ACME", "http://h", "http://h/v1"),
        ("ACME", "http://h/api/v2", "http://h/api/v2"),
    ] {
        let outcome = with_env(&[(&format!("{provider}_API_KEY"), "k"), (&format!("{provider}_BASE_URL"), given)]);
        let snapshot = outcome.sound();
        assert_eq!(snapshot.providers[0].base.to_string(), base, "{provider}_BASE_URL={given}");
    }
}

#[test]
fn a_base_url_shows_which_of_a_providers_formats_is_meant() {
    for (variable, given, dialect, base) in [
        ("OLLAMA_BASE_URL", "http://gpu:11434", Dialect::OpenAiChat, "http://gpu:11434/v1"),
        ("OLLAMA_BASE_URL", "http://gpu:11434/api", Dialect::Ollama, "http://gpu:11434"),
        ("COHERE_BASE_URL", "http://h", Dialect::Cohere, "http://h"),
        ("COHERE_BASE_URL", "http://h/compatibility/v1", Dialect::OpenAiChat, "http://h/compatibility/v1"),
    ] {
        let snapshot = with_env(&[("COHERE_API_KEY", "k"), (variable, given)]).sound();
        let provider = snapshot.providers.iter().find(|provider| variable.to_lowercase().starts_with(&*provider.id));
        let provider = provider.unwrap();
        assert_eq!((provider.dialect, provider.base.to_string().as_str()), (dialect, base), "{variable}={given}");
    }
}

#[test]
fn several_keys_are_named_in_order() {
    let outcome = with_env(&[("OPENAI_API_KEY", "a, b,,c,b")]);
    assert_eq!(outcome.warnings, ["OPENAI_API_KEY: is given twice and used once"]);
    assert_eq!(keys(&outcome.sound().providers[0]), [("openai_01", "a"), ("openai_02", "b"), ("openai_03", "c")]);
}

#[test]
fn any_name_with_a_key_and_a_base_url_is_a_compatible_provider() {
    let outcome = with_env(&[
        ("MY_LLM_API_KEY", "k"),
        ("MY_LLM_BASE_URL", "http://h/v1"),
        ("OTHER_API_KEY", "x"),
        ("NPM_BASE_URL", "y"),
    ]);
    assert_eq!(outcome.ids(), ["my_llm"]);
    let snapshot = outcome.sound();
    let own = snapshot.provider("my-llm").expect("its other spelling");
    assert_eq!((own.dialect, own.auth, own.needs_key()), (Dialect::OpenAiChat, AuthScheme::Bearer, true));
    assert_eq!(keys(own), [("my_llm_01", "k")]);
}

#[test]
fn a_pair_that_is_for_another_program_does_not_keep_the_gateway_from_starting() {
    let outcome = with_env(&[("NEXT_API_KEY", "k"), ("NEXT_BASE_URL", "/api"), ("OPENAI_API_KEY", "k")]);
    assert_eq!(outcome.ids(), ["openai"]);
    assert_eq!(outcome.warnings, ["NEXT_BASE_URL: must begin with http:// or https://; no provider is made of it"]);
}

#[test]
fn a_base_url_without_a_key_leaves_the_provider_out_and_says_so() {
    let outcome = with_env(&[("OPENAI_BASE_URL", "http://h/v1")]);
    assert!(outcome.ids().is_empty());
    assert_eq!(outcome.warnings, ["OPENAI_BASE_URL: openai has no key and is left out: set OPENAI_API_KEY"]);
}

#[test]
fn two_variables_for_one_thing_are_reported_when_they_differ() {
    let same = with_env(&[("GEMINI_API_KEY", "k"), ("GOOGLE_API_KEY", "k")]);
    assert_eq!(same.warnings, Vec::<String>::new());
    let differ = with_env(&[("GEMINI_API_KEY", "k"), ("GOOGLE_API_KEY", "l")]);
    assert_eq!(differ.warnings, ["GOOGLE_API_KEY: is not used: GEMINI_API_KEY is set too"]);
    assert_eq!(keys(&differ.sound().providers[0]), [("google_01", "k")]);
}

#[test]
fn the_environment_wins_over_the_file() {
    let file = "[server]\nlisten = '1111'\n[retry]\nmax = 1\n[breaker]\nopen_for = '1s'\n[telemetry]\nlog_level = 'warn'\n\
                [routing]\nproviders = ['anthropic']\n[[provider]]\nid = 'openai'\nbase_url = 'http://file/v1'\n[[provider.key]]\nsecret = { file = 'k' }\n";
    let trial = Trial {
        file,
        variables: &[
            ("ORBYT_LISTEN", "127.0.0.1:2222,[::1]:2222"),
            ("ORBYT_CONSOLE_LISTEN", "2223"),
            ("ORBYT_DATA_DIR", "/data"),
            ("ORBYT_API_KEYS", "one,two"),
            ("ORBYT_ADMIN_TOKEN", "token"),
            ("ORBYT_LOG", "DEBUG"),
            ("GATEWAY_PROVIDERS", "openai"),
            ("GATEWAY_RETRY_MAX", "7"),
            ("GATEWAY_HEALTH_CHECK_INTERVAL", "45"),
            ("OPENAI_API_KEY", "of-env"),
            ("OPENAI_BASE_URL", "http://env/v1"),
        ],
        disk: &[("/etc/orbyt/k", "of-file")],
    };
    let outcome = trial.run();
    assert_eq!(outcome.warnings, ["OPENAI_API_KEY: replaces the keys of openai in the file"]);
    let snapshot = outcome.sound();
    let listen: Vec<_> = snapshot.server.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["127.0.0.1:2222", "[::1]:2222"]);
    assert_eq!(snapshot.console.listen[0].port(), 2223);
    assert_eq!(snapshot.server.data_dir.to_str(), Some("/data"));
    assert!(snapshot.keys.find("two", 0).is_ok() && snapshot.keys.find("three", 0).is_err());
    assert!(snapshot.console.admin_token.is_some());
    assert_eq!(snapshot.telemetry.log_level, log::LevelFilter::Debug);
    assert_eq!((snapshot.retry.max, snapshot.breaker.open_for), (7, Duration::from_secs(45)));
    assert_eq!(keys(&snapshot.providers[0]), [("openai_01", "of-env")]);
    assert_eq!(snapshot.providers[0].base.to_string(), "http://env/v1");
}

#[test]
fn a_file_that_refers_to_the_variable_has_said_what_it_is() {
    let file = "[[provider]]\nid = 'openai'\n[[provider.key]]\nname = 'a'\nsecret = { env = 'OPENAI_API_KEY' }\n\
                [[provider.key]]\nname = 'b'\nsecret = { env = 'SECOND' }\n[[provider.key]]\nsecret = { env = 'THIRD' }";
    let outcome = Trial { file, variables: &[("OPENAI_API_KEY", "k"), ("SECOND", "l")], ..Trial::default() }.run();
    assert_eq!(
        outcome.warnings,
        ["orbyt.toml:10:10: provider[0].key[2].secret: the environment variable THIRD is not set; the key is left out"]
    );
    assert_eq!(keys(&outcome.sound().providers[0]), [("a", "k"), ("b", "l")]);
}

#[test]
fn named_providers_are_the_ones_in_use_in_their_order() {
    let variables =
        [("OPENAI_API_KEY", "a"), ("ANTHROPIC_API_KEY", "b"), ("GEMINI_API_KEY", "c"), ("GROQ_API_KEY", "d")];
    let with = |more: &[(&'static str, &'static str)]| with_env(&[&variables[..], more].concat());
    let outcome = with(&[("GATEWAY_PROVIDERS", "gemini, openai,deepseek"), ("GATEWAY_WEIGHTS", "50,30,20")]);
    assert_eq!(outcome.ids(), ["google", "openai"]);
    assert_eq!(outcome.warnings, ["GATEWAY_PROVIDERS: deepseek is not set up and left out"]);
    let snapshot = outcome.sound();
    assert_eq!(snapshot.providers.iter().map(|provider| provider.weight).collect::<Vec<_>>(), [Some(50), Some(30)]);
    assert_eq!(snapshot.routing.strategy, Strategy::Weighted);
    let named: Vec<_> = snapshot.routing.providers.iter().flatten().map(|id| &**id).collect();
    assert_eq!(named, ["google", "openai", "deepseek"]);
    assert_eq!(with(&[]).sound().routing.strategy, Strategy::Order);
}

#[test]
fn variables_that_look_like_ours_and_are_unknown_are_named() {
    let outcome = with_env(&[("ORBYT_LISTN", "1"), ("ORBYT_SERVICE_HOST", "10.0.0.1")]);
    assert_eq!(outcome.warnings, ["ORBYT_LISTN: is not known, did you mean \"ORBYT_LISTEN\"?"]);
}

#[test]
fn the_cache_is_off_until_its_backend_is_named() {
    assert_eq!(with_env(&[]).sound().cache.backend, CacheBackend::Off);
    assert_eq!(with_env(&[("GATEWAY_CACHE_TTL", "60")]).sound().cache.backend, CacheBackend::Off);
    let outcome =
        with_env(&[("GATEWAY_CACHE_BACKEND", "memory"), ("GATEWAY_CACHE_TTL", "90"), ("GATEWAY_CACHE_MAX_SIZE", "7")]);
    assert_eq!(outcome.warnings, Vec::<String>::new());
    let cache = &outcome.sound().cache;
    assert_eq!((cache.backend, cache.ttl, cache.max_size), (CacheBackend::Memory, Duration::from_secs(90), 7));
    assert_eq!(with_env(&[("GATEWAY_CACHE_TTL", "2m")]).sound().cache.ttl, Duration::from_secs(120));
    let wrong =
        with_env(&[("GATEWAY_CACHE_BACKEND", "disk"), ("GATEWAY_CACHE_TTL", "soon"), ("GATEWAY_CACHE_MAX_SIZE", "0")]);
    assert_eq!(
        wrong.errors,
        [
            "GATEWAY_CACHE_TTL: must be a duration such as \"30s\", or a number of seconds",
            "GATEWAY_CACHE_BACKEND: must be one of \"off\", \"memory\", \"redis\"",
            "GATEWAY_CACHE_MAX_SIZE: must be a whole number from 1 to 100000000",
        ]
    );
}

#[test]
fn a_redis_is_used_when_it_is_named_and_its_password_is_a_secret() {
    assert_eq!(with_env(&[]).sound().store.redis, None);
    let snapshot = with_env(&[("REDIS_URL", "redis://:canary@h:6379/1"), ("GATEWAY_CACHE_BACKEND", "redis")]).sound();
    let redis = snapshot.store.redis.as_ref().unwrap();
    assert_eq!((redis.timeout, redis.node_ttl), (Duration::from_millis(50), Duration::from_secs(10)));
    assert_eq!(snapshot.cache.backend, CacheBackend::Redis);
    assert!(!format!("{snapshot:?}").contains("canary"));
    let secrets: Vec<_> = snapshot.secrets().map(|secret| secret.reveal()).collect();
    assert!(secrets.contains(&"canary") && secrets.contains(&"redis://:canary@h:6379/1"));
    let wrong = with_env(&[("REDIS_URL", "http://:canary@h")]).errors;
    assert_eq!(wrong, ["REDIS_URL: must begin with redis:// or rediss://"]);
}

#[test]
fn the_data_directory_is_the_services_or_the_users() {
    let dir = |variables: &[(&str, &str)]| with_env(variables).sound().server.data_dir.display().to_string();
    assert_eq!(dir(&[("STATE_DIRECTORY", "/var/lib/orbyt:/x"), ("HOME", "/home/u")]), "/var/lib/orbyt");
    assert_eq!(dir(&[("HOME", "/home/u")]), "/home/u/.local/share/orbyt");
    assert_eq!(dir(&[]), "orbyt-data");
}
