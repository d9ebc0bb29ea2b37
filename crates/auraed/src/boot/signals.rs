//! What ends a node: signals to pid 1, Ctrl-Alt-Del and the power button, each a request to shut down.

use aurae_kernel::power::real_time_signal;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

use super::{power_button, report};
use crate::shutdown::{Intent, Shutdown};
use crate::status::Status;

const PHASE: &str = "signals";

/// The signals, what they ask for, and whose convention it is.
fn table() -> [(&'static str, SignalKind, Intent); 9] {
    let real_time = |offset| SignalKind::from_raw(real_time_signal(offset));
    [
        ("SIGTERM", SignalKind::terminate(), Intent::PowerOff),
        // The kernel's, for Ctrl-Alt-Del.
        ("SIGINT", SignalKind::interrupt(), Intent::Reboot),
        // A UPS monitor's or a container manager's: the power is failing.
        ("SIGPWR", SignalKind::from_raw(Signal::POWER.as_raw()), Intent::PowerOff),
        // BusyBox's halt and poweroff.
        ("SIGUSR1", SignalKind::user_defined1(), Intent::PowerOff),
        ("SIGUSR2", SignalKind::user_defined2(), Intent::PowerOff),
        // systemd's halt, poweroff, reboot and kexec, which machine managers send as well.
        ("SIGRTMIN+3", real_time(3), Intent::PowerOff),
        ("SIGRTMIN+4", real_time(4), Intent::PowerOff),
        ("SIGRTMIN+5", real_time(5), Intent::Reboot),
        ("SIGRTMIN+6", real_time(6), Intent::Reboot),
    ]
}

/// Listens for all that ends the node, for as long as it runs. A source that cannot be listened to is
/// recorded; the others are still heard.
pub async fn run(shutdown: Shutdown, status: Status) {
    let mut signals = FuturesUnordered::new();
    for (name, kind, intent) in table() {
        match signal(kind) {
            Ok(mut stream) => signals.push(async move {
                stream.recv().await;
                (name, intent)
            }),
            Err(error) => {
                report::degrade(&status, PHASE, &format!("failed to listen for {name}: {error}"));
            }
        }
    }
    let heard = async {
        // One of each is enough: the first request decides, and no second one can undo it.
        while let Some((name, intent)) = signals.next().await {
            request(&shutdown, name, intent);
        }
    };
    let pressed = async {
        power_button::pressed().await;
        request(&shutdown, "the power button", Intent::PowerOff);
    };
    tokio::join!(heard, pressed);
}

fn request(shutdown: &Shutdown, source: &str, intent: Intent) {
    let holds = shutdown.request(intent);
    tracing::info!(source, asked = ?intent, holds = ?holds, "asked to end");
}
