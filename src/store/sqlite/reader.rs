//! Reading that may take long: on connections of its own, so that nothing that is written waits for it, and within a bound of time.

use super::{BUSY, SqliteDatabase, Trouble};
use crate::store::ports::database::StoreError;
use rusqlite::{Connection, InterruptHandle, OpenFlags, Transaction};
use std::path::Path;
use std::time::Duration;
use tokio::sync::oneshot;

/// How many may read at a time.
pub(super) const AT_ONCE: usize = 2;
/// How long one may take, waiting for its turn included.
const PATIENCE: Duration = Duration::from_secs(5);

/// Stops what is being read when nobody waits for it any more.
struct Interrupting(Option<InterruptHandle>);

impl Drop for Interrupting {
    fn drop(&mut self) {
        if let Some(handle) = &self.0 {
            handle.interrupt();
        }
    }
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

impl SqliteDatabase {
    /// Reads in a transaction, apart from everything else.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Transaction<'_>) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, StoreError> {
        let late = |_| StoreError::Unavailable(format!("{} did not answer within {PATIENCE:?}", self.path.display()));
        tokio::time::timeout(PATIENCE, self.look_at_leisure(job)).await.map_err(late)?
    }

    async fn look_at_leisure<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Transaction<'_>) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, StoreError> {
        let ended = || StoreError::Unavailable(format!("the database {} is closed", self.path.display()));
        let permit = self.readers.clone().acquire_owned().await.map_err(|_| ended())?;
        let (path, (tell, told)) = (self.path.clone(), oneshot::channel());
        let work = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let mut connection = open(&path)?;
            // Nobody waits: the reading is not worth its while.
            if tell.send(connection.get_interrupt_handle()).is_err() {
                return Err(Trouble::Store(StoreError::Unavailable("nobody waits for it".to_owned())));
            }
            job(&connection.transaction()?)
        });
        let _interrupting = Interrupting(told.await.ok());
        work.await.map_err(|_| ended())?.map_err(|trouble| trouble.told(&self.path))
    }
}
