//! What is kept of the changes, and where a reader is. Pure; no clock, no waiting.

use std::collections::VecDeque;

use super::News;

/// So many changes are kept. One takes about 100 bytes and its name, which a zone's daemon pays for from
/// the cell's memory.
const MAX_KEPT: usize = 2048;

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its number; each is greater than the one before.
    pub sequence: u64,
    /// When it came, in nanoseconds since the epoch.
    pub unix_nanos: u64,
    /// What happened.
    pub news: News,
}

/// What a reader sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// So many changes before it were dropped before the reader came to them.
    pub missed: u64,
    /// The change.
    pub change: Change,
}

/// The last changes, oldest first.
#[derive(Debug, Default)]
pub(super) struct Ring {
    kept: VecDeque<Change>,
    /// How many were dropped.
    dropped: u64,
    /// The number up to which changes are not known: that of the last one that was dropped, or of the
    /// daemon's start.
    gap: u64,
    /// The number of the last change.
    last: u64,
}

/// Where a reader is.
#[derive(Debug)]
pub(super) struct Cursor {
    /// How many changes there were before the next one.
    next: u64,
    /// What has to be told first: that changes up to this number are not known.
    resync: Option<u64>,
}

impl Ring {
    /// A ring of a daemon that was started anew: it does not know what came before `now`.
    pub(super) fn anew(now: u64) -> Self {
        Self { gap: now, last: now, ..Self::default() }
    }

    /// Appends a change, and drops the oldest beyond the bound.
    pub(super) fn push(&mut self, now: u64, news: News) {
        self.last = now.max(self.last.saturating_add(1));
        if self.kept.len() >= MAX_KEPT
            && let Some(oldest) = self.kept.pop_front()
        {
            self.gap = oldest.sequence;
            self.dropped += 1;
        }
        self.kept.push_back(Change { sequence: self.last, unix_nanos: now, news });
    }

    /// The number of the last change, or the present one if that is greater.
    pub(super) fn newest(&self, now: u64) -> u64 {
        self.last.max(now)
    }

    /// Before the first change after the number `after`; `None`: before the first that is kept.
    pub(super) fn start(&self, after: Option<u64>) -> Cursor {
        let Some(after) = after else { return Cursor { next: self.dropped, resync: None } };
        let before = self.kept.partition_point(|change| change.sequence <= after);
        Cursor {
            next: self.dropped + before as u64,
            resync: (after < self.gap).then_some(self.gap),
        }
    }

    /// What the reader sees next; `None`: nothing yet.
    pub(super) fn read(&self, cursor: &mut Cursor) -> Option<Seen> {
        if let Some(gap) = cursor.resync.take() {
            let change = Change { sequence: gap, unix_nanos: gap, news: News::Resync };
            return Some(Seen { missed: 0, change });
        }
        let missed = self.dropped.saturating_sub(cursor.next);
        let next = cursor.next.max(self.dropped);
        let change = self.kept.get(usize::try_from(next - self.dropped).ok()?)?.clone();
        cursor.next = next + 1;
        Some(Seen { missed, change })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(ring: &Ring, cursor: &mut Cursor) -> Vec<(u64, u64)> {
        std::iter::from_fn(|| ring.read(cursor))
            .map(|seen| (seen.missed, seen.change.sequence))
            .collect()
    }

    fn ring(times: impl IntoIterator<Item = u64>) -> Ring {
        let mut ring = Ring::default();
        times.into_iter().for_each(|now| ring.push(now, News::Resync));
        ring
    }

    #[test]
    fn numbers_are_times_that_only_rise() {
        let ring = ring([10, 10, 5, 30]);
        assert_eq!(read(&ring, &mut ring.start(None)), [(0, 10), (0, 11), (0, 12), (0, 30)]);
        assert_eq!(ring.newest(7), 30);
        assert_eq!(ring.newest(70), 70);
    }

    #[test]
    fn a_reader_goes_on_after_a_number() {
        let mut ring = ring([10, 20, 30]);
        assert_eq!(read(&ring, &mut ring.start(Some(20))), [(0, 30)]);
        assert_eq!(read(&ring, &mut ring.start(Some(15))), [(0, 20), (0, 30)]);
        let mut cursor = ring.start(Some(99));
        assert_eq!(read(&ring, &mut cursor), []);
        ring.push(100, News::Resync);
        assert_eq!(read(&ring, &mut cursor), [(0, 100)]);
    }

    #[test]
    fn a_reader_that_is_behind_is_told_how_many_it_missed() {
        let kept = MAX_KEPT as u64;
        let mut ring = ring(1..=3);
        let mut cursor = ring.start(None);
        assert_eq!(ring.read(&mut cursor).map(|seen| seen.change.sequence), Some(1));
        (4..=kept + 5).for_each(|now| ring.push(now, News::Resync));
        let seen = read(&ring, &mut cursor);
        assert_eq!(seen.first(), Some(&(4, 6)), "2 to 5 are gone");
        assert_eq!(seen.len(), MAX_KEPT);
        assert!(seen.iter().skip(1).all(|(missed, _)| *missed == 0));
    }

    #[test]
    fn who_goes_on_from_before_what_is_known_is_told_so() {
        let mut ring = Ring::anew(100);
        ring.push(110, News::Resync);
        assert_eq!(read(&ring, &mut ring.start(Some(99))), [(0, 100), (0, 110)]);
        assert_eq!(read(&ring, &mut ring.start(Some(100))), [(0, 110)]);
        assert_eq!(read(&ring, &mut ring.start(None)), [(0, 110)]);
        let dropped = self::ring(1..=MAX_KEPT as u64 + 1);
        assert_eq!(read(&dropped, &mut dropped.start(Some(0)))[0], (0, 1));
        assert_eq!(read(&dropped, &mut dropped.start(Some(1)))[0], (0, 2));
    }

    proptest! {
        #[test]
        fn nothing_comes_twice_and_nothing_is_lost_uncounted(
            times in proptest::collection::vec(0_u64..50, 1..60), at in 0_usize..60
        ) {
            let ring = ring(times.iter().copied());
            let all = read(&ring, &mut ring.start(None));
            prop_assert_eq!(all.len(), times.len());
            prop_assert!(all.windows(2).all(|pair| pair[0].1 < pair[1].1));
            let at = at.min(all.len() - 1);
            let rest = read(&ring, &mut ring.start(Some(all[at].1)));
            prop_assert_eq!(&rest, &all[at + 1..]);
        }
    }
}
