//! The way of payloads into the spool: what the policy keeps of a request is made fit to be shown on a thread of its own, so that no request
//! waits for it. From the spool [`super::ledger`] takes it into the database.

use crate::store::file::spool::FileSpool;
use crate::store::ports::ledger::Spool;
use crate::telemetry::PayloadStore;
use crate::telemetry::payloads::Tape;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

/// So many may wait; they hold their bodies in memory.
const WAITING: usize = 256;
/// How often it is looked whether all are done.
const LOOK: Duration = Duration::from_millis(5);

/// What is on its way.
#[derive(Clone, Default)]
pub(super) struct Keeper(Arc<Counts>);

#[derive(Default)]
struct Counts {
    handed: AtomicU64,
    done: AtomicU64,
}

impl Keeper {
    /// Waits until everything is in the spool that was handed over before.
    pub(super) async fn settle(&self) {
        let handed = self.0.handed.load(SeqCst);
        while self.0.done.load(SeqCst) < handed {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Begins to keep what the policy wants kept.
///
/// # Errors
/// When there is no thread to be had.
pub(super) fn begin(store: &PayloadStore, spool: Arc<FileSpool>) -> Result<Keeper, String> {
    let keeper = Keeper::default();
    let (give, take) = sync_channel::<Arc<Tape>>(WAITING);
    let (reads, counts) = (store.clone(), keeper.0.clone());
    let work = move || {
        for tape in take {
            if !spool.append_payloads(&reads.shown(&tape)) {
                reads.lost();
            }
            counts.done.fetch_add(1, SeqCst);
        }
    };
    std::thread::Builder::new()
        .name("payloads".to_owned())
        .spawn(work)
        .map_err(|error| format!("cannot start the thread of payloads: {error}"))?;
    let (loses, counts) = (store.clone(), keeper.0.clone());
    store.set_sink(move |tape| {
        counts.handed.fetch_add(1, SeqCst);
        if give.try_send(tape).is_err() {
            counts.done.fetch_add(1, SeqCst);
            loses.lost();
        }
    });
    Ok(keeper)
}
