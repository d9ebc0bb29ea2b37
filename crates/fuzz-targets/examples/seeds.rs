//! Writes the seeds that are missing below `fuzz/corpus`: real requests, certificates, names and policies, from
//! which the fuzzer starts. `cargo run --release -p fuzz-targets --example seeds`

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use aurae_authz::{BUILT_IN, Contract, Method};
use aurae_proto::cells as wire;
use fuzz_targets::wire::input;
use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, SanType};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// How deep the messages in messages are set.
const MAX_DEPTH: usize = 4;
/// Who may do all, at the node; and who is bound: at the node, through `team`, and through a deep path.
const CALLERS: [(u8, &str); 4] = [(0, "root"), (1, "bound"), (3, "bound-team"), (6, "root-deep")];

fn main() -> Outcome {
    names()?;
    frames()?;
    policies()?;
    certificates()?;
    let contract = Contract::parse(aurae_proto::BARE_FILE_DESCRIPTOR_SET)?;
    for method in contract.actions() {
        whole_request(method)?;
    }
    requests(&contract)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What is there stays: the fuzzer's own finds may build on it.
fn write(target: &str, name: &str, bytes: &[u8]) -> Outcome {
    let directory = root().join("fuzz/corpus").join(target);
    fs::create_dir_all(&directory)?;
    let file = directory.join(name);
    if !file.exists() {
        fs::write(file, bytes)?;
    }
    Ok(())
}

fn names() -> Outcome {
    let (label, deep) = ("a".repeat(63), vec!["cells/a"; 32].join("/"));
    let texts = [
        ("cell", "web"),
        ("cell-in-cell", "web/api"),
        ("zone", "cells/web/cells/api"),
        ("executable", "nginx_1.2"),
        ("executable-of-zone", "cells/web/executables/nginx"),
        ("executable-of-node", "executables/cron"),
        ("node", "node"),
        ("longest-label", &label),
        ("deepest-zone", &deep),
        ("other-kinds", "cells/web/pods/p1/vms/db"),
        ("dots", "cells/../x"),
        ("zone-of-node", "_node"),
    ];
    texts.into_iter().try_for_each(|(name, text)| write("names", name, text.as_bytes()))
}

fn frames() -> Outcome {
    let message = b"\0\0\0\0\x05hello\0\0\0\0\x02go";
    let cases: [(&str, &[u8], &[u8]); 6] = [
        ("at-once", &[0, 0], message),
        ("byte-by-byte", &[1, 12, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1], message),
        ("with-pauses", &[0, 5, 255, 3, 255, 0, 4], message),
        ("lost-in-the-middle", &[2, 2, 4, 255], b"\0\0\0\0\x09hell"),
        ("compressed", &[0, 1, 3], b"\x01\0\0\0\x01x"),
        ("too-long", &[0, 1, 255], b"\0\x00\x40\x00\x01x"),
    ];
    cases.into_iter().try_for_each(|(name, how, body)| write("frames", name, &[how, body].concat()))
}

/// The built-in ones, those of the documentation, and mistakes.
fn policies() -> Outcome {
    write("policies", "built-in", BUILT_IN.1.as_bytes())?;
    let documentation = fs::read_to_string(root().join("docs/authorization.md"))?;
    let blocks = documentation.split("```cedar\n").skip(1);
    for (number, block) in blocks.enumerate() {
        let text = block.split("```").next().unwrap_or_default();
        write("policies", &format!("documented-{number}"), text.as_bytes())?;
    }
    let mistakes = [
        ("unfinished", "permit (principal, action, resource);\npermit (principal"),
        ("unknown-action", "permit (principal, action == Action::\"cells.Strat\", resource);"),
        (
            "unknown-field",
            "permit (principal, action == Action::\"cells.Start\", resource)\nwhen { context.uids > 0 };",
        ),
        ("template", "permit (principal == ?principal, action, resource);"),
        (
            "overflow",
            "forbid (principal, action == Action::\"cells.Start\", resource)\nwhen { context has uid && context.uid * 4611686018427387904 > 0 };",
        ),
        (
            "annotated",
            "@id(\"größe\")\n@advice(\"ask\")\nforbid (principal is CommonName, action in Action::\"cells\", resource is Cell in Cell::\"cells/web\");\npermit (principal, action, resource);",
        ),
    ];
    mistakes.into_iter().try_for_each(|(name, text)| write("policies", name, text.as_bytes()))
}

fn certificates() -> Outcome {
    let uri = |uri: &str| Ok::<_, rcgen::Error>(SanType::URI(uri.try_into()?));
    let dns = |name: &str| Ok::<_, rcgen::Error>(SanType::DnsName(name.try_into()?));
    let address = SanType::IpAddress([127, 0, 0, 1].into());
    certificate("spiffe", Some("alice"), vec![uri("spiffe://aurae.local/admin/alice")?])?;
    certificate("two-uris", Some("bob"), vec![uri("spiffe://a/b")?, uri("spiffe://a/c")?])?;
    certificate("dns", Some("carol"), vec![uri("https://x.example/")?, dns("ci.example.org")?])?;
    certificate("wildcard", None, vec![dns("*.example.org")?, dns("b.example.org")?, address])?;
    certificate("common-name", Some("dave"), vec![])?;
    certificate("strange-common-name", Some("spiffe://aurae.local/admin/e\n\u{202e}ö"), vec![])?;
    certificate("nobody", None, vec![])?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "an authority");
    let made = params.self_signed(&KeyPair::generate()?)?;
    write("certificate", "authority", made.der())
}

fn certificate(name: &str, common_name: Option<&str>, names: Vec<SanType>) -> Outcome {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(common_name) = common_name {
        params.distinguished_name.push(DnType::CommonName, common_name);
    }
    params.subject_alt_names = names;
    let made = params.self_signed(&KeyPair::generate()?)?;
    write("certificate", name, made.der())
}

/// A request in which every field is set, by its description.
fn whole_request(method: &Method) -> Outcome {
    let action = method.action();
    let Some(request) = method.request() else {
        return write("wire", action, &input(method, 0, &[Vec::new()]));
    };
    let whole = filled(request, 0).encode_to_vec();
    write("wire", &format!("{action}-whole"), &input(method, 0, &[whole]))
}

fn filled(message: &MessageDescriptor, depth: usize) -> DynamicMessage {
    let mut filled = DynamicMessage::new(message.clone());
    if depth < MAX_DEPTH {
        for field in message.fields() {
            filled.set_field(&field, value(&field, depth));
        }
    }
    filled
}

fn value(field: &FieldDescriptor, depth: usize) -> Value {
    if field.is_map() {
        return Value::Map([(MapKey::String("LANG".into()), Value::String("C".into()))].into());
    }
    let single = match field.kind() {
        Kind::Message(inner) => Value::Message(filled(&inner, depth + 1)),
        Kind::String => Value::String("web".into()),
        Kind::Bytes => Value::Bytes(b"bytes".as_slice().into()),
        Kind::Bool => Value::Bool(true),
        Kind::Enum(_) => Value::EnumNumber(1),
        kind => kind.default_value(),
    };
    if field.is_list() { Value::List(vec![single]) } else { single }
}

/// What people ask for, as every kind of caller.
fn requests(contract: &Contract) -> Outcome {
    let limits = wire::MemoryController { max: Some(1 << 30), ..Default::default() };
    let cell = wire::Cell {
        name: "team/web".into(),
        isolate_process: true,
        cpu: Some(wire::CpuController {
            weight: Some(100),
            max: Some(50_000),
            ..Default::default()
        }),
        memory: Some(limits),
        pids: Some(wire::PidsController { max: Some(64) }),
        ..Default::default()
    };
    let allocate = wire::CellServiceAllocateRequest { cell: Some(cell) };
    let executable = wire::Executable {
        name: "nginx".into(),
        args: vec!["nginx".into(), "-g".into(), "daemon off;".into()],
        env: [("HOME".to_owned(), "/".to_owned())].into(),
        restart: Some(wire::RestartPolicy {
            condition: wire::RestartCondition::Always.into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let start = wire::CellServiceStartRequest {
        cell_name: Some("team/web".into()),
        executable: Some(executable),
        uid: Some(33),
        gid: Some(33),
    };
    let free = wire::CellServiceFreeRequest {
        cell_name: "team/web".into(),
        grace_period: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
    };
    let stop = wire::CellServiceStopRequest {
        cell_name: Some("team".into()),
        executable_name: "nginx".into(),
        ..Default::default()
    };
    let requests = [
        ("cells.Allocate", allocate.encode_to_vec()),
        ("cells.Start", start.encode_to_vec()),
        ("cells.Free", free.encode_to_vec()),
        ("cells.Stop", stop.encode_to_vec()),
    ];
    for (action, message) in requests {
        write_request(contract, action, &[message])?;
    }
    write_request(contract, "cells.Exec", &conversation())?;
    write_request(contract, "cells.CopyIn", &copy())
}

fn write_request(contract: &Contract, action: &str, messages: &[Vec<u8>]) -> Outcome {
    let method = contract.action(action).ok_or("there is no such action")?;
    for (caller, name) in CALLERS {
        write("wire", &format!("{action}-{name}"), &input(method, caller, messages))?;
    }
    Ok(())
}

fn conversation() -> Vec<Vec<u8>> {
    use wire::cell_service_exec_request::Message as Said;
    let start = wire::ExecStart {
        args: vec!["sh".into(), "-c".into(), "cat".into()],
        stdin: true,
        terminal: Some(wire::TerminalSize { rows: 24, columns: 80 }),
        ..Default::default()
    };
    let said = [
        Said::Start(start),
        Said::Stdin(b"hello\n".as_slice().into()),
        Said::Resize(wire::TerminalSize { rows: 50, columns: 132 }),
        Said::Signal(2),
        Said::StdinEnd(wire::StdinEnd {}),
    ];
    let request = |message| wire::CellServiceExecRequest { message: Some(message) };
    said.map(|message| request(message).encode_to_vec()).to_vec()
}

fn copy() -> Vec<Vec<u8>> {
    use wire::cell_service_copy_in_request::Message as Said;
    let entry = |path: &str, kind| wire::CopyEntry {
        path: path.as_bytes().into(),
        mode: 0o644,
        kind: Some(kind),
        ..Default::default()
    };
    let said = [
        Said::Start(wire::CopyInStart { directory: "/srv".into(), preserve_ownership: true }),
        Said::Entry(entry("a", wire::copy_entry::Kind::Directory(wire::CopyDirectory {}))),
        Said::Entry(entry("a/b", wire::copy_entry::Kind::File(5))),
        Said::Data(b"bytes".as_slice().into()),
        Said::Entry(entry("a/c", wire::copy_entry::Kind::Symlink(b"../b".as_slice().into()))),
    ];
    let request = |message| wire::CellServiceCopyInRequest { message: Some(message) };
    said.map(|message| request(message).encode_to_vec()).to_vec()
}
