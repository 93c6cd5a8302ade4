//! The connection that listens for changes, and that notices when the database is away.
//!
//! ```text
//!             connected, schema up to date, LISTEN
//!   Away ───────────────────────────────────────────> Listening ──notification──> Listening, one revision on
//!    ▲  └─ no: waits, longer each time                    │
//!    └──────── connection ended, or no answer to a ping ──┘
//! ```

use super::connect::Connector;
use super::nodes::Words;
use super::schema;
use crate::store::ports::database::{Link, StoreError};
use futures::FutureExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_postgres::AsyncMessage;

/// How often the connection is tried, and how long it may take to answer: a cable that is cut says nothing.
const PING: Duration = Duration::from_secs(1);
const PONG: Duration = Duration::from_secs(2);
/// How long bringing the schema up to date may take, waiting for another gateway that does so included.
const SETTLED: Duration = Duration::from_secs(300);
/// Where changes are told: see the migrations.
const CHANGED: &str = "orbyt_changed";
/// Waits between two tries to connect.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Listens for as long as anybody has the receiver of `tell`. The outcome of the first try goes to `begun`.
pub(super) async fn keep_listening(
    connector: Connector,
    place: String,
    tell: watch::Sender<Link>,
    begun: oneshot::Sender<Result<(), StoreError>>,
    words: Arc<Words>,
) {
    let (mut begun, mut wait) = (Some(begun), FIRST_WAIT);
    while !tell.is_closed() {
        let error = match listen(&connector, &place, &tell, &mut begun, &words).await {
            Ok(()) => {
                wait = FIRST_WAIT;
                format!("{place}: the connection has ended")
            }
            Err(error) => {
                let message = error.to_string();
                if let Some(begun) = begun.take() {
                    // Whoever opened it may have gone.
                    let _ = begun.send(Err(error));
                }
                message
            }
        };
        let down: Arc<str> = error.into();
        tell.send_if_modified(|link| {
            let differs = link.down.is_none();
            link.down = Some(down);
            differs
        });
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// One connection, from its beginning to its end.
async fn listen(
    connector: &Connector,
    place: &str,
    tell: &watch::Sender<Link>,
    begun: &mut Option<oneshot::Sender<Result<(), StoreError>>>,
    words: &Arc<Words>,
) -> Result<(), StoreError> {
    let (mut client, mut connection) = connector.raw(place).await?;
    let (heard, mut news) = mpsc::channel::<()>(1);
    let (passes, mut wanted) = (words.clone(), words.wanted());
    let moved = tokio::spawn(async move {
        while let Some(Ok(message)) = futures::future::poll_fn(|context| connection.poll_message(context)).await {
            match message {
                AsyncMessage::Notification(told) if told.channel() == CHANGED => {
                    // A full channel means that a look is due already.
                    let _ = heard.try_send(());
                }
                AsyncMessage::Notification(told) => passes.notified(told.channel(), told.payload()),
                _ => {}
            }
        }
    });
    let outcome = async {
        schema::migrate(&mut client, place).await?;
        client.batch_execute(&format!("LISTEN {CHANGED}")).await.map_err(|error| super::failed(place, &error))?;
        let wanted = *wanted.borrow_and_update();
        words.listen(&client, wanted).await.map_err(|error| super::failed(place, &error))
    };
    let slow = || StoreError::Unavailable(format!("{place} was not up to date within {SETTLED:?}"));
    if let Err(error) = tokio::time::timeout(SETTLED, outcome).await.unwrap_or_else(|_| Err(slow())) {
        moved.abort();
        return Err(error);
    }
    // What has changed while nobody listened was not told.
    tell.send_modify(|link| *link = Link { revision: link.revision + 1, down: None });
    if let Some(begun) = begun.take() {
        let _ = begun.send(Ok(()));
    }
    loop {
        let answered = tokio::select! {
            word = news.recv() => {
                if word.is_none() {
                    break;
                }
                tell.send_modify(|link| link.revision += 1);
                true
            }
            Ok(()) = wanted.changed() => {
                let wanted = *wanted.borrow_and_update();
                let listens = words.listen(&client, wanted).map(|outcome| outcome.is_ok());
                tokio::time::timeout(PONG, listens).await.unwrap_or(false)
            }
            () = tokio::time::sleep(PING) => {
                let ping = client.simple_query("").map(|outcome| outcome.is_ok());
                tokio::time::timeout(PONG, ping).await.unwrap_or(false)
            }
        };
        if !answered || tell.is_closed() {
            break;
        }
    }
    moved.abort();
    Ok(())
}
