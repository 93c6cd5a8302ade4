//! The documents against the code: tables that are made from it, and names that have to exist.
//!
//! `UPDATE_DOCS=1 cargo test --test documents` writes the tables of docs/ anew.

use orbyt::config::settings_table;
use orbyt::provider::Catalog;
use orbyt::proxy::error::Reason;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn errors_table() -> String {
    let rows = Reason::ALL.map(|reason| {
        let (status, error_type, code, meaning) = reason.row();
        format!("| {status} | `{error_type}` | `{code}` | {meaning} |\n")
    });
    format!("| status | type | code | meaning |\n|---|---|---|---|\n{}", rows.concat())
}

fn providers_table() -> String {
    let code = |names: &[String]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let mut table = "| id | also | format | key | base URL | by default |\n|---|---|---|---|---|---|\n".to_owned();
    for row in Catalog::builtin().unwrap().providers() {
        let key = code(&row.key_env) + if row.key_required { "" } else { " (not needed)" };
        let (also, url) = (code(&row.aliases), code(&row.base_url_env));
        let place = if row.cloud.is_some() { "[its place](clouds.md)" } else { &row.base_url };
        table += &format!("| `{}` | {also} | {} | {key} | {url} | {place} |\n", row.id, row.dialect.name());
    }
    table
}

/// Where a table stands: between its two markers.
fn place(text: &str, name: &str) -> std::ops::Range<usize> {
    let (begin, end) = (format!("<!-- {name}:begin -->\n"), format!("<!-- {name}:end -->"));
    let start = text.find(&begin).unwrap_or_else(|| panic!("there is no {begin:?}")) + begin.len();
    start..text.find(&end).unwrap_or_else(|| panic!("there is no {end:?}"))
}

/// What a user reads: the README and every page of docs/, by their paths.
fn pages() -> Vec<String> {
    let folder = std::fs::read_dir(root().join("docs")).unwrap();
    let names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut pages: Vec<String> =
        names.filter(|name| name.ends_with(".md")).map(|name| format!("docs/{name}")).collect();
    pages.push("README.md".to_owned());
    pages.sort();
    pages
}

/// All pages one after the other.
fn all_pages() -> String {
    pages().iter().map(|page| read(page) + "\n").collect()
}

#[test]
fn the_tables_of_the_documents_are_those_of_the_code() {
    let tables = [
        ("docs/configuration.md", "settings", settings_table()),
        ("docs/errors.md", "errors", errors_table()),
        ("docs/providers.md", "providers", providers_table()),
    ];
    let mut differing = Vec::new();
    for (page, name, table) in tables {
        let mut text = read(page);
        let place = place(&text, name);
        if text[place.clone()] != table {
            text.replace_range(place, &table);
            differing.push(page);
            if std::env::var_os("UPDATE_DOCS").is_some() {
                std::fs::write(root().join(page), text).unwrap();
            }
        }
    }
    assert!(
        differing.is_empty() || std::env::var_os("UPDATE_DOCS").is_some(),
        "{differing:?} differ from the code: UPDATE_DOCS=1 cargo test --test documents writes them anew"
    );
}

/// The words of a text that consist of these characters alone.
fn words(text: &str, is_part: impl Fn(char) -> bool) -> BTreeSet<String> {
    text.split(|c| !is_part(c)).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The names of metrics in a text: our own, those of the process, those of OpenTelemetry.
fn metrics(text: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let known = |word: &String| ["orbyt_", "process_", "gen_ai_"].iter().any(|family| word.starts_with(family));
    // `orbyt_NAME` is a pattern.
    words(text, is_name).into_iter().filter(|word| known(word) && !word.ends_with('_')).collect()
}

/// All that the gateway has. The names of families stand in quotes in these files and nowhere else.
fn metrics_of_the_code() -> BTreeSet<String> {
    let files = ["metrics", "series", "sampled", "gen_ai"];
    let code: String = files.map(|file| read(&format!("src/telemetry/{file}.rs"))).concat();
    let quoted: String = code.split('"').skip(1).step_by(2).map(|text| format!("{text}\n")).collect();
    // Labels of OpenTelemetry's begin like its metrics.
    metrics(&quoted)
        .into_iter()
        .filter(|name| !name.starts_with("gen_ai_") || name.contains("_token_usage") || name.contains("_server_"))
        .collect()
}

#[test]
fn the_page_on_metrics_names_every_one_and_no_page_another() {
    let there_are = metrics_of_the_code();
    assert_eq!(metrics(&read("docs/observability.md")), there_are);
    let pages = all_pages();
    // systemd puts the name of the service before those of credentials, too.
    let is_credential = |name: &str| pages.contains(&format!("credential = \"{name}\""));
    let is_cookie = |name: &str| pages.contains(&format!("__Host-{name}"));
    let elsewhere = metrics(&pages);
    let unknown: Vec<&String> =
        elsewhere.difference(&there_are).filter(|name| !is_credential(name) && !is_cookie(name)).collect();
    assert!(unknown.is_empty(), "there are no such metrics: {unknown:?}");
}

#[test]
fn the_dashboard_and_the_alerts_ask_for_metrics_that_there_are() {
    let there_are = metrics_of_the_code();
    for file in ["conf/prometheus/alerts.yml", "conf/prometheus/alerts.test.yml", "conf/grafana/orbyt.json"] {
        let named = metrics(&read(file));
        assert!(named.len() > 4, "{file}: {named:?}");
        for name in named {
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part)).unwrap_or(&name);
            // The label that series of OpenTelemetry's are told apart by.
            let is_label = name == "gen_ai_request_model";
            assert!(is_label || there_are.contains(family), "{file} asks for {name}, which there is not");
        }
    }
}

#[test]
fn every_model_of_the_documents_is_in_the_catalog() {
    let catalog = Catalog::builtin().unwrap();
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-._/@:".contains(c);
    let named: Vec<String> = words(&all_pages(), is_part)
        .into_iter()
        .filter(|word| {
            let prefix = word.split_once('/').filter(|(_, name)| !name.is_empty());
            // Capitals stand for any name. Models for embeddings are named in the configuration alone; the catalog has those that answer.
            let is_name =
                |name: &str| name.bytes().any(|byte| byte.is_ascii_lowercase()) && !name.contains("embedding");
            prefix.is_some_and(|(prefix, name)| is_name(name) && catalog.provider(prefix).is_some())
        })
        .collect();
    assert!(named.len() > 2, "the search found only {named:?}");
    for word in named {
        let (provider, model) = word.split_once('/').unwrap();
        assert!(catalog.model_at(provider, model.trim_end_matches('.')).is_some(), "{word} is not in the catalog");
    }
}

#[test]
fn every_make_target_of_the_documents_exists() {
    let makefile = read("Makefile");
    let documents = all_pages();
    let is_word = |c: char| c.is_ascii_lowercase() || c == '-';
    let named: BTreeSet<&str> = documents
        .split('`')
        .flat_map(|text| text.lines())
        .filter_map(|line| line.strip_prefix("make "))
        .filter_map(|rest| rest.split(|c| !is_word(c)).next())
        .collect();
    assert!(named.contains("demo") && named.contains("check"), "{named:?}");
    for target in named {
        assert!(makefile.lines().any(|line| line.starts_with(&format!("{target}:"))), "there is no make {target}");
    }
}

/// The commands `orbyt …` of a text, as words. `$ ` and `sudo -u orbyt ` may stand before them.
fn commands(text: &str) -> Vec<Vec<String>> {
    let lines = text.lines().map(|line| line.trim().trim_start_matches("$ ").trim_start_matches("sudo -u orbyt "));
    let commands = lines.filter(|line| line.starts_with("orbyt ") && !line.contains("└"));
    commands.map(|line| line.split_whitespace().skip(1).map(str::to_owned).collect()).collect()
}

#[test]
fn every_command_of_the_documents_and_the_pages_exists() {
    let folder = root().join("src/console/pages");
    let sources = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    // In the source of a page a text is in quotes, and has its ends of lines written out.
    let of_pages: String =
        sources.map(|path| std::fs::read_to_string(path).unwrap().replace("\\n", "\n").replace('"', "\n")).collect();
    let of_pages = commands(&of_pages);
    assert!(of_pages.iter().any(|words| words[0] == "vault"), "{of_pages:?}");
    let of_documents = commands(&all_pages());
    assert!(of_documents.len() > 30, "{of_documents:?}");
    for words in of_pages.into_iter().chain(of_documents) {
        let mut command = <orbyt::cli::args::Cli as clap::CommandFactory>::command();
        for word in words.iter().map(|word| word.trim_end_matches(';')) {
            if !command.has_subcommands() || word.starts_with(['-', '#', '…']) {
                break;
            }
            let known = command.find_subcommand(word).cloned();
            command = known.unwrap_or_else(|| panic!("there is no command {word} in `orbyt {}`", words.join(" ")));
        }
    }
}

/// What GitHub calls the headings of a document in links to them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut in_code = false;
    let headings = text.lines().filter(|line| {
        in_code ^= line.starts_with("```");
        !in_code && line.starts_with('#')
    });
    let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
    let anchor = |heading: &str| {
        let words = heading.trim_start_matches('#').trim().to_lowercase();
        words.chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_leads_to_a_file_and_a_heading_in_it() {
    let others = ["ARCHITECTURE.md", "CHANGELOG.md", "benches/README.md"].map(str::to_owned);
    for document in pages().into_iter().chain(others) {
        let text = read(&document);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let folder = Path::new(&document).parent().unwrap();
            let path = if file.is_empty() { PathBuf::from(&document) } else { folder.join(file) };
            assert!(root().join(&path).exists(), "{document} links to {link}, which is not there");
            let has_heading = || anchors(&read(&path.to_string_lossy())).contains(heading);
            assert!(heading.is_empty() || has_heading(), "{document} links to {link}, and there is no such heading");
        }
    }
}

#[test]
fn the_index_of_the_documents_names_every_page() {
    let index = read("docs/README.md");
    for page in pages().iter().filter_map(|page| page.strip_prefix("docs/")).filter(|page| *page != "README.md") {
        assert!(index.contains(&format!("]({page})")), "docs/README.md does not name {page}");
    }
}

#[test]
fn the_map_of_the_architecture_names_every_module_and_every_stage() {
    let text = read("ARCHITECTURE.md");
    let names = |folder: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect()
    };
    for module in names(&root().join("src")).iter().filter(|name| !["lib", "main"].contains(&name.as_str())) {
        assert!(text.contains(&format!("### `{module}`")), "ARCHITECTURE.md says nothing about src/{module}");
    }
    for stage in names(&root().join("src/proxy")).iter().filter(|name| *name != "mod") {
        assert!(text.contains(&format!("`{stage}`")), "ARCHITECTURE.md says nothing about src/proxy/{stage}");
    }
}

#[test]
fn the_changelog_has_this_version() {
    let heading = format!("\n## [{}]", env!("CARGO_PKG_VERSION"));
    assert!(read("CHANGELOG.md").contains(&heading), "CHANGELOG.md has no {heading:?}");
}
