//! From an [`Executable`] or a [`Command`] to what `execve` takes.

use std::ffi::CString;

use aurae_kernel::Errno;
use aurae_model::{Command, Executable};
use rustix::fs::{Access, AtFlags, CWD, FileType};

/// `PATH` unless the executable's environment has one.
pub(crate) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// `TERM` where there is a terminal, unless the environment has one: what every terminal can do.
const DEFAULT_TERM: &str = "xterm";

/// Strings for `execve`.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) path: CString,
    pub(crate) arguments: Vec<CString>,
    pub(crate) environment: Vec<CString>,
    pub(crate) directory: CString,
}

impl Program {
    /// Finds an executable's program and makes the strings.
    ///
    /// # Errors
    /// What `execve` would say: `ENOENT` or `EACCES`; `EINVAL` for a NUL inside a string.
    pub(crate) fn resolve(executable: &Executable) -> Result<Self, Errno> {
        let environment = environment(&executable.env, executable.terminal.is_some())?;
        Self::new(executable.program.arguments(), environment, &executable.working_directory)
    }

    /// As [`Self::resolve`], of a command.
    pub(crate) fn of_command(command: &Command) -> Result<Self, Errno> {
        let environment = environment(&command.env, command.terminal.is_some())?;
        Self::new(command.arguments.clone(), environment, &command.working_directory)
    }

    fn new(
        arguments: Vec<String>,
        environment: Vec<CString>,
        directory: &str,
    ) -> Result<Self, Errno> {
        let first = arguments.first().ok_or(Errno::INVAL)?;
        let search = environment.iter().find_map(|text| text.to_str().ok()?.strip_prefix("PATH="));
        Ok(Self {
            path: text(find(first, search.unwrap_or(DEFAULT_PATH))?)?,
            arguments: arguments.into_iter().map(text).collect::<Result<_, _>>()?,
            environment,
            directory: text(directory.to_owned())?,
        })
    }
}

/// What was asked for, and what every program has.
fn environment(env: &[(String, String)], terminal: bool) -> Result<Vec<CString>, Errno> {
    let given = |name: &str| env.iter().any(|(other, _)| other == name);
    let path = (!given("PATH")).then(|| format!("PATH={DEFAULT_PATH}"));
    let term = (terminal && !given("TERM")).then(|| format!("TERM={DEFAULT_TERM}"));
    let asked = env.iter().map(|(name, value)| format!("{name}={value}"));
    path.into_iter().chain(term).chain(asked).map(text).collect()
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

    #[test]
    fn a_terminal_has_a_name_unless_one_is_given() {
        let strings = |env: &[(&str, &str)], terminal| {
            let env: Vec<_> =
                env.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
            let strings = environment(&env, terminal).unwrap().into_iter();
            strings.map(|text| text.into_string().unwrap()).collect::<Vec<_>>()
        };
        let path = format!("PATH={DEFAULT_PATH}");
        assert_eq!(strings(&[], false), [path.as_str()]);
        assert_eq!(strings(&[], true), [path.as_str(), "TERM=xterm"]);
        assert_eq!(strings(&[("PATH", "/x"), ("TERM", "vt100")], true), ["PATH=/x", "TERM=vt100"]);
    }
}
