//! Timers.

use std::time::Duration;

use rquickjs::function::Func;
use rquickjs::{Function, Object};

use super::State;

/// The longest delay, as everywhere else: 2^31 - 1 ms. What is longer, or no number, is 0 there; here
/// a longer one is this.
const MAX_DELAY_MS: f64 = 2_147_483_647.0;

pub(super) fn install(host: &Object<'_>, state: &State) -> rquickjs::Result<()> {
    let event_loop = state.event_loop.clone();
    let set = move |callback: Function<'_>, ms: f64, repeats: bool, keep: bool| {
        event_loop.set_timer(callback, delay(ms), repeats, keep) as f64
    };
    host.set("setTimer", Func::from(set))?;
    let event_loop = state.event_loop.clone();
    let clear = move |id: f64| event_loop.clear_timer(id as u64);
    host.set("clearTimer", Func::from(clear))
}

fn delay(ms: f64) -> Duration {
    // `as` makes 0 of what is no number.
    Duration::from_micros((ms.clamp(0.0, MAX_DELAY_MS) * 1000.0) as u64)
}
