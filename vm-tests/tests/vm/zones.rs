//! Cells inside cells, and the way to them.

use aurae_proto::cells::{Cell, CellState};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use vm_tests::{Api, Node, cell, eventually, shell, soon};

/// As deep as cells nest.
const MAX_DEPTH: usize = 32;

fn isolated(name: &str) -> Cell {
    Cell { isolate_process: true, ..cell(name) }
}

/// Three cells, each inside the one before and isolated.
async fn three_deep(api: &Api, top: &str) -> [String; 3] {
    let names = [top.to_owned(), format!("{top}/mid"), format!("{top}/mid/low")];
    api.allocate(isolated(&names[0])).await;
    api.allocate(Cell { isolate_network: true, ..isolated(&names[1]) }).await;
    api.allocate(isolated(&names[2])).await;
    names
}

/// The cgroups at and below a cell of the node.
async fn cgroups(api: &Api, top: &str) -> u64 {
    let count = format!("find /sys/fs/cgroup/{top} -type d 2>/dev/null | wc -l");
    api.count_on_node(&count).await
}

#[tokio::test]
async fn a_tree_three_deep_is_isolated_at_each_level_and_goes_with_its_top() {
    let node = Node::shared().await;
    let api = node.api().await;
    let names = three_deep(&api, "deep").await;
    let [top, mid, low] = &names;

    let text = api.run(low, "hostname; ls /proc | grep '^[0-9]'").await.success();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("low"));
    // The daemon, the shell, `ls` and `grep`.
    assert!(lines.clone().count() <= 4 && lines.any(|pid| pid == "1"), "{text}");
    let links = api.run(low, "ls /sys/class/net").await.success();
    assert_eq!(links, "lo\n", "a cell shares the network of the cell around it");
    let inside = api.run(low, "cat /proc/self/cgroup").await.success();
    assert!(inside.trim().ends_with("::/_exe.run"), "{inside}");

    // Every daemon on the way numbers the same process for itself.
    api.start(low, "sleeper", "exec sleep 1000").await;
    let on_node = api.inspect(low).await.executables;
    let on_node = on_node.iter().find(|executable| executable.name == "sleeper").expect("it runs");
    let comm = api.on_node(&format!("cat /proc/{}/comm", on_node.pid)).await;
    assert_eq!(comm, "sleep");
    let zone = api.in_zone("cells/deep/cells/mid/cells/low");
    let inside = zone.inspect("").await.executables;
    let inside = inside.iter().find(|executable| executable.name == "sleeper").expect("it runs");
    assert_eq!(inside.outer_pids.last(), Some(&on_node.pid), "{inside:?}");
    assert_eq!(inside.outer_pids.len(), 3, "{inside:?}");
    let around = api.in_zone("cells/deep/cells/mid").inspect("low").await.executables;
    let around = around.iter().find(|executable| executable.name == "sleeper").expect("it runs");
    assert_eq!(around.pid, inside.outer_pids[0], "{around:?}");

    let listed: Vec<String> =
        api.list_all().await.into_iter().filter(|name| name.starts_with("deep")).collect();
    assert_eq!(listed, [top.as_str(), mid.as_str(), low.as_str()]);
    assert_eq!(api.in_zone("cells/deep").list_all().await, ["mid", "mid/low"]);

    api.free(top).await;
    assert_eq!(cgroups(&api, "deep").await, 0);
    let left = format!("kill -0 {} 2>/dev/null && echo left || echo gone", on_node.pid);
    assert_eq!(api.on_node(&left).await, "gone");
}

#[tokio::test]
async fn a_limit_of_a_cell_holds_for_the_cells_inside() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(Cell {
        pids: Some(aurae_proto::cells::PidsController { max: Some(12) }),
        ..cell("outer")
    })
    .await;
    api.allocate(cell("outer/inner")).await;
    let forks = api.run("outer/inner", "for i in $(seq 40); do sleep 5 & done; wait").await;
    assert!(forks.stderr.contains("fork"), "{forks:?}");
    api.free("outer").await;
}

#[tokio::test]
async fn a_zone_path_leads_to_a_zone_or_says_why_not() {
    let node = Node::shared().await;
    let api = node.api().await;
    three_deep(&api, "way").await;
    let there = api.in_zone("cells/way/cells/mid");
    let service = "aurae.cells.v0.CellService".to_owned();
    let mut health = HealthClient::new(there.client.channel());
    let health = soon("health", health.check(HealthCheckRequest { service })).await;
    let health = health.expect("a zone tells its health").into_inner();
    assert_eq!(health.status(), ServingStatus::Serving);
    there.allocate(cell("made-inside")).await;
    assert!(api.list_all().await.contains(&"way/mid/made-inside".to_owned()));

    let missing = api.in_zone("cells/way/cells/nowhere/cells/low");
    let status = missing.try_allocate(cell("x")).await.expect_err("there is no such zone");
    assert_eq!(status.code(), Code::NotFound, "{status:?}");
    assert!(status.message().contains("cell way/nowhere does not exist"), "{status:?}");

    for (path, told) in [("pods/p", "not served"), ("cells", "name is missing"), ("x/y", "no kind")]
    {
        let mut request = tonic::Request::new(aurae_proto::cells::CellServiceListRequest {});
        request.metadata_mut().insert("aurae-zone", path.parse().expect("ASCII"));
        let status = api.cells.clone().list(request).await.expect_err("a bad path");
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().contains(told), "{status:?}");
    }
    api.free("way").await;
}

#[tokio::test]
async fn a_stream_goes_through_two_zones_and_ends_with_its_caller() {
    let node = Node::shared().await;
    let api = node.api().await;
    three_deep(&api, "stream").await;
    let low = api.in_zone("cells/stream/cells/mid/cells/low");
    low.start("", "ticks", "i=0; while :; do echo tick $i; i=$((i+1)); sleep 0.1; done").await;
    let request = aurae_proto::observe::GetExecutableLogsRequest {
        follow: true,
        ..vm_tests::logs_of("", "ticks")
    };
    let answer = soon("the stream", low.observe.clone().get_executable_logs(request)).await;
    let mut stream = answer.expect("it runs").into_inner();
    let first = soon("the first", stream.message()).await.expect("it goes on").expect("an entry");
    assert!(first.entries[0].data.starts_with(b"tick 0"), "{first:?}");
    drop(stream);
    // The next one is not kept waiting by the one that went away.
    assert_eq!(soon("stop", low.inspect("")).await.executables.len(), 1);
    api.free("stream").await;
}

#[tokio::test]
async fn a_zone_whose_daemon_is_killed_fails_and_can_be_freed() {
    let node = Node::shared().await;
    let api = node.api().await;
    three_deep(&api, "hurt").await;
    api.start("hurt/mid/low", "sleeper", "sleep 1000").await;
    let request = aurae_proto::observe::GetExecutableLogsRequest {
        follow: true,
        ..vm_tests::logs_of("hurt/mid/low", "sleeper")
    };
    let stream = api.observe.clone().get_executable_logs(request).await.expect("it runs");
    let daemon = api.inspect("hurt/mid").await.daemon_pid;
    api.on_node(&format!("kill -9 {daemon}")).await;
    let status = soon("the stream's end", stream.into_inner().message()).await;
    assert_eq!(status.expect_err("its zone is gone").code(), Code::Unavailable);
    eventually("the cell has failed", async || {
        let tree = api.tree().await;
        let top = tree.into_iter().find(|n| n.cell.as_ref().is_some_and(|c| c.name == "hurt"))?;
        let mid = top.children.first()?;
        assert!(top.state == CellState::Live as i32);
        (mid.state == CellState::Failed as i32 && mid.children.is_empty()).then_some(())
    })
    .await;
    let status = api.try_start("hurt/mid", shell("x", "true")).await.expect_err("it failed");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.message().contains("hurt/mid is gone (signal 9"), "{status:?}");
    api.free("hurt/mid").await;
    api.allocate(cell("hurt/mid")).await;
    assert_eq!(api.run("hurt/mid", "echo again").await.success(), "again\n");
    api.free("hurt").await;
}

#[tokio::test]
async fn cells_nest_to_their_bound_and_no_deeper() {
    let node = Node::shared().await;
    let api = node.api().await;
    let mut path = "d".to_owned();
    for _ in 1..MAX_DEPTH {
        soon("allocate", api.try_allocate(isolated(&path))).await.expect("within the bound");
        path.push_str("/d");
    }
    soon("the deepest", api.try_allocate(isolated(&path))).await.expect("at the bound");
    assert_eq!(api.run(&path, "echo bottom").await.success(), "bottom\n");
    let too_deep = api.try_allocate(cell(&format!("{path}/d"))).await.expect_err("too deep");
    assert_eq!(too_deep.code(), Code::FailedPrecondition, "{too_deep:?}");
    let zone = vec!["cells/d"; MAX_DEPTH].join("/");
    let too_deep = api.in_zone(&zone).try_allocate(cell("d")).await.expect_err("too deep");
    assert_eq!(too_deep.code(), Code::FailedPrecondition, "{too_deep:?}");
    assert!(too_deep.message().contains("32 deep"), "{too_deep:?}");
    soon("free", api.free("d")).await;
    assert_eq!(cgroups(&api, "d").await, 0);
}
