//! Compiles the `.proto` files under `api/` with protox, a compiler in Rust: no `protoc` is needed.

use std::error::Error;
use std::path::{Path, PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    let api = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../api");
    println!("cargo::rerun-if-changed={}", api.display());
    let mut files = proto_files(&api)?;
    files.sort();

    let mut compiler = protox::Compiler::new([&api])?;
    compiler.include_imports(true).include_source_info(true).open_files(&files)?;

    // Encoded by protox itself: a decoded `FileDescriptorSet` would lose the `aurae.cli.v0` options.
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;

    // Comments are two thirds of it, and who does not show them should not have to read them.
    let mut bare = protox::Compiler::new([&api])?;
    bare.include_imports(true).open_files(&files)?;
    let bare = without_description(&bare.encode_file_descriptor_set())?;
    std::fs::write(out.join("descriptors-bare.bin"), bare)?;

    tonic_prost_build::configure()
        .bytes(".aurae.observe.v0.LogEntry.data")
        .bytes(".aurae.cells.v0.CellServiceExecRequest.stdin")
        .bytes(".aurae.cells.v0.CellServiceExecResponse.stdout")
        .bytes(".aurae.cells.v0.CellServiceExecResponse.stderr")
        .bytes(".aurae.cells.v0.CellServiceAttachRequest.stdin")
        .bytes(".aurae.cells.v0.CellServiceAttachResponse.stdout")
        .bytes(".aurae.cells.v0.CellServiceAttachResponse.stderr")
        .bytes(".aurae.cells.v0.CellServiceCopyInRequest.data")
        .bytes(".aurae.cells.v0.CellServiceCopyOutResponse.data")
        .bytes(".aurae.node.v0.UpgradeRequest.data")
        // Rare, and large: every message of an `Exec` would be as large.
        .boxed(".aurae.cells.v0.ExecStart.security")
        .btree_map(".")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

/// A `google.protobuf.FileDescriptorSet` whose files stay as they are.
#[derive(Clone, PartialEq, prost::Message)]
struct Set {
    #[prost(bytes = "vec", repeated, tag = "1")]
    files: Vec<Vec<u8>>,
}

/// The set without what descriptors themselves are made of, which is larger than most of our own files. What
/// is left of `google/protobuf/descriptor.proto` are the names of what has options, which ours extend: without
/// one of them `prost-reflect` reads all of the file, which it has itself.
fn without_description(set: &[u8]) -> Result<Vec<u8>, prost::DecodeError> {
    let mut set = Set::decode(set)?;
    for file in &mut set.files {
        let mut decoded = prost_types::FileDescriptorProto::decode(file.as_slice())?;
        if decoded.name() != "google/protobuf/descriptor.proto" {
            continue;
        }
        decoded.enum_type.clear();
        decoded.message_type.retain(|message| message.name().ends_with("Options"));
        for message in &mut decoded.message_type {
            message.field.clear();
            message.enum_type.clear();
            message.nested_type.clear();
        }
        *file = decoded.encode_to_vec();
    }
    Ok(set.encode_to_vec())
}

fn proto_files(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(proto_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    Ok(files)
}
