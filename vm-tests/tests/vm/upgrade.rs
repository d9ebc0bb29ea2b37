//! A node whose daemon is replaced, while it works.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use aurae_proto::cells::exit_status::Reason;
use aurae_proto::cells::{
    Cell, CellServiceInspectRequest, CellServiceSignalRequest, UserNamespace,
};
use aurae_proto::node::upgrade_request::Message;
use aurae_proto::node::{
    InfoRequest, InfoResponse, UpgradePhase, UpgradeRequest, UpgradeResponse, UpgradeStart,
};
use ring::digest::{SHA256, digest};
use tokio::task::JoinHandle;
use tonic::{Code, Status};
use vm_tests::{Api, Node, cell, eventually, logs_of, shell, soon, times};
use xtask::workspace::Workspace;

/// How often the daemon is replaced.
const UPGRADES: u32 = 10;
/// A new connection, with its first answer, takes no longer at any moment: a guard against one that hangs.
/// It is one second that is promised, on a machine; an emulated one is 10 to 30 times slower, and shares
/// its host (`docs/performance.md` has the figure).
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Between two new connections.
const BETWEEN_KNOCKS: Duration = Duration::from_millis(20);
/// Each upgrade leaves a file in memory with the cells that were made meanwhile.
const MEMORY_MIB: u32 = 1024;
/// Bytes of a message.
const PIECE: usize = 1 << 20;

/// The daemon that the node runs, as a file.
fn own_file() -> Vec<u8> {
    let workspace = Workspace::find().expect("the workspace");
    std::fs::read(workspace.binary()).expect("the binary that is tested")
}

/// As one file with another text in it, of the same length.
fn patched(mut file: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut places = 0;
    let mut at = 0;
    while let Some(found) = file[at..].windows(from.len()).position(|window| window == from) {
        at += found;
        file[at..at + to.len()].copy_from_slice(to);
        places += 1;
    }
    assert!(places > 0, "{} is nowhere in the file", String::from_utf8_lossy(from));
    file
}

fn messages(file: &[u8], check_only: bool) -> Vec<UpgradeRequest> {
    let sha256 = digest(&SHA256, file).as_ref().to_vec();
    let start = Message::Start(UpgradeStart { size: file.len() as u64, sha256, check_only });
    let pieces = file.chunks(PIECE).map(|piece| Message::Data(piece.to_vec().into()));
    let all = std::iter::once(start).chain(pieces);
    all.map(|message| UpgradeRequest { message: Some(message) }).collect()
}

/// Sends messages, and answers what was answered until the stream ended.
async fn send(api: &Api, messages: Vec<UpgradeRequest>) -> Result<Vec<UpgradeResponse>, Status> {
    let sent = api.node.clone().upgrade(tokio_stream::iter(messages)).await?;
    let (mut stream, mut answers) = (sent.into_inner(), Vec::new());
    while let Some(answer) = stream.message().await? {
        answers.push(answer);
    }
    Ok(answers)
}

async fn info(api: &Api) -> InfoResponse {
    soon("info", api.node.clone().info(InfoRequest {})).await.expect("info").into_inner()
}

/// Replaces the daemon, and answers what the one that runs then says.
async fn replace(node: &Node, api: &Api, file: &[u8]) -> InfoResponse {
    let before = info(api).await.daemon_start_time;
    let answers = soon("the upgrade", send(api, messages(file, false))).await.expect("upgrade");
    let phases: Vec<_> = answers.iter().map(UpgradeResponse::phase).collect();
    let all = [UpgradePhase::Received, UpgradePhase::Checked, UpgradePhase::TakingOver];
    assert_eq!(phases, all);
    eventually("another daemon answers", async || {
        let answer = node.try_api().await?.node.info(InfoRequest {}).await.ok()?.into_inner();
        (answer.daemon_start_time != before).then_some(answer)
    })
    .await
}

/// Connects anew again and again, and answers how long it took at most until a daemon answered, and how
/// often it was tried.
async fn knock(node: &Node, over: impl Fn() -> bool) -> (Duration, u32) {
    let (mut longest, mut knocks) = (Duration::ZERO, 0);
    while !over() {
        let began = Instant::now();
        eventually("a daemon answers", async || {
            node.try_api().await?.is_there().await.then_some(())
        })
        .await;
        longest = longest.max(began.elapsed());
        knocks += 1;
        tokio::time::sleep(BETWEEN_KNOCKS).await;
    }
    (longest, knocks)
}

/// Makes, uses and frees a cell, again and again. Calls may end while the daemon is replaced; an exit
/// status that is told is true.
async fn churn(node: &Node, client: u32, over: impl Fn() -> bool) {
    let name = format!("churn-{client}");
    while !over() {
        let Some(api) = node.try_api().await else { continue };
        for code in 0..20 {
            // What fails is tried again the next time.
            let _ = api.try_allocate(Cell { isolate_process: true, ..cell(&name) }).await;
            let executable = format!("exit-{code}");
            let command = format!("echo hello; exit {code}");
            if api.try_start(&name, shell(&executable, &command)).await.is_ok()
                && let Ok(status) = api.try_wait(&name, &executable).await
            {
                let reason = status.exit_status.and_then(|status| status.reason);
                assert_eq!(reason, Some(Reason::Code(code)));
            }
            if let Ok(logs) =
                api.observe.clone().get_executable_logs(logs_of(&name, &executable)).await
            {
                let _ = logs.into_inner().message().await;
            }
            let _ = api.try_stop(&name, &executable).await;
            let _ = api.try_free(&name).await;
        }
    }
}

/// The kept lines of the counter follow upon each other.
async fn check_count(api: &Api) {
    let mut expected = None;
    for entry in api.kept_logs("count", "count").await {
        let line = String::from_utf8_lossy(&entry.data).into_owned();
        let number: u64 = line.trim().parse().expect("a number");
        assert_eq!(number, *expected.get_or_insert(number), "a line is missing");
        expected = Some(number + 1);
    }
    println!("the counter came to {expected:?}, without a gap");
    assert!(expected.is_some());
}

/// A command that counts until SIGUSR1, run by the command line.
fn run_counter(node: &Node) -> JoinHandle<std::io::Result<Output>> {
    let workspace = Workspace::find().expect("the workspace");
    let count = "trap 'exit 7' USR1; i=0; while :; do echo $i; i=$((i+1)); sleep 0.05; done";
    let child = Command::new(workspace.binary())
        .args(["aer", "--config"])
        .arg(node.configuration())
        .args(["run", "--isolate-process", "job", "--", "sh", "-c", count])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("aer");
    tokio::task::spawn_blocking(move || child.wait_with_output())
}

/// The run saw every line once, and the end. Its command was not touched: it has counted on.
async fn check_run(api: &Api, run: JoinHandle<std::io::Result<Output>>) {
    let request = CellServiceSignalRequest {
        cell_name: Some("job".to_owned()),
        executable_name: "main".to_owned(),
        signal: 10,
        tree: false,
    };
    api.cells.clone().signal(request).await.expect("the command is still there");
    let output = soon("the run ends", run).await.expect("its thread").expect("its output");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), said.as_str()), (Some(7), ""));
    let lines = String::from_utf8(output.stdout).expect("numbers");
    let numbers: Vec<u64> = lines.lines().map(|line| line.parse().expect("a number")).collect();
    println!("the run saw {} lines", numbers.len());
    assert!(!numbers.is_empty() && (0..numbers.len() as u64).eq(numbers));
}

/// Upgrades again and again. Nothing that the node runs notices, and no exit status is lost.
async fn upgrade_again_and_again(node: &Node, counter: i32, own: i32) {
    let file = own_file();
    for round in 0..times("AURAE_UPGRADES", UPGRADES) {
        let api = node.api().await;
        // They end while the daemon is replaced, or just before or after.
        let (brief, code) = (format!("brief-{round}"), 30 + i32::try_from(round).unwrap_or(0));
        api.start("count", &brief, &format!("sleep 1; exit {code}")).await;
        api.start("", &brief, &format!("sleep 2; exit {code}")).await;
        let began = Instant::now();
        let after = replace(node, &api, &file).await;
        println!("round {round}: {:.1} s", began.elapsed().as_secs_f64());
        let outcome = after.last_upgrade.expect("it tells of the upgrade");
        assert_eq!(outcome.rolled_back, "", "round {round}");
        assert!(after.degraded.is_empty(), "{:?}", after.degraded);
        let api = node.api().await;
        for (cell, pid) in [("count", counter), ("", own)] {
            let executables = api.inspect(cell).await.executables;
            assert!(executables.iter().any(|known| known.pid == pid), "{cell}: {executables:?}");
            let status = api.wait(cell, &brief).await.exit_status;
            let reason = status.and_then(|status| status.reason);
            assert_eq!(reason, Some(Reason::Code(code)), "round {round} in {cell:?}");
        }
    }
}

/// The addresses of each network interface.
async fn addresses(api: &Api) -> Vec<Vec<String>> {
    info(api).await.interfaces.into_iter().map(|interface| interface.addresses).collect()
}

#[tokio::test]
async fn a_node_under_load_is_upgraded_ten_times_and_no_workload_notices() {
    let node = Node::boot_with("upgrade", |options| options.memory_mib = MEMORY_MIB).await;
    let api = node.api().await;
    api.allocate(Cell { isolate_process: true, ..cell("count") }).await;
    let count = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.05; done";
    let counter = api.start("count", "count", count).await.pid;
    let own = api.start("", "own", "exec sleep 100000").await.pid;
    let before = addresses(&api).await;
    let run = run_counter(&node);
    eventually("the run has begun", async || {
        let job = CellServiceInspectRequest { cell_name: Some("job".to_owned()) };
        let job = api.cells.clone().inspect(job).await.ok()?.into_inner();
        (!job.executables.is_empty()).then_some(())
    })
    .await;

    let over = std::cell::Cell::new(false);
    let upgraded = async {
        upgrade_again_and_again(&node, counter, own).await;
        over.set(true);
    };
    let ((), (longest, knocks), (), ()) = tokio::join!(
        upgraded,
        knock(&node, || over.get()),
        churn(&node, 0, || over.get()),
        churn(&node, 1, || over.get()),
    );
    println!("{knocks} new connections, the slowest answered after {longest:?}");
    let api = node.api().await;
    check_count(&api).await;
    check_run(&api, run).await;
    // An address may have come since.
    for (before, after) in before.iter().zip(addresses(&api).await) {
        assert!(before.iter().all(|address| after.contains(address)), "{before:?}, {after:?}");
    }
    assert!(longest < LONGEST_WAIT, "a new connection waited for {longest:?}");
}

#[tokio::test]
async fn a_daemon_that_does_not_get_ready_gives_back_to_the_one_before() {
    let node = Node::boot("upgrade-back").await;
    let api = node.api().await;
    api.allocate(cell("web")).await;
    let pid = api.start("web", "it", "exec sleep 100000").await.pid;
    // Its daemon may do less than others: the next one above has to find it all the same.
    let users = Some(UserNamespace::default());
    api.allocate(Cell { isolate_process: true, user_namespace: users, ..cell("users") }).await;
    let of_users = api.start("users", "it", "exec sleep 100000").await.pid;
    let mut stream = api.observe.clone();
    let mut follow = logs_of("web", "it");
    follow.follow = true;
    let mut followed = stream.get_executable_logs(follow).await.expect("logs").into_inner();

    // It rehearses well, and does not find its cgroup.
    let broken = patched(own_file(), b"/proc/self/mountinfo", b"/proc/self/mountedto");
    let after = replace(&node, &api, &broken).await;
    let outcome = after.last_upgrade.expect("it tells of the upgrade");
    assert!(outcome.rolled_back.contains("mountedto"), "{outcome:?}");
    let ended = soon("the stream ends", followed.message()).await.expect_err("a status");
    assert_eq!(ended.code(), Code::Unavailable);
    assert!(ended.message().contains("being replaced"), "{ended}");
    let api = node.api().await;
    assert_eq!(api.inspect("web").await.executables[0].pid, pid);

    let after = replace(&node, &api, &own_file()).await;
    assert_eq!(after.last_upgrade.expect("it tells").rolled_back, "");
    let api = node.api().await;
    assert_eq!(api.inspect("web").await.executables[0].pid, pid);
    assert_eq!(api.inspect("users").await.executables[0].pid, of_users);
    assert_eq!(api.run("users", "id -u").await.success(), "0\n");
    api.free("web").await;
    api.free("users").await;
}

#[tokio::test]
async fn a_file_that_is_no_daemon_for_this_node_is_refused_and_nothing_stops() {
    let node = Node::shared().await;
    let api = node.api().await;
    let before = info(&api).await.daemon_start_time;
    let file = own_file();
    let refused = async |file: &[u8], code: Code, what: &str| {
        let sent = soon("the refusal", send(&api, messages(file, true))).await;
        let status = sent.expect_err(what);
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(what), "{status}");
    };
    refused(&file[..file.len() / 2], Code::FailedPrecondition, "it is truncated").await;
    let mut foreign = file.clone();
    foreign[18] = 183;
    refused(&foreign, Code::FailedPrecondition, "another architecture").await;
    refused(b"#!/bin/sh\nexit 0\n", Code::FailedPrecondition, "not an ELF file").await;
    let other = std::fs::read(std::env::current_exe().expect("this program")).expect("it is there");
    refused(&other, Code::FailedPrecondition, "the file").await;

    let mut wrong = messages(&file, true);
    wrong.pop();
    let status = send(&api, wrong).await.expect_err("a piece is missing");
    assert_eq!(status.code(), Code::DataLoss, "{status}");
    let answers = soon("the check", send(&api, messages(&file, true))).await.expect("it is good");
    assert_eq!(answers.last().map(UpgradeResponse::phase), Some(UpgradePhase::Checked));
    let after = info(&api).await;
    assert_eq!(after.daemon_start_time, before);
    assert_eq!(after.last_upgrade, None);
}
