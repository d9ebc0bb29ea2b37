//! Writing to the two outputs: style where a person reads, bytes as they are where they are.

use std::io::{self, IsTerminal, Write};

/// Whether and how text is emphasized.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    emphasis: bool,
}

impl Style {
    /// Emphasis on a terminal alone, and not where `NO_COLOR` is set or the terminal is dumb.
    pub(crate) fn of_stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self { emphasis: !refused && io::stdout().is_terminal() }
    }

    /// A heading or a label.
    pub(crate) fn strong(self, text: &str) -> String {
        if self.emphasis { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Bytes for one of the outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) to_stderr: bool,
    pub(crate) bytes: Vec<u8>,
}

impl Chunk {
    pub(crate) fn stdout(bytes: impl Into<Vec<u8>>) -> Self {
        Self { to_stderr: false, bytes: bytes.into() }
    }

    pub(crate) fn stderr(bytes: impl Into<Vec<u8>>) -> Self {
        Self { to_stderr: true, bytes: bytes.into() }
    }
}

/// Writes to standard output.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Writes to standard error. If nobody reads it there is nobody to tell, and work goes on.
pub(crate) fn complain(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Writes chunks in their order, on a thread of its own: a reader that does not read must not keep
/// the connection from answering the node.
pub(crate) async fn write(chunks: Vec<Chunk>) -> io::Result<()> {
    let writing = tokio::task::spawn_blocking(move || {
        for chunk in merge(chunks) {
            match chunk.to_stderr {
                true => io::stderr().lock().write_all(&chunk.bytes)?,
                false => {
                    let mut stdout = io::stdout().lock();
                    stdout.write_all(&chunk.bytes)?;
                    stdout.flush()?;
                }
            }
        }
        Ok(())
    });
    writing.await.map_err(io::Error::other)?
}

/// Chunks that follow each other on one output are one: a program that writes a line at a time would
/// cost a system call for each.
fn merge(chunks: Vec<Chunk>) -> Vec<Chunk> {
    let mut merged: Vec<Chunk> = Vec::new();
    for chunk in chunks {
        match merged.last_mut() {
            Some(last) if last.to_stderr == chunk.to_stderr => last.bytes.extend(chunk.bytes),
            _ => merged.push(chunk),
        }
    }
    merged
}

/// Text from a node for a terminal: control characters are written out, so that nobody can move the
/// cursor or set the title from afar.
pub(crate) fn printable(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\t' => clean.push(letter),
            letter if letter.is_control() => clean.extend(letter.escape_default()),
            letter => clean.push(letter),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_keep_their_order_when_they_are_merged() {
        let chunks =
            vec![Chunk::stdout("a"), Chunk::stdout("b"), Chunk::stderr("c"), Chunk::stdout("d")];
        let merged = [Chunk::stdout("ab"), Chunk::stderr("c"), Chunk::stdout("d")];
        assert_eq!(merge(chunks), merged);
    }

    #[test]
    fn control_characters_from_a_node_are_written_out() {
        assert_eq!(printable("a\tb\u{1b}[2Jc\r\u{9b}"), "a\tb\\u{1b}[2Jc\\r\\u{9b}");
    }
}
