//! `cargo xtask codegen`: generates the TypeScript SDK's messages from `api/`.
//!
//! The plugin, protobuf-es's `protoc-gen-es`, comes from `sdk/typescript/package-lock.json`. It is
//! given what `protoc` would give it; the files are compiled by protox, so there is no `protoc`.
//! What it writes is committed: building the project needs no Node.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use prost::Message as _;
use prost_types::compiler::{CodeGeneratorRequest, CodeGeneratorResponse};

/// Plain JavaScript with declarations: Node refuses to strip types inside packages.
const PARAMETER: &str = "target=js+dts,import_extension=js";

/// The annotations for the command line and for policies. A script has no use for them, and parsing them
/// would cost every start of one.
const LEFT_OUT: [&str; 2] = ["aurae/authz/v0/options.proto", "aurae/cli/v0/options.proto"];

/// Generates `sdk/typescript/gen` below the repository `root`. With `check`, changes nothing and
/// fails when what is committed is not what would be generated.
///
/// # Errors
/// When a `.proto` file is wrong, or the plugin is not installed or fails.
pub fn run(root: &Path, check: bool) -> Result<()> {
    let sdk = root.join("sdk/typescript");
    let out = sdk.join("gen");
    let response = generate(&sdk, &request(&root.join("api"))?)?;

    let mut kept = BTreeSet::new();
    for file in &response.file {
        let path = out.join(file.name());
        if check {
            let committed = fs::read_to_string(&path).unwrap_or_default();
            if committed != file.content() {
                bail!("{} is out of date: run `cargo xtask codegen`", path.display());
            }
        } else {
            write(&path, file.content())?;
        }
        kept.insert(path);
    }
    for path in files(&out)? {
        if kept.contains(&path) {
            continue;
        }
        if check {
            bail!("{} has no .proto file: run `cargo xtask codegen`", path.display());
        }
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

/// What `protoc` would ask the plugin for. Decoding the descriptors with prost drops the options
/// it does not know, which are those of the files that are left out.
fn request(api: &Path) -> Result<CodeGeneratorRequest> {
    let sources: Vec<PathBuf> = files(api)?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "proto"))
        .filter(|path| !LEFT_OUT.iter().any(|left_out| path.ends_with(left_out)))
        .collect();
    let mut compiler = protox::Compiler::new([api])?;
    compiler.include_imports(true).include_source_info(true).open_files(&sources)?;
    let mut proto_file = compiler.file_descriptor_set().file;
    proto_file.retain(|file| !LEFT_OUT.contains(&file.name()));
    for file in &mut proto_file {
        file.dependency.retain(|dependency| !LEFT_OUT.contains(&dependency.as_str()));
    }

    let file_to_generate = sources
        .iter()
        .map(|path| Ok(path.strip_prefix(api)?.to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    Ok(CodeGeneratorRequest {
        file_to_generate,
        parameter: Some(PARAMETER.to_owned()),
        proto_file,
        compiler_version: None,
    })
}

/// Runs the plugin.
fn generate(sdk: &Path, request: &CodeGeneratorRequest) -> Result<CodeGeneratorResponse> {
    let plugin = sdk.join("node_modules/.bin/protoc-gen-es");
    if !plugin.exists() {
        bail!("{} is missing: run `npm ci` in {}", plugin.display(), sdk.display());
    }
    let mut child = Command::new(&plugin)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}: is Node installed?", plugin.display()))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(&request.encode_to_vec()).context("cannot write to protoc-gen-es")?;
    }
    let output = child.wait_with_output().context("cannot read from protoc-gen-es")?;
    if !output.status.success() {
        bail!("protoc-gen-es failed: {}", output.status);
    }
    let response = CodeGeneratorResponse::decode(output.stdout.as_slice())
        .context("protoc-gen-es answered something else than a CodeGeneratorResponse")?;
    if let Some(error) = &response.error {
        bail!("protoc-gen-es: {error}");
    }
    Ok(response)
}

fn write(path: &Path, content: &str) -> Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
    }
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

/// Every file below a directory, sorted. None if there is no such directory.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if !directory.exists() {
        return Ok(found);
    }
    let entries =
        fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
