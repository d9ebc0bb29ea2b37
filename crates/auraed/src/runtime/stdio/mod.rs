//! A process's first three descriptors, and our ends of them.
//!
//! ```text
//!              pipes                              a terminal
//! input   [feeder] ── pipe ──▶ 0             [feeder] ──▶ ┐
//! output  [Source] ◀── pipe ── 1             [Source] ◀── ┤ pty ── 0, 1, 2
//!         [Source] ◀── pipe ── 2                          ┘
//! ```
//!
//! Input waits in a queue of [`INPUT_QUEUE`] messages for a task of its own, the feeder, so that a
//! process that does not read keeps nobody waiting but whoever writes to it. A process without input
//! has no feeder.

mod controls;
mod feeder;
mod source;

pub use controls::{Controls, Input};
pub(super) use source::{READ_CHUNK, Source};

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use aurae_kernel::terminal::Terminal;
use aurae_kernel::{Errno, Error, Result, readiness};
use aurae_model::TerminalSize;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Gid, Pid, Uid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::reaper::Reaper;

/// Messages to a process's input that wait to be written, of at most 1 MiB each; the sender of one
/// more waits.
const INPUT_QUEUE: usize = 1;

/// A descriptor that is shared by those who read it, write it and resize it.
type Shared = Arc<AsyncFd<OwnedFd>>;

/// What a process's first three descriptors shall be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// An input; otherwise `/dev/null`.
    pub(super) stdin: bool,
    /// A terminal, which is input and output.
    pub(super) terminal: Option<TerminalSize>,
    /// Whom they belong to: a program may want to open `/dev/stdout` or its terminal once more.
    pub(super) uid: Option<u32>,
    /// As `uid`.
    pub(super) gid: Option<u32>,
}

/// Our ends.
#[derive(Debug)]
pub(super) struct Stdio {
    pub(super) stdout: Source,
    pub(super) stderr: Source,
    input: Option<mpsc::Sender<feeder::Message>>,
    terminal: Option<Shared>,
    /// Ends with the process: whoever holds its queue then writes to nobody.
    pub(super) feeder: JoinSet<()>,
}

/// The process's ends; to be closed once it was started.
#[derive(Debug)]
pub(super) enum ProcessEnds {
    Terminal(OwnedFd),
    Apart { input: OwnedFd, output: OwnedFd, error: OwnedFd },
}

impl ProcessEnds {
    /// Standard input, output and error.
    pub(super) fn descriptors(&self) -> [BorrowedFd<'_>; 3] {
        match self {
            Self::Terminal(terminal) => [terminal.as_fd(); 3],
            Self::Apart { input, output, error } => [input.as_fd(), output.as_fd(), error.as_fd()],
        }
    }
}

impl Stdio {
    /// Makes both ends. Must be called on a runtime.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn open(wanted: Wanted) -> Result<(Self, ProcessEnds)> {
        match wanted.terminal {
            Some(size) => Self::open_terminal(size, wanted),
            None => Self::open_pipes(wanted),
        }
    }

    fn open_terminal(size: TerminalSize, wanted: Wanted) -> Result<(Self, ProcessEnds)> {
        let Terminal { ours, theirs } = Terminal::open(size.rows(), size.columns())?;
        give(&theirs, wanted)?;
        let ours: Shared = register(ours, Interest::READABLE | Interest::WRITABLE)?;
        let (input, queue) = mpsc::channel(INPUT_QUEUE);
        let mut feeder = JoinSet::new();
        feeder.spawn(feeder::feed_terminal(Arc::clone(&ours), queue));
        let stdio = Self {
            stdout: Source::new(Arc::clone(&ours)),
            stderr: Source::closed(),
            input: Some(input),
            terminal: Some(ours),
            feeder,
        };
        Ok((stdio, ProcessEnds::Terminal(theirs)))
    }

    fn open_pipes(wanted: Wanted) -> Result<(Self, ProcessEnds)> {
        let (stdout, output) = Self::output_pipe(wanted)?;
        let (stderr, error) = Self::output_pipe(wanted)?;
        let mut feeder = JoinSet::new();
        let (input, input_end) = if wanted.stdin {
            let (reader, writer) = pipe()?;
            give(&reader, wanted)?;
            unblock(&writer)?;
            let (input, queue) = mpsc::channel(INPUT_QUEUE);
            feeder.spawn(feeder::feed_pipe(register(writer, Interest::WRITABLE)?, queue));
            (Some(input), reader)
        } else {
            let null = std::fs::File::open("/dev/null");
            (None, null.map_err(|error| Error::from_io("open /dev/null", &error))?.into())
        };
        let ends = ProcessEnds::Apart { input: input_end, output, error };
        Ok((Self { stdout, stderr, input, terminal: None, feeder }, ends))
    }

    fn output_pipe(wanted: Wanted) -> Result<(Source, OwnedFd)> {
        let (reader, writer) = pipe()?;
        give(&writer, wanted)?;
        unblock(&reader)?;
        Ok((Source::new(register(reader, Interest::READABLE)?), writer))
    }

    /// What can be done to the process from outside, once it was started as `pid`.
    pub(super) fn controls(&self, reaper: Reaper, pid: Pid) -> Controls {
        Controls { input: self.input.clone(), terminal: self.terminal.clone(), reaper, pid }
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    pipe_with(PipeFlags::CLOEXEC).map_err(|errno| Error::new("make a pipe", errno))
}

fn unblock(end: &OwnedFd) -> Result<()> {
    rustix::io::ioctl_fionbio(end, true)
        .map_err(|errno| Error::new("make a pipe non-blocking", errno))
}

fn give(end: &OwnedFd, wanted: Wanted) -> Result<()> {
    let (uid, gid) = (wanted.uid.map(Uid::from_raw), wanted.gid.map(Gid::from_raw));
    if uid.is_none() && gid.is_none() {
        return Ok(());
    }
    rustix::fs::fchown(end, uid, gid).map_err(|errno| match errno {
        Errno::INVAL => {
            let (uid, gid) = (number(wanted.uid), number(wanted.gid));
            let whom = format!("uid {uid}, gid {gid}");
            let what = "give a pipe to whom the user namespace does not have";
            Error::new(format!("{what} ({whom})"), errno)
        }
        errno => Error::new("set the owner of a pipe", errno),
    })
}

fn number(id: Option<u32>) -> String {
    id.map_or_else(|| "unchanged".to_owned(), |id| id.to_string())
}

fn register(descriptor: OwnedFd, interest: Interest) -> Result<Shared> {
    let registered = readiness::register(descriptor, interest);
    Ok(Arc::new(registered.map_err(|error| Error::from_io("poll a pipe", &error))?))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn open(stdin: bool, terminal: bool) -> (Stdio, ProcessEnds, Controls) {
        let terminal = terminal.then(|| TerminalSize::parse(24, 80, "terminal").unwrap());
        let wanted = Wanted { stdin, terminal, uid: None, gid: None };
        let (stdio, ends) = Stdio::open(wanted).unwrap();
        let controls = stdio.controls(Reaper::default(), rustix::process::getpid());
        (stdio, ends, controls)
    }

    /// Reads as a process does, which blocks.
    async fn read(end: BorrowedFd<'_>) -> Vec<u8> {
        let end = end.try_clone_to_owned().unwrap();
        let reading = tokio::task::spawn_blocking(move || {
            let mut chunk = [0; 64];
            let count = rustix::io::read(end, &mut chunk).unwrap();
            chunk[..count].to_vec()
        });
        reading.await.unwrap()
    }

    #[tokio::test]
    async fn the_end_of_the_input_is_the_end_of_the_pipe() {
        let (_stdio, ends, controls) = open(true, false);
        let [input, ..] = ends.descriptors();
        controls.apply(Input::Bytes(Bytes::from_static(b"typed"))).await.unwrap();
        assert_eq!(read(input).await, b"typed");
        controls.apply(Input::End).await.unwrap();
        assert_eq!(read(input).await, b"");
        // Nobody takes it any more.
        controls.apply(Input::Bytes(Bytes::from_static(b"late"))).await.unwrap();
    }

    #[tokio::test]
    async fn the_end_of_the_input_is_typed_at_a_terminal() {
        let (_stdio, ends, controls) = open(false, true);
        let [input, ..] = ends.descriptors();
        controls.apply(Input::Bytes(Bytes::from_static(b"half"))).await.unwrap();
        controls.apply(Input::End).await.unwrap();
        assert_eq!(read(input).await, b"half");
        assert_eq!(read(input).await, b"");
    }

    #[tokio::test]
    async fn what_was_written_before_the_end_is_read() {
        for terminal in [false, true] {
            let (stdio, ends, controls) = open(false, terminal);
            rustix::io::write(ends.descriptors()[1], b"last words").unwrap();
            drop((ends, controls));
            let mut chunk = [0; 64];
            stdio.stdout.readable().await.unwrap();
            assert_eq!(stdio.stdout.try_read(&mut chunk).unwrap(), 10, "{terminal}");
            assert_eq!(stdio.stdout.read_now(&mut chunk).unwrap(), 0, "{terminal}");
        }
    }
}
