//! The audit log as a stream.

use aurae_authz::{Node, Permit, Principal};
use aurae_proto::audit::audit_service_server::{AuditService, AuditServiceServer};
use aurae_proto::audit::{Decision, Record, StreamRequest, StreamResponse};
use futures_util::stream;
use tonic::{Request, Response, Status};

use crate::audit::{self, Audit, Entry, Reader, Seen, Start};
use crate::server::MAX_MESSAGE_BYTES;
use crate::service::Answers;
use crate::{admit, reply};

/// The service.
#[derive(Clone, Debug)]
pub struct AuditApi {
    audit: Audit,
}

impl AuditApi {
    /// A service over the log.
    #[must_use]
    pub fn service(audit: Audit) -> AuditServiceServer<Self> {
        AuditServiceServer::new(Self { audit }).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    fn records(
        &self,
        _permit: &Permit<Node>,
        start: Start,
        follow: bool,
    ) -> Result<Answers<StreamResponse>, Status> {
        let reader = self.audit.reader(start, follow).map_err(|error| reply::status(&error))?;
        Ok(Box::pin(stream::unfold(reader, |reader: Option<Reader>| async {
            let mut reader = reader?;
            let (seen, lost) = reader.next().await?;
            Some((Ok(response(&seen, lost)), Some(reader)))
        })))
    }
}

#[tonic::async_trait]
impl AuditService for AuditApi {
    type StreamStream = Answers<StreamResponse>;

    async fn stream(
        &self,
        request: Request<StreamRequest>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let (permit, start, follow) =
            admit::audit::stream(request).map_err(|error| reply::status(&error))?;
        Ok(Response::new(self.records(&permit, start, follow)?))
    }
}

fn response(seen: &Seen, lost: u64) -> StreamResponse {
    StreamResponse { missed: seen.missed, record: Some(record(&seen.entry)), lost }
}

fn record(entry: &Entry) -> Record {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let principal = entry.principal.as_ref();
    Record {
        sequence: entry.sequence,
        unix_nanos: i64::try_from(entry.unix_nanos).unwrap_or(i64::MAX),
        request_id: entry.request,
        principal: text(principal.map(Principal::name)),
        form: text(principal.map(|principal| principal.form().as_str())),
        peer: entry.peer.to_string(),
        action: text(entry.action.as_ref().map(aurae_authz::Action::as_str)),
        resource: text(entry.resource.as_deref()),
        decision: match entry.decision {
            audit::Decision::Allowed => Decision::Allowed.into(),
            audit::Decision::Denied => Decision::Denied.into(),
        },
        rule: text(entry.rule.as_deref()),
        status: i32::from(entry.code).unsigned_abs(),
        duration_us: entry.duration_us,
        reason: text(entry.reason.as_deref()),
        omitted: entry.omitted,
    }
}
