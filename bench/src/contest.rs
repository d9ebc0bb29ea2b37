//! Sides that take turns: A B C, A B C, …, so that whatever disturbs the machine disturbs all of them.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::report::Side;

/// How often sides take turns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rounds {
    /// So many rounds are wanted.
    pub(crate) wanted: usize,
    /// After that time no more are begun.
    pub(crate) limit: Duration,
}

/// What a side does in a round: one value.
type Turn<'a> = Box<dyn FnMut() -> Result<f64> + 'a>;

/// The sides.
#[derive(Default)]
pub(crate) struct Contest<'a> {
    entrants: Vec<(Side, Option<Turn<'a>>)>,
}

impl<'a> Contest<'a> {
    /// One of ours.
    pub(crate) fn ours(&mut self, name: &str, turn: impl FnMut() -> Result<f64> + 'a) -> &mut Side {
        self.add(Side::new(name, true), Some(Box::new(turn)))
    }

    /// Somebody else.
    pub(crate) fn peer(&mut self, name: &str, turn: impl FnMut() -> Result<f64> + 'a) -> &mut Side {
        self.add(Side::new(name, false), Some(Box::new(turn)))
    }

    /// Somebody else, where it can be run; otherwise the reason stands in its place.
    pub(crate) fn peer_if(
        &mut self,
        name: &str,
        can: Result<(), String>,
        turn: impl FnMut() -> Result<f64> + 'a,
    ) -> &mut Side {
        match can {
            Ok(()) => self.peer(name, turn),
            Err(why) => self.add(Side::skipped(name, why), None),
        }
    }

    fn add(&mut self, side: Side, turn: Option<Turn<'a>>) -> &mut Side {
        let place = self.entrants.len();
        self.entrants.push((side, turn));
        &mut self.entrants[place].0
    }

    /// A round that is not counted, then the others. A side that fails takes no more turns, and says why.
    pub(crate) fn run(mut self, rounds: Rounds) -> Vec<Side> {
        let end = Instant::now() + rounds.limit;
        for round in 0..=rounds.wanted {
            for (side, turn) in &mut self.entrants {
                let Some(take) = turn else { continue };
                match take() {
                    Ok(value) if round > 0 => side.values.push(value),
                    Ok(_) => {}
                    Err(error) => {
                        side.skipped = Some(format!("{error:#}"));
                        *turn = None;
                    }
                }
            }
            if round > 0 && Instant::now() > end {
                break;
            }
        }
        self.entrants.into_iter().map(|(side, _)| side).collect()
    }
}

/// How long something takes, in seconds.
pub(crate) fn seconds<T>(what: impl FnOnce() -> Result<T>) -> Result<f64> {
    let start = Instant::now();
    what()?;
    Ok(start.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use anyhow::bail;

    use super::*;

    #[test]
    fn sides_take_turns_and_the_first_round_is_not_counted() {
        let order = RefCell::new(String::new());
        let turn = |name: char| {
            let order = &order;
            move || {
                order.borrow_mut().push(name);
                Ok(1.0)
            }
        };
        let mut contest = Contest::default();
        contest.ours("a", turn('a'));
        contest.peer("b", turn('b'));
        contest.peer_if("c", Err("not installed".into()), turn('c'));
        let sides = contest.run(Rounds { wanted: 2, limit: Duration::from_secs(60) });
        assert_eq!(*order.borrow(), "ababab");
        assert_eq!(sides.iter().map(|side| side.values.len()).collect::<Vec<_>>(), [2, 2, 0]);
        assert_eq!(sides[2].skipped.as_deref(), Some("not installed"));
    }

    #[test]
    fn a_side_that_fails_takes_no_more_turns() {
        let mut left = 2;
        let mut contest = Contest::default();
        contest.ours("a", || {
            left -= 1;
            if left < 0 { bail!("it broke") } else { Ok(1.0) }
        });
        let sides = contest.run(Rounds { wanted: 9, limit: Duration::from_secs(60) });
        assert_eq!((sides[0].values.len(), sides[0].skipped.as_deref()), (1, Some("it broke")));
    }
}
