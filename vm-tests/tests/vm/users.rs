//! Cells with a user namespace of their own: whose root is nobody outside.

use aurae_proto::cells::{
    Cell, CellServiceStartRequest, DeviceRule, Executable, MemoryController, PidsController,
    Security, TerminalSize, UserNamespace,
};
use tonic::Code;
use vm_tests::{Api, Finished, Node, cell, privileged, shell};

/// Where a range begins that was not said to begin elsewhere, and how long it is.
const FIRST: u32 = 524_288;
const COUNT: u32 = 65_536;
const MIB: i64 = 1 << 20;

/// An isolated cell with users of its own.
fn own(name: &str) -> Cell {
    Cell {
        isolate_process: true,
        isolate_network: true,
        user_namespace: Some(UserNamespace::default()),
        ..cell(name)
    }
}

/// Whose a process is, as the node has it.
async fn user_of(api: &Api, pid: i32) -> u32 {
    let user = format!("grep ^Uid: /proc/{pid}/status | cut -f3");
    let [user] = api.numbers_on_node(&user).await;
    user
}

async fn run_as(api: &Api, cell: &str, command: &str) -> Finished {
    api.run_as(cell, privileged(shell("privileged", command))).await
}

#[tokio::test]
async fn its_root_is_an_unprivileged_user_outside() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(own("own-users")).await;
    let seen = api.inspect("own-users").await;
    let users = seen.cell.as_ref().and_then(|cell| cell.user_namespace).expect("it has some");
    assert_eq!((users.host_id, users.count), (Some(FIRST), Some(COUNT)));
    let inside = api.in_zone("cells/own-users").inspect("").await.cell.expect("the cell itself");
    assert_eq!(inside.user_namespace, Some(users));
    assert!(inside.isolate_process, "{inside:?}");
    assert_eq!(user_of(&api, seen.daemon_pid).await, FIRST);

    // No better protected from the OOM killer than any workload, none of which can make itself so.
    let score = format!("cat /proc/{}/oom_score_adj", seen.daemon_pid);
    assert_eq!(api.numbers_on_node::<i32, 1>(&score).await, [0]);
    let lower = "echo -1 2>/dev/null > /proc/self/oom_score_adj && echo lowered; cat /proc/self/oom_score_adj";
    assert_eq!(run_as(&api, "own-users", lower).await.success(), "0\n");
    // What all in it are held to cannot be had from its daemon, and so not be taken away.
    let held = run_as(&api, "own-users", "ls -l /proc/1/fd").await.success();
    assert!(held.contains("socket:") && !held.contains("bpf-prog"), "{held}");

    assert_eq!(api.run("own-users", "id -u; id -g").await.success(), "0\n0\n");
    let map = api.run("own-users", "cat /proc/self/uid_map /proc/self/gid_map").await.success();
    let map: Vec<&str> = map.split_whitespace().collect();
    let (first, count) = (FIRST.to_string(), COUNT.to_string());
    assert_eq!(map, ["0", &first, &count, "0", &first, &count]);

    let started = api.start("own-users", "sleeper", "exec sleep 1000").await;
    assert_eq!((started.uid, started.gid), (0, 0));
    assert_eq!(user_of(&api, started.pid).await, FIRST);
    let request = CellServiceStartRequest {
        cell_name: Some("own-users".to_owned()),
        executable: Some(shell("somebody", "exec sleep 1000")),
        uid: Some(1000),
        gid: Some(1000),
    };
    let somebody = api.cells.clone().start(request.clone()).await.expect("it starts").into_inner();
    assert_eq!(user_of(&api, somebody.pid).await, FIRST + 1000);
    let beyond = Some(shell("beyond", "true"));
    let request = CellServiceStartRequest { uid: Some(COUNT), executable: beyond, ..request };
    let refused = api.cells.clone().start(request).await.expect_err("no such user");
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    assert!(refused.message().contains("the user namespace does not have"), "{refused:?}");

    // A file of the host's root is nobody's here.
    let look = "stat -c %u /etc/passwd; cat /etc/passwd >/dev/null && echo read; \
                echo x 2>/dev/null >> /etc/passwd || echo refused; \
                ls /root 2>/dev/null || echo hidden; chown 0 /etc/passwd 2>/dev/null || echo no";
    let expected = "65534\nread\nrefused\nhidden\nno\n";
    assert_eq!(api.run("own-users", look).await.success(), expected);
    assert_eq!(run_as(&api, "own-users", look).await.success(), expected);
    // And one of its own is not root's outside.
    api.run("own-users", "echo mine > /tmp/own-users").await.success();
    assert_eq!(api.on_node("stat -c %u /tmp/own-users").await, FIRST.to_string());
    api.on_node("rm /tmp/own-users").await;
    api.free("own-users").await;
}

#[tokio::test]
async fn an_isolated_cell_with_its_own_users_is_as_isolated_as_others() {
    let node = Node::shared().await;
    let api = node.api().await;
    let cell =
        Cell { private_tmp: true, read_only_root: true, api_socket: true, ..own("users-in") };
    api.allocate(cell).await;
    let look = "hostname; ls /sys/class/net; ip -o link | grep -c UP; ls -d /proc/[0-9]* | wc -l";
    let text = api.run("users-in", look).await.success();
    let lines: Vec<&str> = text.lines().collect();
    let [name, network, up, processes] = lines.as_slice() else { panic!("{text}") };
    assert_eq!((*name, *network, *up), ("users-in", "lo", "1"));
    // The daemon, the shell, and those that count.
    assert!(processes.parse::<u32>().expect("a number") <= 4, "{text}");
    let groups = api.run("users-in", "ls /sys/fs/cgroup | grep ^_").await.success();
    assert_eq!(groups, "_auraed\n_exe.run\n");
    let masked = "cat /proc/kcore 2>/dev/null | wc -c; echo 1 2>/dev/null > /proc/sys/kernel/sysrq || echo no";
    assert_eq!(api.run("users-in", masked).await.success(), "0\nno\n");
    assert_eq!(api.run("users-in", "echo x > /tmp/x && cat /tmp/x").await.success(), "x\n");
    assert_eq!(
        api.run("users-in", "test -S /run/aurae/aurae.sock && echo socket").await.success(),
        "socket\n"
    );

    // A terminal is that of the user who has it.
    let terminal = Some(TerminalSize { rows: 24, columns: 80 });
    let request = CellServiceStartRequest {
        cell_name: Some("users-in".to_owned()),
        executable: Some(Executable {
            terminal,
            ..shell("terminal", "stat -L -c %u /proc/self/fd/0")
        }),
        uid: Some(7),
        gid: None,
    };
    api.cells.clone().start(request).await.expect("it starts");
    api.wait("users-in", "terminal").await;
    let said = vm_tests::written(
        &api.logs("users-in", "terminal").await,
        aurae_proto::observe::LogChannelType::Stdout,
    );
    assert_eq!(String::from_utf8_lossy(&said).trim(), "7");

    // Whoever has every capability there, has none outside.
    for attempt in [
        "mknod /tmp/disk b 253 0",
        "echo 0 > /proc/sys/kernel/sysrq",
        "mount -t debugfs none /mnt",
        "hwclock -w",
        "insmod /lib/modules/none.ko",
        "dd if=/dev/mem of=/dev/null count=1",
        "dmesg -c",
    ] {
        let ended = run_as(&api, "users-in", &format!("{attempt} >/dev/null 2>&1")).await;
        assert_ne!(ended.code(), Some(0), "{attempt}");
    }
    api.free("users-in").await;
}

#[tokio::test]
async fn its_limits_hold_and_freeing_it_leaves_nothing() {
    let node = Node::shared().await;
    let api = node.api().await;
    let cell = Cell {
        memory: Some(MemoryController { max: Some(64 * MIB), ..MemoryController::default() }),
        pids: Some(PidsController { max: Some(40) }),
        user_namespace: Some(UserNamespace { host_id: Some(700_000), ..Default::default() }),
        ..own("users-limit")
    };
    api.allocate(cell).await;
    let path = api.inspect("users-limit").await.cgroup_path;
    // Who owns the directory may not write to its limits, even where it can be written to.
    let raise = "mount -o remount,bind,rw /sys/fs/cgroup && mkdir /sys/fs/cgroup/made && rmdir /sys/fs/cgroup/made && echo made; \
                 echo max 2>/dev/null > /sys/fs/cgroup/memory.max || echo refused; \
                 echo max 2>/dev/null > /sys/fs/cgroup/pids.max || echo refused";
    let said = run_as(&api, "users-limit", raise).await;
    assert_eq!(said.stdout, "made\nrefused\nrefused\n", "{said:?}");
    assert_eq!(api.on_node(&format!("cat /sys/fs/cgroup{path}/memory.max")).await, "67108864");

    let greedy = "x=; i=0; while [ $i -lt 27 ]; do x=$x$x; [ $i = 0 ] && x=0123456789abcdef; i=$((i+1)); done";
    let killed = api.run("users-limit", greedy).await;
    let how = killed.status.exit_status.as_ref().expect("it ended");
    assert!(how.oom_killed, "{killed:?}");
    assert_eq!(api.run("users-limit", "echo still here").await.success(), "still here\n");
    let forks = "i=0; while [ $i -lt 100 ]; do sleep 1000 & i=$((i+1)); done";
    let stopped = api.run("users-limit", forks).await;
    assert!(stopped.code() != Some(0) && stopped.stderr.contains("fork"), "{stopped:?}");

    // What is started has the node's numbers, and is gone with the cell.
    let started = api.start("users-limit", "last", "exec sleep 1000").await;
    assert_eq!(user_of(&api, started.pid).await, 700_000);
    api.free("users-limit").await;
    let left = format!("test -e /sys/fs/cgroup{path} && echo there || echo gone");
    assert_eq!(api.on_node(&left).await, "gone");
    let processes = "cat /proc/[0-9]*/status 2>/dev/null | grep -c '^Uid:.700000' || true";
    assert_eq!(api.on_node(processes).await, "0");
}

#[tokio::test]
async fn what_a_user_namespace_cannot_have_is_refused_in_words() {
    let node = Node::shared().await;
    let api = node.api().await;
    let refusal = async |cell: Cell, said: &str| {
        let refused = api.try_allocate(cell).await.expect_err(said);
        assert_eq!(refused.code(), Code::FailedPrecondition, "{said}: {refused:?}");
        assert!(refused.message().contains(said), "{said}: {refused:?}");
    };
    refusal(Cell { isolate_process: false, ..own("users-no") }, "Needs isolate_process").await;
    let low = Some(UserNamespace { host_id: Some(0), ..Default::default() });
    refusal(Cell { user_namespace: low, ..own("users-no") }, "Must be 65536 or more").await;

    api.allocate(own("users-around")).await;
    let inner = "a cell with a user namespace has no cells inside";
    refusal(cell("users-around/inner"), inner).await;
    let device = DeviceRule { device: "/dev/null".to_owned(), ..DeviceRule::default() };
    let security = Some(Security { devices: vec![device], ..Security::default() });
    let asks = Executable { security, ..shell("asks", "true") };
    let refused = api.try_start("users-around", asks).await.expect_err("no devices");
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    assert!(refused.message().contains("no devices can be asked for"), "{refused:?}");
    api.free("users-around").await;

    api.allocate(Cell { isolate_process: true, ..cell("users-masked") }).await;
    refusal(own("users-masked/inner"), "can be on the node, or in a cell without").await;
    api.free("users-masked").await;
    api.allocate(Cell { isolate_process: true, unmasked_paths: true, ..cell("users-open") }).await;
    api.allocate(own("users-open/inner")).await;
    assert_eq!(api.run("users-open/inner", "id -u").await.success(), "0\n");
    let started = api.start("users-open/inner", "sleeper", "exec sleep 1000").await;
    assert_eq!(user_of(&api, started.pid).await, FIRST);
    api.free("users-open").await;
}
