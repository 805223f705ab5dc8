//! NUMA cells of the guest, and `<numatune>`: which of the host's nodes its memory comes from.

use std::collections::BTreeSet;

use vmm_protocol::config::{Numa, NumaCell, NumaMode, NumaPlacement};
use xml::domain::cpu::Cell;
use xml::domain::memory::{self, MemoryAccess, Placement};
use xml::{CpuSet, DomainDef, YesNo};

use super::report::Report;

const MIB: u64 = 1 << 20;
const MOST_CELLS: usize = 64;
const HERE: u32 = 10;
const ELSEWHERE: u8 = 20;

pub(super) fn check(def: &DomainDef, report: &mut Report<'_>) {
    let cells = cells_of(def);
    check_cells(def, cells, report);
    check_tuning(def, cells.len(), report);
}

fn check_cells(def: &DomainDef, cells: &[Cell], report: &mut Report<'_>) {
    let vcpus = def.vcpu.as_ref().map_or(1, |vcpu| u32::from(vcpu.max));
    if cells.len() > MOST_CELLS {
        let message = format!("more than {MOST_CELLS} NUMA cells");
        report.refuse("/domain/cpu/numa", message);
        return;
    }
    let numbers: BTreeSet<Option<u32>> = cells.iter().map(|cell| cell.id).collect();
    let all_numbered = (0..).zip(&numbers).all(|(wanted, id)| *id == Some(wanted));
    if !all_numbered && numbers != BTreeSet::from([None]) {
        let message = "NUMA cells are numbered from 0 on, without gaps";
        report.invalid("/domain/cpu/numa/cell[1]/@id", message);
    }
    let mut taken = BTreeSet::new();
    for (number, cell) in (1..).zip(cells) {
        let at = |name: &str| format!("/domain/cpu/numa/cell[{number}]/{name}");
        if let Some(vcpu) = cell.cpus.iter().flat_map(CpuSet::iter).find(|vcpu| *vcpu >= vcpus) {
            let message = format!("the guest has no vCPU {vcpu}: <vcpu> says {vcpus}");
            report.invalid(&at("@cpus"), message);
        } else if let Some(vcpu) =
            cell.cpus.iter().flat_map(CpuSet::iter).find(|vcpu| !taken.insert(*vcpu))
        {
            report.invalid(&at("@cpus"), format!("vCPU {vcpu} is in another cell already"));
        }
        if cell.memory.0 == 0 {
            report.invalid(&at("@memory"), "a NUMA cell has memory");
        }
        if cell.access.unwrap_or(access(def)) != cells[0].access.unwrap_or(access(def)) {
            report.refuse(&at("@memAccess"), "memory that is shared in some cells only");
        }
        let discard = cell.discard == Some(YesNo::Yes);
        report.warn_if(discard, &at("@discard"), "memory is always discarded at the end");
        let own = cell.id.unwrap_or(number - 1);
        for (place, sibling) in (1..).zip(cell.distances.iter().flat_map(|d| &d.siblings)) {
            let at = at(&format!("distances/sibling[{place}]"));
            if sibling.id as usize >= cells.len() {
                report.invalid(&format!("{at}/@id"), format!("there is no cell {}", sibling.id));
            }
            let value = sibling.value;
            if !(HERE..=255).contains(&value) || (value == HERE) != (sibling.id == own) {
                let message = "a distance is 10 to the cell itself, and 11 to 255 to another";
                report.invalid(&format!("{at}/@value"), message);
            }
        }
    }
}

fn access(def: &DomainDef) -> MemoryAccess {
    def.memory_backing.as_ref().and_then(|b| b.access).unwrap_or(MemoryAccess::Private)
}

fn check_tuning(def: &DomainDef, cells: usize, report: &mut Report<'_>) {
    let Some(tune) = &def.numa_tune else { return };
    let restrictive = "placement by cgroups; use mode='strict'";
    if let Some(memory) = &tune.memory {
        let at = |name: &str| format!("/domain/numatune/memory/@{name}");
        let auto = memory.placement == Some(Placement::Auto);
        report.refuse_if(auto, &at("placement"), "placement by numad; write a nodeset");
        if memory.nodeset.is_none() && !auto {
            report.missing("/domain/numatune/memory", "the host's nodes: nodeset='…'");
        }
        let by_cgroup = memory.mode == Some(memory::NumaMode::Restrictive);
        report.refuse_if(by_cgroup, &at("mode"), restrictive);
    }
    let mut seen = BTreeSet::new();
    for (number, node) in (1..).zip(&tune.nodes) {
        let at = |name: &str| format!("/domain/numatune/memnode[{number}]/@{name}");
        if node.cell as usize >= cells {
            report.invalid(&at("cellid"), format!("the guest has no NUMA cell {}", node.cell));
        } else if !seen.insert(node.cell) {
            report.invalid(&at("cellid"), format!("cell {} has its place already", node.cell));
        }
        let by_cgroup = node.mode == Some(memory::NumaMode::Restrictive);
        report.refuse_if(by_cgroup, &at("mode"), restrictive);
    }
}

/// Whether every cell is in this set: what is said of them is said of all memory.
pub(super) fn covers_all_cells(def: &DomainDef, nodes: &CpuSet) -> bool {
    let cells = cells_of(def).len().max(1);
    (0..).take(cells).all(|cell| nodes.contains(cell))
}

pub(super) fn numa(def: &DomainDef, vcpus: u16) -> Numa {
    let tune = def.numa_tune.as_ref();
    let everywhere = tune
        .and_then(|tune| tune.memory.as_ref())
        .and_then(|memory| memory.nodeset.as_ref().map(|nodes| placement(memory.mode, nodes)));
    let mut cells: Vec<&Cell> = cells_of(def).iter().collect();
    cells.sort_by_key(|cell| cell.id);
    let all = (0..).zip(&cells);
    let cells = all
        .map(|(number, cell)| NumaCell {
            memory: size(cell),
            cpus: cell
                .cpus
                .iter()
                .flat_map(CpuSet::iter)
                .filter_map(|vcpu| u16::try_from(vcpu).ok().filter(|vcpu| *vcpu < vcpus))
                .collect(),
            distances: distances(&cells, number),
            placement: tune
                .into_iter()
                .flat_map(|tune| &tune.nodes)
                .find(|node| node.cell == number)
                .map(|node| placement(node.mode, &node.nodeset)),
        })
        .collect();
    Numa { cells, placement: everywhere }
}

/// Bytes of all cells, if there are any.
pub(super) fn memory(def: &DomainDef) -> Option<u64> {
    let cells = cells_of(def);
    let all = cells.iter().fold(0, |sum: u64, cell| sum.saturating_add(size(cell)));
    (!cells.is_empty()).then_some(all)
}

pub(super) fn is_shared(def: &DomainDef) -> bool {
    cells_of(def).iter().any(|cell| cell.access == Some(MemoryAccess::Shared))
}

/// As libvirt, up to the next MiB.
fn size(cell: &Cell) -> u64 {
    cell.memory.bytes().div_ceil(MIB).saturating_mul(MIB)
}

/// What was written of one direction holds for the other, too.
fn distances(cells: &[&Cell], from: u32) -> Vec<u8> {
    let written = |from: u32, to: u32| {
        let cell = cells.get(from as usize)?;
        let siblings = &cell.distances.as_ref()?.siblings;
        let found = siblings.iter().find(|sibling| sibling.id == to)?;
        u8::try_from(found.value).ok()
    };
    if cells.iter().all(|cell| cell.distances.is_none()) {
        return Vec::new();
    }
    let default = |to| if from == to { HERE as u8 } else { ELSEWHERE };
    let all = (0..).take(cells.len());
    all.map(|to| written(from, to).or_else(|| written(to, from)).unwrap_or(default(to))).collect()
}

fn placement(mode: Option<memory::NumaMode>, nodes: &CpuSet) -> NumaPlacement {
    NumaPlacement {
        mode: match mode {
            Some(memory::NumaMode::Preferred) => NumaMode::Preferred,
            Some(memory::NumaMode::Interleave) => NumaMode::Interleave,
            // Placement by cgroups was refused at define.
            Some(memory::NumaMode::Strict | memory::NumaMode::Restrictive) | None => {
                NumaMode::Strict
            }
        },
        nodes: nodes.iter().filter_map(|node| u16::try_from(node).ok()).collect(),
    }
}

fn cells_of(def: &DomainDef) -> &[Cell] {
    let numa = def.cpu.as_ref().and_then(|cpu| cpu.numa.as_ref());
    numa.map_or(&[], |numa| &numa.cells)
}
