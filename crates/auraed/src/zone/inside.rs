//! The API of a zone for its own executables: a unix socket in the zone's mount namespace.
//!
//! There is no TLS: the kernel says which process connected, and its cgroup says of which executable
//! it is. Nobody else is let in: not a process of a cell inside, which may have the socket in its view.

use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use aurae_authz::Principal;
use aurae_kernel::process::{has_ended, peer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::reply::text;
use crate::route::Route;
use crate::runtime::executables::LEAF_PREFIX;
use crate::server::serve_inside;
use crate::shutdown::Shutdown;

/// Where the socket is.
pub(super) const DIRECTORY: &str = "/run/aurae";
const SOCKET: &str = "/run/aurae/aurae.sock";

/// Connections at once; one more waits in the kernel's backlog.
const MAX_CONNECTIONS: usize = 64;

/// The pause after a failed `accept`: descriptors may have run out, and trying at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Opens the socket, and serves whoever comes until the runtime ends.
///
/// # Errors
/// It cannot be opened.
pub(super) fn listen(route: Route, shutdown: Shutdown) -> std::io::Result<()> {
    let listener = UnixListener::bind(SOCKET)?;
    // Executables run as any user; who they are decides what they may do.
    std::fs::set_permissions(SOCKET, std::fs::Permissions::from_mode(0o666))?;
    tokio::spawn(accept(listener, route, shutdown));
    Ok(())
}

async fn accept(listener: UnixListener, route: Route, shutdown: Shutdown) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // It is never closed.
    while let Ok(room) = Arc::clone(&connections).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Some(principal) = identify(&stream) else { continue };
        let serving = serve_inside(stream, route.clone(), principal, shutdown.clone());
        tokio::spawn(async move {
            serving.await;
            drop(room);
        });
    }
}

/// The executable that connected; `None` for anybody else.
fn identify(stream: &UnixStream) -> Option<Principal> {
    let (pid, pidfd) = peer(stream.as_fd())
        .inspect_err(|error| tracing::debug!(error = text(error), "a stranger connected"))
        .ok()?;
    let cgroups = std::fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero())).ok()?;
    // Alive still, so what was read is of the process that connected, not of one with its number.
    if has_ended(pidfd.as_fd()) {
        return None;
    }
    executable(&cgroups).map(|name| Principal::executable(&format!("executables/{name}")))
}

/// The executable that a process belongs to, from its `/proc/PID/cgroup` (cgroups(7)).
fn executable(cgroups: &str) -> Option<&str> {
    let path = cgroups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let leaf = path.split('/').next()?;
    leaf.strip_prefix(LEAF_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_of_the_executable_whose_leaf_it_is_in() {
        assert_eq!(executable("1:name=systemd:/\n0::/_exe.nginx\n"), Some("nginx"));
        assert_eq!(executable("0::/_exe.nginx/made/by/itself\n"), Some("nginx"));
        for other in ["", "0::/", "0::/_auraed", "0::/_run.3", "0::/inner/_exe.nginx", "0::/../x"] {
            assert_eq!(executable(other), None, "{other}");
        }
    }
}
