//! From arguments to settings.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use spiffe::transport::Endpoint;

use crate::audit;
use crate::logging::{self, Format};
use crate::reply;
use crate::runtime::logs;
use crate::server::{Address, REQUESTS_PER_SECOND, TlsFiles};

/// How long executables have between SIGTERM and SIGKILL when the daemon stops, as with `Stop`.
const GRACE_PERIOD: Duration = Duration::from_secs(10);

/// What lives as long as the daemon is kept here, unless told otherwise.
pub const DEFAULT_RUNTIME_DIRECTORY: &str = "/var/run/aurae";
/// Policies are read from here, unless told otherwise.
pub const DEFAULT_POLICY_DIRECTORY: &str = "/etc/aurae/policy";
/// Where a daemon beside another init listens, unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/var/run/aurae/aurae.sock";
/// Where the node's init listens, unless told otherwise.
pub const DEFAULT_INIT_SOCKET: &str = "[::]:8080";

/// The daemon that owns a node: everything it can do is a gRPC call over mutual TLS.
///
/// As process 1 it is the node's init and takes its settings from the kernel command line
/// (`aurae.*`). Beside another init it is a daemon, and needs root and cgroup v2.
#[derive(Debug, Parser)]
#[command(name = "auraed", version = crate::VERSION, args_conflicts_with_subcommands = true)]
pub struct Arguments {
    /// The server's certificate, PEM.
    #[arg(long, value_name = "FILE", default_value = "/etc/aurae/pki/_signed.server.crt")]
    server_crt: PathBuf,
    /// The server's private key, PEM.
    #[arg(long, value_name = "FILE", default_value = "/etc/aurae/pki/server.key")]
    server_key: PathBuf,
    /// The certificates of the authorities that sign clients, PEM.
    #[arg(long, value_name = "FILE", default_value = "/etc/aurae/pki/ca.crt")]
    ca_crt: PathBuf,
    /// A directory of trust bundles, TRUST-DOMAIN.pem: the authorities that may vouch for the SPIFFE
    /// IDs of that trust domain, and nobody else.
    #[arg(long, value_name = "DIR")]
    trust_dir: Option<PathBuf>,
    /// A certificate revocation list (PEM or DER), or a directory of them; may be given more than once.
    #[arg(long, value_name = "FILE|DIR")]
    crl: Vec<PathBuf>,
    /// The SPIFFE Workload API that gives the node its certificate and renews it, in the place of
    /// --server-crt and --server-key: unix:/run/spire/agent.sock, for example.
    #[arg(long, value_name = "ENDPOINT", value_parser = parse_endpoint)]
    spiffe_socket: Option<Endpoint>,
    /// Where to listen: a path, or an address and port; may be given more than once.
    /// [default: /var/run/aurae/aurae.sock; as process 1 [::]:8080]
    #[arg(short, long, value_name = "PATH|ADDRESS:PORT")]
    socket: Vec<Address>,
    /// The directory for what lives as long as the daemon; one daemon a directory.
    #[arg(short, long, value_name = "DIR", default_value = DEFAULT_RUNTIME_DIRECTORY)]
    runtime_dir: PathBuf,
    /// The directory for what outlives the daemon; nothing does yet.
    #[arg(short, long, value_name = "DIR", default_value = "/var/lib/aurae")]
    library_dir: PathBuf,
    /// The directory of the policies that say who may do what: its *.cedar files. Without any, the
    /// roles by SPIFFE ID hold.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_POLICY_DIRECTORY)]
    policy_dir: PathBuf,
    /// Shows debugging output, and the records of the audit log.
    #[arg(short, long)]
    verbose: bool,
    /// How a line of the log looks.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    log_format: Format,
    /// How much of an executable's output is kept, unless its start says otherwise: bytes, or with
    /// KiB, MiB or GiB.
    #[arg(long, value_name = "BYTES", default_value = "1MiB", value_parser = parse_capacity)]
    log_capacity: usize,
    /// A file for the audit log. Unset: its last records are kept in memory alone.
    #[arg(long, value_name = "FILE")]
    audit_log: Option<PathBuf>,
    /// The size of the file of the audit log, with those that it was before (FILE.1, FILE.2, …): bytes,
    /// or with KiB, MiB or GiB.
    #[arg(long, value_name = "BYTES", default_value = "64MiB", value_parser = parse_audit_log_size)]
    audit_log_size: u64,
    /// Refuses calls that cannot be recorded in the file of the audit log.
    #[arg(long, requires = "audit_log")]
    audit_required: bool,
    /// How many calls a principal may make in a second; one more is told when to ask again.
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = REQUESTS_PER_SECOND,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    requests_per_second: u32,
    /// What happens to running executables when the daemon stops.
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    workloads_on_exit: WorkloadsOnExit,
    /// Runs as the daemon inside a zone: how a daemon starts another one, not for people.
    #[arg(long)]
    nested: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What else the daemon's program can do.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Writes an OCI bundle whose init is this program.
    Spawn {
        /// The directory to write: it must not exist, or be empty.
        #[arg(short, long, value_name = "DIR")]
        output: PathBuf,
    },
}

/// What happens to running executables when the daemon stops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum WorkloadsOnExit {
    /// SIGTERM, and after 10 seconds SIGKILL.
    #[default]
    Stop,
    /// SIGKILL at once.
    Kill,
    /// They go on, and the next daemon on the same runtime directory finds them. (As the machine's init
    /// the daemon stops them: there is nowhere to go on.)
    Keep,
}

impl WorkloadsOnExit {
    /// How long executables have between SIGTERM and SIGKILL where they have to end.
    #[must_use]
    pub fn grace_period(self) -> Duration {
        match self {
            Self::Stop | Self::Keep => GRACE_PERIOD,
            Self::Kill => Duration::ZERO,
        }
    }
}

/// How the daemon runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The files for TLS.
    pub tls: TlsFiles,
    /// The SPIFFE Workload API, where the node's identity is from one.
    pub workload_api: Option<Endpoint>,
    /// Where to listen; empty: the default of the role.
    pub sockets: Vec<Address>,
    /// For what lives as long as the daemon.
    pub runtime_directory: PathBuf,
    /// For what outlives the daemon.
    pub library_directory: PathBuf,
    /// Who may do what.
    pub policy_directory: PathBuf,
    /// What the log shows.
    pub logging: logging::Options,
    /// What is kept of an executable's output, in bytes.
    pub log_capacity: usize,
    /// Where the audit log is kept.
    pub audit: audit::Settings,
    /// How many calls a principal may make in a second.
    pub requests_per_second: u32,
    /// What happens to running executables at the end.
    pub workloads_on_exit: WorkloadsOnExit,
    /// Run as the daemon inside a zone.
    pub nested: bool,
    /// What to do instead of running.
    pub command: Option<Command>,
}

impl Settings {
    /// Reads the arguments, of which the first is the program's name.
    ///
    /// # Errors
    /// What clap has to say; help and version are said this way too.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        Arguments::try_parse_from(arguments).map(Self::from)
    }
}

impl Default for Settings {
    /// What holds without any argument.
    fn default() -> Self {
        Self::from(Arguments::parse_from(["auraed"]))
    }
}

impl From<Arguments> for Settings {
    fn from(arguments: Arguments) -> Self {
        Self {
            tls: TlsFiles {
                certificate: arguments.server_crt,
                key: arguments.server_key,
                authority: arguments.ca_crt,
                trust_directory: arguments.trust_dir,
                revocation_lists: arguments.crl,
            },
            workload_api: arguments.spiffe_socket,
            sockets: arguments.socket,
            runtime_directory: arguments.runtime_dir,
            library_directory: arguments.library_dir,
            policy_directory: arguments.policy_dir,
            logging: logging::Options { format: arguments.log_format, verbose: arguments.verbose },
            log_capacity: arguments.log_capacity,
            audit: audit::Settings {
                file: arguments.audit_log,
                size: arguments.audit_log_size,
                required: arguments.audit_required,
            },
            requests_per_second: arguments.requests_per_second,
            workloads_on_exit: arguments.workloads_on_exit,
            nested: arguments.nested,
            command: arguments.command,
        }
    }
}

/// An endpoint of a Workload API, as `SPIFFE_ENDPOINT_SOCKET` has it, or a socket's path.
pub(crate) fn parse_endpoint(text: &str) -> Result<Endpoint, String> {
    let uri = if text.starts_with('/') { format!("unix:{text}") } else { text.to_owned() };
    Endpoint::parse(&uri).map_err(|error| reply::text(&error))
}

/// Bytes within what a ring can have.
fn parse_capacity(text: &str) -> Result<usize, String> {
    usize::try_from(parse_bytes(text)?)
        .ok()
        .filter(|bytes| (logs::MIN_CAPACITY..=logs::MAX_CAPACITY).contains(bytes))
        .ok_or_else(|| "it has to be 4KiB to 64MiB".into())
}

/// Bytes within what the audit log can have.
pub(crate) fn parse_audit_log_size(text: &str) -> Result<u64, String> {
    let bytes = Some(parse_bytes(text)?);
    bytes
        .filter(|bytes| (audit::MIN_SIZE..=audit::MAX_SIZE).contains(bytes))
        .ok_or_else(|| "it has to be 1MiB to 1024GiB".into())
}

/// Bytes, or with `KiB`, `MiB`, `GiB` (also `K`, `M`, `G`).
fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match text.get(digits.len()..).unwrap_or_default().trim() {
        "" | "B" => 1,
        "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        other => return Err(format!("{other:?} is none of B, KiB, MiB, GiB")),
    };
    let count: u64 = digits.parse().map_err(|_| "a number of bytes is needed".to_owned())?;
    count.checked_mul(unit).ok_or_else(|| "it is too large".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Settings, clap::Error> {
        let program = std::iter::once("auraed");
        Settings::parse(program.chain(arguments.iter().copied()).map(OsString::from))
    }

    #[test]
    fn the_defaults_are_those_of_the_contract() {
        let settings = parse(&[]).unwrap();
        assert_eq!(settings.tls.certificate, PathBuf::from("/etc/aurae/pki/_signed.server.crt"));
        assert_eq!(settings.tls.key, PathBuf::from("/etc/aurae/pki/server.key"));
        assert_eq!(settings.tls.authority, PathBuf::from("/etc/aurae/pki/ca.crt"));
        assert_eq!(settings.runtime_directory, PathBuf::from("/var/run/aurae"));
        assert_eq!(settings.library_directory, PathBuf::from("/var/lib/aurae"));
        assert_eq!(settings.log_capacity, 1 << 20);
        assert_eq!(settings.workloads_on_exit, WorkloadsOnExit::Stop);
        assert_eq!(settings.audit, audit::Settings::default());
        assert_eq!(settings.requests_per_second, REQUESTS_PER_SECOND);
        assert!(settings.sockets.is_empty());
    }

    #[test]
    fn workloads_may_be_kept() {
        let settings = parse(&["--workloads-on-exit", "keep"]).unwrap();
        assert_eq!(settings.workloads_on_exit, WorkloadsOnExit::Keep);
    }

    #[test]
    fn a_socket_is_a_path_or_an_address_and_there_may_be_several() {
        let settings = parse(&["-s", "/tmp/a.sock", "--socket", "127.0.0.1:8080"]).unwrap();
        let expected: Vec<Address> =
            ["/tmp/a.sock", "127.0.0.1:8080"].iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(settings.sockets, expected);
        let error = parse(&["-s", "nowhere"]).unwrap_err().to_string();
        assert!(error.contains("neither a path"), "{error}");
    }

    #[test]
    fn a_capacity_has_a_unit_and_bounds() {
        assert_eq!(parse_capacity("4096"), Ok(4096));
        assert_eq!(parse_capacity("64KiB"), Ok(64 << 10));
        assert_eq!(parse_capacity("2M"), Ok(2 << 20));
        assert_eq!(parse_capacity("64 MiB"), Ok(64 << 20));
        for bad in ["", "x", "MiB", "1TiB", "1", "65MiB", "1GiB", "-1", "99999999999999999999GiB"] {
            assert!(parse_capacity(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_audit_log_has_a_file_before_it_can_be_required() {
        let settings =
            parse(&["--audit-log", "/a", "--audit-log-size", "2MiB", "--audit-required"]).unwrap();
        let expected = audit::Settings { file: Some("/a".into()), size: 2 << 20, required: true };
        assert_eq!(settings.audit, expected);
        assert!(parse(&["--audit-required"]).is_err());
        for bad in ["1023KiB", "1025GiB", "99999999999999999GiB", "x"] {
            assert!(parse_audit_log_size(bad).is_err(), "{bad}");
        }
        assert!(parse(&["--requests-per-second", "0"]).is_err());
    }

    #[test]
    fn a_workload_api_is_a_path_or_an_endpoint() {
        for text in ["/run/spire/agent.sock", "unix:/run/spire/agent.sock", "tcp://127.0.0.1:8081"]
        {
            assert!(parse(&["--spiffe-socket", text]).unwrap().workload_api.is_some(), "{text}");
        }
        assert!(parse(&["--spiffe-socket", "http://x"]).is_err());
    }

    #[test]
    fn spawn_takes_a_directory() {
        let settings = parse(&["spawn", "-o", "/tmp/bundle"]).unwrap();
        assert_eq!(settings.command, Some(Command::Spawn { output: "/tmp/bundle".into() }));
        assert!(parse(&["spawn"]).is_err());
    }
}
