//! What a cell sees of the node, and what it does not.

use aurae_proto::cells::{CapabilitiesChange, Cell, Executable, Security};
use vm_tests::{Node, cell, privileged, shell};

#[tokio::test]
async fn an_isolated_cell_sees_its_own_processes_only() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(Cell { isolate_process: true, ..cell("own-proc") }).await;
    let text = api
        .run(
            "own-proc",
            "cat /proc/1/cmdline | tr '\\0' ' '; echo; for p in /proc/[0-9]*; do cat $p/comm; done",
        )
        .await
        .success();
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    assert!(first.contains("auraed") || first.contains("--nested"), "pid 1 is {first:?}");
    let others: Vec<&str> = lines.collect();
    // The daemon, the shell, and the `cat` that is asking.
    assert!(others.len() <= 3, "{others:?}");
    assert!(!others.iter().any(|name| name.starts_with("kthread")), "{others:?}");
    api.free("own-proc").await;
}

#[tokio::test]
async fn an_isolated_cell_sees_its_own_cgroups_only() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(cell("own-cgroup-neighbour")).await;
    api.allocate(Cell { isolate_process: true, ..cell("own-cgroup") }).await;
    let text = api.run("own-cgroup", "ls /sys/fs/cgroup").await.success();
    assert!(text.lines().any(|name| name == "_auraed"), "{text}");
    assert!(!text.contains("own-cgroup-neighbour"), "{text}");
    api.free("own-cgroup").await;
    api.free("own-cgroup-neighbour").await;
}

#[tokio::test]
async fn an_isolated_cell_has_its_own_host_name_mounts_and_ipc() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(Cell { isolate_process: true, ..cell("own-name") }).await;
    assert_eq!(api.run("own-name", "hostname").await.success(), "own-name\n");
    assert_eq!(api.on_node("hostname").await, "shared");
    for namespace in ["pid", "mnt", "ipc", "uts"] {
        let link = format!("readlink /proc/self/ns/{namespace}");
        let inside = api.run("own-name", &link).await.success();
        assert_ne!(inside.trim(), api.on_node(&link).await, "{namespace}");
    }
    let mount = "mkdir -p /tmp/inside && mount -t tmpfs none /tmp/inside && grep -c /tmp/inside /proc/mounts";
    let mounting = privileged(shell("mounts", mount));
    assert_eq!(api.run_as("own-name", mounting).await.success(), "1\n");
    assert_eq!(api.on_node("grep -c /tmp/inside /proc/mounts || true").await, "0");
    api.free("own-name").await;
}

#[tokio::test]
async fn a_cell_without_isolation_shares_the_nodes_view() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(cell("shared-view")).await;
    for namespace in ["pid", "mnt", "ipc", "uts", "net"] {
        let link = format!("readlink /proc/self/ns/{namespace}");
        let inside = api.run("shared-view", &link).await.success();
        assert_eq!(inside.trim(), api.on_node(&link).await, "{namespace}");
    }
    api.free("shared-view").await;
}

#[tokio::test]
async fn an_isolated_network_has_loopback_and_nothing_else() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(Cell { isolate_network: true, ..cell("own-net") }).await;
    assert_eq!(api.run("own-net", "ls /sys/class/net; ip -o link | wc -l").await.code(), Some(0));
    let links = api.run("own-net", "ip -o link").await.success();
    assert_eq!(links.lines().count(), 1, "{links}");
    assert!(links.contains("lo:") && links.contains("UP"), "{links}");
    let capabilities = CapabilitiesChange { add: vec!["CAP_NET_RAW".to_owned()], drop: vec![] };
    let security = Some(Security { capabilities: Some(capabilities), ..Security::default() });
    let ping = shell("ping", "ping -c 1 -W 5 127.0.0.1 >/dev/null && echo ok");
    let ping = Executable { security, ..ping };
    assert_eq!(api.run_as("own-net", ping).await.success(), "ok\n");
    api.free("own-net").await;
}

#[tokio::test]
async fn a_cell_runs_in_its_own_cgroup() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(cell("own-cgroup")).await;
    let seen = api.inspect("own-cgroup").await;
    assert!(seen.cgroup_path.ends_with("own-cgroup"), "{}", seen.cgroup_path);
    let daemon = format!("cat /proc/{}/cgroup", seen.daemon_pid);
    assert_eq!(api.on_node(&daemon).await, format!("0::{}/_auraed", seen.cgroup_path));
    let started = api.start("own-cgroup", "sleeper", "exec sleep 1000").await;
    let place = api.on_node(&format!("cat /proc/{}/cgroup", started.pid)).await;
    assert_eq!(place, format!("0::{}/_exe.sleeper", seen.cgroup_path));
    let processes = format!("cat /sys/fs/cgroup{}/cgroup.procs | wc -l", seen.cgroup_path);
    assert_eq!(api.on_node(&processes).await, "0", "the cell's own cgroup has a process");
    api.free("own-cgroup").await;
}
