//! What holds at one time: a certificate and its key, and whom the server believes.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::TlsError;
use super::authority::{Authority, RevocationList, certificates, is_trust_domain, trust_domain_of};
use super::files::{AUTHORITY, BUNDLE, CERTIFICATE, Content, Inputs, KEY};
use super::trust::{Sources, Trust};

/// The protocol that a client has to ask for: gRPC is HTTP/2.
const ALPN: &[u8] = b"h2";

/// What holds at one time.
pub(super) struct Credentials {
    pub(super) config: Arc<ServerConfig>,
    pub(super) trust: Arc<Trust>,
    /// From when until when the server's certificate is valid, in seconds since 1970.
    pub(super) validity: (i64, i64),
    /// What it was made of.
    pub(super) inputs: Inputs,
}

impl fmt::Debug for Credentials {
    /// Without the key.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Credentials").field("trust", &self.trust).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Makes the configuration of the server.
    ///
    /// A client's certificate without extended key usage is accepted; one with has to have clientAuth.
    /// Sessions are never resumed: that would skip the look at the certificate's validity.
    pub(super) fn new(inputs: Inputs) -> Result<Self, TlsError> {
        let chain = certificates(CERTIFICATE, &inputs.certificate)?;
        let (validity, domain) = facts(&chain, &inputs.certificate.0)?;
        let key = PrivateKeyDer::from_pem_slice(&inputs.key.1)
            .map_err(|error| TlsError::pem(KEY, &inputs.key.0, error))?;

        let provider = Arc::new(default_provider());
        let sources = sources(&inputs, domain.as_deref())?;
        let trust = Arc::new(Trust::new(sources, &provider, &inputs.authority.0)?);
        for list in trust.lists.iter().filter(|list| !list.known) {
            let (file, issuer) = (list.path.display(), &list.issuer);
            tracing::warn!(list = %file, issuer, "a revocation list is of no authority that is trusted");
        }
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Protocol)?
            .with_client_cert_verifier(Arc::clone(&trust) as _)
            .with_single_cert(chain, key)
            .map_err(|source| TlsError::Pair {
                certificate: inputs.certificate.0.display().to_string(),
                key: inputs.key.0.display().to_string(),
                source,
            })?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config), trust, validity, inputs })
    }
}

/// The validity and the trust domain of the server's certificate.
fn facts(
    chain: &[CertificateDer<'_>],
    path: &Path,
) -> Result<((i64, i64), Option<String>), TlsError> {
    let unreadable = |reason: String| {
        let (what, path) = (CERTIFICATE, path.to_owned());
        TlsError::Unreadable { what, path, reason }
    };
    let leaf = chain.first().ok_or_else(|| unreadable("it is empty".to_owned()))?;
    let (_, certificate) =
        X509Certificate::from_der(leaf).map_err(|error| unreadable(error.to_string()))?;
    let validity = certificate.validity();
    let validity = (validity.not_before.timestamp(), validity.not_after.timestamp());
    Ok((validity, trust_domain_of(&certificate)))
}

/// The authorities, each with its trust domain, and the lists of what they revoked.
fn sources(inputs: &Inputs, domain: Option<&str>) -> Result<Sources, TlsError> {
    let mut own = Authority::all(AUTHORITY, &inputs.authority)?;
    let mut bundles = BTreeMap::<String, Vec<Authority>>::new();
    for file in &inputs.bundles {
        let (name, authorities) = bundle(file)?;
        bundles.entry(name).or_default().extend(authorities);
    }
    let known: Vec<Authority> = own.iter().chain(bundles.values().flatten()).cloned().collect();
    let mut lists = Vec::new();
    for file in &inputs.lists {
        lists.extend(RevocationList::all(file, &known)?);
    }
    for authority in &mut own {
        if authority.trust_domain.is_none() {
            authority.trust_domain = domain.map(str::to_owned);
        }
    }
    Ok(Sources { own, bundles, lists })
}

/// A bundle's trust domain and authorities.
fn bundle(file: &Content) -> Result<(String, Vec<Authority>), TlsError> {
    let path = &file.0;
    let domain = path.file_stem().and_then(|stem| stem.to_str());
    let domain = domain.filter(|stem| is_trust_domain(stem));
    let domain = domain.ok_or_else(|| TlsError::BundleName(path.clone()))?;
    let authorities = Authority::all(BUNDLE, file)?;
    for authority in &authorities {
        if let Some(other) = authority.trust_domain.as_deref().filter(|other| *other != domain) {
            return Err(TlsError::BundleOfAnother {
                path: path.clone(),
                name: authority.name.clone(),
                trust_domain: other.to_owned(),
            });
        }
    }
    Ok((domain.to_owned(), authorities))
}
