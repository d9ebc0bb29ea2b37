//! What bad input gets: a status, a text that names field and rule, and nothing changed.

use aurae_proto::cells::{
    Cell, CellServiceAllocateRequest, CellServiceFreeRequest, CellServiceInspectRequest,
    CellServiceStartRequest, CellServiceStopRequest, CellServiceWaitRequest, CpuController,
    CpusetController, Executable, IoController, IoDeviceLimit, MemoryController, PidsController,
};
use aurae_proto::observe::{GetPosixSignalsStreamRequest, GetSubProcessStreamRequest};
use tonic::Code;
use vm_tests::{Node, cell, program, shell};

fn cpu(cpu: CpuController) -> Cell {
    Cell { cpu: Some(cpu), ..cell("bad-limits") }
}

fn memory(memory: MemoryController) -> Cell {
    Cell { memory: Some(memory), ..cell("bad-limits") }
}

fn cpuset(cpus: &str, mems: &str) -> Cell {
    let set = CpusetController { cpus: Some(cpus.to_owned()), mems: Some(mems.to_owned()) };
    Cell { cpuset: Some(set), ..cell("bad-limits") }
}

fn io(device: &str) -> Cell {
    let device = IoDeviceLimit {
        device: device.to_owned(),
        read_bytes_per_second: Some(1),
        ..Default::default()
    };
    let io = IoController { weight: None, devices: vec![device] };
    Cell { io: Some(io), ..cell("bad-limits") }
}

/// Cells that are refused, and the field that has to be named.
fn bad_cells() -> Vec<(Cell, &'static str)> {
    let long = "a".repeat(64);
    let mut bad: Vec<(Cell, &'static str)> = [
        "",
        "../x",
        "a//b",
        "/a",
        "a/",
        "-a",
        "a-",
        "a_b",
        "a b",
        "a.b",
        "ä",
        "a\0b",
        "_auraed",
        long.as_str(),
    ]
    .into_iter()
    .map(|name| (cell(name), "cell.name"))
    .collect();
    bad.extend([
        (cpu(CpuController { weight: Some(0), ..Default::default() }), "cell.cpu.weight"),
        (cpu(CpuController { weight: Some(10_001), ..Default::default() }), "cell.cpu.weight"),
        (cpu(CpuController { max: Some(-1), ..Default::default() }), "cell.cpu.max"),
        (cpu(CpuController { max: Some(999), ..Default::default() }), "cell.cpu.max"),
        (cpu(CpuController { max: Some(i64::MAX), ..Default::default() }), "cell.cpu.max"),
        (
            cpu(CpuController { max: Some(5000), period: Some(999), ..Default::default() }),
            "cell.cpu.period",
        ),
        (
            cpu(CpuController { max: Some(5000), period: Some(1_000_001), ..Default::default() }),
            "cell.cpu.period",
        ),
        (cpu(CpuController { burst: Some(10), ..Default::default() }), "cell.cpu.burst"),
        (
            cpu(CpuController { max: Some(5000), burst: Some(5001), ..Default::default() }),
            "cell.cpu.burst",
        ),
        (cpuset("999", "0"), "cell.cpuset.cpus"),
        (cpuset("1-0", "0"), "cell.cpuset.cpus"),
        (cpuset("zero", "0"), "cell.cpuset.cpus"),
        (cpuset("0", "63"), "cell.cpuset.mems"),
        (memory(MemoryController { max: Some(-1), ..Default::default() }), "cell.memory.max"),
        (memory(MemoryController { min: Some(-1), ..Default::default() }), "cell.memory.min"),
        (memory(MemoryController { low: Some(-5), ..Default::default() }), "cell.memory.low"),
        (memory(MemoryController { high: Some(-5), ..Default::default() }), "cell.memory.high"),
        (
            memory(MemoryController { swap_max: Some(-5), ..Default::default() }),
            "cell.memory.swap_max",
        ),
        (
            Cell { pids: Some(PidsController { max: Some(0) }), ..cell("bad-limits") },
            "cell.pids.max",
        ),
        (io("/dev/nothing"), "cell.io.devices"),
        (io("/dev/null"), "cell.io.devices"),
        (io("../../etc/passwd"), "cell.io.devices"),
        (io("999:999"), "cell.io.devices"),
        (
            Cell {
                io: Some(IoController { weight: Some(0), devices: Vec::new() }),
                ..cell("bad-limits")
            },
            "cell.io.weight",
        ),
    ]);
    bad
}

#[tokio::test]
async fn a_bad_cell_is_refused_by_field_and_nothing_is_left_of_it() {
    let node = Node::alone().await;
    let api = node.api().await;
    let count = "find /sys/fs/cgroup -type d | wc -l";
    let before = (api.list().await, api.on_node(count).await);
    let mut wrong = Vec::new();
    for (cell, field) in bad_cells() {
        let shown = format!("{cell:?}");
        match api.try_allocate(cell).await {
            Ok(()) => wrong.push(format!("accepted: {shown}")),
            Err(status)
                if status.code() == Code::FailedPrecondition
                    && status.message().starts_with(&format!("Field = {field}")) => {}
            Err(status) => wrong.push(format!("{field}: {status:?} for {shown}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!((api.list().await, api.on_node(count).await), before);
}

#[tokio::test]
async fn a_request_without_its_cell_or_names_is_refused() {
    let node = Node::shared().await;
    let api = node.api().await;
    let mut cells = api.cells.clone();
    let allocate = cells.allocate(CellServiceAllocateRequest { cell: None }).await;
    let free = cells.free(CellServiceFreeRequest::default()).await;
    let start = cells.start(CellServiceStartRequest::default()).await;
    let stop = cells.stop(CellServiceStopRequest::default()).await;
    let wait = cells.wait(CellServiceWaitRequest::default()).await;
    for (field, status) in [
        ("cell", allocate.map(drop)),
        ("cell_name", free.map(drop)),
        ("executable", start.map(drop)),
        ("executable_name", stop.map(drop)),
        ("executable_name", wait.map(drop)),
    ] {
        let status = status.expect_err(field);
        assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
        assert!(status.message().starts_with(&format!("Field = {field}")), "{status:?}");
    }
}

#[tokio::test]
async fn a_taken_name_and_a_missing_one_are_told_apart() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(cell("taken")).await;
    let taken = api.try_allocate(cell("taken")).await.expect_err("it is taken");
    assert_eq!(taken.code(), Code::AlreadyExists);
    assert!(taken.message().contains("taken"), "{taken:?}");
    assert_eq!(api.run("taken", "echo unharmed").await.success(), "unharmed\n");
    api.free("taken").await;

    let missing = api.try_free("taken").await.expect_err("it is missing");
    assert_eq!(missing.code(), Code::NotFound);
    assert!(missing.message().contains("taken"), "{missing:?}");
    let status = api.try_start("taken", shell("a", "true")).await.expect_err("it is missing");
    assert_eq!(status.code(), Code::NotFound);
    let request = CellServiceInspectRequest { cell_name: Some("taken".to_owned()) };
    let status = api.cells.clone().inspect(request).await.expect_err("it is missing");
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test]
async fn a_cell_in_a_cell_names_its_missing_ancestor() {
    let node = Node::shared().await;
    let api = node.api().await;
    let orphan = api.try_allocate(cell("nowhere/child")).await.expect_err("no parent");
    assert_eq!(orphan.code(), Code::NotFound, "{orphan:?}");
    assert!(orphan.message().contains("cell nowhere does not exist"), "{orphan:?}");
    api.allocate(cell("somewhere")).await;
    let orphan = api.try_allocate(cell("somewhere/in/there")).await.expect_err("no parent");
    assert_eq!(orphan.code(), Code::NotFound, "{orphan:?}");
    assert!(orphan.message().contains("cell somewhere/in does not exist"), "{orphan:?}");
    api.free("somewhere").await;
}

#[tokio::test]
async fn a_program_that_cannot_be_executed_leaves_nothing_half_started() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(cell("no-program")).await;
    api.on_node("echo data > /tmp/not-a-program; chmod 644 /tmp/not-a-program").await;
    for (executable, code) in [
        (program("a", &["/no/such/program"]), Code::NotFound),
        (program("a", &["no-such-program-in-path"]), Code::NotFound),
        (program("a", &["/tmp/not-a-program"]), Code::PermissionDenied),
        (program("a", &["/tmp"]), Code::PermissionDenied),
        (
            Executable { working_directory: "/no/such/place".to_owned(), ..shell("a", "true") },
            Code::NotFound,
        ),
    ] {
        let shown = format!("{executable:?}");
        let status = api.try_start("no-program", executable).await.expect_err(&shown);
        assert_eq!(status.code(), code, "{shown}: {status:?}");
    }
    let seen = api.inspect("no-program").await;
    assert!(seen.executables.is_empty(), "{:?}", seen.executables);
    let leaves = format!("ls -d /sys/fs/cgroup{}/_exe.* 2>/dev/null | wc -l", seen.cgroup_path);
    assert_eq!(api.on_node(&leaves).await, "0");
    assert_eq!(api.run("no-program", "echo fine").await.success(), "fine\n");
    api.free("no-program").await;
}

#[tokio::test]
async fn a_bad_executable_is_refused_by_field() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(cell("bad-executable")).await;
    let with_env = |name: &str, value: &str| Executable {
        env: [(name.to_owned(), value.to_owned())].into(),
        ..shell("a", "true")
    };
    let long = "d".repeat(1025);
    for (executable, field) in [
        (shell("", "true"), "executable.name"),
        (shell("../a", "true"), "executable.name"),
        (shell("a/b", "true"), "executable.name"),
        (shell(&"n".repeat(64), "true"), "executable.name"),
        (shell("a", ""), "executable.command"),
        (shell("a", "echo \0"), "executable.command"),
        (Executable { args: vec!["true".to_owned()], ..shell("a", "true") }, "executable"),
        (program("a", &[""]), "executable.args"),
        (program("a", &["true", "a\0b"]), "executable.args"),
        (with_env("", "x"), "executable.env"),
        (with_env("A=B", "x"), "executable.env"),
        (with_env("A\0", "x"), "executable.env"),
        (with_env("A", "x\0"), "executable.env"),
        (
            Executable { working_directory: "relative".to_owned(), ..shell("a", "true") },
            "executable.working_directory",
        ),
        (Executable { description: long.clone(), ..shell("a", "true") }, "executable.description"),
        (Executable { log_capacity: Some(1), ..shell("a", "true") }, "executable.log_capacity"),
        (
            Executable { log_capacity: Some(u64::MAX), ..shell("a", "true") },
            "executable.log_capacity",
        ),
    ] {
        let shown = format!("{field}: {executable:?}");
        let status = api.try_start("bad-executable", executable).await.expect_err(&shown);
        assert_eq!(status.code(), Code::FailedPrecondition, "{shown}: {status:?}");
        let named = format!("Field = {field}");
        assert!(status.message().starts_with(&named), "{shown}: {status:?}");
    }
    assert!(api.inspect("bad-executable").await.executables.is_empty());
    api.free("bad-executable").await;
}

#[tokio::test]
async fn the_user_that_means_nobody_is_refused() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(cell("nobody")).await;
    for (uid, gid, field) in [(Some(u32::MAX), None, "uid"), (None, Some(u32::MAX), "gid")] {
        let request = CellServiceStartRequest {
            cell_name: Some("nobody".to_owned()),
            executable: Some(shell("a", "true")),
            uid,
            gid,
        };
        let status = api.cells.clone().start(request).await.expect_err(field);
        assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
        assert!(status.message().starts_with(&format!("Field = {field}")), "{status:?}");
    }
    api.free("nobody").await;
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_and_the_next_one_is_not() {
    let node = Node::shared().await;
    let api = node.api().await;
    let huge = "x".repeat(5 * 1024 * 1024);
    let status = api.try_start("", shell("huge", &huge)).await.expect_err("too large");
    assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted), "{status:?}");
    assert_eq!(api.on_node("echo fine").await, "fine");
}

#[tokio::test]
async fn unknown_values_and_what_is_not_there_yet_say_so() {
    let node = Node::shared().await;
    let api = node.api().await;
    let odd = GetSubProcessStreamRequest { channel_type: 9, process_id: 1 };
    let status = api.observe.clone().get_sub_process_stream(odd).await.expect_err("unknown");
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let request = GetPosixSignalsStreamRequest::default();
    let status = api.observe.clone().get_posix_signals_stream(request).await.expect_err("not yet");
    assert_eq!(status.code(), Code::Unimplemented, "{status:?}");
}
