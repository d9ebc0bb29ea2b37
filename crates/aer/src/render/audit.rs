//! A record of the audit log as a line for people.

use aurae_proto::audit::{Decision, Record};
use tonic::Code;

use crate::output::printable;
use crate::units;

/// The columns: number, time, who, from where, what for, on what, what came of it, how long it took. `-`:
/// there is none.
pub(super) fn line(record: &Record) -> String {
    let column = |text: &str| match text {
        "" => "-".to_owned(),
        text => printable(text),
    };
    let columns = [
        record.sequence.to_string(),
        column(&units::format_time(i128::from(record.unix_nanos)).unwrap_or_default()),
        column(&record.principal),
        column(&record.peer),
        column(record.action.strip_prefix('/').unwrap_or(&record.action)),
        column(&record.resource),
        outcome(record),
        format!("{} µs", record.duration_us),
    ];
    columns.join("  ")
}

/// `OK`, `denied by policy3: PERMISSION_DENIED`.
fn outcome(record: &Record) -> String {
    let denied = record.decision() == Decision::Denied;
    let end = match (record.status, record.reason.as_str()) {
        // A connection, which has no status of its own.
        (_, reason) if !reason.is_empty() => printable(reason),
        (status, _) => {
            i32::try_from(status).map(Code::from_i32).map_or_else(|_| status.to_string(), name)
        }
    };
    match (denied, record.rule.as_str()) {
        (false, _) => end,
        (true, "") => format!("denied: {end}"),
        (true, rule) => format!("denied by {}: {end}", printable(rule)),
    }
}

/// As gRPC's documents spell it.
fn name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() && code != Code::Ok {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            sequence: 7,
            unix_nanos: 1_500_000_000_000_000_000,
            principal: "spiffe://a/b".into(),
            form: "spiffe".into(),
            peer: "127.0.0.1:5".into(),
            action: "/aurae.cells.v0.CellService/Free".into(),
            resource: "cells/web".into(),
            decision: Decision::Allowed.into(),
            duration_us: 40,
            ..Record::default()
        }
    }

    #[test]
    fn a_record_is_a_line() {
        let line = line(&record());
        assert!(line.starts_with("7  2017-07-14T02:40:00"), "{line}");
        let rest =
            "  spiffe://a/b  127.0.0.1:5  aurae.cells.v0.CellService/Free  cells/web  OK  40 µs";
        assert!(line.ends_with(rest), "{line}");
    }

    #[test]
    fn a_denial_says_what_denied_and_a_refused_connection_why() {
        let decision = Decision::Denied.into();
        let denied = Record { decision, status: 7, rule: "policy3".into(), ..record() };
        assert_eq!(outcome(&denied), "denied by policy3: PERMISSION_DENIED");
        let refused =
            Record { decision, status: 16, reason: "expired\n".into(), ..Record::default() };
        assert_eq!(outcome(&refused), "denied: expired\\n");
        assert!(line(&refused).contains("  -  -  -  -  denied: expired"), "{}", line(&refused));
    }

    #[test]
    fn codes_are_spelled_as_grpc_does() {
        assert_eq!(name(Code::Ok), "OK");
        assert_eq!(name(Code::DeadlineExceeded), "DEADLINE_EXCEEDED");
    }
}
