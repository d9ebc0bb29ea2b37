//! The deadline that a caller sets with the `grpc-timeout` header (gRPC over HTTP/2).

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use hyper::body::{Body as _, Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tonic::Status;
use tonic::body::Body;

use super::Refused;
use crate::reply;

/// The header's name.
const HEADER: &str = "grpc-timeout";

/// Calls within the caller's deadline, if it set one. When the deadline passes, the call is dropped; a
/// stream that has begun ends with DEADLINE_EXCEEDED, whether or not the caller ends it too.
pub(super) async fn bounded<B, C, F>(request: Request<B>, call: C) -> Response<Body>
where
    C: FnOnce(Request<B>) -> F,
    F: Future<Output = Response<Body>>,
{
    match timeout(request.headers()) {
        Ok(None) => call(request).await,
        Ok(Some(timeout)) => {
            let deadline = Instant::now() + timeout;
            match tokio::time::timeout_at(deadline, call(request)).await {
                Ok(response) => response.map(|body| bounded_body(body, deadline)),
                Err(_elapsed) => reply::status(&Refused::DeadlinePassed).into_http(),
            }
        }
        Err(refused) => reply::status(&refused).into_http(),
    }
}

fn bounded_body(body: Body, deadline: Instant) -> Body {
    if body.is_end_stream() {
        return body;
    }
    let passed = Box::pin(tokio::time::sleep_until(deadline));
    Body::new(Bounded { body, passed, ended: false })
}

/// An answer that ends at the deadline.
struct Bounded {
    body: Body,
    passed: Pin<Box<Sleep>>,
    ended: bool,
}

impl hyper::body::Body for Bounded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        // A stream that always has something ends too.
        if self.passed.as_mut().poll(context).is_ready() {
            self.ended = true;
            return Poll::Ready(Some(reply::trailers(&reply::status(&Refused::DeadlinePassed))));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Refused> {
    let Some(value) = headers.get(HEADER) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    match parse(text) {
        Some(timeout) => Ok(Some(timeout)),
        None => Err(Refused::BadDeadline(String::from_utf8_lossy(value.as_bytes()).into_owned())),
    }
}

fn parse(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let digits = text.strip_suffix(unit)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        'H' => Some(Duration::from_secs(count * 3600)),
        'M' => Some(Duration::from_secs(count * 60)),
        'S' => Some(Duration::from_secs(count)),
        'm' => Some(Duration::from_millis(count)),
        'u' => Some(Duration::from_micros(count)),
        'n' => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stream_that_goes_on_ends_at_the_deadline_with_its_status() {
        use futures_util::StreamExt as _;
        let one = Ok::<_, Status>(Frame::data(Bytes::from_static(b"one")));
        let messages = futures_util::stream::iter([one]).chain(futures_util::stream::pending());
        let body = Body::new(http_body_util::StreamBody::new(messages));
        let request = Request::builder().header(HEADER, "100m").body(Body::empty()).unwrap();
        let began = Instant::now();
        let response = bounded(request, |_| std::future::ready(Response::new(body))).await;
        let mut body = response.into_body();
        let mut next = async || std::future::poll_fn(|c| Pin::new(&mut body).poll_frame(c)).await;
        assert_eq!(next().await.unwrap().unwrap().into_data().unwrap(), "one");
        let trailers = next().await.unwrap().unwrap().into_trailers().unwrap();
        assert!(began.elapsed() >= Duration::from_millis(100));
        let status = Status::from_header_map(&trailers).unwrap();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        assert!(next().await.is_none());
    }

    #[test]
    fn every_unit_is_known() {
        assert_eq!(parse("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(parse("2M"), Some(Duration::from_secs(120)));
        assert_eq!(parse("2S"), Some(Duration::from_secs(2)));
        assert_eq!(parse("99999999m"), Some(Duration::from_millis(99_999_999)));
        assert_eq!(parse("2u"), Some(Duration::from_micros(2)));
        assert_eq!(parse("2n"), Some(Duration::from_nanos(2)));
    }

    #[test]
    fn malformed_deadlines_are_refused() {
        for bad in ["", "S", "1", "1s", "-1S", "+1S", "123456789S", "1 S", "1é"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
