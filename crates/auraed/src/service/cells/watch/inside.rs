//! What the daemon of a zone inside tells of its subtree.

use std::task::{Context, Poll};

use aurae_proto::cells::{CellServiceWatchRequest, CellServiceWatchResponse as Answer, ChangeKind};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use tonic::Status;

use super::super::place::{client, from_zone};
use crate::reply;
use crate::runtime::cells::Zone;
use crate::service::Answers;

/// The changes of a zone inside, with its name before those of its cells.
pub(super) struct Inside {
    pub(super) zone: Zone,
    /// `None`: it has ended.
    answers: Option<Answers<Answer>>,
    /// What comes next.
    pub(super) head: Option<Answer>,
    /// It has not told all that it had kept.
    pub(super) is_behind: bool,
}

impl Inside {
    /// Asks the zone's daemon, in place of whoever watches this one. `is_behind`: what it has kept is
    /// waited for.
    pub(super) fn new(zone: Zone, after: Option<u64>, is_behind: bool) -> Self {
        let answers = stream::once(open(zone.clone(), after)).try_flatten();
        Self { zone, answers: Some(Box::pin(answers)), head: None, is_behind }
    }

    /// Takes what comes next, if it is there. Answers whether there is, or may be, something.
    ///
    /// # Errors
    /// The zone cannot be watched.
    pub(super) fn fill(&mut self, context: &mut Context<'_>) -> Result<bool, Status> {
        while self.head.is_none() {
            let Some(answers) = &mut self.answers else { return Ok(false) };
            match answers.poll_next_unpin(context) {
                Poll::Pending => return Ok(true),
                Poll::Ready(Some(Ok(answer))) if answer.kind() == ChangeKind::Unspecified => {
                    self.is_behind = false;
                }
                Poll::Ready(Some(Ok(answer))) => self.head = Some(self.outside(answer)),
                Poll::Ready(Some(Err(status))) => {
                    self.answers = None;
                    // A lost connection is the end of the zone's daemon, which is told as a change.
                    if std::error::Error::source(&status).is_none() && self.zone.is_live() {
                        return Err(from_zone(&self.zone, status));
                    }
                }
                Poll::Ready(None) => self.answers = None,
            }
        }
        Ok(true)
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

async fn open(zone: Zone, after: Option<u64>) -> Result<Answers<Answer>, Status> {
    let room = zone.room().map_err(|error| reply::status(&error))?;
    let request = CellServiceWatchRequest { after, only_new: false };
    let answers = client(&zone).watch(request).await?.into_inner();
    Ok(Box::pin(answers.inspect(move |_| {
        // Taken up while it is open.
        let _room = &room;
    })))
}
