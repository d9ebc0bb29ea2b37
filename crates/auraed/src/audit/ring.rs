//! What is kept of the records in memory, and where a reader is. Pure; no clock, no waiting.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Entry;

/// So many bytes of records are kept: about ten thousand calls.
pub(super) const MAX_BYTES: usize = 4 << 20;

/// Where a reader starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the first record that is kept.
    Kept,
    /// After the record of this number.
    After(u64),
    /// With the last so many.
    Last(u32),
}

/// What a reader sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// So many records before it were dropped before the reader came to them.
    pub missed: u64,
    /// The record.
    pub entry: Arc<Entry>,
}

/// The last records, oldest first.
#[derive(Debug)]
pub(super) struct Ring {
    kept: VecDeque<Arc<Entry>>,
    bytes: usize,
    max_bytes: usize,
    /// How many were dropped.
    dropped: u64,
    /// The number of the last one that was dropped.
    gap: u64,
    /// The number of the last record.
    last: u64,
}

/// Where a reader is.
#[derive(Debug)]
pub(super) struct Cursor {
    /// How many records there were before the next one.
    next: u64,
    /// It ends before the record of this number or a greater one.
    end: u64,
}

impl Ring {
    /// An empty ring whose numbers are greater than `last`.
    pub(super) fn after(last: u64, max_bytes: usize) -> Self {
        let kept = VecDeque::new();
        Self { kept, bytes: 0, max_bytes, dropped: 0, gap: 0, last }
    }

    /// Appends a record, whose number is made of the present time, and drops the oldest beyond the
    /// bound.
    pub(super) fn push(&mut self, now: u64, mut entry: Entry) -> Arc<Entry> {
        entry.sequence = self.number(now);
        let entry = Arc::new(entry);
        self.bytes += entry.size();
        self.kept.push_back(Arc::clone(&entry));
        while self.bytes > self.max_bytes
            && let Some(oldest) = self.kept.pop_front()
        {
            self.bytes -= oldest.size();
            self.gap = oldest.sequence;
            self.dropped += 1;
        }
        entry
    }

    /// The next number, for a record that is not kept here.
    pub(super) fn number(&mut self, now: u64) -> u64 {
        self.last = now.max(self.last.saturating_add(1));
        self.last
    }

    /// How many records there were.
    pub(super) fn count(&self) -> u64 {
        self.dropped + self.kept.len() as u64
    }

    /// A place in the ring; who does not follow gets what is there now.
    pub(super) fn start(&self, start: Start, follow: bool) -> Cursor {
        let kept = self.kept.len();
        let before = match start {
            // How many of those that were dropped came after a number is not known: at most all.
            Start::After(after) if after < self.gap => {
                return Cursor { next: 0, end: self.end(follow) };
            }
            Start::Kept => 0,
            Start::After(after) => self.kept.partition_point(|entry| entry.sequence <= after),
            Start::Last(count) => kept.saturating_sub(usize::try_from(count).unwrap_or(kept)),
        };
        Cursor { next: self.dropped + before as u64, end: self.end(follow) }
    }

    fn end(&self, follow: bool) -> u64 {
        if follow { u64::MAX } else { self.last.saturating_add(1) }
    }

    /// What the reader sees next; `None`: nothing yet.
    pub(super) fn read(&self, cursor: &mut Cursor) -> Option<Seen> {
        let missed = self.dropped.saturating_sub(cursor.next);
        let next = cursor.next.max(self.dropped);
        let entry = self.kept.get(usize::try_from(next - self.dropped).ok()?)?;
        if entry.sequence >= cursor.end {
            return None;
        }
        cursor.next = next + 1;
        Some(Seen { missed, entry: Arc::clone(entry) })
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::tests::entry;
    use super::*;

    fn ring(entries: usize, times: impl IntoIterator<Item = u64>) -> Ring {
        let mut ring = Ring::after(0, entries * entry(0).size());
        for now in times {
            ring.push(now, entry(0));
        }
        ring
    }

    fn read(ring: &Ring, cursor: &mut Cursor) -> Vec<(u64, u64)> {
        std::iter::from_fn(|| ring.read(cursor))
            .map(|seen| (seen.missed, seen.entry.sequence))
            .collect()
    }

    #[test]
    fn numbers_grow_whatever_the_clock_does() {
        let mut ring = ring(9, [10, 10, 5, 30]);
        let all = [(0, 10), (0, 11), (0, 12), (0, 30)];
        assert_eq!(read(&ring, &mut ring.start(Start::Kept, true)), all);
        let mut later = Ring::after(30, 1 << 20);
        assert_eq!(later.push(7, entry(0)).sequence, 31, "the clock was set back over a restart");
        assert_eq!(ring.push(31, entry(0)).sequence, 31);
    }

    #[test]
    fn a_reader_goes_on_after_a_number_or_starts_with_the_last() {
        let ring = ring(9, [10, 20, 30]);
        assert_eq!(read(&ring, &mut ring.start(Start::After(10), true)), [(0, 20), (0, 30)]);
        assert_eq!(read(&ring, &mut ring.start(Start::After(15), true)), [(0, 20), (0, 30)]);
        assert_eq!(read(&ring, &mut ring.start(Start::Last(1), true)), [(0, 30)]);
        assert_eq!(read(&ring, &mut ring.start(Start::Last(0), true)), []);
        assert_eq!(read(&ring, &mut ring.start(Start::Last(99), true)).len(), 3);
    }

    #[test]
    fn who_does_not_follow_gets_what_was_there() {
        let mut ring = ring(9, [10, 20]);
        let (mut brief, mut following) =
            (ring.start(Start::Kept, false), ring.start(Start::Kept, true));
        ring.push(30, entry(0));
        assert_eq!(read(&ring, &mut brief), [(0, 10), (0, 20)]);
        assert_eq!(read(&ring, &mut following).len(), 3);
    }

    #[test]
    fn bytes_are_bounded_and_who_is_behind_is_told_how_many_it_missed() {
        let mut ring = ring(3, [1, 2, 3]);
        let mut cursor = ring.start(Start::Kept, true);
        assert_eq!(ring.read(&mut cursor).map(|seen| seen.entry.sequence), Some(1));
        (4..=8).for_each(|now| drop(ring.push(now, entry(0))));
        assert!(ring.bytes <= ring.max_bytes);
        assert_eq!(read(&ring, &mut cursor), [(4, 6), (0, 7), (0, 8)], "2 to 5 are gone");
        assert_eq!(ring.count(), 8);
        assert_eq!(read(&ring, &mut ring.start(Start::After(2), true))[0], (5, 6));
        assert_eq!(read(&ring, &mut ring.start(Start::After(5), true))[0], (0, 6));
        assert_eq!(read(&ring, &mut ring.start(Start::Kept, true))[0], (0, 6));
    }
}
