//! The kept records: segments of packed bytes, the oldest dropped first. Pure; no clock, no lock.
//!
//! ```text
//! dropped ◀── [segment][segment][segment…] ◀── append
//!             a record: time 8 bytes, length and flags 4 bytes, then the bytes themselves
//! ```
//!
//! Segments double in size from the first: a quiet workload costs little, a busy one allocates
//! seldom, and a full ring writes into the memory of the segment that it dropped.

use std::collections::VecDeque;

use bytes::Bytes;

/// The first segment's size in bytes: a few lines.
const FIRST_SEGMENT_BYTES: usize = 512;
/// A segment's greatest size in bytes: what is dropped at once from a ring of the usual size.
const MAX_SEGMENT_BYTES: usize = 64 << 10;
/// The least number of segments in a full ring: dropping one costs at most this part of what is kept.
const MIN_SEGMENTS: usize = 8;
/// A record's header.
const HEADER_BYTES: usize = 12;
/// The book-keeping of a segment beside its bytes.
const SEGMENT_OVERHEAD: usize = size_of::<Segment>();
/// The most bytes in a batch: a gRPC message stays far below its limit.
const MAX_BATCH_BYTES: usize = 64 << 10;
/// The most entries in a batch: empty lines have no bytes to count.
const MAX_BATCH_ENTRIES: usize = 1024;
/// The most segments looked at in one go, so that a reader that filters much does not keep the writer
/// waiting.
const MAX_SCANNED_SEGMENTS: usize = 2;

const STDERR_FLAG: u32 = 1 << 31;
const PARTIAL_FLAG: u32 = 1 << 30;
const LENGTH_MASK: u32 = PARTIAL_FLAG - 1;

/// Which output of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line of output, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When it was pushed, in nanoseconds since the epoch.
    pub unix_nanos: i64,
    /// Which output it was on.
    pub channel: Channel,
    /// The bytes, without the line's end.
    pub data: Bytes,
    /// No line end followed.
    pub partial: bool,
}

/// Some entries, in the order in which they were pushed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The entries.
    pub entries: Vec<Entry>,
    /// Entries that the reader did not get between the previous batch and this one.
    pub missed_entries: u64,
    /// The bytes of those entries.
    pub missed_bytes: u64,
}

impl Batch {
    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.missed_entries == 0
    }
}

/// Counts of all that was ever pushed up to some point, for each channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    entries: [u64; 2],
    bytes: [u64; 2],
    /// Entries that end a line.
    lines: [u64; 2],
}

impl Tally {
    fn add(&mut self, header: &Header) {
        let at = header.channel as usize;
        self.entries[at] += 1;
        self.bytes[at] += header.length as u64;
        self.lines[at] += u64::from(!header.partial);
    }
}

fn sum(counts: [u64; 2], only: Option<Channel>) -> u64 {
    match only {
        Some(channel) => counts[channel as usize],
        None => counts[0] + counts[1],
    }
}

#[derive(Clone, Copy, Debug)]
struct Header {
    unix_nanos: i64,
    channel: Channel,
    partial: bool,
    length: usize,
}

impl Header {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        // A record fits a segment, so its length fits 30 bits.
        let mut word = self.length as u32 & LENGTH_MASK;
        if self.channel == Channel::Stderr {
            word |= STDERR_FLAG;
        }
        if self.partial {
            word |= PARTIAL_FLAG;
        }
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&self.unix_nanos.to_ne_bytes());
        bytes[8..].copy_from_slice(&word.to_ne_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (nanos, rest) = bytes.split_first_chunk::<8>()?;
        let word = u32::from_ne_bytes(*rest.first_chunk::<4>()?);
        Some(Self {
            unix_nanos: i64::from_ne_bytes(*nanos),
            channel: if word & STDERR_FLAG == 0 { Channel::Stdout } else { Channel::Stderr },
            partial: word & PARTIAL_FLAG != 0,
            length: (word & LENGTH_MASK) as usize,
        })
    }
}

#[derive(Debug)]
struct Segment {
    data: Vec<u8>,
    /// All that was pushed before this segment.
    start: Tally,
    /// The greatest time in it.
    newest: i64,
}

impl Segment {
    /// The record at `offset` and the offset of the next one.
    fn record(&self, offset: usize) -> Option<(Header, &[u8], usize)> {
        let rest = self.data.get(offset..)?;
        let header = Header::decode(rest)?;
        let data = rest.get(HEADER_BYTES..HEADER_BYTES + header.length)?;
        Some((header, data, offset + HEADER_BYTES + header.length))
    }
}

/// A place between two records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    segment: u64,
    offset: usize,
    at: Tally,
}

impl Cursor {
    fn is_at_or_after(&self, other: &Self) -> bool {
        (self.segment, self.offset) >= (other.segment, other.offset)
    }
}

/// What a reader wants to see.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Filter {
    pub(super) channel: Option<Channel>,
    pub(super) since: Option<i64>,
}

impl Filter {
    fn admits(&self, header: &Header) -> bool {
        self.channel.is_none_or(|channel| channel == header.channel)
            && self.since.is_none_or(|since| header.unix_nanos >= since)
    }
}

/// The kept records.
#[derive(Debug)]
pub(super) struct Store {
    segments: VecDeque<Segment>,
    /// The number of the first kept segment; numbers go up by one and are never used again.
    first: u64,
    capacity: usize,
    allocated: usize,
    written: Tally,
    /// The channel's last entry did not end its line.
    open: [bool; 2],
    /// The greatest time among what was dropped.
    dropped_newest: Option<i64>,
}

impl Store {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            segments: VecDeque::new(),
            first: 0,
            capacity: capacity.max(super::MIN_CAPACITY),
            allocated: 0,
            written: Tally::default(),
            open: [false; 2],
            dropped_newest: None,
        }
    }

    /// The memory in use for records and their book-keeping, in bytes.
    pub(super) fn allocated(&self) -> usize {
        self.allocated
    }

    /// Appends a line. One that does not fit a segment is cut into parts.
    pub(super) fn push(
        &mut self,
        unix_nanos: i64,
        channel: Channel,
        mut data: &[u8],
        partial: bool,
    ) {
        let most = self.max_segment() - HEADER_BYTES;
        while data.len() > most {
            let (head, rest) = data.split_at(most);
            self.append(unix_nanos, channel, head, true);
            data = rest;
        }
        self.append(unix_nanos, channel, data, partial);
    }

    fn append(&mut self, unix_nanos: i64, channel: Channel, data: &[u8], partial: bool) {
        let needed = HEADER_BYTES + data.len();
        let fits = self
            .segments
            .back()
            .is_some_and(|segment| segment.data.capacity() - segment.data.len() >= needed);
        if !fits {
            self.grow(needed);
        }
        let header = Header { unix_nanos, channel, partial, length: data.len() };
        if let Some(segment) = self.segments.back_mut() {
            segment.data.extend_from_slice(&header.encode());
            segment.data.extend_from_slice(data);
            segment.newest = segment.newest.max(unix_nanos);
            self.written.add(&header);
            self.open[channel as usize] = partial;
        }
    }

    /// The size of a segment in a full ring.
    fn max_segment(&self) -> usize {
        (self.capacity / MIN_SEGMENTS - SEGMENT_OVERHEAD).min(MAX_SEGMENT_BYTES)
    }

    /// Adds a segment that has room for `needed` bytes, dropping the oldest to make room.
    fn grow(&mut self, needed: usize) {
        let doubled =
            self.segments.back().map_or(FIRST_SEGMENT_BYTES, |last| 2 * last.data.capacity());
        let size = doubled.max(needed).min(self.max_segment());
        let mut data = Vec::new();
        while self.allocated + size + SEGMENT_OVERHEAD > self.capacity {
            let Some(oldest) = self.segments.pop_front() else { break };
            self.first += 1;
            self.allocated -= oldest.data.capacity() + SEGMENT_OVERHEAD;
            self.dropped_newest = self.dropped_newest.max(Some(oldest.newest));
            data = oldest.data;
        }
        if data.capacity() != size {
            data = Vec::with_capacity(size);
        }
        data.clear();
        self.allocated += data.capacity() + SEGMENT_OVERHEAD;
        self.segments.push_back(Segment { data, start: self.written, newest: i64::MIN });
    }

    fn segment(&self, number: u64) -> Option<&Segment> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.segments.get(index)
    }

    /// The place after the last record.
    pub(super) fn end(&self) -> Cursor {
        match self.segments.back() {
            Some(last) => Cursor {
                segment: self.first + self.segments.len() as u64 - 1,
                offset: last.data.len(),
                at: self.written,
            },
            None => Cursor { segment: self.first, offset: 0, at: self.written },
        }
    }

    /// The place where a reader of everything starts: before the first record that was ever pushed,
    /// unless all that was dropped is older than the reader wants.
    pub(super) fn start(&self, filter: &Filter) -> Cursor {
        match (self.dropped_newest, filter.since) {
            (Some(newest), Some(since)) if newest < since => self.kept(),
            _ => Cursor::default(),
        }
    }

    /// The place before the first kept record.
    fn kept(&self) -> Cursor {
        match self.segments.front() {
            Some(front) => Cursor { segment: self.first, offset: 0, at: front.start },
            None => self.end(),
        }
    }

    /// The place before the last `count` kept lines of the filter's channel. A line that has not ended
    /// yet counts.
    pub(super) fn tail(&self, count: u32, filter: &Filter) -> Cursor {
        if count == 0 {
            return self.end();
        }
        let ended = sum(self.written.lines, filter.channel);
        let all = ended + sum(self.open.map(u64::from), filter.channel);
        let skipped = all.saturating_sub(u64::from(count)).min(ended);
        let lines_before = |segment: &Segment| sum(segment.start.lines, filter.channel);
        let later = self.segments.partition_point(|segment| lines_before(segment) < skipped);
        let Some(index) = later.checked_sub(1) else { return self.kept() };
        let Some(segment) = self.segments.get(index) else { return self.kept() };
        let mut cursor =
            Cursor { segment: self.first + index as u64, offset: 0, at: segment.start };
        while sum(cursor.at.lines, filter.channel) < skipped {
            let Some((header, _, next)) = segment.record(cursor.offset) else { break };
            cursor.offset = next;
            cursor.at.add(&header);
        }
        cursor
    }

    /// Whether there is nothing to read at `cursor`, now.
    pub(super) fn is_exhausted(&self, cursor: &Cursor, until: Option<&Cursor>) -> bool {
        cursor.is_at_or_after(&self.end())
            || until.is_some_and(|until| cursor.is_at_or_after(until))
    }

    /// Reads some entries from `cursor` on, and moves it. The batch may be empty though there is more:
    /// see [`Self::is_exhausted`].
    pub(super) fn read(
        &self,
        cursor: &mut Cursor,
        until: Option<&Cursor>,
        filter: &Filter,
    ) -> Batch {
        let mut batch = Batch::default();
        self.skip_dropped(cursor, until, filter, &mut batch);
        let waiting: u64 = sum(self.written.bytes, None) - sum(cursor.at.bytes, None);
        let mut bytes = Vec::with_capacity(
            usize::try_from(waiting).map_or(MAX_BATCH_BYTES, |n| n.min(MAX_BATCH_BYTES)),
        );
        let mut taken: Vec<Header> = Vec::new();
        let mut scanned = 1;
        while !until.is_some_and(|until| cursor.is_at_or_after(until)) {
            let Some(segment) = self.segment(cursor.segment) else { break };
            let Some((header, data, next)) = segment.record(cursor.offset) else {
                // The segment's end: go on in the next one, if there is one.
                if self.segment(cursor.segment + 1).is_none() || scanned == MAX_SCANNED_SEGMENTS {
                    break;
                }
                scanned += 1;
                cursor.segment += 1;
                cursor.offset = 0;
                continue;
            };
            if filter.admits(&header) {
                let full =
                    bytes.len() + data.len() > MAX_BATCH_BYTES || taken.len() == MAX_BATCH_ENTRIES;
                if full && !taken.is_empty() {
                    break;
                }
                bytes.extend_from_slice(data);
                taken.push(header);
            }
            cursor.offset = next;
            cursor.at.add(&header);
        }
        batch.entries = entries(bytes, &taken);
        batch
    }

    /// Moves a cursor that stands in a dropped segment to the first kept record, and tells how much it
    /// missed.
    fn skip_dropped(
        &self,
        cursor: &mut Cursor,
        until: Option<&Cursor>,
        filter: &Filter,
        batch: &mut Batch,
    ) {
        if cursor.segment >= self.first {
            return;
        }
        let kept = self.kept();
        let to = match until {
            Some(until) if !until.is_at_or_after(&kept) => until,
            _ => &kept,
        };
        let missed = |to: [u64; 2], from: [u64; 2]| {
            sum(to, filter.channel).saturating_sub(sum(from, filter.channel))
        };
        batch.missed_entries = missed(to.at.entries, cursor.at.entries);
        batch.missed_bytes = missed(to.at.bytes, cursor.at.bytes);
        *cursor = kept;
    }
}

/// The entries whose bytes lie one after the other: they share one allocation.
fn entries(bytes: Vec<u8>, headers: &[Header]) -> Vec<Entry> {
    let mut rest = Bytes::from(bytes);
    headers
        .iter()
        .map(|header| Entry {
            unix_nanos: header.unix_nanos,
            channel: header.channel,
            data: rest.split_to(header.length.min(rest.len())),
            partial: header.partial,
        })
        .collect()
}
