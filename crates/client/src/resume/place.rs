//! What a stream is asked for again with.

use bytes::Bytes;
use prost::DecodeError;

use super::{ItemsPlace, KernelPlace, LogsPlace, WatchPlace};

/// Where a reader of a stream is.
pub trait Place: Send {
    /// The request, encoded: that of the beginning, or one that goes on where the reader is.
    fn request(&mut self) -> Bytes;

    /// Moves on by a message, and answers what is new in it. `None`: all of it came before.
    ///
    /// # Errors
    /// It is no message of this stream.
    fn pass(&mut self, message: Bytes) -> Result<Option<Bytes>, DecodeError>;

    /// Whether it makes sense to ask again.
    fn is_resumable(&self) -> bool {
        true
    }

    /// What a reader may have lost, or gets twice, once the stream was gone on with.
    fn caveat(&self) -> Option<&'static str> {
        None
    }
}

impl<P: Place + ?Sized> Place for Box<P> {
    fn request(&mut self) -> Bytes {
        (**self).request()
    }

    fn pass(&mut self, message: Bytes) -> Result<Option<Bytes>, DecodeError> {
        (**self).pass(message)
    }

    fn is_resumable(&self) -> bool {
        (**self).is_resumable()
    }

    fn caveat(&self) -> Option<&'static str> {
        (**self).caveat()
    }
}

/// The place at the beginning of the stream of an RPC (`/package.Service/Method`), whose request is
/// encoded already.
///
/// # Errors
/// It is no request of this RPC.
pub fn place_of(path: &str, request: Bytes) -> Result<Box<dyn Place>, DecodeError> {
    Ok(match path {
        "/aurae.cells.v0.CellService/Watch" => Box::new(WatchPlace::decode(request)?),
        "/aurae.observe.v0.ObserveService/GetExecutableLogs" => {
            Box::new(LogsPlace::decode(request)?)
        }
        "/aurae.observe.v0.ObserveService/GetSubProcessStream" => {
            Box::new(ItemsPlace::of_executable(request))
        }
        "/aurae.observe.v0.ObserveService/GetAuraeDaemonLogStream" => {
            Box::new(ItemsPlace::of_daemon(request))
        }
        "/aurae.node.v0.NodeService/KernelLog" => Box::new(KernelPlace::decode(request)?),
        "/grpc.health.v1.Health/Watch" => Box::new(StatePlace::new(request)),
        _ => Box::new(Unresumable(request)),
    })
}

/// A stream whose each message replaces the one before: it is asked for again as it was.
#[derive(Debug)]
pub struct StatePlace {
    request: Bytes,
    last: Option<Bytes>,
}

impl StatePlace {
    /// At the beginning.
    pub fn new(request: Bytes) -> Self {
        Self { request, last: None }
    }
}

impl Place for StatePlace {
    fn request(&mut self) -> Bytes {
        self.request.clone()
    }

    fn pass(&mut self, message: Bytes) -> Result<Option<Bytes>, DecodeError> {
        let is_new = self.last.as_ref() != Some(&message);
        self.last = Some(message.clone());
        Ok(is_new.then_some(message))
    }
}

/// A stream that only its beginning is known of.
#[derive(Debug)]
pub struct Unresumable(pub Bytes);

impl Place for Unresumable {
    fn request(&mut self) -> Bytes {
        self.0.clone()
    }

    fn pass(&mut self, message: Bytes) -> Result<Option<Bytes>, DecodeError> {
        Ok(Some(message))
    }

    fn is_resumable(&self) -> bool {
        false
    }
}
