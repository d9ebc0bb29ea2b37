use std::os::unix::fs::PermissionsExt;

use super::*;

fn aer(arguments: &[&str]) -> Result<(), Failure> {
    let tree = command().args(crate::settings::arguments());
    let matches =
        tree.try_get_matches_from(arguments).map_err(|error| Failure::usage(error.to_string()))?;
    execute(&matches, &Settings::from_matches(&matches)).map(|_| ())
}

fn shown(directory: &Path, file: &str) -> String {
    show::render(&directory.join(file)).unwrap()
}

#[test]
fn a_node_certificate_has_the_names_that_clients_ask_for() {
    let directory = tempfile::tempdir().unwrap();
    let pki = directory.path().join("pki");
    let at = pki.to_str().unwrap();
    aer(&[
        "pki",
        "init",
        at,
        "--node-name",
        "db1",
        "--address",
        "10.0.0.7",
        "--address",
        "db1.lan",
    ])
    .unwrap();
    let node = shown(&pki, SERVER_CRT);
    for expected in [
        "subject:     CN=db1",
        "DNS server.unsafe.aurae.io, DNS localhost, IP 127.0.0.1, IP ::1, DNS db1, IP 10.0.0.7, DNS db1.lan",
        "digital signature, server",
        "ECDSA, 256 bits",
        "authority:   no",
    ] {
        assert!(node.contains(expected), "{expected} is not in\n{node}");
    }
    assert!(shown(&pki, CA_CRT).contains("authority:   yes"));
    assert!(!pki.join(CONFIG).exists());
}

#[test]
fn keys_are_their_owners_and_nothing_is_overwritten_unasked() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().to_str().unwrap();
    aer(&["pki", "init", at]).unwrap();
    for key in [CA_KEY, SERVER_KEY] {
        let mode = directory.path().join(key).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
    let before = shown(directory.path(), CA_CRT);
    let failure = aer(&["pki", "init", at]).unwrap_err();
    assert!(failure.text().contains("ca.crt is there already"), "{}", failure.text());
    assert_eq!(shown(directory.path(), CA_CRT), before);
    aer(&["pki", "init", at, "--force"]).unwrap();
    assert_ne!(shown(directory.path(), CA_CRT), before);
}

#[test]
fn a_client_is_a_spiffe_id_of_the_trust_domain() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().to_str().unwrap();
    aer(&["pki", "init", at, "--client", "me"]).unwrap();
    aer(&["pki", "client", at, "you"]).unwrap();
    let other = aer(&["pki", "client", at, "no", "--trust-domain", "example.org"]).unwrap_err();
    assert!(other.text().contains("vouches for the trust domain aurae.local alone"));
    assert!(shown(directory.path(), "me.crt").contains("URI spiffe://aurae.local/admin/me"));
    let you = shown(directory.path(), "you.crt");
    assert!(you.contains("URI spiffe://aurae.local/reader/you"), "{you}");
    assert!(you.contains("Z (in "), "{you}");
    assert!(shown(directory.path(), CA_CRT).contains("URI spiffe://aurae.local\n"));
    assert!(you.contains("digital signature, client"), "{you}");
    aer(&["pki", "client", at, "them", "--role", "operator"]).unwrap();
    assert!(shown(directory.path(), "them.crt").contains("URI spiffe://aurae.local/operator/them"));
    assert!(aer(&["pki", "client", at, "king", "--role", "king"]).is_err());
    let config = aurae_client::Config::read(&directory.path().join(CONFIG)).unwrap();
    let node = config.default_node().unwrap();
    assert_eq!(node.address.to_string(), DEFAULT_SOCKET);
    assert_eq!(node.identity.client_key, directory.path().join("me.key"));
}

#[test]
fn a_configuration_elsewhere_names_the_certificates_from_there() {
    let directory = tempfile::tempdir().unwrap();
    let (pki, config) = (directory.path().join("pki"), directory.path().join("home/.aurae/config"));
    let line = ["pki", "--config", config.to_str().unwrap(), "--socket", "[::1]:8080", "init"];
    aer(&[&line[..], &[pki.to_str().unwrap()]].concat()).unwrap();
    let node = aurae_client::Config::read(&config).unwrap().default_node().unwrap();
    assert_eq!(node.address.to_string(), "[::1]:8080");
    assert_eq!(node.identity.client_crt, pki.join("admin.crt"));
    assert!(node.identity.client_key.exists());
}

#[test]
fn names_that_are_no_names_are_refused_and_nothing_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let pki = directory.path().join("pki");
    let at = pki.to_str().unwrap();
    for arguments in [
        ["--node-name", "a/b"],
        ["--address", "-x.org"],
        ["--address", "a..b"],
        ["--client", "../me"],
        ["--days", "0"],
        ["--trust-domain", "A B"],
    ] {
        assert!(aer(&[&["pki", "init", at][..], &arguments].concat()).is_err(), "{arguments:?}");
    }
    assert!(!pki.exists());
    let failure = aer(&["pki", "client", at, "me"]).unwrap_err();
    assert!(failure.text().contains("`aer pki init` makes an authority"), "{}", failure.text());
}

#[test]
fn a_key_of_another_authority_signs_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let [one, two] = ["one", "two"].map(|name| directory.path().join(name));
    for at in [&one, &two] {
        aer(&["pki", "init", at.to_str().unwrap()]).unwrap();
    }
    std::fs::copy(two.join(CA_KEY), one.join(CA_KEY)).unwrap();
    let failure = aer(&["pki", "client", one.to_str().unwrap(), "me"]).unwrap_err();
    assert!(failure.text().contains("does not belong to"), "{}", failure.text());
}

/// The certificates in a file.
fn certificates(path: &Path) -> Vec<Vec<u8>> {
    let content = std::fs::read(path).unwrap();
    Pem::iter_from_buffer(&content).map(|pem| pem.unwrap().contents).collect()
}

/// Whether a client's certificate chains to what a directory trusts, by its lists too.
fn is_trusted(directory: &Path, client: &str) -> Result<(), String> {
    use rustls::server::WebPkiClientVerifier;
    use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
    let mut roots = rustls::RootCertStore::empty();
    for authority in certificates(&directory.join(CA_CRT)) {
        roots.add(authority.into()).unwrap();
    }
    let lists = directory.join(CRL);
    let lists = if lists.exists() { certificates(&lists) } else { Vec::new() };
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
        .with_crls(lists.into_iter().map(CertificateRevocationListDer::from))
        .enforce_revocation_expiration()
        .allow_unknown_revocation_status()
        .build()
        .unwrap();
    let client = CertificateDer::from(certificates(&directory.join(client)).remove(0));
    let verified = verifier.verify_client_cert(&client, &[], UnixTime::now());
    verified.map(|_| ()).map_err(|error| error.to_string())
}

#[test]
fn a_rotation_trusts_both_authorities_until_it_is_finished() {
    let directory = tempfile::tempdir().unwrap();
    let (path, at) = (directory.path(), directory.path().to_str().unwrap());
    aer(&["pki", "init", at, "--client", "me", "--address", "10.0.0.7"]).unwrap();
    std::fs::copy(path.join("me.crt"), path.join("before.pem")).unwrap();
    let key = std::fs::read(path.join("me.key")).unwrap();
    let (old, server) = (certificates(&path.join(CA_CRT)), shown(path, SERVER_CRT));
    aer(&["pki", "rotate", at]).unwrap();

    let both = certificates(&path.join(CA_CRT));
    assert_eq!((both.len(), &both[1]), (2, &old[0]));
    assert_eq!(std::fs::read(path.join("me.key")).unwrap(), key);
    assert_eq!(is_trusted(path, "before.pem"), Ok(()));
    assert_eq!(is_trusted(path, "me.crt"), Ok(()));
    assert_ne!(certificates(&path.join("me.crt")), certificates(&path.join("before.pem")));
    assert!(shown(path, "me.crt").contains("URI spiffe://aurae.local/admin/me"));
    let line = |text: &str, name: &str| {
        text.lines().find(|line| line.starts_with(name)).map(str::to_owned).unwrap()
    };
    for name in ["names:", "usage:", "subject:"] {
        assert_eq!(line(&shown(path, SERVER_CRT), name), line(&server, name));
    }

    // A second time nothing is made anew.
    aer(&["pki", "rotate", at]).unwrap();
    assert_eq!(certificates(&path.join(CA_CRT)), both);
    aer(&["pki", "rotate", at, "--finish"]).unwrap();
    assert_eq!(certificates(&path.join(CA_CRT)), both[..1]);
    assert!(!path.join(OLD_CA_KEY).exists());
    assert!(is_trusted(path, "before.pem").is_err());
    assert_eq!(is_trusted(path, "me.crt"), Ok(()));
    let nothing = aer(&["pki", "rotate", at, "--finish"]).unwrap_err();
    assert!(nothing.text().contains("there is one authority"), "{}", nothing.text());
    aer(&["pki", "client", at, "you"]).unwrap();
    assert_eq!(is_trusted(path, "you.crt"), Ok(()));
}

#[test]
fn a_rotation_that_was_interrupted_is_gone_on_with() {
    let directory = tempfile::tempdir().unwrap();
    let (path, at) = (directory.path(), directory.path().to_str().unwrap());
    aer(&["pki", "init", at, "--client", "me"]).unwrap();
    let before = std::fs::read(path.join("me.crt")).unwrap();
    aer(&["pki", "rotate", at]).unwrap();
    std::fs::write(path.join("me.crt"), &before).unwrap();
    let early = aer(&["pki", "rotate", at, "--finish"]).unwrap_err();
    assert!(early.text().contains("me.crt is not of the new authority yet"), "{}", early.text());
    aer(&["pki", "rotate", at]).unwrap();
    assert_ne!(std::fs::read(path.join("me.crt")).unwrap(), before);
    aer(&["pki", "rotate", at, "--finish"]).unwrap();
}

#[test]
fn what_was_revoked_stays_so_over_a_rotation() {
    let directory = tempfile::tempdir().unwrap();
    let (path, at) = (directory.path(), directory.path().to_str().unwrap());
    for arguments in [
        &["init", at, "--client", "me"][..],
        &["client", at, "you"],
        &["client", at, "they"],
        &["revoke", at, "you"],
    ] {
        aer(&[&["pki"], arguments].concat()).unwrap();
    }
    let revoked = |name: &str| is_trusted(path, name).is_err_and(|error| error.contains("Revoked"));
    assert!(revoked("you.crt") && !revoked("me.crt"));
    aer(&["pki", "revoke", at, path.join("they.crt").to_str().unwrap()]).unwrap();
    assert!(revoked("you.crt") && revoked("they.crt") && !revoked("me.crt"));
    for name in ["you", "they"] {
        std::fs::rename(path.join(format!("{name}.crt")), path.join(format!("{name}.pem")))
            .unwrap();
    }
    aer(&["pki", "rotate", at]).unwrap();
    aer(&["pki", "revoke", at, "me"]).unwrap();
    assert!(revoked("you.pem") && revoked("they.pem") && revoked("me.crt"));
    aer(&["pki", "rotate", at, "--finish"]).unwrap();
    assert!(revoked("me.crt"));
    let foreign = tempfile::tempdir().unwrap();
    aer(&["pki", "init", foreign.path().to_str().unwrap(), "--client", "x"]).unwrap();
    let x = foreign.path().join("x.crt");
    let failure = aer(&["pki", "revoke", at, x.to_str().unwrap()]).unwrap_err();
    assert!(failure.text().contains("was not signed by an authority in"), "{}", failure.text());
}
