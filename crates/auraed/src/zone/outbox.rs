//! What is said on a line whose other end may be behind: it waits here, and nothing of it is lost.

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aurae_kernel::seqpacket::Line;
use aurae_kernel::{Errno, Error, Result, readiness};
use rustix::process::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::reply::text;

/// So many messages may wait: as many as there can be processes that wait for their numbers, and room.
/// One more is refused.
const MAX_DUE: usize = 8192;

/// A line to send on.
pub trait Outlet: Send + Sync {
    /// The line.
    fn line(&self) -> &Line;
}

impl Outlet for Line {
    fn line(&self) -> &Line {
        self
    }
}

impl Outlet for AsyncFd<Line> {
    fn line(&self) -> &Line {
        self.get_ref()
    }
}

/// What waits to be sent on a line, in its order. Clones share it.
#[derive(Clone)]
pub struct Outbox {
    shared: Arc<Shared>,
}

struct Shared {
    outlet: Arc<dyn Outlet>,
    /// Told of a process that has ended before its message could be sent.
    ended: Box<dyn Fn(Pid) + Send + Sync>,
    due: Mutex<VecDeque<Due>>,
}

struct Due {
    bytes: Vec<u8>,
    process: Option<Pid>,
}

impl fmt::Debug for Outbox {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Outbox").field("due", &self.lock().len()).finish()
    }
}

impl Outbox {
    /// Nothing waits yet. `ended` is told of a process that ended while its message waited.
    pub fn new(outlet: Arc<dyn Outlet>, ended: impl Fn(Pid) + Send + Sync + 'static) -> Self {
        let due = Mutex::default();
        Self { shared: Arc::new(Shared { outlet, ended: Box::new(ended), due }) }
    }

    /// Sends a message, which may name a process, at once or as soon as the other end takes it. Must be
    /// called on a runtime.
    ///
    /// # Errors
    /// `ESRCH` when the process has ended, `EPIPE` when the other end is gone, `EAGAIN` when too many
    /// messages wait, or what else the kernel says.
    pub fn send(&self, bytes: Vec<u8>, process: Option<Pid>) -> Result<()> {
        let mut due = self.lock();
        if due.is_empty() {
            match self.shared.outlet.line().send(&bytes, process) {
                Err(error) if error.errno == Errno::AGAIN => drop(tokio::spawn(self.clone().run())),
                sent => return sent,
            }
        } else if due.len() >= MAX_DUE {
            return Err(Error::new("send a message to a zone's other end", Errno::AGAIN));
        }
        due.push_back(Due { bytes, process });
        Ok(())
    }

    /// Sends what waits, until nothing does or the other end is gone.
    async fn run(self) {
        if let Err(error) = self.send_due().await {
            tracing::debug!(error = text(&error), "a line ended before all was said");
            self.lock().clear();
        }
    }

    async fn send_due(&self) -> Result<()> {
        let failed = |error: std::io::Error| Error::from_io("poll a zone's line", &error);
        let copy = self.shared.outlet.line().as_fd().try_clone_to_owned().map_err(failed)?;
        let copy = readiness::register(Line::from_socket(copy), Interest::WRITABLE);
        let copy = copy.map_err(failed)?;
        loop {
            let mut writable = copy.writable().await.map_err(failed)?;
            match self.send_next() {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) if error.errno == Errno::AGAIN => writable.clear_ready(),
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends the next message; answers whether there was one.
    fn send_next(&self) -> Result<bool> {
        let mut due = self.lock();
        let Some(next) = due.front() else { return Ok(false) };
        let (sent, process) =
            (self.shared.outlet.line().send(&next.bytes, next.process), next.process);
        match (sent, process) {
            (Ok(()), _) => drop(due.pop_front()),
            (Err(error), Some(process)) if error.errno == Errno::SRCH => {
                due.pop_front();
                drop(due);
                (self.shared.ended)(process);
            }
            (Err(error), _) => return Err(error),
        }
        Ok(true)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Due>> {
        self.shared.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::line::receive;

    #[tokio::test]
    async fn nothing_is_lost_or_disordered_on_a_line_whose_other_end_is_behind() {
        let (ours, theirs) = Line::pair().unwrap();
        let outbox = Outbox::new(Arc::new(theirs), |_| {});
        let process = Some(rustix::process::getpid());
        for number in 0..2000_u32 {
            outbox.send(number.to_le_bytes().to_vec(), process).unwrap();
        }
        assert!(!outbox.lock().is_empty(), "the line took all at once: there is nothing to test");
        let ours = readiness::register(ours, Interest::READABLE).unwrap();
        for number in 0..2000_u32 {
            let message = receive(&ours).await.unwrap().unwrap();
            assert_eq!((message.bytes, message.process), (number.to_le_bytes().to_vec(), process));
        }
    }

    #[tokio::test]
    async fn a_process_that_ended_meanwhile_is_told_and_the_rest_goes_on() {
        let (ours, theirs) = Line::pair().unwrap();
        let (sender, mut ended) = tokio::sync::mpsc::unbounded_channel();
        let outbox = Outbox::new(Arc::new(theirs), move |pid| sender.send(pid).unwrap_or(()));
        let mut count = 0;
        while outbox.lock().is_empty() {
            outbox.send(vec![1], None).unwrap();
            count += 1;
        }
        // No process has the greatest number that there could be.
        let nobody = Pid::from_raw(i32::MAX);
        outbox.send(vec![2], nobody).unwrap();
        outbox.send(vec![3], None).unwrap();
        let ours = readiness::register(ours, Interest::READABLE).unwrap();
        for _ in 0..count {
            assert_eq!(receive(&ours).await.unwrap().unwrap().bytes, [1]);
        }
        assert_eq!(receive(&ours).await.unwrap().unwrap().bytes, [3]);
        assert_eq!(ended.recv().await, nobody);
    }
}
