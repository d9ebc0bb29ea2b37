//! From what a program may do, as it was asked for, to what the kernel takes.
//!
//! ```text
//! Security ─ prepare ─▶ Restraint ─ hold(leaf) ─▶ its devices, as a program on its cgroup
//!                           └─ confinement() ───▶ the rest, by the process itself (kernel::confine)
//! ```

use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

use aurae_kernel::Error;
use aurae_kernel::cgroup::Cgroup;
use aurae_kernel::confine::{Capabilities, Confinement};
use aurae_kernel::device::{self, Policy, Rule};
use aurae_kernel::landlock::{Access, Ruleset, Use};
use aurae_kernel::seccomp::{self, Filter};
use aurae_model::{DeviceAccess, DeviceRule, Devices, Landlock, Security};

/// The policy of programs that ask for no device. It is loaded once for all zones, which get it with their
/// configuration: the kernel takes most of a millisecond to check and translate it.
static USUAL_DEVICES: Mutex<Option<Arc<Policy>>> = Mutex::new(None);

/// Why a program cannot be held to what it may do. It is not started then.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// A device, or something else under the path of one.
    #[error("the device is not there")]
    Device(#[source] Error),
    /// The kernel takes no device policy.
    #[error(
        "its devices cannot be restricted here; ask for all of them (`devices` with `*`) to do without"
    )]
    Policy(#[source] Error),
    /// Devices in a zone whose devices are given.
    #[error(
        "in a cell with a user namespace no devices can be asked for: all that runs in it has those that every program may use"
    )]
    Given,
    /// A path of the Landlock rules, or all of them.
    #[error("its files and ports cannot be restricted as asked for")]
    Landlock(#[source] Error),
}

/// Who restricts the devices of the programs of a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKeeper {
    /// The zone's daemon, for each program as it asks.
    Zone,
    /// The daemon above, for the whole zone: in a user namespace nobody may load a device policy.
    Above,
}

/// What holds a program to what it may do.
#[derive(Debug)]
pub(in crate::runtime) struct Restraint<'a> {
    security: &'a Security,
    /// A filter of its own, where the usual one is not its.
    filter: Option<Box<Filter>>,
    devices: HeldDevices,
    rules: Option<Ruleset>,
}

#[derive(Debug)]
enum HeldDevices {
    All,
    /// As the daemon above has restricted them.
    Above,
    Usual,
    Own(Policy),
}

impl<'a> Restraint<'a> {
    /// Looks at its paths, and asks the kernel for what it needs.
    pub(in crate::runtime) fn prepare(
        security: &'a Security,
        keeper: DeviceKeeper,
    ) -> Result<Self, ConfineError> {
        let devices = match keeper {
            DeviceKeeper::Above if security.devices.is_empty() => HeldDevices::Above,
            DeviceKeeper::Above => return Err(ConfineError::Given),
            DeviceKeeper::Zone if security.privileged => HeldDevices::All,
            DeviceKeeper::Zone => devices(&security.devices)?,
        };
        if security.privileged {
            return Ok(Self { security, filter: None, devices, rules: None });
        }
        let beyond = security.capabilities.bits() & !aurae_model::Capabilities::DEFAULT.bits();
        // The usual capabilities open no gate.
        let filter = (security.seccomp && beyond != 0).then(|| Box::new(Filter::with(beyond)));
        let rules = security.landlock.as_ref().map(ruleset).transpose();
        Ok(Self { security, filter, devices, rules: rules.map_err(ConfineError::Landlock)? })
    }

    /// Restricts the devices of all that will run in `leaf`.
    pub(in crate::runtime) fn hold(&self, leaf: &Cgroup) -> Result<(), ConfineError> {
        let held = match &self.devices {
            HeldDevices::All | HeldDevices::Above => Ok(()),
            HeldDevices::Own(policy) => policy.attach(leaf.as_fd()),
            HeldDevices::Usual => hold_usual(leaf),
        };
        held.map_err(ConfineError::Policy)
    }

    /// What the process does to itself.
    pub(in crate::runtime) fn confinement(&self) -> Confinement<'_> {
        let security = self.security;
        if security.privileged {
            return Confinement::default();
        }
        Confinement {
            capabilities: Some(Capabilities {
                bounding: security.capabilities.bits(),
                required: security.ambient.bits(),
            }),
            no_new_privileges: !security.allow_new_privileges,
            no_core_dumps: !security.core_dumps,
            seccomp: security.seccomp.then(|| self.filter.as_deref().unwrap_or(&seccomp::USUAL)),
            landlock: self.rules.as_ref().map(AsFd::as_fd),
        }
    }

    /// What of this the process cannot tell by itself.
    pub(in crate::runtime) fn facts(&self) -> Held {
        Held {
            privileged: self.security.privileged,
            devices_restricted: !matches!(self.devices, HeldDevices::All),
            landlock_abi: self.rules.as_ref().map_or(0, Ruleset::version),
        }
    }
}

/// What a process was held to, of what it cannot tell by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// To nothing.
    pub privileged: bool,
    /// There are devices that it may not use.
    pub devices_restricted: bool,
    /// The version of the kernel's interface that enforces its Landlock rules; 0: it has none.
    pub landlock_abi: u32,
}

/// Restricts all that will run in a leaf, or in a zone, to the devices that every program may use.
///
/// # Errors
/// What the kernel says.
pub(in crate::runtime) fn hold_usual(cgroup: &Cgroup) -> Result<(), Error> {
    usual()?.attach(cgroup.as_fd())
}

/// The policy of the devices that every program may use.
///
/// # Errors
/// It cannot be loaded.
pub(in crate::runtime) fn usual() -> Result<Arc<Policy>, Error> {
    let mut usual = USUAL_DEVICES.lock().unwrap_or_else(PoisonError::into_inner);
    let policy = match usual.take() {
        Some(policy) => policy,
        None => Arc::new(Policy::load(&device::USUAL)?),
    };
    Ok(Arc::clone(usual.insert(policy)))
}

/// Takes the policy of the devices that every program may use from the daemon above.
pub(crate) fn take_usual(policy: Policy) {
    *USUAL_DEVICES.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(policy));
}

fn devices(rules: &[DeviceRule]) -> Result<HeldDevices, ConfineError> {
    if rules.is_empty() {
        return Ok(HeldDevices::Usual);
    }
    let mut allowed = device::USUAL.to_vec();
    for rule in rules {
        match device_rule(rule)? {
            Some(rules) => allowed.extend(rules),
            None => return Ok(HeldDevices::All),
        }
    }
    Ok(HeldDevices::Own(Policy::load(&allowed).map_err(ConfineError::Policy)?))
}

/// `None`: all devices, in every way.
fn device_rule(rule: &DeviceRule) -> Result<Option<Vec<Rule>>, ConfineError> {
    let DeviceAccess { read, write, mknod } = rule.access;
    let bit = |holds, bit| if holds { bit } else { 0 };
    let access = bit(read, device::READ) | bit(write, device::WRITE) | bit(mknod, device::MKNOD);
    let of = |block, major, minor| Rule { block, major, minor, access };
    Ok(match &rule.devices {
        Devices::All if read && write => None,
        Devices::All => Some([true, false].map(|block| of(block, None, None)).to_vec()),
        Devices::Numbers { block, major, minor } => Some(vec![of(*block, *major, *minor)]),
        Devices::Path(path) => {
            Some(vec![Rule::of_path(path, access).map_err(ConfineError::Device)?])
        }
    })
}

fn ruleset(landlock: &Landlock) -> Result<Ruleset, Error> {
    let rules = Ruleset::new(landlock.restricts_paths(), landlock.restrict_ports)?;
    for (paths, access) in [
        (&landlock.read_only, Access::Read),
        (&landlock.read_write, Access::Write),
        (&landlock.execute, Access::Execute),
    ] {
        paths.iter().try_for_each(|path| rules.allow_path(path, access))?;
    }
    for (ports, used) in
        [(&landlock.bind_ports, Use::Bind), (&landlock.connect_ports, Use::Connect)]
    {
        ports.iter().try_for_each(|port| rules.allow_port(*port, used))?;
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_devices_are_given_none_can_be_asked_for() {
        let rule = DeviceRule {
            devices: Devices::All,
            access: DeviceAccess { read: true, write: true, mknod: false },
        };
        let asking = Security { devices: vec![rule], ..Security::default() };
        let error = Restraint::prepare(&asking, DeviceKeeper::Above).unwrap_err();
        assert!(matches!(error, ConfineError::Given), "{error}");
        for security in [Security::default(), Security::privileged()] {
            let restraint = Restraint::prepare(&security, DeviceKeeper::Above).unwrap();
            assert!(restraint.facts().devices_restricted, "{security:?}");
        }
        let restraint = Restraint::prepare(&asking, DeviceKeeper::Zone).unwrap();
        assert!(!restraint.facts().devices_restricted);
    }
}
