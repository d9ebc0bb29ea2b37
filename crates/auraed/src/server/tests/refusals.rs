//! Who is not let in, and what the log says about it.

use std::fs;

use rcgen::{CertificateParams, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use time::{Duration, OffsetDateTime};
use tokio_rustls::TlsConnector;

use super::*;

const REFUSED: &str = "refused a TLS handshake";

/// Gives the certificate the only name `uri`.
fn called(uri: &'static str) -> impl FnOnce(&mut CertificateParams) {
    move |params| params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())]
}

#[tokio::test]
async fn a_client_of_another_authority_is_refused_with_the_names_of_both() {
    let fixture = Fixture::start();
    let other = Pki::called("somebody else", None);
    let error = fixture.discover(other.client_of_server_of(&fixture.pki)).await.unwrap_err();
    assert!(
        error.contains("signed by CN=somebody else, an authority that it does not trust"),
        "{error}"
    );
    let trusted = "signed by CN=somebody else, which is none of the authorities trusted for aurae.local: CN=authority of a test";
    fixture.logged(&[REFUSED, pki::ALICE, trusted]).await;
}

#[tokio::test]
async fn a_client_of_an_authority_that_took_the_name_of_ours_is_refused() {
    let fixture = Fixture::start();
    fixture.discover(Pki::new().client_of_server_of(&fixture.pki)).await.unwrap_err();
    let same =
        "signed by another authority of the name CN=authority of a test than the one trusted";
    fixture.logged(&[REFUSED, same]).await;
}

#[tokio::test]
async fn a_client_whose_certificate_has_expired_is_refused_and_told_when_it_did() {
    let fixture = Fixture::start();
    let now = OffsetDateTime::now_utc();
    let late = fixture.pki.client("late", |params| {
        params.not_before = now - Duration::days(9);
        params.not_after = now - Duration::hours(25);
    });
    let error = fixture.discover(late).await.unwrap_err();
    assert!(error.contains("late.crt expired yesterday"), "{error}");
    fixture.logged(&[REFUSED, pki::ALICE, "expired yesterday, at 20"]).await;
}

#[tokio::test]
async fn a_client_whose_certificate_is_not_valid_yet_is_refused_and_told_from_when_it_is() {
    let fixture = Fixture::start();
    let now = OffsetDateTime::now_utc();
    let early = fixture.pki.client("early", |params| {
        params.not_before = now + Duration::minutes(185);
        params.not_after = now + Duration::days(9);
    });
    let error = fixture.discover(early).await.unwrap_err();
    assert!(error.contains("early.crt is not valid yet: it is from in 3 hours"), "{error}");
    fixture.logged(&[REFUSED, pki::ALICE, "not valid yet: it is from in 3 hours, at 20"]).await;
}

#[tokio::test]
async fn a_certificate_for_servers_alone_does_not_admit_a_client() {
    let fixture = Fixture::start();
    let server = fixture.pki.client("server-alone", pki::for_servers);
    let error = fixture.discover(server).await.unwrap_err();
    assert!(error.contains("server-alone.crt is not for clients"), "{error}");
    let reason = "is not for clients: its extended key usage lacks clientAuth";
    fixture.logged(&[REFUSED, pki::ALICE, reason]).await;
}

#[tokio::test]
async fn a_client_whose_certificate_was_revoked_is_refused() {
    let pki = Pki::new();
    let (bad, good) = (pki.client("bad", |_| {}), pki.client("good", |_| {}));
    fs::write(pki.path("crl.pem"), pki.revoke(&["bad"], Duration::days(1))).unwrap();
    let files = TlsFiles { revocation_lists: vec![pki.path("crl.pem")], ..pki.server() };
    let fixture = Fixture::with(pki, &files);
    let error = fixture.discover(bad).await.unwrap_err();
    assert!(error.contains("bad.crt was revoked"), "{error}");
    fixture.logged(&[REFUSED, pki::ALICE, "was revoked by CN=authority of a test"]).await;
    fixture.discover(good).await.unwrap();
}

#[tokio::test]
async fn a_list_that_has_expired_keeps_out_its_own_authoritys_clients_alone() {
    let (own, other) =
        (Pki::called("ours", Some("aurae.local")), Pki::called("theirs", Some("example.org")));
    let directory = own.path("trust");
    fs::create_dir(&directory).unwrap();
    fs::copy(other.path("ca.crt"), directory.join("example.org.pem")).unwrap();
    fs::write(own.path("crl.pem"), own.revoke(&[], Duration::hours(-3))).unwrap();
    let files = TlsFiles {
        trust_directory: Some(directory),
        revocation_lists: vec![own.path("crl.pem")],
        ..own.server()
    };
    let fixture = Fixture::with(own, &files);
    let alice = fixture.pki.client("alice", |_| {});
    fixture.discover(alice.clone()).await.unwrap_err();
    fixture.logged(&[REFUSED, "the revocation list", "crl.pem expired 3 hours ago"]).await;
    let theirs = called("spiffe://example.org/user/bob");
    other.client("bob", theirs);
    let bob = other.identity("bob", fixture.pki.path("ca.crt"));
    let error = fixture.discover(bob).await.unwrap_err();
    assert!(error.contains("spiffe://example.org/user/bob may not call"), "{error}");
    let told = fixture.tls.expired_lists();
    assert!(
        matches!(told.as_slice(), [only] if only.contains("crl.pem expired 3 hours ago")),
        "{told:?}"
    );
    // The next one is taken up as any other change.
    fs::write(fixture.pki.path("crl.pem"), fixture.pki.revoke(&[], Duration::days(1))).unwrap();
    fixture.tls.reload().unwrap();
    assert_eq!(fixture.tls.expired_lists(), Vec::<String>::new());
    fixture.discover(alice).await.unwrap();
}

/// A server with the bundle of `example.org` beside its own authority of `aurae.local`.
fn federated() -> (Fixture, Pki) {
    let (own, other) =
        (Pki::called("ours", Some("aurae.local")), Pki::called("theirs", Some("example.org")));
    let directory = own.path("trust");
    fs::create_dir(&directory).unwrap();
    fs::copy(other.path("ca.crt"), directory.join("example.org.pem")).unwrap();
    let files = TlsFiles { trust_directory: Some(directory), ..own.server() };
    (Fixture::with(own, &files), other)
}

#[tokio::test]
async fn an_authority_vouches_for_its_own_trust_domain_and_for_no_other() {
    let (fixture, other) = federated();
    let ca_crt = fixture.pki.path("ca.crt");
    let of_other = |name: &str, uri| {
        other.client(name, called(uri));
        other.identity(name, ca_crt.clone())
    };
    fixture.discover(fixture.pki.client("alice", |_| {})).await.unwrap();
    // Believed, and without a role, which that authority cannot give.
    let foreign = "spiffe://example.org/admin/bob";
    let error = fixture.discover(of_other("theirs", foreign)).await.unwrap_err();
    assert!(error.contains("spiffe://example.org/admin/bob may not call"), "{error}");

    let error =
        fixture.discover(of_other("forged", "spiffe://aurae.local/user/alice")).await.unwrap_err();
    assert!(error.contains("forged.crt is of the trust domain aurae.local"), "{error}");
    let reason = "is of the trust domain aurae.local, and CN=theirs, which signed it, vouches for the trust domain example.org alone";
    fixture.logged(&[REFUSED, reason]).await;

    let ours = fixture.pki.client("ours", called("spiffe://example.org/user/bob"));
    fixture.discover(ours).await.unwrap_err();
    let reason = "is of the trust domain example.org, and CN=ours, which signed it, vouches for the trust domain aurae.local alone";
    fixture.logged(&[REFUSED, reason]).await;

    // Who has no SPIFFE ID is of no trust domain: --ca-crt decides.
    let host = |params: &mut CertificateParams| params.subject_alt_names.clear();
    let error = fixture.discover(fixture.pki.client("host", host)).await.unwrap_err();
    assert!(error.contains("may not call"), "{error}");
    other.client("host", host);
    fixture.discover(other.identity("host", ca_crt.clone())).await.unwrap_err();
    let third = Pki::called("third", Some("third.example"));
    third.client("third", called("spiffe://third.example/user/carol"));
    fixture.discover(third.identity("third", ca_crt)).await.unwrap_err();
    let reason = "signed by CN=third, and the authorities trusted for third.example are none";
    fixture.logged(&[REFUSED, reason]).await;
}

#[tokio::test]
async fn a_principal_of_another_trust_domain_is_explained_as_it_is_when_it_calls() {
    use aurae_proto::auth::ExplainRequest;
    use aurae_proto::auth::policy_service_client::PolicyServiceClient;
    let (fixture, _other) = federated();
    let mut policies = PolicyServiceClient::new(fixture.client().await.channel());
    for (principal, allowed) in
        [("spiffe://aurae.local/admin/bob", true), ("spiffe://example.org/admin/bob", false)]
    {
        let (principal, action) = (principal.to_owned(), "cells.List".to_owned());
        let request = ExplainRequest { principal, action, ..Default::default() };
        let explained = policies.explain(request).await.unwrap().into_inner();
        assert_eq!(explained.allowed, allowed, "{explained:?}");
        assert_eq!(explained.rules.is_empty(), !allowed, "{explained:?}");
    }
}

#[tokio::test]
async fn an_authority_of_no_trust_domain_is_of_that_of_the_nodes_certificate() {
    let pki = Pki::new();
    pki.client("server", |params| {
        called("spiffe://aurae.local/node/n1")(params);
        let name = "server.unsafe.aurae.io".try_into().unwrap();
        params.subject_alt_names.push(SanType::DnsName(name));
    });
    let files = pki.server();
    let fixture = Fixture::with(pki, &files);
    fixture.discover(fixture.pki.client("alice", |_| {})).await.unwrap();
    let stranger = fixture.pki.client("stranger", called("spiffe://example.org/user/bob"));
    fixture.discover(stranger).await.unwrap_err();
    fixture.logged(&[REFUSED, "is of the trust domain example.org, and"]).await;
}

/// A client of a protocol version that shows no certificate.
async fn anonymous(fixture: &Fixture, version: &'static SupportedProtocolVersion) {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(fixture.pki.path("ca.crt")).unwrap();
    roots.add(authority).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(fixture.address).await.unwrap();
    let name = ServerName::try_from("server.unsafe.aurae.io").unwrap();
    // In TLS 1.3 the server's refusal comes after the client's handshake.
    let mut refused = match TlsConnector::from(Arc::new(config)).connect(name, stream).await {
        Ok(stream) => stream,
        Err(_) => return,
    };
    let read = tokio::time::timeout(PATIENCE, refused.read_to_end(&mut Vec::new())).await;
    read.unwrap().unwrap_err();
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let fixture = Fixture::start();
    anonymous(&fixture, &rustls::version::TLS13).await;
    fixture.logged(&[REFUSED, "the client showed no certificate"]).await;
}

#[tokio::test]
async fn a_version_of_tls_before_1_3_is_refused() {
    let fixture = Fixture::start();
    anonymous(&fixture, &rustls::version::TLS12).await;
    fixture.logged(&[REFUSED, "the client speaks no TLS newer than 1.2; 1.3 is needed"]).await;
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    let (pki, other) = (Pki::new(), Pki::called("other", Some("example.org")));
    let error = |files: &TlsFiles| crate::reply::text(&Tls::read(files, None).unwrap_err());
    let with_list = |content: &str| {
        fs::write(pki.path("crl.pem"), content).unwrap();
        error(&TlsFiles { revocation_lists: vec![pki.path("crl.pem")], ..pki.server() })
    };
    let garbage = with_list("garbage");
    assert!(garbage.contains("crl.pem") && garbage.contains("none found"), "{garbage}");
    let forged = with_list(&Pki::new().revoke(&[], Duration::days(1)));
    assert!(forged.contains("crl.pem") && forged.contains("did not sign it"), "{forged}");

    let directory = pki.path("trust");
    fs::create_dir(&directory).unwrap();
    let files = TlsFiles { trust_directory: Some(directory.clone()), ..pki.server() };
    fs::write(directory.join("README"), "not a bundle").unwrap();
    Tls::read(&files, None).unwrap();
    fs::copy(other.path("ca.crt"), directory.join("another.org.pem")).unwrap();
    let mixed = error(&files);
    assert!(
        mixed.contains("another.org.pem")
            && mixed.contains("CN=other, which is of the trust domain example.org"),
        "{mixed}"
    );
    fs::rename(directory.join("another.org.pem"), directory.join("Example.pem")).unwrap();
    assert!(error(&files).contains("Example.pem is not called after a trust domain"));
}

#[tokio::test]
async fn a_list_of_an_authority_that_is_not_trusted_is_told_and_left_alone() {
    let pki = Pki::new();
    let other = Pki::called("an authority that is gone", None);
    fs::write(pki.path("crl.pem"), other.revoke(&[], Duration::days(1))).unwrap();
    let files = TlsFiles { revocation_lists: vec![pki.path("crl.pem")], ..pki.server() };
    // What is told at the start is in no fixture's log: it is told again by a reload.
    let fixture = Fixture::with(pki, &files);
    fixture.discover(fixture.pki.client("alice", |_| {})).await.unwrap();
    fs::write(fixture.pki.path("crl.pem"), other.revoke(&[], Duration::days(2))).unwrap();
    fixture.tls.reload().unwrap();
    fixture.logged(&["a revocation list is of no authority that is trusted", "gone"]).await;
}
