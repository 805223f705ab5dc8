//! NUMA: where the guest's nodes lie in its memory, and which of the host's give it.

use arch::layout::MemoryMap;
use boot::acpi::Node;
use memory::{GuestRam, MemoryError, Placement, Policy};
use vmm_protocol::config::{MachineConfig, NumaCell, NumaMode, NumaPlacement};

use super::{BuildError, cpus};

/// More than any board has; their distances must fit a table.
const MOST_CELLS: usize = 64;

/// The guest's nodes, for its tables.
pub(super) fn nodes(config: &MachineConfig, map: &MemoryMap) -> Result<Vec<Node>, BuildError> {
    let cells = &config.numa.cells;
    let topology = cpus::topology(config)?;
    let mut seen = vec![false; config.cpus.count.into()];
    let mut nodes = Vec::with_capacity(cells.len());
    for (part, cell) in parts(config)? {
        let mut apic_ids = Vec::with_capacity(cell.cpus.len());
        for cpu in &cell.cpus {
            match seen.get_mut(usize::from(*cpu)) {
                Some(seen) if !*seen => *seen = true,
                _ => return Err(BuildError::config("NUMA vCPU", cpu, "must be there, and once")),
            }
            apic_ids.push(topology.apic_id((*cpu).into()));
        }
        let distances = cell.distances.clone();
        if !distances.is_empty() && distances.len() != cells.len() {
            let reason = "must be as many as there are cells";
            return Err(BuildError::config("NUMA distances", distances.len(), reason));
        }
        nodes.push(Node { apic_ids, memory: map.ram_part(part), distances });
    }
    if !cells.is_empty() && seen.contains(&false) {
        let reason = "must have every vCPU";
        return Err(BuildError::config("NUMA cells", cells.len(), reason));
    }
    Ok(nodes)
}

/// Have memory come from where the definition says: before the host has given any of it.
pub(super) fn place(
    config: &MachineConfig,
    ram: &GuestRam,
    map: &MemoryMap,
) -> Result<(), BuildError> {
    let everything = config.numa.placement.as_ref();
    let bind = |part, placement: &NumaPlacement| {
        let policy = policy(placement)?;
        let bind =
            |range: std::ops::Range<u64>| ram.bind(range.start, range.end - range.start, &policy);
        map.ram_part(part)
            .into_iter()
            .try_for_each(bind)
            .map_err(|source| no_node(placement, source))
    };
    if config.numa.cells.is_empty() {
        return everything.map_or(Ok(()), |placement| bind(0..config.memory.size, placement));
    }
    for (part, cell) in parts(config)? {
        if let Some(placement) = cell.placement.as_ref().or(everything) {
            bind(part, placement)?;
        }
    }
    Ok(())
}

/// Each cell with its part of RAM, as if there was no hole in it.
fn parts(config: &MachineConfig) -> Result<Vec<(std::ops::Range<u64>, &NumaCell)>, BuildError> {
    let cells = &config.numa.cells;
    if cells.len() > MOST_CELLS {
        return Err(BuildError::config("NUMA cells", cells.len(), "must be at most 64"));
    }
    let mut end = 0_u64;
    let mut parts = Vec::with_capacity(cells.len());
    for cell in cells {
        let start = end;
        end = end
            .checked_add(cell.memory)
            .filter(|_| cell.memory > 0 && cell.memory.is_multiple_of(1 << 20))
            .ok_or_else(|| {
                BuildError::config("NUMA cell of bytes", cell.memory, "must be whole MiB")
            })?;
        parts.push((start..end, cell));
    }
    if !cells.is_empty() && end != config.memory.size {
        let reason = "must be all of the guest's memory";
        return Err(BuildError::config("NUMA cells of bytes", end, reason));
    }
    Ok(parts)
}

fn policy(placement: &NumaPlacement) -> Result<Policy, BuildError> {
    let mode = match placement.mode {
        NumaMode::Strict => Placement::Strict,
        NumaMode::Preferred => Placement::Preferred,
        NumaMode::Interleave => Placement::Interleave,
    };
    Policy::new(mode, &placement.nodes).ok_or_else(|| {
        BuildError::config("host NUMA nodes", list(&placement.nodes), "must be 0 to 1023")
    })
}

fn no_node(placement: &NumaPlacement, source: MemoryError) -> BuildError {
    BuildError::HostNodes { nodes: list(&placement.nodes), source }
}

fn list(nodes: &[u16]) -> String {
    nodes.iter().map(u16::to_string).collect::<Vec<_>>().join(",")
}
