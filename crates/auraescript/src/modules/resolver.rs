//! Which module an import means.

use std::path::{Component, Path, PathBuf};

use rquickjs::loader::{ImportAttributes, Resolver};
use rquickjs::{Ctx, Result};

use super::{ImportMap, embedded};
use crate::throw;

/// Extensions that are tried for a hint when a file is missing.
const EXTENSIONS: [&str; 6] = ["ts", "js", "mts", "mjs", "json", "tsx"];

/// Resolves names to embedded modules and to absolute paths.
pub(crate) struct ModuleResolver {
    import_map: ImportMap,
}

impl ModuleResolver {
    pub(crate) fn new(import_map: ImportMap) -> Self {
        Self { import_map }
    }

    /// The module that `name` means in the module `base`. The error is for people.
    fn find(&self, base: &str, name: &str) -> std::result::Result<String, String> {
        let base_is_embedded = base.starts_with(embedded::SCHEME);
        if base_is_embedded && let Some(sibling) = embedded::sibling(name) {
            return Ok(sibling);
        }
        let mapped = if base_is_embedded { None } else { self.import_map.resolve(name) };
        let name = mapped.as_deref().unwrap_or(name);
        if let Some(module) = embedded::resolve(name) {
            return Ok(module.to_owned());
        }
        if let Some(path) = name.strip_prefix("file://") {
            return existing(name, Path::new(path), base);
        }
        if name.starts_with("./") || name.starts_with("../") || name.starts_with('/') {
            let directory = Path::new(base).parent().unwrap_or(Path::new("/"));
            return existing(name, &directory.join(name), base);
        }
        Err(unknown(base, name))
    }
}

impl Resolver for ModuleResolver {
    fn resolve<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        base: &str,
        name: &str,
        _attributes: Option<ImportAttributes<'js>>,
    ) -> Result<String> {
        self.find(base, name).map_err(|message| throw::error(ctx, "Error", &message))
    }
}

/// The path without `.` and `..`, so that one file is one module.
fn existing(name: &str, path: &Path, base: &str) -> std::result::Result<String, String> {
    let path = normalize(path);
    if path.is_file() {
        return Ok(path.to_string_lossy().into_owned());
    }
    let mut message = format!("cannot find module \"{name}\": there is no file {}", path.display());
    if path.is_dir() {
        message = format!("cannot find module \"{name}\": {} is a directory", path.display());
    }
    if !base.is_empty() {
        message.push_str(&format!("\n    imported from {base}"));
    }
    if let Some(hint) = similar(name, &path) {
        message.push_str(&format!("\n  help: did you mean \"{hint}\"?"));
    }
    Err(message)
}

/// A file beside the missing one that differs in its extension.
fn similar(name: &str, path: &Path) -> Option<String> {
    let stem = match name.rsplit_once('.') {
        Some((stem, extension)) if EXTENSIONS.contains(&extension) => stem,
        _ => name,
    };
    let candidates = [path.to_owned(), path.with_extension("")];
    for extension in EXTENSIONS {
        for candidate in &candidates {
            let mut candidate = candidate.clone().into_os_string();
            candidate.push(format!(".{extension}"));
            if Path::new(&candidate).is_file() {
                return Some(format!("{stem}.{extension}"));
            }
        }
    }
    None
}

fn normalize(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

fn unknown(base: &str, name: &str) -> String {
    let from = if base.is_empty() { String::new() } else { format!("\n    imported from {base}") };
    let help = if name.starts_with("node:") {
        "Node's modules are not there; \"aurae:runtime\" has args, env, exit and files".to_owned()
    } else if name.contains(':') && !name.starts_with(embedded::SCHEME) {
        "modules are not loaded over the network; download it and import the file".to_owned()
    } else {
        format!(
            "a file is imported as \"./{name}\"; an import map (--import-map) can give it a name; \
             what comes with auraescript is {}",
            embedded::names().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
        )
    };
    format!("cannot find module \"{name}\"{from}\n  help: {help}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_names_are_relative_to_the_module() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_str().unwrap();
        std::fs::create_dir(directory.path().join("lib")).unwrap();
        std::fs::write(directory.path().join("lib/a.ts"), "").unwrap();
        let resolver = ModuleResolver::new(ImportMap::default());
        let expected = Ok(format!("{root}/lib/a.ts"));
        assert_eq!(resolver.find(&format!("{root}/main.ts"), "./lib/a.ts"), expected);
        assert_eq!(resolver.find(&format!("{root}/lib/b.ts"), "../lib/./a.ts"), expected);
        assert_eq!(resolver.find("", &format!("file://{root}/lib/a.ts")), expected);
    }

    #[test]
    fn a_missing_file_is_named_and_the_likely_one_suggested() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_str().unwrap();
        std::fs::write(directory.path().join("a.ts"), "").unwrap();
        let resolver = ModuleResolver::new(ImportMap::default());
        let base = format!("{root}/main.ts");
        for name in ["./a", "./a.js"] {
            let error = resolver.find(&base, name).unwrap_err();
            assert!(
                error.starts_with(&format!(
                    "cannot find module \"{name}\": there is no file {root}/a"
                ))
            );
            assert!(error.ends_with("did you mean \"./a.ts\"?"), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_imported_says_what_can() {
        let resolver = ModuleResolver::new(ImportMap::default());
        let error = |name| resolver.find("/main.ts", name).unwrap_err();
        assert!(error("node:fs").contains("aurae:runtime"));
        assert!(error("https://example.org/x.ts").contains("download"));
        assert!(error("lodash").contains("\"./lodash\""));
    }

    #[test]
    fn what_is_embedded_has_several_names() {
        let resolver = ModuleResolver::new(ImportMap::default());
        for name in ["aurae:sdk", "@aurae/sdk"] {
            assert_eq!(resolver.find("/main.ts", name), Ok("aurae:sdk".to_owned()));
        }
    }
}
