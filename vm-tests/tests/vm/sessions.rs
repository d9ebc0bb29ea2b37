//! Commands that are run in a cell while somebody waits for them, and executables that somebody is
//! attached to.

use aurae_client::ZonePath;
use aurae_proto::cells::cell_service_attach_request::Message as ToExecutable;
use aurae_proto::cells::cell_service_attach_response::Message as FromExecutable;
use aurae_proto::cells::cell_service_client::CellServiceClient;
use aurae_proto::cells::cell_service_exec_request::Message as ToCommand;
use aurae_proto::cells::cell_service_exec_response::Message as FromCommand;
use aurae_proto::cells::exit_status::Reason;
use aurae_proto::cells::{
    AttachStart, Cell, CellServiceAttachRequest, CellServiceAttachResponse, CellServiceExecRequest,
    CellServiceExecResponse, ExecStart, Executable, MemoryController, StdinEnd, TerminalSize,
};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use vm_tests::{Api, Node, cell, eventually, shell, soon};

/// A command that runs.
struct Exec {
    to: mpsc::Sender<ToCommand>,
    from: Streaming<CellServiceExecResponse>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

fn cells(api: &Api, cell: &str) -> CellServiceClient<aurae_client::Channel> {
    let zone = ZonePath::parse_short(cell).expect("a cell's name");
    CellServiceClient::new(api.client.in_zone(&zone).channel())
}

impl Exec {
    async fn start(api: &Api, cell: &str, start: ExecStart) -> Result<Self, Status> {
        let (to, messages) = mpsc::channel(4);
        let messages = tokio_stream::once(ToCommand::Start(start))
            .chain(ReceiverStream::new(messages))
            .map(|message| CellServiceExecRequest { message: Some(message) });
        let answer = soon("exec", cells(api, cell).exec(messages)).await?;
        let mut exec = Self { to, from: answer.into_inner(), stdout: vec![], stderr: vec![] };
        assert!(matches!(exec.next().await, Some(FromCommand::Started(_))));
        Ok(exec)
    }

    async fn say(&self, message: ToCommand) {
        soon("say", self.to.send(message)).await.expect("somebody listens");
    }

    async fn next(&mut self) -> Option<FromCommand> {
        let answer = soon("an answer", self.from.message()).await.expect("it goes on");
        let message = answer?.message;
        match &message {
            Some(FromCommand::Stdout(bytes)) => self.stdout.extend(bytes),
            Some(FromCommand::Stderr(bytes)) => self.stderr.extend(bytes),
            _ => {}
        }
        message
    }

    /// Reads until standard output has this text.
    async fn expect(&mut self, text: &str) {
        while !String::from_utf8_lossy(&self.stdout).contains(text) {
            let next = self.next().await;
            assert!(
                matches!(next, Some(FromCommand::Stdout(_) | FromCommand::Stderr(_))),
                "{next:?} after {:?}",
                String::from_utf8_lossy(&self.stdout)
            );
        }
        self.stdout.clear();
    }

    async fn end(&mut self) -> Reason {
        loop {
            match self.next().await.expect("a status comes last") {
                FromCommand::ExitStatus(status) => return status.reason.expect("a reason"),
                _ => continue,
            }
        }
    }
}

fn command(script: &str) -> ExecStart {
    ExecStart { args: ["sh", "-c", script].map(str::to_owned).into(), ..ExecStart::default() }
}

fn size(rows: u32, columns: u32) -> TerminalSize {
    TerminalSize { rows, columns }
}

fn stdin(text: &str) -> ToCommand {
    ToCommand::Stdin(Bytes::copy_from_slice(text.as_bytes()))
}

#[tokio::test]
async fn a_command_runs_in_the_namespaces_of_the_cell_and_tells_its_end_last() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(Cell { isolate_process: true, ..cell("exec-in") }).await;
    let script = "hostname; cat /proc/self/cgroup; echo bad >&2; exit 3";
    let mut exec = Exec::start(&api, "exec-in", command(script)).await.unwrap();
    assert_eq!(exec.end().await, Reason::Code(3));
    let stdout = String::from_utf8_lossy(&exec.stdout).into_owned();
    assert!(stdout.starts_with("exec-in\n"), "{stdout}");
    assert!(stdout.contains("/_run."), "{stdout}");
    assert_eq!(exec.stderr, b"bad\n");
    api.free("exec-in").await;
}

#[tokio::test]
async fn a_filter_ends_with_its_input_and_no_byte_is_lost() {
    let node = Node::shared().await;
    let api = node.api().await;
    let memory = MemoryController { max: Some(16 << 20), ..MemoryController::default() };
    api.allocate(Cell { memory: Some(memory), ..cell("exec-filter") }).await;
    let start = ExecStart { stdin: true, ..command("cat; echo end >&2") };
    let mut exec = Exec::start(&api, "exec-filter", start).await.unwrap();
    let to = exec.to.clone();
    let sending = tokio::spawn(async move {
        for _ in 0..40 {
            let bytes = Bytes::from(vec![b'x'; 1 << 20]);
            to.send(ToCommand::Stdin(bytes)).await.expect("it is read");
        }
        to.send(ToCommand::StdinEnd(StdinEnd {})).await.expect("it is read");
    });
    let (mut count, mut ended) = (0, None);
    while ended.is_none() {
        match exec.next().await.expect("a status comes last") {
            FromCommand::ExitStatus(status) => ended = status.reason,
            _ => count += std::mem::take(&mut exec.stdout).len(),
        }
    }
    sending.await.unwrap();
    assert_eq!((ended, count), (Some(Reason::Code(0)), 40 << 20));
    assert_eq!(exec.stderr, b"end\n");
    api.free("exec-filter").await;
}

#[tokio::test]
async fn a_terminal_has_a_size_and_its_keys_are_signals() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(cell("exec-tty")).await;
    let start = ExecStart { terminal: Some(size(33, 77)), ..command("exec sh -i") };
    let mut exec = Exec::start(&api, "exec-tty", start).await.unwrap();
    exec.say(stdin("stty size; echo $TERM\r")).await;
    exec.expect("33 77").await;
    exec.expect("xterm").await;
    exec.say(ToCommand::Resize(size(11, 22))).await;
    exec.say(stdin("stty size\r")).await;
    exec.expect("11 22").await;
    // Of a program that has the terminal already: the shell itself would go on.
    exec.say(stdin("sh -c 'echo be\"\"gun; exec sleep 999'\r")).await;
    exec.expect("begun").await;
    exec.say(stdin("\x03")).await;
    exec.say(stdin("echo in''terrupted $?\r")).await;
    exec.expect("interrupted 130").await;
    exec.say(stdin("exit 7\r")).await;
    assert_eq!(exec.end().await, Reason::Code(7));
    api.free("exec-tty").await;
}

#[tokio::test]
async fn a_terminal_is_seen_in_its_own_isolated_cell_alone() {
    let node = Node::shared().await;
    let api = node.api().await;
    let isolated = |name| Cell { isolate_process: true, ..cell(name) };
    api.allocate(isolated("exec-typing")).await;
    api.allocate(isolated("exec-spying")).await;
    let start = ExecStart { terminal: Some(size(24, 80)), ..command("tty; exec sh -i") };
    let mut typing = Exec::start(&api, "exec-typing", start).await.unwrap();
    typing.expect("/dev/pts/0").await;
    assert_eq!(api.run("exec-spying", "ls /dev/pts").await.success().trim(), "ptmx");
    typing.say(stdin("exit\r")).await;
    assert_eq!(typing.end().await, Reason::Code(0));
    api.free("exec-spying").await;
    api.free("exec-typing").await;
}

#[tokio::test]
async fn nothing_of_a_command_is_left_when_its_caller_goes() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(cell("exec-gone")).await;
    let script = "setsid sleep 7531 & echo ready; sleep 7531";
    let mut exec = Exec::start(&api, "exec-gone", command(script)).await.unwrap();
    exec.expect("ready").await;
    drop(exec);
    let path = api.inspect("exec-gone").await.cgroup_path;
    let left = format!("ls -d /sys/fs/cgroup{path}/_run.* 2>/dev/null; ps | grep '[s]leep 7531'");
    eventually("it is gone", async || {
        api.on_node(&format!("{left}; true")).await.is_empty().then_some(())
    })
    .await;
    api.free("exec-gone").await;
}

#[tokio::test]
async fn what_a_command_leaves_behind_does_not_keep_its_end_waiting() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(cell("exec-rest")).await;
    let script = "setsid sleep 8642 & head -c 60000 /dev/zero";
    let mut exec = Exec::start(&api, "exec-rest", command(script)).await.unwrap();
    assert_eq!(exec.end().await, Reason::Code(0));
    assert_eq!(exec.stdout.len(), 60000);
    assert_eq!(api.on_node("ps | grep -c '[s]leep 8642' || true").await, "0");
    api.free("exec-rest").await;
}

#[tokio::test]
async fn a_command_that_cannot_be_run_says_why() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(cell("exec-bad")).await;
    let refusal = async |cell: &str, start| match Exec::start(&api, cell, start).await {
        Ok(_) => Code::Ok,
        Err(status) => status.code(),
    };
    let program = |name: &str| ExecStart { args: vec![name.to_owned()], ..ExecStart::default() };
    assert_eq!(refusal("exec-bad", program("no-such-program")).await, Code::NotFound);
    assert_eq!(refusal("exec-bad", program("/proc/version")).await, Code::PermissionDenied);
    assert_eq!(refusal("exec-bad", ExecStart::default()).await, Code::FailedPrecondition);
    let zero = ExecStart { terminal: Some(size(0, 80)), ..command("true") };
    assert_eq!(refusal("exec-bad", zero).await, Code::FailedPrecondition);
    assert_eq!(refusal("exec-none", program("true")).await, Code::NotFound);
    // A message that must not come ends the call, and the command with it.
    let mut exec = Exec::start(&api, "exec-bad", command("sleep 999")).await.unwrap();
    exec.say(ToCommand::Resize(size(24, 80))).await;
    let refused = soon("the refusal", exec.from.message()).await.expect_err("it is refused");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().starts_with("Field = resize; "), "{refused}");
    api.free("exec-bad").await;
}

/// An attachment.
struct Attached {
    to: mpsc::Sender<ToExecutable>,
    from: Streaming<CellServiceAttachResponse>,
    shown: Vec<u8>,
}

impl Attached {
    async fn start(api: &Api, cell: &str, name: &str) -> Result<Self, Status> {
        let (to, messages) = mpsc::channel(4);
        let start = AttachStart { executable_name: name.to_owned() };
        let messages = tokio_stream::once(ToExecutable::Start(start))
            .chain(ReceiverStream::new(messages))
            .map(|message| CellServiceAttachRequest { message: Some(message) });
        let answer = soon("attach", cells(api, cell).attach(messages)).await?;
        let mut attached = Self { to, from: answer.into_inner(), shown: vec![] };
        let first = attached.next().await;
        assert!(matches!(first, Some(FromExecutable::Attached(_))), "{first:?}");
        Ok(attached)
    }

    async fn type_in(&self, text: &str) {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        soon("type", self.to.send(ToExecutable::Stdin(bytes))).await.expect("it listens");
    }

    async fn next(&mut self) -> Option<FromExecutable> {
        soon("an answer", self.from.message()).await.expect("it goes on")?.message
    }

    async fn expect(&mut self, text: &str) {
        while !String::from_utf8_lossy(&self.shown).contains(text) {
            let next = self.next().await;
            let Some(FromExecutable::Stdout(bytes)) = &next else {
                unreachable!("{next:?} before {text}")
            };
            self.shown.extend(bytes);
        }
        self.shown.clear();
    }
}

#[tokio::test]
async fn those_who_are_attached_share_a_terminal_that_goes_on_without_them() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(Cell { isolate_process: true, ..cell("attach") }).await;
    let terminal = Some(size(24, 80));
    let executable = Executable { terminal, ..shell("shell", "exec sh -i") };
    api.try_start("attach", executable).await.unwrap();
    let mut one = Attached::start(&api, "attach", "shell").await.unwrap();
    let mut two = Attached::start(&api, "attach", "shell").await.unwrap();
    one.type_in("echo to $((40 + 2))\r").await;
    one.expect("to 42").await;
    two.expect("to 42").await;
    drop(one);
    two.type_in("echo still $((40 + 3)); exit 5\r").await;
    two.expect("still 43").await;
    let status = loop {
        match two.next().await {
            Some(FromExecutable::ExitStatus(status)) => break status,
            Some(FromExecutable::Stdout(_)) => {}
            other => panic!("{other:?} instead of its end"),
        }
    };
    assert_eq!(status.reason, Some(Reason::Code(5)));
    let entries = api.logs("attach", "shell").await;
    let log = String::from_utf8_lossy(&vm_tests::written(
        &entries,
        aurae_proto::observe::LogChannelType::Stdout,
    ))
    .into_owned();
    assert!(log.contains("to 42") && log.contains("still 43"), "{log}");
    let refused = Attached::start(&api, "attach", "shell").await.err().expect("it has ended");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    api.free("attach").await;
}

#[tokio::test]
async fn the_input_of_an_executable_waits_for_somebody() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(cell("attach-in")).await;
    api.try_start("attach-in", Executable { stdin: true, ..shell("sum", "wc -c") }).await.unwrap();
    let first = Attached::start(&api, "attach-in", "sum").await.unwrap();
    first.type_in("four").await;
    // The end of the request stream is not the end of the input.
    let Attached { to, mut from, .. } = first;
    drop(to);
    let mut second = Attached::start(&api, "attach-in", "sum").await.unwrap();
    second.type_in("more").await;
    second.to.send(ToExecutable::StdinEnd(StdinEnd {})).await.unwrap();
    second.expect("8\n").await;
    while let Some(answer) = soon("the end", from.message()).await.unwrap() {
        drop(answer);
    }
    api.start("attach-in", "deaf", "sleep 999").await;
    let refused = Attached::start(&api, "attach-in", "deaf").await.err().expect("it has no input");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    api.free("attach-in").await;
}

#[tokio::test]
async fn a_command_runs_on_the_node_itself() {
    let node = Node::shared().await;
    let api = node.api().await;
    let messages = tokio_stream::once(CellServiceExecRequest {
        message: Some(ToCommand::Start(command("echo here; exit 2"))),
    });
    let answer = soon("exec", api.cells.clone().exec(messages)).await.unwrap();
    let (mut from, mut told) = (answer.into_inner(), Vec::new());
    while let Some(answer) = soon("an answer", from.message()).await.unwrap() {
        told.extend(answer.message);
    }
    assert!(matches!(told.first(), Some(FromCommand::Started(_))), "{told:?}");
    assert!(told.contains(&FromCommand::Stdout(Bytes::from_static(b"here\n"))), "{told:?}");
    let Some(FromCommand::ExitStatus(status)) = told.last() else { panic!("{told:?}") };
    assert_eq!(status.reason, Some(Reason::Code(2)));
}
