//! The memory that requests take while they come: bytes that were read of them and nobody has used yet.
//!
//! ```text
//! a request that is not whole yet ─ Held ─▶ what its principal may hold ─▶ what all may hold
//!                                    └─ dropped with what it counts
//! ```
//!
//! HTTP/2's flow control does not bound this: what was read makes room for more. Nobody waits for room, so
//! nothing can wait for itself: a request that does not fit is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Exceeded;

/// What one principal may hold, and all together. Clones are the same.
#[derive(Clone, Debug)]
pub struct Memory {
    own: Arc<Account>,
    /// `None` where there is one account only.
    all: Option<Arc<Account>>,
}

#[derive(Debug)]
pub(super) struct Account {
    held: AtomicUsize,
    bound: usize,
}

impl Account {
    pub(super) fn new(bound: usize) -> Arc<Self> {
        Arc::new(Self { held: AtomicUsize::new(0), bound })
    }

    /// Counts so many bytes more, if they are within the bound.
    fn add(&self, bytes: usize) -> bool {
        let more = |held: usize| held.checked_add(bytes).filter(|held| *held <= self.bound);
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn sub(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Memory {
    /// So many bytes, of nobody else's.
    #[must_use]
    pub fn new(bound: usize) -> Self {
        Self { own: Account::new(bound), all: None }
    }

    /// So many bytes, of those that all have.
    pub(super) fn of(bound: usize, all: &Arc<Account>) -> Self {
        Self { own: Account::new(bound), all: Some(Arc::clone(all)) }
    }

    /// How many bytes are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.own.held.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: usize) -> Result<(), Exceeded> {
        if !self.own.add(bytes) {
            return Err(Exceeded::Memory(self.own.bound));
        }
        match &self.all {
            Some(all) if !all.add(bytes) => {
                self.own.sub(bytes);
                Err(Exceeded::AllMemory(all.bound))
            }
            _ => Ok(()),
        }
    }

    fn sub(&self, bytes: usize) {
        self.own.sub(bytes);
        if let Some(all) = &self.all {
            all.sub(bytes);
        }
    }
}

/// The bytes that one request holds. Dropped, it holds none.
#[derive(Debug)]
pub struct Held {
    memory: Memory,
    bytes: usize,
}

impl Held {
    /// None yet.
    #[must_use]
    pub fn of(memory: &Memory) -> Self {
        Self { memory: memory.clone(), bytes: 0 }
    }

    /// So many bytes from now on.
    ///
    /// # Errors
    /// They are too many; it holds what it held.
    pub fn set(&mut self, bytes: usize) -> Result<(), Exceeded> {
        match bytes.checked_sub(self.bytes) {
            Some(0) => {}
            Some(more) => self.memory.add(more)?,
            None => self.memory.sub(self.bytes - bytes),
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.memory.sub(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_holds_what_it_says_until_it_is_dropped() {
        let memory = Memory::new(10);
        let mut held = Held::of(&memory);
        held.set(7).unwrap();
        held.set(10).unwrap();
        assert_eq!(held.set(11), Err(Exceeded::Memory(10)));
        held.set(4).unwrap();
        assert_eq!(memory.held(), 4);
        let mut other = Held::of(&memory);
        assert_eq!(other.set(7), Err(Exceeded::Memory(10)));
        other.set(6).unwrap();
        drop((held, other));
        assert_eq!(memory.held(), 0);
    }

    #[test]
    fn one_cannot_hold_what_is_for_all_and_all_cannot_hold_more() {
        let all = Account::new(25);
        let memories = [(); 3].map(|()| Memory::of(10, &all));
        let mut held: Vec<_> = memories.iter().map(Held::of).collect();
        assert_eq!(held[0].set(11), Err(Exceeded::Memory(10)));
        held[0].set(10).unwrap();
        held[1].set(10).unwrap();
        assert_eq!(held[2].set(10), Err(Exceeded::AllMemory(25)));
        assert_eq!(memories[2].held(), 0, "what was refused is not held");
        held[2].set(5).unwrap();
        drop(held);
        assert_eq!(all.held.load(Ordering::Relaxed), 0);
    }
}
