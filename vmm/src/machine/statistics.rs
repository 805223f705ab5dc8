//! What the machine has done so far, without disturbing it.

use std::sync::atomic::Ordering;

use vmm_protocol::control::{BlockStatistics, Statistics, VcpuStatistics};

use super::Machine;
use crate::build::{Figures, balloon};
use crate::process::thread_time;

impl Machine {
    pub fn statistics(&self) -> Statistics {
        let vcpu = |(index, handle): (u16, &crate::vcpu::Handle)| VcpuStatistics {
            time_ns: u64::try_from(thread_time(handle.thread_id()).as_nanos()).unwrap_or(u64::MAX),
            exits: handle.exits().all(),
            absent: !self.cpus.is_present(index),
        };
        Statistics {
            vcpus: (0..).zip(self.cpus.handles()).map(vcpu).collect(),
            resident: crate::process::resident(),
            blocks: self.blocks(),
            interfaces: read(&self.parts.interfaces),
            balloon: self.parts.balloon.as_ref().map(balloon::statistics),
            unhandled_accesses: self.parts.buses.ports.unhandled()
                + self.parts.buses.mmio.unhandled(),
            dirty_rate: None,
        }
    }
}

impl Machine {
    fn blocks(&self) -> Vec<(String, BlockStatistics)> {
        let mut blocks = read(&self.parts.blocks);
        for (id, block) in &mut blocks {
            let connected = self.parts.connected.get(id);
            block.connected = connected.map(|connected| connected.load(Ordering::Relaxed));
            let images = self.parts.images.get(id);
            let top = images.and_then(|images| images.layers().first());
            block.threshold = top.and_then(|layer| layer.threshold().place());
        }
        blocks
    }
}

fn read<T>(figures: &Figures<T>) -> Vec<(String, T)> {
    figures.iter().map(|(id, read)| (id.clone(), read())).collect()
}
