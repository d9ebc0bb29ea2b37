//! Whom the server believes, and which authority may vouch for whom.
//!
//! ```text
//! SPIFFE ID of the trust domain D ─ a bundle D is there ─▶ that bundle alone
//!                                 └ none                ─▶ of --ca-crt: the authorities of D, and those
//!                                                          that are of no trust domain
//! no SPIFFE ID                                          ─▶ --ca-crt
//! ```
//!
//! An authority of --ca-crt is of the trust domain that its own SPIFFE ID names, else of that of the
//! node's certificate, else of none.
//!
//! **Invariant**: an authority of one trust domain never vouches for an identity of another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aurae_authz::{Form, Principal};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};

use super::TlsError;
use super::authority::{Authority, RevocationList, trust_domain};
use super::refusal::{self, Refusal};
use crate::gate::identity_of_certificate;

/// The authorities that decide about a client, and how.
#[derive(Debug)]
pub(super) struct Anchors {
    verifier: Arc<dyn ClientCertVerifier>,
    pub(super) names: Vec<String>,
}

/// Whom the server believes.
#[derive(Debug)]
pub(super) struct Trust {
    provider: Arc<CryptoProvider>,
    /// The trust domain of the node's own certificate.
    home: Option<String>,
    /// By trust domain: each alone decides about its own.
    bundles: BTreeMap<String, Anchors>,
    /// Of --ca-crt, by trust domain; with them those of no trust domain.
    own: BTreeMap<String, Anchors>,
    /// Of --ca-crt, those of no trust domain.
    unbound: Option<Anchors>,
    /// All of --ca-crt.
    all: Option<Anchors>,
    /// The names that clients are told, to choose a certificate by.
    hints: Vec<DistinguishedName>,
    pub(super) lists: Vec<RevocationList>,
}

/// What [`Trust`] is made of.
#[derive(Debug)]
pub(super) struct Sources {
    /// The trust domain of the node's own certificate.
    pub(super) home: Option<String>,
    /// The authorities of --ca-crt, with their trust domains.
    pub(super) own: Vec<Authority>,
    /// By trust domain.
    pub(super) bundles: BTreeMap<String, Vec<Authority>>,
    pub(super) lists: Vec<RevocationList>,
}

impl Trust {
    pub(super) fn new(sources: Sources, provider: &Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let Sources { home, own, bundles, mut lists } = sources;
        // Of two lists of an authority the first is looked at: the newer one replaces the other.
        lists.sort_by_key(|list| std::cmp::Reverse(list.made));
        check(&lists, own.iter().chain(bundles.values().flatten()), provider)?;
        let make = |authorities: &[&Authority]| Anchors::new(authorities, &lists, provider);
        let of = |domain: Option<&str>| {
            let fits = |of: Option<&str>| of.is_none() || of == domain;
            own.iter().filter(|it| fits(it.trust_domain.as_deref())).collect::<Vec<_>>()
        };
        let domains: BTreeSet<&str> =
            own.iter().filter_map(|authority| authority.trust_domain.as_deref()).collect();
        let mut by_domain = BTreeMap::new();
        for domain in domains {
            by_domain.extend(make(&of(Some(domain)))?.map(|it| (domain.to_owned(), it)));
        }
        let mut made = BTreeMap::new();
        for (domain, authorities) in &bundles {
            let anchors = make(&authorities.iter().collect::<Vec<_>>())?;
            made.extend(anchors.map(|anchors| (domain.clone(), anchors)));
        }
        let mut trust = Self {
            provider: Arc::clone(provider),
            home,
            unbound: make(&of(None))?,
            all: make(&own.iter().collect::<Vec<_>>())?,
            bundles: made,
            own: by_domain,
            hints: Vec::new(),
            lists,
        };
        let hints: BTreeSet<Vec<u8>> = trust
            .everything()
            .flat_map(|it| it.verifier.root_hint_subjects())
            .map(|name| name.as_ref().to_vec())
            .collect();
        trust.hints = hints.into_iter().map(DistinguishedName::from).collect();
        Ok(trust)
    }

    /// Those who decide about a client of that trust domain, or of none.
    fn deciding(&self, domain: Option<&str>) -> Option<&Anchors> {
        let Some(domain) = domain else { return self.all.as_ref() };
        self.bundles.get(domain).or_else(|| self.own.get(domain)).or(self.unbound.as_ref())
    }

    /// Whether another trust domain than the node's own, and those of --ca-crt, vouches for a client.
    pub(super) fn is_foreign(&self, principal: &Principal) -> bool {
        domain_of_principal(principal).is_some_and(|domain| {
            self.bundles.contains_key(domain)
                && !self.own.contains_key(domain)
                && self.home.as_deref() != Some(domain)
        })
    }

    fn everything(&self) -> impl Iterator<Item = &Anchors> {
        self.bundles.values().chain(&self.all)
    }

    /// Whether the client with this certificate, and those between it and its authority, is believed.
    pub(super) fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Refusal> {
        let Ok(identity) = identity_of_certificate(certificate) else {
            return Err(Refusal::unreadable());
        };
        let domain = domain_of_principal(&identity.principal);
        let deciding = self.deciding(domain);
        let verified = deciding.map_or(Err(Error::from(CertificateError::UnknownIssuer)), |it| {
            it.verifier.verify_client_cert(certificate, between, now).map(|_| ())
        });
        let Err(error) = verified else { return Ok(()) };
        let case = refusal::Case {
            error,
            certificate,
            principal: &identity.principal,
            lists: &self.lists,
        };
        if case.is_of_no_authority() {
            let vouches =
                |it: &&Anchors| it.verifier.verify_client_cert(certificate, between, now).is_ok();
            if let Some(domain) = domain
                && let Some(other) = self.everything().find(vouches)
            {
                return Err(case.of_another_trust_domain(domain, self.domain_of(other)));
            }
            let trusted = deciding.map(|it| it.names.as_slice()).unwrap_or_default();
            return Err(case.of_unknown_authority(domain, trusted));
        }
        Err(case.refusal())
    }

    /// What the authorities are of, where that is one trust domain.
    fn domain_of(&self, anchors: &Anchors) -> Option<&str> {
        let bundle = self.bundles.iter().find(|(_, it)| std::ptr::eq(*it, anchors));
        let only = || self.own.first_key_value().filter(|_| self.own.len() == 1);
        bundle.or_else(only).map(|(domain, _)| domain.as_str())
    }
}

impl Anchors {
    /// `None` where there are no authorities.
    fn new(
        authorities: &[&Authority],
        lists: &[RevocationList],
        provider: &Arc<CryptoProvider>,
    ) -> Result<Option<Self>, TlsError> {
        if authorities.is_empty() {
            return Ok(None);
        }
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            let added = roots.add(authority.der.clone());
            added
                .map_err(|source| TlsError::Authority { path: authority.place.clone(), source })?;
        }
        let lists = lists.iter().map(|list| list.der.clone()).collect();
        let names = authorities.iter().map(|authority| authority.name.clone()).collect();
        Ok(Some(Self { verifier: verifier(roots, lists, provider)?, names }))
    }
}

/// An authority without a list has revoked nobody; one whose list has expired vouches for nobody until
/// there is another.
fn verifier(
    roots: RootCertStore,
    lists: Vec<CertificateRevocationListDer<'static>>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .with_crls(lists)
        .allow_unknown_revocation_status()
        .enforce_revocation_expiration()
        .build()
        .map_err(TlsError::Verifier)
}

/// Looks at each list alone, so that the wrong one is named.
fn check<'a>(
    lists: &[RevocationList],
    mut authorities: impl Iterator<Item = &'a Authority>,
    provider: &Arc<CryptoProvider>,
) -> Result<(), TlsError> {
    let Some(any) = authorities.next() else { return Ok(()) };
    for list in lists {
        let mut roots = RootCertStore::empty();
        if roots.add(any.der.clone()).is_err() {
            // Told with the authorities.
            return Ok(());
        }
        verifier(roots, vec![list.der.clone()], provider).map_err(|error| {
            let reason = crate::reply::text(&error);
            TlsError::RevocationList { path: list.path.clone(), reason }
        })?;
    }
    Ok(())
}

/// The trust domain of who is known by a SPIFFE ID.
fn domain_of_principal(principal: &Principal) -> Option<&str> {
    (principal.form() == Form::Spiffe).then(|| trust_domain(principal.name())).flatten()
}

impl ClientCertVerifier for Trust {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.verify(end_entity, intermediates, now) {
            Ok(()) => Ok(ClientCertVerified::assertion()),
            Err(refused) => Err(refused.note()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
