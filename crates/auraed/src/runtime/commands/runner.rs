//! The task that owns one command until it has ended.

use std::future::pending;
use std::time::SystemTime;

use aurae_kernel::process::Exit;
use bytes::Bytes;
use rustix::process::Signal;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

use crate::runtime::executables::{Leaf, Outcome};
use crate::runtime::reaper::ExitReceiver;
use crate::runtime::stdio::{READ_CHUNK, Source, Stdio};

/// Pieces of output that wait for the caller, of at most [`READ_CHUNK`] bytes each.
pub(super) const OUTPUT_QUEUE: usize = 4;

/// Taken from an output when the command's tree is gone, at most: somebody outside the tree may hold
/// the other end, and go on writing. A pipe holds no more (pipe(7), F_SETPIPE_SZ).
const MAX_REST: usize = 1 << 20;

/// What a command tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// What it wrote to its standard output, or to its terminal.
    Stdout(Bytes),
    /// What it wrote to its standard error.
    Stderr(Bytes),
    /// How it ended; nothing comes after it.
    Ended(Outcome),
}

/// All that belongs to a command that has not ended.
#[derive(Debug)]
pub(super) struct Runner {
    pub(super) leaf: Leaf,
    pub(super) exit: ExitReceiver,
    pub(super) stdio: Stdio,
    pub(super) outputs: mpsc::Sender<Output>,
    pub(super) closing: watch::Receiver<bool>,
    /// Kept for as long as the command takes up room.
    pub(super) slot: OwnedSemaphorePermit,
}

impl Runner {
    /// Runs until no process of the tree is left, and all of its output was taken.
    pub(super) async fn run(mut self) {
        let mut stdout = Pump::new(&self.stdio.stdout, Output::Stdout);
        let mut stderr = Pump::new(&self.stdio.stderr, Output::Stderr);
        let exit = loop {
            tokio::select! {
                exit = &mut self.exit => break Some(exit),
                () = self.outputs.closed() => break None,
                _ = self.closing.wait_for(|closing| *closing) => break None,
                () = stdout.pump(&self.outputs) => {}
                () = stderr.pump(&self.outputs) => {}
            }
        };
        // What the command started has nobody to work for any more.
        if let Err(error) = self.leaf.watched.kill(&self.leaf.cgroup).await {
            tracing::error!(error = %crate::reply::text(&error), "a command was not killed");
        }
        let exit = match exit {
            Some(exit) => exit,
            None => self.exit.await,
        };
        // An unknown end can only mean that this daemon no longer reaps.
        let exit = exit.unwrap_or(Exit::Signal(Signal::KILL.as_raw()));
        let oom_killed = self.leaf.oom_killed();
        let outcome = Outcome { exit, oom_killed, ended: SystemTime::now() };
        drop(self.leaf);
        self.stdio.feeder.abort_all();

        let mut caller = Caller { outputs: self.outputs, closing: self.closing };
        stdout.finish(&mut caller).await;
        stderr.finish(&mut caller).await;
        caller.tell(Output::Ended(outcome)).await;
        drop(self.slot);
    }
}

/// Moves bytes from an output to the caller.
struct Pump<'a> {
    source: &'a Source,
    output: fn(Bytes) -> Output,
    open: bool,
}

impl<'a> Pump<'a> {
    fn new(source: &'a Source, output: fn(Bytes) -> Output) -> Self {
        Self { source, output, open: true }
    }

    /// Takes what is there, once something is and the caller has room; never answers once the output
    /// has ended, or the caller has gone.
    async fn pump(&mut self, outputs: &mpsc::Sender<Output>) {
        if !self.open {
            return pending().await;
        }
        let Ok(room) = outputs.reserve().await else { return pending().await };
        if self.source.readable().await.is_err() {
            return pending().await;
        }
        self.take(room);
    }

    /// Reads once.
    fn take(&mut self, room: mpsc::Permit<'_, Output>) {
        let mut chunk = [0; READ_CHUNK];
        match self.source.try_read(&mut chunk) {
            Ok(0) => self.open = false,
            Ok(count) => room.send((self.output)(piece(&chunk, count))),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => {
                tracing::warn!(%error, "a command's output cannot be read any more");
                self.open = false;
            }
        }
    }

    /// Takes the rest of an output that nobody of the tree writes to any more.
    async fn finish(&mut self, caller: &mut Caller) {
        let mut rest = 0;
        while self.open && rest < MAX_REST {
            let Some(bytes) = self.read_now() else { return };
            rest += bytes.len();
            self.open = caller.tell((self.output)(bytes)).await;
        }
    }

    fn read_now(&self) -> Option<Bytes> {
        let mut chunk = [0; READ_CHUNK];
        match self.source.read_now(&mut chunk) {
            Ok(count @ 1..) => Some(piece(&chunk, count)),
            Ok(0) | Err(_) => None,
        }
    }
}

fn piece(chunk: &[u8], count: usize) -> Bytes {
    Bytes::copy_from_slice(chunk.get(..count).unwrap_or_default())
}

/// Who waits for the command.
struct Caller {
    outputs: mpsc::Sender<Output>,
    closing: watch::Receiver<bool>,
}

impl Caller {
    /// Answers whether it was told. When the zone ends, a caller that is not reading is not.
    async fn tell(&mut self, output: Output) -> bool {
        tokio::select! {
            biased;
            sent = self.outputs.send(output) => sent.is_ok(),
            _ = self.closing.wait_for(|closing| *closing) => false,
        }
    }
}
