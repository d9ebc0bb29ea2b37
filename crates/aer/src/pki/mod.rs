//! `aer pki`: the certificates of nodes and clients, made on this machine.
//!
//! ECDSA P-256 throughout. Keys are written for their owner alone, and nothing is overwritten unless
//! `--force` says so.

mod expiry;
mod files;
mod issue;
mod revoke;
mod rotate;
mod show;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use aurae_client::DEFAULT_SOCKET;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::failure::Failure;
use crate::output;
use crate::settings::Settings;
use x509_parser::pem::Pem;

use files::Files;
use issue::{Authority, Validity};

pub(crate) const NAME: &str = "pki";

const DIRECTORY: &str = "directory";
const NODE_NAME: &str = "node-name";
const ADDRESS: &str = "address";
const CLIENT: &str = "client";
const DAYS: &str = "days";
const TRUST_DOMAIN: &str = "trust-domain";
const FORCE: &str = "force";
const ROLE: &str = "role";
const NAME_ARGUMENT: &str = "name";
const FILE: &str = "file";
const FINISH: &str = "finish";
const CERTIFICATE: &str = "certificate";

/// The files of a node, by the names that the daemon looks for.
const CA_CRT: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
/// The key of the authority before, for as long as both are trusted.
const OLD_CA_KEY: &str = "ca-old.key";
/// What the authorities have revoked.
const CRL: &str = "crl.pem";
const SERVER_CRT: &str = "_signed.server.crt";
const SERVER_KEY: &str = "server.key";
/// The client configuration that `--client` writes.
const CONFIG: &str = "config";
/// Who the client is where a configuration is asked for and nobody is named.
const DEFAULT_CLIENT: &str = "admin";

/// Ten years, as authorities of this kind are kept; `--days` says otherwise.
const DEFAULT_DAYS: &str = "3650";

pub(crate) fn command() -> Command {
    Command::new(NAME)
        .about("Makes, shows and revokes the certificates of nodes and clients")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(init_command())
        .subcommand(client_command())
        .subcommand(show_command())
        .subcommand(rotate_command())
        .subcommand(revoke_command())
}

fn init_command() -> Command {
    Command::new("init")
        .about("Makes an authority and the certificate of a node")
        .long_about(
            "Makes an authority and the certificate of a node: ca.crt, ca.key, _signed.server.crt and server.key.\n\nThe node needs ca.crt, _signed.server.crt and server.key (in /etc/aurae/pki, or where the daemon's flags say). ca.key makes more certificates: keep it away from the nodes.",
        )
        .after_help("Example: aer pki init ~/.aurae/pki --node-name db1 --address 10.0.0.7 --client me --socket 10.0.0.7:8080")
        .arg(directory("Where to write them; made if it is not there"))
        .arg(
            Arg::new(NODE_NAME)
                .long(NODE_NAME)
                .value_name("NAME")
                .help("The node's own DNS name"),
        )
        .arg(
            Arg::new(ADDRESS)
                .long(ADDRESS)
                .action(ArgAction::Append)
                .value_name("IP|DNS")
                .help("Another address of the node"),
        )
        .arg(
            Arg::new(CLIENT)
                .long(CLIENT)
                .value_name("NAME")
                .help("Makes a client's certificate, too, and a client configuration for the node at --socket: --config, or `config` in DIR"),
        )
        .args([role("admin"), days(), trust_domain(), force()])
}

fn client_command() -> Command {
    Command::new(CLIENT)
        .about("Makes the certificate of a client")
        .long_about(
            "Makes the certificate of a client with the authority in DIR: NAME.crt and NAME.key. Its name is the SPIFFE ID spiffe://TRUST-DOMAIN/ROLE/NAME.\n\nUnless the node has policies of its own, an admin may do everything, an operator may read and change what runs, and a reader may read.",
        )
        .arg(directory("The directory of `aer pki init`"))
        .arg(Arg::new(NAME_ARGUMENT).required(true).value_name("NAME").help("The client's name"))
        .args([role("reader"), days(), trust_domain(), force()])
}

fn show_command() -> Command {
    Command::new("show").about("Shows the certificates in a file").arg(
        Arg::new(FILE)
            .required(true)
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help("A file with certificates (PEM)"),
    )
}

fn rotate_command() -> Command {
    Command::new("rotate")
        .about("Makes another authority in the place of the one before")
        .long_about(
            "Makes another authority in the place of the one before, in two steps.\n\nFirst, ca.crt gets the certificate of a new authority beside the old one, and what the old one signed (every NAME.crt in DIR with its NAME.key, and the node's) is signed anew, for the same keys. ca.key is then the new authority's. Give ca.crt to every node and client, then the certificates. Second, `--finish` drops the old authority.",
        )
        .arg(directory("The directory of `aer pki init`"))
        .arg(
            Arg::new(FINISH)
                .long(FINISH)
                .action(ArgAction::SetTrue)
                .help("Drops the authority before: what it signed is refused from then on"),
        )
        .args([days(), trust_domain()])
}

fn revoke_command() -> Command {
    Command::new("revoke")
        .about("Revokes certificates: makes the lists that nodes read (`auraed --crl`)")
        .long_about(
            "Revokes certificates: adds them to crl.pem in DIR, which nodes read (`auraed --crl`) at once when it changes. A list holds for --days: after that a node refuses every client of its authority, until it has another one. Without a certificate the lists are made anew.",
        )
        .arg(directory("The directory of `aer pki init`"))
        .arg(
            Arg::new(CERTIFICATE)
                .action(ArgAction::Append)
                .num_args(0..)
                .value_name("CERT")
                .value_parser(value_parser!(PathBuf))
                .help("A certificate's file (PEM), or the name of a client in DIR"),
        )
        .arg(days())
}

fn directory(help: &'static str) -> Arg {
    Arg::new(DIRECTORY)
        .required(true)
        .value_name("DIR")
        .value_parser(value_parser!(PathBuf))
        .help(help)
}

/// A client that is made beside its node is the one who looks after it; another one reads, unless more
/// is said.
fn role(default: &'static str) -> Arg {
    Arg::new(ROLE)
        .long(ROLE)
        .value_name("ROLE")
        .default_value(default)
        .value_parser(["admin", "operator", "reader"])
        .help("What the client may do, as long as the node has no policies of its own")
}

fn days() -> Arg {
    Arg::new(DAYS)
        .long(DAYS)
        .value_name("NUMBER")
        .default_value(DEFAULT_DAYS)
        .value_parser(value_parser!(u32).range(1..=36_500))
        .help("For how many days the certificates are valid")
}

fn trust_domain() -> Arg {
    Arg::new(TRUST_DOMAIN)
        .long(TRUST_DOMAIN)
        .value_name("NAME")
        .default_value("aurae.local")
        .value_parser(issue::parse_trust_domain)
        .help("The trust domain of the SPIFFE IDs")
}

fn force() -> Arg {
    Arg::new(FORCE).long(FORCE).action(ArgAction::SetTrue).help("Overwrites files that are there")
}

pub(crate) fn execute(matches: &ArgMatches, settings: &Settings) -> Result<ExitCode, Failure> {
    match matches.subcommand() {
        Some(("init", matches)) => init(matches, settings)?,
        Some((CLIENT, matches)) => client(matches)?,
        Some(("show", matches)) => show(matches)?,
        Some(("rotate", matches)) => rotate(matches)?,
        Some(("revoke", matches)) => revoke(matches)?,
        _ => return Err(Failure::usage("`pki` has no such command")),
    }
    Ok(ExitCode::SUCCESS)
}

fn text(matches: &ArgMatches, id: &str) -> Option<String> {
    matches.get_one::<String>(id).cloned()
}

fn path<'a>(matches: &'a ArgMatches, id: &str) -> Result<&'a Path, Failure> {
    let path = matches.get_one::<PathBuf>(id).map(PathBuf::as_path);
    path.ok_or_else(|| Failure::usage(format!("no {id} given")))
}

fn validity(matches: &ArgMatches) -> Result<Validity, Failure> {
    Validity::from_now(matches.get_one::<u32>(DAYS).copied().unwrap_or(1))
}

fn init(matches: &ArgMatches, settings: &Settings) -> Result<(), Failure> {
    let directory = path(matches, DIRECTORY)?;
    let (validity, domain) = (validity(matches)?, text(matches, TRUST_DOMAIN).unwrap_or_default());
    let names = text(matches, NODE_NAME)
        .into_iter()
        .chain(matches.get_many::<String>(ADDRESS).unwrap_or_default().cloned());
    let authority = Authority::new(&domain, validity)?;
    let (server_crt, server_key) =
        authority.node(text(matches, NODE_NAME).as_deref(), names.collect(), validity)?;

    let mut files = Files::new(directory, matches.get_flag(FORCE));
    files.public(CA_CRT, authority.certificate());
    files.private(CA_KEY, &authority.key_pem());
    files.public(SERVER_CRT, &server_crt);
    files.private(SERVER_KEY, &server_key);
    let elsewhere = settings.config.as_deref();
    let client = text(matches, CLIENT).or_else(|| elsewhere.map(|_| DEFAULT_CLIENT.to_owned()));
    if let Some(name) = client {
        let role = text(matches, ROLE).unwrap_or_default();
        add_client(&mut files, &authority, (&name, &role), &domain, validity)?;
        let socket = settings.socket.as_ref().map(ToString::to_string);
        let socket = socket.unwrap_or_else(|| DEFAULT_SOCKET.to_owned());
        match elsewhere {
            Some(config) => {
                let (config, directory) = (absolute(config)?, absolute(directory)?);
                files.public(config, &client_config(&directory, &name, &socket));
            }
            None => files.public(CONFIG, &client_config(Path::new(""), &name, &socket)),
        }
    }
    say(files.write()?)
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::new(format!("failed to find {}: {error}", path.display())))
}

/// A client configuration that names the certificates in a directory.
fn client_config(directory: &Path, name: &str, socket: &str) -> String {
    let file = |name: String| toml_string(&directory.join(name).display().to_string());
    format!(
        "[auth]\nca_crt = {}\nclient_crt = {}\nclient_key = {}\n\n[system]\nsocket = {}\n",
        file(CA_CRT.to_owned()),
        file(format!("{name}.crt")),
        file(format!("{name}.key")),
        toml_string(socket),
    )
}

/// A TOML basic string: JSON's escapes are TOML's.
fn toml_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn client(matches: &ArgMatches) -> Result<(), Failure> {
    let directory = path(matches, DIRECTORY)?;
    let validity = validity(matches)?;
    let name = text(matches, NAME_ARGUMENT).unwrap_or_default();
    let authority = Authority::read(&directory.join(CA_CRT), &directory.join(CA_KEY))?;
    let domain = domain_of(&authority, matches)?;
    let mut files = Files::new(directory, matches.get_flag(FORCE));
    let role = text(matches, ROLE).unwrap_or_default();
    add_client(&mut files, &authority, (&name, &role), &domain, validity)?;
    say(files.write()?)?;
    warn_of(&authority);
    Ok(())
}

/// Says that the authority itself expires soon.
fn warn_of(authority: &Authority) {
    let content = authority.certificate().as_bytes();
    let near = Pem::iter_from_buffer(content).flatten().any(|pem| {
        pem.parse_x509().is_ok_and(|certificate| expiry::is_near(certificate.validity()))
    });
    if near {
        let until = expiry::of_first(content);
        output::complain(&format!(
            "warning: the authority expires soon{until}; `aer pki rotate` makes another\n"
        ));
    }
}

/// The trust domain of a client: that of the authority, which could vouch for no other.
fn domain_of(authority: &Authority, matches: &ArgMatches) -> Result<String, Failure> {
    let asked = text(matches, TRUST_DOMAIN).unwrap_or_default();
    let is_default = matches.value_source(TRUST_DOMAIN) == Some(ValueSource::DefaultValue);
    match authority.trust_domain() {
        Some(own) if is_default || own == asked => Ok(own),
        Some(own) => Err(Failure::usage(format!(
            "the authority vouches for the trust domain {own} alone, not for {asked}"
        ))),
        None => Ok(asked),
    }
}

fn rotate(matches: &ArgMatches) -> Result<(), Failure> {
    let (directory, validity) = (path(matches, DIRECTORY)?, validity(matches)?);
    if matches.get_flag(FINISH) {
        return rotate::finish(directory, validity);
    }
    rotate::begin(directory, &text(matches, TRUST_DOMAIN).unwrap_or_default(), validity)
}

fn revoke(matches: &ArgMatches) -> Result<(), Failure> {
    let certificates = matches.get_many::<PathBuf>(CERTIFICATE).unwrap_or_default();
    let certificates: Vec<PathBuf> = certificates.cloned().collect();
    revoke::run(path(matches, DIRECTORY)?, &certificates, validity(matches)?)
}

fn add_client(
    files: &mut Files,
    authority: &Authority,
    (name, role): (&str, &str),
    domain: &str,
    validity: Validity,
) -> Result<(), Failure> {
    let (crt, key) = authority.client(name, role, domain, validity)?;
    files.public(format!("{name}.crt"), &crt);
    files.private(&format!("{name}.key"), &key);
    Ok(())
}

fn say(written: Vec<PathBuf>) -> Result<(), Failure> {
    let lines = written.iter().map(|path| {
        let is_certificate = path.extension().is_some_and(|end| end == "crt");
        let content = is_certificate.then(|| std::fs::read(path).unwrap_or_default());
        let expiry = content.map(|content| expiry::of_first(&content)).unwrap_or_default();
        format!("wrote {}{expiry}\n", path.display())
    });
    Ok(output::print(&lines.collect::<String>())?)
}

fn show(matches: &ArgMatches) -> Result<(), Failure> {
    Ok(output::print(&show::render(path(matches, FILE)?)?)?)
}

#[cfg(test)]
#[path = "../pki_tests.rs"]
mod tests;
