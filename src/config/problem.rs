//! Where a setting comes from, and what is wrong with it.

use std::fmt;
use std::sync::Arc;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the configuration file.
    File {
        /// The file as it was named.
        file: Arc<str>,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// The dotted key, such as `timeouts.connect` or `provider[0].base_url`; empty for a syntax error.
        key: String,
    },
    /// In an environment variable, or in `.env`.
    Env(String),
    /// Nowhere in particular.
    Nowhere,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line, column, key } if key.is_empty() => write!(f, "{file}:{line}:{column}"),
            Self::File { file, line, column, key } => write!(f, "{file}:{line}:{column}: {key}"),
            Self::Env(name) => f.write_str(name),
            Self::Nowhere => Ok(()),
        }
    }
}

/// A value and where it was written.
#[derive(Clone, Debug)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub place: Place,
}

impl<T> At<T> {
    /// Pairs them.
    pub fn new(value: T, place: Place) -> Self {
        Self { value, place }
    }

    /// A problem with this value.
    pub fn problem(&self, message: impl Into<String>) -> Problem {
        Problem { place: self.place.clone(), message: message.into() }
    }
}

/// An error or a warning about the configuration. Shown as `file:line:column: key: message`; it never carries a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it is.
    pub place: Place,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl Problem {
    /// A problem with the whole configuration.
    pub fn general(message: impl Into<String>) -> Self {
        Self { place: Place::Nowhere, message: message.into() }
    }

    /// A problem with an environment variable.
    pub fn env(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: Place::Env(name.into()), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Nowhere => f.write_str(&self.message),
            place => write!(f, "{place}: {}", self.message),
        }
    }
}

/// What was found while reading: errors stop the configuration from being used, warnings do not.
#[derive(Debug, Default)]
pub struct Report {
    /// What must be put right.
    pub errors: Vec<Problem>,
    /// What is worth knowing.
    pub warnings: Vec<Problem>,
}

impl Report {
    /// Notes an error.
    pub fn error(&mut self, problem: Problem) {
        self.errors.push(problem);
    }

    /// Notes a warning.
    pub fn warn(&mut self, problem: Problem) {
        self.warnings.push(problem);
    }

    /// Puts everything into the order of the file's lines; what is in no file comes after it, as it was found.
    pub fn sort(&mut self) {
        let line = |problem: &Problem| match problem.place {
            Place::File { line, column, .. } => (line, column),
            _ => (usize::MAX, 0),
        };
        self.errors.sort_by_key(line);
        self.warnings.sort_by_key(line);
    }

    /// The value of a result; its error is noted with the place.
    pub fn checked<T, U>(&mut self, at: &At<T>, result: Result<U, impl Into<String>>) -> Option<U> {
        result.map_err(|message| self.error(at.problem(message))).ok()
    }
}

/// `, did you mean "x"?` when one of the candidates is close to what was written, else nothing.
pub fn did_you_mean<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    let distance = |candidate: &'a str| (strsim::damerau_levenshtein(written, candidate), candidate);
    let close = |(distance, candidate): &(usize, &str)| *distance <= 1 + candidate.chars().count() / 4;
    match candidates.into_iter().map(distance).filter(close).min() {
        Some((_, candidate)) => format!(", did you mean {candidate:?}?"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_shown_as_file_line_column_key_message() {
        let place = Place::File { file: "orbyt.toml".into(), line: 3, column: 7, key: "retry.max".into() };
        assert_eq!(At::new(1, place).problem("too many").to_string(), "orbyt.toml:3:7: retry.max: too many");
        assert_eq!(Problem::env("ORBYT_LOG", "no such level").to_string(), "ORBYT_LOG: no such level");
        assert_eq!(Problem::general("nothing to do").to_string(), "nothing to do");
    }

    #[test]
    fn a_near_miss_is_named_and_a_far_one_is_not() {
        let keys = ["connect", "first_output", "idle"];
        assert_eq!(did_you_mean("conect", keys), ", did you mean \"connect\"?");
        assert_eq!(did_you_mean("first-output", keys), ", did you mean \"first_output\"?");
        assert_eq!(did_you_mean("banana", keys), "");
    }
}
