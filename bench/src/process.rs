//! Other programs: run, timed, and looked at through /proc.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Runs a command line to its end, without output.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let output = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .with_context(|| format!("failed to run {shown}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{shown} ended with {}: {}", output.status, said.trim());
    }
    Ok(())
}

/// Runs a command line that leaves others running, which have what it has as standard error.
pub(crate) fn run_detached(command: &mut Command) -> Result<()> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = command.status().with_context(|| format!("failed to run {command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}

/// The pause before something is tried again: whoever is waited for may need this CPU.
const PAUSE: Duration = Duration::from_millis(5);

/// Tries until it goes well, at most so long; then the last error says why not.
pub(crate) fn until<T>(limit: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        match attempt() {
            Err(_) if Instant::now() < end => std::thread::sleep(PAUSE),
            Err(error) => return Err(error.context(format!("not within {} s", limit.as_secs()))),
            done => return done,
        }
    }
}

/// What a command line prints.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("failed to run {command:?}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} ended with {}: {}", output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Waits for the end of a process that is nobody's child here (pidfd_open(2)).
pub(crate) fn wait(pid: i32) -> Result<()> {
    let pid = Pid::from_raw(pid).context("no process")?;
    let descriptor = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(descriptor) => descriptor,
        // It has ended.
        Err(Errno::SRCH) => return Ok(()),
        Err(error) => return Err(error).context("failed to look at a process"),
    };
    let mut polled = [PollFd::new(&descriptor, PollFlags::IN)];
    poll(&mut polled, None).context("failed to wait for a process")?;
    Ok(())
}

/// Where a program is.
pub(crate) fn find(program: &str) -> Result<(), String> {
    let places = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    match places.iter().any(|place| Path::new(place).join(program).exists()) {
        true => Ok(()),
        false => Err(format!("{program} is not installed")),
    }
}

/// The memory of a process, in bytes (proc_pid_smaps(5), proc_pid_status(5)).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// What it has for itself alone.
    pub(crate) private: u64,
    /// What it has for itself, and its part of what it shares.
    pub(crate) proportional: u64,
    /// Its page tables.
    pub(crate) tables: u64,
    /// How many threads it has; each has a kernel stack.
    pub(crate) threads: u64,
}

impl Memory {
    /// That of a process.
    pub(crate) fn of(pid: i32) -> Result<Self> {
        let read = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))
        };
        let (maps, status) = (read("smaps_rollup")?, read("status")?);
        Ok(Self {
            private: field(&maps, "Private_Clean:") + field(&maps, "Private_Dirty:"),
            proportional: field(&maps, "Pss:"),
            tables: field(&status, "VmPTE:"),
            threads: number(&status, "Threads:"),
        })
    }
}

/// A number of a file of names and numbers.
fn number(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

/// An amount in kB, in bytes.
fn field(text: &str, name: &str) -> u64 {
    number(text, name) * 1024
}

/// CPU time of a part of the cgroup tree, also that of processes which have ended, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpu {
    /// In programs.
    pub(crate) user: f64,
    /// In the kernel, on their behalf.
    pub(crate) system: f64,
}

impl Cpu {
    /// That of the cgroup around the one in which a process is (`cpu.stat`, which is there without controllers
    /// too). The kernel knows the sum exactly, and samples what it is made of: only over many ticks do the
    /// parts say something.
    pub(crate) fn around(pid: i32) -> Result<Self> {
        let path = format!("/proc/{pid}/cgroup");
        let text = fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))?;
        let own = text.lines().find_map(|line| line.strip_prefix("0::/"));
        let around = own.and_then(|own| Path::new(own).parent()).context("no cgroup v2")?;
        let path = Path::new("/sys/fs/cgroup").join(around).join("cpu.stat");
        let text = fs::read_to_string(&path)
            .with_context(|| format!("failed to read {}", path.display()))?;
        let seconds = |name| number(&text, name) as f64 / 1e6;
        Ok(Self { user: seconds("user_usec"), system: seconds("system_usec") })
    }
}

/// The daemons of zones, by the names of their cells: the last argument of their command lines.
pub(crate) fn zones() -> Result<BTreeMap<String, i32>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc").context("failed to list /proc")? {
        let entry = entry.context("failed to list /proc")?;
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        // It may have ended.
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = words.split(|byte| *byte == 0).collect();
        if let [_, b"--nested", name, ..] = words[..] {
            found.insert(String::from_utf8_lossy(name).into_owned(), pid);
        }
    }
    Ok(found)
}

/// The machine's memory that nobody has asked for, in bytes.
pub(crate) fn available() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("failed to read /proc/meminfo")?;
    Ok(field(&text, "MemAvailable:"))
}

/// The machine's memory, in bytes.
pub(crate) fn total() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("failed to read /proc/meminfo")?;
    Ok(field(&text, "MemTotal:"))
}

/// The CPU time that all processes and the kernel had since the machine started, in seconds
/// (proc_stat(5), in hundredths).
pub(crate) fn busy() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat").context("failed to read /proc/stat")?;
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<u64> =
        line.split_whitespace().skip(1).map(|word| word.parse().unwrap_or_default()).collect();
    // user, nice, system, idle, iowait, irq, softirq
    let of = [0, 1, 2, 5, 6].iter().filter_map(|place| ticks.get(*place)).sum::<u64>();
    Ok(of as f64 / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_from_lines() {
        let text = "Rss:  100 kB\nPrivate_Clean:         8 kB\nThreads:\t3\n";
        assert_eq!(field(text, "Private_Clean:"), 8192);
        assert_eq!(number(text, "Threads:"), 3);
        assert_eq!(field(text, "Pss:"), 0);
    }

    #[test]
    fn a_program_that_fails_is_told_with_its_words() -> Result<()> {
        run(&mut Command::new("true"))?;
        let told = run(Command::new("sh").args(["-c", "echo no >&2; exit 3"]));
        assert!(told.is_err_and(|error| error.to_string().contains("no")));
        Ok(())
    }
}
