//! A daemon that is killed again and again, and what it runs.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
/// The next daemon is killed so long after that, at most: it takes about as long to start.
const LATEST_SECOND_KILL_MILLIS: u64 = 300;
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

/// What clients asked to be ended, so that it may have been ended by a signal: executables by their cell
/// and name, and whole cells. Each client has cells of its own, and does one thing after the other.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Ends>>);

/// Cells, and the executable in it where it is not the whole cell.
type Ends = HashSet<(String, Option<String>)>;

impl Asked {
    fn end(&self, cell: &str, executable: Option<&str>) {
        self.all().insert((cell.to_owned(), executable.map(str::to_owned)));
    }

    /// There is a new one of that name, of which nobody asked anything.
    fn forget(&self, cell: &str, executable: Option<&str>) {
        self.all().retain(|(of, name)| {
            let same = of == cell || (executable.is_none() && of.starts_with(&format!("{cell}/")));
            !(same && (executable.is_none() || name.as_deref() == executable))
        });
    }

    fn may_be_killed(&self, cell: &str, executable: &str) -> bool {
        let above = cell.split_once('/').map_or(cell, |(top, _)| top);
        let all = self.all();
        [(above, None), (cell, None), (cell, Some(executable))]
            .into_iter()
            .any(|(cell, name)| all.contains(&(cell.to_owned(), name.map(str::to_owned))))
    }

    fn all(&self) -> MutexGuard<'_, Ends> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes, uses and frees cells until the daemon was killed. What an executable's name says is how it
/// must end.
///
/// A client connects again by itself, so that the end of its connection is no end: it may go on with the
/// next daemon.
async fn churn(api: Api, client: u64, mut random: Random, asked: Asked, killed: Arc<AtomicBool>) {
    let top = format!("churn-{client}");
    while !killed.load(Ordering::Relaxed) {
        let inner = format!("{top}/inner");
        let place = if random.below(2) == 0 { &top } else { &inner };
        let code = random.below(200);
        let name = format!("exit-{code}");
        // Names that are taken or not there are a part of it, and so is a daemon that is gone.
        soon("a step", async {
            match random.below(6) {
                0 | 1 => {
                    let cell = Cell { isolate_process: true, ..cell(place) };
                    if api.try_allocate(cell).await.is_ok() {
                        asked.forget(place, None);
                    }
                }
                2 | 3 => {
                    let command = format!("sleep 0.0{code}; exit {code}");
                    if api.try_start(place, shell(&name, &command)).await.is_ok() {
                        asked.forget(place, Some(&name));
                    }
                }
                4 => {
                    asked.end(place, Some(&name));
                    let _ = api.try_stop(place, &name).await;
                }
                _ => {
                    asked.end(place, None);
                    let _ = api.try_free(place).await;
                }
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
async fn check(node: &Api, api: &Api, asked: &Asked) {
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
                Some(Reason::Signal(signal)) => {
                    assert!([9, 15].contains(&signal), "{executable:?}");
                    let asked = asked.may_be_killed(&name, &executable.name);
                    assert!(asked, "nobody asked for the end of {executable:?} in {name}");
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
    let (mut random, asked) = (Random::new(), Asked::default());

    for round in 0..times("AURAE_KILLS", KILLS) {
        let began = std::time::Instant::now();
        let killed = Arc::new(AtomicBool::new(false));
        let mut clients = tokio::task::JoinSet::new();
        for client in 0..CLIENTS {
            let random = Random(random.below(u64::MAX) | 1);
            let (asked, killed) = (asked.clone(), Arc::clone(&killed));
            clients.spawn(churn(up().await, client, random, asked, killed));
        }
        tokio::time::sleep(Duration::from_millis(random.below(LONGEST_LIFE_MILLIS))).await;
        // Whoever holds the lock of the runtime directory is the daemon. The next one is killed while it
        // starts, where it has come to hold the lock by then.
        let kill = "kill -9 $(tr -dc 0-9 < /run/second/auraed.lock)";
        let pause = random.below(LATEST_SECOND_KILL_MILLIS);
        node.on_node(&format!("{kill}; sleep 0.{pause:03}; {kill} 2>/dev/null; true")).await;
        killed.store(true, Ordering::Relaxed);
        clients.join_all().await;
        let api = up().await;
        soon("the check", check(&node, &api, &asked)).await;
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
