//! `/api/v1/audit`: who did what, and whether the log of it is whole.

use super::http::*;
use crate::console::problem::Problem;
use crate::console::roles::Operation;
use crate::console::routes::Shared;
use crate::console::viewer::Viewer;
use crate::domain::audit::{AuditEntry, AuditEvent, Head};
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;
use utoipa::ToSchema;

/// How many entries are checked at once.
const CHECKED: u32 = 1000;

/// Something that was done.
#[derive(Serialize, ToSchema)]
pub(super) struct Entry {
    /// Its place in the log.
    seq: u64,
    /// When.
    at: String,
    /// The organisation that it is about.
    org: Option<String>,
    /// Who.
    actor: String,
    /// From where.
    origin: String,
    /// What.
    action: String,
    /// To whom or what.
    target: String,
    /// The rest.
    #[schema(value_type = Object)]
    details: Value,
    /// Over all of this and the entry before.
    hash: String,
}

impl From<AuditEntry> for Entry {
    fn from(AuditEntry { seq, event, hash }: AuditEntry) -> Self {
        let AuditEvent { at, org, actor, origin, action, target, details } = event;
        let details = serde_json::from_str(&details).unwrap_or_else(|_| details.into());
        Self {
            seq,
            at: time_text(at),
            org: org.map(|org| org.to_string()),
            actor,
            origin,
            action,
            target,
            details,
            hash,
        }
    }
}

/// Whether the log is whole.
#[derive(Serialize, ToSchema)]
pub(super) struct Verified {
    /// Whether each entry is as it was written.
    intact: bool,
    /// How many were.
    entries: u64,
    /// The hash of the last of them: whoever keeps it elsewhere can tell later whether the end was cut off.
    head: String,
    /// What is wrong.
    problem: Option<String>,
}

/// List what was done, the latest first.
#[utoipa::path(get, path = "/api/v1/audit", tag = "audit", params(ListParams), responses((status = 200, body = Page<Entry>)))]
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Params(wanted): Params<ListParams>,
) -> Result<Json<Page<Entry>>, Problem> {
    let size = page_size(wanted.limit)?;
    let wrong = || Problem::invalid("cursor", "This is no next_cursor of a page.");
    let before = wanted.cursor.as_deref().map(str::parse::<u64>).transpose().map_err(|_| wrong())?;
    let before = before.unwrap_or(u64::MAX);
    let most = u32::try_from(size + 1).unwrap_or(u32::MAX);
    let mut entries = Vec::new();
    for access in viewer.reach(Operation::SeeAudit, wanted.org.as_deref())? {
        entries.extend(database(&shared)?.entries_before(&access, before, most).await?);
    }
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.seq));
    let more = entries.len() > size;
    entries.truncate(size);
    let next_cursor = if more { entries.last().map(|last| last.seq.to_string()) } else { None };
    Ok(Json(Page { data: entries.into_iter().map(Entry::from).collect(), next_cursor }))
}

/// Check the whole chain.
#[utoipa::path(get, path = "/api/v1/audit/verify", tag = "audit", responses((status = 200, body = Verified)))]
pub(super) async fn verify(State(shared): State<Arc<Shared>>, viewer: Viewer) -> Result<Json<Verified>, Problem> {
    viewer.may(Operation::SeeGateway, None)?;
    let (database, mut head) = (database(&shared)?, Head::default());
    let mut problem = None;
    'all: loop {
        let entries = database.entries_after(head.seq, CHECKED).await?;
        if entries.is_empty() {
            break;
        }
        for entry in &entries {
            match head.check(entry) {
                Ok(next) => head = next,
                Err(broken) => {
                    problem = Some(broken.to_string());
                    break 'all;
                }
            }
        }
    }
    Ok(Json(Verified { intact: problem.is_none(), entries: head.seq, head: head.hash, problem }))
}
