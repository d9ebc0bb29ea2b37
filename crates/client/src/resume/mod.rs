//! Streams that are gone on with: when the node's daemon is replaced, or is killed and comes back, the
//! stream is asked for again from the [`Place`] where its reader is.
//!
//! ```text
//!          ┌── message ──▶ place: what came already is left out ──▶ reader
//! asked ───┤
//!   ▲      └── interruption ── patience ──┐
//!   └────────── place: the request ◀──────┘
//! ```

mod lines;
mod logs;
mod place;
mod watch;

pub use lines::{ItemsPlace, KernelPlace};
pub use logs::LogsPlace;
pub use place::{Place, StatePlace, Unresumable, place_of};
pub use watch::WatchPlace;

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tonic::metadata::MetadataMap;
use tonic::{Status, Streaming};

use crate::client::Client;
use crate::patience::Patience;

/// A server stream that goes on over a restart of the node's daemon.
pub struct Resuming<P> {
    client: Client,
    path: String,
    place: P,
    deadline: Option<Instant>,
    stream: Option<Streaming<Bytes>>,
    patience: Patience,
    interruptions: u32,
}

impl<P: Place> Resuming<P> {
    pub(crate) fn new(client: Client, path: &str, place: P, timeout: Option<Duration>) -> Self {
        Self {
            client,
            path: path.to_owned(),
            place,
            deadline: timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
            stream: None,
            patience: Patience::default(),
            interruptions: 0,
        }
    }

    /// How often the stream was asked for again.
    pub fn interruptions(&self) -> u32 {
        self.interruptions
    }

    /// Where the reader is.
    pub fn place(&self) -> &P {
        &self.place
    }

    /// The next message. `None`: the stream has ended.
    ///
    /// # Errors
    /// The node's; or that of an interruption, when the node was away for [`PATIENCE`](crate::PATIENCE)
    /// or the stream cannot be gone on with.
    pub async fn message(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            match self.next().await {
                Ok(None) => return Ok(None),
                Ok(Some(message)) => {
                    self.patience.answered();
                    let new = self.place.pass(message).map_err(|error| {
                        Status::internal(format!("the node's answer cannot be decoded: {error}"))
                    })?;
                    if new.is_some() {
                        return Ok(new);
                    }
                }
                Err(status) => {
                    self.stream = None;
                    if !self.place.is_resumable() {
                        return Err(status);
                    }
                    self.patience.wait(status).await?;
                    self.interruptions = self.interruptions.saturating_add(1);
                }
            }
        }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let left = self.deadline.map(|end| end.saturating_duration_since(Instant::now()));
                let (request, metadata) = (self.place.request(), MetadataMap::new());
                let begun = self.client.server_streaming(&self.path, request, metadata, left);
                self.stream.insert(begun.await?.into_inner())
            }
        };
        stream.message().await.map_err(|status| self.client.explain(status))
    }
}
