//! The first message of a request, read before the request goes on; nothing is taken from it.
//!
//! gRPC frames a message with five bytes: whether it is compressed, and its length (gRPC over HTTP/2,
//! Length-Prefixed-Message).

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

use super::Refused;
use crate::server::MAX_MESSAGE_BYTES;

/// What stands before a message.
const HEADER: usize = 5;

/// The first message, and the body as it came. `None`: the body ended before a whole message. How long it
/// may take is for [`super::slow`] to say.
pub(super) async fn first_message(mut body: Body) -> Result<(Option<Bytes>, Body), Refused> {
    let mut taken = Taken::default();
    let message = loop {
        if let Some(message) = taken.message()? {
            break Some(message);
        }
        match std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            Some(frame) => taken.push(frame),
            None => break None,
        }
        if taken.has_ended {
            break None;
        }
    };
    Ok((message, Body::new(Replayed { taken: taken.frames, rest: body })))
}

/// What was read of a body.
#[derive(Default)]
struct Taken {
    frames: VecDeque<Result<Frame<Bytes>, Status>>,
    /// The bytes of the frames that have some.
    bytes: usize,
    /// Trailers came, or an error.
    has_ended: bool,
}

impl Taken {
    fn push(&mut self, frame: Result<Frame<Bytes>, Status>) {
        match frame.as_ref().map(Frame::data_ref) {
            // It says nothing, and is not kept: there may be many.
            Ok(Some(data)) if data.is_empty() => return,
            Ok(Some(data)) => self.bytes += data.len(),
            Ok(None) | Err(_) => self.has_ended = true,
        }
        self.frames.push_back(frame);
    }

    /// The first message, once it is whole.
    fn message(&self) -> Result<Option<Bytes>, Refused> {
        if self.bytes < HEADER {
            return Ok(None);
        }
        let mut header = self.copy(0, HEADER);
        if header.get_u8() != 0 {
            return Err(Refused::Compressed);
        }
        let length = usize::try_from(header.get_u32()).unwrap_or(usize::MAX);
        if length > MAX_MESSAGE_BYTES {
            return Err(Refused::TooLong(length));
        }
        Ok((self.bytes >= HEADER + length).then(|| self.copy(HEADER, length)))
    }

    /// So many bytes from a place; they are there.
    fn copy(&self, from: usize, length: usize) -> Bytes {
        let data = || self.frames.iter().filter_map(|frame| frame.as_ref().ok()?.data_ref());
        // Nearly always all of it came at once.
        if let Some(whole) = data().next().filter(|first| first.len() >= from + length) {
            return whole.slice(from..from + length);
        }
        let mut copied = BytesMut::with_capacity(length);
        let mut skip = from;
        for piece in data() {
            let start = skip.min(piece.len());
            skip -= start;
            let take = (piece.len() - start).min(length - copied.len());
            copied.extend_from_slice(piece.get(start..start + take).unwrap_or_default());
        }
        copied.freeze()
    }
}

/// A body of which a part was read already.
struct Replayed {
    taken: VecDeque<Result<Frame<Bytes>, Status>>,
    rest: Body,
}

impl http_body::Body for Replayed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.taken.pop_front() {
            Some(frame) => Poll::Ready(Some(frame)),
            None => Pin::new(&mut self.rest).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.taken.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // What was taken is counted by nobody any more: only that there is more can be said.
        if self.taken.is_empty() { self.rest.size_hint() } else { SizeHint::default() }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::{BodyExt, StreamBody};
    use proptest::prelude::*;

    use super::*;

    fn frame(message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[0], length.as_slice(), message].concat()
    }

    /// A body whose bytes come in pieces of a size.
    fn body(bytes: &[u8], piece: usize) -> Body {
        let pieces: Vec<_> = bytes
            .chunks(piece)
            .map(|piece| Ok::<_, Status>(Frame::data(Bytes::copy_from_slice(piece))))
            .collect();
        Body::new(StreamBody::new(stream::iter(pieces)))
    }

    async fn read(bytes: &[u8], piece: usize) -> (Option<Vec<u8>>, Vec<u8>) {
        let (message, body) = first_message(body(bytes, piece)).await.unwrap();
        let rest = body.collect().await.unwrap().to_bytes().to_vec();
        (message.map(|message| message.to_vec()), rest)
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
    }

    proptest! {
        #[test]
        fn the_first_message_is_read_and_all_goes_on_however_it_comes(
            first in proptest::collection::vec(any::<u8>(), 0..40),
            second in proptest::collection::vec(any::<u8>(), 0..40),
            piece in 1_usize..50,
        ) {
            let bytes = [frame(&first), frame(&second)].concat();
            let (message, all) = runtime().block_on(read(&bytes, piece));
            prop_assert_eq!(message, Some(first));
            prop_assert_eq!(all, bytes);
        }
    }

    #[tokio::test]
    async fn a_body_that_ends_too_early_has_no_message_and_goes_on_as_it_came() {
        for bytes in [&[][..], &[0, 0], &[0, 0, 0, 0, 9, 1]] {
            assert_eq!(read(bytes, 1).await, (None, bytes.to_vec()));
        }
    }

    #[tokio::test]
    async fn what_is_compressed_or_too_long_is_refused_before_it_is_read() {
        let refusal = async |bytes: &[u8]| first_message(body(bytes, 2)).await.err();
        assert_eq!(refusal(&[1, 0, 0, 0, 0]).await, Some(Refused::Compressed));
        assert_eq!(
            refusal(&[0, 0xff, 0xff, 0xff, 0xff]).await,
            Some(Refused::TooLong(0xffff_ffff))
        );
    }
}
