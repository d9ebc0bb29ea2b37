//! `aer cp` against a node that is made up: where things go, and what a hostile node gets done.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up has failed")]
#![expect(dead_code, reason = "each test file uses a part of the support")]

mod support;

use std::fs;
use std::path::PathBuf;

use rustix::process::{Pid, Signal, kill_process};
use support::Bed;

/// A bed with a tree to copy and a place for it: `src/{file,sub/inner,link}` and `there/`.
fn bed() -> Bed {
    let bed = Bed::new();
    let path = |name: &str| bed.path().join(name);
    fs::create_dir_all(path("src/sub")).unwrap();
    fs::create_dir(path("there")).unwrap();
    fs::create_dir(path("here")).unwrap();
    fs::write(path("src/file"), "content").unwrap();
    fs::write(path("src/sub/inner"), vec![b'x'; 700_000]).unwrap();
    std::os::unix::fs::symlink("file", path("src/link")).unwrap();
    bed
}

fn there(bed: &Bed, name: &str) -> String {
    format!("web:{}/{name}", bed.path().display())
}

/// The names below a directory, in order.
fn names(directory: PathBuf) -> Vec<String> {
    let (mut names, mut left) = (Vec::new(), vec![directory.clone()]);
    while let Some(path) = left.pop() {
        for entry in fs::read_dir(&path).unwrap() {
            let entry = entry.unwrap();
            let name = entry.path().strip_prefix(&directory).unwrap().to_owned();
            names.push(name.into_os_string().into_string().unwrap());
            left.extend(entry.file_type().unwrap().is_dir().then(|| entry.path()));
        }
    }
    names.sort();
    names
}

fn succeeds(bed: &Bed, arguments: &[&str]) {
    let output = bed.run(arguments);
    assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
}

const TREE: [&str; 4] = ["file", "link", "sub", "sub/inner"];

#[test]
fn a_tree_goes_into_a_directory_or_gets_its_name() {
    let bed = bed();
    succeeds(&bed, &["cp", "src", &there(&bed, "there")]);
    assert_eq!(names(bed.path().join("there/src")), TREE);
    succeeds(&bed, &["cp", "src/", &there(&bed, "there/new")]);
    assert_eq!(names(bed.path().join("there/new")), TREE);
    succeeds(&bed, &["cp", "src/file", "src/link", &there(&bed, "there/src/sub/")]);
    assert_eq!(names(bed.path().join("there/src/sub")), ["file", "inner", "link"]);
}

#[test]
fn a_tree_comes_out_into_a_directory_or_gets_its_name() {
    let bed = bed();
    let source = there(&bed, "src");
    succeeds(&bed, &["cp", &source, "here"]);
    assert_eq!(names(bed.path().join("here/src")), TREE);
    succeeds(&bed, &["cp", &source, "here/new"]);
    assert_eq!(names(bed.path().join("here/new")), TREE);
    let output = bed.run(&["cp", "-o", "json", &there(&bed, "src/file"), "here/other"]);
    assert_eq!(output.stdout, b"{\"entries\":1,\"bytes\":7}\n");
    assert_eq!(fs::read(bed.path().join("here/other")).unwrap(), b"content");
}

#[test]
fn what_cannot_be_copied_is_said() {
    let bed = bed();
    fs::write(bed.path().join("there/src"), "").unwrap();
    let (file, absent) = (there(&bed, "there"), there(&bed, "absent/x/"));
    bed.session(
        "copy_refused",
        &[
            &["cp", "a", "b"],
            &["cp", "src", "web:srv"],
            &["cp", ".", "web:/srv"],
            &["--zone", "", "cp", "absent", ":/"],
        ],
    );
    for (arguments, expected) in [
        (["cp", "src", &file], "src is there already, and is not a directory"),
        (["cp", "src", &absent], "is no directory"),
        (["cp", &absent, "here"], "failed to copy"),
    ] {
        let output = bed.run(&arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(expected), "{arguments:?}: {said}");
    }
}

#[test]
fn a_hostile_node_writes_nothing_but_what_was_asked_for() {
    let bed = bed();
    for number in 1..5 {
        let output = bed.run(&["cp", &format!(":/hostile/{number}"), "here/mine"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(names(bed.path().join("here")), ["mine"]);
        assert!(!bed.path().join("escaped").exists());
        assert!(!PathBuf::from("/tmp/escaped").exists());
    }
}

#[test]
fn ctrl_c_leaves_nothing_half() {
    let bed = bed();
    // As long as it takes: no disk is asked for it.
    fs::File::create(bed.path().join("big")).unwrap().set_len(1 << 40).unwrap();
    let mut child = bed.aer(&["cp", &there(&bed, "big"), "here"]).spawn().unwrap();
    while names(bed.path().join("here")).is_empty() {
        assert!(child.try_wait().unwrap().is_none());
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(names(bed.path().join("here")).is_empty());
}
