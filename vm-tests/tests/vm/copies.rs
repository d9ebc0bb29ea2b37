//! Trees of files into a cell and out of it.

use aurae_proto::cells::cell_service_copy_in_request::Message as In;
use aurae_proto::cells::cell_service_copy_out_response::Message as Out;
use aurae_proto::cells::copy_entry::Kind;
use aurae_proto::cells::{
    Cell, CellServiceCopyInRequest, CellServiceCopyOutRequest, CopyDirectory, CopyEntry, CopyFifo,
    CopyInStart,
};
use tonic::Code;
use vm_tests::{Api, Node, cell, privileged, shell, soon};

/// Some seconds after the epoch, with a fraction.
const MODIFIED: i64 = 1_700_000_000_123_456_789;
/// More than one message takes.
const BYTES: usize = 3 << 20;

fn entry(path: &str, mode: u32, kind: Kind) -> CopyEntry {
    CopyEntry {
        path: path.into(),
        mode,
        uid: 1000,
        gid: 2000,
        modified_unix_nanos: MODIFIED,
        kind: Some(kind),
    }
}

/// A tree with everything that is copied, and the bytes of its one file.
fn tree() -> (Vec<CopyEntry>, Vec<u8>) {
    let bytes: Vec<u8> = (0..BYTES).map(|number| (number % 251) as u8).collect();
    let entries = vec![
        entry("tree", 0o755, Kind::Directory(CopyDirectory {})),
        entry("tree/empty", 0o500, Kind::Directory(CopyDirectory {})),
        entry("tree/file", 0o4751, Kind::File(bytes.len() as u64)),
        entry("tree/link", 0o777, Kind::Symlink("../../etc/passwd".into())),
        entry("tree/same", 0o4751, Kind::Hardlink("tree/file".into())),
        entry("tree/wait", 0o600, Kind::Fifo(CopyFifo {})),
    ];
    (entries, bytes)
}

async fn copy_in(zone: &Api, messages: Vec<In>) -> Result<u64, tonic::Status> {
    let messages =
        messages.into_iter().map(|message| CellServiceCopyInRequest { message: Some(message) });
    let copied = zone.cells.clone().copy_in(tokio_stream::iter(messages)).await?;
    Ok(copied.into_inner().entries)
}

fn into(directory: &str) -> In {
    In::Start(CopyInStart { directory: directory.to_owned(), preserve_ownership: true })
}

async fn copy_out(zone: &Api, path: &str) -> (Vec<CopyEntry>, Vec<u8>) {
    let request = CellServiceCopyOutRequest { path: path.to_owned() };
    let answer = zone.cells.clone().copy_out(request).await.expect("it is there");
    let (mut stream, mut entries, mut bytes) = (answer.into_inner(), Vec::new(), Vec::new());
    while let Some(message) = stream.message().await.expect("it goes on") {
        match message.message {
            Some(Out::Entry(entry)) => entries.push(entry),
            Some(Out::Data(data)) => bytes.extend_from_slice(&data),
            other => assert!(other.is_none(), "{other:?} was left out"),
        }
    }
    (entries, bytes)
}

#[tokio::test]
async fn a_tree_goes_into_a_cell_three_deep_and_comes_out_the_same() {
    let node = Node::shared().await;
    let api = node.api().await;
    for name in ["copy", "copy/mid", "copy/mid/low"] {
        api.allocate(Cell { isolate_process: true, ..cell(name) }).await;
    }
    let low = api.in_zone("cells/copy/cells/mid/cells/low");
    let mount = shell("mounts", "mkdir /tmp/copies && mount -t tmpfs none /tmp/copies");
    api.run_as("copy/mid/low", privileged(mount)).await.success();
    // The mount belongs to the daemon's own namespace, which its commands share.
    let (entries, bytes) = tree();
    let mut messages = vec![into("/tmp/copies")];
    for entry in &entries {
        messages.push(In::Entry(entry.clone()));
        if matches!(entry.kind, Some(Kind::File(_))) {
            messages.extend(bytes.chunks(1 << 20).map(|part| In::Data(part.to_vec().into())));
        }
    }
    let copied = soon("the copy in", copy_in(&low, messages)).await.expect("it is copied");
    assert_eq!(copied, entries.len() as u64);
    let seen = api.run("copy/mid/low", "stat -c '%a %u %g %h' /tmp/copies/tree/file").await;
    assert_eq!(seen.success(), "4751 1000 2000 2\n");

    let (mut back, same) = soon("the copy out", copy_out(&low, "/tmp/copies/tree")).await;
    assert!(same == bytes, "{} bytes came back of {}", same.len(), bytes.len());
    back.sort_by(|one, other| one.path.cmp(&other.path));
    let links = back.iter().filter(|entry| matches!(entry.kind, Some(Kind::Hardlink(_))));
    assert_eq!(links.count(), 1, "{back:?}");
    // A link has no permissions of its own; which name of a file is told first is the directory's.
    let plain = |entry: &CopyEntry| match entry.kind {
        Some(Kind::Symlink(_)) => CopyEntry { mode: 0, modified_unix_nanos: 0, ..entry.clone() },
        Some(Kind::Hardlink(_)) => {
            CopyEntry { kind: Some(Kind::File(BYTES as u64)), ..entry.clone() }
        }
        _ => entry.clone(),
    };
    let (back, entries): (Vec<_>, Vec<_>) =
        (back.iter().map(plain).collect(), entries.iter().map(plain).collect());
    assert_eq!(back, entries);
    api.free("copy").await;
}

#[tokio::test]
async fn a_copy_is_not_led_outside_and_leaves_no_half_file() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(Cell { isolate_process: true, ..cell("trap") }).await;
    let zone = api.in_zone("cells/trap");
    let make =
        "mkdir -p /tmp/trap && mount -t tmpfs -o size=1m none /tmp/trap && mkdir /tmp/trap/in";
    api.run_as("trap", privileged(shell("mounts", make))).await.success();
    let through = vec![
        into("/tmp/trap/in"),
        In::Entry(entry("way", 0o777, Kind::Symlink("/tmp".into()))),
        In::Entry(entry("way/out", 0o644, Kind::File(1))),
        In::Data(b"x".to_vec().into()),
    ];
    let refused = soon("a trap", copy_in(&zone, through)).await.expect_err("it leads outside");
    assert_ne!(refused.code(), Code::Ok, "{refused:?}");
    let above = vec![into("/tmp/trap/in"), In::Entry(entry("../out", 0o644, Kind::File(0)))];
    let refused = soon("a trap", copy_in(&zone, above)).await.expect_err("it leads outside");
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    let mut much = vec![into("/tmp/trap/in"), In::Entry(entry("much", 0o644, Kind::File(4 << 20)))];
    much.extend((0..4).map(|_| In::Data(vec![7; 1 << 20].into())));
    let refused = soon("a full disk", copy_in(&zone, much)).await.expect_err("it does not fit");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    let left =
        api.run("trap", "ls -A /tmp/trap/in; ls /tmp/out 2>/dev/null || true").await.success();
    assert_eq!(left, "way\n");
    api.free("trap").await;
}
