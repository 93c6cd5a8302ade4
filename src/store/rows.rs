//! How the parts of a key that are no columns stand in a database or a file: as JSON.

use crate::domain::tenancy::Scopes;
use crate::domain::{Limit, Measure, Money};
use crate::store::ports::database::StoreError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// [`Scopes`]; what allows everything is left out.
#[derive(Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ScopesRow {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    models: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    providers: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<String>,
}

impl From<&Scopes> for ScopesRow {
    fn from(scopes: &Scopes) -> Self {
        let Scopes { models, providers, routes, addresses } = scopes.clone();
        Self { models, providers, routes, addresses }
    }
}

impl From<ScopesRow> for Scopes {
    fn from(row: ScopesRow) -> Self {
        let ScopesRow { models, providers, routes, addresses } = row;
        Self { models, providers, routes, addresses }
    }
}

/// Scopes as JSON.
pub(super) fn scopes_json(scopes: &Scopes) -> String {
    serde_json::to_string(&ScopesRow::from(scopes)).unwrap_or_default()
}

/// Scopes out of JSON; `None` when it is something else. What is not understood must not be taken for leave to do everything.
pub(super) fn scopes(json: &str) -> Option<Scopes> {
    serde_json::from_str::<ScopesRow>(json).ok().map(Scopes::from)
}

/// Limits by their names in the configuration.
pub(super) fn limits_row(limits: &[Limit]) -> BTreeMap<String, u64> {
    limits.iter().map(|limit| (limit.measure.key(), limit.amount)).collect()
}

/// Limits out of their names; `None` when one is not known. What is not understood must not be taken for no limit.
pub(super) fn limits_of(row: &BTreeMap<String, u64>) -> Option<Arc<[Limit]>> {
    let known = row.keys().all(|key| Measure::from_key(key).is_some());
    let limit = |measure: Measure| row.get(&measure.key()).map(|amount| Limit { measure, amount: *amount });
    known.then(|| Measure::all().filter_map(limit).collect())
}

/// Limits as JSON.
pub(super) fn limits_json(limits: &[Limit]) -> String {
    serde_json::to_string(&limits_row(limits)).unwrap_or_default()
}

/// Limits out of JSON; `None` when it is something else.
pub(super) fn limits(json: &str) -> Option<Arc<[Limit]>> {
    limits_of(&serde_json::from_str(json).ok()?)
}

/// Metadata as JSON.
pub(super) fn metadata_json(metadata: &BTreeMap<String, String>) -> String {
    serde_json::to_string(metadata).unwrap_or_default()
}

/// Metadata out of JSON; `None` when it is something else.
pub(super) fn metadata(json: &str) -> Option<BTreeMap<String, String>> {
    serde_json::from_str(json).ok()
}

/// An amount as databases have it: whole pico-dollars.
pub(super) fn stored_money(amount: Money) -> String {
    amount.picos().to_string()
}

/// An amount out of a database; `None` when it is something else.
pub(super) fn read_money(picos: &str) -> Option<Money> {
    picos.parse().ok().map(Money::from_picos)
}

/// The parts of a key that are JSON, as they stand in its row.
pub(super) struct KeyText<'a> {
    pub(super) scopes: &'a str,
    pub(super) metadata: &'a str,
    pub(super) limits: &'a str,
}

/// The same, read.
pub(super) struct KeyParts {
    pub(super) scopes: Scopes,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) limits: Arc<[Limit]>,
    /// One of them is not what any version has written, so the key must let nobody in.
    pub(super) is_void: bool,
}

/// In the place of scopes that cannot be read: an address that nobody comes from.
const NOWHERE: &str = "unreadable";

impl KeyText<'_> {
    /// Reads all. What cannot be read is told by the key's id, and leaves a key that may be used from nowhere.
    pub(super) fn read(&self, id: &str, problems: &mut Vec<String>) -> KeyParts {
        let (scopes, metadata, limits) = (scopes(self.scopes), metadata(self.metadata), limits(self.limits));
        let columns = [("scopes", scopes.is_some()), ("metadata", metadata.is_some()), ("limits", limits.is_some())];
        let damaged: Vec<&str> = columns.into_iter().filter(|(_, is_read)| !is_read).map(|(name, _)| name).collect();
        let is_void = !damaged.is_empty();
        if is_void {
            problems.push(format!(
                "the key {id} cannot be read (api_keys: {}): it is void until its row is put right",
                damaged.join(", ")
            ));
        }
        let nowhere = || Scopes { addresses: vec![NOWHERE.to_owned()], ..Scopes::default() };
        KeyParts {
            scopes: scopes.filter(|_| !is_void).unwrap_or_else(nowhere),
            metadata: metadata.unwrap_or_default(),
            limits: limits.unwrap_or_else(|| [].into()),
            is_void,
        }
    }
}

/// Where the id of the master key stands among the gateway's facts.
pub(super) const MASTER_KEY: &str = "master_key_id";

/// The id of the master key in an envelope (`v1.<id>.<nonce>.<ciphertext>`).
pub(super) fn sealed_with(envelope: &str) -> Option<&str> {
    envelope.split('.').nth(1)
}

/// Why a row that was sealed with another key is not taken.
pub(super) fn other_master_key(ours: &str, theirs: &str) -> StoreError {
    StoreError::Refused(format!(
        "the keys of this database are sealed with the master key {theirs}, and this would be sealed with {ours}: take over master.key \
         or ORBYT_MASTER_KEY from another gateway"
    ))
}

/// A time as databases have it.
pub(super) fn stored_time(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}

/// A time out of a database.
pub(super) fn read_time(millis: i64) -> u64 {
    u64::try_from(millis).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_come_back_and_what_is_unknown_is_no_leave() {
        let written = Scopes { models: vec!["a*".into()], addresses: vec!["::1".into()], ..Scopes::default() };
        assert_eq!(scopes(&scopes_json(&written)), Some(written));
        assert_eq!(scopes_json(&Scopes::default()), "{}");
        assert_eq!(scopes(r#"{"weekdays":["mon"]}"#), None);
    }

    #[test]
    fn limits_come_back_and_what_is_unknown_is_not_left_out() {
        let all: Arc<[Limit]> = Measure::all().zip(1..).map(|(measure, amount)| Limit { measure, amount }).collect();
        assert_eq!(limits(&limits_json(&all)), Some(all));
        assert_eq!(limits(r#"{"requests_per_minute":60}"#).map(|limits| limits[0].amount), Some(60));
        assert_eq!((limits("{}"), limits(r#"{"requests_per_year":1}"#)), (Some([].into()), None));
    }
}
