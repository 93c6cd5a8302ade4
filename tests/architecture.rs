//! The house rules of the source tree, which the compiler cannot see: who may use whom, what pure modules leave alone,
//! where Pingora, SQL and Redis may be named, sizes. Each complaint reads `file:line: dialect may not use proxy`.
//!
//! A rule that has to give way is given way *here*, with its reason, in [`EXEMPT`].

#[path = "architecture/source.rs"]
mod source;

use source::{Source, Token, rust_files, test_files};
use std::collections::BTreeSet;
use std::path::Path;

/// A module of the crate, what it may use, and whether it is pure: the same input gives the same output, nothing else happens.
struct Module {
    name: &'static str,
    uses: &'static [&'static str],
    pure: bool,
}

/// Everything that has no module above it.
const EVERYTHING: &[&str] = &["*"];

/// The dependency rule. A name like `store::ports` allows that part alone.
const MODULES: &[Module] = &[
    Module { name: "domain", uses: &[], pure: true },
    Module { name: "dialect", uses: &["domain"], pure: true },
    Module { name: "provider", uses: &["domain", "dialect"], pure: true },
    Module { name: "routing", uses: &["domain", "dialect"], pure: true },
    // The live state of keys and breakers is kept in store and decided in routing, whose types it is made of.
    Module { name: "store", uses: &["domain", "routing"], pure: false },
    Module { name: "vault", uses: &["domain"], pure: false },
    Module { name: "sim", uses: &["domain"], pure: false },
    // A master key is checked where it is written.
    Module { name: "config", uses: &["domain", "dialect", "provider", "routing", "vault"], pure: false },
    Module { name: "telemetry", uses: &["domain", "store::ports"], pure: false },
    Module { name: "proxy", uses: PLANES, pure: false },
    Module { name: "console", uses: PLANES, pure: false },
    Module { name: "wiring", uses: EVERYTHING, pure: false },
    Module { name: "cli", uses: EVERYTHING, pure: false },
    Module { name: "main", uses: EVERYTHING, pure: false },
    Module { name: "lib", uses: EVERYTHING, pure: false },
];

/// What the data plane and the control plane may use: all that is below them, and never each other.
const PLANES: &[&str] = &["domain", "dialect", "provider", "routing", "config", "store::ports", "vault", "telemetry"];

/// A crate or path that only some places may name.
struct Reserved {
    /// Path prefixes; a last segment that ends in `*` matches every name that begins so.
    paths: &'static [&'static str],
    /// Where it may stand: prefixes of file paths.
    only_in: &'static [&'static str],
    says: &'static str,
}

const RESERVED: &[Reserved] = &[
    Reserved {
        paths: &["pingora*"],
        only_in: &["src/proxy/", "src/wiring", "src/cli/", "benches/"],
        says: "Pingora may only be named in proxy, wiring and cli",
    },
    Reserved {
        paths: &["rusqlite", "tokio_postgres", "postgres*", "sqlx", "refinery*"],
        // The tests look at the rows themselves, and break them.
        only_in: &["src/store/sqlite/", "src/store/postgres/", "tests/it/"],
        says: "SQL may only be spoken in store/sqlite and store/postgres",
    },
    Reserved {
        paths: &["redis", "bb8_redis"],
        only_in: &["src/store/redis/"],
        says: "Redis may only be named in store/redis",
    },
];

/// What a pure module does not name: I/O, clocks, chance and whatever runs them. Addresses (`std::net::SocketAddr`) are values.
const IMPURE: &[&str] = &[
    "tokio*",
    "async_std",
    "mio",
    "axum",
    "hyper*",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
    "std::net::Tcp*",
    "std::net::Udp*",
    "std::os",
    "std::time::SystemTime",
    "std::time::Instant::now",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "Instant::now",
    "SystemTime::now",
    "OffsetDateTime::now*",
    "Utc::now",
    "fs::read*",
    "fs::write",
    "File::open",
    "rand",
    "fastrand",
];

/// Statements that betray SQL in a string.
const SQL: &[&str] = &["SELECT ", "INSERT INTO ", "DELETE FROM ", "CREATE TABLE ", "ALTER TABLE ", "DROP TABLE "];

/// How model names begin. Model names are data: they stand in the catalog, in simulated providers and in tests.
const MODEL_NAMES: &[&str] = &[
    "gpt-3",
    "gpt-4",
    "gpt-5",
    "gpt-oss",
    "chatgpt-",
    "claude-1",
    "claude-2",
    "claude-3",
    "claude-4",
    "claude-5",
    "claude-sonnet",
    "claude-opus",
    "claude-haiku",
    "gemini-1",
    "gemini-2",
    "gemini-3",
    "gemini-pro",
    "gemini-flash",
    "llama-2",
    "llama-3",
    "llama-4",
    "mistral-large",
    "mistral-small",
    "mixtral",
    "grok-",
    "deepseek-r",
    "deepseek-v",
    "deepseek-chat",
    "command-r",
    "sonar-",
    "qwen",
];

/// Names of modules that say nothing.
const NAMELESS: &[&str] = &["util", "utils", "common", "helper", "helpers", "misc"];

/// Where to stop and think.
const LINES_A_FILE: usize = 600;
/// Where to stop and think.
const LINES_A_FUNCTION: usize = 80;

/// A rule that gives way.
struct Exemption {
    /// The file, or the beginning of its path.
    file: &'static str,
    /// A part of the complaint.
    complaint: &'static str,
    /// Why. It is here for the reader, and no test looks at it.
    #[expect(dead_code, reason = "for the reader")]
    why: &'static str,
}

/// Rules that give way. One that is no longer needed fails the test, too.
const EXEMPT: &[Exemption] = &[
    Exemption {
        file: "src/config/settings.rs",
        complaint: "a model name",
        why: "examples in the documentation of the settings",
    },
    Exemption {
        file: "tests/it/gateway.rs",
        complaint: "unsafe is forbidden",
        why: "signals to the process under test",
    },
    Exemption {
        file: "benches/translate.rs",
        complaint: "unsafe is forbidden",
        why: "an allocator that counts can be written in no other way",
    },
];

#[test]
fn the_source_tree_keeps_the_house_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = read_tree(root);
    assert!(sources.len() > 20, "the walk over the tree found only {} files", sources.len());
    let complaints: Vec<String> = sources.iter().flat_map(complaints).collect();
    let covers = |it: &Exemption, complaint: &str| complaint.starts_with(it.file) && complaint.contains(it.complaint);
    let standing: Vec<&String> =
        complaints.iter().filter(|complaint| !EXEMPT.iter().any(|exemption| covers(exemption, complaint))).collect();
    let idle: Vec<&str> = EXEMPT
        .iter()
        .filter(|exemption| !complaints.iter().any(|complaint| covers(exemption, complaint)))
        .map(|exemption| exemption.complaint)
        .collect();
    assert!(standing.is_empty(), "\n{}\n", standing.iter().map(|line| line.as_str()).collect::<Vec<_>>().join("\n"));
    assert!(idle.is_empty(), "these exemptions are no longer needed: {idle:?}");
}

/// Direct dependencies: where to stop and think before one more is taken in, all that it brings with it included.
const DIRECT_DEPENDENCIES: usize = 80;

/// What is built is what was looked at: `make check` looks at its licences and advisories, and this at where it comes from.
#[test]
fn every_dependency_is_pinned_by_its_checksum_and_comes_from_one_registry() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| -> toml::Table {
        std::fs::read_to_string(root.join(name)).unwrap_or_else(|error| panic!("{name}: {error}")).parse().unwrap()
    };
    let (manifest, lock) = (read("Cargo.toml"), read("Cargo.lock"));
    let packages = lock["package"].as_array().unwrap();
    for package in packages.iter().filter(|package| package["name"].as_str() != Some("orbyt")) {
        let source = package.get("source").and_then(|source| source.as_str());
        assert_eq!(source, Some("registry+https://github.com/rust-lang/crates.io-index"), "{package}");
        let checksum = package.get("checksum").and_then(|checksum| checksum.as_str());
        assert!(checksum.is_some_and(|checksum| checksum.len() == 64), "{package}");
    }
    let direct = manifest["dependencies"].as_table().unwrap();
    assert!(direct.len() <= DIRECT_DEPENDENCIES, "{} direct dependencies", direct.len());
    // What is marked alpha there is taken over on purpose, release by release.
    let pingora = direct["pingora"]["version"].as_str();
    assert!(pingora.is_some_and(|version| version.starts_with('=')), "{pingora:?}");
    // A panic ends the request that it happens in, and not the process with all others.
    let aborts = |profile: &toml::Value| profile.get("panic").is_some_and(|panic| panic.as_str() == Some("abort"));
    let profiles = manifest["profile"].as_table().unwrap();
    assert!(!profiles.values().any(aborts), "a profile lets a panic end the process");
}

fn read_tree(root: &Path) -> Vec<Source> {
    let mut files = Vec::new();
    for folder in ["src", "tests", "benches", "examples"] {
        rust_files(&root.join(folder), &mut files);
    }
    let mut sources: Vec<Source> = files
        .iter()
        .map(|file| {
            let path = file.strip_prefix(root).unwrap_or(file).to_string_lossy().replace('\\', "/");
            let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{path}: {error}"));
            Source::read(&path, &text, !path.starts_with("src/"))
        })
        .collect();
    let test_only: BTreeSet<String> = sources.iter().flat_map(test_files).collect();
    for source in &mut sources {
        if test_only.iter().any(|beginning| source.path.starts_with(beginning)) {
            source.in_test.fill(true);
        }
    }
    sources
}

/// Everything that is wrong with a file.
fn complaints(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    dependencies(source, &mut found);
    reserved_names(source, &mut found);
    texts(source, &mut found);
    words(source, &mut found);
    sizes(source, &mut found);
    found
}

fn complain(found: &mut Vec<String>, source: &Source, line: usize, what: &str) {
    found.push(format!("{}:{line}: {what}", source.path));
}

fn dependencies(source: &Source, found: &mut Vec<String>) {
    let Some(name) = source.module() else { return };
    let Some(module) = MODULES.iter().find(|module| module.name == name) else {
        complain(found, source, 1, &format!("{name} is not in the table of modules"));
        return;
    };
    if module.uses == EVERYTHING {
        return;
    }
    for (path, line) in source.crate_paths() {
        let known = MODULES.iter().any(|module| module.name == path[0]);
        if !known || path[0] == name {
            continue;
        }
        let allowed = module.uses.iter().any(|allowed| matches(allowed, &path));
        if !allowed {
            let part = if module.uses.iter().any(|allowed| allowed.starts_with(&format!("{}::", path[0]))) {
                path[..path.len().min(2)].join("::")
            } else {
                path[0].clone()
            };
            complain(found, source, line, &format!("{name} may not use {part}"));
        }
    }
}

/// Whether a path begins with a pattern like `std::net::Tcp*`.
fn matches(pattern: &str, path: &[String]) -> bool {
    let parts: Vec<&str> = pattern.split("::").collect();
    parts.len() <= path.len()
        && parts.iter().zip(path).all(|(part, segment)| match part.strip_suffix('*') {
            Some(beginning) => segment.starts_with(beginning),
            None => segment == part,
        })
}

fn reserved_names(source: &Source, found: &mut Vec<String>) {
    let pure = source.module().and_then(|name| MODULES.iter().find(|module| module.name == name)).filter(|it| it.pure);
    for (path, line) in source.paths() {
        for reserved in RESERVED {
            let here = reserved.only_in.iter().any(|place| source.path.starts_with(place));
            if !here && reserved.paths.iter().any(|pattern| matches(pattern, &path)) && path.len() > 1 {
                complain(found, source, line, &format!("{} ({})", reserved.says, path.join("::")));
            }
        }
        let impure = IMPURE.iter().any(|pattern| {
            let is_crate = !pattern.contains("::");
            matches(pattern, &path) && (!is_crate || path.len() > 1 || pattern.starts_with(char::is_uppercase))
        });
        if let Some(module) = pure.filter(|_| impure) {
            complain(found, source, line, &format!("{} is pure and may not use {}", module.name, path.join("::")));
        }
    }
}

fn texts(source: &Source, found: &mut Vec<String>) {
    let speaks_sql = RESERVED[1].only_in.iter().any(|place| source.path.starts_with(place));
    let names_models = source.module().is_none_or(|name| name == "sim");
    for (at, placed) in source.tokens.iter().enumerate() {
        let Token::Text(text) = &placed.token else { continue };
        if source.in_test[at] {
            continue;
        }
        if !speaks_sql && SQL.iter().any(|statement| text.contains(statement)) {
            complain(found, source, placed.line, RESERVED[1].says);
        }
        let lower = text.to_ascii_lowercase();
        if let Some(name) = MODEL_NAMES.iter().find(|name| lower.contains(**name)).filter(|_| !names_models) {
            complain(found, source, placed.line, &format!("a model name ({name}…) belongs into the catalog"));
        }
    }
}

fn words(source: &Source, found: &mut Vec<String>) {
    let stem = source.path.trim_end_matches(".rs");
    if let Some(part) = stem.split('/').find(|part| NAMELESS.contains(part)) {
        complain(found, source, 1, &format!("no module is called {part}: name it for what it does"));
    }
    let word = |at: usize| source.tokens.get(at).and_then(|placed| placed.word());
    let sign = |at: usize, sign: char| source.tokens.get(at).is_some_and(|placed| placed.token == Token::Sign(sign));
    for (at, placed) in source.tokens.iter().enumerate() {
        let Some(this) = placed.word() else { continue };
        if this == "unsafe" && !sign(at + 1, '_') {
            complain(found, source, placed.line, "unsafe is forbidden");
        }
        if this == "mod" && word(at + 1).is_some_and(|name| NAMELESS.contains(&name)) {
            complain(found, source, placed.line, "a module is named for what it does");
        }
        if source.in_test[at] {
            continue;
        }
        let method = at > 0 && sign(at - 1, '.') && sign(at + 1, '(');
        if method && matches!(this, "unwrap" | "expect") {
            complain(found, source, placed.line, &format!(".{this}() outside of tests: return an error"));
        }
        if sign(at + 1, '!') && matches!(this, "panic" | "todo" | "unimplemented" | "dbg") {
            complain(found, source, placed.line, &format!("{this}! outside of tests: return an error"));
        }
    }
}

fn sizes(source: &Source, found: &mut Vec<String>) {
    if !source.opens_with_doc {
        complain(found, source, 1, "the first line says in `//!` what the file is for");
    }
    if source.lines > LINES_A_FILE {
        complain(found, source, 1, &format!("{} lines, more than {LINES_A_FILE}: split it", source.lines));
    }
    for (name, line, lines) in source.functions() {
        if lines > LINES_A_FUNCTION {
            complain(found, source, line, &format!("fn {name} has {lines} lines, more than {LINES_A_FUNCTION}"));
        }
    }
}

/// The rules tried on lines that break them, and on lines that look so and do not.
mod the_rules_themselves {
    use super::*;

    fn said(path: &str, code: &str) -> Vec<String> {
        complaints(&Source::read(path, &format!("//! A sample.\n{code}"), false))
    }

    fn says(path: &str, code: &str, complaint: &str) {
        assert_eq!(said(path, code), [complaint], "{code}");
    }

    fn silent(path: &str, code: &str) {
        assert_eq!(said(path, code), [""; 0], "{code}");
    }

    #[test]
    fn a_dialect_may_not_use_the_proxy() {
        let complaint = "src/dialect/sse.rs:2: dialect may not use proxy";
        says("src/dialect/sse.rs", "use crate::proxy::relay;", complaint);
        says("src/dialect/sse.rs", "use crate::{domain::Usage, proxy};", complaint);
        says("src/dialect/sse.rs", "fn f() { crate::proxy::run() }", complaint);
        says("src/dialect/sse.rs", "use super::super::proxy;", complaint);
        says(
            "src/dialect/gemini/mod.rs",
            "use super::super::proxy;",
            "src/dialect/gemini/mod.rs:2: dialect may not use proxy",
        );
        silent("src/dialect/gemini/stream.rs", "use super::super::sse; use crate::domain::Usage;");
        silent("src/dialect/sse.rs", "// use crate::proxy::relay;\n/* crate::proxy /* crate::proxy */ */");
        silent("src/dialect/sse.rs", "#[cfg(test)] mod tests { use crate::sim::Sim; fn f() { crate::sim::run() } }");
    }

    #[test]
    fn the_planes_never_meet_and_see_storage_through_its_ports() {
        says("src/proxy/mod.rs", "use crate::console::Console;", "src/proxy/mod.rs:2: proxy may not use console");
        says("src/console/mod.rs", "use crate::proxy::Proxy;", "src/console/mod.rs:2: console may not use proxy");
        let complaint = "src/proxy/record.rs:2: proxy may not use store::sqlite";
        says("src/proxy/record.rs", "use crate::store::{ports::Ledger, sqlite::Sqlite};", complaint);
        silent("src/proxy/record.rs", "use crate::store::ports::{Ledger, Pool};");
        silent("src/wiring.rs", "use crate::{console::Console, proxy::Proxy, store::sqlite::Sqlite};");
    }

    #[test]
    fn a_module_has_to_be_in_the_table() {
        says("src/billing/mod.rs", "", "src/billing/mod.rs:1: billing is not in the table of modules");
    }

    #[test]
    fn pure_modules_touch_nothing() {
        let complaint = |what: &str| format!("src/routing/plan.rs:2: routing is pure and may not use {what}");
        says("src/routing/plan.rs", "use tokio::time::sleep;", &complaint("tokio::time::sleep"));
        says("src/routing/plan.rs", "fn f() { let now = Instant::now(); }", &complaint("Instant::now"));
        says("src/routing/plan.rs", "fn f() { std::fs::read(\"x\"); }", &complaint("std::fs::read"));
        says("src/routing/plan.rs", "use std::{collections::HashMap, fs};", &complaint("std::fs"));
        says("src/routing/plan.rs", "fn f() { rand::random::<u8>() }", &complaint("rand::random"));
        silent("src/routing/plan.rs", "use std::time::{Duration, Instant}; fn f(now: Instant, rand: u64) {}");
        silent("src/routing/plan.rs", "use std::net::SocketAddr; use std::io::Write;");
        silent("src/proxy/clock.rs", "fn f() { let now = Instant::now(); }");
    }

    #[test]
    fn pingora_sql_and_redis_have_their_places() {
        let pingora = "src/config/load.rs:2: Pingora may only be named in proxy, wiring and cli (pingora::Error)";
        says("src/config/load.rs", "use pingora::Error;", pingora);
        silent("src/proxy/mod.rs", "use pingora::proxy::ProxyHttp;");
        let sql = "src/console/keys.rs:2: SQL may only be spoken in store/sqlite and store/postgres";
        says("src/console/keys.rs", "const Q: &str = \"SELECT id FROM keys\";", sql);
        silent("src/store/sqlite/keys.rs", "const Q: &str = \"SELECT id FROM keys\"; use rusqlite::Connection;");
        let redis = "src/proxy/limit.rs:2: Redis may only be named in store/redis (redis::Client)";
        says("src/proxy/limit.rs", "use redis::Client;", redis);
        silent("src/proxy/limit.rs", "use crate::store::ports::Limits; const REDIS_URL: &str = \"REDIS_URL\";");
    }

    #[test]
    fn model_names_are_data() {
        let complaint = "src/proxy/plan.rs:2: a model name (gpt-4…) belongs into the catalog";
        says("src/proxy/plan.rs", "fn f(m: &str) -> bool { m == \"gpt-4o\" }", complaint);
        silent("src/proxy/plan.rs", "/// Like `gpt-4o`.\nfn f() {}");
        silent("src/dialect/chat.rs", "const FORMAT: &str = \"anthropic-claude-v1\";");
        silent("src/sim/openai.rs", "const MODEL: &str = \"gpt-4o\";");
        silent("src/proxy/plan.rs", "#[test] fn t() { f(\"gpt-4o\") }");
    }

    #[test]
    fn words_that_say_nothing_or_too_much() {
        says("src/proxy/util.rs", "", "src/proxy/util.rs:1: no module is called util: name it for what it does");
        says("src/proxy/mod.rs", "mod helpers;", "src/proxy/mod.rs:2: a module is named for what it does");
        says("src/proxy/mod.rs", "fn f() { unsafe { g() } }", "src/proxy/mod.rs:2: unsafe is forbidden");
        let unwrap = "src/proxy/mod.rs:2: .unwrap() outside of tests: return an error";
        says("src/proxy/mod.rs", "fn f() { g().unwrap(); }", unwrap);
        silent(
            "src/proxy/mod.rs",
            "fn f() { g().unwrap_or(1); }\n#[cfg(test)]\nmod tests { fn f() { g().unwrap(); } }",
        );
        says("src/proxy/mod.rs", "fn f() { todo!() }", "src/proxy/mod.rs:2: todo! outside of tests: return an error");
    }

    #[test]
    fn sizes_are_bounded() {
        let long = format!("fn long() {{\n{}}}", "    g();\n".repeat(80));
        says("src/proxy/mod.rs", &long, "src/proxy/mod.rs:2: fn long has 82 lines, more than 80");
        silent("src/proxy/mod.rs", "trait T { fn f(&self) -> [u8; 3]; }\nfn g(f: fn(u8) -> u8) {}");
        says("src/proxy/mod.rs", &"\n".repeat(600), "src/proxy/mod.rs:1: 601 lines, more than 600: split it");
        let undocumented = complaints(&Source::read("src/proxy/mod.rs", "fn f() {}", false));
        assert_eq!(undocumented, ["src/proxy/mod.rs:1: the first line says in `//!` what the file is for"]);
    }

    #[test]
    fn strings_characters_and_lifetimes_do_not_confuse_the_reader() {
        silent("src/proxy/mod.rs", "fn f<'a>(x: &'a str) -> char { if x == \"{\\\"\" { '{' } else { '\\'' } }");
        silent("src/proxy/mod.rs", "const X: &str = r#\"a \" crate::console } \"#; fn g() { b'\"'; b\"unsafe\"; }");
        let complaint = "src/proxy/mod.rs:3: unsafe is forbidden";
        says(
            "src/proxy/mod.rs",
            "const X: &str = \"one \\\n two\"; const Y: char = '\"'; fn f() { unsafe { g() } }",
            complaint,
        );
    }

    #[test]
    fn a_file_declared_for_tests_is_test_code() {
        let parent = Source::read("src/dialect/gemini/mod.rs", "//! x\n#[cfg(test)]\nmod tests;\nmod stream;", false);
        let files = test_files(&parent);
        assert!(files.contains("src/dialect/gemini/tests.rs") && files.contains("src/dialect/gemini/tests/"));
        assert!(!files.contains("src/dialect/gemini/stream.rs"));
        let beside =
            Source::read("src/dialect/sse.rs", "//! x\n#[cfg(test)]\n#[path = \"sse_cases.rs\"]\nmod tests;", false);
        assert!(test_files(&beside).contains("src/dialect/sse_cases.rs"));
    }
}
