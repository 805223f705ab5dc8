//! Taps: network interfaces whose other end is a guest. Those made here are not persistent: the
//! kernel removes one when the last process that has it open ends, so none is ever left behind.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open as open_file};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::network::{direct, mac_table, vlan};
use crate::sys::{self, InterfaceName};
use crate::{BrokerError, PortVlans, Tap, TapQueues};

/// As virtio 1.x lays it out, `num_buffers` included.
const VNET_HEADER: i32 = 12;

pub(crate) fn open(request: &Tap) -> Result<TapQueues, BrokerError> {
    match request {
        Tap::Direct(direct) => direct::open(direct),
        Tap::Existing { name, queues } => existing(name, *queues),
        Tap::Standalone { name, mac, mtu, queues } => {
            let tap = create(name.as_deref(), *queues)?;
            configure(&tap.name, *mac, *mtu, None)?;
            Ok(tap)
        }
        Tap::Bridged { bridge, name, mac, mtu, queues, vlans, known_mac } => {
            if !sysfs(bridge).join("bridge").is_dir() {
                return Err(BrokerError::NoBridge { name: bridge.clone() });
            }
            if vlans.is_some() {
                vlan::check(bridge)?;
            }
            let tap = create(name.as_deref(), *queues)?;
            // A bridge takes the smallest MTU of its ports: a new one must not shrink it.
            let mtu = mtu.or_else(|| mtu_of(bridge));
            let port = Port { bridge, vlans: vlans.as_ref(), known_mac: *known_mac };
            configure(&tap.name, *mac, mtu, Some(&port))?;
            Ok(tap)
        }
    }
}

/// None where the kernel has no such device, or it is not for us.
pub(crate) fn vhost() -> Result<Option<OwnedFd>, BrokerError> {
    let path = Path::new("/dev/vhost-net");
    match open_file(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        Ok(device) => Ok(Some(device)),
        Err(Errno::NOENT | Errno::NODEV | Errno::NXIO | Errno::ACCESS | Errno::PERM) => Ok(None),
        Err(errno) => Err(BrokerError::open("open", "device", path, errno.into())),
    }
}

fn existing(name: &str, queues: u16) -> Result<TapQueues, BrokerError> {
    if !sysfs(name).exists() {
        return Err(BrokerError::NoInterface { name: name.to_owned() });
    }
    // IFF_MULTI_QUEUE is fixed when a tap is made.
    let flags = std::fs::read_to_string(sysfs(name).join("tun_flags"))
        .map_err(|_| BrokerError::NotTap { name: name.to_owned() })?;
    let multi_queue = parse_flags(&flags) & libc::IFF_MULTI_QUEUE != 0;
    if queues > 1 && !multi_queue {
        return Err(BrokerError::TapMode {
            name: name.to_owned(),
            problem: "has one queue; make it with 'multi_queue', or remove <driver queues=…>"
                .into(),
        });
    }
    attach(Some(name), queues, multi_queue)
}

fn parse_flags(text: &str) -> i32 {
    i32::from_str_radix(text.trim().trim_start_matches("0x"), 16).unwrap_or(0)
}

fn create(name: Option<&str>, queues: u16) -> Result<TapQueues, BrokerError> {
    if let Some(name) = name.filter(|name| sysfs(name).exists()) {
        return Err(BrokerError::InterfaceBusy { name: name.to_owned() });
    }
    attach(name, queues, queues > 1)
}

fn attach(name: Option<&str>, queues: u16, multi_queue: bool) -> Result<TapQueues, BrokerError> {
    let path = Path::new("/dev/net/tun");
    let mut flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    if multi_queue {
        flags |= libc::IFF_MULTI_QUEUE;
    }
    // The kernel puts the first free number in place of %d.
    let mut named = name.unwrap_or("vnet%d").to_owned();
    let mut files = Vec::new();
    for _ in 0..queues.max(1) {
        let file =
            open_file(path, OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())
                .map_err(|errno| BrokerError::open("open", "device", path, errno.into()))?;
        let requested = interface(&named)?;
        named = sys::tun_attach(file.as_fd(), &requested, flags).map_err(|source| match source
            .raw_os_error()
        {
            Some(libc::EBUSY) => BrokerError::InterfaceBusy { name: named.clone() },
            Some(libc::EINVAL) => BrokerError::TapMode {
                name: named.clone(),
                problem: "cannot be opened as a tap with these queues".into(),
            },
            _ => BrokerError::Host { act: format!("open tap {named:?}"), source },
        })?;
        sys::tun_set_header(file.as_fd(), VNET_HEADER)
            .map_err(BrokerError::host(format!("set up tap {named:?}")))?;
        files.push(file);
    }
    Ok(TapQueues { name: named, queues: files })
}

/// What a tap is in a bridge.
struct Port<'a> {
    bridge: &'a str,
    vlans: Option<&'a PortVlans>,
    known_mac: bool,
}

fn configure(
    name: &str,
    guest_mac: [u8; 6],
    mtu: Option<u16>,
    port: Option<&Port<'_>>,
) -> Result<(), BrokerError> {
    let host = |act: String| move |source: io::Error| BrokerError::Host { act, source };
    let socket = control_socket().map_err(host("open a network socket".to_owned()))?;
    let tap = interface(name)?;
    // A bridge takes the lowest address of its ports as its own: 0xfe keeps ours out of that.
    let mut mac = guest_mac;
    mac[0] = 0xfe;
    sys::interface_set_mac(socket.as_fd(), &tap, mac)
        .map_err(host(format!("set the address of tap {name:?}")))?;
    if let Some(mtu) = mtu {
        sys::interface_set_mtu(socket.as_fd(), &tap, mtu)
            .map_err(host(format!("set the MTU of tap {name:?} to {mtu}")))?;
    }
    if let Some(Port { bridge, vlans, known_mac }) = port {
        sys::bridge_add(socket.as_fd(), &interface(bridge)?, &tap)
            .map_err(host(format!("put tap {name:?} into bridge {bridge:?}")))?;
        // Before it is up: no frame is in a VLAN that is not the guest's.
        if let Some(vlans) = vlans {
            vlan::set(bridge, name, vlans)?;
        }
        if *known_mac {
            mac_table::fix(name, guest_mac)?;
        }
    }
    sys::interface_up(socket.as_fd(), &tap).map_err(host(format!("bring up tap {name:?}")))
}

fn control_socket() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?)
}

fn interface(name: &str) -> Result<InterfaceName, BrokerError> {
    InterfaceName::new(name).ok_or_else(|| BrokerError::NoInterface { name: name.to_owned() })
}

/// Only of a valid name: no path out of the directory.
fn sysfs(name: &str) -> PathBuf {
    let valid = InterfaceName::new(name).is_some();
    Path::new("/sys/class/net").join(if valid { name } else { "\u{fffd}" })
}

fn mtu_of(interface: &str) -> Option<u16> {
    std::fs::read_to_string(sysfs(interface).join("mtu")).ok()?.trim().parse().ok()
}
