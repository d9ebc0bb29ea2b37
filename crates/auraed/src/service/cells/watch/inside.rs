//! What the daemon of a zone inside tells of its subtree.
//!
//! ```text
//! opening ─▶ behind ─its mark, or too late─▶ up to date
//!    ▲         │                               │
//!    └─ pause ─┴──────── cannot be watched ────┘     told once, as missed changes
//! ```

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use aurae_proto::cells::{CellServiceWatchRequest, CellServiceWatchResponse as Answer, ChangeKind};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::time::Sleep;
use tonic::Status;

use super::super::place::{client, from_zone};
use super::missed;
use crate::reply;
use crate::runtime::cells::Zone;
use crate::runtime::changes::Changes;
use crate::service::Answers;

/// The pause before a zone that could not be watched is asked again: it has too many calls, perhaps.
const PAUSE: Duration = Duration::from_secs(5);

/// The changes of a zone inside, with its name before those of its cells.
pub(super) struct Inside {
    pub(super) zone: Zone,
    /// `None`: it has ended, or is to be asked again.
    answers: Option<Answers<Answer>>,
    /// The time to ask again.
    pause: Option<Pin<Box<Sleep>>>,
    /// What it is asked for then.
    after: Option<u64>,
    /// What comes next.
    pub(super) head: Option<Answer>,
    /// To be told after that: that changes may have been missed.
    owed: Option<Answer>,
    /// It could not be watched, which was told.
    is_lost: bool,
    /// It has not told all that it had kept.
    pub(super) is_behind: bool,
}

impl Inside {
    /// Asks the zone's daemon, in place of whoever watches this one. `is_behind`: what it has kept is
    /// waited for.
    pub(super) fn new(zone: Zone, after: Option<u64>, is_behind: bool) -> Self {
        let answers = Some(open(zone.clone(), after));
        let (pause, head, owed, is_lost) = (None, None, None, false);
        Self { zone, answers, pause, after, head, owed, is_lost, is_behind }
    }

    /// Takes what comes next, if it is there. Answers whether there is, or may be, something.
    pub(super) fn fill(&mut self, context: &mut Context<'_>, changes: &Changes) -> bool {
        while self.head.is_none() {
            self.head = self.owed.take();
            if self.head.is_some() {
                break;
            }
            if let Some(pause) = &mut self.pause {
                if !self.zone.is_live() {
                    return false;
                }
                if pause.as_mut().poll(context).is_pending() {
                    return true;
                }
                self.pause = None;
                self.answers = Some(open(self.zone.clone(), self.after));
            }
            let Some(answers) = &mut self.answers else { return false };
            match answers.poll_next_unpin(context) {
                Poll::Pending => return true,
                Poll::Ready(Some(Ok(answer))) => self.take(answer),
                Poll::Ready(Some(Err(status))) => {
                    self.answers = None;
                    // A lost connection is the end of the zone's daemon, which is told as a change.
                    if std::error::Error::source(&status).is_none() && self.zone.is_live() {
                        self.ask_again(status, changes);
                    }
                }
                Poll::Ready(None) => self.answers = None,
            }
        }
        true
    }

    fn take(&mut self, answer: Answer) {
        self.is_lost = false;
        if answer.kind() == ChangeKind::Unspecified {
            self.is_behind = false;
        } else {
            self.after = Some(answer.sequence);
            self.head = Some(self.outside(answer));
        }
    }

    /// The zone cannot be watched: no reason to end what is told of the others.
    fn ask_again(&mut self, status: Status, changes: &Changes) {
        self.pause = Some(Box::pin(tokio::time::sleep(PAUSE)));
        if !std::mem::replace(&mut self.is_lost, true) {
            self.owe(from_zone(&self.zone, status).message(), changes);
        }
        self.is_behind = false;
    }

    /// The zone was waited for long enough.
    pub(super) fn stop_waiting(&mut self, changes: &Changes) {
        if std::mem::take(&mut self.is_behind) && self.after.is_some() {
            self.owe("its daemon did not tell in time what it had kept", changes);
        }
    }

    fn owe(&mut self, reason: &str, changes: &Changes) {
        let name = self.zone.first();
        let cell_name = if name.is_of_node() { String::new() } else { name.to_string() };
        self.owed = Some(missed(cell_name, reason, changes.newest()));
    }

    /// A change as this daemon names it.
    fn outside(&self, answer: Answer) -> Answer {
        let name = self.zone.first();
        let cell_name = match answer.cell_name.as_str() {
            _ if name.is_of_node() => answer.cell_name,
            "" => name.to_string(),
            below => format!("{name}/{below}"),
        };
        Answer { cell_name, ..answer }
    }
}

fn open(zone: Zone, after: Option<u64>) -> Answers<Answer> {
    Box::pin(stream::once(ask(zone, after)).try_flatten())
}

async fn ask(zone: Zone, after: Option<u64>) -> Result<Answers<Answer>, Status> {
    let room = zone.room().map_err(|error| reply::status(&error))?;
    let request = CellServiceWatchRequest { after, only_new: false };
    let answers = client(&zone).watch(request).await?.into_inner();
    Ok(Box::pin(answers.inspect(move |_| {
        // Taken up while it is open; and the connection ends with the last who has it.
        let _kept = (&room, &zone);
    })))
}
