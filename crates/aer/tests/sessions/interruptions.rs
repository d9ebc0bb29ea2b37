//! A node whose daemon is replaced, or is killed and comes back, while commands are under way.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Stdio};

use crate::support::Bed;
use rustix::process::{Pid, Signal, kill_process};

/// A command that runs.
struct Started {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Started {
    fn new(bed: &Bed, arguments: &[&str]) -> Self {
        let mut command = bed.aer(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    /// Waits for lines on standard output, these and no others.
    fn says(&mut self, expected: &[&str]) {
        for expected in expected {
            let mut line = String::new();
            self.stdout.read_line(&mut line).unwrap();
            assert_eq!(line.trim_end(), *expected);
        }
    }

    /// Waits for the end, and answers the exit code and what was said until then.
    fn end(mut self) -> (Option<i32>, String, String) {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.stdout.read_to_string(&mut stdout).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        (self.child.wait().unwrap().code(), stdout, stderr)
    }
}

fn count(bed: &Bed, name: &str) -> usize {
    bed.fake.called().iter().filter(|call| *call == name).count()
}

/// Kills the node's daemon, and starts it again; its zones outlive it.
fn restart(bed: &mut Bed) {
    bed.kill();
    bed.come_back();
}

#[test]
fn a_run_goes_on_over_replacements_and_exits_as_the_command_did() {
    let bed = Bed::new();
    let mut run = Started::new(&bed, &["run", "web", "--", "sleep"]);
    run.says(&["ready"]);
    bed.fake.write("web", "one");
    run.says(&["one"]);
    bed.fake.replace();
    bed.fake.write("web", "two");
    bed.fake.write("web", "three");
    run.says(&["two", "three"]);
    bed.fake.replace();
    bed.fake.write("web", "four");
    run.says(&["four"]);
    assert_eq!(count(&bed, "Free"), 0);
    bed.fake.end("web", 7);
    assert_eq!(run.end(), (Some(7), String::new(), String::new()));
    assert_eq!((count(&bed, "Allocate"), count(&bed, "Start"), count(&bed, "Free")), (1, 1, 1));
    assert!(count(&bed, "Wait") >= 2, "{:?}", bed.fake.called());
}

#[test]
fn a_run_goes_on_when_the_daemon_is_killed_and_comes_back() {
    let mut bed = Bed::new();
    let mut run = Started::new(&bed, &["run", "web", "--", "sleep"]);
    run.says(&["ready"]);
    for line in ["one", "two", "three"] {
        restart(&mut bed);
        bed.fake.write("web", line);
        run.says(&[line]);
    }
    bed.kill();
    bed.fake.write("web", "four");
    bed.fake.end("web", 7);
    bed.come_back();
    assert_eq!(run.end(), (Some(7), "four\n".to_owned(), String::new()));
    assert_eq!((count(&bed, "Start"), count(&bed, "Free")), (1, 1));
}

#[test]
fn a_command_is_started_once_whether_or_not_its_start_was_answered() {
    for (refused, starts) in [(true, 2), (false, 1)] {
        let bed = Bed::new();
        match refused {
            true => bed.fake.refuse(1),
            false => bed.fake.forget_a_start(),
        }
        let mut run = Started::new(&bed, &["run", "job", "--", "sleep"]);
        run.says(&["ready"]);
        bed.fake.end("job", 3);
        assert_eq!(run.end().0, Some(3));
        assert_eq!((count(&bed, "Start"), count(&bed, "Free")), (starts, 1));
    }
}

#[test]
fn ctrl_c_while_the_daemon_is_away_frees_the_cell_when_it_is_back() {
    let mut bed = Bed::new();
    let mut run = Started::new(&bed, &["run", "web", "--", "sleep"]);
    run.says(&["ready"]);
    bed.kill();
    kill_process(Pid::from_child(&run.child), Signal::INT).unwrap();
    bed.come_back();
    assert_eq!(run.end(), (Some(130), String::new(), String::new()));
    assert_eq!(bed.fake.called().last().unwrap(), "Free");
}

#[test]
fn a_node_that_stays_away_is_given_up_and_the_command_is_left_to_run() {
    let mut bed = Bed::new();
    let mut run = Started::new(&bed, &["run", "web", "--", "sleep"]);
    run.says(&["ready"]);
    bed.kill();
    let (code, _, said) = run.end();
    assert_eq!(code, Some(125));
    for expected in [
        "failed to connect to",
        "hint: the node was away for 30 s, and the command may still run there",
        "`aer cell free web` ends it",
    ] {
        assert!(said.contains(expected), "{expected} is not in\n{said}");
    }
}

#[test]
fn logs_are_followed_on_without_a_gap_and_no_line_comes_twice() {
    let mut bed = Bed::new();
    assert!(bed.run(&["cell", "start", "web", "main", "--", "sleep"]).status.success());
    let mut logs = Started::new(&bed, &["logs", "-f", "--tail", "5", "web", "main"]);
    logs.says(&["ready"]);
    bed.fake.write("web", "one");
    logs.says(&["one"]);
    bed.fake.replace();
    bed.fake.write("web", "two");
    logs.says(&["two"]);
    restart(&mut bed);
    bed.fake.write("web", "three");
    bed.fake.write("web", "four");
    logs.says(&["three", "four"]);
    bed.fake.replace();
    bed.fake.write("web", "five");
    bed.fake.end("web", 0);
    assert_eq!(logs.end(), (Some(0), "five\n".to_owned(), String::new()));
}

#[test]
fn changes_are_watched_on_without_a_gap_and_none_comes_twice() {
    let mut bed = Bed::new();
    let line = |number: u64| {
        let (minutes, seconds) = (number / 60, number % 60);
        format!("{number}  1970-01-01T00:{minutes:02}:{seconds:02}Z  -  -  allocated")
    };
    let mut watch = Started::new(&bed, &["cell", "watch", "--after", "1001"]);
    bed.fake.change(1100);
    watch.says(&[&line(1100)]);
    bed.fake.replace();
    bed.fake.change(1200);
    watch.says(&[&line(1200)]);
    restart(&mut bed);
    bed.fake.change(1300);
    bed.fake.change(1400);
    watch.says(&[&line(1300), &line(1400)]);
    watch.child.kill().unwrap();
    let (_, rest, said) = watch.end();
    assert_eq!((rest.as_str(), said.as_str()), ("", ""));
}

#[test]
fn what_changes_nothing_is_asked_again_and_the_rest_is_not() {
    let bed = Bed::new();
    bed.fake.refuse(3);
    assert!(bed.run(&["discovery", "discover"]).status.success());
    assert_eq!(count(&bed, "Discover"), 4);

    bed.fake.refuse(1);
    let free = bed.run(&["cell", "free", "web"]);
    assert_eq!(free.status.code(), Some(1));
    assert!(String::from_utf8(free.stderr).unwrap().contains("is being replaced"));
    assert_eq!(count(&bed, "Free"), 1);
}
