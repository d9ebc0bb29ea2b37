//! Watching what changes in a tree of cells.

use aurae_client::Client;
use aurae_proto::cells::{
    Cell, CellServiceFreezeRequest, CellServiceThawRequest, CellServiceUpdateRequest,
    CellServiceWatchRequest, CellServiceWatchResponse, ChangeKind, CpuController, Executable,
    MemoryController, RestartCondition, RestartPolicy, exit_status::Reason,
};
use tonic::{Code, Status, Streaming};
use vm_tests::{Api, Node, cell, eventually, shell, soon};

/// Where the daemon that is killed listens, beside the node's own.
const PORT: u16 = 8081;
const DAEMON: &str =
    "while :; do /proc/1/exe auraed -s '[::]:8081' -r /run/second -l /run/second; done";

/// What changes in the cell `top` and inside it.
struct Watched {
    stream: Streaming<CellServiceWatchResponse>,
    top: String,
    last: u64,
}

impl Watched {
    async fn begin(api: &Api, top: &str, request: CellServiceWatchRequest) -> Self {
        let last = request.after.unwrap_or_default();
        let stream = soon("watch", api.cells.clone().watch(request)).await;
        Self { stream: stream.expect("a stream").into_inner(), top: top.to_owned(), last }
    }

    /// The next change there; other tests' cells are left out.
    async fn next(&mut self) -> CellServiceWatchResponse {
        loop {
            let change = soon("a change", self.stream.message()).await;
            let change = change.expect("the stream goes on").expect("a change");
            assert!(change.sequence > self.last, "{change:?} after {}", self.last);
            assert_ne!(change.kind(), ChangeKind::Unspecified, "{change:?}");
            self.last = change.sequence;
            let below = change.cell_name.strip_prefix(&self.top);
            let is_ours = |rest: &str| rest.is_empty() || rest.starts_with('/');
            if self.top.is_empty() || below.is_some_and(is_ours) {
                return change;
            }
        }
    }

    /// The next so many, as [`line`] has them.
    async fn lines(&mut self, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        for _ in 0..count {
            lines.push(line(&self.next().await));
        }
        lines
    }
}

/// `ExecutableEnded web main 7`.
fn line(change: &CellServiceWatchResponse) -> String {
    let end = match change.exit_status.as_ref().and_then(|status| status.reason) {
        Some(Reason::Code(code)) => code.to_string(),
        Some(Reason::Signal(signal)) => format!("signal {signal}"),
        None => String::new(),
    };
    let (cell, executable) = (&change.cell_name, &change.executable_name);
    format!("{:?} {cell} {executable} {end}", change.kind()).trim_end().to_owned()
}

fn only_new() -> CellServiceWatchRequest {
    CellServiceWatchRequest { only_new: true, ..CellServiceWatchRequest::default() }
}

fn after(sequence: u64) -> CellServiceWatchRequest {
    CellServiceWatchRequest { after: Some(sequence), ..CellServiceWatchRequest::default() }
}

#[tokio::test]
async fn a_watch_tells_what_happens_three_deep_and_goes_on_where_it_ended() {
    let node = Node::shared().await;
    let api = node.api().await;
    let mut watched = Watched::begin(&api, "seen", only_new()).await;
    for name in ["seen", "seen/mid", "seen/mid/low"] {
        api.allocate(Cell { isolate_process: true, ..cell(name) }).await;
    }
    assert_eq!(
        watched.lines(3).await,
        ["CellAllocated seen", "CellAllocated seen/mid", "CellAllocated seen/mid/low"]
    );
    let begun = watched.last;

    let started = api.start("seen/mid/low", "code", "exit 7").await;
    let change = watched.next().await;
    assert_eq!(line(&change), "ExecutableStarted seen/mid/low code");
    assert!(change.pid > 1 && change.pid != started.pid, "as its own zone has it: {change:?}");
    assert_eq!(watched.lines(1).await, ["ExecutableEnded seen/mid/low code 7"]);

    let restart = RestartPolicy {
        condition: RestartCondition::OnFailure.into(),
        max_restarts: Some(1),
        ..RestartPolicy::default()
    };
    let again = Executable { restart: Some(restart), ..shell("again", "exit 1") };
    api.try_start("seen/mid", again).await.expect("it starts");
    let again = [
        "ExecutableStarted seen/mid again",
        "ExecutableEnded seen/mid again 1",
        "ExecutableRestarted seen/mid again",
        "ExecutableEnded seen/mid again 1",
    ];
    assert_eq!(watched.lines(4).await, again);

    let update = Cell {
        cpu: Some(CpuController { weight: Some(50), ..CpuController::default() }),
        ..cell("seen")
    };
    let update = CellServiceUpdateRequest { cell: Some(update), clear: Vec::new() };
    soon("update", api.cells.clone().update(update)).await.expect("it is changed");
    let freeze = CellServiceFreezeRequest { cell_name: "seen/mid".to_owned() };
    soon("freeze", api.cells.clone().freeze(freeze)).await.expect("it stands still");
    let thaw = CellServiceThawRequest { cell_name: "seen/mid".to_owned() };
    soon("thaw", api.cells.clone().thaw(thaw)).await.expect("it goes on");
    // A cell stands still when those inside it do.
    let life = [
        "CellUpdated seen",
        "CellFrozen seen/mid/low",
        "CellFrozen seen/mid",
        "CellThawed seen/mid/low",
        "CellThawed seen/mid",
    ];
    assert_eq!(watched.lines(5).await, life);

    // What came after the cells were made, in the same order; what came shortly before may come again.
    let mut resumed = Watched::begin(&api, "seen", after(begun)).await;
    let mut first = resumed.next().await;
    while first.kind() == ChangeKind::CellAllocated {
        assert!(first.cell_name.starts_with("seen/"), "the node's own come once: {first:?}");
        first = resumed.next().await;
    }
    assert_eq!(line(&first), "ExecutableStarted seen/mid/low code");
    assert_eq!(resumed.lines(1).await, ["ExecutableEnded seen/mid/low code 7"]);
    assert_eq!(resumed.lines(4).await, again);
    assert_eq!(resumed.lines(5).await, life);

    api.start("seen/mid/low", "sleeper", "exec sleep 1000").await;
    api.free("seen").await;
    for watch in [&mut watched, &mut resumed] {
        assert_eq!(
            watch.lines(5).await,
            [
                "ExecutableStarted seen/mid/low sleeper",
                "ExecutableEnded seen/mid/low sleeper signal 15",
                "CellFreed seen/mid/low",
                "CellFreed seen/mid",
                "CellFreed seen",
            ]
        );
    }
}

#[tokio::test]
async fn a_watch_tells_of_the_oom_killer_and_of_a_daemon_that_is_gone() {
    let node = Node::shared().await;
    let api = node.api().await;
    let mut watched = Watched::begin(&api, "hungry", only_new()).await;
    let memory =
        MemoryController { max: Some(32 << 20), swap_max: Some(0), ..MemoryController::default() };
    api.allocate(cell("hungry")).await;
    api.allocate(Cell { memory: Some(memory), ..cell("hungry/in") }).await;
    api.run("hungry/in", "exec tail /dev/zero").await;
    let daemon = api.inspect("hungry/in").await.daemon_pid;
    api.on_node(&format!("kill -9 {daemon}")).await;
    assert_eq!(
        watched.lines(6).await,
        [
            "CellAllocated hungry",
            "CellAllocated hungry/in",
            "ExecutableStarted hungry/in run",
            "ExecutableOomKilled hungry/in run",
            "ExecutableEnded hungry/in run signal 9",
            "CellFailed hungry/in",
        ]
    );
    api.free("hungry").await;
}

#[tokio::test]
async fn a_zone_is_watched_by_itself_and_a_bad_request_is_refused() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(cell("alone")).await;
    let zone = api.in_zone("cells/alone");
    let mut watched = Watched::begin(&zone, "", CellServiceWatchRequest::default()).await;
    zone.start("", "main", "exit 3").await;
    assert_eq!(watched.lines(2).await, ["ExecutableStarted  main", "ExecutableEnded  main 3"]);
    let both = CellServiceWatchRequest { after: Some(1), only_new: true };
    let refused = api.cells.clone().watch(both).await.expect_err("two starts");
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    assert!(refused.message().starts_with("Field = only_new; "), "{refused:?}");
    api.free("alone").await;
    let end: Result<_, Status> = soon("the end", watched.stream.message()).await;
    assert!(!matches!(end, Ok(Some(_))), "{end:?}");
}

#[tokio::test]
async fn a_watch_goes_on_after_the_daemon_was_killed() {
    let machine = Node::boot("watch").await;
    let node = machine.api().await;
    let address = machine.forward(PORT);
    node.start("", "second", DAEMON).await;
    let second = aurae_client::Node::new("second", address, machine.identity());
    let up = async || {
        eventually("the daemon answers", async || {
            let api = Api::new(Client::connect(&second).await.ok()?);
            api.is_there().await.then_some(api)
        })
        .await
    };

    let api = up().await;
    let mut watched = Watched::begin(&api, "kept", only_new()).await;
    api.allocate(Cell { isolate_process: true, ..cell("kept") }).await;
    let started = api.start("kept", "main", "exec sleep 1000").await;
    assert_eq!(watched.lines(2).await, ["CellAllocated kept", "ExecutableStarted kept main"]);
    let last = watched.last;
    // It ends while nobody watches.
    node.on_node(&format!(
        "kill -9 $(tr -dc 0-9 < /run/second/auraed.lock); kill -9 {} 2>/dev/null; true",
        started.pid
    ))
    .await;
    let end = soon("the end of the watch", watched.stream.message()).await;
    end.expect_err("the daemon is gone");

    let api = up().await;
    let mut resumed = Watched::begin(&api, "", after(last)).await;
    let mut told = Vec::new();
    while !told.contains(&"Resync".to_owned())
        || !told.contains(&"ExecutableEnded kept main signal 9".to_owned())
    {
        told.push(line(&resumed.next().await));
    }
    assert!(told.iter().all(|line| !line.starts_with("CellAllocated")), "{told:?}");
    api.start("kept", "late", "true").await;
    let mut late = line(&resumed.next().await);
    while late.contains("main") {
        late = line(&resumed.next().await);
    }
    assert_eq!(late, "ExecutableStarted kept late");
    api.free("kept").await;
}
