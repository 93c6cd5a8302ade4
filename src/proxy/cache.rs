//! The stage between plan and walk: an answer that is there already is replayed, requests that ask the same at once share one walk, and
//! a complete answer is kept.
//!
//! ```text
//!   plan ──> for the cache? ──no──────────────────────────────────> walk                 x-cache: BYPASS
//!                │
//!                ├─ "no-cache" ──────────────────────────> walk ──> keep                 x-cache: MISS
//!                │
//!                └─> join a flight ─┬─ leader ──> look up ─┬─ none ─> walk ──> keep, land   x-cache: MISS
//!                        ▲          │                      │     [`super::semantic`] may find a near one before that
//!                        │          │                      └─ found ───────────> replay  x-cache: HIT
//!                        │          └─ follower ──> wait ──┬─ landed ──────────> replay  x-cache: HIT
//!                        └──── the leader failed or left ──┘
//! ```
//!
//! Who leads looks up *after* it has joined: an answer is kept before its flight ends, so nobody falls in between and asks a provider
//! once more. It is also kept before its own client sees the last byte, so that who asks again gets it.
//!
//! Kept is what came whole, with a finish reason, from the model that was asked for. So no error; nothing that broke off; nothing that was
//! cut for its content (a moderator's mood is not a fact about the request); no fallback to another model (it is shared with those who
//! wait and have it in their plan too, but the model asked for gets its chance again).
//!
//! Who waits gets nothing before the leader's answer is whole, streams too: it could not be given another one once it had begun.

use super::core::{ClientCtx, Core, Phase, Stop};
use super::error::ApiError;
use super::flights::{Flight, Follower, Leader, Part};
use super::head::{Head, name};
use super::ledger;
use super::names::Target;
use super::plan::Plan;
use super::recorder::{Recorder, Tape};
use super::respond::{self, Framing};
use super::semantic::{self, Found, Located, Search};
use super::taping;
use super::walk::{self, shutting_down, unused};
use crate::config::snapshot::Cache;
use crate::dialect::extensions::CacheChoice;
use crate::dialect::openai_chat::digest::asked;
use crate::dialect::openai_chat::envelope::Envelope;
use crate::domain::{CacheUse, Clock, Ended, Fault, FaultKind, Money};
use crate::store::ports::answers::{AnswerKey, StoredAnswer};
use http::HeaderMap;
use pingora::protocols::http::ServerSession as Session;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The largest answer that is kept, whatever `cache.max_bytes` says.
const LARGEST_ANSWER: u64 = 16 << 20;
/// An answer may take up to this part of `cache.max_bytes`, so that a large one does not push out everything else.
const LARGEST_SHARE: u64 = 4;
/// So many failed flights a request waits for before it goes on by itself: they fail one after the other, and time runs out.
const MOST_FAILED_FLIGHTS: u32 = 2;

/// What the head of an answer says of the cache besides hit or miss.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CacheNote {
    /// For how long the answer may be served from now on.
    ttl: Option<Duration>,
    /// How old it is, when it comes out of the cache.
    age: Option<Duration>,
    /// How near the question that it answers is, when that is another one.
    similarity: Option<f32>,
}

impl CacheNote {
    /// Puts the headers on a head; what a target has not `served` is no answer to be kept.
    pub(super) fn put(&self, result: CacheUse, served: bool, head: &mut Head) {
        let word = match result {
            CacheUse::Bypass => "BYPASS",
            CacheUse::Miss => "MISS",
            CacheUse::Hit => "HIT",
        };
        head.put_static(&name::CACHE, word);
        let ttl = self.ttl.filter(|_| served || result == CacheUse::Hit);
        for (name, span) in [(&name::CACHE_TTL, ttl), (&name::AGE, self.age)] {
            if let Some(span) = span {
                head.put_number(name, span.as_secs());
            }
        }
        if let Some(similarity) = self.similarity {
            head.put(&name::CACHE_SIMILARITY, &format!("{similarity:.4}"));
        }
    }
}

/// What a request wants of the cache.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Wish {
    /// How long its answer is kept.
    ttl: Duration,
    /// How old an answer may be; zero asks for a new one.
    max_age: Option<Duration>,
}

impl Wish {
    /// `None` when the request is not for the cache.
    fn of(cache: &Cache, envelope: &Envelope, headers: &HeaderMap, temperature: Option<f64>) -> Option<Self> {
        let wishes = &envelope.extensions;
        let ttl = match wishes.cache {
            Some(CacheChoice::Off) => return None,
            // So that nobody keeps the room of others for long.
            Some(CacheChoice::For(ttl)) => ttl.min(cache.max_ttl),
            Some(CacheChoice::On) | None => cache.ttl,
        };
        let too_hot = temperature.zip(cache.max_temperature).is_some_and(|(of_request, most)| of_request > most);
        let mut max_age = None;
        let values = headers.get_all(http::header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
        for directive in values.flat_map(|value| value.split(',')) {
            let directive = directive.trim().to_ascii_lowercase();
            let age = directive.strip_prefix("max-age=").and_then(|seconds| seconds.parse().ok());
            match directive.as_str() {
                "no-store" => return None,
                "no-cache" => max_age = Some(Duration::ZERO),
                _ => max_age = [max_age, age.map(Duration::from_secs)].into_iter().flatten().min(),
            }
        }
        // A client's own key buys answers for that client alone.
        let fit = wishes.byok.is_none() && !too_hot && !ttl.is_zero();
        fit.then_some(Self { ttl, max_age })
    }

    fn is_refresh(&self) -> bool {
        self.max_age == Some(Duration::ZERO)
    }
}

/// Answers a request out of the cache, or by a walk whose answer is then kept.
///
/// # Errors
/// Those of the walk; the deadline's or the shutdown's while it waits for another request's answer; `Gone` when the client is.
pub(super) async fn answer(
    core: &Arc<Core>,
    session: &mut Session,
    client: &mut ClientCtx,
    envelope: &Envelope,
    plan: Plan,
) -> Result<(), Stop> {
    let asked = asked(envelope.body(), envelope.stream).ok();
    let wish = asked.and_then(|asked| {
        let headers = &session.req_header().headers;
        let temperature = asked.temperature.or_else(|| envelope.nested_temperature());
        Wish::of(&client.snapshot.cache, envelope, headers, temperature)
    });
    let (Some(asked), Some(wish)) = (asked, wish) else {
        client.cache = Some(CacheNote::default());
        core.telemetry.metrics.cached(CacheUse::Bypass, false);
        return walk::serve(core, session, client, envelope, plan).await;
    };
    let preset = kept_preset(envelope);
    let key = key(client, &session.req_header().headers, &plan, &asked.digest, preset);
    let mut stage = Stage { core, session, client, envelope, key, wish };
    if wish.is_refresh() {
        return stage.walk(plan, None, None).await;
    }
    let mut failed = 0;
    while failed < MOST_FAILED_FLIGHTS {
        match core.flights.join(key) {
            Part::Leader(leader) => return stage.lead(plan, leader).await,
            Part::Follower(follower) => match stage.follow(&plan, follower).await? {
                Flight::Landed(found) if stage.takes_over(&plan, &found) => {
                    return stage.replay(&plan, &found, true).await;
                }
                Flight::Landed(_) | Flight::Unshared => break,
                Flight::Failed => failed += 1,
                Flight::Abandoned | Flight::Aloft => {}
            },
        }
    }
    stage.walk(plan, None, None).await
}

/// A request in this stage.
struct Stage<'a> {
    core: &'a Arc<Core>,
    session: &'a mut Session,
    client: &'a mut ClientCtx,
    envelope: &'a Envelope,
    key: AnswerKey,
    wish: Wish,
}

impl Stage<'_> {
    fn takes(&self, plan: &Plan, found: &StoredAnswer) -> bool {
        takes(plan, self.wish.max_age, found)
    }

    /// Whether what another request's flight has brought will do. Of two that ask the same, one may want the very answer.
    fn takes_over(&self, plan: &Plan, found: &Found) -> bool {
        let near_will_do = || semantic::wanted(self.client, self.envelope).is_some();
        self.takes(plan, &found.answer) && (found.similarity.is_none() || near_will_do())
    }

    /// Looks up as the leader of a flight, and walks where nothing is found.
    async fn lead(&mut self, plan: Plan, leader: Leader) -> Result<(), Stop> {
        let exact = self.core.answers.get(&self.key, now_unix_ms()).await;
        let exact = exact.filter(|answer| self.takes(&plan, answer)).map(|answer| Found { answer, similarity: None });
        let search = if exact.is_some() { None } else { Search::of(self.client, self.envelope, &plan) };
        let (found, located) = match search {
            Some(search) => {
                // Who may not ask a provider may not have texts compared at its cost either.
                walk::reserve(self.core, self.client, self.envelope, &plan).await?;
                let max_age = self.wish.max_age;
                let takes = |answer: &StoredAnswer| takes(&plan, max_age, answer);
                // Rare and large, so it is kept out of the future of every request.
                Box::pin(search.run(self.core, self.client, takes)).await
            }
            None => (exact, None),
        };
        match found {
            Some(found) => {
                // Dropped, the reservation gives its tokens and its place back.
                self.client.quota = None;
                leader.land(found.clone());
                self.replay(&plan, &found, false).await
            }
            None => self.walk(plan, Some(leader), located).await,
        }
    }

    /// Waits for the end of another request's flight, and notices a client that hangs up and a gateway that ends meanwhile.
    async fn follow(&mut self, plan: &Plan, mut flight: Follower) -> Result<Flight, Stop> {
        let begun = Instant::now();
        let mut phase = self.core.phase.subscribe();
        let ending = async move { phase.wait_for(|phase| *phase == Phase::Ending).await.is_ok() };
        let end = tokio::select! {
            biased;
            end = flight.end() => Ok(end),
            _ = self.session.read_body_or_idle(true) => {
                self.client.record.ended = Ended::ClientGone;
                Err(Stop::Gone)
            }
            () = tokio::time::sleep_until((self.client.started + plan.total).into()) => {
                let message = format!("no complete answer to share within {:.1} s", plan.total.as_secs_f64());
                Err(ApiError::from_last_fault(&Fault::new(FaultKind::Timeout(Clock::Total), message)).into())
            }
            true = ending => {
                self.client.record.ended = Ended::Shutdown;
                Err(shutting_down().into())
            }
        };
        self.client.waited += begun.elapsed();
        end
    }

    /// Walks through the plan; the relay hands what comes of it to the recorder, which keeps it and tells those who wait.
    async fn walk(&mut self, plan: Plan, leader: Option<Leader>, located: Option<Located>) -> Result<(), Stop> {
        let Self { core, envelope, .. } = *self;
        let unused = unused(&self.client.snapshot, envelope, &plan);
        core.telemetry.metrics.cached(CacheUse::Miss, false);
        self.client.record.cache = CacheUse::Miss;
        self.client.cache = Some(CacheNote { ttl: Some(self.wish.ttl), ..CacheNote::default() });
        let most = (self.client.snapshot.cache.max_bytes / LARGEST_SHARE).min(LARGEST_ANSWER);
        self.client.recorder = Some(Recorder {
            core: core.clone(),
            key: self.key,
            ttl: self.wish.ttl,
            unused,
            located,
            leader,
            is_fallback: false,
            tape: Tape::new(usize::try_from(most).unwrap_or(usize::MAX)),
        });
        let result = walk::serve(core, self.session, self.client, envelope, plan).await;
        // A complete answer has taken it.
        if let Some(recorder) = self.client.recorder.take()
            && !matches!(result, Err(Stop::Gone))
        {
            recorder.fail();
        }
        result
    }

    /// Gives an answer once more, piece by piece as it was.
    async fn replay(&mut self, plan: &Plan, found: &Found, shared: bool) -> Result<(), Stop> {
        let Found { answer, similarity } = found;
        self.core.telemetry.metrics.cached(CacheUse::Hit, shared);
        let now = now_unix_ms();
        let client = &mut *self.client;
        client.cache =
            Some(CacheNote { ttl: Some(answer.left(now)), age: Some(answer.age(now)), similarity: *similarity });
        let record = &mut client.record;
        record.cache = CacheUse::Hit;
        record.strategy = plan.strategy.name();
        (record.provider, record.model) = (Some(answer.provider.clone()), Some(answer.model.clone()));
        record.dropped = unused(&client.snapshot, self.envelope, plan);
        record.dropped.extend(answer.dropped.iter().cloned());
        record.cost = Some(Money::ZERO);
        let of_model = |(leg, target): &(usize, Target)| {
            (target.provider.id == answer.provider && target.model.upstream == answer.model).then_some(*leg)
        };
        record.fallback = plan.targets.iter().find_map(of_model).is_some_and(|leg| leg > 0);
        record.status = 200;
        let framing = if self.envelope.stream { Framing::Stream } else { Framing::Length(answer.body.len()) };
        let mut head = respond::head(self.session, client, 200, self.envelope.content_type(), framing);
        respond::put_routing(&mut head, client, None);
        self.write(Piece::Head(head)).await?;
        self.client.record.ttft = Some(self.client.started.elapsed());
        let last = answer.cuts.len();
        for (place, piece) in answer.pieces().enumerate() {
            if place == last {
                ledger::seal(self.session, self.client, Ended::Complete, None, piece.len());
            }
            self.write(Piece::Body(piece, place == last)).await?;
        }
        self.client.record.ended = Ended::Complete;
        Ok(())
    }

    async fn write(&mut self, piece: Piece) -> Result<(), Stop> {
        match &piece {
            Piece::Head(head) => taping::answered(self.client, head),
            Piece::Body(bytes, _) => taping::answer(self.client, bytes),
        }
        let write = async {
            match piece {
                Piece::Head(head) => self.session.write_response_header(head.into()).await,
                Piece::Body(bytes, end) => self.session.write_response_body(bytes, end).await,
            }
        };
        respond::accepted(self.core, write).await.map_err(|why| why.ends(self.client))
    }
}

/// Whether an answer will do: it is young enough, and its model is one that the request may be served by.
fn takes(plan: &Plan, max_age: Option<Duration>, found: &StoredAnswer) -> bool {
    let planned = plan
        .targets
        .iter()
        .any(|(_, target)| target.provider.id == found.provider && target.model.upstream == found.model);
    planned && max_age.is_none_or(|most| found.age(now_unix_ms()) <= most)
}

/// A part of an answer.
enum Piece {
    Head(Head),
    Body(bytes::Bytes, bool),
}

/// The preset that is left to the provider; what one of ours says is in the body.
pub(super) fn kept_preset(envelope: &Envelope) -> Option<&str> {
    envelope.extensions.preset.as_deref().filter(|_| envelope.keeps_preset)
}

/// The key of a request's answer: who asks, what is asked, and which targets may answer when all is well. Names for the same targets
/// share answers; the order in which a strategy puts them does not matter, nor do the fallbacks.
pub(super) fn key(
    client: &ClientCtx,
    headers: &HeaderMap,
    plan: &Plan,
    asked: &[u8; 32],
    preset: Option<&str>,
) -> AnswerKey {
    let mut targets: Vec<_> = plan.targets.iter().filter(|(leg, _)| *leg == 0).map(|(_, target)| target).collect();
    targets.sort_by_key(|target| (&target.provider.id, &target.model.upstream));
    let mut hash = Sha256::new();
    let mut put = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    put(client.tenant.as_ref().map_or(&[], |tenant| tenant.as_bytes()));
    put(asked);
    // Two formats may have the same body, and never the same answer; Anthropic's has switches in its headers.
    put(client.dialect.name().as_bytes());
    put(client.record.route.as_bytes());
    for name in client.dialect.headers() {
        headers.get_all(*name).iter().for_each(|value| put(value.as_bytes()));
        put(&[]);
    }
    // What changes the answer although it is addressed to the gateway.
    put(&[u8::from(plan.require_parameters)]);
    put(&[u8::from(preset.is_some())]);
    put(preset.unwrap_or_default().as_bytes());
    for target in targets {
        // A reload may have moved a provider.
        let base = &target.provider.base;
        put(&[u8::from(base.tls)]);
        for text in [&*target.provider.id, base.authority(), &base.path, &*target.model.upstream] {
            put(text.as_bytes());
        }
    }
    hash.finalize().into()
}

pub(super) fn now_unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::snapshot::CacheBackend;
    use http::HeaderValue;
    use http::header::CACHE_CONTROL;

    const TTL: Duration = Duration::from_secs(300);

    /// What a request of these members and with this `cache-control` wants.
    fn wish(members: &str, control: &'static str) -> Option<Wish> {
        let cache = Cache {
            backend: CacheBackend::Memory,
            ttl: TTL,
            max_ttl: 4 * TTL,
            max_size: 1,
            max_bytes: 1,
            max_temperature: Some(0.7),
            semantic: None,
        };
        let body = format!(r#"{{"model":"m","messages":["x"]{members}}}"#);
        let temperature = asked(body.as_bytes(), false).unwrap().temperature;
        let mut headers = HeaderMap::new();
        headers.append(CACHE_CONTROL, HeaderValue::from_static(control));
        Wish::of(&cache, &Envelope::scan(body.into()).unwrap(), &headers, temperature)
    }

    #[test]
    fn a_request_says_whether_and_for_how_long() {
        let plain = Some(Wish { ttl: TTL, max_age: None });
        assert_eq!(wish("", ""), plain);
        assert_eq!(wish(r#","extra":{"cache":true}"#, ""), plain);
        assert_eq!(wish(r#","extra":{"cache":false}"#, ""), None);
        assert_eq!(wish(r#","extra":{"cache":{"ttl":0}}"#, ""), None);
        let ttl = Duration::from_secs(60);
        assert_eq!(wish(r#","extra":{"cache":{"ttl":"1m"}}"#, ""), Some(Wish { ttl, max_age: None }));
    }

    #[test]
    fn own_keys_and_hot_requests_are_left_out() {
        assert_eq!(wish(r#","extra":{"byok":"sk-x"}"#, ""), None);
        assert_eq!(wish(r#","temperature":0.8"#, ""), None);
        assert_eq!(wish(r#","temperature":0.8,"extra":{"cache":true}"#, ""), None);
        assert!(wish(r#","temperature":0.7"#, "").is_some());
    }

    #[test]
    fn cache_control_is_understood() {
        let max_age = |control| wish("", control).map(|wish| wish.max_age);
        let seconds = |seconds| Some(Some(Duration::from_secs(seconds)));
        assert_eq!(max_age("no-store"), None);
        assert_eq!(max_age("no-cache, No-Store"), None);
        assert_eq!(max_age("no-cache"), seconds(0));
        assert_eq!(max_age("max-age=0"), seconds(0));
        assert_eq!(max_age("no-transform, Max-Age=30"), seconds(30));
        assert_eq!(max_age("max-age=30, no-cache"), seconds(0));
        assert_eq!(max_age("no-cache, max-age=30"), seconds(0));
        assert_eq!(max_age("max-age=soon, only-if-cached"), Some(None));
    }
}
