//! Certificates that a node has to refuse, or to accept, which our own tools would not make.

use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aurae_client::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, RevokedCertParams, SanType, SerialNumber,
};
use time::OffsetDateTime;

/// What a test's certificates live.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The file with the certificate of an authority.
const AUTHORITY: &str = "authority.crt";

/// What is special about a client's certificate.
#[derive(Clone, Debug)]
pub struct Issued {
    /// From when it is valid.
    pub not_before: OffsetDateTime,
    /// Until when.
    pub not_after: OffsetDateTime,
    /// Its extended key usages.
    pub usages: Vec<ExtendedKeyUsagePurpose>,
    /// The trust domain of its SPIFFE ID.
    pub trust_domain: &'static str,
    /// What the path of its SPIFFE ID begins with: a role, or a team.
    pub group: &'static str,
}

impl Default for Issued {
    /// An admin's, valid from yesterday to tomorrow, without extended key usage.
    fn default() -> Self {
        let now = OffsetDateTime::now_utc();
        let (not_before, not_after) = (now - DAY, now + DAY);
        let (trust_domain, group) = ("aurae.local", "admin");
        Self { not_before, not_after, usages: Vec::new(), trust_domain, group }
    }
}

impl Issued {
    /// Of somebody of that role, or team.
    pub fn of(group: &'static str) -> Self {
        Self { group, ..Self::default() }
    }

    /// Valid until three hours ago, and a minute so that it stays three.
    pub fn expired() -> Self {
        let now = OffsetDateTime::now_utc();
        let not_after = now - Duration::from_secs(3 * 3600 + 60);
        Self { not_after, ..Self::default() }
    }

    /// Valid from tomorrow.
    pub fn not_yet_valid() -> Self {
        let now = OffsetDateTime::now_utc();
        // A quarter more, so that it stays tomorrow.
        Self { not_before: now + DAY + DAY / 4, not_after: now + 2 * DAY, ..Self::default() }
    }
}

/// A directory that certificates are written to, and who signs them.
#[derive(Debug)]
pub struct Certificates {
    directory: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    /// The authority by which clients know the node.
    node_ca: PathBuf,
}

impl Certificates {
    /// Signs with the authority of the test bed. `identity` is the tests' own.
    pub fn of_the_node(identity: &Identity, directory: &Path) -> Self {
        let key = checked(fs::read_to_string(identity.ca_crt.with_extension("key")));
        let certificate = checked(fs::read_to_string(&identity.ca_crt));
        let issuer =
            checked(Issuer::from_ca_cert_pem(&certificate, checked(KeyPair::from_pem(&key))));
        Self::with_issuer(issuer, identity, directory)
    }

    /// Signs with an authority that no node knows.
    pub fn of_somebody_else(identity: &Identity, directory: &Path) -> Self {
        let mut params = checked(CertificateParams::new(Vec::new()));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = checked(KeyPair::generate());
        let certificate = checked(params.self_signed(&key));
        let made = Self::with_issuer(Issuer::new(params, key), identity, directory);
        checked(fs::write(made.authority(), certificate.pem()));
        made
    }

    fn with_issuer(
        issuer: Issuer<'static, KeyPair>,
        identity: &Identity,
        directory: &Path,
    ) -> Self {
        checked(fs::create_dir_all(directory));
        Self { directory: directory.to_owned(), issuer, node_ca: identity.ca_crt.clone() }
    }

    /// The file with this authority's certificate, which is made for an authority of our own only.
    pub fn authority(&self) -> PathBuf {
        self.directory.join(AUTHORITY)
    }

    /// A client with a certificate like this.
    pub fn client(&self, name: &str, like: &Issued) -> Identity {
        let mut params = checked(CertificateParams::new(Vec::new()));
        let Issued { trust_domain, group, .. } = like;
        let id = checked(format!("spiffe://{trust_domain}/{group}/{name}").try_into());
        params.subject_alt_names = vec![SanType::URI(id)];
        params.not_before = like.not_before;
        params.not_after = like.not_after;
        params.extended_key_usages.clone_from(&like.usages);
        let key = checked(KeyPair::generate());
        params.serial_number = Some(serial(&key));
        let certificate = checked(params.signed_by(&key, &self.issuer));
        let identity = Identity {
            ca_crt: self.node_ca.clone(),
            client_crt: self.directory.join(format!("{name}.crt")),
            client_key: self.key(name),
        };
        checked(fs::write(&identity.client_crt, certificate.pem()));
        checked(fs::write(&identity.client_key, key.serialize_pem()));
        identity
    }

    /// The list by which the authority has revoked a client's certificate, PEM.
    pub fn revoke(&self, name: &str) -> String {
        let key = checked(KeyPair::from_pem(&checked(fs::read_to_string(self.key(name)))));
        let now = OffsetDateTime::now_utc();
        let revoked = RevokedCertParams {
            serial_number: serial(&key),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: now - DAY,
            next_update: now + DAY,
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        checked(checked(list.signed_by(&self.issuer)).pem())
    }

    fn key(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.key"))
    }
}

/// Of the certificate of a key: it has one only. The first byte of a public key says its form, so that
/// the number is not negative.
fn serial(key: &KeyPair) -> SerialNumber {
    const BYTES: usize = 16;
    SerialNumber::from_slice(&key.public_key_raw()[..BYTES])
}

#[track_caller]
fn checked<T, E: Debug>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error:?}"),
    }
}
