//! The changes of a zone. They are numbered, but those of the zones inside get their number on the way:
//! whoever goes on may get the ones of the last second again, under a new number.

use std::collections::VecDeque;

use aurae_proto::cells::{CellServiceWatchRequest, CellServiceWatchResponse};
use bytes::Bytes;
use prost::{DecodeError, Message};

use super::Place;

/// So many of the last changes are recognized if they come again: half of what a daemon keeps, and
/// more than come in a second.
const RECOGNIZED: usize = 1024;

/// Where a watcher is.
#[derive(Debug)]
pub struct WatchPlace {
    request: CellServiceWatchRequest,
    /// The last changes, without their numbers.
    recent: VecDeque<CellServiceWatchResponse>,
    /// What may come again.
    repeated: VecDeque<CellServiceWatchResponse>,
    /// Missed before changes that were left out.
    missed: u64,
}

impl WatchPlace {
    /// At the beginning.
    pub fn new(request: CellServiceWatchRequest) -> Self {
        Self { request, recent: VecDeque::new(), repeated: VecDeque::new(), missed: 0 }
    }

    pub(super) fn decode(request: Bytes) -> Result<Self, DecodeError> {
        CellServiceWatchRequest::decode(request).map(Self::new)
    }

    fn came_before(&mut self, change: &CellServiceWatchResponse) -> bool {
        let place = self.repeated.iter().position(|known| known == change);
        place.and_then(|place| self.repeated.remove(place)).is_some()
    }

    fn remember(&mut self, change: CellServiceWatchResponse) {
        if self.recent.len() == RECOGNIZED {
            self.recent.pop_front();
        }
        self.recent.push_back(change);
    }
}

impl Place for WatchPlace {
    fn request(&mut self) -> Bytes {
        self.repeated = self.recent.clone();
        self.request.encode_to_vec().into()
    }

    fn pass(&mut self, message: Bytes) -> Result<Option<Bytes>, DecodeError> {
        let mut change = CellServiceWatchResponse::decode(message.clone())?;
        self.request = CellServiceWatchRequest { after: Some(change.sequence), only_new: false };
        let unnumbered = CellServiceWatchResponse { sequence: 0, missed: 0, ..change.clone() };
        if self.came_before(&unnumbered) {
            self.missed = self.missed.saturating_add(change.missed);
            return Ok(None);
        }
        self.remember(unnumbered);
        if self.missed == 0 {
            return Ok(Some(message));
        }
        change.missed = change.missed.saturating_add(std::mem::take(&mut self.missed));
        Ok(Some(change.encode_to_vec().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(sequence: u64, seconds: i64, missed: u64) -> Bytes {
        let time = Some(prost_types::Timestamp { seconds, nanos: 0 });
        let change = CellServiceWatchResponse { sequence, time, missed, ..Default::default() };
        change.encode_to_vec().into()
    }

    fn pass(place: &mut WatchPlace, message: Bytes) -> Option<(u64, u64)> {
        let new = place.pass(message).unwrap()?;
        let change = CellServiceWatchResponse::decode(new).unwrap();
        Some((change.sequence, change.missed))
    }

    #[test]
    fn it_goes_on_after_the_last_number_and_knows_what_comes_again() {
        let only_new = CellServiceWatchRequest { after: None, only_new: true };
        let mut place = WatchPlace::new(only_new);
        assert_eq!(CellServiceWatchRequest::decode(place.request()).unwrap(), only_new);
        assert_eq!(pass(&mut place, change(7, 1, 0)), Some((7, 0)));
        assert_eq!(pass(&mut place, change(8, 2, 0)), Some((8, 0)));

        let request = CellServiceWatchRequest::decode(place.request()).unwrap();
        assert_eq!((request.after, request.only_new), (Some(8), false));
        assert_eq!(pass(&mut place, change(9, 2, 3)), None);
        assert_eq!(pass(&mut place, change(10, 3, 1)), Some((10, 4)));
        let request = CellServiceWatchRequest::decode(place.request()).unwrap();
        assert_eq!(request.after, Some(10));
    }

    #[test]
    fn what_happens_twice_in_one_stream_is_told_twice() {
        let mut place = WatchPlace::new(CellServiceWatchRequest::default());
        place.request();
        assert!(pass(&mut place, change(7, 1, 0)).is_some());
        assert!(pass(&mut place, change(8, 1, 0)).is_some());
    }
}
