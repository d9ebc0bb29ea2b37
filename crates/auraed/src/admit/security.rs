//! What a program may do, as the wire has it.

use aurae_model::{Capabilities, DeviceRule, Invalid, Landlock, Security};
use aurae_proto::cells as wire;

use super::Admission;

/// The most device rules of a program: the kernel goes through them at every use of a device.
const MAX_DEVICES: usize = 64;

/// Parses the message that is `field`.
///
/// # Errors
/// The field in it that breaks a rule.
pub(super) fn security(
    security: Option<wire::Security>,
    field: &'static str,
    seccomp_field: &'static str,
) -> Result<Security, Admission> {
    let Some(security) = security else { return Ok(Security::default()) };
    if security.privileged {
        let alone = wire::Security { privileged: true, ..wire::Security::default() };
        // Empty messages, as some clients send them, say nothing.
        if without_empty(security) != alone {
            let rule = "Must not be set together with another field of it";
            return Err(Invalid::new(format!("{field}.privileged"), rule).into());
        }
        return Ok(Security::privileged());
    }
    let change = security.capabilities.unwrap_or_default();
    let capabilities_field = format!("{field}.capabilities");
    let (capabilities, ambient) =
        Capabilities::parse(&change.add, &change.drop, &capabilities_field)?;
    Ok(Security {
        privileged: false,
        capabilities,
        ambient,
        seccomp: seccomp(security.seccomp, seccomp_field)?,
        allow_new_privileges: security.allow_new_privileges,
        core_dumps: security.core_dumps,
        devices: devices(&security.devices, &format!("{field}.devices"))?,
        landlock: landlock(security.landlock, &format!("{field}.landlock"))?,
    })
}

fn without_empty(mut security: wire::Security) -> wire::Security {
    security.capabilities.take_if(|change| *change == wire::CapabilitiesChange::default());
    security.landlock.take_if(|rules| *rules == wire::LandlockRules::default());
    security
}

fn seccomp(profile: i32, field: &'static str) -> Result<bool, Admission> {
    match wire::SeccompProfile::try_from(profile) {
        Ok(wire::SeccompProfile::Unspecified | wire::SeccompProfile::Default) => Ok(true),
        Ok(wire::SeccompProfile::Unconfined) => Ok(false),
        Err(_) => Err(Admission::UnknownValue { field, value: profile }),
    }
}

fn devices(rules: &[wire::DeviceRule], field: &str) -> Result<Vec<DeviceRule>, Invalid> {
    if rules.len() > MAX_DEVICES {
        return Err(Invalid::new(field, format!("At most {MAX_DEVICES}")));
    }
    rules.iter().map(|rule| DeviceRule::parse(&rule.device, &rule.access, field)).collect()
}

fn landlock(rules: Option<wire::LandlockRules>, field: &str) -> Result<Option<Landlock>, Invalid> {
    let Some(rules) = rules else { return Ok(None) };
    let paths = [rules.read_only_paths, rules.read_write_paths, rules.execute_paths];
    Landlock::parse(paths, rules.restrict_ports, [rules.bind_ports, rules.connect_ports], field)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(change: impl FnOnce(&mut wire::Security)) -> Result<Security, String> {
        let mut message = wire::Security::default();
        change(&mut message);
        security(Some(message), "executable.security", "executable.security.seccomp")
            .map_err(|error| error.to_string())
    }

    #[test]
    fn what_says_nothing_is_the_default() {
        assert_eq!(security(None, "x", "x.seccomp"), Ok(Security::default()));
        assert_eq!(parsed(|_| {}), Ok(Security::default()));
        let empty = parsed(|security| {
            security.capabilities = Some(wire::CapabilitiesChange::default());
            security.landlock = Some(wire::LandlockRules::default());
        });
        assert_eq!(empty, Ok(Security::default()));
    }

    #[test]
    fn privileged_stands_alone() {
        assert_eq!(parsed(|security| security.privileged = true), Ok(Security::privileged()));
        let with_empty = parsed(|security| {
            security.privileged = true;
            security.capabilities = Some(wire::CapabilitiesChange::default());
        });
        assert_eq!(with_empty, Ok(Security::privileged()));
        let both = parsed(|security| {
            security.privileged = true;
            security.core_dumps = true;
        });
        assert!(both.unwrap_err().starts_with("Field = executable.security.privileged; Must not"));
    }

    #[test]
    fn each_field_is_told_by_its_path() {
        type Change = fn(&mut wire::Security);
        let changes: [(Change, &str); 7] = [
            (
                |security| {
                    let add = vec!["ROOT".to_owned()];
                    security.capabilities = Some(wire::CapabilitiesChange { add, drop: vec![] });
                },
                "capabilities.add",
            ),
            (
                |security| {
                    let drop = vec!["ROOT".to_owned()];
                    security.capabilities = Some(wire::CapabilitiesChange { add: vec![], drop });
                },
                "capabilities.drop",
            ),
            (|security| security.seccomp = 9, "seccomp"),
            (|security| security.devices = vec![wire::DeviceRule::default()], "devices.device"),
            (|security| security.devices = vec![wire::DeviceRule::default(); 65], "devices"),
            (
                |security| {
                    let read_only_paths = vec!["srv".to_owned()];
                    security.landlock =
                        Some(wire::LandlockRules { read_only_paths, ..Default::default() });
                },
                "landlock.read_only_paths",
            ),
            (
                |security| {
                    let connect_ports = vec![70_000];
                    security.landlock =
                        Some(wire::LandlockRules { connect_ports, ..Default::default() });
                },
                "landlock.connect_ports",
            ),
        ];
        for (change, field) in changes {
            let refusal = parsed(change).unwrap_err();
            assert!(
                refusal.starts_with(&format!("Field = executable.security.{field}; ")),
                "{refusal}"
            );
        }
    }
}
