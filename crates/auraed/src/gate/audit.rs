//! The audit record of a request: who, from where, what for, what came of it, how long it took.
//!
//! A record is written once, when the response's trailers were handed to the connection, or when the
//! client went away before. It is an event of the target `audit`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use aurae_authz::{Action, Principal};
use aurae_model::ZonePath;
use bytes::Bytes;
use http::{HeaderMap, Response};
use hyper::body::{Frame, SizeHint};
use tonic::body::Body;
use tonic::{Code, Status};

/// An open record. Dropped while open, it says that the client cancelled.
#[derive(Debug)]
pub(super) struct Record {
    request: u64,
    principal: Principal,
    peer: Arc<str>,
    action: Action,
    /// Where it is answered; `None`: here.
    zone: Option<ZonePath>,
    opened: Instant,
    closed: bool,
}

impl Record {
    pub(super) fn open(
        request: u64,
        principal: Principal,
        peer: Arc<str>,
        action: Action,
        zone: Option<ZonePath>,
    ) -> Self {
        Self { request, principal, peer, action, zone, opened: Instant::now(), closed: false }
    }

    /// Hands the record to the response: it is closed when the response ends.
    pub(super) fn attach(mut self, response: Response<Body>) -> Response<AuditedBody> {
        // A response that is an error from the start has its status among the headers.
        if let Some(code) = code(response.headers()) {
            self.close(code);
        }
        response.map(|body| AuditedBody { body, record: self })
    }

    fn close(&mut self, code: Code) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        tracing::info!(
            target: "audit",
            request = self.request,
            principal = self.principal.name(),
            form = self.principal.form().as_str(),
            peer = &*self.peer,
            action = self.action.as_str(),
            zone = self.zone.as_ref().map(|zone| zone.to_string()),
            status = ?code,
            duration_us = u64::try_from(self.opened.elapsed().as_micros()).unwrap_or(u64::MAX),
        );
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.close(Code::Cancelled);
    }
}

fn code(headers: &HeaderMap) -> Option<Code> {
    Status::from_header_map(headers).map(|status| status.code())
}

/// A response's body with its audit record.
#[derive(Debug)]
pub struct AuditedBody {
    body: Body,
    record: Record,
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
