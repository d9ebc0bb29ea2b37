//! Limits that change while the cell lives.

use aurae_proto::cells::{
    Cell, CellServiceUpdateRequest, CpuController, CpusetController, IoController, IoDeviceLimit,
    MemoryController, PidsController,
};
use tonic::{Code, Status};
use vm_tests::{Api, Node, cell, eventually, privileged, shell};

const MIB: i64 = 1024 * 1024;

async fn update(api: &Api, cell: Cell, clear: &[&str]) -> Result<Cell, Status> {
    let clear = clear.iter().map(|path| (*path).to_owned()).collect();
    let request = CellServiceUpdateRequest { cell: Some(cell), clear };
    let answer = api.cells.clone().update(request).await?.into_inner();
    Ok(answer.cell.expect("the cell"))
}

fn memory(max: i64) -> Option<MemoryController> {
    Some(MemoryController { max: Some(max), ..MemoryController::default() })
}

fn pids(max: u64) -> Option<PidsController> {
    Some(PidsController { max: Some(max) })
}

async fn assert_files(api: &Api, path: &str, files: &[(&str, &str)]) {
    for (file, value) in files {
        assert_eq!(
            api.on_node(&format!("cat /sys/fs/cgroup{path}/{file}")).await,
            *value,
            "{file}"
        );
    }
}

#[tokio::test]
async fn limits_go_up_down_and_away_and_the_others_stay() {
    let node = Node::shared().await;
    let api = node.api().await;
    let cpu = CpuController { max: Some(20_000), burst: Some(10_000), ..Default::default() };
    let cpuset = CpusetController { cpus: Some("0".to_owned()), mems: None };
    let made = Cell {
        cpu: Some(cpu),
        cpuset: Some(cpuset),
        memory: memory(64 * MIB),
        pids: pids(50),
        ..cell("update")
    };
    api.allocate(made).await;
    let path = api.inspect("update").await.cgroup_path;
    api.start("update", "it", "exec sleep 1000").await;

    let cpu = CpuController { max: Some(90_000), burst: Some(80_000), ..Default::default() };
    let mut more = memory(128 * MIB);
    more.iter_mut().for_each(|memory| memory.oom_group = Some(true));
    let up = Cell { cpu: Some(cpu), memory: more, ..cell("update") };
    let told = update(&api, up, &[]).await.expect("it grows");
    assert_eq!(told, api.inspect("update").await.cell.expect("a cell"));
    let grown = [
        ("cpu.max", "90000 100000"),
        ("cpu.max.burst", "80000"),
        ("memory.max", "134217728"),
        ("memory.oom.group", "1"),
        ("_exe.it/memory.oom.group", "1"),
        ("pids.max", "50"),
        ("cpuset.cpus", "0"),
    ];
    assert_files(&api, &path, &grown).await;

    let cpu = CpuController { max: Some(5_000), burst: Some(0), ..Default::default() };
    let down = Cell { cpu: Some(cpu), memory: memory(32 * MIB), pids: pids(9), ..cell("update") };
    update(&api, down, &[]).await.expect("it shrinks");
    let shrunk = [
        ("cpu.max", "5000 100000"),
        ("cpu.max.burst", "0"),
        ("memory.max", "33554432"),
        ("memory.oom.group", "1"),
        ("pids.max", "9"),
    ];
    assert_files(&api, &path, &shrunk).await;

    let clear = ["cpu.max", "memory.max", "memory.oom_group", "pids.max", "cpuset.cpus"];
    update(&api, cell("update"), &clear).await.expect("they go");
    let gone = [
        ("cpu.max", "max 100000"),
        ("memory.max", "max"),
        ("memory.oom.group", "0"),
        ("_exe.it/memory.oom.group", "0"),
        ("pids.max", "max"),
    ];
    assert_files(&api, &path, &gone).await;
    let all = api.on_node("cat /sys/fs/cgroup/cpuset.cpus.effective").await;
    assert_files(&api, &path, &[("cpuset.cpus.effective", &all)]).await;
    assert_eq!(api.inspect("update").await.executables[0].state, 1, "it runs through all of it");
    api.free("update").await;
}

#[tokio::test]
async fn memory_below_what_is_in_use_is_refused_with_both_figures_and_nothing_changes() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(Cell { memory: memory(64 * MIB), pids: pids(50), ..cell("update-memory") }).await;
    let hog = "dd if=/dev/zero of=/tmp/update-hog bs=1M count=16 2>/dev/null; exec sleep 1000";
    api.start("update-memory", "hog", hog).await;
    let current = eventually("16 MiB are in use", async || {
        let current = api.inspect("update-memory").await.usage?.memory?.current;
        (current > 16 << 20).then_some(current)
    })
    .await;
    let less = Cell { memory: memory(8 * MIB), pids: pids(9), ..cell("update-memory") };
    let refused = update(&api, less, &[]).await.expect_err("it does not fit");
    println!("{} (in use before: {current})", refused.message());
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    let text = refused.message();
    assert!(text.starts_with("Field = cell.memory.max; 8388608 bytes is below the "), "{text}");
    let told = text.split(' ').find_map(|word| word.parse::<u64>().ok().filter(|n| *n > 16 << 20));
    assert!(told.is_some(), "{text}");
    let path = api.inspect("update-memory").await.cgroup_path;
    let same = [("memory.max", "67108864"), ("memory.high", "max"), ("pids.max", "50")];
    assert_files(&api, &path, &same).await;
    api.on_node("rm /tmp/update-hog").await;
    api.free("update-memory").await;
}

#[tokio::test]
async fn memory_that_the_kernel_can_reclaim_does_not_count_as_in_use() {
    let node = Node::boot_with("reclaim", |options| {
        let disk = options.directory.join("disk.img");
        std::fs::create_dir_all(&options.directory).expect("a directory");
        let file = std::fs::File::create(&disk).expect("a file");
        file.set_len(32 * MIB as u64).expect("a length");
        options.disks.push(disk);
    })
    .await;
    let api = node.api().await;
    api.allocate(Cell { memory: memory(128 * MIB), ..cell("reclaim") }).await;
    // The kernel forgets what was read of a device when nobody has it open.
    let reader = "exec 3</dev/vda; cat /dev/vda >/dev/null; exec sleep 1000";
    // Nobody else may read a disk.
    let reader = privileged(shell("reader", reader));
    api.try_start("reclaim", reader).await.expect("it can be started");
    eventually("the disk is cached", async || {
        let current = api.inspect("reclaim").await.usage?.memory?.current;
        (current > 32 << 20).then_some(current)
    })
    .await;
    let less = Cell { memory: memory(16 * MIB), ..cell("reclaim") };
    update(&api, less, &[]).await.expect("the cache goes");
    let seen = api.inspect("reclaim").await;
    let shrunk = [("memory.max", "16777216"), ("memory.high", "max")];
    assert_files(&api, &seen.cgroup_path, &shrunk).await;
    assert_eq!(seen.executables[0].state, 1, "nothing was killed");
    api.free("reclaim").await;
}

#[tokio::test]
async fn what_the_kernel_refuses_on_the_way_is_taken_back() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(Cell { pids: pids(50), ..cell("update-back") }).await;
    let path = api.inspect("update-back").await.cgroup_path;
    let device = IoDeviceLimit {
        device: "254:77".to_owned(),
        read_bytes_per_second: Some(1),
        ..Default::default()
    };
    let io = Some(IoController { weight: None, devices: vec![device] });
    let cpu = Some(CpuController { max: Some(20_000), ..Default::default() });
    let wanted = Cell { cpu, memory: memory(64 * MIB), pids: pids(9), io, ..cell("update-back") };
    let refused = update(&api, wanted, &[]).await.expect_err("there is no such device");
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    assert!(refused.message().starts_with("Field = cell.io.devices; "), "{refused:?}");
    let same = [("cpu.max", "max 100000"), ("memory.max", "max"), ("pids.max", "50")];
    assert_files(&api, &path, &same).await;
    api.free("update-back").await;
}

#[tokio::test]
async fn what_cannot_change_or_contradicts_itself_is_refused() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(Cell { isolate_process: true, ..cell("update-bad") }).await;
    let refusal = async |change: Cell, clear: &[&str]| {
        let refused = update(&api, change, clear).await.expect_err("it is refused");
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
        refused.message().split(';').next().unwrap_or_default().to_owned()
    };
    let network = Cell { isolate_network: true, ..cell("update-bad") };
    assert_eq!(refusal(network, &[]).await, "Field = cell.isolate_network");
    let both = Cell { pids: pids(9), ..cell("update-bad") };
    assert_eq!(refusal(both, &["pids.max"]).await, "Field = clear");
    assert_eq!(refusal(cell("update-bad"), &["pids"]).await, "Field = clear");
    let cpus = CpusetController { cpus: Some("4000".to_owned()), mems: None };
    let cpus = Cell { cpuset: Some(cpus), ..cell("update-bad") };
    assert_eq!(refusal(cpus, &[]).await, "Field = cell.cpuset.cpus");
    let same = Cell { isolate_process: true, ..cell("update-bad") };
    update(&api, same, &[]).await.expect("that it has already");
    let nobody = update(&api, cell("nobody"), &[]).await.expect_err("there is none");
    assert_eq!(nobody.code(), Code::NotFound, "{nobody:?}");
    api.free("update-bad").await;
}
