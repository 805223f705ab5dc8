//! What calls do: their arguments become operations, and what these return becomes an answer.

pub(super) mod backup;
pub(super) mod block_job;
pub(super) mod connect;
pub(super) mod device;
pub(super) mod domain;
pub(super) mod events;
pub(super) mod filter;
pub(super) mod filter_bindings;
pub(super) mod guest;
pub(super) mod guest_cpus;
pub(super) mod guest_info;
pub(super) mod host;
pub(super) mod host_memory;
pub(super) mod io_threads;
pub(super) mod jobs;
pub(super) mod lacking;
pub(super) mod lifecycle;
pub(super) mod metadata;
pub(super) mod migration;
pub(super) mod network;
pub(super) mod network_ports;
pub(super) mod node;
pub(super) mod peek;
pub(super) mod pool;
pub(super) mod processors;
pub(super) mod resources;
pub(super) mod sasl;
pub(super) mod saved;
pub(super) mod secret;
pub(super) mod snapshot;
pub(super) mod stats;
pub(super) mod tuning;
pub(super) mod volume;

use std::sync::Arc;

use management::domain::{Affects, DiskRow, DomainRef, DomainSummary};
use management::network::{NetworkRef, NetworkView};
use management::ops::ListDisks;
use management::storage::{PoolRef, PoolView, VolumeRef, VolumeView};

use super::failure::{Area, Failure, known_flags};
use super::protocol::object::{Domain, Network, Pool, Volume};
use super::protocol::xdr::Encode;
use super::session::Session;

type Client = Arc<Session>;

impl From<&DomainSummary> for Domain {
    fn from(summary: &DomainSummary) -> Self {
        Self { name: summary.name.clone(), uuid: summary.uuid, id: number(summary) }
    }
}

/// A row of an answer about many domains, written from what everybody shares.
#[derive(Debug)]
pub(crate) struct Row(pub(crate) Arc<DomainSummary>);

impl Encode for Row {
    fn encode(&self, to: &mut Vec<u8>) {
        (self.0.name.as_str(), self.0.uuid, number(&self.0)).encode(to);
    }
}

/// -1 of a domain that is off.
fn number(summary: &DomainSummary) -> i32 {
    summary.id.and_then(|id| i32::try_from(id).ok()).unwrap_or(-1)
}

impl Domain {
    fn reference(&self) -> DomainRef {
        DomainRef::Uuid(self.uuid)
    }
}

impl From<&NetworkView> for Network {
    fn from(view: &NetworkView) -> Self {
        Self { name: view.name.clone(), uuid: view.uuid }
    }
}

impl Network {
    fn reference(&self) -> NetworkRef {
        self.uuid.into()
    }
}

impl From<&PoolView> for Pool {
    fn from(view: &PoolView) -> Self {
        Self { name: view.name.clone(), uuid: view.uuid }
    }
}

impl Pool {
    fn reference(&self) -> PoolRef {
        self.uuid.into()
    }
}

impl From<&VolumeView> for Volume {
    fn from(view: &VolumeView) -> Self {
        // The key of a file is its path.
        let key = view.path.display().to_string();
        Self { pool: view.pool.clone(), name: view.name.clone(), key }
    }
}

impl Volume {
    fn reference(&self) -> VolumeRef {
        VolumeRef::new(self.pool.as_str(), self.name.as_str())
    }
}

/// Names for an old kind of list that has room for so many.
fn names(all: impl Iterator<Item = String>, room: i32) -> Vec<String> {
    all.take(usize::try_from(room).unwrap_or(0)).collect()
}

fn count(len: usize) -> i32 {
    i32::try_from(len).unwrap_or(i32::MAX)
}

/// A list and its length; of a client that does not want the list, the length alone.
fn listed<T>(all: Vec<T>, wanted: i32) -> (Vec<T>, u32) {
    let len = u32::try_from(all.len()).unwrap_or(u32::MAX);
    (if wanted == 0 { Vec::new() } else { all }, len)
}

const AFFECT_LIVE: u32 = 1;
const AFFECT_CONFIG: u32 = 2;

/// `--live` and `--config`, beside flags that the procedure knows itself.
fn affects(flags: u32, others: u32, procedure: &str) -> Result<Affects, Failure> {
    known_flags(flags, AFFECT_LIVE | AFFECT_CONFIG | others, procedure)?;
    Ok(Affects { live: flags & AFFECT_LIVE != 0, config: flags & AFFECT_CONFIG != 0 })
}

/// Of two flags that exclude each other, none and both mean everything.
fn either(flags: u32, wanted: u32, other: u32, is: bool) -> bool {
    match (flags & wanted != 0, flags & other != 0) {
        (true, false) => is,
        (false, true) => !is,
        _ => true,
    }
}

/// Lists of networks and of pools take the same flags.
const LIST_FLAGS: u32 = 0x3f;

/// Whether such a list holds it.
fn is_wanted(flags: u32, active: bool, persistent: bool, autostart: bool) -> bool {
    const INACTIVE: u32 = 1;
    const ACTIVE: u32 = 2;
    const PERSISTENT: u32 = 4;
    const TRANSIENT: u32 = 8;
    const AUTOSTART: u32 = 16;
    const NO_AUTOSTART: u32 = 32;
    either(flags, ACTIVE, INACTIVE, active)
        && either(flags, PERSISTENT, TRANSIENT, persistent)
        && either(flags, AUTOSTART, NO_AUTOSTART, autostart)
}

/// CPUs as a client writes them: one bit each, the lowest first.
fn cpus_of(map: &[u8]) -> Vec<u16> {
    let bit = |(at, byte): (usize, &u8)| {
        let byte = *byte;
        (0..8).filter(move |bit| byte & (1 << bit) != 0).map(move |bit| at * 8 + bit)
    };
    map.iter().enumerate().flat_map(bit).filter_map(|cpu| u16::try_from(cpu).ok()).collect()
}

/// The same, in so many bytes.
fn map_of(cpus: impl IntoIterator<Item = u16>, len: usize) -> Vec<u8> {
    let mut map = vec![0; len];
    for cpu in cpus {
        if let Some(byte) = map.get_mut(usize::from(cpu / 8)) {
            *byte |= 1 << (cpu % 8);
        }
    }
    map
}

/// The target of a disk that is named by it, or by its source.
async fn disk_target(
    client: &Client,
    domain: &Domain,
    disk: &str,
    inactive: bool,
) -> Result<String, Failure> {
    let disks = client.domain(ListDisks { domain: domain.reference(), inactive }).await?;
    let is_it = |found: &DiskRow| found.target == disk || found.source.as_deref() == Some(disk);
    let found = disks.into_iter().find(is_it).map(|found| found.target);
    found.ok_or_else(|| {
        Failure::invalid_argument(Area::Domain, &format!("the domain has no disk {disk:?}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_of_cpus_come_back_as_they_went() {
        assert_eq!(cpus_of(&[0b101, 0, 0x80]), [0, 2, 23]);
        assert_eq!(map_of([0, 2, 23, 99], 3), [0b101, 0, 0x80]);
    }

    #[test]
    fn of_a_pair_of_flags_none_and_both_mean_all() {
        for (flags, wanted) in
            [(0, [true, true]), (3, [true, true]), (1, [true, false]), (2, [false, true])]
        {
            assert_eq!([true, false].map(|is| either(flags, 1, 2, is)), wanted, "{flags}");
        }
    }
}
