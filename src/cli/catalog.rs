//! `orbyt catalog import`: prices of a public price list, which go before the built-in ones and after those of the configuration.

use super::args::ImportCatalogArgs;
use super::audit::{by_hand, noted};
use crate::provider::{Catalog, PriceList};
use crate::wiring::state::State;
use serde_json::json;

/// Takes over the prices. Returns what is to be said.
///
/// # Errors
/// When the file cannot be read, is no price list, or the database does not take it.
pub async fn import(state: &State, args: &ImportCatalogArgs) -> Result<String, String> {
    let file = args.file.display();
    let bytes = std::fs::read(&args.file).map_err(|error| format!("{file}: {error}"))?;
    let catalog = Catalog::builtin()?;
    let list = PriceList::read(&bytes).map_err(|error| format!("{file} {error}"))?;
    let list = list.with_names(|name| catalog.provider(name).map(|row| row.id.to_string()));
    let event = by_hand("catalog.import", &list.source, None, &json!({"file": file.to_string(), "models": list.len()}));
    let json = list.to_json();
    noted(&*state.database, event, state.database.set_prices(&json)).await.map_err(|error| error.to_string())?;
    let known = catalog.models().iter().filter(|row| list.get(&row.provider, row.own_name()).is_some()).count();
    Ok(format!(
        "{} prices of {}: {known} of the catalog's {} models are among them. In force at once.",
        list.len(),
        list.source,
        catalog.models().len()
    ))
}
