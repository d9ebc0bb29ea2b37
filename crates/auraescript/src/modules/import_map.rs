//! Import maps: `{"imports": {"name": "./file.ts", "prefix/": "./directory/"}}`, as browsers and Deno
//! have them. `scopes` are not supported.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Which names are files.
#[derive(Debug, Default)]
pub(crate) struct ImportMap {
    /// Relative targets are relative to this directory.
    directory: PathBuf,
    imports: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct File {
    imports: BTreeMap<String, String>,
}

impl ImportMap {
    /// Reads a map; other keys of the file are not looked at, so `deno.json` will do.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read the import map {}: {error}", path.display()))?;
        let file: File = serde_json::from_str(&text)
            .map_err(|error| format!("{} is not an import map: {error}", path.display()))?;
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let directory = path.parent().unwrap_or(Path::new("/")).to_owned();
        Ok(Self { directory, imports: file.imports })
    }

    /// What a name stands for: another name, or a path. The longest prefix wins.
    pub(crate) fn resolve(&self, name: &str) -> Option<String> {
        if let Some(target) = self.imports.get(name) {
            return Some(self.absolute(target));
        }
        let (prefix, target) = self
            .imports
            .iter()
            .filter(|(prefix, _)| prefix.ends_with('/') && name.starts_with(prefix.as_str()))
            .max_by_key(|(prefix, _)| prefix.len())?;
        let rest = name.strip_prefix(prefix.as_str())?;
        Some(self.absolute(&format!("{target}{rest}")))
    }

    fn absolute(&self, target: &str) -> String {
        if target.starts_with("./") || target.starts_with("../") {
            self.directory.join(target).to_string_lossy().into_owned()
        } else {
            target.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_prefixes_are_looked_up() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("deno.json");
        let text =
            r#"{"tasks": {}, "imports": {"a": "./a.ts", "lib/": "./lib/", "lib/x/": "aurae:"}}"#;
        std::fs::write(&file, text).unwrap();
        let map = ImportMap::read(&file).unwrap();
        let root = directory.path().display();
        assert_eq!(map.resolve("a"), Some(format!("{root}/./a.ts")));
        assert_eq!(map.resolve("lib/b.ts"), Some(format!("{root}/./lib/b.ts")));
        assert_eq!(map.resolve("lib/x/sdk").as_deref(), Some("aurae:sdk"));
        assert_eq!(map.resolve("b"), None);
    }

    #[test]
    fn a_file_that_is_no_map_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("map.json");
        std::fs::write(&file, "[]").unwrap();
        let error = ImportMap::read(&file).unwrap_err();
        assert!(error.starts_with(&format!("{} is not an import map", file.display())), "{error}");
    }
}
