//! A model of this configuration, for examples that are to work as they stand.

use super::snapshot::{Provider, Snapshot};
use crate::provider::{Class, Status};
use std::sync::Arc;

impl Snapshot {
    /// What a first request may ask for: a name of the operator's own, else a small model of a provider. `PROVIDER/MODEL` with a real provider
    /// where only that one knows what it has; `None` without any provider.
    pub fn example_model(&self) -> Option<String> {
        if let Some(alias) = self.aliases.first() {
            return Some(alias.name.to_string());
        }
        let of_provider = |provider: &Arc<Provider>| {
            let local = provider.models.first().map(|row| row.id.to_string());
            let live = self.catalog.models().iter();
            let live = live.filter(|row| row.provider == provider.id && row.status == Status::Live);
            let live = live.filter(|row| row.class.converses());
            let small = live.min_by_key(|row| row.class != Class::Small).map(|row| row.id.to_string());
            // What the catalog knows of a provider that lists its own models may not be there.
            local.or(small.filter(|_| !provider.discovers))
        };
        let discovered = || self.providers.first().map(|provider| format!("{}/MODEL", provider.id));
        self.providers.iter().find_map(of_provider).or_else(discovered)
    }
}
