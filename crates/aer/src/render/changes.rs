//! A change of a zone as a line for people.

use aurae_proto::cells::{CellServiceWatchResponse, ChangeKind, ExitStatus, exit_status::Reason};

use crate::output::printable;
use crate::units;

/// The columns: number, time, cell, executable, what happened. `-`: the zone itself, or none.
pub(super) fn line(change: &CellServiceWatchResponse) -> String {
    let column = |name: &str| match name {
        "" => "-".to_owned(),
        name => printable(name),
    };
    let time = change.time.as_ref().and_then(|time| {
        units::format_time(i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos))
    });
    let columns = [
        change.sequence.to_string(),
        column(&time.unwrap_or_default()),
        column(&change.cell_name),
        column(&change.executable_name),
        happened(change),
    ];
    columns.join("  ")
}

/// `ended: exit code 3`.
fn happened(change: &CellServiceWatchResponse) -> String {
    let mut text = verb(change.kind());
    let end = change.exit_status.as_ref().map(end);
    let reason = Some(printable(&change.reason)).filter(|reason| !reason.is_empty());
    let pid = (change.pid != 0 && end.is_none()).then(|| format!("process {}", change.pid));
    let details: Vec<_> = [end, pid, reason].into_iter().flatten().collect();
    if !details.is_empty() {
        text = format!("{text}: {}", details.join(", "));
    }
    text
}

fn verb(kind: ChangeKind) -> String {
    let name = kind.as_str_name();
    let name = name.strip_prefix("CHANGE_KIND_").unwrap_or(name);
    let name =
        ["CELL_", "EXECUTABLE_"].iter().find_map(|what| name.strip_prefix(what)).unwrap_or(name);
    match kind {
        // Of a newer node.
        ChangeKind::Unspecified => "changed".to_owned(),
        ChangeKind::Resync => "resync: changes are missing here, list again".to_owned(),
        _ => name.to_lowercase().replace('_', " "),
    }
}

fn end(status: &ExitStatus) -> String {
    match status.reason {
        Some(Reason::Code(code)) => format!("exit code {code}"),
        Some(Reason::Signal(signal)) => units::format_signal(signal.into()),
        None => "nobody knows how".to_owned(),
    }
}
