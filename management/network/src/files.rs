//! [`Files`]: the descriptors that came with the process, as what they are.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use crate::config::{FIRST_FD, Fd, NetworkFiles};
use crate::sys;

#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("descriptor {number} ({purpose}) is not open")]
    NotOpen { number: i32, purpose: &'static str, source: io::Error },
    #[error("descriptor {number} is given as {first} and as {second}")]
    Twice { number: i32, first: &'static str, second: &'static str },
    #[error("descriptor {number} ({purpose}) is the configuration's or a standard stream's")]
    Reserved { number: i32, purpose: &'static str },
}

#[derive(Debug)]
pub(crate) struct Files {
    pub control: UnixListener,
    pub leases: Option<File>,
    pub dhcp: Option<UdpSocket>,
    pub dhcp6: Option<UdpSocket>,
    pub dns_udp: Vec<UdpSocket>,
    pub dns_tcp: Vec<TcpListener>,
    pub router: Option<OwnedFd>,
}

impl Files {
    /// Take ownership of every descriptor that is named.
    pub(crate) fn adopt(files: &NetworkFiles) -> Result<Self, FileError> {
        let mut adopted = Adopted::default();
        // All are checked before any is owned: the numbers are then good for one owner each.
        for (fd, purpose) in named(files) {
            adopted.announce(fd, purpose)?;
        }
        let udp = |fd| adopted.take(fd).map(UdpSocket::from);
        Ok(Self {
            control: UnixListener::from(adopted.take(files.control)?),
            leases: files.leases.map(|fd| adopted.take(fd).map(File::from)).transpose()?,
            dhcp: files.dhcp.map(udp).transpose()?,
            dhcp6: files.dhcp6.map(udp).transpose()?,
            dns_udp: files.dns_udp.iter().copied().map(udp).collect::<Result<_, _>>()?,
            dns_tcp: files
                .dns_tcp
                .iter()
                .map(|fd| adopted.take(*fd).map(TcpListener::from))
                .collect::<Result<_, _>>()?,
            router: files.router.map(|fd| adopted.take(fd)).transpose()?,
        })
    }
}

#[derive(Default)]
struct Adopted(BTreeMap<Fd, &'static str>);

impl Adopted {
    fn announce(&mut self, fd: Fd, purpose: &'static str) -> Result<(), FileError> {
        let number = fd.0;
        if number <= FIRST_FD {
            return Err(FileError::Reserved { number, purpose });
        }
        match self.0.insert(fd, purpose) {
            Some(first) => Err(FileError::Twice { number, first, second: purpose }),
            None => Ok(()),
        }
    }

    fn take(&self, fd: Fd) -> Result<OwnedFd, FileError> {
        let purpose = self.0.get(&fd).copied().unwrap_or_default();
        sys::adopt(fd.0).map_err(|source| FileError::NotOpen { number: fd.0, purpose, source })
    }
}

fn named(files: &NetworkFiles) -> Vec<(Fd, &'static str)> {
    let mut all = vec![(files.control, "control socket")];
    all.extend(files.leases.map(|fd| (fd, "lease file")));
    all.extend(files.dhcp.map(|fd| (fd, "DHCP socket")));
    all.extend(files.dhcp6.map(|fd| (fd, "DHCPv6 socket")));
    all.extend(files.dns_udp.iter().map(|fd| (*fd, "DNS socket")));
    all.extend(files.dns_tcp.iter().map(|fd| (*fd, "DNS listener")));
    all.extend(files.router.map(|fd| (fd, "router socket")));
    all
}
