//! Many streams of changes as one, in the order of their numbers.
//!
//! ```text
//! catching up: nothing is told before every zone has told what comes next, or that all it had kept is
//!     │        told: so what was kept comes in order
//!     ▼
//! caught up:   of what is there, the change with the least number is told at once
//! ```
//!
//! It is pulled: while the client does not take what there is, nothing is read, and each daemon counts
//! what it drops meanwhile.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use aurae_proto::cells::CellServiceWatchResponse as Answer;
use futures_util::stream::{self, Stream, StreamExt};
use tokio::time::Sleep;
use tonic::Status;

use super::answer;
use super::inside::Inside;
use crate::runtime::cells::{Cells, Zone};
use crate::runtime::changes::{CellNews, News, Reader, Seen};

/// How long zones have to tell what they had kept. What comes later comes as it comes.
pub(super) const CATCH_UP: Duration = Duration::from_secs(5);

/// A watch of this daemon's zone and of all inside it.
pub(super) struct Merge {
    cells: Cells,
    own: Pin<Box<dyn Stream<Item = Seen> + Send>>,
    /// What comes next of this daemon's own.
    own_head: Option<Seen>,
    own_has_ended: bool,
    inside: Vec<Inside>,
    /// What zones are asked for.
    inside_after: Option<u64>,
    /// `None` once it has caught up.
    catching_up: Option<Pin<Box<Sleep>>>,
    /// The daemon above wants to know that all that was kept is told.
    owes_mark: bool,
    /// The number of what was told last.
    last: u64,
    /// Missed, and not told yet.
    missed: u64,
}

/// Whose change comes next.
enum Turn {
    Own,
    Inside(usize),
    /// Nobody's yet.
    Nobody,
}

impl Merge {
    /// A watch of `own` and of the zones of `cells`. For a daemon (`marks`) a message without a kind
    /// stands after what was kept.
    pub(super) fn new(
        cells: Cells,
        own: Reader,
        after: Option<u64>,
        inside_after: Option<u64>,
        marks: bool,
    ) -> Self {
        let own = stream::unfold(own, |mut own| async move { Some((own.next().await?, own)) });
        // The reader is there already: a cell that is made now is told by it.
        let zones = cells.zones().into_iter();
        let inside = zones.map(|zone| Inside::new(zone, inside_after, true)).collect();
        Self {
            cells,
            own: Box::pin(own),
            own_head: None,
            own_has_ended: false,
            inside,
            inside_after,
            catching_up: Some(Box::pin(tokio::time::sleep(CATCH_UP))),
            owes_mark: marks,
            last: after.unwrap_or_default(),
            missed: 0,
        }
    }

    /// The next change.
    pub(super) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Answer, Status>>> {
        loop {
            self.fill(context);
            if self.is_catching_up(context) {
                return Poll::Pending;
            }
            let next = match self.turn() {
                Turn::Own => self.own_head.take().and_then(|seen| self.take_own(&seen)),
                Turn::Inside(index) => {
                    self.inside.get_mut(index).and_then(|inside| inside.head.take())
                }
                Turn::Nobody if std::mem::take(&mut self.owes_mark) => {
                    return Poll::Ready(Some(Ok(Answer::default())));
                }
                Turn::Nobody if self.own_has_ended && self.own_head.is_none() => {
                    return Poll::Ready(None);
                }
                Turn::Nobody => return Poll::Pending,
            };
            if let Some(next) = next {
                return Poll::Ready(Some(Ok(self.number(next))));
            }
        }
    }

    /// Takes what is there.
    fn fill(&mut self, context: &mut Context<'_>) {
        if self.own_head.is_none() && !self.own_has_ended {
            match self.own.poll_next_unpin(context) {
                Poll::Ready(Some(seen)) => self.own_head = Some(seen),
                Poll::Ready(None) => self.own_has_ended = true,
                Poll::Pending => {}
            }
        }
        let mut index = 0;
        while let Some(inside) = self.inside.get_mut(index) {
            if inside.fill(context, self.cells.changes()) {
                index += 1;
            } else {
                self.inside.swap_remove(index);
            }
        }
    }

    fn is_catching_up(&mut self, context: &mut Context<'_>) -> bool {
        let Some(over) = &mut self.catching_up else { return false };
        let is_over = over.as_mut().poll(context).is_ready();
        if is_over || !self.inside.iter().any(|one| one.is_behind) {
            self.catching_up = None;
            self.inside.iter_mut().for_each(|one| one.stop_waiting(self.cells.changes()));
            // What is owed now is told now.
            self.fill(context);
            return false;
        }
        self.inside.iter().any(|one| one.is_behind && one.head.is_none())
    }

    fn turn(&self) -> Turn {
        let heads = self.inside.iter().enumerate();
        let heads = heads.filter_map(|(index, one)| Some((one.head.as_ref()?.sequence, index)));
        let own = self.own_head.as_ref().filter(|seen| !self.is_held(&seen.change.news));
        match (own.map(|seen| seen.change.sequence), heads.min()) {
            (None, None) => Turn::Nobody,
            (Some(own), Some((theirs, _))) if own <= theirs => Turn::Own,
            (Some(_), None) => Turn::Own,
            (_, Some((_, index))) => Turn::Inside(index),
        }
    }

    /// The end of a cell is told when all is told that its daemon had to tell.
    fn is_held(&self, news: &News) -> bool {
        let News::Cell(name, CellNews::Freed | CellNews::Failed(_)) = news else { return false };
        self.inside.iter().any(|one| one.zone.first() == name && !one.zone.is_live())
    }

    /// A change of this daemon's own; a zone that can be asked now is watched, too. `None`: the client
    /// is not told.
    fn take_own(&mut self, seen: &Seen) -> Option<Answer> {
        if let News::Cell(name, CellNews::Allocated | CellNews::Found) = &seen.change.news
            && let Some(zone) = self.cells.zone(name)
            && !self.watches(&zone)
        {
            self.inside.push(Inside::new(zone, self.inside_after, false));
        }
        let answer = answer(seen);
        if answer.is_none() {
            self.missed += seen.missed;
        }
        answer
    }

    fn watches(&self, zone: &Zone) -> bool {
        self.inside.iter().any(|one| one.zone.is_same(zone))
    }

    /// Gives a change its number among those of this watch.
    fn number(&mut self, answer: Answer) -> Answer {
        self.last = answer.sequence.max(self.last.saturating_add(1));
        let missed = answer.missed.saturating_add(std::mem::take(&mut self.missed));
        Answer { sequence: self.last, missed, ..answer }
    }
}
