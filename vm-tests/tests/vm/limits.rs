//! Limits hold, and are told as the kernel has them.

use std::time::Duration;

use aurae_proto::cells::{
    Cell, CpuController, CpusetController, IoController, IoDeviceLimit, MemoryController,
    PidsController, exit_status::Reason,
};
use vm_tests::{Node, cell, eventually};

const MIB: i64 = 1024 * 1024;
/// Over how long CPU time is measured, by the node's own clock.
const MEASURED: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_cpu_limit_holds_over_five_seconds() {
    let node = Node::alone().await;
    let api = node.api().await;
    let cpu = CpuController { max: Some(20_000), period: Some(100_000), ..Default::default() };
    api.allocate(Cell { cpu: Some(cpu), ..cell("cpu-limit") }).await;
    api.start("cpu-limit", "busy", "while :; do :; done").await;
    // Let the first throttled periods pass, then read usage and clock together, twice.
    eventually("the busy loop is throttled", async || {
        let cpu = api.inspect("cpu-limit").await.usage?.cpu?;
        (cpu.throttled_periods > 2).then_some(())
    })
    .await;
    let measure = format!(
        "usage() {{ set -- $(cat /proc/uptime) $(grep usage_usec /sys/fs/cgroup{}/cpu.stat); echo $1 $4; }}; usage; sleep {}; usage",
        api.inspect("cpu-limit").await.cgroup_path,
        MEASURED.as_secs()
    );
    let [start, used_before, end, used_after]: [f64; 4] = api.numbers_on_node(&measure).await;
    let share = (used_after - used_before) / 1e6 / (end - start) * 100.0;
    api.free("cpu-limit").await;
    assert!((17.0..=23.0).contains(&share), "the busy loop used {share:.1} % of a CPU");
}

#[tokio::test]
async fn the_oom_killer_ends_the_hog_and_wait_says_so() {
    let node = Node::shared().await;
    let api = node.api().await;
    let memory = MemoryController { max: Some(32 * MIB), swap_max: Some(0), ..Default::default() };
    api.allocate(Cell { memory: Some(memory), ..cell("oom") }).await;
    // `tail` keeps the last line, and /dev/zero has only one.
    let hog = api.run("oom", "exec tail /dev/zero").await;
    let exit = hog.status.exit_status.expect("it ended");
    assert_eq!(exit.reason, Some(Reason::Signal(9)), "{hog:?}");
    assert!(exit.oom_killed, "{hog:?}");
    let usage = api.inspect("oom").await.usage.expect("usage").memory.expect("memory");
    assert!(usage.events.expect("events").oom_kill >= 1);
    // The cell survives: its daemon was not the victim.
    assert_eq!(api.run("oom", "echo alive").await.success(), "alive\n");
    api.free("oom").await;
}

#[tokio::test]
async fn with_oom_group_the_whole_executable_goes() {
    let node = Node::shared().await;
    let api = node.api().await;
    let memory = MemoryController {
        max: Some(32 * MIB),
        swap_max: Some(0),
        oom_group: Some(true),
        ..Default::default()
    };
    api.allocate(Cell { memory: Some(memory), ..cell("oom-group") }).await;
    let hog = api.run("oom-group", "tail /dev/zero; echo survived").await;
    assert!(hog.status.exit_status.as_ref().is_some_and(|exit| exit.oom_killed), "{hog:?}");
    assert_eq!(hog.stdout, "", "the shell outlived its child");
    api.free("oom-group").await;
}

#[tokio::test]
async fn a_pids_limit_stops_a_fork_bomb_and_the_node_answers() {
    let node = Node::alone().await;
    let api = node.api().await;
    let pids = PidsController { max: Some(32) };
    api.allocate(Cell { pids: Some(pids), ..cell("bomb") }).await;
    api.start("bomb", "bomb", "bomb() { bomb | bomb & }; bomb; sleep 1000").await;
    let pids = eventually("the bomb meets its limit", async || {
        let pids = api.inspect("bomb").await.usage?.pids?;
        (pids.refused > 0).then_some(pids)
    })
    .await;
    assert!(pids.current <= 32, "{pids:?}");
    assert_eq!(api.on_node("echo still here").await, "still here");
    api.free("bomb").await;
    assert!(!api.list().await.contains(&"bomb".to_owned()));
}

#[tokio::test]
async fn every_limit_is_applied_and_read_back() {
    let node = Node::shared().await;
    let api = node.api().await;
    let wanted = Cell {
        cpu: Some(CpuController {
            weight: Some(250),
            max: Some(40_000),
            period: Some(80_000),
            burst: Some(10_000),
        }),
        cpuset: Some(CpusetController { cpus: Some("0".to_owned()), mems: Some("0".to_owned()) }),
        memory: Some(MemoryController {
            min: Some(MIB),
            low: Some(2 * MIB),
            high: Some(48 * MIB),
            max: Some(64 * MIB),
            swap_max: Some(0),
            oom_group: Some(true),
        }),
        pids: Some(PidsController { max: Some(77) }),
        ..cell("read-back")
    };
    api.allocate(wanted.clone()).await;
    let seen = api.inspect("read-back").await;
    // The kernel has a weight for every cell.
    let told = Cell { io: Some(IoController { weight: Some(100), devices: Vec::new() }), ..wanted };
    assert_eq!(seen.cell.as_ref(), Some(&told));
    let directory = format!("/sys/fs/cgroup{}", seen.cgroup_path);
    for (file, value) in [
        ("cpu.weight", "250"),
        ("cpu.max", "40000 80000"),
        ("cpu.max.burst", "10000"),
        ("cpuset.cpus", "0"),
        ("memory.min", "1048576"),
        ("memory.low", "2097152"),
        ("memory.high", "50331648"),
        ("memory.max", "67108864"),
        ("memory.swap.max", "0"),
        ("memory.oom.group", "1"),
        ("pids.max", "77"),
    ] {
        assert_eq!(api.on_node(&format!("cat {directory}/{file}")).await, value, "{file}");
    }
    api.free("read-back").await;
}

#[tokio::test]
async fn a_block_device_is_limited_by_its_path() {
    let node = Node::boot_with("disk", |options| {
        let disk = options.directory.join("disk.img");
        std::fs::create_dir_all(&options.directory).expect("a directory");
        let file = std::fs::File::create(&disk).expect("a file");
        file.set_len(8 * MIB as u64).expect("a length");
        options.disks.push(disk);
    })
    .await;
    let api = node.api().await;
    let limit = IoDeviceLimit {
        device: "/dev/vda".to_owned(),
        read_bytes_per_second: Some(MIB as u64),
        write_operations_per_second: Some(50),
        ..Default::default()
    };
    let io = IoController { weight: None, devices: vec![limit.clone()] };
    api.allocate(Cell { io: Some(io), ..cell("io") }).await;
    let seen = api.inspect("io").await;
    let back = seen.cell.and_then(|cell| cell.io).expect("limits").devices;
    let number = api.on_node("cat /sys/block/vda/dev").await;
    assert_eq!(back, [IoDeviceLimit { device: number.clone(), ..limit }]);
    let file = api.on_node(&format!("cat /sys/fs/cgroup{}/io.max", seen.cgroup_path)).await;
    assert_eq!(file, format!("{number} rbps=1048576 wbps=max riops=max wiops=50"));
}

#[tokio::test]
async fn empty_limits_mean_no_limit() {
    let node = Node::shared().await;
    let api = node.api().await;
    let empty = Cell {
        cpu: Some(CpuController::default()),
        cpuset: Some(CpusetController::default()),
        memory: Some(MemoryController::default()),
        ..cell("empty-limits")
    };
    api.allocate(empty).await;
    let path = api.inspect("empty-limits").await.cgroup_path;
    for file in ["memory.max", "memory.high", "pids.max"] {
        assert_eq!(api.on_node(&format!("cat /sys/fs/cgroup{path}/{file}")).await, "max");
    }
    api.free("empty-limits").await;
}
