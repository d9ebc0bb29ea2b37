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
    aer(&["pki", "client", at, "you", "--trust-domain", "example.org"]).unwrap();
    assert!(shown(directory.path(), "me.crt").contains("URI spiffe://aurae.local/admin/me"));
    let you = shown(directory.path(), "you.crt");
    assert!(you.contains("URI spiffe://example.org/reader/you"), "{you}");
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
