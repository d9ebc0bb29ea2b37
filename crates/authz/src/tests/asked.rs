//! What a workload may ask for: as much as policies let it.

use super::*;

/// What a policy looks for, after `context has executable.`, and what asks for it.
type Widening = (&'static str, fn(&mut wire::Security));

#[test]
fn each_widening_of_a_workload_can_be_forbidden() {
    let wide: [Widening; 7] = [
        ("security.privileged && context.executable.security.privileged", |it| {
            it.privileged = true
        }),
        ("security.devices", |it| {
            it.devices = vec![wire::DeviceRule { device: "*".into(), access: String::new() }];
        }),
        (
            "security.capabilities && context.executable.security.capabilities.add.containsAny([\"ALL\", \"CAP_SYS_ADMIN\"])",
            |it| {
                let add = vec!["CAP_SYS_ADMIN".to_owned()];
                it.capabilities = Some(wire::CapabilitiesChange { add, drop: vec![] });
            },
        ),
        (
            "security.capabilities && context.executable.security.capabilities.add.containsAny([\"ALL\", \"CAP_SYS_ADMIN\"])",
            |it| {
                let add = vec!["ALL".to_owned()];
                it.capabilities = Some(wire::CapabilitiesChange { add, drop: vec![] });
            },
        ),
        (
            "security && context.executable.security.seccomp == \"SECCOMP_PROFILE_UNCONFINED\"",
            |it| it.seccomp = wire::SeccompProfile::Unconfined.into(),
        ),
        ("security && context.executable.security.allow_new_privileges", |it| {
            it.allow_new_privileges = true;
        }),
        ("security && context.executable.security.core_dumps", |it| it.core_dumps = true),
    ];
    for (condition, widen) in wide {
        let policies = policies(&format!(
            "permit (principal, action, resource);\n\
             forbid (principal, action == Action::\"cells.Start\", resource) \
             when {{ context has executable.{condition} }};"
        ));
        let mut security = wire::Security::default();
        assert!(starts(&policies, security.clone()), "{condition}");
        widen(&mut security);
        assert!(!starts(&policies, security), "{condition}");
    }
}

#[test]
fn some_devices_can_be_allowed_and_no_spelling_gets_around_it() {
    let policies = policies(
        "permit (principal, action, resource);\n\
         forbid (principal, action == Action::\"cells.Start\", resource) \
         when { context has executable.security.devices } \
         unless { [{ device: \"/dev/kvm\", access: \"\" }, { device: \"/dev/net/tun\", access: \"rw\" }] \
                  .containsAll(context.executable.security.devices) };",
    );
    let with = |rules: &[(&str, &str)]| {
        let rule = |(device, access): &(&str, &str)| wire::DeviceRule {
            device: (*device).into(),
            access: (*access).into(),
        };
        let devices = rules.iter().map(rule).collect();
        starts(&policies, wire::Security { devices, ..Default::default() })
    };
    assert!(with(&[]) && with(&[("/dev/kvm", "")]));
    assert!(with(&[("/dev/net/tun", "rw"), ("/dev/kvm", ""), ("/dev/kvm", "")]));
    for (device, access) in
        [("*", ""), ("/dev/kvm", "rwm"), ("b:8:0", ""), ("/dev//sda", ""), ("", "")]
    {
        assert!(!with(&[("/dev/kvm", ""), (device, access)]), "{device} {access}");
    }
}

fn starts(policies: &Arc<Policies>, security: wire::Security) -> bool {
    let executable = wire::Executable { security: Some(security), ..Default::default() };
    let message =
        wire::CellServiceStartRequest { executable: Some(executable), ..Default::default() };
    let method = contract().action("cells.Start").unwrap();
    let request = method.request().unwrap().clone();
    let request = DynamicMessage::decode(request, message.encode_to_vec().as_slice()).unwrap();
    let (principal, object) = (&spiffe("x"), &Object::parse("cells/web").unwrap());
    policies.authorize(Question { principal, method, object, request: Some(&request) }).is_ok()
}
