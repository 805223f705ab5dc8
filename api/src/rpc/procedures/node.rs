//! The host in figures.

use management::ops::{GetCpuCounters, GetNode, GetSysinfo, ListCells};

use super::super::failure::{Area, Failure, known_flags};
use super::super::protocol::xdr::{Chars, FixedChars, Opaque};
use super::{Client, map_of};

type Info = (FixedChars<32>, u64, i32, i32, i32, i32, i32, i32);

pub(crate) async fn info(client: Client, (): ()) -> Result<Info, Failure> {
    let node = client.ask(Area::Node, GetNode).await?;
    let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    Ok((
        FixedChars(node.architecture),
        node.memory,
        number(node.cpus),
        number(node.mhz),
        number(node.nodes),
        number(node.sockets),
        number(node.cores),
        number(node.threads),
    ))
}

pub(crate) async fn free_memory(client: Client, (): ()) -> Result<u64, Failure> {
    Ok(client.ask(Area::Node, GetNode).await?.free_memory.saturating_mul(1024))
}

pub(crate) async fn sysinfo(client: Client, flags: u32) -> Result<String, Failure> {
    known_flags(flags, 0, "virConnectGetSysinfo")?;
    client.ask(Area::Node, GetSysinfo).await
}

/// No security driver: empty names say so.
pub(crate) async fn security_model(_: Client, (): ()) -> Result<(Chars, Chars), Failure> {
    Ok((Chars(String::new()), Chars(String::new())))
}

type Figures = (Vec<(&'static str, u64)>, i32);

/// The answer to a call that comes twice: first without room, to learn how many there are.
fn within(all: Vec<(&'static str, u64)>, room: i32) -> Figures {
    let count = i32::try_from(all.len()).unwrap_or(i32::MAX);
    (if room == 0 { Vec::new() } else { all }, count)
}

pub(crate) async fn cpu_stats(
    client: Client,
    (cpu, room, flags): (i32, i32, u32),
) -> Result<Figures, Failure> {
    const ALL: i32 = -1;
    known_flags(flags, 0, "virNodeGetCPUStats")?;
    let counters = match u32::try_from(cpu) {
        Ok(cpu) => client.ask(Area::Node, GetCpuCounters { cpu }).await?,
        Err(_) if cpu == ALL => client.ask(Area::Node, GetNode).await?.counters,
        Err(_) => {
            let text = format!("there is no CPU {cpu}");
            return Err(Failure::invalid_argument(Area::Node, &text));
        }
    };
    let all = vec![
        ("kernel", counters.system),
        ("user", counters.user),
        ("idle", counters.idle),
        ("iowait", counters.iowait),
    ];
    Ok(within(all, room))
}

pub(crate) async fn memory_stats(
    client: Client,
    (room, cell, flags): (i32, i32, u32),
) -> Result<Figures, Failure> {
    const ALL: i32 = -1;
    known_flags(flags, 0, "virNodeGetMemoryStats")?;
    if cell != ALL {
        let found = client.ask(Area::Node, ListCells).await?;
        let found = found.into_iter().find(|one| i32::try_from(one.id) == Ok(cell));
        let Some(found) = found else {
            let text = format!("there is no cell {cell}");
            return Err(Failure::invalid_argument(Area::Node, &text));
        };
        return Ok(within(vec![("total", found.memory), ("free", found.free)], room));
    }
    let node = client.ask(Area::Node, GetNode).await?;
    let counters = node.counters;
    let all = vec![
        ("total", node.memory),
        ("free", counters.free),
        ("buffers", counters.buffers),
        ("cached", counters.cached),
    ];
    Ok(within(all, room))
}

/// All of the host's CPUs, which are online.
pub(crate) async fn cpu_map(
    client: Client,
    (map, online, flags): (i32, i32, u32),
) -> Result<(Opaque, u32, i32), Failure> {
    known_flags(flags, 0, "virNodeGetCPUMap")?;
    let cpus = client.ask(Area::Node, GetNode).await?.cpus;
    let all = 0..u16::try_from(cpus).unwrap_or(u16::MAX);
    let len = usize::from(all.end).div_ceil(8);
    let map = if map == 0 { Vec::new() } else { map_of(all, len) };
    let online = if online == 0 { 0 } else { cpus };
    Ok((Opaque(map), online, i32::try_from(cpus).unwrap_or(i32::MAX)))
}
