//! A request's first message, however its bytes come: the same as if they came at once.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use auraed::gate::{Refused, edge};
use auraed::server::MAX_MESSAGE_BYTES;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame};
use tonic::Status;
use tonic::body::Body;

/// What stands before a message: whether it is compressed, and its length.
const HEADER: usize = 5;
/// A piece of this size is none: what comes next is not there yet.
const NOT_YET: u8 = u8::MAX;
/// The error at the end of some bodies.
const LOST: &str = "the connection is lost";

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Simply,
    WithTrailers,
    WithError,
}

/// The input is how the body ends, how many sizes of pieces there are, the sizes, and the body.
pub fn frames(input: &[u8]) {
    let Some((&[end, sizes], rest)) = input.split_first_chunk() else { return };
    let Some((sizes, bytes)) = rest.split_at_checked(sizes.into()) else { return };
    let end = match end % 3 {
        0 => End::Simply,
        1 => End::WithTrailers,
        _ => End::WithError,
    };
    let given = Arc::new(AtomicUsize::new(0));
    let (pieces, ends) = pieces(bytes, sizes);
    let body = Coming { pieces, end: Some(end), given: Arc::clone(&given) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime can be had").block_on(async {
        let read = edge::first_message(Body::new(body)).await;
        let (message, needed) = match expected(bytes) {
            Err(refused) => {
                assert_eq!(read.err(), Some(refused));
                return check_given(&given, HEADER, &ends);
            }
            Ok(message) => (message, message.map_or(bytes.len(), |message| HEADER + message.len())),
        };
        let (read, body) = read.expect("a body that is right is taken");
        assert_eq!(read.as_deref(), message, "another message");
        check_given(&given, needed, &ends);
        check_rest(body, bytes, end).await;
    });
}

/// The message of the bytes in one piece; `None`: it is not whole.
fn expected(bytes: &[u8]) -> Result<Option<&[u8]>, Refused> {
    let Some((&[flag, a, b, c, d], rest)) = bytes.split_first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    match (flag, length) {
        (1.., _) => Err(Refused::Compressed),
        (_, length) if length > MAX_MESSAGE_BYTES => Err(Refused::TooLong(length)),
        _ => Ok(rest.get(..length)),
    }
}

/// No more was read than up to the end of the piece with the last byte that is needed.
fn check_given(given: &AtomicUsize, needed: usize, ends: &[usize]) {
    let most = ends.iter().copied().find(|&end| end >= needed).unwrap_or(needed);
    let given = given.load(Ordering::Relaxed);
    assert!(given <= most, "{given} bytes were read where {most} do");
}

/// All of it goes on as it came, and so does its end.
async fn check_rest(mut body: Body, bytes: &[u8], end: End) {
    let mut found = Vec::new();
    let mut ended = End::Simply;
    while let Some(frame) =
        std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await
    {
        assert_eq!(ended, End::Simply, "something comes after the end");
        match frame {
            Ok(frame) => match frame.into_data() {
                Ok(data) => found.extend_from_slice(&data),
                Err(_trailers) => ended = End::WithTrailers,
            },
            Err(status) => {
                assert_eq!(status.message(), LOST);
                ended = End::WithError;
                break;
            }
        }
    }
    assert_eq!(found, bytes, "the body has changed");
    assert_eq!(ended, end, "it ends in another way");
}

/// A body in pieces, and where each ends.
fn pieces(bytes: &[u8], sizes: &[u8]) -> (VecDeque<Option<Bytes>>, Vec<usize>) {
    let (mut pieces, mut ends, mut from) = (VecDeque::new(), Vec::new(), 0);
    let mut add = |size: usize, pieces: &mut VecDeque<_>| {
        let to = (from + size).min(bytes.len());
        pieces.push_back(bytes.get(from..to).map(Bytes::copy_from_slice));
        ends.push(to);
        from = to;
    };
    for &size in sizes {
        match size {
            NOT_YET => pieces.push_back(None),
            size => add(size.into(), &mut pieces),
        }
    }
    add(bytes.len(), &mut pieces);
    (pieces, ends)
}

/// A body whose pieces come one by one. `None`: not yet.
struct Coming {
    pieces: VecDeque<Option<Bytes>>,
    end: Option<End>,
    given: Arc<AtomicUsize>,
}

impl http_body::Body for Coming {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.pieces.pop_front() {
            Some(Some(piece)) => {
                self.given.fetch_add(piece.len(), Ordering::Relaxed);
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            Some(None) => {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            None => {}
        }
        Poll::Ready(match self.end.take() {
            None | Some(End::Simply) => None,
            Some(End::WithTrailers) => Some(Ok(Frame::trailers(HeaderMap::new()))),
            Some(End::WithError) => Some(Err(Status::unavailable(LOST))),
        })
    }
}
