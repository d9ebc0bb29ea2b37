//! Nothing adds up: many cycles, and many cells at once.

use aurae_proto::cells::Cell;
use vm_tests::{Api, Node, cell, eventually, soon, times};

/// How many cells come and go.
const CYCLES: u32 = 1000;
/// From which one on memory is compared: before, caches and pools fill.
const SETTLED: u32 = 200;
/// The same for trees, which take longer.
const TREE_CYCLES: u32 = 150;
const TREE_SETTLED: u32 = 50;
/// So many calls fill what is kept of the records of calls: 4 MiB, at 350 bytes or more each.
const RECORDS: u32 = 12_000;
/// How many of these calls are made at once.
const AT_ONCE: u32 = 50;
/// By how much the daemon's private memory may have grown from [`SETTLED`] to the end, in KiB.
const GROWTH_LIMIT_KIB: u64 = 1024;
/// How many cells are alive while the memory of an idle one is measured.
const CELLS: usize = 100;
/// What an idle cell's daemon may have for itself alone, in KiB.
const PRIVATE_LIMIT_KIB: u64 = 300;

/// What could be left behind, in one reading.
#[derive(Debug, PartialEq, Eq)]
struct Leftovers {
    cgroups: u64,
    processes: u64,
    zombies: u64,
    descriptors: u64,
    sockets: u64,
}

async fn leftovers(api: &Api) -> Leftovers {
    let [cgroups, processes, zombies, descriptors, sockets] = api
        .numbers_on_node(
            "find /sys/fs/cgroup -type d | wc -l
             # Kernel threads, the children of 0 and 2, come and go by themselves.
             set -- $(grep -L '^PPid:.[02]$' /proc/[0-9]*/status 2>/dev/null); echo $#
             grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l
             ls /proc/1/fd | wc -l
             cat /proc/net/unix | wc -l",
        )
        .await;
    Leftovers { cgroups, processes, zombies, descriptors, sockets }
}

/// The private memory of a process, in KiB.
async fn private_kib(api: &Api, pid: i32) -> u64 {
    let command = format!(
        "awk '/^Private_(Clean|Dirty)/ {{ sum += $2 }} END {{ print sum }}' /proc/{pid}/smaps_rollup"
    );
    api.count_on_node(&command).await
}

async fn cycle(api: &Api) {
    let isolated = Cell { isolate_process: true, ..cell("cycle") };
    api.allocate(isolated).await;
    api.start("cycle", "it", "echo hello").await;
    api.wait("cycle", "it").await;
    api.free("cycle").await;
}

/// A tree three deep comes, runs something at its bottom, and goes with its top.
async fn tree_cycle(api: &Api) {
    for name in ["tree", "tree/mid", "tree/mid/low"] {
        api.allocate(Cell { isolate_process: true, ..cell(name) }).await;
    }
    api.start("tree/mid/low", "it", "echo hello").await;
    api.wait("tree/mid/low", "it").await;
    api.free("tree").await;
}

#[tokio::test]
async fn a_thousand_cycles_leave_nothing_behind() {
    nothing_is_left_after(times("AURAE_CYCLES", CYCLES), SETTLED, cycle).await;
}

#[tokio::test]
async fn cycles_over_a_tree_leave_nothing_behind() {
    nothing_is_left_after(times("AURAE_CYCLES", TREE_CYCLES), TREE_SETTLED, tree_cycle).await;
}

/// Fills what the node keeps of the records of calls, which grows to its bound and no further.
async fn fill_records(api: &Api) {
    for _ in 0..RECORDS / AT_ONCE {
        let calls = (0..AT_ONCE).map(|_| async { assert!(api.is_there().await) });
        soon("calls", futures_util::future::join_all(calls)).await;
    }
}

async fn nothing_is_left_after(cycles: u32, settled: u32, cycle: impl AsyncFn(&Api)) {
    let node = Node::alone().await;
    let api = node.api().await;
    fill_records(&api).await;
    for _ in 0..settled {
        soon("a cycle", cycle(&api)).await;
    }
    let before = leftovers(&api).await;
    let memory_before = private_kib(&api, 1).await;
    for _ in settled..cycles {
        soon("a cycle", cycle(&api)).await;
    }
    let memory_after = private_kib(&api, 1).await;
    let after = eventually("everything is as before", async || {
        let after = leftovers(&api).await;
        println!("{after:?}, before: {before:?}");
        (after == before).then_some(after)
    })
    .await;
    println!(
        "{cycles} cycles; private memory of pid 1: {memory_before} KiB, then {memory_after} KiB; {after:?}"
    );
    assert_eq!(after.zombies, 0);
    let grown = memory_after.saturating_sub(memory_before);
    assert!(grown < GROWTH_LIMIT_KIB, "pid 1 grew by {grown} KiB");
}

#[tokio::test]
async fn an_idle_cell_costs_little_while_a_hundred_are_alive() {
    let node = Node::alone().await;
    let api = node.api().await;
    let names: Vec<String> = (0..CELLS).map(|number| format!("idle-{number}")).collect();
    for name in &names {
        api.allocate(cell(name)).await;
    }
    let mut costs = Vec::new();
    for name in &names {
        let pid = api.inspect(name).await.daemon_pid;
        costs.push(private_kib(&api, pid).await);
    }
    for name in &names {
        api.free(name).await;
    }
    costs.sort_unstable();
    let (median, most) = (costs[CELLS / 2], costs[CELLS - 1]);
    println!("private memory of an idle cell's daemon: {median} KiB, at most {most} KiB");
    assert!(most <= PRIVATE_LIMIT_KIB, "an idle cell's daemon has {most} KiB for itself");
}
