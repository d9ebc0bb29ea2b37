//! The log as those see it who record and those who read.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aurae_authz::{Access, Action, Principal};
use tonic::Code;

use super::writer::tests::Disk;
use super::*;
use crate::status::Status;

fn open(audit: &Audit, action: &str) -> Record {
    let zone = aurae_model::ZonePath::parse("cells/web").ok();
    let who = Principal::common_name("alice");
    Record::open(audit, None, who, "here".into(), Action::new(action), zone)
}

/// The same of one whose records are bounded.
fn open_of(audit: &Audit, tally: &Arc<Tally>, action: &str) -> Record {
    let (tally, who) = (Some(Arc::clone(tally)), Principal::common_name("mallory"));
    Record::open(audit, tally, who, "here".into(), Action::new(action), None)
}

/// What is kept.
pub(crate) async fn all(audit: &Audit) -> Vec<Entry> {
    let mut reader = audit.reader(Start::Kept, false).unwrap().unwrap();
    let mut entries = Vec::new();
    while let Some((seen, _)) = reader.next().await {
        entries.push((*seen.entry).clone());
    }
    entries
}

#[tokio::test]
async fn a_record_is_made_once_whatever_ends_its_call() {
    let audit = Audit::in_memory();
    let mut closed = open(&audit, "/a.B/Closed");
    closed.let_in(Some(Access::Read)).await.unwrap();
    closed.close(Code::Ok);
    closed.close(Code::Internal);
    drop(closed);
    drop(open(&audit, "/a.B/Dropped"));
    let mut denied = open(&audit, "/a.B/Denied");
    denied.verdict().set_rule(&"policy0".into());
    denied.verdict().set_resource("cells/web/executables/nginx".into());
    denied.close(Code::PermissionDenied);

    let entries = all(&audit).await;
    let seen: Vec<_> = entries.iter().map(|entry| (entry.request, entry.code)).collect();
    assert_eq!(seen, [(0, Code::Ok), (1, Code::Cancelled), (2, Code::PermissionDenied)]);
    assert_eq!(entries[0].resource.as_deref(), Some("cells/web"));
    assert_eq!(entries[0].decision, Decision::Allowed);
    assert_eq!(entries[1].decision, Decision::Denied, "nobody had decided");
    assert_eq!(entries[2].resource.as_deref(), Some("cells/web/executables/nginx"));
    assert_eq!(entries[2].decision, Decision::Denied);
    assert_eq!(entries[2].rule.as_deref(), Some("policy0"));
    assert_eq!(audit.standing().unwrap().records, 3);
}

#[tokio::test]
async fn a_reader_that_follows_waits_and_ends_with_the_log() {
    let audit = Audit::in_memory();
    let mut reader = audit.reader(Start::Last(0), true).unwrap().unwrap();
    let reading = tokio::spawn(async move { (reader.next().await, reader.next().await) });
    tokio::task::yield_now().await;
    drop(open(&audit, "/a.B/C"));
    audit.close();
    let (first, end) = reading.await.unwrap();
    assert_eq!(first.unwrap().0.entry.request, 0);
    assert_eq!(end, None);
}

#[tokio::test]
async fn refused_connections_are_recorded_until_they_are_many_and_then_counted() {
    let audit = Audit::in_memory();
    for _ in 0..1000 {
        audit.refused(None, "192.0.2.1:1", "the client showed no certificate");
    }
    let entries = all(&audit).await;
    let omitted = audit.standing().unwrap().omitted;
    assert!(entries.len() < 1000, "{}", entries.len());
    assert_eq!(entries.len() as u64 + omitted, 1000);
    assert_eq!(entries[0].decision, Decision::Denied);
    assert_eq!(entries[0].code, Code::Unauthenticated);
    assert_eq!(entries[0].reason.as_deref(), Some("the client showed no certificate"));
}

#[tokio::test]
async fn a_call_that_cannot_be_recorded_is_refused_where_that_is_required() {
    let (disk, status) = (Disk::default(), Status::default());
    let audit = Audit::with_target("/log".into(), true, 0, disk.clone(), &status).unwrap();
    let mut ran = open(&audit, "/a.B/Ran");
    ran.reserve().unwrap();
    ran.let_in(Some(Access::Read)).await.unwrap();
    disk.full.store(true, Ordering::Relaxed);
    ran.close(Code::Ok);
    let refused = loop {
        let mut record = open(&audit, "/a.B/Refused");
        if let Err(refused) = record.reserve() {
            break refused;
        }
        tokio::task::yield_now().await;
    };
    assert!(refused.to_string().starts_with("the call was not done: it could not be recorded"));
    disk.full.store(false, Ordering::Relaxed);
    audit.flush(Duration::from_secs(30)).await;
    let written = String::from_utf8(disk.written.lock().unwrap().clone()).unwrap();
    assert!(written.contains("/a.B/Ran"), "{written}");
    assert_eq!(audit.standing().unwrap().lost, 0);
    assert!(status.degraded().is_empty());
}

#[tokio::test]
async fn numbers_and_the_file_go_on_with_the_next_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let settings =
        Settings { file: Some(directory.path().join("audit.log")), ..Settings::default() };
    let mut last = 0;
    for daemon in 0..3 {
        let audit = Audit::start(&settings, &Status::default()).unwrap();
        drop(open(&audit, "/a.B/C"));
        audit.flush(Duration::from_secs(30)).await;
        let entry = all(&audit).await.pop().unwrap();
        assert!(entry.sequence > last);
        last = entry.sequence;
        let text = std::fs::read_to_string(directory.path().join("audit.log")).unwrap();
        assert_eq!(text.lines().count(), daemon + 1);
        assert!(text.lines().last().unwrap().contains(&format!("\"sequence\":{last}")));
    }
}

#[tokio::test]
async fn a_log_that_cannot_be_opened_is_told_by_its_name() {
    let settings = Settings { file: Some("/proc/no/audit.log".into()), ..Settings::default() };
    let error = Audit::start(&settings, &Status::default()).unwrap_err();
    assert!(error.to_string().contains("/proc/no/audit.log"), "{error}");
}

#[tokio::test]
async fn who_needs_no_right_fills_a_bounded_part_of_the_log_and_is_told_how_much_is_missing() {
    let (audit, tally) = (Audit::in_memory(), Arc::new(Tally::default()));
    let mut kept = open(&audit, "/a.B/Kept");
    kept.let_in(Some(Access::Operate)).await.unwrap();
    kept.close(Code::Ok);
    let (mut answered, mut refused) = (0, 0);
    for number in 0..20_000 {
        let mut record = open_of(&audit, &tally, "/a.B/C");
        let outcome = match number % 4 {
            0 => record.refuse(),
            1 => record.let_in(Some(Access::Own)).await,
            // The client goes away before anything is decided.
            2 => continue,
            _ => {
                record.close(Code::InvalidArgument);
                continue;
            }
        };
        match outcome {
            Ok(()) => answered += 1,
            Err(Unrecordable::TooMany { pause }) => {
                assert!(pause > Duration::ZERO);
                refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    let entries = all(&audit).await;
    assert_eq!(entries[0].action.as_ref().unwrap().as_str(), "/a.B/Kept");
    assert!(entries.len() < 2000, "{} are recorded", entries.len());
    assert!(answered < 1000 && refused > 9000, "{answered} were answered, {refused} were not");
    // What it may do is recorded whatever it did before, and tells the rest.
    let mut allowed = open_of(&audit, &tally, "/a.B/Allowed");
    allowed.let_in(Some(Access::Read)).await.unwrap();
    allowed.close(Code::Ok);
    let entries = all(&audit).await;
    let told: u64 = entries.iter().map(|entry| entry.omitted).sum();
    assert_eq!(entries.len() as u64 - 2 + told, 20_000);
    assert_eq!(entries.last().unwrap().action.as_ref().unwrap().as_str(), "/a.B/Allowed");
    assert_eq!(audit.standing().unwrap().omitted, told);
}

#[tokio::test]
async fn open_calls_take_nothing_that_others_need_where_records_are_required() {
    let (disk, status) = (Disk::default(), Status::default());
    let audit = Audit::with_target("/log".into(), true, 0, disk.clone(), &status).unwrap();
    let tally = Arc::new(Tally::default());
    let open: Vec<_> = (0..100_000)
        .map(|_| {
            let mut record = open_of(&audit, &tally, "/a.B/Open");
            record.reserve().unwrap();
            record
        })
        .collect();
    let mut other = self::open(&audit, "/a.B/Other");
    other.reserve().unwrap();
    other.let_in(Some(Access::Operate)).await.unwrap();
    drop(open);
    drop(other);
    audit.flush(Duration::from_secs(30)).await;
    let written = String::from_utf8(disk.written.lock().unwrap().clone()).unwrap();
    let others = written.lines().filter(|line| line.contains("/a.B/Other"));
    let told: Vec<_> = others.map(|line| line.contains("\"begun\":true")).collect();
    assert_eq!(told, [true, false]);
}

#[tokio::test]
async fn what_changes_something_is_in_the_file_before_it_is_done_where_records_are_required() {
    for required in [true, false] {
        let (disk, status) = (Disk::default(), Status::default());
        let audit = Audit::with_target("/log".into(), required, 0, disk.clone(), &status).unwrap();
        let expected = [(Access::Read, 0), (Access::Operate, 1), (Access::Admin, 2)];
        let mut open_calls = Vec::new();
        for (access, lines) in expected {
            let mut record = open(&audit, "/a.B/C");
            record.reserve().unwrap();
            record.let_in(Some(access)).await.unwrap();
            assert_eq!(disk.lines(), if required { lines } else { 0 }, "{access:?}");
            open_calls.push(record);
        }
        // As if the daemon was killed now: nothing more is written.
        open_calls.into_iter().for_each(std::mem::forget);
        assert_eq!(audit.standing().unwrap().records, 0, "it is not over");
    }
}
