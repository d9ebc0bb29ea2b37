//! Nodes for tests, in one line: `let node = Node::shared().await;`.
//!
//! - [`Node::shared`]: the node that all tests of a program share; each makes cells of its own name.
//! - [`Node::alone`]: the same node, with no other test on it meanwhile: for what is measured or counted.
//! - [`Node::boot`]: a node of the test's own, for what ends or breaks one.
//!
//! What goes wrong here fails the test at once, so helpers panic instead of returning errors; a test
//! that fails shows the last lines of its node's console.

#![forbid(unsafe_code)]
#![expect(clippy::panic, reason = "a helper of tests that fails, fails the test")]

mod api;
mod certificates;
mod knock;
mod node;

pub use api::{Api, Finished, cell, logs_of, privileged, program, shell, written};
pub use certificates::{Certificates, Issued};
pub use knock::{knock_with_tls_1_2, knock_without_certificate};
pub use node::{Guard, Node};

use std::future::Future;
use std::time::{Duration, Instant};

/// How long a condition may take to come true: emulation on a busy host needs most of it.
pub const LIMIT: Duration = Duration::from_secs(60);
/// How long a condition is left alone between two looks at it.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Asks until the answer is something, and fails the test when it is not within [`LIMIT`].
pub async fn eventually<T>(what: &str, ask: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_within(LIMIT, what, ask).await
}

/// As [`eventually`], within another limit.
pub async fn eventually_within<T>(
    limit: Duration,
    what: &str,
    mut ask: impl AsyncFnMut() -> Option<T>,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        if start.elapsed() > limit {
            panic!("{what}: not within {} s", limit.as_secs());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// How often something is done that is done again and again: what the environment variable says
/// (`make soak` sets them), or as often as a test run has time for.
pub fn times(variable: &str, usual: u32) -> u32 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Bounds a call that might hang, and fails the test when it does.
pub async fn soon<F: Future>(what: &str, call: F) -> F::Output {
    match tokio::time::timeout(LIMIT, call).await {
        Ok(answer) => answer,
        Err(_) => panic!("{what}: no answer within {} s", LIMIT.as_secs()),
    }
}
