//! The composition: lock, services, listeners, and the order in which all of it ends.
//!
//! ```text
//! starting ──▶ serving ──shutdown asked for──▶ stopping ──▶ ended
//!    │   │      no new connections or requests ┘   │
//!    │   │                                         executables stop, cells are freed, logs end
//!    │   │                                         (or go on: `--workloads-on-exit keep`),
//!    │   └─another version takes over──▶ draining  open requests drain, connections are cut
//!    └─ failed                              └─▶ handed on: nothing was stopped
//! ```
//!
//! A daemon that takes over must get ready: until then whatever fails is the way back to the one
//! before, as init too.
//!
//! What fails at the start ends a daemon beside another init: the process says why and exits. The
//! machine's init has nowhere to exit to: it is degraded, says so over the API, and goes on.

mod entry;
pub(crate) mod handover;
mod rehearsal;
pub(crate) mod reload;
mod running;
pub(crate) mod workload_api;

pub(crate) use entry::main;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::time::Duration;

use aurae_kernel::{process, signals, takeover};
use aurae_proto::cells::cell_service_server::CellServiceServer;
use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::audit::{Audit, AuditError};
use crate::boot;
use crate::bundle::BundleError;
use crate::instance::{Instance, InstanceError};
use crate::policy::{PolicyError, PolicyStore};
use crate::route::Route;
use crate::runtime::base::BaseError;
use crate::runtime::logs::{self, LogRing};
use crate::runtime::node::{Machine, Role};
use crate::runtime::output::Workloads;
use crate::runtime::reaper::Reaper;
use crate::runtime::upgrade::{Stage, Upgrades};
use crate::server::{
    Address, BadAddress, DRAIN_TIMEOUT, ListenError, Listener, MAX_MESSAGE_BYTES, Server, Tls,
    TlsError,
};
use crate::service::Api;
use crate::service::audit::AuditApi;
use crate::service::auth::{Auth, TrustDomains};
use crate::service::discovery::Discovery;
use crate::service::health::Reporter;
use crate::service::node::NodeApi;
use crate::service::observe::Observe;
use crate::service::reflection::with_reflection;
use crate::settings::{DEFAULT_INIT_SOCKET, DEFAULT_SOCKET, Settings, WorkloadsOnExit};
use crate::shutdown::{Intent, Shutdown};
use crate::status::Status;
use crate::{VERSION, cpu_time, reply};
use handover::{Handover, Taken};
use reload::Reloader;
use running::Running;
use workload_api::Identities;

/// The phase that is degraded where policies are wrong.
const POLICY: &str = "policy";
/// The phase that is degraded where a revocation list has expired.
const REVOCATION: &str = "revocation";
/// The pauses between attempts to open the API of an init: they double from the first to the last.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// The phase that is degraded while certificates cannot be read again, which is also that of the boot.
const CERTIFICATES: &str = "certificates";
/// How long open requests may take to end before another version takes over: new connections wait for
/// it meanwhile.
const HAND_ON_TIMEOUT: Duration = Duration::from_millis(400);

/// How long the disk has to take the last records of the audit log: more than a sync of a busy one.
const AUDIT_TIMEOUT: Duration = Duration::from_secs(2);

/// Why the daemon did not start, or could not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DaemonError {
    /// The threads cannot be started.
    #[error("failed to start the daemon's threads")]
    Threads(#[source] std::io::Error),
    /// Signals cannot be listened to.
    #[error("failed to listen for signals")]
    Signals(#[source] aurae_kernel::Error),
    /// There is no place in the cgroup tree.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// The kernel refused a step.
    #[error(transparent)]
    Kernel(#[from] aurae_kernel::Error),
    /// Another daemon is there.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// Mutual TLS cannot be set up.
    #[error(
        "failed to set up mutual TLS (`aer pki init` makes certificates; --server-crt, --server-key and --ca-crt name others)"
    )]
    Tls(#[source] TlsError),
    /// Nobody could be told what they may do.
    #[error("who may do what is not known (--policy-dir)")]
    Policy(#[from] PolicyError),
    /// A default address is broken.
    #[error(transparent)]
    Address(#[from] BadAddress),
    /// A socket cannot be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The audit log cannot be kept.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The bundle was not written.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

/// What a daemon is made of.
#[derive(Debug)]
struct Daemon {
    settings: Settings,
    role: Role,
    status: Status,
    shutdown: Shutdown,
    /// The daemon's own log.
    log: LogRing,
    /// What it was started with; the first is the program's name.
    arguments: Vec<OsString>,
}

/// What clients come in by.
struct Doors {
    tls: Tls,
    /// With the addresses that were asked for.
    listeners: Vec<(Address, Listener)>,
}

impl Daemon {
    fn new(settings: Settings, role: Role, status: Status, arguments: Vec<OsString>) -> Self {
        let log = LogRing::new(logs::DEFAULT_CAPACITY);
        Self { settings, role, status, shutdown: Shutdown::default(), log, arguments }
    }

    /// Serves until the shutdown is asked for, and stops in order; or hands on, and stops nothing.
    async fn run(&self, mut taken: Option<Taken>) -> Result<Option<Handover>, DaemonError> {
        // First of all: without a listener SIGHUP ends the process.
        let hang_up = signals::listen(Signal::HUP.as_raw()).map_err(DaemonError::Signals)?;
        let given = taken.as_mut().and_then(|taken| taken.lock.take());
        let lock = match given {
            Some(lock) => Ok(Instance::adopt(lock)),
            None => Instance::lock(&self.settings.runtime_directory).map_err(DaemonError::from),
        };
        let instance = self.tolerate("runtime-directory", lock)?;
        let audit = self.audit()?;
        let policies = self.policies()?;
        let mut identities = self.identities();
        // An init cannot wait: what gives the identity may be run by it. It tries until there is one.
        let files = self.role == Role::Init || self.settings.tls.certificate.exists();
        if let Some(identities) = identities.as_mut().filter(|_| !files) {
            identities.first().await;
        }
        let doors = self.open_doors(taken.as_mut(), identities.as_ref());
        let doors = self.tolerate("api", doors)?;
        if taken.is_some() {
            process::reap_untold();
        }
        // An init reaps orphans even where it cannot run anything of its own.
        let reaper = Reaper::start().map_err(DaemonError::Signals)?;
        let place = taken.as_ref().and_then(|taken| taken.place.as_ref());
        let is_init = self.role == Role::Init;
        let running = Running::start(&self.settings, reaper.clone(), is_init, place).await;
        let running = self.tolerate("cells", running)?;
        let (health, domains) = (Reporter::default(), TrustDomains::default());
        let upgrades = self.upgrades(reaper, running.as_ref(), taken.as_ref());
        let api = self.api(&health, running.as_ref(), Some(upgrades.clone()), &audit, &domains);
        let cells = running.as_ref().and_then(|running| running.workloads().cells);
        let (route, per_second) =
            (Route::new(api.clone(), cells), self.settings.requests_per_second);
        let (shutdown, records) = (self.shutdown.clone(), audit.clone());
        let server = Server::new(route, shutdown, records, policies.clone(), per_second);
        let doors = match doors {
            Some(doors) => Some(doors),
            None => self.retry_doors(identities.as_ref()).await,
        };
        if let Some(doors) = &doors {
            domains.are_of(&doors.tls);
        }
        if let (Some(identities), Some(doors)) = (identities, &doors) {
            tokio::spawn(identities.renew(doors.tls.clone(), self.status.clone()));
        }
        tokio::spawn(self.reloader(doors.as_ref(), policies).run(self.shutdown.clone(), hang_up));
        let mut serving = doors.map(|doors| serve(&server, doors)).unwrap_or_default();
        health.serving(&api).await;
        if let Some(taken) = taken {
            taken.ready();
        }

        let mut intent = self.shutdown.wait().await;
        let mut listeners = Vec::new();
        while let Some(listener) = serving.join_next().await {
            listeners.extend(listener);
        }
        if intent == Intent::Replace {
            server.drain(HAND_ON_TIMEOUT).await;
            // An order to end that came meanwhile goes before.
            intent = self.shutdown.requested().unwrap_or(intent);
        }
        if intent == Intent::Replace
            && let Some((image, version)) = upgrades.chosen()
        {
            audit.flush(AUDIT_TIMEOUT).await;
            return self.hand_on(image, version, instance, running.as_ref(), listeners).map(Some);
        }
        drop(listeners);
        health.stopping(&api).await;
        let on_exit = self.settings.workloads_on_exit;
        let keeps = on_exit == WorkloadsOnExit::Keep && self.role == Role::Beside;
        match running {
            Some(running) if keeps => running.keep(),
            Some(running) => running.stop(on_exit.grace_period()).await,
            None => {}
        }
        self.log.close();
        audit.close();
        // Who waits for something that goes on waits for longer than anybody can be asked to.
        server.drain(if keeps { HAND_ON_TIMEOUT } else { DRAIN_TIMEOUT }).await;
        audit.flush(AUDIT_TIMEOUT).await;
        tracing::info!("stopped");
        Ok(None)
    }

    fn upgrades(
        &self,
        reaper: Reaper,
        running: Option<&Running>,
        taken: Option<&Taken>,
    ) -> Upgrades {
        let stage = Stage {
            cgroup: running.map(Running::cgroup),
            cells: running.and_then(|running| running.workloads().cells),
            reaper,
            arguments: rehearsal::arguments(self.role, &self.arguments),
            environment: handover::environment(),
        };
        let last = taken.map(|taken| taken.outcome.clone());
        Upgrades::new(stage, self.shutdown.clone(), last)
    }

    fn hand_on(
        &self,
        image: OwnedFd,
        version: String,
        instance: Option<Instance>,
        running: Option<&Running>,
        listeners: Vec<(Address, Listener)>,
    ) -> Result<Handover, DaemonError> {
        let mut sockets = Vec::new();
        for (address, listener) in listeners {
            sockets.push((address, listener.hand_on()?));
        }
        let degraded = self.status.degraded().into_iter();
        Ok(Handover {
            image,
            version,
            lock: instance.map(Instance::hand_on),
            sockets,
            place: running.map(Running::place),
            degraded: degraded.filter(|failed| boot::is_early(&failed.phase)).collect(),
        })
    }

    /// What failed ends a daemon beside another init, and one that takes over; an init is degraded and
    /// goes on without.
    fn tolerate<T>(
        &self,
        phase: &'static str,
        outcome: Result<T, DaemonError>,
    ) -> Result<Option<T>, DaemonError> {
        match (outcome, self.role) {
            (Ok(value), _) => Ok(Some(value)),
            (Err(error), Role::Init) if !takeover::is_armed() => {
                self.status.degrade(phase, reply::text(&error));
                Ok(None)
            }
            (Err(error), _) => Err(error),
        }
    }

    /// The audit log. The disk of an init may be found late: it goes on without, and tries again.
    fn audit(&self) -> Result<Audit, DaemonError> {
        let (settings, status) = (&self.settings.audit, &self.status);
        match (Audit::start(settings, status), self.role) {
            (Err(AuditError::File(error)), Role::Init) if !takeover::is_armed() => {
                Ok(Audit::start_without_file(settings, status, reply::text(&error))?)
            }
            (audit, _) => Ok(audit?),
        }
    }

    fn api(
        &self,
        health: &Reporter,
        running: Option<&Running>,
        upgrades: Option<Upgrades>,
        audit: &Audit,
        domains: &TrustDomains,
    ) -> Api {
        let mut api = Api::default()
            .with(Discovery::service(self.status.clone()))
            .with(Auth::service())
            .with(Auth::policy_service(domains.clone()))
            .with(health.service());
        let mut workloads = Workloads::none();
        let mut controllers = BTreeSet::new();
        if let Some(running) = running {
            let cells = CellServiceServer::new(running.service());
            api = api.with(cells.max_decoding_message_size(MAX_MESSAGE_BYTES));
            workloads = running.workloads();
            controllers = running.controllers();
        }
        let machine = Machine::new(self.role, controllers, self.shutdown.clone());
        let api = api
            .with(NodeApi::service(machine, self.status.clone(), upgrades, audit.clone()))
            .with(AuditApi::service(audit.clone()))
            .with(Observe::service(self.log.clone(), workloads));
        with_reflection(api)
    }

    /// What the Workload API gives, where there is one.
    fn identities(&self) -> Option<Identities> {
        let endpoint = self.settings.workload_api.clone()?;
        Some(Identities::follow(endpoint, self.status.clone(), self.shutdown.clone()))
    }

    /// The policies. Where they are wrong, an init goes on with nobody allowed anything, as it has
    /// nowhere to exit to; they are read again on SIGHUP.
    fn policies(&self) -> Result<PolicyStore, DaemonError> {
        let directory = &self.settings.policy_directory;
        let loaded = PolicyStore::load(directory).map_err(DaemonError::from);
        match self.tolerate(POLICY, loaded)? {
            Some(policies) => Ok(policies),
            None => Ok(PolicyStore::closed(directory)?),
        }
    }

    /// Reads the certificates and binds the sockets that were not handed over; nobody is let in yet.
    fn open_doors(
        &self,
        mut taken: Option<&mut Taken>,
        identities: Option<&Identities>,
    ) -> Result<Doors, DaemonError> {
        let svid = identities.and_then(Identities::current);
        let tls = Tls::read(&self.settings.tls, svid).map_err(DaemonError::Tls)?;
        let mut listeners = Vec::new();
        for address in self.addresses()? {
            let given = taken.as_mut().and_then(|taken| taken.socket(&address));
            let listener = match given {
                Some(socket) => Listener::adopt(&address, socket),
                None => Listener::bind(&address),
            };
            listeners.push((address, listener?));
        }
        Ok(Doors { tls, listeners })
    }

    /// Tries until the doors are open, or the shutdown is asked for. Certificates may come from a disk
    /// that is found late.
    async fn retry_doors(&self, identities: Option<&Identities>) -> Option<Doors> {
        let mut pause = FIRST_RETRY;
        loop {
            tokio::select! {
                _ = self.shutdown.wait() => return None,
                () = tokio::time::sleep(pause) => {}
            }
            if let Ok(doors) = self.open_doors(None, identities) {
                self.status.recover("api");
                return Some(doors);
            }
            pause = (2 * pause).min(LAST_RETRY);
        }
    }

    /// What is read again when its files change.
    fn reloader(&self, doors: Option<&Doors>, policies: PolicyStore) -> Reloader {
        let mut reloader = Reloader::new(self.status.clone());
        let directory = policies.directory().to_owned();
        let reload = move || policies.reload().map_err(|error| reply::text(&error));
        reloader.add(POLICY, vec![directory], Box::new(reload));
        if let Some(Doors { tls, .. }) = doors {
            let (reloaded, status) = (tls.clone(), self.status.clone());
            look_at_expiry(tls, &status);
            tls.warn_of_expiry();
            let reload = move || {
                let outcome = reloaded.reload().map_err(|error| reply::text(&error));
                look_at_expiry(&reloaded, &status);
                outcome
            };
            reloader.add(CERTIFICATES, tls.files().paths(), Box::new(reload));
            let (looked_at, status) = (tls.clone(), self.status.clone());
            reloader.look(move || {
                looked_at.warn_of_expiry();
                look_at_expiry(&looked_at, &status);
            });
        }
        reloader
    }

    fn addresses(&self) -> Result<Vec<Address>, DaemonError> {
        if !self.settings.sockets.is_empty() {
            return Ok(self.settings.sockets.clone());
        }
        let default = match self.role {
            Role::Init => DEFAULT_INIT_SOCKET,
            Role::Beside | Role::Zone => DEFAULT_SOCKET,
        };
        Ok(vec![default.parse()?])
    }
}

/// Has the node tell until when its certificate is valid, and which revocation lists are not any more.
fn look_at_expiry(tls: &Tls, status: &Status) {
    status.set_certificate_expiry(tls.expiry());
    status.recover(REVOCATION);
    tls.expired_lists().into_iter().for_each(|list| status.degrade(REVOCATION, list));
}

fn serve(server: &Server, doors: Doors) -> JoinSet<(Address, Listener)> {
    let mut serving = JoinSet::new();
    for (address, listener) in doors.listeners {
        let real = listener.address().map(|address| address.to_string());
        let cpu_ms = cpu_time::spent_ms();
        tracing::info!(address = real, version = VERSION, cpu_ms, "listening");
        let (server, tls) = (server.clone(), doors.tls.clone());
        serving.spawn(async move { (address, server.serve(listener, tls).await) });
    }
    serving
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::server::TlsFiles;
    use crate::server::tests::pki::Pki;

    /// How long a test waits for what has to come.
    const PATIENCE: Duration = Duration::from_secs(30);

    fn daemon(role: Role, directory: &std::path::Path) -> Daemon {
        let settings = Settings {
            runtime_directory: directory.join("run"),
            sockets: vec!["127.0.0.1:0".parse().unwrap()],
            tls: TlsFiles {
                authority: directory.join("ca.crt"),
                certificate: directory.join("server.crt"),
                key: directory.join("server.key"),
                ..TlsFiles::default()
            },
            ..Settings::default()
        };
        Daemon::new(settings, role, Status::default(), vec!["auraed".into()])
    }

    #[tokio::test]
    async fn a_daemon_without_certificates_says_which_file_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let error = daemon(Role::Beside, directory.path()).run(None).await.unwrap_err();
        let text = reply::text(&error);
        assert!(text.contains("aer pki init"), "{text}");
        assert!(text.contains(&directory.path().join("ca.crt").display().to_string()), "{text}");
    }

    #[tokio::test]
    async fn an_init_opens_the_api_once_its_certificates_are_there() {
        let (directory, pki) = (tempfile::tempdir().unwrap(), Pki::new());
        let daemon = Arc::new(daemon(Role::Init, directory.path()));
        assert!(daemon.tolerate("api", daemon.open_doors(None, None)).unwrap().is_none());
        assert_eq!(daemon.status.degraded()[0].phase, "api");

        let retrying = Arc::clone(&daemon);
        let opened = tokio::spawn(async move { retrying.retry_doors(None).await });
        for name in ["ca.crt", "server.crt", "server.key"] {
            std::fs::copy(pki.path(name), directory.path().join(name)).unwrap();
        }
        let doors = tokio::time::timeout(PATIENCE, opened).await.unwrap().unwrap().unwrap();
        assert_eq!(doors.listeners.len(), 1);
        assert!(daemon.status.degraded().is_empty());
    }

    #[tokio::test]
    async fn an_init_without_certificates_can_still_be_shut_down() {
        let directory = tempfile::tempdir().unwrap();
        let daemon = daemon(Role::Init, directory.path());
        daemon.shutdown.request(Intent::PowerOff);
        let given_up = tokio::time::timeout(PATIENCE, daemon.retry_doors(None)).await.unwrap();
        assert!(given_up.is_none());
    }
}
