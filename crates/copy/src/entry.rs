//! One file, directory or link of a copy.

use std::fmt;

use aurae_model::Invalid;

/// How deep a tree may be: each level of a walk costs a descriptor and a buffer.
pub const MAX_DEPTH: usize = 128;

/// The longest path, in bytes: the kernel's `PATH_MAX` without its end.
pub const MAX_PATH_BYTES: usize = 4095;

/// A file, directory or link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it is below the directory of the copy.
    pub path: EntryPath,
    /// Its permissions, at most `0o7777`.
    pub mode: u32,
    /// Its owner; `u32::MAX` is nobody's number.
    pub uid: u32,
    /// Its group; `u32::MAX` is nobody's number.
    pub gid: u32,
    /// When it was last written to, in nanoseconds since the epoch.
    pub modified: i64,
    /// What it is.
    pub kind: Kind,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file of so many bytes, which follow.
    File(u64),
    /// A directory; what is in it follows.
    Directory,
    /// A symbolic link, and where it leads: 1 to [`MAX_PATH_BYTES`] bytes without NUL.
    Symlink(Box<[u8]>),
    /// Another name of the regular file that came as this path before.
    Hardlink(EntryPath),
    /// A named pipe.
    Fifo,
}

/// A path below the directory of a copy: names separated by `/`, none of them empty, `.` or `..`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EntryPath(Box<[u8]>);

impl EntryPath {
    /// Parses a path. `field` is named in the error.
    ///
    /// # Errors
    /// The rule that the path breaks.
    pub fn parse(path: &[u8], field: &str) -> Result<Self, Invalid> {
        let rule = |rule: String| Err(Invalid::new(field, rule));
        if path.is_empty() {
            return Err(Invalid::required(field));
        }
        if path.len() > MAX_PATH_BYTES {
            return rule(format!("At most {MAX_PATH_BYTES} bytes"));
        }
        if path.contains(&0) {
            return rule("NUL is not allowed".to_owned());
        }
        if path.split(|&byte| byte == b'/').any(|name| matches!(name, b"" | b"." | b"..")) {
            return rule("A relative path without `.`, `..` or empty parts is needed".to_owned());
        }
        if path.split(|&byte| byte == b'/').count() > MAX_DEPTH {
            return rule(format!("At most {MAX_DEPTH} deep; copy what is deeper by itself"));
        }
        Ok(Self(path.into()))
    }

    /// The path of what has this name in the directory of this path.
    pub(crate) fn child(&self, name: &[u8]) -> Result<Self, Invalid> {
        Self::parse(&[&self.0, name].join(&b'/'), "path")
    }

    /// The same path with its first name replaced: what was sent as `hosts` or `hosts/a` is written
    /// below a name that the receiver chose.
    ///
    /// # Errors
    /// The path becomes too long.
    pub fn below(&self, name: &Self) -> Result<Self, Invalid> {
        match self.0.iter().position(|&byte| byte == b'/') {
            Some(slash) => Self::parse(&[&name.0, &self.0[slash..]].concat(), "path"),
            None => Ok(name.clone()),
        }
    }

    /// The last name.
    pub(crate) fn name(&self) -> &[u8] {
        self.split().1
    }

    /// The path of the directory that it is in, unless that is the copy's own.
    pub(crate) fn parent(&self) -> Option<&[u8]> {
        self.split().0
    }

    fn split(&self) -> (Option<&[u8]>, &[u8]) {
        match self.0.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => (Some(&self.0[..slash]), &self.0[slash + 1..]),
            None => (None, &self.0),
        }
    }

    /// The path.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for EntryPath {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\"{}\"", self.0.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_tricks_are_refused() {
        for path in ["", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b", "a\0b"] {
            assert!(EntryPath::parse(path.as_bytes(), "path").is_err(), "{path:?} was taken");
        }
        let deep = |depth| EntryPath::parse(&[&b"a"[..]].repeat(depth).join(&b'/'), "path");
        assert!(deep(MAX_DEPTH).is_ok());
        assert!(deep(MAX_DEPTH + 1).unwrap_err().rule.contains("copy what is deeper by itself"));
        assert!(EntryPath::parse(&[b'a'; MAX_PATH_BYTES + 1], "path").is_err());
    }

    #[test]
    fn names_need_not_be_utf8() {
        let path = EntryPath::parse(b"a/\xff b\n/..c", "path").unwrap();
        assert_eq!((path.parent(), path.name()), (Some(&b"a/\xff b\n"[..]), &b"..c"[..]));
    }

    #[test]
    fn the_first_name_is_the_receivers() {
        let path = |text: &str| EntryPath::parse(text.as_bytes(), "path").unwrap();
        assert_eq!(path("hosts").below(&path("mine")).unwrap(), path("mine"));
        assert_eq!(path("etc/a/b").below(&path("mine")).unwrap(), path("mine/a/b"));
    }
}
