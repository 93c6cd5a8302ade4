//! The cache of answers that nodes share.
//!
//! An answer is found by its digest, in which its tenant is, and goes by its own time. A set of all of them bounds their number and size: those
//! go first that came first.

use super::link::Link;
use crate::store::ports::answers::{AnswerKey, Answers, AnswersHeld, StoredAnswer};
use async_trait::async_trait;
use bytes::Bytes;
use redis::Script;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// The set of all answers.
const ALL: &str = "{orbyt}:answers";
/// How large each of them is.
const SIZES: &str = "{orbyt}:answers:sizes";
/// All answers in the order in which they came.
const ORDER: &str = "{orbyt}:answers:order";
/// How many answers one question forgets.
const CLEARED_AT_ONCE: isize = 500;
/// The first byte of an answer. Another version's is not read.
const VERSION: u8 = 1;

static PUT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/put_answer.lua")));

/// What has to be known to Redis before it is asked.
pub(super) fn script() -> &'static Script {
    &PUT
}

/// The answers of all nodes.
pub struct RedisAnswers {
    link: Arc<Link>,
    most: u32,
    most_bytes: u64,
    /// How many there were when one was put there last, and their size.
    entries: AtomicU64,
    bytes: AtomicU64,
}

impl RedisAnswers {
    pub(super) fn new(link: Arc<Link>, most: u32, most_bytes: u64) -> Self {
        Self { link, most, most_bytes, entries: AtomicU64::new(0), bytes: AtomicU64::new(0) }
    }
}

#[async_trait]
impl Answers for RedisAnswers {
    async fn get(&self, key: &AnswerKey, now_unix_ms: u64) -> Option<Arc<StoredAnswer>> {
        let lane = self.link.lane()?;
        let (mut connection, get) = (lane.bulk.clone(), redis::cmd("GET").arg(name(key)).to_owned());
        let question = async move { get.query_async::<Option<Bytes>>(&mut connection).await };
        let bytes = self.link.ask_bulk(question).await??;
        let answer = read(&bytes)?;
        (!answer.left(now_unix_ms).is_zero()).then(|| Arc::new(answer))
    }

    async fn put(&self, key: AnswerKey, answer: Arc<StoredAnswer>) {
        let Some(lane) = self.link.lane() else { return };
        let (Some(bytes), Ok(ttl)) = (written(&answer), u64::try_from(answer.ttl.as_millis())) else { return };
        let mut call = PUT.prepare_invoke();
        call.key(name(&key))
            .key(ALL)
            .key(SIZES)
            .key(ORDER)
            .arg(bytes)
            .arg(ttl.max(1))
            .arg(self.most)
            .arg(self.most_bytes);
        let mut connection = lane.bulk.clone();
        let question = async move { call.invoke_async::<(u64, u64)>(&mut connection).await };
        if let Some((entries, bytes)) = self.link.ask_bulk(question).await {
            self.entries.store(entries, Ordering::Relaxed);
            self.bytes.store(bytes, Ordering::Relaxed);
        }
    }

    async fn clear(&self) -> bool {
        loop {
            let Some(lane) = self.link.lane() else { return false };
            let mut connection = lane.bulk.clone();
            let question = async move {
                let names: Vec<String> =
                    redis::cmd("ZRANGE").arg(ALL).arg(0).arg(CLEARED_AT_ONCE - 1).query_async(&mut connection).await?;
                let mut forget = redis::pipe();
                forget.atomic();
                if names.is_empty() {
                    forget.del(ALL).del(SIZES).del(ORDER);
                } else {
                    forget.del(&names).zrem(ALL, &names).zrem(ORDER, &names).hdel(SIZES, &names);
                }
                forget.query_async::<()>(&mut connection).await.map(|()| names.len())
            };
            match self.link.ask_bulk(question).await {
                None => return false,
                Some(0) => break,
                Some(_) => {}
            }
        }
        self.entries.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
        true
    }

    fn held(&self) -> AnswersHeld {
        AnswersHeld { entries: self.entries.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }
}

/// Where an answer stands.
pub(super) fn name(key: &AnswerKey) -> String {
    format!("{{orbyt}}:answer:{}", hex::encode(key))
}

/// What stands before the body.
#[derive(Serialize, Deserialize)]
struct Head {
    provider: Arc<str>,
    model: Arc<str>,
    dropped: Vec<String>,
    /// Where each piece ends; the last one is the length of the body.
    ends: Vec<usize>,
    stored_unix_ms: u64,
    ttl_ms: u64,
}

/// The version, the length of the head (4 bytes, the least significant first), the head as JSON, the body.
fn written(answer: &StoredAnswer) -> Option<Vec<u8>> {
    let head = Head {
        provider: answer.provider.clone(),
        model: answer.model.clone(),
        dropped: answer.dropped.clone(),
        ends: answer.cuts.iter().copied().chain([answer.body.len()]).collect(),
        stored_unix_ms: answer.stored_unix_ms,
        ttl_ms: u64::try_from(answer.ttl.as_millis()).ok()?,
    };
    let head = serde_json::to_vec(&head).ok()?;
    let mut bytes = Vec::with_capacity(5 + head.len() + answer.body.len());
    bytes.push(VERSION);
    bytes.extend_from_slice(&u32::try_from(head.len()).ok()?.to_le_bytes());
    bytes.extend_from_slice(&head);
    bytes.extend_from_slice(&answer.body);
    Some(bytes)
}

/// `None` for anything that [`written`] has not written.
fn read(bytes: &Bytes) -> Option<StoredAnswer> {
    let (&version, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let head: Head = (version == VERSION).then(|| serde_json::from_slice(rest.get(..length)?).ok())??;
    let body = bytes.slice(5 + length..);
    let Head { provider, model, dropped, ends: mut cuts, stored_unix_ms, ttl_ms } = head;
    let in_order = cuts.is_sorted() && cuts.pop() == Some(body.len());
    let ttl = Duration::from_millis(ttl_ms);
    in_order.then_some(StoredAnswer { provider, model, dropped, body, cuts, stored_unix_ms, ttl })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> StoredAnswer {
        StoredAnswer {
            provider: "p".into(),
            model: "m".into(),
            dropped: vec!["top_k".to_owned()],
            body: Bytes::from_static(b"a\xffbcde"),
            cuts: vec![1, 3],
            stored_unix_ms: 1_000,
            ttl: Duration::from_secs(300),
        }
    }

    #[test]
    fn an_answer_is_read_as_it_was_written() {
        let bytes = Bytes::from(written(&answer()).unwrap());
        assert_eq!(read(&bytes), Some(answer()));
        for end in 0..bytes.len() {
            assert_eq!(read(&bytes.slice(..end)), None, "cut at {end}");
        }
    }

    #[test]
    fn what_is_no_answer_is_none() {
        let mut other = written(&answer()).unwrap();
        other[0] = 2;
        assert_eq!(read(&other.into()), None);
        assert_eq!(read(&Bytes::from_static(b"\x01\xff\xff\xff\xff{}")), None);
        assert_eq!(read(&Bytes::from_static(b"\x01\x02\0\0\0{}")), None);
    }
}
