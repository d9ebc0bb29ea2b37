//! The keys that leave an executable to itself.

use std::str::FromStr;

/// The keys unless the command line says others: what container engines use.
pub(crate) const DEFAULT_KEYS: &str = "ctrl-p,ctrl-q";

/// A sequence of keys, as the bytes that a terminal sends for them; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keys(Vec<u8>);

impl FromStr for Keys {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',').map(key).collect::<Result<_, _>>().map(Self)
    }
}

fn key(name: &str) -> Result<u8, String> {
    let bad = || format!("`{name}` is no key: write `ctrl-p`, or one character of ASCII");
    let (control, key) = match name.strip_prefix("ctrl-") {
        Some(key) => (true, key),
        None => (false, name),
    };
    match (control, key.as_bytes()) {
        (false, [byte]) if byte.is_ascii() => Ok(*byte),
        // A terminal sends the five low bits of the letter.
        (true, [byte @ (b'a'..=b'z' | b'@' | b'['..=b'_')]) => Ok(byte & 0x1f),
        _ => Err(bad()),
    }
}

/// Looks for the keys in what is typed.
#[derive(Debug)]
pub(crate) struct Detector {
    keys: Keys,
    /// So many of them were typed and are held back.
    held: usize,
}

/// What was typed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Typed {
    /// What is for the executable.
    pub(crate) bytes: Vec<u8>,
    /// The keys came after it.
    pub(crate) detach: bool,
}

impl Detector {
    pub(crate) fn new(keys: Keys) -> Self {
        Self { keys, held: 0 }
    }

    /// Takes what was typed. What may be the beginning of the keys is held back until it is not.
    pub(crate) fn take(&mut self, typed: &[u8]) -> Typed {
        let mut bytes = Vec::with_capacity(typed.len() + self.held);
        for byte in typed {
            // What was held back may end with a shorter beginning: `a` in `aab` where the keys are `ab`.
            while self.held > 0 && self.keys.0.get(self.held) != Some(byte) {
                let shorter = self.shorter();
                bytes.extend_from_slice(self.keys.0.get(..self.held - shorter).unwrap_or_default());
                self.held = shorter;
            }
            match self.keys.0.get(self.held) == Some(byte) {
                true => self.held += 1,
                false => bytes.push(*byte),
            }
            if self.held == self.keys.0.len() {
                return Typed { bytes, detach: true };
            }
        }
        Typed { bytes, detach: false }
    }

    /// The longest beginning of the keys, shorter than what is held, that what is held ends with.
    fn shorter(&self) -> usize {
        let beginning = |length| self.keys.0.get(..length).unwrap_or_default();
        let held = beginning(self.held);
        (1..self.held).rev().find(|length| held.ends_with(beginning(*length))).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detector(keys: &str) -> Detector {
        Detector::new(keys.parse().unwrap())
    }

    fn typed(bytes: &[u8], detach: bool) -> Typed {
        Typed { bytes: bytes.to_vec(), detach }
    }

    #[test]
    fn keys_are_written_as_they_are_called() {
        assert_eq!(DEFAULT_KEYS.parse(), Ok(Keys(vec![16, 17])));
        assert_eq!("ctrl-],x".parse(), Ok(Keys(vec![29, b'x'])));
        for bad in ["", "ctrl-", "ctrl-p,", "ctrl-1", "ctrl-P", "é", "ab"] {
            assert!(bad.parse::<Keys>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_keys_are_found_across_reads() {
        let mut keys = detector(DEFAULT_KEYS);
        assert_eq!(keys.take(b"ls\x10"), typed(b"ls", false));
        assert_eq!(keys.take(b"\x11"), typed(b"", true));
    }

    #[test]
    fn what_is_not_the_keys_goes_through() {
        let mut keys = detector(DEFAULT_KEYS);
        assert_eq!(keys.take(b"\x10"), typed(b"", false));
        assert_eq!(keys.take(b"\x10"), typed(b"\x10", false));
        assert_eq!(keys.take(b"x"), typed(b"\x10x", false));
        let mut keys = detector("a,a,b");
        assert_eq!(keys.take(b"aaab"), typed(b"a", true));
        let mut keys = detector("a,b,a,c");
        assert_eq!(keys.take(b"ababac"), typed(b"ab", true));
    }
}
