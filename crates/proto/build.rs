//! Compiles the `.proto` files under `api/` with protox, a compiler in Rust: no `protoc` is needed.

use std::error::Error;
use std::path::{Path, PathBuf};

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
    std::fs::write(out.join("descriptors-bare.bin"), bare.encode_file_descriptor_set())?;

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
