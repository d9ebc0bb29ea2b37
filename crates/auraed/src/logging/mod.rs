//! The daemon's log: one line an event, kept in a ring for the API and shown on standard error.
//!
//! ```text
//! tracing event ──format once──▶ ring      all but the audit log: `GetAuraeDaemonLogStream`
//!                          └───▶ console   all but the audit log, unless verbose
//! ```
//!
//! Who may read the log need not be one who may read the audit log, which has a stream of its own.

mod console;

pub use console::Console;

use std::io;

use aurae_kernel::takeover;
use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::runtime::logs::{Channel, LogRing};

/// The target of audit events.
const AUDIT: &str = "audit";

/// Libraries whose debugging output is about bytes, not about the node.
const QUIET: [&str; 6] = ["h2", "hyper", "hyper_util", "rustls", "tonic", "tower"];

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// What the log shows, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// How a line looks.
    pub format: Format,
    /// Debugging output too, and the audit log on the console.
    pub verbose: bool,
}

/// Starts the log of this process: from here on events go to `ring` and to standard error, and a
/// panic is an event. A second call in the same process changes nothing.
#[must_use]
pub fn start(options: Options, ring: &LogRing) -> Console {
    let console = Console::start();
    let sinks = Sinks { ring: ring.clone(), console: console.clone(), verbose: options.verbose };
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(sinks);
    let registry = tracing_subscriber::registry().with(filter(options.verbose));
    // It fails only where a log was started before.
    let _ = match options.format {
        Format::Text => registry.with(layer).try_init(),
        Format::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    };
    log_panics();
    console
}

fn filter(verbose: bool) -> Targets {
    let level = if verbose { LevelFilter::DEBUG } else { LevelFilter::INFO };
    QUIET.iter().fold(Targets::new().with_default(level), |filter, target| {
        filter.with_target(*target, LevelFilter::WARN)
    })
}

/// A panic ends its task and not the daemon, unless that is taking over from another version; the log
/// says where it was.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(place, message, "a task panicked; this is a bug, please report it");
        takeover::roll_back(&format!("it panicked at {place}: {message}"));
    }));
}

struct Sinks {
    ring: LogRing,
    console: Console,
    verbose: bool,
}

impl<'s> MakeWriter<'s> for Sinks {
    type Writer = Tee<'s>;

    fn make_writer(&'s self) -> Tee<'s> {
        Tee { ring: Some(&self.ring), console: Some(&self.console) }
    }

    fn make_writer_for(&'s self, event: &Metadata<'_>) -> Tee<'s> {
        let is_audit = event.target() == AUDIT;
        let shown = self.verbose || !is_audit;
        Tee { ring: (!is_audit).then_some(&self.ring), console: shown.then_some(&self.console) }
    }
}

/// Takes one event, formatted.
struct Tee<'s> {
    ring: Option<&'s LogRing>,
    console: Option<&'s Console>,
}

impl io::Write for Tee<'_> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        if let Some(ring) = self.ring {
            let lines = event.strip_suffix(b"\n").unwrap_or(event);
            for line in lines.split(|byte| *byte == b'\n') {
                ring.push(Channel::Stdout, line, false);
            }
        }
        if let Some(console) = self.console {
            console.write(event);
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a test logs, as lines of a ring.
#[cfg(test)]
pub(crate) fn capture(ring: &LogRing) -> tracing::subscriber::DefaultGuard {
    let sinks = Sinks { ring: ring.clone(), console: Console::start(), verbose: false };
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(sinks);
    tracing::subscriber::set_default(tracing_subscriber::registry().with(filter(false)).with(layer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::logs::ReaderOptions;

    fn lines(options: Options, log: impl FnOnce()) -> Vec<String> {
        let ring = LogRing::new(1 << 16);
        let sinks =
            Sinks { ring: ring.clone(), console: Console::start(), verbose: options.verbose };
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(sinks);
        match options.format {
            Format::Text => {
                tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
            }
            Format::Json => {
                let layer = layer.json().flatten_event(true);
                tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
            }
        }
        let mut reader = ring.reader(ReaderOptions::default());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let batch = runtime.block_on(reader.next()).unwrap();
        batch.entries.iter().map(|entry| String::from_utf8(entry.data.to_vec()).unwrap()).collect()
    }

    #[test]
    fn an_event_is_a_line_of_the_ring() {
        let lines = lines(Options::default(), || {
            tracing::info!(cell = "web", "allocated");
            tracing::warn!("more");
        });
        assert_eq!(lines.len(), 2);
        assert!(
            lines[0].contains("INFO") && lines[0].ends_with("allocated cell=\"web\""),
            "{lines:?}"
        );
        assert!(lines[1].ends_with("more"), "{lines:?}");
    }

    #[test]
    fn readers_of_the_log_do_not_get_the_audit_log() {
        for verbose in [false, true] {
            let lines = lines(Options { verbose, ..Options::default() }, || {
                tracing::warn!(target: AUDIT, resource = "cells/secret", "a record");
                tracing::info!("something else");
            });
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert!(lines[0].ends_with("something else"), "{lines:?}");
        }
    }

    #[test]
    fn json_is_an_object_a_line() {
        let options = Options { format: Format::Json, verbose: false };
        let lines = lines(options, || tracing::info!(cell = "web", "allocated\nand more"));
        let value: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(lines.len(), 1);
        assert_eq!(value["cell"], "web");
        assert_eq!(value["message"], "allocated\nand more");
    }
}
