//! A network interface as the kernel describes it.

use std::path::Path;

use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};

/// A network interface, or what we need to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    /// The hardware address; empty where there is none.
    pub(super) hardware_address: Vec<u8>,
    pub(super) loopback: bool,
    /// Whether it is up and has a link partner.
    pub(super) carrier: bool,
}

impl Link {
    pub(super) fn from_message(message: &LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            hardware_address: Vec::new(),
            loopback: message.header.flags.contains(LinkFlags::Loopback),
            carrier: message.header.flags.contains(LinkFlags::LowerUp),
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Address(address) => link.hardware_address.clone_from(address),
                _ => {}
            }
        }
        link
    }

    /// Whether there is a device behind it, where a bridge or a veth pair has none.
    pub(super) fn is_device(&self) -> bool {
        directory(&self.name).join("device").exists()
    }
}

/// Whether there is an interface of this name.
pub(super) fn exists(name: &str) -> bool {
    directory(name).exists()
}

fn directory(name: &str) -> std::path::PathBuf {
    Path::new("/sys/class/net").join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_read_from_the_kernels_message() {
        let mut message = LinkMessage::default();
        message.header.index = 2;
        message.header.flags = LinkFlags::Up | LinkFlags::LowerUp;
        message.attributes =
            vec![LinkAttribute::IfName("eth0".into()), LinkAttribute::Address(vec![2; 6])];
        let link = Link::from_message(&message);
        assert_eq!((link.index, link.name.as_str()), (2, "eth0"));
        assert_eq!(link.hardware_address, [2; 6]);
        assert!(link.carrier && !link.loopback);
    }
}
