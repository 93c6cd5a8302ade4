//! Prices of imported lists, and those that are estimated.

use super::*;

#[test]
fn imported_prices_go_before_the_catalogs_for_dated_versions_and_for_models_that_it_does_not_have() {
    let list = r#"{"openai": {"models": {"gpt-4o": {"cost": {"input": 7, "output": 8}}}}, "acme": {"models": {"new": {"cost": {"input": 1, "output": 2}}}}}"#;
    let plain = catalog();
    let catalog = plain.with_prices(crate::provider::PriceList::read(list.as_bytes()).unwrap());
    let input = |row: &ModelRow| row.prices.input.map(crate::domain::Money::picos);
    let row = catalog.model_at("openai", "gpt-4o").unwrap();
    assert_eq!(input(row), Some(7_000_000));
    assert_eq!(
        row.prices.cached_input,
        plain.model_at("openai", "gpt-4o").unwrap().prices.cached_input,
        "what it does not say stays"
    );
    let dated = catalog.find("gpt-4o-2024-08-06");
    assert!(dated.first().is_some_and(|row| input(row) == Some(7_000_000)), "{dated:?}");
    assert_eq!(input(&catalog.unknown_model_at("acme", "New")), Some(1_000_000));
    assert_eq!(plain.models().len(), catalog.models().len());
}

#[test]
fn an_estimate_is_the_dearest_of_what_a_model_may_be() {
    let catalog = catalog();
    let unknown = catalog.unknown_model_at("acme", "nobody-knows-it");
    let (estimated, of) = catalog.estimated_prices(&unknown).unwrap();
    let most = |row: &ModelRow| row.prices.estimate(1000, 1000);
    let alike = catalog.models().iter().filter(|row| row.class == unknown.class);
    assert_eq!(estimated.estimate(1000, 1000), alike.filter_map(|row| most(row)).max(), "{of}");
}
