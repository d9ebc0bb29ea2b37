//! Requests of the cell service.

use std::time::Duration;

use aurae_authz::{self as authz, Permit};
use aurae_model::{
    CellPath, Cpu, CpuMaxChange, Cpuset, Device, Executable, ExecutableName, IdRange, Invalid, Io,
    IoDevice, Limits, List, Memory, Program, TerminalSize, Weight,
};
use aurae_proto::cells as wire;
use rustix::process::Signal;
use tonic::Request;

use super::security::security;
use super::{Admission, life, permit};
use crate::runtime::cells::{CellSpec, Traits};
use crate::runtime::{DEFAULT_GRACE, logs};

/// The longest description, in bytes.
const MAX_DESCRIPTION: usize = 1024;

/// The field of a cell's own users.
const USERS: &str = "cell.user_namespace";

/// The user and group number that Linux keeps for "none": `setresuid` would leave the user as it is.
const NO_ID: u32 = u32::MAX;

/// `Allocate`.
///
/// # Errors
/// The field that breaks a rule, or a denial.
pub fn allocate(
    mut request: Request<wire::CellServiceAllocateRequest>,
) -> Result<(Permit<CellPath>, CellSpec), Admission> {
    let permit = permit(&mut request)?;
    let cell = request.into_inner().cell.ok_or_else(|| Invalid::required("cell"))?;
    let path = CellPath::parse(&cell.name, "cell.name")?;
    let permit = permit.narrow(path.clone())?;
    needs_own_mounts(&cell)?;
    let traits = traits(&cell)?;
    let (mut limits, max) = limits(cell)?;
    limits.cpu.max = max.applied_to(None, "cell.cpu")?;
    let name = path.split_last().1.clone();
    Ok((permit, CellSpec { name, limits, traits }))
}

/// What is mounted, or covered, is so in the cell's own mount namespace. Users of its own have no rights
/// in namespaces that are not.
fn needs_own_mounts(cell: &wire::Cell) -> Result<(), Invalid> {
    for (field, wanted) in [
        ("cell.api_socket", cell.api_socket),
        ("cell.read_only_root", cell.read_only_root),
        ("cell.private_tmp", cell.private_tmp),
        (USERS, cell.user_namespace.is_some()),
    ] {
        if wanted && !cell.isolate_process {
            let rule = "Needs isolate_process: it is made in the cell's own mount namespace";
            return Err(Invalid::new(field, rule));
        }
    }
    Ok(())
}

/// What a cell is to be beside its limits.
pub(super) fn traits(cell: &wire::Cell) -> Result<Traits, Invalid> {
    let users = cell.user_namespace.as_ref().map(|users| {
        let wire::UserNamespace { host_id, count, allow_system_ids } = *users;
        IdRange::parse(host_id, count, allow_system_ids, USERS)
    });
    Ok(Traits {
        isolate_process: cell.isolate_process,
        isolate_network: cell.isolate_network,
        api_socket: cell.api_socket,
        read_only_root: cell.read_only_root,
        private_tmp: cell.private_tmp,
        unmasked_paths: cell.unmasked_paths,
        users: users.transpose()?,
    })
}

/// The limits of a cell, and apart from them its `cpu.max`, whose fields are each valid for itself.
pub(super) fn limits(cell: wire::Cell) -> Result<(Limits, CpuMaxChange), Invalid> {
    let cpu = cell.cpu.unwrap_or_default();
    let weight = cpu.weight.map(|weight| Weight::parse(weight, "cell.cpu.weight")).transpose()?;
    let limits = Limits {
        cpu: Cpu { weight, max: None },
        cpuset: cpuset(cell.cpuset.unwrap_or_default())?,
        memory: memory(cell.memory.unwrap_or_default())?,
        pids_max: pids_max(cell.pids.unwrap_or_default())?,
        io: io(cell.io.unwrap_or_default())?,
    };
    Ok((limits, CpuMaxChange::parse(cpu.max, cpu.period, cpu.burst, "cell.cpu")?))
}

fn cpuset(cpuset: wire::CpusetController) -> Result<Cpuset, Invalid> {
    let list = |list: Option<String>, field| List::parse(&list.unwrap_or_default(), field);
    Ok(Cpuset {
        cpus: list(cpuset.cpus, "cell.cpuset.cpus")?,
        mems: list(cpuset.mems, "cell.cpuset.mems")?,
    })
}

fn memory(memory: wire::MemoryController) -> Result<Memory, Invalid> {
    let bytes = |bytes: Option<i64>, field: &str| {
        let bytes = bytes.map(u64::try_from).transpose();
        bytes.map_err(|_| Invalid::new(format!("cell.memory.{field}"), "Must be 0 or more bytes"))
    };
    Ok(Memory {
        min: bytes(memory.min, "min")?,
        low: bytes(memory.low, "low")?,
        high: bytes(memory.high, "high")?,
        max: bytes(memory.max, "max")?,
        swap_max: bytes(memory.swap_max, "swap_max")?,
        oom_group: memory.oom_group,
    })
}

fn pids_max(pids: wire::PidsController) -> Result<Option<u64>, Invalid> {
    match pids.max {
        Some(0) => Err(Invalid::new("cell.pids.max", "Must be 1 or more")),
        max => Ok(max),
    }
}

fn io(io: wire::IoController) -> Result<Io, Invalid> {
    let weight =
        io.weight.map(|weight| Weight::parse(weight.into(), "cell.io.weight")).transpose()?;
    let devices = io.devices.into_iter().map(io_device).collect::<Result<_, _>>()?;
    Ok(Io { weight, devices })
}

fn io_device(limit: wire::IoDeviceLimit) -> Result<IoDevice, Invalid> {
    let number = |number: Option<u64>, field: &str| match number {
        Some(0) => Err(Invalid::new(format!("cell.io.devices.{field}"), "Must be 1 or more")),
        number => Ok(number),
    };
    Ok(IoDevice {
        device: Device::parse(&limit.device, "cell.io.devices.device")?,
        read_bytes: number(limit.read_bytes_per_second, "read_bytes_per_second")?,
        write_bytes: number(limit.write_bytes_per_second, "write_bytes_per_second")?,
        read_operations: number(limit.read_operations_per_second, "read_operations_per_second")?,
        write_operations: number(limit.write_operations_per_second, "write_operations_per_second")?,
    })
}

/// `Free`: the cell, and its executables' grace period.
///
/// # Errors
/// The field that breaks a rule, or a denial.
pub fn free(
    mut request: Request<wire::CellServiceFreeRequest>,
) -> Result<(Permit<CellPath>, Duration), Admission> {
    let permit = permit(&mut request)?;
    let request = request.into_inner();
    let path = CellPath::parse(&request.cell_name, "cell_name")?;
    let grace = life::grace(request.grace_period, "grace_period")?;
    Ok((permit.narrow(path)?, grace.unwrap_or(DEFAULT_GRACE)))
}

/// `Start`.
///
/// # Errors
/// The field that breaks a rule, or a denial.
pub fn start(
    mut request: Request<wire::CellServiceStartRequest>,
) -> Result<(Permit<authz::Executable>, Executable), Admission> {
    let permit = permit(&mut request)?;
    let request = request.into_inner();
    let cell = cell(request.cell_name.as_deref())?;
    let wire = request.executable.ok_or_else(|| Invalid::required("executable"))?;
    let name = ExecutableName::parse(&wire.name, "executable.name")?;
    let permit = permit.narrow(authz::Executable { cell, name: name.clone() })?;
    if wire.description.len() > MAX_DESCRIPTION {
        let rule = format!("At most {MAX_DESCRIPTION} bytes");
        return Err(Invalid::new("executable.description", rule).into());
    }
    let executable = Executable {
        name,
        program: program(wire.command, wire.args)?,
        description: wire.description,
        env: environment(wire.env, "executable.env")?,
        working_directory: working_directory(
            wire.working_directory,
            "executable.working_directory",
        )?,
        log_capacity: log_capacity(wire.log_capacity)?,
        uid: id(request.uid, "uid")?,
        gid: id(request.gid, "gid")?,
        restart: life::restart(wire.restart)?,
        stop: life::stop_policy(wire.stop_signal, wire.stop_grace_period)?,
        stdin: wire.stdin,
        terminal: wire.terminal.map(|size| terminal(size, "executable.terminal")).transpose()?,
        security: security(wire.security, "executable.security", "executable.security.seccomp")?,
    };
    Ok((permit, executable))
}

fn program(command: String, args: Vec<String>) -> Result<Program, Invalid> {
    let no_nul = |text: &str, field| match text.contains('\0') {
        true => Err(Invalid::new(field, "Must not contain NUL")),
        false => Ok(()),
    };
    no_nul(&command, "executable.command")?;
    args.iter().try_for_each(|argument| no_nul(argument, "executable.args"))?;
    match (command.is_empty(), args.first()) {
        (true, None) => Err(Invalid::required("executable.command")),
        (false, Some(_)) => {
            Err(Invalid::new("executable.args", "Must not be set together with `command`"))
        }
        (false, None) => Ok(Program::Shell(command)),
        (true, Some(first)) if first.is_empty() => {
            Err(Invalid::new("executable.args", "The first is the program, and must not be empty"))
        }
        (true, Some(_)) => Ok(Program::Arguments(args)),
    }
}

pub(super) fn environment(
    env: std::collections::BTreeMap<String, String>,
    field: &str,
) -> Result<Vec<(String, String)>, Invalid> {
    let bad = |rule: String| Err(Invalid::new(field, rule));
    for (name, value) in &env {
        if name.is_empty() {
            return bad("A name must not be empty".into());
        }
        if name.contains(['=', '\0']) {
            return bad(format!("The name {name:?} must not contain `=` or NUL"));
        }
        if value.contains('\0') {
            return bad(format!("The value of {name} must not contain NUL"));
        }
    }
    Ok(env.into_iter().collect())
}

pub(super) fn working_directory(directory: String, field: &str) -> Result<String, Invalid> {
    match directory.as_str() {
        "" => Ok("/".into()),
        text if text.contains('\0') => Err(Invalid::new(field, "Must not contain NUL")),
        text if !text.starts_with('/') => Err(Invalid::new(field, "Must be an absolute path")),
        _ => Ok(directory),
    }
}

pub(super) fn terminal(size: wire::TerminalSize, field: &str) -> Result<TerminalSize, Invalid> {
    TerminalSize::parse(size.rows, size.columns, field)
}

fn log_capacity(capacity: Option<u64>) -> Result<Option<usize>, Invalid> {
    let range = logs::MIN_CAPACITY..=logs::MAX_CAPACITY;
    match capacity.map(usize::try_from) {
        None => Ok(None),
        Some(Ok(capacity)) if range.contains(&capacity) => Ok(Some(capacity)),
        Some(_) => Err(Invalid::new(
            "executable.log_capacity",
            format!("Must be in {} to {} bytes", range.start(), range.end()),
        )),
    }
}

pub(super) fn id(id: Option<u32>, field: &str) -> Result<Option<u32>, Invalid> {
    match id {
        Some(NO_ID) => Err(Invalid::new(field, format!("{NO_ID} is no user or group"))),
        id => Ok(id),
    }
}

/// `Stop`: the executable, and the grace period where it is not to be the executable's own.
///
/// # Errors
/// The field that breaks a rule, or a denial.
pub fn stop(
    mut request: Request<wire::CellServiceStopRequest>,
) -> Result<(Permit<authz::Executable>, Option<Duration>), Admission> {
    let permit = permit(&mut request)?;
    let request = request.into_inner();
    let executable = executable(request.cell_name.as_deref(), &request.executable_name)?;
    Ok((permit.narrow(executable)?, life::grace(request.grace_period, "grace_period")?))
}

/// `List`.
///
/// # Errors
/// A denial.
pub fn list(
    mut request: Request<wire::CellServiceListRequest>,
) -> Result<Permit<authz::Node>, Admission> {
    Ok(permit(&mut request)?.narrow(authz::Node)?)
}

/// `Inspect`.
///
/// # Errors
/// The field that breaks a rule, or a denial.
pub fn inspect(
    mut request: Request<wire::CellServiceInspectRequest>,
) -> Result<Permit<Option<CellPath>>, Admission> {
    let permit = permit(&mut request)?;
    Ok(permit.narrow(cell(request.into_inner().cell_name.as_deref())?)?)
}

/// `Wait`.
///
/// # Errors
/// The field that breaks a rule, or a denial.
pub fn wait(
    mut request: Request<wire::CellServiceWaitRequest>,
) -> Result<Permit<authz::Executable>, Admission> {
    let permit = permit(&mut request)?;
    let request = request.into_inner();
    Ok(permit.narrow(executable(request.cell_name.as_deref(), &request.executable_name)?)?)
}

/// `Signal`: the executable, the signal, and whether its whole tree takes it.
///
/// # Errors
/// The field that breaks a rule, or a denial.
pub fn signal(
    mut request: Request<wire::CellServiceSignalRequest>,
) -> Result<(Permit<authz::Executable>, Signal, bool), Admission> {
    let permit = permit(&mut request)?;
    let request = request.into_inner();
    let executable = executable(request.cell_name.as_deref(), &request.executable_name)?;
    Ok((permit.narrow(executable)?, life::signal(request.signal, "signal")?, request.tree))
}

/// The cell of a request; `None`: the daemon that answers, itself.
pub(super) fn cell(name: Option<&str>) -> Result<Option<CellPath>, Invalid> {
    name.map(|name| CellPath::parse(name, "cell_name")).transpose()
}

/// The executable of a request.
pub(super) fn executable(
    cell_name: Option<&str>,
    name: &str,
) -> Result<authz::Executable, Invalid> {
    let cell = cell(cell_name)?;
    Ok(authz::Executable { cell, name: ExecutableName::parse(name, "executable_name")? })
}

#[cfg(test)]
mod tests {
    use aurae_authz::{Action, Principal, authorize_inside};

    use super::*;

    fn request<T>(message: T) -> Request<T> {
        let mut request = Request::new(message);
        let permit = authorize_inside(&Principal::parent(), Action::new("/test")).unwrap();
        request.extensions_mut().insert(permit);
        request
    }

    fn refusal<T>(outcome: Result<T, Admission>) -> String {
        match outcome {
            Ok(_) => panic!("it was taken"),
            Err(error) => error.to_string(),
        }
    }

    fn allocation(
        change: impl FnOnce(&mut wire::Cell),
    ) -> Result<(Permit<CellPath>, CellSpec), Admission> {
        let mut cell = wire::Cell { name: "web".into(), ..Default::default() };
        change(&mut cell);
        allocate(request(wire::CellServiceAllocateRequest { cell: Some(cell) }))
    }

    fn starting(
        change: impl FnOnce(&mut wire::CellServiceStartRequest, &mut wire::Executable),
    ) -> Result<(Permit<authz::Executable>, Executable), Admission> {
        let mut executable =
            wire::Executable { name: "sh".into(), command: "true".into(), ..Default::default() };
        let mut start = wire::CellServiceStartRequest::default();
        change(&mut start, &mut executable);
        start.executable = Some(executable);
        super::start(request(start))
    }

    #[test]
    fn a_request_that_came_around_the_gate_is_refused() {
        let bare = Request::new(wire::CellServiceListRequest {});
        assert!(matches!(list(bare), Err(Admission::NoPermit(_))));
    }

    #[test]
    fn what_is_missing_is_named() {
        let empty = allocate(request(wire::CellServiceAllocateRequest { cell: None }));
        assert_eq!(refusal(empty), "Field = cell; Required");
        assert_eq!(refusal(allocation(|cell| cell.name.clear())), "Field = cell.name; Required");
    }

    #[test]
    fn limits_that_are_present_and_empty_are_no_limits() {
        let (_, spec) = allocation(|cell| {
            cell.cpu = Some(Default::default());
            cell.cpuset = Some(wire::CpusetController { cpus: Some("".into()), mems: None });
            cell.memory = Some(Default::default());
        })
        .unwrap();
        assert_eq!(spec.limits, Limits::default());
    }

    #[test]
    fn limits_out_of_range_name_their_field() {
        let memory = |max| Some(wire::MemoryController { max, ..Default::default() });
        let cases = [
            (refusal(allocation(|cell| cell.memory = memory(Some(-1)))), "cell.memory.max"),
            (
                refusal(allocation(|cell| cell.pids = Some(wire::PidsController { max: Some(0) }))),
                "cell.pids.max",
            ),
            (
                refusal(allocation(|cell| {
                    cell.cpu =
                        Some(wire::CpuController { weight: Some(10_001), ..Default::default() });
                })),
                "cell.cpu.weight",
            ),
        ];
        for (text, field) in cases {
            assert!(text.starts_with(&format!("Field = {field}; ")), "{text}");
        }
    }

    #[test]
    fn a_cells_own_users_need_namespaces_of_theirs() {
        let users = |host_id, count| wire::UserNamespace { host_id, count, ..Default::default() };
        let with = |users| allocation(|cell| cell.user_namespace = Some(users));
        let refused = refusal(with(users(None, None)));
        assert!(
            refused.starts_with("Field = cell.user_namespace; Needs isolate_process"),
            "{refused}"
        );
        let isolated = |users| {
            allocation(|cell| {
                cell.isolate_process = true;
                cell.user_namespace = Some(users);
            })
        };
        let traits = isolated(users(Some(70_000), Some(5))).unwrap().1.traits;
        assert_eq!(traits.users, IdRange::new(70_000, 5));
        let refused = refusal(isolated(users(Some(1), None)));
        assert!(refused.starts_with("Field = cell.user_namespace.host_id; "), "{refused}");
        let refused = refusal(isolated(users(None, Some(0))));
        assert!(refused.starts_with("Field = cell.user_namespace.count; "), "{refused}");
        assert_eq!(allocation(|_| {}).unwrap().1.traits.users, None);
    }

    #[test]
    fn a_program_is_a_command_or_arguments_and_never_both() {
        let neither = starting(|_, executable| executable.command.clear());
        assert_eq!(refusal(neither), "Field = executable.command; Required");
        let both = starting(|_, executable| executable.args = vec!["true".into()]);
        assert!(refusal(both).starts_with("Field = executable.args; "));
        let nul = starting(|_, executable| executable.command = "a\0b".into());
        assert!(refusal(nul).starts_with("Field = executable.command; "));
    }

    #[test]
    fn an_environment_with_nul_or_an_equals_sign_in_a_name_is_refused() {
        for (name, value) in [("", "x"), ("A=B", "x"), ("A\0", "x"), ("A", "x\0")] {
            let outcome =
                starting(|_, executable| drop(executable.env.insert(name.into(), value.into())));
            assert!(refusal(outcome).starts_with("Field = executable.env; "), "{name:?}={value:?}");
        }
    }

    #[test]
    fn the_user_that_linux_keeps_for_none_is_refused() {
        let outcome = starting(|start, _| start.uid = Some(u32::MAX));
        assert!(refusal(outcome).starts_with("Field = uid; "));
    }

    #[test]
    fn signals_are_those_that_programs_may_use() {
        let signal = |number| {
            signal(request(wire::CellServiceSignalRequest {
                executable_name: "sh".into(),
                signal: number,
                ..Default::default()
            }))
        };
        assert!(signal(15).is_ok());
        assert!(signal(64).is_ok());
        for number in [0, -1, 32, 65, i32::MAX] {
            assert!(refusal(signal(number)).starts_with("Field = signal; "), "{number}");
        }
    }

    #[test]
    fn a_grace_period_is_bounded() {
        let free = |seconds, nanos| {
            free(request(wire::CellServiceFreeRequest {
                cell_name: "web".into(),
                grace_period: Some(prost_types::Duration { seconds, nanos }),
            }))
        };
        assert_eq!(free(0, 0).unwrap().1, Duration::ZERO);
        for (seconds, nanos) in [(-1, 0), (3601, 0), (i64::MAX, 0), (0, -5)] {
            assert!(refusal(free(seconds, nanos)).starts_with("Field = grace_period; "));
        }
    }
}
