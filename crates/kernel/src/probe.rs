//! What this machine is and what its kernel offers.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{FromRawFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::{Error, Result};

/// Whether `/dev/kvm` can be opened for making virtual machines.
#[must_use]
pub fn kvm() -> bool {
    rustix::fs::openat(CWD, "/dev/kvm", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).is_ok()
}

/// The start of `union bpf_attr` for `BPF_MAP_CREATE` (bpf(2)); what is left out is zero.
#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
}

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_TYPE_ARRAY: u32 = 2;

/// Whether the `bpf` system call is there and permitted: tried by making the smallest map.
#[must_use]
pub fn bpf() -> bool {
    let map = MapCreate {
        map_type: BPF_MAP_TYPE_ARRAY,
        key_size: 4,
        value_size: 4,
        max_entries: 1,
        map_flags: 0,
    };
    // SAFETY: the kernel reads as many bytes of `map`, which lives through the call, as it is told.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_MAP_CREATE, &raw const map, size_of_val(&map)) };
    match i32::try_from(result) {
        Ok(descriptor) if descriptor >= 0 => {
            // SAFETY: the kernel has just made the descriptor, and nobody else knows it.
            drop(unsafe { OwnedFd::from_raw_fd(descriptor) });
            true
        }
        _ => false,
    }
}

const LANDLOCK_CREATE_RULESET_VERSION: libc::c_uint = 1;

/// The version of the Landlock ABI (landlock_create_ruleset(2)), 0 where there is none.
#[must_use]
pub fn landlock_abi() -> u32 {
    let nothing = std::ptr::null::<libc::c_void>();
    // SAFETY: with this flag the kernel reads no memory: the pointer is null and the size 0.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            nothing,
            0_usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    // Negative: there is none, or it is switched off.
    u32::try_from(version).unwrap_or(0)
}

/// What `uname` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// The host name.
    pub hostname: String,
    /// `uname -r`.
    pub release: String,
    /// `uname -v`.
    pub version: String,
    /// `uname -m`.
    pub machine: String,
}

/// Asks the kernel for its name and version.
#[must_use]
pub fn kernel() -> Kernel {
    let uname = rustix::system::uname();
    let text = |text: &CStr| text.to_string_lossy().into_owned();
    Kernel {
        hostname: text(uname.nodename()),
        release: text(uname.release()),
        version: text(uname.version()),
        machine: text(uname.machine()),
    }
}

/// Memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// `MemTotal`.
    pub total: u64,
    /// `MemAvailable`.
    pub available: u64,
}

/// Reads `/proc/meminfo`.
///
/// # Errors
/// The file cannot be read.
pub fn memory() -> Result<Memory> {
    Ok(parse_memory(&read("/proc/meminfo")?))
}

fn parse_memory(text: &str) -> Memory {
    let kibibytes = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let number = value.and_then(|value| value.trim().strip_suffix("kB")?.trim().parse().ok());
        number.map_or(0, |kibibytes: u64| kibibytes.saturating_mul(1024))
    };
    Memory { total: kibibytes("MemTotal"), available: kibibytes("MemAvailable") }
}

/// When the kernel was started, in seconds since the epoch (`btime` of `/proc/stat`).
///
/// # Errors
/// The file cannot be read.
pub fn boot_time() -> Result<i64> {
    let stat = read("/proc/stat")?;
    let time = stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
    time.ok_or_else(|| Error::new("find btime in /proc/stat", Errno::NODATA))
}

/// How many CPUs are online.
///
/// # Errors
/// `/sys/devices/system/cpu/online` cannot be read.
pub fn cpus_online() -> Result<u32> {
    Ok(count_list(read("/sys/devices/system/cpu/online")?.trim()))
}

/// How many numbers a list in the kernel's syntax has: `0-3,7` has five.
fn count_list(list: &str) -> u32 {
    let count = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        last.checked_sub(first)?.checked_add(1)
    };
    list.split(',').filter_map(count).fold(0, u32::saturating_add)
}

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| Error::from_io(format!("read {path}"), &error))
}

/// The command name of process 1.
///
/// # Errors
/// `/proc/1/comm` cannot be read.
pub fn init_name() -> Result<String> {
    Ok(read("/proc/1/comm")?.trim().to_owned())
}

/// A network interface of this network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its hardware address; empty where it has none.
    pub hardware_address: Vec<u8>,
    /// It is up and has a link.
    pub running: bool,
    /// Its addresses with their prefix lengths.
    pub addresses: Vec<(IpAddr, u32)>,
}

/// The network interfaces, in the kernel's order (getifaddrs(3)).
///
/// # Errors
/// What the kernel says.
pub fn interfaces() -> Result<Vec<Interface>> {
    let list = InterfaceList::get()?;
    let mut order: Vec<Interface> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for entry in list.entries() {
        let name = entry.name();
        let place = *places.entry(name.clone()).or_insert_with(|| {
            order.push(Interface { name, ..Interface::default() });
            order.len() - 1
        });
        let Some(interface) = order.get_mut(place) else { continue };
        interface.running = entry.is_running();
        match entry.address() {
            Some(Address::Hardware(address)) => interface.hardware_address = address,
            Some(Address::Ip(address)) => {
                interface.addresses.push((address, entry.prefix_length()));
            }
            None => {}
        }
    }
    Ok(order)
}

/// The list that getifaddrs(3) allocates.
struct InterfaceList(*mut libc::ifaddrs);

impl InterfaceList {
    fn get() -> Result<Self> {
        let mut first = std::ptr::null_mut();
        // SAFETY: the pointer to the list's first entry is written to `first`, which lives on.
        let result = unsafe { libc::getifaddrs(&raw mut first) };
        match result {
            0 => Ok(Self(first)),
            _ => {
                let error = std::io::Error::last_os_error();
                Err(Error::from_io("list network interfaces", &error))
            }
        }
    }

    fn entries(&self) -> impl Iterator<Item = InterfaceEntry<'_>> {
        // SAFETY: getifaddrs made the list: each pointer is null or to an entry that lives as long as
        // the list, which is borrowed.
        let first = unsafe { self.0.as_ref() };
        std::iter::successors(first, |entry| {
            // SAFETY: as above.
            unsafe { entry.ifa_next.as_ref() }
        })
        .map(InterfaceEntry)
    }
}

impl Drop for InterfaceList {
    fn drop(&mut self) {
        // SAFETY: the list came from getifaddrs, and nothing borrows it any more.
        unsafe { libc::freeifaddrs(self.0) };
    }
}

struct InterfaceEntry<'a>(&'a libc::ifaddrs);

enum Address {
    Hardware(Vec<u8>),
    Ip(IpAddr),
}

impl InterfaceEntry<'_> {
    fn name(&self) -> String {
        // SAFETY: getifaddrs gives each entry a name that ends with NUL and lives as long as the list.
        unsafe { CStr::from_ptr(self.0.ifa_name) }.to_string_lossy().into_owned()
    }

    fn is_running(&self) -> bool {
        // The flags are bits; their sign does not matter.
        let wanted = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_uint;
        self.0.ifa_flags & wanted == wanted
    }

    fn address(&self) -> Option<Address> {
        match family(self.0.ifa_addr)? {
            libc::AF_PACKET => {
                // SAFETY: an address of this family is a sockaddr_ll.
                let link = unsafe { &*self.0.ifa_addr.cast::<libc::sockaddr_ll>() };
                let bytes = link.sll_addr.get(..usize::from(link.sll_halen))?;
                let is_set = bytes.iter().any(|byte| *byte != 0);
                is_set.then(|| Address::Hardware(bytes.to_vec()))
            }
            _ => ip(self.0.ifa_addr).map(Address::Ip),
        }
    }

    fn prefix_length(&self) -> u32 {
        match ip(self.0.ifa_netmask) {
            Some(IpAddr::V4(mask)) => mask.to_bits().count_ones(),
            Some(IpAddr::V6(mask)) => mask.to_bits().count_ones(),
            None => 0,
        }
    }
}

fn family(address: *const libc::sockaddr) -> Option<i32> {
    // SAFETY: getifaddrs gives null or a socket address that lives as long as the list.
    let address = unsafe { address.as_ref() }?;
    Some(i32::from(address.sa_family))
}

fn ip(address: *const libc::sockaddr) -> Option<IpAddr> {
    match family(address)? {
        libc::AF_INET => {
            // SAFETY: an address of this family is a sockaddr_in.
            let address = unsafe { &*address.cast::<libc::sockaddr_in>() };
            Some(Ipv4Addr::from_bits(u32::from_be(address.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: an address of this family is a sockaddr_in6.
            let address = unsafe { &*address.cast::<libc::sockaddr_in6>() };
            Some(Ipv6Addr::from(address.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_meminfo() {
        let text = "MemTotal:       16384 kB\nMemFree: 1 kB\nMemAvailable:   8192 kB\n";
        assert_eq!(parse_memory(text), Memory { total: 16384 << 10, available: 8192 << 10 });
        assert_eq!(parse_memory("MemTotal: lots\n"), Memory::default());
    }

    #[test]
    fn a_list_of_cpus_is_counted() {
        for (list, count) in [("0", 1), ("0-3", 4), ("0-3,7", 5), ("", 0), ("3-1", 0), ("x", 0)] {
            assert_eq!(count_list(list), count, "{list}");
        }
    }

    #[test]
    fn this_machine_has_a_kernel_memory_and_cpus() {
        assert!(!kernel().release.is_empty());
        let memory = memory().unwrap();
        assert!(memory.total >= memory.available && memory.available > 0);
        assert!(cpus_online().unwrap() > 0);
        assert!(boot_time().unwrap() > 0);
        assert!(!init_name().unwrap().is_empty());
    }

    #[test]
    fn the_loopback_interface_is_there() {
        let interfaces = interfaces().unwrap();
        let loopback = interfaces.iter().find(|interface| interface.name == "lo").unwrap();
        assert!(loopback.hardware_address.is_empty());
        if loopback.running {
            assert!(loopback.addresses.contains(&(Ipv4Addr::LOCALHOST.into(), 8)));
        }
    }

    #[test]
    fn probing_leaves_no_descriptor() {
        let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let before = open();
        for _ in 0..64 {
            let _ = kvm();
            let _ = bpf();
            let _ = landlock_abi();
        }
        assert!(open() < before + 32, "{before} descriptors became {}", open());
    }
}
