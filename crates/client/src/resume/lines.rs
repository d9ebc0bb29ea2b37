//! Logs that can only be asked for from what is kept on: what came before is left out here.

use aurae_proto::node::{KernelLogRequest, KernelLogResponse};
use aurae_proto::observe::GetSubProcessStreamResponse;
use bytes::Bytes;
use prost::{DecodeError, Message};

use super::Place;

/// Where a reader of the kernel's log is: its records are numbered.
#[derive(Debug)]
pub struct KernelPlace {
    request: KernelLogRequest,
    last: Option<u64>,
}

impl KernelPlace {
    pub(super) fn decode(request: Bytes) -> Result<Self, DecodeError> {
        Ok(Self { request: KernelLogRequest::decode(request)?, last: None })
    }
}

impl Place for KernelPlace {
    fn request(&mut self) -> Bytes {
        if self.last.is_some() {
            self.request.tail = None;
        }
        self.request.encode_to_vec().into()
    }

    fn pass(&mut self, message: Bytes) -> Result<Option<Bytes>, DecodeError> {
        let sequence = KernelLogResponse::decode(message.clone())?.sequence;
        if self.last.is_some_and(|last| sequence <= last) {
            return Ok(None);
        }
        self.last = Some(sequence);
        Ok(Some(message))
    }
}

/// Where a reader of v0's log items is: they have the second in which they came.
#[derive(Debug)]
pub struct ItemsPlace {
    request: Bytes,
    /// The daemon that comes back keeps what was kept.
    is_kept: bool,
    /// The second of the last item, and how many of that second were read.
    last: Option<(i64, u64)>,
    /// What was read comes again.
    is_behind: bool,
    /// So many items of that second among it.
    repeated: u64,
}

impl ItemsPlace {
    /// At the beginning of an executable's output, which its zone keeps.
    pub fn of_executable(request: Bytes) -> Self {
        Self { request, is_kept: true, last: None, is_behind: false, repeated: 0 }
    }

    /// At the beginning of the daemon's own log, which it takes along when it ends.
    pub fn of_daemon(request: Bytes) -> Self {
        Self { is_kept: false, ..Self::of_executable(request) }
    }

    fn came_before(&mut self, second: i64) -> bool {
        let Some((last, _)) = self.last.filter(|_| self.is_behind) else { return false };
        let is_repeated = second == last && self.repeated > 0;
        self.repeated -= u64::from(is_repeated);
        // Once there is something new, a clock that is set back takes nothing away.
        self.is_behind = is_repeated || second < last;
        self.is_behind
    }
}

impl Place for ItemsPlace {
    fn request(&mut self) -> Bytes {
        self.is_behind = self.last.is_some();
        self.repeated = self.last.filter(|_| self.is_kept).map_or(0, |(_, count)| count);
        self.request.clone()
    }

    /// The daemon's items are messages of the same form.
    fn pass(&mut self, message: Bytes) -> Result<Option<Bytes>, DecodeError> {
        let item = GetSubProcessStreamResponse::decode(message.clone())?.item;
        let second = item.map_or(0, |item| item.timestamp);
        if self.came_before(second) {
            return Ok(None);
        }
        let before = self.last.filter(|(last, _)| *last == second);
        self.last = Some((second, before.map_or(0, |(_, count)| count) + 1));
        Ok(Some(message))
    }

    fn caveat(&self) -> Option<&'static str> {
        Some(match self.is_kept {
            true => "what the node did not keep meanwhile is missing here",
            false => {
                "what the daemon said last is missing here if it was replaced; what was said in the last second may come twice"
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use aurae_proto::observe::LogItem;

    use super::*;

    fn item(timestamp: i64) -> Bytes {
        let item = Some(LogItem { timestamp, ..LogItem::default() });
        GetSubProcessStreamResponse { item }.encode_to_vec().into()
    }

    fn new_ones(place: &mut ItemsPlace, seconds: &[i64]) -> usize {
        seconds.iter().filter(|second| place.pass(item(**second)).unwrap().is_some()).count()
    }

    #[test]
    fn items_of_an_executable_come_once() {
        let mut place = ItemsPlace::of_executable(Bytes::new());
        place.request();
        assert_eq!(new_ones(&mut place, &[1, 2, 2]), 3);
        place.request();
        assert_eq!(new_ones(&mut place, &[1, 2, 2, 2, 3]), 2);
        assert_eq!(new_ones(&mut place, &[1]), 1, "the clock was set back");
    }

    #[test]
    fn items_of_the_last_second_of_a_daemon_are_not_taken_for_those_of_the_one_before() {
        let mut place = ItemsPlace::of_daemon(Bytes::new());
        place.request();
        assert_eq!(new_ones(&mut place, &[1, 2]), 2);
        place.request();
        assert_eq!(new_ones(&mut place, &[1, 2, 3]), 2);
    }

    #[test]
    fn records_of_the_kernel_come_once() {
        let mut place = KernelPlace::decode(Bytes::new()).unwrap();
        let record = |sequence| -> Bytes {
            KernelLogResponse { sequence, ..Default::default() }.encode_to_vec().into()
        };
        for (sequence, is_new) in [(0, true), (1, true), (0, false), (1, false), (2, true)] {
            assert_eq!(place.pass(record(sequence)).unwrap().is_some(), is_new, "{sequence}");
        }
    }
}
