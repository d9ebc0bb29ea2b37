//! Requests for the audit log.

use aurae_authz::{Node, Permit};
use aurae_model::Invalid;
use aurae_proto::audit::StreamRequest;
use tonic::Request;

use super::{Admission, on_node};
use crate::audit::Start;

/// Admits `Stream`: where it starts, and whether it goes on with what comes.
///
/// # Errors
/// Two starts, or no permit.
pub fn stream(
    mut request: Request<StreamRequest>,
) -> Result<(Permit<Node>, Start, bool), Admission> {
    let permit = on_node(&mut request)?;
    let StreamRequest { follow, after, tail } = request.into_inner();
    let start = match (after, tail) {
        (Some(_), Some(_)) => {
            return Err(Invalid::new("tail", "Must not be set together with after").into());
        }
        (Some(after), None) => Start::After(after),
        (None, Some(tail)) => Start::Last(tail),
        (None, None) => Start::Kept,
    };
    Ok((permit, start, follow))
}

#[cfg(test)]
mod tests {
    use aurae_authz::{Action, Principal, authorize_inside};

    use super::*;

    fn admitted(after: Option<u64>, tail: Option<u32>) -> Result<Start, String> {
        let mut request = Request::new(StreamRequest { follow: true, after, tail });
        let permit = authorize_inside(&Principal::parent(), Action::new("/x")).unwrap();
        request.extensions_mut().insert(permit);
        let admitted = stream(request).map_err(|error| error.to_string());
        admitted.map(|(_, start, follow)| {
            assert!(follow);
            start
        })
    }

    #[test]
    fn a_stream_has_one_start() {
        assert_eq!(admitted(None, None), Ok(Start::Kept));
        assert_eq!(admitted(Some(0), None), Ok(Start::After(0)));
        assert_eq!(admitted(None, Some(3)), Ok(Start::Last(3)));
        let refusal = admitted(Some(1), Some(1)).unwrap_err();
        assert_eq!(refusal, "Field = tail; Must not be set together with after");
    }

    #[test]
    fn a_request_around_the_gate_is_refused() {
        let refused = stream(Request::new(StreamRequest::default())).unwrap_err();
        assert!(matches!(refused, Admission::NoPermit(_)));
    }
}
