//! Reads a TOML table key by key: each value is checked for its type and remembered with its place, each key that no
//! setting knows is reported, and reading goes on after every error.

use super::problem::{At, Place, Problem, Report, did_you_mean};
use super::raw::{RawGatewayKey, RawSecret};
use super::{settings, values};
use crate::domain::Secret;
use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::sync::Arc;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// A file being read.
pub struct Document<'a> {
    file: Arc<str>,
    text: &'a str,
    report: RefCell<Report>,
}

impl<'a> Document<'a> {
    /// A file of that name with that text.
    pub fn new(file: &str, text: &'a str) -> Self {
        Self { file: file.into(), text, report: RefCell::default() }
    }

    /// Reads the TOML syntax. All syntax errors are reported; what could be understood is returned.
    pub fn parse(&self) -> DeTable<'a> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            let place = self.place(error.span().unwrap_or_default(), String::new());
            self.error(Problem { place, message: error.message().to_owned() });
        }
        table.into_inner()
    }

    /// Whether nothing has been reported yet.
    pub fn is_clean(&self) -> bool {
        self.report.borrow().errors.is_empty()
    }

    /// The whole file as a section.
    pub fn root<'s>(&'s self, table: &'s DeTable<'s>) -> Section<'s> {
        Section::open(self, table, String::new(), String::new(), self.place(0..0, String::new()))
    }

    /// What was found.
    pub fn into_report(self) -> Report {
        self.report.into_inner()
    }

    fn error(&self, problem: Problem) {
        self.report.borrow_mut().error(problem);
    }

    fn place(&self, span: Range<usize>, key: String) -> Place {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Place::File {
            file: self.file.clone(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            key,
        }
    }
}

/// One table of the file.
pub struct Section<'a> {
    document: &'a Document<'a>,
    table: &'a DeTable<'a>,
    /// Its name in [`settings::SETTINGS`].
    name: String,
    /// Its dotted path, with an index for each list.
    path: String,
    place: Place,
}

impl<'a> Section<'a> {
    fn open(document: &'a Document<'a>, table: &'a DeTable<'a>, name: String, path: String, place: Place) -> Self {
        let section = Self { document, table, name, path, place };
        section.report_unknown_keys();
        section
    }

    fn report_unknown_keys(&self) {
        let below = settings::sections_below(&self.name);
        let known = || settings::of(&self.name).map(|setting| setting.key).chain(below.iter().copied());
        for key in self.table.keys() {
            let name = key.get_ref();
            let message = if known().any(|known| known == name) {
                continue;
            } else if self.name.is_empty() && settings::LATER.contains(&name.as_ref()) {
                format!("[{name}] is not in this version yet")
            } else {
                format!("unknown key{}", did_you_mean(name, known()))
            };
            self.document.error(Problem { place: self.document.place(key.span(), self.path_of(name)), message });
        }
    }

    /// Whether the key is there at all, readable or not.
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Where the section begins.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Reports a problem with the section as a whole.
    pub fn error(&self, message: impl Into<String>) {
        self.document.error(Problem { place: self.place.clone(), message: message.into() });
    }

    /// Reports something worth knowing about a value.
    pub fn warn<T>(&self, at: &At<T>, message: impl Into<String>) {
        self.document.report.borrow_mut().warn(at.problem(message));
    }

    /// A text.
    pub fn text(&self, key: &str) -> Option<At<String>> {
        self.parsed(key, "a text", |text| (!text.trim().is_empty()).then(|| text.to_owned()))
    }

    /// A text that must be there; its absence is reported.
    pub fn required(&self, key: &str) -> Option<At<String>> {
        if !self.has(key) {
            self.error(format!("{key} is missing"));
        }
        self.text(key)
    }

    /// A path of a file or directory.
    pub fn path(&self, key: &str) -> Option<At<PathBuf>> {
        self.parsed(key, "a path", |text| (!text.is_empty()).then(|| PathBuf::from(text)))
    }

    /// A text that means a value.
    pub fn parsed<T>(&self, key: &str, expected: &str, parse: impl Fn(&str) -> Option<T>) -> Option<At<T>> {
        self.read(key, expected, |value| parse(value.as_str()?))
    }

    /// A text out of a fixed set of names.
    pub fn choice<T>(&self, key: &str, names: &[&str], parse: impl Fn(&str) -> Option<T>) -> Option<At<T>> {
        self.parsed(key, &format!("one of {}", quoted(names.iter().copied())), parse)
    }

    /// Several texts that each mean a value; one text alone is a list of one.
    pub fn list<T>(&self, key: &str, expected: &str, parse: impl Fn(&str) -> Option<T>) -> Option<Vec<At<T>>> {
        self.values(key, expected, |value| parse(value.as_str()?))
    }

    /// Several texts.
    pub fn texts(&self, key: &str) -> Option<Vec<At<String>>> {
        self.list(key, "a text", |text| (!text.trim().is_empty()).then(|| text.to_owned()))
    }

    /// A whole number.
    pub fn small(&self, key: &str, range: RangeInclusive<u32>) -> Option<At<u32>> {
        self.read(key, &expected_integer(&range), |value| small(value, &range))
    }

    /// Several whole numbers.
    pub fn smalls(&self, key: &str, range: RangeInclusive<u32>) -> Option<Vec<At<u32>>> {
        self.values(key, &expected_integer(&range), |value| small(value, &range))
    }

    /// A whole number of at least 1.
    pub fn count(&self, key: &str) -> Option<At<u64>> {
        self.read(key, "a whole number of at least 1", |value| integer(value).filter(|count| *count > 0))
    }

    /// `true` or `false`.
    pub fn boolean(&self, key: &str) -> Option<At<bool>> {
        self.read(key, "true or false", |value| value.as_bool())
    }

    /// A share of a whole, 0 to 1.
    pub fn share(&self, key: &str) -> Option<At<f64>> {
        self.read(key, "a number from 0 to 1", |value| {
            number(value)?.parse().ok().filter(|share| (0.0..=1.0).contains(share))
        })
    }

    /// A number, as it is written, with a meaning.
    pub fn number<T>(&self, key: &str, expected: &str, parse: impl Fn(&str) -> Option<T>) -> Option<At<T>> {
        self.read(key, expected, |value| parse(value.as_str().or_else(|| number(value))?))
    }

    /// A span of time with its unit, longer than nothing.
    pub fn duration(&self, key: &str) -> Option<At<std::time::Duration>> {
        self.parsed(key, r#"a duration such as "250ms", "5s" or "1m""#, |text| {
            values::duration(text).filter(|duration| !duration.is_zero())
        })
    }

    /// A span of time, or `"off"`.
    pub fn duration_or_off(&self, key: &str) -> Option<At<Option<std::time::Duration>>> {
        self.parsed(key, r#"a duration such as "15s", or "off""#, |text| match text {
            "off" => Some(None),
            text => values::duration(text).map(|duration| (!duration.is_zero()).then_some(duration)),
        })
    }

    /// A limit of at least 1, or `"off"`.
    pub fn limit_or_off(&self, key: &str) -> Option<At<Option<u32>>> {
        self.read(key, r#"a whole number of at least 1, or "off""#, |value| match value.as_str() {
            Some("off") => Some(None),
            Some(_) => None,
            None => small(value, &(1..=u32::MAX)).map(Some),
        })
    }

    /// A number of bytes, at least 1, with or without a unit.
    pub fn size(&self, key: &str) -> Option<At<u64>> {
        self.read(key, r#"a number of bytes such as 1048576 or "1MiB""#, |value| {
            value.as_str().map_or_else(|| integer(value), values::size).filter(|bytes| *bytes > 0)
        })
    }

    /// [`Section::size`], or `"off"`.
    pub fn size_or_off(&self, key: &str) -> Option<At<Option<u64>>> {
        self.read(key, r#"a number of bytes such as 1048576 or "1MiB", or "off""#, |value| match value.as_str() {
            Some("off") => Some(None),
            Some(text) => values::size(text).filter(|bytes| *bytes > 0).map(Some),
            None => integer(value).filter(|bytes| *bytes > 0).map(Some),
        })
    }

    /// A secret or where to find it. A secret in clear is accepted with a warning.
    pub fn secret(&self, key: &str) -> Option<At<RawSecret>> {
        let secret = self.read(key, SECRET, raw_secret)?;
        self.warn_of_plain(&secret, &secret.value);
        Some(secret)
    }

    /// A URL that may hold a password, or where to find it. Only one with a password is a secret.
    pub fn url(&self, key: &str) -> Option<At<RawSecret>> {
        let url = self.read(key, SECRET, raw_secret)?;
        if !matches!(&url.value, RawSecret::Plain(text) if !text.reveal().contains('@')) {
            self.warn_of_plain(&url, &url.value);
        }
        Some(url)
    }

    /// Several secrets, each with or without a name.
    pub fn gateway_keys(&self, key: &str) -> Option<Vec<At<RawGatewayKey>>> {
        let expected = format!("{SECRET}, a table with a name = \"NAME\" beside it");
        let keys = self.values(key, &expected, raw_gateway_key)?;
        keys.iter().for_each(|key| self.warn_of_plain(key, &key.value.secret));
        Some(keys)
    }

    fn warn_of_plain<T>(&self, at: &At<T>, secret: &RawSecret) {
        if matches!(secret, RawSecret::Plain(_)) {
            self.warn(
                at,
                r#"a secret in clear: { env = "…" }, { file = "…" } or { credential = "…" } keep it out of this file"#,
            );
        }
    }

    /// A table of texts under any names.
    pub fn map(&self, key: &str) -> Vec<(At<String>, String)> {
        let Some((value, place)) = self.value(key) else { return Vec::new() };
        let DeValue::Table(table) = value else {
            self.mistyped(place, "a table of texts");
            return Vec::new();
        };
        let entry = |(name, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| {
            let place = self.document.place(value.span(), format!("{}.{}", self.path_of(key), name.get_ref()));
            match value.get_ref().as_str() {
                Some(text) => Some((At::new(name.get_ref().to_string(), place), text.to_owned())),
                None => {
                    self.mistyped(place, "a text");
                    None
                }
            }
        };
        table.iter().filter_map(entry).collect()
    }

    /// A table of names and values of any kind, each value as JSON.
    pub fn json_members(&self, key: &str) -> Vec<At<(String, String)>> {
        let Some((value, place)) = self.value(key) else { return Vec::new() };
        let DeValue::Table(table) = value else {
            self.mistyped(place, "a table of parameters");
            return Vec::new();
        };
        let entry = |(name, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| {
            let place = self.document.place(value.span(), format!("{}.{}", self.path_of(key), name.get_ref()));
            match values::json(value.get_ref()) {
                Some(json) => Some(At::new((name.get_ref().to_string(), json.to_string()), place)),
                None => {
                    self.mistyped(place, "a text, a number, true, false, a list or a table");
                    None
                }
            }
        };
        table.iter().filter_map(entry).collect()
    }

    /// A section below this one.
    pub fn section(&self, key: &str) -> Option<Section<'a>> {
        let (value, place) = self.value(key)?;
        match value {
            DeValue::Table(table) => {
                Some(Section::open(self.document, table, self.name_of(key), self.path_of(key), place))
            }
            _ => {
                self.mistyped(place, &format!("a section: [{}]", self.name_of(key)));
                None
            }
        }
    }

    /// The sections of a list below this one.
    pub fn sections(&self, key: &str) -> Vec<Section<'a>> {
        let Some((value, place)) = self.value(key) else { return Vec::new() };
        let expected = format!("a list of sections: [[{}]]", self.name_of(key));
        let DeValue::Array(items) = value else {
            self.mistyped(place, &expected);
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let path = format!("{}[{index}]", self.path_of(key));
            let place = self.document.place(item.span(), path.clone());
            match item.get_ref() {
                DeValue::Table(table) => {
                    sections.push(Section::open(self.document, table, self.name_of(key), path, place));
                }
                _ => self.mistyped(place, &expected),
            }
        }
        sections
    }

    fn values<T>(&self, key: &str, expected: &str, read: impl Fn(&DeValue<'_>) -> Option<T>) -> Option<Vec<At<T>>> {
        let (value, _) = self.value(key)?;
        let DeValue::Array(items) = value else {
            return self.read(key, &format!("{expected}, or a list of them"), read).map(|one| vec![one]);
        };
        let mut list = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let place = self.document.place(item.span(), format!("{}[{index}]", self.path_of(key)));
            match read(item.get_ref()) {
                Some(value) => list.push(At::new(value, place)),
                None => self.mistyped(place, expected),
            }
        }
        Some(list)
    }

    fn read<T>(&self, key: &str, expected: &str, read: impl Fn(&DeValue<'_>) -> Option<T>) -> Option<At<T>> {
        let (value, place) = self.value(key)?;
        match read(value) {
            Some(value) => Some(At::new(value, place)),
            None => {
                self.mistyped(place, expected);
                None
            }
        }
    }

    fn value(&self, key: &str) -> Option<(&'a DeValue<'a>, Place)> {
        let value = self.table.get(key)?;
        Some((value.get_ref(), self.document.place(value.span(), self.path_of(key))))
    }

    fn mistyped(&self, place: Place, expected: &str) {
        self.document.error(Problem { place, message: format!("must be {expected}") });
    }

    fn name_of(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

const SECRET: &str = r#"a text, { env = "NAME" }, { file = "PATH" } or { credential = "NAME" }"#;

fn raw_secret(value: &DeValue<'_>) -> Option<RawSecret> {
    match value {
        DeValue::String(text) if !text.trim().is_empty() => Some(RawSecret::Plain(Secret::new(text.trim()))),
        DeValue::Table(table) if table.len() == 1 => table.iter().find_map(reference),
        _ => None,
    }
}

/// A secret, or a table of a secret's place and a name.
fn raw_gateway_key(value: &DeValue<'_>) -> Option<RawGatewayKey> {
    let DeValue::Table(table) = value else {
        return raw_secret(value).map(|secret| RawGatewayKey { name: None, secret });
    };
    let name = match table.get("name") {
        Some(name) => Some(name.get_ref().as_str().map(str::trim).filter(|name| !name.is_empty())?.to_owned()),
        None => None,
    };
    let is_whole = table.len() == 1 + usize::from(name.is_some());
    let secret = table.iter().find_map(reference).filter(|_| is_whole)?;
    Some(RawGatewayKey { name, secret })
}

/// Where a secret is, by one member of a table.
fn reference((kind, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)) -> Option<RawSecret> {
    let value = value.get_ref().as_str().filter(|value| !value.is_empty())?;
    match kind.get_ref().as_ref() {
        "env" => Some(RawSecret::Env(value.to_owned())),
        "file" => Some(RawSecret::File(PathBuf::from(value))),
        "credential" => Some(RawSecret::Credential(value.to_owned())),
        _ => None,
    }
}

/// The names in quotes, with commas between them.
pub fn quoted<'n>(names: impl Iterator<Item = &'n str>) -> String {
    names.map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

fn expected_integer(range: &RangeInclusive<u32>) -> String {
    format!("a whole number from {} to {}", range.start(), range.end())
}

fn small(value: &DeValue<'_>, range: &RangeInclusive<u32>) -> Option<u32> {
    u32::try_from(integer(value)?).ok().filter(|number| range.contains(number))
}

fn integer(value: &DeValue<'_>) -> Option<u64> {
    let integer = value.as_integer()?;
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// The text of a number, whole or not.
fn number<'v>(value: &'v DeValue<'_>) -> Option<&'v str> {
    match value {
        DeValue::Float(float) => Some(float.as_str()),
        DeValue::Integer(integer) if integer.radix() == 10 => Some(integer.as_str()),
        _ => None,
    }
}
