//! The names of this node, and what is still reserved under each.
//!
//! ```text
//!   next ──> current ── connection lost, or taken for gone ──> former ── nothing is held under it ──> gone
//! ```
//!
//! A former name lives on while requests run that were let pass under it: otherwise their places would be given out a second time.

use super::link::Link;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The names of one process: `<process>.<number>`, so that all of them count as one node.
pub(super) struct Names {
    process: String,
    number: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// How many leases, or questions for one, are out under each name.
    held: HashMap<Arc<str>, u64>,
    /// Names that are not used any more, and that Redis may still know.
    former: Vec<Arc<str>>,
}

impl Names {
    pub(super) fn new() -> Self {
        let process = format!("{:016x}", fastrand::u64(..));
        Self { process, number: AtomicU64::new(0), inner: Mutex::default() }
    }

    /// What this process is called, whatever its connection.
    pub(super) fn process(&self) -> &str {
        &self.process
    }

    /// A name that no node has or had.
    pub(super) fn next(&self) -> Arc<str> {
        format!("{}.{:x}", self.process, self.number.fetch_add(1, Ordering::Relaxed)).into()
    }

    /// A name is used no more.
    pub(super) fn retire(&self, name: &Arc<str>) {
        let mut inner = self.inner.lock();
        if !inner.former.contains(name) {
            inner.former.push(name.clone());
        }
    }

    /// Besides the current one, the names that live on, and those that nothing is held under any more.
    pub(super) fn former(&self, current: &str) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
        let inner = self.inner.lock();
        let kept = inner.held.keys().filter(|name| &***name != current).cloned().collect();
        let gone = inner.former.iter().filter(|name| !inner.held.contains_key(*name)).cloned().collect();
        (kept, gone)
    }

    /// Redis has been told that these are gone.
    pub(super) fn forget(&self, gone: &[Arc<str>]) {
        self.inner.lock().former.retain(|name| !gone.contains(name));
    }

    fn hold(&self, name: &Arc<str>) {
        *self.inner.lock().held.entry(name.clone()).or_default() += 1;
    }

    fn release(&self, name: &str) {
        let mut inner = self.inner.lock();
        if let Some(count) = inner.held.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                inner.held.remove(name);
            }
        }
    }
}

/// Keeps a name alive.
pub(super) struct Held {
    link: Arc<Link>,
    name: Arc<str>,
}

impl Held {
    pub(super) fn new(link: Arc<Link>, name: Arc<str>) -> Self {
        link.names().hold(&name);
        Self { link, name }
    }

    /// The name is kept alive from now on by whoever has it, until [`Held::taken_back`].
    pub(super) fn lent(&self) -> Arc<str> {
        self.link.names().hold(&self.name);
        self.name.clone()
    }

    pub(super) const fn taken_back(link: Arc<Link>, name: Arc<str>) -> Self {
        Self { link, name }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.link.names().release(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_former_name_lives_until_nothing_is_held_under_it() {
        let names = Names::new();
        let (first, second) = (names.next(), names.next());
        assert_ne!(first, second);
        names.hold(&first);
        names.hold(&first);
        assert_eq!(names.former(&first), (vec![], vec![]));
        names.retire(&first);
        names.hold(&second);
        assert_eq!(names.former(&second), (vec![first.clone()], vec![]));
        names.release(&first);
        assert_eq!(names.former(&second), (vec![first.clone()], vec![]));
        names.release(&first);
        assert_eq!(names.former(&second), (vec![], vec![first.clone()]));
        names.forget(&[first]);
        assert_eq!(names.former(&second), (vec![], vec![]));
    }
}
