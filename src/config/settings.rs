//! The table of all settings: what the reader accepts, what docs/configuration.md lists and what `conf/orbyt.toml` shows.

/// One key of the configuration file.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its section, without brackets: `server`, `provider.key`.
    pub section: &'static str,
    /// Its key.
    pub key: &'static str,
    /// Its default in TOML; empty when it has none.
    pub default: &'static str,
    /// A value in TOML that it takes, where the default does not show one.
    pub example: &'static str,
    /// The environment variable that wins over it; empty when there is none.
    pub env: &'static str,
    /// What it means.
    pub meaning: &'static str,
}

/// The sections that hold a list of tables (`[[provider]]`).
pub const LISTS: [&str; 8] = [
    "provider",
    "provider.key",
    "provider.model",
    "provider.model.above",
    "provider.model.picture",
    "model",
    "preset",
    "limits.rule",
];

/// Sections that are part of the design and come with later versions.
pub const LATER: [&str; 1] = ["budgets"];

/// A setting that has a default.
const fn set(section: &'static str, key: &'static str, default: &'static str, meaning: &'static str) -> Setting {
    Setting { section, key, default, example: default, env: "", meaning }
}

/// A setting that has none.
const fn open(section: &'static str, key: &'static str, example: &'static str, meaning: &'static str) -> Setting {
    Setting { section, key, default: "", example, env: "", meaning }
}

const fn env(setting: Setting, env: &'static str) -> Setting {
    Setting { env, ..setting }
}

/// Every setting, in the order in which it is documented.
#[rustfmt::skip]
pub const SETTINGS: &[Setting] = &[
    env(set("server", "listen", r#"["127.0.0.1:3001"]"#, "Addresses of the gateway (HTTP/1.1 and h2c); a port alone means the loopback address."), "ORBYT_LISTEN"),
    env(open("server", "data_dir", r#""/var/lib/orbyt""#, "Where state is kept; by default `$STATE_DIRECTORY`, else `~/.local/share/orbyt`."), "ORBYT_DATA_DIR"),
    env(open("server", "api_keys", r#"[{ name = "team-a", env = "TEAM_A_KEY" }]"#, "Static gateway keys (any strings), each with a name for the log and for `[[limits.rule]] match`, or without (then it is called by a mask such as `tea•••789`). Without any key, one is made on first start."), "ORBYT_API_KEYS"),
    set("server", "max_body_bytes", r#""32MiB""#, "Largest request body; a larger one is a 413."),
    set("server", "trusted_proxies", "[]", "Addresses or networks whose `x-forwarded-for` is believed."),
    set("server", "workers", "0", "Worker threads; 0 means one per core."),
    set("server", "grace", r#""30s""#, "How long a shutdown waits for requests in flight."),
    set("server", "upgrade_grace", r#""1h""#, "How long a process that `orbyt upgrade` has replaced stays for its requests in flight."),
    set("server.cors", "allow_origins", "[]", "Origins of pages that may call from a browser, or `*`; empty means CORS is off."),
    open("server.tls", "listen", r#"["0.0.0.0:3443"]"#, "Addresses of the HTTPS listener."),
    open("server.tls", "certificate", r#""/etc/orbyt/tls/fullchain.pem""#, "PEM file of the certificate chain."),
    open("server.tls", "key", r#""/etc/orbyt/tls/privkey.pem""#, "PEM file of its private key."),
    env(set("console", "listen", r#"["127.0.0.1:4000"]"#, "Addresses of the console, its API and `/metrics`."), "ORBYT_CONSOLE_LISTEN"),
    env(set("console", "devtools_listen", r#"["127.0.0.1:4983"]"#, "Addresses at which the console opens with DevTools; empty (in the environment: `off`) for none. One in use is done without."), "ORBYT_DEVTOOLS_LISTEN"),
    env(open("console", "admin_token", r#"{ credential = "orbyt_admin_token" }"#, "The administrator's token; by default one is made on first start."), "ORBYT_ADMIN_TOKEN"),
    set("console", "secure_cookies", "false", "`true` lets browsers send the login's cookie over TLS alone. Behind a trusted proxy that says `x-forwarded-proto: https` they do anyway."),
    open("provider", "id", r#""openai""#, "A provider of the catalog, or a name of your own (then `base_url` is needed)."),
    open("provider", "name", r#""My OpenAI""#, "Its name for people."),
    set("provider", "enabled", "true", "`false` leaves it out, also when the environment has its key."),
    env(open("provider", "base_url", r#""https://api.openai.com/v1""#, "Where it is, as its own SDK takes it."), "<PROVIDER>_BASE_URL"),
    open("provider", "dialect", r#""openai_chat""#, "Its wire format: `openai_chat`, `anthropic_messages`, `gemini`, `cohere`, `ollama` or `bedrock_converse`."),
    open("provider", "auth", r#""bearer""#, "How it wants its key: `bearer`, `none`, `x-api-key`, `x-goog-api-key`, `api-key`, or a cloud's own way: `azure`, `aws`, `google`."),
    open("provider", "cloud", r#""azure""#, "For a provider of your own that is a second place in a cloud: `azure`, `bedrock` or `vertex`."),
    open("provider", "region", r#""us-east-1""#, "Bedrock: the region; by default that of `base_url`, else `AWS_REGION`."),
    open("provider", "api_version", r#""2024-10-21""#, "Azure: a date asks deployments by their paths; without one the versionless `/openai/v1` is asked."),
    open("provider", "deployments", r#"{ "gpt-4o" = "my-deployment" }"#, "Azure: names of models for names of deployments; a deployment is found by its own name without it."),
    open("provider", "project", r#""my-project""#, "Vertex: the project; by default `GOOGLE_CLOUD_PROJECT`, else the account's own."),
    open("provider", "location", r#""global""#, "Vertex: the location; by default `GOOGLE_CLOUD_LOCATION`, else `global`."),
    open("provider", "headers", r#"{ x-team = "a" }"#, "Headers of every request to it."),
    open("provider", "ca_file", r#""/etc/orbyt/ca.pem""#, "PEM file of certificates that are trusted besides the system's."),
    open("provider", "quirks", r#"["all_tolerant"]"#, "How it deviates from OpenAI's format; `none`, `all_tolerant`, or the names of the catalog."),
    open("provider", "weight", "50", "Its share under the strategy `weighted`, relative to the others."),
    open("provider", "max_concurrent", "20", "Requests that it takes at once; further ones go to the next target, or wait when there is none."),
    open("provider", "discover", "true", "Whether its models are found by asking it (`GET /models`)."),
    open("provider", "aliases", r#"["my-openai"]"#, "Other ids that mean the same."),
    open("provider", "group", r#""acme-org""#, "The group of its keys that name none: see `[[provider.key]] group`."),
    open("provider.key", "name", r#""team-a""#, "The key's name in logs and metrics; by default `<provider>_01` and so on."),
    env(open("provider.key", "secret", r#"{ env = "OPENAI_API_KEY" }"#, "The key."), "<PROVIDER>_API_KEY"),
    open("provider.key", "rpm", "500", "Requests a minute that the key may make; with none left it rests. What the provider tells of its own limits ranks keys without any."),
    open("provider.key", "tpm", "200000", "Tokens a minute that it may use, input and output, taken by estimate and settled by usage."),
    open("provider.key", "group", r#""acme-org""#, "Keys of one group, at any provider, share one quota: a limit that one runs into rests them all."),
    open("provider.timeouts", "connect", r#""2s""#, "As `[timeouts]`, for this provider alone."),
    open("provider.timeouts", "first_output", r#""120s""#, "As `[timeouts]`, for this provider alone."),
    open("provider.timeouts", "idle", r#""60s""#, "As `[timeouts]`, for this provider alone."),
    open("provider.timeouts", "total", r#""900s""#, "As `[timeouts]`, for this provider alone."),
    open("provider.model", "id", r#""my-finetune""#, "The model's name at the provider."),
    open("provider.model", "name", r#""My fine-tune""#, "Its name for people."),
    open("provider.model", "aliases", r#"["tuned"]"#, "Other names that mean the same."),
    open("provider.model", "context", "128000", "Context in tokens."),
    open("provider.model", "max_output", "16384", "Largest output in tokens."),
    open("provider.model", "max_concurrent", "4", "Requests that the model takes at once, as for the provider."),
    open("provider.model", "input", r#""2.50""#, "Dollars per million input tokens."),
    open("provider.model", "output", r#""10.00""#, "Dollars per million output tokens."),
    open("provider.model", "cached_input", r#""1.25""#, "Dollars per million cached input tokens."),
    open("provider.model", "cache_write_5m", r#""3.75""#, "Dollars per million input tokens written to a cache for five minutes, or for as long as the provider likes."),
    open("provider.model", "cache_write_1h", r#""6.00""#, "Dollars per million input tokens written to a cache for an hour."),
    open("provider.model", "reasoning", r#""10.00""#, "Dollars per million tokens of reasoning; by default as output."),
    open("provider.model", "audio_input", r#""40.00""#, "Dollars per million tokens of sound in; by default as input."),
    open("provider.model", "audio_output", r#""80.00""#, "Dollars per million tokens of sound out; by default as output."),
    open("provider.model", "image", r#""0.001""#, "Dollars per picture that is made, for models without prices of tokens; of others, per picture in the input, for listings."),
    open("provider.model", "second", r#""0.0001""#, "Dollars per second of sound to be transcribed, for models without prices of tokens."),
    open("provider.model", "character", r#""15.00""#, "Dollars per million characters of text to be spoken, for models without prices of tokens."),
    open("provider.model", "request", r#""0.005""#, "Dollars per request, besides its tokens."),
    open("provider.model", "fallbacks", r#"["openai/gpt-4o-mini"]"#, "Models that stand in for it."),
    open("provider.model.above", "tokens", "200000", "The prices of this table hold for requests whose input has more tokens than this."),
    open("provider.model.above", "input", r#""5.00""#, "As `[[provider.model]]`, and below."),
    open("provider.model.above", "output", r#""15.00""#, "Dollars per million output tokens."),
    open("provider.model.above", "cached_input", r#""2.50""#, "Dollars per million cached input tokens."),
    open("provider.model.above", "cache_write_5m", r#""7.50""#, "Dollars per million input tokens written to a cache for five minutes."),
    open("provider.model.above", "cache_write_1h", r#""12.00""#, "Dollars per million input tokens written to a cache for an hour."),
    open("provider.model.picture", "size", r#""1024x1024""#, "What pictures of this size cost; of every size where it is left out."),
    open("provider.model.picture", "quality", r#""hd""#, "And of this quality; of every quality where it is left out."),
    open("provider.model.picture", "price", r#""0.08""#, "Dollars per picture of this kind; of any other as `image` says."),
    open("model", "name", r#""smart""#, "A model name of your own."),
    open("model", "targets", r#"["openai/gpt-4o", "anthropic/claude-sonnet-4"]"#, "What it stands for, in order of preference."),
    open("model", "fallbacks", r#"["google/gemini-2.5-flash"]"#, "Models that stand in when no target can."),
    open("model", "strategy", r#""cheap""#, "How to choose between the targets; by default as `[routing]`."),
    open("preset", "slug", r#""support""#, "Its name in requests: the model `@preset/support` or `<model>@preset/support`, or `extra.preset`."),
    open("preset", "name", r#""Customer support""#, "Its name for people."),
    open("preset", "model", r#""anthropic/claude-haiku-4.5""#, "The model, where the request names none."),
    open("preset", "fallbacks", r#"["openai/gpt-4o-mini"]"#, "Models that stand in, where the request names none."),
    open("preset", "strategy", r#""cheap""#, "How to choose between the targets, where the request does not say."),
    open("preset", "system", r#""Answer briefly.""#, "The system prompt of conversations that begin without one."),
    open("preset", "parameters", r#"{ temperature = 0.2, max_tokens = 500 }"#, "Parameters of chat completions that hold where the request does not name them."),
    set("routing", "strategy", r#""order""#, "How to choose where a request leaves it open: `order`, `cheap`, `fast`, `latency`, `throughput`, `reliable`, `weighted`."),
    env(open("routing", "providers", r#"["openai", "anthropic"]"#, "The providers in use, in order of preference; equivalents at the next one stand in for a model that is down. By default all that are configured."), "GATEWAY_PROVIDERS"),
    env(open("routing", "weights", "[50, 50]", "Their weights, in the same order; sets the strategy `weighted`."), "GATEWAY_WEIGHTS"),
    set("routing", "fallbacks", "[]", "Models that stand in for any other."),
    set("routing", "auto", "[]", "What the model `auto` chooses from."),
    set("routing", "byok_fallback", r#""pool""#, "With whose keys a request with `extra.byok` falls back to a provider that it brings no key for: `pool`, the gateway's, or `deny`: not at all."),
    set("routing", "sticky", r#""off""#, "Which requests keep to one target under a strategy that would spread them: `session` (the same `extra.session_id`), `prefix` (that, else the same beginning of the conversation, for the provider's prompt cache) or `off`."),
    env(set("retry", "max", "2", "How often the same target is tried again, 0 to 10."), "GATEWAY_RETRY_MAX"),
    set("retry", "base", r#""250ms""#, "First wait, doubled each time, with full jitter."),
    set("retry", "cap", r#""5s""#, "Longest wait."),
    set("retry", "budget", "0.2", "Largest share of live traffic that may be retries, 0 to 1."),
    set("breaker", "enabled", "true", "Whether a target that fails is left alone for a while."),
    set("breaker", "failures", "5", "Faults in a row that open the breaker."),
    env(set("breaker", "open_for", r#""30s""#, "How long it stays open before one request tries again."), "GATEWAY_HEALTH_CHECK_INTERVAL"),
    set("breaker", "max_open_share", "0.5", "Largest share of the providers that may have open breakers at once, 0 to 1; one always may. In an outage of everything the others are still asked."),
    env(set("health", "probe", r#""off""#, "How often every provider is asked for its list of models, to see early that it is gone or back; `off` for never."), "GATEWAY_HEALTH_CHECK_INTERVAL"),
    set("hedging", "enabled", "false", "Whether the next target is asked too when the first output is late; whose output comes first serves, the other is cancelled. Not for requests with `extra.byok`."),
    set("hedging", "quantile", "0.95", "It is late when this share of the target's answers, streamed or not, began sooner (known from 20 answers on)."),
    set("hedging", "min_delay", r#""50ms""#, "But never before that."),
    set("hedging", "budget", "0.05", "Largest share of the requests that may ask a second target so, 0 to 1."),
    set("timeouts", "connect", r#""5s""#, "Until a connection is there."),
    set("timeouts", "first_output", r#""60s""#, "From the sent request to the first output."),
    set("timeouts", "idle", r#""60s""#, "Between two pieces of an answer."),
    set("timeouts", "total", r#""600s""#, "From the client's request to the end of the answer."),
    set("gate", "max_bytes", r#""8MiB""#, "Most bytes of an answer held back before the client sees any."),
    set("gate", "max_wait", r#""off""#, "Longest time an answer is held back; `off` waits for the first output."),
    set("gate", "min_throughput", r#""off""#, "Tokens a second that a stream has to show before the client sees any of it, while another target is left: a slower one is left for that."),
    set("gate", "throughput_window", r#""2s""#, "How long after its first output it has for that. A stream that is fast enough is not held for so long, but until it has shown as many tokens."),
    set("gate", "keepalive", r#""15s""#, "How often a comment keeps a silent stream alive; `off` for never."),
    set("gate", "keepalive_before_commit", "false", "Whether comments are sent before the first output too: then no other target can take over any more."),
    set("limits", "global_per_second", r#""off""#, "Requests a second, all clients together."),
    set("limits", "address_per_second", r#""off""#, "Requests a second from one address."),
    set("limits", "bad_key_per_minute", "60", "Requests with a bad key a minute from one address."),
    set("limits", "concurrent", r#""off""#, "Requests in flight at once."),
    set("limits", "assumed_output_tokens", "1000", "Output that is reserved for a request which does not bound it (`max_tokens`)."),
    set("limits", "queue_size", "100", "Most requests that wait for one provider that has reached `max_concurrent`; one more is a 429."),
    set("limits", "queue_wait", r#""30s""#, "Longest such wait; `off` for none."),
    set("limits", "on_outage", r#""local""#, "What becomes of requests with limits while Redis cannot be asked: `local`, each node goes on with its share, or `deny`, they are refused (503)."),
    open("limits.rule", "scope", r#""key""#, "Whom the limit is for: each `key`, each `user` of a key (the request's `user`) or each `model` that is asked for. Of the rules of a scope the first that matches holds."),
    open("limits.rule", "match", r#""team-*""#, "The names that it is for, with `*` for any text: of keys as in the log, of users, of models (`openai/*`, or without a provider); by default all."),
    open("limits.rule", "requests_per_second", "10", "Requests a second."),
    open("limits.rule", "requests_per_minute", "60", "Requests a minute."),
    open("limits.rule", "requests_per_hour", "1000", "Requests an hour."),
    open("limits.rule", "requests_per_day", "10000", "Requests a day."),
    open("limits.rule", "tokens_per_second", "10000", "Tokens (input and output) a second."),
    open("limits.rule", "tokens_per_minute", "100000", "Tokens a minute."),
    open("limits.rule", "tokens_per_hour", "1000000", "Tokens an hour."),
    open("limits.rule", "tokens_per_day", "5000000", "Tokens a day."),
    open("limits.rule", "concurrency", "8", "Requests in flight at once."),
    set("money", "unknown_price", r#""deny""#, "What becomes of requests with a budget to models whose price is not known: `deny`, they are refused (402); `allow`, they pass and cost nothing; `estimate`, they cost what the dearest model of their kind costs."),
    env(set("cache", "backend", r#""off""#, "Where whole answers are kept for requests that ask the same again: `memory`, `redis` (shared by all nodes) or `off`."), "GATEWAY_CACHE_BACKEND"),
    env(set("cache", "ttl", r#""300s""#, "How long an answer is kept."), "GATEWAY_CACHE_TTL"),
    set("cache", "max_ttl", r#""1d""#, "The longest time for which a request may have its answer kept (`extra.cache.ttl`); at least as long as `ttl`."),
    env(set("cache", "max_size", "10000", "Most answers that are kept."), "GATEWAY_CACHE_MAX_SIZE"),
    set("cache", "max_bytes", r#""256MiB""#, "Most memory that they take, in Redis those of all nodes together. No answer larger than a quarter is kept."),
    open("cache", "max_temperature", "0.7", "Requests above this temperature are not cached; by default all are, and those without one too."),
    set("cache.semantic", "enabled", "false", "Whether the answer to a question that means the same will do, where a request does not say (`extra.cache.semantic`)."),
    open("cache.semantic", "model", r#""openai/text-embedding-3-small""#, "The model that makes the embeddings, at an OpenAI-compatible provider; without one, no questions are compared."),
    set("cache.semantic", "threshold", "0.95", "Least cosine between two questions that mean the same."),
    set("cache.semantic", "max_entries", "10000", "Most questions that are kept by a node, and in Redis where nodes share them, of about four bytes a dimension."),
    set("cache.semantic", "timeout", r#""1s""#, "How long an embedding may take; without it in time, the request goes on as a miss."),
    env(open("store", "database_url", r#"{ credential = "orbyt_database_url" }"#, "A Postgres database (`postgres://user:password@host/name`), shared by several gateways; by default the file `orbyt.db` in the data directory."), "DATABASE_URL"),
    set("store", "connections", "8", "Most connections to it, besides the one that listens for changes."),
    env(open("store", "master_key", r#"{ credential = "orbyt_master_key" }"#, "The master key of the vault: 32 bytes in base64 (`openssl rand -base64 32`). Several with commas: the first seals, all open. By default one is made in the data directory."), "ORBYT_MASTER_KEY"),
    env(open("store", "redis_url", r#"{ env = "REDIS_URL" }"#, "The Redis that several nodes share their state over, `redis://` or `rediss://`; without it each node is alone."), "REDIS_URL"),
    open("store", "redis_ca_file", r#""/etc/orbyt/redis-ca.pem""#, "PEM file of certificates that Redis may show, instead of the system's."),
    set("store", "redis_timeout", r#""50ms""#, "Longest time that a request waits for an answer of Redis."),
    set("store", "node_ttl", r#""10s""#, "After so long without a sign of life a node counts as gone, and what it had reserved comes back."),
    env(open("store", "node_name", r#""gateway-1""#, "What this node is called where requests of several are shown; by default its host's name."), "ORBYT_NODE_NAME"),
    env(set("telemetry", "log_level", r#""info""#, "`off`, `error`, `warn`, `info`, `debug` or `trace`."), "ORBYT_LOG"),
    set("telemetry", "log_format", r#""auto""#, "`json`, `human`, or `auto`: human on a terminal."),
    set("telemetry", "ledger", "true", "Whether every finished request is kept in the database."),
    set("telemetry", "ledger_retention", r#""90d""#, "For how long, at least a day; `off` keeps them for ever. What was spent is kept in any case."),
    set("telemetry", "spool_max_bytes", r#""1GiB""#, "How much may wait on disk while the database is away; beyond it, and where the disk is full, 16 MiB wait in memory, and then records are lost and counted."),
    set("telemetry", "ring_bytes", r#""32MiB""#, "Memory for what the last requests carried (their bodies and those of the answers), as DevTools shows it; `off` keeps nothing."),
    set("telemetry", "ring_entries", "1000", "How many requests that is at most."),
    set("telemetry", "payloads", r#""none""#, "Of which requests it goes to the database too: `none`, `errors` (also those that took more than one attempt), `sampled(0.1)` (a tenth) or `all`."),
    set("telemetry", "payloads_retention", r#""7d""#, "For how long; `off` keeps it as long as the ledger."),
    set("telemetry", "body_bytes", r#""256KiB""#, "Most bytes of one body that are kept, in memory and in the database."),
    set("telemetry", "redact", "[]", "Regular expressions; what matches is hidden in bodies and headers that are kept, besides keys, which always are."),
    env(open("telemetry.otlp", "endpoint", r#""http://127.0.0.1:4318""#, "An OpenTelemetry collector that is told of every request (OTLP over HTTP, protobuf); `/v1/traces` is added unless it is there. Without one, nobody is."), "OTEL_EXPORTER_OTLP_ENDPOINT"),
    open("telemetry.otlp", "authorization", r#"{ env = "OTLP_AUTHORIZATION" }"#, "The header of this name that it asks for, such as `Bearer …`."),
    open("telemetry.otlp", "headers", r#"{ x-scope = "gateways" }"#, "Further headers."),
    set("telemetry.otlp", "timeout", r#""10s""#, "How long it may take to answer."),
    env(set("telemetry.otlp", "service", r#""orbyt""#, "What the gateway calls itself (`service.name`)."), "OTEL_SERVICE_NAME"),
    set("alerts", "hold", r#""1m""#, "How long a state has to be over until its alert is."),
    set("alerts", "keep", r#""24h""#, "How long one that the webhook does not take is sent again."),
    open("alerts.webhook", "url", r#"{ credential = "orbyt_alerts_url" }"#, "Where alerts are posted to as they begin and end; the address may be a secret."),
    open("alerts.webhook", "secret", r#"{ credential = "orbyt_alerts_secret" }"#, "What they are signed with, by HMAC-SHA256 (`x-orbyt-signature`)."),
    set("media", "fetch_remote", "false", "Whether pictures and documents given by address are fetched for providers that take none."),
    set("media", "max_bytes", r#""20MiB""#, "Largest file that is fetched."),
    set("responses", "keep", r#""24h""#, "How long answers of `/v1/responses` that the gateway translates are kept for `previous_response_id`; `off` keeps none."),
    set("responses", "max_entries", "10000", "How many are kept, of all clients together; the oldest of whoever has the most goes first."),
    set("responses", "max_bytes", r#""256MiB""#, "How many bytes of them are kept, in memory."),
];

/// The settings of a section.
pub fn of(section: &str) -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(move |setting| setting.section == section)
}

/// The names of the sections directly below one (`""` for the file itself), each once.
pub fn sections_below(parent: &str) -> Vec<&'static str> {
    let below = |setting: &'static Setting| match parent {
        "" => setting.section.split('.').next(),
        parent => setting.section.strip_prefix(parent)?.strip_prefix('.')?.split('.').next(),
    };
    let mut names: Vec<_> = SETTINGS.iter().filter_map(below).collect();
    names.dedup();
    names
}

/// All settings as a table in Markdown, for docs/configuration.md.
pub fn settings_table() -> String {
    let mut table = String::from("| setting | default | environment | meaning |\n|---|---|---|---|\n");
    let code = |text: &str| if text.is_empty() { String::new() } else { format!("`{text}`") };
    for setting in SETTINGS {
        let Setting { section, key, default, env, meaning, .. } = setting;
        let section = if LISTS.contains(section) { format!("[[{section}]]") } else { format!("[{section}]") };
        table += &format!("| `{section} {key}` | {} | {} | {meaning} |\n", code(default), code(env));
    }
    table
}
