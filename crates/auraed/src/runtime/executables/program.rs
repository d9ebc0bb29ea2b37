//! From an [`Executable`] to what `execve` takes.

use std::ffi::CString;

use aurae_kernel::Errno;
use aurae_model::Executable;
use rustix::fs::{Access, AtFlags, CWD, FileType};

/// `PATH` unless the executable's environment has one.
pub(crate) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Strings for `execve`.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) path: CString,
    pub(crate) arguments: Vec<CString>,
    pub(crate) environment: Vec<CString>,
    pub(crate) directory: CString,
}

impl Program {
    /// Finds the program and makes the strings.
    ///
    /// # Errors
    /// What `execve` would say: `ENOENT` or `EACCES`; `EINVAL` for a NUL inside a string.
    pub(crate) fn resolve(executable: &Executable) -> Result<Self, Errno> {
        let arguments = executable.program.arguments();
        let first = arguments.first().ok_or(Errno::INVAL)?;
        let search = executable
            .env
            .iter()
            .rev()
            .find_map(|(name, value)| (name == "PATH").then_some(value.as_str()));
        let path = find(first, search.unwrap_or(DEFAULT_PATH))?;
        let mut environment: Vec<CString> = Vec::with_capacity(executable.env.len() + 1);
        if search.is_none() {
            environment.push(text(format!("PATH={DEFAULT_PATH}"))?);
        }
        for (name, value) in &executable.env {
            environment.push(text(format!("{name}={value}"))?);
        }
        Ok(Self {
            path: text(path)?,
            arguments: arguments.into_iter().map(text).collect::<Result<_, _>>()?,
            environment,
            directory: text(executable.working_directory.clone())?,
        })
    }
}

fn text(string: String) -> Result<CString, Errno> {
    CString::new(string).map_err(|_| Errno::INVAL)
}

/// A name with a slash is a path; another is looked up, as execvp(3) does: one that may not be
/// executed is only the answer when no other may be.
fn find(program: &str, search: &str) -> Result<String, Errno> {
    if program.is_empty() {
        return Err(Errno::NOENT);
    }
    if program.contains('/') {
        return Ok(program.to_owned());
    }
    let mut refused = Errno::NOENT;
    for directory in search.split(':').filter(|directory| directory.starts_with('/')) {
        let candidate = format!("{directory}/{program}");
        let is_file = rustix::fs::stat(&candidate)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
        if !is_file {
            continue;
        }
        match rustix::fs::accessat(CWD, &candidate, Access::EXEC_OK, AtFlags::empty()) {
            Ok(()) => return Ok(candidate),
            Err(_) => refused = Errno::ACCESS,
        }
    }
    Err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_up_in_the_path_and_a_path_is_not() {
        assert_eq!(find("sh", "/nowhere:/bin"), Ok("/bin/sh".to_owned()));
        assert_eq!(find("./sh", "/bin"), Ok("./sh".to_owned()));
        assert_eq!(find("no-such-program", DEFAULT_PATH), Err(Errno::NOENT));
        assert_eq!(find("passwd", "/etc"), Err(Errno::ACCESS));
        assert_eq!(find("", "/bin"), Err(Errno::NOENT));
    }
}
