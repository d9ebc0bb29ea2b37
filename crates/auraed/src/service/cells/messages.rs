//! What the daemon has, as messages.

use std::time::SystemTime;

use aurae_kernel::process::Exit;
use aurae_model::{Device, Limits};
use aurae_proto::cells as wire;

use super::place::known;
use crate::runtime::cells::{CellNode, CellState, CellView, Pressure, PressureLine, Traits, Usage};
use crate::runtime::executables::{Outcome, Phase, Privileges, Snapshot};

pub(super) fn inspection(
    (view, usage, controllers): (CellView, Usage, Vec<String>),
) -> wire::CellServiceInspectResponse {
    let (state, reason) = state(&view.state);
    wire::CellServiceInspectResponse {
        cgroup_path: view.cgroup_path.clone(),
        daemon_pid: view.daemon_pid,
        usage: Some(wire_usage(&usage)),
        cell: Some(cell(view)),
        executables: Vec::new(),
        controllers,
        state: state.into(),
        reason,
    }
}

/// As deep as cells nest, which is bounded.
pub(super) fn graph_node(CellNode { view, children }: CellNode) -> wire::CellGraphNode {
    let (state, reason) = state(&view.state);
    wire::CellGraphNode {
        cell: Some(cell(view)),
        children: children.into_iter().map(graph_node).collect(),
        state: state.into(),
        reason,
    }
}

fn state(state: &CellState) -> (wire::CellState, String) {
    match state {
        CellState::Live => (wire::CellState::Live, String::new()),
        CellState::Frozen => (wire::CellState::Frozen, String::new()),
        CellState::Failed(reason) => (wire::CellState::Failed, reason.clone()),
    }
}

pub(super) fn cell(view: CellView) -> wire::Cell {
    let CellView { name, limits, traits, .. } = view;
    let Traits { isolate_process, isolate_network, api_socket, .. } = traits;
    let Traits { read_only_root, private_tmp, unmasked_paths, users, .. } = traits;
    let Limits { cpu, cpuset, memory, pids_max, io } = limits;
    // Beyond i64 the wire has no number; no machine has that much memory.
    let bytes = |bytes: Option<u64>| bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
    let list = |list: Option<aurae_model::List>| list.map(|list| list.as_str().to_owned());
    wire::Cell {
        name,
        cpu: Some(wire::CpuController {
            weight: cpu.weight.map(|weight| weight.get().into()),
            max: bytes(cpu.max.and_then(|max| max.quota)),
            period: cpu.max.map(|max| max.period),
            burst: cpu.max.and_then(|max| max.burst),
        }),
        cpuset: Some(wire::CpusetController { cpus: list(cpuset.cpus), mems: list(cpuset.mems) }),
        memory: Some(wire::MemoryController {
            min: bytes(memory.min),
            low: bytes(memory.low),
            high: bytes(memory.high),
            max: bytes(memory.max),
            swap_max: bytes(memory.swap_max),
            oom_group: memory.oom_group,
        }),
        isolate_process,
        isolate_network,
        pids: Some(wire::PidsController { max: pids_max }),
        io: Some(wire::IoController {
            weight: io.weight.map(aurae_model::Weight::get),
            devices: io.devices.into_iter().map(io_device).collect(),
        }),
        api_socket,
        read_only_root,
        private_tmp,
        unmasked_paths,
        user_namespace: users.map(|users| wire::UserNamespace {
            host_id: Some(users.first()),
            count: Some(users.count()),
            // As it was asked for.
            allow_system_ids: users.has_system_ids(),
        }),
    }
}

fn io_device(limit: aurae_model::IoDevice) -> wire::IoDeviceLimit {
    let device = match limit.device {
        Device::Numbers(major, minor) => format!("{major}:{minor}"),
        Device::Path(path) => path,
    };
    wire::IoDeviceLimit {
        device,
        read_bytes_per_second: limit.read_bytes,
        write_bytes_per_second: limit.write_bytes,
        read_operations_per_second: limit.read_operations,
        write_operations_per_second: limit.write_operations,
    }
}

fn wire_usage(usage: &Usage) -> wire::CellUsage {
    wire::CellUsage {
        cpu: usage.cpu.map(|cpu| wire::CpuUsage {
            usage: cpu.usage,
            user: cpu.user,
            system: cpu.system,
            periods: cpu.periods,
            throttled_periods: cpu.throttled_periods,
            throttled: cpu.throttled,
        }),
        memory: usage.memory.map(|memory| wire::MemoryUsage {
            current: memory.current,
            peak: memory.peak,
            swap_current: memory.swap_current,
            events: Some(wire::MemoryEvents {
                low: memory.low,
                high: memory.high,
                max: memory.max,
                oom: memory.oom,
                oom_kill: memory.oom_kill,
            }),
        }),
        pids: usage
            .pids
            .map(|pids| wire::PidsUsage { current: pids.current, refused: pids.refused }),
        cpu_pressure: usage.cpu_pressure.map(pressure),
        memory_pressure: usage.memory_pressure.map(pressure),
        io_pressure: usage.io_pressure.map(pressure),
    }
}

fn pressure(pressure: Pressure) -> wire::Pressure {
    let line = |line: PressureLine| wire::PressureLine {
        avg10: line.avg10,
        avg60: line.avg60,
        avg300: line.avg300,
        total: line.total,
    };
    wire::Pressure { some: Some(line(pressure.some)), full: pressure.full.map(line) }
}

pub(super) fn executable(snapshot: &Snapshot) -> wire::ExecutableStatus {
    let (facts, status) = (&snapshot.facts, &snapshot.status);
    let (state, next_start) = match status.phase {
        Phase::Running => (wire::ExecutableState::Running, None),
        Phase::Stopping => (wire::ExecutableState::Stopping, None),
        Phase::Restarting { next_start, .. } => {
            (wire::ExecutableState::Restarting, Some(next_start))
        }
        Phase::Ended(_) => (wire::ExecutableState::Ended, None),
    };
    let outcome = status.phase.last_outcome();
    wire::ExecutableStatus {
        name: facts.name.clone(),
        state: state.into(),
        pid: status.run.pid,
        start_time: Some(timestamp(status.run.started)),
        end_time: outcome.map(|outcome| timestamp(outcome.ended)),
        exit_status: outcome.map(exit_status),
        description: facts.description.clone(),
        args: facts.arguments.clone(),
        uid: facts.uid,
        gid: facts.gid,
        restarts: status.restarts,
        next_start_time: next_start.map(timestamp),
        outer_pids: known(status.run.numbers.as_ref()),
        security: snapshot.privileges().map(security_status),
    }
}

fn security_status(seen: Privileges) -> wire::SecurityStatus {
    wire::SecurityStatus {
        privileged: seen.held.privileged,
        effective_capabilities: seen.effective.names(),
        bounding_capabilities: seen.bounding.names(),
        seccomp_filter: seen.seccomp_filter,
        no_new_privileges: seen.no_new_privileges,
        devices_restricted: seen.held.devices_restricted,
        core_dumps: seen.core_dumps,
        landlock_abi: seen.held.landlock_abi,
    }
}

pub(super) fn exit_status(outcome: Outcome) -> wire::ExitStatus {
    let reason = match outcome.exit {
        Exit::Code(code) => wire::exit_status::Reason::Code(code),
        Exit::Signal(signal) => wire::exit_status::Reason::Signal(signal),
    };
    wire::ExitStatus { reason: Some(reason), oom_killed: outcome.oom_killed }
}

fn timestamp(time: SystemTime) -> prost_types::Timestamp {
    time.into()
}
