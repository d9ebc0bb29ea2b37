//! What a program may do of what the kernel can do.

use crate::{Capabilities, Invalid};

/// The most paths or ports of one list: each is a rule that the kernel looks at.
const MAX_RULES: usize = 256;

/// The highest port.
const MAX_PORT: u32 = 65_535;

/// What a program may do of what the kernel can do, valid. The default is what every program gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Security {
    /// Nothing of this is done: it is started as the daemon itself is.
    pub privileged: bool,
    /// Which capabilities it, and all that it starts, can ever have.
    pub capabilities: Capabilities,
    /// Which of those a program of a user other than root has from its start.
    pub ambient: Capabilities,
    /// Its system calls are filtered.
    pub seccomp: bool,
    /// It may gain privileges by executing a program (set-user-id, file capabilities).
    pub allow_new_privileges: bool,
    /// It may dump core.
    pub core_dumps: bool,
    /// Which devices it may use beside the usual ones.
    pub devices: Vec<DeviceRule>,
    /// Which files and ports it may use; `None`: as its user may.
    pub landlock: Option<Landlock>,
}

impl Default for Security {
    fn default() -> Self {
        Self {
            privileged: false,
            capabilities: Capabilities::DEFAULT,
            ambient: Capabilities::NONE,
            seccomp: true,
            allow_new_privileges: false,
            core_dumps: false,
            devices: Vec::new(),
            landlock: None,
        }
    }
}

impl Security {
    /// Nothing of the defaults.
    #[must_use]
    pub fn privileged() -> Self {
        Self { privileged: true, ..Self::default() }
    }
}

/// Devices that a program may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    /// Which.
    pub devices: Devices,
    /// How.
    pub access: DeviceAccess,
}

/// Some devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Devices {
    /// All of them.
    All,
    /// The one that a path leads to.
    Path(String),
    /// Those of these numbers; `None`: of any.
    Numbers {
        /// Block devices, or else character devices.
        block: bool,
        /// The driver's number.
        major: Option<u32>,
        /// The device's number.
        minor: Option<u32>,
    },
}

/// What may be done with a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceAccess {
    /// Read from it.
    pub read: bool,
    /// Write to it.
    pub write: bool,
    /// Make a file of it.
    pub mknod: bool,
}

impl DeviceRule {
    /// Parses a rule of `field`: a path, `c:MAJOR:MINOR`, `b:MAJOR:MINOR` (a number may be `*`), or `*`;
    /// and some of `r`, `w`, `m`, or nothing, which is `rw`.
    ///
    /// # Errors
    /// What is neither.
    pub fn parse(device: &str, access: &str, field: &str) -> Result<Self, Invalid> {
        let devices = Devices::parse(device).ok_or_else(|| {
            let rule = "Must be an absolute path, `c:MAJOR:MINOR`, `b:MAJOR:MINOR` or `*`";
            Invalid::new(format!("{field}.device"), rule)
        })?;
        let access = DeviceAccess::parse(access).ok_or_else(|| {
            Invalid::new(format!("{field}.access"), "Must be of the letters r, w and m")
        })?;
        Ok(Self { devices, access })
    }
}

impl Devices {
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::All);
        }
        if text.starts_with('/') {
            return (!text.contains('\0')).then(|| Self::Path(text.to_owned()));
        }
        let number = |text: &str| match text {
            "*" => Some(None),
            digits => digits.parse().ok().map(Some),
        };
        let (kind, numbers) = text.split_once(':')?;
        let (major, minor) = numbers.split_once(':')?;
        let block = match kind {
            "b" => true,
            "c" => false,
            _ => return None,
        };
        Some(Self::Numbers { block, major: number(major)?, minor: number(minor)? })
    }
}

impl DeviceAccess {
    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self { read: true, write: true, mknod: false });
        }
        let known = text.chars().all(|letter| "rwm".contains(letter));
        let has = |letter| text.contains(letter);
        known.then(|| Self { read: has('r'), write: has('w'), mknod: has('m') })
    }
}

/// Which files and ports a program may use (landlock(7)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Landlock {
    /// Below these it may read files and list directories.
    pub read_only: Vec<String>,
    /// Below these it may do everything but execute.
    pub read_write: Vec<String>,
    /// Below these it may read and execute.
    pub execute: Vec<String>,
    /// It may use no TCP port but those below.
    pub restrict_ports: bool,
    /// These it may bind.
    pub bind_ports: Vec<u16>,
    /// To these it may connect.
    pub connect_ports: Vec<u16>,
}

impl Landlock {
    /// Whether it may use no file but those below its paths.
    #[must_use]
    pub fn restricts_paths(&self) -> bool {
        !(self.read_only.is_empty() && self.read_write.is_empty() && self.execute.is_empty())
    }

    /// Parses the lists of `field`. A list of ports that is not empty restricts ports. `None` where it
    /// restricts nothing.
    ///
    /// # Errors
    /// A path that is not absolute, a port that is none, or too many of either.
    pub fn parse(
        [read_only, write, execute]: [Vec<String>; 3],
        restrict_ports: bool,
        [bind, connect]: [Vec<u32>; 2],
        field: &str,
    ) -> Result<Option<Self>, Invalid> {
        let restrict_ports = restrict_ports || !bind.is_empty() || !connect.is_empty();
        let rules = Self {
            read_only: paths(read_only, &format!("{field}.read_only_paths"))?,
            read_write: paths(write, &format!("{field}.read_write_paths"))?,
            execute: paths(execute, &format!("{field}.execute_paths"))?,
            restrict_ports,
            bind_ports: ports(&bind, &format!("{field}.bind_ports"))?,
            connect_ports: ports(&connect, &format!("{field}.connect_ports"))?,
        };
        Ok((rules.restricts_paths() || restrict_ports).then_some(rules))
    }
}

fn paths(paths: Vec<String>, field: &str) -> Result<Vec<String>, Invalid> {
    bounded(paths.len(), field)?;
    match paths.iter().find(|path| !path.starts_with('/') || path.contains('\0')) {
        Some(path) => Err(Invalid::new(field, format!("{path:?} must be an absolute path"))),
        None => Ok(paths),
    }
}

fn ports(ports: &[u32], field: &str) -> Result<Vec<u16>, Invalid> {
    bounded(ports.len(), field)?;
    let port = |port: &u32| match u16::try_from(*port) {
        Ok(0) | Err(_) => Err(Invalid::new(field, format!("{port} must be in 1 to {MAX_PORT}"))),
        Ok(port) => Ok(port),
    };
    ports.iter().map(port).collect()
}

fn bounded(length: usize, field: &str) -> Result<(), Invalid> {
    match length > MAX_RULES {
        true => Err(Invalid::new(field, format!("At most {MAX_RULES}"))),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_a_path_numbers_or_all() {
        let devices = |text| DeviceRule::parse(text, "", "devices").map(|rule| rule.devices);
        assert_eq!(devices("*").unwrap(), Devices::All);
        assert_eq!(devices("/dev/kvm").unwrap(), Devices::Path("/dev/kvm".into()));
        let numbers = |block, major, minor| Devices::Numbers { block, major, minor };
        assert_eq!(devices("c:10:232").unwrap(), numbers(false, Some(10), Some(232)));
        assert_eq!(devices("b:8:*").unwrap(), numbers(true, Some(8), None));
        assert_eq!(devices("c:*:*").unwrap(), numbers(false, None, None));
        for bad in ["", "kvm", "c:10", "x:1:2", "c:a:2", "c:1:2:3", "/a\0", "c:-1:0"] {
            let refusal = devices(bad).unwrap_err().to_string();
            assert!(refusal.starts_with("Field = devices.device; "), "{bad}: {refusal}");
        }
    }

    #[test]
    fn access_is_read_and_write_unless_it_is_said() {
        let access = |text| DeviceRule::parse("*", text, "devices").map(|rule| rule.access);
        let rwm = |read, write, mknod| DeviceAccess { read, write, mknod };
        assert_eq!(access("").unwrap(), rwm(true, true, false));
        assert_eq!(access("m").unwrap(), rwm(false, false, true));
        assert_eq!(access("rwm").unwrap(), rwm(true, true, true));
        assert_eq!(access("rx").unwrap_err().field, "devices.access");
    }

    fn landlock(paths: &[&str], ports: &[u32]) -> Result<Option<Landlock>, String> {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        let ports = [ports.to_vec(), vec![]];
        Landlock::parse([paths, vec![], vec![]], false, ports, "landlock")
            .map_err(|error| error.field)
    }

    #[test]
    fn landlock_restricts_what_it_names() {
        assert_eq!(landlock(&[], &[]), Ok(None));
        let paths = landlock(&["/srv"], &[]).unwrap().unwrap();
        assert!(paths.restricts_paths() && !paths.restrict_ports);
        let ports = landlock(&[], &[80]).unwrap().unwrap();
        assert!(!ports.restricts_paths() && ports.restrict_ports);
        assert_eq!(landlock(&["srv"], &[]), Err("landlock.read_only_paths".into()));
        assert_eq!(landlock(&[], &[0]), Err("landlock.bind_ports".into()));
        assert_eq!(landlock(&[], &[65_536]), Err("landlock.bind_ports".into()));
        assert_eq!(landlock(&[], &[80; 257]), Err("landlock.bind_ports".into()));
    }
}
