//! What every command takes: which nodes, for how long, and how to answer.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use aurae_client::{Address, CONFIG_VARIABLE, Config, Node, ZonePath};
use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, value_parser};

use crate::failure::Failure;
use crate::units;

const CONFIG: &str = "config";
const NODE: &str = "node";
const ALL: &str = "all";
const SOCKET: &str = "socket";
const ZONE: &str = "zone";
const TIMEOUT: &str = "timeout";
const OUTPUT: &str = "output";
const YES: &str = "yes";

/// Names the zone where no argument does.
const ZONE_VARIABLE: &str = "AURAE_ZONE";

/// The heading of these in the help.
const HEADING: &str = "Global options";

/// How to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What every command takes.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) config: Option<PathBuf>,
    nodes: Vec<String>,
    all: bool,
    pub(crate) socket: Option<Address>,
    zone: Option<ZonePath>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) output: Output,
    pub(crate) yes: bool,
}

/// Whom to ask.
pub(crate) struct Targets {
    pub(crate) nodes: Vec<Node>,
    /// Whether answers say whose they are: more than one was asked for.
    pub(crate) labelled: bool,
    /// The configuration file, for hints.
    pub(crate) config: PathBuf,
}

/// The arguments. An id begins with `/` so that no field of the API has the same.
pub(crate) fn arguments() -> Vec<Arg> {
    let global = |name: &'static str| {
        Arg::new(format!("/{name}")).long(name).global(true).help_heading(HEADING)
    };
    vec![
        global(CONFIG)
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help(format!("The client configuration; default: what {CONFIG_VARIABLE} names, or the first of ~/.aurae/config, /etc/aurae/config, /var/lib/aurae/config")),
        global(NODE)
            .action(ArgAction::Append)
            .value_name("NAME")
            .help("A node of the configuration; several times: all of those at once"),
        global(ALL)
            .action(ArgAction::SetTrue)
            .conflicts_with(format!("/{NODE}"))
            .help("All nodes of the configuration at once"),
        global(SOCKET)
            .value_name("ADDRESS")
            .value_parser(value_parser!(Address))
            .conflicts_with_all([format!("/{NODE}"), format!("/{ALL}")])
            .help("The daemon's socket instead of the configuration's: a path, or an IP address and a port"),
        global(ZONE)
            .env(ZONE_VARIABLE)
            .hide_env(true)
            .value_name("PATH")
            .value_parser(parse_zone)
            .help(format!("The cell whose daemon is asked instead of the node's: `web/api`, or in full `cells/web/cells/api`; default: what {ZONE_VARIABLE} says, else the node's own")),
        global(TIMEOUT)
            .value_name("DURATION")
            .value_parser(units::parse_duration)
            .help("How long a call may take once connected, `10s` for example; default: as long as it takes"),
        global(OUTPUT)
            .short('o')
            .value_name("FORMAT")
            .value_parser(PossibleValuesParser::new(["text", "json"]))
            .default_value("text")
            .help("How to answer: for people, or one JSON object a line"),
    ]
}

/// `--yes`, for commands that ask before they act.
pub(crate) fn yes() -> Arg {
    Arg::new(format!("/{YES}"))
        .long(YES)
        .short('y')
        .action(ArgAction::SetTrue)
        .help("Does it without asking")
}

/// The names of flags that no field may have.
pub(crate) fn taken() -> BTreeSet<String> {
    [CONFIG, NODE, ALL, SOCKET, ZONE, TIMEOUT, OUTPUT, YES, "help", "version"]
        .map(str::to_owned)
        .into()
}

/// A zone's path, in full or short. None for no text: the node's own zone.
fn parse_zone(text: &str) -> Result<Option<ZonePath>, String> {
    match text {
        "" => Ok(None),
        _ => ZonePath::parse_short(text).map(Some).map_err(|error| error.rule),
    }
}

impl Settings {
    pub(crate) fn from_matches(matches: &ArgMatches) -> Self {
        let flag = |name: &str| {
            matches.try_get_one(&format!("/{name}")).ok().flatten().copied().unwrap_or_default()
        };
        let output = matches.get_one::<String>(&format!("/{OUTPUT}")).map(String::as_str);
        Self {
            config: matches.get_one::<PathBuf>(&format!("/{CONFIG}")).cloned(),
            nodes: matches
                .get_many::<String>(&format!("/{NODE}"))
                .map(|names| names.cloned().collect())
                .unwrap_or_default(),
            all: flag(ALL),
            socket: matches.get_one::<Address>(&format!("/{SOCKET}")).cloned(),
            zone: matches.get_one::<Option<ZonePath>>(&format!("/{ZONE}")).cloned().flatten(),
            timeout: matches.get_one::<Duration>(&format!("/{TIMEOUT}")).copied(),
            output: if output == Some("json") { Output::Json } else { Output::Text },
            yes: flag(YES),
        }
    }

    /// Reads the configuration and finds the nodes in it.
    pub(crate) fn targets(&self) -> Result<Targets, Failure> {
        let config = Config::find(self.config.as_deref())?;
        let labelled = self.all || self.nodes.len() > 1;
        let mut nodes = if self.all {
            config.all_nodes()?
        } else if let Some(address) = &self.socket {
            vec![config.node_at(address.clone())?]
        } else if self.nodes.is_empty() {
            vec![config.default_node()?]
        } else {
            self.nodes.iter().map(|name| config.node(name)).collect::<Result<_, _>>()?
        };
        for node in &mut nodes {
            node.zone.clone_from(&self.zone);
        }
        Ok(Targets { nodes, labelled, config: config.path().to_owned() })
    }

    /// The one node that a command works on that cannot work on several.
    pub(crate) fn single_target(&self, command: &str) -> Result<(Node, PathBuf), Failure> {
        let mut targets = self.targets()?;
        match (targets.nodes.pop(), targets.nodes.is_empty()) {
            (Some(node), true) => Ok((node, targets.config)),
            _ => Err(Failure::usage(format!("`aer {command}` works on one node"))
                .hint("name it with --node NAME")),
        }
    }
}
