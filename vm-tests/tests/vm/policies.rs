//! Who may do what on a node with policies of its own: what they allow, what they hide, and how they are
//! exchanged while calls run.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use aurae_proto::auth::WhoAmIRequest;
use aurae_proto::auth::auth_service_client::AuthServiceClient;
use aurae_proto::cells::{
    Cell, CellServiceInspectRequest, CellServiceInspectResponse, MemoryController,
};
use aurae_proto::discovery::DiscoverRequest;
use aurae_proto::node::{InfoRequest, KernelLogRequest};
use aurae_proto::observe::{GetAuraeDaemonLogStreamRequest, GetSubProcessStreamRequest};
use tonic::{Code, Status};
use vm_tests::{Api, Certificates, Issued, Node, cell, eventually, shell, soon};

/// Where a node looks for policies.
const DIRECTORY: &str = "/etc/aurae/policy";

/// The tests' own role is untouched by what the policies beside it say.
const ADMINS: &str = r#"@id("admins") permit (principal in Role::"admin", action, resource);"#;

/// One line for the team; one that lets everybody ask for the list, in which each sees what is its own; and
/// one over the request.
const TEAM: &str = r#"
@id("team-a") permit (principal is Spiffe, action, resource in Cell::"cells/team-a") when { principal.path like "team-a/*" };
@id("lists") permit (principal, action == Action::"cells.List", resource == Node::"node");
@id("isolated-and-small") forbid (principal, action == Action::"cells.Allocate", resource) unless { principal in Role::"admin" || (context has cell.memory.max && context.cell.memory.max <= 1073741824 && context.cell.isolate_process) };
"#;

const GIB: i64 = 1 << 30;

async fn node(name: &str, policies: &str) -> Node {
    Node::boot_with(name, |options| {
        for (file, text) in [("10-admins", ADMINS), ("20-rest", policies)] {
            let path = format!("{}/{file}.cedar", &DIRECTORY[1..]);
            options.files.file(&path, 0o644, text.into());
        }
    })
    .await
}

/// A connection of somebody of that role, or team.
async fn of(node: &Node, group: &'static str) -> Api {
    let directory = directory(group);
    let certificates = Certificates::of_the_node(&node.identity(), &directory);
    let api = node.api_as(certificates.client("anna", &Issued::of(group))).await.expect("let in");
    std::fs::remove_dir_all(directory).expect("removed");
    api
}

fn directory(test: &str) -> PathBuf {
    std::env::temp_dir().join(format!("aurae-vm-policies-{}-{test}", std::process::id()))
}

fn small(name: &str) -> Cell {
    with_memory(name, GIB)
}

fn with_memory(name: &str, max: i64) -> Cell {
    let memory = Some(MemoryController { max: Some(max), ..MemoryController::default() });
    Cell { memory, isolate_process: true, ..cell(name) }
}

async fn inspect(api: &Api, name: &str) -> Result<CellServiceInspectResponse, Status> {
    let request = CellServiceInspectRequest { cell_name: Some(name.to_owned()) };
    api.cells.clone().inspect(request).await.map(tonic::Response::into_inner)
}

/// The cell `team-b` is there and hidden, and is told of as `team-x`, which is not there.
fn is_hidden(told: &Status, of_missing: &Status) {
    assert_eq!(told.code(), Code::NotFound, "{told:?}");
    assert_eq!(of_missing.code(), Code::NotFound, "{of_missing:?}");
    assert_eq!(told.message().replace("team-b", "team-x"), of_missing.message());
}

#[tokio::test]
async fn a_team_does_what_the_policies_say_in_its_own_cell_and_sees_no_other() {
    let node = node("team", TEAM).await;
    let (admin, anna) = (node.api().await, of(&node, "team-a").await);
    admin.allocate(Cell { isolate_process: true, ..cell("team-a") }).await;
    admin.allocate(Cell { isolate_process: true, ..cell("team-b") }).await;
    admin.allocate(cell("team-b/web")).await;

    // The same cell by its name, and by the path of the zone that it is in.
    let inside = anna.in_zone("cells/team-a");
    anna.allocate(small("team-a/by-name")).await;
    inside.allocate(small("by-path")).await;
    assert_eq!(anna.run("team-a/by-name", "echo hello").await.success(), "hello\n");
    assert_eq!(inside.run("by-path", "echo hello").await.success(), "hello\n");
    let deeper = anna.in_zone("cells/team-a/cells/by-path");
    assert_eq!(deeper.run("", "echo deeper").await.success(), "deeper\n");

    for (what, wrong) in [
        ("open", Cell { isolate_process: false, ..small("wrong") }),
        ("large", with_memory("wrong", GIB + 1)),
        ("unlimited", Cell { isolate_process: true, ..cell("wrong") }),
    ] {
        let named = Cell { name: "team-a/wrong".to_owned(), ..wrong.clone() };
        for refused in [anna.try_allocate(named).await, inside.try_allocate(wrong).await] {
            let refused = refused.expect_err(what);
            assert_eq!(refused.code(), Code::PermissionDenied, "{what}: {refused:?}");
            assert!(refused.message().contains("isolated-and-small"), "{what}: {refused:?}");
        }
    }

    for (hidden, missing) in [("team-b", "team-x"), ("team-b/web", "team-x/web")] {
        let of_missing = inspect(&anna, missing).await.expect_err("it is not there");
        let told = inspect(&anna, hidden).await.expect_err("it is hidden");
        is_hidden(&told, &of_missing);
    }
    // Who sees everything is told the same of what is not there.
    let of_missing = inspect(&admin, "team-x").await.expect_err("it is not there");
    let told = inspect(&anna, "team-b").await.expect_err("it is hidden");
    is_hidden(&told, &of_missing);
    let of_missing = anna.try_free("team-x").await.expect_err("it is not there");
    let told = anna.try_free("team-b").await.expect_err("it is hidden");
    is_hidden(&told, &of_missing);
    for zone in ["cells/team-b", "cells/team-x"] {
        let other = anna.in_zone(zone);
        let told = other.try_start("", shell("x", "true")).await.expect_err("it is hidden");
        assert_eq!(told.code(), Code::NotFound, "{zone}: {told:?}");
        let told = other.try_free("web").await.expect_err("it is hidden");
        assert_eq!(told.code(), Code::NotFound, "{zone}: {told:?}");
    }

    assert_eq!(anna.list_all().await, ["team-a", "team-a/by-name", "team-a/by-path"]);
    let all = ["team-a", "team-a/by-name", "team-a/by-path", "team-b", "team-b/web"];
    assert_eq!(admin.list_all().await, all);
    anna.free("team-a/by-name").await;
    inside.free("by-path").await;
    assert_eq!(anna.list_all().await, ["team-a"]);
}

/// Readers, to whom the output of one cell is closed, and another cell is hidden.
const READERS: &str = r#"
@id("readers") permit (principal in Role::"reader", action in [Action::"read", Action::"self"], resource);
@id("no-output") forbid (principal in Role::"reader", action in Action::"observe", resource in Cell::"cells/db");
@id("hidden") forbid (principal in Role::"reader", action in Action::"read", resource in Cell::"cells/secret");
"#;

async fn process_log(api: &Api, process_id: i32) -> Result<(), Status> {
    let request = GetSubProcessStreamRequest { channel_type: 0, process_id };
    api.observe.clone().get_sub_process_stream(request).await.map(drop)
}

async fn who_am_i(api: &Api) -> Status {
    let mut auth = AuthServiceClient::new(api.client.channel());
    auth.who_am_i(WhoAmIRequest {}).await.expect_err("zones have no policies")
}

#[tokio::test]
async fn what_is_hidden_from_a_reader_is_in_no_log_and_behind_no_process_id() {
    let node = node("hidden", READERS).await;
    let (admin, reader) = (node.api().await, of(&node, "reader").await);
    let mut pids = Vec::new();
    for name in ["open", "db", "secret"] {
        admin.allocate(cell(name)).await;
        pids.push(admin.start(name, "talk", "echo said; exec sleep 1000").await.pid);
    }
    process_log(&reader, pids[0]).await.expect("it is open");
    let denied = process_log(&reader, pids[1]).await.expect_err("its output is closed");
    assert_eq!(denied.code(), Code::PermissionDenied, "{denied:?}");
    assert!(denied.message().contains("cells/db: the rule no-output forbids it"), "{denied:?}");
    let missing = process_log(&reader, 4_000_000).await.expect_err("there is no such process");
    let hidden = process_log(&reader, pids[2]).await.expect_err("it is hidden");
    assert_eq!(hidden.code(), Code::NotFound, "{hidden:?}");
    assert_eq!(
        hidden.message().replace(&pids[2].to_string(), "4000000"),
        missing.message(),
        "{hidden:?}"
    );
    process_log(&admin, pids[2]).await.expect("an admin sees it");

    let hidden = who_am_i(&reader.in_zone("cells/secret")).await;
    let missing = who_am_i(&reader.in_zone("cells/nosuch")).await;
    assert_eq!(hidden.code(), missing.code(), "{hidden:?} {missing:?}");
    assert_eq!(hidden.message().replace("secret", "nosuch"), missing.message());

    let request = GetAuraeDaemonLogStreamRequest {};
    let log = reader.observe.clone().get_aurae_daemon_log_stream(request).await.map(drop);
    let kernel = reader.node.clone().kernel_log(KernelLogRequest::default()).await.map(drop);
    for refused in [log, kernel] {
        let refused = refused.expect_err("it names the hidden cell");
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
        assert!(refused.message().contains("some of which the caller may not see"), "{refused:?}");
    }

    // A directory that is not there for a while gives nothing away.
    admin.on_node(&format!("mv {DIRECTORY} {DIRECTORY}.away")).await;
    let complaint =
        eventually("it is complained of", async || complaints(&admin).await.pop()).await;
    assert!(complaint.contains("start the daemon anew for the built-in roles"), "{complaint}");
    inspect(&reader, "open").await.expect("what held goes on to hold");
    inspect(&reader, "secret").await.expect_err("what held goes on to hold");
    admin.on_node(&format!("mv {DIRECTORY}.away {DIRECTORY}")).await;
    eventually("no more complaints", async || complaints(&admin).await.is_empty().then_some(()))
        .await;
    inspect(&reader, "secret").await.expect_err("it is hidden still");
}

/// What lets operators in, or nobody but admins.
const OPERATORS: &str = r#"permit (principal in Role::"operator", action, resource);"#;
/// With what is wrong on its third line.
const BAD: &str =
    "// Whoever is on call.\n\npermit (principal, action == Action::\"cells.Fly\", resource);";

/// Writes a file of the node's policies.
async fn write(admin: &Api, file: &str, text: &str) {
    admin.on_node(&format!("cat > {DIRECTORY}/{file} <<'END'\n{text}\nEND")).await;
}

async fn is_allowed(api: &Api) -> bool {
    match inspect(api, "kept").await {
        Ok(_) => true,
        Err(status) => {
            assert_eq!(status.code(), Code::NotFound, "{status:?}");
            false
        }
    }
}

async fn until_allowed(api: &Api, allowed: bool) {
    let what = format!("allowed is {allowed}");
    eventually(&what, async || (is_allowed(api).await == allowed).then_some(())).await;
}

/// What of the policies is degraded.
async fn complaints(admin: &Api) -> Vec<String> {
    let info = admin.node.clone().info(InfoRequest {}).await.expect("info").into_inner();
    let of_policies = info.degraded.into_iter().filter(|degraded| degraded.phase == "policy");
    of_policies.map(|degraded| degraded.message).collect()
}

#[tokio::test]
async fn policies_are_exchanged_while_calls_run_and_a_bad_file_changes_nothing() {
    let node = node("exchanged", OPERATORS).await;
    let (admin, operator) = (node.api().await, of(&node, "operator").await);
    admin.allocate(cell("kept")).await;
    assert!(is_allowed(&operator).await);
    admin.start("kept", "waited-for", "trap 'exit 3' TERM; while :; do sleep 0.1; done").await;

    // One call that lasts for the whole time, and short ones all the time.
    let waiting = admin.clone();
    let waiting = tokio::spawn(async move { waiting.try_wait("kept", "waited-for").await });
    let (ended, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let busy = admin.clone();
    let (until, count) = (Arc::clone(&ended), Arc::clone(&answered));
    let busy = tokio::spawn(async move {
        while !until.load(Ordering::Relaxed) {
            busy.discovery.clone().discover(DiscoverRequest {}).await?;
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok::<_, Status>(())
    });

    // By a change of a file.
    write(&admin, "20-rest.cedar", "").await;
    until_allowed(&operator, false).await;
    write(&admin, "20-rest.cedar", OPERATORS).await;
    until_allowed(&operator, true).await;

    // A bad one.
    write(&admin, "30-bad.cedar", BAD).await;
    let place = format!("{DIRECTORY}/30-bad.cedar:3:");
    node.console_says(&place).await;
    let complaint =
        eventually("it is complained of", async || complaints(&admin).await.pop()).await;
    assert!(complaint.contains(&place) && complaint.contains("cells.Fly"), "{complaint}");
    assert!(is_allowed(&operator).await, "what held goes on to hold");
    // With it, a file that is right is not read either.
    write(&admin, "20-rest.cedar", "").await;
    admin.on_node("kill -HUP 1").await;
    node.console_says("SIGHUP: reading files again").await;
    assert!(is_allowed(&operator).await, "what held goes on to hold");
    admin.on_node(&format!("rm {DIRECTORY}/30-bad.cedar")).await;
    until_allowed(&operator, false).await;
    eventually("no more complaints", async || complaints(&admin).await.is_empty().then_some(()))
        .await;

    // By SIGHUP, where no change of a file is told.
    admin.on_node("echo 0 > /proc/sys/fs/inotify/max_user_instances").await;
    write(&admin, "40-unused.cedar", "").await;
    node.console_says("files cannot be watched: after a change, send SIGHUP").await;
    write(&admin, "20-rest.cedar", OPERATORS).await;
    admin.on_node("kill -HUP 1").await;
    until_allowed(&operator, true).await;

    ended.store(true, Ordering::Relaxed);
    soon("the last short call", busy).await.expect("its task").expect("no call was dropped");
    println!("{} calls were answered meanwhile", answered.load(Ordering::Relaxed));
    assert!(answered.load(Ordering::Relaxed) > 0);
    assert!(!waiting.is_finished());
    admin.stop("kept", "waited-for").await;
    let status = soon("the end", waiting).await.expect("its task").expect("it was not dropped");
    assert!(status.exit_status.is_some(), "{status:?}");
}
