//! The two ways to be the node's daemon: as the machine's init, and beside another one.

use std::ffi::OsString;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Duration;

use aurae_kernel::signals::listen;
use aurae_kernel::{Error, takeover};
use rustix::process::Signal;
use tokio::runtime::Runtime;

use super::handover::{Handover, Taken};
use super::{Daemon, DaemonError, rehearsal};
use crate::boot::{self, LogFormat};
use crate::bundle;
use crate::cpu_time;
use crate::logging::{self, Format};
use crate::reply;
use crate::runtime::node::Role;
use crate::settings::{Command, Settings};
use crate::shutdown::{Intent, Shutdown};
use crate::status::Status;
use crate::zone;

/// Threads that serve, at least: one that is kept busy must not keep the others waiting.
const MIN_WORKERS: usize = 2;
/// Threads that serve, at most: the node's CPUs are there for its workloads.
const MAX_WORKERS: usize = 8;
/// A thread that has always something to do looks for events after so many steps: whoever comes new waits
/// for no more of them, also while one principal keeps all threads busy.
const EVENT_INTERVAL: u32 = 8;
/// How long blocking work may go on when everything else has ended.
const THREADS_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the console has to show the last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The entry of the node's daemon. `arguments[0]` is the program's name.
pub(crate) fn main(arguments: Vec<OsString>) -> ExitCode {
    cpu_time::begin();
    if let Some((role, arguments)) = rehearsal::asked(&arguments) {
        return rehearsal::main(role, arguments);
    }
    // Nothing comes before this: whatever goes wrong from here on is the way back.
    let taken = Taken::from_environment(&arguments);
    let code = match catch_unwind(AssertUnwindSafe(|| start(arguments, taken))) {
        Ok(code) => code,
        Err(_panic) => ExitCode::FAILURE,
    };
    takeover::roll_back("it ended before it was ready");
    code
}

fn start(arguments: Vec<OsString>, taken: Result<Option<Taken>, Error>) -> ExitCode {
    if boot::is_init() {
        as_init(arguments, taken);
    }
    let settings = match Settings::parse(arguments.clone()) {
        Ok(settings) => settings,
        Err(error) => {
            // Help and version are said this way too, with success.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    if settings.nested {
        return zone::main();
    }
    let outcome = match settings.command.clone() {
        Some(Command::Spawn { output }) => {
            bundle::write(&output).map_err(DaemonError::from).map(|()| {
                println!("wrote an OCI bundle to {}", output.display());
            })
        }
        None => beside_another_init(settings, arguments, taken),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            takeover::roll_back(&reply::text(&error));
            eprintln!("error: {}", reply::text(&error));
            ExitCode::FAILURE
        }
    }
}

fn beside_another_init(
    settings: Settings,
    arguments: Vec<OsString>,
    taken: Result<Option<Taken>, Error>,
) -> Result<(), DaemonError> {
    let taken = taken?;
    let daemon = Daemon::new(settings, Role::Beside, Status::default(), arguments.clone());
    let console = logging::start(daemon.settings.logging, &daemon.log);
    let runtime = threads()?;
    let outcome = runtime.block_on(async {
        tokio::spawn(stop_on_signals(daemon.shutdown.clone())?);
        daemon.run(taken).await
    });
    if let Ok(Some(handover)) = outcome {
        console.flush(FLUSH_TIMEOUT);
        // The threads are left as they are: what they did ends as if this process was killed.
        return Err(handover.execute(&arguments).into());
    }
    runtime.shutdown_timeout(THREADS_TIMEOUT);
    console.flush(FLUSH_TIMEOUT);
    outcome.map(|_| ())
}

/// How an init goes on when it has stopped serving.
enum Next {
    Finish(Intent),
    HandOn(Handover),
}

/// The machine's init: it boots the node, serves, and switches the machine off or starts it again.
fn as_init(arguments: Vec<OsString>, taken: Result<Option<Taken>, Error>) -> ! {
    let status = Status::default();
    let boot = match &taken {
        Ok(None) => boot::early(&status),
        Ok(Some(_)) | Err(_) => boot::again(&status),
    };
    let taken = taken.unwrap_or_else(|error| {
        takeover::roll_back(&reply::text(&error));
        status.degrade("handover", reply::text(&error));
        None
    });
    let before = taken.iter().flat_map(|taken| taken.degraded.clone());
    before.for_each(|degraded| status.take_up(degraded));
    let network = boot.settings.network.clone();
    let settings = init_settings(arguments.clone(), boot.settings, &status);
    let daemon = Daemon::new(settings, Role::Init, status, arguments.clone());
    let console = logging::start(daemon.settings.logging, &daemon.log);
    let intent = match threads() {
        Ok(runtime) => {
            let next = runtime.block_on(serve_as_init(daemon, network, taken));
            console.flush(FLUSH_TIMEOUT);
            let intent = match next {
                Next::Finish(intent) => intent,
                Next::HandOn(handover) => {
                    let error = handover.execute(&arguments);
                    // This daemon has closed its doors: only a machine that starts anew has others.
                    tracing::error!(error = reply::text(&error), "restarting the machine");
                    Intent::Reboot
                }
            };
            runtime.shutdown_timeout(THREADS_TIMEOUT);
            intent
        }
        Err(error) => {
            takeover::roll_back(&reply::text(&error));
            // Without threads there is no API that could be asked for anything else.
            tracing::error!(error = reply::text(&error), "restarting the machine");
            Intent::Reboot
        }
    };
    console.flush(FLUSH_TIMEOUT);
    boot::finish(intent)
}

async fn serve_as_init(
    daemon: Daemon,
    network: boot::NetworkSettings,
    taken: Option<Taken>,
) -> Next {
    let (status, shutdown) = (daemon.status.clone(), daemon.shutdown.clone());
    tokio::spawn(boot::signals(shutdown.clone(), status.clone()));
    tokio::spawn(boot::network(network, status.clone()));
    // A task of its own, so that a panic in it does not end pid 1.
    match tokio::spawn(async move { daemon.run(taken).await }).await {
        Ok(Ok(None)) => {}
        Ok(Ok(Some(handover))) => return Next::HandOn(handover),
        Ok(Err(error)) => {
            takeover::roll_back(&reply::text(&error));
            status.degrade("daemon", reply::text(&error));
        }
        Err(panic) => status.degrade("daemon", panic.to_string()),
    }
    Next::Finish(shutdown.wait_for_end().await)
}

/// The settings of an init: the defaults, what its arguments say, then the kernel command line. Wrong
/// arguments are recorded and left out.
pub(super) fn init_settings(
    arguments: Vec<OsString>,
    boot: boot::Settings,
    status: &Status,
) -> Settings {
    // The kernel hands on words that it does not know: they must not keep the node from starting.
    let mut settings = Settings::parse(arguments).unwrap_or_else(|error| {
        status.degrade("arguments", error.to_string());
        Settings::default()
    });
    settings.sockets.extend(boot.sockets);
    settings.workload_api = boot.workload_api.or(settings.workload_api);
    settings.tls.trust_directory = boot.trust_directory.or(settings.tls.trust_directory);
    settings.tls.revocation_lists.extend(boot.revocation_lists);
    settings.logging.verbose |= boot.verbose;
    settings.logging.format = match boot.log_format {
        Some(LogFormat::Json) => Format::Json,
        Some(LogFormat::Text) => Format::Text,
        None => settings.logging.format,
    };
    settings.log_capacity = boot.log_capacity.unwrap_or(settings.log_capacity);
    settings.audit.file = boot.audit_log.or(settings.audit.file);
    settings.audit.size = boot.audit_log_size.unwrap_or(settings.audit.size);
    settings.audit.required |= boot.audit_required;
    settings.requests_per_second = boot.requests_per_second.unwrap_or(settings.requests_per_second);
    if settings.audit.required && settings.audit.file.is_none() {
        status.degrade(
            "arguments",
            "aurae.audit-required needs aurae.audit-log: nothing is required",
        );
        settings.audit.required = false;
    }
    settings
}

pub(super) fn threads() -> Result<Runtime, DaemonError> {
    let cpus = std::thread::available_parallelism().map_or(MIN_WORKERS, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cpus.clamp(MIN_WORKERS, MAX_WORKERS))
        .event_interval(EVENT_INTERVAL)
        .enable_all()
        .build()
        .map_err(DaemonError::Threads)
}

/// SIGTERM and SIGINT stop the daemon in order.
fn stop_on_signals(shutdown: Shutdown) -> Result<impl Future<Output = ()>, DaemonError> {
    let listen = |signal: Signal| listen(signal.as_raw()).map_err(DaemonError::Signals);
    let (mut terminate, mut interrupt) = (listen(Signal::TERM)?, listen(Signal::INT)?);
    Ok(async move {
        loop {
            let name = tokio::select! {
                () = terminate.recv() => "SIGTERM",
                () = interrupt.recv() => "SIGINT",
            };
            tracing::info!(signal = name, "stopping");
            shutdown.request(Intent::Exit);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_in_an_inits_arguments_is_recorded_and_left_out() {
        let status = Status::default();
        let arguments = ["init", "splash"].map(OsString::from).to_vec();
        let settings = init_settings(arguments, boot::Settings::default(), &status);
        assert_eq!(settings.log_capacity, 1 << 20);
        let phases: Vec<_> = status.degraded().into_iter().map(|degraded| degraded.phase).collect();
        assert_eq!(phases, ["arguments"]);
    }

    #[test]
    fn the_kernel_command_line_sets_what_arguments_would() {
        let boot = boot::Settings {
            sockets: vec!["[::]:1".parse().unwrap()],
            verbose: true,
            log_format: Some(LogFormat::Json),
            log_capacity: Some(4096),
            ..boot::Settings::default()
        };
        let status = Status::default();
        let settings = init_settings(vec!["init".into()], boot, &status);
        assert_eq!(settings.sockets, ["[::]:1".parse().unwrap()]);
        assert_eq!(settings.logging, logging::Options { format: Format::Json, verbose: true });
        assert_eq!(settings.log_capacity, 4096);
        assert!(status.degraded().is_empty());
    }
}
