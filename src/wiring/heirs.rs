//! The books that an upgrade hands over ([`crate::store::succession`]), and those who have left with something open in them.

use super::LAST_WORDS;
use super::ledger::Books;
use super::state::Follower;
use crate::store::ports::Stores;
use crate::store::succession::{Succession, Taken};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked who has not come.
const LOOK: Duration = Duration::from_secs(5);
/// A process that has ended lets go of its files one after the other.
const MOMENT: Duration = Duration::from_millis(100);

/// Puts books that can be handed over in the place of those that cannot.
pub(super) fn install(stores: &mut Stores, data_dir: &Path) -> Succession {
    let books = Succession::new(data_dir);
    stores.accounts = Arc::new(books.clone());
    stores.limits = Arc::new(books.clone());
    books
}

/// Keeps the books from now on: those of the process before, where this one `takes_over` from it.
pub(super) fn begin(books: &Succession, takes_over: bool) -> Option<Taken> {
    if !takes_over {
        if let Err(error) = books.begin() {
            log::warn!("an upgrade will not hand over what is reserved of budgets and limits: books.sock: {error}");
        }
        return None;
    }
    let (taken, why) = match books.take_over() {
        Ok(taken) if taken.has_books() => return Some(taken),
        Ok(taken) => (Some(taken), "it is of another version, which hands over in another way".to_owned()),
        Err(error) => (None, error.to_string()),
    };
    log::warn!(
        "what the process before has reserved of budgets and limits is not known here until it is in the ledger: {why}"
    );
    taken
}

/// Gives back what processes had open that have left, once it is known what they have spent.
pub(super) async fn keep_up(books: Succession, follower: Arc<Follower>, ledger: Option<Books>) {
    loop {
        let _ = tokio::time::timeout(LOOK, books.somebody_left()).await;
        let Some(lost) = books.lost() else { continue };
        tokio::time::sleep(MOMENT).await;
        if let Some(ledger) = &ledger {
            // What is not written by then is not in the ledger: it is waited for again.
            if tokio::time::timeout(LAST_WORDS, ledger.settle()).await.is_err() {
                books.recount();
                continue;
            }
        }
        if !follower.recount().await {
            books.recount();
            tokio::time::sleep(LOOK).await;
            continue;
        }
        for name in lost {
            books.bury(&name);
        }
    }
}
