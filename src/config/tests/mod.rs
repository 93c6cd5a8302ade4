//! The whole way from text and variables to a snapshot, by what users see: messages with their places, and values.

mod alerts;
mod clouds;
mod conf;
mod environment;
mod errors;
mod files;
mod limits;
mod semantic;
mod values;

use super::compile::{Surroundings, compile};
use super::problem::Report;
use super::{Env, Snapshot, StoredKeys, env, file};
use crate::provider::Catalog;
use std::path::Path;
use std::sync::{Arc, LazyLock};

static CATALOG: LazyLock<Arc<Catalog>> = LazyLock::new(|| Arc::new(Catalog::builtin().unwrap()));

/// A configuration being tried: a file's text and variables, without a disk.
struct Trial<'a> {
    file: &'a str,
    variables: &'a [(&'a str, &'a str)],
    disk: &'a [(&'a str, &'a str)],
}

/// What came of it.
struct Outcome {
    snapshot: Option<Snapshot>,
    errors: Vec<String>,
    warnings: Vec<String>,
}

impl Default for Trial<'_> {
    fn default() -> Self {
        Self { file: "", variables: &[("HOME", "/home/u")], disk: &[] }
    }
}

impl Trial<'_> {
    fn run(&self) -> Outcome {
        let catalog = Arc::clone(&CATALOG);
        let pairs = |list: &[(&str, &str)]| -> Vec<(String, String)> {
            list.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
        };
        let variables = Env::new(pairs(self.variables), []);
        let file::Parsed { mut raw, mut report, is_toml } = file::parse("orbyt.toml", self.file);
        env::apply(&variables, &catalog, &mut raw, &mut report);
        let disk = pairs(self.disk);
        let read = |path: &Path| {
            let found = disk.iter().find(|(name, _)| Path::new(name) == path);
            found.map(|(_, text)| text.clone().into_bytes()).ok_or_else(|| "there is no such file".to_owned())
        };
        let stored = StoredKeys::default();
        let around =
            Surroundings { env: &variables, read: &read, base: Path::new("/etc/orbyt"), stored: &stored, cores: 4 };
        let snapshot = is_toml.then(|| compile(raw, catalog, &around, &mut report)).flatten();
        report.sort();
        let Report { errors, warnings } = report;
        let text = |list: Vec<super::Problem>| list.iter().map(ToString::to_string).collect();
        Outcome { snapshot, errors: text(errors), warnings: text(warnings) }
    }
}

/// The outcome of a file alone.
fn with_file(file: &str) -> Outcome {
    Trial { file, ..Trial::default() }.run()
}

/// The outcome of variables alone.
fn with_env(variables: &[(&str, &str)]) -> Outcome {
    Trial { variables, ..Trial::default() }.run()
}

impl Outcome {
    /// The snapshot of a configuration that must be sound.
    fn sound(self) -> Snapshot {
        assert_eq!(self.errors, Vec::<String>::new());
        self.snapshot.expect("no errors, so there is a snapshot")
    }

    /// The ids of the providers in use.
    fn ids(&self) -> Vec<&str> {
        self.snapshot.iter().flat_map(|snapshot| snapshot.providers.iter().map(|provider| &*provider.id)).collect()
    }
}
