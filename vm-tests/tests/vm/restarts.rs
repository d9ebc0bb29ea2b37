//! Executables that are started again, and how they are stopped.

use std::time::Duration;

use aurae_proto::cells::{
    CellServiceStopRequest, Executable, ExecutableState, ExecutableStatus, RestartCondition,
    RestartPolicy, exit_status::Reason,
};
use tonic::Code;
use vm_tests::{Api, Node, cell, eventually, program, shell, soon};

/// Over how long CPU time is measured, by the node's own clock.
const MEASURED: Duration = Duration::from_secs(60);
/// From when on: the next pause is 12.8 s then. Emulation makes a run some thirty times as dear, so
/// that the first ones, which follow each other soon, would tell of it and not of the back-off.
const MEASURED_FROM: u32 = 6;

fn policy(condition: RestartCondition) -> RestartPolicy {
    RestartPolicy { condition: condition.into(), ..RestartPolicy::default() }
}

fn pause(millis: i32) -> Option<prost_types::Duration> {
    let (seconds, nanos) = (millis / 1000, millis % 1000 * 1_000_000);
    Some(prost_types::Duration { seconds: seconds.into(), nanos })
}

async fn status(api: &Api, cell: &str, name: &str) -> ExecutableStatus {
    let executables = api.inspect(cell).await.executables;
    executables.into_iter().find(|it| it.name == name).expect("it is there")
}

async fn until_state(
    api: &Api,
    cell: &str,
    name: &str,
    state: ExecutableState,
) -> ExecutableStatus {
    eventually(&format!("{name} is {state:?}"), async || {
        let status = status(api, cell, name).await;
        (status.state() == state).then_some(status)
    })
    .await
}

#[tokio::test]
async fn what_fails_at_once_for_ever_costs_less_than_one_percent_of_a_cpu() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(cell("flapping")).await;
    let path = api.inspect("flapping").await.cgroup_path;
    let restart = Some(policy(RestartCondition::Always));
    let failing = Executable { restart, ..shell("fails", "exit 1") };
    api.try_start("flapping", failing).await.expect("it starts");
    eventually("the pauses have grown", async || {
        (status(&api, "flapping", "fails").await.restarts >= MEASURED_FROM).then_some(())
    })
    .await;
    let measure = format!(
        "usage() {{ set -- $(cat /proc/uptime) $(grep usage_usec /sys/fs/cgroup{path}/cpu.stat); echo $1 $4; }}; usage; sleep {}; usage",
        MEASURED.as_secs()
    );
    let [start, used_before, end, used_after]: [f64; 4] = api.numbers_on_node(&measure).await;
    let share = (used_after - used_before) / 1e6 / (end - start) * 100.0;
    let seen = status(&api, "flapping", "fails").await;
    let restarts = seen.restarts - MEASURED_FROM;
    println!("{restarts} restarts took {share:.2} % of a CPU in {:.0} s", end - start);
    assert!((1..=4).contains(&restarts), "{seen:?}");
    assert!(share < 1.0, "the restarts took {share:.2} % of a CPU");
    soon("free while it waits", api.free("flapping")).await;
}

#[tokio::test]
async fn an_executable_that_fails_is_started_again_until_its_bound() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(cell("bounded")).await;
    let restart = RestartPolicy {
        max_restarts: Some(3),
        min_backoff: pause(20),
        ..policy(RestartCondition::OnFailure)
    };
    let failing = Executable { restart: Some(restart), ..shell("fails", "echo run; exit 3") };
    let started = api.try_start("bounded", failing).await.expect("it starts");
    let ended = soon("wait", api.wait("bounded", "fails")).await;
    assert_eq!((ended.state(), ended.restarts), (ExecutableState::Ended, 3));
    assert_eq!(ended.exit_status.and_then(|exit| exit.reason), Some(Reason::Code(3)));
    assert!(ended.pid > 0 && ended.pid != started.pid, "{ended:?}");
    // One ring for all runs, which ends with the last.
    assert_eq!(soon("logs", api.logs("bounded", "fails")).await.len(), 4);
    let fine = Executable { restart: Some(restart), ..shell("fine", "exit 0") };
    api.try_start("bounded", fine).await.expect("it starts");
    assert_eq!(soon("wait", api.wait("bounded", "fine")).await.restarts, 0);
    api.free("bounded").await;
}

#[tokio::test]
async fn a_stop_ends_the_back_off_and_the_name_is_taken_until_then() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(cell("waiting")).await;
    let restart =
        RestartPolicy { min_backoff: pause(3_600_000), ..policy(RestartCondition::Always) };
    let waiting = Executable { restart: Some(restart), ..shell("it", "exit 4") };
    api.try_start("waiting", waiting).await.expect("it starts");
    let seen = until_state(&api, "waiting", "it", ExecutableState::Restarting).await;
    assert!(seen.next_start_time.is_some() && seen.exit_status.is_some(), "{seen:?}");
    let taken = api.try_start("waiting", shell("it", "true")).await.expect_err("it is taken");
    assert_eq!(taken.code(), Code::AlreadyExists, "{taken:?}");
    soon("stop", api.stop("waiting", "it")).await;
    let ended = soon("wait", api.wait("waiting", "it")).await;
    assert_eq!((ended.state(), ended.restarts), (ExecutableState::Ended, 0));
    assert_eq!(ended.exit_status.and_then(|exit| exit.reason), Some(Reason::Code(4)));
    assert_eq!(ended.next_start_time, None);
    api.free("waiting").await;
}

#[tokio::test]
async fn a_program_that_is_gone_at_a_restart_is_a_failed_run_with_its_reason() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(cell("gone")).await;
    let script = "printf '#!/bin/sh\\nrm \"$0\"\\nexit 1\\n' > /tmp/once && chmod +x /tmp/once";
    api.on_node(script).await;
    let restart = RestartPolicy {
        max_restarts: Some(2),
        min_backoff: pause(20),
        ..policy(RestartCondition::OnFailure)
    };
    let once = Executable { restart: Some(restart), ..program("once", &["/tmp/once"]) };
    api.try_start("gone", once).await.expect("it starts");
    let ended = soon("wait", api.wait("gone", "once")).await;
    assert_eq!(ended.restarts, 2);
    assert_eq!(ended.exit_status.and_then(|exit| exit.reason), Some(Reason::Code(127)));
    let entries = api.logs("gone", "once").await;
    let lines: Vec<String> =
        entries.iter().map(|entry| String::from_utf8_lossy(&entry.data).into_owned()).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[0].contains("/tmp/once") && lines[0].contains("No such file or directory"),
        "{lines:?}"
    );
    api.free("gone").await;
}

#[tokio::test]
async fn stop_sends_the_executables_own_signal_and_keeps_its_grace_period() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(cell("own-stop")).await;
    let trap = "trap 'echo int; exit 9' INT; trap '' TERM; echo ready; while :; do sleep 0.1; done";
    let polite = Executable { stop_signal: Some(2), ..shell("polite", trap) };
    let deaf = Executable { stop_grace_period: pause(200), ..shell("deaf", trap) };
    for executable in [polite, deaf] {
        let name = executable.name.clone();
        let restart = Some(policy(RestartCondition::Always));
        let executable = Executable { restart, ..executable };
        api.try_start("own-stop", executable).await.expect("it starts");
        eventually("the trap is set", async || {
            (!api.kept_logs("own-stop", &name).await.is_empty()).then_some(())
        })
        .await;
    }
    soon("stop", api.stop("own-stop", "polite")).await;
    let polite = soon("wait", api.wait("own-stop", "polite")).await;
    assert_eq!(polite.exit_status.and_then(|exit| exit.reason), Some(Reason::Code(9)));
    assert_eq!(polite.restarts, 0, "what was stopped is not started again");
    let request = CellServiceStopRequest {
        cell_name: Some("own-stop".to_owned()),
        executable_name: "deaf".to_owned(),
        grace_period: None,
    };
    // Ten seconds is what it would have without a grace period of its own.
    let mut cells = api.cells.clone();
    let stop = tokio::time::timeout(Duration::from_secs(9), cells.stop(request));
    stop.await.expect("in time").expect("it stops");
    let deaf = soon("wait", api.wait("own-stop", "deaf")).await;
    assert_eq!(deaf.exit_status.and_then(|exit| exit.reason), Some(Reason::Signal(9)));
    api.free("own-stop").await;
}
