//! A daemon that is killed again and again, and what it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aurae_client::Client;
use aurae_proto::cells::exit_status::Reason;
use aurae_proto::cells::{Cell, CellState, Executable, ExecutableState};
use vm_tests::{Api, Node, cell, eventually, logs_of, shell, soon, times};

/// How often the daemon is killed.
const KILLS: u32 = 50;
/// Clients that make, use and free cells of their own meanwhile.
const CLIENTS: u64 = 3;
/// A kill comes so long after the daemon answered again, at most.
const LONGEST_LIFE_MILLIS: u64 = 400;
/// Where the daemon that is killed listens, beside the node's own.
const PORT: u16 = 8081;

/// The daemon that is killed: one beside another init, started again whenever it ends.
const DAEMON: &str =
    "while :; do /proc/1/exe auraed -s '[::]:8081' -r /run/second -l /run/second; done";

/// Numbers that look random (xorshift64); the first is printed.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let seed = now.map_or(1, |now| now.subsec_nanos().into()) | 1;
        println!("random numbers from {seed}");
        Self(seed)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Makes, uses and frees cells until the daemon was killed. What an executable's name says is how it
/// must end.
///
/// A client connects again by itself, so that the end of its connection is no end: it may go on with the
/// next daemon.
async fn churn(api: Api, client: u64, mut random: Random, killed: Arc<AtomicBool>) {
    let top = format!("churn-{client}");
    while !killed.load(Ordering::Relaxed) {
        let inner = format!("{top}/inner");
        let place = if random.below(2) == 0 { &top } else { &inner };
        let code = random.below(200);
        // Names that are taken or not there are a part of it, and so is a daemon that is gone.
        let _ = soon("a step", async {
            match random.below(6) {
                0 | 1 => {
                    api.try_allocate(Cell { isolate_process: true, ..cell(place) }).await.err()
                }
                2 | 3 => {
                    let (name, command) =
                        (format!("exit-{code}"), format!("sleep 0.0{code}; exit {code}"));
                    api.try_start(place, shell(&name, &command)).await.err()
                }
                4 => api.try_stop(place, &format!("exit-{code}")).await.err(),
                _ => api.try_free(place).await.err(),
            }
        })
        .await;
    }
}

/// What the kernel has: the paths of the cells' cgroups, sorted.
async fn cells_of_kernel(node: &Api) -> Vec<String> {
    let text = node
        .on_node("cd /sys/fs/cgroup/aurae-*/ && find . -type d | sed 's,^./,,' | grep -v '_' | grep -v '^.$' | sort")
        .await;
    text.lines().map(str::to_owned).collect()
}

fn expected_code(executable: &str) -> Option<i32> {
    executable.strip_prefix("exit-")?.parse().ok()
}

/// Compares what the daemon says with what the kernel does.
async fn check(node: &Api, api: &Api) {
    let listed = eventually("the daemon lists what the kernel has", async || {
        let (mut kernel, listed) = (cells_of_kernel(node).await, api.list_all().await);
        kernel.sort_unstable();
        if kernel != listed {
            println!("kernel {kernel:?}, daemon {listed:?}");
        }
        (kernel == listed).then_some(listed)
    })
    .await;
    for name in listed {
        let inspected = soon("inspect", api.inspect(&name)).await;
        assert_eq!(inspected.state, CellState::Live as i32, "{name}: {}", inspected.reason);
        for executable in inspected.executables {
            let (state, status) = (executable.state(), executable.exit_status);
            match status.and_then(|status| status.reason) {
                None => assert_ne!(state, ExecutableState::Ended, "{name} {executable:?}"),
                // It was stopped, by a client or with a cell around it.
                Some(Reason::Signal(signal)) => {
                    assert!([9, 15].contains(&signal), "{executable:?}")
                }
                Some(Reason::Code(code)) => {
                    assert_eq!(Some(code), expected_code(&executable.name), "{executable:?}");
                }
            }
        }
    }
}

/// The kept lines of the counter: they follow upon each other, and what is missing before was told.
async fn check_count(api: &Api) {
    let mut stream = api.observe.clone().get_executable_logs(logs_of("count", "count")).await;
    let stream = stream.as_mut().expect("it runs").get_mut();
    let (mut expected, mut read) = (None, 0);
    while let Some(message) = stream.message().await.expect("the stream goes on") {
        for entry in message.entries {
            let line = String::from_utf8_lossy(&entry.data).into_owned();
            let number: u64 = line.trim().parse().expect("a number");
            let first = *expected.get_or_insert(message.missed_entries);
            assert_eq!(number, first, "a line is missing, and nobody said so");
            expected = Some(number + 1);
            read += 1;
        }
    }
    println!("{read} lines of the counter are kept, without a gap");
    assert!(read > 0);
}

#[tokio::test]
async fn a_daemon_that_is_killed_fifty_times_loses_nothing() {
    let machine = Node::boot("restart").await;
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
    api.allocate(Cell { isolate_process: true, ..cell("count") }).await;
    let count = Executable {
        log_capacity: Some(64 << 10),
        ..shell("count", "i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done")
    };
    let counter = api.try_start("count", count).await.expect("it can be started").pid;
    let own = api.start("", "own", "exec sleep 100000").await.pid;
    let mut random = Random::new();

    for round in 0..times("AURAE_KILLS", KILLS) {
        let began = std::time::Instant::now();
        let killed = Arc::new(AtomicBool::new(false));
        let mut clients = tokio::task::JoinSet::new();
        for client in 0..CLIENTS {
            let random = Random(random.below(u64::MAX) | 1);
            clients.spawn(churn(up().await, client, random, Arc::clone(&killed)));
        }
        tokio::time::sleep(Duration::from_millis(random.below(LONGEST_LIFE_MILLIS))).await;
        // Whoever holds the lock of the runtime directory is the daemon.
        node.on_node("kill -9 $(tr -dc 0-9 < /run/second/auraed.lock)").await;
        killed.store(true, Ordering::Relaxed);
        clients.join_all().await;
        let api = up().await;
        soon("the check", check(&node, &api)).await;
        let inspected = api.inspect("count").await;
        assert_eq!(inspected.executables[0].pid, counter, "round {round}");
        assert_eq!(api.inspect("").await.executables[0].pid, own, "round {round}");
        println!("round {round}: {:.1} s", began.elapsed().as_secs_f64());
    }
    let api = up().await;
    check_count(&api).await;
    for name in api.list().await {
        api.free(&name).await;
    }
    assert_eq!(cells_of_kernel(&node).await, Vec::<String>::new());
}
