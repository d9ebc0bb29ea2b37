//! Requests whose first message does not come: a client that says what it wants a byte at a time holds a
//! call open for nothing.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Sleep;
use tonic::Status;

use super::Refused;
use crate::reply;

/// How long the first message of a request may take: one has at most 4 MiB, and a slow line moves that in
/// half the time.
pub(super) const FIRST_MESSAGE_TIMEOUT: Duration = Duration::from_secs(60);

/// A gRPC message has a flag and its length, 4 bytes, before it (gRPC over HTTP/2).
const PREFIX: usize = 5;

/// How far the first message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    /// So many bytes of the prefix are there.
    Prefix([u8; PREFIX], usize),
    /// So many bytes of the message are missing.
    Missing(u64),
}

impl First {
    fn is_whole(self) -> bool {
        self == Self::Missing(0)
    }

    fn take(self, bytes: &[u8]) -> Self {
        match (self, bytes.split_first()) {
            (first, None) => first,
            (Self::Missing(missing), _) => {
                Self::Missing(missing.saturating_sub(bytes.len() as u64))
            }
            (Self::Prefix([_, a, b, c, _], 4), Some((last, rest))) => {
                Self::Missing(u32::from_be_bytes([a, b, c, *last]).into()).take(rest)
            }
            (Self::Prefix(mut prefix, there), Some((next, rest))) => {
                if let Some(place) = prefix.get_mut(there) {
                    *place = *next;
                }
                Self::Prefix(prefix, there + 1).take(rest)
            }
        }
    }
}

/// A request's body that fails where its first message is late.
pub(super) struct Timely<B = Incoming> {
    body: B,
    first: First,
    patience: Duration,
    /// There since it had to be waited for: most messages come with their headers.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<B> Timely<B> {
    pub(super) fn new(body: B) -> Self {
        Self::within(body, FIRST_MESSAGE_TIMEOUT)
    }

    fn within(body: B, patience: Duration) -> Self {
        Self { body, first: First::Prefix([0; PREFIX], 0), patience, timer: None }
    }
}

impl<B> Body for Timely<B>
where
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref()
                    && !self.first.is_whole()
                {
                    self.first = self.first.take(data);
                }
                if self.first.is_whole() {
                    self.timer = None;
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                Poll::Ready(Some(Err(Status::from_error(Box::new(error)))))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending if self.first.is_whole() => Poll::Pending,
            Poll::Pending => {
                let patience = self.patience;
                let timer =
                    self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
                std::task::ready!(timer.as_mut().poll(context));
                Poll::Ready(Some(Err(reply::status(&Refused::Slow))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;

    use http_body_util::BodyExt;
    use proptest::prelude::*;
    use tonic::Code;

    use super::*;

    /// Frames that are there, and then nothing, for ever.
    struct Dripping(VecDeque<Bytes>);

    impl Body for Dripping {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.0.pop_front() {
                Some(data) => Poll::Ready(Some(Ok(Frame::data(data)))),
                None => Poll::Pending,
            }
        }
    }

    fn body(frames: &[&'static [u8]]) -> Timely<Dripping> {
        let frames = frames.iter().map(|frame| Bytes::from_static(frame)).collect();
        Timely::within(Dripping(frames), Duration::from_millis(1))
    }

    #[tokio::test]
    async fn a_first_message_that_does_not_come_ends_the_request() {
        let late: [&[&'static [u8]]; 3] = [&[], &[b"\0\0\0"], &[b"\0\0\0\0\x02", b"x"]];
        for frames in late {
            let mut slow = body(frames);
            let end = loop {
                match slow.frame().await.unwrap() {
                    Ok(_) => {}
                    Err(status) => break status,
                }
            };
            assert_eq!(end.code(), Code::DeadlineExceeded, "{frames:?}");
        }
    }

    #[tokio::test]
    async fn a_stream_may_be_silent_after_its_first_message() {
        let mut silent = body(&[b"\0\0\0\0\x02x", b"y"]);
        assert!(silent.frame().await.unwrap().is_ok() && silent.frame().await.unwrap().is_ok());
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut silent).poll_frame(&mut context).is_pending());
        assert!(silent.timer.is_none(), "nothing waits for the end of its time");
    }

    proptest! {
        #[test]
        fn a_message_is_whole_with_its_last_byte_however_it_comes(
            length in 0_u32..600, cuts in proptest::collection::vec(1_usize..200, 1..40)
        ) {
            let mut bytes = vec![0];
            bytes.extend(length.to_be_bytes());
            bytes.resize(PREFIX + length as usize, 7);
            let (mut first, mut there) = (First::Prefix([0; PREFIX], 0), 0);
            for cut in cuts.into_iter().cycle() {
                prop_assert_eq!(first.is_whole(), there == bytes.len());
                if there == bytes.len() {
                    break;
                }
                let next = (there + cut).min(bytes.len());
                first = first.take(&bytes[there..next]);
                there = next;
            }
        }
    }
}
