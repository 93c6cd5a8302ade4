//! The way of finished requests from the spool into the database: one task, batch after batch, each of which is deleted from the spool only
//! when the database has committed it.
//!
//! ```text
//! read a batch ──> write it ──committed──> delete it from the spool, and on
//!                     │
//!                     ├─ the database is away, full or damaged ──> wait, the same batch again
//!                     └─ it refuses the batch ──> row by row; a row that it refuses is set aside in a file, and counted
//! ```

use super::payloads::Keeper;
use super::state::State;
use crate::config::Snapshot;
use crate::domain::ledger::day_of;
use crate::domain::{LedgerRow, Payloads};
use crate::proxy::Core;
use crate::store::file::spool::{Drain, FOLDER, FileSpool, rows_of};
use crate::store::ports::database::{Database, StoreError};
use crate::store::ports::ledger::Kept;
use crate::store::succession::Succession;
use crate::telemetry::LedgerState;
use parking_lot::Mutex;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// How often it is looked whether there is something to write.
const LOOK: Duration = Duration::from_millis(100);
/// How long until a database that is away is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How many rows are written at once.
const AT_ONCE: usize = 500;
/// How many requests' payloads are written at once; they are larger.
const PAYLOADS_AT_ONCE: usize = 20;
/// How often it is looked for spools of processes that have ended.
const ADOPT: Duration = Duration::from_secs(30);
/// How often rows are deleted that are old enough.
const FORGET: Duration = Duration::from_secs(3600);
/// Where rows are put that the database refuses.
const REFUSED: &str = "refused.jsonl";

/// The ledger of a running gateway.
#[derive(Clone)]
pub(super) struct Books {
    settle: mpsc::Sender<Settle>,
    keeper: Keeper,
}

/// What is to be told when everything is written.
struct Settle {
    say: oneshot::Sender<()>,
    /// Nothing will be taken down any more: the spool goes.
    is_last: bool,
}

impl Books {
    /// Waits until everything is in the database that was taken down before, also by processes that have ended.
    pub(super) async fn settle(&self) {
        self.settled(false).await;
    }

    /// As [`Books::settle`], for a process that takes nothing down any more.
    pub(super) async fn leave(&self) {
        self.settled(true).await;
    }

    async fn settled(&self, is_last: bool) {
        self.keeper.settle().await;
        let (say, said) = oneshot::channel();
        if self.settle.send(Settle { say, is_last }).await.is_ok() {
            let _ = said.await;
        }
    }
}

/// Where rows come from and go to.
pub(super) struct Setup {
    /// The database.
    pub(super) state: Arc<State>,
    /// The spool.
    pub(super) spool: Arc<FileSpool>,
    /// The data directory.
    pub(super) data_dir: PathBuf,
    /// For how long rows are kept, by the configuration of the moment.
    pub(super) retention: Box<dyn Fn() -> Option<Duration> + Send + Sync>,
    /// For how long what requests carried is kept.
    pub(super) payloads_retention: Box<dyn Fn() -> Option<Duration> + Send + Sync>,
    /// What requests carried, on its way into the spool.
    pub(super) keeper: Keeper,
    /// The books that another process may keep.
    pub(super) heirloom: Option<Succession>,
    /// Writes down what was spent, before what says so is deleted from the spool.
    pub(super) keep_balances: Box<dyn Fn() + Send + Sync>,
    /// What metrics show.
    pub(super) shown: Arc<Mutex<LedgerState>>,
}

/// Opens the spool of this process.
///
/// # Errors
/// A text for the operator.
pub(super) fn open_spool(data_dir: &Path, most: u64, now_unix_ms: u64) -> Result<Arc<FileSpool>, String> {
    // Folders of processes are in the order in which they began.
    let name = format!("{now_unix_ms:013}-{}", std::process::id());
    FileSpool::open(data_dir, &name, most).map(Arc::new).map_err(|error| {
        format!(
            "cannot use {}: {error}; set ORBYT_DATA_DIR, or telemetry.ledger = false",
            data_dir.join(FOLDER).display()
        )
    })
}

/// The ledger and the task that keeps it; `None` where none is wanted.
///
/// # Errors
/// A text for the operator.
pub(super) fn keep(
    core: &Arc<Core>,
    snapshot: &Snapshot,
    state: Option<&Arc<State>>,
    heirloom: Option<Succession>,
    shown: Arc<Mutex<LedgerState>>,
) -> Result<Option<(Books, impl Future<Output = ()> + Send + use<>)>, String> {
    let wanted = &snapshot.telemetry;
    let Some(state) = state.filter(|_| wanted.ledger) else { return Ok(None) };
    let data_dir = snapshot.server.data_dir.clone();
    let spool = open_spool(&data_dir, wanted.spool_max_bytes, super::state::now_ms())?;
    let _ = core.ledger.set(spool.clone());
    let keeper = super::payloads::begin(&core.telemetry.payloads, spool.clone())?;
    let (seen, configured) = (shown.clone(), core.clone());
    core.telemetry.metrics.set_ledger_source(move || seen.lock().clone());
    let retention = Box::new(move || configured.snapshot.load().telemetry.ledger_retention);
    let configured = core.clone();
    let payloads_retention = Box::new(move || {
        let telemetry = &configured.snapshot.load().telemetry;
        telemetry.payloads.retention.or(telemetry.ledger_retention)
    });
    let (spent, keeps) = (core.clone(), state.clone());
    let keep_balances = Box::new(move || {
        // What is not known well must not take the place of what was.
        if spent.spending_of.lock().is_none() {
            keeps.keep_balances(&*spent.accounts);
        }
    });
    let setup = Setup {
        state: state.clone(),
        spool,
        data_dir,
        retention,
        payloads_retention,
        keeper,
        heirloom,
        keep_balances,
        shown,
    };
    Ok(Some(begin(setup)))
}

/// The same, made of its parts.
fn begin(setup: Setup) -> (Books, impl Future<Output = ()> + Send) {
    let (settle, settling) = mpsc::channel(4);
    (Books { settle, keeper: setup.keeper.clone() }, async move { Writer::new(setup).run(settling).await })
}

struct Writer {
    setup: Setup,
    /// Why nothing can be written, while nothing can.
    stuck: Option<String>,
}

/// What became of an attempt to write.
enum Wrote {
    /// There was nothing.
    Nothing,
    /// A few rows are written: all that there were.
    Few,
    /// Many rows are written, or there are more.
    Many {
        /// Whether they are all that there were.
        is_all: bool,
    },
    /// Nothing can be written now.
    Stuck,
}

impl Writer {
    fn new(setup: Setup) -> Self {
        Self { setup, stuck: None }
    }

    async fn run(mut self, mut settling: mpsc::Receiver<Settle>) {
        let spool = self.setup.spool.clone();
        let mut drain = Drain::new(&spool);
        let (mut adopted, mut forgot): (Option<Instant>, Option<Instant>) = (None, None);
        let mut waiting: Vec<Settle> = Vec::new();
        loop {
            // Also while there is so much to write that nobody waits below. A process that has just ended may have left something.
            while let Ok(settle) = settling.try_recv() {
                waiting.push(settle);
                adopted = None;
            }
            if is_due(&mut adopted, ADOPT) {
                match drain.adopt() {
                    Ok(0) => {}
                    Ok(count) => {
                        log::info!("the ledger takes over what {count} ended processes have left in the spool")
                    }
                    Err(error) => log::error!("the ledger cannot look for what ended processes have left: {error}"),
                }
            }
            let wrote = self.step(&mut drain).await;
            self.show(&drain);
            if matches!(wrote, Wrote::Nothing) && waiting.iter().any(|settle| settle.is_last) {
                drain.finish();
            }
            answer(&mut waiting, &wrote);
            let pause = match wrote {
                Wrote::Many { .. } => Duration::ZERO,
                Wrote::Few if !waiting.is_empty() => Duration::ZERO,
                // A few rows take as many pages and syncs as many do: they gather.
                Wrote::Few | Wrote::Nothing => LOOK,
                Wrote::Stuck => AGAIN,
            };
            if !matches!(wrote, Wrote::Stuck) && is_due(&mut forgot, FORGET) {
                self.forget().await;
            }
            if pause.is_zero() {
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                asked = settling.recv() => match asked {
                    Some(settle) => {
                        waiting.push(settle);
                        adopted = None;
                    }
                    None => return,
                },
            }
        }
    }

    /// Writes a batch.
    async fn step(&mut self, drain: &mut Drain<'_>) -> Wrote {
        let spool = self.setup.spool.clone();
        spool.flush();
        if spool.state().waiting > 0 {
            // The disk does not take it; the database may be on another one.
            let frames = spool.take_waiting();
            if !self.write(rows_of(&frames).into()).await {
                spool.keep(frames);
                return Wrote::Stuck;
            }
        }
        let mut batch = match drain.next_batch() {
            Ok(batch) => batch,
            Err(error) => {
                self.stick(format!("the spool cannot be read: {error}"));
                return Wrote::Stuck;
            }
        };
        if batch.is_empty() {
            self.stuck = None;
            return Wrote::Nothing;
        }
        if let Some(books) = &self.setup.heirloom {
            // Who asks the ledger must not find there what it has not been told of, and would count it twice.
            books.settled_before_ledger(AGAIN).await;
        }
        let (mut rows, mut count) = (std::mem::take(&mut batch.rows).into_iter(), 0);
        while rows.len() > 0 {
            let some: Arc<[_]> = rows.by_ref().take(AT_ONCE).collect();
            count += some.len();
            if !self.write(some).await {
                return Wrote::Stuck;
            }
        }
        for payloads in batch.payloads.chunks(PAYLOADS_AT_ONCE) {
            if !self.write_payloads(payloads).await {
                return Wrote::Stuck;
            }
        }
        if batch.damaged > 0 {
            log::error!("{} bytes in {} are damaged; the file is set aside", batch.damaged, batch.path.display());
            self.setup.shown.lock().damaged_bytes += batch.damaged;
        }
        if batch.tail > 0 {
            log::warn!(
                "the last {} bytes in {} are half a record: its process ended before the request's last byte was sent",
                batch.tail,
                batch.path.display()
            );
        }
        (self.setup.keep_balances)();
        if let Err(error) = drain.done(&batch) {
            self.stick(format!("{} cannot be deleted: {error}", batch.path.display()));
            return Wrote::Stuck;
        }
        if batch.is_all && count < AT_ONCE { Wrote::Few } else { Wrote::Many { is_all: batch.is_all } }
    }

    /// Writes rows; `false` when they cannot be written now.
    async fn write(&mut self, rows: Arc<[LedgerRow<'static>]>) -> bool {
        if rows.is_empty() {
            return true;
        }
        let database = self.setup.state.database.clone();
        match database.write(&rows).await {
            Ok(kept) => {
                self.count(kept);
                true
            }
            // One row among them may be what it does not take.
            Err(StoreError::Refused(_) | StoreError::Rejected(_) | StoreError::Conflict(_)) => {
                self.write_singly(&*database, &rows).await
            }
            Err(error @ (StoreError::Unavailable(_) | StoreError::Damaged(_))) => {
                self.stick(error.to_string());
                false
            }
        }
    }

    /// Writes what requests carried; `false` when that cannot be written now. What the database does not take must not keep the ledger.
    async fn write_payloads(&mut self, payloads: &[Payloads]) -> bool {
        match self.setup.state.database.keep_payloads(payloads).await {
            Ok(()) => true,
            Err(StoreError::Refused(why) | StoreError::Rejected(why) | StoreError::Conflict(why)) => {
                log::error!("the database does not take what {} requests carried: {why}", payloads.len());
                true
            }
            Err(error @ (StoreError::Unavailable(_) | StoreError::Damaged(_))) => {
                self.stick(error.to_string());
                false
            }
        }
    }

    async fn write_singly(&mut self, database: &dyn Database, rows: &[LedgerRow<'static>]) -> bool {
        for row in rows {
            match database.write(&[row.clone()].into()).await {
                Ok(kept) => self.count(kept),
                Err(StoreError::Refused(why) | StoreError::Rejected(why) | StoreError::Conflict(why)) => {
                    if let Err(error) = set_aside(&self.setup.data_dir, row) {
                        self.stick(format!("{why}; and it cannot be set aside: {error}"));
                        return false;
                    }
                    log::error!("the ledger does not take {}, which is set aside in {FOLDER}/{REFUSED}: {why}", row.id);
                    self.setup.shown.lock().refused += 1;
                }
                Err(error) => {
                    self.stick(error.to_string());
                    return false;
                }
            }
        }
        true
    }

    fn count(&mut self, kept: Kept) {
        if self.stuck.take().is_some() {
            log::info!("the ledger is written again");
        }
        let mut shown = self.setup.shown.lock();
        shown.rows[0].1 += kept.inserted;
        shown.rows[1].1 += kept.amended;
        shown.rows[2].1 += kept.known;
    }

    /// Says once why nothing can be written.
    fn stick(&mut self, why: String) {
        if self.stuck.as_ref() != Some(&why) {
            log::error!("the ledger waits in the spool: {why}");
        }
        self.stuck = Some(why);
    }

    fn show(&self, drain: &Drain<'_>) {
        let spool = self.setup.spool.state();
        let mut shown = self.setup.shown.lock();
        shown.spool_bytes = spool.bytes + drain.left_bytes();
        shown.waiting_bytes = spool.waiting;
        shown.lost = spool.lost;
        let trouble = || drain.trouble().map(str::to_owned);
        shown.stuck = self.stuck.clone().or_else(|| spool.failing.map(|why| why.to_string())).or_else(trouble);
    }

    async fn forget(&self) {
        if let Some(retention) = (self.setup.payloads_retention)() {
            match self.setup.state.database.forget_payloads(ago(retention)).await {
                Ok(0) => {}
                Ok(count) => log::info!("what {count} requests carried was older than telemetry.payloads_retention"),
                Err(error) => log::warn!("what old requests carried cannot be deleted: {error}"),
            }
        }
        let Some(retention) = (self.setup.retention)() else { return };
        match self.setup.state.database.forget_before(day_of(ago(retention))).await {
            Ok(0) => {}
            Ok(count) => log::info!("{count} requests of the ledger were older than telemetry.ledger_retention"),
            Err(error) => log::warn!("old requests of the ledger cannot be deleted: {error}"),
        }
    }
}

/// Tells those who wait for what was there before they came: each step begins after that. Who waits for the end waits for nothing to be left.
fn answer(waiting: &mut Vec<Settle>, wrote: &Wrote) {
    let (is_all, is_end) = match wrote {
        Wrote::Nothing => (true, true),
        Wrote::Few | Wrote::Many { is_all: true } => (true, false),
        Wrote::Many { is_all: false } | Wrote::Stuck => (false, false),
    };
    for settle in waiting.extract_if(.., |settle| is_all && (is_end || !settle.is_last)) {
        // Nobody may be waiting any more.
        let _ = settle.say.send(());
    }
}

/// So long ago, in Unix milliseconds.
fn ago(time: Duration) -> u64 {
    super::state::now_ms().saturating_sub(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// Whether it is time again, for what is done at once and then every so often.
fn is_due(last: &mut Option<Instant>, every: Duration) -> bool {
    let due = last.is_none_or(|last| last.elapsed() >= every);
    if due {
        *last = Some(Instant::now());
    }
    due
}

/// Keeps a row that the database refuses, as a line of JSON.
fn set_aside(data_dir: &Path, row: &LedgerRow<'_>) -> io::Result<()> {
    let path = data_dir.join(FOLDER).join(REFUSED);
    let mut line = serde_json::to_vec(row)?;
    line.push(b'\n');
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)?.write_all(&line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_answered_though_more_comes_all_the_time() {
        let mut waiting = Vec::new();
        let mut wait = |is_last| {
            let (say, said) = oneshot::channel();
            waiting.push(Settle { say, is_last });
            said
        };
        let (mut one, mut last) = (wait(false), wait(true));
        for unfinished in [Wrote::Stuck, Wrote::Many { is_all: false }] {
            answer(&mut waiting, &unfinished);
            assert!(one.try_recv().is_err() && last.try_recv().is_err());
        }
        answer(&mut waiting, &Wrote::Many { is_all: true });
        assert!(one.try_recv().is_ok() && last.try_recv().is_err(), "the end is when nothing is left");
        answer(&mut waiting, &Wrote::Few);
        assert!(last.try_recv().is_err());
        answer(&mut waiting, &Wrote::Nothing);
        assert!(last.try_recv().is_ok() && waiting.is_empty());
    }
}
