//! What comes to a zone from the daemon above: orders over the line, requests over the connection, and
//! through the door a new parent with both.

use std::future::pending;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use aurae_kernel::readiness;
use aurae_kernel::seqpacket::{Line, Message};
use aurae_kernel::zone::Door;
use prost::Message as _;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::line::receive;
use super::parent::Parent;
use super::protocol::{Command, Event, OLDEST, Order, VERSION, report};
use crate::reply::text;
use crate::route::Route;
use crate::server::serve_parent;
use crate::shutdown::Shutdown;

/// What open requests have to be answered once the zone's executables have ended.
const DRAIN: Duration = Duration::from_millis(200);

/// The pause before the door is watched again after a failure: trying at once would spin.
const DOOR_PAUSE: Duration = Duration::from_secs(1);

/// The daemon above.
pub(super) struct Above {
    /// `None` while there is no parent.
    line: Option<AsyncFd<Line>>,
    door: Door,
    knocks: AsyncFd<Line>,
    parent: Parent,
    serving: JoinHandle<()>,
    route: Route,
    shutdown: Shutdown,
}

impl Above {
    /// Serves the connection `stream`, and says so on `line`.
    pub(super) fn new(
        line: &Arc<Line>,
        stream: OwnedFd,
        door: Door,
        parent: Parent,
        route: Route,
        shutdown: Shutdown,
    ) -> std::io::Result<Self> {
        let serving = serve(stream, &route, &shutdown)?;
        let own_line = Some(register(line)?);
        let knocks = register(door.inner())?;
        // A parent that is gone already comes back through the door.
        let _ = line.send(&report(Event::Ready(VERSION)), None);
        Ok(Self { line: own_line, door, knocks, parent, serving, route, shutdown })
    }

    /// Waits for an order to end, and answers the grace period. Can be dropped and called again.
    pub(super) async fn order(&mut self) -> Duration {
        loop {
            tokio::select! {
                message = next(self.line.as_ref()) => match message {
                    Some(message) => if let Some(grace) = self.obey(message) {
                        return grace;
                    },
                    None => {
                        self.line = None;
                        self.parent.lost();
                    }
                },
                knock = receive(&self.knocks) => match knock {
                    Ok(Some(message)) => self.answer(message),
                    // An empty message: this process holds the outer end too, so it is no end.
                    Ok(None) => {}
                    Err(error) => {
                        tracing::error!(error = text(&error), "the zone's door cannot be watched");
                        tokio::time::sleep(DOOR_PAUSE).await;
                    }
                },
            }
        }
    }

    fn obey(&mut self, message: Message) -> Option<Duration> {
        match Order::decode(message.bytes.as_slice()).ok()?.command? {
            Command::Shutdown(millis) => return Some(Duration::from_millis(millis)),
            Command::Numbered(numbered) => self.parent.numbered(numbered),
            // Two came in one after the other, with the same end of a line: the later one stays.
            Command::Adopt(_) => {
                if let Err(error) = message.descriptor.map_or(Ok(()), |stream| self.serve(stream)) {
                    tracing::error!(error = text(&error), "a new parent was not let in");
                }
            }
        }
        None
    }

    /// Serves another connection instead of the one before.
    fn serve(&mut self, stream: OwnedFd) -> std::io::Result<()> {
        let serving = serve(stream, &self.route, &self.shutdown)?;
        std::mem::replace(&mut self.serving, serving).abort();
        Ok(())
    }

    /// Lets a new parent in; one that is not understood changes nothing.
    fn answer(&mut self, message: Message) {
        let order = Order::decode(message.bytes.as_slice()).ok().and_then(|order| order.command);
        let (Some(Command::Adopt(version)), Some(stream)) = (order, message.descriptor) else {
            return;
        };
        if version < OLDEST {
            let refusal = format!("the zone speaks versions {OLDEST} to {VERSION}, not {version}");
            let _ = self.door.inner().send(&report(Event::Failed(refusal)), None);
            return;
        }
        if let Err(error) = self.admit(stream) {
            tracing::error!(error = text(&error), "a new parent was not let in");
        }
    }

    fn admit(&mut self, stream: OwnedFd) -> std::io::Result<()> {
        self.serve(stream)?;
        let failed = |error: aurae_kernel::Error| std::io::Error::other(text(&error));
        let line = Arc::new(self.door.replace().map_err(failed)?);
        let knocks = register(self.door.inner())?;
        // What was the inner side of the door is the line now.
        self.line = Some(std::mem::replace(&mut self.knocks, knocks));
        line.send(&report(Event::Adopted(VERSION)), None).map_err(failed)?;
        self.parent.found(line);
        Ok(())
    }

    /// Lets open requests end.
    pub(super) async fn close(self) {
        // It ends by itself, as the shutdown was asked for.
        let _ = self.serving.await;
    }
}

fn serve(stream: OwnedFd, route: &Route, shutdown: &Shutdown) -> std::io::Result<JoinHandle<()>> {
    let stream = std::os::unix::net::UnixStream::from(stream);
    stream.set_nonblocking(true)?;
    let stream = UnixStream::from_std(stream)?;
    Ok(tokio::spawn(serve_parent(stream, route.clone(), shutdown.clone(), DRAIN)))
}

fn register(line: &Line) -> std::io::Result<AsyncFd<Line>> {
    let copy = Line::from_socket(line.as_fd().try_clone_to_owned()?);
    readiness::register(copy, Interest::READABLE)
}

/// The next message of the parent; `None` once it is gone.
async fn next(line: Option<&AsyncFd<Line>>) -> Option<Message> {
    match line {
        Some(line) => receive(line).await.ok().flatten(),
        None => pending().await,
    }
}
