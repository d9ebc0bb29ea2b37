//! The deadline that a caller sets with the `grpc-timeout` header (gRPC over HTTP/2).

use std::future::Future;
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use tonic::body::Body;

use super::Refused;
use crate::reply;

/// The header's name.
const HEADER: &str = "grpc-timeout";

/// Calls within the caller's deadline, if it set one. When the deadline passes, the call is dropped.
///
/// It bounds the time to the response's start: a stream that goes on is ended by the caller.
pub(super) async fn bounded<C, F>(request: Request<Body>, call: C) -> Response<Body>
where
    C: FnOnce(Request<Body>) -> F,
    F: Future<Output = Response<Body>>,
{
    match timeout(request.headers()) {
        Ok(None) => call(request).await,
        Ok(Some(timeout)) => match tokio::time::timeout(timeout, call(request)).await {
            Ok(response) => response,
            Err(_elapsed) => reply::status(&Refused::DeadlinePassed).into_http(),
        },
        Err(refused) => reply::status(&refused).into_http(),
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
