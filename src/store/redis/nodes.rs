//! What nodes tell each other over Redis' channels. Listening takes a connection of its own; telling goes over the one for what is large, so that
//! no request waits behind it.

use super::keys::channel;
use super::link::{Lane, Link, RETRY};
use crate::store::ports::nodes::{Heard, Nodes, Topic};
use async_trait::async_trait;
use futures::StreamExt;
use redis::RedisResult;
use redis::aio::PubSubSink;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

/// Where it is told who watches, and what happens.
const WATCHING: &str = "{orbyt}:watching";
const LIVE: &str = "{orbyt}:live";
/// How long telling and subscribing may take.
const TELL: Duration = Duration::from_secs(1);
const SUBSCRIBE: Duration = Duration::from_secs(2);
/// So many messages may wait to be taken.
const MOST_UNHEARD: usize = 256;
const LONGEST: usize = 64 << 10;

/// The other nodes, over Redis.
pub struct RedisNodes {
    link: Arc<Link>,
    watching: String,
    live: String,
}

impl RedisNodes {
    pub(super) fn new(link: Arc<Link>) -> Self {
        let (watching, live) = (channel(link.client(), WATCHING), channel(link.client(), LIVE));
        Self { link, watching, live }
    }
}

#[async_trait]
impl Nodes for RedisNodes {
    fn longest(&self) -> usize {
        LONGEST
    }

    async fn tell(&self, topic: Topic, messages: Vec<String>) -> Result<(), String> {
        let lane = self.link.lane().ok_or("Redis is away")?;
        let channel = match topic {
            Topic::Watching => &self.watching,
            Topic::Live => &self.live,
        };
        let mut told = redis::pipe();
        for message in messages {
            told.cmd("PUBLISH").arg(channel).arg(message).ignore();
        }
        match timeout(TELL, told.query_async::<()>(&mut lane.bulk.clone())).await {
            Ok(told) => told.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {TELL:?}")),
        }
    }

    fn hear(&self, live: watch::Receiver<bool>) -> mpsc::Receiver<Heard> {
        let (tell, heard) = mpsc::channel(MOST_UNHEARD);
        let listener = Listener {
            link: self.link.clone(),
            watching: self.watching.clone(),
            live: self.live.clone(),
            wanted: live,
            tell,
        };
        self.link.runtime().spawn(listener.keep_listening());
        heard
    }
}

struct Listener {
    link: Arc<Link>,
    watching: String,
    live: String,
    wanted: watch::Receiver<bool>,
    tell: mpsc::Sender<Heard>,
}

impl Listener {
    /// Listens for as long as anybody hears it.
    async fn keep_listening(mut self) {
        while !self.tell.is_closed() {
            if let Some(lane) = self.link.lane() {
                let why = self.listen(&lane).await;
                log::debug!("redis: what nodes tell: {why}");
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// One connection, from its beginning to its end. Returns why it has ended.
    async fn listen(&mut self, lane: &Arc<Lane>) -> String {
        let mut is_wanted = *self.wanted.borrow_and_update();
        let subscribed = timeout(SUBSCRIBE, async {
            let mut pubsub = self.link.client().get_async_pubsub().await?;
            pubsub.subscribe(&self.watching).await?;
            if is_wanted {
                pubsub.subscribe(&self.live).await?;
            }
            RedisResult::Ok(pubsub)
        });
        let (mut sink, mut messages) = match subscribed.await {
            Ok(Ok(pubsub)) => pubsub.split(),
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return "no answer".to_owned(),
        };
        if self.tell.send(Heard::Listening).await.is_err() {
            return "nobody hears it".to_owned();
        }
        loop {
            let done = tokio::select! {
                message = messages.next() => match message {
                    Some(message) => {
                        self.pass_on(message.get_channel_name(), message.get_payload_bytes());
                        Ok(())
                    }
                    None => Err("the connection is gone".to_owned()),
                },
                changed = self.wanted.changed() => match changed {
                    Ok(()) => {
                        is_wanted = *self.wanted.borrow_and_update();
                        self.want(&mut sink, is_wanted).await
                    }
                    Err(_) => Err("nobody wants it".to_owned()),
                },
                () = self.tell.closed() => Err("nobody hears it".to_owned()),
                () = tokio::time::sleep(self.link.beat_every()) => {
                    if self.link.lane().is_some_and(|current| !Arc::ptr_eq(&current, lane)) {
                        Err("there is another connection".to_owned())
                    } else {
                        within(sink.ping::<redis::Value>()).await.map(drop)
                    }
                }
            };
            if let Err(why) = done {
                return why;
            }
        }
    }

    async fn want(&self, sink: &mut PubSubSink, is_wanted: bool) -> Result<(), String> {
        if !is_wanted {
            return within(sink.unsubscribe(&self.live)).await;
        }
        within(sink.subscribe(&self.live)).await?;
        self.tell.send(Heard::Listening).await.map_err(|_| "nobody hears it".to_owned())
    }

    fn pass_on(&self, channel: &str, message: &[u8]) {
        let topic = if channel == self.live { Topic::Live } else { Topic::Watching };
        let word = Heard::Word(topic, String::from_utf8_lossy(message).into_owned());
        // What nobody takes in time is lost: it was of use in this moment alone.
        if self.tell.try_send(word).is_err() {
            log::debug!("redis: nodes tell more than is taken");
        }
    }
}

async fn within<T>(answer: impl Future<Output = RedisResult<T>>) -> Result<T, String> {
    match timeout(SUBSCRIBE, answer).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err("no answer".to_owned()),
    }
}
