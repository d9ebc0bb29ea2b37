//! The machine itself: what it is, what it says, and that others' tools find their way.

use aurae_proto::discovery::DiscoverRequest;
use aurae_proto::node::{InfoRequest, KernelLogRequest};
use vm_tests::{Node, eventually};

#[tokio::test]
async fn a_node_that_came_up_whole_says_so() {
    let node = Node::shared().await;
    let api = node.api().await;
    let info = api.node.clone().info(InfoRequest {}).await.expect("info").into_inner();
    assert!(info.degraded.is_empty(), "{:?}", info.degraded);
    let discovered =
        api.discovery.clone().discover(DiscoverRequest {}).await.expect("discover").into_inner();
    assert!(discovered.healthy);
    assert_eq!(discovered.version, info.version);
}

#[tokio::test]
async fn info_tells_what_the_machine_is() {
    let node = Node::shared().await;
    let api = node.api().await;
    let info = api.node.clone().info(InfoRequest {}).await.expect("info").into_inner();
    assert_eq!(info.hostname, "shared");
    assert_eq!(info.kernel_release, api.on_node("uname -r").await);
    assert_eq!(info.machine, "x86_64");
    assert_eq!(info.cpus, 2);
    assert!(info.init, "the daemon is pid 1");
    assert!((800..1100).contains(&(info.memory_total >> 20)), "{}", info.memory_total);
    assert!(info.memory_available > 0 && info.memory_available < info.memory_total);
    for controller in ["cpu", "cpuset", "io", "memory", "pids"] {
        assert!(info.cgroup_controllers.iter().any(|it| it == controller), "{info:?}");
    }
    assert!(info.capabilities.expect("capabilities").bpf);
    assert!(info.boot_time.expect("a time").seconds > 1_600_000_000);
}

#[tokio::test]
async fn the_network_is_configured_by_dhcp() {
    let node = Node::shared().await;
    let api = node.api().await;
    let interfaces = eventually("an address", async || {
        let info = api.node.clone().info(InfoRequest {}).await.ok()?.into_inner();
        let has_address = |address: &String| address.starts_with("10.0.2.15/");
        let found = info.interfaces.iter().any(|it| it.addresses.iter().any(has_address));
        found.then_some(info.interfaces)
    })
    .await;
    let loopback = interfaces.iter().find(|it| it.name == "lo").expect("loopback");
    assert!(loopback.addresses.iter().any(|address| address == "127.0.0.1/8"), "{loopback:?}");
    let route = api.on_node("ip route").await;
    assert!(route.contains("default via 10.0.2.2"), "{route}");
    let servers = api.on_node("cat /etc/resolv.conf").await;
    assert!(servers.contains("nameserver 10.0.2.3"), "{servers}");
}

#[tokio::test]
async fn what_an_init_mounts_is_mounted() {
    let node = Node::shared().await;
    let api = node.api().await;
    let mounts = api.on_node("cut -d' ' -f2,3 /proc/mounts").await;
    for mount in [
        "/proc proc",
        "/sys sysfs",
        "/dev devtmpfs",
        "/dev/pts devpts",
        "/dev/shm tmpfs",
        "/run tmpfs",
        "/tmp tmpfs",
        "/sys/fs/cgroup cgroup2",
        "/sys/fs/bpf bpf",
        "/sys/kernel/tracing tracefs",
        "/sys/kernel/security securityfs",
    ] {
        assert!(mounts.lines().any(|line| line == mount), "{mount} is missing in:\n{mounts}");
    }
}

#[tokio::test]
async fn the_kernels_log_streams() {
    let node = Node::shared().await;
    let api = node.api().await;
    let kept = KernelLogRequest { follow: false, tail: None };
    let mut stream = api.node.clone().kernel_log(kept).await.expect("a stream").into_inner();
    let (mut count, mut linux) = (0, false);
    while let Some(record) = stream.message().await.expect("a record") {
        count += 1;
        linux |= record.message.starts_with("Linux version");
    }
    assert!(linux && count > 50, "{count} records");

    let following = KernelLogRequest { follow: true, tail: Some(0) };
    let mut stream = api.node.clone().kernel_log(following).await.expect("a stream").into_inner();
    api.on_node("echo hello from a test > /dev/kmsg").await;
    eventually("the line arrives", async || {
        let record = stream.message().await.expect("a record").expect("no end");
        record.message.contains("hello from a test").then_some(())
    })
    .await;
}

#[tokio::test]
async fn kvm_in_the_node_is_told_where_it_is() {
    let node = Node::shared().await;
    let api = node.api().await;
    let info = api.node.clone().info(InfoRequest {}).await.expect("info").into_inner();
    let device = api.on_node("test -c /dev/kvm && echo true || echo false").await;
    assert_eq!(info.capabilities.expect("capabilities").kvm.to_string(), device);
}
