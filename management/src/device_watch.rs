//! Devices of the host as they come and go, as events. The kernel says to all who listen that
//! something happened (`NETLINK_KOBJECT_UEVENT`; a process in a network namespace of its own hears of
//! that namespace's interfaces alone). What did is found by another look at /sys, so a message that
//! is lost loses nothing. Nobody listens until somebody wants to hear of it.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

use crate::error::{Code, Error};
use crate::events::{EventKind, NodeDeviceChange};
use crate::host::{Driver, Host};
use crate::journal::Journal;
use crate::node_devices;

/// Messages of the kernel, not what udev makes of them.
const KERNEL: u32 = 1;
/// A device that is plugged in is many messages.
const SETTLED: Duration = Duration::from_millis(100);
/// The kernel's messages have no more (`UEVENT_BUFFER_SIZE`).
const LONGEST: usize = 2048 + 256;
/// Kinds of devices in the kernel's words; of others nothing is told here.
const SUBSYSTEMS: [&[u8]; 6] = [b"pci", b"usb", b"net", b"block", b"scsi", b"scsi_host"];

pub(crate) struct DeviceWatch {
    host: Host,
    journal: Arc<Journal>,
    begun: Mutex<bool>,
}

impl DeviceWatch {
    pub(crate) fn new(host: Host, journal: Arc<Journal>) -> Self {
        Self { host, journal, begun: Mutex::default() }
    }

    /// From now on there are events of what changes.
    pub(crate) fn begin(&self) -> Result<(), Error> {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        // What is made up does not change.
        if *begun || self.host.driver == Driver::Test {
            return Ok(());
        }
        let (sys, journal) = (self.host.sys(), Arc::downgrade(&self.journal));
        let thread = std::thread::Builder::new().name("devices".to_owned());
        let started = listen().and_then(|socket| {
            // What is there before anybody is answered is not news.
            let known = look(&sys);
            thread.spawn(move || follow(&socket, &sys, known, &journal))
        });
        started.map_err(|source| {
            let text = "cannot listen to what the kernel says of devices";
            Error::new(Code::HostFailure, text).with_source(source)
        })?;
        *begun = true;
        Ok(())
    }
}

fn listen() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(KOBJECT_UEVENT))?;
    bind(&socket, &SocketAddrNetlink::new(0, KERNEL))?;
    Ok(socket)
}

fn follow(socket: &OwnedFd, sys: &Path, mut known: Seen, journal: &Weak<Journal>) {
    loop {
        let relevant = wait(socket).and_then(|()| heard(socket));
        let Some(journal) = journal.upgrade() else { return };
        match relevant {
            Ok(true) => {}
            Ok(false) => continue,
            Err(error) => {
                tracing::error!(%error, "changes of the host's devices are not seen any more");
                return;
            }
        }
        std::thread::sleep(SETTLED);
        let now = look(sys);
        for (device, change) in changes(&known, &now) {
            journal.publish(None, EventKind::NodeDevice { device, change }, None);
        }
        known = now;
    }
}

fn wait(socket: &OwnedFd) -> io::Result<()> {
    match poll(&mut [PollFd::new(socket, PollFlags::IN)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Take all messages that wait; whether one is about a device of a kind that is told of.
fn heard(socket: &OwnedFd) -> io::Result<bool> {
    let mut relevant = false;
    let mut buffer = [0; LONGEST];
    loop {
        match recv(socket, &mut buffer, RecvFlags::TRUNC) {
            Ok((_, len)) => relevant |= is_relevant(buffer.get(..len).unwrap_or(&buffer)),
            // So much happened that some of it was not kept.
            Err(Errno::NOBUFS) => relevant = true,
            Err(Errno::AGAIN) => return Ok(relevant),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// `add@/devices/…`, then `NAME=value`, each with a NUL behind it.
fn is_relevant(message: &[u8]) -> bool {
    let mut fields = message.split(|byte| *byte == 0);
    let subsystem = fields.find_map(|field| field.strip_prefix(b"SUBSYSTEM="));
    subsystem.is_some_and(|subsystem| SUBSYSTEMS.contains(&subsystem))
}

/// What there is by name, and a number that is another when it changes.
type Seen = BTreeMap<String, u64>;

fn look(sys: &Path) -> Seen {
    let seen = node_devices::read(sys).into_iter().map(|device| {
        let mut hasher = DefaultHasher::new();
        device.xml.hash(&mut hasher);
        (device.name, hasher.finish())
    });
    seen.collect()
}

fn changes(before: &Seen, after: &Seen) -> Vec<(String, NodeDeviceChange)> {
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    let gone = gone.map(|name| (name.clone(), NodeDeviceChange::Deleted));
    let here = after.iter().filter_map(|(name, now)| match before.get(name) {
        None => Some((name.clone(), NodeDeviceChange::Created)),
        Some(then) if then != now => Some((name.clone(), NodeDeviceChange::Updated)),
        Some(_) => None,
    });
    gone.chain(here).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_about_devices_of_other_kinds_cause_no_look() {
        assert!(is_relevant(b"add@/devices/x\0ACTION=add\0SUBSYSTEM=net\0INTERFACE=tap0\0"));
        assert!(is_relevant(b"SUBSYSTEM=pci"));
        for other in [&b""[..], b"\0\0", b"add@/x\0SUBSYSTEM=queues\0", b"SUBSYSTEM=network\0"] {
            assert!(!is_relevant(other), "{other:?}");
        }
    }

    #[test]
    fn what_came_went_and_changed_is_found() {
        let seen = |all: &[(&str, u64)]| -> Seen {
            all.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect()
        };
        let found =
            changes(&seen(&[("a", 1), ("b", 1), ("c", 1)]), &seen(&[("b", 2), ("c", 1), ("d", 1)]));
        let expected = [
            ("a", NodeDeviceChange::Deleted),
            ("b", NodeDeviceChange::Updated),
            ("d", NodeDeviceChange::Created),
        ];
        assert_eq!(found, expected.map(|(name, change)| (name.to_owned(), change)));
    }
}
