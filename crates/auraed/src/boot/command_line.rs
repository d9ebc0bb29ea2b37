//! The kernel command line: how it is split, and which of its words are ours (`aurae.*`).
//!
//! The syntax is the kernel's own: words are separated by blanks, double quotes keep blanks, `-` and
//! `_` in a key mean the same, and what follows a lone `--` is not ours.

use std::path::PathBuf;

use spiffe::transport::Endpoint;

use super::network::settings::{InterfaceSetting, NetworkSettings};
use crate::runtime::logs::{MAX_CAPACITY, MIN_CAPACITY};
use crate::server::{Address, BadAddress};
use crate::settings::{parse_audit_log_size, parse_endpoint};

/// The prefix of the words that are ours.
const PREFIX: &str = "aurae.";

/// The longest host name that the kernel takes, in bytes (`HOST_NAME_MAX`).
const MAX_HOST_NAME: usize = 64;

/// The form of the daemon's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What the kernel command line sets. What is not set is left to the daemon's defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `aurae.spiffe-socket`, as the flag has it.
    pub workload_api: Option<Endpoint>,
    /// `aurae.trust-dir`, as the flag has it.
    pub trust_directory: Option<PathBuf>,
    /// `aurae.crl`, as the flag has it.
    pub revocation_lists: Vec<PathBuf>,
    /// `aurae.socket`: where the API listens, as the flag `--socket` has it. Empty: the default.
    pub sockets: Vec<Address>,
    /// `aurae.verbose`: more log.
    pub verbose: bool,
    /// `aurae.log-format`.
    pub log_format: Option<LogFormat>,
    /// `aurae.log-capacity`: bytes of output kept per executable.
    pub log_capacity: Option<usize>,
    /// `aurae.audit-log`: the file of the audit log.
    pub audit_log: Option<PathBuf>,
    /// `aurae.audit-log-size`: what it has with those before it, in bytes.
    pub audit_log_size: Option<u64>,
    /// `aurae.audit-required`: calls that cannot be recorded there are refused.
    pub audit_required: bool,
    /// `aurae.requests-per-second`: calls of a principal.
    pub requests_per_second: Option<u32>,
    /// `aurae.hostname`.
    pub host_name: Option<String>,
    /// `aurae.net` and `aurae.dns`.
    pub network: NetworkSettings,
    /// `aurae.modules`: kernel modules to load besides those that the devices need.
    pub modules: Vec<String>,
    /// `aurae.config`: the block device with the certificates.
    pub config_device: Option<PathBuf>,
    /// `MODULE.PARAMETER=VALUE`, as it was written: parameters for modules that are loaded later.
    pub module_parameters: Vec<(String, String)>,
}

/// What a command line says, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parsed {
    /// What could be understood.
    pub(super) settings: Settings,
    /// One sentence for each word of ours that could not.
    pub(super) problems: Vec<String>,
}

/// Reads a kernel command line. No input makes it fail: what is wrong is said in `problems`.
#[must_use]
pub(super) fn parse(line: &str) -> Parsed {
    let mut parsed = Parsed::default();
    for word in words(line) {
        if word == "--" {
            break;
        }
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (word.as_str(), None),
        };
        if let Some(key) = key.strip_prefix(PREFIX) {
            let key = key.replace('_', "-");
            if let Err(rule) = parsed.settings.set(&key, value) {
                parsed.problems.push(format!("kernel command line: {PREFIX}{key}: {rule}"));
            }
        } else if let (Some((module, parameter)), Some(value)) = (key.split_once('.'), value) {
            let module = module.replace('-', "_");
            parsed.settings.module_parameters.push((module, format!("{parameter}={value}")));
        }
    }
    parsed
}

impl Settings {
    fn set(&mut self, key: &str, value: Option<&str>) -> Result<(), String> {
        match key {
            "socket" => self.sockets.push(parse_socket(required(value)?)?),
            "spiffe-socket" => self.workload_api = Some(parse_endpoint(required(value)?)?),
            "trust-dir" => self.trust_directory = Some(parse_path(required(value)?)?),
            "crl" => self.revocation_lists.push(parse_path(required(value)?)?),
            "verbose" => self.verbose = parse_switch(value)?,
            "log-format" => self.log_format = Some(parse_log_format(required(value)?)?),
            "log-capacity" => self.log_capacity = Some(parse_capacity(required(value)?)?),
            "audit-log" => self.audit_log = Some(parse_path(required(value)?)?),
            "audit-log-size" => {
                self.audit_log_size = Some(parse_audit_log_size(required(value)?)?);
            }
            "audit-required" => self.audit_required = parse_switch(value)?,
            "requests-per-second" => {
                self.requests_per_second = Some(parse_rate(required(value)?)?);
            }
            "hostname" => self.host_name = Some(parse_host_name(required(value)?)?),
            "net" => self.network.interfaces.push(InterfaceSetting::parse(required(value)?)?),
            "dns" => self.network.add_name_servers(required(value)?)?,
            "modules" => self.modules.extend(parse_modules(required(value)?)?),
            "config" => self.config_device = Some(parse_device(required(value)?)?),
            _ => return Err("there is no such setting; docs/init.md lists them all".to_owned()),
        }
        Ok(())
    }
}

/// Splits a command line into words, with the quotes taken off.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = None::<String>;
    let mut quoted = false;
    for character in line.chars() {
        match character {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            blank if blank.is_ascii_whitespace() && !quoted => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

fn required(value: Option<&str>) -> Result<&str, String> {
    value.filter(|value| !value.is_empty()).ok_or_else(|| "a value is missing".to_owned())
}

fn parse_socket(value: &str) -> Result<Address, String> {
    value.parse().map_err(|error: BadAddress| error.to_string())
}

fn parse_switch(value: Option<&str>) -> Result<bool, String> {
    match value {
        None | Some("1" | "true" | "yes" | "on") => Ok(true),
        Some("0" | "false" | "no" | "off") => Ok(false),
        Some(other) => Err(format!("`{other}` is neither `true` nor `false`")),
    }
}

fn parse_log_format(value: &str) -> Result<LogFormat, String> {
    match value {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        other => Err(format!("`{other}` is neither `text` nor `json`")),
    }
}

fn parse_capacity(value: &str) -> Result<usize, String> {
    value.parse().ok().filter(|bytes| (MIN_CAPACITY..=MAX_CAPACITY).contains(bytes)).ok_or_else(
        || format!("`{value}` is not a number of bytes from {MIN_CAPACITY} to {MAX_CAPACITY}"),
    )
}

fn parse_rate(value: &str) -> Result<u32, String> {
    let rate = value.parse().ok().filter(|rate| *rate > 0);
    rate.ok_or_else(|| format!("`{value}` is not a number of calls from 1 up"))
}

fn parse_host_name(value: &str) -> Result<String, String> {
    if value.len() > MAX_HOST_NAME {
        return Err(format!("`{value}` is longer than {MAX_HOST_NAME} bytes"));
    }
    if is_domain_name(value) {
        return Ok(value.to_owned());
    }
    Err(format!(
        "`{value}` is not a host name: labels of letters, digits and inner hyphens, joined by dots"
    ))
}

/// Whether the text is a domain name in the letters-digits-hyphen form (RFC 1123, section 2.1).
pub(super) fn is_domain_name(text: &str) -> bool {
    const MAX_NAME: usize = 253;
    const MAX_LABEL: usize = 63;
    text.len() <= MAX_NAME
        && text.split('.').all(|label| {
            (1..=MAX_LABEL).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

fn parse_modules(value: &str) -> Result<Vec<String>, String> {
    value
        .split(',')
        .map(|name| {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
            if !name.is_empty() && name.bytes().all(fits) {
                Ok(name.to_owned())
            } else {
                Err(format!("`{name}` is not a module's name"))
            }
        })
        .collect()
}

fn parse_path(value: &str) -> Result<PathBuf, String> {
    if value.starts_with('/') {
        Ok(PathBuf::from(value))
    } else {
        Err(format!("`{value}` is not a path that begins with `/`"))
    }
}

fn parse_device(value: &str) -> Result<PathBuf, String> {
    let plain = |name: &str| !name.is_empty() && !name.contains('/') && !name.starts_with('.');
    if value.strip_prefix("/dev/").is_some_and(plain) {
        Ok(PathBuf::from(value))
    } else {
        Err(format!("`{value}` is not a block device such as /dev/vda"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings(line: &str) -> Settings {
        let parsed = parse(line);
        assert_eq!(parsed.problems, Vec::<String>::new());
        parsed.settings
    }

    #[test]
    fn every_setting_is_understood_among_the_kernels_own() {
        let settings = settings(
            "console=ttyS0 quiet aurae.hostname=node-1 aurae.socket=[::]:9090 aurae.verbose \
             aurae.log_format=json aurae.log-capacity=65536 aurae.net=dhcp aurae.dns=10.0.2.3 \
             aurae.modules=kvm-amd,overlay aurae.config=/dev/vdb aurae.audit_log=/var/log/audit \
             aurae.audit-log-size=8MiB aurae.audit-required aurae.requests-per-second=9 panic=-1 \
             aurae.spiffe-socket=unix:/run/spire/agent.sock aurae.trust-dir=/etc/aurae/trust \
             aurae.crl=/etc/aurae/crl.pem",
        );
        assert_eq!(settings.audit_log, Some(PathBuf::from("/var/log/audit")));
        assert_eq!(settings.audit_log_size, Some(8 << 20));
        assert!(settings.audit_required);
        assert_eq!(settings.requests_per_second, Some(9));
        assert!(settings.workload_api.is_some());
        assert_eq!(settings.trust_directory, Some(PathBuf::from("/etc/aurae/trust")));
        assert_eq!(settings.revocation_lists, [PathBuf::from("/etc/aurae/crl.pem")]);
        assert_eq!(settings.host_name.as_deref(), Some("node-1"));
        assert_eq!(settings.sockets, ["[::]:9090".parse().unwrap()]);
        assert!(settings.verbose);
        assert_eq!(settings.log_format, Some(LogFormat::Json));
        assert_eq!(settings.log_capacity, Some(65536));
        assert_eq!(settings.network.interfaces.len(), 1);
        assert_eq!(settings.network.name_servers.len(), 1);
        assert_eq!(settings.modules, ["kvm-amd", "overlay"]);
        assert_eq!(settings.config_device, Some(PathBuf::from("/dev/vdb")));
    }

    #[test]
    fn quotes_keep_blanks_and_are_taken_off() {
        assert_eq!(words(r#"a "b c" d="e f" "g=h i" """#), ["a", "b c", "d=e f", "g=h i", ""]);
        assert_eq!(words("open\"ended word"), ["openended word"]);
    }

    #[test]
    fn an_unknown_setting_is_a_problem_that_names_it() {
        let parsed = parse("aurae.nope=1");
        assert_eq!(parsed.settings, Settings::default());
        assert_eq!(
            parsed.problems,
            [
                "kernel command line: aurae.nope: there is no such setting; docs/init.md lists them all"
            ]
        );
    }

    #[test]
    fn a_bad_value_is_a_problem_and_changes_nothing() {
        for line in [
            "aurae.socket=9090",
            "aurae.hostname",
            "aurae.hostname=",
            "aurae.hostname=-x",
            "aurae.hostname=a..b",
            "aurae.hostname=a/b",
            "aurae.log-format=xml",
            "aurae.log-capacity=-1",
            "aurae.log-capacity=1",
            "aurae.verbose=maybe",
            "aurae.audit-log=here",
            "aurae.audit-log-size=1",
            "aurae.audit-required=maybe",
            "aurae.requests-per-second=0",
            "aurae.net=eth0:",
            "aurae.dns=example.org",
            "aurae.modules=a,,b",
            "aurae.modules=../a",
            "aurae.config=vda",
            "aurae.trust-dir=trust",
            "aurae.spiffe-socket=http://x",
            "aurae.config=/dev/../etc",
        ] {
            let parsed = parse(line);
            assert_eq!(parsed.problems.len(), 1, "{line}: {:?}", parsed.problems);
            assert_eq!(parsed.settings, Settings::default(), "{line}");
        }
    }

    #[test]
    fn what_follows_two_dashes_is_not_ours() {
        assert_eq!(settings("aurae.verbose -- aurae.hostname=x").host_name, None);
    }

    #[test]
    fn parameters_of_modules_are_kept_for_their_loading() {
        assert_eq!(
            settings("kvm-amd.nested=1 console=ttyS0").module_parameters,
            [("kvm_amd".to_owned(), "nested=1".to_owned())]
        );
    }

    proptest! {
        #[test]
        fn no_command_line_breaks_the_parser(line in "\\PC*") {
            let _ = parse(&line);
        }

        #[test]
        fn no_value_of_ours_breaks_the_parser(
            key in "(socket|spiffe-socket|trust-dir|crl|verbose|log-format|log-capacity|audit-log|audit-log-size|requests-per-second|hostname|net|dns|modules|config)",
            value in "[ -~]{0,80}",
        ) {
            let parsed = parse(&format!("aurae.{key}={value}"));
            prop_assert!(parsed.problems.len() <= value.split(' ').count());
        }

        #[test]
        fn quoted_words_survive(words_in in proptest::collection::vec("[a-z0-9=./: -]{0,12}", 0..8)) {
            let line: Vec<String> = words_in.iter().map(|word| format!("\"{word}\"")).collect();
            prop_assert_eq!(words(&line.join(" ")), words_in);
        }
    }
}
