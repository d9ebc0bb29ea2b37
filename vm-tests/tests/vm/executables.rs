//! Executables from start to end, and that nothing of them is left.

use aurae_proto::cells::{
    CellServiceSignalRequest, CellServiceStartRequest, CellServiceStopRequest, Executable,
    ExecutableState, exit_status::Reason,
};
use tonic::Code;
use vm_tests::{Node, cell, eventually, program, shell, soon};

#[tokio::test]
async fn stop_kills_the_whole_tree() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(cell("tree")).await;
    // Twice forked, in a session of its own, and deaf to SIGTERM: only the cgroup finds it.
    let deaf = "trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep 4321 & sleep 4321' & sleep 4321";
    api.start("tree", "deaf", deaf).await;
    eventually("the tree stands", async || {
        (api.count_on_node("ps | grep -c '[s]leep 4321' || true").await >= 3).then_some(())
    })
    .await;
    let request = CellServiceStopRequest {
        cell_name: Some("tree".to_owned()),
        executable_name: "deaf".to_owned(),
        grace_period: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
    };
    soon("stop", api.cells.clone().stop(request)).await.expect("it stops");
    assert_eq!(api.on_node("ps | grep -c '[s]leep 4321' || true").await, "0");
    let ended = api.wait("tree", "deaf").await;
    assert_eq!(ended.exit_status.and_then(|exit| exit.reason), Some(Reason::Signal(9)));
    api.free("tree").await;
}

#[tokio::test]
async fn free_ends_everything_in_the_cell() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(cell("full")).await;
    for name in ["one", "two", "three"] {
        api.start("full", name, "setsid sleep 5432 & exec sleep 5432").await;
    }
    let path = api.inspect("full").await.cgroup_path;
    soon("free", api.free("full")).await;
    assert_eq!(api.on_node("ps | grep -c '[s]leep 5432' || true").await, "0");
    assert_eq!(api.on_node(&format!("test -e /sys/fs/cgroup{path} || echo gone")).await, "gone");
    assert_eq!(api.try_free("full").await.expect_err("it is gone").code(), Code::NotFound);
}

#[tokio::test]
async fn a_grandchild_that_holds_the_pipe_does_not_keep_wait_waiting() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(cell("pipe-wait")).await;
    api.start("pipe-wait", "parent", "setsid sleep 6543 & echo bye").await;
    let ended = soon("wait", api.wait("pipe-wait", "parent")).await;
    assert_eq!(ended.state, ExecutableState::Ended as i32);
    let entries = soon("logs", api.logs("pipe-wait", "parent")).await;
    assert_eq!(entries.first().map(|entry| entry.data.as_ref()), Some(&b"bye"[..]));
    soon("free", api.free("pipe-wait")).await;
}

#[tokio::test]
async fn a_grandchild_that_holds_the_pipe_does_not_keep_stop_or_free_waiting() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(cell("pipe-stop")).await;
    let holder = "setsid sh -c 'trap \"\" TERM; sleep 7654' & exec sleep 7654";
    api.start("pipe-stop", "stopped", holder).await;
    soon("stop", api.stop("pipe-stop", "stopped")).await;
    api.start("pipe-stop", "freed", holder).await;
    soon("free", api.free("pipe-stop")).await;
    assert_eq!(api.on_node("ps | grep -c '[s]leep 7654' || true").await, "0");
}

#[tokio::test]
async fn wait_tells_codes_and_signals_and_answers_again() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(cell("ends")).await;
    for (command, reason) in [
        ("exit 0", Reason::Code(0)),
        ("exit 42", Reason::Code(42)),
        ("kill -TERM $$", Reason::Signal(15)),
        ("kill -SEGV $$", Reason::Signal(11)),
    ] {
        api.start("ends", "it", command).await;
        for _ in 0..2 {
            let ended = soon("wait", api.wait("ends", "it")).await;
            let exit = ended.exit_status.expect("it ended");
            assert_eq!(exit.reason, Some(reason), "{command}");
            assert!(!exit.oom_killed);
            assert!(ended.end_time.is_some() && ended.start_time.is_some());
        }
    }
    api.free("ends").await;
}

#[tokio::test]
async fn signals_reach_the_first_process_or_the_tree() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(cell("signals")).await;
    let script = "trap 'echo parent' USR1; \
        (trap 'echo child' USR1; echo ready; while :; do sleep 1; done) & \
        while :; do sleep 1; done";
    for tree in [false, true] {
        api.start("signals", "trap", script).await;
        let says = async |word: &str| {
            let entries = api.kept_logs("signals", "trap").await;
            entries.iter().any(|entry| entry.data.as_ref() == word.as_bytes())
        };
        eventually("the traps are set", async || says("ready").await.then_some(())).await;
        let request = CellServiceSignalRequest {
            cell_name: Some("signals".to_owned()),
            executable_name: "trap".to_owned(),
            signal: 10,
            tree,
        };
        api.cells.clone().signal(request).await.expect("it is sent");
        eventually("the parent got it", async || says("parent").await.then_some(())).await;
        if tree {
            eventually("the child got it", async || says("child").await.then_some(())).await;
        } else {
            assert!(!says("child").await, "the child was not meant");
        }
        api.stop("signals", "trap").await;
    }
    api.free("signals").await;
}

#[tokio::test]
async fn a_signal_to_what_has_ended_is_refused() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(cell("late-signal")).await;
    api.run("late-signal", "true").await;
    for (name, signal, code) in [
        ("run", 15, Code::FailedPrecondition),
        ("run", 0, Code::FailedPrecondition),
        ("run", 65, Code::FailedPrecondition),
        ("nobody", 15, Code::NotFound),
    ] {
        let request = CellServiceSignalRequest {
            cell_name: Some("late-signal".to_owned()),
            executable_name: name.to_owned(),
            signal,
            tree: false,
        };
        let status = api.cells.clone().signal(request).await.expect_err("it is refused");
        assert_eq!(status.code(), code, "{name} {signal}: {status:?}");
    }
    api.free("late-signal").await;
}

#[tokio::test]
async fn arguments_environment_and_directory_reach_the_program() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(cell("environment")).await;
    let executable = Executable {
        env: [("GREETING".to_owned(), "hello world".to_owned())].into(),
        working_directory: "/tmp".to_owned(),
        ..program("env", &["sh", "-c", "echo \"$1\"; pwd; env | sort", "sh", "a  b$HOME"])
    };
    api.try_start("environment", executable).await.expect("it starts");
    api.wait("environment", "env").await;
    let entries = api.logs("environment", "env").await;
    let lines: Vec<String> =
        entries.iter().map(|entry| String::from_utf8_lossy(&entry.data).into_owned()).collect();
    assert_eq!(lines[..2], ["a  b$HOME", "/tmp"]);
    assert!(lines.contains(&"GREETING=hello world".to_owned()), "{lines:?}");
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert!(lines.contains(&path.to_owned()), "{lines:?}");
    api.free("environment").await;
}

#[tokio::test]
async fn an_executable_runs_as_the_user_asked_for() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(cell("users")).await;
    let request = CellServiceStartRequest {
        cell_name: Some("users".to_owned()),
        executable: Some(shell("id", "id -u; id -g; id -G")),
        uid: Some(1234),
        gid: Some(4321),
    };
    let started = api.cells.clone().start(request).await.expect("it starts").into_inner();
    assert_eq!((started.uid, started.gid), (1234, 4321));
    api.wait("users", "id").await;
    let entries = api.logs("users", "id").await;
    let lines: Vec<&[u8]> = entries.iter().map(|entry| entry.data.as_ref()).collect();
    assert_eq!(lines, [b"1234", b"4321", b"4321"], "no supplementary groups");
    api.free("users").await;
}

#[tokio::test]
async fn a_name_is_taken_while_it_runs_and_free_again_afterwards() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(cell("names")).await;
    api.start("names", "it", "exec sleep 1000").await;
    let status = api.try_start("names", shell("it", "true")).await.expect_err("it is taken");
    assert_eq!(status.code(), Code::AlreadyExists, "{status:?}");
    api.stop("names", "it").await;
    api.start("names", "it", "exit 7").await;
    let ended = api.wait("names", "it").await;
    assert_eq!(ended.exit_status.and_then(|exit| exit.reason), Some(Reason::Code(7)));
    // What has ended is stopped already.
    api.stop("names", "it").await;
    api.free("names").await;
}

#[tokio::test]
async fn inspect_tells_what_runs_and_what_has_ended() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(cell("inspected")).await;
    api.start("inspected", "a-runs", "exec sleep 1000").await;
    api.start("inspected", "b-ended", "exit 5").await;
    api.wait("inspected", "b-ended").await;
    let seen = api.inspect("inspected").await;
    let states: Vec<(&str, i32)> =
        seen.executables.iter().map(|it| (it.name.as_str(), it.state)).collect();
    assert_eq!(
        states,
        [("a-runs", ExecutableState::Running as i32), ("b-ended", ExecutableState::Ended as i32)]
    );
    let usage = seen.usage.expect("usage");
    assert!(usage.memory.expect("memory").current > 0);
    assert!(usage.pids.expect("pids").current >= 2);
    assert!(usage.cpu_pressure.is_some() && usage.memory_pressure.is_some());
    for controller in ["cpu", "cpuset", "io", "memory", "pids"] {
        assert!(seen.controllers.iter().any(|it| it == controller), "{:?}", seen.controllers);
    }
    api.free("inspected").await;
}

#[tokio::test]
async fn pid_1_reaps_orphans() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.on_node("for i in 1 2 3 4 5 6 7 8; do (sleep 0.1 &) ; done; sleep 1").await;
    eventually("no zombie is left", async || {
        let zombies = "grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l";
        (api.count_on_node(zombies).await == 0).then_some(())
    })
    .await;
}
