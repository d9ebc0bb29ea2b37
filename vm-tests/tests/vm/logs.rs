//! Output: complete, byte for byte, bounded, and never in anybody's way.

use aurae_proto::audit::audit_service_client::AuditServiceClient;
use aurae_proto::audit::{Decision, StreamRequest};
use aurae_proto::cells::Executable;
use aurae_proto::observe::{
    GetAuraeDaemonLogStreamRequest, GetExecutableLogsRequest, GetSubProcessStreamRequest,
    LogChannelType,
};
use tonic::Code;
use vm_tests::{Node, cell, logs_of, shell, soon, written};

#[tokio::test]
async fn a_late_subscriber_gets_what_was_kept() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(cell("late")).await;
    let done = api.run("late", "echo out; echo err >&2; printf unfinished").await;
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("out\nunfinished", "err\n"));
    // And again, by somebody who comes later still.
    let entries = api.kept_logs("late", "run").await;
    assert_eq!(written(&entries, LogChannelType::Stdout), b"out\nunfinished");
    assert!(entries.iter().all(|entry| entry.unix_nanos > 1_600_000_000_000_000_000));
    api.free("late").await;
}

#[tokio::test]
async fn bytes_that_are_not_utf8_survive() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(cell("bytes")).await;
    api.start("bytes", "bytes", r"printf '\377\376\000a\nb\r\n\303('").await;
    let entries = api.logs("bytes", "bytes").await;
    assert_eq!(written(&entries, LogChannelType::Stdout), b"\xff\xfe\0a\nb\r\n\xc3(");
    api.free("bytes").await;
}

#[tokio::test]
async fn long_lines_come_in_parts_and_fit_together_again() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(cell("long")).await;
    api.start("long", "long", "head -c 100000 /dev/zero | tr '\\0' x; echo; echo end").await;
    let entries = api.logs("long", "long").await;
    let mut expected = vec![b'x'; 100_000];
    expected.extend_from_slice(b"\nend\n");
    assert_eq!(written(&entries, LogChannelType::Stdout), expected);
    api.free("long").await;
}

#[tokio::test]
async fn following_ends_with_the_executable() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(cell("follow")).await;
    api.start("follow", "talk", "for i in 1 2 3; do echo $i; sleep 0.2; done").await;
    let entries = soon("follow", api.logs("follow", "talk")).await;
    assert_eq!(written(&entries, LogChannelType::Stdout), b"1\n2\n3\n");
    api.free("follow").await;
}

#[tokio::test]
async fn tail_and_channel_choose() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(cell("choose")).await;
    api.run("choose", "for i in 1 2 3 4 5; do echo $i; done; echo oops >&2").await;
    let base = logs_of("choose", "run");
    let only_errors =
        GetExecutableLogsRequest { channel_type: LogChannelType::Stderr as i32, ..base.clone() };
    let entries = api.collect_logs(only_errors).await;
    assert_eq!(written(&entries, LogChannelType::Stderr), b"oops\n");
    assert_eq!(entries.len(), 1);
    let two = GetExecutableLogsRequest {
        tail: Some(2),
        channel_type: LogChannelType::Stdout as i32,
        ..base.clone()
    };
    assert_eq!(written(&api.collect_logs(two).await, LogChannelType::Stdout), b"4\n5\n");
    let none = GetExecutableLogsRequest { tail: Some(0), ..base.clone() };
    assert!(api.collect_logs(none).await.is_empty());
    let odd = GetExecutableLogsRequest { channel_type: 77, ..base };
    let status = api.observe.clone().get_executable_logs(odd).await.expect_err("unknown");
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    api.free("choose").await;
}

#[tokio::test]
async fn a_slow_reader_is_told_what_it_missed_and_slows_nobody() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(cell("slow")).await;
    let executable = Executable {
        log_capacity: Some(64 * 1024),
        ..shell(
            "talk",
            // 6 MB: more than what the connection holds for a client that does not read, 2 MiB.
            "pad=$(printf %0300d 0); read go < /tmp/slow-go; i=0; \
             while [ $i -lt 20000 ]; do echo line-$i-of-many $pad; i=$((i+1)); done",
        )
    };
    api.on_node("rm -f /tmp/slow-go; mkfifo /tmp/slow-go").await;
    api.try_start("slow", executable).await.expect("it starts");
    let request = GetExecutableLogsRequest { follow: true, ..logs_of("slow", "talk") };
    let mut stream =
        api.observe.clone().get_executable_logs(request).await.expect("a stream").into_inner();
    api.on_node("echo > /tmp/slow-go").await;
    // Nothing is read until the writer has ended: it must not wait for us.
    let status = soon("wait", api.wait("slow", "talk")).await;
    assert!(status.exit_status.is_some());
    let (mut entries, mut missed, mut last) = (0, 0, String::new());
    while let Some(message) = soon("read", stream.message()).await.expect("a message") {
        missed += message.missed_entries;
        entries += message.entries.len() as u64;
        if let Some(entry) = message.entries.last() {
            last = String::from_utf8_lossy(&entry.data).into_owned();
        }
    }
    assert!(missed > 0, "nothing was missed of {entries}");
    assert_eq!(entries + missed, 20_000, "{missed} missed");
    assert!(last.starts_with("line-19999-of-many "), "{last}");
    api.free("slow").await;
}

#[tokio::test]
async fn what_is_kept_is_bounded() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(cell("bounded")).await;
    let executable = Executable {
        log_capacity: Some(16 * 1024),
        ..shell("talk", "i=0; while [ $i -lt 5000 ]; do echo line-$i; i=$((i+1)); done")
    };
    api.try_start("bounded", executable).await.expect("it starts");
    api.wait("bounded", "talk").await;
    let request = logs_of("bounded", "talk");
    let mut stream =
        api.observe.clone().get_executable_logs(request).await.expect("a stream").into_inner();
    let (mut bytes, mut entries, mut missed) = (0, 0, 0);
    while let Some(message) = stream.message().await.expect("a message") {
        missed += message.missed_entries;
        entries += message.entries.len() as u64;
        bytes += message.entries.iter().map(|entry| entry.data.len()).sum::<usize>();
    }
    assert!(bytes <= 16 * 1024, "{bytes} bytes were kept");
    assert_eq!(entries + missed, 5000);
    api.free("bounded").await;
}

#[tokio::test]
async fn the_stream_of_v0_names_channels_and_ends() {
    let node = Node::shared().await;
    let api = node.api().await;
    api.allocate(cell("v0-logs")).await;
    let started = api.start("v0-logs", "talk", "echo out; echo err >&2; sleep 1; echo more").await;
    let request = GetSubProcessStreamRequest { channel_type: 0, process_id: started.pid };
    let mut stream =
        api.observe.clone().get_sub_process_stream(request).await.expect("a stream").into_inner();
    let mut seen = Vec::new();
    while let Some(message) = soon("read", stream.message()).await.expect("a message") {
        let item = message.item.expect("an item");
        assert!(item.timestamp > 1_600_000_000);
        seen.push(format!("{} {}", item.channel, item.line));
    }
    seen.sort();
    assert_eq!(seen, ["talk::stderr err", "talk::stdout more", "talk::stdout out"]);
    let nobody = GetSubProcessStreamRequest { channel_type: 0, process_id: 4_000_000 };
    let status = api.observe.clone().get_sub_process_stream(nobody).await.expect_err("nobody");
    assert_eq!(status.code(), Code::NotFound, "{status:?}");
    api.free("v0-logs").await;
}

#[tokio::test]
async fn the_daemons_log_streams() {
    let node = Node::shared().await;
    let api = node.api().await;
    let mut stream = api
        .observe
        .clone()
        .get_aurae_daemon_log_stream(GetAuraeDaemonLogStreamRequest {})
        .await
        .expect("a stream")
        .into_inner();
    vm_tests::knock_without_certificate(&node).await.expect_err("it is refused");
    let found = soon("a line of the log", async {
        while let Some(message) = stream.message().await.expect("a message") {
            let item = message.item.expect("an item");
            assert_eq!(item.channel, "auraed");
            if item.line.contains("the client showed no certificate") {
                return true;
            }
        }
        false
    });
    assert!(found.await, "the stream ended");
}

#[tokio::test]
async fn every_call_streams_as_a_record() {
    let node = Node::shared().await;
    let api = node.api().await;
    let request = StreamRequest { follow: true, after: None, tail: Some(0) };
    let answer = AuditServiceClient::new(api.client.channel()).stream(request).await;
    let mut stream = answer.expect("a stream").into_inner();
    api.allocate(cell("in-the-records")).await;
    let record = soon("the record", async {
        loop {
            let message = stream.message().await.expect("a message").expect("it goes on");
            let record = message.record.unwrap_or_default();
            if record.resource.contains("in-the-records") {
                return record;
            }
        }
    });
    let record = record.await;
    assert_eq!(record.action, "/aurae.cells.v0.CellService/Allocate", "{record:?}");
    assert_eq!(record.resource, "cells/in-the-records", "{record:?}");
    assert_eq!((record.decision(), record.status), (Decision::Allowed, 0), "{record:?}");
    assert_eq!(record.form, "spiffe", "{record:?}");
    api.free("in-the-records").await;
}
