//! Linux capabilities by name (capabilities(7)).

use crate::Invalid;

/// The names without `CAP_`, in the order of the kernel's numbers (`linux/capability.h`).
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What stands before a name.
const PREFIX: &str = "CAP_";

/// Stands for all of them.
const ALL: &str = "ALL";

/// A set of capabilities, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(u64);

impl Capabilities {
    /// None.
    pub const NONE: Self = Self(0);

    /// What a program keeps unless it asks otherwise: what common services that start as root need to
    /// own their files, bind their port and become another user.
    pub const DEFAULT: Self = Self::named(&[
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "SETGID",
        "SETUID",
        "NET_BIND_SERVICE",
    ]);

    /// The capabilities of these bits.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// One bit for each.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The defaults without `drop`, and then with `add`. Names are spelled as [`Self::names`] does, and `ALL` is
    /// all: policies look at what was sent, so that one that forbids a name must not miss another spelling of
    /// it. `field` is the path of the message of both lists.
    ///
    /// # Errors
    /// A name that is no capability's, or is spelled otherwise.
    pub fn parse(add: &[String], drop: &[String], field: &str) -> Result<(Self, Self), Invalid> {
        let added = Self::set(add, &format!("{field}.add"))?;
        let dropped = Self::set(drop, &format!("{field}.drop"))?;
        Ok((Self(Self::DEFAULT.0 & !dropped.0 | added.0), added))
    }

    fn set(names: &[String], field: &str) -> Result<Self, Invalid> {
        let mut set = Self::NONE;
        for name in names {
            set.0 |= Self::bit(name).ok_or_else(|| Invalid::new(field, refusal(name)))?;
        }
        Ok(set)
    }

    fn bit(name: &str) -> Option<u64> {
        if name == ALL {
            return Some((1 << NAMES.len()) - 1);
        }
        let short = name.strip_prefix(PREFIX)?;
        NAMES.iter().position(|known| *known == short).map(|number| 1 << number)
    }

    /// The names, `CAP_…`, in the kernel's order. What has no name here is told by its number.
    #[must_use]
    pub fn names(self) -> Vec<String> {
        let held = (0..u64::BITS).filter(|number| self.0 & (1 << number) != 0);
        held.map(|number| match NAMES.get(number as usize) {
            Some(name) => format!("{PREFIX}{name}"),
            None => format!("{PREFIX}{number}"),
        })
        .collect()
    }

    const fn named(names: &[&str]) -> Self {
        let (mut bits, mut wanted) = (0, 0);
        while wanted < names.len() {
            let mut number = 0;
            while number < NAMES.len() {
                if same(NAMES[number].as_bytes(), names[wanted].as_bytes()) {
                    bits |= 1 << number;
                }
                number += 1;
            }
            wanted += 1;
        }
        Self(bits)
    }
}

/// What is wrong with a name, and how it is spelled where that can be told.
fn refusal(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix(PREFIX).unwrap_or(&upper);
    if short == ALL {
        return format!("{name:?} is spelled {ALL}");
    }
    match NAMES.contains(&short) {
        true => format!("{name:?} is spelled {PREFIX}{short}"),
        false => format!("{name:?} is no capability, such as CAP_NET_ADMIN"),
    }
}

const fn same(left: &[u8], right: &[u8]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    let mut at = 0;
    while at < left.len() {
        if left[at] != right[at] {
            return false;
        }
        at += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(add: &[&str], drop: &[&str]) -> Result<(Vec<String>, Vec<String>), String> {
        let owned =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let parsed = Capabilities::parse(&owned(add), &owned(drop), "capabilities");
        parsed.map(|(kept, added)| (kept.names(), added.names())).map_err(|error| error.to_string())
    }

    #[test]
    fn the_default_is_what_services_that_start_as_root_need() {
        assert_eq!(Capabilities::DEFAULT.bits(), 0x4fb);
        assert_eq!(parse(&[], &[]).unwrap().0, Capabilities::DEFAULT.names());
    }

    #[test]
    fn a_name_has_one_spelling_and_the_refusal_of_another_says_it() {
        let (kept, added) = parse(&["CAP_NET_ADMIN"], &["ALL"]).unwrap();
        assert_eq!(kept, ["CAP_NET_ADMIN"]);
        assert_eq!(added, kept);
        for other in ["NET_ADMIN", "net_admin", "cap_net_admin", "Cap_Net_Admin", "CAP_net_admin"] {
            let refused = parse(&[other], &[]).unwrap_err();
            let told = format!("Field = capabilities.add; {other:?} is spelled CAP_NET_ADMIN");
            assert_eq!(refused, told);
        }
        for other in ["all", "aLL", "CAP_ALL", "cap_all"] {
            let refused = parse(&[], &[other]).unwrap_err();
            assert_eq!(refused, format!("Field = capabilities.drop; {other:?} is spelled ALL"));
        }
        for none in ["CAP_CAP_KILL", " CAP_KILL", "CAP_5", "CAP_"] {
            assert!(parse(&[none], &[]).unwrap_err().contains("is no capability"), "{none}");
        }
    }

    #[test]
    fn every_name_that_is_told_can_be_asked_for() {
        for name in parse(&["ALL"], &[]).unwrap().0 {
            assert_eq!(parse(&[&name], &["ALL"]).unwrap().0, [name]);
        }
    }

    #[test]
    fn what_is_dropped_goes_before_what_is_added_comes() {
        assert_eq!(parse(&[], &["ALL"]).unwrap(), (vec![], vec![]));
        let (kept, _) = parse(&["CAP_KILL"], &["CAP_KILL", "CAP_SETUID"]).unwrap();
        assert!(kept.contains(&"CAP_KILL".into()) && !kept.contains(&"CAP_SETUID".into()));
        assert_eq!(parse(&["ALL"], &[]).unwrap().0.len(), NAMES.len());
    }

    #[test]
    fn a_name_that_is_none_is_told_with_its_field() {
        let refusal = |add: &[&str], drop: &[&str]| parse(add, drop).unwrap_err();
        assert!(refusal(&["SUDO"], &[]).starts_with("Field = capabilities.add; \"SUDO\" is no"));
        assert!(refusal(&[], &[""]).starts_with("Field = capabilities.drop; "));
    }
}
