//! How a request of the ledger stands in a database: columns that it is found by, the whole of it as JSON, and what it adds to what is spent.

use super::rows::stored_time;
use super::sparse_json;
use crate::domain::ledger::picos;
use crate::domain::{LedgerRow, Money, RequestId};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

/// The columns.
#[derive(Debug)]
pub(super) struct Columns<'a> {
    pub(super) id: String,
    pub(super) revision: i16,
    pub(super) arrived_at: i64,
    pub(super) day: i32,
    pub(super) org: Cow<'a, str>,
    pub(super) project: Cow<'a, str>,
    pub(super) key_id: Cow<'a, str>,
    pub(super) key_name: Cow<'a, str>,
    pub(super) user: Option<Cow<'a, str>>,
    pub(super) trace: Option<Cow<'a, str>>,
    pub(super) session: Option<Cow<'a, str>>,
    pub(super) requested_model: Option<Cow<'a, str>>,
    pub(super) provider: Option<Cow<'a, str>>,
    pub(super) model: Option<Cow<'a, str>>,
    pub(super) status: i32,
    pub(super) ended: &'static str,
    pub(super) latency_us: i64,
    pub(super) prompt_tokens: i64,
    pub(super) completion_tokens: i64,
    pub(super) cost: Option<i64>,
    /// What is booked for it, which is more than its cost where others were asked too.
    pub(super) charge: i64,
    pub(super) reported: Reported,
    pub(super) record: String,
}

/// The columns that usage is reported by.
#[derive(Debug)]
pub(super) struct Reported {
    pub(super) cached_tokens: i64,
    pub(super) cache_write_tokens: i64,
    pub(super) reasoning_tokens: i64,
    pub(super) ttft_us: Option<i64>,
    pub(super) cache: &'static str,
}

impl Reported {
    fn of(row: &LedgerRow<'_>) -> Self {
        let usage = row.usage.unwrap_or_default();
        let count = |tokens: Option<u64>| stored_time(tokens.unwrap_or(0));
        Self {
            cached_tokens: count(usage.cached_tokens),
            cache_write_tokens: count(usage.cache_write_tokens),
            reasoning_tokens: count(usage.reasoning_tokens),
            ttft_us: row.ttft_us.map(stored_time),
            cache: row.cache.name(),
        }
    }
}

/// Postgres takes no NUL in a text.
fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

fn maybe<'a>(value: &'a Option<Cow<'_, str>>) -> Option<Cow<'a, str>> {
    value.as_deref().map(text)
}

fn without_nul(value: &mut Value) {
    match value {
        Value::String(string) => {
            if let Cow::Owned(clean) = text(string) {
                *string = clean;
            }
        }
        Value::Array(all) => all.iter_mut().for_each(without_nul),
        Value::Object(members) => members.values_mut().for_each(without_nul),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn json(row: &LedgerRow<'_>) -> String {
    let json = sparse_json::to_string(row).unwrap_or_default();
    if !json.contains("\\u0000") {
        return json;
    }
    let mut value: Value = serde_json::from_str(&json).unwrap_or_default();
    without_nul(&mut value);
    value.to_string()
}

/// The pattern of texts that contain this one.
pub(super) fn containing(text: &str) -> String {
    format!("%{}%", text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_"))
}

/// A row out of its JSON; `None` when it is something else.
pub(super) fn row(json: &str) -> Option<LedgerRow<'static>> {
    serde_json::from_str(json).ok()
}

impl<'a> Columns<'a> {
    pub(super) fn of(row: &'a LedgerRow<'_>) -> Self {
        let usage = row.usage.unwrap_or_default();
        Self {
            id: row.id.to_string(),
            revision: row.revision.into(),
            arrived_at: stored_time(row.arrived_unix_ms),
            day: stored_day(row.day()),
            org: text(&row.org),
            project: text(&row.project),
            key_id: text(&row.key_id),
            key_name: text(&row.key_name),
            user: maybe(&row.user),
            trace: maybe(&row.trace_id),
            session: maybe(&row.session_id),
            requested_model: maybe(&row.requested_model),
            provider: maybe(&row.provider),
            model: maybe(&row.model),
            status: row.status.into(),
            ended: row.ended.name(),
            latency_us: stored_time(row.latency_us),
            prompt_tokens: stored_time(usage.prompt_tokens),
            completion_tokens: stored_time(usage.completion_tokens),
            cost: row.cost_picos,
            charge: picos(Money::from_picos(row.charge_picos())),
            reported: Reported::of(row),
            record: json(row),
        }
    }

    /// What it adds to what is spent.
    pub(super) fn spending(&self) -> Spending {
        Spending {
            requests: 1,
            prompt_tokens: self.prompt_tokens,
            completion_tokens: self.completion_tokens,
            cost: self.charge.into(),
        }
    }

    /// What it adds to.
    pub(super) fn account(&self) -> Account {
        Account {
            org: self.org.as_ref().to_owned(),
            project: self.project.as_ref().to_owned(),
            key_id: self.key_id.as_ref().to_owned(),
            user: self.user.as_deref().unwrap_or_default().to_owned(),
            day: self.day,
        }
    }
}

/// A day as databases have it.
pub(super) fn stored_day(day: u32) -> i32 {
    i32::try_from(day).unwrap_or(i32::MAX)
}

/// A row of `spend`, by what it is found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Account {
    pub(super) org: String,
    pub(super) project: String,
    pub(super) key_id: String,
    pub(super) user: String,
    pub(super) day: i32,
}

/// What is added to one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spending {
    pub(super) requests: i64,
    pub(super) prompt_tokens: i64,
    pub(super) completion_tokens: i64,
    pub(super) cost: i128,
}

impl Spending {
    pub(super) fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.prompt_tokens = self.prompt_tokens.saturating_add(other.prompt_tokens);
        self.completion_tokens = self.completion_tokens.saturating_add(other.completion_tokens);
        self.cost += other.cost;
    }

    /// What is to be added when this takes the place of what was added before.
    pub(super) fn instead_of(self, earlier: Self) -> Self {
        Self {
            requests: self.requests - earlier.requests,
            prompt_tokens: self.prompt_tokens - earlier.prompt_tokens,
            completion_tokens: self.completion_tokens - earlier.completion_tokens,
            cost: self.cost - earlier.cost,
        }
    }
}

/// What a batch adds, in an order in which several gateways do not get into each other's way.
pub(super) type Accounts = BTreeMap<Account, Spending>;

/// The last revision of each request of a batch, in the order of their first.
pub(super) fn latest<'a>(batch: &'a [LedgerRow<'static>]) -> Vec<&'a LedgerRow<'static>> {
    let mut places: HashMap<RequestId, usize, _> =
        HashMap::with_capacity_and_hasher(batch.len(), ahash::RandomState::new());
    let mut rows: Vec<&'a LedgerRow<'static>> = Vec::with_capacity(batch.len());
    for row in batch {
        let place = *places.entry(row.id).or_insert(rows.len());
        match rows.get_mut(place) {
            Some(known) if known.revision < row.revision => *known = row,
            Some(_) => {}
            None => rows.push(row),
        }
    }
    rows
}
