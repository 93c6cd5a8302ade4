//! Settings of the database, made in the console or by API: read as if a file held them, and laid below file and environment, which go before
//! them.

use super::file;
use super::problem::{Place, Problem, Report};
use super::raw::Raw;
use crate::domain::stored_setting::{SettingKind, StoredSetting};
use std::sync::Arc;

/// What became of a stored setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Laid {
    /// It is in force.
    InForce,
    /// The file, or the environment, says the same things itself: these keys of the section, or all of a model or preset where none is named.
    Overridden(Vec<String>),
    /// It does not fit the rest of the configuration: why.
    LeftOut(Problem),
}

/// A stored setting, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaidSetting {
    /// What it is of.
    pub kind: SettingKind,
    /// Its name.
    pub name: Arc<str>,
    /// What became of it.
    pub laid: Laid,
}

/// What a stored setting is called where a file has its name.
fn called(setting: &StoredSetting) -> String {
    format!("stored {} {}", setting.kind.name(), setting.name)
}

/// The member of a stored setting that a problem is about, by its key; `None` where it is about something else.
pub fn member_of<'a>(setting: &StoredSetting, problem: &'a Problem) -> Option<&'a str> {
    let Place::File { file, key, .. } = &problem.place else { return None };
    if **file != *called(setting) {
        return None;
    }
    // `preset[0].parameters.temperature`, `retry.max`.
    let member = key.split_once('.')?.1;
    member.split(['.', '[']).next().filter(|member| !member.is_empty())
}

/// The text that the setting would be in a configuration file.
///
/// # Errors
/// What is wrong with it.
pub fn as_toml(setting: &StoredSetting) -> Result<String, String> {
    let body: serde_json::Value = serde_json::from_str(&setting.body).map_err(|error| error.to_string())?;
    let mut table = match toml::Value::try_from(&body) {
        Ok(toml::Value::Table(table)) => table,
        Ok(_) => return Err("must be an object".to_owned()),
        Err(_) => return Err("must hold no null: leave out what is not set".to_owned()),
    };
    let name = || toml::Value::String(setting.name.to_string());
    let list = |table| toml::Value::Array(vec![toml::Value::Table(table)]);
    let mut whole = toml::Table::new();
    match setting.kind {
        SettingKind::Model => {
            table.insert("name".to_owned(), name());
            whole.insert("model".to_owned(), list(table));
        }
        SettingKind::Preset => {
            table.insert("slug".to_owned(), name());
            whole.insert("preset".to_owned(), list(table));
        }
        SettingKind::Section => {
            whole.insert(setting.name.to_string(), toml::Value::Table(table));
        }
    }
    toml::to_string(&whole).map_err(|error| error.to_string())
}

/// Adds a setting to what is written, where that says nothing. What is wrong with it stands in the report.
pub(super) fn lay_below(raw: &mut Raw, setting: &StoredSetting, report: &mut Report) -> Laid {
    let text = match as_toml(setting) {
        Ok(text) => text,
        Err(message) => {
            report.error(Problem::general(format!("stored {} {}: {message}", setting.kind.name(), setting.name)));
            return Laid::InForce;
        }
    };
    let parsed = file::parse(&called(setting), &text);
    report.errors.extend(parsed.report.errors);
    report.warnings.extend(parsed.report.warnings);
    let below = parsed.raw;
    let known = match setting.kind {
        SettingKind::Model => raw.models.iter().any(|model| *model.name.value == *setting.name),
        SettingKind::Preset => raw.presets.iter().any(|preset| *preset.slug.value == *setting.name),
        SettingKind::Section => {
            let overridden = fill(raw, below);
            return if overridden.is_empty() { Laid::InForce } else { Laid::Overridden(overridden) };
        }
    };
    if known {
        return Laid::Overridden(Vec::new());
    }
    raw.models.extend(below.models);
    raw.presets.extend(below.presets);
    Laid::InForce
}

/// Takes over what is not written yet; names what is.
fn fill(raw: &mut Raw, below: Raw) -> Vec<String> {
    let mut overridden = Vec::new();
    macro_rules! fill {
        ($($section:ident: $($key:ident),+;)+) => {
            $($(
                if below.$section.$key.is_some() {
                    if raw.$section.$key.is_some() {
                        overridden.push(stringify!($key).to_owned());
                    } else {
                        raw.$section.$key = below.$section.$key;
                    }
                }
            )+)+
        };
    }
    fill! {
        routing: strategy, providers, weights, fallbacks, auto, byok_fallback, sticky;
        retry: max, base, cap, budget;
        breaker: enabled, failures, open_for, max_open_share;
        health: probe;
        hedging: enabled, quantile, min_delay, budget;
        timeouts: connect, first_output, idle, total;
    }
    overridden
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(kind: SettingKind, name: &str, body: &str) -> StoredSetting {
        StoredSetting { kind, name: name.into(), body: body.to_owned(), changed_at: 0, changed_by: String::new() }
    }

    fn laid(file: &str, setting: &StoredSetting) -> (Laid, Raw, Vec<String>) {
        let (mut raw, mut report) = (file::parse("orbyt.toml", file).raw, Report::default());
        let laid = lay_below(&mut raw, setting, &mut report);
        (laid, raw, report.errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_the_file_does_not_say_is_taken_over() {
        let preset =
            setting(SettingKind::Preset, "terse", r#"{"system":"Be brief.","parameters":{"temperature":0.5}}"#);
        let (outcome, raw, errors) = laid("[[preset]]\nslug = 'other'\n", &preset);
        assert_eq!((outcome, raw.presets.len(), errors), (Laid::InForce, 2, vec![]));
        assert_eq!(raw.presets[1].parameters[0].value, ("temperature".to_owned(), "0.5".to_owned()));

        let section = setting(SettingKind::Section, "retry", r#"{"max":4,"base":"1s"}"#);
        let (outcome, raw, _) = laid("[retry]\nmax = 1\n", &section);
        assert_eq!(outcome, Laid::Overridden(vec!["max".to_owned()]));
        assert_eq!(raw.retry.max.map(|at| at.value), Some(1));
        assert_eq!(raw.retry.base.map(|at| at.value), Some(std::time::Duration::from_secs(1)));
    }

    #[test]
    fn the_file_goes_first() {
        let model = setting(SettingKind::Model, "fast", r#"{"targets":["openai/x"]}"#);
        let (outcome, raw, _) = laid("[[model]]\nname = 'fast'\ntargets = ['a/b']\n", &model);
        assert_eq!((outcome, raw.models.len()), (Laid::Overridden(Vec::new()), 1));
    }

    #[test]
    fn a_mistake_is_told_where_it_is() {
        let unknown = setting(SettingKind::Section, "retry", r#"{"most":4}"#);
        let errors = laid("", &unknown).2;
        let (mut raw, mut report) = (Raw::default(), Report::default());
        let wrong = setting(SettingKind::Preset, "x", r#"{"parameters":{"n":1},"strategy":"best"}"#);
        lay_below(&mut raw, &wrong, &mut report);
        assert_eq!(report.errors.iter().map(|it| member_of(&wrong, it)).collect::<Vec<_>>(), [Some("strategy")]);
        assert_eq!(member_of(&unknown, &report.errors[0]), None, "that of another setting");
        assert!(errors[0].starts_with("stored section retry:") && errors[0].contains("unknown key"), "{errors:?}");
        let null = setting(SettingKind::Preset, "x", r#"{"system":null}"#);
        assert!(laid("", &null).2[0].contains("must hold no null"));
        // A name cannot break out of its quotes.
        let hostile = setting(SettingKind::Preset, "x'\"\n[server]\nlisten = 1", "{}");
        assert_eq!(laid("", &hostile).1.presets[0].slug.value, "x'\"\n[server]\nlisten = 1");
    }
}
