//! What command lines say, kept as files. `UPDATE_SNAPSHOTS=1 cargo test -p aer` writes them anew.

use std::path::Path;
use std::process::Output;

/// A command line and what came of it.
pub(crate) fn describe(arguments: &[&str], output: &Output) -> String {
    let line = arguments.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
    let mut text = format!("$ aer {line}\n");
    for (name, bytes) in [("", &output.stdout), ("! ", &output.stderr)] {
        for line in String::from_utf8_lossy(bytes).lines() {
            let line = line.replace(|c: char| c.is_control() && c != '\t', "\u{2400}");
            text.push_str(format!("{name}{line}").trim_end());
            text.push('\n');
        }
    }
    text.push_str(&format!("[exit {}]\n\n", output.status.code().unwrap()));
    text
}

fn quoted(word: &str) -> String {
    if word.is_empty() || word.contains(' ') { format!("'{word}'") } else { word.to_owned() }
}

/// Compares with the file of that name.
pub(crate) fn assert_snapshot(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(name);
    let path = path.with_extension("txt");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, actual).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    if expected == actual {
        return;
    }
    let line = expected.lines().zip(actual.lines()).position(|(left, right)| left != right);
    let line = line.unwrap_or_else(|| expected.lines().count().min(actual.lines().count()));
    panic!(
        "{} differs from line {}; UPDATE_SNAPSHOTS=1 accepts what is said now:\n{actual}",
        path.display(),
        line + 1
    );
}
