//! Takes down what a client is answered, and keeps it when it is complete.

use super::core::Core;
use super::flights::Leader;
use super::semantic::{Found, Located};
use crate::domain::RequestRecord;
use crate::store::ports::answers::{AnswerKey, StoredAnswer};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// The record of an answer in the making, and what is to become of it. Dropped before the answer is complete, it keeps nothing, and
/// those who wait for it go on without it.
pub(super) struct Recorder {
    pub(super) core: Arc<Core>,
    pub(super) key: AnswerKey,
    /// How long the answer is kept.
    pub(super) ttl: Duration,
    /// What the request named in vain, which another one may not have named.
    pub(super) unused: Vec<String>,
    /// Where the question is kept, when questions are compared.
    pub(super) located: Option<Located>,
    /// The flight that others wait for.
    pub(super) leader: Option<Leader>,
    /// Another model than the one that was asked for is being tried.
    pub(super) is_fallback: bool,
    pub(super) tape: Tape,
}

impl Recorder {
    /// The answer is complete with this last piece, which nobody has seen yet: whoever has seen it and asks again finds it in the
    /// cache. What was `filtered` for its content is not kept.
    pub(super) async fn complete(mut self, last: &Bytes, filtered: bool, record: &RequestRecord, now_unix_ms: u64) {
        self.tape.take_down(last);
        let (leader, located) = (self.leader.take(), self.located.take());
        let is_fallback = self.is_fallback;
        let (core, key) = (self.core.clone(), self.key);
        match self.answer(record, now_unix_ms).filter(|_| !filtered) {
            Some(answer) => {
                if !is_fallback {
                    core.answers.put(key, answer.clone()).await;
                    if let Some(Located { place, vector }) = located {
                        let until =
                            now_unix_ms.saturating_add(u64::try_from(answer.ttl.as_millis()).unwrap_or(u64::MAX));
                        core.vectors.put(place, vector, key, until, now_unix_ms).await;
                    }
                }
                if let Some(leader) = leader {
                    leader.land(Found { answer, similarity: None });
                }
            }
            None => {
                if let Some(leader) = leader {
                    leader.alone();
                }
            }
        }
    }

    /// The answer failed or broke off.
    pub(super) fn fail(self) {
        if let Some(leader) = self.leader {
            leader.fail();
        }
    }

    fn answer(self, record: &RequestRecord, now_unix_ms: u64) -> Option<Arc<StoredAnswer>> {
        let (body, cuts) = self.tape.finish()?;
        Some(Arc::new(StoredAnswer {
            provider: record.provider.clone()?,
            model: record.model.clone()?,
            dropped: record.dropped.iter().filter(|name| !self.unused.contains(name)).cloned().collect(),
            body,
            cuts,
            stored_unix_ms: now_unix_ms,
            ttl: self.ttl,
        }))
    }
}

/// A copy of an answer, piece by piece. An answer of one piece shares it with the client's connection.
#[derive(Debug)]
pub(super) struct Tape {
    /// The first piece, while there is no other.
    only: Bytes,
    body: Vec<u8>,
    cuts: Vec<usize>,
    length: usize,
    /// The most that is kept; an answer beyond it is forgotten.
    most: usize,
    over: bool,
}

impl Tape {
    /// One for answers of up to so many bytes.
    pub(super) fn new(most: usize) -> Self {
        Self { only: Bytes::new(), body: Vec::new(), cuts: Vec::new(), length: 0, most, over: false }
    }

    /// Takes the next piece down.
    pub(super) fn take_down(&mut self, piece: &Bytes) {
        self.over |= piece.len() > self.most - self.length;
        if self.over {
            (self.only, self.body, self.cuts) = (Bytes::new(), Vec::new(), Vec::new());
            return;
        }
        if piece.is_empty() {
            return;
        }
        if self.length == 0 {
            self.only = piece.clone();
        } else {
            self.body.extend_from_slice(&std::mem::take(&mut self.only));
            self.body.extend_from_slice(piece);
            self.cuts.push(self.length);
        }
        self.length += piece.len();
    }

    /// The whole answer and where its pieces were cut; `None` when it was too large or there was none.
    fn finish(mut self) -> Option<(Bytes, Vec<usize>)> {
        self.body.shrink_to_fit();
        self.cuts.shrink_to_fit();
        let body = if self.cuts.is_empty() { self.only } else { self.body.into() };
        (!self.over && self.length > 0).then_some((body, self.cuts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_pieces_up_to_its_bound_and_nothing_of_a_larger_answer() {
        let taken = |pieces: &[&'static [u8]]| {
            let mut tape = Tape::new(5);
            pieces.iter().for_each(|piece| tape.take_down(&Bytes::from_static(piece)));
            tape.finish()
        };
        assert_eq!(taken(&[b"ab", b"", b"c", b"de"]), Some((Bytes::from_static(b"abcde"), vec![2, 3])));
        assert_eq!(taken(&[b"", b"abcde"]), Some((Bytes::from_static(b"abcde"), Vec::new())));
        assert_eq!(taken(&[b"ab", b"cdef", b"g"]), None);
        assert_eq!(taken(&[b"abcdef"]), None);
        assert_eq!(Tape::new(5).finish(), None);
    }
}
