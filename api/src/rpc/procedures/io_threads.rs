//! io threads of a domain.

use management::domain::{Affects, IoThreadChange, Pin, Pins, Tuning};
use management::ops::{ChangeIoThread, GetNode, GetTuning, TuneDomain};

use super::super::failure::{Area, Failure};
use super::super::protocol::object::Domain;
use super::super::protocol::xdr::Opaque;
use super::{Client, affects, cpus_of, map_of};

/// Their numbers, and where each may run.
pub(crate) async fn info(
    client: Client,
    (domain, flags): (Domain, u32),
) -> Result<(Vec<(u32, Opaque)>, u32), Failure> {
    let affects = affects(flags, 0, "virDomainGetIOThreadInfo")?;
    let tuning = client.domain(GetTuning { domain: domain.reference(), affects }).await?;
    let cpus = client.ask(Area::Node, GetNode).await?.cpus;
    let cpus = u16::try_from(cpus).unwrap_or(u16::MAX);
    let len = usize::from(cpus).div_ceil(8);
    let row = |Pin { id, cpus: pinned }: Pin| {
        let map = if pinned.is_empty() { map_of(0..cpus, len) } else { map_of(pinned, len) };
        (id, Opaque(map))
    };
    let all: Vec<_> = tuning.pins.iothreads.into_iter().map(row).collect();
    let count = u32::try_from(all.len()).unwrap_or(u32::MAX);
    Ok((all, count))
}

pub(crate) async fn pin(
    client: Client,
    (domain, id, map, flags): (Domain, u32, Opaque, u32),
) -> Result<(), Failure> {
    let affects = affects(flags, 0, "virDomainPinIOThread")?;
    let cpus = cpus_of(&map.0);
    if cpus.is_empty() {
        return Err(Failure::invalid_argument(Area::Domain, "an io thread needs a CPU to run on"));
    }
    let look = GetTuning { domain: domain.reference(), affects: one_of(affects) };
    let there = client.domain(look).await?.pins.iothreads;
    if !there.iter().any(|pin| pin.id == id) {
        let text = format!("the domain has no io thread {id}");
        return Err(Failure::invalid_argument(Area::Domain, &text));
    }
    let pins = Pins { iothreads: vec![Pin { id, cpus }], ..Pins::default() };
    let change = Tuning { pins, ..Tuning::default() };
    client.domain(TuneDomain { domain: domain.reference(), change, affects }).await
}

pub(crate) async fn add(
    client: Client,
    (domain, id, flags): (Domain, u32, u32),
) -> Result<(), Failure> {
    let affects = affects(flags, 0, "virDomainAddIOThread")?;
    let change = IoThreadChange::Add(id);
    client.domain(ChangeIoThread { domain: domain.reference(), change, affects }).await
}

pub(crate) async fn remove(
    client: Client,
    (domain, id, flags): (Domain, u32, u32),
) -> Result<(), Failure> {
    let affects = affects(flags, 0, "virDomainDelIOThread")?;
    let change = IoThreadChange::Remove(id);
    client.domain(ChangeIoThread { domain: domain.reference(), change, affects }).await
}

/// A question is about one definition.
fn one_of(affects: Affects) -> Affects {
    Affects { config: affects.config && !affects.live, ..affects }
}
