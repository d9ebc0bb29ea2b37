//! The numbers of a zone's processes, as the zone and as this daemon has them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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
    inside: BTreeMap<i32, Inside>,
    order: VecDeque<i32>,
}

/// A process as its zone has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inside {
    /// When it was numbered, since the machine was started. The kernel gives a number again: of those
    /// that had it, in whichever zone, the one that got it last is meant.
    pub(super) since: Duration,
    /// Its number there.
    pub(super) pid: i32,
}

impl Pids {
    /// Takes up that this daemon's `outside` is a process of the zone, unless a later one is known to be.
    pub(super) fn learn(&self, outside: i32, inside: Inside) {
        let mut known = self.lock();
        match known.inside.get(&outside) {
            Some(later) if later.since > inside.since => return,
            Some(_) => known.order.retain(|other| *other != outside),
            None => {}
        }
        known.inside.insert(outside, inside);
        known.order.push_back(outside);
        while known.order.len() > MAX_PIDS {
            if let Some(oldest) = known.order.pop_front() {
                known.inside.remove(&oldest);
            }
        }
    }

    /// The zone's process that got this daemon's `outside` last, if any did.
    pub(super) fn inside(&self, outside: i32) -> Option<Inside> {
        self.lock().inside.get(&outside).copied()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, pid: i32) -> Inside {
        Inside { since: Duration::from_secs(seconds), pid }
    }

    #[test]
    fn of_those_that_had_a_number_the_last_is_meant_in_whatever_order_they_are_told() {
        let pids = Pids::default();
        pids.learn(500, at(2, 7));
        pids.learn(500, at(1, 3));
        assert_eq!(pids.inside(500), Some(at(2, 7)));
        pids.learn(500, at(3, 9));
        assert_eq!(pids.inside(500), Some(at(3, 9)));
        assert_eq!(pids.inside(501), None);
    }

    #[test]
    fn the_oldest_is_forgotten_beyond_the_bound() {
        let pids = Pids::default();
        for (outside, seconds) in (0..=MAX_PIDS).zip(0..) {
            pids.learn(i32::try_from(outside).unwrap(), at(seconds, 1));
        }
        assert_eq!(pids.inside(0), None);
        assert!(pids.inside(1).is_some());
    }
}
