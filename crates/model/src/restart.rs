//! When an executable that has ended is started again.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::Invalid;

/// When an executable that has ended is started again. The pause before a start doubles from
/// `min_backoff` to `max_backoff`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartPolicy {
    /// After which ends.
    pub condition: RestartCondition,
    /// How often at most, counted anew after a run of `reset_after`; `None`: without end.
    pub max_restarts: Option<u32>,
    /// The first pause.
    pub min_backoff: Duration,
    /// The longest pause, not less than `min_backoff`.
    pub max_backoff: Duration,
    /// A run of this length is a success: the pause is `min_backoff` again.
    pub reset_after: Duration,
}

/// After which ends an executable is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartCondition {
    /// After an exit code other than 0, a signal, or the OOM killer.
    OnFailure,
    /// After every end.
    Always,
}

impl RestartPolicy {
    const DEFAULT_MIN_BACKOFF: Duration = Duration::from_millis(200);
    const DEFAULT_MAX_BACKOFF: Duration = Duration::from_secs(60);
    const DEFAULT_RESET_AFTER: Duration = Duration::from_secs(60);
    const MIN_BACKOFFS: RangeInclusive<Duration> =
        Duration::from_millis(10)..=Duration::from_secs(3600);
    /// The shortest `max_backoff` of an executable that is started again without end, and the shortest
    /// `reset_after`: one that fails at once takes some milliseconds each time, so less than 1 % of a CPU.
    const MIN_ENDLESS_BACKOFF: Duration = Duration::from_secs(1);
    /// The longest `max_backoff` and `reset_after`.
    const DAY: Duration = Duration::from_secs(24 * 3600);

    /// Parses the fields of `prefix` (`executable.restart`). What is `None` has its default.
    ///
    /// # Errors
    /// The first field outside its range.
    pub fn parse(
        condition: RestartCondition,
        max_restarts: Option<u32>,
        [min_backoff, max_backoff, reset_after]: [Option<Duration>; 3],
        prefix: &str,
    ) -> Result<Self, Invalid> {
        let bad = |field: &str, rule: &str| Err(Invalid::new(format!("{prefix}.{field}"), rule));
        let min_backoff = min_backoff.unwrap_or(Self::DEFAULT_MIN_BACKOFF);
        if !Self::MIN_BACKOFFS.contains(&min_backoff) {
            return bad("min_backoff", "Must be in 10 ms to 1 h");
        }
        // A first pause beyond the longest pause that was not asked for is that, too.
        let max_backoff = max_backoff.unwrap_or(Self::DEFAULT_MAX_BACKOFF.max(min_backoff));
        if max_backoff < min_backoff || max_backoff > Self::DAY {
            return bad("max_backoff", "Must be in `min_backoff` to 24 h");
        }
        if max_restarts.is_none() && max_backoff < Self::MIN_ENDLESS_BACKOFF {
            return bad("max_backoff", "Must be 1 s or more where `max_restarts` is not set");
        }
        let reset_after = reset_after.unwrap_or(Self::DEFAULT_RESET_AFTER);
        // Were every run a success, there would be neither back-off nor bound.
        if !(Self::MIN_ENDLESS_BACKOFF..=Self::DAY).contains(&reset_after) {
            return bad("reset_after", "Must be in 1 s to 24 h");
        }
        Ok(Self { condition, max_restarts, min_backoff, max_backoff, reset_after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(durations: [Option<Duration>; 3]) -> Result<RestartPolicy, String> {
        RestartPolicy::parse(RestartCondition::Always, None, durations, "restart")
            .map_err(|error| error.field)
    }

    #[test]
    fn what_is_unset_has_its_default() {
        let policy = parse([None; 3]).unwrap();
        assert_eq!(policy.min_backoff, Duration::from_millis(200));
        assert_eq!(policy.max_backoff, Duration::from_secs(60));
        assert_eq!(policy.reset_after, Duration::from_secs(60));
        let long = Some(Duration::from_secs(600));
        assert_eq!(parse([long, None, None]).unwrap().max_backoff, Duration::from_secs(600));
    }

    #[test]
    fn only_what_has_an_end_may_be_started_again_fast() {
        let fast = Some(Duration::from_millis(10));
        let parse = |max_restarts| {
            let durations = [fast, fast, None];
            RestartPolicy::parse(RestartCondition::Always, max_restarts, durations, "restart")
        };
        assert!(parse(Some(5)).is_ok());
        assert_eq!(parse(None).map_err(|error| error.field), Err("restart.max_backoff".into()));
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let (millis, hours) =
            (Duration::from_millis, |hours: u64| Duration::from_secs(hours * 3600));
        for (durations, field) in [
            ([Some(millis(9)), None, None], "restart.min_backoff"),
            ([Some(hours(1) + millis(1)), None, None], "restart.min_backoff"),
            ([Some(millis(20)), Some(millis(19)), None], "restart.max_backoff"),
            ([None, Some(hours(25)), None], "restart.max_backoff"),
            ([Some(millis(10)), Some(millis(999)), None], "restart.max_backoff"),
            ([None, None, Some(Duration::ZERO)], "restart.reset_after"),
            ([None, None, Some(millis(999))], "restart.reset_after"),
            ([None, None, Some(hours(25))], "restart.reset_after"),
        ] {
            assert_eq!(parse(durations), Err(field.to_owned()));
        }
    }
}
