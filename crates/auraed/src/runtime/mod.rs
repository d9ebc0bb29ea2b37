//! What the daemon owns while it runs: each part has one owner that moves its state.

pub mod logs;
