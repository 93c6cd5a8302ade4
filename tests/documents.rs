//! The documents against the code: tables that are made from it, and names that have to exist.
//!
//! `UPDATE_DOCS=1 cargo test --test documents` writes the tables of README.md anew.

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
        let place = if row.cloud.is_some() { "[its place](#clouds)" } else { &row.base_url };
        table += &format!("| `{}` | {also} | {} | {key} | {url} | {place} |\n", row.id, row.dialect.name());
    }
    table
}

/// Where a table stands: between its two markers.
fn place(text: &str, name: &str) -> std::ops::Range<usize> {
    let (begin, end) = (format!("<!-- {name}:begin -->\n"), format!("<!-- {name}:end -->"));
    let start = text.find(&begin).unwrap_or_else(|| panic!("README.md has no {begin:?}")) + begin.len();
    start..text.find(&end).unwrap_or_else(|| panic!("README.md has no {end:?}"))
}

#[test]
fn the_tables_of_the_readme_are_those_of_the_code() {
    let tables = [("settings", settings_table()), ("errors", errors_table()), ("providers", providers_table())];
    let mut readme = read("README.md");
    let mut differing = Vec::new();
    for (name, table) in tables {
        let place = place(&readme, name);
        if readme[place.clone()] != table {
            readme.replace_range(place, &table);
            differing.push(name);
        }
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(root().join("README.md"), readme).unwrap();
    } else {
        assert!(
            differing.is_empty(),
            "README.md differs from the code in {differing:?}: UPDATE_DOCS=1 cargo test --test documents writes it anew"
        );
    }
}

/// The words of a text that consist of these characters alone.
fn words(text: &str, is_part: impl Fn(char) -> bool) -> BTreeSet<String> {
    text.split(|c| !is_part(c)).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[test]
fn the_readme_names_every_metric_and_no_other() {
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let metrics = |text: &str| -> BTreeSet<String> {
        let known = |word: &String| word.starts_with("orbyt_") || word.starts_with("process_");
        words(text, is_name).into_iter().filter(known).collect()
    };
    // The names of families stand in quotes in these files and nowhere else.
    let code: String = ["metrics", "series", "sampled"].map(|file| read(&format!("src/telemetry/{file}.rs"))).concat();
    let quoted: String = code.split('"').skip(1).step_by(2).map(|text| format!("{text}\n")).collect();
    assert_eq!(metrics(&read("README.md")), metrics(&quoted));
}

#[test]
fn every_model_of_the_readme_is_in_the_catalog() {
    let catalog = Catalog::builtin().unwrap();
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-._/@:".contains(c);
    let named: Vec<String> = words(&read("README.md"), is_part)
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
fn every_make_target_of_the_readme_exists() {
    let makefile = read("Makefile");
    let readme = read("README.md");
    let is_word = |c: char| c.is_ascii_lowercase() || c == '-';
    let named: BTreeSet<&str> = readme
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

#[test]
fn every_link_leads_to_a_file() {
    for document in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"] {
        let text = read(document);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let is_local = !target.contains("://") && !target.starts_with('#');
            let file = target.split('#').next().unwrap_or_default();
            assert!(!is_local || root().join(file).exists(), "{document} links to {target}, which is not there");
        }
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
