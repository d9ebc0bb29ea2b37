//! The first message of a request, waited for before the request goes on; nothing is taken from it.
//!
//! gRPC frames a message with five bytes: whether it is compressed, and its length (gRPC over HTTP/2,
//! Length-Prefixed-Message). A client that says what it wants a byte at a time would hold a call open for
//! nothing, so the message has its time.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::StdError;

use super::Refused;
use crate::server::MAX_MESSAGE_BYTES;

/// How long the first message of a request may take: one has at most 4 MiB, and a slow line moves that in
/// half the time.
pub(super) const FIRST_MESSAGE_TIMEOUT: Duration = Duration::from_secs(60);

/// What stands before a message.
const HEADER: usize = 5;

/// A piece of a body, or why there are no more.
type Piece = Result<Frame<Bytes>, Status>;

/// The body of a request as a connection has it.
pub(super) trait Arriving:
    http_body::Body<Data = Bytes, Error: Into<StdError>> + Unpin + Send + 'static
{
}

impl<B> Arriving for B where
    B: http_body::Body<Data = Bytes, Error: Into<StdError>> + Unpin + Send + 'static
{
}

/// A body whose first message has come, or that ended before.
pub(super) struct Begun<B> {
    taken: Taken,
    /// The message's length; `None`: the body ended before a whole message.
    length: Option<usize>,
    rest: B,
}

impl<B: Arriving> Begun<B> {
    /// Waits for the first message, for [`FIRST_MESSAGE_TIMEOUT`] at most.
    pub(super) async fn of(body: B) -> Result<Self, Refused> {
        Self::within(FIRST_MESSAGE_TIMEOUT, body).await
    }

    async fn within(patience: Duration, mut rest: B) -> Result<Self, Refused> {
        let mut taken = Taken::default();
        let mut patience = Patience { limit: patience, timer: None };
        let length = loop {
            if let Some(length) = taken.message_length()? {
                break Some(length);
            }
            if taken.has_ended {
                break None;
            }
            let next = std::future::poll_fn(|context| patience.poll_frame(&mut rest, context));
            match next.await? {
                Some(frame) => taken.push(frame),
                None => break None,
            }
        };
        Ok(Self { taken, length, rest })
    }

    /// The message.
    pub(super) fn message(&self) -> Option<Bytes> {
        self.length.map(|length| self.taken.copy(HEADER, length))
    }

    /// The body as it came.
    pub(super) fn into_body(self) -> Body {
        Body::new(Replayed { taken: self.taken.frames, rest: self.rest })
    }
}

/// How long frames are waited for, all together.
struct Patience {
    limit: Duration,
    /// There since something had to be waited for: most messages come with their headers.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    fn poll_frame<B: Arriving>(
        &mut self,
        body: &mut B,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Piece>, Refused>> {
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(context) {
            return Poll::Ready(Ok(frame.map(|frame| frame.map_err(failed))));
        }
        let limit = self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        timer.as_mut().poll(context).map(|()| Err(Refused::Slow))
    }
}

fn failed(error: impl Into<StdError>) -> Status {
    Status::from_error(error.into())
}

/// What was read of a body.
#[derive(Default)]
struct Taken {
    frames: VecDeque<Piece>,
    /// The bytes of the frames that have some.
    bytes: usize,
    /// Trailers came, or an error.
    has_ended: bool,
}

impl Taken {
    fn push(&mut self, frame: Piece) {
        match frame.as_ref().map(Frame::data_ref) {
            // It says nothing, and is not kept: there may be many.
            Ok(Some(data)) if data.is_empty() => return,
            Ok(Some(data)) => self.bytes += data.len(),
            Ok(None) | Err(_) => self.has_ended = true,
        }
        self.frames.push_back(frame);
    }

    /// The length of the first message, once it is whole.
    fn message_length(&self) -> Result<Option<usize>, Refused> {
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
        Ok((self.bytes >= HEADER + length).then_some(length))
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
struct Replayed<B> {
    taken: VecDeque<Piece>,
    rest: B,
}

impl<B: Arriving> http_body::Body for Replayed<B> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Piece>> {
        match self.taken.pop_front() {
            Some(frame) => Poll::Ready(Some(frame)),
            None => Pin::new(&mut self.rest).poll_frame(context).map_err(failed),
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
    use futures_util::{StreamExt as _, stream};
    use http_body::Body as _;
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
        let begun = Begun::of(body(bytes, piece)).await.unwrap();
        let message = begun.message().map(|message| message.to_vec());
        (message, begun.into_body().collect().await.unwrap().to_bytes().to_vec())
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
        let refusal = async |bytes: &[u8]| Begun::of(body(bytes, 2)).await.err();
        assert_eq!(refusal(&[1, 0, 0, 0, 0]).await, Some(Refused::Compressed));
        assert_eq!(
            refusal(&[0, 0xff, 0xff, 0xff, 0xff]).await,
            Some(Refused::TooLong(0xffff_ffff))
        );
    }

    /// A body with frames that are there, and then nothing, for ever.
    fn dripping(frames: &[&'static [u8]]) -> Body {
        let frames: Vec<_> = frames
            .iter()
            .map(|frame| Ok::<_, Status>(Frame::data(Bytes::from_static(frame))))
            .collect();
        Body::new(StreamBody::new(stream::iter(frames).chain(stream::pending())))
    }

    #[tokio::test]
    async fn a_first_message_that_does_not_come_ends_the_request() {
        let late: [&[&'static [u8]]; 3] = [&[], &[b"\0\0\0"], &[b"\0\0\0\0\x02", b"x"]];
        for frames in late {
            let begun = Begun::within(Duration::from_millis(1), dripping(frames)).await;
            assert_eq!(begun.err(), Some(Refused::Slow), "{frames:?}");
        }
    }

    #[tokio::test]
    async fn a_stream_may_be_silent_after_its_first_message() {
        let frames: [&'static [u8]; 2] = [b"\0\0\0\0\x02x", b"y"];
        let begun = Begun::within(Duration::ZERO, dripping(&frames)).await.unwrap();
        assert_eq!(begun.message().unwrap(), "xy");
        let mut silent = begun.into_body();
        assert!(silent.frame().await.unwrap().is_ok() && silent.frame().await.unwrap().is_ok());
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut silent).poll_frame(&mut context).is_pending());
    }
}
