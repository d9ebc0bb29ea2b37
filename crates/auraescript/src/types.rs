//! `auraescript types`: the declarations of what scripts can import, for editors and for
//! `auraescript check`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::cli::Types;

/// A file of declarations: its path below the directory, and its text.
type Declaration = (&'static str, &'static str);

include!("../embedded/types.rs");

/// The directory's own configuration for editors.
const CONFIG: &str = "tsconfig.json";

/// Writes the declarations, and says how an editor finds them.
pub(crate) fn run(options: &Types) -> Result<ExitCode, String> {
    let directory = &options.directory;
    write(directory)?;
    let shown = directory.display();
    println!(
        "wrote {} files below {shown}\nscripts in {shown} are understood by editors as they are; elsewhere, add this to tsconfig.json: \"extends\": \"{}\"",
        TYPES.len() + 1,
        directory.join(CONFIG).display(),
    );
    Ok(ExitCode::SUCCESS)
}

/// Writes the declarations and the configuration.
pub(crate) fn write(directory: &Path) -> Result<(), String> {
    for (path, text) in TYPES {
        write_file(&directory.join(path), text)?;
    }
    let config = json!({ "compilerOptions": compiler_options("."), "include": ["**/*.ts"] });
    write_file(&directory.join(CONFIG), &format!("{config:#}\n"))
}

/// The configuration that checks `scripts`; the declarations are in `directory`.
pub(crate) fn check_config(directory: &Path, scripts: &[PathBuf]) -> String {
    let mut options = compiler_options(&directory.to_string_lossy());
    options["noEmit"] = json!(true);
    json!({ "compilerOptions": options, "files": scripts }).to_string()
}

/// How scripts are to be understood. Paths are relative to the file that has them.
fn compiler_options(directory: &str) -> Value {
    let paths: serde_json::Map<String, Value> = PATHS
        .iter()
        .map(|(name, file)| ((*name).to_owned(), json!([format!("{directory}/{file}")])))
        .collect();
    json!({
        "target": "esnext",
        "module": "preserve",
        "moduleResolution": "bundler",
        "moduleDetection": "force",
        "lib": ["esnext", "dom", "dom.iterable", "dom.asynciterable"],
        "types": [],
        "strict": true,
        "noEmit": true,
        "allowImportingTsExtensions": true,
        "resolveJsonModule": true,
        "experimentalDecorators": true,
        "skipLibCheck": true,
        "paths": paths,
    })
}

fn write_file(path: &Path, text: &str) -> Result<(), String> {
    let failed = |error| format!("failed to write {}: {error}", path.display());
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    std::fs::write(path, text).map_err(failed)
}
