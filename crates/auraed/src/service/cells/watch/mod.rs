//! `Watch`: the changes of this daemon's own zone, merged with those that the zones inside tell.

mod inside;
mod merge;

use std::time::Duration;

use aurae_authz::Form;
use aurae_proto::cells as wire;
use aurae_proto::cells::{CellServiceWatchResponse as Answer, ChangeKind};
use futures_util::stream;
use tonic::{Request, Response, Status};

use super::sight;
use crate::admit::{self, watch::Start};
use crate::reply;
use crate::runtime::cells::Cells;
use crate::runtime::changes::{CellNews, Change, ExecutableNews, News, Reason, Seen, Watcher};
use crate::service::Answers;
use merge::Merge;

/// A client that goes on after a number may not have got what came to a zone inside shortly before, as
/// that takes its time. So zones are asked for what came since so long before. Of a zone that takes
/// longer than this to answer, it is told that changes may have been missed.
const OVERLAP: Duration = merge::CATCH_UP;

/// Answers `Watch`.
pub(super) fn watch(
    cells: &Cells,
    request: Request<wire::CellServiceWatchRequest>,
) -> Result<Response<Answers<Answer>>, Status> {
    let (permit, start) = admit::watch::watch(request).map_err(|error| reply::status(&error))?;
    let watcher = match permit.principal().form() {
        Form::Parent => Watcher::Relay,
        Form::Executable => Watcher::Executable,
        Form::Spiffe | Form::Dns | Form::CommonName | Form::Serial => Watcher::Client,
    };
    // A daemon that asks for itself has the overlap in its number.
    let is_parent = watcher == Watcher::Relay;
    let overlap = if is_parent { Duration::ZERO } else { OVERLAP };
    let nanos = u64::try_from(overlap.as_nanos()).unwrap_or(u64::MAX);
    let (after, inside_after) = match start {
        Start::Kept => (None, None),
        Start::After(after) => (Some(after), Some(after.saturating_sub(nanos))),
        Start::New => {
            let newest = cells.changes().newest();
            (Some(newest), Some(newest))
        }
    };
    let own = cells.changes().reader(watcher, after).map_err(|error| reply::status(&error))?;
    let mut merge = Merge::new(cells.clone(), own, after, inside_after, is_parent);
    let changes = stream::poll_fn(move |context| merge.poll_next(context));
    if permit.policies().is_none() {
        return Ok(Response::new(Box::pin(changes)));
    }
    Ok(Response::new(Box::pin(sight::visible_changes(permit, changes))))
}

/// That changes of a cell, or of those inside it, may have been missed, up to this number.
fn missed(cell_name: String, reason: &str, sequence: u64) -> Answer {
    Answer {
        sequence,
        time: Some(timestamp(sequence)),
        kind: ChangeKind::Resync.into(),
        cell_name,
        reason: Reason::new(reason).as_str().to_owned(),
        ..Answer::default()
    }
}

/// A change of this daemon's own; `None`: clients are not told.
fn answer(Seen { missed, change }: &Seen) -> Option<Answer> {
    let Change { sequence, unix_nanos, news } = change;
    let answer = Answer {
        sequence: *sequence,
        time: Some(timestamp(*unix_nanos)),
        missed: *missed,
        ..Answer::default()
    };
    match news {
        News::Resync => Some(Answer { kind: ChangeKind::Resync.into(), ..answer }),
        News::Cell(name, news) => {
            let (kind, reason) = cell_news(news)?;
            // The zone of the node's own executables is no cell to clients; its loss is one to them.
            let cell_name = match (name.is_of_node(), kind) {
                (false, _) => name.to_string(),
                (true, ChangeKind::CellFailed) => String::new(),
                (true, _) => return None,
            };
            Some(Answer { kind: kind.into(), cell_name, reason: text(reason), ..answer })
        }
        News::Executable(name, pid, news) => {
            let (kind, exit_status, reason) = executable_news(news);
            Some(Answer {
                kind: kind.into(),
                executable_name: name.to_string(),
                pid: *pid,
                exit_status,
                reason: text(reason),
                ..answer
            })
        }
    }
}

fn cell_news(news: &CellNews) -> Option<(ChangeKind, Option<&Reason>)> {
    Some(match news {
        CellNews::Found => return None,
        CellNews::Allocated => (ChangeKind::CellAllocated, None),
        CellNews::Failed(reason) => (ChangeKind::CellFailed, Some(reason)),
        CellNews::Freed => (ChangeKind::CellFreed, None),
        CellNews::Frozen => (ChangeKind::CellFrozen, None),
        CellNews::Thawed => (ChangeKind::CellThawed, None),
        CellNews::Updated => (ChangeKind::CellUpdated, None),
    })
}

fn executable_news(
    news: &ExecutableNews,
) -> (ChangeKind, Option<wire::ExitStatus>, Option<&Reason>) {
    match news {
        ExecutableNews::Started => (ChangeKind::ExecutableStarted, None, None),
        ExecutableNews::Restarted => (ChangeKind::ExecutableRestarted, None, None),
        ExecutableNews::OomKilled => (ChangeKind::ExecutableOomKilled, None, None),
        ExecutableNews::Ended { outcome, reason } => {
            let status = super::messages::exit_status(*outcome);
            (ChangeKind::ExecutableEnded, Some(status), reason.as_ref())
        }
    }
}

fn text(reason: Option<&Reason>) -> String {
    reason.map(|reason| reason.as_str().to_owned()).unwrap_or_default()
}

fn timestamp(unix_nanos: u64) -> prost_types::Timestamp {
    (std::time::UNIX_EPOCH + Duration::from_nanos(unix_nanos)).into()
}

#[cfg(test)]
mod tests;
