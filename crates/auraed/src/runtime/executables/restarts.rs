//! Whether, and after which pause, an executable is started again. Pure; no clock.

use std::time::Duration;

use aurae_kernel::process::Exit;
use aurae_model::{RestartCondition, RestartPolicy};

use super::state::Outcome;

/// The restarts of one executable.
#[derive(Debug)]
pub(super) struct Restarts {
    policy: RestartPolicy,
    /// Since the last run that was a success.
    used: u32,
    /// The next pause.
    pause: Duration,
}

impl Restarts {
    pub(super) fn new(policy: RestartPolicy) -> Self {
        Self { policy, used: 0, pause: policy.min_backoff }
    }

    /// The pause before the next start, after a run that took so long and ended so; `None`: there is
    /// no next one.
    pub(super) fn after(&mut self, outcome: &Outcome, ran: Duration) -> Option<Duration> {
        if self.policy.condition == RestartCondition::OnFailure && !has_failed(outcome) {
            return None;
        }
        if ran >= self.policy.reset_after {
            *self = Self::new(self.policy);
        }
        if self.policy.max_restarts.is_some_and(|max| self.used >= max) {
            return None;
        }
        self.used = self.used.saturating_add(1);
        let pause = self.pause;
        self.pause = pause.saturating_mul(2).min(self.policy.max_backoff);
        Some(pause)
    }
}

fn has_failed(outcome: &Outcome) -> bool {
    outcome.exit != Exit::Code(0) || outcome.oom_killed
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use proptest::prelude::*;

    use super::*;

    const SHORT: Duration = Duration::ZERO;

    fn policy(condition: RestartCondition, max_restarts: Option<u32>) -> RestartPolicy {
        RestartPolicy::parse(condition, max_restarts, [None; 3], "restart").unwrap()
    }

    fn ended(exit: Exit, oom_killed: bool) -> Outcome {
        Outcome { exit, oom_killed, ended: SystemTime::UNIX_EPOCH }
    }

    #[test]
    fn the_pause_doubles_up_to_its_bound_and_starts_anew_after_a_long_run() {
        let policy = policy(RestartCondition::Always, None);
        let mut restarts = Restarts::new(policy);
        let failed = ended(Exit::Code(1), false);
        let mut pauses = || restarts.after(&failed, SHORT).unwrap().as_millis();
        let first: Vec<u128> = std::iter::repeat_with(&mut pauses).take(4).collect();
        assert_eq!(first, [200, 400, 800, 1600]);
        assert_eq!(std::iter::repeat_with(pauses).nth(20), Some(60_000));
        assert_eq!(restarts.after(&failed, policy.reset_after), Some(policy.min_backoff));
    }

    #[test]
    fn only_failures_count_where_only_they_are_asked_for() {
        let after = |exit, oom_killed| {
            let mut restarts = Restarts::new(policy(RestartCondition::OnFailure, None));
            restarts.after(&ended(exit, oom_killed), SHORT).is_some()
        };
        assert!(!after(Exit::Code(0), false));
        assert!(after(Exit::Code(0), true));
        assert!(after(Exit::Code(1), false));
        assert!(after(Exit::Signal(15), false));
    }

    #[test]
    fn a_bound_is_counted_anew_after_a_long_run() {
        let policy = policy(RestartCondition::Always, Some(2));
        let mut restarts = Restarts::new(policy);
        let done = ended(Exit::Code(0), false);
        assert!(restarts.after(&done, SHORT).is_some());
        assert!(restarts.after(&done, SHORT).is_some());
        assert!(restarts.after(&done, SHORT).is_none());
        assert!(restarts.after(&done, policy.reset_after).is_some());
    }

    proptest! {
        #[test]
        fn a_pause_is_never_out_of_its_bounds(
            runs in proptest::collection::vec(0_u64..2000, 1..60), min in 10_u64..3_600_000, more in 0_u64..1_000_000
        ) {
            let millis = |millis| Some(Duration::from_millis(millis));
            let durations = [millis(min), millis((min + more).max(1000)), millis(1000)];
            let policy = RestartPolicy::parse(RestartCondition::Always, None, durations, "f").unwrap();
            let mut restarts = Restarts::new(policy);
            for ran in runs {
                let pause = restarts.after(&ended(Exit::Code(0), false), Duration::from_millis(ran)).unwrap();
                prop_assert!(pause >= policy.min_backoff && pause <= policy.max_backoff);
            }
        }
    }
}
