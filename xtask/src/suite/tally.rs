//! Counts.

use std::fmt::Write;

/// What passed, what failed and how, what was skipped and why.
#[derive(Debug, Default)]
pub(super) struct Tally {
    passed: usize,
    failures: Vec<(String, String)>,
    skipped: Vec<(String, String)>,
}

impl Tally {
    pub(super) fn pass(&mut self, name: &str) {
        println!("check {name} ... ok");
        self.passed += 1;
    }

    pub(super) fn fail(&mut self, name: &str, how: &str) {
        println!("check {name} ... FAILED\n{how}");
        self.failures.push((name.to_owned(), how.to_owned()));
    }

    pub(super) fn skip(&mut self, name: &str, why: &str) {
        println!("check {name} ... skipped: {why}");
        self.skipped.push((name.to_owned(), why.to_owned()));
    }

    /// Counts a check by what came of it.
    pub(super) fn check(&mut self, name: &str, result: anyhow::Result<()>) {
        match result {
            Ok(()) => self.pass(name),
            Err(error) => self.fail(name, &format!("{error:#}")),
        }
    }

    /// Counts what a test program reported for itself, without saying it again.
    pub(super) fn count(
        &mut self,
        passed: usize,
        failed: Vec<String>,
        skipped: Vec<(String, String)>,
    ) {
        self.passed += passed;
        self.failures.extend(failed.into_iter().map(|name| (name, "see above".to_owned())));
        self.skipped.extend(skipped);
    }

    pub(super) fn failed(&self) -> usize {
        self.failures.len()
    }

    /// What was skipped and what failed by name, then the counts in a line of their own.
    pub(super) fn summary(&self) -> String {
        let mut text = String::from("\n");
        for (name, why) in &self.skipped {
            let _ = writeln!(text, "skipped: {name}: {why}");
        }
        for (name, how) in &self.failures {
            let first = how.lines().next().unwrap_or_default();
            let _ = writeln!(text, "failed: {name}: {first}");
        }
        let _ = writeln!(
            text,
            "{} passed, {} failed, {} skipped",
            self.passed,
            self.failures.len(),
            self.skipped.len()
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_counts_and_a_skipped_test_is_not_a_passed_one() {
        let mut tally = Tally::default();
        tally.pass("one");
        tally.fail("two", "because\nof details");
        tally.skip("three", "there is no deno");
        tally.count(40, vec!["four".to_owned()], Vec::new());
        let summary = tally.summary();
        assert_eq!(summary.lines().last(), Some("41 passed, 2 failed, 1 skipped"));
        assert!(summary.contains("skipped: three: there is no deno\n"));
        assert!(summary.contains("failed: two: because\n"));
    }
}
