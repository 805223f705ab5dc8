//! The leaves that tell a vCPU who it is among its siblings.

use super::table::Table;
use super::{CpuSpec, Topology};

const LEVEL_SMT: u32 = 1;
const LEVEL_CORE: u32 = 2;
const LEVEL_DIE: u32 = 5;

pub(super) fn set(table: &mut Table, spec: &CpuSpec, index: u32, amd: bool) {
    let topology = &spec.topology;
    let apic_id = topology.apic_id(index);
    // What a socket's part of the id can address, not how many threads there are: software that
    // derives shifts from the count needs the power of two.
    let addressable = 1u32 << topology.socket_shift();
    let several = topology.threads_per_socket() > 1;

    table.edit(1, 0, |leaf| {
        // Ids and counts above 255 do not fit here; leaf 0xb has them.
        leaf.ebx = leaf.ebx & 0x0000_ffff | addressable.min(255) << 16 | (apic_id & 0xff) << 24;
        set_bit(&mut leaf.edx, 28, several); // HTT: the count is valid
    });
    extended_topology(table, topology, apic_id, amd);
    if amd {
        amd_identity(table, topology, apic_id, several);
    } else {
        intel_caches(table, topology);
    }
}

/// Leaf 0xb, and 0x1f where dies must be told: x2APIC promises them.
fn extended_topology(table: &mut Table, topology: &Topology, apic_id: u32, amd: bool) {
    let level = |shift: u32, threads: u32, kind: u32, subleaf: u32| {
        [shift, threads & 0xffff, kind << 8 | subleaf, apic_id]
    };
    let smt = level(topology.core_shift(), topology.threads, LEVEL_SMT, 0);
    let package_shift = topology.socket_shift();
    let package = topology.threads_per_socket();
    // Leaf 0xb knows no dies: its core level spans the package.
    let end = |subleaf: u32| [0, 0, subleaf, apic_id];
    table.set_subleaves(0xb, &[smt, level(package_shift, package, LEVEL_CORE, 1), end(2)]);

    let mut max = table.max_basic().max(0xb);
    table.remove(0x1f);
    if topology.dies > 1 && !amd {
        let core = level(topology.die_shift(), topology.threads_per_die(), LEVEL_CORE, 1);
        let die = level(package_shift, package, LEVEL_DIE, 2);
        table.set_subleaves(0x1f, &[smt, core, die, end(3)]);
        max = max.max(0x1f);
    }
    table.edit(0, 0, |leaf| leaf.eax = max);
}

/// Leaf 4: who shares each cache, and how many cores a package can hold.
fn intel_caches(table: &mut Table, topology: &Topology) {
    let cores_per_package = 1u32 << (topology.socket_shift() - topology.core_shift());
    table.edit_all(4, |leaf| {
        let level = leaf.eax >> 5 & 0b111;
        if leaf.eax & 0x1f == 0 {
            return; // no more caches
        }
        let shift = if level >= 3 { topology.die_shift() } else { topology.core_shift() };
        let sharing = (1u32 << shift).min(4096);
        leaf.eax = leaf.eax & 0x3fff | (sharing - 1) << 14 | (cores_per_package.min(64) - 1) << 26;
    });
}

fn amd_identity(table: &mut Table, topology: &Topology, apic_id: u32, several: bool) {
    table.edit(0x8000_0001, 0, |leaf| set_bit(&mut leaf.ecx, 1, several)); // CmpLegacy
    table.edit(0x8000_0008, 0, |leaf| {
        let threads = topology.threads_per_socket().clamp(1, 256);
        leaf.ecx = leaf.ecx & 0xffff_0000 | topology.socket_shift() << 12 | (threads - 1);
    });
    table.edit_all(0x8000_001d, |leaf| {
        if leaf.eax & 0x1f == 0 {
            return;
        }
        let level = leaf.eax >> 5 & 0b111;
        let sharing = if level >= 3 { topology.threads_per_die() } else { topology.threads };
        leaf.eax = leaf.eax & 0x3fff | (sharing.clamp(1, 4096) - 1) << 14;
    });
    table.edit(0x8000_001e, 0, |leaf| {
        let core = apic_id >> topology.core_shift()
            & ((1 << (topology.socket_shift() - topology.core_shift())) - 1);
        let die = apic_id >> topology.die_shift()
            & ((1 << (topology.socket_shift() - topology.die_shift())) - 1);
        leaf.eax = apic_id;
        leaf.ebx = (topology.threads.clamp(1, 256) - 1) << 8 | core & 0xff;
        leaf.ecx = (topology.dies.clamp(1, 8) - 1) << 8 | die & 0xff;
        leaf.edx = 0;
    });
}

fn set_bit(register: &mut u32, bit: u32, on: bool) {
    *register = *register & !(1 << bit) | u32::from(on) << bit;
}
