//! Mutual TLS 1.3: what the server shows, and whom it believes.
//!
//! ```text
//! files ─Inputs::read─▶ bytes ─Credentials::new─▶ certificate, key, Trust
//!                                     │
//! Tls::reload: as a whole, or not at all ─▶ new handshakes; connections are judged again
//! ```

mod authority;
mod credentials;
mod error;
mod files;
mod refusal;
mod trust;

pub use error::TlsError;
pub use files::TlsFiles;
pub(super) use refusal::{HandshakeFailure, hear};

use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aurae_model::moment::{relative, timestamp};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, UnixTime};
use tokio::sync::watch;

use authority::now;
use credentials::Credentials;
use files::Inputs;

/// What the server shows and whom it believes, which can be exchanged while it serves. Clones are the
/// same.
#[derive(Clone, Debug)]
pub struct Tls {
    files: Arc<TlsFiles>,
    current: Arc<watch::Sender<Arc<Credentials>>>,
    /// One reload at a time: of two the later one wins.
    reloading: Arc<Mutex<()>>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// A file that is missing, unreadable or unusable, by its path.
    pub fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let credentials = Credentials::new(Inputs::read(files)?)?;
        Ok(Self {
            files: Arc::new(files.clone()),
            current: Arc::new(watch::Sender::new(Arc::new(credentials))),
            reloading: Arc::default(),
        })
    }

    /// Reads the files again. What they say holds for new handshakes at once, and for open connections:
    /// those end whose client is not believed any more. Nothing happens where nothing has changed.
    ///
    /// # Errors
    /// As with [`Self::read`]; then all stays as it is.
    pub fn reload(&self) -> Result<(), TlsError> {
        let _one = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let inputs = Inputs::read(&self.files)?;
        if self.current.borrow().inputs == inputs {
            tracing::debug!("the certificates have not changed");
            return Ok(());
        }
        let credentials = Credentials::new(inputs)?;
        let until = timestamp(credentials.validity.1);
        self.current.send_replace(Arc::new(credentials));
        tracing::info!(certificate = %self.files.certificate.display(), until, "took up new certificates");
        self.warn_of_expiry();
        Ok(())
    }

    /// The files that are read.
    #[must_use]
    pub fn files(&self) -> &TlsFiles {
        &self.files
    }

    /// Until when the server's certificate is valid.
    #[must_use]
    pub fn expiry(&self) -> SystemTime {
        let (_, until) = self.current.borrow().validity;
        UNIX_EPOCH + Duration::from_secs(u64::try_from(until).unwrap_or_default())
    }

    /// Says in the log that the server's certificate, or a revocation list, has less than a third of its
    /// time left: whoever makes them should have done so by then.
    pub fn warn_of_expiry(&self) {
        let (credentials, now) = (Arc::clone(&self.current.borrow()), now());
        let (from, until) = credentials.validity;
        if is_near(from, until, now) {
            let (expires, at) = (when(until, now), timestamp(until));
            let file = self.files.certificate.display();
            tracing::warn!(certificate = %file, at, "the node's certificate {expires}: replace it");
        }
        for list in credentials.trust.lists.iter().filter(|it| is_near(it.made, it.until, now)) {
            let (expires, at) = (when(list.until, now), timestamp(list.until));
            let file = list.path.display();
            tracing::warn!(list = %file, at, "a revocation list {expires}: replace it");
        }
    }

    pub(super) fn subscribe(&self) -> Watched {
        Watched(self.current.subscribe())
    }
}

/// Whether less than a third is left.
fn is_near(from: i64, until: i64, now: i64) -> bool {
    let (whole, left) = (until.saturating_sub(from), until.saturating_sub(now));
    left < whole / 3
}

fn when(until: i64, now: i64) -> String {
    let verb = if until <= now { "expired" } else { "expires" };
    format!("{verb} {}", relative(until, now))
}

/// The credentials as a connection sees them.
#[derive(Clone, Debug)]
pub(super) struct Watched(watch::Receiver<Arc<Credentials>>);

impl Watched {
    /// What holds for a handshake that begins now. Any change after it is one for [`Self::refused`].
    pub(super) fn config(&mut self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.borrow_and_update().config)
    }

    /// Waits until the client with these certificates is not believed any more, and answers why.
    pub(super) async fn refused(&mut self, chain: &[CertificateDer<'_>]) -> String {
        loop {
            if self.0.changed().await.is_err() {
                return pending().await;
            }
            let credentials = Arc::clone(&self.0.borrow_and_update());
            let Some((certificate, between)) = chain.split_first() else { continue };
            if let Err(refused) = credentials.trust.verify(certificate, between, UnixTime::now()) {
                return refused.reason;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_third_is_near_the_end() {
        assert!(!is_near(0, 300, 199));
        assert!(is_near(0, 300, 201));
        assert!(is_near(0, 300, 400));
    }
}
