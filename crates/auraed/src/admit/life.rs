//! How an executable is stopped and started again, and requests that change a cell that is there.

use std::time::Duration;

use aurae_authz::{Form, Permit};
use aurae_kernel::process::parse_signal;
use aurae_model::{
    CellPath, Invalid, Limit, LimitsChange, RestartCondition, RestartPolicy, StopPolicy,
};
use aurae_proto::cells as wire;
use rustix::process::Signal;
use tonic::Request;

use super::{Admission, cells, permit};
use crate::runtime::DEFAULT_GRACE;
use crate::runtime::cells::CellChange;

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

/// `Freeze`; `None`: the daemon that answers, itself.
///
/// # Errors
/// The field that breaks a rule, or a denial.
pub fn freeze(
    mut request: Request<wire::CellServiceFreezeRequest>,
) -> Result<Permit<Option<CellPath>>, Admission> {
    let permit = permit(&mut request)?;
    cell_or_own(permit, &request.into_inner().cell_name)
}

/// `Thaw`; `None`: the daemon that answers, itself.
///
/// # Errors
/// The field that breaks a rule, or a denial.
pub fn thaw(
    mut request: Request<wire::CellServiceThawRequest>,
) -> Result<Permit<Option<CellPath>>, Admission> {
    let permit = permit(&mut request)?;
    cell_or_own(permit, &request.into_inner().cell_name)
}

/// `Update`.
///
/// # Errors
/// The field that breaks a rule, or a denial.
pub fn update(
    mut request: Request<wire::CellServiceUpdateRequest>,
) -> Result<(Permit<CellPath>, CellChange), Admission> {
    let permit = permit(&mut request)?;
    let request = request.into_inner();
    let cell = request.cell.ok_or_else(|| Invalid::required("cell"))?;
    let permit = permit.narrow(CellPath::parse(&cell.name, "cell.name")?)?;
    let clear = request.clear.iter().map(|path| Limit::parse(path, "clear"));
    let clear = clear.collect::<Result<_, _>>()?;
    let traits = cells::traits(&cell)?;
    let (set, cpu_max) = cells::limits(cell)?;
    let limits = LimitsChange::new(set, cpu_max, clear)?;
    Ok((permit, CellChange { limits, traits }))
}

/// Only its parent may mean a daemon itself: for all others a cell is required.
fn cell_or_own(permit: Permit, name: &str) -> Result<Permit<Option<CellPath>>, Admission> {
    let own = name.is_empty() && permit.principal().form() == Form::Parent;
    let cell = if own { None } else { Some(CellPath::parse(name, "cell_name")?) };
    Ok(permit.narrow(cell)?)
}

#[cfg(test)]
mod tests {
    use aurae_authz::{Action, Principal, authorize_inside};

    use super::*;

    #[test]
    fn only_a_parent_freezes_the_zone_that_answers() {
        let freeze = |principal: &Principal, cell_name: &str| {
            let message = wire::CellServiceFreezeRequest { cell_name: cell_name.into() };
            let mut request = Request::new(message);
            request
                .extensions_mut()
                .insert(authorize_inside(principal, Action::new("/test")).unwrap());
            freeze(request).map(Permit::into_resource)
        };
        let (parent, alice) = (Principal::parent(), Principal::common_name("alice"));
        assert_eq!(freeze(&parent, ""), Ok(None));
        assert!(matches!(freeze(&alice, "web"), Ok(Some(_))));
        let refusal = freeze(&alice, "").unwrap_err();
        assert_eq!(refusal.to_string(), "Field = cell_name; Required");
    }

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
