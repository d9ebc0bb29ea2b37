//! Requests of `aurae.observe.v0`.

use aurae_authz::{Executable, Node, Permit};
use aurae_model::{CellPath, ExecutableName, Invalid};
use aurae_proto::observe::{GetExecutableLogsRequest, GetSubProcessStreamRequest, LogChannelType};
use prost::Message;
use prost_types::Timestamp;
use tonic::Request;

use super::{Admission, on_node, permit};
use crate::runtime::logs::{Channel, ReaderOptions};

/// A request for an executable's output.
#[derive(Debug)]
pub struct ExecutableLogs {
    /// For the executable.
    pub permit: Permit<Executable>,
    /// What of its output.
    pub options: ReaderOptions,
}

/// A request for the output of a process.
#[derive(Debug)]
pub struct ProcessLogs {
    /// For the daemon, until it is known whose process it is.
    pub permit: Permit<Node>,
    /// The process id, more than 0.
    pub pid: i32,
    /// What of its output.
    pub options: ReaderOptions,
    /// The message that was allowed, encoded: it is decided over again where the process is found.
    pub request: Vec<u8>,
}

/// Admits `GetExecutableLogs`.
///
/// # Errors
/// A field that breaks a rule, or no permit.
pub fn executable_logs(
    mut request: Request<GetExecutableLogsRequest>,
) -> Result<ExecutableLogs, Admission> {
    let permit = permit(&mut request)?;
    let wire = request.get_ref();
    let cell = wire.cell_name.as_deref();
    let cell = cell.map(|path| CellPath::parse(path, "cell_name")).transpose()?;
    let name = ExecutableName::parse(&wire.executable_name, "executable_name")?;
    let options = ReaderOptions {
        tail: wire.tail,
        since: wire.since.as_ref().map(unix_nanos).transpose()?,
        channel: channel(wire.channel_type)?,
        follow: wire.follow,
    };
    Ok(ExecutableLogs { permit: permit.narrow(Executable { cell, name })?, options })
}

/// Admits `GetSubProcessStream`.
///
/// # Errors
/// A field that breaks a rule, or no permit.
pub fn process_logs(
    mut request: Request<GetSubProcessStreamRequest>,
) -> Result<ProcessLogs, Admission> {
    let permit = on_node(&mut request)?;
    let wire = request.get_ref();
    let pid = wire.process_id;
    match pid {
        0 => return Err(Invalid::required("process_id").into()),
        ..0 => return Err(Invalid::new("process_id", "A process id is more than 0").into()),
        _ => {}
    }
    let channel = channel(wire.channel_type)?;
    let options = ReaderOptions { channel, follow: true, ..ReaderOptions::default() };
    Ok(ProcessLogs { permit, pid, options, request: wire.encode_to_vec() })
}

fn channel(value: i32) -> Result<Option<Channel>, Admission> {
    match LogChannelType::try_from(value) {
        Ok(LogChannelType::Unspecified) => Ok(None),
        Ok(LogChannelType::Stdout) => Ok(Some(Channel::Stdout)),
        Ok(LogChannelType::Stderr) => Ok(Some(Channel::Stderr)),
        Err(_) => Err(Admission::UnknownValue { field: "channel_type", value }),
    }
}

/// Nanoseconds since the epoch. A time that 64 bits cannot hold is as good as the nearest that they
/// can.
fn unix_nanos(time: &Timestamp) -> Result<i64, Invalid> {
    if !(0..1_000_000_000).contains(&time.nanos) {
        return Err(Invalid::new("since.nanos", "Must be in 0 to 999999999"));
    }
    Ok(time.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(time.nanos)))
}

#[cfg(test)]
mod tests {
    use aurae_authz::{Action, Principal, authorize_inside};
    use proptest::prelude::*;

    use super::*;

    fn permitted<T>(message: T) -> Request<T> {
        let mut request = Request::new(message);
        let principal = Principal::common_name("alice");
        request.extensions_mut().insert(authorize_inside(&principal, Action::new("/x")).unwrap());
        request
    }

    fn refusal(message: GetExecutableLogsRequest) -> String {
        executable_logs(permitted(message)).unwrap_err().to_string()
    }

    fn logs_of(name: &str) -> GetExecutableLogsRequest {
        GetExecutableLogsRequest { executable_name: name.into(), ..Default::default() }
    }

    #[test]
    fn every_field_is_checked() {
        assert_eq!(refusal(logs_of("")), "Field = executable_name; Required");
        let bad = GetExecutableLogsRequest { cell_name: Some("../x".into()), ..logs_of("a") };
        assert!(refusal(bad).starts_with("Field = cell_name; "));
        let bad = GetExecutableLogsRequest { channel_type: 7, ..logs_of("a") };
        assert_eq!(refusal(bad), "Field = channel_type; 7 is not a known value");
        let since = Some(Timestamp { seconds: 0, nanos: -1 });
        let bad = GetExecutableLogsRequest { since, ..logs_of("a") };
        assert!(refusal(bad).starts_with("Field = since.nanos; "));
    }

    #[test]
    fn a_request_around_the_gate_is_refused() {
        let refused = executable_logs(Request::new(logs_of("a"))).unwrap_err();
        assert!(matches!(refused, Admission::NoPermit(_)));
    }

    #[test]
    fn a_process_id_is_required() {
        for (pid, text) in [(0, "Field = process_id; Required"), (-1, "Field = process_id; A")] {
            let wire = GetSubProcessStreamRequest { process_id: pid, ..Default::default() };
            let refusal = process_logs(permitted(wire)).unwrap_err().to_string();
            assert!(refusal.starts_with(text), "{refusal}");
        }
    }

    proptest! {
        #[test]
        fn no_time_is_too_great(seconds: i64, nanos in 0..1_000_000_000) {
            let time = Timestamp { seconds, nanos };
            prop_assert!(unix_nanos(&time).is_ok());
        }
    }
}
