//! What is read from files is read again when they change, and on SIGHUP.
//!
//! ```text
//! watching ──a change──▶ settling ──quiet, or it takes too long──▶ reloading ──▶ watching
//!     └──────────────SIGHUP────────────────────────────────────────▶┘
//! ```
//!
//! Each part is exchanged as a whole or not at all: one that cannot be read is reported, as a degraded
//! phase by its name, and what was read before stays until the files are good again.

mod watch;

use std::path::PathBuf;
use std::time::Duration;

use aurae_kernel::signals::Listener;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout, timeout_at};

use crate::shutdown::Shutdown;
use crate::status::Status;
use watch::Watch;

/// How long files have to be left alone before they are read: several are written one after another.
const QUIET: Duration = Duration::from_millis(200);
/// How long that is waited for: whoever writes all the time must not keep a new certificate away.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often parts are asked to look at what time does: expiries.
const LOOK_INTERVAL: Duration = Duration::from_secs(3600);

/// Reads a part again; an error is what went wrong, in words.
pub(crate) type Reload = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Something that is read from files.
struct Part {
    name: &'static str,
    paths: Vec<PathBuf>,
    reload: Reload,
}

/// Reads parts again.
pub(crate) struct Reloader {
    status: Status,
    parts: Vec<Part>,
    looks: Vec<Box<dyn Fn() + Send + Sync>>,
}

impl Reloader {
    /// Nothing is read yet.
    pub(crate) fn new(status: Status) -> Self {
        Self { status, parts: Vec::new(), looks: Vec::new() }
    }

    /// A part that `reload` reads from files or directories at `paths`. `name` is the phase that is
    /// degraded while it cannot be read.
    pub(crate) fn add(&mut self, name: &'static str, paths: Vec<PathBuf>, reload: Reload) {
        self.parts.push(Part { name, paths, reload });
    }

    /// Something to look at now and then.
    pub(crate) fn look(&mut self, look: impl Fn() + Send + Sync + 'static) {
        self.looks.push(Box::new(look));
    }

    /// Watches until the shutdown is asked for. `hang_up` is SIGHUP.
    pub(crate) async fn run(self, shutdown: Shutdown, hang_up: Listener) {
        tokio::select! {
            _ = shutdown.wait() => {}
            () = self.watch(hang_up) => {}
        }
    }

    async fn watch(&self, mut hang_up: Listener) {
        let mut looks = interval_at(Instant::now() + LOOK_INTERVAL, LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut first = true;
        loop {
            // Before the files are read: a change meanwhile is seen by it.
            let mut watch = self.arm();
            self.reload(first);
            first = false;
            loop {
                tokio::select! {
                    () = watch.changed() => {
                        settle(&mut watch).await;
                        break;
                    }
                    () = hang_up.recv() => {
                        tracing::info!("SIGHUP: reading files again");
                        break;
                    }
                    _ = looks.tick() => self.looks.iter().for_each(|look| look()),
                }
            }
        }
    }

    /// Where files cannot be watched, SIGHUP is left.
    fn arm(&self) -> Watch {
        let paths = self.parts.iter().flat_map(|part| &part.paths);
        Watch::new(paths).unwrap_or_else(|error| {
            tracing::warn!(%error, "files cannot be watched: after a change, send SIGHUP");
            Watch::never()
        })
    }

    /// At `first` nothing has changed yet, so that what the start of the daemon said stays.
    fn reload(&self, first: bool) {
        for part in &self.parts {
            match (part.reload)() {
                Ok(()) if first => {}
                Ok(()) => self.status.recover(part.name),
                Err(reason) => {
                    let reason = format!("{reason}; what was read before still holds");
                    let told =
                        self.status.degraded().into_iter().any(|degraded| {
                            degraded.phase == part.name && degraded.message == reason
                        });
                    if !told {
                        self.status.recover(part.name);
                        self.status.degrade(part.name, reason);
                    }
                }
            }
        }
    }
}

/// Waits until nothing has changed for a while.
async fn settle(watch: &mut Watch) {
    let end = Instant::now() + SETTLE_TIMEOUT;
    let quiet = async { while timeout(QUIET, watch.changed()).await.is_ok() {} };
    // Either way the files are read now.
    let _ = timeout_at(end, quiet).await;
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::{Arc, Mutex};

    use aurae_kernel::signals::listen;
    use rustix::process::Signal;
    use tokio::sync::watch as state;

    use super::*;

    /// How long a test waits for what has to come.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// A reloader of one file, and what it has read last.
    struct Fixture {
        read: state::Receiver<String>,
        status: Status,
        shutdown: Shutdown,
    }

    impl Fixture {
        fn start(path: &Path) -> Self {
            let (sender, read) = state::channel(String::new());
            let (status, shutdown) = (Status::default(), Shutdown::default());
            let mut reloader = Reloader::new(status.clone());
            let file = path.to_owned();
            let sender = Mutex::new(sender);
            let reload = move || {
                let text = fs::read_to_string(&file).map_err(|error| error.to_string());
                let text = text.and_then(|text| if text == "bad" { Err(text) } else { Ok(text) });
                text.map(|text| drop(sender.lock().unwrap().send_replace(text)))
            };
            reloader.add("file", vec![path.to_owned()], Box::new(reload));
            let hang_up = listen(Signal::HUP.as_raw()).unwrap();
            tokio::spawn(reloader.run(shutdown.clone(), hang_up));
            Self { read, status, shutdown }
        }

        async fn reads(&mut self, text: &str) {
            let read = self.read.wait_for(|read| read == text);
            drop(timeout(PATIENCE, read).await.expect(text).unwrap());
        }

        async fn eventually(&self, what: &str, condition: impl Fn(&Status) -> bool) {
            let wait = async {
                while !condition(&self.status) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            timeout(PATIENCE, wait).await.expect(what);
        }
    }

    impl Drop for Fixture {
        fn drop(&mut self) {
            self.shutdown.request(crate::shutdown::Intent::Exit);
        }
    }

    #[tokio::test]
    async fn a_file_that_is_written_or_renamed_over_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "one").unwrap();
        let mut fixture = Fixture::start(&path);
        fixture.reads("one").await;
        fs::write(&path, "two").unwrap();
        fixture.reads("two").await;
        fs::write(directory.path().join("file.new"), "three").unwrap();
        fs::rename(directory.path().join("file.new"), &path).unwrap();
        fixture.reads("three").await;
    }

    #[tokio::test]
    async fn a_swapped_link_to_a_directory_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for (version, text) in [("v1", "one"), ("v2", "two")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("file"), text).unwrap();
        }
        let link = |target: &str, name: &str| {
            std::os::unix::fs::symlink(target, at(name)).unwrap();
        };
        // As Kubernetes has it: the file is a link through a link that is swapped.
        link("v1", "..data");
        link("..data/file", "file");
        let mut fixture = Fixture::start(&at("file"));
        fixture.reads("one").await;
        link("v2", "..data_tmp");
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        fixture.reads("two").await;
        // And a file that only the link leads to.
        fs::write(at("v2").join("file"), "three").unwrap();
        fixture.reads("three").await;
    }

    #[tokio::test]
    async fn a_file_in_a_directory_that_is_not_there_yet_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b/file");
        let mut fixture = Fixture::start(&path);
        fixture.eventually("degraded", |status| !status.degraded().is_empty()).await;
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "one").unwrap();
        fixture.reads("one").await;
        fixture.eventually("recovered", |status| status.degraded().is_empty()).await;
    }

    #[tokio::test]
    async fn what_is_bad_is_told_until_it_is_good_and_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "one").unwrap();
        let mut fixture = Fixture::start(&path);
        fixture.reads("one").await;
        fs::write(&path, "bad").unwrap();
        fixture.eventually("degraded", |status| !status.degraded().is_empty()).await;
        assert_eq!(fixture.status.degraded()[0].phase, "file");
        assert!(fixture.status.degraded()[0].message.contains("still holds"));
        assert_eq!(*fixture.read.borrow(), "one");
        fs::write(&path, "two").unwrap();
        fixture.reads("two").await;
        fixture.eventually("recovered", |status| status.degraded().is_empty()).await;
    }

    #[tokio::test]
    async fn sighup_reads_all_again() {
        let count = Arc::new(state::Sender::new(0));
        let mut reloader = Reloader::new(Status::default());
        let counted = Arc::clone(&count);
        reloader.add(
            "none",
            Vec::new(),
            Box::new(move || {
                counted.send_modify(|count| *count += 1);
                Ok(())
            }),
        );
        let hang_up = listen(Signal::HUP.as_raw()).unwrap();
        let shutdown = Shutdown::default();
        let running = tokio::spawn(reloader.run(shutdown.clone(), hang_up));
        let mut counts = count.subscribe();
        drop(timeout(PATIENCE, counts.wait_for(|count| *count == 1)).await.unwrap());
        let own = rustix::process::getpid();
        rustix::process::kill_process(own, Signal::HUP).unwrap();
        drop(timeout(PATIENCE, counts.wait_for(|count| *count >= 2)).await.unwrap());
        shutdown.request(crate::shutdown::Intent::Exit);
        timeout(PATIENCE, running).await.unwrap().unwrap();
    }
}
