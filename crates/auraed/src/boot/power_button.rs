//! The power button: the input devices that have one, and its being pressed.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rustix::fs::OFlags;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

/// `EV_KEY` and `KEY_POWER` of `linux/input-event-codes.h`.
const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;

/// `struct input_event` of `linux/input.h` on a 64-bit machine: a time of 16 bytes, then type, code and
/// value.
const EVENT_BYTES: usize = 24;
const TYPE_AT: usize = 16;

/// How many events are read at once; pressing a button makes two.
const EVENTS: usize = 16;

/// Waits until a power button is pressed: for ever, where there is none.
pub(super) async fn pressed() {
    let mut buttons: FuturesUnordered<_> = devices()
        .into_iter()
        .map(|path| async move {
            let result = watch(&path).await;
            (path, result)
        })
        .collect();
    while let Some((path, result)) = buttons.next().await {
        match result {
            Ok(()) => return,
            // A keyboard that is pulled out, for example. The other buttons are still watched.
            Err(error) => {
                tracing::debug!(device = %path.display(), %error, "a power button is gone")
            }
        }
    }
    std::future::pending().await
}

async fn watch(path: &Path) -> io::Result<()> {
    let flags = (OFlags::NONBLOCK | OFlags::CLOEXEC).bits().cast_signed();
    let device = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    // Not a pipe, but read like one: `poll` says when there is something, and `read` gives it.
    let mut device = Receiver::from_file_unchecked(device)?;
    let mut events = [0; EVENTS * EVENT_BYTES];
    loop {
        match device.read(&mut events).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length if events[..length].chunks_exact(EVENT_BYTES).any(is_press) => return Ok(()),
            _ => {}
        }
    }
}

fn is_press(event: &[u8]) -> bool {
    let [kind, code, value, _] = event[TYPE_AT..].as_chunks::<2>().0 else { return false };
    // A value of 1 is a press; 0 is a release, 2 a repetition.
    let [kind, code, value] = [kind, code, value].map(|field| u16::from_ne_bytes(*field));
    kind == EV_KEY && code == KEY_POWER && value == 1
}

/// The input devices that can report a power button.
fn devices() -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir("/sys/class/input") else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| {
            entry.file_name().as_encoded_bytes().starts_with(b"event")
                && fs::read_to_string(entry.path().join("device/capabilities/key"))
                    .is_ok_and(|keys| has_key(&keys, KEY_POWER))
        })
        .map(|entry| Path::new("/dev/input").join(entry.file_name()))
        .collect()
}

/// Whether a key is in the kernel's bitmap: hexadecimal words of 64 bits, the highest first.
fn has_key(bitmap: &str, key: u16) -> bool {
    const WORD_BITS: u16 = 64;
    let word = bitmap.split_ascii_whitespace().rev().nth(usize::from(key / WORD_BITS));
    word.and_then(|word| u64::from_str_radix(word, 16).ok())
        .is_some_and(|word| (word >> (key % WORD_BITS)) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: u16, code: u16, value: i32) -> Vec<u8> {
        let mut event = vec![0; TYPE_AT];
        event.extend(kind.to_ne_bytes());
        event.extend(code.to_ne_bytes());
        event.extend(value.to_ne_bytes());
        event
    }

    #[test]
    fn only_the_pressing_of_the_power_button_counts() {
        assert!(is_press(&event(EV_KEY, KEY_POWER, 1)));
        assert!(!is_press(&event(EV_KEY, KEY_POWER, 0)));
        assert!(!is_press(&event(EV_KEY, 30, 1)));
        assert!(!is_press(&event(0, 0, 0)));
    }

    #[test]
    fn the_power_button_is_found_in_the_bitmap_of_keys() {
        // The ACPI button's: bit 52 of the second word from the right.
        assert!(has_key("10000000000000 0\n", KEY_POWER));
        assert!(!has_key("10000000000000\n", KEY_POWER));
        assert!(!has_key("0\n", KEY_POWER));
        assert!(!has_key("not a bitmap\n", KEY_POWER));
    }
}
