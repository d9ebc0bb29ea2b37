//! A short run of every fuzz target, without a fuzzer: what is in its corpus, and a number of mutations of
//! that. The same seed gives the same mutations.
//!
//! `AURAE_FUZZ_SEED` is the seed, and `AURAE_FUZZ_MUTATIONS` how many there are, for a longer run. An input that
//! fails is written to `fuzz/artifacts/TARGET`, where `cargo fuzz run TARGET FILE` takes it up.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot be set up, or that finds something, has failed"
)]

mod mutate;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use fuzz_targets::{TARGETS, Target};
use mutate::Mutator;

/// Any number does; with one that stays, a failure is this change's.
const SEED: u64 = 1;

/// Where the fuzzer keeps things, as `cargo fuzz` has it.
fn place(of: &str, target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz").join(of).join(target)
}

/// A number from the environment.
fn setting<T: std::str::FromStr>(name: &str, usual: T) -> T {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => usual,
    }
}

/// The inputs of a target with their names, in the order of these.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let directory = place("corpus", target);
    let files = fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let mut corpus: Vec<_> = files
        .map(|file| {
            let file = file.unwrap();
            let name = file.file_name().into_string().unwrap();
            (name, fs::read(file.path()).unwrap())
        })
        .collect();
    corpus.sort();
    assert!(!corpus.is_empty(), "{} is empty", directory.display());
    corpus
}

/// Runs a target over its corpus and over so many mutations.
fn run(name: &str, mutations: usize) {
    let target = TARGETS.into_iter().find(|target| target.name == name).unwrap();
    let corpus = corpus(name);
    for (file, input) in &corpus {
        check(target, input, &format!("fuzz/corpus/{name}/{file}"));
    }
    let seed = setting("AURAE_FUZZ_SEED", SEED);
    let inputs: Vec<_> = corpus.into_iter().map(|(_, input)| input).collect();
    let mut mutator = Mutator::new(seed, &inputs);
    for number in 0..setting("AURAE_FUZZ_MUTATIONS", mutations) {
        let input = mutator.next();
        check(target, &input, &format!("mutation {number} of AURAE_FUZZ_SEED={seed}"));
    }
}

fn check(target: Target, input: &[u8], what: &str) {
    let Err(_told) = catch_unwind(AssertUnwindSafe(|| (target.run)(input))) else { return };
    let directory = place("artifacts", target.name);
    fs::create_dir_all(&directory).unwrap();
    let file =
        directory.join(format!("replay-{}", what.replace(|c: char| !c.is_alphanumeric(), "-")));
    fs::write(&file, input).unwrap();
    panic!("the target {} fails with {what}; its input is {}", target.name, file.display());
}

#[test]
fn certificates_name_whom_they_name() {
    run("certificate", 20_000);
}

#[test]
fn first_messages_are_the_same_however_they_come() {
    run("frames", 20_000);
}

#[test]
fn names_are_printed_as_they_came() {
    run("names", 100_000);
}

#[test]
fn policies_load_or_say_where_they_are_wrong() {
    run("policies", 400);
}

#[test]
fn requests_do_what_was_decided_over() {
    run("wire", 20_000);
}

#[test]
fn every_target_has_a_program_and_a_corpus() {
    let mut known: Vec<_> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    known.sort();
    for of in ["corpus", "fuzz_targets"] {
        let entries = fs::read_dir(place(of, "")).unwrap();
        let path = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().path();
        let mut there: Vec<_> = entries
            .map(|entry| path(entry).file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        there.sort();
        assert_eq!(there, known, "fuzz/{of}");
    }
}
