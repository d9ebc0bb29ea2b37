//! How long a node is asked again that is away: its daemon is replaced, or was killed and comes back.
//! What runs on it goes on meanwhile.

use std::time::Duration;

use tokio::time::Instant;
use tonic::{Code, Status};

use crate::connect::CONNECT_TIMEOUT;
use crate::error::ConnectError;

/// How long a node may be without an answer before it is given up: a daemon that does not get ready has
/// 10 s before the one before takes back over, and a service manager takes some to start one again.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Between two attempts, where the node did not say: a daemon that is started takes some tenths of a
/// second.
const PAUSE: Duration = Duration::from_millis(200);

/// No node is waited for longer than this at once, whatever it says.
const MAX_PUSHBACK: Duration = Duration::from_secs(10);

/// A call that took longer than this had a connection: making one takes no longer than half of it.
const CONNECTED: Duration = CONNECT_TIMEOUT.saturating_mul(2);

/// How long a node asks to wait before the call is made again (gRPC's `grpc-retry-pushback-ms`). It may
/// have been begun: only what changes nothing is called again without a look. `None`: it does not ask.
pub fn retry_after(status: &Status) -> Option<Duration> {
    let millis = status.metadata().get("grpc-retry-pushback-ms")?.to_str().ok()?.parse().ok()?;
    (status.code() == Code::Unavailable).then(|| Duration::from_millis(millis).min(MAX_PUSHBACK))
}

/// Whether a call ended because the node's daemon is away, which it may not be for long: it asks to try
/// again, or the connection was lost or is not to be had. The status was [explained](crate::Client::explain).
pub fn is_interruption(status: &Status) -> bool {
    let source = std::error::Error::source(status);
    let connection = source.and_then(|source| source.downcast_ref::<ConnectError>());
    connection.is_some_and(ConnectError::may_pass) || retry_after(status).is_some()
}

/// Decides whether a call is made again, and waits before it.
#[derive(Debug, Default)]
pub struct Patience {
    /// Since when there was no answer.
    away_since: Option<Instant>,
    /// When the call was made that is under way.
    asked: Option<Instant>,
}

impl Patience {
    /// The node answered: from now on it may be away for [`PATIENCE`] again.
    pub fn answered(&mut self) {
        self.away_since = None;
    }

    /// Waits until the call that ended with this status is worth making again.
    ///
    /// # Errors
    /// The status itself: it is no [interruption](is_interruption), or the node was away for
    /// [`PATIENCE`].
    pub async fn wait(&mut self, status: Status) -> Result<(), Status> {
        if !is_interruption(&status) {
            return Err(status);
        }
        let now = Instant::now();
        if self.asked.is_some_and(|asked| now.duration_since(asked) > CONNECTED) {
            self.answered();
        }
        let away_since = *self.away_since.get_or_insert(now);
        if now.duration_since(away_since) >= PATIENCE {
            return Err(status);
        }
        tokio::time::sleep(retry_after(&status).unwrap_or(PAUSE)).await;
        self.asked = Some(Instant::now());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(millis: &'static str) -> Status {
        let mut status = Status::unavailable("the daemon is being replaced");
        status
            .metadata_mut()
            .insert("grpc-retry-pushback-ms", tonic::metadata::MetadataValue::from_static(millis));
        status
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_stays_away_is_given_up_after_a_while() {
        let (mut patience, start) = (Patience::default(), Instant::now());
        while patience.wait(replaced("500")).await.is_ok() {}
        assert_eq!(start.elapsed(), PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_in_between_begins_the_time_anew() {
        let mut patience = Patience::default();
        for _ in 0..10 {
            patience.wait(replaced("9000")).await.unwrap();
            patience.answered();
        }
        for _ in 0..10 {
            patience.wait(replaced("9000")).await.unwrap();
            // A call that waits for an end, for example, is answered by nothing before that.
            tokio::time::sleep(CONNECTED + Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn what_is_no_interruption_is_told_at_once() {
        let definite = [
            Status::unavailable("the cell is gone"),
            Status::not_found("no cell"),
            replaced("soon"),
            Status::unknown("grpc-retry-pushback-ms"),
        ];
        for status in definite {
            assert!(Patience::default().wait(status).await.is_err());
        }
    }
}
