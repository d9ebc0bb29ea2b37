//! The name servers: `/run/resolv.conf`, with a link from `/etc/resolv.conf` where that is absent.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::boot::command_line::is_domain_name;

const FILE: &str = "/run/resolv.conf";
const LINK: &str = "/etc/resolv.conf";

/// More than the C library's resolver looks at; the rest of a server's list is not kept.
const MAX_SERVERS: usize = 8;
/// As many domains as a search list reasonably has.
const MAX_DOMAINS: usize = 8;

/// What is known of name servers; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Resolver {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    given: Vec<IpAddr>,
    /// By interface: its servers and its search domains.
    leased: BTreeMap<String, (Vec<IpAddr>, Vec<String>)>,
}

impl Resolver {
    /// `given`: the servers of the kernel command line, which come first.
    pub(super) fn new(given: &[IpAddr]) -> Self {
        let state = State { given: given.to_vec(), ..State::default() };
        let resolver = Self { state: Arc::new(Mutex::new(state)) };
        if !given.is_empty() {
            resolver.write();
        }
        resolver
    }

    /// What an interface's lease says: nothing, once there is none. Domains come from the network: what
    /// is not one is left out.
    pub(super) fn set(&self, interface: &str, servers: Vec<IpAddr>, domains: Vec<String>) {
        let domains: Vec<String> =
            domains.into_iter().filter(|domain| is_domain_name(domain)).collect();
        let changed = self
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .set(interface, servers, domains);
        if changed {
            self.write();
        }
    }

    fn write(&self) {
        let text = self.state.lock().unwrap_or_else(PoisonError::into_inner).text();
        if let Err(error) = write(&text, Path::new(FILE), Path::new(LINK)) {
            tracing::warn!(%error, "failed to write {FILE}");
        }
    }
}

impl State {
    /// Says whether that changed anything.
    fn set(&mut self, interface: &str, servers: Vec<IpAddr>, domains: Vec<String>) -> bool {
        if servers.is_empty() && domains.is_empty() {
            return self.leased.remove(interface).is_some();
        }
        let now = (servers, domains);
        self.leased.insert(interface.to_owned(), now.clone()) != Some(now)
    }

    fn text(&self) -> String {
        let mut servers = self.given.clone();
        let mut domains: Vec<&str> = Vec::new();
        for (leased, searched) in self.leased.values() {
            servers.extend(leased.iter().filter(|server| !self.given.contains(server)));
            domains.extend(searched.iter().map(String::as_str));
        }
        let mut seen = std::collections::BTreeSet::new();
        domains.retain(|domain| seen.insert(*domain));
        domains.truncate(MAX_DOMAINS);
        let mut text = String::new();
        if !domains.is_empty() {
            let _ = writeln!(text, "search {}", domains.join(" "));
        }
        for server in servers.iter().take(MAX_SERVERS) {
            let _ = writeln!(text, "nameserver {server}");
        }
        text
    }
}

fn write(text: &str, file: &Path, link: &Path) -> io::Result<()> {
    let beside = file.with_extension("conf.new");
    fs::write(&beside, text)?;
    fs::rename(&beside, file)?;
    if link.symlink_metadata().is_ok() {
        return Ok(());
    }
    if let Some(parent) = link.parent() {
        fs::create_dir_all(parent)?;
    }
    symlink(file, link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_servers_come_first_and_nothing_comes_twice() {
        let mut state = State { given: vec![[9, 9, 9, 9].into()], ..State::default() };
        let lease = (
            vec![[10, 0, 2, 3].into(), [9, 9, 9, 9].into()],
            vec!["example.org".to_owned(), "example.org".to_owned()],
        );
        state.leased.insert("eth0".into(), lease);
        assert_eq!(state.text(), "search example.org\nnameserver 9.9.9.9\nnameserver 10.0.2.3\n");
    }

    #[test]
    fn only_what_changes_is_written() {
        let mut state = State::default();
        let server = || vec![IpAddr::from([10, 0, 2, 3])];
        assert!(!state.set("eth0", Vec::new(), Vec::new()));
        assert!(state.set("eth0", server(), Vec::new()));
        assert!(!state.set("eth0", server(), Vec::new()));
        assert!(state.set("eth0", Vec::new(), Vec::new()));
        assert_eq!(state.text(), "");
    }

    #[test]
    fn a_file_of_the_images_own_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) =
            (directory.path().join("resolv.conf"), directory.path().join("etc/link"));
        write("one", &file, &link).unwrap();
        assert_eq!(fs::read_link(&link).unwrap(), file);
        fs::remove_file(&link).unwrap();
        fs::write(&link, "own").unwrap();
        write("two", &file, &link).unwrap();
        assert_eq!(fs::read_to_string(&link).unwrap(), "own");
        assert_eq!(fs::read_to_string(&file).unwrap(), "two");
    }
}
