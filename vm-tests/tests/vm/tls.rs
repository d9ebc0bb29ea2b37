//! Who is let in.

use std::path::PathBuf;

use aurae_client::{Client, Identity};
use aurae_proto::discovery::DiscoverRequest;
use rcgen::ExtendedKeyUsagePurpose;
use vm_tests::{Certificates, Issued, Node};

/// Where a test's certificates go.
fn directory(test: &str) -> PathBuf {
    std::env::temp_dir().join(format!("aurae-vm-tests-{}-{test}", std::process::id()))
}

/// What came of the first call as somebody.
async fn knock(node: &Node, identity: Identity) -> Result<(), String> {
    let api = node.api_as(identity).await.map_err(|error| aurae_client::report(&error))?;
    let answer = api.discovery.clone().discover(DiscoverRequest {}).await;
    answer.map(drop).map_err(|status| api.client.explain(status).message().to_owned())
}

#[tokio::test]
async fn clients_that_the_authority_does_not_vouch_for_are_refused_and_logged() {
    let node = Node::shared().await;
    let directory = directory("refused");
    let own = Certificates::of_the_node(&node.identity(), &directory);
    let foreign = Certificates::of_somebody_else(&node.identity(), &directory);
    let server_only =
        Issued { usages: vec![ExtendedKeyUsagePurpose::ServerAuth], ..Issued::default() };
    let elsewhere = Issued { trust_domain: "example.org", ..Issued::default() };
    for (identity, said, logged) in [
        (
            foreign.client("foreign", &Issued::default()),
            "an authority that it does not trust",
            "(spiffe://aurae.local/admin/foreign) is signed by CN=",
        ),
        (
            own.client("expired", &Issued::expired()),
            "expired.crt expired 3 hours ago",
            "(spiffe://aurae.local/admin/expired) expired 3 hours ago",
        ),
        (
            own.client("early", &Issued::not_yet_valid()),
            "early.crt is not valid yet: it is from tomorrow",
            "(spiffe://aurae.local/admin/early) is not valid yet: it is from tomorrow",
        ),
        (
            own.client("server", &server_only),
            "server.crt is not for clients",
            "(spiffe://aurae.local/admin/server) is not for clients",
        ),
        (
            own.client("elsewhere", &elsewhere),
            "elsewhere.crt is of the trust domain example.org",
            "vouches for the trust domain aurae.local alone",
        ),
    ] {
        let error = knock(&node, identity).await.expect_err(logged);
        assert!(error.contains("refused the connection"), "{logged}: {error}");
        // TLS has an alert for a kind of reason only: the client knows its own certificate.
        assert!(error.contains(said), "{said}: {error}");
        node.console_says(logged).await;
    }
    std::fs::remove_dir_all(directory).expect("removed");
}

#[tokio::test]
async fn clients_that_the_authority_signed_are_let_in() {
    let node = Node::shared().await;
    let directory = directory("accepted");
    let own = Certificates::of_the_node(&node.identity(), &directory);
    let for_clients =
        Issued { usages: vec![ExtendedKeyUsagePurpose::ClientAuth], ..Issued::default() };
    for (name, like) in [("no usage", Issued::default()), ("clients", for_clients)] {
        knock(&node, own.client(&name.replace(' ', "-"), &like)).await.expect(name);
    }
    std::fs::remove_dir_all(directory).expect("removed");
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let node = Node::shared().await;
    let error = vm_tests::knock_without_certificate(&node).await.expect_err("it is refused");
    println!("{error}");
    node.console_says("the client showed no certificate").await;
}

#[tokio::test]
async fn an_older_tls_is_refused() {
    let node = Node::shared().await;
    let error = vm_tests::knock_with_tls_1_2(&node).await.expect_err("it is refused");
    println!("{error}");
    node.console_says("the client speaks no TLS newer than 1.2").await;
}

#[tokio::test]
async fn a_node_of_another_authority_is_not_believed() {
    let node = Node::shared().await;
    let directory = directory("not-believed");
    let foreign = Certificates::of_somebody_else(&node.identity(), &directory);
    let identity = Identity { ca_crt: foreign.authority(), ..node.identity() };
    let who = aurae_client::Node::new("node", node.address(), identity);
    let error = match Client::connect(&who).await {
        Ok(_) => panic!("the node was believed"),
        Err(error) => aurae_client::report(&error),
    };
    assert!(error.contains("certificate of the node") && error.contains("is signed by"), "{error}");
    std::fs::remove_dir_all(directory).expect("removed");
}
