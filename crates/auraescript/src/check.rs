//! `auraescript check`: type-checks scripts with TypeScript's own compiler, where there is one.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::cli::Check;
use crate::types;

/// TypeScript's compiler, by the name that npm gives it.
const TSC: &str = "tsc";

/// Checks the scripts. The compiler's words and exit code are ours.
pub(crate) fn run(options: &Check) -> Result<ExitCode, String> {
    let scripts =
        options.scripts.iter().map(|script| absolute(script)).collect::<Result<Vec<_>, _>>()?;
    let directory = scripts.first().and_then(|script| script.parent()).unwrap_or(Path::new("/"));
    let compiler = match &options.tsc {
        Some(compiler) => compiler.clone(),
        None => find(directory).ok_or_else(|| missing(directory))?,
    };
    let project = tempdir()?;
    let checked = check(&compiler, &project, &scripts);
    // What is left behind is a few small files in the directory for such.
    let _ = std::fs::remove_dir_all(&project);
    checked
}

fn check(compiler: &Path, project: &Path, scripts: &[PathBuf]) -> Result<ExitCode, String> {
    types::write(project)?;
    let config = types::check_config(project, scripts);
    let file = project.join("check.json");
    std::fs::write(&file, config)
        .map_err(|error| format!("failed to write {}: {error}", file.display()))?;
    let status = Command::new(compiler)
        .arg("--project")
        .arg(&file)
        .args(["--pretty", if is_terminal() { "true" } else { "false" }])
        .status()
        .map_err(|error| format!("failed to run {}: {error}", compiler.display()))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(ExitCode::from(if code == 0 { 0 } else { 1 }))
}

fn is_terminal() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stdout())
}

fn absolute(script: &Path) -> Result<PathBuf, String> {
    script
        .canonicalize()
        .map_err(|error| format!("failed to read the script {}: {error}", script.display()))
}

/// `node_modules/.bin/tsc` in the directory or above it, else on the PATH.
fn find(directory: &Path) -> Option<PathBuf> {
    let local = directory.ancestors().map(|above| above.join("node_modules/.bin").join(TSC));
    let path: OsString = std::env::var_os("PATH").unwrap_or_default();
    let global = std::env::split_paths(&path).map(|directory| directory.join(TSC));
    local.chain(global).find(|candidate| candidate.is_file())
}

fn missing(directory: &Path) -> String {
    format!(
        "TypeScript's compiler is not there: looked for node_modules/.bin/{TSC} in {} and above, and for {TSC} on the PATH\n  help: `npm install typescript` beside the script gets it, or name it with --tsc",
        directory.display()
    )
}

/// A new directory that nobody else can have made.
fn tempdir() -> Result<PathBuf, String> {
    let mut random = [0; 8];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| format!("the kernel gives no random numbers: {error}"))?;
    let name = format!("auraescript-check-{:016x}", u64::from_ne_bytes(random));
    let directory = std::env::temp_dir().join(name);
    std::fs::create_dir(&directory)
        .map_err(|error| format!("failed to make {}: {error}", directory.display()))?;
    Ok(directory)
}
