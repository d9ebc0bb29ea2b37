//! The audit record of a call is closed when the response's trailers were handed to the connection, or
//! when the client went away before.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Response};
use hyper::body::{Frame, SizeHint};
use tonic::body::Body;
use tonic::{Code, Status};

use crate::audit::Record;
use crate::share::Call;

/// Hands the record, and the call's place in its principal's share, to the response: both end with it.
pub(super) fn attach(
    mut record: Record,
    call: Option<Call>,
    response: Response<Body>,
) -> Response<AuditedBody> {
    // A response that is an error from the start has its status among the headers.
    if let Some(code) = code(response.headers()) {
        record.close(code);
    }
    response.map(|body| AuditedBody { body, record, _call: call })
}

/// The header, or trailer, that says how a call ended (gRPC over HTTP/2, Status).
const STATUS: &str = "grpc-status";

/// The code alone: the rest of a status would be copied for nothing.
fn code(headers: &HeaderMap) -> Option<Code> {
    headers.get(STATUS).map(|code| Code::from_bytes(code.as_bytes()))
}

/// A response's body with its audit record.
#[derive(Debug)]
pub struct AuditedBody {
    body: Body,
    record: Record,
    _call: Option<Call>,
}

impl hyper::body::Body for AuditedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        match &frame {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(code) = frame.trailers_ref().and_then(code) {
                    self.record.close(code);
                }
            }
            Poll::Ready(Some(Err(status))) => self.record.close(status.code()),
            Poll::Ready(None) => self.record.close(Code::Unknown),
            Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
