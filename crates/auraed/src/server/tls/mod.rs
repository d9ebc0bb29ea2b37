//! Mutual TLS 1.3: what the server shows, and whom it believes.
//!
//! ```text
//! files, an SVID ─Inputs::read─▶ bytes ─Credentials::new─▶ certificate, key, Trust
//!                                     │
//! Tls::reload: as a whole, or not at all ─▶ new handshakes; connections are judged again
//! ```

mod authority;
mod credentials;
mod error;
mod files;
mod refusal;
mod svid;
mod trust;

pub use error::TlsError;
pub use files::TlsFiles;
pub(crate) use files::{MAX_FILE_BYTES, MAX_LIST_BYTES, bundles_in};
pub(super) use refusal::{HandshakeFailure, hear};
pub use svid::Svid;

use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aurae_authz::Principal;
use aurae_model::moment::{relative, timestamp};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, UnixTime};
use tokio::sync::watch;

use authority::now;
use credentials::Credentials;
use files::Inputs;

/// A day, in seconds.
const DAY: i64 = 24 * 3600;

/// What the server shows and whom it believes, which can be exchanged while it serves. Clones are the
/// same.
#[derive(Clone, Debug)]
pub struct Tls {
    files: Arc<TlsFiles>,
    current: Arc<watch::Sender<Arc<Credentials>>>,
    /// Locked for a whole reload, so that there is one at a time.
    identity: Arc<Mutex<Identity>>,
    /// When it was last said that something expires, in seconds since 1970.
    warned: Arc<Mutex<Option<i64>>>,
}

/// The identity that was given in the place of the files'.
#[derive(Clone, Debug, Default)]
struct Identity {
    /// The last one.
    given: Option<Arc<Svid>>,
    /// The one that is shown.
    held: Option<Arc<Svid>>,
}

impl Tls {
    /// Reads the files. An identity that was given stands for the server's own, and its bundles go before
    /// those of the files.
    ///
    /// # Errors
    /// A file that is missing, unreadable or unusable, by its path.
    pub fn read(files: &TlsFiles, svid: Option<Arc<Svid>>) -> Result<Self, TlsError> {
        let credentials = Credentials::new(Inputs::read(files, svid.clone())?)?;
        Ok(Self {
            files: Arc::new(files.clone()),
            current: Arc::new(watch::Sender::new(Arc::new(credentials))),
            identity: Arc::new(Mutex::new(Identity { given: svid.clone(), held: svid })),
            warned: Arc::default(),
        })
    }

    /// Reads the files again. What they say holds for new handshakes at once, and for open connections:
    /// those end whose client is not believed any more. Nothing happens where nothing has changed.
    ///
    /// # Errors
    /// As with [`Self::read`]; then all stays as it is. Where it is an identity that cannot be used, the files
    /// hold with the one before.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.renew(&mut self.identity.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes up an identity, and reads the files again.
    ///
    /// # Errors
    /// As with [`Self::reload`]; the identity is taken up once that is well.
    pub fn take(&self, svid: Arc<Svid>) -> Result<(), TlsError> {
        let mut identity = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
        identity.given = Some(svid);
        self.renew(&mut identity)
    }

    fn renew(&self, identity: &mut Identity) -> Result<(), TlsError> {
        let outcome = self.exchange(identity.given.clone());
        match outcome {
            Ok(()) => identity.held = identity.given.clone(),
            // Whom a file revokes is not let in until there is an identity that can be used.
            Err(_) => drop(self.exchange(identity.held.clone())),
        }
        outcome
    }

    fn exchange(&self, svid: Option<Arc<Svid>>) -> Result<(), TlsError> {
        let inputs = Inputs::read(&self.files, svid)?;
        if self.current.borrow().inputs == inputs {
            tracing::debug!("the certificates have not changed");
            return Ok(());
        }
        let credentials = Credentials::new(inputs)?;
        let (certificate, until) = (credentials.name(), timestamp(credentials.validity.1));
        self.current.send_replace(Arc::new(credentials));
        tracing::info!(certificate, until, "took up new certificates");
        *self.warned.lock().unwrap_or_else(PoisonError::into_inner) = None;
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
    /// time left: whoever renews them should have done so by then. Once a day, and hourly on the last.
    pub fn warn_of_expiry(&self) {
        let (credentials, now) = (Arc::clone(&self.current.borrow()), now());
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        let soonest = credentials.trust.lists.iter().map(|list| list.until);
        let soonest = soonest.chain([credentials.validity.1]).min().unwrap_or(i64::MAX);
        let lately = warned.is_some_and(|warned| now.saturating_sub(warned) < DAY);
        if lately && soonest.saturating_sub(now) > DAY {
            return;
        }
        *warned = Some(now);
        let (from, until) = credentials.validity;
        if is_near(from, until, now) {
            let (expires, at) = (when(until, now), timestamp(until));
            let certificate = credentials.name();
            tracing::warn!(
                certificate,
                at,
                "the node's certificate {expires}: it has to be replaced"
            );
        }
        for list in credentials.trust.lists.iter().filter(|it| is_near(it.made, it.until, now)) {
            let (expires, at) = (when(list.until, now), timestamp(list.until));
            let file = list.path.display();
            tracing::warn!(list = %file, at, "a revocation list {expires}: it has to be replaced");
        }
    }

    /// Somebody who is only named, as policies would see it if it was a client: one of another trust domain has
    /// no role.
    #[must_use]
    pub fn seen(&self, principal: Principal) -> Principal {
        self.subscribe().seen(principal)
    }

    /// The revocation lists that have expired, and what that means: each keeps out all clients of its authority.
    #[must_use]
    pub fn expired_lists(&self) -> Vec<String> {
        let (credentials, now) = (Arc::clone(&self.current.borrow()), now());
        let expired = credentials.trust.lists.iter().filter(|list| list.until <= now);
        let told = expired.map(|list| {
            let (path, ago) = (list.path.display(), relative(list.until, now));
            format!(
                "the revocation list {path} expired {ago}: all clients of {} are refused until there is another (aer pki revoke)",
                list.issuer
            )
        });
        told.collect()
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
    /// The client as policies are to see it: one of another trust domain has no role.
    pub(super) fn seen(&self, principal: Principal) -> Principal {
        match self.0.borrow().trust.is_foreign(&principal) {
            true => principal.of_another_domain(),
            false => principal,
        }
    }

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
