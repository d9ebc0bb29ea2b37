//! Where connections come from, counted until it is known whose they are.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::MAX_HANDSHAKES_PER_SOURCE;

/// What a stranger can change only at a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// An IPv4 address, or an IPv6 network of 64 bits, which is what one host gets (RFC 4291, 2.5.1).
    Network(IpAddr),
    /// The user of a process on this machine; `None`: the kernel did not say.
    User(Option<u32>),
}

impl Source {
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self::Network(IpAddr::from([a, b, c, d, 0, 0, 0, 0]))
            }
            address => Self::Network(address),
        }
    }
}

/// How many there are of each source. Clones share the count.
#[derive(Clone, Debug, Default)]
pub(super) struct Sources {
    counts: Arc<Mutex<HashMap<Source, usize>>>,
}

impl Sources {
    /// Counts one more; `None`: there are too many of this source.
    pub(super) fn admit(&self, source: Source) -> Option<Counted> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(source).or_default();
        (*count < MAX_HANDSHAKES_PER_SOURCE).then(|| {
            *count += 1;
            Counted { sources: self.clone(), source }
        })
    }
}

/// One of a source, until it is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    sources: Sources,
    source: Source,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.sources.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(address: &str) -> Source {
        Source::of(address.parse().unwrap())
    }

    #[test]
    fn a_source_is_what_one_host_has() {
        assert_eq!(of("2001:db8:0:1::1"), of("2001:db8:0:1:ffff::2"));
        assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:2::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }

    #[test]
    fn one_source_cannot_take_the_place_of_another_and_leaves_nothing_behind() {
        let sources = Sources::default();
        let counted: Vec<_> =
            (0..MAX_HANDSHAKES_PER_SOURCE).map(|_| sources.admit(of("192.0.2.1"))).collect();
        assert!(counted.iter().all(Option::is_some));
        assert!(sources.admit(of("192.0.2.1")).is_none());
        assert!(sources.admit(of("192.0.2.2")).is_some());
        drop(counted);
        assert!(sources.admit(of("192.0.2.1")).is_some());
        assert!(sources.counts.lock().unwrap().is_empty());
    }
}
