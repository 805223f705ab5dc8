//! vCPUs, memory, and where vCPUs may run.

use management::domain::{Affects, Pin, Pins, Sizes, Tuning};
use management::ops::{
    FindDomain, GetNode, GetTuning, SetMemory, SetMemoryStatsPeriod, SetVcpus, TuneDomain,
};

use super::super::failure::{Area, Failure};
use super::super::protocol::object::Domain;
use super::super::protocol::xdr::Opaque;
use super::{AFFECT_CONFIG, AFFECT_LIVE, Client, affects, count, cpus_of, guest_cpus, map_of};

const MAXIMUM: u32 = 4;
const GUEST: u32 = 8;
/// All that come are of this kind.
const HOTPLUGGABLE: u32 = 16;
/// More than any host has.
const MAX_MAP: usize = 2048;

async fn tuning(client: &Client, domain: &Domain, affects: Affects) -> Result<Tuning, Failure> {
    client.domain(GetTuning { domain: domain.reference(), affects }).await
}

async fn tune(
    client: &Client,
    domain: &Domain,
    change: Tuning,
    affects: Affects,
) -> Result<(), Failure> {
    client.domain(TuneDomain { domain: domain.reference(), change, affects }).await
}

async fn sizes(
    client: &Client,
    domain: &Domain,
    sizes: Sizes,
    affects: Affects,
) -> Result<(), Failure> {
    tune(client, domain, Tuning { sizes, ..Tuning::default() }, affects).await
}

pub(crate) async fn max_vcpus(client: Client, domain: Domain) -> Result<i32, Failure> {
    let summary = client.domain(FindDomain { domain: domain.reference() }).await?;
    Ok(i32::try_from(summary.max_vcpus).unwrap_or(i32::MAX))
}

pub(crate) async fn vcpus(client: Client, (domain, flags): (Domain, u32)) -> Result<i32, Failure> {
    let affects = affects(flags, MAXIMUM | GUEST, "virDomainGetVcpusFlags")?;
    if flags & GUEST != 0 {
        return guest_cpus::counted(&client, &domain, flags & MAXIMUM != 0).await;
    }
    let sizes = tuning(&client, &domain, affects).await?.sizes;
    let found = if flags & MAXIMUM != 0 { sizes.max_vcpus } else { sizes.vcpus };
    Ok(found.map_or(1, i32::from))
}

pub(crate) async fn set_vcpus(
    client: Client,
    (domain, vcpus, flags): (Domain, u32, u32),
) -> Result<(), Failure> {
    let affects = affects(flags, MAXIMUM | GUEST | HOTPLUGGABLE, "virDomainSetVcpusFlags")?;
    if flags & GUEST != 0 {
        if flags & (MAXIMUM | AFFECT_CONFIG | HOTPLUGGABLE) != 0 {
            let text = "what a guest uses of its vCPUs is up to the running guest alone";
            return Err(Failure::invalid_argument(Area::Domain, text));
        }
        return guest_cpus::set_count(&client, &domain, vcpus).await;
    }
    let vcpus = u16::try_from(vcpus).map_err(|_| {
        Failure::invalid_argument(Area::Domain, &format!("{vcpus} vCPUs are too many"))
    })?;
    let wanted = if flags & MAXIMUM != 0 {
        Sizes { max_vcpus: Some(vcpus), ..Sizes::default() }
    } else {
        Sizes { vcpus: Some(vcpus), ..Sizes::default() }
    };
    sizes(&client, &domain, wanted, affects).await
}

pub(crate) async fn max_memory(client: Client, domain: Domain) -> Result<u64, Failure> {
    Ok(client.domain(FindDomain { domain: domain.reference() }).await?.max_memory)
}

pub(crate) async fn set_max_memory(
    client: Client,
    (domain, kib): (Domain, u64),
) -> Result<(), Failure> {
    set_memory_flags(client, (domain, kib, MAXIMUM)).await
}

pub(crate) async fn set_memory(
    client: Client,
    (domain, kib): (Domain, u64),
) -> Result<(), Failure> {
    set_memory_flags(client, (domain, kib, AFFECT_LIVE)).await
}

pub(crate) async fn set_memory_flags(
    client: Client,
    (domain, kib, flags): (Domain, u64, u32),
) -> Result<(), Failure> {
    let affects = affects(flags, MAXIMUM, "virDomainSetMemoryFlags")?;
    if flags & MAXIMUM == 0 {
        let set = SetMemory { domain: domain.reference(), memory: kib, affects };
        return client.domain(set).await;
    }
    let max_memory_bytes = Some(kib.saturating_mul(1024));
    sizes(&client, &domain, Sizes { max_memory_bytes, ..Sizes::default() }, affects).await
}

pub(crate) async fn set_memory_stats_period(
    client: Client,
    (domain, period, flags): (Domain, i32, u32),
) -> Result<(), Failure> {
    let affects = affects(flags, 0, "virDomainSetMemoryStatsPeriod")?;
    let period = u32::try_from(period)
        .map_err(|_| Failure::invalid_argument(Area::Domain, &format!("a period of {period} s")))?;
    client.domain(SetMemoryStatsPeriod { domain: domain.reference(), period, affects }).await
}

fn pins(change: Pins) -> Tuning {
    Tuning { pins: change, ..Tuning::default() }
}

pub(crate) async fn pin_vcpu(
    client: Client,
    (domain, vcpu, map): (Domain, u32, Opaque),
) -> Result<(), Failure> {
    pin_vcpu_flags(client, (domain, vcpu, map, AFFECT_LIVE)).await
}

pub(crate) async fn pin_vcpu_flags(
    client: Client,
    (domain, vcpu, map, flags): (Domain, u32, Opaque, u32),
) -> Result<(), Failure> {
    let affects = affects(flags, 0, "virDomainPinVcpuFlags")?;
    let pin = Pin { id: vcpu, cpus: cpus_of(&map.0) };
    tune(&client, &domain, pins(Pins { vcpus: vec![pin], ..Pins::default() }), affects).await
}

pub(crate) async fn pin_emulator(
    client: Client,
    (domain, map, flags): (Domain, Opaque, u32),
) -> Result<(), Failure> {
    let affects = affects(flags, 0, "virDomainPinEmulator")?;
    let change = Pins { emulator: Some(cpus_of(&map.0)), ..Pins::default() };
    tune(&client, &domain, pins(change), affects).await
}

/// Where each of the first vCPUs may run, in so many bytes each.
pub(super) async fn vcpu_maps(
    client: &Client,
    domain: &Domain,
    vcpus: i32,
    map_len: i32,
    affects: Affects,
) -> Result<Opaque, Failure> {
    let len = usize::try_from(map_len).unwrap_or(0).min(MAX_MAP);
    let vcpus = u32::try_from(vcpus).unwrap_or(0);
    let pins = tuning(client, domain, affects).await?.pins;
    let all = all_cpus(client).await?;
    let of = |vcpu: u32| {
        let pin = pins.vcpus.iter().find(|pin| pin.id == vcpu && !pin.cpus.is_empty());
        map_of(pin.map_or_else(|| all.clone(), |pin| pin.cpus.clone()), len)
    };
    Ok(Opaque((0..vcpus).flat_map(of).collect()))
}

async fn all_cpus(client: &Client) -> Result<Vec<u16>, Failure> {
    let cpus = client.ask(Area::Node, GetNode).await?.cpus;
    Ok((0..u16::try_from(cpus).unwrap_or(u16::MAX)).collect())
}

pub(crate) async fn vcpu_pins(
    client: Client,
    (domain, room, map_len, flags): (Domain, i32, i32, u32),
) -> Result<(Opaque, i32), Failure> {
    let affects = affects(flags, 0, "virDomainGetVcpuPinInfo")?;
    let vcpus = tuning(&client, &domain, affects).await?.sizes.vcpus.map_or(1, usize::from);
    let vcpus = count(vcpus).min(room.max(0));
    Ok((vcpu_maps(&client, &domain, vcpus, map_len, affects).await?, vcpus))
}

pub(crate) async fn emulator_pins(
    client: Client,
    (domain, map_len, flags): (Domain, i32, u32),
) -> Result<(Opaque, i32), Failure> {
    let affects = affects(flags & (AFFECT_LIVE | AFFECT_CONFIG), 0, "virDomainGetEmulatorPinInfo")?;
    let len = usize::try_from(map_len).unwrap_or(0).min(MAX_MAP);
    let pinned = tuning(&client, &domain, affects).await?.pins.emulator;
    let cpus = match pinned.filter(|cpus| !cpus.is_empty()) {
        Some(cpus) => cpus,
        None => all_cpus(&client).await?,
    };
    Ok((Opaque(map_of(cpus, len)), 1))
}

pub(crate) async fn set_live_vcpus(
    client: Client,
    (domain, vcpus): (Domain, u32),
) -> Result<(), Failure> {
    set_vcpus(client, (domain, vcpus, AFFECT_LIVE)).await
}

/// vCPUs as people write them: `1-3,^2`.
pub(crate) async fn set_vcpu(
    client: Client,
    (domain, list, state, flags): (Domain, String, i32, u32),
) -> Result<(), Failure> {
    let affects = affects(flags, 0, "virDomainSetVcpu")?;
    let invalid = |text: &str| Failure::invalid_argument(Area::Domain, text);
    let enabled = match state {
        0 => false,
        1 => true,
        _ => return Err(invalid(&format!("a vCPU is on (1) or off (0), not {state}"))),
    };
    let vcpus = guest_cpus::ids(&list).and_then(|ids| {
        ids.into_iter().map(|id| u16::try_from(id).ok()).collect::<Option<Vec<_>>>()
    });
    let text = format!("{list:?} is no list of vCPUs, such as 1-3,5");
    let vcpus = vcpus.ok_or_else(|| invalid(&text))?;
    client.domain(SetVcpus { domain: domain.reference(), vcpus, enabled, affects }).await
}
