//! `aer policy check` and `aer policy schema`: what needs no node. The other commands of the group are
//! calls of the API.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use aurae_authz::{Contract, Policies};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::failure::Failure;
use crate::output;

/// The group that they are in.
pub(crate) const GROUP: &str = "policy";
pub(crate) const CHECK: &str = "check";
pub(crate) const SCHEMA: &str = "schema";
const FILES: &str = "file";

pub(crate) fn commands() -> [Command; 2] {
    let check = Command::new(CHECK)
        .about("Checks policies on this machine, as a node of this version would")
        .long_about(
            "Checks policies on this machine, as a node of this version would: their syntax, and whether what they speak of is there. Each problem is a line, FILE:LINE:COLUMN: what is wrong.",
        )
        .after_help("Example: aer policy check /etc/aurae/policy/*.cedar")
        .arg(
            Arg::new(FILES)
                .required(true)
                .action(ArgAction::Append)
                .num_args(1..)
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("A file with policies (Cedar)"),
        );
    let schema = Command::new(SCHEMA)
        .about("Prints the schema that policies are checked against")
        .long_about(
            "Prints the schema that policies are checked against, in Cedar's own syntax: the actions, the entities, and the fields of each request.",
        );
    [check, schema]
}

/// Runs one of them; `None`: it is a call.
pub(crate) fn execute(matches: &ArgMatches) -> Option<Result<ExitCode, Failure>> {
    match matches.subcommand()? {
        (CHECK, matches) => Some(check(matches)),
        (SCHEMA, _) => Some(schema()),
        _ => None,
    }
}

fn contract() -> Result<Arc<Contract>, Failure> {
    let contract = Contract::parse(aurae_proto::BARE_FILE_DESCRIPTOR_SET);
    contract.map(Arc::new).map_err(|error| Failure::new(error.to_string()))
}

fn schema() -> Result<ExitCode, Failure> {
    let contract = contract()?;
    output::print(&aurae_authz::schema(&contract))?;
    Ok(ExitCode::SUCCESS)
}

fn check(matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let mut texts = Vec::new();
    for path in matches.get_many::<PathBuf>(FILES).unwrap_or_default() {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::new(format!("failed to read {}: {error}", path.display())))?;
        texts.push((path.display().to_string(), text));
    }
    let given = texts.iter().map(|(file, text)| (file.as_str(), text.as_str()));
    match Policies::parse(contract()?, given) {
        Ok(policies) => {
            for warning in policies.warnings() {
                eprintln!("warning: {warning}");
            }
            let (count, files) = (policies.count(), texts.len());
            output::print(&format!("{count} rules in {files} files are right\n"))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(errors) => {
            for problem in errors.problems() {
                eprintln!("{problem}");
            }
            Ok(ExitCode::FAILURE)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> ExitCode {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.cedar");
        std::fs::write(&file, text).unwrap();
        let group = Command::new(GROUP).subcommands(commands());
        let words = [GROUP, CHECK, file.to_str().unwrap()];
        execute(&group.try_get_matches_from(words).unwrap()).unwrap().unwrap()
    }

    #[test]
    fn right_policies_are_a_success_and_wrong_ones_a_failure() {
        assert_eq!(run("permit (principal, action, resource);"), ExitCode::SUCCESS);
        assert_eq!(run("permit (principal, action, resource)"), ExitCode::FAILURE);
        let wrong = "permit (principal, action == Action::\"cells.Strat\", resource);";
        assert_eq!(run(wrong), ExitCode::FAILURE);
    }
}
