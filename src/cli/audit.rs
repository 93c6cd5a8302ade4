//! `orbyt audit`: what was done, and whether the log of it is whole. And how the other commands write into it.

use super::args::{ListAuditArgs, VerifyAuditArgs};
use super::keys::date;
use crate::domain::audit::{AuditEntry, AuditEvent, Head};
pub use crate::store::ports::audit::noted;
use crate::store::ports::database::{Access, Database};
use crate::wiring::state::new_event;
use serde_json::{Value, json};
use std::fmt::Write;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

/// How many entries are read at once.
const PAGE: u32 = 1000;

/// What somebody on this machine does, by this program.
pub fn by_hand(action: &str, target: &str, org: Option<&Arc<str>>, details: &Value) -> AuditEvent {
    let name = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER")).unwrap_or_else(|_| "somebody".to_owned());
    let uid = std::fs::metadata("/proc/self").map_or_else(|_| "?".to_owned(), |process| process.uid().to_string());
    let actor = format!("{name} (uid {uid})");
    AuditEvent { org: org.cloned(), ..new_event(actor, "command line", action, target, details) }
}

/// The latest entries, one a line.
///
/// # Errors
/// The database's.
pub async fn list(database: &dyn Database, args: &ListAuditArgs) -> Result<String, String> {
    let entries = database.latest_entries(&Access::System, args.limit).await.map_err(|error| error.to_string())?;
    let mut text = String::new();
    for entry in &entries {
        // A string takes any amount of text.
        let _ = if args.json { writeln!(text, "{}", as_json(entry)) } else { writeln!(text, "{}", as_line(entry)) };
    }
    Ok(text)
}

fn as_line(AuditEntry { seq, event, .. }: &AuditEntry) -> String {
    let AuditEvent { at, actor, origin, action, target, details, .. } = event;
    let details = if details == "{}" { "" } else { details };
    let line = format!("{seq:>6} {} {action:<22} {target:<28} by {actor} from {origin} {details}", date(*at));
    shown(line.trim_end())
}

/// A text of somebody else's for a terminal: control characters would be obeyed there.
pub(super) fn shown(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, c| {
        if c.is_control() {
            shown.extend(c.escape_default())
        } else {
            shown.push(c)
        }
        shown
    })
}

/// JSON for a terminal: what of control characters JSON leaves as it is stands there escaped; it means the same.
pub(super) fn shown_json(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, c| {
        if c.is_control() && c != '\n' {
            // A string takes any amount of text.
            let _ = write!(shown, "\\u{:04x}", u32::from(c));
        } else {
            shown.push(c)
        }
        shown
    })
}

fn as_json(AuditEntry { seq, event, hash }: &AuditEntry) -> Value {
    let AuditEvent { at, org, actor, origin, action, target, details } = event;
    let details: Value = serde_json::from_str(details).unwrap_or_else(|_| details.as_str().into());
    json!({
        "seq": seq, "at": date(*at), "at_ms": at, "org": org.as_deref(), "actor": actor, "origin": origin,
        "action": action, "target": target, "details": details, "hash": hash,
    })
}

/// Goes through the whole chain. Returns what is to be said.
///
/// # Errors
/// The first thing that is wrong with it, or the database's.
pub async fn verify(database: &dyn Database, args: &VerifyAuditArgs) -> Result<String, String> {
    let mut head = Head::default();
    let mut is_met = args.head.is_none();
    loop {
        let entries = database.entries_after(head.seq, PAGE).await.map_err(|error| error.to_string())?;
        if entries.is_empty() {
            break;
        }
        for entry in &entries {
            head = head.check(entry).map_err(|broken| format!("the audit log was tampered with: {broken}"))?;
            is_met |= args.head.as_deref() == Some(&*head.hash);
        }
    }
    if !is_met {
        return Err(
            "the audit log was tampered with: it has no entry with the hash that --head names, so its end was cut off or all of it written anew"
                .to_owned(),
        );
    }
    Ok(format!("{} entries, each as it was written. Last: {}", head.seq, head.hash))
}

#[cfg(test)]
mod tests {
    use super::{shown, shown_json};

    #[test]
    fn a_terminal_is_told_nothing() {
        assert_eq!(shown("größe\u{1b}[2J\u{9b}x\n"), "größe\\u{1b}[2J\\u{9b}x\\n");
        let value = serde_json::json!({"größe\u{9b}": "\u{1b}[2J\u{7f}\u{9b}"});
        let json = shown_json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(!json.contains(|c: char| c.is_control() && c != '\n') && json.contains('\n'), "{json:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), value);
    }
}
