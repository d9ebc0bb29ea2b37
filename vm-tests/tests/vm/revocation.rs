//! Certificates that are revoked, and other authorities: while a node runs, and from its config disk.

use std::path::{Path, PathBuf};
use std::process::Command;

use aurae_client::Identity;
use aurae_proto::discovery::DiscoverRequest;
use vm_tests::{Api, Certificates, Issued, Node, cell, eventually, soon};
use xtask::debian;
use xtask::testbed::pki::NODE_FILES;
use xtask::tools;
use xtask::workspace::Workspace;

/// Where a node of these tests looks for revocation lists.
const LISTS: &str = "/etc/aurae/crl";

fn directory(test: &str) -> PathBuf {
    std::env::temp_dir().join(format!("aurae-vm-revocation-{}-{test}", std::process::id()))
}

async fn discover(api: &Api) -> Result<(), String> {
    let answer = api.discovery.clone().discover(DiscoverRequest {}).await;
    answer.map(drop).map_err(|status| api.client.explain(status).message().to_owned())
}

async fn knock(node: &Node, identity: &Identity) -> Result<(), String> {
    let api = node.api_as(identity.clone()).await;
    discover(&api.map_err(|error| aurae_client::report(&error))?).await
}

/// What the command line says as somebody.
fn aer(node: &Node, identity: &Identity, directory: &Path) -> std::process::Output {
    let quoted = |path: &Path| format!("{:?}", path.display().to_string());
    let configuration = format!(
        "[auth]\nca_crt = {}\nclient_crt = {}\nclient_key = {}\n\n[system]\nsocket = \"{}\"\n",
        quoted(&identity.ca_crt),
        quoted(&identity.client_crt),
        quoted(&identity.client_key),
        node.address(),
    );
    let file = directory.join("config");
    std::fs::write(&file, configuration).expect("the configuration");
    let binary = Workspace::find().expect("the workspace").binary();
    let mut command = Command::new(binary);
    command.args(["aer", "--config"]).arg(file).args(["discovery", "discover"]);
    command.output().expect("aer runs")
}

#[tokio::test]
async fn who_is_revoked_is_cut_off_and_refused_and_nobody_else_is() {
    let node = Node::boot_with("revoking", |options| {
        options.append.push(format!("aurae.crl={LISTS}"));
        options.files.directory(&LISTS[1..], 0o755);
    })
    .await;
    let directory = directory("running");
    let certificates = Certificates::of_the_node(&node.identity(), &directory);
    let mallory = certificates.client("mallory", &Issued::default());
    let anna = certificates.client("anna", &Issued::default());
    let (open, others) = (
        node.api_as(mallory.clone()).await.expect("let in"),
        node.api_as(anna.clone()).await.expect("let in"),
    );
    assert!(aer(&node, &mallory, &directory).status.success());
    others.allocate(cell("waited-in")).await;
    others.start("waited-in", "waited-for", "exec sleep 1000").await;
    let [cut, kept] = [&open, &others].map(|api| {
        let api = api.clone();
        tokio::spawn(async move { api.try_wait("waited-in", "waited-for").await })
    });
    discover(&open).await.expect("not revoked yet");

    let admin = node.api().await;
    let list = certificates.revoke("mallory");
    admin.on_node(&format!("cat > {LISTS}/list.pem <<'END'\n{list}\nEND")).await;
    let refused =
        eventually("mallory is refused", async || knock(&node, &mallory).await.err()).await;
    assert!(refused.contains("mallory.crt was revoked by"), "{refused}");
    soon("the open call is cut", cut).await.expect("its task").expect_err("it was cut off");
    node.console_says("(spiffe://aurae.local/admin/mallory) was revoked by").await;
    node.console_says("its client is not trusted any more").await;

    let told = aer(&node, &mallory, &directory);
    let said = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(!told.status.success() && said.contains("mallory.crt was revoked by"), "{said}");

    knock(&node, &anna).await.expect("nobody revoked anna");
    discover(&others).await.expect("her open connection goes on");
    others.stop("waited-in", "waited-for").await;
    let status = soon("her open call goes on", kept).await.expect("its task").expect("an answer");
    assert!(status.exit_status.is_some(), "{status:?}");
    std::fs::remove_dir_all(directory).expect("removed");
}

/// A file system with these files in its directory `pki`, labelled as a config disk is.
fn config_disk(directory: &Path, image: &Path) {
    debian::ensure(&[debian::MKE2FS]).expect("mke2fs");
    let program = tools::find(debian::MKE2FS.program).expect("mke2fs");
    let mut command = Command::new(program);
    command.args(["-q", "-L", "AURAE", "-d"]).arg(directory).arg(image).arg("4M");
    tools::output(&mut command).expect("the disk");
}

#[tokio::test]
async fn a_config_disk_brings_revocations_and_the_bundles_of_other_trust_domains() {
    let directory = directory("disk");
    let pki = directory.join("disk/pki");
    std::fs::create_dir_all(pki.join("trust")).expect("directories");
    let identity = Node::testbed_identity();
    let own = Certificates::of_the_node(&identity, &directory.join("own"));
    let foreign = Certificates::of_somebody_else(&identity, &directory.join("foreign"));
    let mallory = own.client("mallory", &Issued::default());
    let elsewhere = Issued { trust_domain: "example.org", ..Issued::default() };
    let guest = foreign.client("guest", &elsewhere);
    for name in NODE_FILES {
        let file = identity.ca_crt.with_file_name(name);
        std::fs::copy(file, pki.join(name)).expect("copied");
    }
    std::fs::write(pki.join("crl.pem"), own.revoke("mallory")).expect("written");
    std::fs::copy(foreign.authority(), pki.join("trust/example.org.pem")).expect("copied");

    let node = Node::boot_with("config-disk", |options| {
        let image = options.directory.join("config.img");
        std::fs::create_dir_all(&options.directory).expect("a directory");
        config_disk(&directory.join("disk"), &image);
        options.disks.push(image);
        options.append.push("aurae.config=/dev/vda".to_owned());
    })
    .await;
    let refused = knock(&node, &mallory).await.expect_err("she is revoked");
    assert!(refused.contains("mallory.crt was revoked by"), "{refused}");
    // Let in by the bundle; who is of another trust domain has no role.
    let denied = knock(&node, &guest).await.expect_err("no rule is for guests");
    let said = "spiffe://example.org/admin/guest may not call discovery.Discover";
    assert!(denied.contains(said), "{denied}");
    let files = "cd /etc/aurae/pki && stat -c '%a %n' crl.pem trust trust/*";
    let files = node.api().await.on_node(files).await;
    assert_eq!(files, "644 crl.pem\n755 trust\n644 trust/example.org.pem");
    std::fs::remove_dir_all(directory).expect("removed");
}
