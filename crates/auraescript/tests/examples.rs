//! The examples, against a fake node. `make test` runs them against real ones, and under Deno and
//! Node as well.

#![expect(dead_code, reason = "each test file uses a part of the support")]

#[path = "support/fake_node.rs"]
mod fake_node;
mod support;

use std::path::Path;

use fake_node::FakeNode;
use support::{auraescript, outcome};

/// Every example, and what it prints.
const EXAMPLES: [(&str, &str); 5] = [
    ("hello", "hello from a cell\n"),
    (
        "loop-over-cells",
        "job-ok: done\njob-heavy: 1000\njob-broken: failed with code 3\ncells left of ours: 0\n",
    ),
    ("follow-logs", "stdout: tick 1\nstdout: tick 2\nstdout: tick 3\n"),
    ("several-nodes", "node 1: healthy\nnode 2: ConfigError\n1 of 2 answered\n"),
    (
        "cleanup",
        "allocated cleanup\ncaught: something went wrong in the middle\nthe cell is gone\n",
    ),
];

#[test]
fn every_example_prints_what_it_should_and_leaves_nothing_behind() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let node = FakeNode::start();
    for (name, expected) in EXAMPLES {
        let file = directory.join(format!("{name}.ts"));
        let mut command = auraescript(&[file.to_str().unwrap()]);
        outcome(command.env("AURAE_CONFIG", node.config()), &directory).prints(expected);
        assert!(node.state.cells().is_empty(), "{name}");
    }
    let files = std::fs::read_dir(&directory).unwrap();
    let scripts = files
        .filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|end| end == "ts"));
    assert_eq!(scripts.count(), EXAMPLES.len(), "an example is not run");
}
