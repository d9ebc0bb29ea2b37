//! How an executable is stopped and started again, and requests that change a cell that is there.

use std::time::Duration;

use aurae_kernel::process::parse_signal;
use aurae_model::{Invalid, RestartCondition, RestartPolicy, StopPolicy};
use aurae_proto::cells as wire;
use rustix::process::Signal;

use super::Admission;
use crate::runtime::DEFAULT_GRACE;

/// The longest grace period.
const MAX_GRACE: Duration = Duration::from_secs(3600);

/// A restart policy; `None`: never.
pub(super) fn restart(
    policy: Option<wire::RestartPolicy>,
) -> Result<Option<RestartPolicy>, Admission> {
    let Some(policy) = policy else { return Ok(None) };
    let field = "executable.restart.condition";
    let condition = match wire::RestartCondition::try_from(policy.condition) {
        Err(_) => return Err(Admission::UnknownValue { field, value: policy.condition }),
        Ok(wire::RestartCondition::Unspecified) => return Err(Invalid::required(field).into()),
        Ok(wire::RestartCondition::Never) => None,
        Ok(wire::RestartCondition::OnFailure) => Some(RestartCondition::OnFailure),
        Ok(wire::RestartCondition::Always) => Some(RestartCondition::Always),
    };
    let durations = [
        duration(policy.min_backoff, "executable.restart.min_backoff")?,
        duration(policy.max_backoff, "executable.restart.max_backoff")?,
        duration(policy.reset_after, "executable.restart.reset_after")?,
    ];
    // What does not matter is valid, too.
    let parse = |condition| {
        RestartPolicy::parse(condition, policy.max_restarts, durations, "executable.restart")
    };
    let parsed = parse(condition.unwrap_or(RestartCondition::Always))?;
    Ok(condition.map(|_| parsed))
}

fn duration(
    duration: Option<prost_types::Duration>,
    field: &str,
) -> Result<Option<Duration>, Invalid> {
    let duration = duration.map(Duration::try_from).transpose();
    duration.map_err(|_| Invalid::new(field, "Must be a duration of 0 or more"))
}

/// How an executable is stopped.
pub(super) fn stop_policy(
    stop_signal: Option<i32>,
    grace_period: Option<prost_types::Duration>,
) -> Result<StopPolicy, Invalid> {
    let stop_signal = stop_signal.map(|number| signal(number, "executable.stop_signal"));
    let grace = grace(grace_period, "executable.stop_grace_period")?;
    Ok(StopPolicy {
        signal: stop_signal.transpose()?.unwrap_or(Signal::TERM),
        grace: grace.unwrap_or(DEFAULT_GRACE),
    })
}

/// A signal by its number.
pub(super) fn signal(number: i32, field: &str) -> Result<Signal, Invalid> {
    parse_signal(number)
        .ok_or_else(|| Invalid::new(field, "Must be a signal in 1 to 64 that programs may use"))
}

/// A grace period, where there is one.
pub(super) fn grace(
    period: Option<prost_types::Duration>,
    field: &str,
) -> Result<Option<Duration>, Invalid> {
    match period.map(Duration::try_from) {
        None => Ok(None),
        Some(Ok(period)) if period <= MAX_GRACE => Ok(Some(period)),
        Some(_) => {
            let rule = format!("Must be in 0 to {} s", MAX_GRACE.as_secs());
            Err(Invalid::new(field, rule))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(change: impl FnOnce(&mut wire::RestartPolicy)) -> wire::RestartPolicy {
        let condition = wire::RestartCondition::Always.into();
        let mut policy = wire::RestartPolicy { condition, ..Default::default() };
        change(&mut policy);
        policy
    }

    #[test]
    fn a_restart_policy_needs_a_condition_that_is_known() {
        let condition =
            |condition: i32| restart(Some(policy(|policy| policy.condition = condition)));
        assert!(matches!(restart(None), Ok(None)));
        assert!(matches!(condition(wire::RestartCondition::Never.into()), Ok(None)));
        assert!(matches!(condition(wire::RestartCondition::OnFailure.into()), Ok(Some(_))));
        let refusal = |number| condition(number).unwrap_err().to_string();
        assert_eq!(refusal(0), "Field = executable.restart.condition; Required");
        assert_eq!(refusal(9), "Field = executable.restart.condition; 9 is not a known value");
    }

    #[test]
    fn what_a_policy_says_is_in_range_even_where_it_does_not_matter() {
        let negative = Some(prost_types::Duration { seconds: -1, nanos: 0 });
        let refused = restart(Some(policy(|policy| {
            policy.condition = wire::RestartCondition::Never.into();
            policy.min_backoff = negative;
        })));
        let text = refused.unwrap_err().to_string();
        assert!(text.starts_with("Field = executable.restart.min_backoff; "), "{text}");
    }

    #[test]
    fn an_executable_is_stopped_with_sigterm_and_ten_seconds_unless_it_says_otherwise() {
        let usual = stop_policy(None, None).unwrap();
        assert_eq!((usual.signal, usual.grace), (Signal::TERM, Duration::from_secs(10)));
        let own = Some(prost_types::Duration { seconds: 0, nanos: 1 });
        let own = stop_policy(Some(2), own).unwrap();
        assert_eq!((own.signal, own.grace), (Signal::INT, Duration::from_nanos(1)));
        for number in [0, -1, 32, 65] {
            let error = stop_policy(Some(number), None).unwrap_err();
            assert_eq!(error.field, "executable.stop_signal");
        }
        let long = Some(prost_types::Duration { seconds: 3601, nanos: 0 });
        assert_eq!(stop_policy(None, long).unwrap_err().field, "executable.stop_grace_period");
    }
}
