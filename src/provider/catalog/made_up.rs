//! The rows that were made up for models which the catalog does not have: each is asked for again with the next request.

use crate::provider::model::ModelRow;
use ahash::HashMap;
use parking_lot::RwLock;
use std::sync::Arc;

/// Clients may invent names without end; so many rows are kept.
const MOST: usize = 1024;

/// Rows by provider and name.
#[derive(Debug, Default)]
pub(super) struct MadeUp(RwLock<HashMap<String, HashMap<String, Arc<ModelRow>>>>);

impl MadeUp {
    /// The row of a name at a provider, made up if it was not yet.
    pub(super) fn row(&self, provider: &str, name: &str, make: impl FnOnce() -> ModelRow) -> Arc<ModelRow> {
        if let Some(row) = self.0.read().get(provider).and_then(|rows| rows.get(name)) {
            return row.clone();
        }
        let row = Arc::new(make());
        let mut all = self.0.write();
        if all.values().map(|rows| rows.len()).sum::<usize>() >= MOST {
            all.clear();
        }
        all.entry(provider.to_owned()).or_default().insert(name.to_owned(), row.clone());
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Catalog;

    #[test]
    fn a_row_is_made_up_once_and_the_number_of_rows_is_bounded() {
        let catalog = Catalog::builtin().unwrap();
        let (made_up, make) = (MadeUp::default(), || catalog.unknown_model_at("vllm", "m"));
        let first = made_up.row("vllm", "m", make);
        assert!(Arc::ptr_eq(&first, &made_up.row("vllm", "m", || unreachable!())));
        for name in 0..5 * MOST {
            made_up.row("vllm", &name.to_string(), make);
        }
        assert!(made_up.0.read().values().map(|rows| rows.len()).sum::<usize>() <= MOST);
    }
}
