//! From what an earlier daemon left to cells of this one.
//!
//! ```text
//! noted live,    its daemon runs      ─▶ a line and a connection through its door: Live
//! noted live,    its daemon is gone   ─▶ what is left in it is killed: Failed
//! noted failed                        ─▶ Failed
//! noted freeing                       ─▶ the free goes on
//! noted nothing: half made            ─▶ removed
//! ```

use std::sync::Arc;
use std::time::Duration;

use aurae_kernel::cgroup::Cgroup;
use aurae_kernel::seqpacket::Line;
use aurae_kernel::{Errno, Error, process, readiness, zone};
use aurae_model::CellName;
use prost::Message;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::connection::Connection;
use super::handle::{Cell, Cells};
use super::notes::{Standing, Traits};
use super::runner::{Daemon, End, Phase};
use super::{DAEMON_LEAF, LEAF_MARK};
use crate::reply::text;
use crate::runtime::DEFAULT_GRACE;
use crate::runtime::cgroup::Watched;
use crate::runtime::changes::{CellNews, News, Reason};
use crate::zone::line::receive;
use crate::zone::protocol::{Command, Event, Report, VERSION, order};

/// How long a zone's daemon may take to let this one in; one that is held up by its limits is slow.
const ADOPT_TIMEOUT: Duration = Duration::from_secs(20);

/// How often it is tried, with a pause: descriptors may have run out, or the zone may be held up. Then
/// the cell is told as failed, and left as it is.
const ADOPT_TRIES: u32 = 30;
const ADOPT_PAUSE: Duration = Duration::from_secs(1);

/// How long the start of the daemon waits for the cells that it has found. The others are found in
/// their own time, and cannot be reached until then.
const FIRST_LOOK: Duration = Duration::from_millis(500);

impl Cells {
    /// Looks below the cgroup for what an earlier daemon left.
    pub async fn adopt(&self) {
        let children = self.shared.settings.cgroup.children().unwrap_or_default();
        let mut adoptions = tokio::task::JoinSet::new();
        for name in children {
            let parsed = if name == CellName::of_node().as_str() {
                CellName::of_node()
            } else if name.starts_with(LEAF_MARK) {
                continue;
            } else if let Ok(name) = CellName::parse(&name, "name") {
                name
            } else {
                continue;
            };
            let cells = self.clone();
            cells.settling(&parsed, "found again");
            adoptions.spawn(async move { cells.adopt_one(parsed).await });
        }
        let all = async { while adoptions.join_next().await.is_some() {} };
        if tokio::time::timeout(FIRST_LOOK, all).await.is_err() {
            adoptions.detach_all();
        }
    }

    async fn adopt_one(&self, name: CellName) {
        match self.find_again(&name).await {
            Ok(Some((cell, free))) => {
                self.settled(&name, Some(Arc::clone(&cell)));
                cell.tell(CellNews::Found);
                if free {
                    let cells = self.clone();
                    tokio::spawn(async move { cells.end(&cell, DEFAULT_GRACE).await });
                }
            }
            Ok(None) => self.settled(&name, None),
            Err(error) => {
                let reason = text(&error);
                tracing::error!(cell = %name, reason, "what an earlier daemon left cannot be looked at");
                self.settled(&name, self.own_failed(&name, reason));
            }
        }
    }

    /// A cell that can be freed, and nothing else. `None` where not even its cgroup can be opened.
    pub(super) fn own_failed(&self, name: &CellName, reason: String) -> Option<Arc<Cell>> {
        let cgroup = self.shared.settings.cgroup.open_child(name.as_str()).ok()?;
        let (own_cgroup, watched) = (cgroup.try_clone().ok()?, Watched::new(&cgroup).ok()?);
        let cgroups = (cgroup, own_cgroup, watched);
        Some(self.own(name, cgroups, None, None, Phase::Failed(reason)))
    }

    /// The cell, and whether it was being freed; `None` where there is none, any more.
    async fn find_again(&self, name: &CellName) -> Result<Option<(Arc<Cell>, bool)>, Error> {
        let cgroup = self.shared.settings.cgroup.open_child(name.as_str())?;
        let noted = Traits::read(&cgroup)?.is_some();
        let standing = Standing::read(&cgroup)?;
        if standing == Standing::Unfinished {
            // Somebody else's, unless it is noted as a cell or nobody is in it.
            if noted || !cgroup.events()?.populated()? {
                self.clear(name, &cgroup).await?;
                tracing::warn!(cell = %name, "removed a cell that was half made");
            }
            return Ok(None);
        }
        let daemon = match &standing {
            Standing::Failed(_) => Err(None),
            _ => match enter_at_last(name, &cgroup).await {
                Ok(entered) => Ok(entered),
                Err(error) if is_gone(&error) => Err(Some(text(&error))),
                // It runs, so nothing is killed; who frees the cell ends it.
                Err(error) => return Err(error),
            },
        };
        let own_cgroup = cgroup.try_clone()?;
        let watched = Watched::new(&cgroup)?;
        let (connection, daemon, phase) = match daemon {
            Ok((connection, daemon)) => {
                tracing::info!(cell = %name, "found a cell again");
                (Some(connection), Some(daemon), Phase::Live)
            }
            Err(reason) => {
                let reason = match (standing.clone(), reason) {
                    (Standing::Failed(reason), _) => reason,
                    (_, reason) => {
                        let reason = reason.unwrap_or_default();
                        let reason = format!("it did not come back after a restart: {reason}");
                        let news = CellNews::Failed(Reason::new(&reason));
                        self.changes().push(News::Cell(name.clone(), news));
                        reason
                    }
                };
                tracing::error!(cell = %name, reason, "a cell's daemon is gone; the cell is killed");
                if standing != Standing::Freeing {
                    Standing::Failed(reason.clone()).note(&cgroup)?;
                }
                watched.kill(&cgroup).await?;
                (None, None, Phase::Failed(reason))
            }
        };
        let cell = self.own(name, (cgroup, own_cgroup, watched), connection, daemon, phase);
        Ok(Some((cell, standing == Standing::Freeing)))
    }
}

/// As [`enter`], tried again while the daemon is there.
async fn enter_at_last(name: &CellName, cgroup: &Cgroup) -> Result<(Connection, Daemon), Error> {
    let mut tries = 1;
    loop {
        let entered = tokio::time::timeout(ADOPT_TIMEOUT, enter(cgroup)).await;
        let late = || Error::new("be let in by the cell's daemon", Errno::TIMEDOUT);
        match entered.unwrap_or_else(|_| Err(late())) {
            Err(error) if !is_gone(&error) && tries < ADOPT_TRIES => {
                tracing::warn!(cell = %name, error = text(&error), "a cell is not found again yet");
            }
            outcome => return outcome,
        }
        tries += 1;
        tokio::time::sleep(ADOPT_PAUSE).await;
    }
}

/// Whether the daemon of a cell has ended, as the kernel says.
fn is_gone(error: &Error) -> bool {
    matches!(error.errno, Errno::SRCH | Errno::NOENT)
}

/// Comes in through the door of the daemon in `cgroup`.
async fn enter(cgroup: &Cgroup) -> Result<(Connection, Daemon), Error> {
    let failed =
        |operation: &'static str| move |error: std::io::Error| Error::from_io(operation, &error);
    let leaf = cgroup.open_child(DAEMON_LEAF)?;
    let gone = || Error::new("find the cell's daemon", Errno::SRCH);
    let pid = leaf.processes()?.first().copied().ok_or_else(gone)?;
    let pidfd = process::open_pidfd(pid)?;
    // The number may have been given anew before the descriptor was there.
    if leaf.processes()?.first() != Some(&pid) {
        return Err(gone());
    }
    let line = zone::knock(std::os::fd::AsFd::as_fd(&pidfd))?;
    let line =
        readiness::register(line, Interest::READABLE).map_err(failed("poll a zone's line"))?;
    let (connection, zone_stream) =
        Connection::pair().await.map_err(failed("connect to a cell's daemon"))?;
    let adopt = order(Command::Adopt(VERSION));
    line.get_ref().send_descriptor(&adopt, std::os::fd::AsFd::as_fd(&zone_stream))?;
    drop(zone_stream);
    let pidfd = readiness::register(pidfd, Interest::READABLE).map_err(failed("poll a process"))?;
    tokio::select! {
        adopted = adopted(&line) => adopted?,
        _ = pidfd.readable() => return Err(gone()),
    }
    Ok((connection, Daemon { line: Arc::new(line), end: End::Adopted(pidfd) }))
}

async fn adopted(line: &AsyncFd<Line>) -> Result<(), Error> {
    let refused = |reason: String| Error::new(format!("be let in: {reason}"), Errno::PROTO);
    let Some(message) = receive(line).await? else {
        return Err(refused("the line ended".to_owned()));
    };
    match Report::decode(message.bytes.as_slice()).map(|report| report.event) {
        Ok(Some(Event::Adopted(_))) => Ok(()),
        Ok(Some(Event::Failed(reason))) => Err(refused(reason)),
        _ => Err(refused("the zone sent something else first".to_owned())),
    }
}
