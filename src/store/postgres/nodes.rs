//! What nodes tell each other by Postgres' notifications. It is heard on the connection that listens for changes.

use crate::store::ports::nodes::{Heard, Nodes, Topic};
use async_trait::async_trait;
use deadpool_postgres::Pool;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio_postgres::{Client, Error};

/// Where it is told who watches, and what happens.
const WATCHING: &str = "orbyt_watching";
const LIVE: &str = "orbyt_live";
/// A notification has to be shorter than 8,000 bytes.
const LONGEST: usize = 7_900;
/// So many messages may wait to be taken.
const MOST_UNHEARD: usize = 1024;
/// How long telling may take.
const TELL: Duration = Duration::from_secs(1);

/// What the connection listens for besides changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Nobody hears it.
    #[default]
    Nothing,
    /// Who watches.
    Watching,
    /// And what happens.
    Live,
}

/// What is heard, between the connection and whoever hears it.
#[derive(Default)]
pub(super) struct Words {
    wanted: watch::Sender<Wanted>,
    heard: Mutex<Option<mpsc::Sender<Heard>>>,
}

impl Words {
    /// What to listen for, as it changes.
    pub(super) fn wanted(&self) -> watch::Receiver<Wanted> {
        self.wanted.subscribe()
    }

    /// Has a connection listen for what is wanted, and says so.
    pub(super) async fn listen(&self, client: &Client, wanted: Wanted) -> Result<(), Error> {
        let word = |is_wanted| if is_wanted { "LISTEN" } else { "UNLISTEN" };
        let (watching, live) = (word(wanted != Wanted::Nothing), word(wanted == Wanted::Live));
        client.batch_execute(&format!("{watching} {WATCHING}; {live} {LIVE}")).await?;
        self.pass(Heard::Listening);
        Ok(())
    }

    /// A notification has come.
    pub(super) fn notified(&self, channel: &str, message: &str) {
        match channel {
            WATCHING => self.pass(Heard::Word(Topic::Watching, message.to_owned())),
            LIVE => self.pass(Heard::Word(Topic::Live, message.to_owned())),
            _ => {}
        }
    }

    fn pass(&self, heard: Heard) {
        // What nobody takes in time is lost: it was of use in this moment alone.
        if let Some(tell) = &*self.heard.lock()
            && tell.try_send(heard).is_err()
        {
            log::debug!("postgres: nodes tell more than is taken");
        }
    }
}

/// The other nodes, over Postgres.
pub(super) struct PostgresNodes {
    pub(super) pool: Pool,
    pub(super) handle: Handle,
    pub(super) words: Arc<Words>,
}

#[async_trait]
impl Nodes for PostgresNodes {
    fn longest(&self) -> usize {
        LONGEST
    }

    async fn tell(&self, topic: Topic, messages: Vec<String>) -> Result<(), String> {
        let channel = match topic {
            Topic::Watching => WATCHING,
            Topic::Live => LIVE,
        };
        let tell = async {
            let client = self.pool.get().await.map_err(|error| error.to_string())?;
            let notify = "SELECT pg_notify($1, message) FROM unnest($2::text[]) AS message";
            client.execute(notify, &[&channel, &messages]).await.map_err(|error| error.to_string())
        };
        match tokio::time::timeout(TELL, tell).await {
            Ok(told) => told.map(drop),
            Err(_) => Err(format!("no answer within {TELL:?}")),
        }
    }

    fn hear(&self, mut live: watch::Receiver<bool>) -> mpsc::Receiver<Heard> {
        let (tell, heard) = mpsc::channel(MOST_UNHEARD);
        *self.words.heard.lock() = Some(tell.clone());
        let words = self.words.clone();
        self.handle.spawn(async move {
            loop {
                words.wanted.send_replace(if *live.borrow_and_update() { Wanted::Live } else { Wanted::Watching });
                tokio::select! {
                    changed = live.changed() => if changed.is_err() { break },
                    () = tell.closed() => break,
                }
            }
            words.wanted.send_replace(Wanted::Nothing);
        });
        heard
    }
}
