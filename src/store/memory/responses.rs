//! The responses of one node, in memory, bounded by age, number and bytes.
//!
//! Each tenant has a queue in the order of age. When there is no room, the oldest response of the tenant with the most bytes goes: nobody
//! can push out the others' by keeping more than they do.

use crate::store::ports::responses::{Bounds, Known, ResponseStore};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::time::Instant;

/// So many places may stand in a queue for nothing.
const SPARE_PLACES: usize = 16;

/// The responses of one node.
#[derive(Debug, Default)]
pub struct MemoryResponses {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    tenants: HashMap<String, Tenant>,
    entries: usize,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Tenant {
    by_id: HashMap<String, Entry>,
    /// Ids in the order in which they came, each with its number: an id that was deleted and came again stands here twice.
    order: VecDeque<(String, u64)>,
    bytes: usize,
    next: u64,
}

#[derive(Debug)]
struct Entry {
    known: Known,
    number: u64,
    until: Instant,
}

impl Tenant {
    fn remove(&mut self, id: &str) -> Option<usize> {
        let size = self.by_id.remove(id)?.known.size();
        self.bytes -= size;
        // One that stays at the front must not keep the places of all that have gone behind it.
        if self.order.len() > 2 * self.by_id.len() + SPARE_PLACES {
            self.order.retain(|(id, number)| self.by_id.get(id).is_some_and(|entry| entry.number == *number));
        }
        Some(size)
    }

    /// The id of the oldest response; forgets places whose response has gone.
    fn oldest(&mut self) -> Option<String> {
        while let Some((id, number)) = self.order.front() {
            if self.by_id.get(id).is_some_and(|entry| entry.number == *number) {
                return Some(id.clone());
            }
            self.order.pop_front();
        }
        None
    }
}

impl State {
    fn remove(&mut self, tenant: &str, id: &str) -> bool {
        let Some(owner) = self.tenants.get_mut(tenant) else { return false };
        let Some(size) = owner.remove(id) else { return false };
        if owner.by_id.is_empty() {
            self.tenants.remove(tenant);
        }
        self.entries -= 1;
        self.bytes -= size;
        true
    }

    fn drop_expired(&mut self, now: Instant) {
        let names: Vec<String> = self.tenants.keys().cloned().collect();
        for name in names {
            while let Some(id) = self.tenants.get_mut(&name).and_then(Tenant::oldest) {
                let expired = |tenant: &Tenant| tenant.by_id.get(&id).is_some_and(|entry| entry.until <= now);
                if !self.tenants.get(&name).is_some_and(expired) {
                    break;
                }
                self.remove(&name, &id);
            }
        }
    }

    /// Forgets the oldest response of whoever has the most: by number, or by bytes.
    fn drop_one(&mut self, by_number: bool) -> bool {
        let size = |tenant: &Tenant| if by_number { tenant.by_id.len() } else { tenant.bytes };
        let Some(name) = self.tenants.iter().max_by_key(|(_, tenant)| size(tenant)).map(|(name, _)| name.clone())
        else {
            return false;
        };
        let oldest = self.tenants.get_mut(&name).and_then(Tenant::oldest);
        oldest.is_some_and(|id| self.remove(&name, &id))
    }

    fn put(&mut self, tenant: &str, id: &str, known: Known, bounds: Bounds, now: Instant) {
        let size = known.size();
        self.remove(tenant, id);
        self.drop_expired(now);
        if size > bounds.max_bytes || bounds.max_entries == 0 || bounds.ttl.is_zero() {
            return;
        }
        loop {
            let are_many = self.entries + 1 > bounds.max_entries;
            if !are_many && self.bytes + size <= bounds.max_bytes {
                break;
            }
            if !self.drop_one(are_many) {
                return;
            }
        }
        let owner = self.tenants.entry(tenant.to_owned()).or_default();
        let number = owner.next;
        owner.next += 1;
        owner.bytes += size;
        owner.order.push_back((id.to_owned(), number));
        owner.by_id.insert(id.to_owned(), Entry { known, number, until: now + bounds.ttl });
        self.entries += 1;
        self.bytes += size;
    }
}

#[async_trait]
impl ResponseStore for MemoryResponses {
    async fn put(&self, tenant: &str, id: &str, known: Known, bounds: Bounds, now: Instant) {
        self.state.lock().put(tenant, id, known, bounds, now);
    }

    async fn get(&self, tenant: &str, id: &str, now: Instant) -> Option<Known> {
        let state = self.state.lock();
        let entry = state.tenants.get(tenant)?.by_id.get(id)?;
        (entry.until > now).then(|| entry.known.clone())
    }

    async fn is_anothers(&self, tenant: &str, id: &str, now: Instant) -> bool {
        let state = self.state.lock();
        let mut others = state.tenants.iter().filter(|(name, _)| *name != tenant);
        others.any(|(_, of)| of.by_id.get(id).is_some_and(|entry| entry.until > now))
    }

    async fn delete(&self, tenant: &str, id: &str, now: Instant) -> bool {
        let mut state = self.state.lock();
        state.drop_expired(now);
        state.remove(tenant, id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ports::responses::Kept;
    use bytes::Bytes;
    use proptest::prelude::*;
    use std::time::Duration;

    const BOUNDS: Bounds = Bounds { ttl: Duration::from_secs(60), max_entries: 4, max_bytes: 100 };

    fn kept(size: usize) -> Known {
        Known::Here(Kept { response: Bytes::from(vec![b'r'; size]), items: Bytes::new() })
    }

    fn has(state: &State, tenant: &str, id: &str) -> bool {
        state.tenants.get(tenant).is_some_and(|tenant| tenant.by_id.contains_key(id))
    }

    #[tokio::test]
    async fn a_tenant_sees_its_own_alone_and_for_a_while() {
        let (store, now) = (MemoryResponses::default(), Instant::now());
        store.put("a", "1", kept(10), BOUNDS, now).await;
        assert_eq!(store.get("a", "1", now).await, Some(kept(10)));
        assert_eq!(store.get("b", "1", now).await, None);
        assert!(!store.delete("b", "1", now).await);
        let just = now + Duration::from_millis(59_999);
        assert!(store.get("a", "1", just).await.is_some());
        assert_eq!(store.get("a", "1", now + BOUNDS.ttl).await, None);
        assert!(store.delete("a", "1", just).await);
        assert_eq!(store.get("a", "1", now).await, None);
        store.put("a", "1", kept(1), BOUNDS, now).await;
        assert!(!store.delete("a", "1", now + BOUNDS.ttl).await);
        assert!(store.state.lock().tenants.is_empty());
    }

    #[test]
    fn who_keeps_the_most_gives_way() {
        let (mut state, now) = (State::default(), Instant::now());
        state.put("small", "s", kept(10), BOUNDS, now);
        for id in ["1", "2", "3", "4", "5"] {
            state.put("large", id, kept(20), BOUNDS, now);
        }
        assert!(has(&state, "small", "s"));
        assert!(!has(&state, "large", "1") && !has(&state, "large", "2") && has(&state, "large", "5"));
        state.put("large", "6", kept(101), BOUNDS, now);
        assert!(!has(&state, "large", "6") && has(&state, "large", "5"));
    }

    #[test]
    fn what_is_deleted_takes_no_place() {
        let (mut state, now) = (State::default(), Instant::now());
        state.put("a", "stays", kept(1), BOUNDS, now);
        for number in 0..1000 {
            let id = number.to_string();
            state.put("a", &id, kept(1), BOUNDS, now);
            state.remove("a", &id);
        }
        assert!(state.tenants["a"].order.len() < 50 && has(&state, "a", "stays"));
        assert_eq!(state.tenants.get_mut("a").unwrap().oldest().as_deref(), Some("stays"));
    }

    proptest! {
        #[test]
        fn the_bounds_hold_and_the_sums_are_right(
            steps in prop::collection::vec((0u8..3, 0u8..4, 0usize..60, prop::bool::ANY, 0u64..40), 0..80)
        ) {
            let (mut state, mut now) = (State::default(), Instant::now());
            for (tenant, id, size, delete, later) in steps {
                now += Duration::from_secs(later);
                let (tenant, id) = (tenant.to_string(), id.to_string());
                if delete {
                    state.remove(&tenant, &id);
                } else {
                    state.put(&tenant, &id, kept(size), BOUNDS, now);
                    prop_assert!(has(&state, &tenant, &id));
                }
                let all = || state.tenants.values().flat_map(|tenant| tenant.by_id.values());
                prop_assert_eq!(state.bytes, all().map(|entry| entry.known.size()).sum::<usize>());
                prop_assert_eq!(state.entries, all().count());
                prop_assert!(state.entries <= BOUNDS.max_entries && state.bytes <= BOUNDS.max_bytes);
            }
        }
    }
}
