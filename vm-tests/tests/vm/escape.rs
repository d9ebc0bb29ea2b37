//! What a workload that wants out of its cell tries, from an isolated cell and with the defaults: each
//! attempt fails, and says how. What was asked for by name works.

use aurae_proto::cells::cell_service_copy_in_request::Message as In;
use aurae_proto::cells::copy_entry::Kind;
use aurae_proto::cells::{
    CapabilitiesChange, Cell, CellServiceCopyInRequest, CopyEntry, CopyInStart, DeviceRule,
    Executable, LandlockRules, SeccompProfile, Security, SecurityStatus,
};
use tonic::Code;
use vm_tests::{Api, Finished, Node, cell, privileged, shell, soon};

/// The program that makes one system call.
const ATTEMPT: &str = env!("CARGO_BIN_EXE_attempt");
/// Bytes of a message.
const PIECE: usize = 1 << 20;

/// An isolated cell with that program in it, as `/tmp/NAME/attempt`.
async fn isolated(api: &Api, name: &str) {
    api.allocate(Cell { isolate_process: true, isolate_network: true, ..cell(name) }).await;
    api.run(name, &format!("mkdir -p /tmp/{name}")).await.success();
    let bytes = std::fs::read(ATTEMPT).expect("the program");
    let size = bytes.len() as u64;
    let start = CopyInStart { directory: format!("/tmp/{name}"), ..CopyInStart::default() };
    let entry = CopyEntry {
        path: b"attempt".to_vec(),
        mode: 0o755,
        kind: Some(Kind::File(size)),
        ..CopyEntry::default()
    };
    let mut messages = vec![In::Start(start), In::Entry(entry)];
    messages.extend(bytes.chunks(PIECE).map(|piece| In::Data(piece.to_vec().into())));
    let messages: Vec<_> = messages
        .into_iter()
        .map(|message| CellServiceCopyInRequest { message: Some(message) })
        .collect();
    let mut cells = api.in_zone(&format!("cells/{name}")).cells;
    let copied = cells.copy_in(tokio_stream::iter(messages));
    soon("the copy", copied).await.expect("it is copied");
}

async fn freed(api: &Api, name: &str) {
    api.free(name).await;
    api.on_node(&format!("rm -r /tmp/{name}")).await;
}

/// What the attempt said in the cell `name`.
async fn attempt(api: &Api, name: &str, what: &str) -> String {
    let text = api.run(name, &format!("/tmp/{name}/attempt {what}")).await.success();
    text.trim_end().to_owned()
}

fn with(security: Security, executable: Executable) -> Executable {
    Executable { security: Some(security), ..executable }
}

fn adding(capability: &str) -> Security {
    let capabilities = CapabilitiesChange { add: vec![capability.to_owned()], drop: vec![] };
    Security { capabilities: Some(capabilities), ..Security::default() }
}

/// What `Inspect` says that a running executable may do.
async fn seen(api: &Api, cell: &str, name: &str) -> SecurityStatus {
    let executables = api.inspect(cell).await.executables;
    let found = executables.into_iter().find(|executable| executable.name == name);
    found.and_then(|executable| executable.security).expect("it runs")
}

#[tokio::test]
async fn system_calls_that_lead_out_are_refused() {
    let node = Node::shared().await;
    let api = node.api().await;
    isolated(&api, "escape-calls").await;
    assert_eq!(attempt(&api, "escape-calls", "getpid").await, "ok");
    for call in [
        "mount",
        "umount",
        "pivot_root",
        "fsopen",
        "open_tree",
        "unshare_user",
        "unshare_mounts",
        "clone_user",
        "setns",
        "open_by_handle",
        "init_module",
        "finit_module",
        "delete_module",
        "kexec_load",
        "bpf",
        "perf_event_open",
        "userfaultfd",
        "io_uring_setup",
        "keyctl",
        "add_key",
        "request_key",
        "reboot",
        "swapon",
        "settimeofday",
        "iopl",
        "syslog",
        "chroot",
        "sethostname",
        "mbind",
        "kcmp",
        "pidfd_getfd",
        "vsock",
        "af_alg",
        "personality",
    ] {
        assert_eq!(attempt(&api, "escape-calls", call).await, "EPERM", "{call}");
    }
    for call in ["clone3", "unknown", "x32"] {
        assert_eq!(attempt(&api, "escape-calls", call).await, "ENOSYS", "{call}");
    }
    let killed = api.run("escape-calls", "/tmp/escape-calls/attempt i386; echo $?").await;
    assert_eq!(killed.success(), "159\n", "128 and SIGSYS");
    freed(&api, "escape-calls").await;
}

#[tokio::test]
async fn neighbours_daemons_and_host_processes_are_out_of_reach() {
    let node = Node::shared().await;
    let api = node.api().await;
    isolated(&api, "escape-reach").await;
    api.allocate(Cell { isolate_process: true, api_socket: true, ..cell("escape-other") }).await;
    let victim = api.start("escape-other", "victim", "exec sleep 1000").await.pid;
    // Its own daemon is the only other process that it can name, and has more capabilities than it.
    assert_eq!(attempt(&api, "escape-reach", "ptrace 1").await, "EPERM");
    let reach =
        api.run("escape-reach", "ls -l /proc/1/root/ /proc/1/fd/ 2>&1; true").await.success();
    assert!(reach.contains("Permission denied") && !reach.contains("bin"), "{reach}");
    // A process of a neighbour, or of the node, has no number here.
    let kill = format!("kill -9 {victim}; ls -d /proc/{victim}");
    let kill = api.run("escape-reach", &kill).await;
    assert_ne!(kill.code(), Some(0), "{kill:?}");
    let still = api.inspect("escape-other").await.executables;
    assert!(still.iter().any(|it| it.name == "victim" && it.exit_status.is_none()), "{still:?}");
    // A neighbour's socket is in the neighbour's own mounts.
    let socket = api.run("escape-reach", "test -e /run/aurae/aurae.sock").await;
    assert_eq!(socket.code(), Some(1), "{socket:?}");
    let there = api.run("escape-other", "test -S /run/aurae/aurae.sock").await;
    assert_eq!(there.code(), Some(0), "{there:?}");
    api.free("escape-other").await;
    freed(&api, "escape-reach").await;
}

#[tokio::test]
async fn devices_beyond_the_usual_ones_cannot_be_made_or_opened() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(Cell { isolate_process: true, ..cell("escape-device") }).await;
    let run = async |executable| api.run_as("escape-device", executable).await;
    let usual = "echo x > /dev/null && head -c 1 /dev/zero /dev/urandom > /dev/null && echo ok";
    assert_eq!(run(shell("usual", usual)).await.success(), "ok\n");
    // By path: root owns them, and may not.
    for device in ["/dev/kmsg", "/dev/mem", "/dev/console"] {
        let open = run(shell("open", &format!("test -e {device} && : < {device}"))).await;
        assert_ne!(open.code(), Some(0), "{device}: {open:?}");
        assert!(open.stderr.contains("not permitted"), "{device}: {open:?}");
    }
    // Made anew: not by default, and not with the capability for it either.
    let make = "cd /tmp && rm -f escape-mem && mknod escape-mem c 1 1";
    assert_ne!(run(shell("make", make)).await.code(), Some(0));
    let made = run(with(adding("CAP_MKNOD"), shell("make", make))).await;
    assert_ne!(made.code(), Some(0), "{made:?}");
    assert!(made.stderr.contains("not permitted"), "{made:?}");
    let disk = "cd /tmp && rm -f escape-disk && mknod escape-disk b 253 0";
    let made = run(with(adding("CAP_MKNOD"), shell("disk", disk))).await;
    assert!(made.stderr.contains("not permitted"), "{made:?}");
    // What was asked for by name works, and nothing beside it.
    let console = DeviceRule { device: "/dev/console".to_owned(), access: "w".to_owned() };
    let asked = Security { devices: vec![console], ..Security::default() };
    let write = "(: > /dev/console) && echo ok; (: < /dev/console) || echo no";
    assert_eq!(run(with(asked, shell("asked", write))).await.stdout, "ok\nno\n");
    let numbers = DeviceRule { device: "c:5:1".to_owned(), access: "rwm".to_owned() };
    let asked = Security { devices: vec![numbers], ..adding("CAP_MKNOD") };
    let make = "cd /tmp && mknod escape-tty c 5 1 && rm escape-tty && echo ok";
    assert_eq!(run(with(asked, shell("asked", make))).await.success(), "ok\n");
    api.free("escape-device").await;
}

#[tokio::test]
async fn what_changes_the_machine_is_read_only_or_covered() {
    let node = Node::shared().await;
    let api = node.api().await;
    let isolated = || Cell { isolate_process: true, isolate_network: true, ..cell("escape-proc") };
    api.allocate(isolated()).await;
    let run = async |script: &str| api.run("escape-proc", script).await;
    for file in [
        "/proc/sysrq-trigger",
        "/proc/sys/kernel/hostname",
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/vm/drop_caches",
        "/sys/kernel/rcu_expedited",
        "/sys/fs/cgroup/cgroup.procs",
        "/sys/fs/cgroup/cgroup.subtree_control",
    ] {
        let write = run(&format!("test -e {file} && echo 0 > {file}")).await;
        assert_ne!(write.code(), Some(0), "{file}: {write:?}");
        assert!(write.stderr.contains("Read-only file system"), "{file}: {write:?}");
    }
    for file in ["/proc/kcore", "/proc/keys", "/proc/timer_list"] {
        let read = run(&format!("if test -e {file}; then head -c 1 {file}; fi")).await;
        assert_eq!(read.success(), "", "{file}");
    }
    assert_eq!(run("ls -A /sys/firmware").await.success(), "");
    assert_eq!(run("cat /proc/interrupts").await.success(), "");
    // Nothing above its own cgroup is there, and it cannot be mounted again.
    let above = run("ls -d /sys/fs/cgroup/_node /sys/fs/cgroup/escape-proc 2>/dev/null").await;
    assert_eq!(above.stdout, "");
    let mount =
        run("mkdir -p /tmp/escape-cgroup && mount -t cgroup2 none /tmp/escape-cgroup").await;
    assert!(mount.stderr.contains("ermi"), "{mount:?}");
    api.free("escape-proc").await;

    api.allocate(Cell { unmasked_paths: true, ..isolated() }).await;
    let name = run("cat /proc/sys/kernel/hostname && test -w /proc/sys/vm/swappiness").await;
    assert_eq!(name.success(), "escape-proc\n");
    // In a cgroup that it made a program would have no device policy.
    let cgroup = run("mkdir /sys/fs/cgroup/mine").await;
    assert!(cgroup.stderr.contains("Read-only file system"), "{cgroup:?}");
    api.free("escape-proc").await;
    api.on_node("rmdir /tmp/escape-cgroup").await;
}

#[tokio::test]
async fn the_nodes_key_and_policies_are_out_of_reach() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.on_node("ls /etc/aurae/pki/server.key").await;
    api.allocate(Cell { isolate_process: true, ..cell("escape-files") }).await;
    let run = async |script: &str| api.run("escape-files", script).await;
    assert_eq!(run("ls -A /etc/aurae").await.success(), "");
    let policy = "mkdir -p /etc/aurae/policy && echo 'permit(principal, action, resource);'";
    let written = run(&format!("{policy} > /etc/aurae/policy/all.cedar")).await;
    assert!(written.stderr.contains("Read-only file system"), "{written:?}");
    // Another directory cannot be put in its place.
    for away in ["mv /etc/aurae /etc/away", "mv /etc /away", "rm -rf /etc/aurae"] {
        let moved = run(away).await;
        assert!(moved.stderr.contains("busy"), "{away}: {moved:?}");
    }
    api.free("escape-files").await;
    api.on_node("test -e /etc/aurae/pki/server.key && ! test -e /etc/aurae/policy/all.cedar").await;
}

#[tokio::test]
async fn a_cell_may_have_a_read_only_root_and_its_own_tmp() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.on_node("echo of the node > /tmp/escape-seen").await;
    api.allocate(Cell {
        isolate_process: true,
        read_only_root: true,
        private_tmp: true,
        api_socket: true,
        ..cell("escape-ro")
    })
    .await;
    let run = async |script: &str| api.run("escape-ro", script).await;
    for place in ["/etc/passwd", "/var/lib/aurae/x", "/run/x"] {
        let write = run(&format!("echo x >> {place}")).await;
        assert!(write.stderr.contains("Read-only file system"), "{place}: {write:?}");
    }
    assert_eq!(run("ls -A /tmp; echo x > /tmp/own && echo ok").await.success(), "ok\n");
    assert_eq!(run("test -S /run/aurae/aurae.sock && echo ok").await.success(), "ok\n");
    assert_eq!(api.on_node("ls /tmp/own 2>/dev/null; cat /tmp/escape-seen").await, "of the node");
    // A cell inside has what the one around it has.
    api.allocate(Cell { isolate_process: true, ..cell("escape-ro/in") }).await;
    let inside = api.run("escape-ro/in", "echo x > /etc/x").await;
    assert!(inside.stderr.contains("Read-only file system"), "{inside:?}");
    let told = api.inspect("escape-ro").await.cell.expect("a cell");
    assert!(told.read_only_root && told.private_tmp && !told.unmasked_paths);
    api.free("escape-ro").await;
    api.on_node("rm /tmp/escape-seen").await;
    let without = Cell { private_tmp: true, ..cell("escape-ro") };
    let refused = api.try_allocate(without).await.expect_err("it has no mounts of its own");
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
}

#[tokio::test]
async fn what_a_program_may_do_is_told_and_widened_by_name() {
    let node = Node::shared().await;
    let api = node.api().await;
    isolated(&api, "escape-wide").await;
    let start = async |executable: Executable| {
        let name = executable.name.clone();
        api.try_start("escape-wide", executable).await.expect("it starts");
        seen(&api, "escape-wide", &name).await
    };
    let sleeper = |name: &str| shell(name, "exec sleep 1000");

    let usual = start(sleeper("usual")).await;
    assert_eq!(usual.effective_capabilities.len(), 8, "{usual:?}");
    assert_eq!(usual.effective_capabilities, usual.bounding_capabilities);
    assert!(usual.seccomp_filter && usual.no_new_privileges && usual.devices_restricted);
    assert!(!usual.privileged && !usual.core_dumps, "{usual:?}");

    let all = start(privileged(sleeper("all"))).await;
    assert!(all.privileged && !all.seccomp_filter && !all.no_new_privileges, "{all:?}");
    assert!(!all.devices_restricted && all.effective_capabilities.len() > 30, "{all:?}");

    let drop = vec!["ALL".to_owned()];
    let none = CapabilitiesChange { add: vec![], drop };
    let bare = Security { capabilities: Some(none), ..Security::default() };
    let bare = start(with(bare, sleeper("bare"))).await;
    assert!(bare.bounding_capabilities.is_empty() && bare.effective_capabilities.is_empty());

    let unconfined = Security {
        seccomp: SeccompProfile::Unconfined.into(),
        allow_new_privileges: true,
        core_dumps: true,
        devices: vec![DeviceRule { device: "*".to_owned(), access: String::new() }],
        ..Security::default()
    };
    let loose = start(with(unconfined, sleeper("loose"))).await;
    assert!(!loose.seccomp_filter && !loose.no_new_privileges && loose.core_dumps, "{loose:?}");
    assert!(!loose.devices_restricted && loose.effective_capabilities.len() == 8, "{loose:?}");

    let admin = "/tmp/escape-wide/attempt mount";
    let asked = with(adding("CAP_SYS_ADMIN"), shell("admin", admin));
    assert_eq!(api.run_as("escape-wide", asked).await.success(), "ok\n");
    let asked =
        privileged(shell("privileged", "umount /mnt && mount -t tmpfs none /mnt && echo ok"));
    assert_eq!(api.run_as("escape-wide", asked).await.success(), "ok\n");
    freed(&api, "escape-wide").await;
}

#[tokio::test]
async fn landlock_leaves_a_program_the_files_that_it_names() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(Cell { isolate_process: true, ..cell("escape-files") }).await;
    let rules = LandlockRules {
        execute_paths: vec!["/bin".to_owned()],
        read_write_paths: vec!["/tmp".to_owned(), "/dev/null".to_owned()],
        ..LandlockRules::default()
    };
    let security = Security { landlock: Some(rules), ..Security::default() };
    let script = "cat /etc/passwd 2>/dev/null || echo hidden; echo x > /tmp/escape-x && echo ok";
    let done: Finished =
        api.run_as("escape-files", with(security.clone(), shell("files", script))).await;
    assert_eq!(done.success(), "hidden\nok\n");
    let sleeper = with(security, shell("sleeper", "exec sleep 1000"));
    api.try_start("escape-files", sleeper).await.expect("it starts");
    assert!(seen(&api, "escape-files", "sleeper").await.landlock_abi >= 1);
    let missing = LandlockRules {
        read_only_paths: vec!["/no/such/place".to_owned()],
        ..LandlockRules::default()
    };
    let missing = Security { landlock: Some(missing), ..Security::default() };
    let refused = api.try_start("escape-files", with(missing, shell("missing", "true"))).await;
    assert_eq!(refused.expect_err("there is none").code(), Code::NotFound);
    api.free("escape-files").await;
    api.on_node("rm /tmp/escape-x").await;
}
