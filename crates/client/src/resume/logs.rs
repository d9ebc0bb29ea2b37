//! An executable's output. The zone keeps it while the node's daemon is away, each entry with its time.

use aurae_proto::observe::{GetExecutableLogsRequest, GetExecutableLogsResponse, LogEntry};
use bytes::Bytes;
use prost::{DecodeError, Message};

use super::Place;

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// Where a reader of an executable's output is.
#[derive(Debug)]
pub struct LogsPlace {
    request: GetExecutableLogsRequest,
    /// What was read last.
    last: Option<Last>,
    /// So many entries of that time come again.
    repeated: u64,
    /// The next message is the first of a stream that was asked for again.
    asked_again: bool,
    /// What was read or told as missed: entries, bytes.
    told: (u64, u64),
}

/// The time of an entry, and how many of that time were read.
#[derive(Debug, Clone, Copy)]
struct Last {
    unix_nanos: i64,
    count: u64,
}

impl LogsPlace {
    /// At the beginning.
    pub fn new(request: GetExecutableLogsRequest) -> Self {
        Self { request, last: None, repeated: 0, asked_again: false, told: (0, 0) }
    }

    pub(super) fn decode(request: Bytes) -> Result<Self, DecodeError> {
        GetExecutableLogsRequest::decode(request).map(Self::new)
    }

    /// Leaves out what came before. Answers whether that was anything.
    fn leave_out(&mut self, logs: &mut GetExecutableLogsResponse) -> bool {
        let all = logs.entries.len();
        logs.entries.retain(|entry| !self.came_before(entry));
        let missed = logs.missed_entries;
        // What was dropped meanwhile is counted from the first entry on: what we know of is among it.
        let is_whole = self.request.tail.is_none() && self.request.since.is_none();
        if std::mem::take(&mut self.asked_again) && is_whole {
            logs.missed_entries = missed.saturating_sub(self.told.0);
            logs.missed_bytes = logs.missed_bytes.saturating_sub(self.told.1);
        }
        logs.entries.len() != all || logs.missed_entries != missed
    }

    fn came_before(&mut self, entry: &LogEntry) -> bool {
        let of_that_time = self.last.is_some_and(|last| last.unix_nanos == entry.unix_nanos);
        // They come first.
        self.repeated = if of_that_time { self.repeated } else { 0 };
        let came_before = self.repeated > 0;
        self.repeated = self.repeated.saturating_sub(1);
        came_before
    }

    fn move_on(&mut self, logs: &GetExecutableLogsResponse) {
        self.told.0 += logs.missed_entries + logs.entries.len() as u64;
        self.told.1 += logs.missed_bytes;
        for entry in &logs.entries {
            self.told.1 += entry.data.len() as u64;
            let unix_nanos = entry.unix_nanos;
            let before = self.last.filter(|last| last.unix_nanos == unix_nanos);
            let count = before.map_or(0, |last| last.count) + 1;
            self.last = Some(Last { unix_nanos, count });
        }
    }
}

impl Place for LogsPlace {
    fn request(&mut self) -> Bytes {
        let mut request = self.request.clone();
        if let Some(last) = self.last {
            let seconds = last.unix_nanos.div_euclid(NANOS_PER_SECOND);
            let nanos = i32::try_from(last.unix_nanos.rem_euclid(NANOS_PER_SECOND));
            request.since = Some(prost_types::Timestamp { seconds, nanos: nanos.unwrap_or(0) });
            request.tail = None;
            self.repeated = last.count;
            self.asked_again = true;
        }
        request.encode_to_vec().into()
    }

    fn pass(&mut self, message: Bytes) -> Result<Option<Bytes>, DecodeError> {
        let mut logs = GetExecutableLogsResponse::decode(message.clone())?;
        if !self.leave_out(&mut logs) {
            self.move_on(&logs);
            return Ok(Some(message));
        }
        self.move_on(&logs);
        let is_new = !logs.entries.is_empty() || logs.missed_entries > 0;
        Ok(is_new.then(|| logs.encode_to_vec().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(place: &mut LogsPlace) -> GetExecutableLogsRequest {
        GetExecutableLogsRequest::decode(place.request()).unwrap()
    }

    fn message(missed_entries: u64, entries: &[(i64, &'static str)]) -> Bytes {
        let entries = entries.iter().map(|(unix_nanos, data)| LogEntry {
            unix_nanos: *unix_nanos,
            data: Bytes::from_static(data.as_bytes()),
            ..LogEntry::default()
        });
        let entries = entries.collect();
        let logs = GetExecutableLogsResponse { entries, missed_entries, ..Default::default() };
        logs.encode_to_vec().into()
    }

    /// What is new: missed entries, and the others.
    fn pass(place: &mut LogsPlace, message: Bytes) -> Option<(u64, Vec<Bytes>)> {
        let new = place.pass(message).unwrap()?;
        let logs = GetExecutableLogsResponse::decode(new).unwrap();
        let entries = logs.entries.into_iter().map(|entry| entry.data);
        Some((logs.missed_entries, entries.collect()))
    }

    #[test]
    fn it_goes_on_after_the_last_entry_even_where_several_have_its_time() {
        let mut place = LogsPlace::new(GetExecutableLogsRequest::default());
        assert_eq!(request(&mut place), GetExecutableLogsRequest::default());
        pass(&mut place, message(0, &[(1, "a"), (2_000_000_003, "b"), (2_000_000_003, "c")]));

        let since = request(&mut place).since.unwrap();
        assert_eq!((since.seconds, since.nanos), (2, 3));
        let again = [(2_000_000_003, "b"), (2_000_000_003, "c")];
        assert_eq!(pass(&mut place, message(0, &again)), None);
        let new = pass(&mut place, message(0, &[(2_000_000_003, "d")]));
        assert_eq!(new, Some((0, vec!["d".into()])));

        request(&mut place);
        let mut again = again.to_vec();
        again.extend([(2_000_000_003, "d"), (2_000_000_004, "e")]);
        assert_eq!(pass(&mut place, message(0, &again)), Some((0, vec!["e".into()])));
    }

    #[test]
    fn a_tail_is_asked_for_once() {
        let tail = GetExecutableLogsRequest { tail: Some(1), ..Default::default() };
        let mut place = LogsPlace::new(tail);
        assert_eq!(request(&mut place).tail, Some(1));
        pass(&mut place, message(0, &[(1, "a")]));
        assert_eq!(request(&mut place).tail, None);
    }

    #[test]
    fn what_was_read_already_is_not_missed() {
        let mut place = LogsPlace::new(GetExecutableLogsRequest::default());
        pass(&mut place, message(1, &[(1, "a"), (2, "b")]));
        request(&mut place);
        assert_eq!(pass(&mut place, message(5, &[(7, "g")])), Some((2, vec!["g".into()])));
        assert_eq!(pass(&mut place, message(5, &[])), Some((5, vec![])));
    }

    #[test]
    fn times_before_the_epoch_are_asked_for_as_well() {
        let mut place = LogsPlace::new(GetExecutableLogsRequest::default());
        pass(&mut place, message(0, &[(-1, "a")]));
        let since = request(&mut place).since.unwrap();
        assert_eq!((since.seconds, since.nanos), (-1, 999_999_999));
    }
}
