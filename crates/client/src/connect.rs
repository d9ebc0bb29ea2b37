//! From an address to a connection on which both sides have shown who they are.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::address::{self, Address};
use crate::config::{Identity, Node};
use crate::error::ConnectError;
use crate::stream::{Explain, LastError, Socket, WatchedStream};
use crate::tls::{SERVER_NAME, Tls};

/// How long a connection may take, TLS handshake included: several retransmissions of a lost packet,
/// and no longer than a person waits.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes connections to one node.
#[derive(Clone)]
pub(crate) struct Dialer {
    pub(crate) address: Address,
    tls: Tls,
    explain: Explain,
    explain_loss: Explain,
    pub(crate) last_error: LastError,
}

impl Dialer {
    pub(crate) fn new(node: &Node, tls: Tls) -> Self {
        let (address, identity, known) = (node.address.clone(), node.identity.clone(), tls.clone());
        let explain: Explain = Arc::new(move |error| explain(error, &address, &identity, &known));
        let (address, refused) = (node.address.clone(), explain.clone());
        let explain_loss: Explain =
            Arc::new(move |error| refused(error).or_else(|| Some(lost(error, &address))));
        Self {
            address: node.address.clone(),
            tls,
            explain,
            explain_loss,
            last_error: LastError::default(),
        }
    }

    /// Connects and shakes hands. A failure is kept as the last error, too.
    pub(crate) async fn dial(&self) -> Result<WatchedStream, ConnectError> {
        let address = self.address.clone();
        let result = tokio::time::timeout(CONNECT_TIMEOUT, self.dial_unbounded())
            .await
            .unwrap_or(Err(ConnectError::Timeout { address }));
        self.last_error.set(result.as_ref().err().cloned());
        result
    }

    async fn dial_unbounded(&self) -> Result<WatchedStream, ConnectError> {
        let socket = open(&self.address).await?;
        let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other);
        let connecting =
            async { TlsConnector::from(self.tls.config.clone()).connect(name?, socket).await };
        let tls = connecting.await.map_err(|error| {
            (self.explain)(&error).unwrap_or_else(|| ConnectError::Handshake {
                address: self.address.clone(),
                source: Arc::new(error),
            })
        })?;
        Ok(WatchedStream {
            tls,
            explain: self.explain_loss.clone(),
            last_error: self.last_error.clone(),
            broken: None,
        })
    }
}

async fn open(address: &Address) -> Result<Box<dyn Socket>, ConnectError> {
    let failed = |source| ConnectError::Dial { address: address.clone(), source: Arc::new(source) };
    match address {
        Address::Unix(path) => Ok(Box::new(UnixStream::connect(path).await.map_err(failed)?)),
        Address::Tcp { ip, port, scope } => {
            let resolved = address::resolve(*ip, *port, scope.as_deref())
                .map_err(|source| ConnectError::Address { address: address.clone(), source })?;
            let stream = TcpStream::connect(resolved).await.map_err(failed)?;
            stream.set_nodelay(true).map_err(failed)?;
            Ok(Box::new(stream))
        }
    }
}

fn lost(error: &io::Error, address: &Address) -> ConnectError {
    let reason = match error.kind() {
        // rustls' word for it is a page of its documentation.
        io::ErrorKind::UnexpectedEof => "the node's side ended without a word".to_owned(),
        _ => error.to_string(),
    };
    ConnectError::Lost { address: address.clone(), reason }
}

/// What an I/O error says about the two certificates, if it does.
fn explain(
    error: &io::Error,
    address: &Address,
    identity: &Identity,
    tls: &Tls,
) -> Option<ConnectError> {
    let address = address.clone();
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(alert) => Some(ConnectError::Refused {
            address,
            client_crt: identity.client_crt.clone(),
            alert: *alert,
            own: tls.own().map(Box::new),
        }),
        rustls::Error::InvalidCertificate(reason) => Some(ConnectError::NodeCertificate {
            address,
            ca_crt: identity.ca_crt.clone(),
            reason: Box::new(reason.clone()),
            seen: tls.seen().map(Box::new),
            authorities: tls.authorities(),
        }),
        _ => None,
    }
}
