use super::*;

const PATH: &str = "/etc/aurae/config";

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new(PATH), text)
}

const AUTH: &str = r#"
[auth]
ca_crt = "pki/ca.crt"
client_crt = "/abs/client.crt"
client_key = "~/client.key"
"#;

fn with_auth(rest: &str) -> Config {
    parse(&format!("{AUTH}{rest}")).unwrap()
}

#[test]
fn paths_are_relative_to_the_file_and_tilde_is_the_home_directory() {
    let node = with_auth("[system]\nsocket = \"a.sock\"").default_node().unwrap();
    assert_eq!(node.identity.ca_crt, Path::new("/etc/aurae/pki/ca.crt"));
    assert_eq!(node.identity.client_crt, Path::new("/abs/client.crt"));
    assert_eq!(node.identity.client_key, home().unwrap().join("client.key"));
    assert_eq!(node.address, Address::Unix("/etc/aurae/a.sock".into()));
}

#[test]
fn without_system_or_nodes_the_daemon_of_this_machine_is_meant() {
    let node = with_auth("").default_node().unwrap();
    assert_eq!(node.address.to_string(), DEFAULT_SOCKET);
}

#[test]
fn a_node_has_its_own_identity_or_that_of_auth() {
    let config = with_auth(
        "[nodes.a]\nsocket = \"10.0.0.1:8080\"\n[nodes.b]\nsocket = \"10.0.0.2:8080\"\nca_crt = \"b.crt\"",
    );
    let [a, b] = <[Node; 2]>::try_from(config.all_nodes().unwrap()).unwrap();
    assert_eq!((a.name.as_str(), a.address.to_string().as_str()), ("a", "10.0.0.1:8080"));
    assert_eq!(a.identity.ca_crt, Path::new("/etc/aurae/pki/ca.crt"));
    assert_eq!(b.identity.ca_crt, Path::new("/etc/aurae/b.crt"));
    assert_eq!(b.identity.client_crt, a.identity.client_crt);
}

#[test]
fn the_only_node_is_the_default_one_and_of_two_none_is() {
    let one = "[nodes.a]\nsocket = \"10.0.0.1:8080\"\n";
    assert_eq!(with_auth(one).default_node().unwrap().name.as_str(), "a");
    let two = format!("{one}[nodes.b]\nsocket = \"10.0.0.2:8080\"\n");
    let error = with_auth(&two).default_node().unwrap_err();
    assert!(error.to_string().contains("name one of a, b with --node"), "{error}");
    let error = with_auth(&two).node("c").unwrap_err();
    assert!(error.to_string().contains("no node `c`: it has a, b"), "{error}");
}

#[test]
fn an_unknown_key_is_an_error_that_names_it() {
    for text in ["sytem = 1", "[auth]\nca = \"x\"", "[nodes.a]\nsocket = \"/a\"\nport = 1"] {
        let error = parse(text).unwrap_err().to_string();
        let key = text.rsplit_once('\n').map_or(text, |(_, last)| last);
        let key = key.split_once(' ').unwrap().0;
        assert!(error.contains(&format!("unknown field `{key}`")), "{error}");
        assert!(error.contains(PATH), "{error}");
    }
}

#[test]
fn a_socket_that_is_no_address_is_an_error_that_names_the_key() {
    let error = parse(&format!("{AUTH}[nodes.a]\nsocket = \"node:80\"")).unwrap_err();
    let report = crate::report(&error);
    assert!(report.contains("nodes.a.socket") && report.contains("`node:80`"), "{report}");
}

#[test]
fn a_missing_identity_is_an_error_that_names_the_key_and_the_node() {
    let error = parse("[nodes.a]\nsocket = \"/a\"\nca_crt = \"c\"").unwrap_err().to_string();
    assert!(error.contains("client_crt for [nodes.a]"), "{error}");
    let error = parse("").unwrap().default_node().unwrap_err().to_string();
    assert!(error.contains("ca_crt") && error.contains("[auth]"), "{error}");
}

#[test]
fn a_missing_file_is_an_error_that_names_all_places() {
    let places = vec![PathBuf::from("/no/such/a"), PathBuf::from("/no/such/b")];
    let error = Config::search(places).unwrap_err().to_string();
    assert!(error.contains("/no/such/a, /no/such/b"), "{error}");
}

#[test]
fn the_first_place_that_exists_counts_even_if_it_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let [absent, wrong, right] = ["absent", "wrong", "right"].map(|n| directory.path().join(n));
    std::fs::write(&wrong, "nonsense").unwrap();
    std::fs::write(&right, AUTH).unwrap();
    assert_eq!(Config::search(vec![absent.clone(), right.clone()]).unwrap().path(), right);
    let error = Config::search(vec![absent, wrong, right]).unwrap_err();
    assert!(matches!(error, ConfigError::Parse { .. }), "{error}");
}

#[test]
fn an_unreadable_file_is_an_error_that_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let error = Config::search(vec![directory.path().to_owned()]).unwrap_err();
    assert!(crate::report(&error).contains(&directory.path().display().to_string()), "{error}");
}
