//! The other side of an upgrade's check: this program is asked whether it would get ready with the
//! settings of the daemon that runs. It takes nothing that there is one of.

use std::ffi::{CString, OsString};
use std::process::ExitCode;

use super::handover::strings;
use super::{Daemon, DaemonError, entry};
use crate::audit::Audit;
use crate::logging;
use crate::runtime::node::{Machine, Role};
use crate::runtime::upgrade::Findings;
use crate::server::Tls;
use crate::service::auth::TrustDomains;
use crate::status::Status;
use crate::{boot, reply};

/// The first argument of a rehearsal, not for people; then comes the role, then the daemon's own.
const REHEARSE: &str = "--rehearse";
const AS_INIT: &str = "init";
const BESIDE: &str = "beside";

/// The arguments with which another version rehearses what a daemon does with `arguments`.
pub(super) fn arguments(role: Role, arguments: &[OsString]) -> Vec<CString> {
    let role = if role == Role::Init { AS_INIT } else { BESIDE };
    let (name, others) = arguments.split_at(arguments.len().min(1));
    let asked = [REHEARSE.into(), role.into()];
    strings(&[name, asked.as_slice(), others].concat())
}

/// The role and the daemon's own arguments, where a rehearsal is asked for.
pub(super) fn asked(arguments: &[OsString]) -> Option<(Role, Vec<OsString>)> {
    let [name, first, role, others @ ..] = arguments else { return None };
    let role = match (first.to_str()?, role.to_str()?) {
        (REHEARSE, AS_INIT) => Role::Init,
        (REHEARSE, BESIDE) => Role::Beside,
        _ => return None,
    };
    Some((role, [std::slice::from_ref(name), others].concat()))
}

/// Rehearses, and says what came of it: one line of JSON, or an error.
pub(super) fn main(role: Role, arguments: Vec<OsString>) -> ExitCode {
    match rehearse(role, arguments) {
        Ok(()) => {
            println!("{}", Findings::own().to_line());
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("error: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn rehearse(role: Role, arguments: Vec<OsString>) -> Result<(), String> {
    let status = Status::default();
    let settings = match role {
        Role::Init => {
            let boot = boot::again(&status);
            entry::init_settings(arguments, boot.settings, &status)
        }
        _ => crate::settings::Settings::parse(arguments).map_err(|error| error.to_string())?,
    };
    let said = |error: DaemonError| reply::text(&error);
    let daemon = Daemon::new(settings, role, status, Vec::new());
    let _console = logging::start(daemon.settings.logging, &daemon.log);
    if daemon.settings.workload_api.is_none() {
        Tls::read(&daemon.settings.tls, None).map_err(DaemonError::Tls).map_err(said)?;
    }
    daemon.addresses().map_err(said)?;
    daemon.policies().map_err(said)?;
    let runtime = entry::threads().map_err(said)?;
    runtime.block_on(async {
        // As far as reading goes: this kernel, and the API's own description.
        let machine = Machine::new(role, [].into(), daemon.shutdown.clone());
        machine.facts().map_err(|error| reply::text(&error))?;
        let health = crate::service::health::Reporter::default();
        daemon
            .api(&health, None, None, &Audit::none(), &TrustDomains::default())
            .map(|_| ())
            .map_err(said)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rehearsal_has_the_daemons_own_arguments() {
        let own = ["auraed", "--socket", "/run/a.sock"].map(OsString::from).to_vec();
        for role in [Role::Init, Role::Beside] {
            let given = arguments(role, &own);
            let given: Vec<OsString> =
                given.into_iter().map(|word| word.into_string().unwrap().into()).collect();
            assert_eq!(asked(&given), Some((role, own.clone())));
        }
        assert_eq!(asked(&own), None);
        assert_eq!(asked(&[]), None);
    }
}
