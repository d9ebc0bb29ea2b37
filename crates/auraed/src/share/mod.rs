//! What one principal may take of the daemon: connections, calls, calls a second, memory for what it sends,
//! and turns.
//!
//! ```text
//! handshake done ─ admit ─▶ Guest ── its connection, with its calls, runs in the share's lane
//! call           ─ enter ─▶ Call     or RESOURCE_EXHAUSTED
//! ```
//!
//! A share is there while somebody uses it, and until its buckets are full again: who connects anew does not
//! get a new one.

mod bucket;
mod calls;
mod lane;
mod memory;

pub use bucket::Bucket;
pub use calls::{Started, WithCalls};
pub use lane::{InLane, Lane};
pub use memory::{Held, Memory};

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aurae_authz::Principal;

use crate::audit::Tally;
use crate::server::{
    MAX_CALLS_PER_PRINCIPAL, MAX_CONNECTIONS_PER_PRINCIPAL, MAX_REQUEST_BYTES,
    MAX_REQUEST_BYTES_PER_PRINCIPAL,
};
use memory::Account;

/// Shares are looked through when there are twice as many as were left the last time, and at least this
/// many.
const SWEEP: usize = 64;

/// A principal has all the connections that it may have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{principal} has {MAX_CONNECTIONS_PER_PRINCIPAL} connections already")]
pub struct TooManyConnections {
    principal: Principal,
}

/// A principal asks for more than its share.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exceeded {
    /// Too much at once.
    #[error("{MAX_CALLS_PER_PRINCIPAL} calls of yours are open; end some")]
    Calls,
    /// Too much in a second.
    #[error("you made more than {per_second} calls in a second")]
    Rate {
        /// The bound.
        per_second: u32,
        /// When one more is taken.
        pause: Duration,
    },
    /// Too much of what it sends is not whole yet.
    #[error("requests of yours that are not whole yet have {0} bytes already; send fewer at once")]
    Memory(usize),
    /// Too much of what all send is not whole yet.
    #[error("requests of all callers that are not whole yet have {0} bytes already; try again")]
    AllMemory(usize),
}

impl Exceeded {
    /// How long to wait before asking again.
    #[must_use]
    pub fn pause(&self) -> Duration {
        /// A call ends, or does not; asking more often would not help.
        const CALLS: Duration = Duration::from_secs(1);
        match self {
            Self::Calls | Self::Memory(_) | Self::AllMemory(_) => CALLS,
            // In whole milliseconds, and not before.
            Self::Rate { pause, .. } => *pause + Duration::from_millis(1),
        }
    }
}

/// The shares of all principals. Clones are the same.
#[derive(Clone, Debug)]
pub struct Shares {
    table: Arc<Mutex<Table>>,
    places: usize,
    per_second: u32,
    /// What the requests of all may hold.
    memory: Arc<Account>,
}

#[derive(Debug)]
struct Table {
    of: HashMap<Principal, Arc<Share>>,
    sweep_at: usize,
}

/// What a principal has.
#[derive(Debug)]
struct Share {
    lane: Lane,
    connections: AtomicUsize,
    calls: AtomicUsize,
    per_second: u32,
    bucket: Bucket,
    memory: Memory,
    tally: Arc<Tally>,
}

impl Shares {
    /// Lanes of so many places, and so many calls a second.
    #[must_use]
    pub fn new(places: usize, per_second: u32) -> Self {
        let table = Table { of: HashMap::new(), sweep_at: SWEEP };
        let memory = Account::new(MAX_REQUEST_BYTES);
        Self { table: Arc::new(Mutex::new(table)), places, per_second, memory }
    }

    /// One more connection of a principal.
    ///
    /// # Errors
    /// It has too many.
    pub fn admit(&self, principal: &Principal) -> Result<Guest, TooManyConnections> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.sweep();
        let share = table.of.entry(principal.clone()).or_insert_with(|| {
            Arc::new(Share {
                lane: Lane::new(self.places),
                connections: AtomicUsize::new(0),
                calls: AtomicUsize::new(0),
                per_second: self.per_second,
                bucket: Bucket::new(self.per_second),
                memory: Memory::of(MAX_REQUEST_BYTES_PER_PRINCIPAL, &self.memory),
                tally: Arc::default(),
            })
        });
        match add(&share.connections, MAX_CONNECTIONS_PER_PRINCIPAL) {
            true => Ok(Guest { share: Arc::clone(share) }),
            false => Err(TooManyConnections { principal: principal.clone() }),
        }
    }
}

impl Table {
    fn sweep(&mut self) {
        if self.of.len() < self.sweep_at {
            return;
        }
        let now = Instant::now();
        let is_idle = |share: &Share| share.bucket.is_full(now) && share.tally.is_idle(now);
        self.of.retain(|_, share| Arc::strong_count(share) > 1 || !is_idle(share));
        self.sweep_at = SWEEP.max(2 * self.of.len());
    }
}

/// Counts one more, if that is within the bound.
fn add(count: &AtomicUsize, bound: usize) -> bool {
    let more = |count| (count < bound).then_some(count + 1);
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
}

/// A connection of a principal, and its share.
#[derive(Debug)]
pub struct Guest {
    share: Arc<Share>,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.share.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Guest {
    /// The principal's lane.
    #[must_use]
    pub fn lane(&self) -> &Lane {
        &self.share.lane
    }

    /// What the principal's requests may hold.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.share.memory
    }

    /// What the principal fills of the audit log.
    #[must_use]
    pub fn tally(&self) -> &Arc<Tally> {
        &self.share.tally
    }

    /// Counts a call, until what is answered is dropped.
    ///
    /// # Errors
    /// The principal makes too many.
    pub fn enter(&self) -> Result<Call, Exceeded> {
        let share = &self.share;
        let per_second = share.per_second;
        let now = Instant::now();
        share.bucket.take(now).map_err(|pause| Exceeded::Rate { per_second, pause })?;
        match add(&share.calls, MAX_CALLS_PER_PRINCIPAL) {
            true => Ok(Call { share: Arc::clone(share) }),
            false => Err(Exceeded::Calls),
        }
    }
}

/// A call that is open.
#[derive(Debug)]
pub struct Call {
    share: Arc<Share>,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.share.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alice() -> Principal {
        Principal::common_name("alice")
    }

    #[test]
    fn a_principal_has_so_many_connections_and_another_as_many() {
        let shares = Shares::new(1, 1000);
        let guests: Vec<_> =
            (0..MAX_CONNECTIONS_PER_PRINCIPAL).map(|_| shares.admit(&alice()).unwrap()).collect();
        assert!(shares.admit(&alice()).is_err());
        assert!(shares.admit(&Principal::common_name("bob")).is_ok());
        drop(guests);
        assert!(shares.admit(&alice()).is_ok());
    }

    #[test]
    fn calls_at_once_are_bounded_over_all_connections() {
        let shares = Shares::new(1, u32::MAX);
        let guests = [shares.admit(&alice()).unwrap(), shares.admit(&alice()).unwrap()];
        let calls: Vec<_> =
            (0..MAX_CALLS_PER_PRINCIPAL).map(|call| guests[call % 2].enter().unwrap()).collect();
        assert_eq!(guests[0].enter().unwrap_err(), Exceeded::Calls);
        drop(calls);
        assert!(guests[0].enter().is_ok());
    }

    #[test]
    fn who_connects_anew_does_not_get_a_new_bucket() {
        let shares = Shares::new(1, 3);
        let guest = shares.admit(&alice()).unwrap();
        assert!((0..3).all(|_| guest.enter().is_ok()));
        drop(guest);
        let refused = shares.admit(&alice()).unwrap().enter().unwrap_err();
        assert!(matches!(refused, Exceeded::Rate { per_second: 3, .. }), "{refused}");
        assert!(refused.pause() > Duration::ZERO);
    }

    #[test]
    fn shares_that_nobody_uses_are_forgotten() {
        let shares = Shares::new(1, u32::MAX);
        for number in 0..10 * SWEEP {
            let guest = shares.admit(&Principal::common_name(&number.to_string())).unwrap();
            drop(guest.enter());
        }
        let left = shares.table.lock().unwrap().of.len();
        assert!(left <= SWEEP + 1, "{left}");
    }
}
