//! The index of the semantic cache that nodes share.
//!
//! ```text
//!   answered ──> this node's index ──tell──> stream in Redis ──every node follows it──> its index
//!                      ▲                                                                   │
//!                      └── nearest: from memory, nobody is asked            start, outage: from the beginning
//! ```
//!
//! The stream holds the questions that were answered last, whoever asked; what each node keeps of them is shared fairly between owners.
//! Reading one twice changes nothing. That all are to be forgotten stands in the stream, too, so every node hears of it in its turn. While Redis is away nothing is found and nothing is kept, because the answers are there.

use super::answers;
use super::link::{Link, RETRY};
use super::question::Question;
use crate::store::memory::MemoryVectors;
use crate::store::ports::answers::AnswerKey;
use crate::store::ports::vectors::{Near, Place, Vector, Vectors};
use async_trait::async_trait;
use bytes::Bytes;
use redis::{RedisResult, Script};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, mpsc};

/// The stream of questions.
const QUESTIONS: &str = "{orbyt}:questions";
/// What an entry holds: a question, or (with anything at all) that all before it are to be forgotten.
const QUESTION: &str = "q";
const CLEARED: &str = "c";
/// For so long nodes can still read that everything is to be forgotten, where nothing was kept since.
const HEARD_WITHIN: Duration = Duration::from_secs(24 * 60 * 60);
/// So many are read at once: the limits of requests are asked for on the same thread.
const AT_ONCE: usize = 32;
/// How long an answer waits in Redis for a question that is new.
const WAIT: Duration = Duration::from_secs(2);
/// So many may wait to be told; more are left out, and found by this node alone.
const MOST_UNTOLD: usize = 1024;
/// No stream outlives its last question by more.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

static PUT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/put_question.lua")));

/// What has to be known to Redis before it is asked.
pub(super) fn script() -> &'static Script {
    &PUT
}

/// What Redis gives to a reader: streams, in them entries, in them names and values in turn.
type Streams = Vec<(Bytes, Vec<(Bytes, Vec<Bytes>)>)>;

/// The questions of all nodes, as far as this one has read them.
pub struct RedisVectors {
    shared: Arc<Shared>,
    tell: mpsc::Sender<Word>,
    has_begun: AtomicBool,
}

/// What the index shares with the tasks that tell and read.
struct Shared {
    link: Arc<Link>,
    local: MemoryVectors,
    most: u32,
    /// Questions are compared: from now on they are read.
    begin: Notify,
}

/// What there is to do behind the requests' backs.
enum Word {
    /// This node has kept a question.
    Kept(Question),
    /// This node did not get its answer: it is gone, or Redis was slow.
    Doubted(Question),
}

impl RedisVectors {
    pub(super) fn new(link: Arc<Link>, most: u32) -> Self {
        let (tell, to_tell) = mpsc::channel(MOST_UNTOLD);
        let local = MemoryVectors::new(most);
        let shared = Arc::new(Shared { link: link.clone(), local, most, begin: Notify::new() });
        link.runtime().spawn(tell_all(shared.clone(), to_tell));
        link.runtime().spawn(read_all(shared.clone()));
        Self { shared, tell, has_begun: AtomicBool::new(false) }
    }

    /// Reads what the others have kept, from now on. The first comparison does it too; a node that will compare need not wait for that.
    pub fn begin(&self) {
        if !self.has_begun.load(Ordering::Relaxed) && !self.has_begun.swap(true, Ordering::Relaxed) {
            self.shared.begin.notify_one();
        }
    }

    fn tell(&self, word: Word) {
        let untold = &self.shared.link.untold;
        untold.fetch_add(1, Ordering::AcqRel);
        if self.tell.try_send(word).is_err() {
            untold.fetch_sub(1, Ordering::AcqRel);
            log::debug!("redis: too many questions to tell");
        }
    }
}

#[async_trait]
impl Vectors for RedisVectors {
    async fn nearest(&self, place: &Place, vector: &Vector, now_unix_ms: u64) -> Option<Near> {
        self.begin();
        // Without Redis its answer cannot be had, and that it is gone would be concluded from that.
        self.shared.link.lane()?;
        self.shared.local.nearest(place, vector, now_unix_ms).await
    }

    async fn put(&self, place: Place, vector: Vector, key: AnswerKey, until_unix_ms: u64, now_unix_ms: u64) {
        if self.shared.link.lane().is_some() {
            self.shared.local.put(place, vector.clone(), key, until_unix_ms, now_unix_ms).await;
            self.tell(Word::Kept(Question { place, vector, key, until_unix_ms }));
        }
    }

    async fn forget(&self, place: &Place, key: &AnswerKey) {
        if let Some((vector, until_unix_ms)) = self.shared.local.take(place, key) {
            self.tell(Word::Doubted(Question { place: *place, vector, key: *key, until_unix_ms }));
        }
    }

    async fn clear(&self) -> bool {
        self.shared.local.forget_all();
        let Some(lane) = self.shared.link.lane() else { return false };
        let mut connection = lane.bulk.clone();
        // Trimmed, not deleted: its ids go on where they were, so no reader takes what comes next for something that it has seen.
        let mut both = redis::pipe();
        both.atomic().cmd("XTRIM").arg(QUESTIONS).arg("MAXLEN").arg(0);
        both.cmd("XADD").arg(QUESTIONS).arg("*").arg(CLEARED).arg("1");
        both.cmd("PEXPIRE").arg(QUESTIONS).arg(HEARD_WITHIN.as_millis() as u64);
        let told = async move { both.query_async::<redis::Value>(&mut connection).await };
        self.shared.link.ask_bulk(told).await.is_some()
    }

    fn held(&self) -> u64 {
        self.shared.local.held()
    }
}

/// Tells what there is to tell, one after the other.
async fn tell_all(shared: Arc<Shared>, mut words: mpsc::Receiver<Word>) {
    while let Some(word) = words.recv().await {
        let mut connection = shared.link.back().await.bulk.clone();
        let told = match word {
            Word::Kept(question) => put(&shared, &question, &mut connection).await,
            Word::Doubted(question) => check(&shared, question, &mut connection).await,
        };
        if let Err(error) = told {
            log::debug!("redis: questions: {error}");
        }
        shared.link.untold.fetch_sub(1, Ordering::AcqRel);
    }
}

async fn put(
    shared: &Shared,
    question: &Question,
    connection: &mut redis::aio::MultiplexedConnection,
) -> RedisResult<()> {
    let left = Duration::from_millis(question.until_unix_ms.saturating_sub(now_unix_ms())).min(LONGEST);
    let Some(bytes) = question.written().filter(|_| !left.is_zero()) else { return Ok(()) };
    let mut call = PUT.prepare_invoke();
    call.key(QUESTIONS).arg(bytes).arg(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)).arg(shared.most);
    call.invoke_async(connection).await
}

/// Keeps a question again unless Redis says that its answer is gone.
async fn check(
    shared: &Shared,
    question: Question,
    connection: &mut redis::aio::MultiplexedConnection,
) -> RedisResult<()> {
    let is_there = redis::cmd("EXISTS").arg(answers::name(&question.key)).query_async::<bool>(connection).await;
    if !matches!(is_there, Ok(false)) {
        keep(shared, question).await;
    }
    is_there.map(drop)
}

/// Reads what all nodes keep, over a connection of its own, for ever.
async fn read_all(shared: Arc<Shared>) {
    shared.begin.notified().await;
    loop {
        shared.link.back().await;
        let why = follow(&shared).await;
        log::debug!("redis: questions: {why}");
        // Not all nodes at once.
        tokio::time::sleep(RETRY.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
    }
}

/// Reads the stream from its beginning until the connection breaks. Returns why it did.
async fn follow(shared: &Shared) -> String {
    let mut connection = match shared.link.connection().await {
        Ok(connection) => connection,
        Err(why) => return why,
    };
    let mut last = Bytes::from_static(b"0");
    loop {
        let mut read = redis::cmd("XREAD");
        read.arg("COUNT").arg(AT_ONCE).arg("BLOCK").arg(WAIT.as_millis() as u64);
        read.arg("STREAMS").arg(QUESTIONS).arg(&last[..]);
        let streams: Streams = match read.query_async::<Option<Streams>>(&mut connection).await {
            Ok(streams) => streams.unwrap_or_default(),
            Err(error) => return error.to_string(),
        };
        for (id, fields) in streams.into_iter().flat_map(|(_, entries)| entries) {
            hear(shared, &fields).await;
            last = id;
        }
    }
}

/// Keeps a question that stands in the stream. What cannot be read is another version's, or nobody's, and is counted.
async fn hear(shared: &Shared, fields: &[Bytes]) {
    let question = match fields {
        [name, _] if name == CLEARED => return shared.local.forget_all(),
        [name, record] if name == QUESTION => Question::read(record),
        _ => None,
    };
    match question {
        Some(question) => keep(shared, question).await,
        None => {
            shared.link.unread.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn keep(shared: &Shared, question: Question) {
    let (Question { place, vector, key, until_unix_ms }, now) = (question, now_unix_ms());
    if until_unix_ms > now {
        shared.local.put(place, vector, key, until_unix_ms, now).await;
    }
}

fn now_unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
