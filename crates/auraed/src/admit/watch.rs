//! Requests to watch a zone.

use aurae_authz::{Node, Permit};
use aurae_model::Invalid;
use aurae_proto::cells::CellServiceWatchRequest;
use tonic::Request;

use super::{Admission, on_node};

/// Where a watch starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With what is kept.
    Kept,
    /// After the change of this number.
    After(u64),
    /// With what comes.
    New,
}

/// Admits `Watch`.
///
/// # Errors
/// Two starts, or no permit.
pub fn watch(
    mut request: Request<CellServiceWatchRequest>,
) -> Result<(Permit<Node>, Start), Admission> {
    let permit = on_node(&mut request)?;
    let start = match request.into_inner() {
        CellServiceWatchRequest { after: Some(_), only_new: true } => {
            return Err(Invalid::new("only_new", "Must not be set together with after").into());
        }
        CellServiceWatchRequest { after: Some(after), .. } => Start::After(after),
        CellServiceWatchRequest { only_new: true, .. } => Start::New,
        CellServiceWatchRequest { .. } => Start::Kept,
    };
    Ok((permit, start))
}

#[cfg(test)]
mod tests {
    use aurae_authz::{Action, Principal, authorize_inside};

    use super::*;

    fn admitted(after: Option<u64>, only_new: bool) -> Result<Start, String> {
        let mut request = Request::new(CellServiceWatchRequest { after, only_new });
        let principal = Principal::common_name("alice");
        request.extensions_mut().insert(authorize_inside(&principal, Action::new("/x")).unwrap());
        watch(request).map(|(_, start)| start).map_err(|error| error.to_string())
    }

    #[test]
    fn a_watch_has_one_start() {
        assert_eq!(admitted(None, false), Ok(Start::Kept));
        assert_eq!(admitted(Some(0), false), Ok(Start::After(0)));
        assert_eq!(admitted(None, true), Ok(Start::New));
        let refusal = admitted(Some(1), true).unwrap_err();
        assert_eq!(refusal, "Field = only_new; Must not be set together with after");
    }

    #[test]
    fn a_request_around_the_gate_is_refused() {
        let refused = watch(Request::new(CellServiceWatchRequest::default())).unwrap_err();
        assert!(matches!(refused, Admission::NoPermit(_)));
    }
}
