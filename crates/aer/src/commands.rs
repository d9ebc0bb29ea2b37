//! The tree of commands. Only what a command line can mean is built: the flags of an RPC cost a few
//! microseconds each, and there are hundreds.

use std::collections::BTreeSet;
use std::ffi::OsString;

use clap::{Arg, Command};

use crate::api::{Api, Group, Rpc, paragraphs, summary};
use crate::{attach, cp, derive, exec, logs, manual, pki, policy, run, settings, upgrade};

/// What of the tree is built in full.
pub(crate) enum Extent {
    /// Everything, for completions, manual pages and tests.
    Full,
    /// The commands whose names are among these words; of the others there is the name, for help and errors.
    Words(BTreeSet<String>),
    /// The commands whose names are among these words, and no others: what is right is parsed as with all of them.
    Only(BTreeSet<String>),
}

impl Extent {
    /// What this command line can mean.
    pub(crate) fn of(arguments: &[OsString]) -> Self {
        let words = arguments.iter().skip(1).filter_map(|word| word.to_str().map(str::to_owned));
        Self::Only(words.collect())
    }

    /// The same with the names of all commands.
    pub(crate) fn with_all_names(self) -> Self {
        match self {
            Self::Only(words) => Self::Words(words),
            other => other,
        }
    }

    /// Whether a group of the API has to be known: it is named, or a command that was made by hand uses it.
    pub(crate) fn needs(&self, group: &str) -> bool {
        let used_by = match group {
            "cell" => &[run::NAME, exec::NAME][..],
            "observe" => &[logs::NAME],
            _ => &[],
        };
        self.covers(group) || used_by.iter().any(|name| self.covers(name))
    }

    fn covers(&self, name: &str) -> bool {
        match self {
            Self::Full => true,
            Self::Words(words) | Self::Only(words) => words.contains(name),
        }
    }

    /// Whether there is such a command.
    fn has(&self, name: &str) -> bool {
        !matches!(self, Self::Only(words) if !words.contains(name))
    }
}

/// The root of the tree.
pub(crate) fn root(api: &Api, extent: &Extent) -> Command {
    let groups = api.groups();
    let groups = groups.iter().filter(|group| extent.has(&group.name));
    let groups = groups.map(|group| group_command(group, extent));
    Command::new("aer")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Drives Aurae nodes from the command line")
        .long_about(
            "Drives Aurae nodes from the command line.\n\nThe commands of the groups are the calls of the API; `run`, `exec`, `attach`, `logs`, `cp` and `pki` are made by hand on top of it.",
        )
        .after_help("`aer GROUP --help` lists the commands of a group, `aer GROUP COMMAND --help` their arguments.")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .args(settings::arguments())
        .subcommands(by_hand(api, extent))
        .subcommands(groups)
}

type Build = fn(&Api, &Extent) -> Command;

/// The commands that do not stand for one RPC.
const BY_HAND: [(&str, Build); 8] = [
    (run::NAME, |api, extent| run::command(api, extent.covers(run::NAME))),
    (exec::NAME, |api, extent| exec::command(api, extent.covers(exec::NAME))),
    (attach::NAME, |_, _| attach::command()),
    (logs::NAME, |_, _| logs::command()),
    (cp::NAME, |_, _| cp::command()),
    (pki::NAME, |_, _| pki::command()),
    (manual::COMPLETIONS, |_, _| manual::completions_command()),
    (manual::MAN, |_, _| manual::man_command()),
];

fn by_hand<'a>(api: &'a Api, extent: &'a Extent) -> impl Iterator<Item = Command> + 'a {
    let named = BY_HAND.into_iter().filter(|(name, _)| extent.has(name));
    named.map(|(_, build)| build(api, extent))
}

fn group_command(group: &Group, extent: &Extent) -> Command {
    let command = Command::new(group.name.clone())
        .about(summary(&group.about()))
        .subcommand_required(true)
        .arg_required_else_help(true);
    if !extent.covers(&group.name) {
        return command;
    }
    let by_hand = if group.name == policy::GROUP { policy::commands().into() } else { Vec::new() };
    let calls = group.rpcs().filter(|rpc| extent.has(&rpc.name)).map(|rpc| {
        let covered = extent.covers(&rpc.name);
        rpc_command(&rpc, covered)
    });
    command.subcommands(calls).subcommands(by_hand)
}

fn rpc_command(rpc: &Rpc, in_full: bool) -> Command {
    let comment = rpc.comment();
    let command = Command::new(rpc.name.clone()).about(summary(&comment));
    if !in_full {
        return command;
    }
    let command = command.long_about(paragraphs(&comment));
    match upgrade::is_for(rpc) {
        true => upgrade::complete(command),
        false => command.args(rpc_arguments(rpc)),
    }
}

fn rpc_arguments(rpc: &Rpc) -> Vec<Arg> {
    let fields = derive::fields(&rpc.method.input());
    let mut arguments = derive::positional_and_flag_arguments(&fields, &settings::taken());
    if rpc.confirm {
        arguments.push(settings::yes());
    }
    arguments
}

/// The RPC that a group's command stands for.
pub(crate) fn find_rpc(api: &Api, group: &str, command: &str) -> Option<Rpc> {
    let group = api.groups().into_iter().find(|known| known.name == group)?;
    group.rpcs().find(|rpc| rpc.name == command)
}
