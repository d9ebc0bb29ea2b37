//! What ends a node: signals to pid 1, Ctrl-Alt-Del and the power button, each a request to shut down.

use aurae_kernel::power::real_time_signal;
use aurae_kernel::signals::listen;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rustix::process::Signal;

use super::{power_button, report};
use crate::reply::text;
use crate::shutdown::{Intent, Shutdown};
use crate::status::Status;

const PHASE: &str = "signals";

/// The signals, what they ask for, and whose convention it is.
fn table() -> [(&'static str, i32, Intent); 9] {
    [
        ("SIGTERM", Signal::TERM.as_raw(), Intent::PowerOff),
        // The kernel's, for Ctrl-Alt-Del.
        ("SIGINT", Signal::INT.as_raw(), Intent::Reboot),
        // A UPS monitor's or a container manager's: the power is failing.
        ("SIGPWR", Signal::POWER.as_raw(), Intent::PowerOff),
        // BusyBox's halt and poweroff.
        ("SIGUSR1", Signal::USR1.as_raw(), Intent::PowerOff),
        ("SIGUSR2", Signal::USR2.as_raw(), Intent::PowerOff),
        // systemd's halt, poweroff, reboot and kexec, which machine managers send as well.
        ("SIGRTMIN+3", real_time_signal(3), Intent::PowerOff),
        ("SIGRTMIN+4", real_time_signal(4), Intent::PowerOff),
        ("SIGRTMIN+5", real_time_signal(5), Intent::Reboot),
        ("SIGRTMIN+6", real_time_signal(6), Intent::Reboot),
    ]
}

/// Listens for all that ends the node, for as long as it runs. A source that cannot be listened to is
/// recorded; the others are still heard.
pub async fn run(shutdown: Shutdown, status: Status) {
    let mut signals = FuturesUnordered::new();
    for (name, number, intent) in table() {
        match listen(number) {
            Ok(mut listener) => signals.push(async move {
                listener.recv().await;
                (name, intent)
            }),
            Err(error) => {
                report::degrade(&status, PHASE, &format!("{name}: {}", text(&error)));
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
