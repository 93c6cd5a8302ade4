//! Settings that were made in the console or by API and stand in the database, beside those of the configuration file.

use std::sync::Arc;

/// What a stored setting is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SettingKind {
    /// A `[[model]]`, by its name.
    Model,
    /// A `[[preset]]`, by its slug.
    Preset,
    /// A section such as `[routing]`, by its name.
    Section,
}

impl SettingKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Model, Self::Preset, Self::Section];

    /// Its name, as it is stored.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Preset => "preset",
            Self::Section => "section",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A stored setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSetting {
    /// What it is of.
    pub kind: SettingKind,
    /// Its name, unique among those of its kind.
    pub name: Arc<str>,
    /// The keys that it has in the configuration file, as a JSON object, without the name.
    pub body: String,
    /// When it was changed last, in Unix milliseconds.
    pub changed_at: u64,
    /// Who changed it last.
    pub changed_by: String,
}

/// The sections that may be stored: what decides where requests go, and can be changed while they do.
pub const SECTIONS: [&str; 6] = ["routing", "retry", "breaker", "health", "hedging", "timeouts"];
