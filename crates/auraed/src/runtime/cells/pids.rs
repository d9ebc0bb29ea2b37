//! The numbers of a zone's processes, as the zone and as this daemon has them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Of the processes that a zone has started, so many are known by number; the oldest is forgotten
/// first.
const MAX_PIDS: usize = 1024;

/// From this daemon's numbers to the zone's. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Pids {
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    inside: BTreeMap<i32, i32>,
    order: VecDeque<i32>,
}

impl Pids {
    pub(super) fn learn(&self, inside: i32, outside: i32) {
        let mut known = self.lock();
        if known.inside.insert(outside, inside).is_some() {
            known.order.retain(|other| *other != outside);
        }
        known.order.push_back(outside);
        while known.order.len() > MAX_PIDS {
            if let Some(oldest) = known.order.pop_front() {
                known.inside.remove(&oldest);
            }
        }
    }

    /// The zone's number for this daemon's `outside`, if it is known.
    pub(super) fn inside(&self, outside: i32) -> Option<i32> {
        self.lock().inside.get(&outside).copied()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
