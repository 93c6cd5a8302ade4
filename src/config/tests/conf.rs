//! `settings::SETTINGS` is the truth: the reader, `conf/orbyt.toml` and the defaults agree with it.

use super::{CATALOG, Trial, with_file};
use crate::config::clouds::{AWS_REGION, GOOGLE_PROJECT};
use crate::config::file;
use crate::config::settings::{LISTS, SETTINGS, Setting, settings_table};

const CONF: &str = include_str!("../../../conf/orbyt.toml");
const DOTENV: &str = include_str!("../../../.env.example");

/// A file with this one setting, and what its list needs besides.
fn alone(setting: &Setting, value: &str) -> String {
    let Setting { section, key, .. } = setting;
    let header =
        |section: &str| if LISTS.contains(&section) { format!("[[{section}]]\n") } else { format!("[{section}]\n") };
    let mut text = String::new();
    let above = section.match_indices('.').map(|(at, _)| &section[..at]);
    for list in above.filter(|list| LISTS.contains(list)) {
        text += &format!("{}id = 'openai'\n", header(list));
    }
    text + &header(section) + &format!("{key} = {value}\n")
}

#[test]
fn every_setting_is_read() {
    for setting in SETTINGS {
        let good = file::parse("x", &alone(setting, setting.example)).report.errors;
        let missing = |problem: &&crate::config::Problem| !problem.message.contains("is missing");
        assert_eq!(good.iter().filter(missing).count(), 0, "{setting:?}: {good:?}");
        let bad = file::parse("x", &alone(setting, "1979-05-27")).report.errors;
        let key = format!("{}.{}", setting.section, setting.key);
        let names_it = |shown: String| shown.replace("[0]", "").contains(&format!("{key}: must be "));
        assert!(bad.iter().any(|problem| names_it(problem.to_string())), "{key} is never read: {bad:?}");
    }
}

#[test]
fn the_example_file_shows_every_setting_and_changes_nothing() {
    let plain = with_file(CONF);
    assert_eq!(plain.warnings, Vec::<String>::new());
    let nothing = with_file("").sound();
    assert_eq!(format!("{:?}", plain.sound()), format!("{nothing:?}"));
    let mut section = "";
    let mut shown = Vec::new();
    for line in
        CONF.lines().map(|line| line.strip_prefix('#').unwrap_or(line)).filter(|line| !line.starts_with([' ', '#']))
    {
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']);
        } else if let Some((key, value)) = line.split_once(" = ") {
            shown.push((section, key, value));
        }
    }
    let expected: Vec<_> = SETTINGS.iter().map(|setting| (setting.section, setting.key, setting.example)).collect();
    assert_eq!(shown, expected);
}

#[test]
fn the_defaults_are_the_ones_that_are_documented() {
    let with_default =
        SETTINGS.iter().filter(|setting| !setting.default.is_empty() && !setting.section.starts_with("provider"));
    let text: String = with_default.map(|setting| alone(setting, setting.default)).collect();
    // Each setting stands in a section of its own here, which TOML allows only once: merge them.
    let mut merged = String::new();
    let mut last = String::new();
    for line in text.lines() {
        if line.starts_with('[') {
            if line == last {
                continue;
            }
            line.clone_into(&mut last);
        }
        merged += line;
        merged.push('\n');
    }
    assert_eq!(format!("{:?}", with_file(&merged).sound()), format!("{:?}", with_file("").sound()));
}

#[test]
fn the_example_file_is_sound_when_everything_in_it_is_set() {
    let settings = CONF.lines().map(|line| match line.strip_prefix('#') {
        Some(setting) if !setting.starts_with([' ', '#']) => setting,
        _ => line,
    });
    let text: String = settings.flat_map(|line| [line, "\n"]).collect();
    let outcome = Trial { file: &text, ..Trial::default() }.run();
    let about_files = |error: &&String| {
        error.contains("there is no such file")
            || error.contains("TEAM_A_KEY")
            || error.contains("REDIS_URL is not set")
            || error.contains("CREDENTIALS_DIRECTORY")
    };
    assert_eq!(outcome.errors.iter().filter(|error| !about_files(error)).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn the_example_environment_names_only_variables_that_are_read() {
    let of_rows: Vec<&String> =
        CATALOG.providers().iter().flat_map(|row| row.key_env.iter().chain(&row.base_url_env)).collect();
    let mut count = 0;
    for line in DOTENV.lines().filter_map(|line| line.strip_prefix('#')).filter(|line| !line.starts_with(' ')) {
        let (name, _) = line.split_once('=').expect("a variable");
        let is_setting = SETTINGS.iter().any(|setting| setting.env == name) || name == "ORBYT_CONFIG";
        let of_clouds = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "GOOGLE_APPLICATION_CREDENTIALS"];
        let of_places = AWS_REGION.iter().chain(&GOOGLE_PROJECT);
        let is_clouds = of_clouds.iter().chain(of_places).any(|known| *known == name);
        let is_known =
            is_setting || is_clouds || name.starts_with("ACME_") || of_rows.iter().any(|known| *known == name);
        assert!(is_known, "{name}");
        count += 1;
    }
    assert!(count > 20);
}

#[test]
fn the_table_has_a_line_for_every_setting() {
    let table = settings_table();
    assert_eq!(table.lines().count(), SETTINGS.len() + 2);
    assert!(table.contains("| `[timeouts] connect` | `\"5s\"` |  | Until a connection is there. |"));
}
