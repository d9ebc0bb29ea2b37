//! Cells that stand still, and go on.

use aurae_proto::cells::{
    Cell, CellServiceFreezeRequest, CellServiceListRequest, CellServiceSignalRequest,
    CellServiceThawRequest, CellState, Executable, ExecutableState, RestartCondition,
    RestartPolicy,
};
use tonic::{Code, Status};
use vm_tests::{Api, Node, cell, eventually, shell, soon};

async fn freeze(api: &Api, cell: &str) -> Result<(), Status> {
    let request = CellServiceFreezeRequest { cell_name: cell.to_owned() };
    soon("freeze", api.cells.clone().freeze(request)).await.map(drop)
}

async fn thaw(api: &Api, cell: &str) -> Result<(), Status> {
    let request = CellServiceThawRequest { cell_name: cell.to_owned() };
    soon("thaw", api.cells.clone().thaw(request)).await.map(drop)
}

async fn listed_state(api: &Api, name: &str) -> CellState {
    let list = api.cells.clone().list(CellServiceListRequest {}).await.expect("a list");
    let cells = list.into_inner().cells;
    let found = cells.iter().find(|node| node.cell.as_ref().is_some_and(|cell| cell.name == name));
    found.expect("it is there").state()
}

#[tokio::test]
async fn a_frozen_cell_stands_still_and_its_daemon_answers() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(Cell { isolate_process: true, ..cell("frozen") }).await;
    api.start("frozen", "count", "while :; do echo >> /tmp/frozen-count; done").await;
    api.start("frozen", "tree", "setsid sh -c 'while :; do :; done' & while :; do :; done").await;
    let size = "stat -c %s /tmp/frozen-count 2>/dev/null || echo 0";
    let count = async || api.count_on_node(size).await;
    eventually("it counts", async || (count().await > 0).then_some(())).await;

    freeze(&api, "frozen").await.expect("it stands still");
    let path = api.inspect("frozen").await.cgroup_path;
    let frozen = |leaf: &str| format!("grep frozen /sys/fs/cgroup{path}/{leaf}/cgroup.events");
    assert_eq!(api.on_node(&frozen("_exe.count")).await, "frozen 1");
    assert_eq!(api.on_node(&frozen("_exe.tree")).await, "frozen 1");
    assert_eq!(api.on_node(&frozen("_auraed")).await, "frozen 0");
    let [before, after]: [u64; 2] = api.numbers_on_node(&format!("{size}; sleep 1; {size}")).await;
    assert_eq!(before, after, "it counts on");
    assert_eq!(api.inspect("frozen").await.state(), CellState::Frozen);
    assert_eq!(listed_state(&api, "frozen").await, CellState::Frozen);
    let refused = api.try_start("frozen", shell("late", "true")).await.expect_err("it is frozen");
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    assert!(refused.message().contains("thaw it first"), "{refused:?}");
    freeze(&api, "frozen").await.expect("it stands still already");

    thaw(&api, "frozen").await.expect("it goes on");
    let stood = count().await;
    eventually("it counts on", async || (count().await != stood).then_some(())).await;
    assert_eq!(listed_state(&api, "frozen").await, CellState::Live);
    thaw(&api, "frozen").await.expect("it goes on already");
    assert_eq!(api.run("frozen", "echo back").await.success(), "back\n");
    api.free("frozen").await;
}

#[tokio::test]
async fn nothing_is_started_again_in_a_frozen_cell_before_it_is_thawed() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(cell("frozen-restart")).await;
    let restart = RestartPolicy {
        condition: RestartCondition::Always.into(),
        min_backoff: Some(prost_types::Duration { seconds: 0, nanos: 10_000_000 }),
        ..RestartPolicy::default()
    };
    let sleeper = Executable { restart: Some(restart), ..shell("it", "exec sleep 1000") };
    api.try_start("frozen-restart", sleeper).await.expect("it starts");
    freeze(&api, "frozen-restart").await.expect("it stands still");
    let kill = CellServiceSignalRequest {
        cell_name: Some("frozen-restart".to_owned()),
        executable_name: "it".to_owned(),
        signal: 9,
        tree: false,
    };
    api.cells.clone().signal(kill).await.expect("what stands still can be killed");
    let state = async || api.inspect("frozen-restart").await.executables[0].state();
    eventually("it has ended", async || {
        (state().await == ExecutableState::Restarting).then_some(())
    })
    .await;
    // A hundred times the back-off.
    api.on_node("sleep 1").await;
    assert_eq!(state().await, ExecutableState::Restarting);
    thaw(&api, "frozen-restart").await.expect("it goes on");
    eventually("it runs again", async || (state().await == ExecutableState::Running).then_some(()))
        .await;
    api.free("frozen-restart").await;
}

#[tokio::test]
async fn a_frozen_cell_is_freed_and_takes_its_signals_before() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(cell("frozen-free")).await;
    let polite = "trap 'echo bye > /tmp/frozen-bye; exit' TERM; echo > /tmp/frozen-trap; \
        while :; do sleep 0.1; done";
    api.start("frozen-free", "polite", polite).await;
    eventually("the trap is set", async || {
        let caught = api.on_node("ls /tmp/frozen-trap 2>/dev/null || true").await;
        (!caught.is_empty()).then_some(())
    })
    .await;
    let path = api.inspect("frozen-free").await.cgroup_path;
    freeze(&api, "frozen-free").await.expect("it stands still");
    soon("free", api.free("frozen-free")).await;
    assert_eq!(api.on_node("cat /tmp/frozen-bye").await, "bye");
    assert_eq!(api.on_node(&format!("test -e /sys/fs/cgroup{path} || echo gone")).await, "gone");
}

#[tokio::test]
async fn only_a_cell_that_is_there_is_frozen_or_thawed() {
    let node = Node::shared().await;
    let api = node.api().await;
    for (name, code) in [("nobody", Code::NotFound), ("", Code::FailedPrecondition)] {
        assert_eq!(freeze(&api, name).await.expect_err("it is refused").code(), code);
        assert_eq!(thaw(&api, name).await.expect_err("it is refused").code(), code);
    }
}

#[tokio::test]
async fn a_cell_inside_stands_still_with_the_one_around_it_and_keeps_what_was_asked_of_it() {
    let node = Node::shared().await;
    let api = node.api().await;
    for name in ["frozen-outer", "frozen-outer/inner", "frozen-outer/own"] {
        api.allocate(cell(name)).await;
    }
    api.start("frozen-outer/inner", "it", "while :; do :; done").await;
    let path = api.inspect("frozen-outer/inner").await.cgroup_path;
    let leaf = format!("grep frozen /sys/fs/cgroup{path}/_exe.it/cgroup.events");
    let state = async |name: &str| api.inspect(name).await.state();

    freeze(&api, "frozen-outer/own").await.expect("it stands still");
    assert_eq!(state("frozen-outer").await, CellState::Live);
    freeze(&api, "frozen-outer").await.expect("both stand still");
    assert_eq!(api.on_node(&leaf).await, "frozen 1");
    assert_eq!(state("frozen-outer/inner").await, CellState::Frozen);
    thaw(&api, "frozen-outer/inner").await.expect("nothing was asked of it");
    assert_eq!(api.on_node(&leaf).await, "frozen 1");
    let refused = api.try_allocate(cell("frozen-outer/late")).await.expect_err("it is frozen");
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");

    thaw(&api, "frozen-outer").await.expect("it goes on");
    assert_eq!(api.on_node(&leaf).await, "frozen 0");
    assert_eq!(state("frozen-outer/inner").await, CellState::Live);
    assert_eq!(state("frozen-outer/own").await, CellState::Frozen);
    freeze(&api, "frozen-outer").await.expect("all stand still");
    soon("free", api.free("frozen-outer")).await;
    assert!(!api.list().await.contains(&"frozen-outer".to_owned()));
}
