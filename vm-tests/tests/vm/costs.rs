//! What a call and a cell cost, in numbers that a busy machine does not move: system calls, page faults and
//! context switches of the whole node, as its kernel counts them, and private memory. Each is compared with
//! the figure recorded here.

use aurae_proto::cells::Cell;
use vm_tests::{Api, Node, cell};

/// A figure may grow by a tenth; what costs more is mended, or its price is agreed to and recorded here.
const GROWTH: f64 = 1.1;
/// Rounds of each, of which the one counts that was disturbed least.
const ROUNDS: usize = 3;

/// What was counted per operation.
#[derive(Clone, Copy, Debug)]
struct Costs {
    system_calls: f64,
    faults: f64,
    switches: f64,
}

/// An empty call, one after the other on one connection.
const CALL: Costs = Costs { system_calls: 3.5, faults: 0.1, switches: 1.2 };
const CALLS: u32 = 400;
/// Allocate, Start, Wait and Free of an isolated cell that runs `true`, with what `true` itself costs.
const CYCLE: Costs = Costs { system_calls: 518.0, faults: 246.0, switches: 55.0 };
const CYCLES: u32 = 40;
/// The private memory of an idle, isolated cell's daemon, in KiB.
const IDLE_KIB: u64 = 132;
const IDLE_CELLS: usize = 30;

/// Begins to count, on the node (Documentation/trace/histogram.rst of the kernel). What the kernel's own
/// threads do is not counted, nor is clock_gettime (228), a system call only on machines whose clock cannot be
/// read without one, as emulated ones. Once for all rounds: the kernel changes its own code for it.
const BEGIN: &str = "
    tracing=/sys/kernel/tracing
    grep -q \" $tracing tracefs \" /proc/mounts || mount -t tracefs tracefs $tracing
    echo 'hist:keys=id if id != 228' > $tracing/events/raw_syscalls/sys_enter/trigger
    echo 'hist:keys=prev_comm' > $tracing/events/sched/sched_switch/trigger";
/// Prints system calls and context switches since then, and all page faults since the machine started.
const READ: &str = "
    events=/sys/kernel/tracing/events
    awk '/Hits:/ { print $2 }' $events/raw_syscalls/sys_enter/hist
    awk -F: '/hitcount/ && !/kworker|ksoftirqd|rcu|migration|swapper|kcompactd|khugepaged|kdevtmpfs|jbd2/ { sum += $NF }
        END { print sum + 0 }' $events/sched/sched_switch/hist
    awk '$1 == \"pgfault\" { print $2 }' /proc/vmstat";
/// Ends it.
const END: &str = "
    events=/sys/kernel/tracing/events
    echo '!hist:keys=id if id != 228' > $events/raw_syscalls/sys_enter/trigger
    echo '!hist:keys=prev_comm' > $events/sched/sched_switch/trigger";

impl Costs {
    /// What so many operations cost, without what counting costs.
    async fn of(api: &Api, times: u32, operation: impl AsyncFn(&Api)) -> Self {
        api.on_node(BEGIN).await;
        let mut least = Self { system_calls: f64::MAX, faults: f64::MAX, switches: f64::MAX };
        for _ in 0..ROUNDS {
            let nothing = Self::counted(api, 0, &operation).await;
            let all = Self::counted(api, times, &operation).await;
            let one = |all: f64, nothing: f64| (all - nothing) / f64::from(times);
            least = Self {
                system_calls: least.system_calls.min(one(all.system_calls, nothing.system_calls)),
                faults: least.faults.min(one(all.faults, nothing.faults)),
                switches: least.switches.min(one(all.switches, nothing.switches)),
            };
        }
        api.on_node(END).await;
        least
    }

    async fn counted(api: &Api, times: u32, operation: &impl AsyncFn(&Api)) -> Self {
        let before = api.numbers_on_node::<f64, 3>(READ).await;
        for _ in 0..times {
            operation(api).await;
        }
        let after = api.numbers_on_node::<f64, 3>(READ).await;
        let [system_calls, switches, faults] = std::array::from_fn(|of| after[of] - before[of]);
        Self { system_calls, faults, switches }
    }

    /// Fails when one of them grew; tells them all first.
    #[track_caller]
    fn hold(self, what: &str, recorded: Self) {
        println!("{what}: {self:.1?}, recorded: {recorded:.1?}");
        for (name, now, recorded) in [
            ("system calls", self.system_calls, recorded.system_calls),
            ("page faults", self.faults, recorded.faults),
            ("context switches", self.switches, recorded.switches),
        ] {
            assert!(
                now <= recorded * GROWTH,
                "{what} costs {now:.1} {name}, and {recorded:.1} are recorded: mend it, or record it in costs.rs"
            );
        }
    }
}

#[tokio::test]
async fn an_empty_call_costs_no_more_than_recorded() {
    let node = Node::alone().await;
    let api = node.api().await;
    let call = async |api: &Api| assert!(api.is_there().await);
    Costs::of(&api, CALLS, call).await.hold("an empty call", CALL);
}

#[tokio::test]
async fn a_cell_costs_no_more_than_recorded() {
    let node = Node::alone().await;
    let api = node.api().await;
    let cycle = async |api: &Api| {
        api.allocate(isolated("costs")).await;
        api.start("costs", "it", "true").await;
        api.wait("costs", "it").await;
        api.free("costs").await;
    };
    Costs::of(&api, CYCLES, cycle).await.hold("a cell's life", CYCLE);
}

#[tokio::test]
async fn an_idle_cell_has_no_more_memory_than_recorded() {
    let node = Node::alone().await;
    let api = node.api().await;
    let names: Vec<String> = (0..IDLE_CELLS).map(|number| format!("memory-{number}")).collect();
    for name in &names {
        api.allocate(isolated(name)).await;
    }
    // Asked of the kernel: a daemon that was asked something has grown.
    let median = api
        .count_on_node(&format!(
            "for pid in $(grep -l memory- /proc/[0-9]*/cmdline | cut -d / -f 3); do
                 [ \"$(tr '\\0' ' ' < /proc/$pid/cmdline | cut -d ' ' -f 2)\" = --nested ] &&
                     awk '/^Private_(Clean|Dirty)/ {{ sum += $2 }} END {{ print sum }}' /proc/$pid/smaps_rollup
             done | sort -n | sed -n {}p",
            IDLE_CELLS / 2
        ))
        .await;
    for name in &names {
        api.free(name).await;
    }
    println!("an idle cell's daemon: {median} KiB private, recorded: {IDLE_KIB} KiB");
    assert!(
        median as f64 <= IDLE_KIB as f64 * GROWTH,
        "an idle cell's daemon has {median} KiB for itself, and {IDLE_KIB} are recorded: mend it, or record it in costs.rs"
    );
}

fn isolated(name: &str) -> Cell {
    Cell { isolate_process: true, ..cell(name) }
}
