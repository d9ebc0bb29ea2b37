//! What holds for everything that was admitted.

use std::time::Duration;

use aurae_model::{Capabilities, Command, Executable, Landlock, Limits, Security};
use auraed::runtime::cells::CellSpec;
use auraed::runtime::logs;

use super::calls::Done;

/// The longest that an end may be waited for.
const MAX_GRACE: Duration = Duration::from_secs(3600);
/// The longest description, in bytes.
const MAX_DESCRIPTION: usize = 1024;
/// The most memory that the bound caller's cells may have.
const BOUND_MEMORY: u64 = 1 << 30;

/// What the kernel, and the zone's set-up, are handed without another look.
pub(super) fn is_valid(what: &Done) {
    match what {
        Done::Allocate(spec) => check_cell(spec),
        Done::Start(executable) => check_executable(executable),
        Done::Exec(command) => check_command(command),
        Done::Wait(grace) => assert!(*grace <= MAX_GRACE, "{grace:?}"),
        Done::Something => {}
    }
}

/// What the policies ask of the bound caller's requests.
pub(super) fn is_within_bounds(what: &Done) -> bool {
    match what {
        Done::Allocate(spec) => {
            let memory = spec.limits.memory.max;
            spec.traits.isolate_process && memory.is_some_and(|bytes| bytes <= BOUND_MEMORY)
        }
        Done::Start(executable) => {
            executable.uid.is_some_and(|uid| uid > 0) && executable.security == Security::default()
        }
        _ => true,
    }
}

fn check_cell(spec: &CellSpec) {
    let traits = spec.traits;
    let needs_own_mounts = traits.api_socket || traits.read_only_root || traits.private_tmp;
    assert!(!needs_own_mounts || traits.isolate_process, "{traits:?}");
    let Limits { cpu, cpuset, memory, pids_max, io } = &spec.limits;
    for weight in [cpu.weight, io.weight].into_iter().flatten() {
        assert!((1..=10_000).contains(&weight.get()), "{weight:?}");
    }
    if let Some(max) = cpu.max {
        assert!((1_000..=1_000_000).contains(&max.period), "{max:?}");
        assert!(max.quota.is_none_or(|quota| quota >= 1_000), "{max:?}");
        assert!(max.burst.is_none_or(|burst| Some(burst) <= max.quota), "{max:?}");
    }
    for list in [&cpuset.cpus, &cpuset.mems].into_iter().flatten() {
        let plain = |byte: u8| byte.is_ascii_digit() || matches!(byte, b',' | b'-');
        assert!(list.as_str().bytes().all(plain), "{list:?}");
    }
    let memory = [memory.min, memory.low, memory.high, memory.max, memory.swap_max];
    assert!(memory.into_iter().flatten().all(|bytes| i64::try_from(bytes).is_ok()), "{memory:?}");
    assert_ne!(*pids_max, Some(0));
    for device in &io.devices {
        let rates = [
            device.read_bytes,
            device.write_bytes,
            device.read_operations,
            device.write_operations,
        ];
        assert!(!rates.contains(&Some(0)), "{device:?}");
    }
}

fn check_executable(executable: &Executable) {
    assert!(executable.description.len() <= MAX_DESCRIPTION);
    let capacity = executable.log_capacity;
    assert!(capacity.is_none_or(|it| (logs::MIN_CAPACITY..=logs::MAX_CAPACITY).contains(&it)));
    assert!(executable.stop.grace <= MAX_GRACE);
    if let Some(restart) = executable.restart {
        assert!(restart.min_backoff <= restart.max_backoff && !restart.min_backoff.is_zero());
        assert!(!restart.reset_after.is_zero());
    }
    check_program(&executable.program.arguments());
    check_surroundings(
        &executable.env,
        &executable.working_directory,
        [executable.uid, executable.gid],
    );
    check_security(&executable.security);
}

fn check_command(command: &Command) {
    check_program(&command.arguments);
    check_surroundings(&command.env, &command.working_directory, [command.uid, command.gid]);
    check_security(&command.security);
}

/// They become C strings.
fn check_program(arguments: &[String]) {
    assert!(arguments.first().is_some_and(|program| !program.is_empty()), "{arguments:?}");
    assert!(arguments.iter().all(|argument| !argument.contains('\0')), "{arguments:?}");
}

fn check_surroundings(env: &[(String, String)], directory: &str, ids: [Option<u32>; 2]) {
    for (name, value) in env {
        assert!(
            !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0'),
            "{env:?}"
        );
    }
    assert!(directory.starts_with('/') && !directory.contains('\0'), "{directory:?}");
    assert!(!ids.contains(&Some(u32::MAX)), "the number for no user");
}

fn check_security(security: &Security) {
    if security.privileged {
        return assert_eq!(*security, Security::privileged());
    }
    let Security { capabilities, ambient, devices, landlock, .. } = security;
    assert_eq!(ambient.bits() & !capabilities.bits(), 0, "more from the start than ever");
    let known = (1_u64 << 41) - 1;
    assert_eq!(capabilities.bits() & !known, 0, "{capabilities:?}");
    assert!(
        *ambient != Capabilities::NONE || capabilities.bits() & !Capabilities::DEFAULT.bits() == 0
    );
    assert!(devices.len() <= 64);
    if let Some(Landlock { bind_ports, connect_ports, .. }) = landlock {
        assert!(!bind_ports.contains(&0) && !connect_ports.contains(&0));
    }
}
