//! What is granted, taken apart into data and files, and put together again.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::children::Children;
use crate::BrokerError;
use crate::confinement::SecurityFact;
use crate::network::{ForeignChain, Sockets};
use crate::pool::PoolContents;
use crate::request::{Granted, SpawnedProcess, TapQueues};
use crate::spawn::{Process, ProcessId};
use crate::stat::Stat;

/// [`Granted`] without its files, which go beside it in the order of its fields.
#[derive(Serialize, Deserialize)]
pub(super) enum Answer {
    Done,
    File,
    Path(PathBuf),
    Pty(PathBuf),
    Port(u16),
    Tap(String),
    VhostNet,
    /// The guest's address.
    Vsock(Option<u32>),
    Spawned(ProcessId),
    Words(Vec<u8>),
    Pool(PoolContents),
    Sockets(SocketCounts),
    Intact(bool),
    Foreign(Vec<ForeignChain>),
    Process(Option<ProcessId>),
    Stat(Option<Stat>),
    Facts(Vec<SecurityFact>),
    Refused(BrokerError),
}

/// How many of the files each is.
#[derive(Serialize, Deserialize)]
pub(super) struct SocketCounts {
    dhcp: bool,
    dhcp6: bool,
    dns_udp: usize,
    dns_tcp: usize,
    router: bool,
}

impl Answer {
    pub(super) fn take_apart(
        result: Result<Granted, BrokerError>,
        children: &Children,
    ) -> (Self, Vec<OwnedFd>) {
        let granted = match result {
            Ok(granted) => granted,
            Err(error) => return (Self::Refused(error), Vec::new()),
        };
        match granted {
            Granted::Done => (Self::Done, Vec::new()),
            Granted::File(file) => (Self::File, vec![file]),
            Granted::Path(path) => (Self::Path(path), Vec::new()),
            Granted::Pty { master, slave, path } => (Self::Pty(path), vec![master, slave]),
            Granted::Port { listener, port } => (Self::Port(port), vec![listener]),
            Granted::Tap(tap) => (Self::Tap(tap.name), tap.queues),
            Granted::VhostNet(device) => (Self::VhostNet, device.into_iter().collect()),
            Granted::Vsock(None) => (Self::Vsock(None), Vec::new()),
            Granted::Vsock(Some((device, cid))) => (Self::Vsock(Some(cid)), vec![device]),
            Granted::Spawned(SpawnedProcess { id, process }) => match children.watch(process) {
                Ok(files) => (Self::Spawned(id), files.into()),
                Err(source) => {
                    // Nobody would hear how it ended: it is not started.
                    let _ = crate::spawn::kill(id, None);
                    let act = "watch the process that was started".to_owned();
                    (Self::Refused(BrokerError::Host { act, source }), Vec::new())
                }
            },
            Granted::Answer(answer) => (Self::Words(answer), Vec::new()),
            Granted::Pool(contents) => (Self::Pool(contents), Vec::new()),
            Granted::Sockets(sockets) => {
                let counts = SocketCounts {
                    dhcp: sockets.dhcp.is_some(),
                    dhcp6: sockets.dhcp6.is_some(),
                    dns_udp: sockets.dns_udp.len(),
                    dns_tcp: sockets.dns_tcp.len(),
                    router: sockets.router.is_some(),
                };
                let Sockets { dhcp, dhcp6, dns_udp, dns_tcp, router } = sockets;
                let files = dhcp.into_iter().chain(dhcp6).chain(dns_udp).chain(dns_tcp);
                (Self::Sockets(counts), files.chain(router).collect())
            }
            Granted::Intact(intact) => (Self::Intact(intact), Vec::new()),
            Granted::Foreign(chains) => (Self::Foreign(chains), Vec::new()),
            Granted::Process(process) => (Self::Process(process), Vec::new()),
            Granted::Stat(stat) => (Self::Stat(stat), Vec::new()),
            Granted::Facts(facts) => (Self::Facts(facts), Vec::new()),
        }
    }

    /// The outer error: other files than the answer has.
    pub(super) fn put_together(
        self,
        files: Vec<OwnedFd>,
    ) -> io::Result<Result<Granted, BrokerError>> {
        let mut files = files.into_iter();
        let mut next = || files.next().ok_or_else(|| io::Error::other("an answer lacks its file"));
        let granted = match self {
            Self::Done => Granted::Done,
            Self::File => Granted::File(next()?),
            Self::Path(path) => Granted::Path(path),
            Self::Pty(path) => Granted::Pty { master: next()?, slave: next()?, path },
            Self::Port(port) => Granted::Port { listener: next()?, port },
            Self::Tap(name) => Granted::Tap(TapQueues { name, queues: files.by_ref().collect() }),
            Self::VhostNet => Granted::VhostNet(files.next()),
            Self::Vsock(None) => Granted::Vsock(None),
            Self::Vsock(Some(cid)) => Granted::Vsock(Some((next()?, cid))),
            Self::Spawned(id) => {
                let process = Process::of_another(next()?, next()?);
                Granted::Spawned(SpawnedProcess { id, process })
            }
            Self::Words(words) => Granted::Answer(words),
            Self::Pool(contents) => Granted::Pool(contents),
            Self::Sockets(counts) => Granted::Sockets(Sockets {
                dhcp: counts.dhcp.then(&mut next).transpose()?,
                dhcp6: counts.dhcp6.then(&mut next).transpose()?,
                dns_udp: files.by_ref().take(counts.dns_udp).collect(),
                dns_tcp: files.by_ref().take(counts.dns_tcp).collect(),
                router: counts.router.then(|| files.next()).flatten(),
            }),
            Self::Intact(intact) => Granted::Intact(intact),
            Self::Foreign(chains) => Granted::Foreign(chains),
            Self::Process(process) => Granted::Process(process),
            Self::Stat(stat) => Granted::Stat(stat),
            Self::Facts(facts) => Granted::Facts(facts),
            Self::Refused(error) => return Ok(Err(error)),
        };
        Ok(Ok(granted))
    }
}
