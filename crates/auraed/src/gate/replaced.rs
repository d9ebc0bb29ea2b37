//! Answers that are under way when another version of the daemon takes over: they end with a status that
//! tells clients to ask again.
//!
//! ```text
//! not begun   has GRACE to be answered, then UNAVAILABLE
//! a stream    goes on until it has nothing to tell, for LAST_MESSAGES at most, then UNAVAILABLE
//! ```

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use hyper::body::{Body as _, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

use super::Refused;
use crate::reply;
use crate::shutdown::{Intent, Shutdown};

/// How long a call that was begun has to be answered: most take milliseconds, and new connections wait
/// meanwhile.
const GRACE: Duration = Duration::from_millis(200);

/// A client may ask again after so long: the new version accepts then, or connections wait for it.
const PAUSE: Duration = Duration::from_millis(500);

/// How many messages of a stream that always has one still go: more than a unary answer has.
const LAST_MESSAGES: u32 = 2;

/// Answers, or tells that another version takes over.
pub(super) async fn interruptible(
    shutdown: &Shutdown,
    answer: impl Future<Output = Response<Body>>,
) -> Response<Body> {
    let over = async {
        shutdown.wait_for_replacement().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        biased;
        response = answer => response.map(|body| {
            if body.is_end_stream() {
                return body;
            }
            let shutdown = shutdown.clone();
            Body::new(Interruptible { body, shutdown, replaced: None, last: 0, ended: false })
        }),
        () = over => reply::status_to_retry(&Refused::Replaced, PAUSE).into_http(),
    }
}

/// An answer that ends when another version takes over.
struct Interruptible {
    body: Body,
    shutdown: Shutdown,
    /// There since the answer had to be waited for.
    replaced: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// How many messages went since another version takes over.
    last: u32,
    ended: bool,
}

impl Interruptible {
    /// Whether another version takes over; if not, the task is woken when one does.
    fn poll_replaced(&mut self, context: &mut Context<'_>) -> bool {
        let replaced = self.replaced.get_or_insert_with(|| {
            let shutdown = self.shutdown.clone();
            Box::pin(async move { shutdown.wait_for_replacement().await })
        });
        replaced.as_mut().poll(context).is_ready()
    }

    fn end(&mut self) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.ended = true;
        let status = reply::status_to_retry(&Refused::Replaced, PAUSE);
        Poll::Ready(Some(reply::trailers(&status)))
    }
}

impl hyper::body::Body for Interruptible {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let replaced = self.shutdown.requested() == Some(Intent::Replace);
        if replaced && self.last == LAST_MESSAGES {
            return self.end();
        }
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Pending if self.poll_replaced(context) => self.end(),
            Poll::Ready(Some(Ok(frame))) => {
                self.last += u32::from(replaced && frame.is_data());
                Poll::Ready(Some(Ok(frame)))
            }
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
