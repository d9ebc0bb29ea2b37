//! What is promised for every RPC and every field, checked by walking the descriptors.

use std::ffi::OsString;

use clap::Command;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use crate::api::Api;
use crate::commands::{self, Extent};
use crate::derive;

fn full_tree(api: &Api) -> Command {
    let mut tree = commands::root(api, &Extent::Full);
    tree.build();
    tree
}

fn find<'a>(tree: &'a Command, path: &[&str]) -> Option<&'a Command> {
    path.iter().try_fold(tree, |command, name| command.find_subcommand(name))
}

#[test]
fn the_tree_is_consistent() {
    commands::root(&Api::load().unwrap(), &Extent::Full).debug_assert();
}

#[test]
fn every_rpc_is_a_command_and_every_field_of_its_request_an_argument() {
    let api = Api::load().unwrap();
    let tree = full_tree(&api);
    let mut rpcs = 0;
    for group in api.groups() {
        for rpc in group.rpcs() {
            let command = find(&tree, &[&group.name, &rpc.name]).unwrap();
            let found = commands::find_rpc(&api, &group.name, &rpc.name).unwrap();
            assert_eq!(found.method.full_name(), rpc.method.full_name(), "the name is ambiguous");
            assert!(command.get_about().is_some(), "{} has no help", rpc.method.full_name());
            rpcs += 1;
            if crate::upgrade::is_for(&rpc) {
                // Its arguments are made by hand.
                continue;
            }
            let mut leaves = Vec::new();
            collect_leaves(&rpc.method.input(), "", &mut leaves);
            for leaf in leaves {
                let argument =
                    command.get_arguments().find(|known| known.get_id() == leaf.as_str());
                let argument =
                    argument.unwrap_or_else(|| panic!("{}: {leaf}", rpc.method.full_name()));
                assert!(
                    argument.get_help().is_some_and(|help| !help.to_string().is_empty()),
                    "{leaf}"
                );
                assert!(argument.is_positional() || argument.get_long().is_some(), "{leaf}");
            }
        }
    }
    assert_eq!(rpcs, api.services().map(|service| service.methods().len()).sum::<usize>());
}

/// The fields of a message and of the messages inside it, as a reader of the proto file counts them.
fn collect_leaves(message: &MessageDescriptor, path: &str, leaves: &mut Vec<String>) {
    for field in message.fields() {
        let path = if path.is_empty() {
            field.name().to_owned()
        } else {
            format!("{path}.{}", field.name())
        };
        match inner(&field) {
            Some(inner) => collect_leaves(&inner, &path, leaves),
            None => leaves.push(path),
        }
    }
}

fn inner(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    match field.kind() {
        Kind::Message(message)
            if !field.is_list()
                && !field.is_map()
                && message.package_name() != "google.protobuf" =>
        {
            Some(message)
        }
        _ => None,
    }
}

#[test]
fn run_takes_everything_that_a_cell_and_an_executable_can_have() {
    let api = Api::load().unwrap();
    let tree = full_tree(&api);
    let run = find(&tree, &["run"]).unwrap();
    for method in ["Allocate", "Start"] {
        let rpc = api.rpc("aurae.cells.v0.CellService", method).unwrap();
        for field in derive::fields(&rpc.method.input()) {
            let ours = field.position().is_some()
                || ["executable.command", "executable.args"].contains(&field.id().as_str());
            let there = run.get_arguments().any(|argument| *argument.get_id() == *field.id());
            assert_eq!(there, !ours, "{}", field.id());
        }
    }
}

#[test]
fn a_partial_tree_understands_what_the_full_one_does() {
    let api = Api::load().unwrap();
    for line in [
        "aer cell allocate web --cell-cpu-weight 5 --memory-max 64MiB --cpu-max 400ms --isolate-process",
        "aer cell free web",
        "aer cell start web main --executable-command true",
        "aer cell start web main --env A=1 --env B=2 -- sh -c -x",
        "aer cell start web main --args sh --args -c",
        "aer cell stop web main --grace-period 3s",
        "aer cell list -o json",
        "aer --node a --node b cell inspect web",
        "aer cell inspect",
        "aer cell signal web main TERM --tree",
        "aer cell allocate web --io-devices device=/dev/vda,read_bytes_per_second=1MiB",
        "aer discovery discover --all",
        "aer health check --service aurae.cells.v0.CellService",
        "aer health watch",
        "aer observe get-aurae-daemon-log-stream",
        "aer observe get-sub-process-stream 7 --channel-type STDERR",
        "aer observe get-posix-signals-stream --workload-type cell",
        "aer observe get-executable-logs web main --since 5m --tail 3 --follow",
        "aer node power-off --yes",
        "aer run --memory-max 64MiB --env A=1 --uid 7 web -- sh -c true",
        "aer exec -i web --privileged -- mount",
        "aer exec web --security-capabilities-add CAP_NET_ADMIN --seccomp unconfined -- ip link",
        "aer exec web --devices device=/dev/kvm,access=rw -- true",
        "aer run --security-privileged web -- true",
        "aer logs -f web main --timestamps",
        "aer cp -a a b web:/srv --zone db",
        "aer pki client pki me --role operator",
        "aer auth whoami",
        "aer auth can-i cells.Start cells/web/executables/nginx",
        "aer policy check a.cedar b.cedar",
        "aer policy schema",
        "aer policy explain --principal spiffe://a/reader/r --action cells.List --resource node",
        "aer completions bash",
    ] {
        let words: Vec<_> = line.split(' ').map(OsString::from).collect();
        let extent = Extent::of(&words);
        let part = Api::load_bare(|group| extent.needs(group)).unwrap();
        let named = Extent::of(&words).with_all_names();
        let trees = [(&api, &Extent::Full), (&part, &extent), (&part, &named)];
        let matched = trees.map(|(api, extent)| {
            let tree = commands::root(api, extent);
            tree.try_get_matches_from(&words).unwrap_or_else(|error| panic!("{line}: {error}"))
        });
        let [full, only, named] = matched.map(|matches| format!("{matches:?}"));
        assert!(full == only && full == named, "{line}: {full}\n{only}\n{named}");
    }
}
