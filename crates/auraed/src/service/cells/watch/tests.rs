use std::fs::File;
use std::sync::Arc;

use aurae_kernel::cgroup::Cgroup;
use aurae_kernel::process::Exit;
use aurae_model::CellName;
use futures_util::stream::StreamExt;

use super::*;
use crate::runtime::cells::{CellsSettings, Nesting};
use crate::runtime::changes::Changes;
use crate::runtime::executables::Outcome;
use crate::runtime::reaper::Reaper;

/// More than are kept.
const MANY: u64 = 5000;

/// The cells of a daemon that has none.
fn cells(changes: &Changes) -> Cells {
    let directory = File::open("/").unwrap().into();
    let settings = CellsSettings {
        cgroup: Arc::new(Cgroup::from_directory(directory, "of-a-test".into())),
        image: File::open("/").unwrap().into(),
        log_capacity: 4096,
        path: None,
        parent: None,
        changes: changes.clone(),
        nesting: Nesting::All,
    };
    Cells::new(settings, Reaper::default())
}

fn watched(changes: &Changes, after: Option<u64>, marks: bool) -> Answers<Answer> {
    let own = changes.reader(Watcher::Client, after).unwrap();
    let mut merge = Merge::new(cells(changes), own, after, after, marks);
    Box::pin(stream::poll_fn(move |context| merge.poll_next(context)))
}

fn of_cell(name: &str, news: CellNews) -> News {
    News::Cell(CellName::parse(name, "f").unwrap(), news)
}

async fn all(answers: Answers<Answer>) -> Vec<Answer> {
    answers.map(Result::unwrap).collect().await
}

#[tokio::test]
async fn a_watch_tells_what_happened_and_ends_with_the_daemon() {
    let changes = Changes::default();
    let failed = CellNews::Failed(Reason::new("it exited with code 1"));
    changes.push(of_cell("web", CellNews::Allocated));
    changes.push(of_cell("db", CellNews::Found));
    changes.push(of_cell("web", failed.clone()));
    changes.push(News::Cell(CellName::of_node(), CellNews::Allocated));
    changes.push(News::Cell(CellName::of_node(), failed));
    let outcome = Outcome { exit: Exit::Code(7), oom_killed: false, ended: std::time::UNIX_EPOCH };
    let ended = ExecutableNews::Ended { outcome, reason: None };
    changes.push(News::Executable("main".into(), 12, ended));
    changes.close();

    let told = all(watched(&changes, None, false)).await;
    let told: Vec<_> = told
        .iter()
        .map(|it| (it.kind(), it.cell_name.as_str(), it.executable_name.as_str()))
        .collect();
    let expected = [
        (ChangeKind::CellAllocated, "web", ""),
        (ChangeKind::CellFailed, "web", ""),
        (ChangeKind::CellFailed, "", ""),
        (ChangeKind::ExecutableEnded, "", "main"),
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_watcher_that_is_slow_is_told_how_many_it_missed() {
    let changes = Changes::default();
    changes.push(of_cell("web", CellNews::Allocated));
    let mut slow = watched(&changes, None, false);
    assert_eq!(slow.next().await.unwrap().unwrap().missed, 0);
    (0..MANY).for_each(|_| changes.push(of_cell("web", CellNews::Updated)));
    changes.close();
    let told = all(slow).await;
    let missed: u64 = told.iter().map(|it| it.missed).sum();
    assert_eq!(missed + told.len() as u64, MANY);
    assert_eq!(told.first().map(|it| it.missed), Some(missed));
    assert!(told.windows(2).all(|pair| pair[0].sequence < pair[1].sequence));
}

#[tokio::test]
async fn whoever_goes_on_gets_the_rest_and_a_daemon_a_mark_after_it() {
    let changes = Changes::anew();
    changes.push(of_cell("a", CellNews::Allocated));
    changes.push(of_cell("b", CellNews::Allocated));
    let mut first = watched(&changes, None, false);
    let number = first.next().await.unwrap().unwrap().sequence;
    let mut rest = watched(&changes, Some(number), true);
    assert_eq!(rest.next().await.unwrap().unwrap().cell_name, "b");
    assert_eq!(rest.next().await.unwrap().unwrap(), Answer::default());
    let mut before = watched(&changes, Some(1), false);
    assert_eq!(before.next().await.unwrap().unwrap().kind(), ChangeKind::Resync);
}
