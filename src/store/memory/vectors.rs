//! The index of the semantic cache in the memory of a node, be it of its own questions or, followed by `store::redis`, of all nodes'.
//!
//! It looks at every question of the place. What may be compared at all must agree in everything but one text, so places are small; 10,000
//! questions of 1,536 dimensions in one place, which is the worst that the default bound allows, take about 3 ms, against the tens or hundreds
//! that the embedding took. An approximate index would lose some of the near ones, and cost more to keep than it saves here.

use crate::store::ports::answers::AnswerKey;
use crate::store::ports::vectors::{Near, Place, Vector, Vectors};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// So many are looked at before others get their turn: at 1,536 dimensions some 0.15 ms.
const AT_ONCE: usize = 512;

/// The index.
pub struct MemoryVectors(Mutex<Index>);

impl MemoryVectors {
    /// An empty one for so many questions.
    pub fn new(max_entries: u32) -> Self {
        Self(Mutex::new(Index::new(max_entries as usize)))
    }

    /// Forgets all questions. Searches that are under way end with what they found.
    pub fn forget_all(&self) {
        let index = &mut *self.0.lock();
        *index = Index { puts: index.puts, ..Index::new(index.most) };
    }

    /// Forgets a question. Returns its vector, and until when it would have been kept (Unix time in milliseconds).
    pub fn take(&self, place: &Place, key: &AnswerKey) -> Option<(Vector, u64)> {
        let mut index = self.0.lock();
        let taken = index.find(place, key).map(|entry| (entry.vector.clone(), entry.age.0));
        index.forget(place, key);
        taken
    }
}

#[async_trait]
impl Vectors for MemoryVectors {
    async fn nearest(&self, place: &Place, vector: &Vector, now_unix_ms: u64) -> Option<Near> {
        // The list is shared, so nobody waits for the lock while it is searched.
        let list = self.0.lock().list(place)?;
        let mut best = None;
        for (turn, part) in list.chunks(AT_ONCE).enumerate() {
            if turn > 0 {
                tokio::task::yield_now().await;
            }
            best = nearer(best, nearest(part, vector, now_unix_ms));
        }
        best
    }

    async fn put(&self, place: Place, vector: Vector, key: AnswerKey, until_unix_ms: u64, now_unix_ms: u64) {
        self.0.lock().put(place, vector, key, until_unix_ms, now_unix_ms);
    }

    async fn forget(&self, place: &Place, key: &AnswerKey) {
        self.0.lock().forget(place, key);
    }

    async fn clear(&self) -> bool {
        self.forget_all();
        true
    }

    fn held(&self) -> u64 {
        self.0.lock().entries as u64
    }
}

#[derive(Clone, Debug)]
struct Entry {
    vector: Vector,
    key: AnswerKey,
    age: Age,
}

/// What goes first: the question whose time is over first; of several, the one that came first.
type Age = (u64, u64);

/// All questions. When it is full, the owner that has most gives one up, so that no tenant pushes out the others.
#[derive(Debug)]
struct Index {
    owners: HashMap<[u8; 32], Owner>,
    entries: usize,
    most: usize,
    /// Counts what was put.
    puts: u64,
}

#[derive(Debug, Default)]
struct Owner {
    lists: HashMap<[u8; 32], Arc<Vec<Entry>>>,
    by_age: BTreeMap<Age, ([u8; 32], AnswerKey)>,
}

impl Index {
    fn new(most: usize) -> Self {
        Self { owners: HashMap::new(), entries: 0, most, puts: 0 }
    }

    fn list(&self, place: &Place) -> Option<Arc<Vec<Entry>>> {
        self.owners.get(&place.owner)?.lists.get(&place.scope).cloned()
    }

    fn put(&mut self, place: Place, vector: Vector, key: AnswerKey, until_unix_ms: u64, now_unix_ms: u64) {
        self.forget(&place, &key);
        if self.entries >= self.most {
            self.drop_expired(now_unix_ms);
        }
        while self.entries >= self.most {
            if !self.drop_one() {
                return;
            }
        }
        self.puts += 1;
        let age = (until_unix_ms, self.puts);
        let owner = self.owners.entry(place.owner).or_default();
        owner.by_age.insert(age, (place.scope, key));
        Arc::make_mut(owner.lists.entry(place.scope).or_default()).push(Entry { vector, key, age });
        self.entries += 1;
    }

    fn find(&self, place: &Place, key: &AnswerKey) -> Option<&Entry> {
        self.owners.get(&place.owner)?.lists.get(&place.scope)?.iter().find(|entry| entry.key == *key)
    }

    fn forget(&mut self, place: &Place, key: &AnswerKey) {
        let age = self.find(place, key).map(|entry| entry.age);
        if let Some((age, owner)) = age.zip(self.owners.get_mut(&place.owner)) {
            self.entries -= owner.remove(age);
            if owner.by_age.is_empty() {
                self.owners.remove(&place.owner);
            }
        }
    }

    fn drop_expired(&mut self, now_unix_ms: u64) {
        let entries = &mut self.entries;
        self.owners.retain(|_, owner| {
            while let Some((age, _)) = owner.by_age.first_key_value().filter(|((until, _), _)| *until <= now_unix_ms) {
                let age = *age;
                *entries -= owner.remove(age);
            }
            !owner.by_age.is_empty()
        });
    }

    /// Drops the first to go of the owner that has most; of several such owners the one whose turn comes first.
    fn drop_one(&mut self) -> bool {
        let fullest = self.owners.iter().max_by_key(|(_, owner)| {
            let first = owner.by_age.first_key_value().map(|(age, _)| *age);
            (owner.by_age.len(), Reverse(first))
        });
        let first = fullest.and_then(|(id, owner)| {
            let (_, (scope, key)) = owner.by_age.first_key_value()?;
            Some((Place { owner: *id, scope: *scope }, *key))
        });
        let Some((place, key)) = first else { return false };
        self.forget(&place, &key);
        true
    }
}

impl Owner {
    /// Takes out what has this age; says how many that were.
    fn remove(&mut self, age: Age) -> usize {
        let Some((scope, _)) = self.by_age.remove(&age) else { return 0 };
        if let Some(list) = self.lists.get_mut(&scope) {
            // Copied only while somebody searches it.
            let entries = Arc::make_mut(list);
            if let Some(at) = entries.iter().position(|entry| entry.age == age) {
                entries.swap_remove(at);
            }
            if entries.is_empty() {
                self.lists.remove(&scope);
            }
        }
        1
    }
}

fn nearest(entries: &[Entry], vector: &Vector, now_unix_ms: u64) -> Option<Near> {
    let living = entries.iter().filter(|entry| entry.age.0 > now_unix_ms);
    let found = living.filter_map(|entry| Some(Near { key: entry.key, similarity: entry.vector.similarity(vector)? }));
    found.fold(None, |best, near| nearer(best, Some(near)))
}

fn nearer(one: Option<Near>, other: Option<Near>) -> Option<Near> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if other.similarity > one.similarity { other } else { one }),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
#[path = "vectors_tests.rs"]
mod tests;
