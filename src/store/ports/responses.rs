//! Answers in the form of Responses that are kept for a while, so that a client can go on from one by its id; and of those that their
//! providers keep, which provider that is.

use crate::domain::KeyId;
use crate::domain::usage::ResponseEnd;
use async_trait::async_trait;
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A response that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The response object, as JSON.
    pub response: Bytes,
    /// The whole conversation up to it, its own output included: input items as JSON, with commas between them and no brackets.
    pub items: Bytes,
}

impl Kept {
    /// What it takes of the store's room, in bytes.
    pub fn size(&self) -> usize {
        self.response.len() + self.items.len()
    }
}

/// Where a response is that its provider keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The provider's id.
    pub provider: Arc<str>,
    /// The model at the provider.
    pub model: Arc<str>,
    /// The key that it was asked for with: others of the same provider may belong to another account. `None` where none is needed.
    pub key: Option<KeyId>,
    /// What is still to be booked of it; `None` where its bill is known.
    pub debt: Option<Debt>,
}

/// A response that went on after its request, and is booked at the most that it can cost until somebody hears how it has ended.
pub trait Owed: fmt::Debug + Send + Sync {
    /// Takes note that a client has seen so many bytes of its output, by one look at it.
    fn delivered(&self, output_bytes: u64);

    /// Books what it has used in the place of the most that it could. Said again, it does nothing.
    fn ended(&self, end: &ResponseEnd);
}

/// What is still to be booked of a response. Copies are the same one.
#[derive(Clone, Debug)]
pub struct Debt(pub Arc<dyn Owed>);

impl PartialEq for Debt {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Debt {}

/// A response that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// It is here.
    Here(Kept),
    /// Its provider keeps it.
    There(Owner),
}

impl Known {
    /// What it takes of the store's room, in bytes.
    pub fn size(&self) -> usize {
        /// About what a place in the store takes beside the response itself.
        const PLACE: usize = 128;
        /// About what a debt takes: a row of the ledger, mostly.
        const DEBT: usize = 3072;
        match self {
            Self::Here(kept) => kept.size(),
            Self::There(owner) => PLACE + owner.model.len() + owner.debt.as_ref().map_or(0, |_| DEBT),
        }
    }
}

/// How much is kept, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// How long a response is kept.
    pub ttl: Duration,
    /// How many, of all tenants together.
    pub max_entries: usize,
    /// How many bytes, of all tenants together.
    pub max_bytes: usize,
}

/// The responses that are kept. A tenant (the holder of a gateway key) sees its own alone.
#[async_trait]
pub trait ResponseStore: Send + Sync {
    /// Keeps what is known of a response. What does not fit pushes out older ones, first of whoever has the most; one larger than the whole room is not
    /// kept.
    async fn put(&self, tenant: &str, id: &str, known: Known, bounds: Bounds, now: Instant);

    /// What is known of a response of this tenant, while it lasts.
    async fn get(&self, tenant: &str, id: &str, now: Instant) -> Option<Known>;

    /// Whether another tenant has a response of this id.
    async fn is_anothers(&self, tenant: &str, id: &str, now: Instant) -> bool;

    /// Forgets a response; `false` when this tenant has none of that id.
    async fn delete(&self, tenant: &str, id: &str, now: Instant) -> bool;
}
