//! An authority and the certificates of a test.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use aurae_client::{Address, Identity, Node};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SanType, SerialNumber,
};
use time::{Duration, OffsetDateTime};
use x509_parser::pem::Pem;

use crate::server::TlsFiles;

/// The name that clients of v0 ask for.
const SERVER_NAME: &str = "server.unsafe.aurae.io";
/// Who the usual client is.
pub(super) const ALICE: &str = "spiffe://aurae.local/admin/alice";

/// A directory with an authority, a server's certificate, and those that are asked for.
pub(crate) struct Pki {
    directory: tempfile::TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    pub(crate) fn new() -> Self {
        Self::called("authority of a test", None)
    }

    /// With an authority of that name, which is of that trust domain.
    pub(crate) fn called(name: &str, trust_domain: Option<&str>) -> Self {
        let mut params = CertificateParams::default();
        if let Some(domain) = trust_domain {
            params.subject_alt_names =
                vec![SanType::URI(format!("spiffe://{domain}").try_into().unwrap())];
        }
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let authority = CertifiedIssuer::self_signed(params, key).unwrap();
        let pki = Self { directory: tempfile::tempdir().unwrap(), authority };
        fs::write(pki.path("ca.crt"), pki.authority.pem()).unwrap();
        pki.issue_server(Duration::days(365));
        pki
    }

    /// Another certificate for the server, in the place of the one before.
    pub(crate) fn issue_server(&self, validity: Duration) {
        let mut params = CertificateParams::new([SERVER_NAME.to_owned()]).unwrap();
        params.not_before = OffsetDateTime::now_utc() - Duration::minutes(1);
        params.not_after = OffsetDateTime::now_utc() + validity;
        self.issue("server", params);
    }

    /// A list of revoked certificates, valid for so long.
    pub(crate) fn revoke(&self, names: &[&str], validity: Duration) -> String {
        let now = OffsetDateTime::now_utc();
        let revoked = names.iter().map(|name| {
            let pem = fs::read(self.path(&format!("{name}.crt"))).unwrap();
            let pem = Pem::iter_from_buffer(&pem).next().unwrap().unwrap();
            let serial = pem.parse_x509().unwrap().raw_serial().to_vec();
            RevokedCertParams {
                serial_number: SerialNumber::from(serial),
                revocation_time: now,
                reason_code: None,
                invalidity_date: None,
            }
        });
        let params = CertificateRevocationListParams {
            this_update: now - Duration::days(2),
            next_update: now + validity,
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.authority).unwrap().pem().unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn issue(&self, name: &str, params: CertificateParams) {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        fs::write(self.path(&format!("{name}.crt")), certificate.pem()).unwrap();
        fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    /// The files for the server.
    pub(crate) fn server(&self) -> TlsFiles {
        TlsFiles {
            certificate: self.path("server.crt"),
            key: self.path("server.key"),
            authority: self.path("ca.crt"),
            ..TlsFiles::default()
        }
    }

    /// A client with a certificate that `change` makes of the usual one.
    pub(super) fn client(
        &self,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = vec![SanType::URI(ALICE.try_into().unwrap())];
        change(&mut params);
        self.issue(name, params);
        self.identity(name, self.path("ca.crt"))
    }

    /// A client that this authority signed, and that believes another one.
    pub(super) fn client_of_server_of(&self, other: &Self) -> Identity {
        self.client("stranger", |_| {});
        self.identity("stranger", other.path("ca.crt"))
    }

    pub(super) fn identity(&self, name: &str, ca_crt: PathBuf) -> Identity {
        let (client_crt, client_key) = self.files(name);
        Identity { ca_crt, client_crt, client_key }
    }

    fn files(&self, name: &str) -> (PathBuf, PathBuf) {
        (self.path(&format!("{name}.crt")), self.path(&format!("{name}.key")))
    }
}

/// A certificate for servers alone.
pub(super) fn for_servers(params: &mut CertificateParams) {
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
}

/// The node at `address`, for the client that `identity` is.
pub(super) fn node(address: SocketAddr, identity: Identity) -> Node {
    let address = Address::Tcp { ip: address.ip(), port: address.port(), scope: None };
    Node::new("test", address, identity)
}

/// The node at a unix socket.
pub(super) fn node_at(path: &Path, identity: Identity) -> Node {
    Node::new("test", Address::Unix(path.to_owned()), identity)
}
