//! What is wrong with policies, and where.

use std::fmt;

use miette::Diagnostic;

/// So many problems are told: the rest is seldom news.
const MAX_TOLD: usize = 20;

/// Something in a policy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file's name, as it was given.
    pub file: String,
    /// The line, from 1 up.
    pub line: usize,
    /// The column in characters, from 1 up.
    pub column: usize,
    /// What is wrong.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:{}: {}", self.file, self.line, self.column, self.text)
    }
}

impl Problem {
    pub(crate) fn at(file: &str, source: &str, offset: usize, text: String) -> Self {
        let (line, column) = place(source, offset);
        Self { file: file.to_owned(), line, column, text }
    }

    pub(crate) fn of(file: &str, source: &str, diagnostic: &dyn Diagnostic) -> Self {
        let label = diagnostic.labels().and_then(|mut labels| labels.next());
        let offset = label.as_ref().map_or(0, miette::LabeledSpan::offset);
        let mut text = plain(&diagnostic.to_string());
        let label = label.as_ref().and_then(miette::LabeledSpan::label).map(str::to_owned);
        let help = diagnostic.help().map(|help| help.to_string());
        for more in label.into_iter().chain(help) {
            text.push_str("; ");
            text.push_str(&more);
        }
        Self::at(file, source, offset, text)
    }
}

/// Without Cedar's own number of the policy, which means nothing to whoever wrote it.
fn plain(text: &str) -> String {
    match text.strip_prefix("for policy `").and_then(|rest| rest.split_once("`, ")) {
        Some((_, text)) => text.to_owned(),
        None => text.to_owned(),
    }
}

/// The line and the column of a byte.
pub(crate) fn place(source: &str, offset: usize) -> (usize, usize) {
    let before = source.get(..offset).unwrap_or(source);
    let line = before.bytes().filter(|&byte| byte == b'\n').count();
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
    (line + 1, column + 1)
}

/// Policies that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyErrors(pub(crate) Vec<Problem>);

impl PolicyErrors {
    /// What is wrong, in the order of the files; never empty.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}

impl fmt::Display for PolicyErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, problem) in self.0.iter().take(MAX_TOLD).enumerate() {
            let newline = if place == 0 { "" } else { "\n" };
            write!(formatter, "{newline}{problem}")?;
        }
        match self.0.len().saturating_sub(MAX_TOLD) {
            0 => Ok(()),
            more => write!(formatter, "\nand {more} more"),
        }
    }
}

impl std::error::Error for PolicyErrors {}
