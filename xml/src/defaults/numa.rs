//! NUMA cells as libvirt completes them.

use crate::cpuset::CpuSet;
use crate::domain::{DomainDef, Kib};

impl DomainDef {
    /// Cells are numbered, vCPUs of no cell are the first one's, and the guest has the memory of all
    /// of them.
    pub(super) fn complete_numa(&mut self) {
        let vcpus = self.vcpu.as_ref().map_or(1, |vcpu| u32::from(vcpu.max));
        let Some(numa) = self.cpu.as_mut().and_then(|cpu| cpu.numa.as_mut()) else { return };
        let cells = &mut numa.cells;
        if cells.iter().all(|cell| cell.id.is_none()) {
            for (number, cell) in (0..).zip(cells.iter_mut()) {
                cell.id = Some(number);
            }
        }
        let of_none = |vcpu: &u32| {
            let has = |cpus: &CpuSet| cpus.contains(*vcpu);
            !cells.iter().any(|cell| cell.cpus.as_ref().is_some_and(has))
        };
        let left: Vec<u32> = (0..vcpus).filter(of_none).collect();
        if let Some(first) = cells.iter_mut().min_by_key(|cell| cell.id)
            && !left.is_empty()
        {
            let own = first.cpus.iter().flat_map(CpuSet::iter);
            first.cpus = Some(own.chain(left).collect());
        }
        let all = cells.iter().fold(0, |sum: u64, cell| sum.saturating_add(cell.memory.0));
        if all > 0 {
            self.memory.size = Kib(all);
            self.current_memory = self.current_memory.map(|current| current.min(Kib(all)));
        }
    }
}
