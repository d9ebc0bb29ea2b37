//! QEMU's monitor (QMP): JSON, a line each way.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// QEMU answers at once or never.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// A connection to a machine's monitor.
#[derive(Debug)]
pub struct Monitor {
    reader: BufReader<UnixStream>,
}

impl Monitor {
    /// Connects to `NAME` in a directory. A socket's path has at most 107 bytes, and a workspace may
    /// be deeper than that: so the directory is opened, and the path starts at its descriptor.
    ///
    /// # Errors
    /// When nobody listens there, or what listens is no QEMU.
    pub fn connect(directory: &Path, name: &str) -> Result<Self> {
        let context = || format!("failed to connect to {}", directory.join(name).display());
        let opened = File::open(directory).with_context(context)?;
        let short = format!("/proc/self/fd/{}/{name}", opened.as_raw_fd());
        let stream = UnixStream::connect(short).with_context(context)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT)).with_context(context)?;
        let mut monitor = Self { reader: BufReader::new(stream) };
        monitor.receive()?; // the greeting
        monitor.execute("qmp_capabilities", json!({}))?;
        Ok(monitor)
    }

    /// Executes a command and returns its answer.
    ///
    /// # Errors
    /// When QEMU refuses it (its words are the text) or goes away.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        let stream = self.reader.get_mut();
        writeln!(stream, "{request}").with_context(|| format!("failed to send {command}"))?;
        loop {
            let mut message = self.receive()?;
            if let Some(error) = message.get("error") {
                bail!("QEMU refused {command}: {}", error["desc"].as_str().unwrap_or_default());
            }
            if let Some(answer) = message.get_mut("return") {
                return Ok(answer.take());
            }
            // An event: nobody here waits for one.
        }
    }

    /// The host's port that is forwarded to a port of the guest.
    ///
    /// # Errors
    /// When there is none.
    pub fn forwarded_port(&mut self, guest_port: u16) -> Result<u16> {
        let answer =
            self.execute("human-monitor-command", json!({ "command-line": "info usernet" }))?;
        let text = answer.as_str().unwrap_or_default();
        parse_forwarded_port(text, guest_port)
            .with_context(|| format!("QEMU forwards no port to {guest_port}: {text}"))
    }

    fn receive(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.reader.read_line(&mut line).context("failed to read from QEMU's monitor")? == 0 {
            bail!("QEMU's monitor went away");
        }
        serde_json::from_str(&line).with_context(|| format!("QEMU's monitor said {line:?}"))
    }
}

/// `TCP[HOST_FORWARD]  12  127.0.0.1 45677  10.0.2.15  8080  0  0`
fn parse_forwarded_port(text: &str, guest_port: u16) -> Option<u16> {
    text.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["TCP[HOST_FORWARD]", _, _, host, _, guest, ..] if *guest == guest_port.to_string() => {
                host.parse().ok()
            }
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forwarded_port_is_found_in_the_table() {
        let text = "Hub 0 (n0):\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\n  TCP[HOST_FORWARD]  10       127.0.0.1 42763       10.0.2.15  8080     0     0\n";
        assert_eq!(parse_forwarded_port(text, 8080), Some(42763));
        assert_eq!(parse_forwarded_port(text, 22), None);
    }
}
