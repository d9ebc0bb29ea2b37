//! What holds at one time: a certificate and its key, and whom the server believes.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::NoServerSessionStorage;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::authority::{Authority, RevocationList, certificates, is_trust_domain, trust_domain_of};
use super::files::{AUTHORITY, BUNDLE, CERTIFICATE, Content, Inputs, KEY, Own};
use super::trust::{Sources, Trust};
use super::{Svid, TlsError};

/// The name that every client may ask for: it need not know what a node is called.
const NAME: &str = "server.unsafe.aurae.io";
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
    /// Where the server's certificate is from.
    pub(super) fn name(&self) -> String {
        match &self.inputs.own {
            Own::Files((path, _), _) => path.display().to_string(),
            Own::Svid(svid) => svid.id.clone(),
        }
    }

    /// Makes the configuration of the server.
    ///
    /// A client's certificate without extended key usage is accepted; one with has to have clientAuth.
    /// Sessions are never resumed: that would skip the look at the certificate's validity.
    pub(super) fn new(inputs: Inputs) -> Result<Self, TlsError> {
        let Shown { chain, key, from } = Shown::new(&inputs.own)?;
        let (validity, domain) = facts(&chain, &from.0)?;

        let provider = Arc::new(default_provider());
        let sources = sources(&inputs, domain.as_deref())?;
        let trust = Arc::new(Trust::new(sources, &provider)?);
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
                certificate: from.0.display().to_string(),
                key: from.1.display().to_string(),
                source,
            })?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config), trust, validity, inputs })
    }
}

/// What the server shows.
struct Shown {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    /// What certificate and key are called in errors.
    from: (PathBuf, PathBuf),
}

impl Shown {
    fn new(own: &Own) -> Result<Self, TlsError> {
        match own {
            Own::Files(certificate, key) => Ok(Self {
                chain: certificates(CERTIFICATE, certificate)?,
                key: PrivateKeyDer::from_pem_slice(&key.1)
                    .map_err(|error| TlsError::pem(KEY, &key.0, error))?,
                from: (certificate.0.clone(), key.0.clone()),
            }),
            Own::Svid(svid) => Ok(Self {
                chain: svid.chain.iter().cloned().map(CertificateDer::from).collect(),
                key: PrivatePkcs8KeyDer::from(svid.key.clone()).into(),
                from: (PathBuf::from(&svid.id), PathBuf::from(&svid.id)),
            }),
        }
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
    if !is_for_every_client(&certificate) {
        let from = path.display();
        tracing::warn!(certificate = %from, "the node's certificate lacks the DNS name {NAME}, which clients ask for");
    }
    Ok((validity, trust_domain_of(&certificate)))
}

/// The authorities, each with its trust domain, and the lists of what they revoked.
fn sources(inputs: &Inputs, domain: Option<&str>) -> Result<Sources, TlsError> {
    let authority = inputs.authority.as_ref();
    let mut own =
        authority.map(|file| Authority::all(AUTHORITY, file)).transpose()?.unwrap_or_default();
    let mut bundles = BTreeMap::<String, Vec<Authority>>::new();
    for file in &inputs.bundles {
        let (name, authorities) = bundle(file)?;
        bundles.entry(name).or_default().extend(authorities);
    }
    if let Own::Svid(svid) = &inputs.own {
        // The agent knows better than a file what holds now.
        bundles.extend(given(svid)?);
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
    Ok(Sources { home: domain.map(str::to_owned), own, bundles, lists })
}

/// The bundles that came with an identity.
fn given(svid: &Svid) -> Result<BTreeMap<String, Vec<Authority>>, TlsError> {
    let place = Path::new(&svid.id);
    let bundles = svid.bundles.iter().map(|(domain, authorities)| {
        let authorities = authorities.iter().cloned().map(CertificateDer::from);
        let authorities = authorities.map(|der| Authority::parse(der, place));
        Ok((domain.clone(), authorities.collect::<Result<_, _>>()?))
    });
    bundles.collect()
}

/// Whether it has the name that clients ask for.
fn is_for_every_client(certificate: &X509Certificate<'_>) -> bool {
    let names = certificate.subject_alternative_name().ok().flatten();
    names.is_some_and(|names| {
        names.value.general_names.iter().any(|name| matches!(name, GeneralName::DNSName(NAME)))
    })
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
