//! From what an earlier daemon left to cells of this one.
//!
//! ```text
//! noted live,    its daemon runs      ─▶ a line and a connection through its door: Live
//!                   and lets nobody in ─▶ it is tried again and again: Unreachable
//! noted live,    its daemon is gone   ─▶ what is left in it is killed: Failed
//! noted failed                        ─▶ Failed
//! noted freeing                       ─▶ the free goes on
//! noted as being made                 ─▶ removed
//! noted nothing                       ─▶ somebody else's: left alone
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

use super::connection::{Connection, Reached};
use super::handle::{Cell, Cells};
use super::notes::{Making, Standing, Traits};
use super::runner::{Daemon, End, Phase};
use super::{DAEMON_LEAF, LEAF_MARK};
use crate::reply::text;
use crate::runtime::DEFAULT_GRACE;
use crate::runtime::cgroup::{KILL_TIMEOUT, Watched};
use crate::runtime::changes::{CellNews, News, Reason};
use crate::zone::line::receive;
use crate::zone::protocol::{Command, Event, OLDEST, Report, VERSION, order};

/// How long a zone's daemon may take to let this one in; one that is held up by its limits is slow.
const ADOPT_TIMEOUT: Duration = Duration::from_secs(20);

/// The pause before a cell is looked at again that could not be: descriptors may have run out.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

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
        let found = loop {
            match self.find_again(&name).await {
                Ok(found) => break found,
                Err(error) if is_gone(&error) => break None,
                // Whatever it is, it may run: nobody can have the name, and nothing is done to it.
                Err(error) => {
                    tracing::error!(cell = %name, error = text(&error), "what an earlier daemon left cannot be looked at yet");
                    tokio::time::sleep(LOOK_PAUSE).await;
                }
            }
        };
        let Some((cell, free)) = found else { return self.settled(&name, None) };
        self.settled(&name, Some(Arc::clone(&cell)));
        if matches!(*cell.phase.borrow(), Phase::Live) {
            cell.tell(CellNews::Found);
        }
        if free {
            let cells = self.clone();
            tokio::spawn(async move { cells.end(&cell, DEFAULT_GRACE).await });
        }
    }

    /// The cell, and whether it was being freed; `None` where there is none, any more.
    async fn find_again(&self, name: &CellName) -> Result<Option<(Arc<Cell>, bool)>, Error> {
        let cgroup = self.shared.settings.cgroup.open_child(name.as_str())?;
        let noted = Traits::read(&cgroup)?.is_some();
        let standing = Standing::read(&cgroup)?;
        if standing == Standing::Unfinished {
            // Somebody else's, unless it is noted that it was being made.
            let mark = Making::of(name);
            let around = &self.shared.settings.cgroup;
            if noted || (mark.is_noted(around)? && !cgroup.events()?.populated()?) {
                self.clear(name, &cgroup).await?;
                tracing::warn!(cell = %name, "removed a cell that was half made");
            }
            mark.take_back(around);
            return Ok(None);
        }
        let own_cgroup = cgroup.try_clone()?;
        let watched = Watched::new(&cgroup)?;
        let (daemon, phase) = match &standing {
            Standing::Failed(reason) => (None, Phase::Failed(reason.clone())),
            _ => match enter_in_time(&cgroup).await {
                Ok(entered) => {
                    tracing::info!(cell = %name, "found a cell again");
                    (Some(entered), Phase::Live)
                }
                Err(error) if is_gone(&error) => {
                    let reason = format!("it did not come back after a restart: {}", text(&error));
                    (None, self.lost(name, &cgroup, &standing, reason)?)
                }
                // It runs, so nothing is killed.
                Err(error) => {
                    let reason = text(&error);
                    tracing::warn!(cell = %name, reason, "a cell is not reached yet");
                    (None, Phase::Unreachable(reason))
                }
            },
        };
        if matches!(phase, Phase::Failed(_)) {
            let killed = tokio::time::timeout(KILL_TIMEOUT, watched.kill(&cgroup)).await;
            // Who frees the cell kills again, and is told who does not die.
            killed.unwrap_or(Ok(()))?;
        }
        let cell = self.own(name, (cgroup, own_cgroup, watched), daemon, phase);
        Ok(Some((cell, standing == Standing::Freeing)))
    }

    /// Notes and tells that a cell's daemon is gone.
    fn lost(
        &self,
        name: &CellName,
        cgroup: &Cgroup,
        standing: &Standing,
        reason: String,
    ) -> Result<Phase, Error> {
        tracing::error!(cell = %name, reason, "a cell's daemon is gone; the cell is killed");
        if *standing != Standing::Freeing {
            Standing::Failed(reason.clone()).note(cgroup)?;
        }
        self.changes().push(News::Cell(name.clone(), CellNews::Failed(Reason::new(&reason))));
        Ok(Phase::Failed(reason))
    }
}

/// As [`enter`], in bounds.
pub(super) async fn enter_in_time(cgroup: &Cgroup) -> Result<(Reached, Daemon), Error> {
    let entered = tokio::time::timeout(ADOPT_TIMEOUT, enter(cgroup)).await;
    let late = || Error::new("be let in by the cell's daemon", Errno::TIMEDOUT);
    entered.unwrap_or_else(|_| Err(late()))
}

/// Whether the daemon of a cell has ended, as the kernel says.
pub(super) fn is_gone(error: &Error) -> bool {
    matches!(error.errno, Errno::SRCH | Errno::NOENT)
}

/// Comes in through the door of the daemon in `cgroup`.
async fn enter(cgroup: &Cgroup) -> Result<(Reached, Daemon), Error> {
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
    let version = tokio::select! {
        adopted = adopted(&line) => adopted?,
        _ = pidfd.readable() => return Err(gone()),
    };
    let daemon = Daemon::new(line, End::Adopted(pidfd));
    Ok((Reached { connection, version }, daemon))
}

/// Waits to be let in, and answers the version of the protocol that the zone speaks.
async fn adopted(line: &AsyncFd<Line>) -> Result<u32, Error> {
    let refused = |reason: String| Error::new(format!("be let in: {reason}"), Errno::PROTO);
    let Some(message) = receive(line).await? else {
        return Err(refused("the line ended".to_owned()));
    };
    match Report::decode(message.bytes.as_slice()).map(|report| report.event) {
        Ok(Some(Event::Adopted(version))) if version < OLDEST => Err(refused(format!(
            "this daemon speaks versions {OLDEST} to {VERSION}, not {version}"
        ))),
        Ok(Some(Event::Adopted(version))) => Ok(version),
        Ok(Some(Event::Failed(reason))) => Err(refused(reason)),
        _ => Err(refused("the zone sent something else first".to_owned())),
    }
}
